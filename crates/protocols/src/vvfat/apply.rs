//! A folder is changed to what its disk says: all of it, or nothing.
//!
//! ```text
//!  look   what goes is what it was            nobody else changed it
//!  stage  new content, in a folder of its own  synced; what the disk shows of files that go is kept
//!  move   out, then in, each step noted        an error: back, step by step
//!  sync   the folders
//!  clean  what went is removed
//! ```
//!
//! At each moment all content is in its place or in the staging folder, which tells in a file what is what: what is left there when
//! the program is killed can be put back by hand.
use super::changes::{Changes, Fate};
use super::entry;
use super::layout::Layout;
use super::shown::{PORTION, Shown};
#[cfg(test)]
use super::tests::fault;
use super::tree::{STAGING, told};
use super::volume::{Index, ROOT, Volume};
use block::{BlockError, ErrorKind, Result};
use rt::file::{FileKind, FileStat};
use rt::folder::Folder;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

/// Files and folders that are synced one by one; beyond it the whole file system is.
const MOST_SYNCS: usize = 32;
/// Names that others may have left in a folder that is to be removed, for one of them to be told.
const MOST_LEFT: usize = 1000;
/// The file that tells what is what.
const CONTENTS: &str = "contents";

/// What a folder holds, as far as its disk shows it.
pub struct Known {
    pub volume: Volume,
    /// What each node was on the host; `None` of the root, and of what has vanished.
    pub stats: Vec<Option<FileStat>>,
}

/// What is done.
pub struct Work<'a> {
    pub folder: &'a Folder,
    /// Its name, for messages.
    pub name: &'a str,
    pub layout: &'a Layout,
    pub shown: &'a Shown,
    pub before: &'a Known,
    pub now: &'a Volume,
    pub changes: &'a Changes,
}

/// The outcome: what each node is on the host, and what a person should know.
pub type Done = (Vec<Option<FileStat>>, Option<String>);

/// A step that can be undone.
enum Step {
    Renamed { from: PathBuf, to: PathBuf },
    Made(PathBuf),
    Dressed(PathBuf, FileStat),
}

/// What has been done so far.
struct Progress {
    staging: PathBuf,
    /// Files in it.
    staged: Vec<(PathBuf, Id)>,
    /// There are so few that each is synced by itself.
    sync_each: bool,
    steps: Vec<Step>,
    /// What was to go, and is gone already.
    vanished: HashSet<Index>,
}

impl Progress {
    /// Whether what a step has moved is there yet: of what was staged, the file itself.
    fn is_ours(&self, from: &Path, found: std::io::Result<FileStat>) -> bool {
        let staged = self.staged.iter().find(|(path, _)| path == from);
        staged.is_none_or(|(_, id)| found.is_ok_and(|found| identity(&found) == *id))
    }
}

