//! The table of internal snapshots.
//!
//! ```text
//!  header ── snapshots_offset ─▶ [40 bytes][extra data][id][name][padding to 8] …
//! ```
//!
//! Where things are: here the table · `change` making, applying, deleting and showing a snapshot · `share` counting what an L1
//! table leads to · `state` machine state behind the disk.
//!
//! Bounds: 65,536 snapshots, 64 MiB of table, 1 KiB of extra data each; no more than 65,535 are made.
//! Specification: qcow2.rst, "Snapshots".
mod change;
mod share;
mod state;

pub(super) use share::Table;

use super::directory::Directory;
use super::header::Header;
use crate::field::{be16, be32, be64, until_nul};
use api::SnapshotInfo;
use block::{BlockError, NewSnapshot, Node, Result};
use std::sync::Arc;

/// Most bytes of the whole table.
pub(super) const MAX_TABLE_BYTES: u64 = 64 << 20;
/// Most bytes of extra data of a snapshot.
pub(super) const MAX_EXTRA_BYTES: u32 = 1024;
/// Bytes before the extra data.
pub(super) const FIXED_BYTES: usize = 40;
/// Bytes of extra data that version 3 demands: size of the machine state, size of the disk.
const LEAST_EXTRA_BYTES: usize = 16;

/// An entry of the table as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The part that every entry has; the lengths in it count only where an entry is read.
    pub fixed: [u8; FIXED_BYTES],
    /// Extra data, known and unknown.
    pub extra: Vec<u8>,
    /// Its id.
    pub id: Vec<u8>,
    /// Its name.
    pub name: Vec<u8>,
}

impl Entry {
    /// Bytes of extra data, id and name, as the fixed part tells them.
    pub(super) fn lengths(fixed: &[u8]) -> (u32, u16, u16) {
        let u16_at = |at| be16(fixed, at).unwrap_or_default();
        (be32(fixed, 36).unwrap_or_default(), u16_at(12), u16_at(14))
    }

    /// The entry of a new snapshot of a disk of `disk_size` bytes, which has no L1 table yet.
    fn new(new: &NewSnapshot, id: &str, disk_size: u64) -> Result<Self> {
        if new.name.len() > usize::from(u16::MAX) {
            return Err(BlockError::invalid("a snapshot's name has at most 65535 bytes"));
        }
        let mut fixed = [0; FIXED_BYTES];
        let number = |n: u128| u64::try_from(n).unwrap_or(u64::MAX);
        let small_state = u32::try_from(new.vm_state_size).unwrap_or(0);
        let fields: [(usize, Vec<u8>); 4] = [
            (16, u32::try_from(new.date.as_secs()).unwrap_or(u32::MAX).to_be_bytes().to_vec()),
            (20, new.date.subsec_nanos().to_be_bytes().to_vec()),
            (24, number(new.vm_clock.as_nanos()).to_be_bytes().to_vec()),
            (32, small_state.to_be_bytes().to_vec()),
        ];
        for (at, bytes) in fields {
            fixed.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = from);
        }
        let extra = [new.vm_state_size, disk_size, new.icount.unwrap_or(u64::MAX)];
        let extra = extra.map(u64::to_be_bytes).concat();
        Ok(Self { fixed, extra, id: id.as_bytes().to_vec(), name: new.name.as_bytes().to_vec() })
    }

    /// Sets where its L1 table is.
    fn set_l1(&mut self, offset: u64, entries: u32) {
        let bytes = offset.to_be_bytes().into_iter().chain(entries.to_be_bytes());
        self.fixed.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    }

    /// Virtual size of the disk that it shows, where it says so; the disk's own else.
    fn disk_size(&self) -> Option<u64> {
        be64(&self.extra, 8).filter(|_| self.is_complete())
    }

    /// Adds what the image's version demands, where that is missing.
    fn complete_for(&mut self, header: &Header) {
        if header.version >= 3 && !self.is_complete() {
            self.complete(header.virtual_size());
        }
    }

    /// Where its L1 table is, and how many entries that has.
    pub(super) fn l1(&self) -> (u64, u32) {
        (be64(&self.fixed, 0).unwrap_or_default(), be32(&self.fixed, 8).unwrap_or_default())
    }

    /// The extra data has what version 3 demands.
    pub(super) fn is_complete(&self) -> bool {
        self.extra.len() >= LEAST_EXTRA_BYTES
    }

    /// Bytes of saved machine state.
    fn vm_state_size(&self) -> u64 {
        be64(&self.extra, 0).unwrap_or_else(|| be32(&self.fixed, 32).unwrap_or_default().into())
    }

    /// Adds what version 3 demands: `disk_size` is taken for the size that the disk had.
    pub(super) fn complete(&mut self, disk_size: u64) {
        self.extra = [self.vm_state_size(), disk_size, u64::MAX].map(u64::to_be_bytes).concat();
    }

    /// Its bytes in the table, without padding.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut fixed = self.fixed;
        let lengths = [
            (36, (self.extra.len() as u32).to_be_bytes().to_vec()),
            (12, (self.id.len() as u16).to_be_bytes().to_vec()),
            (14, (self.name.len() as u16).to_be_bytes().to_vec()),
        ];
        for (at, bytes) in lengths {
            fixed.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = from);
        }
        [&fixed[..], &self.extra, &self.id, &self.name].concat()
    }

    /// What it means.
    pub(super) fn snapshot(&self) -> Snapshot {
        let u32_at = |at| be32(&self.fixed, at).unwrap_or_default();
        let (l1_offset, l1_entries) = self.l1();
        let text = |bytes: &[u8]| String::from_utf8_lossy(until_nul(bytes)).into_owned();
        Snapshot {
            l1_offset,
            l1_entries,
            id: text(&self.id),
            name: text(&self.name),
            date: (u32_at(16), u32_at(20)),
            vm_clock_ns: be64(&self.fixed, 24).unwrap_or_default(),
            vm_state_size: self.vm_state_size(),
            icount: be64(&self.extra, 16).filter(|&icount| icount != u64::MAX),
            complete: self.is_complete(),
        }
    }
}

