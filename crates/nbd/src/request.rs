//! Requests: their header, and the rules by which a server judges them.
//!
//! ```text
//! 0      4       6      8        16       24       28
//! │magic │ flags │ type │ cookie │ offset │ length │ payload of a write ..
//! ```
//!
//! Specification: "Request message", "Request types", "Command flags", "Error values".

use crate::{Command, CommandFlags, ErrorCode, REQUEST_MAGIC, TransmissionFlags, limits};

/// Bytes of a request header.
pub const REQUEST_HEADER: usize = 28;

/// One request of a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// Modifies the command.
    pub flags: CommandFlags,
    /// What to do.
    pub command: Command,
    /// The client's name for the request, returned in its replies.
    pub cookie: u64,
    /// First byte of the export that is meant.
    pub offset: u64,
    /// Bytes meant.
    pub length: u32,
}

/// A header that is none. The stream's framing is lost: the connection cannot go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected an NBD request, found magic {magic:#010x}")]
pub struct RequestError {
    /// What stands where the magic belongs.
    pub magic: u32,
}

impl Request {
    /// Parses the header at the front of `bytes`; `None` while it is incomplete.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, RequestError> {
        let Some(header) = bytes.first_chunk::<REQUEST_HEADER>() else { return Ok(None) };
        let [m0, m1, m2, m3, f0, f1, t0, t1, rest @ ..] = *header;
        let [c0, c1, c2, c3, c4, c5, c6, c7, rest @ ..] = rest;
        let [o0, o1, o2, o3, o4, o5, o6, o7, l0, l1, l2, l3] = rest;
        let magic = u32::from_be_bytes([m0, m1, m2, m3]);
        if magic != REQUEST_MAGIC {
            return Err(RequestError { magic });
        }
        Ok(Some(Self {
            flags: CommandFlags(u16::from_be_bytes([f0, f1])),
            command: Command(u16::from_be_bytes([t0, t1])),
            cookie: u64::from_be_bytes([c0, c1, c2, c3, c4, c5, c6, c7]),
            offset: u64::from_be_bytes([o0, o1, o2, o3, o4, o5, o6, o7]),
            length: u32::from_be_bytes([l0, l1, l2, l3]),
        }))
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; REQUEST_HEADER] {
        let mut out = [0; REQUEST_HEADER];
        out[..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
        out[4..6].copy_from_slice(&self.flags.0.to_be_bytes());
        out[6..8].copy_from_slice(&self.command.0.to_be_bytes());
        out[8..16].copy_from_slice(&self.cookie.to_be_bytes());
        out[16..24].copy_from_slice(&self.offset.to_be_bytes());
        out[24..].copy_from_slice(&self.length.to_be_bytes());
        out
    }

    /// Bytes of payload that follow the header.
    #[inline]
    pub const fn payload(&self) -> u32 {
        if self.command.0 == Command::WRITE.0 { self.length } else { 0 }
    }
}

/// What a connection may ask of its export, fixed when transmission begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// Size of the export in bytes.
    pub size: u64,
    /// What was advertised.
    pub flags: TransmissionFlags,
    /// Smallest length and alignment in bytes, a power of two.
    pub minimum_block: u32,
    /// Structured replies were agreed on.
    pub structured: bool,
    /// A metadata context was selected.
    pub contexts: bool,
}

impl Rules {
    /// `Ok` if the request may be served, or the error to reply.
    #[inline]
    pub fn judge(&self, request: &Request) -> Result<(), ErrorCode> {
        // The usual request in two comparisons; the rest decides about everything else.
        let plain = matches!(request.command, Command::READ)
            || request.command == Command::WRITE && !self.flags.contains(TransmissionFlags::READ_ONLY);
        let fits = request.offset <= self.size && u64::from(request.length) <= self.size - request.offset;
        if plain
            && fits
            && request.flags.is_empty()
            && request.length <= limits::PAYLOAD
            && self.minimum_block <= 1
        {
            return Ok(());
        }
        self.judge_fully(request, fits)
    }

    fn judge_fully(&self, request: &Request, fits: bool) -> Result<(), ErrorCode> {
        let allowed = self.allowed_flags(request.command).ok_or(ErrorCode::EINVAL)?;
        if request.command.modifies() && self.flags.contains(TransmissionFlags::READ_ONLY) {
            return Err(ErrorCode::EPERM);
        }
        if !request.flags.without(allowed).is_empty() {
            return Err(ErrorCode::EINVAL);
        }
        match request.command {
            Command::DISC | Command::FLUSH => return Ok(()),
            Command::READ if request.length > limits::PAYLOAD => {
                return Err(if self.structured { ErrorCode::EOVERFLOW } else { ErrorCode::EINVAL });
            }
            Command::WRITE if request.length > limits::PAYLOAD => return Err(ErrorCode::EINVAL),
            Command::BLOCK_STATUS if request.length == 0 || !self.contexts => return Err(ErrorCode::EINVAL),
            _ => {}
        }
        if !fits {
            let grows = matches!(request.command, Command::WRITE | Command::WRITE_ZEROES);
            return Err(if grows { ErrorCode::ENOSPC } else { ErrorCode::EINVAL });
        }
        let mask = u64::from(self.minimum_block.max(1)) - 1;
        if (request.offset | u64::from(request.length)) & mask != 0 {
            return Err(ErrorCode::EINVAL);
        }
        Ok(())
    }

    /// Flags that `command` may carry; `None` if the command is unknown or was not advertised.
    ///
    /// `CACHE` is served even where it was not advertised, as known clients expect. A command that a read-only
    /// export never advertises is known all the same: its error is `EPERM`.
    fn allowed_flags(&self, command: Command) -> Option<CommandFlags> {
        use TransmissionFlags as T;
        let has = |flag| self.flags.contains(flag);
        let fua = CommandFlags::when(has(T::SEND_FUA), CommandFlags::FUA);
        let read_only = has(T::READ_ONLY);
        Some(match command {
            Command::READ => fua | CommandFlags::when(has(T::SEND_DF), CommandFlags::DF),
            Command::WRITE | Command::CACHE | Command::DISC => fua,
            Command::FLUSH if has(T::SEND_FLUSH) => fua,
            Command::TRIM if has(T::SEND_TRIM) || read_only => fua,
            Command::WRITE_ZEROES if has(T::SEND_WRITE_ZEROES) || read_only => {
                let fast = CommandFlags::when(has(T::SEND_FAST_ZERO), CommandFlags::FAST_ZERO);
                fua | fast | CommandFlags::NO_HOLE
            }
            Command::BLOCK_STATUS if self.structured => fua | CommandFlags::REQ_ONE,
            _ => return None,
        })
    }
}
