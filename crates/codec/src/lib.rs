//! Deflate, zstd and the zero scan.
#![forbid(unsafe_code)]
