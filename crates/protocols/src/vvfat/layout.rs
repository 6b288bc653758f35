//! The layout of a disk: how large it is, where its parts are, and its first sectors.
//!
//! ```text
//!  │ MBR │ 62 sectors │ boot sector, … │ table │ the same table │ root folder │ clusters │      a hard disk
//!                     │ boot sector │ table │ the same table │ root folder │ clusters │      a floppy disk
//! ```
//!
//! With 32-bit entries the root folder lies in clusters. Sizes, places and identifiers are those of QEMU, but where a disk of that
//! kind would not be one of its kind by the count of its clusters. Specification: Microsoft, *FAT32 File System
//! Specification* 1.03 ("fatgen103").
use super::volume::Span;
use block::{BlockError, Result};
use std::ops::Range;

pub const SECTOR: u64 = 512;
/// Copies of the table.
pub const TABLES: u64 = 2;
/// The first cluster there is.
pub const FIRST_CLUSTER: u32 = 2;
/// What file systems are told apart by, and disks.
const SERIAL: u32 = 0xfabe_1afd;
const DISK_SERIAL: u32 = 0xbe1a_fdfa;
const OEM: &[u8; 8] = b"MSWIN4.1";

/// How many bits an entry of the table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    Fat12,
    Fat16,
    Fat32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    pub width: Width,
    /// Sectors of the disk.
    pub sectors: u64,
    /// Sectors in front of the boot sector.
    pub hidden: u64,
    pub heads: u16,
    pub sectors_per_track: u16,
    /// The boot sector, and what belongs to it.
    pub reserved: u64,
    /// Sectors of one table.
    pub table: u64,
    /// Entries of a root folder that lies in no cluster.
    pub root_entries: u64,
    pub sectors_per_cluster: u64,
    media: u8,
}

impl Layout {
    pub fn of_hard_disk(width: Width) -> Self {
        const HEADS: u16 = 16;
        const TRACK: u16 = 63;
        let cylinders = if width == Width::Fat12 { 64 } else { 1024 };
        let (reserved, root_entries, sectors_per_cluster) =
            if width == Width::Fat32 { (32, 0, 8) } else { (1, 512, 16) };
        Self {
            width,
            sectors: cylinders * u64::from(HEADS) * u64::from(TRACK),
            hidden: TRACK.into(),
            heads: HEADS,
            sectors_per_track: TRACK,
            reserved,
            table: 0,
            root_entries,
            sectors_per_cluster,
            media: 0xf8,
        }
        .with_tables()
    }

    /// A floppy disk of 2.88 MB, or of 1.44 MB with the width of entries that those have.
    pub fn of_floppy(width: Option<Width>) -> Result<Self> {
        let (sectors_per_track, root_entries) =
            if width == Some(Width::Fat12) { (18, 224) } else { (36, 240) };
        // Entries of 16 bits stand for at least 4085 clusters.
        let sectors_per_cluster = if width.is_none() { 2 } else { 1 };
        if width == Some(Width::Fat32) {
            let text = "a floppy disk has too few clusters for a fat-type of 32; 12 and 16 are possible";
            return Err(BlockError::invalid(text));
        }
        let floppy = Self {
            width: width.unwrap_or(Width::Fat12),
            sectors: 80 * 2 * u64::from(sectors_per_track),
            hidden: 0,
            heads: 2,
            sectors_per_track,
            reserved: 1,
            table: 0,
            root_entries,
            sectors_per_cluster,
            media: 0xf0,
        };
        Ok(floppy.with_tables())
    }

    /// The same with tables that have an entry for each cluster.
    fn with_tables(mut self) -> Self {
        let bits = match self.width {
            Width::Fat12 => 12,
            Width::Fat16 => 16,
            Width::Fat32 => 32,
        };
        // For all clusters that there would be without tables: at most a few sectors too many.
        let entries = u64::from(self.clusters()) + u64::from(FIRST_CLUSTER);
        self.table = (entries * bits).div_ceil(8 * SECTOR);
        self
    }

    /// Sectors of a root folder that lies in no cluster.
    fn root_sectors(&self) -> u64 {
        (self.root_entries * super::entry::LEN).div_ceil(SECTOR)
    }

    /// Sector of the first table.
    pub fn first_table(&self) -> u64 {
        self.hidden + self.reserved
    }

    /// Sector of a root folder that lies in no cluster.
    pub fn root(&self) -> u64 {
        self.first_table() + TABLES * self.table
    }

