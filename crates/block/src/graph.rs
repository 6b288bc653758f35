//! The graph: all nodes and entries, and the one place where edges change.
//!
//! A change is a transaction under one asynchronous lock: plan (permissions are checked on the topology to be) →
//! close the gates that reach the changed edges → switch → open the gates. Opening and creating happen before.
mod activity;
mod amend;
mod change;
mod depth;
mod domain;
mod filters;
mod members;
mod reopen;
mod snapshots;
mod topology;
mod transaction;

pub use activity::HandedOver;
pub(crate) use depth::check_depth;
pub use domain::Domain;
pub use filters::NewFilter;
pub use topology::{NodeUse, NodeUser};
pub use transaction::GraphChange;

use crate::backend::Backend;
use crate::blockers::{Blockers, Operations};
use crate::common::Common;
use crate::device::Devices;
use crate::edges::{Edges, Parent};
use crate::error::{BlockError, ErrorKind, Result};
use crate::group_commit::GroupCommit;
use crate::guest::Guests;
use crate::hooks::Hooks;
use crate::node::{Alarm, Node, Slow};
use crate::notice::{Notice, Notices};
use crate::objects::Objects;
use crate::open::{self, Inherit, OpenContext, Opened};
use crate::options::{Opt, Options};
use crate::perm::Perms;
use crate::policy::Policy;
use crate::registry::{DriverKind, DriverType, Registry};
use parking_lot::{Mutex, RwLock};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use topology::Topology;

/// How long a change waits for requests inside before it gives up and changes nothing.
pub(crate) const QUIESCE_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest node name in bytes.
const MAX_NAME: usize = 31;

/// A graph of nodes; a handle, cheap to clone.
#[derive(Clone)]
pub struct Graph(Arc<Inner>);

struct Inner {
    registry: Arc<Registry>,
    objects: Objects,
    devices: Devices,
    guests: Guests,
    topology: Arc<RwLock<Topology>>,
    change: Arc<futures_util::lock::Mutex<()>>,
    next_name: AtomicU64,
    json: fn(&str) -> Result<Options>,
    alarm: Arc<Alarm>,
    notices: Notices,
    /// New nodes are inactive unless their options say otherwise.
    opens_inactive: AtomicBool,
    hand_overs: activity::HandOvers,
}

/// What an entry asks for.
pub struct BackendRequest {
    /// What it is for, for messages ("export 'e0'").
    pub label: String,
    /// The node it leads to.
    pub node: Arc<Node>,
    /// What it does there and what it shares.
    pub perms: Perms,
    /// It stays on its node when that node is replaced under its other users.
    pub pinned: bool,
}

impl Graph {
    /// An empty graph over the drivers of `registry`. `json` reads the text after `json:` in file names.
    pub fn new(registry: Arc<Registry>, json: fn(&str) -> Result<Options>) -> Self {
        Self(Arc::new(Inner {
            registry,
            objects: Objects::default(),
            devices: Devices::default(),
            guests: Guests::default(),
            topology: Arc::default(),
            change: Arc::default(),
            next_name: AtomicU64::new(0),
            json,
            alarm: Arc::default(),
            notices: Notices::default(),
            opens_inactive: AtomicBool::new(false),
            hand_overs: Default::default(),
        }))
    }

    /// Calls `heard` for every node that takes no more writes, with the cause: once per node, inside a request. Only the first
    /// listener counts.
    pub fn on_poison(&self, heard: impl Fn(&Node, &BlockError) + Send + Sync + 'static) {
        if self.0.alarm.set(Box::new(heard)).is_err() {
            tracing::warn!("there is a listener for poisoned nodes already");
        }
    }

    /// Calls `heard` for what a person should know of an image although nothing fails. Only the first listener counts.
    pub fn on_notice(&self, heard: impl Fn(Notice<'_>) + Send + Sync + 'static) {
        self.0.notices.listen(Box::new(heard));
    }

    /// Where this graph's notices go.
    pub fn notices(&self) -> &Notices {
        &self.0.notices
    }

    /// The drivers.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.0.registry
    }

    /// The requests that will be able to reach a node that is about to be opened.
    pub(crate) fn domain(&self) -> Arc<Domain> {
        Domain::new(&self.0.topology)
    }

    /// The objects that drivers, filters and exports refer to by id.
    pub fn objects(&self) -> &Objects {
        &self.0.objects
    }

    // ---- looking up ----

