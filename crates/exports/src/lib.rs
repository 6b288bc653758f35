//! Exports: what serves a node to clients outside of the program.
//!
//! ```text
//! Exports (by id) ─▶ Export: one of a kind
//!                      └▶ NBD server ─▶ connections ─▶ Backend ─▶ node
//! ```
//!
//! An export is an entry into the graph with a protocol in front of it. [`Exports`] keeps them by id, as the monitor
//! knows them; [`ExportKind`] and [`Export`] are what one of any kind is; [`nbd`] is the kind that speaks NBD.
#![forbid(unsafe_code)]

mod error;
mod export;
pub mod nbd;
mod registry;

pub use error::ExportError;
pub use export::{Export, ExportKind, ExportTerms};
pub use nbd::{
    ExportedBitmap, NbdExportSpec, NbdKind, NbdOptions, NbdServer, NbdService, Offered, ServerOptions,
};
pub use registry::{ExportInfo, ExportSpec, Exports, RemoveMode};
