//! What a folder holds, as it is shown: each folder and file with its clusters.
//!
//! Folders come first, then files, each in one piece, in the order of their names: the same folder is the same disk each time.
//! Only folders and regular files are shown. Links are not followed, as they may lead outside.
//!
//! Bounds: [`MOST_NAMES`] names, held in memory with the entries of all folders; no more bytes than the disk has.
use super::entry::{self, Entry};
use super::layout::{FIRST_CLUSTER, Layout};
use super::name::{self, Name};
use block::{BlockError, ErrorKind, Result};
use rt::file::{FileKind, FileStat};
use rt::folder::Folder;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Names in a folder and in all folders below it.
pub const MOST_NAMES: usize = 1 << 17;
/// Entries of a folder.
pub const MOST_ENTRIES: u64 = 1 << 16;
/// Bytes of a file.
const MOST_FILE: u64 = u32::MAX as u64;

/// How the names of folders in the root begin that hold what is being changed. They are not shown.
pub const STAGING: &str = ".cairn-vvfat-";

/// A file of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFile {
    /// Its path below the folder.
    pub path: PathBuf,
    pub len: u64,
    /// Device and inode: what it is, whatever its name.
    pub identity: (u64, u64),
}

/// What some clusters hold.
#[derive(Debug)]
pub enum Content {
    Folder(Vec<u8>),
    File(Arc<HostFile>),
}

/// Clusters that follow each other.
#[derive(Debug)]
pub struct Run {
    pub first: u32,
    pub clusters: u32,
    pub content: Content,
}

/// All that is shown.
pub struct Tree {
    /// The entries of a root folder that lies in no cluster.
    pub root: Vec<u8>,
    /// All clusters that are in use, in order, the first of them [`FIRST_CLUSTER`].
    pub runs: Vec<Run>,
    /// How many names lead to what is not shown, and the first of them.
    pub left_out: (usize, Option<PathBuf>),
    /// Folders in the root that hold what was being changed when a program ended.
    pub left_behind: Vec<PathBuf>,
    /// What each shown name led to.
    pub found: Vec<(PathBuf, FileStat)>,
}

/// A folder that was listed. The first of all is the root.
struct Listed {
    path: PathBuf,
    /// The number of the folder that it lies in.
    parent: usize,
    entry: Entry,
    /// In the order of their names.
    children: Vec<(Name, Child)>,
    /// Its first cluster; 0 of a root that lies in none.
    first: u32,
}

enum Child {
    /// The number of a folder.
    Folder(usize),
    File(HostFile, Entry),
}

impl Tree {
    /// What is in a folder now.
    pub async fn read(folder: &Folder, name: &str, layout: &Layout, label: &[u8; 11]) -> Result<Self> {
        let mut scan = Scan {
            name,
            listed: Vec::new(),
            names: 0,
            left_out: (0, None),
            left_behind: Vec::new(),
            found: Vec::new(),
        };
        scan.all(folder).await?;
        let mut place = Place { layout, name, next: FIRST_CLUSTER };
        for (number, listed) in scan.listed.iter_mut().enumerate() {
            listed.first = place.folder(listed, number == 0)?;
        }
        let (mut root, mut runs, mut files) = (Vec::new(), Vec::new(), Vec::new());
        for (number, listed) in scan.listed.iter().enumerate() {
            let mut bytes = Vec::new();
            match number {
                0 => entry::put_label(&mut bytes, label),
                _ => {
                    listed.entry.put(&mut bytes, *b".          ", listed.first);
                    // The root is told as no cluster, wherever it lies.
                    let above = if listed.parent == 0 { 0 } else { scan.folder(listed.parent).1 };
                    listed.entry.put(&mut bytes, *b"..         ", above);
                }
            }
            for (name, child) in &listed.children {
                name.put_long(&mut bytes);
                let (entry, first) = match child {
                    Child::Folder(number) => scan.folder(*number),
                    Child::File(file, entry) if file.len == 0 => (*entry, 0),
                    Child::File(file, entry) => {
                        let first = place.take(&file.path, file.len)?;
                        files.push(Run::new(first, file.len, Content::File(Arc::new(file.clone())), layout));
                        (*entry, first)
                    }
                };
                entry.put(&mut bytes, name.short, first);
            }
            match listed.first {
                0 => root = bytes,
                first => runs.push(Run::new(first, bytes.len() as u64, Content::Folder(bytes), layout)),
            }
        }
        runs.append(&mut files);
        Ok(Self { root, runs, left_out: scan.left_out, left_behind: scan.left_behind, found: scan.found })
    }

    /// How many clusters are in use.
    pub fn used(&self) -> u32 {
        self.runs.last().map_or(0, |run| run.first + run.clusters - FIRST_CLUSTER)
    }
}

impl Run {
    fn new(first: u32, bytes: u64, content: Content, layout: &Layout) -> Self {
        Self { first, clusters: bytes.div_ceil(layout.cluster()) as u32, content }
    }
}

/// Gives out clusters, one behind the other.
struct Place<'a> {
    layout: &'a Layout,
    name: &'a str,
    next: u32,
}

