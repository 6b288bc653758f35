//! Requests: their header, and the rules by which a server judges them.
//!
//! ```text
//!           0      4       6      8        16       24          28 / 32
//! compact:  │magic │ flags │ type │ cookie │ offset │ length 4 │ payload of a write ..
//! extended: │magic │ flags │ type │ cookie │ offset │ length 8    │ payload, if PAYLOAD_LEN is set ..
//! ```
//!
//! Specification: "Request message", "Request types", "Command flags", "Error values".

use crate::reader::Reader;
use crate::{
    Command, CommandFlags, EXTENDED_REQUEST_MAGIC, ErrorCode, Headers, REQUEST_MAGIC, TransmissionFlags,
    limits,
};

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
    /// Bytes of the export that are meant, or of the payload that follows.
    pub length: u64,
}

/// A header that is none. The stream's framing is lost: the connection cannot go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected an NBD request, found magic {magic:#010x}")]
pub struct RequestError {
    /// What stands where the magic belongs.
    pub magic: u32,
}

/// A request's header as it is sent.
#[derive(Clone, Copy, Debug)]
pub struct RequestBytes {
    bytes: [u8; 32],
    len: usize,
}

impl std::ops::Deref for RequestBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Request {
    /// Parses the header at the front of `bytes`; `None` while it is incomplete.
    #[inline]
    pub fn parse(bytes: &[u8], headers: Headers) -> Result<Option<Self>, RequestError> {
        let Some(start) = bytes.first_chunk::<28>() else { return Ok(None) };
        let [m0, m1, m2, m3, f0, f1, t0, t1, rest @ ..] = *start;
        let [c0, c1, c2, c3, c4, c5, c6, c7, rest @ ..] = rest;
        let [o0, o1, o2, o3, o4, o5, o6, o7, l0, l1, l2, l3] = rest;
        let magic = u32::from_be_bytes([m0, m1, m2, m3]);
        if magic != if headers.extended() { EXTENDED_REQUEST_MAGIC } else { REQUEST_MAGIC } {
            return Err(RequestError { magic });
        }
        let length = if headers.extended() {
            let Some(&[l4, l5, l6, l7]) = bytes.get(28..).and_then(|rest| rest.first_chunk()) else {
                return Ok(None);
            };
            u64::from_be_bytes([l0, l1, l2, l3, l4, l5, l6, l7])
        } else {
            u64::from(u32::from_be_bytes([l0, l1, l2, l3]))
        };
        Ok(Some(Self {
            flags: CommandFlags(u16::from_be_bytes([f0, f1])),
            command: Command(u16::from_be_bytes([t0, t1])),
            cookie: u64::from_be_bytes([c0, c1, c2, c3, c4, c5, c6, c7]),
            offset: u64::from_be_bytes([o0, o1, o2, o3, o4, o5, o6, o7]),
            length,
        }))
    }

