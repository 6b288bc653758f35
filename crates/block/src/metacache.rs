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
//! Bounds: [`Cache::new`] takes bytes; pages that can't be evicted may exceed it until they are written.
use crate::error::Result;
use parking_lot::{Mutex, RwLock};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::*};

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
pub struct Cache {
    shards: [RwLock<Shard>; SHARDS],
    limit: AtomicUsize,
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
        Self { shards: Default::default(), limit: AtomicUsize::new(limit) }
    }

    /// Sets another bound in bytes; it takes effect as pages come.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Relaxed);
    }

    fn shard(&self, key: u64) -> &RwLock<Shard> {
        let mut hasher = KeyHasher::default();
        hasher.write_u64(key);
        &self.shards[(hasher.finish() >> 28) as usize % SHARDS]
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
        let limit = (self.limit.load(Relaxed) / SHARDS).max(2 * bytes_of(&page));
        let mut shard = self.shard(page.key).write();
        if let Some(present) = shard.pages.get(&page.key) {
            return present.clone();
        }
        shard.bytes += bytes_of(&page);
        shard.order.push_back(page.key);
        shard.pages.insert(page.key, page.clone());
        shard.evict(limit);
        page
    }

    /// Whether dirty pages of `words` words each take so much of the cache that they should be written.
    pub fn is_crowded_by(&self, dirty: &Dirty, words: usize) -> bool {
        dirty.len() * page_bytes(words) > self.limit.load(Relaxed) / 2
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
        for shard in &self.shards {
            *shard.write() = Shard::default();
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
        let held = || cache.shards.iter().map(|s| s.read().bytes).sum::<usize>();
        assert!(held() < 256 << 10, "{}", held());
        assert_eq!(cache.with(1_000_000, |p| p.word(3)), Some(1_000_000));
        assert!(cache.get(2_000_000).is_some());
        drop(kept);
        cache.clear();
        assert_eq!(held(), 0);
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
