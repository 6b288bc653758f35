//! qcow2.
pub mod header;