    /// All nodes, in the order they came.
    pub fn nodes(&self) -> Vec<Arc<Node>> {
        self.0.topology.read().started().cloned().collect()
    }

    /// The same, and those whose drivers are being started.
    pub(crate) fn nodes_to_be(&self) -> Vec<Arc<Node>> {
        self.0.topology.read().nodes.clone()
    }

    /// How many nodes there have been.
    pub(crate) fn nodes_so_far(&self) -> u64 {
        self.0.topology.read().so_far
    }

    /// All entries, in the order they came.
    pub fn entries(&self) -> Vec<Arc<Backend>> {
        self.0.topology.read().entries.clone()
    }

    /// The node of this name.
    pub fn node(&self, name: &str) -> Option<Arc<Node>> {
        let topology = self.0.topology.read();
        topology.named(name).filter(|node| topology.has(node).is_ok()).cloned()
    }

    /// The node of this name, or in the device of this name; else an error that names it.
    pub fn need_node(&self, name: &str) -> Result<Arc<Node>> {
        if let Some(device) = self.device(name) {
            return device.need_node();
        }
        self.node(name).ok_or_else(|| {
            BlockError::new(
                ErrorKind::NotFound,
                format!("Cannot find device='{name}' nor node-name='{name}'"),
            )
        })
    }

    /// Whether a node of this name could be made now.
    pub fn check_free(&self, name: &str) -> Result<()> {
        check_name(name)?;
        let _devices = self.0.devices.check_free(name)?;
        self.0.topology.read().check_free(name)
    }

    pub(crate) fn guests(&self) -> &Guests {
        &self.0.guests
    }

    pub(crate) fn device_list(&self) -> &Devices {
        &self.0.devices
    }

    /// Whether `node` is `top` or one that `top` consists of.
    pub fn is_below(&self, top: &Arc<Node>, node: &Arc<Node>) -> bool {
        topology::reachable(top, node)
    }

    /// Labels of the node's users.
    pub fn users(&self, node: &Arc<Node>) -> Vec<String> {
        self.0.topology.read().users(node).into_iter().map(|(label, _)| label).collect()
    }

    /// All uses of nodes: those by entries, in the order they came, then those by nodes, each with its children in order.
    pub fn uses(&self) -> Vec<NodeUse> {
        self.0.topology.read().uses()
    }

    /// Parents of the node, once for each edge that leads to it.
    pub fn parents(&self, node: &Arc<Node>) -> Vec<Parent> {
        self.0.topology.read().parents(node).to_vec()
    }

    /// Refuses a node that is below another one.
    pub fn check_root(&self, node: &Arc<Node>) -> Result<()> {
        match self.0.topology.read().parents(node).is_empty() {
            true => Ok(()),
            false => Err(BlockError::invalid("Need a root block node")),
        }
    }

    // ---- opening and closing ----

    /// Opens a node from options. It has no users and no owner yet.
    pub async fn open(&self, options: Options, policy: Policy) -> Result<Arc<Node>> {
        open::open(self, options, self.top(policy, Common::default())).await
    }

    /// What the first node of an open takes over.
    fn top(&self, policy: Policy, common: Common) -> Inherit {
        let inactive = common.inactive || self.opens_inactive();
        Inherit::top(policy, Some(Common { inactive, ..common }))
    }

    /// Opens a node for the monitor, which alone may delete it.
    pub async fn add(&self, options: Options) -> Result<Arc<Node>> {
        let node = self.open(options, Policy::FOLLOW).await?;
        node.monitor_owned.store(true, Release);
        Ok(node)
    }

    /// Opens an image by file name. Without a format it is probed.
    pub async fn open_image(
        &self,
        filename: &str,
        format: Option<&str>,
        common: Common,
        policy: Policy,
    ) -> Result<Arc<Node>> {
        let options = self.image_options(filename, format)?;
        open::open(self, options, self.top(policy, common)).await
    }

    /// Opens an image by options, with defaults for the options every driver has.
    pub async fn open_with(&self, options: Options, common: Common, policy: Policy) -> Result<Arc<Node>> {
        open::open(self, options, self.top(policy, common)).await
    }

