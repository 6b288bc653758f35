//! The one NBD server of a program, and exports through it.
use super::{NbdExportSpec, NbdServer, Offered, ServerOptions, check_texts};
use crate::error::ExportError;
use crate::export::{Export, ExportKind, ExportTerms};
use crate::registry::{ExportSpec, Exports};
use block::{BitmapUse, BlockError, ErrorKind, Graph, NamedBitmap, Node};
use parking_lot::Mutex;
use rt::BoxFuture;
use rt::net::Listener;
use std::sync::Arc;

/// The NBD server, if one runs; a handle, cheap to clone.
#[derive(Clone, Default)]
pub struct NbdService(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    server: Option<Arc<NbdServer>>,
    /// The program is ending: no server is started any more.
    ending: bool,
}

impl NbdService {
    /// Starts the server.
    pub fn start(
        &self,
        listeners: Vec<Listener>,
        options: ServerOptions,
    ) -> Result<Arc<NbdServer>, ExportError> {
        let mut state = self.0.lock();
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

    /// The server, if one runs.
    pub fn server(&self) -> Option<Arc<NbdServer>> {
        self.0.lock().server.clone()
    }

    /// Stops the server: its clients are disconnected, and its exports, of all in `exports`, removed. Another server may
    /// be started before this one has stopped.
    pub async fn stop(&self, exports: &Exports) -> Result<(), ExportError> {
        let server = self.0.lock().server.take().ok_or(ExportError::NotRunning)?;
        server.stop().await;
        exports.end_cut_off().await;
        Ok(())
    }

    /// Stops the server, if one runs: the program ends, and none is started from now on.
    pub async fn end(&self, exports: &Exports) {
        self.0.lock().ending = true;
        // Another session may be stopping it already.
        let _ = self.stop(exports).await;
    }

    /// The kind for an export through the server that runs when it is started.
    pub fn export(&self, options: NbdOptions) -> NbdKind {
        NbdKind { service: self.clone(), options }
    }
}

/// Options of exports through NBD.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NbdOptions {
    /// The name by which clients ask for it; that of the node without one.
    pub name: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// Clients may ask which layer of a chain holds a range.
    pub allocation_depth: bool,
    /// Dirty bitmaps that clients may ask for.
    pub bitmaps: Vec<ExportedBitmap>,
}

/// A dirty bitmap that an export shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedBitmap {
    /// The node it belongs to; without one the exported node, or the first one below it that has one of this name.
    pub node: Option<String>,
    /// Its name.
    pub name: String,
}

impl ExportedBitmap {
    /// Finds it for an export of `node`, and uses it as long as it is exported. One of the node's own that changes while
    /// clients, who can't write, look at it is refused.
    pub fn find(&self, graph: &Graph, node: &Arc<Node>, writable: bool) -> block::Result<BitmapUse> {
        let (owner, bitmap) = match &self.node {
            Some(owner) => {
                let owner = graph.need_node(owner)?;
                (owner.clone(), owner.need_bitmap(&self.name)?)
            }
            None => self.find_below(node)?,
        };
        // Who names a node beside the bitmap knows that it changes, or not.
        if self.node.is_none() && !writable && !owner.read_only() && bitmap.is_enabled() {
            let text = format!("Enabled bitmap '{}' incompatible with readonly export", self.name);
            return Err(BlockError::invalid(text));
        }
        if bitmap.bits().length() != node.length() {
            let text = format!("the bitmap '{}' is not one over all of '{}'", self.name, node.name());
            return Err(BlockError::invalid(text));
        }
        bitmap.hold()
    }

    fn find_below(&self, node: &Arc<Node>) -> block::Result<(Arc<Node>, Arc<NamedBitmap>)> {
        let below = |node: &Arc<Node>| node.filtered().or_else(|| node.backing());
        let mut chain = std::iter::successors(Some(node.clone()), below);
        let found =
            chain.find_map(|node| node.bitmaps().find(&self.name).map(|bitmap| (node.clone(), bitmap)));
        let missing = || format!("Bitmap '{}' is not found", self.name);
        found.ok_or_else(|| BlockError::new(ErrorKind::NotFound, missing()))
    }
}

/// An export through NBD that is to be made.
pub struct NbdKind {
    service: NbdService,
    options: NbdOptions,
}

impl NbdKind {
    fn server(&self) -> Result<Arc<NbdServer>, ExportError> {
        self.service.server().ok_or(ExportError::NotRunning)
    }

    fn name_of(&self, spec: &ExportSpec) -> String {
        self.options.name.clone().unwrap_or_else(|| spec.node_name.clone())
    }
}

impl ExportKind for NbdKind {
    fn name(&self) -> &'static str {
        "nbd"
    }

    fn check(&self, spec: &ExportSpec) -> Result<(), ExportError> {
        let name = self.name_of(spec);
        check_texts(&name, self.options.description.as_deref().unwrap_or_default())?;
        if self.server()?.names().contains(&name) {
            return Err(ExportError::NameTaken(name));
        }
        Ok(())
    }

    fn start(
        self: Box<Self>,
        terms: ExportTerms,
    ) -> BoxFuture<'static, Result<Arc<dyn Export>, ExportError>> {
        Box::pin(async move {
            let ExportTerms { spec, backend, graph, .. } = terms;
            let (node, writable) = (backend.node(), spec.writable);
            let found = self.options.bitmaps.iter().map(|b| b.find(&graph, &node, writable));
            let bitmaps = found.collect::<block::Result<_>>()?;
            let offered = self.server()?.add(NbdExportSpec {
                name: self.name_of(&spec),
                description: self.options.description.clone().unwrap_or_default(),
                backend,
                writable: spec.writable,
                writethrough: spec.writethrough,
                // The core pads requests to whatever the storage needs.
                minimum_block: 1,
                multi_conn: true,
                allocation_depth: self.options.allocation_depth,
                bitmaps,
            })?;
            Ok(Arc::new(offered) as Arc<dyn Export>)
        })
    }
}

impl Export for Offered {
    fn close_if_unused(&self) -> bool {
        self.withdraw_unused()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.withdraw())
    }

    fn is_cut_off(&self) -> bool {
        self.server_stops()
    }
}
