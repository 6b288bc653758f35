//! Which host clusters hold metadata, so that nothing else is written there, as far as that is checked ([`Checks`]).
//!
//! Three kinds: the few regions that the header and the snapshots name; every L2 table and refcount block that was seen
//! since the image was opened (their tables are loaded by pages); and, where `overlap-check.inactive-l2` asks for it,
//! the L2 tables of all snapshots, which are looked for when the image becomes writable. A cluster that the refcounts call free and that is known
//! here means corrupt refcounts: it must not be handed out.
//!
//! A table that the header or another table leads to and that overlaps metadata is refused in any case: what it leads to
//! can't be told.
//!
//! Bounds: an image whose snapshots have more than [`MOST_TABLES`] tables is refused where these were asked for.
use super::bitmaps;
use super::directory::room_for_tables;
use super::entry::Geometry;
use super::header::{Header, OFFSET_MASK};
use super::snapshots::{Snapshot, Snapshots};
use api::Qcow2OverlapCheckMode;
use block::metacache::{Claim, KnownTables, MOST_TABLES, Region, Regions};
use block::{BlockError, ErrorKind, Node, Result};
use parking_lot::RwLock;
use rt::BufMut;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

/// What an L2 table is called in messages.
pub(super) const L2_TABLE: &str = "active L2 table";
/// What a refcount block is called in messages.
pub(super) const REFCOUNT_BLOCK: &str = "refcount block";

/// What a snapshot's L2 table is called in messages.
pub(super) const INACTIVE_L2: &str = "inactive L2 table";

/// Each structure that is checked: its option's name, what it is called in messages, and the smallest template it
/// belongs to.
const STRUCTURES: [(&str, &str, Template); 9] = [
    ("main-header", "image header", Template::Constant),
    ("active-l1", "active L1 table", Template::Constant),
    ("active-l2", L2_TABLE, Template::Cached),
    ("refcount-table", "refcount table", Template::Constant),
    ("refcount-block", REFCOUNT_BLOCK, Template::Cached),
    ("snapshot-table", "snapshot table", Template::Constant),
    ("inactive-l1", "inactive L1 table", Template::Cached),
    ("inactive-l2", INACTIVE_L2, Template::All),
    ("bitmap-directory", "bitmap directory", Template::Constant),
];

/// Each has all that the one before has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Template {
    None,
    Constant,
    Cached,
    All,
}

/// Which structures nothing is written over: a bit for each row of [`STRUCTURES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Checks(u16);

impl Checks {
    /// What is checked where nothing is asked for: all but what must be looked for.
    pub const CACHED: Self = Self::upto(Template::Cached);

    /// What a template stands for.
    pub fn of_template(mode: Qcow2OverlapCheckMode) -> Self {
        Self::upto(match mode {
            Qcow2OverlapCheckMode::None => Template::None,
            Qcow2OverlapCheckMode::Constant => Template::Constant,
            Qcow2OverlapCheckMode::Cached => Template::Cached,
            Qcow2OverlapCheckMode::All => Template::All,
        })
    }

    const fn upto(template: Template) -> Self {
        let (mut bits, mut row) = (0, 0);
        while row < STRUCTURES.len() {
            bits |= ((STRUCTURES[row].2 as u16 <= template as u16) as u16) << row;
            row += 1;
        }
        Self(bits)
    }

    /// How many structures are checked.
    #[cfg(test)]
    pub fn count(self) -> u32 {
        self.0.count_ones()
    }

    fn bit(of: impl Fn(&(&str, &str, Template)) -> bool) -> u16 {
        STRUCTURES.iter().position(of).map_or(0, |row| 1 << row)
    }

    /// Turns the check of this option on or off.
    pub fn set(&mut self, option: &str, on: bool) {
        let bit = Self::bit(|row| row.0 == option);
        self.0 = if on { self.0 | bit } else { self.0 & !bit };
    }

    /// Whether the check of this option is on.
    pub fn has(self, option: &str) -> bool {
        self.0 & Self::bit(|row| row.0 == option) != 0
    }

    /// Whether the structure of this name is checked.
    fn name(self, what: &str) -> bool {
        self.0 & Self::bit(|row| row.1 == what) != 0
    }
}

/// Metadata that must not be written as something else.
pub(super) struct Overlap {
    geometry: Geometry,
    /// What the disk can't be read without: header, active L1 table, refcount table.
    main: Regions,
    /// What the header names beside: snapshot table, bitmap directory.
    beside: Regions,
    snapshots: Regions,
    /// L2 tables and refcount blocks.
    pub tables: KnownTables,
    inactive: RwLock<HashSet<u64>>,
    checks: RwLock<Checks>,
}

impl Overlap {
    pub fn new(header: &Header, geometry: Geometry, checks: Checks) -> Self {
        let overlap = Self {
            geometry,
            main: Regions::default(),
            beside: Regions::default(),
            snapshots: Regions::default(),
            tables: KnownTables::default(),
            inactive: RwLock::default(),
            checks: RwLock::new(checks),
        };
        overlap.rename(header);
        overlap
    }

    fn table(&self, name: &'static str, offset: u64, bytes: u64) -> Region {
        let first = self.geometry.cluster(offset);
        Region { name, blocks: first..first.saturating_add(self.geometry.clusters(bytes)) }
    }

