//! Where streams lie in the file: behind the one before, as far as there is room.
use super::super::alloc::Alloc;
use super::super::image::Image;
use block::metacache::{Reserved, Run};
use block::{Result, Step};

/// Where the content of a guest cluster goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A stream: its byte offset in the file.
    Stream(u64),
    /// A cluster of its own, at this byte offset: it does not shrink.
    Plain(u64),
}

/// Places, and the references that they are.
pub(super) struct Placed {
    pub places: Vec<Place>,
    pub reserved: Option<Reserved>,
}

impl Placed {
    fn add(&mut self, place: Place, reserved: Reserved) {
        self.places.push(place);
        match &mut self.reserved {
            Some(all) => all.join(reserved),
            None => self.reserved = Some(reserved),
        }
    }
}

impl Image {
    /// Finds places for streams of these lengths, in bytes, in their order; 0 for one that does not shrink.
    pub(super) async fn place_streams(&self, lengths: &[usize]) -> Result<Placed> {
        let mut placed = Placed { places: Vec::with_capacity(lengths.len()), reserved: None };
        let mut alloc = self.alloc.lock().await;
        self.take_returned(&mut alloc).await?;
        for len in lengths {
            let (place, reserved) = match *len {
                0 => self.place_plain(&mut alloc).await?,
                len => self.place_stream(&mut alloc, len as u64).await?,
            };
            placed.add(place, reserved);
        }
        Ok(placed)
    }

    async fn place_plain(&self, alloc: &mut Alloc) -> Result<(Place, Reserved)> {
        let end = alloc.end();
        let run = self.find(alloc, 1, false).await?;
        let reserved = self.reserve(alloc, run).await?;
        self.has_grown(end, run);
        Ok((Place::Plain(run.start << self.g().cluster_bits), reserved))
    }

    /// Finds a place of `len` bytes, which are less than a cluster: in the tail, or from there into the next cluster if
    /// that is free, or in a new one.
    async fn place_stream(&self, alloc: &mut Alloc, len: u64) -> Result<(Place, Reserved)> {
        self.order.file.announce(Step::ClusterAllocBytes).await;
        let g = self.g();
        let tail = match alloc.tail {
            Some(tail) if self.takes_one_more(g.cluster(tail)).await? => Some(tail),
            _ => None,
        };
        let room = tail.map_or(0, |tail| g.cluster_size() - g.within(tail));
        if let Some(tail) = tail.filter(|_| len <= room) {
            let reserved = self.reserve(alloc, Run { start: g.cluster(tail), count: 1 }).await?;
            return Ok((self.placed_at(alloc, tail, len), reserved));
        }
        let end = alloc.end();
        let found = self.find(alloc, 1, false).await?;
        let next = found.start << g.cluster_bits;
        let (offset, run) = match tail {
            Some(tail) if tail + room == next => (tail, Run { start: g.cluster(tail), count: 2 }),
            _ => (next, found),
        };
        if g.stream_entry(offset, len).is_none() {
            // Entries have no room for so large an offset beside the length.
            let reserved = self.reserve(alloc, found).await?;
            return Ok((Place::Plain(next), reserved));
        }
        let reserved = self.reserve(alloc, run).await?;
        self.has_grown(end, found);
        Ok((self.placed_at(alloc, offset, len), reserved))
    }

    fn placed_at(&self, alloc: &mut Alloc, offset: u64, len: u64) -> Place {
        let end = offset + len;
        alloc.tail = Some(end).filter(|end| self.g().within(*end) != 0);
        // What was decoded of streams that were here before is of no use any more.
        self.decoded.forget(offset..end);
        Place::Stream(offset)
    }

    /// Whether the count of a cluster can have one more.
    async fn takes_one_more(&self, cluster: u64) -> Result<bool> {
        let most = u64::MAX >> (64 - (1 << self.g().refcount_order));
        let count = self.count_page(cluster).await?.map_or(0, |counts| counts.get(cluster));
        Ok(count > 0 && count < most)
    }

    fn has_grown(&self, end: u64, run: Run) {
        if run.start >= end {
            self.order.freed.grow(run.count);
        }
    }
}
