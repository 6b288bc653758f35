//! An open qcow2 image: what its parts share, and how its header changes.
use super::alloc::Alloc;
use super::bitmaps::{Marked, Persistent};
use super::cache::Ahead;
use super::entry::Geometry;
use super::header::{AUTOCLEAR_BITMAPS, Header, INCOMPATIBLE_CORRUPT, INCOMPATIBLE_DIRTY};
use super::kept::Kept;
use super::options::Settings;
use super::overlap::Overlap;
use super::uniform;
use crate::streams::Decoded;
use block::metacache::{Be64, Cache, MetadataFile, Order};
use block::{
    BlockError, ChildId, Coding, Damage, Domain, Edges, ErrorKind, Leases, Node, Notice, Notices, Result,
    Turns,
};
use futures_util::lock::Mutex as AsyncMutex;
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};

/// The edges of an image's node.
pub(super) struct Children {
    pub edges: Arc<Edges>,
    pub file: ChildId,
    pub backing: ChildId,
    /// Where guest data is: the file itself, or the edge of an external data file.
    pub data: ChildId,
}

/// An open image. Locks are taken in this order: leases of guest clusters, leases of table slices, the turn of the
/// bitmaps' directory, `alloc`, the header's turn; the turn of a flush comes before `alloc`, so that nobody flushes under it.
pub(super) struct Image {
    /// Read through [`Image::g`].
    pub(super) geometry: Geometry,
    /// Changed only by a reopen, while nothing is under way.
    pub slice_bits: AtomicU32,
    /// These two change only by an amendment, while nothing is under way.
    pub refcount_order: AtomicU32,
    pub zero_flag: AtomicBool,
    pub edges: Arc<Edges>,
    pub backing: ChildId,
    /// Where guest data is.
    pub data: ChildId,
    /// Its tables are pages of the L1 table (keys with [`TABLE_KEY`]) and slices of L2 tables.
    pub order: Order<Be64>,
    pub header: RwLock<Header>,
    /// The form in which data clusters are stored, where they are encrypted. The core codes what lies in the disk; this is for
    /// what lies behind it.
    pub coding: Option<Arc<dyn Coding>>,
    pub settings: RwLock<Settings>,
    pub overlap: Overlap,
    pub notices: Notices,
    /// A person knows that wrong entries were dropped.
    pub told_of_dropped: AtomicBool,
    /// A person knows that the image is damaged, although it is not written to.
    pub told_of_damage: AtomicBool,
    /// The header in memory leads to a snapshot's tables, not to the disk's.
    pub shows_snapshot: AtomicBool,
    /// Its persistent bitmaps.
    pub bitmaps: Persistent,
    /// A change of the header failed: on disk is the one in memory, or the one that it was to become. Nothing that either of
    /// them forbids is done before that is settled ([`Image::sure_header`]).
    pub header_in_doubt: AtomicBool,
    /// COPIED and counts could not be brought to agree: the dirty bit stays, so that whoever opens the image for writing next
    /// makes them anew.
    pub disagrees: AtomicBool,
    /// Virtual size in bytes.
    pub size: AtomicU64,
    /// The dirty bit is durable: refcounts need not be (see [`Image::settle_header`]).
    pub counts_wait: AtomicBool,

    /// Pages of the refcount table (keys with [`TABLE_KEY`]) and of refcount blocks.
    pub counts: Cache<Be64>,
    pub alloc: AsyncMutex<Alloc>,
    /// Leases of guest clusters whose mapping changes.
    pub clusters: Arc<Leases>,
    /// Clusters that became zeroes in their place.
    pub kept: Kept,
    /// The requests that may be inside.
    pub domain: Arc<Domain>,
    /// Entries read ahead by walks through an image that nobody changes, one for each worker.
    pub ahead: [Mutex<Ahead>; 5],
    /// L2 tables that are one thing.
    pub uniform: Mutex<uniform::Tables>,
    /// In which order compressed data take their places.
    pub packing: Mutex<Turns>,
    /// Clusters that were decoded last.
    pub decoded: Decoded,
    /// Leases of guest clusters that are being decoded to be remembered.
    pub decoding: Arc<Leases>,
}

