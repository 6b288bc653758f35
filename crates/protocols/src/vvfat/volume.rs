//! The file system on a disk as it stands there now: each folder and file, with its clusters.
//!
//! ```text
//!  first sectors, table ─▶ Walk::new ─▶ places of a folder's clusters ─▶ (their bytes) ─▶ … ─▶ Volume, or Damage
//! ```
//!
//! Nothing is read here: whoever walks brings the bytes. The first table counts; the second is a copy. Clusters that nothing leads to,
//! and clusters behind a file's length, are no damage: guests leave both.
//!
//! Bounds: a byte for each cluster that a table can have, and [`MOST_NAMES`] names; a folder has at most [`MOST_ENTRIES`] entries, and
//! a path [`MOST_PATH`] bytes. Each cluster is looked at once.
use super::entry;
use super::layout::{FIRST_CLUSTER, Layout, SECTOR, Width};
use super::listing::{self, EntryError, Listed, Spelling};
use super::name::{self, NameError, Short};
use super::tree::{MOST_ENTRIES, MOST_NAMES, STAGING};
use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Bytes of a path.
const MOST_PATH: usize = 1000;

/// The number of a node.
pub type Index = u32;

/// Clusters that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub first: u32,
    pub clusters: u32,
}

/// A folder or a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The folder that it lies in; of the root, itself.
    pub parent: Index,
    pub name: String,
    pub spelling: Spelling,
    pub short: Short,
    pub is_folder: bool,
    pub read_only: bool,
    /// Time and date.
    pub modified: (u16, u16),
    /// Bytes of a file.
    pub len: u32,
    pub chain: Box<[Span]>,
    /// Bytes of the path.
    path: usize,
}

/// What a disk holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// The root, and behind it what lies in each folder, those of one folder side by side, in the order of the folders.
    pub nodes: Vec<Node>,
    /// Whose each cluster is, from the first on; [`NOBODY`] of one that is free, [`LOST`] of one that nothing leads to.
    owners: Vec<Index>,
}

/// Whose a cluster is that is nobody's.
const NOBODY: Index = Index::MAX;
/// Whose a cluster is that is taken, but that nothing leads to.
const LOST: Index = Index::MAX - 1;
pub const ROOT: Index = 0;

/// Why a disk is no sound file system.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error("the disk was partitioned or formatted anew: the {0} is another one")]
    Layout(&'static str),
    #[error("{path}: entry {entry} is {why}")]
    Entry { path: String, entry: usize, why: EntryError },
    #[error("{path} can't be the name of a file: {why}")]
    Name { path: String, why: NameError },
    #[error("{path}: the name is taken for what is being changed")]
    Reserved { path: String },
    #[error("{path}: it begins in cluster {cluster}, which the disk does not have")]
    Outside { path: String, cluster: u32 },
    #[error("{path}: its clusters lead to {entry:#x} behind cluster {cluster}, which is none")]
    Broken { path: String, cluster: u32, entry: u32 },
    #[error("{path}: its clusters come back to cluster {cluster}")]
    Loop { path: String, cluster: u32 },
    #[error("{path} and {other} share cluster {cluster}")]
    Shared { path: String, other: String, cluster: u32 },
    #[error("{path}: it has {len} bytes, and clusters for {room}")]
    Short { path: String, len: u32, room: u64 },
    #[error("{path}: the folder has no clusters")]
    NoClusters { path: String },
    #[error("{path}: the folder does not tell itself and what it lies in")]
    Dots { path: String },
    #[error("{path}: the folder has more than {MOST_ENTRIES} entries")]
    Large { path: String },
    #[error("{path}: the path has more than {MOST_PATH} bytes")]
    Long { path: String },
    #[error("the disk has more than {MOST_NAMES} names")]
    Names,
}

impl Volume {
    pub fn get(&self, index: Index) -> Option<&Node> {
        self.nodes.get(index as usize)
    }

    /// All but the root, those near it first.
    pub fn below_root(&self) -> impl DoubleEndedIterator<Item = (Index, &Node)> {
        self.nodes.iter().enumerate().skip(1).map(|(index, node)| (index as Index, node))
    }

    /// The path of a node below the root.
    pub fn path(&self, index: Index) -> PathBuf {
        path(&self.nodes, index)
    }

    /// What begins in this cluster.
    pub fn beginning_in(&self, cluster: u32) -> Option<Index> {
        let owner = *self.owners.get(cluster.checked_sub(FIRST_CLUSTER)? as usize)?;
        (self.get(owner)?.chain.first()?.first == cluster).then_some(owner)
    }

