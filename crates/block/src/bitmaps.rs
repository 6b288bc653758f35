//! The named dirty bitmaps of a node.
//!
//! Laws:
//! - every change of a node, whichever way it takes, is in each of its bitmaps that records before it is acknowledged;
//! - a bitmap that is said to be inconsistent may miss changes: nothing is done with it but its removal;
//! - one that somebody uses (an export shows it) changes by writes alone.
//!
//! A persistent bitmap is kept in the image. The image's driver loads those there are when it is opened, and stores them when
//! it is closed or becomes read-only ([`BitmapStore`]).
use crate::bitmap::DirtyBitmap;
use crate::error::{BlockError, ErrorKind, Result};
use crate::hooks::NodeChange;
use crate::node::Node;
use crate::request::Flags;
use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use rt::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*, fence};

/// Longest name in bytes.
pub const MAX_BITMAP_NAME: usize = 1023;
/// Least granularity in bytes.
const MIN_GRANULARITY: u64 = 512;
/// The granularity where nothing is asked for, for images with clusters of other sizes at most and at least.
const USUAL_GRANULARITY: std::ops::RangeInclusive<u64> = 4096..=65536;

/// Stands for the users of a bitmap that is being removed: it gets no others.
const LEAVING: usize = usize::MAX;

/// A dirty bitmap with a name.
pub struct NamedBitmap {
    name: Arc<str>,
    bits: Arc<DirtyBitmap>,
    enabled: AtomicBool,
    persistent: bool,
    consistent: bool,
    /// Another machine has it now: it is not stored here.
    handed_over: AtomicBool,
    /// How many use it, or [`LEAVING`].
    users: AtomicUsize,
    /// What records in its place while a job works with its bits.
    successor: ArcSwapOption<DirtyBitmap>,
}

/// A use of a bitmap; it ends when this is dropped.
#[must_use = "the bitmap is in use until it is dropped"]
pub struct BitmapUse(Arc<NamedBitmap>);

/// A bitmap whose bits a job has taken. It is one again, with all that was recorded before and since, when this is dropped.
#[must_use = "the bitmap is one again when this is dropped"]
pub struct BitmapSplit {
    bitmap: Arc<NamedBitmap>,
}

/// The removal of a bitmap that the image has no more. It still records, and is there as before if this is dropped; the
/// image gets it again when it is closed.
#[must_use = "the bitmap stays unless its removal is finished"]
pub struct BitmapRemoval {
    bitmaps: Arc<Bitmaps>,
    bitmap: Arc<NamedBitmap>,
    finished: bool,
}

/// The bitmaps of a node.
#[derive(Default)]
pub struct Bitmaps {
    /// The oldest first.
    list: ArcSwap<Vec<Arc<NamedBitmap>>>,
    count: AtomicUsize,
    adding: Mutex<()>,
}

/// Where a format keeps bitmaps in the image.
pub trait BitmapStore: Send + Sync {
    /// Refuses a further bitmap that could not be stored.
    fn can_store(&self, name: &str, granularity: u64) -> Result<()>;

    /// Takes a bitmap out of the image, durably, if it is there.
    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<()>>;
}

impl NamedBitmap {
    /// A bitmap that records nothing yet. Names have 1 to 1,023 bytes.
    pub fn new(name: impl Into<Arc<str>>, bits: DirtyBitmap) -> Self {
        Self {
            name: name.into(),
            bits: Arc::new(bits),
            enabled: AtomicBool::new(false),
            persistent: false,
            consistent: true,
            handed_over: AtomicBool::new(false),
            users: AtomicUsize::new(0),
            successor: ArcSwapOption::empty(),
        }
    }

    /// The same, recording if `enabled`, and kept in the image if `persistent`.
    #[must_use]
    pub fn with(mut self, enabled: bool, persistent: bool) -> Self {
        (*self.enabled.get_mut(), self.persistent) = (enabled, persistent);
        self
    }

