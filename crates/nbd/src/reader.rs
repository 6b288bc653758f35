//! A cursor over big-endian bytes that never reads past their end, and a collector of a unit of known length.

/// Reads fields off the front of a slice; `None` when too few bytes are left.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// A string of the protocol: UTF-8, without NUL, at most [`crate::limits::STRING`] bytes.
    pub fn string(&mut self, len: usize) -> Option<&'a str> {
        if len > crate::limits::STRING {
            return None;
        }
        let text = std::str::from_utf8(self.bytes(len)?).ok()?;
        (!text.contains('\0')).then_some(text)
    }

    /// A 32-bit length and the string it counts.
    pub fn counted_string(&mut self) -> Option<&'a str> {
        let len = self.u32()?;
        self.string(usize::try_from(len).ok()?)
    }
}

/// Collects the bytes of one unit (a header, an option's data) however they arrive.
#[derive(Default)]
pub(crate) struct Unit {
    bytes: Vec<u8>,
    wanted: usize,
}

impl Unit {
    /// Begins a unit of `wanted` bytes; the caller has bounded it.
    pub fn begin(&mut self, wanted: usize) {
        self.bytes.clear();
        self.wanted = wanted;
    }

    /// Takes what it lacks off the front of `input`; true when the unit is complete.
    pub fn take(&mut self, input: &mut &[u8]) -> bool {
        let lacking = self.wanted.saturating_sub(self.bytes.len()).min(input.len());
        let (head, rest) = input.split_at(lacking);
        self.bytes.extend_from_slice(head);
        *input = rest;
        self.bytes.len() >= self.wanted
    }

    /// The bytes so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Lossy text of a peer's message, bounded and on one line, for people.
pub(crate) fn message(bytes: &[u8]) -> String {
    let shown = bytes.get(..crate::limits::STRING).unwrap_or(bytes);
    String::from_utf8_lossy(shown).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
