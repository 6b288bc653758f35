//! Protocols: file, host_device, null-co, nbd.
#![forbid(unsafe_code)]
