//! The fields of a message: big-endian numbers, and strings behind their length.

use crate::Malformed;

/// Takes fields off the front of a payload.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
    /// The message, for errors.
    what: &'static str,
}

impl<'a> Fields<'a> {
    pub fn new(rest: &'a [u8], what: &'static str) -> Self {
        Self { rest, what }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed::Fields(self.what))?;
        self.rest = rest;
        Ok(*head)
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    pub fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let len = usize::try_from(self.u32()?).map_err(|_| Malformed::Fields(self.what))?;
        let (head, rest) = self.rest.split_at_checked(len).ok_or(Malformed::Fields(self.what))?;
        self.rest = rest;
        Ok(head)
    }

    /// What is left.
    pub fn rest(self) -> &'a [u8] {
        self.rest
    }
}

/// Puts a message together: its length is filled in at the end.
pub(crate) struct Message<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Message<'a> {
    /// Begins one with its type and the number behind it: an id, or a version.
    pub fn begin(out: &'a mut Vec<u8>, kind: crate::Kind, number: u32) -> Self {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        out.push(kind.0);
        let mut message = Self { out, start };
        message.u32(number);
        message
    }

    pub fn u32(&mut self, value: u32) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    /// A string; those that are longer than 32 bits can tell are kept out by the bounds of the crate.
    pub fn string(&mut self, value: &[u8]) {
        self.u32(value.len() as u32);
        self.out.extend_from_slice(value);
    }

    /// Bytes without a length in front of them.
    #[cfg(feature = "server")]
    pub fn bytes(&mut self, value: &[u8]) {
        self.out.extend_from_slice(value);
    }

    /// Ends the message, which `more` bytes are to follow that are not here.
    pub fn end(self, more: u32) {
        let Self { out, start } = self;
        let length = (out.len() - start - 4) as u32 + more;
        if let Some(place) = out.get_mut(start..start + 4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }
}
