//! Digests in a file, a line each, as `sha256sum` writes them: the digest, two spaces, the name.
//!
//! A name with a line feed, a carriage return or a backslash has `\n`, `\r` and `\\` in their place, and a backslash stands before
//! the digest.

use crate::digest::Digest;
use crate::failure::Failure;
use codec::filename;
use std::fmt;
use std::io::{BufRead, BufReader, Read};

/// Longest line, in bytes.
const LONGEST: u64 = 64 << 10;

/// Characters that can't stand in a line, and how they are written.
const ESCAPES: [(char, &str); 3] = [('\\', "\\\\"), ('\n', "\\n"), ('\r', "\\r")];

/// The digest of an image.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub digest: Digest,
    pub name: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.name.contains(ESCAPES.map(|(plain, _)| plain)) {
            return write!(f, "{}  {}", self.digest, self.name);
        }
        let escaped =
            ESCAPES.iter().fold(self.name.clone(), |name, (plain, escape)| name.replace(*plain, escape));
        write!(f, "\\{}  {escaped}", self.digest)
    }
}

impl Line {
    /// Reads a line without its end.
    fn parse(text: &str) -> Option<Line> {
        let (escaped, text) = match text.strip_prefix('\\') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (digest, name) = text.split_once(' ')?;
        // An asterisk says that the file was read as it is, which images always are.
        let name = name.strip_prefix([' ', '*'])?;
        let name = if escaped { unescape(name)? } else { name.to_owned() };
        Some(Line { digest: Digest::parse(digest)?, name }).filter(|line| !line.name.is_empty())
    }
}

fn unescape(text: &str) -> Option<String> {
    let (mut name, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('\\') {
        let (front, back) = rest.split_at(at);
        let (plain, escape) = ESCAPES.iter().find(|(_, escape)| back.starts_with(escape))?;
        name.push_str(front);
        name.push(*plain);
        rest = back.get(escape.len()..)?;
    }
    name.push_str(rest);
    Some(name)
}

/// The lines of a file. Empty ones and comments (`#`) are passed over.
pub(super) struct Lines {
    file: String,
    number: u64,
    from: Box<dyn BufRead>,
}

impl Lines {
    /// Those of the file called `name`, or of standard input if that is `-`.
    pub fn of(name: &str) -> Result<Lines, Failure> {
        let from: Box<dyn BufRead> = match name {
            "-" => Box::new(BufReader::new(std::io::stdin())),
            name => Box::new(BufReader::new(
                std::fs::File::open(rt::fs::path(name)).map_err(|e| wrong(name, &e))?,
            )),
        };
        Ok(Lines { file: name.to_owned(), number: 0, from })
    }

    fn read(&mut self) -> Result<Option<Line>, Failure> {
        loop {
            let mut bytes = Vec::new();
            let read = self.from.by_ref().take(LONGEST).read_until(b'\n', &mut bytes);
            if read.map_err(|error| wrong(&self.file, &error))? == 0 {
                return Ok(None);
            }
            self.number += 1;
            bytes.pop_if(|byte| *byte == b'\n');
            let text = filename::text(&bytes);
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            return match Line::parse(&text) {
                Some(line) => Ok(Some(line)),
                None => Err(Failure::new(format_args!(
                    "{}: line {} is no digest (64 hexadecimal digits) with a name behind two spaces",
                    self.file, self.number
                ))),
            };
        }
    }
}

impl Iterator for Lines {
    type Item = Result<Line, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

fn wrong(file: &str, error: &std::io::Error) -> Failure {
    Failure::from(block::BlockError::from_io(error)).within(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_whatever_the_name() {
        for name in ["disk.raw", "a b", " a", "*", "a\\b", "a\nb\r\\n", "\\", "json:{\"driver\": \"raw\"}"] {
            let line = Line { digest: Digest([0xa5; 32]), name: name.to_owned() };
            let text = line.to_string();
            assert!(!text.contains('\n') && !text.contains('\r'), "{text}");
            assert_eq!(Line::parse(&text), Some(line));
        }
        let other = format!("{} *x", Digest([0xa5; 32]).to_string().to_uppercase());
        assert_eq!(Line::parse(&other).unwrap().name, "x");
    }

    #[test]
    fn what_is_no_line_is_not_read_as_one() {
        let digest = Digest([7; 32]).to_string();
        for text in [
            "".to_owned(),
            digest.clone(),
            format!("{digest}  "),
            format!("{digest} x"),
            format!("{digest}a  x"),
            format!("{}  x", &digest[1..]),
            format!("{}g  x", &digest[1..]),
            format!("\\{digest}  a\\b"),
            format!("\\{digest}  a\\"),
        ] {
            assert_eq!(Line::parse(&text), None, "{text}");
        }
    }
}
