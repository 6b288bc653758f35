//! The digest of an image: read by all workers, holes at no cost.
//!
//! ```text
//!   block status ──▶ runs of zero leaves ─────────────────────────────┐
//!                └─▶ pieces of data ─▶ read and hashed on the workers ─┴─▶ in their order: the tree
//! ```
//!
//! Bounds: [`MOST`] pieces under way, each with a buffer of [`STEP`] bytes.

use super::{Digest, LEAF, Outer, Running, Scheme, Tree};
use crate::progress::Told;
use block::{Backend, BlockError, ErrorKind};
use futures_util::future::{Either, ready};
use futures_util::stream::{self, Stream, StreamExt};
use rt::BufMut;
use std::ops::Range;
use std::sync::Arc;

/// Most bytes that a task reads and hashes.
const PIECE: u64 = 1 << 20;

/// Bytes that are read at a time: they are hashed while the processor's cache has them.
const STEP: u64 = 256 << 10;

/// Most pieces under way: enough for storage that makes readers wait.
const MOST: usize = 16;

/// Bytes at the start that are hashed before worker threads are started.
const ALONE: u64 = 1 << 20;

/// An image could not be read.
#[derive(Debug, thiserror::Error)]
#[error("error while reading at byte {offset}: {error}")]
pub struct ReadError {
    /// Where.
    pub offset: u64,
    /// Why.
    pub error: BlockError,
}

impl ReadError {
    fn at(offset: u64) -> impl Fn(BlockError) -> ReadError {
        move |error| ReadError { offset, error }
    }
}

/// A digest over leaves that come in their order.
enum Sum {
    Tree(Tree),
    Blkhash(Outer),
}

impl Sum {
    fn add(&mut self, part: Part) {
        match (self, part) {
            (Sum::Tree(tree), Part::Zeroes(leaves)) => tree.zeroes(leaves),
            (Sum::Tree(tree), Part::Leaves(leaves)) => leaves.into_iter().for_each(|leaf| tree.push(leaf)),
            (Sum::Blkhash(outer), Part::Zeroes(blocks)) => outer.zeroes(blocks),
            (Sum::Blkhash(outer), Part::Leaves(blocks)) => blocks.into_iter().for_each(|b| outer.push(b)),
        }
    }
}

/// What comes next of a digest.
enum Part {
    /// So many leaves of zeroes.
    Zeroes(u64),
    /// The digests of leaves.
    Leaves(Vec<Digest>),
}

/// What comes next of an image.
enum Piece {
    /// Whole leaves of zeroes: where they end.
    Zeroes(Range<u64>),
    /// Leaves to be read.
    Data(Range<u64>),
}

/// A walk over an image's block status.
struct Walk {
    image: Arc<Backend>,
    at: u64,
    end: u64,
    /// Up to where it is known whether the image reads as zeroes.
    known: (u64, bool),
}

impl Walk {
    async fn next(&mut self) -> Result<Option<Piece>, ReadError> {
        let start = self.at;
        if start >= self.end {
            return Ok(None);
        }
        let whole = |at: u64| at - at % LEAF;
        let (mut until, zero) = self.look().await?;
        if zero && whole(until) > start {
            self.at = whole(until);
            return Ok(Some(Piece::Zeroes(start..self.at)));
        }
        // Runs of zeroes that have no leaf of their own are read with the data.
        let most = start.saturating_add(PIECE).min(self.end);
        while until < most {
            self.at = until;
            let (next, zero) = self.look().await?;
            if zero && whole(next) > until.next_multiple_of(LEAF) {
                break;
            }
            until = next;
        }
        // The last leaf of a disk may be shorter.
        self.at = until.min(most).next_multiple_of(LEAF).min(self.end);
        Ok(Some(Piece::Data(start..self.at)))
    }

    /// Up to where the image is all zeroes, or not, from here on.
    async fn look(&mut self) -> Result<(u64, bool), ReadError> {
        let (at, end) = (self.at, self.end);
        if self.known.0 <= at {
            let status = self.image.status(at, end - at).await.map_err(ReadError::at(at))?;
            self.known = (at + status.len.clamp(1, end - at), status.zero);
        }
        Ok(self.known)
    }
}

