//! The footer, which every image ends with, and which a dynamic one begins with, too.
//!
//! All numbers are big-endian. The checksum is the complement of the sum of all bytes but its own.
//! Specification: VHD 1.0, "Hard Disk Footer Format".
use super::geometry::Geometry;

/// Bytes of a footer.
pub(super) const FOOTER: usize = 512;
/// What a footer begins with.
pub(super) const COOKIE: &[u8; 8] = b"conectix";
/// The header's offset in an image that has none.
pub(super) const NO_HEADER: u64 = u64::MAX;
const CHECKSUM: usize = 64;

/// What an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The disk as it is, and its footer.
    Fixed,
    /// Blocks of the disk as far as something was written there.
    Dynamic,
    /// The same, over another image.
    Differencing,
}

/// What a footer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Footer {
    pub kind: Kind,
    /// Byte offset of the dynamic header.
    pub header: u64,
    /// Seconds since 2000.
    pub timestamp: u32,
    /// The program that made the image.
    pub creator: [u8; 4],
    /// Stated size in bytes.
    pub current_size: u64,
    pub geometry: Geometry,
    pub id: [u8; 16],
    /// As they are in the file: what is not known here stays so.
    pub bytes: [u8; FOOTER],
}

/// Why bytes are no footer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoFooter {
    /// Something else.
    #[error("there is no footer")]
    Cookie,
    /// The checksum is that of other bytes.
    #[error("the checksum of the footer is {stored:#x} and should be {sum:#x}")]
    Checksum { stored: u32, sum: u32 },
    /// Another type of disk.
    #[error("the footer is of a disk of type {0}; there are 2 (fixed), 3 (dynamic) and 4 (differencing)")]
    Kind(u32),
}

/// The big-endian number at a place of a structure.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |number| u32::from_be_bytes(*number))
}

/// The same of 64 bits.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |number| u64::from_be_bytes(*number))
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

/// Puts bytes at a place of a structure that has it.
pub(super) fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + what.len()) {
        place.copy_from_slice(what);
    }
}

/// The checksum of a structure that has it at `at`.
pub(super) fn checksum(bytes: &[u8], at: usize) -> u32 {
    let counts = |(place, _): &(usize, &u8)| !(at..at + 4).contains(place);
    !bytes.iter().enumerate().filter(counts).map(|(_, byte)| u32::from(*byte)).sum::<u32>()
}

impl Footer {
    /// Reads a footer; early ones lack the last byte.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoFooter> {
        if !bytes.starts_with(COOKIE) {
            return Err(NoFooter::Cookie);
        }
        let mut whole = [0; FOOTER];
        whole.iter_mut().zip(bytes).for_each(|(to, byte)| *to = *byte);
        let (stored, sum) = (u32_at(&whole, CHECKSUM), checksum(&whole, CHECKSUM));
        if stored != sum {
            return Err(NoFooter::Checksum { stored, sum });
        }
        let kind = match u32_at(&whole, 60) {
            2 => Kind::Fixed,
            3 => Kind::Dynamic,
            4 => Kind::Differencing,
            other => return Err(NoFooter::Kind(other)),
        };
        let [high, low, heads, sectors] = array_at(&whole, 56);
        Ok(Self {
            kind,
            header: u64_at(&whole, 16),
            timestamp: u32_at(&whole, 24),
            creator: array_at(&whole, 28),
            current_size: u64_at(&whole, 48),
            geometry: Geometry { cylinders: u16::from_be_bytes([high, low]), heads, sectors },
            id: array_at(&whole, 68),
            bytes: whole,
        })
    }

    /// The footer of a new image, with its bytes.
    pub fn new(
        kind: Kind,
        creator: [u8; 4],
        size: u64,
        geometry: Geometry,
        id: [u8; 16],
        timestamp: u32,
    ) -> Self {
        let header = if kind == Kind::Fixed { NO_HEADER } else { FOOTER as u64 };
        let mut bytes = [0; FOOTER];
        let mut put = |at, what: &[u8]| put(&mut bytes, at, what);
        put(0, COOKIE);
        // Bit 1 is reserved, and set; the version of the format is 1.0.
        put(8, &2u32.to_be_bytes());
        put(12, &0x1_0000u32.to_be_bytes());
        put(16, &header.to_be_bytes());
        put(24, &timestamp.to_be_bytes());
        put(28, &creator);
        put(32, &0x5_0003u32.to_be_bytes());
        put(36, b"Wi2k");
        put(40, &size.to_be_bytes());
        put(48, &size.to_be_bytes());
        put(56, &geometry.cylinders.to_be_bytes());
        put(58, &[geometry.heads, geometry.sectors]);
        put(60, &(if kind == Kind::Fixed { 2u32 } else { 3 }).to_be_bytes());
        put(68, &id);
        let sum = checksum(&bytes, CHECKSUM);
        self::put(&mut bytes, CHECKSUM, &sum.to_be_bytes());
        Self { kind, header, timestamp, creator, current_size: size, geometry, id, bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_footer_says_what_it_was_made_of() {
        let geometry = Geometry { cylinders: 0x821, heads: 16, sectors: 63 };
        for kind in [Kind::Fixed, Kind::Dynamic] {
            let made = Footer::new(kind, *b"qemu", 0x4003_e000, geometry, [7; 16], 5);
            assert_eq!(Footer::parse(&made.bytes), Ok(made.clone()));
            assert_eq!(Footer::parse(&made.bytes[..511]), Ok(made.clone()), "an early one");
            let mut damaged = made.bytes;
            damaged[200] ^= 1;
            assert!(matches!(Footer::parse(&damaged), Err(NoFooter::Checksum { .. })));
        }
        assert_eq!(Footer::parse(&[0; 512]), Err(NoFooter::Cookie));
        assert_eq!(Footer::parse(b"con"), Err(NoFooter::Cookie));
    }
}
