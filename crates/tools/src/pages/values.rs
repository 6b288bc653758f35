//! What may stand where help names a value.

/// A kind of value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Values {
    /// One of these words, with `|` between them.
    Words(&'static str),
    /// A format of images.
    Format,
    /// A file.
    File,
    /// A directory.
    Directory,
    /// Nothing that could be proposed.
    Other,
}

impl Values {
    /// What help calls so.
    pub fn of(name: &'static str) -> Values {
        match name {
            "FMT" => Values::Format,
            "FILE" | "PATH" | "SOCKET" | "IMAGE" => Values::File,
            "DIR" => Values::Directory,
            words if words.contains('|') && words.chars().all(is_of_a_word_or_between) => {
                Values::Words(words)
            }
            _ => Values::Other,
        }
    }
}

fn is_of_a_word_or_between(letter: char) -> bool {
    letter.is_ascii_lowercase() || letter.is_ascii_digit() || matches!(letter, '|' | '_' | '-' | '.')
}
