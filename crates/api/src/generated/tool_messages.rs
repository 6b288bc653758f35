// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! What the tools say beside their results: with --errors=json and --progress=json each is a line on standard error.

use crate::Dict;
use crate::codec::*;

/// Why a command failed, for programs: these words stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ToolErrorCode {
    /// The command line makes no sense.
    Usage,
    /// Something else; the message says what.
    Failed,
    /// The operating system or a server failed a request.
    Io,
    /// No room in a file system, quota or device.
    NoSpace,
    /// A node or file is read-only.
    ReadOnly,
    /// The format, protocol or file has no such ability.
    Unsupported,
    /// An argument or option is wrong.
    Invalid,
    /// No such file, node, snapshot or export.
    NotFound,
    /// Another user inside of this process is in the way.
    Busy,
    /// Another process holds a lock on the image.
    Locked,
    /// The image contradicts its format.
    Corrupt,
    /// The operating system refused access.
    Permission,
    /// An earlier flush failed; nothing is written until the image is opened anew.
    Poisoned,
    /// The node, export or connection is closed.
    Closed,
    /// A deadline passed.
    Timeout,
    /// A limit of this program would be exceeded.
    Limit,
    /// The policy does not allow a file that an image names.
    Refused,
    /// The operation was cancelled by its user.
    Cancelled,
}

impl Enumeration for ToolErrorCode {
    const VALUES: &'static [(&'static str, Self)] = &[
        ("usage", Self::Usage),
        ("failed", Self::Failed),
        ("io", Self::Io),
        ("no-space", Self::NoSpace),
        ("read-only", Self::ReadOnly),
        ("unsupported", Self::Unsupported),
        ("invalid", Self::Invalid),
        ("not-found", Self::NotFound),
        ("busy", Self::Busy),
        ("locked", Self::Locked),
        ("corrupt", Self::Corrupt),
        ("permission", Self::Permission),
        ("poisoned", Self::Poisoned),
        ("closed", Self::Closed),
        ("timeout", Self::Timeout),
        ("limit", Self::Limit),
        ("refused", Self::Refused),
        ("cancelled", Self::Cancelled),
    ];
}
enumeration_codec!(ToolErrorCode);

/// Why something failed.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolError {
    /// The kind of failure.
    pub code: ToolErrorCode,
    /// It in words, as it is told to people.
    pub message: String,
    /// The exit code, where the command ends with this.
    pub exit: Option<u8>,
    /// The error number of the operating system that stands for it, if there is one.
    pub errno: Option<i64>,
    /// The node concerned, if it has a name that somebody gave it.
    pub node: Option<String>,
    /// The file concerned, if known.
    pub file: Option<String>,
    /// The byte offset concerned, if known.
    pub offset: Option<u64>,
}

impl Object for ToolError {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            code: from.required("code")?,
            message: from.required("message")?,
            exit: from.optional("exit")?,
            errno: from.optional("errno")?,
            node: from.optional("node")?,
            file: from.optional("file")?,
            offset: from.optional("offset")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("code", &self.code);
        to.put("message", &self.message);
        to.put_optional("exit", &self.exit);
        to.put_optional("errno", &self.errno);
        to.put_optional("node", &self.node);
        to.put_optional("file", &self.file);
        to.put_optional("offset", &self.offset);
    }
}
object_codec!(ToolError);

/// Something worth knowing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ToolNote {
    /// It in words, as it is told to people.
    pub message: String,
}

impl Object for ToolNote {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { message: from.required("message")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("message", &self.message);
    }
}
object_codec!(ToolNote);

/// What progress is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ToolProgressUnit {
    /// Bytes.
    Bytes,
    /// Parts of the work, which may take unlike times.
    Steps,
}

impl Enumeration for ToolProgressUnit {
    const VALUES: &'static [(&'static str, Self)] = &[("bytes", Self::Bytes), ("steps", Self::Steps)];
}
enumeration_codec!(ToolProgressUnit);

/// How far a command is.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolProgress {
    /// How much is done.
    pub done: u64,
    /// How much there is to do; it is all done when `done` is as much.
    pub total: u64,
    /// What both are counted in.
    pub unit: ToolProgressUnit,
    /// The same in whole hundredths of it.
    pub percent: u8,
    /// Milliseconds since the work began.
    pub elapsed_ms: u64,
    /// Milliseconds that what is left would take at the rate so far, where there is one.
    pub left_ms: Option<u64>,
}

