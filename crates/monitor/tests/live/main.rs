//! QMP sessions inside this process: the wire, several clients, and the live graph under a writer.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]
#[path = "../client/mod.rs"]
mod client;
mod encryption;
mod generation;
mod guest;
mod internal_snapshots;
mod migration;
mod mirror;
mod reopen;
mod sessions;
mod snapshots;
#[path = "../support/mod.rs"]
mod support;
mod yank;
