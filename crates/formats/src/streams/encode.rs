//! Encoding: clusters become streams, one behind the other.
use super::PIECE;
use block::{Request, Result};
use futures_util::future::try_join_all;
use rt::{Buf, BufMut};

/// Some clusters, encoded.
pub(crate) struct Encoded {
    /// The streams, one behind the other.
    pub streams: Buf,
    /// Length of each cluster's stream in bytes; 0 for one that does not shrink.
    pub lengths: Vec<usize>,
}

/// Encodes all clusters of `size` bytes, several pieces at a time.
pub(crate) async fn encode_all(algorithm: codec::Algorithm, size: usize, data: &Buf) -> Result<Vec<Encoded>> {
    let piece = (PIECE as usize).max(size);
    let jobs = (0..data.len()).step_by(piece).map(|start| {
        let part = data.slice(start..data.len().min(start + piece));
        async move { rt::compute(move || encode(algorithm, &part, size)).await }
    });
    try_join_all(jobs).await
}

/// Writes the streams from the start of a run, its offset in the file and in `streams`, to `end`.
pub(crate) async fn write_run(
    file: &block::Node,
    streams: &Buf,
    run: Option<(u64, usize)>,
    end: usize,
) -> Result<()> {
    match run {
        Some((host, start)) => file.write(host, streams.slice(start..end), Request::DRIVER).await,
        None => Ok(()),
    }
}

/// Encodes clusters of `size` bytes, the last of which may be cut off.
fn encode(algorithm: codec::Algorithm, data: &[u8], size: usize) -> Result<Encoded> {
    let mut streams = BufMut::with_len(data.len().next_multiple_of(size));
    let (mut at, mut lengths) = (0, Vec::with_capacity(data.len().div_ceil(size)));
    for cluster in data.chunks(size) {
        let room = streams.get_mut(at..at + size - 1).unwrap_or_default();
        let len = match cluster.len() == size {
            true => codec::encode(algorithm, cluster, room),
            false => codec::encode(algorithm, &padded(cluster, size), room),
        };
        lengths.push(len.unwrap_or(0));
        at += len.unwrap_or(0);
    }
    streams.truncate(at);
    Ok(Encoded { streams: streams.freeze(), lengths })
}

/// A part of a cluster, and zeroes.
pub(crate) fn padded(part: &[u8], size: usize) -> BufMut {
    let mut whole = BufMut::zeroed(size);
    if let Some(front) = whole.get_mut(..part.len()) {
        front.copy_from_slice(part);
    }
    whole
}
