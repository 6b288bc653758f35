//! What an image that may have a backing file, and holds its tables in memory, needs of its children.
use block::{ChildRole, Edge, Perms, Share};

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
