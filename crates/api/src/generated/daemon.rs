// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Options of the daemon's command line that no command takes.

use crate::Dict;
use crate::codec::*;

/// What a character device is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChardevBackend {
    /// A socket, listening or connecting.
    Socket,
    /// Standard input and output.
    Stdio,
}

impl Enumeration for ChardevBackend {
    const VALUES: &'static [(&'static str, Self)] = &[("socket", Self::Socket), ("stdio", Self::Stdio)];
}
enumeration_codec!(ChardevBackend);

/// A character device on a socket: `path`, or `host` and `port`, or `fd`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ChardevSocketOptions {
    /// File of a UNIX domain socket.
    pub path: Option<String>,
    /// Host name or address to listen at or connect to.
    pub host: Option<String>,
    /// TCP port.
    pub port: Option<String>,
    /// A socket that is open already: its name, or the number of an inherited descriptor.
    pub fd: Option<String>,
    /// Whether it listens; it connects if absent.
    pub server: Option<bool>,
    /// Whether start-up waits for the first client; it does if absent.
    pub wait: Option<bool>,
}

impl Object for ChardevSocketOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            path: from.optional("path")?,
            host: from.optional("host")?,
            port: from.optional("port")?,
            fd: from.optional("fd")?,
            server: from.optional("server")?,
            wait: from.optional("wait")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("path", &self.path);
        to.put_optional("host", &self.host);
        to.put_optional("port", &self.port);
        to.put_optional("fd", &self.fd);
        to.put_optional("server", &self.server);
        to.put_optional("wait", &self.wait);
    }
}
object_codec!(ChardevSocketOptions);

/// The part of [`ChardevOptions`] that depends on `backend`.
#[derive(Debug, Clone, PartialEq)]
pub enum ChardevOptionsBranch {
    /// `socket`.
    Socket(ChardevSocketOptions),
    /// `stdio`.
    Stdio,
}

impl ChardevOptionsBranch {
    /// The value of `backend` that goes with this branch.
    pub fn backend(&self) -> ChardevBackend {
        match self {
            Self::Socket(_) => ChardevBackend::Socket,
            Self::Stdio => ChardevBackend::Stdio,
        }
    }

    fn take_branch(tag: ChardevBackend, from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(match tag {
            ChardevBackend::Socket => Self::Socket(Object::take(from)?),
            ChardevBackend::Stdio => Self::Stdio,
        })
    }

    fn put_branch(&self, to: &mut Dict) {
        match self {
            Self::Socket(inner) => inner.put(to),
            Self::Stdio => {}
        }
    }
}

/// A character device.
#[derive(Debug, Clone, PartialEq)]
pub struct ChardevOptions {
    /// Its name.
    pub id: String,
    /// What depends on `backend`.
    pub branch: ChardevOptionsBranch,
}

impl Object for ChardevOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        let tag = from.required("backend")?;
        let id = from.required("id")?;
        let branch = ChardevOptionsBranch::take_branch(tag, from)?;
        Ok(Self { id, branch })
    }

    fn put(&self, to: &mut Dict) {
        to.put("backend", &self.branch.backend());
        to.put("id", &self.id);
        self.branch.put_branch(to);
    }
}
object_codec!(ChardevOptions);

/// The language of a monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MonitorMode {
    /// Commands for people.
    Readline,
    /// QMP.
    Control,
}

impl Enumeration for MonitorMode {
    const VALUES: &'static [(&'static str, Self)] =
        &[("readline", Self::Readline), ("control", Self::Control)];
}
enumeration_codec!(MonitorMode);

/// A monitor.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MonitorOptions {
    /// Its name.
    pub id: Option<String>,
    /// Its language; QMP if absent.
    pub mode: Option<MonitorMode>,
    /// Whether replies are broken into lines.
    pub pretty: Option<bool>,
    /// The character device it speaks through.
    pub chardev: String,
}

impl Object for MonitorOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: from.optional("id")?,
            mode: from.optional("mode")?,
            pretty: from.optional("pretty")?,
            chardev: from.required("chardev")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("id", &self.id);
        to.put_optional("mode", &self.mode);
        to.put_optional("pretty", &self.pretty);
        to.put("chardev", &self.chardev);
    }
}
object_codec!(MonitorOptions);
