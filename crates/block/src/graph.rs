//! The graph: all nodes and entries, and the one place where edges change.
//!
//! A change is a transaction under one asynchronous lock: plan (permissions are checked on the topology to be) →
//! close the gates that reach the changed edges → switch → open the gates. Opening and creating happen before.
use crate::backend::Backend;
use crate::error::{BlockError, ErrorKind, Result};
use crate::gate::{Closed, Domain};
use crate::node::{Alarm, Edges, Node, Role, Slow};
use crate::open::{self, Common, Inherit, Opened, Policy};
use crate::options::{Opt, Options};
use crate::perm::{Perms, Share};
use crate::registry::{CreateRequest, DriverKind, DriverType, Registry};
use arc_swap::ArcSwap;
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};
use std::time::Duration;

/// How long a change waits for requests inside before it gives up and changes nothing.
const QUIESCE_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest node name in bytes.
const MAX_NAME: usize = 31;

/// A graph of nodes; a handle, cheap to clone.
#[derive(Clone)]
pub struct Graph(Arc<Inner>);

struct Inner {
    registry: Arc<Registry>,
    domain: Arc<Domain>,
    topology: RwLock<Topology>,
    change: futures_util::lock::Mutex<()>,
    next_name: AtomicU64,
    json: fn(&str) -> Result<Options>,
    alarm: Arc<Alarm>,
}

#[derive(Default)]
struct Topology {
    nodes: Vec<Arc<Node>>,
    entries: Vec<Arc<Backend>>,
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

/// What queries list of a node.
#[derive(Debug, Clone)]
pub struct NodeSnapshot {
    /// The node.
    pub node: Arc<Node>,
    /// Labels of its users: entries, and parents by name and role.
    pub users: Vec<String>,
}

impl Graph {
    /// An empty graph over the drivers of `registry`. `json` reads the text after `json:` in file names.
    pub fn new(registry: Arc<Registry>, json: fn(&str) -> Result<Options>) -> Self {
        Self(Arc::new(Inner {
            registry,
            domain: Arc::default(),
            topology: RwLock::default(),
            change: futures_util::lock::Mutex::new(()),
            next_name: AtomicU64::new(0),
            json,
            alarm: Arc::default(),
        }))
    }

    /// Has `heard` told of every node that takes no more writes, and why: once a node, from inside of a request. Only
    /// the first one asked for is told.
    pub fn on_poison(&self, heard: impl Fn(&Node, &BlockError) + Send + Sync + 'static) {
        if self.0.alarm.set(Box::new(heard)).is_err() {
            tracing::warn!("somebody hears of poisoned nodes already");
        }
    }

    /// The drivers.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.0.registry
    }

    /// The gates, for grace periods.
    pub fn domain(&self) -> &Arc<Domain> {
        &self.0.domain
    }

    // ---- looking up ----

    /// All nodes, in the order they came.
    pub fn nodes(&self) -> Vec<Arc<Node>> {
        self.0.topology.read().nodes.clone()
    }

    /// All entries, in the order they came.
    pub fn entries(&self) -> Vec<Arc<Backend>> {
        self.0.topology.read().entries.clone()
    }

    /// The node of this name.
    pub fn node(&self, name: &str) -> Option<Arc<Node>> {
        self.0.topology.read().nodes.iter().find(|n| n.name() == name).cloned()
    }

    /// The node of this name, or an error that names it.
    pub fn need_node(&self, name: &str) -> Result<Arc<Node>> {
        self.node(name).ok_or_else(|| {
            BlockError::new(
                ErrorKind::NotFound,
                format!("Cannot find device='{name}' nor node-name='{name}'"),
            )
        })
    }

    /// Who uses the node.
    pub fn users(&self, node: &Arc<Node>) -> Vec<String> {
        self.0.topology.read().users(node).into_iter().map(|(label, _)| label).collect()
    }

    /// Parents of the node with the role it has for each.
    pub fn parents(&self, node: &Arc<Node>) -> Vec<(Arc<Node>, Role)> {
        self.0.topology.read().parents(node)
    }

    // ---- opening and closing ----

    /// Opens a node from options. It is unattached and belongs to nobody yet.
    pub async fn open(&self, options: Options, policy: Policy) -> Result<Arc<Node>> {
        open::open(self, options, Inherit::top(policy, None)).await
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
        open::open(self, options, Inherit::top(policy, Some(common))).await
    }

