//! The disk: what every file holds in the page cache and on the medium, and what of the difference a crash leaves.
//!
//! ```text
//! issue ─▶ in flight ──apply──▶ log + page cache (what reads see) ──a sync that covers it──▶ durable
//!                                     │ power cut: any subset, each whole, torn, or gone (`cut`)
//! ```
//!
//! Laws:
//! - a sync covers what had completed when it was issued, nothing else;
//! - lengths, reservations, punches are operations like others: durable only by a sync;
//! - a name (create, rename, unlink) is durable only by a sync of its directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::Outside;
use crate::content::Content;
use crate::effect::Effect;
use crate::rng::Rng;

/// An effect that a sync has not made durable.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) op: u64,
    /// Its operation has ended: the next sync covers it.
    pub(crate) ended: bool,
    pub(crate) effect: Effect,
}

#[derive(Clone, Default)]
pub(crate) struct Inode {
    pub(crate) durable: Content,
    pub(crate) cache: Content,
    pub(crate) log: Vec<Entry>,
    pub(crate) flight: Vec<(u64, Effect)>,
    /// The number of its last change, of all changes of the disk.
    pub(crate) changed: i64,
}

impl Inode {
    /// Effects that a crash may lose, in order; those in flight last.
    pub(crate) fn pending(&self) -> impl Iterator<Item = &Effect> {
        self.log.iter().map(|e| &e.effect).chain(self.flight.iter().map(|(_, effect)| effect))
    }

    /// Makes covered effects durable; of earlier ones that are not covered only what they did not overwrite is left.
    fn settle(&mut self, covered: &BTreeSet<u64>) {
        let mut left: Vec<Entry> = Vec::new();
        for entry in std::mem::take(&mut self.log) {
            if !covered.contains(&entry.op) {
                left.push(entry);
                continue;
            }
            entry.effect.apply(&mut self.durable);
            left = left
                .into_iter()
                .flat_map(|before| {
                    let rest = before.effect.masked_by(&entry.effect);
                    rest.into_iter().map(move |effect| Entry { effect, ..before })
                })
                .collect();
        }
        self.log = left;
    }
}

/// A change of names.
#[derive(Clone)]
pub(crate) enum NameChange {
    Link(PathBuf, u64),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf, u64),
}

impl NameChange {
    pub(crate) fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            NameChange::Link(path, ino) => {
                names.insert(path.clone(), *ino);
            }
            NameChange::Unlink(path) => {
                names.remove(path);
            }
            NameChange::Rename(from, to, ino) => {
                if names.get(from) == Some(ino) {
                    names.remove(from);
                }
                names.insert(to.clone(), *ino);
            }
        }
    }

    fn folder(&self) -> PathBuf {
        match self {
            NameChange::Link(path, _) | NameChange::Unlink(path) | NameChange::Rename(_, path, _) => {
                folder_of(path)
            }
        }
    }
}

impl fmt::Display for NameChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameChange::Link(path, _) => write!(f, "{}: create", path.display()),
            NameChange::Unlink(path) => write!(f, "{}: unlink", path.display()),
            NameChange::Rename(from, to, _) => write!(f, "{}: rename to {}", from.display(), to.display()),
        }
    }
}

/// The directory of a name; `.` for a bare one.
fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// A whole simulated disk, as a value: a clone is the disk at that moment.
#[derive(Clone, Default)]
pub struct Disk {
    pub(crate) files: BTreeMap<u64, Inode>,
    pub(crate) names: BTreeMap<PathBuf, u64>,
    pub(crate) durable_names: BTreeMap<PathBuf, u64>,
    pub(crate) name_log: Vec<(u64, NameChange)>,
    pub(crate) last_ino: u64,
    pub(crate) changes: u64,
    /// The number of the last change: a clock that crashes don't set back.
    pub(crate) ticks: i64,
    pub(crate) outside: Met,
}

/// Files outside of the machine, as far as it has met them.
#[derive(Clone, Default)]
pub(crate) struct Met {
    files: Option<Arc<dyn Outside>>,
    /// Names that were asked for: of what became of them later the machine's own names tell.
    asked: BTreeSet<PathBuf>,
    /// Inodes by the numbers that the outside gives its files.
    inodes: BTreeMap<u64, u64>,
}

