//! Which host clusters hold metadata, so that nothing else is ever written there.
//!
//! Two kinds: the few regions that the header names, and every L2 table and refcount block that was seen since the
//! image was opened (their tables are loaded by pages). A cluster that the refcounts call free and that is known
//! here means corrupt refcounts: it must not be handed out.
//!
//! Bounds: at most [`MAX_KNOWN`] tables are remembered; what is beyond that is not checked.
use super::entry::Geometry;
use super::header::Header;
use super::snapshots::{Snapshot, Snapshots};
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;

/// Most L2 tables and refcount blocks that are remembered.
const MAX_KNOWN: usize = 1 << 20;

/// What an L2 table is called in messages.
pub(super) const L2_TABLE: &str = "active L2 table";
/// What a refcount block is called in messages.
pub(super) const REFCOUNT_BLOCK: &str = "refcount block";

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
    header: RwLock<Named>,
    snapshots: RwLock<Named>,
    known: Mutex<HashMap<u64, Known>>,
}

impl Regions {
    pub fn new(header: &Header, geometry: Geometry) -> Self {
        let (snapshots, known) = (RwLock::default(), Mutex::default());
        let regions = Self { geometry, header: RwLock::default(), snapshots, known };
        regions.rename(header);
        regions
    }

    fn table(&self, name: &'static str, offset: u64, bytes: u64) -> (&'static str, Range<u64>) {
        let first = self.geometry.cluster(offset);
        (name, first..first + self.geometry.clusters(bytes))
    }

    /// Takes the places of the header's tables anew.
    pub fn rename(&self, header: &Header) {
        let mut named = vec![
            ("image header", 0..1),
            self.table("active L1 table", header.l1_offset, header.l1_bytes()),
            self.table("refcount table", header.refcount_table_offset, header.refcount_table_bytes()),
            self.table("snapshot table", header.snapshots_offset, u64::from(header.snapshot_count) * 40),
        ];
        named.retain(|(_, clusters)| !clusters.is_empty());
        *self.header.write() = named;
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

    /// Two regions of the header and the snapshots that overlap.
    pub fn conflict(&self) -> Option<(&'static str, &'static str)> {
        let mut all = self.header.read().clone();
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

    /// The region that the header or a snapshot names and that the host clusters overlap.
    pub fn named_at(&self, clusters: &Range<u64>) -> Option<&'static str> {
        let overlaps = |(_, r): &&(&str, Range<u64>)| r.start < clusters.end && clusters.start < r.end;
        let name = |named: &Named| named.iter().find(overlaps).map(|(name, _)| *name);
        name(&self.header.read()).or_else(|| name(&self.snapshots.read()))
    }

    /// What metadata the host clusters overlap, if any.
    pub fn at(&self, clusters: Range<u64>) -> Option<&'static str> {
        self.named_at(&clusters).or_else(|| {
            let known = self.known.lock();
            clusters.into_iter().find_map(|c| known.get(&c).map(|k| k.name))
        })
    }
}