impl Place<'_> {
    /// The first cluster of a folder, with all of its names; 0 where it is a root that lies in none.
    fn folder(&mut self, listed: &Listed, is_root: bool) -> Result<u32> {
        // Beside the names, the root has the label, and others themselves and what they lie in.
        let own = if is_root { 1 } else { 2 };
        let entries: usize = listed.children.iter().map(|(name, _)| name.entries()).sum();
        let entries = (own + entries) as u64;
        let lies_apart = is_root && self.layout.root_entries > 0;
        let most = if lies_apart { self.layout.root_entries } else { MOST_ENTRIES };
        if entries > most {
            let text = format!("its names take {entries} entries, and such a folder has {most}");
            let hint = if lies_apart { "; subfolders, and disks of fat-type 32, hold more" } else { "" };
            return Err(unfit(self.name, &listed.path, text + hint));
        }
        if lies_apart { Ok(0) } else { self.take(&listed.path, entries * entry::LEN) }
    }

    fn take(&mut self, path: &Path, bytes: u64) -> Result<u32> {
        let clusters = bytes.div_ceil(self.layout.cluster());
        let left = self.layout.clusters() + FIRST_CLUSTER - self.next;
        match u32::try_from(clusters) {
            Ok(clusters) if clusters <= left => {
                let first = self.next;
                self.next += clusters;
                Ok(first)
            }
            _ => {
                let (cluster, all) = (self.layout.cluster(), u64::from(self.layout.clusters()));
                let text = format!(
                    "it does not fit: it takes {clusters} clusters of {cluster} bytes, of which {left} are left of {all}"
                );
                Err(unfit(self.name, path, text))
            }
        }
    }
}

/// Lists folders, those near the root first.
struct Scan<'a> {
    /// The name of the folder, for messages.
    name: &'a str,
    listed: Vec<Listed>,
    names: usize,
    left_out: (usize, Option<PathBuf>),
    left_behind: Vec<PathBuf>,
    found: Vec<(PathBuf, FileStat)>,
}

impl Scan<'_> {
    async fn all(&mut self, folder: &Folder) -> Result<()> {
        self.found(PathBuf::new(), 0, Entry::default());
        let mut number = 0;
        while let Some(path) = self.listed.get(number).map(|listed| listed.path.clone()) {
            let children = self.list(folder, number, &path).await?;
            if let Some(listed) = self.listed.get_mut(number) {
                listed.children = children;
            }
            number += 1;
        }
        Ok(())
    }

    fn found(&mut self, path: PathBuf, parent: usize, entry: Entry) {
        self.listed.push(Listed { path, parent, entry, children: Vec::new(), first: 0 });
    }

    /// What is told of a folder, and its first cluster.
    fn folder(&self, number: usize) -> (Entry, u32) {
        self.listed.get(number).map_or_else(Default::default, |listed| (listed.entry, listed.first))
    }

    /// The names in a folder, and what they are.
    async fn list(&mut self, folder: &Folder, number: usize, path: &Path) -> Result<Vec<(Name, Child)>> {
        let entries = folder.list(path, MOST_NAMES - self.names).await;
        let mut entries = entries.map_err(|e| BlockError::from_io(&e).context(told(self.name, path)))?;
        entries.retain(|entry| {
            if number == 0 && entry.name.as_encoded_bytes().starts_with(STAGING.as_bytes()) {
                self.left_behind.push(PathBuf::from(&entry.name));
                return false;
            }
            let is_shown = matches!(entry.stat.kind, FileKind::Regular | FileKind::Directory);
            if !is_shown {
                self.left_out.0 += 1;
                self.left_out.1.get_or_insert_with(|| path.join(&entry.name));
            }
            is_shown
        });
        self.names += entries.len();
        let names = name::in_folder(entries.iter().map(|entry| entry.name.as_encoded_bytes()));
        let names = names.map_err(|(at, e)| {
            let path = entries.get(at).map_or_else(|| path.to_owned(), |entry| path.join(&entry.name));
            unfit(self.name, &path, e)
        })?;
        let mut children = Vec::with_capacity(names.len());
        for (name, entry) in names.into_iter().zip(entries) {
            let path = path.join(&entry.name);
            self.found.push((path.clone(), entry.stat));
            let child = if entry.stat.kind == FileKind::Directory {
                self.found(path, number, Entry::of(&entry));
                Child::Folder(self.listed.len() - 1)
            } else {
                let len = entry.stat.len;
                if len > MOST_FILE {
                    let text = format!("it has {len} bytes, more than the {MOST_FILE} of a file");
                    return Err(unfit(self.name, &path, text));
                }
                let identity = (entry.stat.dev, entry.stat.ino);
                Child::File(HostFile { path, len, identity }, Entry::of(&entry))
            };
            children.push((name, child));
        }
        Ok(children)
    }
}

/// The error of what a FAT disk can't hold.
fn unfit(folder: &str, path: &Path, why: impl std::fmt::Display) -> BlockError {
    BlockError::new(ErrorKind::Limit, format!("{} can't be shown on this disk: {why}", told(folder, path)))
}

/// A path below a folder, as it is told.
pub fn told(folder: &str, path: &Path) -> String {
    match path.as_os_str().is_empty() {
        true => format!("the folder '{folder}'"),
        false => format!("'{}'", Path::new(folder).join(path).display()),
    }
}
