//! `dmg`: disk images of Apple (UDIF). They are only read.
//!
//! ```text
//!  │ data of chunks │ property list (XML) │ trailer │         older ones: │ … │ resource fork │ trailer │
//!                         └ tables of chunks ┘└── where the list is ──┘
//! ```
//!
//! All numbers are big-endian. A chunk is zero, stored as it is, or compressed as a whole; those are decoded on the threads that
//! compute, several at once, and kept ([`Decoded`]).
//!
//! Bounds: tables have at most [`MOST_TABLES`] bytes in the file, and are held in memory; chunks and what is decoded of them
//! at once are bounded as `read_only` says.
//! Description: <https://keramics.github.io/udif.html>.
mod chunks;
mod fields;
mod plist;
mod resource_fork;
mod trailer;

use crate::read_only::{self, Decoded, Unit};
use api::codec::NoArguments;
use block::{
    BlockError, ChildId, Common, Driver, DriverType, Edge, Edges, ErrorKind, Extent, ExtentKind, Facts,
    Glimpse, Node, Open, OpenContext, Opened, Perms, Result, Undo, Want,
};
use chunks::{Chunk, Chunks, Stored};
use rt::{BoxFuture, Buf, BufMut};
use std::ops::Range;
use std::sync::Arc;
use trailer::Trailer;

/// The `dmg` driver.
pub const DMG: DriverType =
    DriverType { name: "dmg", probe: Some(probe), open: &Open(open), ..DriverType::FORMAT };

const SECTOR: u64 = 512;

/// Bytes of the property list or resource fork.
const MOST_TABLES: u64 = 16 << 20;

/// By the name alone: the guest of a plain disk can write a trailer.
fn probe(seen: &Glimpse<'_>) -> u32 {
    if seen.filename.ends_with(".dmg") { 2 } else { 0 }
}

fn open(context: &mut OpenContext, _: NoArguments) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        read_only::require(context)?;
        let (child, file) = context.file().await?;
        let trailer = Trailer::read(&file).await?;
        let chunks = read_chunks(&trailer, &file).await?;
        let edges = context.edges().clone();
        let dmg = Dmg { edges, child, size: trailer.size, chunks, decoded: Decoded::new() };
        Ok(Opened { driver: Arc::new(dmg), filename: None })
    })
}

/// The chunks of all tables, be they in a resource fork or in a property list.
async fn read_chunks(trailer: &Trailer, file: &Node) -> Result<Chunks> {
    let mut chunks = Chunks::new(trailer.data_fork);
    let (place, tables) = if trailer.resource_fork.is_empty() {
        let place = &trailer.plist;
        let tables = plist::read(&bytes(file, "the property list", place).await?, &mut chunks);
        let wrong = |e| BlockError::of(ErrorKind::Corrupt, e).context("the property list");
        (place, tables.map_err(wrong))
    } else {
        let place = &trailer.resource_fork;
        let tables = resource_fork::read(&bytes(file, "the resource fork", place).await?, &mut chunks);
        let wrong = |e| BlockError::of(ErrorKind::Corrupt, e).context("the resource fork");
        (place, tables.map_err(wrong))
    };
    let tables = tables.and_then(|tables| match tables {
        0 => Err(BlockError::corrupt("there is no table of what the image consists of")),
        _ => chunks.sort().map_err(|e| BlockError::of(ErrorKind::Corrupt, e)),
    });
    tables.map_err(|e| e.about_file(&file.filename()).at(place.start))?;
    Ok(chunks)
}

async fn bytes(file: &Node, what: &str, place: &Range<u64>) -> Result<BufMut> {
    let len = place.end - place.start;
    if len > MOST_TABLES {
        let text = format!("{what} has {len} bytes, more than {MOST_TABLES}");
        return Err(BlockError::new(ErrorKind::Limit, text).about_file(&file.filename()).at(place.start));
    }
    let (bytes, read) = file.read(place.start, BufMut::with_len(len as usize)).await;
    read.map_err(|e| e.context(format!("reading {what}")))?;
    Ok(bytes)
}

