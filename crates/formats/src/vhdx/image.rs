//! An open image: where its blocks are, and how they come and go.
//!
//! Bounds: the table and bitmaps are held by pages of 4 KiB, [`CACHE`] bytes together.
use super::bat::{Bat, ENTRIES, PAGE, Place, ZERO, place_of, present};
use super::header::{Current, Header};
use super::journal::Journal;
use super::metadata::Metadata;
use super::regions::{Part, Regions};
use super::replay::Replay;
use super::used::Used;
use super::words::Guid;
use super::{MIB, read};
use crate::slots::{Layout, Misplaced, Slot, Slots};
use block::metacache::{
    Cause, Change, Format, GivenUp, Le64, MetadataFile, Order, Page, Reserved, Run, Sealed,
};
use block::{
    Action, BlockError, ChildId, Domain, Edges, ErrorKind, Extent, ExtentKind, Flags, Lease, Leases,
    MapChange, Request, Result, Want, WritePlan,
};
use futures_util::lock::Mutex as Lock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};

/// Bytes of memory for pages.
const CACHE: usize = 4 << 20;
/// Set in the cache keys of pages of bitmaps, beside their place in the file in pages.
const BITMAP_KEY: u64 = 1 << 63;
/// Bits of a page of a bitmap.
const BITS: u64 = PAGE * 8;
/// Entries can name no MiB from here on that is remembered here: 4 PiB.
const UNNAMED: u64 = u32::MAX as u64;

/// An open image.
pub(super) struct Image {
    pub order: Order<Le64>,
    pub regions: Regions,
    pub metadata: Metadata,
    pub bat: Bat,
    /// The header that counts; changes in the header's turn.
    pub header: Lock<Current>,
    /// Guest blocks whose mapping changes.
    leases: Arc<Leases>,
    slots: Lock<Slots>,
    /// The log, since the first write.
    journal: Lock<Option<Journal>>,
    /// Bytes of the file that the next entry of the log may count on.
    covered: AtomicU64,
    /// Bytes of the file, when it was looked at last.
    file_len: AtomicU64,
}

impl Format for Image {
    type Codec = Le64;

    fn order(&self) -> &Order<Le64> {
        &self.order
    }

    fn block_bits(&self) -> u32 {
        MIB.trailing_zeros()
    }

    fn size(&self) -> u64 {
        self.metadata.size
    }

    fn blocks_of(&self, entry: u64) -> Option<Run> {
        match self.bat.place(entry) {
            Place::Here(start) | Place::Partly(start) => {
                Some(Run { start, count: self.metadata.block / MIB })
            }
            _ => None,
        }
    }

    async fn write_ahead(&self, entries: bool) -> Result<()> {
        if entries {
            let slots = self.slots.lock().await;
            let end = slots.end() * MIB;
            self.order.file.cover(end).await?;
            self.covered.store(end, Release);
        }
        Ok(())
    }

    /// By the log: stored there first, durably, then in place. What is in place is durable before the next entry is stored, and by
    /// the flush that ends the epoch.
    async fn write_tables(&self, sealed: &[Sealed<Le64>]) -> Result<()> {
        if sealed.is_empty() {
            return Ok(());
        }
        let mut journal = self.journal.lock().await;
        let missing = || BlockError::new(ErrorKind::ReadOnly, "the log has not been begun");
        let journal = journal.as_mut().ok_or_else(missing)?;
        for (number, pages) in sealed.chunks(journal.most()).enumerate() {
            if number > 0 {
                self.order.file.flush().await?;
            }
            journal.store(&self.order.file, pages, self.covered.load(Acquire)).await?;
            self.order.file.write_pages(pages).await?;
        }
        Ok(())
    }