    /// Sector of the first cluster.
    pub fn data(&self) -> u64 {
        self.root() + self.root_sectors()
    }

    /// How many clusters there are.
    pub fn clusters(&self) -> u32 {
        ((self.sectors - self.data()) / self.sectors_per_cluster) as u32
    }

    /// Bytes of a cluster.
    pub fn cluster(&self) -> u64 {
        self.sectors_per_cluster * SECTOR
    }

    /// The bytes of the disk that are those of some clusters.
    pub fn bytes_of(&self, span: Span) -> Range<u64> {
        let start = self.data() * SECTOR + u64::from(span.first - FIRST_CLUSTER) * self.cluster();
        start..start + u64::from(span.clusters) * self.cluster()
    }

    /// The bits of an entry for the end of a chain.
    pub fn end_of_chain(&self) -> u32 {
        match self.width {
            Width::Fat12 => 0xfff,
            Width::Fat16 => 0xffff,
            Width::Fat32 => 0x0fff_ffff,
        }
    }

    /// The entries in front of those of clusters: the medium, and that the disk was left clean.
    pub fn first_entries(&self) -> [u32; 2] {
        [self.end_of_chain() & !0xff | u32::from(self.media), self.end_of_chain()]
    }

    /// The entry of a cluster in a table; 0 where the table ends before it.
    pub fn entry_in(&self, table: &[u8], cluster: u32) -> u32 {
        let at = cluster as usize;
        let bytes = |from: usize, len: usize| {
            let found = table.get(from..from + len).unwrap_or_default();
            found.iter().rev().fold(0, |all, byte| all << 8 | u32::from(*byte))
        };
        match self.width {
            Width::Fat12 => bytes(at * 3 / 2, 2) >> (4 * (at % 2)) & 0xfff,
            Width::Fat16 => bytes(at * 2, 2),
            Width::Fat32 => bytes(at * 4, 4) & 0x0fff_ffff,
        }
    }

