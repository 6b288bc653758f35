//! The header of a Parallels image: 64 bytes, little-endian, right in front of the table.
//!
//! ```text
//!  0 magic │ 16 version │ 20 heads, cylinders │ 28 sectors a cluster │ 32 entries │ 36 sectors (u64) │ 44 in use
//!  48 first sector of data │ 52 flags │ 56 first sector of the extension (u64)
//! ```
//!
//! Specification: parallels.rst, "Header", "BAT".

/// Bytes of the header.
pub const LEN: usize = 64;
pub const SECTOR: u64 = 512;

/// Entries count sectors.
pub const MAGIC_1: &[u8; 16] = b"WithoutFreeSpace";
/// Entries count clusters.
pub const MAGIC_2: &[u8; 16] = b"WithouFreSpacExt";

const VERSION: u32 = 2;
/// In `in use`: a program has the image open for writing.
const IN_USE: u32 = 0x746f_6e59;
/// In `flags`: nothing is in the image.
const EMPTY: u32 = 1;
/// Most entries of a table.
pub const MOST_ENTRIES: u32 = 0x1fff_ffff;
/// Most sectors of a cluster.
const MOST_CLUSTER: u32 = (i32::MAX / 513) as u32;

/// What an entry counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Sectors,
    Clusters,
}

/// A header that was judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    bytes: [u8; LEN],
    pub unit: Unit,
    /// Bytes of a cluster.
    pub cluster: u64,
    /// Entries of the table.
    pub entries: u32,
    /// Virtual size in bytes.
    pub size: u64,
    /// Byte offset of the first cluster, as it must be where the header is wrong.
    pub data: u64,
    /// The header has another offset.
    pub data_is_wrong: bool,
}

/// What is wrong with a header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("the file does not begin as a Parallels image of version 2 does")]
    Magic,
    #[error("a cluster has {0} sectors; it must have some, and at most {MOST_CLUSTER}")]
    Cluster(u32),
    #[error("the table has {0} entries, more than {MOST_ENTRIES}")]
    Entries(u32),
    #[error("the disk has {sectors} sectors, more than its {entries} clusters of {cluster} bytes hold")]
    Size { sectors: u64, entries: u32, cluster: u64 },
}

/// Where the table ends, in bytes.
fn table_end(entries: u32) -> u64 {
    LEN as u64 + u64::from(entries) * 4
}

