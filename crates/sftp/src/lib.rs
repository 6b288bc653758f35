//! SFTP on the wire: the messages of version 3 that a file needs, and those of OpenSSH's extensions, without I/O.
//!
//! ```text
//!   Request ─encode─▶ length · type · id · fields ─▶ (data of a write follow)
//!   length · type · id ─Head─▶ data of a read, that go where they belong, or a payload ─▶ Reply
//! ```
//!
//! Nothing here reads, writes, waits or spawns. Data payloads never pass through this crate: the head of a message is
//! written in front of them and parsed in front of them.
//!
//! Laws: no input makes this code panic; what a peer can count is bounded before memory is taken for it (see [`limits`]);
//! handles and paths are bytes, as the protocol has them, not text.
//!
//! Specification: draft-ietf-secsh-filexfer-02; `PROTOCOL` of OpenSSH for `limits@openssh.com` and `fsync@openssh.com`.
#![forbid(unsafe_code)]

mod error;
mod fields;
mod kind;
mod reply;
mod request;
mod status;

pub use error::{Malformed, TooLong};
pub use kind::Kind;
pub use reply::{Attributes, Body, Head, Limits, Reply, Version};
#[cfg(feature = "server")]
pub use request::Received;
pub use request::{OpenFlags, Request, init};
pub use status::StatusCode;

/// The version that is spoken.
pub const VERSION: u32 = 3;

/// The extension that tells how long messages may be.
pub const LIMITS: &[u8] = b"limits@openssh.com";

/// The extension that makes a file durable.
pub const FSYNC: &[u8] = b"fsync@openssh.com";

/// Bounds on what is sent and taken.
pub mod limits {
    /// Longest path, in bytes.
    pub const PATH: usize = 4096;
    /// Longest handle, in bytes, as the specification has it.
    pub const HANDLE: usize = 256;
    /// Longest reply without data, in bytes: a version with its extensions, a status with its message.
    pub const PAYLOAD: u32 = 64 << 10;
    /// Most bytes of a read or a write in one message, whatever a server allows.
    pub const DATA: u32 = 255 << 10;
    /// Bytes of a read or a write that every server takes.
    pub const DATA_OF_ALL: u32 = 32 << 10;
}
