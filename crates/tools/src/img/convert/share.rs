//! Data that source and target share in the file system, instead of a copy (`-C`).
//!
//! Only where both are plain files, and their file system has shared storage (XFS, btrfs). Elsewhere the copy does it: the call of
//! the system that copies between files (`copy_file_range`) was slower than the copy, on ext4 as on tmpfs.

use super::journal::Part;
use super::ledger::Ranges;
use block::{Backend, BlockError, Identity, Node};
use rt::{File, OpenOptions};
use std::sync::Arc;

/// What ranges begin and end at: a block of the file system is no larger in general, and else nothing is shared.
const BLOCK: u64 = 4096;

/// Longest range that is shared at a time.
const STEP: u64 = 1 << 30;

/// Shares all data that can be; which ranges of the target that are.
pub(super) async fn share(sources: &[Part], target: &Backend) -> Result<Ranges, BlockError> {
    let mut shared = Ranges::default();
    let Some(file) = file_of(&target.node(), OpenOptions::read_write()).await else { return Ok(shared) };
    for part in sources {
        let Some(source) = file_of(&part.entry.node(), OpenOptions::read_only()).await else { break };
        if let Err(error) = share_source(part, &source, &file, &mut shared).await {
            tracing::debug!(%error, "the rest is copied");
            break;
        }
    }
    if shared.bytes() > 0 && !target.node().common().no_flush {
        file.sync(false).await.map_err(|e| BlockError::from_io(&e))?;
    }
    Ok(shared)
}

/// The file that a node shows as it is, if it is one.
async fn file_of(node: &Arc<Node>, options: OpenOptions) -> Option<File> {
    let identity = node.identity().filter(|identity| matches!(identity, Identity::File { .. }))?;
    let mut bottom = node.clone();
    while let Some(below) = bottom.primary() {
        // A raw image whose format was guessed looks at what is written: nothing is done behind its back.
        bottom.driver().filtered()?;
        bottom = below;
    }
    let file = rt::fs::open(&rt::fs::path(bottom.exact_filename()), &options).await.ok()?;
    // The name may lead to another file by now.
    (Identity::of_file(&file.stat().ok()?) == identity).then_some(file)
}

async fn share_source(
    part: &Part,
    source: &File,
    target: &File,
    shared: &mut Ranges,
) -> Result<(), BlockError> {
    let (mut at, end) = (0, part.entry.length());
    while at < end {
        let status = part.entry.status(at, end - at).await?;
        let until = at + status.len.clamp(1, end - at);
        let (mut from, to) = (at.next_multiple_of(BLOCK), until - until % BLOCK);
        while from < to && !status.zero {
            let (len, place) = (STEP.min(to - from), part.start + from);
            target.share(place, source, from, len).await.map_err(|e| BlockError::from_io(&e))?;
            shared.add(place..place + len);
            from += len;
        }
        at = until;
    }
    Ok(())
}