    /// Opens an image by options, with defaults for the options every driver has.
    pub async fn open_with(&self, options: Options, common: Common, policy: Policy) -> Result<Arc<Node>> {
        open::open(self, options, Inherit::top(policy, Some(common))).await
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
            let driver = options.take_str("driver")?.unwrap_or_else(|| "file".to_owned());
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
            None => Ok((self.plain_protocol(filename), Options::new().with_str("filename", filename))),
        }
    }

    /// Block and character devices have a driver of their own; everything else is a file.
    fn plain_protocol(&self, filename: &str) -> String {
        use std::os::unix::fs::FileTypeExt;
        let device = std::fs::metadata(filename)
            .is_ok_and(|m| m.file_type().is_block_device() || m.file_type().is_char_device());
        let host = device && self.registry().find("host_device").is_some();
        if host { "host_device".to_owned() } else { "file".to_owned() }
    }

    /// Creates an image: its file first, then the format in it.
    pub async fn create(&self, format: &str, filename: &str, size: u64, mut options: Options) -> Result<()> {
        let driver = self.registry().need(format)?;
        let (protocol, _) = self.protocol_options(filename)?;
        let protocol = self.registry().need(&protocol)?;
        let create_file = protocol.create.ok_or_else(|| {
            BlockError::unsupported(format!(
                "Protocol driver '{}' does not support image creation",
                protocol.name
            ))
        })?;
        let create = driver.create.ok_or_else(|| {
            BlockError::unsupported(format!("Format driver '{format}' does not support image creation"))
        })?;
        let mut file_options = Options::new();
        for option in protocol.create_options {
            let theirs = driver.create_options.iter().any(|o| o.name == option.name);
            if let Some(value) =
                (!theirs || driver.kind == DriverKind::Protocol).then(|| options.take(option.name)).flatten()
            {
                file_options.set(option.name, value);
            }
        }
        // Format options are checked before the file is touched.
        if driver.kind == DriverKind::Protocol {
            options.finish()?;
            return create_file(CreateRequest {
                file: None,
                filename: filename.to_owned(),
                size,
                options: file_options,
            })
            .await;
        }
        create_file(CreateRequest {
            file: None,
            filename: filename.to_owned(),
            size: 0,
            options: file_options,
        })
        .await?;
        let (name, file) = self.protocol_options(filename)?;
        let file = self.open(file.with_str("driver", &name), Policy::ALONE).await?;
        let request =
            CreateRequest { file: Some(file.clone()), filename: filename.to_owned(), size, options };
        let result = create(request).await;
        let result = result.and(self.release(&file).await);
        // Half an image is no image: nobody shall take it for one.
        if let (Err(e), Some(remove)) = (&result, protocol.remove)
            && let Err(left) = remove(filename.to_owned()).await
        {
            tracing::warn!(filename, cause = %e, error = %left, "a half-made image could not be removed");
        }
        result
    }

    /// Makes an opened driver a node of the graph, and checks what it needs of its children.
    pub(crate) fn adopt(
        &self,
        name: Option<String>,
        driver_type: &'static DriverType,
        opened: Opened,
        edges: Arc<Edges>,
        common: Common,
    ) -> Result<Arc<Node>> {
        let name = match name {
            Some(name) => check_name(name)?,
            None => format!("#block{:03}", self.0.next_name.fetch_add(1, Relaxed)),
        };
        let facts = opened.driver.facts();
        let mut slow = 0;
        let bits = [
            (common.read_only, Slow::READ_ONLY),
            (common.detect_zeroes, Slow::DETECT_ZEROES),
            (common.write_through, Slow::WRITE_THROUGH),
            (!facts.mapping && facts.alignment > 1, Slow::ALIGN),
        ];
        bits.into_iter().filter(|(on, _)| *on).for_each(|(_, bit)| slow |= bit);
        let node = Arc::new(Node {
            name: name.as_str().into(),
            driver_type,
            mapping: facts.mapping,
            alignment: facts.alignment,
            driver: opened.driver,
            edges,
            slow: AtomicU32::new(slow),
            common: RwLock::new(common),
            filename: opened.filename,
            marks: ArcSwap::default(),
            marked: AtomicBool::new(false),
            highest: AtomicU64::new(0),
            padding: crate::lease::Leases::new(),
            monitor_owned: AtomicBool::new(false),
            busy: RwLock::new(None),
            alarm: self.0.alarm.clone(),
        });
        let mut topology = self.0.topology.write();
        if topology.nodes.iter().any(|n| n.name() == name) {
            return Err(BlockError::invalid(format!("Duplicate nodes with node-name='{name}'")));
        }
        topology.nodes.push(node.clone());
        if let Err(e) = topology.settle(std::slice::from_ref(&node)) {
            topology.nodes.retain(|n| !Arc::ptr_eq(n, &node));
            return Err(e);
        }
        drop(topology);
        node.driver.attached(&node);
        Ok(node)
    }

    /// Gives up the children of a node that was not born.
    pub(crate) async fn abandon(&self, edges: &Edges) {
        for (role, child) in edges.all() {
            edges.set(role, None);
            self.dispose(&child).await;
        }
    }

    /// [`Graph::release`] after a failure that is reported already.
    pub(crate) async fn dispose(&self, node: &Arc<Node>) {
        if let Err(e) = self.release(node).await {
            tracing::warn!(node = node.name(), error = %e, "closing a node after a failed open failed");
        }
    }

    /// Closes a node that nobody owns or uses, and what only it used. Others stay as they are.
    pub async fn release(&self, node: &Arc<Node>) -> Result<()> {
        let mut result = Ok(());
        let mut idle = vec![node.clone()];
        while let Some(node) = idle.pop() {
            {
                let mut topology = self.0.topology.write();
                if node.monitor_owned() || !topology.users(&node).is_empty() {
                    continue;
                }
                topology.nodes.retain(|n| !Arc::ptr_eq(n, &node));
            }
            // What was acknowledged outlives the close, whether or not anybody flushed.
            let flushed = if node.poisoned() { Ok(()) } else { node.flush().await };
            let closed = node.driver.close().await.map_err(|e| e.at_node(node.name()));
            node.set_slow(Slow::CLOSED, true);
            result = result.and(flushed).and(closed);
            for (role, child) in node.edges.all() {
                node.edges.set(role, None);
                idle.push(child);
            }
        }
        result
    }

    /// Deletes a node of the monitor's that nobody uses.
    pub async fn remove(&self, name: &str) -> Result<()> {
        let _turn = self.0.change.lock().await;
        let node = self.node(name).ok_or_else(|| {
            BlockError::new(ErrorKind::NotFound, format!("Failed to find node with node-name='{name}'"))
        })?;
        if !node.monitor_owned() {
            return Err(BlockError::invalid(format!("Node {name} is not owned by the monitor")));
        }
        if let Some(user) = self.users(&node).first() {
            return Err(BlockError::new(ErrorKind::Busy, format!("Node {name} is in use by {user}")));
        }
        if let Some(reason) = node.busy() {
            return Err(BlockError::new(ErrorKind::Busy, format!("Node '{name}' is busy: {reason}")));
        }
        node.monitor_owned.store(false, Release);
        self.release(&node).await
    }

    /// Closes everything, top-down: what is not in use by an entry. Errors are told, the first is returned.
    pub async fn close_all(&self) -> Result<()> {
        let mut result = Ok(());
        loop {
            let nodes = self.nodes();
            let Some(top) = nodes.iter().rev().find(|n| self.users(n).is_empty()) else { break };
            top.monitor_owned.store(false, Release);
            result = result.and(self.release(top).await);
        }
        result
    }

    // ---- entries ----

    /// Attaches an entry, after a check of its permissions against all other users.
    pub async fn attach(&self, request: BackendRequest) -> Result<Arc<Backend>> {
        let _turn = self.0.change.lock().await;
        let BackendRequest { label, node, perms, pinned } = request;
        if perms.need.has(Share::WRITE) && node.read_only() {
            return Err(BlockError::new(
                ErrorKind::ReadOnly,
                format!("Block node '{}' is read-only", node.name()),
            ));
        }
        let entry = Arc::new(Backend::new(label, node.clone(), self.domain().gate(), perms, pinned));
        let mut topology = self.0.topology.write();
        topology.entries.push(entry.clone());
        if let Err(e) = topology.settle(&[node]) {
            topology.entries.pop();
            return Err(e);
        }
        Ok(entry)
    }

    /// Detaches an entry: waits for its requests, then closes what only it used.
    pub async fn detach(&self, entry: &Arc<Backend>) -> Result<()> {
        let _turn = self.0.change.lock().await;
        entry.gate.close();
        entry.gate.drained().await;
        let node = entry.node();
        {
            let mut topology = self.0.topology.write();
            topology.entries.retain(|e| !Arc::ptr_eq(e, entry));
            // Fewer permissions can't conflict; file locks are given back here.
            topology.settle(std::slice::from_ref(&node))?;
        }
        self.release(&node).await
    }

    /// Changes what an entry needs and shares.
    pub async fn set_perms(&self, entry: &Arc<Backend>, perms: Perms) -> Result<()> {
        let _turn = self.0.change.lock().await;
        let topology = self.0.topology.write();
        let old = std::mem::replace(&mut *entry.perms.write(), perms);
        topology.settle(&[entry.node()]).inspect_err(|_| *entry.perms.write() = old)
    }

    // ---- changes of edges ----

    /// Closes the gates of all entries from which one of `nodes` can be reached, and waits for their requests. On
    /// time-out nothing has changed, and the error names who is stuck.
    pub async fn quiesce(&self, nodes: &[Arc<Node>]) -> Result<Closed> {
        let entries: Vec<_> = {
            let topology = self.0.topology.read();
            let reaches = |e: &Arc<Backend>| nodes.iter().any(|n| reachable(&e.node(), n));
            topology.entries.iter().filter(|e| reaches(e)).cloned().collect()
        };
        let gates = entries.iter().map(|e| e.gate.clone()).collect();
        match rt::timeout(QUIESCE_TIMEOUT, Closed::all(gates)).await {
            Ok(closed) => Ok(closed),
            Err(_) => {
                let stuck: Vec<_> =
                    entries.iter().filter(|e| e.in_flight() > 0).map(|e| e.label().to_owned()).collect();
                let text =
                    format!("requests of {} did not end within 30 s; nothing was changed", stuck.join(", "));
                Err(BlockError::new(ErrorKind::Timeout, text))
            }
        }
    }

    /// Puts `overlay` over `node`: all users of `node` move to `overlay`, whose backing node it becomes. With the
    /// gates closed, `node` is flushed, and turned read-only.
    pub async fn insert_overlay(&self, node: &Arc<Node>, overlay: &Arc<Node>) -> Result<()> {
        let _turn = self.0.change.lock().await;
        if overlay.child(Role::Backing).is_some() {
            return Err(BlockError::invalid("The overlay already has a backing image"));
        }
        if !overlay.driver_type.supports_backing {
            return Err(BlockError::unsupported("The overlay does not support backing images"));
        }
        if let Some(user) = self.users(overlay).first() {
            return Err(BlockError::new(ErrorKind::Busy, format!("The overlay is already in use by {user}")));
        }
        if reachable(overlay, node) {
            return Err(BlockError::invalid("Making the node a backing file of itself would make a loop"));
        }
        // A first, long flush while requests still run; only the short rest waits for the gates.
        node.flush().await?;
        let _closed = self.quiesce(std::slice::from_ref(node)).await?;
        node.flush().await?;
        let moved = {
            let topology = self.0.topology.write();
            let moved = topology.moved_users(node, |_| true);
            overlay.edges.set(Role::Backing, Some(node.clone()));
            moved.point_to(overlay);
            if let Err(e) = topology.settle(&[overlay.clone(), node.clone()]) {
                moved.point_to(node);
                overlay.edges.set(Role::Backing, None);
                return Err(e.and_settle(&topology, &[overlay.clone(), node.clone()]));
            }
            moved
        };
        drop(moved);
        self.set_writable_inner(node, false).await
    }

    /// Moves all users of `from` to `to`, where `keep` does not hold a parent back. `to` may be below `from`. Then
    /// `from` is closed, unless the monitor owns it. The gates above both are closed by the caller.
    pub async fn replace(
        &self,
        from: &Arc<Node>,
        to: &Arc<Node>,
        keep: impl Fn(&Arc<Node>) -> bool,
    ) -> Result<()> {
        let _turn = self.0.change.lock().await;
        {
            let topology = self.0.topology.write();
            let moved = topology.moved_users(from, |parent| !keep(parent));
            moved.point_to(to);
            if let Err(e) = topology.settle(&[from.clone(), to.clone()]) {
                moved.point_to(from);
                return Err(e.and_settle(&topology, &[from.clone(), to.clone()]));
            }
        }
        Ok(())
    }

    /// Sets the backing child of `node`. The gates above are closed by the caller.
    pub async fn set_backing(&self, node: &Arc<Node>, backing: Option<Arc<Node>>) -> Result<()> {
        let _turn = self.0.change.lock().await;
        let old = node.child(Role::Backing);
        {
            let topology = self.0.topology.write();
            node.edges.set(Role::Backing, backing.clone());
            let touched: Vec<_> = [Some(node.clone()), old.clone(), backing].into_iter().flatten().collect();
            if let Err(e) = topology.settle(&touched) {
                node.edges.set(Role::Backing, old);
                return Err(e.and_settle(&topology, &touched));
            }
        }
        Ok(())
    }

    /// Makes a node, with the files below it, writable or read-only in place.
    pub async fn set_writable(&self, node: &Arc<Node>, writable: bool) -> Result<()> {
        let _turn = self.0.change.lock().await;
        self.set_writable_inner(node, writable).await
    }

    /// A user that writes to the node, if there is one.
    fn writer_of(&self, node: &Arc<Node>) -> Option<String> {
        let users = self.0.topology.read().users(node);
        users.into_iter().find(|(_, perms)| perms.need.has(Share::WRITE)).map(|(label, _)| label)
    }

    async fn set_writable_inner(&self, node: &Arc<Node>, writable: bool) -> Result<()> {
        if node.read_only() != writable {
            return Ok(());
        }
        let children: Vec<_> =
            node.edges.all().into_iter().filter(|(r, _)| *r != Role::Backing).map(|(_, c)| c).collect();
        let switch = |node: &Arc<Node>, writable: bool| {
            node.set_slow(Slow::READ_ONLY, !writable);
            node.common.write().read_only = !writable;
        };
        if writable {
            for child in &children {
                Box::pin(self.set_writable_inner(child, true)).await?;
            }
            // The locks of the writer come first; undone if another process is in the way.
            switch(node, true);
            let settled = self.0.topology.write().settle(std::slice::from_ref(node));
            let result = match settled {
                Ok(()) => node.driver.set_writable(true).await,
                Err(e) => Err(e),
            };
            if let Err(e) = result {
                switch(node, false);
                self.0.topology.write().settle(std::slice::from_ref(node))?;
                return Err(e);
            }
            return Ok(());
        }
        if let Some(writer) = self.writer_of(node) {
            let text = format!("Read-only block node '{}' cannot support read-write users: {writer} writes to it", node.name());
            return Err(BlockError::new(ErrorKind::Busy, text));
        }
        node.driver.set_writable(false).await?;
        switch(node, false);
        self.0.topology.write().settle(std::slice::from_ref(node))?;
        for child in &children {
            let shared = self.0.topology.read().parents(child).iter().any(|(p, _)| !Arc::ptr_eq(p, node));
            if !shared && !child.monitor_owned() {
                Box::pin(self.set_writable_inner(child, false)).await?;
            }
        }
        Ok(())
    }

    /// Changes the virtual size of a node. The gates above are closed meanwhile.
    pub async fn resize(&self, node: &Arc<Node>, size: u64, preallocation: &str) -> Result<()> {
        let _turn = self.0.change.lock().await;
        if let Some(reason) = node.busy() {
            return Err(BlockError::new(
                ErrorKind::Busy,
                format!("Node '{}' is busy: {reason}", node.name()),
            ));
        }
        if node.read_only() {
            return Err(BlockError::new(ErrorKind::ReadOnly, "Image is read-only"));
        }
        let user = Perms { need: Share::READ.and(Share::WRITE).and(Share::RESIZE), share: Share::ALL };
        let entry =
            Arc::new(Backend::new("resize".to_owned(), node.clone(), self.domain().gate(), user, true));
        {
            let mut topology = self.0.topology.write();
            topology.entries.push(entry.clone());
            if let Err(e) = topology.settle(std::slice::from_ref(node)) {
                topology.entries.pop();
                return Err(e);
            }
        }
        let result = match self.quiesce(std::slice::from_ref(node)).await {
            Ok(_closed) => node.driver.resize(size, preallocation).await.map_err(|e| e.at_node(node.name())),
            Err(e) => Err(e),
        };
        let mut topology = self.0.topology.write();
        topology.entries.retain(|e| !Arc::ptr_eq(e, &entry));
        result.and(topology.settle(std::slice::from_ref(node)))
    }

    /// Takes changed options of a node (`blockdev-reopen`): those every driver has here, the driver's own there.
    /// Options that are not listed go back to their defaults; children are given by their present names.
    pub async fn reopen(&self, options: Options) -> Result<()> {
        let mut options = options;
        let name =
            options.take_str("node-name")?.ok_or_else(|| BlockError::invalid("node-name not specified"))?;
        let node = self.node(&name).ok_or_else(|| {
            BlockError::new(ErrorKind::NotFound, format!("Failed to find node with node-name='{name}'"))
        })?;
        let driver = options.take_str("driver")?.unwrap_or_default();
        if driver != node.driver_name() {
            return Err(BlockError::invalid(format!("Cannot change the option 'driver' of '{name}'")));
        }
        let common = open::take_common(&mut options, None)?;
        let backing = self.reopened_children(&node, &mut options)?;
        let writable = !common.read_only;
        {
            let old = node.common();
            if (old.direct, old.force_share) != (common.direct, common.force_share) {
                return Err(BlockError::unsupported(format!(
                    "cache.direct and force-share of '{name}' can't be changed by a reopen"
                )));
            }
        }
        let _closed = self.quiesce(std::slice::from_ref(&node)).await?;
        if !node.read_only() {
            node.flush().await?;
        }
        self.set_writable(&node, writable).await?;
        node.driver.reopen(options).await?;
        if let Some(backing) = backing {
            self.set_backing(&node, backing).await?;
        }
        node.set_slow(Slow::DETECT_ZEROES, common.detect_zeroes);
        node.set_slow(Slow::WRITE_THROUGH, common.write_through);
        *node.common.write() = Common { read_only: node.read_only(), ..common };
        Ok(())
    }

    /// The children a reopen names. `file` must be the present one; a changed `backing` is returned.
    #[allow(clippy::option_option, reason = "unchanged, none, or another node are three answers")]
    fn reopened_children(
        &self,
        node: &Arc<Node>,
        options: &mut Options,
    ) -> Result<Option<Option<Arc<Node>>>> {
        if let Some(file) = node.child(Role::File) {
            match options.take_str("file")? {
                Some(name) if name == file.name() => {}
                Some(_) => return Err(BlockError::unsupported("Cannot change the option 'file'")),
                None => return Err(BlockError::invalid(format!("file is missing for '{}'", node.name()))),
            }
        }
        if !node.driver_type.supports_backing {
            return Ok(None);
        }
        let old = node.child(Role::Backing);
        let new = match options.take("backing") {
            None if old.is_some() => {
                return Err(BlockError::invalid(format!("backing is missing for '{}'", node.name())));
            }
            None | Some(Opt::Null) => None,
            Some(Opt::Str(name)) => Some(self.need_node(&name)?),
            Some(_) => {
                return Err(BlockError::invalid(
                    "Option 'backing' must be a node's name or null at a reopen",
                ));
            }
        };
        if let Some(new) = &new
            && reachable(new, node)
        {
            return Err(BlockError::invalid(format!(
                "Making '{}' a backing file of '{}' would make a loop",
                new.name(),
                node.name()
            )));
        }
        let same = old.as_ref().map(|n| n.name().to_owned()) == new.as_ref().map(|n| n.name().to_owned());
        Ok((!same).then_some(new))
    }
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.nodes()).finish()
    }
}