/// The digest of an image by some scheme; `told` is told the bytes that are done.
pub async fn of_image(image: &Arc<Backend>, scheme: Scheme, told: &Told) -> Result<Digest, ReadError> {
    let size = image.length();
    let walk = Walk { image: image.clone(), at: 0, end: size, known: (0, false) };
    let pieces = stream::try_unfold(walk, |mut walk| async {
        let piece = walk.next().await?;
        Ok(piece.map(|piece| (piece, walk)))
    });
    let mut worker = 0;
    let hashed = pieces.map(|piece| match piece {
        Err(error) => Either::Left(ready(Err(error))),
        Ok(Piece::Zeroes(range)) => {
            let leaves = (range.end - range.start) / LEAF;
            Either::Left(ready(Ok((range, Part::Zeroes(leaves)))))
        }
        Ok(Piece::Data(range)) => {
            let place = rt::Target::Worker(worker);
            worker += 1;
            let work = leaves(image.clone(), scheme, range.clone());
            let task = if range.start < ALONE { rt::spawn(work) } else { rt::spawn_on(place, work) };
            Either::Right(async move {
                let lost = |e: rt::JoinError| {
                    ReadError::at(range.start)(BlockError::new(
                        ErrorKind::Io,
                        format!("a task did not finish: {e}"),
                    ))
                };
                let hashed = task.await.unwrap_or_else(|e| Err(lost(e)))?;
                Ok((range, Part::Leaves(hashed)))
            })
        }
    });
    let mut hashed = std::pin::pin!(hashed.buffered(MOST));
    let mut sum = match scheme {
        Scheme::Tree => Sum::Tree(Tree::default()),
        Scheme::Blkhash => Sum::Blkhash(Outer::default()),
    };
    while let Some(part) = hashed.next().await {
        let (range, part) = part?;
        sum.add(part);
        told.add(range.end - range.start);
    }
    Ok(match sum {
        Sum::Tree(tree) => tree.finish(size),
        Sum::Blkhash(outer) => outer.finish(size),
    })
}

/// Does pieces of work on all workers, [`MOST`] at a time; what they come to, in their order.
pub fn spread<W>(works: impl IntoIterator<Item = W>) -> impl Stream<Item = Result<W::Output, rt::JoinError>>
where
    W: Future<Output: Send + 'static> + Send + 'static,
{
    let tasks = works.into_iter().enumerate().map(|(n, work)| rt::spawn_on(rt::Target::Worker(n), work));
    stream::iter(tasks).buffered(MOST)
}

/// Reads the leaves of a range and hashes each.
async fn leaves(image: Arc<Backend>, scheme: Scheme, range: Range<u64>) -> Result<Vec<Digest>, ReadError> {
    let mut hashed = Vec::with_capacity(PIECE.div_ceil(LEAF) as usize);
    let mut at = range.start;
    while at < range.end {
        rt::cooperate().await;
        let data = read(&image, at, STEP.min(range.end - at)).await?;
        hashed.extend(data.chunks(LEAF as usize).map(|leaf| scheme.leaf(leaf)));
        at += data.len() as u64;
    }
    Ok(hashed)
}

/// The digest of a range of an image, as of a disk of its own.
pub async fn of_range(image: &Arc<Backend>, range: Range<u64>) -> Result<Digest, ReadError> {
    let (mut running, mut at) = (Running::default(), range.start);
    while at < range.end {
        let status = image.status(at, range.end - at).await.map_err(ReadError::at(at))?;
        let until = at + status.len.clamp(1, range.end - at);
        if status.zero {
            running.zeroes(until - at);
            at = until;
        }
        while at < until {
            rt::cooperate().await;
            let data = read(image, at, STEP.min(until - at)).await?;
            running.data(&data);
            at += data.len() as u64;
        }
    }
    Ok(running.finish())
}

async fn read(image: &Backend, offset: u64, len: u64) -> Result<BufMut, ReadError> {
    let mut buf = BufMut::with_len(len as usize);
    let got = image.try_read(offset, &mut buf).map_err(ReadError::at(offset))?;
    if got == buf.len() {
        return Ok(buf);
    }
    let mut front = buf.split_to(got);
    let (rest, result) = image.read(offset + got as u64, buf).await;
    result.map_err(ReadError::at(offset))?;
    front.unsplit(rest);
    Ok(front)
}
