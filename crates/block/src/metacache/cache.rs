//! Pages in memory, by key.
//!
//! Laws:
//! - a page is evicted only when nobody but the cache refers to it: dirty pages (the dirty set holds them) and pages
//!   that a change is under way on (its token holds them) stay.
//!
//! Bounds: [`Cache::new`] takes bytes; pages that can't be evicted may exceed it until they are written. Pages that
//! nobody uses for a while leave before that ([`Cache::give_back_after`]).
use super::codec::Codec;
use super::dirty::{Dirty, Sealed};
use super::file::MetadataFile;
use super::page::{Page, memory_of};
use crate::error::Result;
use futures_util::lock::Mutex as AsyncMutex;
use parking_lot::RwLock;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::*};
use std::sync::{Arc, Weak};
use std::time::Duration;

const SHARDS: usize = 16;

/// Multiplication spreads consecutive keys over the high bits, which choose the shard, and the low ones.
#[derive(Default)]
pub(super) struct KeyHasher(u64);

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

pub(super) type Pages<C> = HashMap<u64, Arc<Page<C>>, BuildHasherDefault<KeyHasher>>;

/// Pages by key, bounded, with a second chance for those that were used.
pub struct Cache<C: Codec> {
    held: Arc<Held<C>>,
    /// Those that differ from what is in the file.
    pub dirty: Dirty<C>,
    /// One that writes dirty pages back at a time.
    writer: AsyncMutex<()>,
}

/// What a cache shares with the task that gives pages back.
struct Held<C: Codec> {
    shards: [RwLock<Shard<C>>; SHARDS],
    limit: AtomicUsize,
    /// Seconds after which pages that nobody used go; 0: never.
    interval: AtomicU32,
    /// Counts the changes of `interval`: a task that waits for an older one ends.
    changes: AtomicU32,
    /// A task waits for the interval to pass.
    waits: AtomicBool,
}

struct Shard<C: Codec> {
    pages: Pages<C>,
    /// Keys in the order of their turn to go.
    order: VecDeque<u64>,
    bytes: usize,
}

impl<C: Codec> Default for Shard<C> {
    fn default() -> Self {
        Self { pages: Pages::default(), order: VecDeque::new(), bytes: 0 }
    }
}

impl<C: Codec> Cache<C> {
    /// A cache of about `limit` bytes.
    pub fn new(limit: usize) -> Self {
        let held = Held {
            shards: std::array::from_fn(|_| RwLock::default()),
            limit: AtomicUsize::new(limit),
            interval: AtomicU32::new(0),
            changes: AtomicU32::new(0),
            waits: AtomicBool::new(false),
        };
        Self { held: Arc::new(held), dirty: Dirty::default(), writer: AsyncMutex::default() }
    }

    /// Sets another bound in bytes; it takes effect as pages come.
    pub fn set_limit(&self, limit: usize) {
        self.held.limit.store(limit, Relaxed);
    }

    /// From now on pages that nobody used for so many seconds, or twice as many at most, go; 0: they stay.
    pub fn give_back_after(&self, seconds: u32) {
        if self.held.interval.swap(seconds, AcqRel) != seconds {
            self.held.changes.fetch_add(1, AcqRel);
            self.held.waits.store(false, Release);
            self.held.wait();
        }
    }

    fn shard(&self, key: u64) -> &RwLock<Shard<C>> {
        let mut hasher = KeyHasher::default();
        hasher.write_u64(key);
        &self.held.shards[(hasher.finish() >> 28) as usize % SHARDS]
    }

    /// Looks at a page without keeping it.
    pub fn with<T>(&self, key: u64, look: impl FnOnce(&Page<C>) -> T) -> Option<T> {
        let shard = self.shard(key).read();
        let page = shard.pages.get(&key)?;
        if !page.used.load(Relaxed) {
            page.used.store(true, Relaxed);
        }
        Some(look(page))
    }

    /// The page, kept in memory as long as it is referred to.
    pub fn get(&self, key: u64) -> Option<Arc<Page<C>>> {
        let shard = self.shard(key).read();
        let page = shard.pages.get(&key)?;
        page.used.store(true, Relaxed);
        Some(page.clone())
    }

