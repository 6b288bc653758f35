//! What the bytes of a folder on a disk say: its entries, with their names.
//!
//! Entries are told as they stand; whether their clusters exist is not looked at. Specification: "fatgen103", "FAT Directory
//! Structure".
use super::entry::{FOLDER, LABEL, READ_ONLY};
use super::name::{self, LONG, Short, UNITS};

/// The first byte of the entry behind the last one, and of one that was removed.
const END: u8 = 0;
const REMOVED: u8 = 0xe5;
/// The first byte of a name that begins with 0xe5.
const NOT_REMOVED: u8 = 0x05;
/// In the number of the last part of a long name, which stands first.
const LAST: u8 = 0x40;
/// Parts of the longest name.
const MOST_PARTS: u8 = 20;
/// Which part of a short name is in lower case (Windows NT and Linux write it).
const LOWER_BASE: u8 = 0x08;
const LOWER_EXTENSION: u8 = 0x10;

/// How a name was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    /// As a long name, or as a short one that says which letters are small: just so.
    Exact,
    /// As a short name, which has no case.
    Short,
}

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub short: Short,
    pub name: String,
    pub spelling: Spelling,
    pub is_folder: bool,
    pub read_only: bool,
    /// Time and date.
    pub modified: (u16, u16),
    pub first: u32,
    pub len: u32,
}

/// What can't stand in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    #[error("attributes {0:#04x}, which no entry has")]
    Attributes(u8),
    #[error("a short name with the byte {0:#04x}")]
    Short(u8),
    #[error("a long name that is not UTF-16")]
    Encoding,
}

/// A long name that is read from its last part to its first.
#[derive(Default)]
struct Long {
    /// The number of the part that was read last, and the sum of the short name; of no name 0.
    number: u8,
    sum: u8,
    units: Vec<u16>,
}

impl Long {
    /// Takes the next entry; what does not continue a name ends it.
    fn take(&mut self, entry: &[u8; 32]) {
        let (order, sum) = (entry[0], entry[13]);
        let number = order & !LAST;
        let continues = order & LAST == 0 && self.number == number + 1 && self.sum == sum;
        if order & LAST != 0 && (1..=MOST_PARTS).contains(&number) {
            *self = Self { number, sum, units: vec![0; usize::from(number) * UNITS] };
        } else if continues && number > 0 {
            self.number = number;
        } else {
            return *self = Self::default();
        }
        let from = usize::from(number - 1) * UNITS;
        if let Some(to) = self.units.get_mut(from..from + UNITS) {
            to.copy_from_slice(&name::units(entry));
        }
    }

    /// The whole name, where it is that of this short one.
    fn of(self, short: &Short) -> Option<Result<String, EntryError>> {
        let units = self.units.split(|unit| *unit == 0).next().unwrap_or_default();
        (self.number == 1 && self.sum == name::sum(short) && !units.is_empty())
            .then(|| String::from_utf16(units).map_err(|_| EntryError::Encoding))
    }
}

/// The entries of a folder, `.` and `..` among them. Labels are left out; long names that belong to none are passed over, as a
/// program that knows only short ones leaves them.
///
/// # Errors
/// The number of the entry that can't be one, and why.
pub fn entries(folder: &[u8]) -> Result<Vec<Listed>, (usize, EntryError)> {
    let mut found = Vec::new();
    let mut long = Long::default();
    for (number, entry) in folder.as_chunks::<32>().0.iter().enumerate() {
        match entry[0] {
            END => break,
            REMOVED => long = Long::default(),
            _ if entry[11] & 0x3f == LONG => long.take(entry),
            _ if entry[11] & 0xc0 != 0 => return Err((number, EntryError::Attributes(entry[11]))),
            _ if entry[11] & LABEL != 0 => long = Long::default(),
            _ => found.push(listed(entry, std::mem::take(&mut long)).map_err(|e| (number, e))?),
        }
    }
    Ok(found)
}

fn listed(entry: &[u8; 32], long: Long) -> Result<Listed, EntryError> {
    let short: Short = entry.first_chunk().copied().unwrap_or_default();
    let is_dots = matches!(&short, b".          " | b"..         ");
    let wrong = |byte: &&u8| matches!(**byte, 0..b' ' | b'"' | b'*'..=b',' | b'.' | b'/' | b':'..=b'?' | b'['..=b']' | b'|' | 0x7f);
    let mut real = short;
    if real[0] == NOT_REMOVED {
        real[0] = REMOVED;
    }
    let half = |at: usize| u16::from_le_bytes([entry[at], entry[at + 1]]);
    // Beside a long name that belongs to it a short one need not be one that DOS could write.
    let (name, spelling) = match long.of(&short) {
        Some(name) => (name?, Spelling::Exact),
        None if is_dots => (name::shown(&short), Spelling::Exact),
        None => {
            let bad = real.iter().find(wrong).or(real.first().filter(|byte| **byte == b' '));
            bad.map_or(Ok(()), |byte| Err(EntryError::Short(*byte)))?;
            of_short(&real, entry[12])
        }
    };
    Ok(Listed {
        short,
        name,
        spelling,
        is_folder: entry[11] & FOLDER != 0,
        read_only: entry[11] & READ_ONLY != 0,
        modified: (half(22), half(24)),
        first: u32::from(half(20)) << 16 | u32::from(half(26)),
        len: u32::from(half(28)) | u32::from(half(30)) << 16,
    })
}

/// A short name, with the case that is told of it.
fn of_short(short: &Short, case: u8) -> (String, Spelling) {
    let name = name::shown(short);
    if case & (LOWER_BASE | LOWER_EXTENSION) == 0 {
        return (name, Spelling::Short);
    }
    let lower = |part: &str, flag: u8| if case & flag != 0 { part.to_lowercase() } else { part.to_owned() };
    let name = match name.rsplit_once('.') {
        Some((base, extension)) => {
            format!("{}.{}", lower(base, LOWER_BASE), lower(extension, LOWER_EXTENSION))
        }
        None => lower(&name, LOWER_BASE),
    };
    (name, Spelling::Exact)
}
