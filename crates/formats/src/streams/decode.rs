//! Decoding: streams that lie together are had by one read.
use super::Stream;
use block::{BlockError, Node, Result};
use parking_lot::Mutex;
use rt::{Buf, BufMut};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of decoded clusters that are remembered; one cluster, where it has more.
const REMEMBERED: u64 = 1 << 20;

/// Bytes between two streams that are read with them rather than apart.
const GAP: u64 = 4096;

/// The clusters that were decoded last, by their streams.
///
/// Law: who stores a stream makes what was there forgotten before an entry leads to it. Space is used again only when all
/// who might know its old content have ended, so that nothing old comes in afterwards.
#[derive(Default)]
pub(crate) struct Decoded(Mutex<VecDeque<(Stream, Buf)>>);

impl Decoded {
    pub fn find(&self, stream: Stream) -> Option<Buf> {
        self.0.lock().iter().find(|(known, _)| *known == stream).map(|(_, content)| content.clone())
    }

    pub fn keep(&self, stream: Stream, content: Buf) {
        let most = (REMEMBERED / content.len().max(1) as u64).clamp(1, 16) as usize;
        let mut known = self.0.lock();
        known.truncate(most - 1);
        known.push_front((stream, content));
    }

    /// Forgets what was in these bytes of the file.
    pub fn forget(&self, bytes: Range<u64>) {
        let outside = |s: &Stream| s.offset >= bytes.end || s.offset + s.len <= bytes.start;
        self.0.lock().retain(|(stream, _)| outside(stream));
    }

    /// Forgets all.
    pub fn clear(&self) {
        self.0.lock().clear();
    }
}

/// How many of the first streams lie together in the file.
pub(crate) fn run_of(streams: &[Stream]) -> usize {
    let follows = |pair: &&[Stream]| match pair {
        [last, next] => (last.offset..=last.offset + last.len + GAP).contains(&next.offset),
        _ => false,
    };
    streams.len().min(1 + streams.windows(2).take_while(follows).count())
}

/// Reads streams that lie together, and decodes them to `content`, one cluster of `size` bytes each.
pub(crate) async fn decode(
    file: &Arc<Node>,
    algorithm: codec::Algorithm,
    size: u64,
    streams: Vec<Stream>,
    mut content: BufMut,
) -> Result<BufMut> {
    let (Some(first), Some(last)) = (streams.first(), streams.last()) else { return Ok(content) };
    let (start, file_len) = (first.offset, file.length());
    let end = (last.offset + last.len.min(2 * size)).min(file_len);
    let outside = streams.iter().find(|stream| stream.offset >= file_len);
    if let Some(stream) = outside {
        let why = format_args!("it lies beyond the end of the file ({file_len:#x})");
        return Err(damaged(file.filename(), *stream, &why));
    }
    let (stored, result) = file.read(start, BufMut::with_len((end - start) as usize)).await;
    result?;
    let decoded = rt::compute(move || {
        for (stream, cluster) in streams.iter().zip(content.chunks_mut(size as usize)) {
            let from = (stream.offset - start) as usize;
            let to = from.saturating_add(stream.len.min(2 * size) as usize).min(stored.len());
            let stored = stored.get(from..to).unwrap_or_default();
            codec::decode(algorithm, stored, cluster).map_err(|e| (*stream, e))?;
        }
        Ok(content)
    });
    decoded.await.map_err(|(stream, e)| damaged(file.filename(), stream, &e))
}

fn damaged(file: impl std::fmt::Display, stream: Stream, why: &dyn std::fmt::Display) -> BlockError {
    let text = format!("compressed cluster in '{file}' at {:#x}: {why}", stream.offset);
    BlockError::corrupt(text).at(stream.offset)
}