/// Users of a node that a change moves.
struct Moved {
    parents: Vec<(Arc<Node>, Role)>,
    entries: Vec<Arc<Backend>>,
}

impl Moved {
    fn point_to(&self, node: &Arc<Node>) {
        self.parents.iter().for_each(|(p, role)| p.edges.set(*role, Some(node.clone())));
        self.entries.iter().for_each(|e| e.root.store(node.clone()));
    }
}

impl BlockError {
    /// After a change was undone: locks go back to what the old topology needs; that can't fail in a way to act on.
    fn and_settle(self, topology: &Topology, nodes: &[Arc<Node>]) -> Self {
        if let Err(e) = topology.settle(nodes) {
            tracing::error!(error = %e, "file locks could not be put back after an undone change");
        }
        self
    }
}

impl Topology {
    fn parents(&self, node: &Arc<Node>) -> Vec<(Arc<Node>, Role)> {
        let mut parents = Vec::new();
        for parent in &self.nodes {
            for role in Role::ALL {
                if parent.edges.with(role, |c| c.is_some_and(|c| Arc::ptr_eq(c, node))) {
                    parents.push((parent.clone(), role));
                }
            }
        }
        parents
    }

    fn users(&self, node: &Arc<Node>) -> Vec<(String, Perms)> {
        let mut users = Vec::new();
        for (parent, role) in self.parents(node) {
            let above = Perms::together(self.users(&parent).into_iter().map(|(_, p)| p));
            let perms = if parent.common.read().force_share {
                Perms { need: Share::NONE, share: Share::ALL }
            } else {
                parent.driver.child_perms(role, above, parent.read_only())
            };
            users.push((format!("node '{}' (as '{}')", parent.name(), role.name()), perms));
        }
        for entry in self.entries.iter().filter(|e| Arc::ptr_eq(&e.root.load(), node)) {
            users.push((entry.label.clone(), *entry.perms.read()));
        }
        users
    }