    /// The header's bytes. A compact one has no more than 32 bits for the length: the caller has seen to it.
    pub fn encode(&self, headers: Headers) -> RequestBytes {
        let len = headers.request_len();
        let mut bytes = [0; 32];
        bytes[4..6].copy_from_slice(&self.flags.0.to_be_bytes());
        bytes[6..8].copy_from_slice(&self.command.0.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.cookie.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.offset.to_be_bytes());
        if headers.extended() {
            bytes[..4].copy_from_slice(&EXTENDED_REQUEST_MAGIC.to_be_bytes());
            bytes[24..].copy_from_slice(&self.length.to_be_bytes());
        } else {
            bytes[..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
            bytes[24..28].copy_from_slice(&u32::try_from(self.length).unwrap_or(u32::MAX).to_be_bytes());
        }
        RequestBytes { bytes, len }
    }

    /// Bytes of payload that follow the header. A write has one in any case: widely used clients leave the flag out that
    /// the specification wants with extended headers.
    #[inline]
    pub const fn payload(&self, headers: Headers) -> u64 {
        let told = headers.extended() && self.flags.contains(CommandFlags::PAYLOAD_LEN);
        if self.command.0 == Command::WRITE.0 || told { self.length } else { 0 }
    }

    /// The query that a block status request with this payload makes, and the contexts it is about. `None` if the
    /// payload is malformed, names none, one that is not among `selected`, or one twice.
    ///
    /// ```text
    /// │ bytes meant 8 │ context 4 │ ..
    /// ```
    pub fn filtered(&self, payload: &[u8], selected: &[u32]) -> Option<(Self, Vec<u32>)> {
        let mut reader = Reader(payload);
        let length = reader.u64()?;
        let mut contexts = Vec::new();
        while !reader.0.is_empty() {
            let context = reader.u32()?;
            if !selected.contains(&context) || contexts.contains(&context) {
                return None;
            }
            contexts.push(context);
        }
        let query = Self { flags: self.flags.without(CommandFlags::PAYLOAD_LEN), length, ..*self };
        (!contexts.is_empty()).then_some((query, contexts))
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
    /// What requests and replies begin with.
    pub headers: Headers,
    /// A metadata context was selected.
    pub contexts: bool,
}

impl Rules {
    /// `Ok` if the request may be served, or the error to reply.
    #[inline]
    pub fn judge(&self, request: &Request) -> Result<(), ErrorCode> {
        // The usual request in two comparisons; the rest decides about everything else.
        let plain = match request.command {
            Command::READ => request.flags.is_empty(),
            Command::WRITE => {
                !self.flags.contains(TransmissionFlags::READ_ONLY)
                    && (request.flags.is_empty()
                        || request.flags == CommandFlags::PAYLOAD_LEN && self.headers.extended())
            }
            _ => false,
        };
        let fits = request.offset <= self.size && request.length <= self.size - request.offset;
        if plain && fits && request.length <= u64::from(limits::PAYLOAD) && self.minimum_block <= 1 {
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
            Command::READ if request.length > u64::from(limits::PAYLOAD) => {
                return Err(if self.headers.chunked() { ErrorCode::EOVERFLOW } else { ErrorCode::EINVAL });
            }
            Command::WRITE if request.length > u64::from(limits::PAYLOAD) => return Err(ErrorCode::EINVAL),
            // It is read in full: no client may keep the export busy for as long as it likes with one request.
            Command::CACHE if request.length > u64::from(u32::MAX) => return Err(ErrorCode::EOVERFLOW),
            Command::BLOCK_STATUS if request.length == 0 || !self.contexts => return Err(ErrorCode::EINVAL),
            _ => {}
        }
        if !fits {
            let grows = matches!(request.command, Command::WRITE | Command::WRITE_ZEROES);
            return Err(if grows { ErrorCode::ENOSPC } else { ErrorCode::EINVAL });
        }
        let mask = u64::from(self.minimum_block.max(1)) - 1;
        if (request.offset | request.length) & mask != 0 {
            return Err(ErrorCode::EINVAL);
        }
        Ok(())
    }

    /// The request's payload filters its answer, as the server has said it understands.
    #[inline]
    pub fn filters(&self, request: &Request) -> bool {
        request.command == Command::BLOCK_STATUS
            && request.flags.contains(CommandFlags::PAYLOAD_LEN)
            && self.flags.contains(TransmissionFlags::BLOCK_STATUS_PAYLOAD)
    }

    /// Flags that `command` may carry; `None` if the command is unknown or was not advertised.
    ///
    /// `CACHE` is served even where it was not advertised, as known clients expect. A command that a read-only
    /// export never advertises is known all the same: its error is `EPERM`. The payload of a block status request is
    /// no matter of these rules: [`Request::filtered`] takes it off.
    fn allowed_flags(&self, command: Command) -> Option<CommandFlags> {
        use TransmissionFlags as T;
        let has = |flag| self.flags.contains(flag);
        let fua = CommandFlags::when(has(T::SEND_FUA), CommandFlags::FUA);
        let read_only = has(T::READ_ONLY);
        Some(match command {
            Command::READ => fua | CommandFlags::when(has(T::SEND_DF), CommandFlags::DF),
            Command::WRITE => fua | CommandFlags::when(self.headers.extended(), CommandFlags::PAYLOAD_LEN),
            Command::CACHE | Command::DISC => fua,
            Command::FLUSH if has(T::SEND_FLUSH) => fua,
            Command::TRIM if has(T::SEND_TRIM) || read_only => fua,
            Command::WRITE_ZEROES if has(T::SEND_WRITE_ZEROES) || read_only => {
                let fast = CommandFlags::when(has(T::SEND_FAST_ZERO), CommandFlags::FAST_ZERO);
                fua | fast | CommandFlags::NO_HOLE
            }
            Command::BLOCK_STATUS if self.headers.chunked() => fua | CommandFlags::REQ_ONE,
            _ => return None,
        })
    }
}
