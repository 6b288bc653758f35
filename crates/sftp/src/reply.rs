//! What a server answers.

use crate::fields::Fields;
#[cfg(feature = "server")]
use crate::fields::Message;
use crate::request::{ATTRIBUTE_OWNER, ATTRIBUTE_PERMISSIONS, ATTRIBUTE_SIZE, ATTRIBUTE_TIMES};
use crate::{FSYNC, Kind, LIMITS, Malformed, StatusCode, limits};

/// Bytes of a head: length, type, and id or version.
const HEAD: usize = 9;

/// The head of a reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// The type.
    pub kind: Kind,
    /// The id of the request; of [`Kind::VERSION`] the version.
    pub id: u32,
    /// What follows.
    pub body: Body,
}

/// What follows a head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Body {
    /// So many bytes of data that were read.
    Data(u32),
    /// So many bytes for [`Reply::parse`].
    Payload(u32),
}

impl Head {
    /// Parses the head at the front of `bytes`, and tells how many of them it takes; `None` while it is not whole.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Malformed> {
        let mut fields = Fields::new(bytes, "head");
        let Ok(length) = fields.u32() else { return Ok(None) };
        if length < 5 {
            return Err(Malformed::Short(length));
        }
        let Some((kind, number)) = fields.rest().split_first() else { return Ok(None) };
        let kind = Kind(*kind);
        let replies = [
            Kind::VERSION,
            Kind::STATUS,
            Kind::HANDLE,
            Kind::DATA,
            Kind::NAME,
            Kind::ATTRS,
            Kind::EXTENDED_REPLY,
        ];
        if !replies.contains(&kind) {
            return Err(Malformed::Kind(kind.0));
        }
        let most = if kind == Kind::DATA { limits::DATA + 4 } else { limits::PAYLOAD };
        let rest = length - 5;
        if rest > most {
            return Err(Malformed::Long(length));
        }
        let mut fields = Fields::new(number, kind.name());
        let Ok(id) = fields.u32() else { return Ok(None) };
        if kind != Kind::DATA {
            return Ok(Some((Self { kind, id, body: Body::Payload(rest) }, HEAD)));
        }
        if rest < 4 {
            return Err(Malformed::Short(length));
        }
        let Ok(data) = fields.u32() else { return Ok(None) };
        match data == rest - 4 {
            true => Ok(Some((Self { kind, id, body: Body::Data(data) }, HEAD + 4))),
            false => Err(Malformed::Fields(kind.name())),
        }
    }
}

/// A reply without data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply<'a> {
    /// The request was carried out, or why not.
    Status(StatusCode, &'a [u8]),
    /// The handle of a file that was opened.
    Handle(&'a [u8]),
    /// Attributes of a file.
    Attributes(Attributes),
    /// What an extension answers.
    Extended(&'a [u8]),
}

impl<'a> Reply<'a> {
    /// Parses the payload of a reply; of a version: [`Version::parse`].
    pub fn parse(kind: Kind, payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::new(payload, kind.name());
        match kind {
            Kind::STATUS => {
                let code = StatusCode(fields.u32()?);
                // Servers of older versions send no message.
                Ok(Self::Status(code, fields.string().unwrap_or_default()))
            }
            Kind::HANDLE => match fields.string()? {
                handle if handle.len() <= limits::HANDLE => Ok(Self::Handle(handle)),
                _ => Err(Malformed::Fields(kind.name())),
            },
            Kind::ATTRS => Attributes::take(&mut fields).map(Self::Attributes),
            Kind::EXTENDED_REPLY => Ok(Self::Extended(fields.rest())),
            Kind(other) => Err(Malformed::Kind(other)),
        }
    }

    /// Writes the reply to a request.
    #[cfg(feature = "server")]
    pub fn encode(&self, id: u32, out: &mut Vec<u8>) {
        let message = match *self {
            Self::Status(code, text) => {
                let mut message = Message::begin(out, Kind::STATUS, id);
                message.u32(code.0);
                message.string(text);
                message.string(b"");
                message
            }
            Self::Handle(handle) => {
                let mut message = Message::begin(out, Kind::HANDLE, id);
                message.string(handle);
                message
            }
            Self::Attributes(Attributes { size, owner, permissions, modified }) => {
                let mut message = Message::begin(out, Kind::ATTRS, id);
                let flags = size.map_or(0, |_| ATTRIBUTE_SIZE)
                    | owner.map_or(0, |_| ATTRIBUTE_OWNER)
                    | permissions.map_or(0, |_| ATTRIBUTE_PERMISSIONS)
                    | modified.map_or(0, |_| ATTRIBUTE_TIMES);
                message.u32(flags);
                size.into_iter().for_each(|size| message.u64(size));
                owner.into_iter().flatten().for_each(|id| message.u32(id));
                permissions.into_iter().for_each(|mode| message.u32(mode));
                modified.into_iter().flat_map(|time| [time; 2]).for_each(|time| message.u32(time));
                message
            }
            Self::Extended(payload) => {
                let mut message = Message::begin(out, Kind::EXTENDED_REPLY, id);
                message.bytes(payload);
                message
            }
        };
        message.end(0);
    }

    /// Writes the data that a request is answered with.
    #[cfg(feature = "server")]
    pub fn encode_data(id: u32, data: &[u8], out: &mut Vec<u8>) {
        let mut message = Message::begin(out, Kind::DATA, id);
        message.string(data);
        message.end(0);
    }
}

/// What a server tells of a file, as far as it is of use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Attributes {
    /// Bytes.
    pub size: Option<u64>,
    /// The numbers of its user and its group.
    pub owner: Option<[u32; 2]>,
    /// Permissions, and what kind of a file it is, as POSIX has them.
    pub permissions: Option<u32>,
    /// When it was changed last, in seconds since 1970.
    pub modified: Option<u32>,
}

impl Attributes {
    /// It is a regular file, as far as the server tells.
    pub fn is_regular(&self) -> bool {
        matches!(self.kind(), 0o100_000 | 0)
    }

    /// It is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind() == 0o040_000
    }

    /// The bits that tell the kind of a file; none where the server does not tell.
    fn kind(&self) -> u32 {
        self.permissions.unwrap_or(0) & 0o170_000
    }

    fn take(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        let flags = fields.u32()?;
        let size = (flags & ATTRIBUTE_SIZE != 0).then(|| fields.u64()).transpose()?;
        let owner = match flags & ATTRIBUTE_OWNER {
            0 => None,
            _ => Some([fields.u32()?, fields.u32()?]),
        };
        let permissions = (flags & ATTRIBUTE_PERMISSIONS != 0).then(|| fields.u32()).transpose()?;
        let modified = match flags & ATTRIBUTE_TIMES {
            0 => None,
            _ => {
                // The time of the last access stands before it.
                fields.u32()?;
                Some(fields.u32()?)
            }
        };
        Ok(Self { size, owner, permissions, modified })
    }
}

