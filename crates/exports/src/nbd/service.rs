//! The one NBD server of a program, and exports through it.
use super::{NbdExportSpec, NbdServer, Offered, ServerOptions, check_texts};
use crate::error::ExportError;
use crate::export::{Export, ExportKind, ExportTerms};
use crate::registry::{ExportSpec, Exports};
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
            let ExportTerms { spec, backend } = terms;
            let offered = self.server()?.add(NbdExportSpec {
                name: self.name_of(&spec),
                description: self.options.description.clone().unwrap_or_default(),
                backend,
                writable: spec.writable,
                writethrough: spec.writethrough,
                // The core pads requests to whatever the storage needs.
                minimum_block: 1,
                multi_conn: true,
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
