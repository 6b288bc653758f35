//! Jobs in memory: commits, streams and mirrors under writers that never stop, and groups that take effect as a whole.
#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

mod backup;
mod commit;
mod group;
mod mirror;
mod stream;
mod support;
