//! Writing: whole grains become streams, on all cores, and are appended in the order in which they came.
//!
//! ```text
//!  plan: lease, turn ─ encode ─▶ turn comes: take the place behind the last ─▶ turn ends ─ one append ─▶ entries set
//! ```
use super::super::header::SECTOR;
use super::super::tables::{Entry, TablePage};
use super::{Stream, sector};
use block::metacache::{Change, Format};
use block::{
    Action, BlockError, ErrorKind, Flags, Lease, MapChange, Request, Result, Token, Turn, WritePlan,
};
use codec::Algorithm;
use futures_util::future::try_join_all;
use rt::{BoxFuture, Buf, BufMut};
use std::sync::Arc;

/// Bytes that one plan takes, or one grain.
const MOST: u64 = 4 << 20;
/// Bytes that are encoded by one job of the computing pool, or one grain.
const PIECE: u64 = 512 << 10;
/// The entry of a zeroed grain.
const ZEROED: u32 = 1;

/// Whole grains that are to be appended.
struct Packing {
    image: Arc<Stream>,
    page: Arc<TablePage>,
    first: usize,
    /// The first grain of the disk, and how many.
    grain: u64,
    count: u64,
    lease: Lease,
    turn: Option<Turn>,
    entries: Vec<u32>,
}

/// Some grains with their markers, each in whole sectors.
struct Encoded {
    bytes: BufMut,
    /// Bytes of each.
    lengths: Vec<usize>,
}

impl Stream {
    /// Plans a change of the start of a range of this file's part of the disk.
    pub async fn prepare(
        self: &Arc<Self>,
        offset: u64,
        len: u64,
        change: MapChange,
        request: Request,
    ) -> Result<WritePlan> {
        self.first_write().await?;
        let shape = self.tables.shape;
        let (table, first) = self.tables.place_of(offset);
        let (grain, within) = (offset >> shape.grain_bits, offset & (shape.grain() - 1));
        let most = (MOST >> shape.grain_bits).max(1).min(shape.entries - first as u64);
        let count = (within + len).div_ceil(shape.grain()).min(most);
        let lease = self.leases.lease(grain, grain + count, true).await;
        let page = self.table_to_change(table).await?;
        self.append_crowded(&page).await?;
        let kind = |word| self.tables.entry(word);
        let front = kind(page.word(first));
        let alike = |word: &u32| std::mem::discriminant(&kind(*word)) == std::mem::discriminant(&front);
        let count = page.words_from(first).take(count as usize).take_while(alike).count() as u64;
        let len = len.min((count << shape.grain_bits) - within);
        let without = |action| Ok(WritePlan { len, action, token: None });
        let fill = request.has(Flags::IF_UNALLOCATED);
        let whole = within == 0 && (len.is_multiple_of(shape.grain()) || offset + len >= shape.len);
        match (change, front) {
            (_, Entry::At(_) | Entry::Zero) if fill => without(Action::Nothing),
            (MapChange::Discard, _) | (MapChange::Zero, Entry::Zero) => without(Action::Nothing),
            (MapChange::Zero, Entry::Hole) if !self.tables.has_backing() => without(Action::Nothing),
            (MapChange::Zero, _) if shape.zeroed && whole => {
                let entries = vec![ZEROED; count as usize];
                let change =
                    Change { image: self.clone(), page, first, entries, reserved: None, cause: None, lease };
                Ok(WritePlan { len, action: Action::Metadata, token: Some(Box::new(change)) })
            }
            (MapChange::Zero, _) => without(Action::AsData),
            (MapChange::Data, Entry::At(_)) => {
                let text = "Could not write to allocated cluster for streamOptimized: a grain is stored once";
                Err(BlockError::new(ErrorKind::Io, text).at(offset))
            }
            (MapChange::Data, _) if !whole => {
                let text = format!(
                    "grains of streamOptimized images are stored whole, {} bytes each",
                    shape.grain()
                );
                Err(BlockError::invalid(text).at(offset))
            }
            (MapChange::Data, _) => {
                let turn = Some(self.order_of_appends.lock().next_turn());
                let image = self.clone();
                let token = Packing { image, page, first, grain, count, lease, turn, entries: Vec::new() };
                Ok(WritePlan { len, action: Action::Encode, token: Some(Box::new(token)) })
            }
        }
    }

