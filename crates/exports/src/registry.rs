//! The exports of a program by id, whatever their protocol.
//!
//! ```text
//! add ──▶ attach an entry to the node ──▶ start ──▶ [listed]
//! remove ─▶ close: clients disconnected, last request ended ─▶ flush ─▶ detach ─▶ [gone] ─▶ event
//! ```
//!
//! Laws: an export is listed until its node is released, then its end is reported once; an export that clients use is
//! removed only when asked to be ([`RemoveMode::Hard`]).

use crate::error::ExportError;
use crate::export::{Ended, Export, ExportKind, ExportTerms};
use block::{Backend, BackendRequest, Graph, Iothread, Share};
use event_listener::{Event, IntoNotification};
use parking_lot::Mutex;
use rt::Target;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};

/// Options of an export of any kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExportSpec {
    /// Names it in later commands: a letter, then letters, digits, `-`, `.`, `_`.
    pub id: String,
    /// The node to export, or the device whose node it is. Clients of a device for which it was said what is done about errors
    /// are its guest.
    pub node_name: String,
    /// Clients may write.
    pub writable: bool,
    /// Each write is durable before it is acknowledged.
    pub writethrough: bool,
    /// The worker that is to serve it, by the id of its object. Connections go to the least busy worker, whichever is
    /// named; the object can't be deleted meanwhile.
    pub iothread: Option<String>,
    /// The node may be inactive, or become so; else an inactive one is taken over.
    pub allow_inactive: bool,
}

/// What queries list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportInfo {
    /// Its id.
    pub id: String,
    /// Its kind, by the schema's name.
    pub kind: &'static str,
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
    /// Newest first, as they are listed.
    exports: Vec<Entry>,
    /// The program is ending: no export is made any more.
    ending: bool,
}

struct Entry {
    id: String,
    /// Nothing while the export is being made.
    live: Option<Arc<Live>>,
}

/// An export that has been made. Who ends it, or waits for its end, holds this and not its id, which may belong to another
/// export by then.
struct Live {
    id: String,
    kind: &'static str,
    backend: Arc<Backend>,
    export: Arc<dyn Export>,
    _iothread: Option<Arc<Iothread>>,
    writable: bool,
    shutting_down: AtomicBool,
    gone: AtomicBool,
}

impl Exports {
    /// No exports yet. `deleted` is called with the id of each that is gone.
    pub fn new(graph: Graph, deleted: impl Fn(&str) + Send + Sync + 'static) -> Self {
        let deleted = Box::new(deleted);
        Self(Arc::new(Inner { graph, deleted, state: Mutex::default(), gone: Event::new() }))
    }

    /// Makes an export.
    pub async fn add(&self, spec: ExportSpec, kind: impl ExportKind + 'static) -> Result<(), ExportError> {
        if !is_id(&spec.id) {
            return Err(ExportError::InvalidId);
        }
        let node = self.0.graph.need_node(&spec.node_name)?;
        self.0.reserve(&spec.id)?;
        let id = spec.id.clone();
        let made = async {
            let iothread = spec.iothread.as_deref().map(|id| self.0.iothread(id)).transpose()?;
            kind.check(&spec)?;
            if spec.writable && node.read_only() {
                return Err(ExportError::ReadOnlyNode);
            }
            let (label, perms) = (format!("export '{id}'"), kind.perms(spec.writable));
            let request = BackendRequest { label, node, perms, pinned: false };
            if !spec.allow_inactive {
                self.0.graph.activate(&request.node).await?;
            }
            let device = self.0.graph.device(&spec.node_name).filter(|device| device.has_policy());
            let backend = match &device {
                Some(device) => self.0.graph.attach_guest(request, device, spec.allow_inactive).await?,
                None if spec.allow_inactive => self.0.graph.attach_tolerant(request).await?,
                None => self.0.graph.attach(request).await?,
            };
            let started = self.0.start(spec, Box::new(kind), &backend, iothread).await;
            if started.is_err() {
                // Nothing was written through it, so an error here loses nothing.
                let _ = self.0.graph.detach(&backend).await;
            }
            started
        }
        .await;
        if made.is_err() {
            self.0.forget(&id);
        }
        made
    }

    /// Begins to remove an export; it is gone when its end is reported. Tells whether no client is to be waited for.
    pub fn remove(&self, id: &str, mode: RemoveMode) -> Result<bool, ExportError> {
        let live = self.0.live(id).ok_or_else(|| ExportError::NotFound(id.to_owned()))?;
        let begun = live.shutting_down.load(Acquire);
        let is_unused = live.export.close_if_unused();
        if mode == RemoveMode::Safe && !is_unused {
            return Err(ExportError::InUse(id.to_owned()));
        }
        self.0.begin_close(&live);
        Ok(is_unused && !begun)
    }

