//! Nodes: a driver with a name, its children, and what the core keeps for it.
use crate::bitmaps::Bitmaps;
use crate::blockers::Blockers;
use crate::coding::Coding;
use crate::common::Common;
use crate::driver::{Driver, Facts};
use crate::edges::{ChildRole, Edges};
use crate::error::{BlockError, ErrorKind};
use crate::group_commit::GroupCommit;
use crate::hooks::Hooks;
use crate::lease::Leases;
use crate::notice::Notices;
use crate::options::Options;
use crate::registry::{DriverKind, DriverType};
use parking_lot::{Mutex, RwLock};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};
use std::sync::{Arc, OnceLock, Weak};

/// Reasons why a node leaves the inline path; bits of its `slow` word.
pub struct Slow;

impl Slow {
    /// Writes are refused.
    pub const READ_ONLY: u32 = 1;
    /// A flush or metadata write failed: writes and flushes fail until the node is opened anew.
    pub const POISON: u32 = 2;
    /// Closed.
    pub const CLOSED: u32 = 4;
    /// Written zeroes are looked for.
    pub const DETECT_ZEROES: u32 = 8;
    /// Direct requests must be padded to the child's alignment.
    pub const ALIGN: u32 = 16;
    /// Writes end like FUA.
    pub const WRITE_THROUGH: u32 = 32;
    /// Hooks come before changes, or run beside them.
    pub const HOOKS: u32 = 64;
    /// The driver is told of steps.
    pub const STEPS: u32 = 128;
    /// What shows through may change once this node holds it: see [`Node::look_again`].
    pub const LOOKS_AGAIN: u32 = 256;
    /// The image belongs to another program: see [`crate::graph::activity`].
    pub const INACTIVE: u32 = 512;
}

/// Who hears that a node takes no more writes, and why. Called inside a request: it must only take note.
pub(crate) type Alarm = OnceLock<Box<dyn Fn(&Node, &BlockError) + Send + Sync>>;

/// A node of the graph.
pub struct Node {
    /// The node itself, for what must not end before it.
    pub(crate) me: Weak<Node>,
    pub(crate) name: Arc<str>,
    pub(crate) driver_type: &'static DriverType,
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) edges: Arc<Edges>,
    pub(crate) slow: AtomicU32,
    pub(crate) mapping: bool,
    pub(crate) transparent: bool,
    /// The form in which the data is stored, where that is not as it is shown.
    pub(crate) coding: Option<Arc<dyn Coding>>,
    /// Of direct requests, in bytes; changed only with the gates above closed.
    pub(crate) alignment: AtomicU32,
    pub(crate) common: RwLock<Common>,
    pub(crate) filename: Option<String>,
    /// Options that lead to what it shows and are no texts, as far as they were given as texts.
    pub(crate) words: Options,
    pub(crate) hooks: Hooks,
    pub(crate) bitmaps: Arc<Bitmaps>,
    /// How many wait for the requests inside.
    pub(crate) drains: Mutex<usize>,
    pub(crate) highest: AtomicU64,
    /// A change was acknowledged since the node was opened.
    pub(crate) acknowledged: AtomicBool,
    /// Beyond which a write is told of; 0: none.
    pub(crate) threshold: AtomicU64,
    pub(crate) notices: Notices,
    pub(crate) padding: Arc<Leases>,
    pub(crate) monitor_owned: AtomicBool,
    pub(crate) blockers: Blockers,
    pub(crate) alarm: Arc<Alarm>,
    /// Syncs of a driver that moves bytes itself.
    pub(crate) flushes: GroupCommit,
    /// What stopped all writing, in words.
    pub(crate) poison_cause: OnceLock<String>,
    /// The name of the format that shows any bytes as a disk.
    pub(crate) fallback: Option<&'static str>,
}

