//! NFS version 3 on the wire: XDR, remote procedure calls, portmapper, mount protocol and procedures, without I/O.
//!
//! ```text
//! v3::Read { .. } ─▶ rpc::message ─▶ one record ─▶ server
//! server ─▶ record::Fragments ─▶ rpc::ReplyHead ─▶ <v3::Read as Call>::Reply
//! ```
//!
//! Each type of the protocols is one list of fields in the order of the wire ([`xdr`]), from which both ways follow: what is put is
//! what is taken. The bytes of a file never pass through this crate: the heads of `READ` and `WRITE` are put and taken in front of
//! them.
//!
//! Laws: no input makes this code panic; whatever a peer counts is bounded before memory is taken for it ([`limits`]).
//!
//! Specifications: RFC 4506 (XDR), RFC 5531 (remote procedure calls), RFC 1833 (portmapper, rpcbind), RFC 1813 (NFS version 3 and
//! its mount protocol).
#![forbid(unsafe_code)]

pub mod mount;
pub mod portmap;
pub mod record;
pub mod rpc;
mod status;
#[cfg(test)]
mod tests;
pub mod v3;
pub mod xdr;

pub use rpc::{Call, Credential};
pub use status::Status;
pub use xdr::{Malformed, Reader, Xdr};

/// Bounds on what a peer may send.
pub mod limits {
    /// Longest file handle in bytes.
    pub const HANDLE: usize = 64;
    /// Longest path in bytes: of a mount, and of what a symbolic link leads to.
    pub const PATH: usize = 1024;
    /// Longest name of a file in bytes.
    pub const NAME: usize = 255;
    /// Longest body of a credential or verifier in bytes.
    pub const AUTH: usize = 400;
    /// Longest reply in bytes, without the data of a read.
    pub const REPLY: usize = 8192;
}
