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
//! Bounds: at most [`MAX_KNOWN`] tables are remembered; what is beyond that is not checked. An image whose snapshots
//! have more is refused where these were asked for.
use super::bitmaps;
use super::entry::Geometry;
use super::header::{Header, OFFSET_MASK};
use super::snapshots::{Snapshot, Snapshots};
use api::Qcow2OverlapCheckMode;
use block::{BlockError, ErrorKind, Node, Result};
use parking_lot::{Mutex, RwLock};
use rt::BufMut;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// Most L2 tables and refcount blocks that are remembered.
const MAX_KNOWN: usize = 1 << 20;

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

/// Named host clusters.
type Named = Vec<(&'static str, Range<u64>)>;

/// A table of one cluster, as the table above it names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    /// [`L2_TABLE`] or [`REFCOUNT_BLOCK`].
    pub name: &'static str,
    /// Index of the entry that leads to it.
    pub index: u64,
}

/// Metadata that must not be written as something else.
pub(super) struct Regions {
    geometry: Geometry,
    /// What the disk can't be read without: header, active L1 table, refcount table.
    main: RwLock<Named>,
    /// What the header names beside: snapshot table, bitmap directory.
    beside: RwLock<Named>,
    snapshots: RwLock<Named>,
    known: Mutex<HashMap<u64, Known>>,
    inactive: RwLock<HashSet<u64>>,
    checks: RwLock<Checks>,
}

impl Regions {
    pub fn new(header: &Header, geometry: Geometry, checks: Checks) -> Self {
        let regions = Self {
            geometry,
            main: RwLock::default(),
            beside: RwLock::default(),
            snapshots: RwLock::default(),
            known: Mutex::default(),
            inactive: RwLock::default(),
            checks: RwLock::new(checks),
        };
        regions.rename(header);
        regions
    }

    fn table(&self, name: &'static str, offset: u64, bytes: u64) -> (&'static str, Range<u64>) {
        let first = self.geometry.cluster(offset);
        (name, first..first.saturating_add(self.geometry.clusters(bytes)))
    }

    /// Takes the places of the header's tables anew.
    pub fn rename(&self, header: &Header) {
        let there = |named: Vec<(&'static str, Range<u64>)>| {
            named.into_iter().filter(|(_, clusters)| !clusters.is_empty()).collect()
        };
        *self.main.write() = there(vec![
            ("image header", 0..1),
            self.table("active L1 table", header.l1_offset, header.l1_bytes()),
            self.table("refcount table", header.refcount_table_offset, header.refcount_table_bytes()),
        ]);
        let mut beside = vec![self.table(
            "snapshot table",
            header.snapshots_offset,
            u64::from(header.snapshot_count) * 40,
        )];
        if let Some(bitmaps) = bitmaps::consistent(header) {
            beside.push(self.table("bitmap directory", bitmaps.directory_offset, bitmaps.directory_size));
        }
        *self.beside.write() = there(beside);
    }

    /// Takes the places of the snapshots' tables.
    pub fn set_snapshots(&self, snapshots: &Snapshots) {
        let l1 = |s: &Snapshot| self.table("inactive L1 table", s.l1_offset, u64::from(s.l1_entries) * 8);
        *self.snapshots.write() = snapshots.list.iter().map(l1).filter(|(_, c)| !c.is_empty()).collect();
    }

    /// Remembers a table that was made in a cluster which was free.
    pub fn add(&self, cluster: u64, known: Known) {
        let mut all = self.known.lock();
        if all.len() < MAX_KNOWN || all.contains_key(&cluster) {
            all.insert(cluster, known);
        }
    }

    /// Remembers a table that was found in the file; whoever claimed the cluster first keeps it.
    pub fn found(&self, cluster: u64, known: Known) {
        let mut all = self.known.lock();
        let full = all.len() >= MAX_KNOWN;
        if let Entry::Vacant(vacant) = all.entry(cluster)
            && !full
        {
            vacant.insert(known);
        }
    }

    /// Who has a cluster that `known` claims too.
    pub fn claimed_by_other(&self, cluster: u64, known: Known) -> Option<Known> {
        self.known.lock().get(&cluster).copied().filter(|first| *first != known)
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
        let mut all = self.main.read().clone();
        all.extend(self.beside.read().iter().cloned());
        all.extend(self.snapshots.read().iter().cloned());
        all.sort_by_key(|(_, clusters)| clusters.start);
        let mut pairs = all.iter().zip(all.iter().skip(1));
        pairs.find(|((_, a), (_, b))| a.end > b.start).map(|((one, _), (other, _))| (*one, *other))
    }

    /// Forgets a cluster that was given up.
    pub fn remove(&self, cluster: u64) {
        self.known.lock().remove(&cluster);
    }

    /// Forgets all L2 tables and refcount blocks.
    pub fn clear(&self) {
        self.known.lock().clear();
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
        first_overlap(&self.main.read(), clusters, checks)
            .or_else(|| first_overlap(&self.beside.read(), clusters, checks))
            .or_else(|| first_overlap(&self.snapshots.read(), clusters, checks))
    }

    /// The region that the disk can't be read without, and that data would overlap. What else claims a cluster may be wrong
    /// about it, and reading harms nothing.
    pub fn main_at(&self, clusters: &Range<u64>) -> Option<&'static str> {
        first_overlap(&self.main.read(), clusters, *self.checks.read())
    }

    /// What metadata data in the host clusters would overlap, if any.
    pub fn at(&self, clusters: Range<u64>) -> Option<&'static str> {
        let checks = *self.checks.read();
        self.named_among(&clusters, checks).or_else(|| {
            let (known, inactive) = (self.known.lock(), self.inactive.read());
            let known = |c: &u64| known.get(c).map(|k| k.name).filter(|name| checks.name(name));
            let name = |c: u64| known(&c).or(inactive.contains(&c).then_some(INACTIVE_L2));
            clusters.into_iter().find_map(name)
        })
    }
}

fn first_overlap(named: &Named, clusters: &Range<u64>, checks: Checks) -> Option<&'static str> {
    let overlaps = |(name, r): &&(&str, Range<u64>)| {
        r.start < clusters.end && clusters.start < r.end && checks.name(name)
    };
    named.iter().find(overlaps).map(|(name, _)| *name)
}

/// Finds the L2 tables of all snapshots.
pub(super) async fn inactive_tables(
    file: &Arc<Node>,
    snapshots: &Snapshots,
    g: Geometry,
) -> Result<HashSet<u64>> {
    const PIECE: u64 = 256 << 10;
    let mut tables = HashSet::new();
    let mut bytes_left = file.length();
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
            if tables.len() > MAX_KNOWN {
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