    /// The same, as one of the image that may miss changes.
    #[must_use]
    pub fn inconsistent(mut self) -> Self {
        self.consistent = false;
        self.with(false, true)
    }

    /// Its name, unique among those of its node.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its bits.
    pub fn bits(&self) -> &Arc<DirtyBitmap> {
        &self.bits
    }

    /// Whether changes are recorded in it.
    pub fn is_enabled(&self) -> bool {
        self.enabled.load(Acquire)
    }

    /// Has changes recorded in it from now on, or no more.
    pub fn enable(&self, on: bool) -> Result<()> {
        self.check_idle()?;
        self.check_consistent()?;
        self.set_enabled(on);
        Ok(())
    }

    /// The same whoever uses it, for what is undone.
    pub fn set_enabled(&self, on: bool) {
        self.enabled.store(on, Release);
    }

    /// Whether it is kept in the image.
    pub fn is_persistent(&self) -> bool {
        self.persistent
    }

    /// Whether it is another machine's now, which stores it.
    pub fn is_handed_over(&self) -> bool {
        self.handed_over.load(Acquire)
    }

    /// Gives it to another machine: it is there, and not stored here; or takes it back.
    pub fn hand_over(&self, given: bool) {
        self.handed_over.store(given, Release);
    }

    /// Whether it covers all changes that it was to record.
    pub fn is_consistent(&self) -> bool {
        self.consistent
    }

    /// Whether somebody uses it.
    pub fn is_busy(&self) -> bool {
        self.users.load(Acquire) > 0
    }

    /// Refuses one that is in use.
    fn check_idle(&self) -> Result<()> {
        if self.is_busy() { Err(self.busy()) } else { Ok(()) }
    }

    fn busy(&self) -> BlockError {
        let text = format!("Bitmap '{}' is currently in use by another operation", self.name);
        BlockError::new(ErrorKind::Busy, text)
    }

    /// Refuses one that may miss changes.
    fn check_consistent(&self) -> Result<()> {
        if self.consistent {
            return Ok(());
        }
        let text = format!(
            "Bitmap '{}' is inconsistent: changes may be missing in it; it can only be removed",
            self.name
        );
        Err(BlockError::invalid(text))
    }

    /// Refuses one whose bits mean nothing, or are about to change.
    pub fn check_usable(&self) -> Result<()> {
        self.check_idle()?;
        self.check_consistent()
    }

    /// Uses it, so that it is not removed and changes by writes alone.
    pub fn hold(self: &Arc<Self>) -> Result<BitmapUse> {
        self.check_consistent()?;
        let more = |users| (users != LEAVING).then(|| users + 1);
        self.users.fetch_update(AcqRel, Acquire, more).map_err(|_| self.busy())?;
        Ok(BitmapUse(self.clone()))
    }

    /// Takes its bits for a job, nobody being inside the node: they stay as they are, and what is written from now on is
    /// recorded apart. It is in use until then, by the job alone.
    pub fn split(self: &Arc<Self>) -> Result<BitmapSplit> {
        self.check_consistent()?;
        self.users.compare_exchange(0, LEAVING, AcqRel, Acquire).map_err(|_| self.busy())?;
        let successor = DirtyBitmap::new(self.bits.length(), self.bits.granularity());
        self.successor.store(Some(Arc::new(successor)));
        Ok(BitmapSplit { bitmap: self.clone() })
    }

    fn resize(&self, length: impl Fn(u64) -> u64) {
        self.bits.resize(&length);
        if let Some(successor) = &*self.successor.load() {
            successor.resize(&length);
        }
    }

    fn mark(&self, offset: u64, len: u64) {
        if !self.is_enabled() {
            return;
        }
        let Some(successor) = &*self.successor.load() else { return self.bits.mark(offset, len) };
        successor.mark(offset, len);
        // It may have been merged before this mark was in it.
        fence(SeqCst);
        if self.successor.load().as_ref().is_none_or(|now| !Arc::ptr_eq(now, successor)) {
            self.bits.mark(offset, len);
        }
    }
}

