//! The one error of the data path: what kind, which node, where, and words for a person.
use rt::Errno;
use std::fmt;

/// Result of the core's operations.
pub type Result<T, E = BlockError> = std::result::Result<T, E>;

/// What a caller may match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system or a peer failed the operation.
    Io,
    /// No room in the file system, quota or device.
    NoSpace,
    /// The node or file is read-only.
    ReadOnly,
    /// The driver has no such ability.
    Unsupported,
    /// An argument or option is wrong.
    Invalid,
    /// No such file, node or export.
    NotFound,
    /// Another user inside this process is in the way.
    Busy,
    /// Another process holds a lock on the image.
    Locked,
    /// The image contradicts its format.
    Corrupt,
    /// The operating system refused access.
    Permission,
    /// An earlier flush or metadata write failed; nothing is written until the node is opened anew.
    Poisoned,
    /// The node, export or connection is closed.
    Closed,
    /// A deadline passed.
    Timeout,
    /// A limit of ours would be exceeded.
    Limit,
    /// The open policy does not allow a file that an image names.
    Refused,
    /// The operation was cancelled by its user.
    Cancelled,
}

/// An error of the block layer. Cheap to clone; prints one sentence without a final full stop.
#[derive(Clone)]
pub struct BlockError(Box<Detail>);

#[derive(Clone)]
struct Detail {
    kind: ErrorKind,
    errno: i32,
    node: Option<String>,
    offset: Option<u64>,
    message: String,
}

impl BlockError {
    /// An error of `kind` with words of its own. The errno follows from the kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Detail {
            kind,
            errno: errno_of(kind),
            node: None,
            offset: None,
            message: message.into(),
        }))
    }

    /// An invalid argument or option.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// A missing ability.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// A contradiction inside an image.
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// An operating-system error while doing `what` (for example "could not open 'a.img'").
    pub fn os(what: impl fmt::Display, e: &std::io::Error) -> Self {
        let mut error = Self::from_io(e);
        error.0.message = format!("{what}: {}", error.0.message);
        error
    }

    /// An operating-system error in its own words.
    pub fn from_io(e: &std::io::Error) -> Self {
        let kind = kind_of(e);
        let errno = e.raw_os_error().unwrap_or_else(|| errno_of(kind));
        Self(Box::new(Detail { kind, errno, node: None, offset: None, message: words(e) }))
    }

    /// The same error, told to be of this node unless it names one already.
    #[must_use]
    pub fn at_node(mut self, node: &str) -> Self {
        self.0.node.get_or_insert_with(|| node.to_owned());
        self
    }

    /// The same error, told to be at this byte offset unless it names one already.
    #[must_use]
    pub fn at(mut self, offset: u64) -> Self {
        self.0.offset.get_or_insert(offset);
        self
    }

    /// The same error with words in front: `what: …`.
    #[must_use]
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        self.0.message = format!("{what}: {}", self.0.message);
        self
    }

    /// What a caller may match on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The errno to answer a guest or client with; positive.
    pub fn errno(&self) -> i32 {
        self.0.errno
    }

    /// The node concerned, if one is known.
    pub fn node(&self) -> Option<&str> {
        self.0.node.as_deref()
    }

    /// The byte offset concerned, in the node's own address space, if one is known.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// The words without node and offset.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The operating system's words for [`BlockError::errno`], as tools print after a failed request.
    pub fn strerror(&self) -> String {
        words(&std::io::Error::from_raw_os_error(self.0.errno))
    }
}

impl fmt::Display for BlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for BlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let d = &self.0;
        write!(f, "{:?}(errno {}) {}", d.kind, d.errno, d.message)?;
        if let Some(node) = &d.node {
            write!(f, " [node {node}]")?;
        }
        d.offset.map_or(Ok(()), |offset| write!(f, " [offset {offset:#x}]"))
    }
}

impl std::error::Error for BlockError {}

impl From<std::io::Error> for BlockError {
    fn from(e: std::io::Error) -> Self {
        Self::from_io(&e)
    }
}

/// The text of an I/O error without Rust's "(os error N)".
fn words(e: &std::io::Error) -> String {
    let text = e.to_string();
    match text.rfind(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

fn errno_of(kind: ErrorKind) -> i32 {
    let errno = match kind {
        ErrorKind::Io | ErrorKind::Corrupt | ErrorKind::Poisoned => Errno::IO,
        ErrorKind::NoSpace => Errno::NOSPC,
        ErrorKind::ReadOnly | ErrorKind::Refused => Errno::PERM,
        ErrorKind::Unsupported => Errno::OPNOTSUPP,
        ErrorKind::Invalid => Errno::INVAL,
        ErrorKind::NotFound => Errno::NOENT,
        ErrorKind::Busy => Errno::BUSY,
        ErrorKind::Locked => Errno::AGAIN,
        ErrorKind::Permission => Errno::ACCESS,
        ErrorKind::Closed => Errno::SHUTDOWN,
        ErrorKind::Timeout => Errno::TIMEDOUT,
        ErrorKind::Limit => Errno::FBIG,
        ErrorKind::Cancelled => Errno::CANCELED,
    };
    errno.raw_os_error()
}

fn kind_of(e: &std::io::Error) -> ErrorKind {
    match Errno::from_io_error(e) {
        Some(Errno::NOSPC | Errno::DQUOT) => ErrorKind::NoSpace,
        Some(Errno::ROFS) => ErrorKind::ReadOnly,
        Some(Errno::PERM | Errno::ACCESS) => ErrorKind::Permission,
        Some(Errno::NOENT) => ErrorKind::NotFound,
        Some(Errno::OPNOTSUPP) => ErrorKind::Unsupported,
        Some(Errno::INVAL) => ErrorKind::Invalid,
        Some(Errno::FBIG) => ErrorKind::Limit,
        Some(Errno::BUSY) => ErrorKind::Busy,
        Some(Errno::TIMEDOUT) => ErrorKind::Timeout,
        _ if e.raw_os_error().is_some() => ErrorKind::Io,
        _ => match e.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::PermissionDenied => ErrorKind::Permission,
            std::io::ErrorKind::InvalidInput => ErrorKind::Invalid,
            std::io::ErrorKind::TimedOut => ErrorKind::Timeout,
            std::io::ErrorKind::StorageFull => ErrorKind::NoSpace,
            std::io::ErrorKind::Unsupported => ErrorKind::Unsupported,
            _ => ErrorKind::Io,
        },
    }
}
