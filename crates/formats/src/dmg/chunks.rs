//! What an image consists of: chunks, each a range of the disk and where its bytes are.
//!
//! ```text
//!  table: "mish", first sector, data offset, … │ chunk: kind, sector, sectors, offset, length │ chunk │ …
//! ```
//!
//! Chunks do not overlap. They are held in memory, sorted: at most as many as fit into the tables ([`super::MOST_TABLES`]), 40
//! bytes each. Description: <https://keramics.github.io/udif.html>.
use super::SECTOR;
use super::fields::{long, word};
use crate::read_only::{MOST_UNIT, most_stream};
use codec::Algorithm;
use std::fmt;
use std::io::Read;

/// Bytes of a table in front of its chunks.
const TABLE: usize = 204;
/// Bytes of a chunk in a table.
const ENTRY: usize = 40;

/// How a chunk's bytes are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// Not at all: it is zero.
    Nowhere,
    Plain,
    Packed(Algorithm),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// First byte of the disk.
    pub start: u64,
    /// Bytes of the disk.
    pub len: u64,
    /// Byte offset in the file.
    pub offset: u64,
    /// Bytes in the file.
    pub stored: u64,
    pub how: Stored,
}

impl Chunk {
    pub fn end(self) -> u64 {
        self.start + self.len
    }
}

impl fmt::Display for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the chunk at byte {:#x} of the disk", self.start)
    }
}

/// What is wrong with a table.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    #[error("it does not begin as a table of version 1 does")]
    Magic,
    #[error("it is damaged or cut off: {0}")]
    Read(#[from] std::io::Error),
    #[error("chunk {0}: {1}")]
    Chunk(u32, #[source] ChunkError),
    #[error("all tables together have more than {} bytes", super::MOST_TABLES)]
    Together,
}

/// What is wrong with a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    #[error("its kind {0:#x} is not known")]
    Kind(u32),
    #[error("{1} sectors from sector {0} on can't be")]
    Sectors(u64, u64),
    #[error("{1} bytes at offset {0:#x} of the file can't be")]
    Offset(u64, u64),
    #[error("it has {0} bytes, of which only {1} are stored")]
    Short(u64, u64),
    #[error("it has {0} bytes; a compressed one has at most {MOST_UNIT}")]
    Long(u64),
    #[error("its stream has {1} bytes, far more than the {0} it is for")]
    Stream(u64, u64),
}

/// Two chunks that have some of the disk in common: the byte offsets in the disk where they begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the chunks at {0:#x} and {1:#x} of the disk overlap")]
pub struct Overlap(u64, u64);

/// All chunks of an image.
pub struct Chunks {
    /// What offsets in the tables count from.
    data_fork: u64,
    chunks: Vec<Chunk>,
    /// Bytes that further tables may have: a resource fork can name one table many times.
    room: u64,
}

impl Chunks {
    pub fn new(data_fork: u64) -> Self {
        Self { data_fork, chunks: Vec::new(), room: super::MOST_TABLES }
    }

    fn take(&mut self, bytes: usize) -> Result<(), TableError> {
        self.room = self.room.checked_sub(bytes as u64).ok_or(TableError::Together)?;
        Ok(())
    }

    /// Adds the chunks of a table.
    pub fn add_table(&mut self, mut table: impl Read) -> Result<(), TableError> {
        self.take(TABLE)?;
        let mut header = [0; TABLE];
        table.read_exact(&mut header)?;
        if !header.starts_with(b"mish\0\0\0\x01") {
            return Err(TableError::Magic);
        }
        for number in 0..word(&header, 200) {
            self.take(ENTRY)?;
            let mut entry = [0; ENTRY];
            table.read_exact(&mut entry)?;
            let chunk = self.chunk(&header, &entry).map_err(|e| TableError::Chunk(number, e))?;
            self.chunks.extend(chunk);
        }
        Ok(())
    }

    /// A chunk, unless the entry is none.
    fn chunk(&self, table: &[u8], entry: &[u8]) -> Result<Option<Chunk>, ChunkError> {
        let how = match word(entry, 0) {
            0 | 2 => Stored::Nowhere,
            1 => Stored::Plain,
            0x8000_0004 => Stored::Packed(Algorithm::Adc),
            0x8000_0005 => Stored::Packed(Algorithm::Zlib),
            0x8000_0006 => Stored::Packed(Algorithm::Bzip2),
            0x8000_0007 => Stored::Packed(Algorithm::Lzfse),
            0x8000_0008 => Stored::Packed(Algorithm::Xz),
            // A comment, and the end.
            0x7fff_fffe | 0xffff_ffff => return Ok(None),
            other => return Err(ChunkError::Kind(other)),
        };
        let (sector, sectors) = (long(entry, 8), long(entry, 16));
        let wrong = ChunkError::Sectors(sector, sectors);
        let start = sector.checked_add(long(table, 8)).and_then(|sector| sector.checked_mul(SECTOR));
        let (start, len) = (start.ok_or(wrong)?, sectors.checked_mul(SECTOR).ok_or(wrong)?);
        start.checked_add(len).filter(|end| *end <= i64::MAX as u64).ok_or(wrong)?;
        if len == 0 {
            return Ok(None);
        }
        if how == Stored::Nowhere {
            return Ok(Some(Chunk { start, len, offset: 0, stored: 0, how }));
        }
        let (offset, stored) = (long(entry, 24), long(entry, 32));
        let wrong = ChunkError::Offset(offset, stored);
        let offset =
            offset.checked_add(long(table, 24)).and_then(|offset| offset.checked_add(self.data_fork));
        let offset = offset.ok_or(wrong)?;
        offset.checked_add(stored).filter(|end| *end <= i64::MAX as u64).ok_or(wrong)?;
        match how {
            Stored::Plain if stored < len => Err(ChunkError::Short(len, stored)),
            Stored::Packed(_) if len > MOST_UNIT => Err(ChunkError::Long(len)),
            Stored::Packed(_) if stored > most_stream(len) => Err(ChunkError::Stream(len, stored)),
            _ => Ok(Some(Chunk { start, len, offset, stored, how })),
        }
    }