    fn moved_users(&self, node: &Arc<Node>, choose: impl Fn(&Arc<Node>) -> bool) -> Moved {
        Moved {
            parents: self.parents(node).into_iter().filter(|(p, _)| choose(p)).collect(),
            entries: self
                .entries
                .iter()
                .filter(|e| !e.pinned && Arc::ptr_eq(&e.root.load(), node))
                .cloned()
                .collect(),
        }
    }

    /// Checks the permissions of `nodes` and everything below them, then lets the drivers take the locks they mean.
    fn settle(&self, nodes: &[Arc<Node>]) -> Result<()> {
        let mut below: Vec<Arc<Node>> = Vec::new();
        let mut todo = nodes.to_vec();
        while let Some(node) = todo.pop() {
            if !below.iter().any(|n| Arc::ptr_eq(n, &node)) {
                todo.extend(node.edges.all().into_iter().map(|(_, c)| c));
                below.push(node);
            }
        }
        let mut plan = Vec::with_capacity(below.len());
        for node in below {
            let users = self.users(&node);
            conflict_free(&node, &users)?;
            plan.push((node, Perms::together(users.into_iter().map(|(_, p)| p))));
        }
        for (node, perms) in plan.iter().filter(|(n, _)| !n.common.read().force_share) {
            node.driver.set_perms(*perms).map_err(|e| e.at_node(node.name()))?;
        }
        Ok(())
    }
}

