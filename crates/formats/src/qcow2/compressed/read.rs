//! Reading: streams that lie together are had by one read, and decoded on all cores; what is read in small parts is decoded
//! once, as long as it is among the last.
use super::super::entry::{Entry, Stored, Stream};
use super::super::image::Image;
use super::{PIECE, algorithm};
use block::{BlockError, Result, Step};
use futures_util::future::try_join_all;
use parking_lot::Mutex;
use rt::{Buf, BufMut};
use std::collections::VecDeque;
use std::ops::Range;

/// Bytes of decoded clusters that are remembered; one cluster, where it has more.
const REMEMBERED: u64 = 1 << 20;

/// Bytes between two streams that are read with them rather than apart.
const GAP: u64 = 4096;

/// The clusters that were decoded last, by their streams.
///
/// Law: who stores a stream makes what was there forgotten before an entry leads to it. Space is used again only when all
/// who might know its old content have ended, so that nothing old comes in afterwards.
#[derive(Default)]
pub(in super::super) struct Decoded(Mutex<VecDeque<(Stream, Buf)>>);

impl Decoded {
    fn find(&self, stream: Stream) -> Option<Buf> {
        self.0.lock().iter().find(|(known, _)| *known == stream).map(|(_, content)| content.clone())
    }

    fn keep(&self, stream: Stream, content: Buf) {
        let most = (REMEMBERED / content.len().max(1) as u64).clamp(1, 16) as usize;
        let mut known = self.0.lock();
        known.truncate(most - 1);
        known.push_front((stream, content));
    }

    /// Forgets what was in these bytes of the file.
    pub(super) fn forget(&self, bytes: Range<u64>) {
        let outside = |s: &Stream| s.offset >= bytes.end || s.offset + s.len <= bytes.start;
        self.0.lock().retain(|(stream, _)| outside(stream));
    }

    /// Forgets all.
    pub(in super::super) fn clear(&self) {
        self.0.lock().clear();
    }
}

impl Image {
    /// Reads what has no 1:1 bytes: a range of compressed clusters.
    pub(in super::super) async fn read_encoded(&self, offset: u64, buf: BufMut) -> (BufMut, Result<()>) {
        let g = self.g();
        let (mut rest, mut done) = (buf, None::<BufMut>);
        let mut at = offset;
        while !rest.is_empty() {
            let within = g.within(at);
            let whole = if within == 0 { rest.len() as u64 & !(g.cluster_size() - 1) } else { 0 };
            let len = if whole > 0 { whole } else { (g.cluster_size() - within).min(rest.len() as u64) };
            let part = rest.split_to(len as usize);
            let (part, result) = match whole > 0 {
                true => self.read_whole(at, part).await,
                false => self.read_part(at, part).await,
            };
            match &mut done {
                Some(done) => done.unsplit(part),
                None => done = Some(part),
            }
            if let Err(e) = result {
                let mut all = done.unwrap_or_else(|| BufMut::with_len(0));
                all.unsplit(rest);
                return (all, Err(e.at(offset)));
            }
            at += len;
        }
        (done.unwrap_or(rest), Ok(()))
    }

    /// The stream of a guest cluster; `None` if it is not compressed any more.
    async fn stream_of(&self, cluster: u64) -> Result<Option<Stream>> {
        let g = self.g();
        let page = self.slice(g.slice(cluster)).await?;
        let stored = page.map_or(Stored::HOLE, |page| g.stored(&page, g.index(cluster)));
        match self.checked(stored, cluster).await? {
            Entry::Compressed(stream) => Ok(Some(stream)),
            _ => Ok(None),
        }
    }

    /// Reads a part of a cluster.
    async fn read_part(&self, at: u64, mut part: BufMut) -> (BufMut, Result<()>) {
        let g = self.g();
        let cluster = g.cluster(at);
        // Those that come for the same cluster find it decoded.
        let lease = self.decoding.lease(cluster, cluster + 1, true).await;
        let content = match self.stream_of(cluster).await {
            Ok(None) => {
                // It may have been compressed anew: then that read leases it too.
                drop(lease);
                return self.read_remapped(at, part).await;
            }
            Ok(Some(stream)) => self.decoded_stream(stream).await,
            Err(e) => Err(e),
        };
        let within = g.within(at) as usize;
        let result = content.map(|content| {
            if let Some(wanted) = content.get(within..within + part.len()) {
                part.copy_from_slice(wanted);
            }
        });
        (part, result)
    }