impl Disk {
    // ---- for tests: whole files ----

    /// Puts a durable file of this content in place.
    pub fn put(&mut self, path: impl AsRef<Path>, bytes: &[u8]) {
        let mut content = Content::default();
        content.write(0, bytes);
        let ino = self.next_ino();
        self.ticks += 1;
        let inode =
            Inode { durable: content.clone(), cache: content, changed: self.ticks, ..Inode::default() };
        self.files.insert(ino, inode);
        self.names.insert(path.as_ref().to_owned(), ino);
        self.durable_names.insert(path.as_ref().to_owned(), ino);
    }

    /// A disk with all files that are outside, each read as it is needed and never changed.
    pub fn over(outside: Arc<dyn Outside>) -> Disk {
        let outside = Met { files: Some(outside), ..Met::default() };
        Disk { outside, ..Disk::default() }
    }

    /// Frees the pages of a file that hold only zeroes, as a sparse copy of it has none.
    pub fn make_sparse(&mut self, path: impl AsRef<Path>) {
        let file = self.lookup(path.as_ref()).and_then(|ino| self.files.get_mut(&ino));
        if let Some(file) = file {
            file.durable.make_sparse();
            file.cache.make_sparse();
        }
    }

    /// Bytes that all files take.
    pub(crate) fn allocated(&self) -> u64 {
        self.files.values().map(|file| file.cache.allocated()).sum()
    }

    /// What reads of the file see now.
    pub fn content(&self, path: impl AsRef<Path>) -> Option<&Content> {
        Some(&self.files.get(self.names.get(path.as_ref())?)?.cache)
    }

