//! NBD on the wire: types, handshake and transmission as state machines without I/O.
#![forbid(unsafe_code)]
