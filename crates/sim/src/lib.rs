//! Simulated disk, clock and scheduler behind the runtime facade.
#![forbid(unsafe_code)]
