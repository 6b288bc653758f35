//! Reading: streams that lie together are had by one read, and decoded on all cores; what is read in small parts is decoded
//! once, as long as it is among the last.
use super::super::entry::{Entry, Stored};
use super::super::image::Image;
use super::algorithm;
use crate::streams::{PIECE, Stream, decode, run_of};
use block::{BlockError, Result, Step};
use futures_util::future::try_join_all;
use rt::{Buf, BufMut};

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
            streams.push(stream);
            if run_of(streams.get(streams.len().saturating_sub(2)..).unwrap_or_default())
                < streams.len().min(2)
            {
                streams.pop();
                break;
            }
        }
        Ok(streams)
    }

    async fn decode(&self, streams: Vec<Stream>, content: BufMut) -> Result<BufMut> {
        let file = self.order.file.node()?;
        self.order.file.announce(Step::ReadCompressed).await;
        let algorithm = algorithm(self.header.read().compression);
        decode(&file, algorithm, self.g().cluster_size(), streams, content).await
    }

    async fn read_remapped(&self, offset: u64, buf: BufMut) -> (BufMut, Result<()>) {
        // Another request has given the cluster a new mapping since this one looked: read through it.
        match self.order.file.image() {
            Some(node) => node.read(offset, buf).await,
            None => (buf, Err(BlockError::invalid("the image is not open"))),
        }
    }
}
