//! Where the content of an answer is among the bytes that come, and where it ends.
//!
//! Specification: RFC 9112, sections 6.3 (its length) and 7.1 (chunks).

use super::error::HttpError;
use super::head::{Head, MOST};
use http::{Method, StatusCode};

/// Most bytes of a line that begins a chunk, or follows the last one.
const LINE: usize = 4 << 10;

/// What is left of an answer's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// So many bytes.
    Counted(u64),
    /// What comes until the connection ends.
    Unbounded,
    /// A line that tells the size of a chunk comes next.
    ChunkSize,
    /// So many bytes of a chunk.
    Chunk(u64),
    /// The end of the line that a chunk is.
    ChunkEnd,
    /// Lines that follow the last chunk, of at most so many bytes.
    Trailer(usize),
    Over,
}

/// What the next bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Content, as many at most.
    Content(u64),
    /// As many that are none, and are there.
    Other(usize),
    /// That is known when more has come.
    More,
    /// Nothing more is of this answer.
    Over,
}

impl Body {
    /// The content of an answer to a request of this method.
    pub fn of(method: &Method, head: &Head) -> Self {
        match (head.status, head.length) {
            (StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED, _) => Self::Over,
            _ if *method == Method::HEAD => Self::Over,
            _ if head.is_chunked => Self::ChunkSize,
            (_, Some(length)) => Self::Counted(length),
            (_, None) => Self::Unbounded,
        }
    }

    /// Bytes that are left, where that is known.
    pub fn left(self) -> Option<u64> {
        match self {
            Self::Over => Some(0),
            Self::Counted(left) => Some(left),
            _ => None,
        }
    }

    /// What the next bytes are, of which `came` are there.
    ///
    /// # Errors
    /// They are no chunks.
    pub fn next(&mut self, came: &[u8]) -> Result<Next, HttpError> {
        match *self {
            Self::Counted(0) | Self::Over => {
                *self = Self::Over;
                Ok(Next::Over)
            }
            Self::Counted(left) | Self::Chunk(left) => Ok(Next::Content(left)),
            Self::Unbounded => Ok(Next::Content(u64::MAX)),
            Self::ChunkSize => self.size_of_chunk(came),
            Self::ChunkEnd => match came {
                [b'\r', b'\n', ..] => {
                    *self = Self::ChunkSize;
                    Ok(Next::Other(2))
                }
                [] | [b'\r'] => Ok(Next::More),
                _ => Err(garbage("a chunk is longer than it said")),
            },
            Self::Trailer(room) => {
                let Some(end) = line(came).iter().position(|byte| *byte == b'\n') else { return more(came) };
                let len = end + 1;
                let left =
                    room.checked_sub(len).ok_or_else(|| garbage("what follows its chunks has no end"))?;
                let is_last = matches!(came.get(..len), Some(b"\r\n" | b"\n"));
                *self = if is_last { Self::Over } else { Self::Trailer(left) };
                Ok(Next::Other(len))
            }
        }
    }

    fn size_of_chunk(&mut self, came: &[u8]) -> Result<Next, HttpError> {
        let wrong = || garbage("a chunk tells no size");
        match came.first() {
            Some(digit) if !digit.is_ascii_hexdigit() => return Err(wrong()),
            _ => {}
        }
        match httparse::parse_chunk_size(line(came)).map_err(|_| wrong())? {
            httparse::Status::Partial => more(came),
            httparse::Status::Complete((len, size)) => {
                *self = if size == 0 { Self::Trailer(MOST) } else { Self::Chunk(size) };
                Ok(Next::Other(len))
            }
        }
    }

    /// So many bytes of the content were taken, no more than [`Next::Content`] said.
    pub fn took(&mut self, n: u64) {
        match self {
            Self::Counted(left) => *left = left.saturating_sub(n),
            Self::Chunk(left) if *left > n => *left -= n,
            Self::Chunk(_) => *self = Self::ChunkEnd,
            _ => {}
        }
    }

    /// The connection has ended.
    ///
    /// # Errors
    /// The content had not.
    pub fn end(&mut self) -> Result<(), HttpError> {
        match self {
            Self::Unbounded | Self::Over => {
                *self = Self::Over;
                Ok(())
            }
            _ => Err(HttpError::Broken("the server closed it before its answer was over".to_owned())),
        }
    }
}

