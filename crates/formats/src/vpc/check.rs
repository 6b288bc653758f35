//! Check and repair of a dynamic image.
//!
//! Every entry of the table is looked at: it leads to a block of its own, inside the file and behind the table. What the file
//! has behind the last block, or lacks, is told, too; what lies between blocks is no leak, for new blocks go there.
//!
//! Repair (`-r all`): a block that is cut off by the end of the file is all there again, its lost part as zeroes; a block that
//! two entries lead to is copied, so that both show what they showed; entries that lead to nothing which could be data stay, so
//! that the loss is told. `-r leaks` cuts off what is behind the last block. Each writes and flushes what an entry leads to
//! before the entry.
//!
//! Bounds: 16 bytes for each block that is in use; findings are told up to [`MOST_TOLD`].
use super::footer::{FOOTER, Footer};
use super::geometry::SECTOR;
use super::header::UNUSED;
use super::image::Image;
use block::metacache::Format;
use block::{BlockError, CheckReport, ErrorKind, Node, Repair, Request, Result};
use rt::Buf;
use std::sync::Arc;

const MOST_TOLD: usize = 1000;
/// Bytes copied at a time.
const PIECE: u64 = 1 << 20;

/// Where an entry is that leads to a block.
struct Used {
    /// The block's sector.
    sector: u64,
    /// The entry's number.
    number: u64,
}

struct Check<'a> {
    image: &'a Image,
    file: Arc<Node>,
    report: CheckReport,
}

/// Checks an image that nobody uses meanwhile, and mends what `repair` allows.
pub(super) async fn check(image: &Image, repair: Repair) -> Result<CheckReport> {
    let file = image.order().file.node()?;
    let mut check = Check { image, file, report: CheckReport::default() };
    check.run(repair).await?;
    Ok(check.report)
}

impl Check<'_> {
    fn tell(&mut self, text: impl FnOnce() -> String) {
        if self.report.messages.len() < MOST_TOLD {
            self.report.messages.push(text());
        }
    }

    fn corrupt(&mut self, mended: bool, text: impl FnOnce() -> String) {
        if mended {
            self.report.corruptions_fixed += 1;
            self.tell(|| format!("Repaired: {}", text()));
        } else {
            self.report.corruptions += 1;
            self.tell(|| format!("ERROR {}", text()));
        }
    }

    async fn run(&mut self, repair: Repair) -> Result<()> {
        let (image, all) = (self.image, repair == Repair::All);
        let (metadata, slot) = (image.metadata_sectors(), image.slot_bytes() / SECTOR);
        let mut used = Vec::new();
        image
            .each_piece(|first, entries| {
                for (number, entry) in (first..).zip(entries) {
                    match u32::from_be_bytes(*entry) {
                        UNUSED => {}
                        sector => used.push(Used { sector: sector.into(), number }),
                    }
                }
            })
            .await?;
        let in_use = used.len() as u64;
        let fragmented = used.windows(2).filter(|pair| pair[1].sector != pair[0].sector + slot).count();
        used.sort_by_key(|used| (used.sector, used.number));
        let length = self.file.length().div_ceil(SECTOR);
        let mut end = metadata;
        let mut copies = Vec::new();
        let mut covered = length;
        for Used { sector, number } in used {
            let guest = number * image.block();
            if sector < metadata || sector + image.bitmap_len() / SECTOR >= length {
                self.corrupt(false, || {
                    format!("block of guest offset {guest:#x}: sector {sector:#x} can't hold data")
                });
                continue;
            }
            if sector < end && sector + slot > end {
                let what = || {
                    format!(
                        "block of guest offset {guest:#x}: at sector {sector:#x} another block begins or ends"
                    )
                };
                self.corrupt(false, what);
                end = end.max(sector + slot);
                continue;
            }
            if sector < end {
                self.corrupt(all, || {
                    format!("block of guest offset {guest:#x}: sector {sector:#x} is another's, too")
                });
                copies.push(Used { sector, number });
                continue;
            }
            if sector + slot > length {
                self.corrupt(all, || format!("block of guest offset {guest:#x}: the file ends inside"));
                covered = sector + slot;
            }
            end = sector + slot;
        }
        if all && covered > length {
            self.file.set_length(covered * SECTOR, api::PreallocMode::Off).await?;
        }
        if all {
            for copy in &copies {
                self.copy(copy, &mut end).await?;
            }
            if covered > length || !copies.is_empty() {
                self.store_footer(end * SECTOR).await?;
            }
        }
        let behind = self.file.length().saturating_sub((end * SECTOR) + FOOTER as u64);
        let complete = self.report.corruptions == 0;
        let leaks = behind / image.slot_bytes();
        if leaks > 0 && self.file.facts().grows_with_zeroes {
            if repair != Repair::No && complete {
                self.file.set_length((end + 1) * SECTOR, api::PreallocMode::Off).await?;
                self.store_footer(end * SECTOR).await?;
                self.report.leaks_fixed += leaks;
            } else {
                self.report.leaks += leaks;
                self.tell(|| format!("Leaked {behind} bytes behind the last block"));
            }
        }
        if complete {
            self.footers(end, repair).await?;
        }
        self.report.total_clusters = Some(image.size().div_ceil(image.block()));
        self.report.allocated_clusters = Some(in_use);
        self.report.fragmented_clusters = Some(fragmented as u64);
        self.report.image_end_offset = Some(end * SECTOR + FOOTER as u64);
        self.file.flush().await
    }

    /// Gives an entry a copy of its block behind all others.
    async fn copy(&self, from: &Used, end: &mut u64) -> Result<()> {
        let sector = u32::try_from(*end).map_err(|_| {
            let text =
                "there is no room for a copy of a block: no entry can name what lies behind the others";
            BlockError::new(ErrorKind::Limit, text).at(*end * SECTOR)
        })?;
        let (source, target) = (from.sector * SECTOR, *end * SECTOR);
        for at in (0..self.image.slot_bytes()).step_by(PIECE as usize) {
            let len = PIECE.min(self.image.slot_bytes() - at);
            let bytes = self.image.order().file.read(source + at, len).await?;
            self.file.write(target + at, bytes.freeze(), Request::DRIVER).await?;
        }
        self.file.flush().await?;
        let entry = Buf::from_slice(&sector.to_be_bytes());
        self.file.write(self.image.header.table + from.number * 4, entry, Request::DRIVER).await?;
        *end += self.image.slot_bytes() / SECTOR;
        Ok(())
    }

    async fn store_footer(&self, at: u64) -> Result<()> {
        self.file.write(at, Buf::from_slice(&self.image.footer.bytes), Request::DRIVER).await
    }

    /// Both footers are there, and the same.
    async fn footers(&mut self, end: u64, repair: Repair) -> Result<()> {
        let footer = &self.image.footer;
        let length = self.file.length();
        let is_there = async |at: u64| -> Result<bool> {
            let bytes = self.image.order().file.read(at, FOOTER as u64).await?;
            Ok(Footer::parse(&bytes).is_ok_and(|found| found == *footer))
        };
        let last = if self.file.facts().grows_with_zeroes { length.saturating_sub(FOOTER as u64) } else { 0 };
        let at_end = last.max(end * SECTOR);
        let (front, back) = (is_there(0).await?, is_there(at_end).await?);
        for (there, at, what) in [(front, 0, "at the front"), (back, at_end, "at the end")] {
            if there {
                continue;
            }
            let mend = repair == Repair::All;
            if mend {
                self.store_footer(at).await?;
            }
            self.corrupt(mend, || format!("the footer {what} is not there, or is another one"));
        }
        Ok(())
    }
}
