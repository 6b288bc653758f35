//! What is in the log of an image that was not closed: found, read through, and carried out.
//!
//! Entries of which each has the next number are a sequence. The one that counts ends with the greatest number of all whose tail
//! is in it, and begins there. It is carried out whole, from the front: doing so twice does no harm.
//!
//! Bounds: the log is read once, its entries once more for their checksums, up to eight times its length; what is held of it
//! is a few numbers for each entry.
//! Specification: MS-VHDX 2.3.2, 2.3.3.
use super::header::{Current, Header};
use super::log::{Descriptor, EntryHeader, SECTOR, front_len, place_of, restore};
use super::regions::Part;
use super::words::{Guid, u32_at};
use super::{MIB, read};
use block::{BlockError, Node, Request, Result};
use codec::Crc32c;
use rt::BufMut;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes read at a time.
const PIECE: u64 = 1 << 20;
/// Times the length of the log that its entries may be read for their checksums.
const MOST_WORK: u64 = 8;

/// An image as it is when its log is carried out.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub file: &'a Arc<Node>,
    pub log: Option<&'a Replay>,
}

impl Seen<'_> {
    /// Reads; zeroes beyond the end of the file.
    pub async fn read(&self, offset: u64, len: usize) -> Result<BufMut> {
        let mut bytes = read(self.file, offset, len).await?;
        let Some(log) = self.log else { return Ok(bytes) };
        let wanted = Part { offset, len: len as u64 };
        let mut changes = log.changes();
        while let Some(change) = changes.next(self.file).await? {
            let part = change.part();
            if !part.meets(wanted) {
                continue;
            }
            let data = changes.data(self.file, &change).await?;
            let (from, to) = (part.offset.max(offset), part.end().min(wanted.end()));
            let place = bytes.get_mut((from - offset) as usize..(to - offset) as usize).unwrap_or_default();
            match data {
                Some(data) => {
                    let data = data.get((from - part.offset) as usize..).unwrap_or_default();
                    place.iter_mut().zip(data).for_each(|(to, byte)| *to = *byte);
                }
                None => place.fill(0),
            }
        }
        Ok(bytes)
    }
}

/// Entries that are to be carried out.
#[derive(Debug)]
pub(super) struct Replay {
    place: Part,
    /// The entries, from the first, with their places in the log.
    entries: Vec<(u64, EntryHeader)>,
}

impl Replay {
    /// Looks for the entries that count; `None` where the header says that there are none.
    pub async fn find(file: &Arc<Node>, header: &Header) -> Result<Option<Self>> {
        if header.log == Guid::ZERO {
            return Ok(None);
        }
        let place = Part { offset: header.log_offset, len: header.log_len.into() };
        let corrupt = |text: &str| BlockError::corrupt(text).at(place.offset);
        if place.end() > file.length() {
            return Err(corrupt("the log does not end before the file does"));
        }
        let found = sound_entries(file, place, header.log).await?;
        let entries = active(&found, place.len)
            .ok_or_else(|| corrupt("the image was not closed, and its log has no entry that is whole"))?;
        let replay = Self { place, entries };
        let flushed = replay.entries.iter().map(|(_, entry)| entry.flushed).max().unwrap_or(0);
        if flushed > file.length() {
            let text =
                format!("the file has {} bytes, and had {flushed} when its log was stored", file.length());
            return Err(corrupt(&text));
        }
        Ok(Some(replay))
    }

    fn changes(&self) -> Changes<'_> {
        Changes { log: self, entry: 0, descriptor: 0, sector: 0, front: None }
    }

    /// Refuses what no change of an image can be: one of its headers, or of the log itself.
    fn judge(&self, part: Part) -> Result<()> {
        let wrong = part.offset < super::regions::TABLES[0] || part.meets(self.place);
        if wrong || part.offset.checked_add(part.len).is_none_or(|end| end > i64::MAX as u64) {
            let text = format!("the log says what is to be at {:#x}, where no entry may write", part.offset);
            return Err(BlockError::corrupt(text).at(self.place.offset));
        }
        Ok(())
    }

    /// Carries all of it out, durably, and says so in the header.
    pub async fn carry_out(&self, file: &Arc<Node>, current: &mut Current) -> Result<()> {
        // All of it is looked at before the first is done.
        let mut changes = self.changes();
        while let Some(change) = changes.next(file).await? {
            self.judge(change.part())?;
        }
        let last = self.entries.last().and_then(|(_, entry)| entry.last.checked_next_multiple_of(MIB));
        if let Some(last) = last.filter(|last| *last > file.length() && *last <= i64::MAX as u64) {
            file.set_length(last, api::PreallocMode::Off).await?;
        }
        let mut changes = self.changes();
        while let Some(change) = changes.next(file).await? {
            let part = change.part();
            match changes.data(file, &change).await? {
                Some(data) => file.write(part.offset, data.freeze(), Request::DRIVER).await?,
                None => {
                    let len = part.len.min(file.length().saturating_sub(part.offset));
                    if len > 0 {
                        file.write_zeroes(part.offset, len, Request::DRIVER).await?;
                    }
                }
            }
        }
        file.flush().await?;
        let closed = Header { log: Guid::ZERO, file_write: Guid::random(), ..current.header };
        current.store(file, closed).await
    }
}

/// A change that an entry stores.
struct LogChange {
    descriptor: Descriptor,
    /// Where its data is in the log.
    place: u64,
    sequence: u64,
}

impl LogChange {
    fn part(&self) -> Part {
        match self.descriptor {
            Descriptor::Zero { offset, len } => {
                Part { offset, len: len.min(i64::MAX as u64 - offset.min(i64::MAX as u64)) }
            }
            Descriptor::Data { offset, .. } => Part { offset, len: SECTOR as u64 },
        }
    }
}

