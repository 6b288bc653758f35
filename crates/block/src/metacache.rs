//! Metadata of an image in memory: pages of 64-bit words, which of them are dirty, and whose turn it is to flush.
//!
//! ```text
//!  Cache ── key ─▶ Page { place in the file, words } ◀── Dirty ── seal ─▶ Sealed { place, copy of the words }
//!  try_map: a read lock of one shard        change: set words, mark        flush: write the copies, then settle
//! ```
//!
//! Laws:
//! - a page is evicted only when nobody but the cache refers to it: dirty pages (the dirty set holds them) and pages
//!   that a change is under way on (its token holds them) stay;
//! - sealing copies a page; changes after it go into the live page and keep it dirty, so that a page leaves the
//!   dirty set only with exactly the content that was written. A seal that is given up therefore needs no undo;
//! - a flush ends with the result of an epoch that began after the flush came.
//!
//! Bounds: [`Cache::new`] takes bytes; pages that can't be evicted may exceed it until they are written. Pages that
//! nobody uses for a while leave before that ([`Cache::give_back_after`]).
use crate::error::Result;
use parking_lot::{Mutex, RwLock};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Arc, Weak};
use std::time::Duration;

const SHARDS: usize = 16;

/// A piece of a table: words, and where they are in the file.
pub struct Page {
    key: u64,
    place: AtomicU64,
    marks: AtomicU32,
    used: AtomicBool,
    changes: AtomicU64,
    words: Box<[AtomicU64]>,
}

impl Page {
    /// A clean page. `place` is the byte offset in the file; `marks` are bits of the format's own.
    pub fn new(key: u64, place: u64, marks: u32, words: impl IntoIterator<Item = u64>) -> Arc<Self> {
        Arc::new(Self {
            key,
            place: AtomicU64::new(place),
            marks: AtomicU32::new(marks),
            used: AtomicBool::new(true),
            changes: AtomicU64::new(0),
            words: words.into_iter().map(AtomicU64::new).collect(),
        })
    }

    /// The key it is cached under.
    pub fn key(&self) -> u64 {
        self.key
    }

    /// Byte offset in the file.
    pub fn place(&self) -> u64 {
        self.place.load(Acquire)
    }

    /// Moves the page to another place in the file, where the same content already is. It must be clean.
    pub fn move_to(&self, place: u64, marks: u32) {
        self.place.store(place, Release);
        self.marks.store(marks, Release);
    }

    /// Bits of the format's own.
    pub fn marks(&self) -> u32 {
        self.marks.load(Acquire)
    }

    /// Sets and clears bits of the format's own.
    pub fn change_marks(&self, set: u32, clear: u32) {
        self.marks.fetch_or(set, AcqRel);
        self.marks.fetch_and(!clear, AcqRel);
    }

    /// Number of words.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether it has no words.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The word at `index`; 0 beyond the end.
    pub fn word(&self, index: usize) -> u64 {
        self.words.get(index).map_or(0, |w| w.load(Acquire))
    }

    /// The words from `index` on.
    pub fn words_from(&self, index: usize) -> impl Iterator<Item = u64> {
        self.words.iter().skip(index).map(|w| w.load(Acquire))
    }

    /// Sets the word at `index` and tells the old one. The caller marks the page dirty.
    pub fn set(&self, index: usize, word: u64) -> u64 {
        self.words.get(index).map_or(0, |w| w.swap(word, AcqRel))
    }
}

/// Multiplication spreads consecutive keys over the high bits, which choose the shard, and the low ones.
#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|b| self.write_u64(u64::from(*b)));
    }

    fn write_u64(&mut self, n: u64) {
        let x = (self.0 ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = x ^ (x >> 32);
    }
}

type Pages = HashMap<u64, Arc<Page>, BuildHasherDefault<KeyHasher>>;

/// Pages by key, bounded, with a second chance for those that were used.
pub struct Cache(Arc<Held>);

/// What a cache shares with the task that gives pages back.
#[derive(Default)]
struct Held {
    shards: [RwLock<Shard>; SHARDS],
    limit: AtomicUsize,
    /// Seconds after which pages that nobody used go; 0: never.
    interval: AtomicU32,
    /// Counts the changes of `interval`: a task that waits for an older one ends.
    changes: AtomicU32,
    /// A task waits for the interval to pass.
    waits: AtomicBool,
}