/// What a server can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Version {
    /// The version that it speaks.
    pub version: u32,
    /// It has [`FSYNC`].
    pub fsync: bool,
    /// It has [`LIMITS`].
    pub limits: bool,
}

impl Version {
    /// Parses the payload of a version.
    pub fn parse(version: u32, payload: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::new(payload, Kind::VERSION.name());
        let mut found = Self { version, ..Self::default() };
        while !fields.rest().is_empty() {
            let (name, value) = (fields.string()?, fields.string()?);
            found.fsync |= (name, value) == (FSYNC, b"1");
            found.limits |= (name, value) == (LIMITS, b"1");
        }
        Ok(found)
    }

    /// Writes the answer to the begin of a session.
    #[cfg(feature = "server")]
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut message = Message::begin(out, Kind::VERSION, self.version);
        for (_, name) in [(self.fsync, FSYNC), (self.limits, LIMITS)].iter().filter(|(has, _)| *has) {
            message.string(name);
            message.string(b"1");
        }
        message.end(0);
    }
}

/// How long messages may be, in bytes ([`LIMITS`]); 0: the server does not tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// A whole message.
    pub packet: u64,
    /// What a read asks for.
    pub read: u64,
    /// What a write sends.
    pub write: u64,
}

impl Limits {
    /// Parses what the extension answers.
    pub fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::new(payload, "limits");
        let found = Self { packet: fields.u64()?, read: fields.u64()?, write: fields.u64()? };
        fields.u64().map(|_| found)
    }

    /// Most bytes of a read: what the server takes, at most [`limits::DATA`].
    pub fn longest_read(&self) -> u32 {
        self.longest(self.read)
    }

    /// Most bytes of a write, as [`Limits::longest_read`].
    pub fn longest_write(&self) -> u32 {
        self.longest(self.write)
    }

    /// A server that does not tell is asked for what all take, one that tells nonsense for a sector at least.
    fn longest(&self, told: u64) -> u32 {
        // What a message has beside its data: its head, a handle, an offset, lengths.
        const BESIDE: u64 = limits::HANDLE as u64 + 64;
        let told = if told == 0 { limits::DATA_OF_ALL.into() } else { told };
        let packet = if self.packet == 0 { u64::MAX } else { self.packet.saturating_sub(BESIDE) };
        u32::try_from(told.min(packet)).unwrap_or(u32::MAX).clamp(512, limits::DATA)
    }

    /// What the extension answers.
    #[cfg(feature = "server")]
    pub fn to_bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let numbers = [self.packet, self.read, self.write, 0];
        bytes.chunks_exact_mut(8).zip(numbers).for_each(|(to, n)| to.copy_from_slice(&n.to_be_bytes()));
        bytes
    }
}