    async fn drop_references(
        &self,
        given_up: &[GivenUp],
        keep: impl Fn(Cause) -> bool + Send + Sync,
    ) -> Result<Vec<Run>> {
        let (kept, free): (Vec<GivenUp>, _) = given_up.iter().partition(|given_up| keep(given_up.cause));
        let mut slots = self.slots.lock().await;
        free.iter().for_each(|given_up: &GivenUp| slots.free(given_up.run));
        Ok(kept.iter().map(|given_up| given_up.run).collect())
    }
}

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
    pub fn new(
        (current, regions, metadata): (Current, Regions, Metadata),
        (edges, file): (Arc<Edges>, ChildId),
        domain: Arc<Domain>,
    ) -> Self {
        let order = Order::new(MetadataFile::new(edges, file, "vhdx"), domain, CACHE);
        Self {
            order,
            bat: Bat::new(&metadata),
            regions,
            metadata,
            header: Lock::new(current),
            leases: Leases::new(),
            slots: Lock::default(),
            journal: Lock::default(),
            covered: AtomicU64::new(0),
            file_len: AtomicU64::new(0),
        }
    }

    /// Bytes of a block.
    pub fn block(&self) -> u64 {
        self.metadata.block
    }

    fn corrupt(&self, what: String, at: u64) -> BlockError {
        BlockError::corrupt(format!("{what}; 'cairn img check' tells more"))
            .at(at)
            .about_file(&self.order.file.name())
    }

    // ---- access ----

    /// Takes over the image: the header is read again, for another program may have had the file until now, and its log is
    /// carried out; tells whether there was one.
    pub async fn take_over(&self) -> Result<bool> {
        let file = self.order.file.node()?;
        let mut current = self.header.lock().await;
        let before = current.header;
        *current = Current::read(&file).await?;
        let replay = Replay::find(&file, &current.header).await?;
        let Some(replay) = replay else {
            if before.log != Guid::ZERO || before.file_write != current.header.file_write {
                self.order.tables.clear();
            }
            return Ok(false);
        };
        if before != current.header {
            let text = format!("'{}' was changed while it was opened; open it again", file.filename());
            return Err(BlockError::new(ErrorKind::Busy, text));
        }
        replay.carry_out(&file, &mut current).await?;
        self.order.tables.clear();
        Ok(true)
    }

    /// Finds what is in use, and allows changes.
    pub async fn become_writable(&self) -> Result<()> {
        let file = self.order.file.node()?;
        let length = file.length();
        let header = self.header.lock().await.header;
        if header.log_len == 0 {
            let text = "the image has no log, and so can't be written to";
            return Err(BlockError::new(ErrorKind::ReadOnly, text));
        }
        let parts = self.parts(header);
        if let Some(part) = parts.iter().find(|part| part.end() > length) {
            return Err(self.corrupt("a region does not end before the file does".to_owned(), part.offset));
        }
        let grows = file.facts().grows_with_zeroes;
        let layout = Layout {
            len: self.block() / MIB,
            front: 0,
            behind: 0,
            unnamed: UNNAMED,
            room: if grows { u64::MAX } else { length / MIB },
        };
        let mut used = Used::new(&parts);
        let length_in_mib = length.div_ceil(MIB);
        self.each_entry(|block, entry| {
            let mut run = Run { start: place_of(entry), count: layout.len };
            if run.end() > length_in_mib {
                run.count = self.len_of(block).div_ceil(MIB);
            }
            match self.bat.place(entry) {
                Place::Here(_) | Place::Partly(_) => used.add(run),
                // Another program may have kept the place for the block.
                _ if run.start > 0 => used.add_kept(run),
                _ => {}
            }
        })
        .await?;
        let wrong = |Misplaced(at)| {
            let text = format!("an entry of the table leads to {at} MiB, where no block of its own can be");
            self.corrupt(text, at * MIB)
        };
        let used = used.sorted(length_in_mib);
        let mut slots = Slots::between(layout, 1, used.iter(), length_in_mib).map_err(wrong)?;
        // A block that begins in front of the end would have to be filled with zeroes.
        slots.leave_short_gap(length_in_mib);
        *self.slots.lock().await = slots;
        self.file_len.store(length, Release);
        self.order.access.allow(false);
        Ok(())
    }

    /// The regions of the file, and its log.
    pub fn parts(&self, header: Header) -> Vec<Part> {
        let log = Part { offset: header.log_offset, len: header.log_len.into() };
        let known = [log, self.regions.bat, self.regions.metadata];
        known.into_iter().chain(self.regions.others.iter().copied()).filter(|part| part.len > 0).collect()
    }

    /// Runs `look` on the entries of all blocks.
    pub async fn each_entry(&self, mut look: impl FnMut(u64, u64) + Send) -> Result<()> {
        let file = self.order.file.node()?;
        let len = self.bat.entries() * 8;
        for at in (0..len).step_by(MIB as usize) {
            let bytes = read(&file, self.regions.bat.offset + at, MIB.min(len - at) as usize).await?;
            for (index, entry) in (at / 8..).zip(bytes.as_chunks().0) {
                if let Some(block) = self.bat.block_of(index).filter(|block| *block < self.bat.blocks) {
                    look(block, u64::from_le_bytes(*entry));
                }
            }
        }
        Ok(())
    }

    /// Before the first write after the image was opened: begins the log.
    pub async fn first_write(&self) -> Result<()> {
        if !self.order.access.needs_header()? {
            return Ok(());
        }
        let begin = async || {
            self.order.file.unharmed()?;
            let file = self.order.file.node()?;
            let mut current = self.header.lock().await;
            let journal = Journal::begin(&self.order.file, &file, &mut current).await;
            *self.journal.lock().await = Some(journal.map_err(|e| self.order.file.failed(e))?);
            Ok(())
        };
        self.order.access.make_ready(begin).await
    }

    /// Ends all changes: the image is closed, or read-only from now on.
    pub async fn end_changes(self: &Arc<Self>, in_time: bool) -> Result<()> {
        if !self.order.access.writable() {
            return Ok(());
        }
        let settled = async {
            Order::flush(self).await?;
            if in_time {
                Order::release_all_in_time(self).await;
            } else {
                self.order.release_all(&**self).await;
            }
            self.close_log().await
        };
        let settled = settled.await;
        if settled.is_ok() || !in_time {
            let _none_released = self.order.hold_releases().await;
            self.order.access.forbid();
        }
        settled
    }

    /// Everything is in its place, durably: the log is empty.
    async fn close_log(&self) -> Result<()> {
        let _turn = self.order.access.header_turn().await;
        if self.journal.lock().await.take().is_none() {
            return Ok(());
        }
        self.order.access.unready();
        let file = self.order.file.node()?;
        let mut current = self.header.lock().await;
        let closed = Header { log: Guid::ZERO, ..current.header };
        current.store(&file, closed).await.map_err(|e| self.order.file.failed(e))
    }

    // ---- mapping ----

    /// Where the entry of a guest block is: the page, and the index in it.
    fn entry_of(&self, block: u64) -> (u64, usize) {
        let index = self.bat.index_of(block);
        (index / ENTRIES, (index % ENTRIES) as usize)
    }

    async fn page(&self, number: u64) -> Result<Arc<Page<Le64>>> {
        self.order.page(number, self.regions.bat.offset + number * PAGE, PAGE).await
    }

    /// Bytes of a block that are the disk's: the last one of a fixed image may end with it.
    pub fn len_of(&self, block: u64) -> u64 {
        self.block().min(self.metadata.size.saturating_sub(block * self.block()))
    }

    /// Whether a block can be at a MiB of the file.
    fn can_be_at(&self, block: u64, at: u64) -> bool {
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
        self.file_len.store(self.order.file.node()?.length(), Release);
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

    // ---- changes ----

    pub async fn prepare(
        self: &Arc<Self>,
        offset: u64,
        len: u64,
        change: MapChange,
        request: Request,
    ) -> Result<WritePlan> {
        self.first_write().await?;
        if change == MapChange::Data {
            return self.plan_data(offset, len).await;
        }
        let (block, within) = (offset / self.block(), offset % self.block());
        // The last block may be cut off; clearing to the end of the disk clears it whole.
        let to_end = offset + len >= self.metadata.size;
        let whole = if to_end { len.div_ceil(self.block()) } else { len / self.block() };
        let keeps = self.metadata.fixed || change == MapChange::Zero && !request.has(Flags::MAY_UNMAP);
        if within != 0 || whole == 0 || keeps {
            let extent = self.map(offset, len, Want::Read).await?;
            let nothing = change == MapChange::Discard || matches!(extent.kind, ExtentKind::Zero { .. });
            let action = if nothing { Action::Nothing } else { Action::AsData };
            return Ok(WritePlan { len: extent.len.min(len), action, token: None });
        }
        self.plan_clearing(block, len, whole).await
    }

    /// The page, with a lease of guest blocks of it, ready for a change.
    async fn to_change(self: &Arc<Self>, block: u64, count: u64) -> Result<(Lease, Arc<Page<Le64>>)> {
        let lease = self.leases.lease(block, block + count, true).await;
        let page = self.page(self.entry_of(block).0).await?;
        self.order.place(&page).await?;
        Order::make_room(self, page.len()).await?;
        Ok((lease, page))
    }

    async fn plan_data(self: &Arc<Self>, offset: u64, len: u64) -> Result<WritePlan> {
        let (block, within) = (offset / self.block(), offset % self.block());
        let len = len.min(self.block() - within);
        let (lease, page) = self.to_change(block, 1).await?;
        let first = self.entry_of(block).1;
        let store = |place: u64, head, tail, fresh| {
            let (child, offset) = (self.order.file.child(), place * MIB + within);
            Action::Store { child, offset, head, tail, fresh }
        };
        match self.bat.place(page.word(first)) {
            Place::Here(at) if self.can_be_at(block, at) => {
                return Ok(WritePlan { len, action: store(at, 0, 0, false), token: None });
            }
            Place::Zero => {}
            _ => {
                let text = format!("the block at {offset:#x} has an entry that can't be written through");
                return Err(self.corrupt(text, self.regions.bat.offset + self.bat.index_of(block) * 8));
            }
        }
        let (reserved, fresh) = self.new_block().await?;
        let place = reserved.run().start;
        let action = store(place, within, self.block() - within - len, fresh);
        let change = Change {
            image: self.clone(),
            page,
            first,
            entries: vec![present(place)],
            reserved: Some(reserved),
            cause: Some(Cause::Replaced),
            lease,
        };
        Ok(WritePlan { len, action, token: Some(Box::new(change)) })
    }

    async fn new_block(&self) -> Result<(Reserved, bool)> {
        let mut slots = self.slots.lock().await;
        while let Some(unused) = self.order.reservations.take_unused() {
            slots.free(unused.keep());
        }
        let before = slots.end();
        let Slot { run, fresh } = slots.take()?;
        let end = slots.end();
        if end > before {
            self.order.freed.grow(run.count);
            self.file_len.fetch_max(end * MIB, AcqRel);
        }
        let fresh = fresh && self.order.file.node()?.facts().grows_with_zeroes;
        Ok((self.order.reservations.guard(run), fresh))
    }

    /// Sets an entry, for a repair. What it leads to is written.
    pub async fn set_entry(&self, block: u64, entry: u64) -> Result<()> {
        let (number, index) = self.entry_of(block);
        let page = self.page(number).await?;
        self.order.place(&page).await?;
        page.set(index, entry);
        self.order.tables.dirty.mark(&page);
        Ok(())
    }

    /// Plans that up to `count` blocks of one page read as zeroes.
    async fn plan_clearing(self: &Arc<Self>, block: u64, len: u64, count: u64) -> Result<WritePlan> {
        // Blocks whose entries are neighbours: of one page, with no bitmap's between them.
        let first = self.entry_of(block).1;
        let count = count.min(ENTRIES - first as u64).min(self.bat.ratio - block % self.bat.ratio);
        let (lease, page) = self.to_change(block, count).await?;
        let clear = |entry: u64| self.bat.place(entry) == Place::Zero;
        let nothing = clear(page.word(first));
        let alike = page.words_from(first).take(count as usize).take_while(|entry| clear(*entry) == nothing);
        let alike = alike.count().max(1);
        let len = len.min(alike as u64 * self.block());
        if nothing {
            return Ok(WritePlan { len, action: Action::Nothing, token: None });
        }
        let change = Change {
            image: self.clone(),
            page,
            first,
            entries: vec![ZERO; alike],
            reserved: None,
            cause: Some(Cause::Discarded),
            lease,
        };
        Ok(WritePlan { len, action: Action::Metadata, token: Some(Box::new(change)) })
    }

    /// Whether no entry of the range waits to be written, and none is about to change.
    pub fn is_settled(&self, offset: u64, len: u64) -> bool {
        let (first, end) = (offset / self.block(), (offset + len).div_ceil(self.block()));
        self.leases.try_lease(first, end, false).is_some_and(|_lease| self.order.tables.dirty.is_empty())
    }
}