impl Header {
    pub fn parse(bytes: [u8; LEN]) -> Result<Self, HeaderError> {
        let word = |at: usize| {
            bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u32::from_le_bytes(*word))
        };
        let unit = match bytes.first_chunk() {
            Some(MAGIC_1) => Unit::Sectors,
            Some(MAGIC_2) => Unit::Clusters,
            _ => return Err(HeaderError::Magic),
        };
        if word(16) != VERSION {
            return Err(HeaderError::Magic);
        }
        let tracks = word(28);
        if tracks == 0 || tracks > MOST_CLUSTER {
            return Err(HeaderError::Cluster(tracks));
        }
        let (cluster, entries) = (u64::from(tracks) * SECTOR, word(32));
        if entries > MOST_ENTRIES {
            return Err(HeaderError::Entries(entries));
        }
        let high = if unit == Unit::Clusters { u64::from(word(40)) << 32 } else { 0 };
        let sectors = u64::from(word(36)) | high;
        let size = sectors.checked_mul(SECTOR).filter(|size| *size <= u64::from(entries) * cluster);
        let size = size.ok_or(HeaderError::Size { sectors, entries, cluster })?;
        let (stated, end) = (u64::from(word(48)) * SECTOR, table_end(entries));
        let right = match unit {
            Unit::Sectors => stated >= end,
            Unit::Clusters => stated >= end && stated.is_multiple_of(cluster),
        };
        let data = match unit {
            _ if right => stated,
            Unit::Sectors => end.next_multiple_of(SECTOR),
            Unit::Clusters => end.next_multiple_of(cluster),
        };
        let data_is_wrong = !right && (stated != 0 || unit == Unit::Clusters);
        Ok(Self { bytes, unit, cluster, entries, size, data, data_is_wrong })
    }

    /// The header of a new disk of `size` bytes, in whole sectors; `None` where there can't be one.
    pub fn new(size: u64, cluster: u64) -> Option<Self> {
        let entries =
            u32::try_from(size.div_ceil(cluster)).ok().filter(|entries| *entries <= MOST_ENTRIES)?;
        let data = table_end(entries).next_multiple_of(cluster);
        let sectors = size / SECTOR;
        let mut header = Self {
            bytes: [0; LEN],
            unit: Unit::Clusters,
            cluster,
            entries,
            size,
            data,
            data_is_wrong: false,
        };
        header.put(0, MAGIC_2);
        // The geometry that others give such a disk.
        let (heads, track) = (16, 32);
        let words = [
            (16, VERSION),
            (20, heads),
            (24, (sectors / u64::from(heads * track)) as u32),
            (28, (cluster / SECTOR) as u32),
            (32, entries),
            (48, (data / SECTOR) as u32),
        ];
        words.into_iter().for_each(|(at, word)| header.put(at, &word.to_le_bytes()));
        header.put(36, &sectors.to_le_bytes());
        Some(header)
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(to) = self.bytes.get_mut(at..at + bytes.len()) {
            to.copy_from_slice(bytes);
        }
    }

    fn word(&self, at: usize) -> u32 {
        self.bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u32::from_le_bytes(*word))
    }

    pub fn is_in_use(&self) -> bool {
        self.word(44) == IN_USE
    }

    /// Byte offset of the extension, if there is one.
    pub fn extension(&self) -> Option<u64> {
        let sector = u64::from(self.word(56)) | u64::from(self.word(60)) << 32;
        (sector != 0).then(|| sector.saturating_mul(SECTOR))
    }

    pub fn bytes(&self) -> [u8; LEN] {
        self.bytes
    }

    /// The same of an image that is written to: in use, no longer empty, and without the extension, which says what is not
    /// so any more.
    pub fn written_to(&self) -> Self {
        let mut header = self.clone();
        header.put(44, &IN_USE.to_le_bytes());
        header.put(52, &(self.word(52) & !EMPTY).to_le_bytes());
        header.put(56, &0_u64.to_le_bytes());
        header
    }

    /// The same of an image that was closed by a program that keeps no extension up to date.
    pub fn closed(&self) -> Self {
        let mut header = self.clone();
        header.put(44, &0_u32.to_le_bytes());
        header
    }

    /// The same, closed, with the offset of the data that it must have. What the extension of an image says that was not
    /// closed is out of date.
    pub fn mended(&self) -> Self {
        let mut header = self.closed();
        if self.is_in_use() {
            header.put(56, &0_u64.to_le_bytes());
        }
        if self.data_is_wrong {
            // A table has fewer bytes than 2^32 sectors.
            header.put(48, &((self.data / SECTOR) as u32).to_le_bytes());
            header.data_is_wrong = false;
        }
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(words: &[(usize, u32)]) -> [u8; LEN] {
        let mut bytes = Header::new(10 << 20, 1 << 20).unwrap().bytes();
        words.iter().for_each(|(at, word)| bytes[*at..at + 4].copy_from_slice(&word.to_le_bytes()));
        bytes
    }

    #[test]
    fn a_new_header_is_read_as_it_was_made() {
        let made = Header::new((10 << 20) + 512, 1 << 20).unwrap();
        assert_eq!(Header::parse(made.bytes()), Ok(made.clone()));
        assert_eq!((made.entries, made.data, made.is_in_use()), (11, 1 << 20, false));
        let written = made.written_to();
        assert!(written.is_in_use() && !written.closed().is_in_use());
        assert_eq!(Header::new(1 << 62, 512), None);
    }

    #[test]
    fn data_begins_where_the_header_says_unless_it_can_t() {
        let data = |bytes: [u8; LEN]| {
            let header = Header::parse(bytes).unwrap();
            (header.data, header.data_is_wrong)
        };
        assert_eq!(data(with(&[(48, 4096)])), (2 << 20, false));
        assert_eq!(data(with(&[(48, 1)])), (1 << 20, true));
        assert_eq!(data(with(&[(48, 0)])), (1 << 20, true));
        let old = |start: u32| {
            let mut bytes = with(&[(48, start)]);
            bytes[..16].copy_from_slice(MAGIC_1);
            data(bytes)
        };
        assert_eq!((old(0), old(1), old(7)), ((512, false), (512, false), (7 * 512, false)));
        let mended = Header::parse(with(&[(48, 1)])).unwrap().mended();
        assert_eq!(Header::parse(mended.bytes()), Ok(mended));
        let extended =
            |in_use| Header::parse(with(&[(44, in_use), (56, 4096)])).unwrap().mended().extension();
        assert_eq!((extended(IN_USE), extended(0)), (None, Some(4096 * SECTOR)));
    }

    #[test]
    fn what_can_t_be_is_refused() {
        for (at, word) in [(0, 0), (16, 1), (28, 0), (28, u32::MAX), (32, 1 << 31), (32, 9), (40, 1 << 30)] {
            assert!(Header::parse(with(&[(at, word)])).is_err(), "{word:#x} at {at}");
        }
    }
}