/// A change of the header that is being stored.
struct Change<'a> {
    image: &'a Image,
    /// The header that counts, as far as the change has come.
    header: Header,
    /// All of it is stored: not where that failed, or where nobody waits for it any more.
    done: bool,
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.image.take_header(self.header.clone());
        if !self.done {
            self.image.doubt_header();
        }
    }
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
        bitmaps: Persistent,
        settings: Settings,
    ) -> Self {
        let geometry = Geometry::of(&header);
        let file = MetadataFile::new(children.edges.clone(), children.file, "qcow2");
        let order = Order::new(file, domain.clone(), settings.table_cache);
        let counts = Cache::new(settings.count_cache);
        order.tables.give_back_after(settings.clean_interval);
        counts.give_back_after(settings.clean_interval);
        Self {
            geometry,
            slice_bits: AtomicU32::new(settings.slice_bits),
            refcount_order: AtomicU32::new(geometry.refcount_order),
            zero_flag: AtomicBool::new(geometry.zero_flag),
            edges: children.edges,
            backing: children.backing,
            data: children.data,
            order,
            overlap: Overlap::new(&header, geometry, settings.checks),
            notices,
            told_of_dropped: AtomicBool::new(false),
            told_of_damage: AtomicBool::new(false),
            shows_snapshot: AtomicBool::new(false),
            bitmaps,
            header_in_doubt: AtomicBool::new(false),
            disagrees: AtomicBool::new(false),
            size: AtomicU64::new(header.virtual_size()),
            counts_wait: AtomicBool::new(false),
            counts,
            alloc: AsyncMutex::default(),
            clusters: Leases::new(),
            kept: Kept::default(),
            domain,
            ahead: Default::default(),
            uniform: Mutex::default(),
            packing: Mutex::default(),
            decoded: Decoded::default(),
            decoding: Leases::new(),
            header: RwLock::new(header),
            coding: None,
            settings: RwLock::new(settings),
        }
    }

    /// Takes the settings of a reopen. Nothing is under way, and nothing is dirty.
    pub fn take_settings(&self, settings: Settings) {
        self.overlap.set_checks(settings.checks);
        for (cache, bytes) in
            [(&self.order.tables, settings.table_cache), (&self.counts, settings.count_cache)]
        {
            cache.set_limit(bytes);
            cache.give_back_after(settings.clean_interval);
        }
        let old = *self.settings.read();
        if (old.slice_bits, old.checks) != (settings.slice_bits, settings.checks) {
            // Slices have other numbers now, or their entries are judged in another way.
            self.order.tables.clear();
            self.forget_ahead();
            self.slice_bits.store(settings.slice_bits, Release);
        }
        *self.settings.write() = settings;
        if !self.header_is_ready() {
            // Counts that are lazy from now on are called so before the next write; those that were stay so until the
            // image is settled.
            self.order.access.unready();
        }
    }

    pub fn has_backing(&self) -> bool {
        self.backing().is_some()
    }

    /// Whether holes show something else than zeroes: here, or where the image is opened by its header.
    pub fn shows_backing(&self) -> bool {
        self.has_backing() || self.header.read().backing_name.is_some()
    }

    pub fn backing(&self) -> Option<Arc<Node>> {
        self.edges.get(self.backing)
    }

    /// Where what holes show ends: how long a backing image is that the header names and nobody opened is unknown.
    pub fn backing_end(&self) -> u64 {
        match self.backing() {
            Some(backing) => backing.length(),
            None if self.shows_backing() => u64::MAX,
            None => 0,
        }
    }

    /// The external data file, where guest data is in one.
    pub fn data_file(&self) -> Result<Option<Arc<Node>>> {
        if self.geometry.data_file { self.edges.need(self.data).map(Some) } else { Ok(None) }
    }

    /// The external data file is to be a raw image of the disk at any time. An encrypted one is none, whatever the header
    /// calls it.
    pub fn data_is_raw(&self) -> bool {
        self.coding.is_none() && self.header.read().is_data_raw()
    }

    /// Allows changes, of an image whose file nobody else has changed meanwhile. `ready`: its header says already what it
    /// must say before the first write.
    pub fn be_writable(&self, ready: bool) {
        self.order.access.allow(ready);
        // Entries that only reading looked at are judged anew (see `Image::overlapped`): after the switch, or a reader
        // in between would leave some behind.
        self.order.tables.clear();
        self.forget_ahead();
    }

    /// Changes the header by one write of its first sector. Not durable before the next flush. Where it fails, the header is
    /// what it was, though on disk that is in doubt for now.
    pub async fn change_header(&self, change: impl FnOnce(&mut Header)) -> Result<()> {
        let _turn = self.order.access.header_turn().await;
        self.change_header_in_turn(change).await
    }

    async fn change_header_in_turn(&self, change: impl FnOnce(&mut Header)) -> Result<()> {
        let store = async |header: &mut Header, file: &Arc<Node>| {
            let mut new = header.clone();
            change(&mut new);
            if new != *header {
                new.store(file).await?;
                *header = new;
            }
            Ok(())
        };
        self.store_header_in_turn(store).await
    }

    /// Changes more of the header than its first sector. At each moment `store` leaves in the header that it is given the
    /// one that counts. Where it fails, or nobody waits for it any more, that is the header in memory, and it is written
    /// again before anything is done that another one on disk forbids.
    pub async fn store_header(
        &self,
        store: impl AsyncFnOnce(&mut Header, &Arc<Node>) -> Result<()>,
    ) -> Result<()> {
        let _turn = self.order.access.header_turn().await;
        let stored = self.store_header_in_turn(store).await;
        if stored.is_err()
            && let Err(error) = self.sure_header_in_turn().await
        {
            tracing::warn!(image = self.order.file.name(), %error, "the header on disk may be the old or the new one");
        }
        stored
    }

    /// Each change of the header comes here.
    async fn store_header_in_turn(
        &self,
        store: impl AsyncFnOnce(&mut Header, &Arc<Node>) -> Result<()>,
    ) -> Result<()> {
        self.sure_header_in_turn().await?;
        let file = self.order.file.node()?;
        let header = self.header.read().clone();
        let mut change = Change { image: self, header, done: false };
        store(&mut change.header, &file).await.map_err(|e| self.header_failed(e))?;
        change.done = true;
        Ok(())
    }

    /// From now on this header counts.
    pub(super) fn take_header(&self, header: Header) {
        self.overlap.rename(&header);
        let has_zeroes = header.version >= 3;
        *self.header.write() = header;
        if self.zero_flag.swap(has_zeroes, AcqRel) != has_zeroes {
            // Entries mean something else; none of them waits to be written.
            self.forget_tables();
        }
    }

    /// After a failed write of the header, or a failed flush of it.
    fn header_failed(&self, error: BlockError) -> BlockError {
        if self.order.file.node().is_ok_and(|file| file.poisoned()) {
            return self.order.file.failed(error);
        }
        // What has no room in a header was not written.
        if error.kind() == ErrorKind::Limit { error } else { error.context("writing the qcow2 header") }
    }

    fn doubt_header(&self) {
        self.header_in_doubt.store(true, Release);
        // Writes in place look at it too.
        self.order.access.unready();
    }

    /// Makes sure, durably, that the header on disk is the one in memory. One atomic load where nothing is in doubt.
    pub async fn sure_header(&self) -> Result<()> {
        if !self.header_in_doubt.load(Acquire) {
            return Ok(());
        }
        let _turn = self.order.access.header_turn().await;
        self.sure_header_in_turn().await
    }

    async fn sure_header_in_turn(&self) -> Result<()> {
        if !self.header_in_doubt.load(Acquire) {
            return Ok(());
        }
        self.order.file.unharmed()?;
        let header = self.header.read().clone();
        header.store_again(&self.order.file.node()?).await.map_err(|e| self.header_failed(e))?;
        self.order.file.flush().await?;
        self.header_in_doubt.store(false, Release);
        Ok(())
    }

    /// Before the first write after the image was opened: what other programs keep beside the data and this one
    /// does not bring up to date is declared out of date, bitmaps are called in use, and counts that are to be
    /// written late are called so, durably.
    pub async fn first_write(&self) -> Result<()> {
        if !self.order.access.needs_header()? {
            return Ok(());
        }
        self.refuse_conflict().await?;
        // Who changes the directory of bitmaps takes the header's turn: not within it.
        self.mark_bitmaps(Marked::All).await?;
        self.order.access.make_ready(async || self.make_header_ready().await).await
    }

    /// The same where only bitmaps are stored or removed: none on disk will miss anything by that.
    pub async fn first_write_of_bitmaps(&self) -> Result<()> {
        if !self.order.access.needs_header()? {
            return Ok(());
        }
        self.refuse_conflict().await?;
        self.mark_bitmaps(Marked::Loaded).await?;
        let _turn = self.order.access.header_turn().await;
        self.make_header_ready().await
    }

    async fn refuse_conflict(&self) -> Result<()> {
        match self.overlap.conflict() {
            Some((one, other)) => {
                Err(self.corrupt(format!("the {one} and the {other} overlap").into(), None).await)
            }
            None => Ok(()),
        }
    }

    /// Has the header say what it must say before a write, durably. The caller has its turn.
    async fn make_header_ready(&self) -> Result<()> {
        self.sure_header_in_turn().await?;
        let lazy = self.settings.read().lazy_counts;
        if !self.header_is_ready() {
            let kept = self.kept_autoclear();
            let ready = |h: &mut Header| {
                h.autoclear &= kept;
                h.set_incompatible(INCOMPATIBLE_DIRTY, lazy || h.is_dirty());
            };
            self.change_header_in_turn(ready).await?;
            self.order.file.flush().await?;
        }
        self.counts_wait.store(lazy, Release);
        Ok(())
    }

    /// Whether the header says what it must say before the first write.
    pub fn header_is_ready(&self) -> bool {
        let kept = self.kept_autoclear();
        let header = self.header.read();
        !self.header_in_doubt.load(Acquire)
            && header.autoclear & !kept == 0
            && (header.is_dirty() || !self.settings.read().lazy_counts)
            && self.bitmaps_are_marked()
    }

    /// The autoclear features that are kept up to date here.
    fn kept_autoclear(&self) -> u64 {
        let bitmaps = if self.bitmaps.are_maintained() { AUTOCLEAR_BITMAPS } else { 0 };
        bitmaps | self.header.read().maintained()
    }

    /// Takes the dirty bit back when all counts are durable. Nobody writes meanwhile; a later first write sets it
    /// again.
    pub async fn settle_header(&self) -> Result<()> {
        if !self.header.read().is_dirty() || self.disagrees.load(Acquire) {
            return Ok(());
        }
        self.counts_wait.store(false, Release);
        self.order.access.unready();
        self.counts.write_back(&self.order.file).await?;
        self.order.file.flush().await?;
        self.change_header(|h| h.set_incompatible(INCOMPATIBLE_DIRTY, false)).await?;
        self.order.file.flush().await
    }

    /// Takes note of a contradiction in the image. A writable one is marked corrupt on disk, so that no program
    /// writes to it before it is repaired, and takes no writes from now on. `guest`: the offset of the guest's that it is
    /// about.
    pub async fn corrupt(&self, damage: Damage, guest: Option<u64>) -> BlockError {
        let text =
            format!("{}: {damage}; 'cairn img check -r all' may repair the image", self.order.file.name());
        let error = BlockError::corrupt(text);
        let error = match guest {
            Some(guest) => error.at(guest),
            None => error,
        };
        if !self.order.access.writable() {
            if let Some(node) = self.order.file.image().filter(|_| !self.told_of_damage.swap(true, Relaxed)) {
                self.notices.tell(Notice::Damaged { node: &node, damage: &damage });
            }
            return error;
        }
        if self.order.file.unharmed().is_err() {
            return error;
        }
        tracing::error!(image = self.order.file.name(), reason = %error, "marking the image as corrupt");
        let marked = match self.change_header(|h| h.set_incompatible(INCOMPATIBLE_CORRUPT, true)).await {
            Ok(()) => self.order.file.flush().await,
            Err(e) => Err(e),
        };
        if let Err(e) = marked {
            tracing::error!(image = self.order.file.name(), error = %e, "the image could not be marked as corrupt");
        }
        if let Some(node) = self.order.file.image() {
            // Whoever hears of it knows the image, and may have words of its own for what to do.
            node.poison(&BlockError::of(ErrorKind::Corrupt, damage));
        }
        error
    }
}
