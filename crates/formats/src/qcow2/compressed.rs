//! Compressed clusters: a stream somewhere in the file, as an L2 entry describes it, becomes a cluster of data.
//!
//! ```text
//!  L2 entry ──▶ Stream { offset, len }     host clusters   ├───────┼───────┼
//!                                                  stream     └──────────┘░ up to a sector's end
//! ```
//!
//! Bounds: a stream takes at most two clusters, its content exactly one; decoding runs on the computing pool.
//! Specification: qcow2.rst, "Compressed Clusters Descriptor".
use super::entry::Stream;
use super::header::Compression;
use block::{BlockError, Node, Result, Step};
use rt::BufMut;
use std::sync::Arc;

/// Reads the stream and decodes it into a buffer of `cluster_size` bytes.
pub(super) async fn read(
    file: &Arc<Node>,
    stream: Stream,
    compression: Compression,
    cluster_size: u64,
) -> Result<BufMut> {
    let damaged = |why: &dyn std::fmt::Display| {
        let text = format!("compressed cluster in '{}' at {:#x}: {why}", file.filename(), stream.offset);
        BlockError::corrupt(text).at(stream.offset)
    };
    let file_len = file.length();
    if stream.offset >= file_len {
        return Err(damaged(&format_args!("it lies beyond the end of the file ({file_len:#x})")));
    }
    let len = stream.len.min(2 * cluster_size).min(file_len - stream.offset);
    file.announce(Step::ReadCompressed).await;
    let (stored, result) = file.read(stream.offset, BufMut::with_len(len as usize)).await;
    result?;
    let algorithm = match compression {
        Compression::Zlib => codec::Algorithm::Deflate,
        Compression::Zstd => codec::Algorithm::Zstd,
    };
    let decoded = rt::compute(move || {
        let mut cluster = BufMut::with_len(cluster_size as usize);
        codec::decode(algorithm, &stored, &mut cluster).map(|()| cluster)
    });
    decoded.await.map_err(|e| damaged(&e))
}