    /// Whether a cluster is taken, but nothing leads to it.
    pub fn has_lost(&self, cluster: u32) -> bool {
        let at = cluster.checked_sub(FIRST_CLUSTER).map(|at| at as usize);
        at.and_then(|at| self.owners.get(at)).is_some_and(|owner| *owner == LOST)
    }

    /// The clusters that something leads to.
    pub fn in_use(&self) -> impl Iterator<Item = u32> {
        let used = self.owners.iter().zip(FIRST_CLUSTER..).filter(|(owner, _)| **owner < LOST);
        used.map(|(_, cluster)| cluster)
    }
}

fn path(nodes: &[Node], index: Index) -> PathBuf {
    let mut names = Vec::new();
    let mut at = index;
    while let Some(node) = nodes.get(at as usize).filter(|_| at != ROOT) {
        names.push(&*node.name);
        at = node.parent;
    }
    names.iter().rev().collect()
}

/// A file system that is being read.
pub struct Walk<'a> {
    layout: &'a Layout,
    table: &'a [u8],
    volume: Volume,
    /// The folder whose bytes are wanted.
    next: Index,
}

impl<'a> Walk<'a> {
    /// Begins with the first sector of the disk, the boot sector, and the first table.
    pub fn new(layout: &'a Layout, first: &[u8], boot: &[u8], table: &'a [u8]) -> Result<Self, Damage> {
        if let Some(what) = layout.differs_in(first, boot) {
            return Err(Damage::Layout(what));
        }
        let root = Node {
            parent: ROOT,
            name: String::new(),
            spelling: Spelling::Exact,
            short: [b' '; 11],
            is_folder: true,
            read_only: false,
            modified: (0, 0),
            len: 0,
            chain: Box::default(),
            path: 0,
        };
        let volume = Volume { nodes: vec![root], owners: vec![NOBODY; layout.clusters() as usize] };
        let mut walk = Self { layout, table, volume, next: ROOT };
        if layout.width == Width::Fat32 {
            let chain = walk.chain(ROOT, FIRST_CLUSTER)?;
            if walk.room(&chain) > MOST_ENTRIES * entry::LEN {
                return Err(Damage::Large { path: walk.told(ROOT) });
            }
            if let Some(root) = walk.volume.nodes.first_mut() {
                root.chain = chain;
            }
        }
        Ok(walk)
    }

    /// Where the bytes of the next folder lie on the disk; `None` when all are known.
    pub fn wanted(&self) -> Option<Vec<Range<u64>>> {
        let folder = self.volume.get(self.next)?;
        let layout = self.layout;
        if self.next == ROOT && layout.root_entries > 0 {
            let start = layout.root() * SECTOR;
            let whole = start..start + layout.root_entries * entry::LEN;
            return Some(Vec::from([whole]));
        }
        Some(folder.chain.iter().map(|span| layout.bytes_of(*span)).collect())
    }

