//! XDR: values as multiples of four bytes, numbers with their highest byte first.
//!
//! Specification: RFC 4506.

/// What is not as the protocol has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It ends too early.
    #[error("it ends too early")]
    Short,
    /// Something is longer than it may be.
    #[error("{0} bytes where at most {1} are allowed")]
    Long(usize, usize),
    /// A number that means nothing where it stands.
    #[error("{what} can't be {value}")]
    Unknown {
        /// What the number stands for.
        what: &'static str,
        /// The number.
        value: u32,
    },
    /// A text that is none.
    #[error("a text is not UTF-8")]
    Text,
}

/// Takes values from the front of bytes.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Over these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been taken.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// So many bytes, without padding.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    /// An array of bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.bytes(N)?.try_into().map_err(|_| Malformed::Short)
    }

    /// Bytes with their length in front and padding behind, at most `most` of them.
    pub fn opaque(&mut self, most: usize) -> Result<&'a [u8], Malformed> {
        let len = usize::try_from(u32::take(self)?).unwrap_or(usize::MAX);
        if len > most {
            return Err(Malformed::Long(len, most));
        }
        let taken = self.bytes(len)?;
        self.bytes(padding(len))?;
        Ok(taken)
    }
}

/// Bytes that stand behind so many, up to the next multiple of four.
pub fn padding(len: usize) -> usize {
    len.wrapping_neg() % 4
}

/// Appends bytes with their length in front and padding behind.
pub fn put_opaque(bytes: &[u8], out: &mut Vec<u8>) {
    put_length(bytes.len(), out);
    out.extend_from_slice(bytes);
    out.extend_from_slice([0; 3].get(..padding(bytes.len())).unwrap_or_default());
}

/// Appends a length. What is longer than the wire can say is never put: all that is sent is bounded.
pub fn put_length(len: usize, out: &mut Vec<u8>) {
    u32::try_from(len).unwrap_or(u32::MAX).put(out);
}

/// A type of the wire.
pub trait Xdr: Sized {
    /// Appends the value.
    fn put(&self, out: &mut Vec<u8>);

    /// Takes a value.
    ///
    /// # Errors
    /// What is there is none.
    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed>;
}

impl Xdr for u32 {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_be_bytes());
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        from.array().map(Self::from_be_bytes)
    }
}

impl Xdr for u64 {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_be_bytes());
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        from.array().map(Self::from_be_bytes)
    }
}

impl Xdr for bool {
    fn put(&self, out: &mut Vec<u8>) {
        u32::from(*self).put(out);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        match u32::take(from)? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(Malformed::Unknown { what: "a truth value", value }),
        }
    }
}

/// Nothing.
impl Xdr for () {
    fn put(&self, _: &mut Vec<u8>) {}

    fn take(_: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(())
    }
}

/// What may be absent: a truth value in front says so.
impl<T: Xdr> Xdr for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        bool::take(from)?.then(|| T::take(from)).transpose()
    }
}

/// A fixed number of bytes, a multiple of four.
impl<const N: usize> Xdr for [u8; N] {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        from.array()
    }
}

/// A text of at most `MOST` bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text<const MOST: usize>(pub String);

impl<const MOST: usize> Xdr for Text<MOST> {
    fn put(&self, out: &mut Vec<u8>) {
        put_opaque(self.0.as_bytes(), out);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let bytes = from.opaque(MOST)?;
        std::str::from_utf8(bytes).map(|text| Self(text.to_owned())).map_err(|_| Malformed::Text)
    }
}

/// A type whose fields stand on the wire in the order in which they stand here.
macro_rules! layout {
    ($($(#[$about:meta])* $name:ident { $($(#[$field_about:meta])* $field:ident: $kind:ty,)* })*) => {$(
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_about])* pub $field: $kind,)*
        }

        impl $crate::xdr::Xdr for $name {
            fn put(&self, out: &mut Vec<u8>) {
                $(self.$field.put(out);)*
            }

            fn take(from: &mut $crate::xdr::Reader<'_>) -> Result<Self, $crate::xdr::Malformed> {
                Ok(Self { $($field: <$kind as $crate::xdr::Xdr>::take(from)?,)* })
            }
        }
    )*};
}

pub(crate) use layout;