impl Work<'_> {
    /// Changes the folder.
    ///
    /// # Errors
    /// Those of the host, and of what others have changed there. The folder is as it was, or the error says otherwise.
    pub async fn apply(&self) -> Result<Done> {
        let staging = PathBuf::from(format!("{STAGING}{:016x}", rt::random_u64()));
        let vanished = self.look().await?;
        let mut progress =
            Progress { staging, staged: Vec::new(), sync_each: true, steps: Vec::new(), vanished };
        match self.carry_out(&mut progress).await {
            Ok(stats) => Ok((stats, self.clean(&progress).await)),
            Err(error) => {
                #[cfg(test)]
                if fault::is_kill(self.name) {
                    return Err(error);
                }
                match self.undo(progress).await {
                    None => Err(error),
                    Some(left) => Err(error.context(left)),
                }
            }
        }
    }

    /// Refuses to touch what others have changed. What is to go, and is gone already, is answered.
    async fn look(&self) -> Result<HashSet<Index>> {
        let mut vanished = HashSet::new();
        let dressed = self.now.below_root().filter_map(|(index, _)| self.dressed(index));
        let dressed: Vec<_> = dressed.collect();
        let moved: HashSet<Index> = self.moved().chain(dressed.iter().copied()).collect();
        for old in self.changes.leaving.iter().copied().chain(dressed) {
            let path = self.before.volume.path(old);
            let known = self.before.stats.get(old as usize).copied().flatten();
            match (self.folder.stat(&path).await, known) {
                (Ok(found), Some(known)) if is_same(&found, &known) => {}
                (Err(e), _) if e.kind() == std::io::ErrorKind::NotFound && !moved.contains(&old) => {
                    vanished.insert(old);
                }
                (Err(e), _) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(BlockError::os(told(self.name, &path), &e));
                }
                _ => return Err(self.changed_by_others(&path)),
            }
        }
        Ok(vanished)
    }

    async fn carry_out(&self, progress: &mut Progress) -> Result<Vec<Option<FileStat>>> {
        let mut stats = vec![None; self.now.nodes.len()];
        if !self.changes.is_empty() {
            self.folder
                .create_folder(&progress.staging, 0o700)
                .await
                .map_err(|e| self.failed(&progress.staging, &e))?;
            self.stage(progress, &mut stats).await?;
            self.move_out(progress).await?;
            self.move_in(progress, &mut stats).await?;
        }
        self.dress(progress, &mut stats).await?;
        if !progress.steps.is_empty() {
            self.sync(progress).await?;
        }
        Ok(stats)
    }

    /// Writes new content, and keeps what the disk shows of old content.
    async fn stage(&self, progress: &mut Progress, stats: &mut [Option<FileStat>]) -> Result<()> {
        let mut contents = "The disk was being changed. What is here, and where it belongs:\n".to_owned();
        for old in &self.changes.leaving {
            let path = self.before.volume.path(*old);
            contents +=
                &format!("{} was {}\n", staged_old(Path::new(""), *old).display(), told(self.name, &path));
        }
        let is_new = |(index, node): &(Index, &super::volume::Node)| {
            !node.is_folder && matches!(self.changes.fate(*index), Fate::New(_))
        };
        let new: Vec<Index> = self.now.below_root().filter(is_new).map(|(index, _)| index).collect();
        progress.sync_each = new.len() <= MOST_SYNCS;
        for index in &new {
            let path = self.now.path(*index);
            contents += &format!("new-{index} is for {}\n", told(self.name, &path));
            let staged = progress.staging.join(format!("new-{index}"));
            let stat = self
                .write(*index, &staged, progress)
                .await
                .map_err(|e| e.context(format!("writing {}", told(self.name, &path))))?;
            if let Some(to) = stats.get_mut(*index as usize) {
                *to = Some(stat);
            }
        }
        let list = progress.staging.join(CONTENTS);
        let file = self.folder.create_file(&list).await.map_err(|e| self.failed(&list, &e))?;
        progress.staged.push((list.clone(), identity(&file.stat().map_err(|e| self.failed(&list, &e))?)));
        file.write_all(0, contents.as_bytes()).await.map_err(|e| self.failed(&list, &e))?;
        file.sync(false).await.map_err(|e| self.failed(&list, &e))?;
        if !progress.sync_each {
            self.folder.sync_all().await.map_err(|e| self.failed(&progress.staging, &e))?;
        }
        for path in [&*progress.staging, Path::new("")] {
            self.folder.sync(path).await.map_err(|e| self.failed(path, &e))?;
        }
        let moved: HashSet<Index> = self.moved().collect();
        let gone = |old: &&Index| !moved.contains(old) && !progress.vanished.contains(old);
        for old in self.changes.leaving.iter().filter(gone) {
            for span in self.before.volume.get(*old).into_iter().flat_map(|node| &node.chain) {
                self.shown.keep(self.layout.bytes_of(*span)).await?;
            }
        }
        Ok(())
    }

    /// Writes a file of the disk.
    async fn write(&self, index: Index, staged: &Path, progress: &mut Progress) -> Result<FileStat> {
        self.fault()?;
        let Some(node) = self.now.get(index) else { return Err(BlockError::invalid("no such file")) };
        let os = |e: std::io::Error| BlockError::from_io(&e);
        let file = self.folder.create_file(staged).await.map_err(os)?;
        progress.staged.push((staged.to_owned(), identity(&file.stat().map_err(os)?)));
        let mut written = 0;
        for span in &node.chain {
            let bytes = self.layout.bytes_of(*span);
            let end = bytes.end.min(bytes.start + (u64::from(node.len) - written));
            let mut at = bytes.start;
            while at < end {
                self.fault()?;
                let content = self.shown.read(at..end.min(at + PORTION)).await?;
                at += content.len() as u64;
                file.write_all(written, &content).await.map_err(os)?;
                written += content.len() as u64;
            }
        }
        if let Some(seconds) = entry::seconds(node.modified) {
            self.folder.set_modified(staged, seconds * 1_000_000_000).await.map_err(os)?;
        }
        let model = match self.changes.fate(index) {
            Fate::New(Some(old)) if !progress.vanished.contains(&old) => {
                self.before.volume.get(old).map(|node| (old, node))
            }
            _ => None,
        };
        if let Some((old, _)) = model {
            self.folder.dress_like(staged, &self.before.volume.path(old)).await.map_err(os)?;
        }
        if node.read_only != model.is_some_and(|(_, old)| old.read_only) {
            let mode = self.folder.stat(staged).await.map_err(os)?.mode;
            self.folder.set_mode(staged, with_read_only(mode, node.read_only)).await.map_err(os)?;
        }
        if progress.sync_each {
            file.sync(false).await.map_err(os)?;
        }
        file.stat().map_err(os)
    }

    /// Moves what does not stay to the staging folder, files before the folders that they lie in.
    async fn move_out(&self, progress: &mut Progress) -> Result<()> {
        let moved: HashSet<Index> = self.moved().collect();
        for old in self
            .changes
            .leaving
            .iter()
            .filter(|old| !progress.vanished.contains(old))
            .copied()
            .collect::<Vec<_>>()
        {
            let path = self.before.volume.path(old);
            let is_folder = self.before.volume.get(old).is_some_and(|node| node.is_folder);
            if is_folder && !moved.contains(&old) {
                let left = self.folder.list(&path, MOST_LEFT).await.map_err(|e| self.failed(&path, &e))?;
                if let Some(left) = left.first() {
                    let left = told(self.name, &path.join(&left.name));
                    let text = format!(
                        "{} can't be removed: it holds {left}, which the disk does not show",
                        told(self.name, &path)
                    );
                    return Err(BlockError::new(ErrorKind::Refused, text));
                }
            }
            let staged = staged_old(&progress.staging, old);
            self.rename(path.clone(), staged.clone(), progress).await?;
            // Writing what is new takes its time: what was looked at before may be another one by now.
            if !self.is_known(old, &staged).await.map_err(|e| self.failed(&path, &e))? {
                return Err(self.changed_by_others(&path));
            }
        }
        Ok(())
    }

    /// Whether what lies at a place is what the disk was told of, unchanged.
    async fn is_known(&self, old: Index, at: &Path) -> std::io::Result<bool> {
        let known = self.before.stats.get(old as usize).copied().flatten();
        let found = self.folder.stat(at).await?;
        Ok(known.is_some_and(|known| is_same(&found, &known)))
    }

    fn changed_by_others(&self, path: &Path) -> BlockError {
        let text = format!("{} was changed by others meanwhile", told(self.name, path));
        BlockError::new(ErrorKind::Refused, text)
    }

    /// Moves what is new or has moved to its place, folders before what lies in them.
    async fn move_in(&self, progress: &mut Progress, stats: &mut [Option<FileStat>]) -> Result<()> {
        for (index, node) in self.now.below_root() {
            let path = self.now.path(index);
            let fate = self.changes.fate(index);
            match fate {
                Fate::Stays(_) => {}
                Fate::Moves(old) => self.rename(staged_old(&progress.staging, old), path, progress).await?,
                Fate::New(_) if node.is_folder => {
                    self.fault()?;
                    self.folder.create_folder(&path, 0o755).await.map_err(|e| self.failed(&path, &e))?;
                    progress.steps.push(Step::Made(path.clone()));
                    let made = self.folder.stat(&path).await.map_err(|e| self.failed(&path, &e))?;
                    if let Some(to) = stats.get_mut(index as usize) {
                        *to = Some(made);
                    }
                }
                Fate::New(_) => {
                    self.rename(progress.staging.join(format!("new-{index}")), path, progress).await?
                }
            }
            if let (Some(to), Some(old)) = (stats.get_mut(index as usize), fate.old()) {
                *to = self.before.stats.get(old as usize).copied().flatten();
            }
        }
        Ok(())
    }

    async fn rename(&self, from: PathBuf, to: PathBuf, progress: &mut Progress) -> Result<()> {
        self.fault()?;
        match self.folder.rename(&from, &to).await {
            Ok(()) => progress.steps.push(Step::Renamed { from, to }),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                let text = format!("{} was made by others meanwhile", told(self.name, &to));
                return Err(BlockError::new(ErrorKind::Refused, text));
            }
            Err(e) => {
                return Err(self.failed(if from.starts_with(&progress.staging) { &to } else { &from }, &e));
            }
        }
        Ok(())
    }

    /// Sets permissions and times of files that stay the host's.
    async fn dress(&self, progress: &mut Progress, stats: &mut [Option<FileStat>]) -> Result<()> {
        for (index, node) in self.now.below_root() {
            if self.changes.is_empty()
                && let (Some(to), Some(old)) = (stats.get_mut(index as usize), self.changes.fate(index).old())
            {
                *to = self.before.stats.get(old as usize).copied().flatten();
            }
            let Some(old) = self.dressed(index).and_then(|old| self.before.volume.get(old)) else { continue };
            self.fault()?;
            let path = self.now.path(index);
            let failed = |e: std::io::Error| self.failed(&path, &e);
            let stat = self.folder.stat(&path).await.map_err(failed)?;
            progress.steps.push(Step::Dressed(path.clone(), stat));
            if let Some(seconds) = entry::seconds(node.modified).filter(|_| node.modified != old.modified) {
                if_allowed(self.folder.set_modified(&path, seconds * 1_000_000_000).await).map_err(failed)?;
            }
            if node.read_only != old.read_only {
                let mode = with_read_only(stat.mode, node.read_only);
                if_allowed(self.folder.set_mode(&path, mode).await).map_err(failed)?;
            }
            if let Some(to) = stats.get_mut(index as usize) {
                *to = Some(self.folder.stat(&path).await.map_err(failed)?);
            }
        }
        Ok(())
    }

    /// Makes the new names durable, before anything is removed.
    async fn sync(&self, progress: &Progress) -> Result<()> {
        self.fault()?;
        let now: HashMap<Index, Index> = self
            .now
            .below_root()
            .filter_map(|(index, _)| Some((self.changes.fate(index).old()?, index)))
            .collect();
        let mut folders = BTreeSet::from([PathBuf::new()]);
        for (index, node) in self.now.below_root() {
            if !matches!(self.changes.fate(index), Fate::Stays(_)) {
                folders.insert(self.now.path(node.parent));
            }
            if folders.len() > MOST_SYNCS {
                return self.folder.sync_all().await.map_err(|e| self.failed(Path::new(""), &e));
            }
        }
        for old in &self.changes.leaving {
            let parent = self.before.volume.get(*old).map_or(ROOT, |node| node.parent);
            folders.extend(now.get(&parent).map(|parent| self.now.path(*parent)));
            if folders.len() > MOST_SYNCS {
                return self.folder.sync_all().await.map_err(|e| self.failed(Path::new(""), &e));
            }
        }
        if !self.changes.is_empty() {
            folders.insert(progress.staging.clone());
        }
        for path in folders {
            self.folder.sync(&path).await.map_err(|e| self.failed(&path, &e))?;
        }
        Ok(())
    }

    /// Removes what went. What can't be removed is told of.
    async fn clean(&self, progress: &Progress) -> Option<String> {
        if self.changes.is_empty() {
            return None;
        }
        let moved: HashSet<Index> = self.moved().collect();
        let gone = self
            .changes
            .leaving
            .iter()
            .filter(|old| !moved.contains(old) && !progress.vanished.contains(old));
        let (mut result, mut changed) = (Ok(()), false);
        for old in gone {
            #[cfg(test)]
            if fault::is_kill(self.name) && self.fault().is_err() {
                return None;
            }
            let path = staged_old(&progress.staging, *old);
            let removed = match self.before.volume.get(*old) {
                Some(node) if node.is_folder => self.folder.remove_folder(&path).await,
                // Somebody may have it open, and write to it.
                _ if !self.is_known(*old, &path).await.unwrap_or(true) => {
                    changed = true;
                    continue;
                }
                _ => self.folder.remove_file(&path).await,
            };
            result = result.and(removed);
        }
        if changed {
            return Some(format!(
                "what was removed from the disk was changed by others meanwhile: it lies in {}",
                told(self.name, &progress.staging)
            ));
        }
        result = result.and(self.folder.remove_file(&progress.staging.join(CONTENTS)).await);
        result = result.and(self.folder.remove_folder(&progress.staging).await);
        let left = result.err()?;
        Some(format!(
            "what was removed from the disk could not be removed from {}: {left}",
            told(self.name, &progress.staging)
        ))
    }

    /// Takes all steps back; tells what could not be.
    async fn undo(&self, progress: Progress) -> Option<String> {
        let mut result = Ok(());
        for step in progress.steps.iter().rev() {
            let undone = match step {
                Step::Renamed { from, to } => match progress.is_ours(from, self.folder.stat(to).await) {
                    true => self.folder.rename(to, from).await,
                    false => {
                        Err(std::io::Error::other(format!("others have put {} there", told(self.name, to))))
                    }
                },
                Step::Made(path) => self.folder.remove_folder(path).await,
                Step::Dressed(path, stat) => {
                    let mode = if_allowed(self.folder.set_mode(path, stat.mode).await);
                    if_allowed(self.folder.set_modified(path, stat.modified_ns).await).and(mode)
                }
            };
            result = result.and(undone);
        }
        for (path, _) in &progress.staged {
            let is_list = path.ends_with(CONTENTS);
            // As long as something is missing, the list of what lies here is needed.
            if !is_list || result.is_ok() {
                result = result.and(self.folder.remove_file(path).await);
            }
        }
        match self.folder.remove_folder(&progress.staging).await {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            removed => result = result.and(removed),
        }
        let left = result.err()?;
        Some(format!(
            "the folder could not be put back as it was ({left}): what is missing lies in {}",
            told(self.name, &progress.staging)
        ))
    }

    /// Which nodes of the folder move.
    fn moved(&self) -> impl Iterator<Item = Index> {
        self.changes.fates.iter().filter_map(|fate| match fate {
            Fate::Moves(old) => Some(*old),
            _ => None,
        })
    }

    /// Which file of the folder gets other permissions or another time.
    fn dressed(&self, index: Index) -> Option<Index> {
        let node = self.now.get(index).filter(|node| !node.is_folder)?;
        let old = self.changes.fate(index).old()?;
        let was = self.before.volume.get(old)?;
        (node.read_only != was.read_only || node.modified != was.modified).then_some(old)
    }

    fn failed(&self, path: &Path, e: &std::io::Error) -> BlockError {
        // The staging folder has another name each time, and the same error is to be told once.
        let is_staging = path.as_os_str().as_encoded_bytes().starts_with(STAGING.as_bytes());
        BlockError::os(
            format!("changing {}", told(self.name, if is_staging { Path::new("") } else { path })),
            e,
        )
    }

    /// Where tests let it fail.
    #[cfg(test)]
    fn fault(&self) -> Result<()> {
        fault::step(self.name)
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "tests let it fail")]
    fn fault(&self) -> Result<()> {
        Ok(())
    }
}

/// The place of what leaves.
fn staged_old(staging: &Path, old: Index) -> PathBuf {
    staging.join(format!("old-{old}"))
}

/// Whether a name leads to what it led to, and that was not written to.
/// Device and inode.
type Id = (u64, u64);

fn identity(stat: &FileStat) -> Id {
    (stat.dev, stat.ino)
}

fn is_same(found: &FileStat, known: &FileStat) -> bool {
    let what = |stat: &FileStat| (stat.kind, stat.dev, stat.ino);
    let content = |stat: &FileStat| (stat.len, stat.modified_ns);
    what(found) == what(known) && (known.kind == FileKind::Directory || content(found) == content(known))
}

/// Only the owner of a file may change its time and its permissions: those of another's stay as they are, and that is no reason to
/// keep back all else.
fn if_allowed(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        result => result,
    }
}

/// Permissions of a file that nobody may write to, or that its owner may.
fn with_read_only(mode: u32, read_only: bool) -> u32 {
    if read_only { mode & !0o222 } else { mode | 0o200 }
}
