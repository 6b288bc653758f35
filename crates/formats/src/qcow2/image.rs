//! An open qcow2 image: what its parts share, and how its header changes.
use super::alloc::{Alloc, Run};
use super::cache::Ahead;
use super::entry::Geometry;
use super::freed::Freed;
use super::header::{Header, INCOMPATIBLE_CORRUPT, INCOMPATIBLE_DIRTY};
use super::options::Settings;
use super::overlap::Regions;
use super::uniform;
use block::metacache::{Be64, Cache, GroupCommit};
use block::{BlockError, ChildId, Domain, Edges, ErrorKind, Leases, Node, Notices, Result};
use futures_util::lock::Mutex as AsyncMutex;
use parking_lot::{Mutex, RwLock};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};
use std::sync::{Arc, OnceLock, Weak};

/// The edges of an image's node.
pub(super) struct Children {
    pub edges: Arc<Edges>,
    pub file: ChildId,
    pub backing: ChildId,
}

/// An open image. Locks are taken in this order: leases of guest clusters, leases of table slices, `alloc`,
/// `header_turn`; the turn of a flush comes before `alloc` and `count_writer`, so that nobody flushes under them.
pub(super) struct Image {
    /// Read through [`Image::g`].
    pub(super) geometry: Geometry,
    /// Changed only by a reopen, while nothing is under way.
    pub slice_bits: AtomicU32,
    pub children: Children,
    pub domain: Arc<Domain>,
    pub header: RwLock<Header>,
    pub settings: RwLock<Settings>,
    pub regions: Regions,
    pub node: OnceLock<Weak<Node>>,
    pub notices: Notices,
    /// A person knows that wrong entries were dropped.
    pub told_of_dropped: AtomicBool,
    /// Virtual size in bytes.
    pub size: AtomicU64,
    /// Changes are allowed.
    pub writable: AtomicBool,
    /// The header says what it must say before the first write ([`Image::first_write`]).
    pub ready: AtomicBool,
    pub header_turn: AsyncMutex<()>,
    /// The dirty bit is durable: refcounts need not be (see [`Image::settle_header`]).
    pub counts_wait: AtomicBool,

    /// Pages of the L1 table (keys with [`TABLE_KEY`]) and slices of L2 tables.
    pub tables: Cache<Be64>,
    /// Pages of the refcount table (keys with [`TABLE_KEY`]) and of refcount blocks.
    pub counts: Cache<Be64>,
    pub count_writer: AsyncMutex<()>,
    /// Leases of guest clusters whose mapping changes.
    pub clusters: Arc<Leases>,
    /// Leases of slices that are loaded, and of all slices of an L2 table that is made or copied.
    pub slices: Arc<Leases>,
    /// Entries read ahead by walks through an image that nobody changes, one for each worker.
    pub ahead: [Mutex<Ahead>; 5],
    /// L2 tables that are one thing.
    pub uniform: Mutex<uniform::Tables>,

    pub alloc: AsyncMutex<Alloc>,
    /// Reserved clusters that were never mapped, to be given back before the next allocation.
    pub returned: Mutex<Vec<Run>>,
    pub freed: Freed,
    pub group: GroupCommit,
}

/// A page of a table, or of a refcount block.
pub(super) type Page = block::metacache::Page<Be64>;

/// Set in the cache keys of pages of the L1 table and the refcount table.
pub(super) const TABLE_KEY: u64 = 1 << 63;