    /// The names there are.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.names.keys().map(PathBuf::as_path)
    }

    /// How many effects a crash may lose.
    pub fn pending(&self) -> usize {
        self.files.values().map(|f| f.log.len() + f.flight.len()).sum::<usize>() + self.name_log.len()
    }

    /// How many changes of files were begun since the machine was booted.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// How many of them belong to operations that have not ended.
    pub fn under_way(&self) -> usize {
        self.files.values().map(|f| f.flight.len()).sum()
    }

    // ---- what is done when the machine dies: `cut` ----

    pub(crate) fn forget_nameless(&mut self) {
        let named: BTreeSet<u64> = self.names.values().chain(self.durable_names.values()).copied().collect();
        self.files.retain(|ino, _| named.contains(ino));
    }

    // ---- operations on a file ----

    /// What reads of the file see now.
    pub(crate) fn cache(&self, ino: u64) -> Option<&Content> {
        self.files.get(&ino).map(|file| &file.cache)
    }

    /// When a file was last changed, by the disk's own clock.
    pub(crate) fn changed(&self, ino: u64) -> i64 {
        self.files.get(&ino).map_or(0, |file| file.changed)
    }

    pub(crate) fn begin(&mut self, ino: u64, op: u64, effect: Effect) {
        self.changes += 1;
        if let Some(file) = self.files.get_mut(&ino) {
            file.flight.push((op, effect));
        }
    }

    /// The next part of an operation reaches the page cache.
    pub(crate) fn apply_next(&mut self, ino: u64, op: u64) {
        let Some(file) = self.files.get_mut(&ino) else { return };
        let Some(at) = file.flight.iter().position(|(other, _)| *other == op) else { return };
        let (_, effect) = file.flight.remove(at);
        effect.apply(&mut file.cache);
        self.ticks += 1;
        file.changed = self.ticks;
        file.log.push(Entry { op, ended: false, effect });
    }

    /// An operation has ended: the next sync covers it.
    pub(crate) fn end(&mut self, ino: u64, op: u64) {
        if let Some(file) = self.files.get_mut(&ino) {
            file.log.iter_mut().rev().filter(|e| e.op == op).for_each(|e| e.ended = true);
        }
    }

    /// What a sync that is issued now covers.
    pub(crate) fn covered(&self, ino: u64) -> BTreeSet<u64> {
        let log = self.files.get(&ino).map(|file| file.log.as_slice()).unwrap_or_default();
        log.iter().filter(|e| e.ended).map(|e| e.op).collect()
    }

    pub(crate) fn synced(&mut self, ino: u64, covered: &BTreeSet<u64>) {
        if let Some(file) = self.files.get_mut(&ino) {
            file.settle(covered);
        }
    }

    /// A sync failed: some of what it covered became durable, the rest never will, though the page cache may go on
    /// showing it.
    pub(crate) fn sync_failed(&mut self, ino: u64, covered: &BTreeSet<u64>, rng: &mut Rng) {
        let Some(file) = self.files.get_mut(&ino) else { return };
        let (written, lost): (BTreeSet<u64>, BTreeSet<u64>) = covered.iter().partition(|_| rng.chance(1, 2));
        file.settle(&written);
        file.log.retain(|entry| !lost.contains(&entry.op));
        if rng.chance(1, 3) {
            // The clean pages were evicted: reads now see what the medium has.
            let mut content = file.durable.clone();
            file.log.iter().for_each(|entry| entry.effect.apply(&mut content));
            file.cache = content;
        }
    }

    // ---- names ----

    fn next_ino(&mut self) -> u64 {
        self.last_ino += 1;
        self.last_ino
    }

    /// The file of this name, looked for outside when it is first asked for.
    pub(crate) fn find(&mut self, path: &Path) -> io::Result<Option<u64>> {
        if let Some(files) = self.outside.files.clone()
            && !self.names.contains_key(path)
            && !self.outside.asked.contains(path)
            && let found = files.find(path)?
            && self.outside.asked.insert(path.to_owned())
            && let Some((identity, base)) = found
        {
            let ino = match self.outside.inodes.get(&identity) {
                Some(ino) => *ino,
                None => {
                    let (ino, content) = (self.next_ino(), Content::of(base));
                    let inode = Inode { durable: content.clone(), cache: content, ..Inode::default() };
                    self.files.insert(ino, inode);
                    self.outside.inodes.insert(identity, ino);
                    ino
                }
            };
            self.names.insert(path.to_owned(), ino);
            self.durable_names.insert(path.to_owned(), ino);
        }
        Ok(self.lookup(path))
    }

    /// The file of this name.
    pub(crate) fn lookup(&self, path: &Path) -> Option<u64> {
        self.names.get(path).copied()
    }

    /// Whether names lie below this one.
    pub(crate) fn is_folder(&self, path: &Path) -> bool {
        path == Path::new(".") || self.names.keys().any(|name| name != path && name.starts_with(path))
    }

    /// A name of a file, for messages; it may have none any more.
    pub(crate) fn path_of(&self, ino: u64) -> PathBuf {
        let named = self.names.iter().find(|(_, other)| **other == ino);
        named.map_or_else(|| PathBuf::from(format!("(file {ino})")), |(path, _)| path.clone())
    }

    fn change_names(&mut self, id: u64, change: NameChange) {
        change.apply(&mut self.names);
        self.name_log.push((id, change));
    }

    pub(crate) fn create(&mut self, id: u64, path: &Path) -> u64 {
        let ino = self.next_ino();
        self.files.insert(ino, Inode::default());
        self.change_names(id, NameChange::Link(path.to_owned(), ino));
        ino
    }

    /// Removes a name; whether there was one.
    pub(crate) fn unlink(&mut self, id: u64, path: &Path) -> bool {
        let found = self.names.contains_key(path);
        if found {
            self.change_names(id, NameChange::Unlink(path.to_owned()));
        }
        found
    }

    /// Renames; whether `from` was there.
    pub(crate) fn rename(&mut self, id: u64, from: &Path, to: &Path) -> bool {
        let Some(ino) = self.lookup(from) else { return false };
        self.change_names(id, NameChange::Rename(from.to_owned(), to.to_owned(), ino));
        true
    }

    /// The changes of names that a sync of this directory covers.
    pub(crate) fn covered_names(&self, folder: &Path) -> BTreeSet<u64> {
        self.name_log.iter().filter(|(_, change)| change.folder() == folder).map(|(id, _)| *id).collect()
    }

    pub(crate) fn names_synced(&mut self, covered: &BTreeSet<u64>) {
        let (done, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.name_log).into_iter().partition(|(id, _)| covered.contains(id));
        done.iter().for_each(|(_, change)| change.apply(&mut self.durable_names));
        self.name_log = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Base;

    fn write_now(disk: &mut Disk, ino: u64, op: u64, off: u64, byte: u8) {
        disk.begin(ino, op, Effect::write(off, &[byte; 512]));
        disk.apply_next(ino, op);
        disk.end(ino, op);
    }

    fn byte_at(disk: &Disk, off: u64) -> u8 {
        let mut byte = [0];
        disk.content("/f").map(|c| c.read(off, &mut byte));
        byte[0]
    }

    #[test]
    fn a_sync_keeps_what_had_ended_when_it_was_issued_and_every_subset_of_the_rest_can_survive() {
        let mut disk = Disk::default();
        disk.put("/f", &[0; 2048]);
        let ino = disk.lookup(Path::new("/f")).unwrap();
        write_now(&mut disk, ino, 1, 0, 1);
        let covered = disk.covered(ino);
        write_now(&mut disk, ino, 2, 0, 2);
        write_now(&mut disk, ino, 3, 512, 3);
        disk.synced(ino, &covered);
        let mut seen = BTreeSet::new();
        for mask in 0..1usize << disk.pending() {
            let after = disk.cut_keeping(|i| mask >> i & 1 == 1);
            seen.insert((byte_at(&after, 0), byte_at(&after, 512)));
        }
        assert_eq!(seen, BTreeSet::from([(1, 0), (1, 3), (2, 0), (2, 3)]));
    }

    #[test]
    fn what_a_synced_write_covered_never_comes_back() {
        let mut disk = Disk::default();
        disk.put("/f", &[0; 2048]);
        let ino = disk.lookup(Path::new("/f")).unwrap();
        // Applied first, not ended: not covered by the sync that covers the second.
        disk.begin(ino, 1, Effect::write(0, &[1; 1024]));
        disk.apply_next(ino, 1);
        write_now(&mut disk, ino, 2, 0, 2);
        let covered = disk.covered(ino);
        disk.synced(ino, &covered);
        for seed in 0..100 {
            let after = disk.power_cut(&mut Rng::new(seed));
            assert_eq!(byte_at(&after, 0), 2);
            assert!([0, 1].contains(&byte_at(&after, 512)));
        }
    }

    #[test]
    fn a_failed_sync_loses_data_that_a_later_one_does_not_bring_back() {
        let lost = (0..100).filter(|&seed| {
            let mut disk = Disk::default();
            disk.put("/f", &[0; 2048]);
            let ino = disk.lookup(Path::new("/f")).unwrap();
            write_now(&mut disk, ino, 1, 0, 1);
            let covered = disk.covered(ino);
            disk.sync_failed(ino, &covered, &mut Rng::new(seed));
            let covered = disk.covered(ino);
            disk.synced(ino, &covered);
            byte_at(&disk.cut_keeping(|_| true), 0) == 0
        });
        assert!((20..80).contains(&lost.count()));
    }

    /// Files outside that nobody may open.
    struct Locked;

    impl Outside for Locked {
        fn find(&self, _: &Path) -> io::Result<Option<(u64, Arc<dyn Base>)>> {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }

    #[test]
    fn a_file_outside_that_can_not_be_opened_is_not_taken_for_a_missing_one_later() {
        let mut disk = Disk::over(Arc::new(Locked));
        assert!((0..2).all(|_| disk.find(Path::new("/f")).is_err()));
    }

    #[test]
    fn a_name_is_durable_only_when_its_directory_was_synced() {
        let mut disk = Disk::default();
        disk.create(1, Path::new("/d/a"));
        assert!(disk.cut_keeping(|_| false).lookup(Path::new("/d/a")).is_none());
        let covered = disk.covered_names(Path::new("/d"));
        disk.names_synced(&covered);
        disk.rename(2, Path::new("/d/a"), Path::new("/d/b"));
        let lost = disk.cut_keeping(|_| false);
        assert!(lost.lookup(Path::new("/d/a")).is_some() && lost.lookup(Path::new("/d/b")).is_none());
    }
}
