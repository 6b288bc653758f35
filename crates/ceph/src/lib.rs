//! Ceph's client libraries, librados and librbd, behind safe types. Nothing of them is needed to build: they are loaded when
//! they are first used ([`Library::system`]).
//!
//! ```text
//! Library ─▶ Cluster (configured) ─▶ Connection ─▶ Pool ─▶ Image ─▶ Operation<B>: a future
//!   functions by name   rados_conf_*      rados_connect   rados_ioctx_*  rbd_open   rbd_aio_*
//! ```
//!
//! Laws:
//! - an operation owns its buffer, and keeps its image open, until librbd has called its completion, whatever becomes of the
//!   future: dropping that abandons the answer only;
//! - a completion comes on a thread of librbd. It notes the result and wakes the future; it never closes anything itself, for that
//!   would wait for itself;
//! - everything else waits for the cluster, and is to be called where waiting is allowed: also dropping the last handle of a
//!   pool or connection. An image that is dropped without [`Image::close`] is closed by a thread of its own;
//! - a library that was loaded stays: it has threads.
//!
//! Errors are the system's numbers, as the libraries give them. What a library is too old for has the kind
//! [`Unsupported`](std::io::ErrorKind::Unsupported).
//!
//! Names, types and constants are those of the public headers `rados/librados.h` and `rbd/librbd.h` (Ceph 16 to 19).

mod cluster;
mod encryption;
mod functions;
mod image;
mod library;
mod operation;

pub use cluster::{Cluster, Connection, Pool};
pub use encryption::{Cipher, Encryption, Format};
pub use image::{Image, Snapshot, Status};
pub use library::{Library, LoadError};
pub use operation::Operation;
