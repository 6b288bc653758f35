//! The NBD server: its commands, hostile clients, and how exports are made and removed.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

mod at_once;
mod durable;
mod exports_by_id;
mod extended;
mod misbehaviour;
mod peers;
mod requests;
mod world;