/// An open image.
struct Dmg {
    edges: Arc<Edges>,
    child: ChildId,
    size: u64,
    chunks: Chunks,
    decoded: Decoded,
}

impl Dmg {
    fn find(&self, at: u64, len: u64) -> Result<Extent> {
        let mut following = self.chunks.from(at).map(|(_, chunk)| chunk);
        let first = following.next().ok_or_else(|| nowhere(at))?;
        let to_end = |chunk: Chunk| len.min(chunk.end() - at);
        if first.how == Stored::Plain {
            let (file, offset, len) =
                (self.edges.need(self.child)?, first.offset + (at - first.start), to_end(first));
            let data = ExtentKind::Data { child: self.child, offset, owned: false };
            let is_inside = offset + len <= file.length();
            return if is_inside { Ok(Extent { len, kind: data }) } else { Err(beyond(&file, first)) };
        }
        let is_zero = first.how == Stored::Nowhere;
        let mut len_alike = to_end(first);
        for chunk in following {
            let is_alike = chunk.how != Stored::Plain && (chunk.how == Stored::Nowhere) == is_zero;
            if len_alike == len || !is_alike {
                break;
            }
            len_alike = to_end(chunk);
        }
        let kind = if is_zero { ExtentKind::Zero { reserved: None } } else { ExtentKind::Encoded };
        Ok(Extent { len: len_alike, kind })
    }

    fn unit_at(&self, at: u64) -> Result<Unit> {
        let (number, chunk) = self.chunks.from(at).next().ok_or_else(|| nowhere(at))?;
        Ok(Unit { number: number as u64, start: chunk.start, len: chunk.len })
    }

    /// Decodes a compressed chunk, on the threads that compute.
    async fn decode(&self, at: u64) -> Result<Buf> {
        let (_, chunk) = self.chunks.from(at).next().ok_or_else(|| nowhere(at))?;
        let Stored::Packed(algorithm) = chunk.how else { return Err(nowhere(at)) };
        let file = self.edges.need(self.child)?;
        if chunk.offset + chunk.stored > file.length() {
            return Err(beyond(&file, chunk));
        }
        let (stream, read) = file.read(chunk.offset, BufMut::with_len(chunk.stored as usize)).await;
        read?;
        let content = rt::compute(move || {
            let mut content = BufMut::with_len(chunk.len as usize);
            codec::decode(algorithm, &stream, &mut content).map(|()| content)
        });
        content.await.map(BufMut::freeze).map_err(|e| {
            let error = BlockError::of(ErrorKind::Corrupt, e).context(chunk);
            error.about_file(&file.filename()).at(chunk.offset)
        })
    }
}

/// The error of a part of the disk that is in no chunk.
fn nowhere(at: u64) -> BlockError {
    BlockError::corrupt(format!("byte {at:#x} of the disk lies in no chunk of the image"))
}

/// The error of a chunk that the file does not hold.
fn beyond(file: &Node, chunk: Chunk) -> BlockError {
    BlockError::corrupt("its bytes end beyond the end of the file")
        .context(chunk)
        .about_file(&file.filename())
        .at(chunk.offset)
}

impl Driver for Dmg {
    fn facts(&self) -> Facts {
        Facts { mapping: true, ..Facts::default() }
    }

    fn length(&self) -> u64 {
        self.size
    }

    fn try_map(&self, offset: u64, len: u64, _: Want) -> Option<Extent> {
        self.find(offset, len).ok()
    }

    fn map(&self, offset: u64, len: u64, _: Want) -> BoxFuture<'_, Result<Extent>> {
        Box::pin(async move { self.find(offset, len) })
    }

    fn read(&self, offset: u64, buf: BufMut) -> BoxFuture<'_, (BufMut, Result<()>)> {
        Box::pin(self.decoded.read(offset, buf, |at| self.unit_at(at), |unit| self.decode(unit.start)))
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