    /// The options that a file name and a format mean. `json:` names are read here.
    pub fn image_options(&self, filename: &str, format: Option<&str>) -> Result<Options> {
        if let Some(text) = filename.strip_prefix("json:") {
            let mut options = (self.0.json)(text)?;
            if let Some(format) = format
                && options.get("driver").is_none()
            {
                options.set("driver", Opt::Str(format.to_owned()));
            }
            return Ok(options);
        }
        let Some(format) = format else { return Ok(Options::new().with_str("filename", filename)) };
        let driver = self.registry().need(format)?;
        if driver.kind == DriverKind::Protocol {
            let (_, options) = self.protocol_options(filename)?;
            return Ok(options.with_str("driver", format));
        }
        let file = Options::new().with_str("filename", filename);
        Ok(Options::new().with_str("driver", format).with("file", Opt::Dict(file)))
    }

    /// The protocol a file name means, and its options.
    pub fn protocol_options(&self, filename: &str) -> Result<(String, Options)> {
        if let Some(text) = filename.strip_prefix("json:") {
            let mut options = (self.0.json)(text)?;
            let driver = match options.take_str("driver")? {
                Some(driver) => driver,
                None => self.registry().plain_protocol("")?.name.to_owned(),
            };
            return Ok((driver, options));
        }
        match self.registry().protocol_of(filename)? {
            Some(driver) => {
                let options = match driver.parse_filename {
                    Some(parse) => parse(filename)?,
                    None => Options::new().with_str("filename", filename),
                };
                Ok((driver.name.to_owned(), options))
            }
            None => {
                let driver = self.registry().plain_protocol(filename)?;
                Ok((driver.name.to_owned(), Options::new().with_str("filename", filename)))
            }
        }
    }

    /// Makes an opened driver a node of the graph, and checks what it needs of its children. Nobody finds it before
    /// [`Graph::start`].
    pub(crate) fn adopt(
        &self,
        name: Option<String>,
        driver_type: &'static DriverType,
        opened: Opened,
        context: &OpenContext,
    ) -> Result<Arc<Node>> {
        let (edges, common) = (context.edges().clone(), context.common().clone());
        let name = match name {
            Some(name) => {
                check_name(&name)?;
                name
            }
            None => format!("#block{:03}", self.0.next_name.fetch_add(1, Relaxed)),
        };
        crate::size::check_length(opened.driver.length())?;
        let facts = opened.driver.facts();
        let mut slow = 0;
        let bits = [
            (common.read_only, Slow::READ_ONLY),
            (common.inactive, Slow::INACTIVE),
            (common.detect_zeroes, Slow::DETECT_ZEROES),
            (common.write_through, Slow::WRITE_THROUGH),
            (!facts.mapping && facts.alignment > 1, Slow::ALIGN),
            (facts.steps, Slow::STEPS),
        ];
        bits.into_iter().filter(|(on, _)| *on).for_each(|(_, bit)| slow |= bit);
        let words = context.asked.words_of(&opened.driver.naming_options());
        let node = Arc::new_cyclic(|me| Node {
            me: me.clone(),
            name: name.as_str().into(),
            driver_type,
            mapping: facts.mapping,
            transparent: facts.transparent,
            alignment: AtomicU32::new(facts.alignment),
            coding: opened.driver.coding(),
            driver: opened.driver,
            edges,
            slow: AtomicU32::new(slow),
            common: RwLock::new(common),
            filename: opened.filename,
            words,
            hooks: Hooks::default(),
            bitmaps: context.bitmaps().clone(),
            drains: Mutex::new(0),
            highest: AtomicU64::new(0),
            acknowledged: AtomicBool::new(false),
            threshold: AtomicU64::new(0),
            notices: self.0.notices.clone(),
            padding: crate::lease::Leases::new(),
            monitor_owned: AtomicBool::new(false),
            blockers: Blockers::default(),
            alarm: self.0.alarm.clone(),
            flushes: GroupCommit::default(),
            poison_cause: OnceLock::new(),
            fallback: self.registry().fallback().map(|format| format.name),
        });
        // Before anybody finds the node: a grace period covers its requests from the first on.
        context.domain().belongs_to(&node);
        let devices = self.0.devices.check_free(&name)?;
        let mut topology = self.0.topology.write();
        topology.check_free(&name)?;
        node.edges.all().iter().for_each(|child| node.blockers.share_with(&child.node));
        topology.add(&node, context.since)?;
        drop(topology);
        drop(devices);
        node.driver.attached(&node);
        Ok(node)
    }

