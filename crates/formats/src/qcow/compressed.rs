//! Compressed clusters: streams of raw deflate, one behind the other, as [`crate::streams`] codes them.
//!
//! Laws:
//! - the place of a stream is never given back while the image is open for writing, and never written again: streams share
//!   clusters. What nothing leads to any more is free at the next walk;
//! - streams take their places in the order in which their clusters came.
//!
//! Bounds: a plan for writing takes at most [`MOST`] bytes; a stream is shorter than a cluster, so it touches two at most.
use super::driver::{Qcow, stream_entry};
use crate::streams::{Decoded, Encoded, PIECE, Stream, decode, encode_all, padded, run_of, write_run};
use crate::two_level::{Entry, Image, Leased};
use block::metacache::Reserved;
use block::{
    Action, BlockError, ExtentKind, Flags, Request, Result, Step, Token, Turn, Turns, Want, WritePlan,
};
use futures_util::future::try_join_all;
use futures_util::lock::Mutex as AsyncMutex;
use parking_lot::Mutex;
use rt::{BoxFuture, Buf, BufMut};
use std::sync::Arc;

/// Bytes that one plan takes for writing.
const MOST: u64 = 4 << 20;

/// What an image knows of its streams.
#[derive(Default)]
pub(super) struct Streams {
    /// Where the last one ends, if its cluster has room: a byte offset.
    tail: AsyncMutex<Option<u64>>,
    /// In which order they take their places.
    packing: Mutex<Turns>,
    /// Clusters that were decoded last.
    decoded: Decoded,
}

impl Streams {
    /// The file is another one by now, or was walked through anew: what nothing led to is free.
    pub async fn forget(&self) {
        *self.tail.lock().await = None;
        self.decoded.clear();
    }
}

// ---- reading ----

impl Image<Qcow> {
    /// Reads a range of compressed clusters.
    pub(super) async fn read_encoded(&self, offset: u64, buf: BufMut) -> (BufMut, Result<()>) {
        let len = buf.len();
        match self.read_parts(offset, buf).await {
            Ok(buf) => (buf, Ok(())),
            Err(error) => (BufMut::with_len(len), Err(error.at(offset))),
        }
    }

    /// Reads the cut off clusters at the ends by themselves, and those between in pieces, several at a time.
    async fn read_parts(&self, offset: u64, mut buf: BufMut) -> Result<BufMut> {
        let g = &self.geometry;
        let (mut at, mut parts) = (offset, Vec::new());
        while !buf.is_empty() {
            let within = g.within(at);
            let whole = (buf.len() as u64 >> g.cluster_bits).min(PIECE >> g.cluster_bits);
            let (len, cut) = match within == 0 && whole > 0 {
                true => (whole << g.cluster_bits, false),
                false => ((g.cluster_size() - within).min(buf.len() as u64), true),
            };
            let part = buf.split_to(len as usize);
            parts.push(async move {
                if cut { self.read_cut(at, part).await } else { self.read_whole(g.cluster(at), part).await }
            });
            at += len;
        }
        let mut parts = try_join_all(parts).await?.into_iter();
        let mut all = parts.next().unwrap_or(buf);
        parts.for_each(|part| all.unsplit(part));
        Ok(all)
    }

    /// The stream of a guest cluster; `None` if it is not compressed any more.
    async fn stream_of(&self, cluster: u64) -> Result<Option<Stream>> {
        let page = self.page(self.geometry.page_of(cluster)).await?;
        let word = page.map_or(0, |page| page.word(self.geometry.index(cluster)));
        match self.checked(word, cluster)? {
            Entry::Stream(stream) => Ok(Some(stream)),
            _ => Ok(None),
        }
    }

