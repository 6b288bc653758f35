//! Reading: grains that lie together are had by one read, and decoded on all cores; what is read in small parts is decoded
//! once, as long as it is among the last.
use super::super::header::{SECTOR, u32_at};
use super::super::tables::Entry;
use super::Stream;
use block::metacache::Format;
use block::{BlockError, Result};
use codec::{Algorithm, DecodeError};
use futures_util::future::try_join_all;
use parking_lot::Mutex;
use rt::{Buf, BufMut};
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes of the disk that are decoded by one job of the computing pool, or one grain.
const PIECE: u64 = 512 << 10;
/// Bytes between two grains that are read with them rather than apart.
const GAP: u64 = 64 << 10;
/// Bytes of decoded grains that are remembered; one grain, where it has more.
const REMEMBERED: u64 = 1 << 20;
/// Bytes of a marker in front of a grain.
const MARKER: usize = 12;

/// The grains that were decoded last, by their places. A grain is stored once, so that nothing of it is ever out of date.
#[derive(Default)]
pub struct Decoded(Mutex<VecDeque<(u64, Buf)>>);

impl Decoded {
    fn find(&self, place: u64) -> Option<Buf> {
        self.0.lock().iter().find(|(known, _)| *known == place).map(|(_, content)| content.clone())
    }

    fn keep(&self, place: u64, content: Buf) {
        let most = (REMEMBERED / content.len().max(1) as u64).clamp(1, 16) as usize;
        let mut known = self.0.lock();
        known.truncate(most - 1);
        known.push_front((place, content));
    }

    pub fn clear(&self) {
        self.0.lock().clear();
    }
}

impl Stream {
    /// Reads a range that is stored compressed.
    pub async fn read_encoded(self: &Arc<Self>, offset: u64, buf: BufMut) -> (BufMut, Result<()>) {
        let len = buf.len();
        match self.read_parts(offset, buf).await {
            Ok(buf) => (buf, Ok(())),
            Err(e) => (BufMut::with_len(len), Err(e)),
        }
    }

    async fn read_parts(self: &Arc<Self>, offset: u64, mut buf: BufMut) -> Result<BufMut> {
        let shape = self.tables.shape;
        let (mut at, mut work) = (offset, Vec::new());
        while !buf.is_empty() {
            let within = at & (shape.grain() - 1);
            let left = buf.len() as u64;
            // The last grain of the disk is whole, too, though it may be cut off.
            let to_end = at + left >= shape.len;
            let whole = if to_end { left } else { left & !(shape.grain() - 1) };
            let whole = if within == 0 { whole.min(PIECE.max(shape.grain())) } else { 0 };
            let (len, places) = match whole {
                0 => (left.min(shape.grain() - within), Vec::new()),
                _ => {
                    let places = self.places_together(at, whole.div_ceil(shape.grain())).await?;
                    (whole.min((places.len() as u64) << shape.grain_bits), places)
                }
            };
            let part = buf.split_to(len as usize);
            work.push(async move {
                match places.is_empty() {
                    true => self.read_part(at, part).await,
                    false => self.decode(places, part).await,
                }
            });
            at += len;
        }
        let mut parts = try_join_all(work).await?.into_iter();
        let mut whole = parts.next().unwrap_or(buf);
        parts.for_each(|part| whole.unsplit(part));
        Ok(whole)
    }

    /// Where the grain of an offset of the disk is stored.
    async fn place(&self, offset: u64) -> Result<u64> {
        let (table, index) = self.tables.place_of(offset);
        let word = self.tables.table(table).await?.map_or(0, |page| page.word(index));
        match self.tables.entry(word) {
            Entry::At(place) if self.tables.is_sound(word, self.tables.file_len()) => Ok(place),
            _ => Err(self.tables.damaged(offset, "the grain is not stored in the file")),
        }
    }

    /// The places of the first of `count` grains that lie together in the file; at least one.
    async fn places_together(&self, offset: u64, count: u64) -> Result<Vec<u64>> {
        let grain = self.tables.shape.grain();
        let mut places = vec![self.place(offset).await?];
        for n in 1..count {
            let place = self.place(offset + n * grain).await?;
            let follows = |last: &u64| (*last + 1..=*last + grain + GAP).contains(&place);
            if !places.last().is_some_and(follows) {
                break;
            }
            places.push(place);
        }
        Ok(places)
    }

    /// Reads a part of a grain.
    async fn read_part(&self, at: u64, mut part: BufMut) -> Result<BufMut> {
        let shape = self.tables.shape;
        let grain = at >> shape.grain_bits;
        // Those that come for the same grain find it decoded.
        let _lease = self.decoding.lease(grain, grain + 1, true).await;
        let start = grain << shape.grain_bits;
        let place = self.place(start).await?;
        let content = match self.decoded.find(place) {
            Some(content) => content,
            None => {
                let len = shape.grain().min(shape.len - start);
                let content = self.decode(vec![place], BufMut::with_len(len as usize)).await?.freeze();
                self.decoded.keep(place, content.clone());
                content
            }
        };
        let within = (at - start) as usize;
        match content.get(within..within + part.len()) {
            Some(wanted) => part.copy_from_slice(wanted),
            None => return Err(self.tables.damaged(at, "the grain ends before the disk does")),
        }
        Ok(part)
    }

    /// Reads grains, each behind the one before, and decodes them to `content`, all but the last of which are whole.
    async fn decode(&self, places: Vec<u64>, mut content: BufMut) -> Result<BufMut> {
        let (Some(start), Some(last)) = (places.first().copied(), places.last().copied()) else {
            return Ok(content);
        };
        let file = self.order().file.node()?;
        let grain = self.tables.shape.grain();
        // A stream that does not shrink is a little longer than what it holds.
        let longest = grain + grain / 8 + 2 * SECTOR;
        let end = (last + longest).min(file.length());
        let (stored, result) = file.read(start, BufMut::with_len(end.saturating_sub(start) as usize)).await;
        result?;
        let has_marker = self.header.has_markers();
        let decoded = rt::compute(move || {
            for (place, content) in places.iter().zip(content.chunks_mut(grain as usize)) {
                let stored = stored.get((place - start) as usize..).unwrap_or_default();
                decode_grain(stored, has_marker, grain as usize, content).map_err(|e| (*place, e))?;
            }
            Ok(content)
        });
        decoded.await.map_err(|(place, why)| {
            let text = format!("a compressed grain at {place:#x} can't be read: {why}");
            BlockError::corrupt(text).about_file(&file.filename()).at(place)
        })
    }
}

/// Decodes the grain at the start of `stored`, of which `content` may be the front.
fn decode_grain(stored: &[u8], has_marker: bool, grain: usize, content: &mut [u8]) -> Result<(), String> {
    let stream = if has_marker {
        let len = u32_at(stored, 8).ok_or("its marker is cut off")? as usize;
        let stream = stored.get(MARKER..MARKER.saturating_add(len));
        stream.ok_or_else(|| format!("its marker tells {len} bytes, which is too much"))?
    } else {
        stored
    };
    let long_enough = |len: usize| {
        move |e: DecodeError| match e {
            // What an older program stored of the last grain ends with the disk.
            DecodeError::TooShort(_, got, _) if got >= len => Ok(()),
            e => Err(e.to_string()),
        }
    };
    if content.len() == grain {
        return codec::decode(Algorithm::Zlib, stream, content).or_else(long_enough(grain));
    }
    let mut whole = vec![0; grain];
    codec::decode(Algorithm::Zlib, stream, &mut whole).or_else(long_enough(content.len()))?;
    whole.iter().zip(content).for_each(|(from, to)| *to = *from);
    Ok(())
}
