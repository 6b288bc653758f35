//! QMP: wire, sessions, command handlers, events; and the daemon that serves them.
//!
//! ```text
//!   options in order ─▶ daemon ─▶ chardev ─▶ client ─▶ session ─▶ api::dispatch ─▶ commands on Control
//!                                              ▲                                       │
//!                                              └────── outbox ◀── Events ◀── jobs, exports, graph
//! ```
//!
//! Laws:
//! - the requests of one session are served in order, each answered once, and urgent ones at once; sessions do not wait for each
//!   other;
//! - a command that has begun is carried through, whether its client still listens or not;
//! - a client that does not read is disconnected; others are not affected.
//!
//! Bounds: [`outbox::MAX_BYTES`] of answers and events wait for one client.
#![forbid(unsafe_code)]

mod chardev;
mod client;
mod commands;
mod control;
pub mod daemon;
mod descriptors;
mod events;
mod generation;
mod human;
mod metrics;
pub mod migration;
mod nodes;
mod objects;
pub mod options;
mod outbox;
mod qom;
pub mod secret;
pub mod session;
mod statistics;
mod throttle;
pub mod tls;
pub mod wire;

pub use client::serve;
pub use commands::device_properties;
pub use control::Control;
pub use human::{Human, NewImage};
pub use throttle::limit as limit_device;