impl Image {
    pub fn new(
        header: Header,
        children: Children,
        domain: Arc<Domain>,
        notices: Notices,
        settings: Settings,
    ) -> Self {
        let geometry = Geometry::of(&header);
        let (tables, counts) = (Cache::new(settings.table_cache), Cache::new(settings.count_cache));
        tables.give_back_after(settings.clean_interval);
        counts.give_back_after(settings.clean_interval);
        Self {
            geometry,
            slice_bits: AtomicU32::new(settings.slice_bits),
            children,
            domain,
            regions: Regions::new(&header, geometry, settings.checks),
            node: OnceLock::new(),
            notices,
            told_of_dropped: AtomicBool::new(false),
            size: AtomicU64::new(header.virtual_size()),
            writable: AtomicBool::new(false),
            ready: AtomicBool::new(false),
            header_turn: AsyncMutex::new(()),
            counts_wait: AtomicBool::new(false),
            tables,
            counts,
            count_writer: AsyncMutex::new(()),
            clusters: Leases::new(),
            slices: Leases::new(),
            ahead: Default::default(),
            uniform: Mutex::default(),
            alloc: AsyncMutex::default(),
            returned: Mutex::default(),
            freed: Freed::default(),
            group: GroupCommit::default(),
            header: RwLock::new(header),
            settings: RwLock::new(settings),
        }
    }

    /// Takes the settings of a reopen. Nothing is under way, and nothing is dirty.
    pub fn take_settings(&self, settings: Settings) {
        self.regions.set_checks(settings.checks);
        for (cache, bytes) in [(&self.tables, settings.table_cache), (&self.counts, settings.count_cache)] {
            cache.set_limit(bytes);
            cache.give_back_after(settings.clean_interval);
        }
        let old = *self.settings.read();
        if (old.slice_bits, old.checks) != (settings.slice_bits, settings.checks) {
            // Slices have other numbers now, or their entries are judged in another way.
            self.tables.clear();
            self.forget_ahead();
            self.slice_bits.store(settings.slice_bits, Release);
        }
        *self.settings.write() = settings;
        if !self.header_is_ready() {
            // Counts that are lazy from now on are called so before the next write; those that were stay so until the
            // image is settled.
            self.ready.store(false, Release);
        }
    }

    pub fn file(&self) -> Result<Arc<Node>> {
        self.children.edges.need(self.children.file)
    }

    pub fn file_name(&self) -> String {
        self.file().map(|f| f.filename()).unwrap_or_default()
    }

    pub fn size(&self) -> u64 {
        self.size.load(Acquire)
    }

    pub fn has_backing(&self) -> bool {
        self.backing().is_some()
    }

    pub fn backing(&self) -> Option<Arc<Node>> {
        self.children.edges.get(self.children.backing)
    }

    /// The node this image is, while it is open.
    pub fn own_node(&self) -> Option<Arc<Node>> {
        self.node.get()?.upgrade()
    }

    /// Allows no changes from now on.
    pub fn become_read_only(&self) {
        self.writable.store(false, Release);
        self.ready.store(false, Release);
    }

    /// Allows changes again, of an image whose file nobody else has changed meanwhile.
    pub fn be_writable_again(&self) {
        self.writable.store(true, Release);
        // Entries that only reading looked at are judged anew (see `Image::overlapped`): after the switch, or a reader
        // in between would leave some behind.
        self.tables.clear();
        self.forget_ahead();
    }

    /// Refuses to go on where an earlier failure stopped all writing.
    pub fn unharmed(&self) -> Result<()> {
        match self.own_node().into_iter().chain(self.file().ok()).find(|n| n.poisoned()) {
            Some(node) => Err(node.poison_error()),
            None => Ok(()),
        }
    }

    /// Judges a failed metadata write or flush: lack of space may be mended and tried again; anything else leaves
    /// unknown what is on disk, so that nothing more may be written.
    pub fn failed(&self, error: BlockError) -> BlockError {
        let file = self.file().ok();
        if error.kind() != ErrorKind::NoSpace || file.as_ref().is_some_and(|f| f.poisoned()) {
            self.own_node().into_iter().chain(file).for_each(|node| node.poison(&error));
        }
        error
    }

    /// Writes metadata; see [`Image::failed`].
    pub async fn write(&self, offset: u64, bytes: rt::Buf) -> Result<()> {
        let written = self.file()?.write(offset, bytes, block::Request::DRIVER).await;
        written.map_err(|e| self.failed(e.context("writing qcow2 metadata")))
    }

