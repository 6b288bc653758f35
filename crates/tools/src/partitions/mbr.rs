//! A master boot record: four entries, one of which may lead to a chain of logical partitions.

use super::{MOST, front};
use api::ImagePartition;
use block::{Backend, BlockError};

/// Where the entries begin, and where the mark of a boot sector is.
const ENTRIES: usize = 446;
const MARK: usize = 510;
const ENTRY: usize = 16;

/// Bytes of the sectors that the entries count in.
const SECTOR: u64 = 512;

/// Types of an entry that leads to logical partitions.
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];

/// The type that stands for a GUID partition table.
const PROTECTIVE: u8 = 0xee;

/// The number of the first logical partition.
const FIRST_LOGICAL: u32 = 5;

#[derive(Clone, Copy, Debug)]
struct Entry {
    status: u8,
    kind: u8,
    first: u32,
    sectors: u32,
}

/// The partitions, if the first sector of the disk is a boot record with entries that make sense.
pub(super) async fn partitions(
    disk: &Backend,
    first: &[u8],
) -> Result<Option<Vec<ImagePartition>>, BlockError> {
    let Some(entries) = entries(first) else { return Ok(None) };
    let sense = |entry: &Entry| matches!(entry.status, 0 | 0x80) && (entry.kind == 0 || entry.sectors > 0);
    // The boot sector of a file system has the mark, too, and code where the entries would be.
    if !entries.iter().all(sense) || entries.iter().all(|entry| entry.kind == 0) {
        return Ok(None);
    }
    let mut told = Vec::new();
    for (number, entry) in (1..).zip(entries).filter(|(_, entry)| entry.kind != 0 && entry.kind != PROTECTIVE)
    {
        told.push(partition(number, entry, 0));
        if EXTENDED.contains(&entry.kind) {
            logical(disk, entry.first.into(), &mut told).await?;
        }
    }
    Ok(Some(told))
}

/// Adds the logical partitions of the extended one that begins in this sector.
async fn logical(disk: &Backend, extended: u64, told: &mut Vec<ImagePartition>) -> Result<(), BlockError> {
    let mut at = extended;
    let mut number = FIRST_LOGICAL;
    for _ in 0..MOST {
        let sector = front(disk, at.saturating_mul(SECTOR), SECTOR).await?;
        let Some([partition, next, ..]) = entries(&sector) else { return Ok(()) };
        if partition.kind != 0 {
            told.push(self::partition(number, partition, at));
            number += 1;
        }
        // Each is behind the one before: a chain that turns back has an end.
        let next = extended + u64::from(next.first);
        if next <= at {
            return Ok(());
        }
        at = next;
    }
    Ok(())
}

fn partition(number: u32, entry: Entry, base: u64) -> ImagePartition {
    ImagePartition {
        number,
        start: (base + u64::from(entry.first)) * SECTOR,
        length: u64::from(entry.sectors) * SECTOR,
        kind: format!("{:#04x}", entry.kind),
        name: None,
        filesystem: None,
    }
}

/// The entries of a boot record, if it has its mark.
fn entries(sector: &[u8]) -> Option<[Entry; 4]> {
    if sector.get(MARK..MARK + 2)? != [0x55, 0xaa] {
        return None;
    }
    let entry = |index: usize| {
        let bytes = sector.get(ENTRIES + index * ENTRY..)?.first_chunk::<ENTRY>()?;
        let [status, _, _, _, kind, _, _, _, first @ ..] = bytes;
        let (first, sectors) = first.split_first_chunk::<4>()?;
        let sectors = sectors.first_chunk::<4>()?;
        let (first, sectors) = (u32::from_le_bytes(*first), u32::from_le_bytes(*sectors));
        Some(Entry { status: *status, kind: *kind, first, sectors })
    };
    Some([entry(0)?, entry(1)?, entry(2)?, entry(3)?])
}
