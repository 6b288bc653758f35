//! The exports of a program by id, whatever they speak, and the one NBD server they share.
//!
//! ```text
//! add ──▶ attach an entry to the node ──▶ offer it ──▶ [listed]
//! remove ─▶ withdraw ─▶ disconnect ─▶ last request ended ─▶ flush ─▶ detach ─▶ [gone] ─▶ event
//! ```
//!
//! Laws: an export is listed until its node is let go, then its end is told once; an export that clients use is
//! removed only when asked to be ([`RemoveMode::Hard`]).

use crate::error::ExportError;
use crate::nbd::{NbdExportSpec, NbdServer, Offered, ServerOptions, check_texts};
use block::{Backend, BackendRequest, Graph, Perms, Share};
use event_listener::{Event, IntoNotification};
use parking_lot::Mutex;
use rt::Target;
use rt::net::Listener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};

/// What an export speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportKind {
    /// NBD.
    Nbd,
}

impl ExportKind {
    /// The schema's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nbd => "nbd",
        }
    }
}

/// An export to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExportSpec {
    /// Names it in later commands: a letter, then letters, digits, `-`, `.`, `_`.
    pub id: String,
    /// The node to export.
    pub node_name: String,
    /// Clients may write.
    pub writable: bool,
    /// Each write is durable before it is acknowledged.
    pub writethrough: bool,
    /// The name by which NBD clients ask for it; that of the node without one.
    pub name: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// Only one connection at a time will be possible.
    pub single_connection: bool,
}

/// What queries list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportInfo {
    /// Its id.
    pub id: String,
    /// What it speaks.
    pub kind: ExportKind,
    /// The node it leads to now.
    pub node_name: String,
    /// It is being removed.
    pub shutting_down: bool,
}

/// How to remove an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RemoveMode {
    /// Only if no client uses it.
    #[default]
    Safe,
    /// Disconnecting the clients that use it.
    Hard,
}

/// The exports; a handle, cheap to clone.
#[derive(Clone)]
pub struct Exports(Arc<Inner>);

struct Inner {
    graph: Graph,
    deleted: Box<dyn Fn(&str) + Send + Sync>,
    state: Mutex<State>,
    /// An export has gone.
    gone: Event,
}

#[derive(Default)]
struct State {
    server: Option<Arc<NbdServer>>,
    /// Newest first, as they are listed.
    exports: Vec<Entry>,
    /// The program ends: nothing new is made.
    ending: bool,
}

struct Entry {
    id: String,
    name: String,
    /// Nothing while the export is being made.
    live: Option<Arc<Live>>,
}

/// An export that has been made. Whoever ends it, or waits for its end, holds this and not its id, which may be another
/// one's by then.
struct Live {
    id: String,
    backend: Arc<Backend>,
    offered: Offered,
    writable: bool,
    shutting_down: AtomicBool,
    gone: AtomicBool,
}

impl Exports {
    /// No exports yet. `deleted` is told the id of each that has gone.
    pub fn new(graph: Graph, deleted: impl Fn(&str) + Send + Sync + 'static) -> Self {
        let deleted = Box::new(deleted);
        Self(Arc::new(Inner { graph, deleted, state: Mutex::default(), gone: Event::new() }))
    }

    /// Starts the NBD server.
    pub fn start_server(
        &self,
        listeners: Vec<Listener>,
        options: ServerOptions,
    ) -> Result<Arc<NbdServer>, ExportError> {
        let mut state = self.0.state.lock();
        if state.ending {
            return Err(ExportError::Ending);
        }
        if state.server.is_some() {
            return Err(ExportError::AlreadyRunning);
        }
        let server = Arc::new(NbdServer::start(listeners, options));
        state.server = Some(server.clone());
        Ok(server)
    }

    /// The NBD server, if one runs.
    pub fn server(&self) -> Option<Arc<NbdServer>> {
        self.0.state.lock().server.clone()
    }

    /// Stops the NBD server: its exports are removed, its clients disconnected.
    pub async fn stop_server(&self) -> Result<(), ExportError> {
        // Both at once: another server may be started, and have exports of its own, before this one has stopped.
        let (server, exports) = {
            let mut state = self.0.state.lock();
            (state.server.take().ok_or(ExportError::NotRunning)?, state.live())
        };
        server.stop().await;
        self.0.end(&exports).await;
        Ok(())
    }

    /// Makes an export.
    pub async fn add(&self, spec: ExportSpec) -> Result<(), ExportError> {
        if !is_id(&spec.id) {
            return Err(ExportError::InvalidId);
        }
        let node = self.0.graph.need_node(&spec.node_name)?;
        let name = spec.name.clone().unwrap_or_else(|| spec.node_name.clone());
        check_texts(&name, spec.description.as_deref().unwrap_or_default())?;
        let server = self.0.reserve(&spec, &name)?;
        let made = async {
            if spec.writable && node.read_only() {
                return Err(ExportError::ReadOnlyNode);
            }
            let label = format!("export '{}'", spec.id);
            // Clients were told a size: a reader shares no resizing either.
            let reader = Perms { need: Share::READ, ..Perms::WRITER };
            let perms = if spec.writable { Perms::WRITER } else { reader };
            let request = BackendRequest { label, node, perms, pinned: false };
            let backend = self.0.graph.attach(request).await?;
            if let Err(error) = self.0.offer(&server, &spec, name, &backend) {
                // Nothing was written through it: there is nothing whose loss the error could tell.
                let _ = self.0.graph.detach(&backend).await;
                return Err(error);
            }
            Ok(())
        }
        .await;
        if made.is_err() {
            self.0.forget(&spec.id);
        }
        made
    }