    /// Makes all that was written durable; see [`Image::failed`].
    pub async fn sync(&self) -> Result<()> {
        self.file()?.flush().await.map_err(|e| self.failed(e))
    }

    /// Changes the header by one write of its first sector. Not durable before the next flush.
    pub async fn change_header(&self, change: impl FnOnce(&mut Header)) -> Result<()> {
        let _turn = self.header_turn.lock().await;
        self.change_header_in_turn(change).await
    }

    async fn change_header_in_turn(&self, change: impl FnOnce(&mut Header)) -> Result<()> {
        let mut new = self.header.read().clone();
        change(&mut new);
        if new != *self.header.read() {
            new.store(&self.file()?).await.map_err(|e| self.failed(e.context("writing the qcow2 header")))?;
            self.regions.rename(&new);
            *self.header.write() = new;
        }
        Ok(())
    }

    /// Before the first write after the image was opened: what other programs keep beside the data and this one
    /// does not bring up to date (bitmaps and unknown things) is declared out of date, and counts that are to be
    /// written late are called so, durably.
    pub async fn first_write(&self) -> Result<()> {
        if self.ready.load(Acquire) {
            return Ok(());
        }
        if !self.writable.load(Acquire) {
            return Err(BlockError::new(ErrorKind::ReadOnly, "the image is not open for writing"));
        }
        if let Some((one, other)) = self.regions.conflict() {
            return Err(self.corrupt(format!("the {one} and the {other} overlap"), None).await);
        }
        let _turn = self.header_turn.lock().await;
        if !self.ready.load(Acquire) {
            let lazy = self.settings.read().lazy_counts;
            if !self.header_is_ready() {
                let ready = |h: &mut Header| {
                    h.autoclear = 0;
                    h.set_incompatible(INCOMPATIBLE_DIRTY, lazy || h.is_dirty());
                };
                self.change_header_in_turn(ready).await?;
                self.sync().await?;
            }
            self.counts_wait.store(lazy, Release);
            self.ready.store(true, Release);
        }
        Ok(())
    }

    /// Whether the header says what it must say before the first write.
    pub fn header_is_ready(&self) -> bool {
        let header = self.header.read();
        header.autoclear == 0 && (header.is_dirty() || !self.settings.read().lazy_counts)
    }

    /// Takes the dirty bit back when all counts are durable. Nobody writes meanwhile; a later first write sets it
    /// again.
    pub async fn settle_header(&self) -> Result<()> {
        if !self.header.read().is_dirty() {
            return Ok(());
        }
        self.counts_wait.store(false, Release);
        self.ready.store(false, Release);
        self.write_counts().await?;
        self.sync().await?;
        self.change_header(|h| h.set_incompatible(INCOMPATIBLE_DIRTY, false)).await?;
        self.sync().await
    }

    /// Takes note of a contradiction in the image. A writable one is marked corrupt on disk, so that no program
    /// writes to it before it is repaired, and takes no writes from now on.
    pub async fn corrupt(&self, what: String, guest: Option<u64>) -> BlockError {
        let text = format!("{}: {what}; 'cairn img check -r all' may repair the image", self.file_name());
        let located = |error: BlockError| match guest {
            Some(guest) => error.at(guest),
            None => error,
        };
        let error = located(BlockError::corrupt(text));
        if !self.writable.load(Acquire) || self.unharmed().is_err() {
            return error;
        }
        tracing::error!(image = self.file_name(), reason = %error, "marking the image as corrupt");
        let marked = match self.change_header(|h| h.set_incompatible(INCOMPATIBLE_CORRUPT, true)).await {
            Ok(()) => self.sync().await,
            Err(e) => Err(e),
        };
        if let Err(e) = marked {
            tracing::error!(image = self.file_name(), error = %e, "the image could not be marked as corrupt");
        }
        if let Some(node) = self.own_node() {
            // Whoever hears of it knows the image, and may have words of its own for what to do.
            node.poison(&located(BlockError::corrupt(what)));
        }
        error
    }
}