    /// Returns when the exports that have these ids now are gone.
    pub async fn wait_gone(&self, ids: &[String]) {
        let exports: Vec<_> = ids.iter().filter_map(|id| self.0.live(id)).collect();
        self.0.wait_gone(&exports).await;
    }

    /// Removes the exports that have ended by themselves, or whose server has.
    pub async fn end_cut_off(&self) {
        let mut cut_off = self.0.state.lock().live();
        cut_off.retain(|live| live.export.is_cut_off());
        self.0.end(&cut_off).await;
    }

    /// Removes all exports, and makes none from now on: the program is ending.
    pub async fn close_all(&self) {
        let left = {
            let mut state = self.0.state.lock();
            state.ending = true;
            state.live()
        };
        self.0.end(&left).await;
    }

    /// The exports, newest first.
    pub fn list(&self) -> Vec<ExportInfo> {
        let listed = |live: Arc<Live>| ExportInfo {
            id: live.id.clone(),
            kind: live.kind,
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
    /// Reserves the id while the export is made.
    fn reserve(&self, id: &str) -> Result<(), ExportError> {
        let mut state = self.state.lock();
        if state.ending {
            return Err(ExportError::Ending);
        }
        if state.exports.iter().any(|entry| entry.id == id) {
            return Err(ExportError::IdTaken(id.to_owned()));
        }
        state.exports.insert(0, Entry { id: id.to_owned(), live: None });
        Ok(())
    }

    /// The export of this id.
    fn live(&self, id: &str) -> Option<Arc<Live>> {
        self.state.lock().exports.iter().find(|entry| entry.id == id)?.live.clone()
    }

    fn forget(&self, id: &str) {
        self.state.lock().exports.retain(|entry| entry.id != id);
    }

    /// What an export is given to tell of its end: those that have ended by then are removed.
    fn ended(self: &Arc<Self>) -> Ended {
        let inner = Arc::downgrade(self);
        Ended(Arc::new(move || {
            if let Some(inner) = inner.upgrade() {
                rt::spawn_on(Target::Control, async move { Exports(inner).end_cut_off().await }).detach();
            }
        }))
    }

    async fn start(
        self: &Arc<Self>,
        spec: ExportSpec,
        kind: Box<dyn ExportKind>,
        backend: &Arc<Backend>,
        iothread: Option<Arc<Iothread>>,
    ) -> Result<(), ExportError> {
        let (id, name, writable) = (spec.id.clone(), kind.name(), spec.writable);
        let shares_resizing = kind.perms(writable).share.has(Share::RESIZE);
        let (backend, graph, ended) = (backend.clone(), self.graph.clone(), self.ended());
        let export = kind.start(ExportTerms { spec, backend: backend.clone(), graph, ended }).await?;
        if shares_resizing {
            let told = Arc::downgrade(&export);
            backend.on_resize(move |size| {
                if let Some(export) = told.upgrade() {
                    export.resized(size);
                }
            });
        }
        let live = Arc::new(Live {
            id,
            kind: name,
            backend: backend.clone(),
            export,
            _iothread: iothread,
            writable,
            shutting_down: AtomicBool::new(false),
            gone: AtomicBool::new(false),
        });
        let refused = self.list(&live);
        if refused.is_err() {
            live.export.close().await;
        }
        refused
    }

    fn iothread(&self, id: &str) -> Result<Arc<Iothread>, ExportError> {
        self.graph.objects().hold(id).map_err(|_| ExportError::NoIothread(id.to_owned()))
    }

    /// Lists an export that has been started, unless its server or the program is ending. Both are marked as ending before
    /// the list is searched: an export is either refused here or found there.
    fn list(&self, live: &Arc<Live>) -> Result<(), ExportError> {
        let mut state = self.state.lock();
        if state.ending {
            return Err(ExportError::Ending);
        }
        if live.export.is_cut_off() {
            return Err(ExportError::CutOff(live.id.clone()));
        }
        if let Some(entry) = state.exports.iter_mut().find(|entry| entry.id == live.id) {
            entry.live = Some(live.clone());
        }
        Ok(())
    }

    /// Begins to end an export, unless that has begun already.
    fn begin_close(self: &Arc<Self>, live: &Arc<Live>) {
        if live.shutting_down.swap(true, AcqRel) {
            return;
        }
        let (inner, live) = (self.clone(), live.clone());
        let close = async move {
            live.backend.let_guest_go();
            live.export.close().await;
            inner.close(&live).await;
        };
        rt::spawn_on(Target::Control, close).detach();
    }

    /// After the last request: makes what was written durable and releases the node.
    async fn close(&self, live: &Live) {
        let id = live.id.as_str();
        if live.writable
            && !live.backend.node().owes_nothing()
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
