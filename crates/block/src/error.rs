//! The one error of the data path: what kind, which node, where, and words for a person.
use crate::passwords::hide_passwords;
use rt::Errno;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

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

/// An error of the block layer. Cheap to clone.
///
/// Printed it is one sentence without a final full stop: what failed, what that came from, and where, as far as the words
/// do not say so already: `what: cause (node 'n', file 'f', offset 65536)`. Names that nobody gave are left out.
#[derive(Clone)]
pub struct BlockError(Box<Detail>);

#[derive(Clone)]
struct Detail {
    kind: ErrorKind,
    errno: i32,
    node: Option<String>,
    file: Option<String>,
    offset: Option<u64>,
    /// What failed; nothing where the cause says it all.
    what: String,
    cause: Option<Arc<dyn Error + Send + Sync>>,
}

impl BlockError {
    /// An error of `kind` with words of its own. The errno follows from the kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let (what, errno) = (message.into(), errno_of(kind));
        Self(Box::new(Detail { kind, errno, node: None, file: None, offset: None, what, cause: None }))
    }

    /// An error of `kind` in the words of its cause, which can be asked for ([`Error::source`]).
    pub fn of(kind: ErrorKind, cause: impl Error + Send + Sync + 'static) -> Self {
        let mut error = Self::new(kind, "");
        error.0.cause = Some(Arc::new(cause));
        error
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
        Self::from_io(e).context(what)
    }

    /// An operating-system error in its own words.
    pub fn from_io(e: &std::io::Error) -> Self {
        let kind = kind_of(e);
        let cause = match e.raw_os_error() {
            Some(errno) => std::io::Error::from_raw_os_error(errno),
            None => std::io::Error::new(e.kind(), e.to_string()),
        };
        let mut error = Self::of(kind, cause);
        error.0.errno = e.raw_os_error().unwrap_or(error.0.errno);
        error
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

    /// The same error, told to be about this file unless it names one already.
    #[must_use]
    pub fn about_file(mut self, file: &str) -> Self {
        self.0.file.get_or_insert_with(|| file.to_owned());
        self
    }

    /// The error of what failed because of this one: `what: …`.
    #[must_use]
    pub fn context(self, what: impl fmt::Display) -> Self {
        let detail = Detail { what: what.to_string(), cause: None, ..(*self.0).clone() };
        let mut outer = Self(Box::new(detail));
        outer.0.cause = Some(Arc::new(self));
        outer
    }

    /// As [`BlockError::context`], of what was done to a file; its name is added unless the words name it already:
    /// `what 'file': …`.
    #[must_use]
    pub fn context_of_file(self, what: impl fmt::Display, file: &str) -> Self {
        match self.message().contains(&format!("'{file}'")) {
            true => self.context(what),
            false => self.context(format_args!("{what} '{file}'")),
        }
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

    /// The file concerned, if one is known.
    pub fn file(&self) -> Option<&str> {
        self.0.file.as_deref()
    }

    /// The words without the place, and without the passwords that a name in them may have.
    pub fn message(&self) -> String {
        hide_passwords(&self.words()).into_owned()
    }

    fn words(&self) -> String {
        let Some(cause) = &self.0.cause else { return self.0.what.clone() };
        let cause = told(cause.as_ref());
        if self.0.what.is_empty() { cause } else { format!("{}: {cause}", self.0.what) }
    }

    /// Where it happened, as far as `words` do not say so.
    fn place(&self, words: &str) -> String {
        let named = |what: &str, name: &Option<String>| {
            let name = name.as_deref().filter(|name| !name.starts_with('#'))?;
            (!words.contains(&format!("'{name}'"))).then(|| format!("{what} '{name}'"))
        };
        let said = |offset: &u64| {
            [format!("offset {offset}"), format!("{offset:#x}")].iter().any(|at| words.contains(at))
        };
        let offset = self.0.offset.filter(|offset| !said(offset)).map(|offset| format!("offset {offset}"));
        let parts = [named("node", &self.0.node), named("file", &self.0.file), offset];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
    }

    /// The operating system's words for [`BlockError::errno`], as tools print after a failed request.
    pub fn strerror(&self) -> String {
        words(&std::io::Error::from_raw_os_error(self.0.errno))
    }
}

/// The words of a cause; its place is told by the error that it caused.
fn told(cause: &(dyn Error + Send + Sync + 'static)) -> String {
    if let Some(error) = cause.downcast_ref::<BlockError>() {
        return error.message();
    }
    match cause.downcast_ref::<std::io::Error>() {
        Some(error) => words(error),
        None => cause.to_string(),
    }
}

impl fmt::Display for BlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.message();
        write!(f, "{words}{}", self.place(&words))
    }
}

impl fmt::Debug for BlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}(errno {}) {self}", self.0.kind, self.0.errno)
    }
}

impl Error for BlockError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.cause.as_deref().map(|cause| cause as &(dyn Error + 'static))
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    const ENOENT: i32 = 2;

    fn missing(file: &str) -> BlockError {
        BlockError::os(format!("Could not open '{file}'"), &std::io::Error::from_raw_os_error(ENOENT))
    }

    #[test]
    fn an_error_tells_what_failed_then_why_then_where_and_each_once() {
        let error = missing("a");
        assert_eq!(error.to_string(), "Could not open 'a': No such file or directory");
        assert_eq!((error.kind(), error.errno()), (ErrorKind::NotFound, ENOENT));
        let error = error.at_node("n").at(512).context("reading").about_file("a").at(7);
        assert_eq!(
            error.to_string(),
            "reading: Could not open 'a': No such file or directory (node 'n', offset 512)"
        );
        assert_eq!(error.message(), "reading: Could not open 'a': No such file or directory");
        assert_eq!((error.node(), error.file(), error.offset()), (Some("n"), Some("a"), Some(512)));
        let unnamed = BlockError::invalid("no").at_node("#block1").about_file("f");
        assert_eq!(unnamed.to_string(), "no (file 'f')");
    }

    #[test]
    fn causes_are_asked_for_by_their_types() {
        let error = missing("a").context("first").context("second");
        let (mut cause, mut found) = (error.source(), false);
        while let Some(error) = cause {
            (cause, found) = (error.source(), error.is::<std::io::Error>());
        }
        assert!(found);
        let typed = BlockError::of(ErrorKind::Invalid, api::DecodeError::Missing { path: "size".to_owned() });
        assert_eq!(typed.to_string(), "Parameter 'size' is missing");
        assert!(typed.source().is_some_and(|cause| cause.is::<api::DecodeError>()));
    }

    #[test]
    fn a_chain_names_each_file_once() {
        let chain = missing("base")
            .context_of_file("Could not open backing file", "base")
            .context_of_file("Could not open backing file", "mid");
        assert_eq!(
            chain.to_string(),
            "Could not open backing file 'mid': Could not open backing file: Could not open 'base': No such file or \
             directory"
        );
    }
}