    /// Takes the places of the header's tables anew.
    pub fn rename(&self, header: &Header) {
        self.main.set([
            Region { name: "image header", blocks: 0..1 },
            header.encryption().map_or(Region { name: "image header", blocks: 0..0 }, |(offset, len)| {
                self.table("image header", offset, len)
            }),
            self.table("active L1 table", header.l1_offset, header.l1_bytes()),
            self.table("refcount table", header.refcount_table_offset, header.refcount_table_bytes()),
        ]);
        let snapshots = u64::from(header.snapshot_count) * 40;
        let directory = bitmaps::consistent(header)
            .map(|b| self.table("bitmap directory", b.directory_offset, b.directory_size));
        let snapshots = self.table("snapshot table", header.snapshots_offset, snapshots);
        self.beside.set([snapshots].into_iter().chain(directory));
    }

    /// Takes the places of the snapshots' tables.
    pub fn set_snapshots(&self, snapshots: &Snapshots) {
        let l1 = |s: &Snapshot| self.table("inactive L1 table", s.l1_offset, u64::from(s.l1_entries) * 8);
        self.snapshots.set(snapshots.list.iter().map(l1));
    }

    /// Takes the clusters of the snapshots' L2 tables (`overlap-check.inactive-l2`); none where nobody asked for it.
    pub fn set_inactive(&self, tables: HashSet<u64>) {
        *self.inactive.write() = tables;
    }

    /// Whether a cluster is known as an L2 table of a snapshot.
    pub fn is_inactive_table(&self, cluster: u64) -> bool {
        self.inactive.read().contains(&cluster)
    }

    /// Two regions of the header and the snapshots that overlap.
    pub fn conflict(&self) -> Option<(&'static str, &'static str)> {
        Regions::conflict([&self.main, &self.beside, &self.snapshots])
    }

    /// Takes other checks.
    pub fn set_checks(&self, checks: Checks) {
        *self.checks.write() = checks;
    }

    /// The region that the header or a snapshot names and that a table overlaps.
    pub fn named_at(&self, clusters: &Range<u64>) -> Option<&'static str> {
        self.named_among(clusters, Checks::upto(Template::All))
    }

    fn named_among(&self, clusters: &Range<u64>, checks: Checks) -> Option<&'static str> {
        let lists = [&self.main, &self.beside, &self.snapshots];
        lists.into_iter().find_map(|list| list.overlapped(clusters, |name| checks.name(name)))
    }

    /// The region that the disk can't be read without, and that data would overlap. What else claims a cluster may be wrong
    /// about it, and reading harms nothing.
    pub fn main_at(&self, clusters: &Range<u64>) -> Option<&'static str> {
        let checks = *self.checks.read();
        self.main.overlapped(clusters, |name| checks.name(name))
    }

    /// What metadata data in the host clusters would overlap, if any.
    pub fn at(&self, clusters: Range<u64>) -> Option<&'static str> {
        let checks = *self.checks.read();
        let inactive = |clusters: Range<u64>| {
            let inactive = self.inactive.read();
            clusters.into_iter().any(|c| inactive.contains(&c)).then_some(INACTIVE_L2)
        };
        self.named_among(&clusters, checks)
            .or_else(|| self.tables.overlapped(&clusters, |name| checks.name(name)))
            .or_else(|| inactive(clusters))
    }
}

/// The claim of an L2 table.
pub(super) fn l2_table(index: u64) -> Claim {
    Claim { name: L2_TABLE, index }
}

/// The claim of a refcount block.
pub(super) fn refcount_block(index: u64) -> Claim {
    Claim { name: REFCOUNT_BLOCK, index }
}

/// Finds the L2 tables of all snapshots.
pub(super) async fn inactive_tables(
    file: &Arc<Node>,
    snapshots: &Snapshots,
    g: Geometry,
) -> Result<HashSet<u64>> {
    const PIECE: u64 = 256 << 10;
    let mut tables = HashSet::new();
    let mut bytes_left = room_for_tables(file);
    for snapshot in &snapshots.list {
        let bytes = u64::from(snapshot.l1_entries) * 8;
        // No two snapshots share an L1 table: together they are never longer than the file.
        bytes_left = bytes_left.checked_sub(bytes).ok_or_else(too_many)?;
        let mut at = 0;
        while at < bytes {
            let len = PIECE.min(bytes - at);
            let place = snapshot.l1_offset.saturating_add(at);
            let (piece, result) = file.read(place, BufMut::with_len(len as usize)).await;
            result.map_err(|e| e.context("reading the L1 tables of snapshots"))?;
            let hosts = piece.as_chunks().0.iter().map(|word| u64::from_be_bytes(*word) & OFFSET_MASK);
            tables
                .extend(hosts.filter(|host| *host != 0 && g.within(*host) == 0).map(|host| g.cluster(host)));
            if tables.len() > MOST_TABLES {
                return Err(too_many());
            }
            at += len;
        }
    }
    Ok(tables)
}

fn too_many() -> BlockError {
    let text =
        "the snapshots have more tables than 'overlap-check.inactive-l2' can keep; leave that check off";
    BlockError::new(ErrorKind::Limit, text)
}
