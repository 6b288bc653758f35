//! Where the bytes of the disk are.
use super::MIB;
use super::bat::{ENTRIES, PAGE, Place, place_of};
use super::image::Image;
use super::regions::Part;
use block::metacache::{Le64, Page};
use block::{Extent, ExtentKind, Result, Want};
use std::sync::Arc;
use std::sync::atomic::Ordering::*;

/// Set in the cache keys of pages of bitmaps, beside their place in the file in pages.
const BITMAP_KEY: u64 = 1 << 63;
/// Bits of a page of a bitmap.
const BITS: u64 = PAGE * 8;

/// How many bits from `first` on are the same as that one, at most `most`, and whether they are set.
fn alike(bitmap: &Page<Le64>, first: u64, most: u64) -> (bool, u64) {
    let bit = |at: u64| bitmap.word((at / 64) as usize) >> (at % 64) & 1 == 1;
    let set = bit(first);
    let mut at = first;
    while at < first + most && at < BITS {
        let word = bitmap.word((at / 64) as usize) >> (at % 64);
        let run = u64::from(if set { word.trailing_ones() } else { word.trailing_zeros() }).min(64 - at % 64);
        at += run;
        if run < 64 - (at - run) % 64 {
            break;
        }
    }
    (set, (at - first).clamp(1, most))
}

impl Image {
    /// Where the entry of a guest block is: the page, and the index in it.
    pub(super) fn entry_of(&self, block: u64) -> (u64, usize) {
        let index = self.bat.index_of(block);
        (index / ENTRIES, (index % ENTRIES) as usize)
    }

    pub(super) async fn page(&self, number: u64) -> Result<Arc<Page<Le64>>> {
        self.order.page(number, self.regions.bat.offset + number * PAGE, PAGE).await
    }

    /// Bytes of a block that are the disk's: the last one of a fixed image may end with it.
    pub fn len_of(&self, block: u64) -> u64 {
        self.block().min(self.metadata.size.saturating_sub(block * self.block()))
    }

    /// Whether a block can be at a MiB of the file.
    pub(super) fn can_be_at(&self, block: u64, at: u64) -> bool {
        let part = Part { offset: at.saturating_mul(MIB), len: self.len_of(block) };
        let inside = part.offset.checked_add(part.len).is_some_and(|end| end <= self.file_len.load(Acquire));
        inside && part.offset >= MIB && !part.meets(self.regions.bat) && !part.meets(self.regions.metadata)
    }

    /// The page of the bitmap of a block that has a sector's bit, and the bit's number there.
    fn bit_of(&self, offset: u64, bitmap: u64) -> (u64, u64) {
        let chunk = self.bat.ratio * self.block();
        let bit = offset % chunk / u64::from(self.metadata.sector);
        (bitmap * (MIB / PAGE) + bit / BITS, bit % BITS)
    }

    pub fn try_map(&self, offset: u64, len: u64, want: Want) -> Option<Extent> {
        if want == Want::Write && !self.order.access.is_ready() {
            return None;
        }
        let block = offset / self.block();
        let (number, index) = self.entry_of(block);
        self.order.tables.with(number, |page| self.walk(page, index, offset, len, want))?
    }

    /// The extent of the entries of a page that continue each other; `None` where it takes more than the page.
    fn walk(&self, page: &Page<Le64>, index: usize, offset: u64, len: u64, want: Want) -> Option<Extent> {
        let (first, within) = (offset / self.block(), offset % self.block());
        let place = self.bat.place(page.word(index));
        let most =
            if want == Want::Status { u64::MAX } else { (within.saturating_add(len)).div_ceil(self.block()) };
        let number = self.entry_of(first).0;
        let (mut count, step) = (1, self.block() / MIB);
        let kind = match place {
            Place::Wrong | Place::Partly(_) => return None,
            Place::Here(at) if !self.can_be_at(first, at) => return None,
            Place::Here(at) => {
                let (child, offset) = (self.order.file.child(), at * MIB + within);
                ExtentKind::Data { child, offset, owned: true }
            }
            Place::Zero => ExtentKind::Zero { reserved: None },
            Place::Parent => ExtentKind::HOLE,
        };
        while count < most && first + count < self.bat.blocks {
            let (page_number, index) = self.entry_of(first + count);
            let next = self.bat.place(page.word(index));
            let goes_on = match (place, next) {
                (Place::Here(at), Place::Here(next)) => {
                    next == at + count * step && self.can_be_at(first + count, next)
                }
                (place, next) => place == next,
            };
            if page_number != number || !goes_on {
                break;
            }
            count += 1;
        }
        let known = count * self.block() - within;
        Some(Extent { len: if want == Want::Status { known } else { known.min(len) }, kind })
    }

    pub async fn map(&self, offset: u64, len: u64, want: Want) -> Result<Extent> {
        if want == Want::Write {
            self.first_write().await?;
        }
        let block = offset / self.block();
        let (number, index) = self.entry_of(block);
        let page = self.page(number).await?;
        if let Some(extent) = self.walk(&page, index, offset, len, want) {
            return Ok(extent);
        }
        // A new block may have a place already that the file does not reach yet.
        self.file_len.fetch_max(self.order.file.node()?.length(), AcqRel);
        let at = self.regions.bat.offset + self.bat.index_of(block) * 8;
        match self.bat.place(page.word(index)) {
            Place::Partly(place) if self.can_be_at(block, place) => self.partly(offset, len, place).await,
            Place::Wrong => {
                let text = format!(
                    "the block at {:#x} has an entry that can't be ({:#x})",
                    offset,
                    page.word(index)
                );
                Err(self.corrupt(text, at))
            }
            Place::Here(place) | Place::Partly(place) if !self.can_be_at(block, place) => {
                let text = format!(
                    "the block at {offset:#x} should be at {place} MiB of the file, where no block can be"
                );
                Err(self.corrupt(text, at))
            }
            _ => {
                let again = self.walk(&page, index, offset, len, want);
                again.ok_or_else(|| self.corrupt(format!("the block at {offset:#x} can't be found"), at))
            }
        }
    }

    /// The extent of sectors that are all here, or all the parent's, of a block whose bitmap tells.
    async fn partly(&self, offset: u64, len: u64, place: u64) -> Result<Extent> {
        let sector = u64::from(self.metadata.sector);
        let index = self.bat.bitmap_of(offset / self.block());
        let page = self.page(index / ENTRIES).await?;
        let bitmap = place_of(page.word((index % ENTRIES) as usize));
        if (bitmap + 1).saturating_mul(MIB) > self.file_len.load(Acquire) || bitmap == 0 {
            let text = format!("the bitmap of the block at {offset:#x} is not in the file");
            return Err(self.corrupt(text, self.regions.bat.offset + index * 8));
        }
        let (key, bit) = self.bit_of(offset, bitmap);
        let bits = self.order.page(BITMAP_KEY | key, key * PAGE, PAGE).await?;
        let within = offset % self.block();
        let left = len.min(self.block() - within);
        let (set, count) = alike(&bits, bit, (within % sector + left).div_ceil(sector));
        let (child, at) = (self.order.file.child(), place * MIB + within);
        let kind = if set { ExtentKind::Data { child, offset: at, owned: true } } else { ExtentKind::HOLE };
        Ok(Extent { len: left.min(count * sector - within % sector), kind })
    }
}
