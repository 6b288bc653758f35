//! Writing: whole guest clusters become streams, on all cores, and get their places in the order in which they came.
//!
//! ```text
//!  plan: lease, turn ─ encode ─▶ turn comes: count references, take places ─▶ turn ends ─ store ─▶ entries set
//! ```
//!
//! Many requests encode at once; only the taking of places has an order, so that a copy lies in the file as it is on the
//! disk. A cluster that does not shrink is stored as it is, in a cluster of its own.
use super::super::entry::{Entry, Stored};
use super::super::image::Image;
use super::super::io::Leased;
use super::super::subclusters::Subclusters;
use super::place::{Place, Placed};
use super::{MOST, algorithm};
use crate::streams::{Encoded, encode_all, padded, write_run};
use block::metacache::Cause;
use block::{Action, BlockError, Flags, Request, Result, Step, Token, Turn, WritePlan};
use rt::{BoxFuture, Buf};
use std::sync::Arc;

/// Whole guest clusters that are to be stored compressed.
struct Packing {
    image: Arc<Image>,
    leased: Leased,
    turn: Option<Turn>,
    /// References of the new entries.
    placed: Placed,
    entries: Vec<Stored>,
}

impl Image {
    /// Plans compressed data for the start of a range, which begins with a cluster, and ends with one or with the disk.
    pub(in super::super) async fn plan_compressed(
        self: &Arc<Self>,
        offset: u64,
        len: u64,
        request: Request,
    ) -> Result<WritePlan> {
        let g = self.g();
        let most = g.clusters(len).min((MOST >> g.cluster_bits).max(1));
        let mut leased = self.lease_to_change(g.cluster(offset), most).await?;
        let entries = self.entries(&leased).await?;
        if request.has(Flags::IF_UNALLOCATED) {
            let holes = entries.iter().take_while(|entry| **entry == Entry::Hole).count() as u64;
            if holes == 0 {
                let allocated = entries.iter().take_while(|entry| **entry != Entry::Hole).count() as u64;
                let len = (allocated << g.cluster_bits).min(len);
                return Ok(WritePlan { len, action: Action::Nothing, token: None });
            }
            leased.count = holes;
        } else {
            leased.count = entries.len() as u64;
        }
        let len = (leased.count << g.cluster_bits).min(len);
        let turn = Some(self.packing.lock().next_turn());
        let placed = Placed { places: Vec::new(), reserved: None };
        let token = Box::new(Packing { image: self.clone(), leased, turn, placed, entries: Vec::new() });
        Ok(WritePlan { len, action: Action::Encode, token: Some(token) })
    }
}

impl Token for Packing {
    fn store(&mut self, data: Buf) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let algorithm = algorithm(self.image.header.read().compression);
            let size = self.image.g().cluster_size() as usize;
            let encoded = encode_all(algorithm, size, &data).await?;
            let lengths: Vec<usize> =
                encoded.iter().flat_map(|piece| piece.lengths.iter().copied()).collect();
            if let Some(turn) = &mut self.turn {
                turn.come().await;
            }
            let placed = self.image.place_streams(&lengths).await;
            self.turn = None;
            self.placed = placed?;
            self.image.order.file.announce(Step::WriteCompressed).await;
            self.store_encoded(&data, &encoded).await
        })
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            let Self { image, leased, placed, entries, .. } = *self;
            if entries.len() as u64 != leased.count {
                return Err(BlockError::invalid("compressed data were not stored"));
            }
            image.order.file.announce(Step::L2UpdateCompressed).await;
            let words = entries.into_iter().flat_map(|entry| entry.words(image.g())).collect();
            image.change(leased, words, placed.reserved, Some(Cause::Replaced)).commit().await
        })
    }
}

impl Packing {
    /// Stores what was encoded, each run of streams that lie together with one write, and makes the entries.
    async fn store_encoded(&mut self, data: &Buf, encoded: &[Encoded]) -> Result<()> {
        let g = self.image.g();
        let file = self.image.order.file.node()?;
        let mut places = self.placed.places.iter().copied();
        let mut cluster = 0;
        for piece in encoded {
            let (mut at, mut run) = (0, None::<(u64, usize)>);
            for (len, place) in piece.lengths.iter().zip(&mut places) {
                let from = cluster << g.cluster_bits;
                cluster += 1;
                let entry = match place {
                    Place::Plain(host) => {
                        file.write(host, self.whole(data, from), Request::DRIVER).await?;
                        let bitmap = if g.extended { Subclusters::DATA.bits() } else { 0 };
                        Stored { word: g.owned(host), bitmap }
                    }
                    Place::Stream(host) => {
                        let goes_on = run.is_some_and(|(start, first)| start + (at - first) as u64 == host);
                        if !goes_on {
                            write_run(&file, &piece.streams, run.take(), at).await?;
                            run = Some((host, at));
                        }
                        match g.stream_entry(host, *len as u64) {
                            Some(word) => Stored { word, bitmap: 0 },
                            None => return Err(BlockError::invalid("no entry can name a stream's place")),
                        }
                    }
                };
                at += len;
                self.entries.push(entry);
            }
            write_run(&file, &piece.streams, run, at).await?;
        }
        Ok(())
    }

    /// The data of a cluster, with zeroes behind the end of the disk.
    fn whole(&self, data: &Buf, from: usize) -> Buf {
        let size = self.image.g().cluster_size() as usize;
        let part = data.slice(from..data.len().min(from + size));
        if part.len() == size { part } else { padded(&part, size).freeze() }
    }
}
