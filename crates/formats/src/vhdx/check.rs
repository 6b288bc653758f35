//! Check and repair.
//!
//! Every block's entry is looked at: it leads to a place of its own, inside of the file and to no region. What no entry leads to is
//! no leak: new blocks go there.
//!
//! Repair (`-r all`): a block that is cut off by the end of the file is all there again, its lost part as zeroes; a block that
//! two entries lead to is copied, so that both show what they showed; entries that lead to nothing which could be data stay, so
//! that the loss is told. What an entry leads to is durable before the entry, which goes through the log.
//!
//! Bounds: 16 bytes for each block that is in use; findings are told up to [`MOST_TOLD`].
use super::MIB;
use super::bat::{Place, present};
use super::image::Image;
use super::regions::Part;
use block::metacache::{Format, Order};
use block::{CheckReport, Node, Repair, Request, Result};
use std::sync::Arc;

const MOST_TOLD: usize = 1000;

struct Check<'a> {
    image: &'a Arc<Image>,
    file: Arc<Node>,
    report: CheckReport,
}

/// Checks an image that nobody uses meanwhile, and mends what `repair` allows.
pub(super) async fn check(image: &Arc<Image>, repair: Repair) -> Result<CheckReport> {
    let file = image.order().file.node()?;
    let mut check = Check { image, file, report: CheckReport::default() };
    check.run(repair == Repair::All).await?;
    Ok(check.report)
}

impl Check<'_> {
    fn corrupt(&mut self, mended: bool, text: impl FnOnce() -> String) {
        let (count, what) = match mended {
            true => (&mut self.report.corruptions_fixed, "Repaired:"),
            false => (&mut self.report.corruptions, "ERROR"),
        };
        *count += 1;
        if self.report.messages.len() < MOST_TOLD {
            self.report.messages.push(format!("{what} {}", text()));
        }
    }

    async fn run(&mut self, all: bool) -> Result<()> {
        let image = self.image;
        let parts = image.parts(image.header.lock().await.header);
        let (mut used, mut wrong) = (Vec::new(), Vec::new());
        image
            .each_entry(|block, entry| match image.bat.place(entry) {
                Place::Here(at) | Place::Partly(at) => used.push((at, block)),
                Place::Wrong => wrong.push((block, entry)),
                Place::Zero | Place::Parent => {}
            })
            .await?;
        for (block, entry) in wrong {
            let guest = block * image.block();
            self.corrupt(false, || {
                format!("block of guest offset {guest:#x}: its entry can't be ({entry:#x})")
            });
        }
        used.sort_unstable();
        let length = self.file.length();
        let mut end = parts.iter().map(|part| part.end()).max().unwrap_or(0);
        let (mut taken, mut covered, mut copies) = (0, length, Vec::new());
        for (at, block) in used {
            let mut part = Part { offset: at.saturating_mul(MIB), len: image.block() };
            let guest = block * image.block();
            if part.end() > length && part.offset + image.len_of(block) <= length {
                part.len = image.len_of(block);
            }
            if part.offset >= length || parts.iter().any(|other| other.meets(part)) {
                self.corrupt(false, || {
                    format!("block of guest offset {guest:#x}: no data can be at {at} MiB")
                });
                continue;
            }
            if part.offset < taken && part.end() != taken {
                self.corrupt(false, || {
                    format!("block of guest offset {guest:#x}: at {at} MiB another block begins or ends")
                });
                taken = taken.max(part.end());
                continue;
            }
            if part.offset < taken {
                self.corrupt(all, || format!("block of guest offset {guest:#x}: {at} MiB is another's, too"));
                copies.push((part.offset, block));
                continue;
            }
            taken = part.end();
            end = end.max(taken);
            if taken > length {
                self.corrupt(all, || format!("block of guest offset {guest:#x}: the file ends inside"));
                covered = taken;
            }
        }
        if all && covered > length {
            self.file.set_length(covered, api::PreallocMode::Off).await?;
        }
        if all && !copies.is_empty() {
            self.copy_all(&copies, end.max(covered).next_multiple_of(MIB)).await?;
        }
        Ok(())
    }

    /// Gives entries copies of their blocks behind all others.
    async fn copy_all(&self, copies: &[(u64, u64)], mut end: u64) -> Result<()> {
        let image = self.image;
        image.header.lock().await.header.has_log()?;
        image.order.access.allow(false);
        image.first_write().await?;
        for (source, block) in copies {
            for at in (0..image.block()).step_by(MIB as usize) {
                let bytes = super::read(&self.file, source + at, MIB as usize).await?;
                self.file.write(end + at, bytes.freeze(), Request::DRIVER).await?;
            }
            image.set_entry(*block, present(end / MIB)).await?;
            end += image.block();
            Order::make_room(image, 512).await?;
        }
        image.end_changes(false).await
    }
}