/// The changes of all entries, one after the other.
struct Changes<'a> {
    log: &'a Replay,
    entry: usize,
    descriptor: u32,
    /// Sectors of data that the entry's changes have used.
    sector: u64,
    /// The sector of descriptors that was read last, with its place.
    front: Option<(u64, BufMut)>,
}

impl Changes<'_> {
    async fn next(&mut self, file: &Arc<Node>) -> Result<Option<LogChange>> {
        loop {
            let Some((start, entry)) = self.log.entries.get(self.entry) else { return Ok(None) };
            if self.descriptor == entry.descriptors {
                (self.entry, self.descriptor, self.sector) = (self.entry + 1, 0, 0);
                continue;
            }
            let at = place_of(self.descriptor);
            let sector = start + at / SECTOR as u64 * SECTOR as u64;
            if self.front.as_ref().is_none_or(|(place, _)| *place != sector) {
                self.front = Some((sector, self.log.sector(file, sector).await?));
            }
            let bytes = self.front.as_ref().and_then(|(_, bytes)| bytes.get(at as usize % SECTOR..));
            let descriptor = bytes.and_then(|bytes| Descriptor::parse(bytes, entry.sequence));
            let wrong = || BlockError::corrupt("an entry of the log has a descriptor of another one");
            let descriptor =
                descriptor.ok_or_else(|| wrong().at(self.log.place.offset + sector % self.log.place.len))?;
            self.descriptor += 1;
            let place = start + front_len(entry.descriptors) + self.sector * SECTOR as u64;
            if matches!(descriptor, Descriptor::Data { .. }) {
                self.sector += 1;
            }
            if place + SECTOR as u64 > start + u64::from(entry.len)
                && matches!(descriptor, Descriptor::Data { .. })
            {
                return Err(wrong().at(self.log.place.offset));
            }
            return Ok(Some(LogChange { descriptor, place, sequence: entry.sequence }));
        }
    }

    /// The data of a change; `None`: zeroes.
    async fn data(&self, file: &Arc<Node>, change: &LogChange) -> Result<Option<BufMut>> {
        let Descriptor::Data { leading, trailing, .. } = change.descriptor else { return Ok(None) };
        let mut bytes = self.log.sector(file, change.place).await?;
        if !restore(&mut bytes, leading, trailing, change.sequence) {
            let text = "a sector of the log is not that of its entry";
            return Err(
                BlockError::corrupt(text).at(self.log.place.offset + change.place % self.log.place.len)
            );
        }
        Ok(Some(bytes))
    }
}

impl Replay {
    /// A sector of the log, which goes on at its front.
    async fn sector(&self, file: &Arc<Node>, at: u64) -> Result<BufMut> {
        read(file, self.place.offset + at % self.place.len, SECTOR).await
    }
}

/// All entries of this log whose checksums are right, by their places.
async fn sound_entries(file: &Arc<Node>, place: Part, log: Guid) -> Result<BTreeMap<u64, EntryHeader>> {
    let (mut found, mut work) = (BTreeMap::new(), MOST_WORK * place.len);
    for at in (0..place.len).step_by(PIECE as usize) {
        let piece = read(file, place.offset + at, PIECE.min(place.len - at) as usize).await?;
        for (start, bytes) in (at..).step_by(SECTOR).zip(piece.chunks(SECTOR)) {
            let Some(header) = EntryHeader::parse(bytes).filter(|header| header.log == log) else { continue };
            if u64::from(header.len) > place.len || u64::from(header.tail) >= place.len {
                continue;
            }
            work = work.checked_sub(header.len.into()).ok_or_else(|| {
                BlockError::corrupt("the entries of the log overlap each other again and again")
                    .at(place.offset)
            })?;
            if checksum(file, place, start, header.len).await? == u32_at(bytes, 4) {
                found.insert(start, header);
            }
        }
    }
    Ok(found)
}

/// The checksum of an entry, which may go on at the log's front.
async fn checksum(file: &Arc<Node>, place: Part, start: u64, len: u32) -> Result<u32> {
    let (mut sum, mut at, end) = (Crc32c::default(), start, start + u64::from(len));
    while at < end {
        let from = at % place.len;
        let len = PIECE.min(end - at).min(place.len - from);
        let bytes = read(file, place.offset + from, len as usize).await?;
        sum = if at == start {
            let (front, rest) = bytes.split_at(4);
            sum.with(front).with(&[0; 4]).with(rest.get(4..).unwrap_or_default())
        } else {
            sum.with(&bytes)
        };
        at += len;
    }
    Ok(sum.sum())
}

/// The sequence that counts, of all sound entries.
fn active(found: &BTreeMap<u64, EntryHeader>, len: u64) -> Option<Vec<(u64, EntryHeader)>> {
    let by_number: BTreeMap<u64, u64> = found.iter().map(|(at, entry)| (entry.sequence, *at)).collect();
    // Entries that follow each other are looked at once for each that could be the last: few are, but of a log made up.
    let mut left = 4 * found.len().max(16);
    for (sequence, at) in by_number.iter().rev() {
        let last = found.get(at)?;
        let mut entries = vec![(*at, *last)];
        let (mut number, mut first) = (*sequence, *at);
        while first != u64::from(last.tail) {
            left = left.checked_sub(1)?;
            number = number.checked_sub(1)?;
            // What comes before ends where this one begins.
            let before = by_number.get(&number).and_then(|at| Some((*at, found.get(at)?)));
            let Some((before, entry)) =
                before.filter(|(at, entry)| (at + u64::from(entry.len)) % len == first)
            else {
                break;
            };
            entries.push((before, *entry));
            first = before;
        }
        if first == u64::from(last.tail) {
            entries.reverse();
            return Some(entries);
        }
    }
    None
}
