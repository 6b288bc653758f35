//! Cache modes and the other words that several faces take for how an image is opened.

use thiserror::Error;

/// The modes that help names.
pub const MODES: &str = "none|writeback|writethrough|directsync|unsafe";

/// How writes reach the disk: the words of `-t`, `-T` and `--cache`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    /// The host's page cache is passed by.
    pub direct: bool,
    /// Flushes are left out.
    pub no_flush: bool,
    /// A write ends before it is durable.
    pub writeback: bool,
}

/// A word that names no mode.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{what}: {word}")]
pub struct UnknownWord {
    what: &'static str,
    word: String,
}

impl Cache {
    /// Page cache, flushes, writes that end early: what every face starts from.
    pub const WRITEBACK: Cache = Cache { direct: false, no_flush: false, writeback: true };
    /// As fast as it gets, for a target that is thrown away when anything fails.
    pub const UNSAFE: Cache = Cache { direct: false, no_flush: true, writeback: true };
    /// The page cache is passed by.
    pub const NONE: Cache = Cache { direct: true, no_flush: false, writeback: true };

    /// Reads a mode's word.
    pub fn parse(word: &str) -> Result<Cache, UnknownWord> {
        Self::parse_for("Invalid cache option", word)
    }

    /// Reads a mode's word; `what` begins the error.
    pub fn parse_for(what: &'static str, word: &str) -> Result<Cache, UnknownWord> {
        Ok(match word {
            "none" | "off" => Self::NONE,
            "writeback" => Self::WRITEBACK,
            "unsafe" => Self::UNSAFE,
            "writethrough" => Cache { writeback: false, ..Self::WRITEBACK },
            "directsync" => Cache { writeback: false, ..Self::NONE },
            _ => return Err(UnknownWord { what, word: word.to_owned() }),
        })
    }
}

/// Whether a discard gives space back: the words of `--discard`.
pub fn parse_discard(word: &str) -> Result<bool, UnknownWord> {
    match word {
        "ignore" | "off" => Ok(false),
        "unmap" | "on" => Ok(true),
        _ => Err(UnknownWord { what: "Invalid discard option", word: word.to_owned() }),
    }
}

/// How requests reach the kernel: the words of `--aio`.
pub fn parse_aio(word: &str) -> Result<&'static str, UnknownWord> {
    match word {
        "threads" => Ok("threads"),
        "native" => Ok("native"),
        "io_uring" => Ok("io_uring"),
        _ => Err(UnknownWord { what: "Invalid aio option", word: word.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_has_its_three_switches() {
        let modes = [
            ("none", (true, false, true)),
            ("writeback", (false, false, true)),
            ("writethrough", (false, false, false)),
            ("directsync", (true, false, false)),
            ("unsafe", (false, true, true)),
        ];
        for (word, (direct, no_flush, writeback)) in modes {
            assert_eq!(Cache::parse(word), Ok(Cache { direct, no_flush, writeback }));
        }
        assert_eq!(Cache::parse("fast").unwrap_err().to_string(), "Invalid cache option: fast");
    }
}