impl BitmapUse {
    /// The bitmap.
    pub fn bitmap(&self) -> &Arc<NamedBitmap> {
        &self.0
    }
}

impl Drop for BitmapUse {
    fn drop(&mut self) {
        self.0.users.fetch_sub(1, AcqRel);
    }
}

impl BitmapSplit {
    /// Its bits, as they were.
    pub fn bits(&self) -> &DirtyBitmap {
        self.bitmap.bits()
    }

    /// Has it keep nothing of what was recorded before but what `left` has. Nobody is inside the node.
    pub fn renew(self, left: Option<&DirtyBitmap>) {
        self.bitmap.bits.clear();
        if let Some(left) = left {
            self.bitmap.bits.merge(left);
        }
    }
}

impl Drop for BitmapSplit {
    fn drop(&mut self) {
        if let Some(successor) = self.bitmap.successor.swap(None) {
            fence(SeqCst);
            self.bitmap.bits.merge(&successor);
        }
        self.bitmap.users.store(0, Release);
    }
}

impl BitmapRemoval {
    /// Takes it off its node.
    pub fn finish(mut self) {
        self.bitmaps.remove(&self.bitmap);
        self.finished = true;
    }
}

impl Drop for BitmapRemoval {
    fn drop(&mut self) {
        if !self.finished {
            self.bitmap.users.store(0, Release);
        }
    }
}

impl Bitmaps {
    /// All of them, the oldest first.
    pub fn all(&self) -> Arc<Vec<Arc<NamedBitmap>>> {
        self.list.load_full()
    }

    /// The one of this name.
    pub fn find(&self, name: &str) -> Option<Arc<NamedBitmap>> {
        self.list.load().iter().find(|bitmap| *bitmap.name == *name).cloned()
    }

    /// Adds one, whose name must be free.
    pub fn add(&self, bitmap: NamedBitmap) -> Result<Arc<NamedBitmap>> {
        let _adding = self.adding.lock();
        if self.find(&bitmap.name).is_some() {
            return Err(BlockError::invalid(format!("Bitmap already exists: {}", bitmap.name)));
        }
        let bitmap = Arc::new(bitmap);
        self.set(|list| list.push(bitmap.clone()));
        Ok(bitmap)
    }

    /// Adds many, whose names differ, at once.
    pub fn extend(&self, bitmaps: Vec<NamedBitmap>) {
        let _adding = self.adding.lock();
        self.set(|list| list.extend(bitmaps.into_iter().map(Arc::new)));
    }

    /// Takes one off.
    pub fn remove(&self, bitmap: &Arc<NamedBitmap>) {
        let _adding = self.adding.lock();
        self.set(|list| list.retain(|other| !Arc::ptr_eq(other, bitmap)));
    }

    /// Those that the image holds, as soon as it was let go: persistent ones, but for what was handed over.
    pub(crate) fn of_image(&self) -> Vec<Arc<NamedBitmap>> {
        let of_image = |bitmap: &&Arc<NamedBitmap>| bitmap.persistent && !bitmap.is_handed_over();
        self.list.load().iter().filter(of_image).cloned().collect()
    }

    /// Refuses to let the image go while somebody uses one of those that go with it.
    pub(crate) fn check_none_of_image_is_used(&self) -> Result<()> {
        self.of_image().iter().try_for_each(|bitmap| bitmap.check_idle())
    }

    /// Takes off those that the image holds.
    pub(crate) fn forget_those_of_image(&self) -> Vec<Arc<NamedBitmap>> {
        let _adding = self.adding.lock();
        let gone = self.of_image();
        self.set(|list| list.retain(|bitmap| !gone.iter().any(|gone| Arc::ptr_eq(gone, bitmap))));
        gone
    }

