//! The runtime's conformance suite: everything runs under each engine that this machine has.

#[cfg(test)]
mod files;
#[cfg(test)]
mod sockets;
#[cfg(test)]
mod support;
#[cfg(test)]
mod workers;
