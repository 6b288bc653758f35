// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! What several sections share: socket addresses and switches.

use crate::codec::*;
use crate::{Dict, Value};

/// A switch that may be left to the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OnOffAuto {
    /// The program decides.
    Auto,
    /// Yes.
    On,
    /// No.
    Off,
}

impl Enumeration for OnOffAuto {
    const VALUES: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("on", Self::On), ("off", Self::Off)];
}
enumeration_codec!(OnOffAuto);

/// The families of socket addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SocketAddressType {
    /// TCP over IPv4 or IPv6.
    Inet,
    /// A UNIX domain socket.
    Unix,
    /// A port between a virtual machine and its host.
    Vsock,
    /// A socket that is open already.
    Fd,
}

impl Enumeration for SocketAddressType {
    const VALUES: &'static [(&'static str, Self)] =
        &[("inet", Self::Inet), ("unix", Self::Unix), ("vsock", Self::Vsock), ("fd", Self::Fd)];
}
enumeration_codec!(SocketAddressType);

/// A TCP address.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct InetSocketAddress {
    /// Host name or numeric address.
    pub host: String,
    /// Port number or service name.
    pub port: String,
    /// Whether IPv4 may be used.
    pub ipv4: Option<bool>,
    /// Whether IPv6 may be used.
    pub ipv6: Option<bool>,
}

impl Object for InetSocketAddress {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            host: from.required("host")?,
            port: from.required("port")?,
            ipv4: from.optional("ipv4")?,
            ipv6: from.optional("ipv6")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("host", &self.host);
        to.put("port", &self.port);
        to.put_optional("ipv4", &self.ipv4);
        to.put_optional("ipv6", &self.ipv6);
    }
}
object_codec!(InetSocketAddress);

/// The address of a UNIX domain socket.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UnixSocketAddress {
    /// The socket's file.
    pub path: String,
}

impl Object for UnixSocketAddress {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { path: from.required("path")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("path", &self.path);
    }
}
object_codec!(UnixSocketAddress);

/// A port between a virtual machine and its host.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct VsockSocketAddress {
    /// Number of the machine: 2 is the host, 1 this machine itself; to listen, 4294967295 is any.
    pub cid: String,
    /// Port number.
    pub port: String,
}

impl Object for VsockSocketAddress {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { cid: from.required("cid")?, port: from.required("port")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("cid", &self.cid);
        to.put("port", &self.port);
    }
}
object_codec!(VsockSocketAddress);

/// A socket that is open already.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FdSocketAddress {
    /// The name that `getfd` or the service manager gave it, or the number of an inherited descriptor.
    pub str: String,
}

impl Object for FdSocketAddress {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { str: from.required("str")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("str", &self.str);
    }
}
object_codec!(FdSocketAddress);

/// A socket address, its members beside its type.
#[derive(Debug, Clone, PartialEq)]
pub enum SocketAddress {
    /// `inet`.
    Inet(InetSocketAddress),
    /// `unix`.
    Unix(UnixSocketAddress),
    /// `vsock`.
    Vsock(VsockSocketAddress),
    /// `fd`.
    Fd(FdSocketAddress),
}

impl SocketAddress {
    /// The value of `type` that goes with this branch.
    pub fn r#type(&self) -> SocketAddressType {
        match self {
            Self::Inet(_) => SocketAddressType::Inet,
            Self::Unix(_) => SocketAddressType::Unix,
            Self::Vsock(_) => SocketAddressType::Vsock,
            Self::Fd(_) => SocketAddressType::Fd,
        }
    }

    fn take_branch(tag: SocketAddressType, from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(match tag {
            SocketAddressType::Inet => Self::Inet(Object::take(from)?),
            SocketAddressType::Unix => Self::Unix(Object::take(from)?),
            SocketAddressType::Vsock => Self::Vsock(Object::take(from)?),
            SocketAddressType::Fd => Self::Fd(Object::take(from)?),
        })
    }

    fn put_branch(&self, to: &mut Dict) {
        match self {
            Self::Inet(inner) => inner.put(to),
            Self::Unix(inner) => inner.put(to),
            Self::Vsock(inner) => inner.put(to),
            Self::Fd(inner) => inner.put(to),
        }
    }
}

impl Object for SocketAddress {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        let tag = from.required("type")?;
        Self::take_branch(tag, from)
    }

    fn put(&self, to: &mut Dict) {
        to.put("type", &self.r#type());
        self.put_branch(to);
    }
}
object_codec!(SocketAddress);

/// The values of `type` in `SocketAddressLegacy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SocketAddressLegacyKind {
    /// `inet`.
    Inet,
    /// `unix`.
    Unix,
    /// `vsock`.
    Vsock,
    /// `fd`.
    Fd,
}

impl Enumeration for SocketAddressLegacyKind {
    const VALUES: &'static [(&'static str, Self)] =
        &[("inet", Self::Inet), ("unix", Self::Unix), ("vsock", Self::Vsock), ("fd", Self::Fd)];
}
enumeration_codec!(SocketAddressLegacyKind);

/// A socket address in the older form: its members inside `data`.
#[derive(Debug, Clone, PartialEq)]
pub enum SocketAddressLegacy {
    /// `inet`.
    Inet(InetSocketAddress),
    /// `unix`.
    Unix(UnixSocketAddress),
    /// `vsock`.
    Vsock(VsockSocketAddress),
    /// `fd`.
    Fd(FdSocketAddress),
}

impl SocketAddressLegacy {
    /// The value of `type` that goes with this branch.
    pub fn r#type(&self) -> SocketAddressLegacyKind {
        match self {
            Self::Inet(_) => SocketAddressLegacyKind::Inet,
            Self::Unix(_) => SocketAddressLegacyKind::Unix,
            Self::Vsock(_) => SocketAddressLegacyKind::Vsock,
            Self::Fd(_) => SocketAddressLegacyKind::Fd,
        }
    }

    fn take_branch(tag: SocketAddressLegacyKind, from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(match tag {
            SocketAddressLegacyKind::Inet => Self::Inet(from.required("data")?),
            SocketAddressLegacyKind::Unix => Self::Unix(from.required("data")?),
            SocketAddressLegacyKind::Vsock => Self::Vsock(from.required("data")?),
            SocketAddressLegacyKind::Fd => Self::Fd(from.required("data")?),
        })
    }

    fn put_branch(&self, to: &mut Dict) {
        match self {
            Self::Inet(inner) => to.put("data", inner),
            Self::Unix(inner) => to.put("data", inner),
            Self::Vsock(inner) => to.put("data", inner),
            Self::Fd(inner) => to.put("data", inner),
        }
    }
}

impl Object for SocketAddressLegacy {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        let tag = from.required("type")?;
        Self::take_branch(tag, from)
    }

    fn put(&self, to: &mut Dict) {
        to.put("type", &self.r#type());
        self.put_branch(to);
    }
}
object_codec!(SocketAddressLegacy);

/// A text, or nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum StrOrNull {
    /// The text.
    S(String),
    /// Nothing.
    N,
}

impl Decode for StrOrNull {
    fn decode(value: Value, at: &At<'_>) -> Result<Self, DecodeError> {
        match value {
            Value::String(_) => Ok(Self::S(Decode::decode(value, at)?)),
            Value::Null => Ok(Self::N),
            _ => Err(at.wrong_type("StrOrNull")),
        }
    }
}

impl Encode for StrOrNull {
    fn encode(&self) -> Value {
        match self {
            Self::S(inner) => inner.encode(),
            Self::N => Value::Null,
        }
    }
}
