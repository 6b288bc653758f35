//! What contradicts itself in an image.
use std::ops::Range;

/// A contradiction in an image, and which bytes of its file it is about. The cause of the error with which a node is
/// poisoned ([`BlockError::of`](crate::BlockError::of)).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Damage {
    /// What was found, as a person reads it.
    pub what: String,
    /// Bytes of the image's file that two things claim, where that is what was found.
    pub bytes: Option<Range<u64>>,
}

impl Damage {
    /// The same, found because of what `words` say: `words: what`.
    #[must_use]
    pub fn context(self, words: impl std::fmt::Display) -> Self {
        Self { what: format!("{words}: {}", self.what), ..self }
    }
}

impl From<String> for Damage {
    fn from(what: String) -> Self {
        Self { what, bytes: None }
    }
}

impl From<&str> for Damage {
    fn from(what: &str) -> Self {
        what.to_owned().into()
    }
}
