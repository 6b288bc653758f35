//! A folder follows what is written to its disk.
//!
//! ```text
//!  write ─▶ overlay ─ a watched sector ─▶ settle: alone · file system as it stands · changes · folder
//!  flush, close ─────────────────────────▶   ╰ damage, or the host refuses: the changes wait, the folder stays as it is
//! ```
//!
//! Guests are in the middle of their work most of the time: that a disk is no sound file system now is no error before it is closed.
//! The same is true of what the host refuses: all that was written waits in the overlay, and is tried again.
//!
//! Work: only writes to sectors of which the folder was made lead to a look at the disk, and [`Pace`] bounds how often.
use super::apply::{Known, Work};
use super::changes::{Changes, Fate};
use super::layout::{Layout, SECTOR};
use super::name::NameError;
use super::overlay::Overlay;
use super::pace::Pace;
use super::shown::Shown;
use super::tree::told;
use super::turn::Turn;
use super::volume::{self, Damage, Index, Volume, Walk};
use block::{BlockError, ErrorKind, Notices, Result};
use parking_lot::Mutex;
use rt::file::FileStat;
use rt::folder::Folder;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a disk is no sound file system before a person is told.
const PATIENCE_NS: u64 = 30_000_000_000;
/// How long what would be removed stays, for it may come back under another name.
const REMOVALS_WAIT: Duration = Duration::from_secs(1);

pub struct Writing {
    folder: Folder,
    /// Its name, for messages.
    name: String,
    layout: Layout,
    pub overlay: Arc<Overlay>,
    notices: Notices,
    /// Requests come in here; the folder is changed alone.
    pub turn: Turn,
    known: futures_util::lock::Mutex<Known>,
    state: Mutex<State>,
}

struct State {
    /// Something watched was written since the disk was looked at.
    changed: bool,
    /// Why what was written is not in the folder.
    waits: Option<BlockError>,
    /// Since when it is no sound file system.
    damaged_since: Option<u64>,
    /// What a person was told last.
    told: Option<String>,
    pace: Pace,
    /// Somebody will look at the disk later.
    is_due: bool,
    /// What was written would remove something.
    removals_wait: bool,
}

/// Why the folder stays as it is.
enum Obstacle {
    Damage(Damage),
    Host(BlockError),
    /// Something would be removed.
    Removal,
}

/// What is done about files that a disk does not show any more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Removals {
    Done,
    /// Done where their clusters are free: of what is being moved they are still taken.
    OfFreed,
    Wait,
}

impl Writing {
    /// Begins with a disk as the folder gave it, to which nothing was written. `found`: what each name led to.
    pub async fn new(
        folder: Folder,
        name: String,
        layout: Layout,
        notices: Notices,
        shown: &Shown,
        overlay: Arc<Overlay>,
        found: Vec<(PathBuf, FileStat)>,
    ) -> Result<Self> {
        folder.may_change().await.map_err(|e| BlockError::os(format!("'{name}' can't be written to"), &e))?;
        let volume = read_volume(&layout, shown).await.map_err(|obstacle| obstacle.error(&name))?;
        let found: HashMap<PathBuf, FileStat> = found.into_iter().collect();
        let stats = volume.below_root().map(|(index, _)| found.get(&volume.path(index)).copied());
        let stats = std::iter::once(None).chain(stats).collect();
        overlay.settled(&volume);
        let state = State {
            changed: false,
            waits: None,
            damaged_since: None,
            told: None,
            pace: Pace::new(rt::now_ns()),
            is_due: false,
            removals_wait: false,
        };
        Ok(Self {
            folder,
            name,
            layout,
            overlay,
            notices,
            turn: Turn::default(),
            known: futures_util::lock::Mutex::new(Known { volume, stats }),
            state: Mutex::new(state),
        })
    }

    /// Takes note of a write, before it is acknowledged: whether the folder is to follow.
    pub fn wrote(&self, at: u64, len: u64) -> bool {
        let watched = self.overlay.is_watched(at, len);
        if watched {
            self.state.lock().changed = true;
        }
        watched
    }

    /// How long the folder does not follow yet; `None` where it is to follow now, or somebody sees to it later.
    pub fn wait(&self) -> Wait {
        let mut state = self.state.lock();
        match state.pace.wait_ns(rt::now_ns()) {
            None => Wait::Now,
            Some(_) if std::mem::replace(&mut state.is_due, true) => Wait::SomebodyDoes,
            Some(ns) => Wait::For(Duration::from_nanos(ns)),
        }
    }

    /// Takes note that the one who waited has come.
    pub fn waited(&self) {
        self.state.lock().is_due = false;
    }

    /// Brings the folder in step with the disk, if there is something new and the disk is a sound file system.
    ///
    /// # Errors
    /// Why what was written is not in the folder. It waits.
    pub async fn settle(&self, shown: &Shown) -> Result<()> {
        self.bring(shown, Removals::Done).await;
        self.state.lock().waits.clone().map_or(Ok(()), Err)
    }

    /// The same after a write, in the middle of a guest's work: what is renamed may be gone from one folder, and in no other one yet.
    /// Where something would be removed, all waits; tells for how long.
    pub async fn settle_in_passing(&self, shown: &Shown) -> Option<Duration> {
        self.bring(shown, Removals::Wait).await;
        let mut state = self.state.lock();
        (state.removals_wait && !std::mem::replace(&mut state.is_due, true)).then_some(REMOVALS_WAIT)
    }