impl Node {
    /// The node's name, unique in its graph; names that nobody gave begin with `#block`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The driver's name, as in `driver=`.
    pub fn driver_name(&self) -> &'static str {
        self.driver_type.name
    }

    /// The entry of the driver in the registry.
    pub fn driver_type(&self) -> &'static DriverType {
        self.driver_type
    }

    /// The driver.
    pub fn driver(&self) -> &dyn Driver {
        self.driver.as_ref()
    }

    /// The driver's facts.
    pub fn facts(&self) -> Facts {
        self.driver.facts()
    }

    /// Virtual size in bytes.
    pub fn length(&self) -> u64 {
        self.driver.length()
    }

    /// The children.
    pub fn edges(&self) -> &Arc<Edges> {
        &self.edges
    }

    /// The child that names the node and holds its space.
    pub fn primary(&self) -> Option<Arc<Node>> {
        self.edges.get(self.edges.primary()?)
    }

    /// What shows through where the node holds nothing itself.
    pub fn backing(&self) -> Option<Arc<Node>> {
        self.edges.get(self.edges.backing()?)
    }

    /// What a filter filters.
    pub fn filtered(&self) -> Option<Arc<Node>> {
        self.edges.get(self.edges.filtered()?)
    }

    /// The options every driver has.
    pub fn common(&self) -> Common {
        self.common.read().clone()
    }

    /// Whether writes are refused.
    pub fn read_only(&self) -> bool {
        self.slow.load(Relaxed) & Slow::READ_ONLY != 0
    }

    /// Whether the image belongs to this program: an inactive one is read, and never written.
    pub fn is_active(&self) -> bool {
        self.slow.load(Acquire) & Slow::INACTIVE == 0
    }

    /// The name of the file or export at the bottom: the names that headers store are seen from its folder.
    pub fn place(&self) -> String {
        if let Some(name) = &self.filename {
            return name.clone();
        }
        let mut below = self.primary();
        while let Some(node) = below {
            if let Some(name) = &node.filename {
                return name.clone();
            }
            below = node.primary();
        }
        String::new()
    }

    /// The image that is seen through the node: what filters filter, at any depth; the node itself if it is no filter.
    pub fn skip_filters(self: &Arc<Self>) -> Arc<Node> {
        let mut node = self.clone();
        while let Some(child) = node.filtered() {
            node = child;
        }
        node
    }

    /// The images of the chain, each seen through the filters on it, top-down.
    pub fn images(self: &Arc<Self>) -> impl Iterator<Item = Arc<Node>> + use<> {
        let below = |image: &Arc<Node>| image.backing().map(|node| node.skip_filters());
        std::iter::successors(Some(self.skip_filters()), below)
    }

    /// The child whose content this node shows byte for byte, and all of it: that of a filter or of a plain layer.
    pub(crate) fn shown_whole(&self) -> Option<Arc<Node>> {
        let whole = self.transparent && self.driver.naming_options().is_empty();
        self.primary().filter(|_| whole)
    }

    /// The next node of the chain, filters counted: what a filter filters, or the backing image.
    pub fn next_in_chain(&self) -> Option<Arc<Node>> {
        self.filtered().or_else(|| self.backing())
    }

    /// Whether a job put this filter here, and its user gave it no name: who asks for a device's medium does not see it.
    pub fn is_implicit(&self) -> bool {
        self.driver_type.internal && self.name.starts_with('#')
    }

    /// Whether the monitor made this node (and so may delete it).
    pub fn monitor_owned(&self) -> bool {
        self.monitor_owned.load(Acquire)
    }

    /// One byte after the last byte written since the node was opened.
    pub fn highest_offset(&self) -> u64 {
        self.highest.load(Relaxed)
    }

    /// Whether nobody was promised anything that a flush would make durable: no change was acknowledged since the node was
    /// opened, and it keeps nothing of its own as a format does.
    pub fn owes_nothing(&self) -> bool {
        !self.acknowledged.load(Acquire) && self.driver_type.kind != DriverKind::Format
    }

    /// A change is about to be acknowledged.
    pub(crate) fn acknowledges(&self) {
        if !self.acknowledged.load(Relaxed) {
            self.acknowledged.store(true, Release);
        }
    }

    /// What direct requests are padded to, in bytes.
    pub(crate) fn alignment(&self) -> u32 {
        self.alignment.load(Relaxed)
    }

    /// Takes the driver's alignment, which may have changed.
    pub(crate) fn take_alignment(&self) {
        let alignment = self.facts().alignment;
        self.alignment.store(alignment, Relaxed);
        self.set_slow(Slow::ALIGN, !self.mapping && alignment > 1);
    }

    pub(crate) fn set_slow(&self, bits: u32, on: bool) {
        if on {
            self.slow.fetch_or(bits, AcqRel);
        } else {
            self.slow.fetch_and(!bits, AcqRel);
        }
    }

    /// Marks the node as one whose flush or metadata write failed.
    pub fn poison(&self, cause: &BlockError) {
        self.poison_cause.get_or_init(|| cause.message());
        let before = self.slow.fetch_or(Slow::POISON, AcqRel);
        if before & Slow::POISON == 0 {
            tracing::error!(node = %self.name, error = %cause, "node poisoned: nothing more is written to it until it is opened anew");
            if let Some(alarm) = self.alarm.get() {
                alarm(self, cause);
            }
        }
    }

    /// Whether an earlier failure stopped all writing.
    pub fn poisoned(&self) -> bool {
        self.slow.load(Acquire) & Slow::POISON != 0
    }

    /// The error of a node that was poisoned.
    pub fn poison_error(&self) -> BlockError {
        let cause = self.poison_cause.get().map_or("an earlier flush of it failed", String::as_str);
        let text = format!("'{}' takes no more writes ({cause}); close it and open it again", self.name);
        BlockError::new(ErrorKind::Poisoned, text).at_node(&self.name)
    }

    /// Says whether the node may be written to; its driver has been switched before.
    pub(crate) fn mark_writable(&self, writable: bool) {
        self.set_slow(Slow::READ_ONLY, !writable);
        self.common.write().read_only = !writable;
    }

    /// Bytes the storage occupies: what the driver knows, or that of all children that store what an image shows.
    pub fn allocated_size(&self) -> Option<u64> {
        let below = || {
            if self.driver_type.kind == DriverKind::Protocol {
                return None;
            }
            let sizes = self.stored_in().into_iter().map(|child| child.allocated_size());
            sizes.reduce(|all, size| all?.checked_add(size?)).flatten()
        };
        self.driver.allocated_size().or_else(below)
    }

    /// The children that store what the node shows by itself: all but the image below.
    fn stored_in(&self) -> Vec<Arc<Node>> {
        let storage = self.edges.all().into_iter().filter(|child| !child.role.has(ChildRole::BACKING));
        storage.map(|child| child.node).collect()
    }

    /// The node and all below it that store what it shows by itself, from above.
    pub(crate) fn storage(self: &Arc<Self>) -> Vec<Arc<Node>> {
        let mut all = vec![self.clone()];
        let mut at = 0;
        while let Some(node) = all.get(at) {
            let below = node.stored_in();
            let new = below.into_iter().filter(|node| !all.iter().any(|known| Arc::ptr_eq(known, node)));
            let new: Vec<_> = new.collect();
            all.extend(new);
            at += 1;
        }
        all
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Node({} {})", self.name, self.driver_type.name)
    }
}
