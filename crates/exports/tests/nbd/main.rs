//! The NBD server: what clients get, what hostile ones don't, and how exports come and go.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

mod at_once;
mod durable;
mod exports_by_id;
mod extended;
mod peers;
mod requests;
mod temper;
mod world;