    async fn decoded_stream(&self, stream: Stream) -> Result<Buf> {
        if let Some(content) = self.decoded.find(stream) {
            return Ok(content);
        }
        let buf = BufMut::with_len(self.g().cluster_size() as usize);
        let content = self.decode(vec![stream], buf).await?.freeze();
        self.decoded.keep(stream, content.clone());
        Ok(content)
    }

    /// Reads whole clusters, several pieces at a time.
    async fn read_whole(&self, offset: u64, buf: BufMut) -> (BufMut, Result<()>) {
        let len = buf.len();
        match self.read_pieces(offset, buf).await {
            Ok(buf) => (buf, Ok(())),
            Err(e) => (BufMut::with_len(len), Err(e)),
        }
    }

    async fn read_pieces(&self, offset: u64, mut buf: BufMut) -> Result<BufMut> {
        let g = self.g();
        let (mut cluster, mut work) = (g.cluster(offset), Vec::new());
        while !buf.is_empty() {
            let left = g.clusters(buf.len() as u64);
            let streams = self.streams_together(cluster, left.min((PIECE >> g.cluster_bits).max(1))).await?;
            let count = streams.len().max(1) as u64;
            let part = buf.split_to((count << g.cluster_bits) as usize);
            let at = cluster << g.cluster_bits;
            work.push(async move {
                if streams.is_empty() {
                    let (part, result) = self.read_remapped(at, part).await;
                    return result.map(|()| part);
                }
                self.decode(streams, part).await
            });
            cluster += count;
        }
        let mut parts = try_join_all(work).await?.into_iter();
        let mut whole = parts.next().unwrap_or(buf);
        parts.for_each(|part| whole.unsplit(part));
        Ok(whole)
    }

    /// The streams of the first of `count` clusters that lie together in the file; none if the first is not compressed any
    /// more.
    async fn streams_together(&self, cluster: u64, count: u64) -> Result<Vec<Stream>> {
        let mut streams: Vec<Stream> = Vec::with_capacity(count as usize);
        for cluster in cluster..cluster + count {
            let Some(stream) = self.stream_of(cluster).await? else { break };
            let follows =
                |last: &Stream| (last.offset..=last.offset + last.len + GAP).contains(&stream.offset);
            if !streams.last().is_none_or(follows) {
                break;
            }
            streams.push(stream);
        }
        Ok(streams)
    }

    /// Reads streams, each of which begins no earlier than the one before, and decodes them to `content`, one cluster each.
    async fn decode(&self, streams: Vec<Stream>, mut content: BufMut) -> Result<BufMut> {
        let (Some(first), Some(last)) = (streams.first(), streams.last()) else { return Ok(content) };
        let file = self.order.file.node()?;
        let size = self.g().cluster_size();
        let (start, file_len) = (first.offset, file.length());
        let end = (last.offset + last.len.min(2 * size)).min(file_len);
        let outside = streams.iter().find(|stream| stream.offset >= file_len);
        if let Some(stream) = outside {
            let why = format_args!("it lies beyond the end of the file ({file_len:#x})");
            return Err(damaged(file.filename(), *stream, &why));
        }
        self.order.file.announce(Step::ReadCompressed).await;
        let (stored, result) = file.read(start, BufMut::with_len((end - start) as usize)).await;
        result?;
        let algorithm = algorithm(self.header.read().compression);
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

    async fn read_remapped(&self, offset: u64, buf: BufMut) -> (BufMut, Result<()>) {
        // Another request has given the cluster a new mapping since this one looked: read through it.
        match self.order.file.image() {
            Some(node) => node.read(offset, buf).await,
            None => (buf, Err(BlockError::invalid("the image is not open"))),
        }
    }
}

fn damaged(file: impl std::fmt::Display, stream: Stream, why: &dyn std::fmt::Display) -> BlockError {
    let text = format!("compressed cluster in '{file}' at {:#x}: {why}", stream.offset);
    BlockError::corrupt(text).at(stream.offset)
}
