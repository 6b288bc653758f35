//! Headers of sparse files: where their tables are, and how large everything is.
//!
//! ```text
//!  KDMV  hosted products   one sector; tables of 32-bit sectors, two copies of each, or none of it before the end
//!  COWD  older ESX hosts   four sectors; tables of 32-bit sectors
//!  SE    today's ESX hosts one sector; tables of 64-bit words (`se_sparse`)
//! ```
//!
//! All numbers are little-endian. Nothing here is believed before it was held against the file's length.
//! Specification: VMware Virtual Disk Format 1.1, "Hosted Sparse Extents" and "ESX Server Sparse Extents".
use block::BlockError;

/// Bytes of a sector.
pub const SECTOR: u64 = 512;
/// Where the directory is when it stands at the end, before the footer.
pub const AT_END: u64 = u64::MAX;
/// Most entries of a directory.
const MOST_TABLES: u64 = 32 << 20;
/// Most sectors of a grain.
const MOST_GRAIN: u64 = 0x20_0000;
/// Most sectors of a compressed grain: it is decoded whole, in memory.
const MOST_COMPRESSED: u64 = 0x2_0000;
/// Entries of a table of older ESX hosts.
const COWD_ENTRIES: u64 = 4096;

const VALID_NEWLINES: u32 = 1;
const REDUNDANT: u32 = 1 << 1;
const ZEROED_GRAINS: u32 = 1 << 2;
const COMPRESSED: u32 = 1 << 16;
const MARKERS: u32 = 1 << 17;

/// Where the mark of a file that is being written stands in a hosted header.
pub const UNCLEAN_AT: usize = 72;
const DIRECTORY_AT: usize = 56;

/// The header of a hosted sparse file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosted {
    pub version: u32,
    flags: u32,
    /// Sectors of the disk.
    pub capacity: u64,
    /// Sectors of a grain.
    pub grain: u64,
    /// First sector of the descriptor, and how many it has; 0: there is none.
    pub descriptor: (u64, u64),
    /// Entries of a table.
    pub entries: u64,
    /// First sector of the second directory.
    pub redundant: u64,
    /// First sector of the directory, or [`AT_END`].
    pub directory: u64,
    /// Sectors before the first grain.
    pub overhead: u64,
    /// It is being written, or was not closed.
    pub unclean: bool,
    compression: u16,
}

impl Hosted {
    /// What images are made with.
    pub fn new(capacity: u64, zeroed: bool) -> Self {
        let zeroed_grains = if zeroed { ZEROED_GRAINS } else { 0 };
        Self {
            version: if zeroed { 2 } else { 1 },
            flags: VALID_NEWLINES | REDUNDANT | zeroed_grains,
            capacity,
            grain: 128,
            descriptor: (0, 0),
            entries: 512,
            redundant: 0,
            directory: 0,
            overhead: 0,
            unclean: false,
            compression: 0,
        }
    }

    /// The same for a stream of compressed grains, which has one copy of its tables.
    pub fn stream(capacity: u64, zeroed: bool) -> Self {
        let plain = Self::new(capacity, zeroed);
        Self { version: 3, flags: plain.flags & !REDUNDANT | COMPRESSED | MARKERS, compression: 1, ..plain }
    }

    /// Reads a header's sector.
    pub fn parse(sector: &[u8]) -> Option<Self> {
        sector.strip_prefix(b"KDMV")?;
        Some(Self {
            version: u32_at(sector, 4)?,
            flags: u32_at(sector, 8)?,
            capacity: u64_at(sector, 12)?,
            grain: u64_at(sector, 20)?,
            descriptor: (u64_at(sector, 28)?, u64_at(sector, 36)?),
            entries: u32_at(sector, 44)?.into(),
            redundant: u64_at(sector, 48)?,
            directory: u64_at(sector, DIRECTORY_AT)?,
            overhead: u64_at(sector, 64)?,
            unclean: *sector.get(UNCLEAN_AT)? != 0,
            compression: u16::from_le_bytes(*sector.get(77..)?.first_chunk()?),
        })
    }