/// One snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// Where its L1 table is.
    pub l1_offset: u64,
    /// Entries of its L1 table.
    pub l1_entries: u32,
    /// Its id, unique in the image.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was taken: seconds since the epoch, and nanoseconds beyond.
    pub date: (u32, u32),
    /// How long the guest had run, in nanoseconds.
    pub vm_clock_ns: u64,
    /// Bytes of saved machine state.
    pub vm_state_size: u64,
    /// Instruction count of record and replay.
    pub icount: Option<u64>,
    /// The extra data has what version 3 demands.
    pub complete: bool,
}

impl Snapshot {
    /// The entry says nothing at all: no table, no name.
    pub(super) fn is_void(&self) -> bool {
        (self.l1_offset, self.l1_entries) == (0, 0) && self.id.is_empty() && self.name.is_empty()
    }

    /// What `info` tells of it. The schema's numbers end at `i64::MAX`.
    pub(super) fn describe(&self) -> SnapshotInfo {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        SnapshotInfo {
            icount: self.icount.map(number),
            vm_clock_nsec: number(self.vm_clock_ns % 1_000_000_000),
            name: self.name.clone(),
            date_sec: i64::from(self.date.0),
            date_nsec: i64::from(self.date.1),
            vm_clock_sec: number(self.vm_clock_ns / 1_000_000_000),
            id: self.id.clone(),
            vm_state_size: number(self.vm_state_size),
        }
    }
}

/// All snapshots of an image, and the bytes their table takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Snapshots {
    /// In the order of the table.
    pub list: Vec<Snapshot>,
    /// Bytes of the table.
    pub table_bytes: u64,
}

impl Snapshots {
    /// Reads the table.
    pub(super) async fn read(file: &Arc<Node>, header: &Header) -> Result<Self> {
        let (mut list, mut text) = (Vec::new(), 0);
        let table_bytes = each_entry(file, header, |entry| {
            let snapshot = entry.snapshot();
            text += snapshot.id.len() + snapshot.name.len();
            if text as u64 <= MAX_TABLE_BYTES {
                list.push(snapshot);
            }
        })
        .await?;
        if text as u64 > MAX_TABLE_BYTES {
            return Err(BlockError::corrupt("snapshot table: its names are no UTF-8, and too long as text"));
        }
        Ok(Self { list, table_bytes })
    }
}

/// How many bytes a table of these entries has.
fn encoded_bytes(entries: &[Entry]) -> u64 {
    let bytes = |entry: &Entry| (FIXED_BYTES + entry.extra.len() + entry.id.len() + entry.name.len()) as u64;
    entries.iter().fold(0u64, |table, entry| table.next_multiple_of(8) + bytes(entry))
}

/// The bytes of a table.
pub(super) fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut table = Vec::with_capacity(encoded_bytes(entries) as usize);
    for entry in entries {
        table.resize(table.len().next_multiple_of(8), 0);
        table.extend(entry.encode());
    }
    table
}

/// How many bytes the table takes.
async fn table_bytes(file: &Arc<Node>, header: &Header) -> Result<u64> {
    each_entry(file, header, |_| {}).await
}

/// Reads the table as it is stored.
pub(super) async fn read_entries(file: &Arc<Node>, header: &Header) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    each_entry(file, header, |entry| entries.push(entry)).await?;
    Ok(entries)
}

/// Reads entry by entry; answers the bytes of the table.
async fn each_entry(file: &Arc<Node>, header: &Header, mut found: impl FnMut(Entry) + Send) -> Result<u64> {
    if let Some(fault) = header.snapshots_fault(file.length()) {
        return Err(fault.into());
    }
    let mut table = Directory::new(file, "snapshot table", header.snapshots_offset, MAX_TABLE_BYTES);
    for index in 0..header.snapshot_count {
        table.align().await?;
        found(read_one(&mut table, index).await?);
    }
    Ok(table.taken())
}

async fn read_one(table: &mut Directory<'_>, index: u32) -> Result<Entry> {
    let bytes = table.take(FIXED_BYTES).await?;
    let mut fixed = [0; FIXED_BYTES];
    fixed.iter_mut().zip(&bytes).for_each(|(to, from)| *to = *from);
    let (extra_bytes, id_bytes, name_bytes) = Entry::lengths(&fixed);
    if extra_bytes > MAX_EXTRA_BYTES {
        let text = format!(
            "snapshot table: entry {index} has {extra_bytes} bytes of extra data, more than the {MAX_EXTRA_BYTES} \
             there can be"
        );
        return Err(BlockError::corrupt(text));
    }
    Ok(Entry {
        fixed,
        extra: table.take(extra_bytes as usize).await?,
        id: table.take(usize::from(id_bytes)).await?,
        name: table.take(usize::from(name_bytes)).await?,
    })
}