    /// Has those back that were taken off.
    pub(crate) fn put_back(&self, bitmaps: &[Arc<NamedBitmap>]) {
        let _adding = self.adding.lock();
        self.set(|list| list.extend(bitmaps.iter().cloned()));
    }

    fn set(&self, change: impl FnOnce(&mut Vec<Arc<NamedBitmap>>)) {
        let mut list = Vec::clone(&self.list.load());
        change(&mut list);
        let count = list.len();
        self.list.store(Arc::new(list));
        self.count.store(count, Release);
    }

    /// Records a change of a node that has this length now: what is written behind the end of a file makes it longer. One
    /// relaxed load where there is no bitmap.
    pub(crate) fn mark(&self, change: NodeChange, length: impl Fn() -> u64) {
        if self.count.load(Relaxed) == 0 || change.request.has(Flags::UNCHANGED) {
            return;
        }
        let end = change.offset.saturating_add(change.len);
        loop {
            let list = self.list.load();
            for bitmap in list.iter() {
                if bitmap.bits.length() < end {
                    bitmap.resize(|old| old.max(length()));
                }
                bitmap.mark(change.offset, change.len);
            }
            // A bitmap that was added meanwhile may have taken over the bits of another one before this change was in them.
            fence(SeqCst);
            if Arc::ptr_eq(&list, &self.list.load()) {
                return;
            }
        }
    }

    /// Refuses a length of the node that one of them could not record all changes of, or not follow: the image has it in a
    /// form that can't be used here.
    pub(crate) fn check_length(&self, length: u64) -> Result<()> {
        let list = self.list.load();
        list.iter().try_for_each(|bitmap| bitmap.check_consistent())?;
        let covers = |bitmap: &Arc<NamedBitmap>| covers(bitmap.bits.granularity(), length);
        let Some(short) = list.iter().find(|bitmap| !covers(bitmap)) else {
            return Ok(());
        };
        let text = format!(
            "Bitmap '{}' of granularity {} can't cover {length} bytes; remove it first",
            short.name,
            short.bits.granularity()
        );
        Err(BlockError::new(ErrorKind::Limit, text))
    }

    /// The node has another length, which follows from the one that each of them has.
    pub(crate) fn resize(&self, length: impl Fn(u64) -> u64) {
        self.list.load().iter().for_each(|bitmap| bitmap.resize(&length));
    }
}

/// Whether a bitmap of this granularity can have a bit for each part of a node of so many bytes.
fn covers(granularity: u64, length: u64) -> bool {
    length.div_ceil(granularity) <= DirtyBitmap::MAX_CHUNKS
}

/// What a new bitmap is to be.
#[derive(Debug, Clone)]
pub struct NewBitmap {
    /// Its name.
    pub name: String,
    /// Bytes a bit; what suits the node if it is left out.
    pub granularity: Option<u64>,
    /// Kept in the image.
    pub persistent: bool,
    /// Records from the beginning.
    pub enabled: bool,
}

impl Node {
    /// Its dirty bitmaps.
    pub fn bitmaps(&self) -> &Bitmaps {
        &self.bitmaps
    }

    /// The dirty bitmap of this name.
    pub fn need_bitmap(&self, name: &str) -> Result<Arc<NamedBitmap>> {
        let missing = || BlockError::new(ErrorKind::NotFound, format!("Dirty bitmap '{name}' not found"));
        self.bitmaps.find(name).ok_or_else(missing)
    }

    /// Has all its bitmaps as long as it is: they may have come from a program that knew of another length.
    pub fn fit_bitmaps(&self) {
        self.bitmaps.resize(|_| self.length());
    }

    /// The granularity of bitmaps where nothing is asked for, in bytes.
    pub fn usual_granularity(&self) -> u64 {
        let cluster = self.facts().cluster_size.unwrap_or(u64::MAX);
        cluster.clamp(*USUAL_GRANULARITY.start(), *USUAL_GRANULARITY.end())
    }

