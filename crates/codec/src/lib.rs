//! Codecs of compressed clusters and of file names, and the zero scan.
//!
//! - [`Crc32c`]: the checksum CRC-32C, of VHDX images and of machines that are handed over.
//! - [`decode`]: deflate, zlib and zstd, from a slice that may go on behind the stream, into a buffer of known size; bzip2,
//!   xz, LZFSE and ADC of disk images of Apple, too.
//! - [`encode`]: deflate, zlib and zstd the other way, where the stream is smaller than what it holds.
//! - [`filename`]: names that are not UTF-8, as text and back.
//! - [`zero`]: how far a buffer is zero, or is not.
#![forbid(unsafe_code)]

mod adc;
mod crc32c;
mod decode;
mod deflate;
mod encode;
pub mod filename;
mod huffman;
pub mod zero;

pub use crc32c::Crc32c;
pub use decode::{Algorithm, DecodeError, decode};
pub use encode::encode;
pub use zero::is_zero;