fn conflict_free(node: &Arc<Node>, users: &[(String, Perms)]) -> Result<()> {
    for (i, (who, perms)) in users.iter().enumerate() {
        for (j, (other, theirs)) in users.iter().enumerate() {
            let denied = perms.denied_by(*theirs);
            if i != j && denied != Share::NONE {
                let (node, denied) = (node.name(), denied.names());
                let text = format!(
                    "Permission conflict on node '{node}': {who} needs '{denied}', which {other} does not share"
                );
                return Err(BlockError::new(ErrorKind::Busy, text));
            }
        }
    }
    Ok(())
}

/// Whether `node` is `from` or below it.
fn reachable(from: &Arc<Node>, node: &Arc<Node>) -> bool {
    Arc::ptr_eq(from, node) || from.edges.all().iter().any(|(_, child)| reachable(child, node))
}

/// A node's name: a letter first, then letters, digits, `-`, `.` and `_`.
fn check_name(name: String) -> Result<String> {
    let mut chars = name.chars();
    let well_formed = chars.next().is_some_and(|c| c.is_ascii_alphabetic())
        && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'));
    if !well_formed {
        return Err(BlockError::invalid(format!("Invalid node-name: '{name}'")));
    }
    if name.len() > MAX_NAME {
        return Err(BlockError::invalid("Node name too long"));
    }
    Ok(name)
}
