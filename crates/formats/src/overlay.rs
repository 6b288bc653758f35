//! What images that may have a backing file, and hold their tables in memory, have in common.
use block::{BlockError, ChildRole, Edge, ExtentKind, Node, Perms, Request, Result, Share, Want};
use std::ops::Range;
use std::sync::Arc;

/// The permissions on a child; `parents`: what those above the image need, and share.
pub(crate) fn child_perms(child: &Edge, parents: Perms, read_only: bool) -> Perms {
    if child.role().has(ChildRole::BACKING) {
        // Backing files are only read; a parent that copes with changes copes with them here too.
        let changes =
            if parents.share.has(Share::WRITE) { Share::WRITE.union(Share::RESIZE) } else { Share::NONE };
        let need = Share(parents.need.0 & Share::READ.0);
        return Perms { need, share: Share::READ.union(Share::WRITE_UNCHANGED).union(changes) };
    }
    // Metadata is held in memory, so nobody else may change the file, whatever the parents would allow.
    let need = if read_only { Share::READ } else { Share::READ.union(Share::WRITE).union(Share::RESIZE) };
    Perms { need, share: Share::READ.union(Share::WRITE_UNCHANGED) }
}

/// Makes zeroes of what a disk that has grown would show in its new part: the rest of the cluster that it ended in, a longer
/// backing file, what an interrupted shrink left mapped. `backing_end`: where what holes show ends, `u64::MAX` if nobody
/// knows. `cluster`: bytes that become zeroes as a whole.
pub(crate) async fn hide_what_lies_behind(
    image: &Arc<Node>,
    new: Range<u64>,
    backing_end: u64,
    cluster: u64,
) -> Result<()> {
    let mut at = new.start;
    while at < new.end {
        let extent = image.driver().map(at, new.end - at, Want::Status).await?;
        let len = extent.len.min(new.end - at);
        if extent.kind.is_hole() && backing_end == u64::MAX && !at.is_multiple_of(cluster) {
            // Zeroes would be a cluster of its own, and its start is in an image that is not here.
            let text = "the disk ends inside of a cluster of its backing image, which is not open: resize it with that open";
            return Err(BlockError::unsupported(text));
        }
        let shown = match extent.kind {
            ExtentKind::Zero { .. } => 0,
            ExtentKind::Hole { .. } => backing_end.saturating_sub(at).min(len),
            ExtentKind::Data { .. } | ExtentKind::Encoded | ExtentKind::Stored => len,
        };
        if shown > 0 {
            image.write_zeroes(at, shown, Request::DRIVER).await?;
        }
        at += len;
    }
    Ok(())
}
