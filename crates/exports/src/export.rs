//! What an export is, whatever its protocol: how one of a kind is made, and what its owner may ask of it.
use crate::error::ExportError;
use crate::registry::ExportSpec;
use block::{Backend, Graph, Perms, Share};
use rt::BoxFuture;
use std::sync::Arc;

/// An export to be made, of one kind, with the options that this kind has. A new kind is a folder of this crate with
/// an implementation of this trait and of [`Export`], and a branch of the schema's `BlockExportOptions`.
pub trait ExportKind: Send {
    /// The kind by the schema's name.
    fn name(&self) -> &'static str;

    /// Permissions on its node. The default does not share resizing: clients may rely on the size.
    fn perms(&self, writable: bool) -> Perms {
        if writable { Perms::WRITER } else { Perms { need: Share::READ, ..Perms::WRITER } }
    }

    /// Refuses what can be refused before the node is touched.
    fn check(&self, spec: &ExportSpec) -> Result<(), ExportError>;

    /// Starts to serve an entry of the node. Clients may come before it returns. After an error nothing is served.
    fn start(self: Box<Self>, terms: ExportTerms)
    -> BoxFuture<'static, Result<Arc<dyn Export>, ExportError>>;
}

/// What an export of any kind is started with.
pub struct ExportTerms {
    /// What was asked for.
    pub spec: ExportSpec,
    /// The entry that serves it.
    pub backend: Arc<Backend>,
    /// Where further nodes that it names are found.
    pub graph: Graph,
    /// To be told if it ends by itself.
    pub ended: Ended,
}

/// How an export that ends by itself tells of it: what it says of [`Export::is_cut_off`] is looked at again.
#[derive(Clone)]
pub struct Ended(pub(crate) Arc<dyn Fn() + Send + Sync>);

impl Ended {
    /// Tells it.
    pub fn tell(&self) {
        (self.0)();
    }
}

/// An export that is served.
pub trait Export: Send + Sync {
    /// If no client is connected, lets no further one in; whether that is so.
    fn close_if_unused(&self) -> bool;

    /// Lets no further client in and disconnects those there are. Returns when their last request has ended. May be called
    /// several times, also concurrently.
    fn close(&self) -> BoxFuture<'_, ()>;

    /// Whether it has ended by itself, or the server that carries it, so that it serves no client any more.
    fn is_cut_off(&self) -> bool {
        false
    }

    /// Its node has a new size, in bytes. Called only for kinds that share resizing ([`ExportKind::perms`]).
    fn resized(&self, size: u64) {
        let _ = size;
    }
}