    /// The same when a guest has paused: what would be removed waits only as long as its clusters are taken.
    pub async fn settle_in_a_pause(&self, shown: &Shown) {
        self.bring(shown, Removals::OfFreed).await;
    }

    async fn bring(&self, shown: &Shown, removals: Removals) {
        let mut known = self.known.lock().await;
        if self.state.lock().changed {
            let begun = rt::now_ns();
            let alone = self.turn.alone().await;
            self.state.lock().changed = false;
            let result = self.follow(shown, &mut known, removals).await;
            drop(alone);
            self.judge(result, begun);
        }
    }

    async fn follow(&self, shown: &Shown, known: &mut Known, removals: Removals) -> Result<(), Obstacle> {
        let mut now = read_volume(&self.layout, shown).await?;
        let changes = Changes::between(&known.volume, &mut now, |span| self.overlay.is_fresh(span));
        let changes = changes.map_err(|index| {
            let path = volume::told(&now.path(index));
            Obstacle::Damage(Damage::Name { path, why: NameError::Case })
        })?;
        let may_come_back = |old: &Index| match removals {
            Removals::Done => false,
            Removals::Wait => true,
            Removals::OfFreed => {
                let first = known.volume.get(*old).and_then(|node| node.chain.first());
                first.is_some_and(|span| now.has_lost(span.first))
            }
        };
        if changes.removed().iter().any(may_come_back) {
            return Err(Obstacle::Removal);
        }
        let work = Work {
            folder: &self.folder,
            name: &self.name,
            layout: &self.layout,
            shown,
            before: known,
            now: &now,
            changes: &changes,
        };
        let (stats, left) = work.apply().await.map_err(Obstacle::Host)?;
        if changes.fates.iter().any(|fate| matches!(fate, Fate::Moves(_))) {
            let mut disk = shown.disk.write();
            for (index, node) in now.below_root().filter(|(_, node)| !node.is_folder) {
                if let (Some(span), Some(_)) = (node.chain.first(), changes.fate(index).old()) {
                    disk.moved(span.first, now.path(index));
                }
            }
        }
        self.overlay.settled(&now);
        *known = Known { volume: now, stats };
        left.into_iter().for_each(|text| self.notices.warn(&text));
        Ok(())
    }

    /// Takes note of how it went, and tells a person what should be known.
    fn judge(&self, result: Result<(), Obstacle>, begun: u64) {
        let now = rt::now_ns();
        let mut state = self.state.lock();
        state.pace.spent(now.saturating_sub(begun));
        state.removals_wait = matches!(result, Err(Obstacle::Removal));
        let told = match &result {
            Ok(()) => {
                (state.damaged_since, state.told) = (None, None);
                None
            }
            Err(Obstacle::Removal) => {
                state.changed = true;
                return;
            }
            Err(Obstacle::Damage(damage)) => {
                self.overlay.watch_all();
                let since = *state.damaged_since.get_or_insert(now);
                (now - since > PATIENCE_NS).then(|| (String::from("damage"), damage.to_string()))
            }
            Err(Obstacle::Host(error)) => {
                // The host may allow it later, without a change of the disk.
                state.changed = true;
                Some((error.to_string(), error.to_string()))
            }
        };
        state.waits = result.err().map(|obstacle| obstacle.error(&self.name));
        let text = told.filter(|(what, _)| state.told.as_ref() != Some(what)).map(|(what, text)| {
            state.told = Some(what);
            format!("what was written to the disk is not in '{}' yet: {text}", self.name)
        });
        drop(state);
        text.into_iter().for_each(|text| self.notices.warn(&text));
    }
}

/// When the folder is to follow.
pub enum Wait {
    Now,
    For(Duration),
    SomebodyDoes,
}

impl Obstacle {
    /// The error of a disk that is closed now.
    fn error(self, name: &str) -> BlockError {
        let folder = told(name, Path::new(""));
        match self {
            Self::Damage(damage) => BlockError::of(ErrorKind::Corrupt, damage).context(format!(
                "what was written last is not in {folder}, as the disk is no sound file system"
            )),
            Self::Host(error) => error.context(format!("what was written last is not in {folder}")),
            Self::Removal => {
                BlockError::new(ErrorKind::Busy, format!("what was written last is not in {folder} yet"))
            }
        }
    }
}

impl From<BlockError> for Obstacle {
    fn from(error: BlockError) -> Self {
        Self::Host(error)
    }
}

impl From<Damage> for Obstacle {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage)
    }
}

/// The file system on a disk as it is shown now.
async fn read_volume(layout: &Layout, shown: &Shown) -> Result<Volume, Obstacle> {
    let boot = layout.hidden * SECTOR;
    let first = shown.read(0..SECTOR).await?;
    let boot = shown.read(boot..boot + SECTOR).await?;
    let table = layout.first_table() * SECTOR;
    let table = shown.read(table..table + layout.table * SECTOR).await?;
    let mut walk = Walk::new(layout, &first, &boot, &table)?;
    while let Some(places) = walk.wanted() {
        let mut bytes = Vec::new();
        for place in places {
            bytes.extend_from_slice(&shown.read(place).await?);
        }
        walk.take(&bytes)?;
        rt::yield_now().await;
    }
    Ok(walk.into_volume())
}