    /// What of the first sectors, which guests may write to, does not say any more that this is a disk of this layout: that of the
    /// disk, and the boot sector. Labels and marks of what was not closed count for nothing.
    pub fn differs_in(&self, first: &[u8], boot: &[u8]) -> Option<&'static str> {
        let fields: &[(&str, Range<usize>)] = match self.width {
            Width::Fat32 => {
                &[("size of its parts", 11..28), ("size of its parts", 32..48), ("serial number", 67..71)]
            }
            _ => &[("size of its parts", 11..28), ("size of its parts", 32..36), ("serial number", 39..43)],
        };
        let own = self.boot_sectors(&[b' '; 11], 0);
        let partition = 0x1c6..0x1ce;
        if self.hidden > 0 && first.get(partition.clone()) != self.partition_table().get(partition) {
            return Some("place of its partition");
        }
        let differs = |range: &Range<usize>| own.get(range.clone()) != boot.get(range.clone());
        fields.iter().find(|(_, range)| differs(range)).map(|(name, _)| *name)
    }

    /// The first sector of a hard disk: one partition.
    pub fn partition_table(&self) -> Vec<u8> {
        let mut sector = vec![0; SECTOR as usize];
        put(&mut sector, 0x1b8, &DISK_SERIAL.to_le_bytes());
        let cylinders = self.sectors / (u64::from(self.heads) * u64::from(self.sectors_per_track));
        let kind = match self.width {
            Width::Fat12 => 1,
            Width::Fat16 => 6,
            Width::Fat32 => 0x0b,
        };
        let last = cylinders - 1;
        let (head, track) = (self.heads as u8 - 1, self.sectors_per_track as u8);
        put(&mut sector, 0x1be, &[0x80, 1, 1, 0, kind, head, track | (last >> 2) as u8 & 0xc0, last as u8]);
        put(&mut sector, 0x1c6, &(self.hidden as u32).to_le_bytes());
        put(&mut sector, 0x1ca, &((self.sectors - self.hidden) as u32).to_le_bytes());
        put(&mut sector, 0x1fe, &[0x55, 0xaa]);
        sector
    }

    /// The reserved sectors, from the boot sector on. `used`: how many clusters are in use.
    pub fn boot_sectors(&self, label: &[u8; 11], used: u32) -> Vec<u8> {
        let mut boot = vec![0; SECTOR as usize];
        put(&mut boot, 0, &[0xeb, 0x3e, 0x90]);
        put(&mut boot, 3, OEM);
        put(&mut boot, 11, &(SECTOR as u16).to_le_bytes());
        boot[13] = self.sectors_per_cluster as u8;
        put(&mut boot, 14, &(self.reserved as u16).to_le_bytes());
        boot[16] = TABLES as u8;
        put(&mut boot, 17, &(self.root_entries as u16).to_le_bytes());
        let sectors = self.sectors - self.hidden;
        match u16::try_from(sectors) {
            Ok(sectors) if self.width != Width::Fat32 => put(&mut boot, 19, &sectors.to_le_bytes()),
            _ => put(&mut boot, 32, &(sectors as u32).to_le_bytes()),
        }
        boot[21] = self.media;
        put(&mut boot, 24, &self.sectors_per_track.to_le_bytes());
        put(&mut boot, 26, &self.heads.to_le_bytes());
        put(&mut boot, 28, &(self.hidden as u32).to_le_bytes());
        let (at, name) = match self.width {
            Width::Fat12 => (36, b"FAT12   "),
            Width::Fat16 => (36, b"FAT16   "),
            Width::Fat32 => (64, b"FAT32   "),
        };
        boot[at] = if self.hidden == 0 { 0 } else { 0x80 };
        boot[at + 2] = 0x29;
        put(&mut boot, at + 3, &SERIAL.to_le_bytes());
        put(&mut boot, at + 7, label);
        put(&mut boot, at + 18, name);
        put(&mut boot, 0x1fe, &[0x55, 0xaa]);
        if self.width != Width::Fat32 {
            put(&mut boot, 22, &(self.table as u16).to_le_bytes());
            return boot;
        }
        put(&mut boot, 36, &(self.table as u32).to_le_bytes());
        put(&mut boot, 44, &FIRST_CLUSTER.to_le_bytes());
        const INFO: u16 = 1;
        const COPY: u16 = 6;
        put(&mut boot, 48, &INFO.to_le_bytes());
        put(&mut boot, 50, &COPY.to_le_bytes());
        let mut info = vec![0; SECTOR as usize];
        put(&mut info, 0, b"RRaA");
        put(&mut info, 484, b"rrAa");
        let free = self.clusters() - used;
        put(&mut info, 488, &free.to_le_bytes());
        put(&mut info, 492, &(if free == 0 { u32::MAX } else { FIRST_CLUSTER + used }).to_le_bytes());
        put(&mut info, 0x1fe, &[0x55, 0xaa]);
        let first = [boot, info].concat();
        let mut all = first.clone();
        all.resize((u64::from(COPY) * SECTOR) as usize, 0);
        all.extend(first);
        all
    }
}

fn put(sector: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(to) = sector.get_mut(at..at + bytes.len()) {
        to.copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_disk_is_of_its_kind_by_the_count_of_its_clusters_and_its_tables_hold_them() {
        let disks = [
            (Layout::of_hard_disk(Width::Fat12), 64_512),
            (Layout::of_hard_disk(Width::Fat16), 1_032_192),
            (Layout::of_hard_disk(Width::Fat32), 1_032_192),
            (Layout::of_floppy(None).unwrap(), 5760),
            (Layout::of_floppy(Some(Width::Fat12)).unwrap(), 2880),
            (Layout::of_floppy(Some(Width::Fat16)).unwrap(), 5760),
        ];
        for (disk, sectors) in disks {
            assert_eq!(disk.sectors, sectors);
            let clusters = disk.clusters();
            let (kind, bits) = match clusters {
                0..4085 => (Width::Fat12, 12),
                4085..65_525 => (Width::Fat16, 16),
                _ => (Width::Fat32, 32),
            };
            assert_eq!(disk.width, kind, "{disk:?}");
            assert!(u64::from(clusters + 2) * bits <= disk.table * SECTOR * 8, "{disk:?}");
            let (mut first, mut boot) = (disk.partition_table(), disk.boot_sectors(b"A NEW LABEL", 9));
            assert_eq!(disk.differs_in(&first, &boot), None);
            boot[13] *= 2;
            assert!(disk.differs_in(&first, &boot).is_some());
            first.fill(0);
            assert_eq!(disk.differs_in(&first, &disk.boot_sectors(&[0; 11], 0)).is_some(), disk.hidden > 0);
        }
        assert!(Layout::of_floppy(Some(Width::Fat32)).is_err());
    }
}