#[derive(Default)]
struct Shard {
    pages: Pages,
    /// Keys in the order of their turn to go.
    order: VecDeque<u64>,
    bytes: usize,
}

impl Cache {
    /// A cache of about `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Held { limit: AtomicUsize::new(limit), ..Held::default() }))
    }

    /// Sets another bound in bytes; it takes effect as pages come.
    pub fn set_limit(&self, limit: usize) {
        self.0.limit.store(limit, Relaxed);
    }

    /// From now on pages that nobody used for so many seconds, or twice as many at most, go; 0: they stay.
    pub fn give_back_after(&self, seconds: u32) {
        if self.0.interval.swap(seconds, AcqRel) != seconds {
            self.0.changes.fetch_add(1, AcqRel);
            self.0.waits.store(false, Release);
            self.0.wait();
        }
    }

    fn shard(&self, key: u64) -> &RwLock<Shard> {
        let mut hasher = KeyHasher::default();
        hasher.write_u64(key);
        &self.0.shards[(hasher.finish() >> 28) as usize % SHARDS]
    }

    /// Looks at a page without keeping it.
    pub fn with<T>(&self, key: u64, look: impl FnOnce(&Page) -> T) -> Option<T> {
        let shard = self.shard(key).read();
        let page = shard.pages.get(&key)?;
        if !page.used.load(Relaxed) {
            page.used.store(true, Relaxed);
        }
        Some(look(page))
    }

    /// The page, kept in memory as long as it is referred to.
    pub fn get(&self, key: u64) -> Option<Arc<Page>> {
        let shard = self.shard(key).read();
        let page = shard.pages.get(&key)?;
        page.used.store(true, Relaxed);
        Some(page.clone())
    }

    /// Adds a page, unless one is there already: that one is returned then. Evicts what may go.
    pub fn insert(&self, page: Arc<Page>) -> Arc<Page> {
        let limit = (self.0.limit.load(Relaxed) / SHARDS).max(2 * bytes_of(&page));
        let mut shard = self.shard(page.key).write();
        if let Some(present) = shard.pages.get(&page.key) {
            return present.clone();
        }
        shard.bytes += bytes_of(&page);
        shard.order.push_back(page.key);
        shard.pages.insert(page.key, page.clone());
        shard.evict(limit);
        drop(shard);
        self.0.wait();
        page
    }

    /// Whether dirty pages of `words` words each take so much of the cache that they should be written.
    pub fn is_crowded_by(&self, dirty: &Dirty, words: usize) -> bool {
        dirty.len() * page_bytes(words) > self.0.limit.load(Relaxed) / 2
    }

    /// Forgets a page. It may not be dirty; whoever refers to it keeps it.
    pub fn remove(&self, key: u64) {
        let mut shard = self.shard(key).write();
        if let Some(page) = shard.pages.remove(&key) {
            shard.bytes -= bytes_of(&page);
        }
    }

    /// Forgets all pages. None may be dirty or in use.
    pub fn clear(&self) {
        for shard in &self.0.shards {
            *shard.write() = Shard::default();
        }
    }
}

impl Held {
    /// Has a task give back what nobody uses, if there is something to give back and none does.
    fn wait(self: &Arc<Self>) {
        if self.interval.load(Acquire) == 0 || self.waits.load(Acquire) || self.is_empty() {
            return;
        }
        if self.waits.swap(true, AcqRel) {
            return;
        }
        rt::spawn(give_back(Arc::downgrade(self), self.changes.load(Acquire))).detach();
    }

    fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.read().pages.is_empty())
    }

    /// Forgets the pages that were not used since the last call; tells whether a further call may find more.
    fn forget_unused(&self) -> bool {
        self.shards.iter().filter(|shard| shard.write().forget_unused()).count() > 0
    }
}

/// Gives pages back until nothing happens any more. The next page that comes starts it anew, so that a program at rest
/// is at rest.
async fn give_back(held: Weak<Held>, change: u32) {
    loop {
        let Some(seconds) = held.upgrade().map(|held| held.interval.load(Acquire)) else { return };
        rt::sleep(Duration::from_secs(u64::from(seconds))).await;
        let Some(held) = held.upgrade() else { return };
        if held.changes.load(Acquire) != change {
            return;
        }
        if !held.forget_unused() {
            held.waits.store(false, Release);
            // A page that came just before found this task waiting.
            let came = !held.is_empty() && held.forget_unused();
            if !came || held.waits.swap(true, AcqRel) {
                return;
            }
        }
    }
}

