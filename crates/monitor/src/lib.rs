//! QMP: wire, sessions, command handlers, events.
#![forbid(unsafe_code)]