/// As much of what came as a line may have: it is judged alike whether it comes at once or in pieces.
fn line(came: &[u8]) -> &[u8] {
    came.get(..LINE).unwrap_or(came)
}

fn more(line: &[u8]) -> Result<Next, HttpError> {
    if line.len() < LINE { Ok(Next::More) } else { Err(garbage("a line between its chunks has no end")) }
}

fn garbage(what: &str) -> HttpError {
    HttpError::Garbage(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The content of what comes in such pieces; the bytes behind it.
    fn taken(mut body: Body, bytes: &[u8], piece: usize) -> Result<(Vec<u8>, Vec<u8>), HttpError> {
        let (mut here, mut rest, mut content) = (Vec::new(), bytes, Vec::new());
        loop {
            match body.next(&here)? {
                Next::Over => return Ok((content, [&here[..], rest].concat())),
                Next::Other(n) => drop(here.drain(..n)),
                Next::Content(most) if !here.is_empty() => {
                    let n = (here.len() as u64).min(most) as usize;
                    content.extend(here.drain(..n));
                    body.took(n as u64);
                }
                Next::More | Next::Content(_) => {
                    if rest.is_empty() {
                        body.end()?;
                        return Ok((content, Vec::new()));
                    }
                    let (now, later) = rest.split_at(piece.min(rest.len()));
                    here.extend_from_slice(now);
                    rest = later;
                }
            }
        }
    }

    #[test]
    fn chunks_are_put_together_however_they_come() {
        let bytes = b"5\r\nhello\r\n1;of=note\r\n \r\n0005\r\nworld\r\n0\r\nX: y\r\n\r\nHTTP";
        for piece in 1..=bytes.len() {
            let (content, behind) = taken(Body::ChunkSize, bytes, piece).unwrap();
            assert_eq!((&content[..], &behind[..]), (&b"hello world"[..], &b"HTTP"[..]), "{piece}");
        }
    }

    #[test]
    fn what_is_counted_ends_by_its_count_and_what_is_not_with_the_connection() {
        assert_eq!(taken(Body::Counted(3), b"abcd", 2).unwrap(), (b"abc".to_vec(), b"d".to_vec()));
        assert_eq!(taken(Body::Unbounded, b"abcd", 3).unwrap(), (b"abcd".to_vec(), Vec::new()));
        assert!(taken(Body::Counted(5), b"abcd", 2).is_err());
    }

    #[test]
    fn a_line_is_too_long_at_the_same_length_whether_it_comes_at_once_or_in_pieces() {
        let first = |note: usize| [b"1;".as_slice(), &vec![b'x'; note], b"\r\na\r\n0\r\n\r\n"].concat();
        let last = |note: usize| [b"0\r\nX: ".as_slice(), &vec![b'x'; note], b"\r\n\r\n"].concat();
        for (bytes, is_taken) in [
            (first(LINE - 4), true),
            (first(LINE - 3), false),
            (last(LINE - 5), true),
            (last(LINE - 4), false),
        ] {
            for piece in [1, 7, LINE - 1, LINE, LINE + 1, bytes.len()] {
                let taken = taken(Body::ChunkSize, &bytes, piece);
                assert_eq!(taken.is_ok(), is_taken, "{} by {piece}", bytes.len());
            }
        }
    }

    #[test]
    fn what_is_not_chunks_is_refused() {
        let long = [b"1;".as_slice(), &[b'x'; LINE]].concat();
        let endless = [b"0\r\n".to_vec(), b"X: y\r\n".repeat(MOST / 6 + 1)].concat();
        for bytes in [
            b"\r\n".as_slice(),
            b"x\r\n",
            b"-1\r\na",
            b"1\r\nab\r\n",
            b"11111111111111111\r\n",
            b"5\r\nhel",
            &long,
            &endless,
        ] {
            for piece in [1, bytes.len()] {
                assert!(taken(Body::ChunkSize, bytes, piece).is_err(), "{:?}", &bytes[..bytes.len().min(20)]);
            }
        }
    }
}
