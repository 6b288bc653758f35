//! Entries of folders: 32 bytes with a short name, attributes, times, the first cluster and the length.
//!
//! Specification: "fatgen103", "FAT 32 Byte Directory Entry Structure".
use super::name::Short;
use crate::calendar;
use rt::file::FileKind;

/// Bytes of an entry.
pub const LEN: u64 = 32;
pub const READ_ONLY: u8 = 0x01;
pub const LABEL: u8 = 0x08;
pub const FOLDER: u8 = 0x10;
const ARCHIVE: u8 = 0x20;
/// The days that can be told, in days since the beginning of 1970: from 1980 on, to the end of 2107.
const DAYS: std::ops::RangeInclusive<i64> = 3652..=50_402;

/// What an entry says beside the name and the place.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    attributes: u8,
    len: u32,
    /// Time and date.
    modified: (u16, u16),
}

impl Entry {
    /// What is told of a name on the host.
    pub fn of(found: &rt::folder::Entry) -> Self {
        let is_folder = found.stat.kind == FileKind::Directory;
        let nobody_writes = found.stat.mode & 0o222 == 0;
        Self {
            attributes: match (is_folder, nobody_writes) {
                (true, _) => FOLDER,
                (false, true) => ARCHIVE | READ_ONLY,
                (false, false) => ARCHIVE,
            },
            len: if is_folder { 0 } else { u32::try_from(found.stat.len).unwrap_or(u32::MAX) },
            modified: moment(found.modified),
        }
    }

    /// Adds it to a folder. Made, and read last, it is told to be when it was changed last: to read a file is no change of
    /// the disk.
    pub fn put(&self, folder: &mut Vec<u8>, name: Short, cluster: u32) {
        let mut entry = [0; 32];
        entry[..11].copy_from_slice(&name);
        entry[11] = self.attributes;
        let (time, date) = self.modified;
        let (low, high) = (cluster as u16, (cluster >> 16) as u16);
        let fields = [(14, time), (16, date), (18, date), (20, high), (22, time), (24, date), (26, low)];
        for (at, field) in fields {
            entry[at..at + 2].copy_from_slice(&field.to_le_bytes());
        }
        entry[28..].copy_from_slice(&self.len.to_le_bytes());
        folder.extend(entry);
    }
}

/// Adds the disk's label to the root folder.
pub fn put_label(folder: &mut Vec<u8>, label: &Short) {
    let mut entry = [0; 32];
    entry[..11].copy_from_slice(label);
    entry[11] = ARCHIVE | LABEL;
    folder.extend(entry);
}

/// A moment in local time: in steps of two seconds, and the day.
fn moment(seconds: i64) -> (u16, u16) {
    let local = seconds.saturating_add(rt::local_offset(seconds));
    let day = local.div_euclid(86_400);
    if day < *DAYS.start() {
        return (0, 1 << 5 | 1);
    }
    if day > *DAYS.end() {
        return (23 << 11 | 59 << 5 | 29, 127 << 9 | 12 << 5 | 31);
    }
    let second = local.rem_euclid(86_400) as u32;
    let (year, month, day) = calendar::date(day);
    let time = (second / 3600) << 11 | (second / 60 % 60) << 5 | (second % 60 / 2);
    (time as u16, ((year - 1980) << 9 | month << 5 | day) as u16)
}

/// The moment that a time and a date in local time mean, in seconds since the beginning of 1970; `None` where there is no such
/// day.
pub fn seconds((time, date): (u16, u16)) -> Option<i64> {
    let (time, date) = (i64::from(time), i64::from(date));
    let (year, month, day) = (1980 + (date >> 9), date >> 5 & 15, date & 31);
    if !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    // Days since the beginning of March of the year 0, in years that begin with March.
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        365 * years + years / 4 - years / 100 + years / 400 + (153 * months + 2) / 5 + day - 1 - 719_468;
    let local = days * 86_400 + (time >> 11) * 3600 + (time >> 5 & 63) * 60 + (time & 31) * 2;
    let about = local - rt::local_offset(local);
    Some(local - rt::local_offset(about))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_a_moment_means_it() {
        for moment_of in [315_964_800, 951_782_400, 1_700_000_000, 4_107_500_000, 4_354_000_000] {
            assert_eq!(seconds(moment(moment_of)), Some(moment_of));
        }
        assert_eq!((seconds((0, 0)), seconds((0, 13 << 5 | 1))), (None, None));
    }

    #[test]
    fn moments_that_can_t_be_told_are_the_first_or_the_last() {
        assert_eq!(moment(0), (0, 0x21));
        assert_eq!(moment(i64::MAX), (0xbf7d, 0xff9f));
    }
}
