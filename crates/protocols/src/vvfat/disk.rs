//! The disk: what is at each of its bytes.
//!
//! Tables are not stored: all clusters in use lie in runs, one behind the other, so that the entry of each follows from its run.
use super::layout::{FIRST_CLUSTER, Layout, SECTOR, TABLES, Width};
use super::tree::{Content, HostFile, Run, Tree};
use std::path::PathBuf;
use std::sync::Arc;

/// What some bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    Zero,
    /// These. Behind their end there are zeroes.
    Bytes(&'a [u8]),
    /// Those of a table from this one on.
    Table(u64),
    /// Those of a file from this one on.
    File(&'a Arc<HostFile>, u64),
}

/// A part of the disk: its first byte, and what lies there.
struct Part {
    start: u64,
    what: What,
}

enum What {
    Nothing,
    Bytes(Vec<u8>),
    Table,
    Clusters,
}

pub struct Disk {
    layout: Layout,
    parts: Vec<Part>,
    runs: Vec<Run>,
}

impl Disk {
    pub fn new(layout: Layout, label: &[u8; 11], tree: Tree) -> Self {
        let mut parts = Vec::new();
        let mut put = |sector: u64, what| parts.push(Part { start: sector * SECTOR, what });
        if layout.hidden > 0 {
            put(0, What::Bytes(layout.partition_table()));
            put(1, What::Nothing);
        }
        put(layout.hidden, What::Bytes(layout.boot_sectors(label, tree.used())));
        (0..TABLES).for_each(|number| put(layout.first_table() + number * layout.table, What::Table));
        put(layout.root(), What::Bytes(tree.root));
        put(layout.data(), What::Clusters);
        Self { layout, parts, runs: tree.runs }
    }

    /// Bytes of the disk.
    pub fn len(&self) -> u64 {
        self.layout.sectors * SECTOR
    }

    /// Takes note that the file which begins in a cluster has another path.
    pub fn moved(&mut self, cluster: u32, path: PathBuf) {
        let found = self.runs.binary_search_by_key(&cluster, |run| run.first);
        let run = found.ok().and_then(|at| self.runs.get_mut(at));
        if let Some(Run { content: Content::File(file), .. }) = run
            && file.path != path
        {
            *file = Arc::new(HostFile { path, ..HostFile::clone(file) });
        }
    }

    /// What lies at a byte of the disk, and how many bytes of it there are from there on.
    pub fn piece_at(&self, at: u64) -> (Piece<'_>, u64) {
        // With a root folder in clusters, the place of one that is not has no bytes: what comes behind it is meant.
        let behind = self.parts.partition_point(|part| part.start <= at);
        let end = self.parts.get(behind).map_or(self.len(), |part| part.start);
        let Some(Part { start, what }) = self.parts.get(behind.wrapping_sub(1)) else {
            return (Piece::Zero, end - at);
        };
        let within = at - start;
        match what {
            What::Nothing => (Piece::Zero, end - at),
            What::Table => (Piece::Table(within), end - at),
            What::Bytes(bytes) => bounded(bytes, within, end - at),
            What::Clusters => self.content_at(within, end - at),
        }
    }

    /// What lies at a byte of the clusters.
    fn content_at(&self, within: u64, left: u64) -> (Piece<'_>, u64) {
        let cluster = self.layout.cluster();
        let number = (within / cluster) as u32 + FIRST_CLUSTER;
        let Some(run) = self.run_of(number) else { return (Piece::Zero, left) };
        let from = within - u64::from(run.first - FIRST_CLUSTER) * cluster;
        let left = u64::from(run.clusters) * cluster - from;
        match &run.content {
            Content::Folder(bytes) => bounded(bytes, from, left),
            Content::File(file) if from < file.len => (Piece::File(file, from), file.len - from),
            Content::File(_) => (Piece::Zero, left),
        }
    }

    fn run_of(&self, cluster: u32) -> Option<&Run> {
        let behind = self.runs.partition_point(|run| run.first <= cluster);
        self.runs.get(behind.checked_sub(1)?).filter(|run| cluster < run.first + run.clusters)
    }

    /// The entry of a cluster in the table.
    fn entry(&self, cluster: u32) -> u32 {
        if let Some(entry) = self.layout.first_entries().get(cluster as usize) {
            return *entry;
        }
        match self.run_of(cluster) {
            Some(run) if cluster + 1 < run.first + run.clusters => cluster + 1,
            Some(_) => self.layout.end_of_chain(),
            None => 0,
        }
    }

    /// Fills `buf` with the bytes of a table from this one on.
    pub fn fill_table(&self, from: u64, buf: &mut [u8]) {
        for (at, byte) in (from..).zip(buf) {
            *byte = match self.layout.width {
                Width::Fat12 => {
                    // Two entries in three bytes.
                    let first = (at / 3 * 2) as u32;
                    let both = self.entry(first) | self.entry(first + 1) << 12;
                    (both >> (8 * (at % 3))) as u8
                }
                Width::Fat16 => (self.entry((at / 2) as u32) >> (8 * (at % 2))) as u8,
                Width::Fat32 => (self.entry((at / 4) as u32) >> (8 * (at % 4))) as u8,
            };
        }
    }
}

/// Bytes from one on, and the zeroes behind them.
fn bounded(bytes: &[u8], from: u64, left: u64) -> (Piece<'_>, u64) {
    match bytes.get(from as usize..).filter(|bytes| !bytes.is_empty()) {
        Some(bytes) => (Piece::Bytes(bytes), left.min(bytes.len() as u64)),
        None => (Piece::Zero, left),
    }
}
