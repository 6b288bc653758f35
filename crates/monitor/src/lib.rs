//! QMP: wire, sessions, command handlers, events.
#![forbid(unsafe_code)]

pub mod session;
pub mod wire;
