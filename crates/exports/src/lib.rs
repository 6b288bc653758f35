//! Exports: what serves a node to clients outside of the program.
//!
//! ```text
//! Exports (by id) ─▶ Export: one of a kind
//!                      ├▶ NBD server ─▶ connections ─▶ Backend ─▶ node
//!                      └▶ FUSE mount ─▶ channels ────▶ Backend ─▶ node
//! ```
//!
//! An export is an entry into the graph with a protocol in front of it. [`Exports`] keeps them by id, as the monitor
//! knows them; [`ExportKind`] and [`Export`] are what one of any kind is; [`nbd`] is the kind that speaks NBD,
//! and [`fuse`] the one that is a file.
#![forbid(unsafe_code)]

mod error;
mod export;
pub mod fuse;
pub mod nbd;
mod registry;

pub use error::ExportError;
pub use export::{Ended, Export, ExportKind, ExportTerms};
pub use fuse::{AllowOther, FuseKind};
pub use nbd::{
    ExportedBitmap, NbdExportSpec, NbdKind, NbdOptions, NbdServer, NbdService, Offered, ServerOptions,
    ServerTls,
};
pub use registry::{ExportInfo, ExportSpec, Exports, RemoveMode};
