//! iSCSI on the wire, for an initiator: PDUs, login, and the SCSI commands that disks understand, without I/O.
//!
//! ```text
//!   login        Login: text keys both ways ──▶ Agreed (digests, bursts, segments)      CHAP, both ways
//!   after it     Request ──▶ 48 bytes · data · digests          48 bytes ──▶ Answer
//!   inside       scsi: command blocks, and what comes back (inquiry, capacity, limits, provisioning, sense)
//! ```
//!
//! Nothing here reads, writes, waits or spawns. Data never pass through this crate, only what stands in front of them. Both
//! directions of each PDU are here, so that tests can play the target.
//!
//! Laws: no input makes this code panic; what a peer can count is bounded before memory is taken for it ([`limits`]);
//! secrets are in no error and in no `Debug`.
//!
//! Specifications: RFC 7143 (section numbers in this crate are its own), RFC 1994 for CHAP, SPC-4 and SBC-3 for SCSI.
#![forbid(unsafe_code)]

pub mod chap;
mod digest;
mod discovery;
mod keys;
mod login;
mod negotiation;
mod pdu;
pub mod scsi;
pub mod serial;

pub use digest::{DIGEST, digest};
pub use discovery::{SEND_TARGETS, targets};
pub use keys::{Keys, KeysError};
pub use login::{Credentials, Login, LoginError, Profile, Refusal, Secret, Step};
pub use negotiation::{Agreed, DigestOffer};
pub use pdu::{
    Answer, AsyncEvent, HEADER, Header, Lengths, Lun, NO_TAG, Numbers, PduError, Request, Residual, Stage,
    Transfer, padding,
};

/// The port of targets.
pub const PORT: u16 = 3260;

/// Bounds on what a peer may send.
pub mod limits {
    /// Longest data segment that is taken, in bytes (MaxRecvDataSegmentLength of this end).
    pub const SEGMENT: u32 = 256 << 10;
    /// Longest burst of data that is offered, in bytes: a whole number of 512-byte blocks below 2²⁴.
    pub const BURST: u32 = (16 << 20) - 512;
    /// Most unsolicited data that is offered, in bytes.
    pub const FIRST_BURST: u32 = 256 << 10;
    /// Most requests for data of one task that may be open.
    pub const OUTSTANDING_R2T: u32 = 16;
    /// Bytes of keys that are kept of one answer, over all its PDUs.
    pub const TEXT: usize = 32 << 10;
    /// Keys of one answer.
    pub const KEYS: usize = 64;
    /// Answers of one login.
    pub const ROUNDS: usize = 16;
    /// Longest challenge or response of CHAP, in bytes.
    pub const CHALLENGE: usize = 1024;
    /// Longest name of an initiator or a target, in bytes.
    pub const NAME: usize = 223;
}