    /// Reads a part of a cluster.
    async fn read_cut(&self, at: u64, mut part: BufMut) -> Result<BufMut> {
        let g = &self.geometry;
        let Some(stream) = self.stream_of(g.cluster(at)).await? else {
            return self.read_remapped(at, part).await;
        };
        let content = match self.layout.streams.decoded.find(stream) {
            Some(content) => content,
            None => {
                let buf = BufMut::with_len(g.cluster_size() as usize);
                let content = self.decode(vec![stream], buf).await?.freeze();
                self.layout.streams.decoded.keep(stream, content.clone());
                content
            }
        };
        let within = g.within(at) as usize;
        if let Some(wanted) = content.get(within..within + part.len()) {
            part.copy_from_slice(wanted);
        }
        Ok(part)
    }

    /// Reads whole clusters, those that lie together at once.
    async fn read_whole(&self, mut cluster: u64, mut rest: BufMut) -> Result<BufMut> {
        let g = &self.geometry;
        let mut done = None::<BufMut>;
        while !rest.is_empty() {
            let mut streams = Vec::new();
            for cluster in cluster..cluster + (rest.len() as u64 >> g.cluster_bits) {
                let Some(stream) = self.stream_of(cluster).await? else { break };
                streams.push(stream);
            }
            streams.truncate(run_of(&streams));
            let count = streams.len().max(1) as u64;
            let part = rest.split_to((count << g.cluster_bits) as usize);
            let part = match streams.is_empty() {
                true => self.read_remapped(cluster << g.cluster_bits, part).await?,
                false => self.decode(streams, part).await?,
            };
            match &mut done {
                Some(done) => done.unsplit(part),
                None => done = Some(part),
            }
            cluster += count;
        }
        Ok(done.unwrap_or(rest))
    }

    async fn decode(&self, streams: Vec<Stream>, content: BufMut) -> Result<BufMut> {
        let file = self.order.file.node()?;
        self.order.file.announce(Step::ReadCompressed).await;
        decode(&file, codec::Algorithm::Deflate, self.geometry.cluster_size(), streams, content).await
    }

    /// Another request has given the cluster a new mapping since the caller looked: reads through that.
    async fn read_remapped(&self, offset: u64, buf: BufMut) -> Result<BufMut> {
        let node = self.order.file.image().ok_or_else(|| BlockError::invalid("the image is not open"))?;
        let (buf, result) = node.read(offset, buf).await;
        result.map(|()| buf)
    }
}

// ---- writing ----

/// Where the content of a guest cluster goes.
#[derive(Debug, Clone, Copy)]
enum Place {
    Stream(Stream),
    /// A cluster of its own, at this byte offset: it does not shrink.
    Plain(u64),
}

/// Whole guest clusters that are to be stored compressed.
struct Packing {
    image: Arc<Image<Qcow>>,
    leased: Leased<Qcow>,
    turn: Option<Turn>,
    entries: Vec<u64>,
    /// The clusters of those that do not shrink.
    reserved: Option<Reserved>,
}

impl Image<Qcow> {
    /// Plans compressed data for the start of a range, which begins with a cluster, and ends with one or with the disk.
    pub(super) async fn plan_compressed(
        self: &Arc<Self>,
        offset: u64,
        len: u64,
        request: Request,
    ) -> Result<WritePlan> {
        let g = &self.geometry;
        if request.has(Flags::IF_UNALLOCATED) {
            let extent = self.map(offset, len, Want::Status).await?;
            if !matches!(extent.kind, ExtentKind::Hole { .. }) {
                let len = extent.len.min(len);
                return Ok(WritePlan { len, action: Action::Nothing, token: None });
            }
        }
        let most = g.clusters(len).min(MOST >> g.cluster_bits);
        let mut leased = self.lease_to_change(g.cluster(offset), most).await?;
        if request.has(Flags::IF_UNALLOCATED) {
            let holes = leased.entries.iter().take_while(|entry| **entry == Entry::Hole).count();
            if holes == 0 {
                let len = g.cluster_size().min(len);
                return Ok(WritePlan { len, action: Action::Nothing, token: None });
            }
            leased.truncate(holes);
        }
        let len = ((leased.entries.len() as u64) << g.cluster_bits).min(len);
        let turn = Some(self.layout.streams.packing.lock().next_turn());
        let token = Packing { image: self.clone(), leased, turn, entries: Vec::new(), reserved: None };
        Ok(WritePlan { len, action: Action::Encode, token: Some(Box::new(token)) })
    }

