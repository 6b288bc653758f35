//! What a vmdk file says: the descriptor, wherever it stands, and the files that it names.

use super::descriptor::{Descriptor, LineKind};
use super::header::{AT_END, Hosted, SECTOR};
use super::open::descriptor;
use crate::inspection::{Code, Finding, Kind, Reference, Seen, read};
use block::{Node, Result};
use rt::BoxFuture;
use std::sync::Arc;

/// Most extents that are told.
const MOST_TOLD: usize = 64;

/// Looks at an image.
pub fn look<'a>(file: &'a Arc<Node>, seen: &'a mut Seen) -> BoxFuture<'a, Result<()>> {
    Box::pin(async move {
        let head = read(file, 0, SECTOR).await?;
        let hosted = Hosted::parse(&head);
        if let Some(hosted) = &hosted {
            marks(hosted, seen);
        }
        // A header without a disk only carries the descriptor, and its extents are opened.
        let is_sparse = hosted.is_some_and(|hosted| hosted.capacity != 0 || hosted.descriptor.0 == 0);
        match descriptor(file, &head).await {
            Ok((_, descriptor)) => names(file, &descriptor, is_sparse || head.starts_with(b"COWD"), seen),
            Err(error) => {
                let (code, text, offset) = (Code::HeaderContradiction, error.to_string(), error.offset());
                seen.findings.push(Finding { code, text, offset });
            }
        }
        Ok(())
    })
}

fn marks(hosted: &Hosted, seen: &mut Seen) {
    let mut find = |code, offset, text: &str| {
        seen.findings.push(Finding { code, text: text.to_owned(), offset: Some(offset) });
    };
    if hosted.directory == AT_END {
        find(Code::Footer, 56, "the tables are told by the footer at the end of the file");
    }
    if hosted.unclean {
        find(Code::Dirty, 72, "the image was not closed");
    }
    if !(1..=3).contains(&hosted.version) {
        find(Code::HeaderContradiction, 4, &format!("the header says: version {}", hosted.version));
    }
}

fn names(file: &Arc<Node>, descriptor: &Descriptor, is_sparse: bool, seen: &mut Seen) {
    seen.subformat =
        descriptor.create_type.clone().or_else(|| is_sparse.then(|| "monolithicSparse".to_owned()));
    if let Some(parent) = &descriptor.parent {
        let followed = descriptor.named_parent().is_some();
        let reference = Reference::new(Kind::Backing, parent.clone());
        seen.note(file, Reference { followed, format: Some("vmdk".to_owned()), ..reference });
    }
    let extents: Vec<_> = descriptor.extents.iter().filter(|line| line.kind != LineKind::Zero).collect();
    for line in extents.iter().take(MOST_TOLD) {
        let format = match line.kind {
            LineKind::Flat { .. } => "raw",
            _ => "vmdk",
        };
        // In a sparse file the one extent is the file itself, whatever it was called when it was made.
        let reference = Reference::new(Kind::Extent, line.name.clone());
        seen.note(file, Reference { followed: !is_sparse, format: Some(format.to_owned()), ..reference });
    }
    if let Some(untold @ 1..) = extents.len().checked_sub(MOST_TOLD).filter(|_| !is_sparse) {
        let text = format!("{untold} more extents");
        seen.findings.push(Finding { code: Code::Extent, text, offset: None });
    }
}
