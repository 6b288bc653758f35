//! Which host clusters hold metadata, so that nothing else is ever written there.
//!
//! Two kinds: the few regions that the header names, and every L2 table and refcount block that was seen since the
//! image was opened (their tables are loaded by pages). A cluster that the refcounts call free and that is known
//! here means corrupt refcounts: it must not be handed out.
//!
//! Bounds: at most [`MAX_KNOWN`] clusters are remembered; what is beyond that is not checked.
use super::entry::Geometry;
use super::header::Header;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::ops::Range;

/// Most L2 tables and refcount blocks that are remembered.
const MAX_KNOWN: usize = 1 << 20;

/// Metadata that must not be written as something else.
pub(super) struct Regions {
    geometry: Geometry,
    named: RwLock<Vec<(&'static str, Range<u64>)>>,
    known: Mutex<HashMap<u64, &'static str>>,
}

/// What an L2 table is called in messages.
pub(super) const L2_TABLE: &str = "active L2 table";
/// What a refcount block is called in messages.
pub(super) const REFCOUNT_BLOCK: &str = "refcount block";

impl Regions {
    pub fn new(header: &Header, geometry: Geometry) -> Self {
        let regions = Self { geometry, named: RwLock::default(), known: Mutex::default() };
        regions.renamed(header);
        regions
    }

    /// Takes the places of the header's tables anew.
    pub fn renamed(&self, header: &Header) {
        let g = self.geometry;
        let table = |name, offset: u64, bytes: u64| (name, g.cluster(offset)..g.cluster(offset) + g.clusters(bytes));
        let mut named = vec![
            ("image header", 0..1),
            table("active L1 table", header.l1_offset, header.l1_bytes()),
            table("refcount table", header.refcount_table_offset, header.refcount_table_bytes()),
            table("snapshot table", header.snapshots_offset, u64::from(header.snapshot_count) * 40),
        ];
        named.retain(|(_, clusters)| !clusters.is_empty());
        *self.named.write() = named;
    }

    /// Remembers an L2 table or refcount block.
    pub fn add(&self, cluster: u64, name: &'static str) {
        let mut known = self.known.lock();
        if known.len() < MAX_KNOWN {
            known.insert(cluster, name);
        }
    }

    /// Forgets clusters that were given up.
    pub fn remove(&self, clusters: Range<u64>) {
        let mut known = self.known.lock();
        if !known.is_empty() {
            clusters.for_each(|cluster| {
                known.remove(&cluster);
            });
        }
    }

    /// Forgets all L2 tables and refcount blocks.
    pub fn clear(&self) {
        self.known.lock().clear();
    }

    /// The header's region that the host clusters overlap.
    pub fn named_at(&self, clusters: Range<u64>) -> Option<&'static str> {
        let named = self.named.read();
        named.iter().find(|(_, r)| r.start < clusters.end && clusters.start < r.end).map(|(name, _)| *name)
    }

    /// What metadata the host clusters overlap, if any.
    pub fn at(&self, clusters: Range<u64>) -> Option<&'static str> {
        self.named_at(clusters.clone()).or_else(|| {
            let known = self.known.lock();
            clusters.into_iter().find_map(|c| known.get(&c).copied())
        })
    }
}