    /// Adds a page, unless one is there already: that one is returned then. Evicts what may go.
    pub fn insert(&self, page: Arc<Page<C>>) -> Arc<Page<C>> {
        let limit = (self.held.limit.load(Relaxed) / SHARDS).max(2 * page.memory());
        let mut shard = self.shard(page.key()).write();
        if let Some(present) = shard.pages.get(&page.key()) {
            return present.clone();
        }
        shard.bytes += page.memory();
        shard.order.push_back(page.key());
        shard.pages.insert(page.key(), page.clone());
        shard.evict(limit);
        drop(shard);
        self.held.wait();
        page
    }

    /// Whether dirty pages of `words` words each take so much of the cache that they should be written.
    pub fn is_crowded(&self, words: usize) -> bool {
        self.dirty.len() * memory_of::<C>(words) > self.held.limit.load(Relaxed) / 2
    }

    /// Writes all dirty pages to their places. Not durable before the next flush.
    pub async fn write_back(&self, file: &MetadataFile) -> Result<()> {
        let _writer = self.writer.lock().await;
        let sealed = self.dirty.seal();
        file.write_pages(&sealed).await?;
        self.dirty.settle(&sealed);
        Ok(())
    }

    /// Writes a dirty page to its place. It stays dirty where that fails, or nobody waits for it any more. Not durable before
    /// the next flush.
    pub async fn write_page(&self, file: &MetadataFile, page: &Arc<Page<C>>) -> Result<()> {
        // Not beside another writer, whose copy of the page may be older.
        let _writer = self.writer.lock().await;
        let sealed = [Sealed::of(page)];
        file.write_pages(&sealed).await?;
        self.dirty.settle(&sealed);
        Ok(())
    }

    /// Forgets a page. It may not be dirty; whoever refers to it keeps it.
    pub fn remove(&self, key: u64) {
        let mut shard = self.shard(key).write();
        if let Some(page) = shard.pages.remove(&key) {
            shard.bytes -= page.memory();
        }
    }

    /// Forgets all pages. None may be dirty or in use.
    pub fn clear(&self) {
        for shard in &self.held.shards {
            *shard.write() = Shard::default();
        }
    }
}

impl<C: Codec> Held<C> {
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
async fn give_back<C: Codec>(held: Weak<Held<C>>, change: u32) {
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

impl<C: Codec> Shard<C> {
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
            self.bytes -= page.memory();
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
            self.bytes = self.pages.values().map(|page| page.memory()).sum();
            self.pages.shrink_to_fit();
            self.order.shrink_to_fit();
        }
        used || gone
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::Be64;
    use super::*;

    fn page(key: u64) -> Arc<Page<Be64>> {
        Page::new(key, key * 4096, 0, [key; 512])
    }

    #[test]
    fn a_cache_keeps_its_bound_and_what_is_referred_to() {
        let cache = Cache::new(64 << 10);
        let kept = cache.insert(page(1_000_000));
        cache.dirty.mark(&cache.insert(page(2_000_000)));
        for key in 0..1000 {
            cache.insert(page(key));
        }
        let held = || cache.held.shards.iter().map(|s| s.read().bytes).sum::<usize>();
        assert!(held() < 256 << 10, "{}", held());
        assert_eq!(cache.with(1_000_000, |p| p.word(3)), Some(1_000_000));
        assert!(cache.get(2_000_000).is_some());
        drop(kept);
        cache.clear();
        assert_eq!(held(), 0);
    }

    #[test]
    fn pages_that_nobody_uses_go_and_the_others_stay() {
        let cache = Cache::new(1 << 20);
        for key in 0..3 {
            cache.dirty.mark(&cache.insert(page(key)));
        }
        let mut sealed = cache.dirty.seal();
        assert!(cache.held.forget_unused(), "they were used when they came");
        assert!(!cache.held.forget_unused(), "they are dirty");
        cache.dirty.settle(&sealed[..2]);
        sealed.drain(..2);
        assert!(cache.get(1).is_some());
        assert!(cache.held.forget_unused());
        let left = || (0..3).filter(|key| cache.with(*key, |_| ()).is_some()).collect::<Vec<_>>();
        assert_eq!(left(), [1, 2]);
        assert!(cache.held.forget_unused());
        assert!(cache.held.forget_unused());
        assert_eq!(left(), [2]);
        cache.dirty.settle(&sealed);
        drop(sealed);
        while cache.held.forget_unused() {}
        assert!(cache.held.is_empty());
        assert_eq!(cache.held.shards.iter().map(|s| s.read().bytes).sum::<usize>(), 0);
    }
}
