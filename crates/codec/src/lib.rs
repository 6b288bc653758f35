//! Codecs of compressed clusters and of file names, and the zero scan.
//!
//! - [`decode`]: raw deflate and zstd, from a slice that may go on behind the stream, into a buffer of known size.
//! - [`filename`]: names that are not UTF-8, as text and back.
//! - [`zero`]: how far a buffer is zero, or is not.
#![forbid(unsafe_code)]

mod decode;
pub mod filename;
pub mod zero;

pub use decode::{Algorithm, DecodeError, decode};
pub use zero::is_zero;