    /// Whether the mapping of a range is durable: no table waits for an epoch.
    pub fn is_settled(&self, offset: u64, len: u64) -> bool {
        let bits = self.tables.shape.grain_bits;
        let leased = self.leases.try_lease(offset >> bits, ((offset + len - 1) >> bits) + 1, false);
        leased.is_some_and(|_lease| self.order().tables.dirty.is_empty())
    }
}

impl Token for Packing {
    fn store(&mut self, data: Buf) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let encoded = self.encode(&data).await?;
            if let Some(turn) = &mut self.turn {
                turn.come().await;
            }
            let place = self.take_place(&encoded).await;
            self.turn = None;
            self.image.order().file.write(place?, joined(&encoded).freeze()).await
        })
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            let Self { image, page, first, count, lease, entries, .. } = *self;
            if entries.len() as u64 != count {
                return Err(BlockError::invalid("compressed data were not stored"));
            }
            Box::new(Change { image, page, first, entries, reserved: None, cause: None, lease })
                .commit()
                .await
        })
    }
}

/// All pieces in one buffer.
fn joined(pieces: &[Encoded]) -> BufMut {
    let mut all = BufMut::with_len(pieces.iter().map(|piece| piece.bytes.len()).sum());
    let mut rest = &mut all[..];
    for piece in pieces {
        let (to, behind) = rest.split_at_mut(piece.bytes.len());
        to.copy_from_slice(&piece.bytes);
        rest = behind;
    }
    all
}

impl Packing {
    /// Encodes all grains, several pieces at a time.
    async fn encode(&self, data: &Buf) -> Result<Vec<Encoded>> {
        let size = self.image.tables.shape.grain();
        let piece = PIECE.max(size) as usize;
        let sectors = size / SECTOR;
        let jobs = (0..data.len()).step_by(piece).map(|start| {
            let part = data.slice(start..data.len().min(start + piece));
            let first = (self.grain + start as u64 / size) * sectors;
            async move { rt::compute(move || encode(&part, size as usize, first)).await }
        });
        try_join_all(jobs).await
    }

    /// Takes the place behind what was appended last, and makes the entries.
    async fn take_place(&mut self, encoded: &[Encoded]) -> Result<u64> {
        let mut tail = self.image.tail.lock().await;
        let place = tail.end;
        let mut at = place;
        for len in encoded.iter().flat_map(|piece| &piece.lengths) {
            self.entries.push(sector(at)?);
            at += *len as u64;
        }
        tail.end = at;
        Ok(place)
    }
}

/// Encodes grains of `size` bytes, the last of which may be cut off; the first begins at the sector `first` of the disk.
fn encode(data: &[u8], size: usize, first: u64) -> Result<Encoded> {
    const MARKER: usize = 12;
    // Noise becomes a little longer: five bytes for each 64 KiB, and what is around a stream.
    let room = (MARKER + size + size / 4096 + 64).next_multiple_of(SECTOR as usize);
    let grains = data.len().div_ceil(size);
    let mut bytes = BufMut::with_len(grains * room);
    let (mut at, mut lengths) = (0, Vec::with_capacity(grains));
    for (n, grain) in (0..).zip(data.chunks(size)) {
        let target = bytes.get_mut(at..at + room).unwrap_or_default();
        let (marker, target) = target.split_at_mut_checked(MARKER).unwrap_or_default();
        let encoded = match grain.len() == size {
            true => codec::encode(Algorithm::Zlib, grain, target),
            false => codec::encode(Algorithm::Zlib, &padded(grain, size), target),
        };
        let len = encoded
            .ok_or_else(|| BlockError::invalid("a grain became longer than it may when it was compressed"))?;
        let sector = first + n * (size as u64 / SECTOR);
        let fields = sector.to_le_bytes().into_iter().chain((len as u32).to_le_bytes());
        marker.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
        let whole = (MARKER + len).next_multiple_of(SECTOR as usize);
        if let Some(rest) = target.get_mut(len..whole - MARKER) {
            rest.fill(0);
        }
        lengths.push(whole);
        at += whole;
    }
    bytes.truncate(at);
    Ok(Encoded { bytes, lengths })
}

/// A part of a grain, and zeroes.
fn padded(part: &[u8], size: usize) -> Vec<u8> {
    let mut whole = part.to_vec();
    whole.resize(size, 0);
    whole
}