    /// Adds a dirty bitmap.
    pub fn add_bitmap(&self, new: NewBitmap) -> Result<Arc<NamedBitmap>> {
        let NewBitmap { name, granularity, persistent, enabled } = new;
        if name.is_empty() {
            return Err(BlockError::invalid("Bitmap name cannot be empty"));
        }
        if name.len() > MAX_BITMAP_NAME {
            let text = format!("Bitmap name too long: it has more than {MAX_BITMAP_NAME} bytes");
            return Err(BlockError::invalid(text));
        }
        let granularity = granularity.unwrap_or_else(|| self.usual_granularity());
        if granularity < MIN_GRANULARITY || !granularity.is_power_of_two() {
            return Err(BlockError::invalid("Granularity must be power of 2 and at least 512"));
        }
        if !covers(granularity, self.length()) {
            let text = format!(
                "a bitmap of granularity {granularity} over {} bytes would be too large; take a larger granularity",
                self.length()
            );
            return Err(BlockError::new(ErrorKind::Limit, text));
        }
        if self.bitmaps.find(&name).is_some() {
            return Err(BlockError::invalid(format!("Bitmap already exists: {name}")));
        }
        if persistent {
            self.bitmap_store()?.can_store(&name, granularity)?;
        }
        let bits = DirtyBitmap::new(self.length(), granularity);
        self.bitmaps.add(NamedBitmap::new(name.as_str(), bits).with(enabled, persistent))
    }

    /// Where the node's image keeps bitmaps, of one that may be written to.
    fn bitmap_store(&self) -> Result<&dyn BitmapStore> {
        let none = || {
            let text = format!("Format driver '{}' does not support bitmaps", self.driver_name());
            BlockError::unsupported(text).at_node(&self.name)
        };
        let store = self.driver.bitmap_store().ok_or_else(none)?;
        if !self.is_active() {
            return Err(self.inactive_error());
        }
        if self.read_only() {
            let text = format!("'{}' is read-only: no bitmap can be stored in it", self.name);
            return Err(BlockError::new(ErrorKind::ReadOnly, text).at_node(&self.name));
        }
        Ok(store)
    }

    /// Refuses to change a bitmap that the image keeps and can't be given any more.
    pub fn check_bitmap_writable(&self, bitmap: &NamedBitmap) -> Result<()> {
        if bitmap.is_persistent() && (self.read_only() || !self.is_active()) {
            let text = format!("Bitmap '{}' is readonly and cannot be modified", bitmap.name());
            return Err(BlockError::new(ErrorKind::ReadOnly, text));
        }
        Ok(())
    }

    /// Clears all bits of a bitmap.
    pub fn clear_bitmap(&self, bitmap: &NamedBitmap) -> Result<()> {
        self.check_changeable(bitmap)?;
        bitmap.bits.clear();
        Ok(())
    }

    /// Sets the bits of a bitmap that are set in others, which may be those of other nodes.
    pub fn merge_bitmaps(&self, into: &NamedBitmap, from: &[Arc<NamedBitmap>]) -> Result<()> {
        self.check_changeable(into)?;
        for source in from {
            source.check_idle()?;
            source.check_consistent()?;
            let (length, other) = (into.bits.length(), source.bits.length());
            if length != other {
                return Err(BlockError::invalid(format!(
                    "Bitmaps are of different sizes (destination size is {length}, source size is {other}) and can't be \
                     merged"
                )));
            }
        }
        from.iter().for_each(|source| into.bits.merge(&source.bits));
        Ok(())
    }

    /// Refuses to change the bits of a bitmap.
    fn check_changeable(&self, bitmap: &NamedBitmap) -> Result<()> {
        bitmap.check_idle()?;
        self.check_bitmap_writable(bitmap)?;
        bitmap.check_consistent()
    }