    /// Brings all into their order. To be called when the last table was added.
    pub fn sort(&mut self) -> Result<(), Overlap> {
        self.chunks.sort_unstable_by_key(|chunk| chunk.start);
        let overlap = self.chunks.windows(2).find_map(|pair| match pair {
            [a, b] if a.end() > b.start => Some(Overlap(a.start, b.start)),
            _ => None,
        });
        overlap.map_or(Ok(()), Err)
    }

    /// The chunk that a byte of the disk lies in, with its number, and those that follow.
    pub fn from(&self, at: u64) -> impl Iterator<Item = (usize, Chunk)> {
        let first = self.chunks.partition_point(|chunk| chunk.end() <= at);
        let following = self.chunks.iter().copied().enumerate().skip(first);
        let mut next = at;
        following.take_while(move |(_, chunk)| {
            let follows = chunk.start <= next;
            next = chunk.end();
            follows
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table whose offsets count from sector 100 and byte 1000, with these chunks: kind, sector, sectors, offset, length.
    fn table(entries: &[(u32, [u64; 4])]) -> Vec<u8> {
        let mut table = vec![0; TABLE];
        table[..8].copy_from_slice(b"mish\0\0\0\x01");
        table[8..16].copy_from_slice(&100u64.to_be_bytes());
        table[24..32].copy_from_slice(&1000u64.to_be_bytes());
        table[200..204].copy_from_slice(&(entries.len() as u32).to_be_bytes());
        for (kind, fields) in entries {
            table.extend(kind.to_be_bytes());
            table.extend([0; 4]);
            fields.iter().for_each(|field| table.extend(field.to_be_bytes()));
        }
        table
    }

    fn one(kind: u32, fields: [u64; 4]) -> Result<(), TableError> {
        Chunks::new(7).add_table(&*table(&[(kind, fields)]))
    }

    #[test]
    fn chunks_are_found_and_end_at_a_gap() {
        let mut chunks = Chunks::new(7);
        let entries = [
            (0x8000_0005, [8, 8, 20, 30]),
            (1, [0, 8, 10, 4096]),
            (0x7fff_fffe, [0, 99, 0, 0]),
            (2, [32, 1, 0, 0]),
            (0, [33, 0, 0, 0]),
            (u32::MAX, [40, 0, 0, 0]),
        ];
        chunks.add_table(&*table(&entries)).unwrap();
        chunks.sort().unwrap();
        let at = |sector| chunks.from(sector * SECTOR).map(|(_, chunk)| chunk).collect::<Vec<_>>();
        let plain =
            Chunk { start: 100 * SECTOR, len: 8 * SECTOR, offset: 1017, stored: 4096, how: Stored::Plain };
        assert_eq!(at(107)[0], plain);
        assert_eq!(at(107).len(), 2);
        assert_eq!(at(108)[0].how, Stored::Packed(Algorithm::Zlib));
        assert_eq!(at(116), []);
        assert_eq!(at(132)[0].how, Stored::Nowhere);
        assert_eq!((at(99), at(133)), (vec![], vec![]));
    }

    #[test]
    fn what_can_t_be_is_refused() {
        for (kind, fields) in [
            (3, [0, 1, 0, 512]),
            (0, [u64::MAX, 1, 0, 0]),
            (0, [0, 1 << 55, 0, 0]),
            (1, [0, 1, u64::MAX - 1000, 512]),
            (1, [0, 1, 1, u64::MAX]),
            (1, [0, 2, 0, 1023]),
            (0x8000_0005, [0, 131_073, 0, 1]),
            (0x8000_0006, [0, 1, 0, 8193]),
        ] {
            assert!(matches!(one(kind, fields), Err(TableError::Chunk(0, _))), "{kind:#x} {fields:?}");
        }
        let mut cut_off = table(&[(0, [0, 1, 0, 0])]);
        cut_off[200] = 0xff;
        assert!(matches!(Chunks::new(0).add_table(&*cut_off), Err(TableError::Read(_))));
        cut_off[3] = b's';
        assert!(matches!(Chunks::new(0).add_table(&*cut_off), Err(TableError::Magic)));
    }

    #[test]
    fn chunks_that_overlap_are_refused() {
        let mut chunks = Chunks::new(0);
        chunks.add_table(&*table(&[(0, [0, 2, 0, 0]), (0, [5, 5, 0, 0]), (0, [1, 2, 0, 0])])).unwrap();
        assert_eq!(chunks.sort(), Err(Overlap(100 * SECTOR, 101 * SECTOR)));
    }
}
