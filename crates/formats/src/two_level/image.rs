//! An open image: what its parts share, and when changes of it are allowed.
use super::geometry::{Entry, Geometry};
use super::{CACHE, Layout};
use api::PreallocMode;
use block::metacache::{Blocks, Format, KnownTables, MetadataFile, Order, Run};
use block::{BlockError, ChildId, Domain, Edges, ErrorKind, Leases, Node, Result};
use futures_util::lock::Mutex as AsyncMutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};

/// A page of a table.
pub(crate) type Page<L> = block::metacache::Page<<L as Layout>::Codec>;

/// The edges of an image's node.
pub(crate) struct Children {
    pub edges: Arc<Edges>,
    pub file: ChildId,
    pub backing: ChildId,
}

/// An open image. Locks are taken in this order: leases of guest clusters, leases of pages, `blocks`.
pub(crate) struct Image<L: Layout> {
    /// What its format has of its own.
    pub layout: L,
    pub geometry: Geometry,
    pub order: Order<L::Codec>,
    /// Leases of guest clusters whose mapping changes.
    pub(super) clusters: Arc<Leases>,
    /// L2 tables that were met, so that none is taken for two.
    pub(super) tables: KnownTables,
    /// Clusters of the file that are in use, as of the first write.
    pub(super) blocks: AsyncMutex<Blocks>,
    edges: Arc<Edges>,
    backing: ChildId,
    /// Virtual size in bytes.
    size: AtomicU64,
    /// Length of the file at the first write, in bytes.
    length_then: AtomicU64,
    /// The header names a backing file.
    names_backing: AtomicBool,
    /// Data is stored encrypted.
    pub encrypted: bool,
}

impl<L: Layout> Format for Image<L> {
    type Codec = L::Codec;

    fn order(&self) -> &Order<L::Codec> {
        &self.order
    }

    fn block_bits(&self) -> u32 {
        self.geometry.cluster_bits
    }

    fn size(&self) -> u64 {
        self.size.load(Acquire)
    }

    fn blocks_of(&self, entry: u64) -> Option<Run> {
        match L::entry(entry, &self.geometry) {
            Entry::Data(host) => Some(Run { start: self.geometry.cluster(host), count: 1 }),
            _ => None,
        }
    }

    async fn write_ahead(&self, entries: bool) -> Result<()> {
        if entries {
            let blocks = self.blocks.lock().await;
            self.order.file.cover(blocks.end() << self.geometry.cluster_bits).await?;
        }
        Ok(())
    }

    async fn free(&self, runs: Vec<Run>) {
        let mut blocks = self.blocks.lock().await;
        runs.into_iter().for_each(|run| blocks.free(run));
    }
}

impl<L: Layout> Image<L> {
    /// An image that takes no changes yet.
    pub fn new(layout: L, geometry: Geometry, size: u64, children: Children, domain: Arc<Domain>) -> Self {
        let Children { edges, file, backing } = children;
        let order = Order::new(MetadataFile::new(edges.clone(), file, L::NAME), domain, CACHE);
        Self {
            layout,
            geometry,
            order,
            clusters: Leases::new(),
            tables: KnownTables::default(),
            blocks: AsyncMutex::new(Blocks::new(0, 0)),
            edges,
            backing,
            size: AtomicU64::new(size),
            length_then: AtomicU64::new(0),
            names_backing: AtomicBool::new(false),
            encrypted: false,
        }
    }

    pub fn set_size(&self, size: u64) {
        self.size.store(size, Release);
    }

    /// Takes note of whether the header names a backing file.
    pub fn set_names_backing(&self, names: bool) {
        self.names_backing.store(names, Release);
    }

    /// The image below.
    pub fn backing(&self) -> Option<Arc<Node>> {
        self.edges.get(self.backing)
    }

    /// Whether holes show something else than zeroes: here, or where the image is opened by its header.
    pub fn shows_backing(&self) -> bool {
        self.backing().is_some() || self.names_backing.load(Acquire)
    }

    /// Where what holes show ends: how long a backing image is that the header names and nobody opened is unknown.
    pub fn backing_end(&self) -> u64 {
        match self.backing() {
            Some(backing) => backing.length(),
            None if self.shows_backing() => u64::MAX,
            None => 0,
        }
    }

    /// Forgets all tables: what is in the file is another thing by now. None waits to be written.
    pub fn forget_tables(&self) {
        self.order.tables.clear();
        self.tables.clear();
    }

    /// What is wrong with the image, for whoever asked for the guest's bytes at `guest`.
    pub fn damaged(&self, what: impl std::fmt::Display, guest: u64) -> BlockError {
        let text = format!("{} image '{}': {what}{}", L::NAME, self.order.file.name(), L::ADVICE);
        BlockError::corrupt(text).at(guest)
    }

    // ---- when changes are allowed ----

    /// Before the first write: finds what is in use, and has the header say what it must.
    pub async fn first_write(&self) -> Result<()> {
        if !self.order.access.needs_header()? {
            return Ok(());
        }
        let step = async || {
            self.order.file.unharmed()?;
            let found = self.find_used().await.inspect_err(|error| {
                // However often it is tried, it is not better.
                if let Some(node) = self.order.file.image().filter(|_| error.kind() == ErrorKind::Corrupt) {
                    node.poison(error);
                }
            });
            *self.blocks.lock().await = found?;
            self.length_then.store(self.order.file.node()?.length(), Release);
            self.layout.make_header_ready(&self.order.file).await
        };
        self.order.access.make_ready(step).await
    }

    /// Ends all changes: the image is closed, or read-only from now on.
    pub async fn end_changes(self: &Arc<Self>, in_time: bool) -> Result<()> {
        Order::end(self, in_time, || self.cut_growth()).await
    }

    /// Cuts what the file has grown by since the first write, and is not used.
    async fn cut_growth(&self) -> Result<()> {
        let mut blocks = self.blocks.lock().await;
        let file = self.order.file.node()?;
        if !self.order.access.is_ready() || !file.facts().grows_with_zeroes {
            return Ok(());
        }
        blocks.take_unused(&self.order.reservations);
        let end = blocks.used_end() << self.geometry.cluster_bits;
        let end = end.max(self.length_then.load(Acquire));
        if end < file.length() {
            file.set_length(end, PreallocMode::Off).await?;
        }
        Ok(())
    }
}
