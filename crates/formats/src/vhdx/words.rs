//! Little-endian numbers and identifiers at places of a structure, and its checksum.
use codec::Crc32c;

/// The checksum's place in every structure that has one.
const CHECKSUM: usize = 4;

/// An identifier as it is stored: the first three groups of its text are little-endian numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Guid(pub [u8; 16]);

impl Guid {
    /// None.
    pub const ZERO: Self = Self([0; 16]);

    /// That of a specification: its first four groups as one number, the last two as one.
    pub const fn of(high: u64, low: u64) -> Self {
        let [a, b, c, d, e, f, g, h] = high.to_be_bytes();
        let [i, j, k, l, m, n, o, p] = low.to_be_bytes();
        Self([d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p])
    }

    /// A new one, of version 4.
    pub fn random() -> Self {
        let high = rt::random_u64() & !0xf000 | 0x4000;
        let low = rt::random_u64() & !(3 << 62) | 1 << 63;
        Self::of(high, low)
    }

    /// Reads its text, in braces or not.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.trim().trim_start_matches('{').trim_end_matches('}').replace('-', "");
        let number = u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32)?;
        Some(Self::of((number >> 64) as u64, number as u64))
    }
}

pub(super) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, at))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

pub(super) fn guid_at(bytes: &[u8], at: usize) -> Guid {
    Guid(array_at(bytes, at))
}

/// Puts bytes at a place of a structure that has it.
pub(super) fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + what.len()) {
        place.copy_from_slice(what);
    }
}

/// The checksum of a structure, which counts its own place as zeroes.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    let (front, rest) = bytes.split_at(CHECKSUM.min(bytes.len()));
    Crc32c::default().with(front).with(&[0; 4]).with(rest.get(4..).unwrap_or_default()).sum()
}

/// Whether a structure has this signature and the checksum of its bytes.
pub(super) fn is_sound(bytes: &[u8], signature: &[u8; 4]) -> bool {
    bytes.starts_with(signature) && u32_at(bytes, CHECKSUM) == checksum(bytes)
}

/// Stores the checksum of a structure in it.
pub(super) fn seal(bytes: &mut [u8]) {
    let sum = checksum(bytes);
    put(bytes, CHECKSUM, &sum.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_stored_with_their_first_groups_turned() {
        let text = "{2DC27766-F623-4200-9D64-115E9BFD4A08}";
        let stored =
            [0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0, 0x42, 0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 8];
        assert_eq!(Guid::parse(text), Some(Guid(stored)));
        assert_eq!(Guid::of(0x2dc2_7766_f623_4200, 0x9d64_115e_9bfd_4a08), Guid(stored));
        assert_eq!(Guid::parse("{2DC27766}"), None);
        assert_eq!(Guid::random().0[7] >> 4, 4);
    }
}
