//! What an export is, whatever it speaks: how one of a kind is made, and what whoever keeps it may ask of it.
use crate::error::ExportError;
use crate::registry::ExportSpec;
use block::{Backend, Perms, Share};
use rt::BoxFuture;
use std::sync::Arc;

/// An export to be made, of one kind, with the options that this kind has. A new kind is a folder of this crate with
/// an implementation of this trait and of [`Export`], and a branch of the schema's `BlockExportOptions`.
pub trait ExportKind: Send {
    /// The kind by the schema's name.
    fn name(&self) -> &'static str;

    /// What the export needs of its node and shares there. As it is, clients may rely on the size.
    fn perms(&self, writable: bool) -> Perms {
        if writable { Perms::WRITER } else { Perms { need: Share::READ, ..Perms::WRITER } }
    }

    /// Refuses what can be refused before the node is touched.
    fn check(&self, spec: &ExportSpec) -> Result<(), ExportError>;

    /// Starts to serve an entry of the node. Clients may come before it returns. After an error nothing is served.
    fn start(self: Box<Self>, terms: Terms) -> BoxFuture<'static, Result<Arc<dyn Export>, ExportError>>;
}

/// What every kind of export is started with.
pub struct Terms {
    /// What was asked for.
    pub spec: ExportSpec,
    /// The entry that serves it.
    pub backend: Arc<Backend>,
}

/// An export that is served.
pub trait Export: Send + Sync {
    /// Lets nobody in any more, if no client is in; whether that is so.
    fn close_if_unused(&self) -> bool;

    /// Lets nobody in any more, and sends those that are in away. Ends when their last request has. May be called
    /// several times, also at once.
    fn close(&self) -> BoxFuture<'_, ()>;

    /// Whether what carries it (a server that several exports share) has ended, so that it serves nobody any more.
    fn is_cut_off(&self) -> bool {
        false
    }

    /// Its node has another size now, in bytes. Only kinds that share resizing ([`ExportKind::perms`]) are told.
    fn resized(&self, size: u64) {
        let _ = size;
    }
}