    /// Takes the bytes of the folder that was wanted.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), Damage> {
        let folder = self.next;
        let listed = listing::entries(bytes);
        let listed = listed.map_err(|(entry, why)| Damage::Entry { path: self.told(folder), entry, why })?;
        let listed = if folder == ROOT { listed.as_slice() } else { self.behind_dots(folder, &listed)? };
        let mut names = HashSet::new();
        for entry in listed {
            self.add(folder, entry, &mut names)?;
        }
        // On to the next folder.
        let behind = self.volume.nodes.iter().enumerate().skip(folder as usize + 1);
        self.next =
            behind.filter(|(_, node)| node.is_folder).map(|(at, _)| at as Index).next().unwrap_or(NOBODY);
        Ok(())
    }

    /// What was read, when nothing more is wanted.
    pub fn into_volume(mut self) -> Volume {
        for (owner, cluster) in self.volume.owners.iter_mut().zip(FIRST_CLUSTER..) {
            if *owner == NOBODY && self.layout.entry_in(self.table, cluster) != 0 {
                *owner = LOST;
            }
        }
        self.volume
    }

    /// The entries behind those of the folder itself and of what it lies in, which come first.
    fn behind_dots<'b>(&self, folder: Index, listed: &'b [Listed]) -> Result<&'b [Listed], Damage> {
        let first = |index: Index| {
            self.volume.get(index).and_then(|node| node.chain.first()).map_or(0, |span| span.first)
        };
        let parent = self.volume.get(folder).map_or(ROOT, |node| node.parent);
        // The root is told as no cluster, wherever it lies; some tell where.
        let is_parent = |cluster: u32| cluster == first(parent) || (parent == ROOT && cluster == 0);
        match listed {
            [own, above, rest @ ..]
                if own.name == "."
                    && above.name == ".."
                    && self.cluster(own) == first(folder)
                    && is_parent(self.cluster(above)) =>
            {
                Ok(rest)
            }
            _ => Err(Damage::Dots { path: self.told(folder) }),
        }
    }

    /// The first cluster that an entry tells. With fewer than 32 bits the upper half means something else.
    fn cluster(&self, entry: &Listed) -> u32 {
        if self.layout.width == Width::Fat32 { entry.first } else { entry.first & 0xffff }
    }

    fn add(&mut self, parent: Index, entry: &Listed, names: &mut HashSet<String>) -> Result<(), Damage> {
        let mut node = Node {
            parent,
            name: entry.name.clone(),
            spelling: entry.spelling,
            short: entry.short,
            is_folder: entry.is_folder,
            read_only: entry.read_only,
            modified: entry.modified,
            len: if entry.is_folder { 0 } else { entry.len },
            chain: Box::default(),
            path: self.volume.get(parent).map_or(0, |folder| folder.path) + 1 + entry.name.len(),
        };
        if self.volume.nodes.len() > MOST_NAMES {
            return Err(Damage::Names);
        }
        let (index, too_long) = (self.volume.nodes.len() as Index, node.path > MOST_PATH);
        // It is told by its path from here on; its name may still be one that no path has.
        let judged = name::judged(node.name.as_bytes()).map(drop);
        let is_new = names.insert(node.name.to_uppercase());
        let first = self.cluster(entry);
        let is_reserved = parent == ROOT && node.name.starts_with(STAGING);
        if judged.is_err() {
            node.name.retain(|c| !c.is_control() && c != '/');
        }
        self.volume.nodes.push(node);
        let path = || self.told(index);
        judged.map_err(|why| Damage::Name { path: path(), why })?;
        match () {
            () if too_long => return Err(Damage::Long { path: path() }),
            () if !is_new => return Err(Damage::Name { path: path(), why: NameError::Case }),
            () if is_reserved => return Err(Damage::Reserved { path: path() }),
            () if first == 0 && entry.is_folder => return Err(Damage::NoClusters { path: path() }),
            () => {}
        }
        let chain = if first == 0 { Box::default() } else { self.chain(index, first)? };
        let room = self.room(&chain);
        if entry.is_folder && room > MOST_ENTRIES * entry::LEN {
            return Err(Damage::Large { path: self.told(index) });
        }
        if !entry.is_folder && u64::from(entry.len) > room {
            return Err(Damage::Short { path: self.told(index), len: entry.len, room });
        }
        if let Some(node) = self.volume.nodes.last_mut() {
            node.chain = chain;
        }
        Ok(())
    }

    /// Bytes of some clusters.
    fn room(&self, chain: &[Span]) -> u64 {
        chain.iter().map(|span| u64::from(span.clusters)).sum::<u64>() * self.layout.cluster()
    }

    /// The clusters of a node from its first on, which become its own.
    fn chain(&mut self, index: Index, first: u32) -> Result<Box<[Span]>, Damage> {
        let end = self.layout.end_of_chain() & !7;
        let mut spans: Vec<Span> = Vec::new();
        let (mut before, mut cluster) = (None, first);
        loop {
            let inside = cluster.checked_sub(FIRST_CLUSTER).map(|at| at as usize);
            let Some(owner) = inside.and_then(|at| self.volume.owners.get_mut(at)) else {
                let path = self.told(index);
                return Err(match before {
                    None => Damage::Outside { path, cluster },
                    Some(before) => Damage::Broken { path, cluster: before, entry: cluster },
                });
            };
            let taken = *owner;
            if taken == NOBODY {
                *owner = index;
            } else if taken == index {
                return Err(Damage::Loop { path: self.told(index), cluster });
            } else {
                return Err(Damage::Shared { path: self.told(index), other: self.told(taken), cluster });
            }
            match spans.last_mut() {
                Some(span) if span.first + span.clusters == cluster => span.clusters += 1,
                _ => spans.push(Span { first: cluster, clusters: 1 }),
            }
            let entry = self.layout.entry_in(self.table, cluster);
            if entry >= end {
                return Ok(spans.into());
            }
            (before, cluster) = (Some(cluster), entry);
        }
    }

    /// A path as it is told.
    fn told(&self, index: Index) -> String {
        told(&self.volume.path(index))
    }
}

/// A path on the disk, as it is told.
pub fn told(path: &Path) -> String {
    match path.as_os_str().is_empty() {
        true => "the root folder".to_owned(),
        false => format!("'{}'", path.display()),
    }
}