impl Shard {
    /// Evicts pages until `limit` bytes are held or every page has had its turn twice.
    fn evict(&mut self, limit: usize) {
        for _ in 0..2 * self.order.len() {
            if self.bytes <= limit {
                break;
            }
            let Some(key) = self.order.pop_front() else { break };
            let Some(page) = self.pages.get(&key) else { continue };
            // With the shard locked nobody gains a reference to a page that only the cache has.
            if Arc::strong_count(page) > 1 || page.used.swap(false, Relaxed) {
                self.order.push_back(key);
                continue;
            }
            self.bytes -= bytes_of(page);
            self.pages.remove(&key);
        }
    }

    /// Forgets the pages that were not used since the last call and that nobody else has; tells whether some of the
    /// others were used, or some went.
    fn forget_unused(&mut self) -> bool {
        let before = self.pages.len();
        let mut used = false;
        self.pages.retain(|_, page| {
            let was = page.used.swap(false, Relaxed);
            used |= was;
            // With the shard locked nobody gains a reference to a page that only the cache has.
            was || Arc::strong_count(page) > 1
        });
        let gone = self.pages.len() < before;
        if gone {
            self.order.retain(|key| self.pages.contains_key(key));
            self.bytes = self.pages.values().map(|page| bytes_of(page)).sum();
            self.pages.shrink_to_fit();
            self.order.shrink_to_fit();
        }
        used || gone
    }
}

/// What a page takes in memory, roughly.
fn bytes_of(page: &Page) -> usize {
    page_bytes(page.len())
}

fn page_bytes(words: usize) -> usize {
    words * 8 + 128
}

/// Pages that differ from what is in the file.
#[derive(Default)]
pub struct Dirty {
    pages: Mutex<Pages>,
}

/// A copy of a dirty page, to be written.
pub struct Sealed {
    page: Arc<Page>,
    changes: u64,
    /// Byte offset in the file.
    pub place: u64,
    /// The content to write.
    pub words: Vec<u64>,
}

impl Dirty {
    /// Marks a page whose words were set.
    pub fn mark(&self, page: &Arc<Page>) {
        page.changes.fetch_add(1, AcqRel);
        let mut pages = self.pages.lock();
        // A page that was forgotten and loaded anew takes the place of its predecessor.
        if pages.get(&page.key).is_none_or(|listed| !Arc::ptr_eq(listed, page)) {
            pages.insert(page.key, page.clone());
        }
    }

    /// Number of dirty pages.
    pub fn len(&self) -> usize {
        self.pages.lock().len()
    }

    /// Whether no page is dirty.
    pub fn is_empty(&self) -> bool {
        self.pages.lock().is_empty()
    }

    /// Copies of all dirty pages, in the order of their places. They stay dirty until [`Dirty::settle`].
    pub fn seal(&self) -> Vec<Sealed> {
        let mut sealed: Vec<_> = self.pages.lock().values().map(Sealed::of).collect();
        sealed.sort_unstable_by_key(|s| s.place);
        sealed
    }

    /// The copies are in the file: pages that have not changed since are clean.
    pub fn settle(&self, sealed: &[Sealed]) {
        let mut pages = self.pages.lock();
        for s in sealed {
            // A change after this look is followed by a mark, which waits for the lock and lists the page again.
            let listed = pages.get(&s.page.key).is_some_and(|page| Arc::ptr_eq(page, &s.page));
            if listed && s.page.changes.load(Acquire) == s.changes {
                pages.remove(&s.page.key);
            }
        }
    }

    /// Forgets what is dirty: for an image that is given up.
    pub fn clear(&self) {
        self.pages.lock().clear();
    }
}

impl Sealed {
    fn of(page: &Arc<Page>) -> Self {
        // The count comes first: a change that is only half seen then leaves the page dirty.
        let changes = page.changes.load(Acquire);
        Self { changes, place: page.place(), words: page.words_from(0).collect(), page: page.clone() }
    }
}

/// Whose turn it is to flush: one at a time, and whoever waited meanwhile shares the next one.
pub struct Turns {
    came: AtomicU64,
    turn: futures_util::lock::Mutex<Ended>,
}

