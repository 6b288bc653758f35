//! Exports: what serves a node to clients outside of the program.
//!
//! ```text
//! Exports (by id) ─▶ NBD server ─▶ connections ─▶ Backend ─▶ node
//! ```
//!
//! An export is an entry into the graph with a protocol before it. [`Exports`] keeps them by id, as the monitor
//! knows them; [`nbd`] speaks the protocol.
#![forbid(unsafe_code)]

mod error;
pub mod nbd;
mod registry;

pub use error::ExportError;
pub use nbd::{NbdExportSpec, NbdServer, Offered, ServerOptions};
pub use registry::{ExportInfo, ExportKind, ExportSpec, Exports, RemoveMode};
