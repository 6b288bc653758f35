//! How large a new image would be.
use crate::backend::Backend;
use crate::error::Result;

/// What a driver is asked.
pub struct MeasureRequest<'a, O> {
    /// Virtual size in bytes.
    pub size: u64,
    /// What is asked of the image.
    pub options: O,
    /// What it is filled with; it stays empty without.
    pub source: Option<&'a Backend>,
}

/// What a file would need, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// With the data of the source.
    pub required: u64,
    /// When the whole disk is written.
    pub full: u64,
    /// What the bitmaps of the source would need, where both can have some.
    pub bitmaps: Option<u64>,
}

/// Bytes of the units of a disk, each of `unit` bytes, that hold data.
pub async fn data_in_units(disk: &Backend, unit: u64) -> Result<u64> {
    let (total, mut at, mut sum, mut counted) = (disk.length(), 0, 0, 0);
    while at < total {
        let mut from = at;
        at = disk
            .statuses(at..total, |status| {
                if status.data && !status.zero {
                    let start = (from - from % unit).max(counted);
                    let end = (from + status.len).next_multiple_of(unit);
                    sum += end.saturating_sub(start);
                    counted = end;
                }
                from += status.len;
                true
            })
            .await?;
    }
    Ok(sum)
}