impl Object for ToolProgress {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            done: from.required("done")?,
            total: from.required("total")?,
            unit: from.required("unit")?,
            percent: from.required("percent")?,
            elapsed_ms: from.required("elapsed-ms")?,
            left_ms: from.optional("left-ms")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("done", &self.done);
        to.put("total", &self.total);
        to.put("unit", &self.unit);
        to.put("percent", &self.percent);
        to.put("elapsed-ms", &self.elapsed_ms);
        to.put_optional("left-ms", &self.left_ms);
    }
}
object_codec!(ToolProgress);

/// What a command took, with --stats.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ToolStats {
    /// Milliseconds from its begin to its end.
    pub elapsed_ms: u64,
    /// Milliseconds of all processors together.
    pub cpu_ms: u64,
    /// The most memory that it had at a time, in bytes: that of its largest process, with the files that it maps.
    pub peak_memory: u64,
}

impl Object for ToolStats {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            elapsed_ms: from.required("elapsed-ms")?,
            cpu_ms: from.required("cpu-ms")?,
            peak_memory: from.required("peak-memory")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("elapsed-ms", &self.elapsed_ms);
        to.put("cpu-ms", &self.cpu_ms);
        to.put("peak-memory", &self.peak_memory);
    }
}
object_codec!(ToolStats);

/// Kinds of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ToolMessageType {
    /// Something failed.
    Error,
    /// Something is not as it should be, and the command goes on.
    Warning,
    /// Something worth knowing.
    Note,
    /// How far the command is.
    Progress,
    /// What it took; the last message.
    Stats,
}

impl Enumeration for ToolMessageType {
    const VALUES: &'static [(&'static str, Self)] = &[
        ("error", Self::Error),
        ("warning", Self::Warning),
        ("note", Self::Note),
        ("progress", Self::Progress),
        ("stats", Self::Stats),
    ];
}
enumeration_codec!(ToolMessageType);

/// The part of [`ToolMessage`] that depends on `type`.
#[derive(Debug, Clone, PartialEq)]
pub enum ToolMessageBranch {
    /// `error`.
    Error(ToolError),
    /// `warning`.
    Warning(ToolNote),
    /// `note`.
    Note(ToolNote),
    /// `progress`.
    Progress(ToolProgress),
    /// `stats`.
    Stats(ToolStats),
}

impl ToolMessageBranch {
    /// The value of `type` that goes with this branch.
    pub fn r#type(&self) -> ToolMessageType {
        match self {
            Self::Error(_) => ToolMessageType::Error,
            Self::Warning(_) => ToolMessageType::Warning,
            Self::Note(_) => ToolMessageType::Note,
            Self::Progress(_) => ToolMessageType::Progress,
            Self::Stats(_) => ToolMessageType::Stats,
        }
    }

    fn take_branch(tag: ToolMessageType, from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(match tag {
            ToolMessageType::Error => Self::Error(Object::take(from)?),
            ToolMessageType::Warning => Self::Warning(Object::take(from)?),
            ToolMessageType::Note => Self::Note(Object::take(from)?),
            ToolMessageType::Progress => Self::Progress(Object::take(from)?),
            ToolMessageType::Stats => Self::Stats(Object::take(from)?),
        })
    }

    fn put_branch(&self, to: &mut Dict) {
        match self {
            Self::Error(inner) => inner.put(to),
            Self::Warning(inner) => inner.put(to),
            Self::Note(inner) => inner.put(to),
            Self::Progress(inner) => inner.put(to),
            Self::Stats(inner) => inner.put(to),
        }
    }
}

/// A line of a tool for programs.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolMessage {
    /// The name of the program, as before its errors.
    pub program: String,
    /// What depends on `type`.
    pub branch: ToolMessageBranch,
}

impl Object for ToolMessage {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        let tag = from.required("type")?;
        let program = from.required("program")?;
        let branch = ToolMessageBranch::take_branch(tag, from)?;
        Ok(Self { program, branch })
    }

    fn put(&self, to: &mut Dict) {
        to.put("type", &self.branch.r#type());
        to.put("program", &self.program);
        self.branch.put_branch(to);
    }
}
object_codec!(ToolMessage);
