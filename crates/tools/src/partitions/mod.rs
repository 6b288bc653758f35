//! What is on a disk as a guest sees it: its partition table, and the file systems that its first bytes tell of.
//!
//! Bounds: the first mebibyte of a disk is read for its table, and the beginning of each partition ([`FRONT`]); a table has at most
//! [`MOST`] partitions. What a table says is believed only as far as it lies inside of the disk.
//!
//! Specification: UEFI 2.10, 5 (GUID Partition Table), read by the crate `gpt`; the layout of a master boot record.

mod mbr;

use api::{ImageContent, ImagePartition, ImagePartitionTable};
use block::{Backend, BlockError};
use gpt::disk::LogicalBlockSize;
use std::io::Cursor;

/// Bytes of the disk that its table is looked for in.
const TABLE: u64 = 1 << 20;

/// Bytes of a partition that show what file system it has.
const FRONT: u64 = 68 << 10;

/// Most partitions that are told.
const MOST: usize = 256;

/// Sector sizes that tables count in, the usual one first.
const SECTORS: [u64; 2] = [512, 4096];

/// Bytes of an entry of a GUID partition table; the field that tells it, and the one that tells how many there are.
const ENTRY: u32 = 128;
const ENTRY_SIZE_AT: usize = 84;
const ENTRIES_AT: usize = 80;

/// What is on a disk.
pub async fn look(disk: &Backend) -> Result<ImageContent, BlockError> {
    let front = front(disk, 0, TABLE).await?;
    let gpt = SECTORS.iter().find_map(|sector| gpt(&front, *sector));
    let (table, mut partitions) = match gpt {
        Some(partitions) => (Some(ImagePartitionTable::Gpt), partitions),
        None => match mbr::partitions(disk, &front).await? {
            Some(partitions) => (Some(ImagePartitionTable::Mbr), partitions),
            None => (None, Vec::new()),
        },
    };
    partitions.truncate(MOST);
    for partition in &mut partitions {
        let front = self::front(disk, partition.start, FRONT.min(partition.length)).await?;
        partition.filesystem = filesystem(&front);
    }
    let filesystem = if table.is_none() { filesystem(&front) } else { None };
    Ok(ImageContent { partition_table: table, partitions, filesystem })
}

/// What begins with these bytes, by name.
fn filesystem(front: &[u8]) -> Option<String> {
    formats::inspect::filesystem(front).map(|mark| mark.name.to_owned())
}

/// The first bytes from an offset on, as far as the disk goes.
async fn front(disk: &Backend, offset: u64, len: u64) -> Result<Vec<u8>, BlockError> {
    let len = len.min(disk.length().saturating_sub(offset));
    if len == 0 {
        // A table may tell of partitions behind the end of the disk.
        return Ok(Vec::new());
    }
    let buf = rt::BufMut::zeroed(len as usize); // at most TABLE
    let (buf, read) = disk.read(offset, buf).await;
    read?;
    Ok(buf.to_vec())
}

/// The partitions of a GUID partition table that counts in sectors of this size, if there is one.
fn gpt(front: &[u8], sector: u64) -> Option<Vec<ImagePartition>> {
    let header = front.get(sector as usize..)?;
    let number = |at: usize| Some(u32::from_le_bytes(header.get(at..at + 4)?.try_into().ok()?));
    if !header.starts_with(b"EFI PART")
        || number(ENTRY_SIZE_AT)? != ENTRY
        || number(ENTRIES_AT)? as usize > MOST
    {
        return None;
    }
    let size = LogicalBlockSize::try_from(sector).ok()?;
    let config = gpt::GptConfig::new().logical_block_size(size);
    // The crate takes a header in the last sector for the backup, which is not what lies there, and panics at its odd sizes.
    let mut disk = front.to_vec();
    let last = disk.len().saturating_sub(sector as usize);
    disk.get_mut(last..)?.fill(0);
    let table = config.open_from_device(Cursor::new(disk)).ok()?;
    let used = table.partitions().iter().filter(|(_, partition)| partition.is_used());
    let told = used.filter_map(|(number, partition)| {
        let start = partition.first_lba.checked_mul(sector)?;
        let end = partition.last_lba.checked_add(1)?.checked_mul(sector)?;
        Some(ImagePartition {
            number: *number,
            start,
            length: end.checked_sub(start)?,
            kind: partition.part_type_guid.guid.to_string(),
            name: (!partition.name.is_empty()).then(|| partition.name.clone()),
            filesystem: None,
        })
    });
    Some(told.collect())
}