    /// Finds places for streams of these lengths, in bytes, in their order; 0 for one that does not shrink.
    async fn place(&self, encoded: &[Encoded]) -> Result<(Vec<Place>, Option<Reserved>)> {
        let mut tail = self.layout.streams.tail.lock().await;
        let (mut places, mut plain) = (Vec::new(), None::<Reserved>);
        for len in encoded.iter().flat_map(|piece| &piece.lengths) {
            if *len > 0 {
                places.push(Place::Stream(self.place_stream(&mut tail, *len as u64).await?));
                continue;
            }
            let reserved = self.allocate(1).await?.reserved;
            places.push(Place::Plain(reserved.run().start << self.geometry.cluster_bits));
            match &mut plain {
                Some(all) => all.join(reserved),
                None => plain = Some(reserved),
            }
        }
        Ok((places, plain))
    }

    /// Finds a place of `len` bytes: behind the last stream, or from there into the next cluster if that is free, or in
    /// a new one.
    async fn place_stream(&self, tail: &mut Option<u64>, len: u64) -> Result<Stream> {
        let g = &self.geometry;
        let room = tail.map_or(0, |tail| g.cluster_size() - g.within(tail));
        let offset = match *tail {
            Some(tail) if len <= room => tail,
            _ => {
                let next = self.allocate(1).await?.reserved.keep().start << g.cluster_bits;
                tail.filter(|tail| tail + room == next).unwrap_or(next)
            }
        };
        *tail = Some(offset + len).filter(|end| g.within(*end) != 0);
        self.layout.streams.decoded.forget(offset..offset + len);
        Ok(Stream { offset, len })
    }
}

impl Token for Packing {
    fn store(&mut self, data: Buf) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let size = self.image.geometry.cluster_size() as usize;
            let encoded = encode_all(codec::Algorithm::Deflate, size, &data).await?;
            if let Some(turn) = &mut self.turn {
                turn.come().await;
            }
            let placed = self.image.place(&encoded).await;
            self.turn = None;
            let (places, reserved) = placed?;
            self.reserved = reserved;
            self.image.order.file.announce(Step::WriteCompressed).await;
            self.store_encoded(&data, &encoded, &places).await
        })
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            let Self { image, leased, entries, reserved, .. } = *self;
            if entries.len() != leased.entries.len() {
                return Err(BlockError::invalid("compressed data were not stored"));
            }
            Token::commit(image.change(leased, entries, reserved)).await
        })
    }
}

impl Packing {
    /// Stores what was encoded, each run of streams that lie together with one write, and makes the entries.
    async fn store_encoded(&mut self, data: &Buf, encoded: &[Encoded], places: &[Place]) -> Result<()> {
        let g = &self.image.geometry;
        let size = g.cluster_size() as usize;
        let file = self.image.order.file.node()?;
        let mut places = places.iter().zip((0..data.len()).step_by(size));
        for piece in encoded {
            let (mut at, mut run) = (0, None::<(u64, usize)>);
            for ((place, from), len) in places.by_ref().take(piece.lengths.len()).zip(&piece.lengths) {
                match *place {
                    Place::Plain(host) => {
                        let part = data.slice(from..data.len().min(from + size));
                        let part = if part.len() == size { part } else { padded(&part, size).freeze() };
                        file.write(host, part, Request::DRIVER).await?;
                        self.entries.push(host);
                    }
                    Place::Stream(stream) => {
                        let goes_on =
                            run.is_some_and(|(start, first)| start + (at - first) as u64 == stream.offset);
                        if !goes_on {
                            write_run(&file, &piece.streams, run.take(), at).await?;
                            run = Some((stream.offset, at));
                        }
                        self.entries.push(stream_entry(stream, g));
                    }
                }
                at += len;
            }
            write_run(&file, &piece.streams, run, at).await?;
        }
        Ok(())
    }
}
