//! What a client asks for.

use crate::fields::Message;
use crate::{FSYNC, Kind, LIMITS, TooLong, VERSION, limits};
#[cfg(feature = "server")]
use crate::{Malformed, fields::Fields};

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpenFlags(pub u32);

impl OpenFlags {
    /// To be read.
    pub const READ: Self = Self(1);
    /// To be written.
    pub const WRITE: Self = Self(2);
    /// It is made if it is not there.
    pub const CREATE: Self = Self(8);
    /// With [`OpenFlags::CREATE`]: it must not be there.
    pub const EXCLUSIVE: Self = Self(0x20);
}

impl std::ops::BitOr for OpenFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The bit of attributes that says that a size is there.
pub(crate) const ATTRIBUTE_SIZE: u32 = 1;
/// The bit of attributes that says that the user and the group are there.
pub(crate) const ATTRIBUTE_OWNER: u32 = 2;
/// The bit of attributes that says that permissions are there.
pub(crate) const ATTRIBUTE_PERMISSIONS: u32 = 4;
/// The bit of attributes that says that the times of the last access and of the last change are there.
pub(crate) const ATTRIBUTE_TIMES: u32 = 8;

/// A request. Handles are what the server answered to an open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request<'a> {
    /// Opens a file. `mode`: permissions of one that is made.
    Open {
        /// Its path.
        path: &'a [u8],
        /// How.
        flags: OpenFlags,
        /// Permissions.
        mode: Option<u32>,
    },
    /// Closes a file.
    Close {
        /// The file.
        handle: &'a [u8],
    },
    /// Reads. The server may answer less, and does so at the end of the file.
    Read {
        /// The file.
        handle: &'a [u8],
        /// Byte offset.
        offset: u64,
        /// Bytes.
        length: u32,
    },
    /// Writes the bytes that follow the message.
    Write {
        /// The file.
        handle: &'a [u8],
        /// Byte offset.
        offset: u64,
        /// Bytes.
        length: u32,
    },
    /// Asks for a file's attributes.
    Fstat {
        /// The file.
        handle: &'a [u8],
    },
    /// Gives a file another size, in bytes.
    SetSize {
        /// The file.
        handle: &'a [u8],
        /// Its size to be.
        size: u64,
    },
    /// Removes a file.
    Remove {
        /// Its path.
        path: &'a [u8],
    },
    /// Makes durable what was written to a file ([`FSYNC`]).
    Fsync {
        /// The file.
        handle: &'a [u8],
    },
    /// Asks how long messages may be ([`LIMITS`]).
    Limits,
}

/// Writes the message that begins a session.
pub fn init(out: &mut Vec<u8>) {
    Message::begin(out, Kind::INIT, VERSION).end(0);
}

fn checked<'a>(what: &'static str, bytes: &'a [u8], most: usize) -> Result<&'a [u8], TooLong> {
    match bytes.len() <= most {
        true => Ok(bytes),
        false => Err(TooLong { what, length: bytes.len() }),
    }
}

fn path(bytes: &[u8]) -> Result<&[u8], TooLong> {
    checked("a path", bytes, limits::PATH)
}

fn handle(bytes: &[u8]) -> Result<&[u8], TooLong> {
    checked("a handle", bytes, limits::HANDLE)
}

impl Request<'_> {
    /// Writes the request behind what is in `out`; of a write, all but its data. Nothing is written where it is refused.
    pub fn encode(&self, id: u32, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let mut more = 0;
        let message = match *self {
            Self::Open { path: name, flags, mode } => {
                let name = path(name)?;
                let mut message = Message::begin(out, Kind::OPEN, id);
                message.string(name);
                message.u32(flags.0);
                message.u32(mode.map_or(0, |_| ATTRIBUTE_PERMISSIONS));
                mode.into_iter().for_each(|mode| message.u32(mode));
                message
            }
            Self::Close { handle: file } => with_string(out, Kind::CLOSE, id, handle(file)?),
            Self::Read { handle: file, offset, length } => {
                let mut message = with_string(out, Kind::READ, id, handle(file)?);
                message.u64(offset);
                message.u32(length);
                message
            }
            Self::Write { handle: file, offset, length } => {
                let mut message = with_string(out, Kind::WRITE, id, handle(file)?);
                message.u64(offset);
                message.u32(length);
                more = length;
                message
            }
            Self::Fstat { handle: file } => with_string(out, Kind::FSTAT, id, handle(file)?),
            Self::SetSize { handle: file, size } => {
                let mut message = with_string(out, Kind::FSETSTAT, id, handle(file)?);
                message.u32(ATTRIBUTE_SIZE);
                message.u64(size);
                message
            }
            Self::Remove { path: name } => with_string(out, Kind::REMOVE, id, path(name)?),
            Self::Fsync { handle: file } => {
                let file = handle(file)?;
                let mut message = with_string(out, Kind::EXTENDED, id, FSYNC);
                message.string(file);
                message
            }
            Self::Limits => with_string(out, Kind::EXTENDED, id, LIMITS),
        };
        message.end(more);
        Ok(())
    }

    /// What it is, for messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Open { .. } => "open",
            Self::Close { .. } => "close",
            Self::Read { .. } => "read",
            Self::Write { .. } => "write",
            Self::Fstat { .. } => "fstat",
            Self::SetSize { .. } => "change of the size",
            Self::Remove { .. } => "removal",
            Self::Fsync { .. } => "fsync",
            Self::Limits => "question about limits",
        }
    }
}

fn with_string<'a>(out: &'a mut Vec<u8>, kind: Kind, id: u32, string: &[u8]) -> Message<'a> {
    let mut message = Message::begin(out, kind, id);
    message.string(string);
    message
}

/// What a server is sent.
#[cfg(feature = "server")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received<'a> {
    /// The begin of a session, with the client's version.
    Init(u32),
    /// A request with its id. The data of a write are behind it.
    Request(u32, Request<'a>, &'a [u8]),
}

#[cfg(feature = "server")]
impl<'a> Received<'a> {
    /// Parses one message without its length.
    pub fn parse(message: &'a [u8]) -> Result<Self, Malformed> {
        let (kind, rest) = message.split_first().ok_or(Malformed::Short(0))?;
        let kind = Kind(*kind);
        let mut fields = Fields::new(rest, kind.name());
        let id = fields.u32()?;
        if kind == Kind::INIT {
            return Ok(Self::Init(id));
        }
        let string = fields.string()?;
        let mut data: &[u8] = &[];
        let request = match kind {
            Kind::OPEN => {
                let flags = OpenFlags(fields.u32()?);
                let mode = match fields.u32()? {
                    ATTRIBUTE_PERMISSIONS => Some(fields.u32()?),
                    _ => None,
                };
                Request::Open { path: string, flags, mode }
            }
            Kind::CLOSE => Request::Close { handle: string },
            Kind::READ => Request::Read { handle: string, offset: fields.u64()?, length: fields.u32()? },
            Kind::WRITE => {
                let offset = fields.u64()?;
                data = fields.string()?;
                Request::Write { handle: string, offset, length: data.len() as u32 }
            }
            Kind::FSTAT => Request::Fstat { handle: string },
            Kind::FSETSTAT => {
                fields.u32()?;
                Request::SetSize { handle: string, size: fields.u64()? }
            }
            Kind::REMOVE => Request::Remove { path: string },
            Kind::EXTENDED if string == FSYNC => Request::Fsync { handle: fields.string()? },
            Kind::EXTENDED if string == LIMITS => Request::Limits,
            Kind(other) => return Err(Malformed::Kind(other)),
        };
        Ok(Self::Request(id, request, data))
    }
}
