//! NBD on the wire: types, handshake and transmission as state machines without I/O.
//!
//! ```text
//!          bytes in ──▶ ┌───────────────────────┐ ──▶ bytes out
//!   server              │ server::Handshake     │      then Request::parse, Rules::judge, reply headers
//!   client              │ client::Handshake     │      then client::Header, client::Tracker
//!                       └───────────────────────┘ ──▶ what was agreed
//! ```
//!
//! Nothing here reads, writes, waits or spawns: a caller feeds whatever bytes it has, one at a time if it
//! must, and sends what comes out. Data payloads never pass through this crate: headers are written in front
//! of them and parsed in front of them.
//!
//! Laws: no input makes this code panic; everything a peer can count is bounded before memory is taken for
//! it (see [`limits`]); an unknown option, information item or flag is answered as the specification says,
//! and the connection lives.
//!
//! Specification: the NBD project's `doc/proto.md`, with its extension of extended headers. Section names in this
//! crate are that document's.
#![forbid(unsafe_code)]

pub mod client;
mod codes;
mod error;
mod flags;
mod headers;
mod reader;
mod reply;
mod request;
pub mod server;

pub use codes::{ChunkType, Command, InfoType, OptionCode, ReplyType};
pub use error::ErrorCode;
pub use flags::{ChunkFlags, ClientFlags, CommandFlags, ExtentFlags, HandshakeFlags, TransmissionFlags};
pub use headers::Headers;
pub use reply::{HeaderBytes, ReplyTo};
pub use request::{Request, RequestBytes, RequestError, Rules};

/// What the server sends first (`NBDMAGIC`).
pub const INIT_MAGIC: u64 = 0x4e42_444d_4147_4943;
/// The second magic of newstyle negotiation, and of every option request (`IHAVEOPT`).
pub const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// The second magic of oldstyle negotiation, which has one export without a name; for clients alone.
pub const OLDSTYLE_MAGIC: u64 = 0x0000_4202_8186_1253;
/// In front of every option reply.
pub const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// In front of every request.
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
/// In front of every simple reply.
pub const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// In front of every structured reply chunk.
pub const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;
/// In front of every extended request.
pub const EXTENDED_REQUEST_MAGIC: u32 = 0x21e4_1c71;
/// In front of every extended reply chunk.
pub const EXTENDED_REPLY_MAGIC: u32 = 0x6e8a_278c;

/// The metadata context that tells data from holes and zeroes.
pub const BASE_ALLOCATION: &str = "base:allocation";

/// The metadata context that tells which layer of a chain holds an extent: 0 none, 1 the first one, 2 the one below it, …
pub const ALLOCATION_DEPTH: &str = "qemu:allocation-depth";

/// What the names of the metadata contexts that tell dirty bitmaps begin with; the bitmap's name follows.
pub const DIRTY_BITMAP: &str = "qemu:dirty-bitmap:";

/// Bounds on what a peer may ask for or send.
pub mod limits {
    /// Longest string of the protocol, in bytes (export names, messages, context names).
    pub const STRING: usize = 4096;
    /// Longest option data a server keeps, in bytes; longer data is skipped and refused.
    pub const OPTION_DATA: usize = 64 * 1024;
    /// Option data beyond this many bytes ends the connection instead of being skipped.
    pub const OPTION_SKIP: u32 = 32 << 20;
    /// Longest option reply a client accepts, in bytes: a name, a description and their lengths.
    pub const OPTION_REPLY: usize = 2 * STRING + 64;
    /// Most replies a client accepts for one option (exports in a list).
    pub const OPTION_REPLIES: usize = 16 * 1024;
    /// Largest payload of a read or a write, in bytes, that a server advertises.
    pub const PAYLOAD: u32 = 32 << 20;
    /// A write payload above this many bytes ends the connection instead of being skipped. With extended headers, any
    /// payload above [`PAYLOAD`] does.
    pub const PAYLOAD_SKIP: u32 = 2 * PAYLOAD;
    /// Most extents in one block status chunk.
    pub const EXTENTS: usize = 1 << 20;
    /// Largest size of an export: offsets stay representable as signed 64-bit numbers.
    pub const EXPORT_SIZE: u64 = i64::MAX as u64;
}
