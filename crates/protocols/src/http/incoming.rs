//! What comes on a connection, apart from how it comes: heads of answers and their content, out of bytes in any pieces.
//!
//! ```text
//! bytes ─▶ place ─▶ Head              what is received with a head, or between chunks
//!   └────────────▶ the reader's buffer     all other content
//! ```
//!
//! Bounds: a head has at most [`MOST`] bytes, and at most [`EARLY`] others come before that of the answer.

use super::body::{Body, Next};
use super::error::HttpError;
use super::head::{Head, MOST};
use http::{Method, StatusCode};
use std::ops::Range;

/// Bytes that are received at a time of what is no content: a head, and what comes with it.
const PLACE: usize = 16 << 10;
/// Heads that may come before that of the answer (statuses from 100 on).
const EARLY: usize = 16;

/// The receiving side of a connection.
pub(super) struct Incoming {
    /// What has come and was not taken is at `came`.
    place: Vec<u8>,
    came: Range<usize>,
    /// Bytes of a head that have no end of a line: it is looked at again when a line has ended, not with each byte.
    seen: usize,
    early: usize,
    /// What is left of the last answer.
    body: Body,
    /// The server goes on after that.
    keeps: bool,
}

/// What comes next of an answer's content.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// So many bytes were here already, and were copied.
    Taken(usize),
    /// So many bytes at most may be received straight into the reader's buffer: tell by [`Incoming::took`].
    Direct(usize),
    /// Something has to be received into [`Incoming::room`]: tell by [`Incoming::received`].
    More,
    /// Nothing: it is over.
    Over,
}

impl Incoming {
    pub fn new() -> Self {
        Self { place: vec![0; PLACE], came: 0..0, seen: 0, early: 0, body: Body::Over, keeps: true }
    }

    /// Whether the last answer is over, nothing came that nobody asked for, and the server goes on.
    pub fn is_free(&self) -> bool {
        self.keeps && self.body == Body::Over && self.came.is_empty()
    }

    /// A request is made: until its answer says so, the connection is not good for another.
    pub fn expect(&mut self) {
        (self.keeps, self.seen, self.early) = (false, 0, 0);
    }

    /// The head of the answer to a request of this method; none where more has to be received into [`Self::room`].
    ///
    /// # Errors
    /// What comes is no head, or too long, or too many come before it.
    pub fn head(&mut self, method: &Method) -> Result<Option<Head>, HttpError> {
        loop {
            let came = self.place.get(self.came.clone()).unwrap_or_default();
            let has_line = came.get(self.seen..).is_some_and(|new| new.contains(&b'\n'));
            let Some((head, len)) = (if has_line { Head::parse(came)? } else { None }) else {
                self.seen = came.len();
                return match self.seen < MOST {
                    true => Ok(None),
                    false => Err(garbage(format!("its head has more than {MOST} bytes"))),
                };
            };
            (self.came.start, self.seen) = (self.came.start + len, 0);
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Err(garbage("it goes over to another protocol, for which nobody asked".to_owned()));
            }
            if !head.status.is_informational() {
                (self.body, self.keeps) = (Body::of(method, &head), head.keeps);
                return Ok(Some(head));
            }
            self.early += 1;
            if self.early > EARLY {
                return Err(garbage(format!("more than {EARLY} heads come before that of the answer")));
            }
        }
    }

    /// The connection has ended before a head had: whether what is here could have become one.
    ///
    /// # Errors
    /// It could not.
    pub fn head_ended(&self) -> Result<(), HttpError> {
        Head::parse(self.place.get(self.came.clone()).unwrap_or_default()).map(drop)
    }

    /// Bytes that are left of the content, where that is known.
    pub fn left(&self) -> Option<u64> {
        self.body.left()
    }

    /// What comes next of the content; it is copied to the start of `to` where it is here.
    ///
    /// # Errors
    /// What comes is not what content looks like.
    pub fn content(&mut self, to: &mut [u8]) -> Result<Content, HttpError> {
        loop {
            let came = self.place.get(self.came.clone()).unwrap_or_default();
            match self.body.next(came)? {
                Next::Over => return Ok(Content::Over),
                Next::More => return Ok(Content::More),
                Next::Other(n) => self.came.start += n,
                Next::Content(most) => {
                    let most = most.min(to.len() as u64) as usize;
                    let n = came.len().min(most);
                    if n == 0 {
                        return Ok(Content::Direct(most));
                    }
                    if let (Some(to), Some(from)) = (to.get_mut(..n), came.get(..n)) {
                        to.copy_from_slice(from);
                    }
                    self.came.start += n;
                    self.body.took(n as u64);
                    return Ok(Content::Taken(n));
                }
            }
        }
    }

    /// So many bytes of content were received into the reader's buffer; none: the connection has ended.
    ///
    /// # Errors
    /// The content had not.
    pub fn took(&mut self, n: usize) -> Result<(), HttpError> {
        match n {
            0 => self.body.end(),
            n => {
                self.body.took(n as u64);
                Ok(())
            }
        }
    }

    /// Where to receive what is no content.
    pub fn room(&mut self) -> &mut [u8] {
        if self.came.is_empty() {
            self.came = 0..0;
        } else if self.came.end == self.place.len() && self.came.start > 0 {
            self.place.copy_within(self.came.clone(), 0);
            self.came = 0..self.came.len();
        }
        if self.came.end == self.place.len() {
            // Heads and lines are bounded, so this is.
            self.place.resize(self.place.len() + PLACE, 0);
        }
        self.place.get_mut(self.came.end..).unwrap_or_default()
    }

    /// So many bytes were received there.
    pub fn received(&mut self, n: usize) {
        self.came.end = (self.came.end + n).min(self.place.len());
    }

    /// Bytes that have come and were not taken.
    pub fn behind(&self) -> usize {
        self.came.len()
    }
}

fn garbage(what: String) -> HttpError {
    HttpError::Garbage(what)
}
