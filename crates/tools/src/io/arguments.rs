//! The arguments of an `io` command: splitting a line, flags, numbers, pattern bytes, and the refusals that go with them.

use super::Session;
use crate::failure::Failure;
use crate::getopt::{self, Operands, Parsed, Table};
use crate::outln;
use crate::size::{self, SizeError};

/// Longest request in bytes; longer ones are refused before a buffer exists.
pub const MAX_REQUEST: u64 = 2_147_483_136;

/// A command that cannot go on; what there was to say has been said.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused;

/// Splits a line at its blanks.
pub fn split(line: &str) -> Vec<String> {
    line.trim_end_matches('\n').split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

impl Session<'_> {
    /// Reads a command's arguments by its table; complains and shows the usage line when they make no sense.
    pub fn flags<S>(
        &mut self,
        command: &str,
        table: Table<S>,
        args: &[String],
    ) -> Result<Parsed<S>, Refused> {
        match getopt::parse(table, args, Operands::Anywhere) {
            Ok(parsed) => Ok(parsed),
            Err(error) => {
                self.console.note(format_args!("{command}: {error}"));
                Err(self.misused(command))
            }
        }
    }

    /// Prints a refusal.
    pub fn refuse(&mut self, text: std::fmt::Arguments<'_>) -> Refused {
        outln!(self.console, "{text}");
        Refused
    }

    /// What was read, or else the refusal printed.
    pub fn or_refuse<T>(&mut self, read: Result<T, Failure>) -> Result<T, Refused> {
        read.map_err(|failure| self.refuse(format_args!("{}", failure.message())))
    }
}

/// Reads a number of bytes.
pub fn number(text: &str) -> Result<u64, Failure> {
    match size::parse(text) {
        Ok(number) if i64::try_from(number).is_ok() => Ok(number),
        Ok(_) | Err(SizeError::Range) => {
            Err(Failure::new(format_args!("Parsing error: argument too large -- {text}")))
        }
        Err(SizeError::Invalid) => Err(Failure::new(format_args!(
            "Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- {text}"
        ))),
    }
}

/// Reads the length of a request that needs a buffer.
pub fn length(text: &str) -> Result<u64, Failure> {
    let length = number(text)?;
    if length > MAX_REQUEST {
        return Err(Failure::new(format_args!("length cannot exceed {MAX_REQUEST}, given {text}")));
    }
    Ok(length)
}

/// Reads the lengths of a request's pieces; gives their sum.
pub fn lengths(texts: &[String]) -> Result<u64, Failure> {
    let mut total = 0u64;
    for text in texts {
        let length = number(text)?;
        if length > MAX_REQUEST {
            return Err(Failure::new(format_args!("Argument '{text}' exceeds maximum size {MAX_REQUEST}")));
        }
        total = total.saturating_add(length);
        if total > MAX_REQUEST {
            return Err(Failure::new(format_args!(
                "The total number of bytes exceed the maximum size {MAX_REQUEST}"
            )));
        }
    }
    Ok(total)
}

/// Reads a pattern byte: decimal, 0x hexadecimal or 0 octal.
pub fn pattern(text: &str) -> Result<u8, Failure> {
    parse_byte(text).ok_or_else(|| Failure::new(format_args!("{text} is not a valid pattern byte")))
}

fn parse_byte(text: &str) -> Option<u8> {
    size::whole(text).and_then(|number| u8::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_byte_may_be_decimal_hexadecimal_or_octal() {
        for (text, byte) in [("0", Some(0)), ("255", Some(255)), ("0xa", Some(10)), ("017", Some(15))] {
            assert_eq!(parse_byte(text), byte);
        }
        for text in ["256", "0x100", "x", "", "-1", "08"] {
            assert_eq!(parse_byte(text), None, "{text}");
        }
    }

    #[test]
    fn a_line_splits_at_blanks() {
        assert_eq!(split("read  -P 1 0 4k \n"), ["read", "-P", "1", "0", "4k"]);
        assert!(split(" \n").is_empty());
    }
}