    /// Begins to remove an export; it is gone when its end is told.
    pub fn remove(&self, id: &str, mode: RemoveMode) -> Result<(), ExportError> {
        let live = self.0.live(id).ok_or_else(|| ExportError::NotFound(id.to_owned()))?;
        if mode == RemoveMode::Safe && !live.offered.withdraw_unused() {
            return Err(ExportError::InUse(id.to_owned()));
        }
        self.0.begin_close(&live);
        Ok(())
    }

    /// Ends when the exports that have these ids now are gone.
    pub async fn wait_gone(&self, ids: &[String]) {
        let exports: Vec<_> = ids.iter().filter_map(|id| self.0.live(id)).collect();
        self.0.wait_gone(&exports).await;
    }

    /// Removes all exports and stops the server: the program ends, and nothing new is made from now on.
    pub async fn close_all(&self) {
        self.0.state.lock().ending = true;
        // Somebody else may be about to stop the server: the exports end either way.
        let _ = self.stop_server().await;
        let left = self.0.state.lock().live();
        self.0.end(&left).await;
    }

    /// The exports, newest first.
    pub fn list(&self) -> Vec<ExportInfo> {
        let listed = |live: Arc<Live>| ExportInfo {
            id: live.id.clone(),
            kind: ExportKind::Nbd,
            node_name: live.backend.node().name().to_owned(),
            shutting_down: live.shutting_down.load(Acquire),
        };
        self.0.state.lock().live().into_iter().map(listed).collect()
    }

    /// The entry of an export, for its statistics.
    pub fn backend(&self, id: &str) -> Option<Arc<Backend>> {
        self.0.live(id).map(|live| live.backend.clone())
    }
}

impl State {
    /// The exports that have been made, newest first.
    fn live(&self) -> Vec<Arc<Live>> {
        self.exports.iter().filter_map(|entry| entry.live.clone()).collect()
    }
}

impl Inner {
    /// Takes id and name, so that no other export of that id or name is made meanwhile.
    fn reserve(&self, spec: &ExportSpec, name: &str) -> Result<Arc<NbdServer>, ExportError> {
        let mut state = self.state.lock();
        if state.ending {
            return Err(ExportError::Ending);
        }
        if state.exports.iter().any(|entry| entry.id == spec.id) {
            return Err(ExportError::IdTaken(spec.id.clone()));
        }
        let server = state.server.clone().ok_or(ExportError::NotRunning)?;
        if state.exports.iter().any(|entry| entry.name == name) {
            return Err(ExportError::NameTaken(name.to_owned()));
        }
        let entry = Entry { id: spec.id.clone(), name: name.to_owned(), live: None };
        state.exports.insert(0, entry);
        Ok(server)
    }

    /// The export of this id.
    fn live(&self, id: &str) -> Option<Arc<Live>> {
        self.state.lock().exports.iter().find(|entry| entry.id == id)?.live.clone()
    }

    fn forget(&self, id: &str) {
        self.state.lock().exports.retain(|entry| entry.id != id);
    }

    fn offer(
        &self,
        server: &Arc<NbdServer>,
        spec: &ExportSpec,
        name: String,
        backend: &Arc<Backend>,
    ) -> Result<(), ExportError> {
        let mut state = self.state.lock();
        // The server may have been stopped while the entry was attached.
        if !state.server.as_ref().is_some_and(|running| Arc::ptr_eq(running, server)) {
            return Err(ExportError::NotRunning);
        }
        let offered = server.add(NbdExportSpec {
            name,
            description: spec.description.clone().unwrap_or_default(),
            backend: backend.clone(),
            writable: spec.writable,
            writethrough: spec.writethrough,
            // The core pads requests to whatever the storage needs.
            minimum_block: 1,
            multi_conn: !spec.single_connection,
        })?;
        if let Some(entry) = state.exports.iter_mut().find(|entry| entry.id == spec.id) {
            entry.live = Some(Arc::new(Live {
                id: spec.id.clone(),
                backend: backend.clone(),
                offered,
                writable: spec.writable,
                shutting_down: AtomicBool::new(false),
                gone: AtomicBool::new(false),
            }));
        }
        Ok(())
    }

    /// Starts the end of an export, unless it has begun already.
    fn begin_close(self: &Arc<Self>, live: &Arc<Live>) {
        if live.shutting_down.swap(true, AcqRel) {
            return;
        }
        let (inner, live) = (self.clone(), live.clone());
        let close = async move {
            live.offered.withdraw().await;
            inner.close(&live).await;
        };
        rt::spawn_on(Target::Control, close).detach();
    }

    /// The last requests have ended: makes what they wrote durable and lets go of the node.
    async fn close(&self, live: &Live) {
        let id = live.id.as_str();
        if live.writable
            && let Err(error) = live.backend.flush().await
        {
            tracing::error!(export = id, %error, "the last flush of an export failed");
        }
        if let Err(error) = self.graph.detach(&live.backend).await {
            tracing::error!(export = id, %error, "an export's node did not close cleanly");
        }
        self.forget(id);
        (self.deleted)(id);
        live.gone.store(true, Release);
        self.gone.notify(usize::MAX.additional());
    }

    /// Ends these exports, and waits until they are gone.
    async fn end(self: &Arc<Self>, exports: &[Arc<Live>]) {
        exports.iter().for_each(|live| self.begin_close(live));
        self.wait_gone(exports).await;
    }

    async fn wait_gone(&self, exports: &[Arc<Live>]) {
        loop {
            let gone = self.gone.listen();
            if exports.iter().all(|live| live.gone.load(Acquire)) {
                return;
            }
            gone.await;
        }
    }
}

fn is_id(id: &str) -> bool {
    let mut chars = id.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic())
        && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
}
