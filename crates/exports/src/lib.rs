//! Exports: the NBD server.
#![forbid(unsafe_code)]
