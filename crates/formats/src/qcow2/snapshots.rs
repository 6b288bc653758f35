//! The table of internal snapshots.
//!
//! ```text
//!  header ── snapshots_offset ─▶ [40 bytes][extra data][id][name][padding to 8] …
//! ```
//!
//! Bounds: 65,536 snapshots, 32 MiB of table, 1 KiB of extra data each.
//! Specification: qcow2.rst, "Snapshots".
use super::directory::Directory;
use super::header::Header;
use super::header::field::{be16, be32, be64};
use block::{BlockError, Node, Opt, Options, Result};
use std::sync::Arc;

/// Most bytes of the whole table.
const MAX_TABLE_BYTES: u64 = 32 << 20;
/// Most bytes of extra data of a snapshot.
const MAX_EXTRA_BYTES: u32 = 1024;
const FIXED_BYTES: usize = 40;

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
    /// By the names of the schema's SnapshotInfo.
    pub(super) fn describe(&self) -> Options {
        let mut out = Options::new()
            .with_str("id", &self.id)
            .with_str("name", &self.name)
            .with("vm-state-size", Opt::Uint(self.vm_state_size))
            .with("date-sec", Opt::Uint(u64::from(self.date.0)))
            .with("date-nsec", Opt::Uint(u64::from(self.date.1)))
            .with("vm-clock-sec", Opt::Uint(self.vm_clock_ns / 1_000_000_000))
            .with("vm-clock-nsec", Opt::Uint(self.vm_clock_ns % 1_000_000_000));
        if let Some(icount) = self.icount {
            out.set("icount", Opt::Uint(icount));
        }
        out
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
        let mut table = Directory::new(file, "snapshot table", header.snapshots_offset, MAX_TABLE_BYTES);
        let mut list = Vec::new();
        for _ in 0..header.snapshot_count {
            table.align().await?;
            list.push(read_one(&mut table, list.len()).await?);
        }
        Ok(Self { list, table_bytes: table.taken() })
    }
}

async fn read_one(table: &mut Directory<'_>, index: usize) -> Result<Snapshot> {
    let fixed = table.take(FIXED_BYTES).await?;
    let u16_at = |at| be16(&fixed, at).unwrap_or_default();
    let u32_at = |at| be32(&fixed, at).unwrap_or_default();
    let u64_at = |at| be64(&fixed, at).unwrap_or_default();
    let extra_bytes = u32_at(36);
    if extra_bytes > MAX_EXTRA_BYTES {
        let text = format!(
            "snapshot table: entry {index} has {extra_bytes} bytes of extra data, more than the {MAX_EXTRA_BYTES} \
             there can be"
        );
        return Err(BlockError::corrupt(text));
    }
    let extra = table.take(extra_bytes as usize).await?;
    let id = table.take(usize::from(u16_at(12))).await?;
    let name = table.take(usize::from(u16_at(14))).await?;
    Ok(Snapshot {
        l1_offset: u64_at(0),
        l1_entries: u32_at(8),
        id: String::from_utf8_lossy(&id).into_owned(),
        name: String::from_utf8_lossy(&name).into_owned(),
        date: (u32_at(16), u32_at(20)),
        vm_clock_ns: u64_at(24),
        vm_state_size: be64(&extra, 0).unwrap_or_else(|| u64::from(u32_at(32))),
        icount: be64(&extra, 16).filter(|&icount| icount != u64::MAX),
        complete: extra.len() >= 16,
    })
}