    /// Starts the driver of a node that was adopted. From then on the node is found; after a failure it is closed, with what
    /// below it has no other users.
    pub(crate) async fn start(&self, node: Arc<Node>) -> Result<Arc<Node>> {
        let common = node.common();
        // What belongs to another program is not written to, whatever it will be later.
        let common = Common { read_only: common.read_only || common.inactive, ..common };
        if let Err(e) = node.driver.start(&common).await {
            self.dispose(&node).await;
            return Err(e);
        }
        self.0.topology.write().start(&node);
        Ok(node)
    }

    /// Releases the children of a node whose open failed.
    pub(crate) async fn abandon(&self, edges: &Edges) {
        for child in edges.take_all() {
            self.dispose(&child).await;
        }
    }

    /// [`Graph::release`] after a failure that is reported already.
    pub(crate) async fn dispose(&self, node: &Arc<Node>) {
        if let Err(e) = self.release(node).await {
            tracing::warn!(node = node.name(), error = %e, "closing a node after a failed open failed");
        }
    }

    /// Closes a node without owner and users, and then nodes below that only it used.
    pub async fn release(&self, node: &Arc<Node>) -> Result<()> {
        let mut result = Ok(());
        let mut idle = vec![node.clone()];
        while let Some(node) = idle.pop() {
            {
                let mut topology = self.0.topology.write();
                if node.monitor_owned() || !topology.users(&node).is_empty() {
                    continue;
                }
                topology.remove(&node);
            }
            // What was acknowledged is durable after the close, also without an explicit flush. A job's filter holds nothing
            // itself; what users put between an image and its file tells, as the last, that the file was poisoned.
            let nothing = node.poisoned() || node.driver_type.internal || node.owes_nothing();
            let flushed = if nothing { Ok(()) } else { node.flush().await };
            let closed = node.driver.close().await.map_err(|e| e.at_node(node.name()));
            node.set_slow(Slow::CLOSED, true);
            // The close tells what the flush has cost.
            result = result.and(closed).and(flushed);
            let left = node.edges.take_all();
            // Children that stay in use lose the permissions that only this node needed.
            self.0.topology.write().settle_left(&left);
            idle.extend(left);
        }
        result
    }

    /// Deletes a node that the monitor owns and that has no users.
    pub async fn remove(&self, name: &str) -> Result<()> {
        let _turn = self.change().await;
        let node = self.node(name).ok_or_else(|| {
            BlockError::new(ErrorKind::NotFound, format!("Failed to find node with node-name='{name}'"))
        })?;
        let is_user = |entry: &Arc<Backend>| !entry.pinned && Arc::ptr_eq(&entry.node(), &node);
        if self.entries().iter().any(is_user) {
            return Err(BlockError::new(ErrorKind::Busy, format!("Node {name} is in use")));
        }
        if !node.monitor_owned() {
            return Err(BlockError::invalid(format!("Node {name} is not owned by the monitor")));
        }
        node.check_operation(Operations::DELETE)?;
        if let Some(user) = self.users(&node).first() {
            return Err(BlockError::new(ErrorKind::Busy, format!("Node {name} is in use by {user}")));
        }
        // A flush that fails is reported while the node still exists, and only once: broken storage must not keep the node for
        // ever. Errors while it is closed are not failures of the deletion.
        if !node.owes_nothing() && !node.storage().iter().any(|node| node.poisoned()) {
            node.flush().await?;
        }
        node.monitor_owned.store(false, Release);
        if let Err(e) = self.release(&node).await {
            tracing::warn!(node = name, error = %e, "closing a node that was deleted failed");
        }
        Ok(())
    }

    /// Closes all nodes that no entry uses, top-down. Returns the first error.
    pub async fn close_all(&self) -> Result<()> {
        let mut result = Ok(());
        loop {
            let nodes = self.nodes_to_be();
            let Some(top) = nodes.iter().rev().find(|n| self.users(n).is_empty()) else { break };
            top.monitor_owned.store(false, Release);
            result = result.and(self.release(top).await);
        }
        result
    }
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.nodes()).finish()
    }
}
/// A node's name: a letter first, then letters, digits, `-`, `.` and `_`.
fn check_name(name: &str) -> Result<()> {
    let mut chars = name.chars();
    let well_formed = chars.next().is_some_and(|c| c.is_ascii_alphabetic())
        && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'));
    if !well_formed {
        return Err(BlockError::invalid(format!("Invalid node-name: '{name}'")));
    }
    if name.len() > MAX_NAME {
        return Err(BlockError::invalid("Node name too long"));
    }
    Ok(())
}
