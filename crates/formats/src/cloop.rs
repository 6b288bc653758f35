//! `cloop`: compressed loopback images, version 2. They are only read.
//!
//! ```text
//!  │ script, 128 bytes │ block size │ blocks │ offsets: one u64 a block, and one more │ zlib stream │ zlib stream │ …
//! ```
//!
//! All numbers are big-endian. A stream ends where the next one begins.
//!
//! Bounds: the offsets are looked at once, at the open, by pieces, and read from the file where they are needed. Blocks and
//! what is decoded of them at once are bounded as `read_only` says.
use crate::read_only::{self, Decoded, MOST_UNIT, Unit, most_stream};
use api::codec::NoArguments;
use block::metacache::{Be64, Codec};
use block::{
    BlockError, ChildId, Common, Driver, DriverType, Edge, Edges, ErrorKind, Extent, ExtentKind, Facts,
    Glimpse, Node, Open, OpenContext, Opened, Perms, Result, Undo, Want,
};
use rt::{BoxFuture, Buf, BufMut};
use std::sync::Arc;

/// The `cloop` driver.
pub const CLOOP: DriverType =
    DriverType { name: "cloop", probe: Some(probe), open: &Open(open), ..DriverType::FORMAT };

/// What every image begins with.
const SCRIPT: &[u8] =
    b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n";
/// Byte offset of the numbers behind the script.
const NUMBERS: u64 = 128;
/// Byte offset of the offsets of streams.
const OFFSETS: u64 = 136;
const SECTOR: u32 = 512;
/// Bytes of all offsets.
const MOST_OFFSETS: u64 = 512 << 20;
/// Bytes of offsets that are looked at at a time.
const PIECE: u64 = 1 << 20;

fn probe(seen: &Glimpse<'_>) -> u32 {
    if seen.head.starts_with(SCRIPT) { 2 } else { 0 }
}

fn open(context: &mut OpenContext, _: NoArguments) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        read_only::require(context)?;
        let (child, file) = context.file().await?;
        let (bytes, read) = file.read_or_zero(NUMBERS, BufMut::with_len(8)).await;
        read?;
        let number = |at: usize| {
            bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u32::from_be_bytes(*word))
        };
        let shape = Shape { block: number(0), blocks: number(4) };
        let judged = shape.judge(file.length()).map_err(|e| BlockError::of(ErrorKind::Invalid, e));
        judged.map_err(|e| e.context("the cloop header").about_file(&file.filename()).at(NUMBERS))?;
        shape.judge_offsets(&file).await?;
        let cloop = Cloop { edges: context.edges().clone(), child, shape, decoded: Decoded::new() };
        Ok(Opened { driver: Arc::new(cloop), filename: None })
    })
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    /// Bytes of a block.
    block: u32,
    blocks: u32,
}

/// What is wrong with a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum HeaderError {
    #[error("a block has {0} bytes; it must have whole sectors, and at most {MOST_UNIT}")]
    Block(u32),
    #[error("{0} blocks are too many")]
    Blocks(u32),
    #[error("the offsets of {0} blocks end beyond the end of the file")]
    CutOff(u32),
}

impl Shape {
    /// Where the offsets end.
    fn end(self) -> u64 {
        OFFSETS + (u64::from(self.blocks) + 1) * 8
    }

    fn judge(self, file: u64) -> Result<(), HeaderError> {
        if self.block == 0 || !self.block.is_multiple_of(SECTOR) || u64::from(self.block) > MOST_UNIT {
            return Err(HeaderError::Block(self.block));
        }
        if self.end() - OFFSETS > MOST_OFFSETS {
            return Err(HeaderError::Blocks(self.blocks));
        }
        if self.end() > file { Err(HeaderError::CutOff(self.blocks)) } else { Ok(()) }
    }

    fn most_stream(self) -> u64 {
        most_stream(self.block.into())
    }

    /// The block that a byte of the disk lies in.
    fn unit_at(self, at: u64) -> Unit {
        let len = u64::from(self.block);
        let number = at / len;
        Unit { number, start: number * len, len }
    }