struct Ended {
    /// Flushes with a smaller number came before the last one began.
    covered: u64,
    result: Result<()>,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            came: AtomicU64::new(0),
            turn: futures_util::lock::Mutex::new(Ended { covered: 0, result: Ok(()) }),
        }
    }
}

impl Turns {
    /// Runs `flush`, or takes the result of one that began after this call did.
    pub async fn run<F: Future<Output = Result<()>>>(&self, flush: impl FnOnce() -> F) -> Result<()> {
        let number = self.came.fetch_add(1, SeqCst);
        let mut ended = self.turn.lock().await;
        if number < ended.covered {
            return ended.result.clone();
        }
        let covered = self.came.load(SeqCst);
        let result = flush().await;
        *ended = Ended { covered, result: result.clone() };
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::sync::atomic::AtomicU32;

    fn page(key: u64) -> Arc<Page> {
        Page::new(key, key * 4096, 0, [key; 512])
    }

    #[test]
    fn a_cache_keeps_its_bound_and_what_is_referred_to() {
        let cache = Cache::new(64 << 10);
        let kept = cache.insert(page(1_000_000));
        let dirty = Dirty::default();
        dirty.mark(&cache.insert(page(2_000_000)));
        for key in 0..1000 {
            cache.insert(page(key));
        }
        let held = || cache.0.shards.iter().map(|s| s.read().bytes).sum::<usize>();
        assert!(held() < 256 << 10, "{}", held());
        assert_eq!(cache.with(1_000_000, |p| p.word(3)), Some(1_000_000));
        assert!(cache.get(2_000_000).is_some());
        drop(kept);
        cache.clear();
        assert_eq!(held(), 0);
    }

    #[test]
    fn pages_that_nobody_uses_go_and_the_others_stay() {
        let (cache, dirty) = (Cache::new(1 << 20), Dirty::default());
        for key in 0..3 {
            dirty.mark(&cache.insert(page(key)));
        }
        let sealed = dirty.seal();
        assert!(cache.0.forget_unused(), "they were used when they came");
        assert!(!cache.0.forget_unused(), "they are dirty");
        dirty.settle(&sealed[..2]);
        drop(sealed);
        assert!(cache.get(1).is_some());
        assert!(cache.0.forget_unused());
        let left = || (0..3).filter(|key| cache.with(*key, |_| ()).is_some()).collect::<Vec<_>>();
        assert_eq!(left(), [1, 2]);
        assert!(cache.0.forget_unused());
        assert!(cache.0.forget_unused());
        assert_eq!(left(), [2]);
        dirty.clear();
        while cache.0.forget_unused() {}
        assert!(cache.0.is_empty());
        assert_eq!(cache.0.shards.iter().map(|s| s.read().bytes).sum::<usize>(), 0);
    }

    #[test]
    fn a_page_changed_after_it_was_sealed_stays_dirty() {
        let (dirty, a, b) = (Dirty::default(), page(1), page(2));
        dirty.mark(&a);
        dirty.mark(&b);
        let sealed = dirty.seal();
        a.set(0, 77);
        dirty.mark(&a);
        dirty.settle(&sealed);
        assert_eq!(dirty.seal().iter().map(|s| (s.page.key(), s.words[0])).collect::<Vec<_>>(), [(1, 77)]);
    }

    #[test]
    fn flushes_that_wait_share_the_next_turn() {
        let (turns, ran) = (Turns::default(), AtomicU32::new(0));
        let (open, gate) = futures_channel::oneshot::channel::<()>();
        let gate = gate.shared();
        let flush = || {
            let gate = gate.clone();
            let ran = &ran;
            turns.run(move || async move {
                ran.fetch_add(1, SeqCst);
                let _opened = gate.await;
                Ok(())
            })
        };
        let (mut a, mut b, mut c) = (Box::pin(flush()), Box::pin(flush()), Box::pin(flush()));
        assert!(a.as_mut().now_or_never().is_none());
        assert!(b.as_mut().now_or_never().is_none());
        assert!(c.as_mut().now_or_never().is_none());
        open.send(()).unwrap();
        assert!(a.now_or_never().is_some() && b.now_or_never().is_some() && c.now_or_never().is_some());
        assert_eq!(ran.load(SeqCst), 2);
    }
}