    /// The whole sector.
    pub fn bytes(&self) -> Vec<u8> {
        let mut sector = b"KDMV".to_vec();
        sector.extend([self.version, self.flags].into_iter().flat_map(u32::to_le_bytes));
        let (at, len) = self.descriptor;
        sector.extend([self.capacity, self.grain, at, len].into_iter().flat_map(u64::to_le_bytes));
        sector.extend((self.entries as u32).to_le_bytes());
        let places = [self.redundant, self.directory, self.overhead];
        sector.extend(places.into_iter().flat_map(u64::to_le_bytes));
        sector.push(self.unclean.into());
        sector.extend(b"\n \r\n");
        sector.extend(self.compression.to_le_bytes());
        sector.resize(SECTOR as usize, 0);
        sector
    }

    /// Whether grains are compressed.
    pub fn is_compressed(&self) -> bool {
        self.compression != 0
    }

    /// Whether each grain and table has a marker in front.
    pub fn has_markers(&self) -> bool {
        self.flags & MARKERS != 0
    }

    /// The same with its one directory at this sector.
    #[must_use]
    pub fn with_directory(&self, directory: u64) -> Self {
        Self { flags: self.flags & !REDUNDANT, redundant: 0, directory, ..self.clone() }
    }

    /// What the tables are, in bytes. Refuses what can't be.
    pub fn shape(&self) -> Result<Shape, BlockError> {
        if self.version > 3 {
            return Err(BlockError::unsupported(format!("Unsupported VMDK version {}", self.version)));
        }
        if self.compression > 1 {
            let text = format!("the compression algorithm {} is unknown", self.compression);
            return Err(BlockError::unsupported(text));
        }
        if self.is_compressed() && self.grain > MOST_COMPRESSED {
            let text =
                format!("compressed grains of {} sectors are too large: 64 MiB are the most", self.grain);
            return Err(BlockError::unsupported(text));
        }
        if self.entries > 512 {
            return Err(BlockError::corrupt(format!("L2 table size too big ({} entries)", self.entries)));
        }
        let redundant = self.flags & REDUNDANT != 0 && self.redundant != 0;
        let shape = Shape::new(self.capacity, self.grain, self.entries, self.directory)?;
        let redundant = redundant.then(|| sectors(self.redundant)).transpose()?;
        let zeroed = self.flags & ZEROED_GRAINS != 0;
        let (at, len) = self.descriptor;
        let descriptor = (at != 0 && len != 0)
            .then(|| Ok::<_, BlockError>((sectors(at)?, sectors(at.saturating_add(len))?)));
        let (descriptor, first) = (descriptor.transpose()?, sectors(self.overhead)?);
        Ok(Shape { redundant, zeroed, first, descriptor, ..shape })
    }
}

/// What the tables of a sparse file are, in bytes.
///
/// ```text
///  directory: one entry a table ──▶ table: one entry a grain ──▶ grain
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of the disk.
    pub len: u64,
    /// log2 of the bytes of a grain.
    pub grain_bits: u32,
    /// Entries of a table.
    pub entries: u64,
    /// Where the directory is.
    pub directory: u64,
    /// Where the second one is.
    pub redundant: Option<u64>,
    /// The entry 1 is a grain of zeroes.
    pub zeroed: bool,
    /// No grain begins before this.
    pub first: u64,
    /// The first byte of the descriptor, and the one behind it, where the file has one.
    pub descriptor: Option<(u64, u64)>,
}