    /// Refuses offsets that don't ascend, or leave more room for a stream than one can take.
    async fn judge_offsets(self, file: &Node) -> Result<()> {
        let mut last = None;
        for at in (OFFSETS..self.end()).step_by(PIECE as usize) {
            let (bytes, read) = file.read(at, BufMut::with_len(PIECE.min(self.end() - at) as usize)).await;
            read.map_err(|e| e.context("reading the offsets of blocks"))?;
            for (index, offset) in ((at - OFFSETS) / 8..).zip(Be64::words(&bytes)) {
                let fits = last.is_none_or(|last| {
                    offset.checked_sub(last).is_some_and(|len: u64| len <= self.most_stream())
                });
                if !fits {
                    let text = format!("offset {index} of the streams is {offset:#x}, where none can begin");
                    return Err(BlockError::corrupt(text)
                        .about_file(&file.filename())
                        .at(OFFSETS + index * 8));
                }
                last = Some(offset);
            }
        }
        Ok(())
    }
}

/// An open image.
struct Cloop {
    edges: Arc<Edges>,
    child: ChildId,
    shape: Shape,
    decoded: Decoded,
}

impl Cloop {
    /// Decodes a block, on the threads that compute.
    async fn decode(&self, block: u64) -> Result<Buf> {
        let file = self.edges.need(self.child)?;
        let (pair, read) = file.read(OFFSETS + block * 8, BufMut::with_len(16)).await;
        read?;
        let mut offsets = Be64::words(&pair);
        let (start, end) = (offsets.next().unwrap_or_default(), offsets.next().unwrap_or_default());
        let damaged = |why: String| {
            let text = format!("block {block} at offset {start:#x}: {why}");
            BlockError::corrupt(text).about_file(&file.filename())
        };
        let len =
            end.checked_sub(start).filter(|len| *len <= self.shape.most_stream() && end <= file.length());
        let len = len.ok_or_else(|| damaged("its stream ends beyond the end of the file".to_owned()))?;
        let (stream, read) = file.read(start, BufMut::with_len(len as usize)).await;
        read?;
        let size = self.shape.block as usize;
        let content = rt::compute(move || {
            let mut content = BufMut::with_len(size);
            codec::decode(codec::Algorithm::Zlib, &stream, &mut content).map(|()| content)
        });
        content.await.map(BufMut::freeze).map_err(|e| damaged(e.to_string()))
    }
}

impl Driver for Cloop {
    fn facts(&self) -> Facts {
        Facts { mapping: true, ..Facts::default() }
    }

    fn length(&self) -> u64 {
        u64::from(self.shape.block) * u64::from(self.shape.blocks)
    }

    fn try_map(&self, _: u64, len: u64, _: Want) -> Option<Extent> {
        Some(Extent { len, kind: ExtentKind::Encoded })
    }

    fn map(&self, _: u64, len: u64, _: Want) -> BoxFuture<'_, Result<Extent>> {
        Box::pin(async move { Ok(Extent { len, kind: ExtentKind::Encoded }) })
    }

    fn read(&self, offset: u64, buf: BufMut) -> BoxFuture<'_, (BufMut, Result<()>)> {
        let unit_at = |at| Ok(self.shape.unit_at(at));
        Box::pin(self.decoded.read(offset, buf, unit_at, |block| self.decode(block.number)))
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn set_writable(&self, writable: bool) -> BoxFuture<'_, Result<Undo>> {
        read_only::set_writable(writable)
    }

    fn reload<'a>(&'a self, _: &'a Common) -> BoxFuture<'a, Result<()>> {
        self.decoded.forget();
        Box::pin(async { Ok(()) })
    }

    fn child_perms(&self, _: &Edge, _: Perms, _: bool) -> Perms {
        read_only::child_perms()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_that_can_t_be_are_refused() {
        let judge = |block, blocks| Shape { block, blocks }.judge(4096).is_ok();
        assert!(judge(512, 400) && judge(64 << 20, 1));
        for (block, blocks) in
            [(0, 1), (513, 1), (0xffff_fe00, 1), (512, u32::MAX), (512, 0x0400_0001), (512, 600)]
        {
            assert!(!judge(block, blocks), "{block} {blocks}");
        }
    }
}
