//! Entries of the log, as they are stored.
//!
//! ```text
//!  header, descriptors │ a sector of data │ a sector of data │ …        each 4 KiB
//! ```
//!
//! An entry says what is to be where in the file: sectors of 4 KiB, or zeroes. Of a sector the first eight bytes and the last four
//! are in its descriptor; in their place are a signature, and two halves of the sequence number which show that it was stored whole.
//! Specification: MS-VHDX 2.3.
use super::words::{Guid, array_at, guid_at, put, seal, u32_at, u64_at};

/// Bytes of everything in a log, and of what an entry stores.
pub(super) const SECTOR: usize = 4096;
/// Bytes of the header, and of a descriptor.
const HEADER: usize = 64;
const DESCRIPTOR: usize = 32;
const SIGNATURE: &[u8; 4] = b"loge";
const DATA: &[u8; 4] = b"data";

/// What the header of an entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EntryHeader {
    /// Bytes of the entry.
    pub len: u32,
    /// Where in the log the first entry is that is needed if this one is the last.
    pub tail: u32,
    pub sequence: u64,
    pub descriptors: u32,
    /// As in the header of an image whose log it is in.
    pub log: Guid,
    /// Bytes of the file that were durable when it was stored.
    pub flushed: u64,
    /// Bytes that the file has afterwards.
    pub last: u64,
}

/// What is to be at a place of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Descriptor {
    /// Zeroes.
    Zero { offset: u64, len: u64 },
    /// A sector, of which these are the first and last bytes.
    Data { offset: u64, leading: [u8; 8], trailing: [u8; 4] },
}

impl EntryHeader {
    /// Reads the header of what may be an entry.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let header = Self {
            len: u32_at(bytes, 8),
            tail: u32_at(bytes, 12),
            sequence: u64_at(bytes, 16),
            descriptors: u32_at(bytes, 24),
            log: guid_at(bytes, 32),
            flushed: u64_at(bytes, 48),
            last: u64_at(bytes, 56),
        };
        let aligned = header.len.is_multiple_of(SECTOR as u32) && header.tail.is_multiple_of(SECTOR as u32);
        let fits = front_len(header.descriptors) <= u64::from(header.len);
        (bytes.starts_with(SIGNATURE) && aligned && fits && header.sequence > 0).then_some(header)
    }
}

/// Bytes of the header with so many descriptors behind it.
pub(super) fn front_len(descriptors: u32) -> u64 {
    (HEADER as u64 + u64::from(descriptors) * DESCRIPTOR as u64).next_multiple_of(SECTOR as u64)
}

/// Where in an entry its descriptor of this number is.
pub(super) fn place_of(descriptor: u32) -> u64 {
    HEADER as u64 + u64::from(descriptor) * DESCRIPTOR as u64
}

impl Descriptor {
    /// Reads a descriptor of an entry of this number.
    pub fn parse(bytes: &[u8], sequence: u64) -> Option<Self> {
        let offset = u64_at(bytes, 16);
        if u64_at(bytes, 24) != sequence || !offset.is_multiple_of(SECTOR as u64) {
            return None;
        }
        match &array_at(bytes, 0) {
            b"zero" => Some(Self::Zero { offset, len: u64_at(bytes, 8) }),
            b"desc" => Some(Self::Data { offset, leading: array_at(bytes, 8), trailing: array_at(bytes, 4) }),
            _ => None,
        }
    }
}

/// Makes the sector that an entry stores of what is in the log; tells whether that is one of this entry.
pub(super) fn restore(bytes: &mut [u8], leading: [u8; 8], trailing: [u8; 4], sequence: u64) -> bool {
    let whole = bytes.starts_with(DATA)
        && u32_at(bytes, 4) == (sequence >> 32) as u32
        && u32_at(bytes, SECTOR - 4) == sequence as u32;
    put(bytes, 0, &leading);
    put(bytes, SECTOR - 4, &trailing);
    whole
}

/// Bytes of an entry that stores so many sectors.
pub(super) fn entry_len(sectors: usize) -> u64 {
    front_len(sectors as u32) + (sectors * SECTOR) as u64
}

/// An entry that stores these sectors at their byte offsets. Its length and the number of its descriptors follow from them.
pub(super) fn entry(header: EntryHeader, sectors: &[(u64, &[u8])]) -> Vec<u8> {
    let front = front_len(sectors.len() as u32) as usize;
    let mut bytes = vec![0; front + sectors.len() * SECTOR];
    let len = bytes.len() as u32;
    put(&mut bytes, 0, SIGNATURE);
    put(&mut bytes, 8, &len.to_le_bytes());
    put(&mut bytes, 12, &header.tail.to_le_bytes());
    put(&mut bytes, 16, &header.sequence.to_le_bytes());
    put(&mut bytes, 24, &(sectors.len() as u32).to_le_bytes());
    put(&mut bytes, 32, &header.log.0);
    put(&mut bytes, 48, &header.flushed.to_le_bytes());
    put(&mut bytes, 56, &header.last.to_le_bytes());
    for (number, (offset, sector)) in sectors.iter().enumerate() {
        let (at, data) = (place_of(number as u32) as usize, front + number * SECTOR);
        put(&mut bytes, at, b"desc");
        put(&mut bytes, at + 4, &array_at::<4>(sector, SECTOR - 4));
        put(&mut bytes, at + 8, &array_at::<8>(sector, 0));
        put(&mut bytes, at + 16, &offset.to_le_bytes());
        put(&mut bytes, at + 24, &header.sequence.to_le_bytes());
        put(&mut bytes, data, sector);
        put(&mut bytes, data, DATA);
        put(&mut bytes, data + 4, &((header.sequence >> 32) as u32).to_le_bytes());
        put(&mut bytes, data + SECTOR - 4, &(header.sequence as u32).to_le_bytes());
    }
    seal(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::words::is_sound;
    use super::*;

    #[test]
    fn what_an_entry_stores_comes_out() {
        let log = Guid::random();
        let header = EntryHeader {
            len: 0,
            tail: 8192,
            sequence: 1 << 40 | 5,
            descriptors: 0,
            log,
            flushed: 7,
            last: 9,
        };
        let sector: Vec<u8> = (0..SECTOR).map(|byte| (byte / 3) as u8 ^ 0x5a).collect();
        let sectors: Vec<(u64, &[u8])> =
            (0..127).map(|number| (number * SECTOR as u64, &sector[..])).collect();
        for count in [0, 1, 126, 127] {
            let bytes = entry(header, &sectors[..count]);
            assert_eq!(bytes.len() as u64, entry_len(count));
            assert!(is_sound(&bytes, SIGNATURE));
            let parsed = EntryHeader::parse(&bytes).unwrap();
            assert_eq!(parsed, EntryHeader { len: bytes.len() as u32, descriptors: count as u32, ..header });
            for (number, (offset, sector)) in sectors[..count].iter().enumerate() {
                let at = place_of(number as u32) as usize;
                let Some(Descriptor::Data { offset: to, leading, trailing }) =
                    Descriptor::parse(&bytes[at..], header.sequence)
                else {
                    panic!("no descriptor");
                };
                let data = front_len(count as u32) as usize + number * SECTOR;
                let mut stored = bytes[data..data + SECTOR].to_vec();
                assert!(restore(&mut stored, leading, trailing, header.sequence));
                assert_eq!((to, &stored[..]), (*offset, *sector));
            }
        }
    }
}
