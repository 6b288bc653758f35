//! The formats that have little to look at: the name of a file below, and marks.
//!
//! Specifications: QEMU's documents of qed; Microsoft VHD 1.0, "Dynamic Disk Header Format"; the images themselves for qcow, cow and
//! vdi.

use crate::field::{be32, be64, le32, le64, until_nul};
use crate::inspection::{Code, Kind, Reference, Seen, read};
use block::{Node, Result};
use rt::BoxFuture;
use std::sync::Arc;

/// Longest name that is read, in bytes.
const LONGEST: u64 = 1023;

/// Takes note of a name that stands at `at`.
async fn backing(file: &Arc<Node>, seen: &mut Seen, at: u64, len: u64) -> Result<()> {
    if at == 0 || len == 0 {
        return Ok(());
    }
    if len > LONGEST || at.checked_add(len).is_none_or(|end| end > file.length()) {
        let text = format!("the backing file name of {len} bytes is too long, or beyond the end of the file");
        seen.find_at(Code::HeaderContradiction, at, text);
    }
    let name = read(file, at, len.min(LONGEST)).await?;
    let name = codec::filename::text(until_nul(&name));
    let reference = Reference { offset: Some(at), ..Reference::new(Kind::Backing, name) };
    seen.note(file, reference);
    Ok(())
}

/// qcow, version 1.
pub(super) fn qcow<'a>(file: &'a Arc<Node>, seen: &'a mut Seen) -> BoxFuture<'a, Result<()>> {
    Box::pin(async move {
        let head = read(file, 0, 48).await?;
        let (at, len) = (be64(&head, 8).unwrap_or(0), be32(&head, 16).unwrap_or(0));
        if be32(&head, 36).is_some_and(|method| method != 0) {
            seen.find_at(Code::Encrypted, 36, "the content is encrypted");
        }
        backing(file, seen, at, len.into()).await
    })
}

/// qed.
pub(super) fn qed<'a>(file: &'a Arc<Node>, seen: &'a mut Seen) -> BoxFuture<'a, Result<()>> {
    const BACKING: u64 = 1;
    const NEEDS_CHECK: u64 = 2;
    const KNOWN: u64 = 7;
    Box::pin(async move {
        let head = read(file, 0, 64).await?;
        let features = le64(&head, 16).unwrap_or(0);
        if features & !KNOWN != 0 {
            seen.find_at(Code::UnknownFeatures, 16, format!("unknown features {:#x}", features & !KNOWN));
        }
        if features & NEEDS_CHECK != 0 {
            seen.find_at(Code::Dirty, 16, "the image was not closed");
        }
        match features & BACKING {
            0 => Ok(()),
            _ => {
                let (at, len) = (le32(&head, 56).unwrap_or(0), le32(&head, 60).unwrap_or(0));
                backing(file, seen, at.into(), len.into()).await
            }
        }
    })
}

/// cow.
pub(super) fn cow<'a>(file: &'a Arc<Node>, seen: &'a mut Seen) -> BoxFuture<'a, Result<()>> {
    const NAME_AT: u64 = 8;
    Box::pin(async move {
        let len = read(file, NAME_AT, LONGEST).await?.iter().take_while(|byte| **byte != 0).count();
        backing(file, seen, NAME_AT, len as u64).await
    })
}

/// VHD: a differencing image names the one below in its second header.
pub(super) fn vpc<'a>(file: &'a Arc<Node>, seen: &'a mut Seen) -> BoxFuture<'a, Result<()>> {
    const DIFFERENCING: u32 = 4;
    Box::pin(async move {
        let foot = read(file, 0, 512).await?;
        if !foot.starts_with(b"conectix") || be32(&foot, 60) != Some(DIFFERENCING) {
            return Ok(());
        }
        let at = be64(&foot, 16).unwrap_or(0);
        let name = read(file, at.saturating_add(64), 512).await?;
        let units = name.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
        let name: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
        let offset = Some(at.saturating_add(64));
        let reference = Reference::new(Kind::Backing, String::from_utf16_lossy(&name));
        seen.note(file, Reference { offset, ..reference });
        Ok(())
    })
}

/// VDI: blocks lie one after the other, so what follows the last one belongs to nothing.
pub(super) fn vdi<'a>(file: &'a Arc<Node>, seen: &'a mut Seen) -> BoxFuture<'a, Result<()>> {
    Box::pin(async move {
        let head = read(file, 0, 512).await?;
        let word = |at| le32(&head, at).map_or(0, u64::from);
        // Data offset, block size, extra bytes of a block, blocks that are there.
        let (data, block, extra, count) = (word(344), word(376), word(380), word(388));
        let end = count.checked_mul(block.saturating_add(extra)).and_then(|len| len.checked_add(data));
        match end {
            Some(end) if end < file.length() => {
                let text = format!("{} bytes follow the last block", file.length() - end);
                seen.find_at(Code::TrailingData, end, text);
            }
            Some(_) => {}
            None => seen.find_at(Code::HeaderContradiction, 388, "the blocks are longer than any file"),
        }
        Ok(())
    })
}