impl Shape {
    /// Of these sectors.
    pub fn new(capacity: u64, grain: u64, entries: u64, directory: u64) -> Result<Self, BlockError> {
        if !grain.is_power_of_two() || grain > MOST_GRAIN {
            return Err(BlockError::corrupt(format!(
                "Invalid granularity, image may be corrupt (grains of {grain} sectors)"
            )));
        }
        if entries == 0 {
            return Err(BlockError::corrupt("L1 entry size is invalid (tables without entries)"));
        }
        let tables = capacity.div_ceil(grain * entries);
        if tables > MOST_TABLES {
            return Err(BlockError::corrupt(format!("L1 size too big ({tables} tables)")));
        }
        let directory = if directory == AT_END { AT_END } else { sectors(directory)? };
        let grain_bits = (grain * SECTOR).trailing_zeros();
        Ok(Self {
            len: sectors(capacity)?,
            grain_bits,
            entries,
            directory,
            redundant: None,
            zeroed: false,
            first: SECTOR,
            descriptor: None,
        })
    }

    /// Bytes of a grain.
    pub fn grain(&self) -> u64 {
        1 << self.grain_bits
    }

    /// Bytes of the disk that a table is for.
    pub fn span(&self) -> u64 {
        self.entries << self.grain_bits
    }

    /// How many tables there are.
    pub fn tables(&self) -> u64 {
        self.len.div_ceil(self.span())
    }

    /// Bytes of a table.
    pub fn table_len(&self) -> u64 {
        self.entries * 4
    }
}

/// Reads the header of a sparse file of older ESX hosts.
pub fn cowd(sector: &[u8]) -> Option<Result<Shape, BlockError>> {
    sector.strip_prefix(b"COWD")?;
    let field = |at| u32_at(sector, at).map(u64::from);
    let (capacity, grain, directory, tables) = (field(12)?, field(16)?, field(20)?, field(24)?);
    Some(Shape::new(capacity, grain, COWD_ENTRIES, directory).and_then(|shape| {
        if tables < shape.tables() {
            let text = format!("the directory has {tables} entries, and {} are needed", shape.tables());
            return Err(BlockError::corrupt(text));
        }
        Ok(shape)
    }))
}

/// Sectors as bytes.
pub fn sectors(count: u64) -> Result<u64, BlockError> {
    let bytes = count.checked_mul(SECTOR).filter(|bytes| i64::try_from(*bytes).is_ok());
    bytes.ok_or_else(|| BlockError::corrupt(format!("{count} sectors are more than a file can have")))
}

pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written() {
        for header in [Hosted::new(204_800, false), Hosted::new(7, true), Hosted::stream(5, false)] {
            let header = Hosted { directory: 38, redundant: 21, overhead: 128, unclean: true, ..header };
            let bytes = header.bytes();
            assert_eq!((bytes.len(), Hosted::parse(&bytes)), (512, Some(header)));
            assert_eq!((bytes[UNCLEAN_AT], bytes[DIRECTORY_AT]), (1, 38));
        }
        assert_eq!(Hosted::parse(b"KDMV\x01"), None);
    }

    #[test]
    fn what_can_not_be_is_refused() {
        let sound = Hosted { directory: 38, overhead: 128, ..Hosted::new(204_800, false) };
        let shape = sound.shape().unwrap();
        assert_eq!((shape.tables(), shape.grain(), shape.span(), shape.first), (4, 65536, 32 << 20, 65536));
        let wrong = [
            Hosted { grain: 0, ..sound.clone() },
            Hosted { grain: 3, ..sound.clone() },
            Hosted { grain: 1 << 22, ..sound.clone() },
            Hosted { entries: 0, ..sound.clone() },
            Hosted { entries: 513, ..sound.clone() },
            Hosted { version: 4, ..sound.clone() },
            Hosted { compression: 2, ..sound.clone() },
            Hosted { compression: 1, grain: 1 << 18, ..sound.clone() },
            Hosted { capacity: u64::MAX, ..sound.clone() },
            Hosted { directory: u64::MAX - 1, ..sound.clone() },
            Hosted { overhead: u64::MAX, ..sound },
        ];
        for header in wrong {
            assert!(header.shape().is_err(), "{header:?}");
        }
    }
}