    /// Removes a dirty bitmap, from the image too.
    pub async fn remove_bitmap(&self, bitmap: &Arc<NamedBitmap>) -> Result<()> {
        self.begin_removal(bitmap).await.map(BitmapRemoval::finish)
    }

    /// Takes a dirty bitmap out of the image. Nobody can begin to use it meanwhile.
    pub async fn begin_removal(&self, bitmap: &Arc<NamedBitmap>) -> Result<BitmapRemoval> {
        bitmap.users.compare_exchange(0, LEAVING, AcqRel, Acquire).map_err(|_| bitmap.busy())?;
        let (bitmaps, bitmap) = (self.bitmaps.clone(), bitmap.clone());
        let removal = BitmapRemoval { bitmaps, bitmap, finished: false };
        self.check_bitmap_writable(&removal.bitmap)?;
        if removal.bitmap.is_persistent() {
            self.bitmap_store()?.remove(removal.bitmap.name()).await?;
        }
        Ok(removal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bitmap_that_is_being_removed_gets_no_users_and_one_in_use_is_not_removed() {
        let bitmaps = Arc::new(Bitmaps::default());
        let bitmap =
            bitmaps.add(NamedBitmap::new("b", DirtyBitmap::new(1 << 20, 512)).with(true, false)).unwrap();
        let leave = || {
            bitmap.users.compare_exchange(0, LEAVING, AcqRel, Acquire).is_ok().then(|| BitmapRemoval {
                bitmaps: bitmaps.clone(),
                bitmap: bitmap.clone(),
                finished: false,
            })
        };
        let users = [bitmap.hold().unwrap(), bitmap.hold().unwrap()];
        assert!(leave().is_none());
        drop(users);
        let removal = leave().unwrap();
        assert!(bitmap.hold().is_err() && bitmap.is_busy() && bitmaps.find("b").is_some());
        drop(removal);
        assert!(bitmap.hold().is_ok() && !bitmap.is_busy());
        leave().unwrap().finish();
        assert!(bitmap.hold().is_err(), "who found it before it left comes too late");
        assert!(bitmaps.find("b").is_none());
    }

    #[test]
    fn marks_that_meet_the_end_of_a_split_are_all_there() {
        for _ in 0..50 {
            let bits = DirtyBitmap::new(1 << 20, 512);
            let bitmap = Arc::new(NamedBitmap::new("b", bits).with(true, false));
            let split = bitmap.split().unwrap();
            assert!(bitmap.split().is_err() && bitmap.hold().is_err());
            std::thread::scope(|scope| {
                scope.spawn(|| (0..2048).for_each(|chunk| bitmap.mark(chunk * 512, 1)));
                scope.spawn(|| drop(split));
            });
            assert_eq!(bitmap.bits().dirty_chunks(), 2048);
            assert!(!bitmap.is_busy());
        }
    }

    #[test]
    fn a_split_bitmap_keeps_of_before_what_it_is_told_and_all_that_was_recorded_since() {
        let bitmap = Arc::new(NamedBitmap::new("b", DirtyBitmap::new(1 << 20, 512)).with(true, false));
        let dirty = || bitmap.bits().runs().collect::<Vec<_>>();
        bitmap.mark(0, 512);
        bitmap.mark(4096, 512);
        let split = bitmap.split().unwrap();
        bitmap.mark(8192, 512);
        assert_eq!(dirty(), [(0, 512), (4096, 4608)]);
        let left = DirtyBitmap::new(1 << 20, 4096);
        left.mark(0, 1);
        split.renew(Some(&left));
        assert_eq!(dirty(), [(0, 4096), (8192, 8704)]);
        bitmap.split().unwrap().renew(None);
        assert!(dirty().is_empty());
        let split = bitmap.split().unwrap();
        bitmap.mark(512, 512);
        drop(split);
        assert_eq!(dirty(), [(512, 1024)]);
    }
}
