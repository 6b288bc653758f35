//! Names of files on a FAT disk: a long one, in entries of their own, and a short one of 8 and 3 characters.
//!
//! Specification: "fatgen103", "FAT Long Directory Entries".
use std::collections::{HashMap, HashSet};

/// Most UTF-16 units of a long name.
const MOST_UNITS: usize = 255;
/// UTF-16 units in an entry.
pub const UNITS: usize = 13;
/// Where they are.
const PLACES: [usize; UNITS] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
/// What an entry of a long name has instead of attributes.
pub const LONG: u8 = 0x0f;

/// Eight characters of a name and three of what is behind its dot, filled up with spaces.
pub type Short = [u8; 11];

/// Why a name can't be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("its name is not UTF-8")]
    Encoding,
    #[error("its name holds {0:?}, which no name of a FAT disk has")]
    Character(char),
    #[error("its name ends with {0:?}, which names of FAT disks do not")]
    End(char),
    #[error("its name has {0} UTF-16 units, more than {MOST_UNITS}")]
    Length(usize),
    #[error("another name in the folder differs from it only in upper and lower case")]
    Case,
    #[error("too many names in the folder are alike")]
    Alike,
}

/// A name as it stands on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    pub short: Short,
    /// The long one in UTF-16, where the short one does not say it all.
    long: Vec<u16>,
}

/// Names for all of a folder. The answers are in the order of the names.
///
/// # Errors
/// The position of a name that can't be shown, and why.
pub fn in_folder<'a>(names: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Name>, (usize, NameError)> {
    let mut seen = HashSet::new();
    let mut taken = HashSet::new();
    let mut found = Vec::new();
    for (at, name) in names.enumerate() {
        let name = judged(name).map_err(|e| (at, e))?;
        if !seen.insert(name.to_uppercase()) {
            return Err((at, NameError::Case));
        }
        let whole = whole(name);
        taken.extend(whole);
        found.push((name, whole));
    }
    let mut numbers = HashMap::new();
    let all = found.into_iter().enumerate().map(|(at, (name, whole))| {
        let short = match whole {
            Some(short) => short,
            None => numbered(name, &mut taken, &mut numbers).ok_or((at, NameError::Alike))?,
        };
        let long = if shown(&short) == name { Vec::new() } else { name.encode_utf16().collect() };
        Ok(Name { short, long })
    });
    all.collect()
}

/// The name, where a FAT disk can hold it.
pub fn judged(name: &[u8]) -> Result<&str, NameError> {
    let name = std::str::from_utf8(name).map_err(|_| NameError::Encoding)?;
    let wrong =
        |c: &char| matches!(c, '\0'..='\x1f' | '"' | '*' | '/' | ':' | '<' | '>' | '?' | '\\' | '|' | '\x7f');
    if let Some(c) = name.chars().find(wrong) {
        return Err(NameError::Character(c));
    }
    if let Some(c) = name.chars().last().filter(|c| matches!(c, '.' | ' ')) {
        return Err(NameError::End(c));
    }
    let units = name.encode_utf16().count();
    if units > MOST_UNITS { Err(NameError::Length(units)) } else { Ok(name) }
}

/// Whether a short name may have this character, in upper case.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'()-@^_`{}~".contains(&byte)
}

fn joined(base: &[u8], extension: &[u8]) -> Short {
    let mut short = [b' '; 11];
    short.iter_mut().zip(base.iter().take(8)).for_each(|(to, byte)| *to = byte.to_ascii_uppercase());
    short
        .iter_mut()
        .skip(8)
        .zip(extension.iter().take(3))
        .for_each(|(to, byte)| *to = byte.to_ascii_uppercase());
    short
}

/// The short name that says all of a name but the case of its letters.
fn whole(name: &str) -> Option<Short> {
    let (base, extension) = name.split_once('.').unwrap_or((name, ""));
    let fits = (1..=8).contains(&base.len()) && extension.len() <= 3;
    let is_plain = base.bytes().chain(extension.bytes()).all(is_plain);
    (fits && is_plain).then(|| joined(base.as_bytes(), extension.as_bytes()))
}

/// A short name with a number in it that no other one has.
fn numbered(name: &str, taken: &mut HashSet<Short>, numbers: &mut HashMap<Short, u32>) -> Option<Short> {
    let name = name.trim_start_matches('.');
    let (base, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let plain = |part: &str| -> Vec<u8> {
        let kept = part.chars().filter(|c| !matches!(c, ' ' | '.'));
        kept.map(|c| u8::try_from(c).ok().filter(|byte| is_plain(*byte)).unwrap_or(b'_')).collect()
    };
    let (base, extension) = (plain(base), plain(extension));
    // Six characters of it go with a number of one digit, and fewer with more.
    let number = numbers.entry(joined(base.get(..6).unwrap_or(&base), &extension)).or_default();
    while *number < 999_999 {
        *number += 1;
        let suffix = format!("~{number}");
        let kept = base.get(..8 - suffix.len()).unwrap_or(&base);
        let short = joined(&[kept, suffix.as_bytes()].concat(), &extension);
        if taken.insert(short) {
            return Some(short);
        }
    }
    None
}

/// Characters of the bytes from 128 on in short names: code page 437, which DOS has from the start.
const CODE_PAGE: &str = "\
    ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧\
    ╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

/// A short name as it is written.
pub fn shown(short: &Short) -> String {
    let wide = |byte: u8| CODE_PAGE.chars().nth(usize::from(byte.wrapping_sub(128))).unwrap_or('_');
    let character = |byte: &u8| if byte.is_ascii() { char::from(*byte) } else { wide(*byte) };
    let part =
        |bytes: &[u8]| bytes.iter().map(character).collect::<String>().trim_end_matches(' ').to_owned();
    let (base, extension) = short.split_at(8);
    match part(extension) {
        extension if extension.is_empty() => part(base),
        extension => format!("{}.{extension}", part(base)),
    }
}

/// What the entries of a long name have of the short one that they belong to.
pub fn sum(short: &Short) -> u8 {
    short.iter().fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte))
}

/// The UTF-16 units that an entry of a long name holds, with what fills it up.
pub fn units(entry: &[u8; 32]) -> [u16; UNITS] {
    PLACES.map(|place| u16::from_le_bytes([entry[place], entry[place + 1]]))
}

impl Name {
    /// How many entries it takes in a folder, that of the file included.
    pub fn entries(&self) -> usize {
        1 + self.long.len().div_ceil(UNITS)
    }

    /// Adds the entries of the long name, which stand before that of the file, the last part first.
    pub fn put_long(&self, folder: &mut Vec<u8>) {
        let sum = sum(&self.short);
        let parts: Vec<&[u16]> = self.long.chunks(UNITS).collect();
        for (before, part) in parts.iter().enumerate().rev() {
            let mut entry = [0; 32];
            let number = before as u8 + 1;
            let is_last = before + 1 == parts.len();
            entry[0] = if is_last { number | 0x40 } else { number };
            (entry[11], entry[13]) = (LONG, sum);
            // Behind the end there is a zero, and then nothing.
            let units = part.iter().copied().chain([0]).chain(std::iter::repeat(0xffff));
            for (place, unit) in PLACES.iter().zip(units) {
                entry[*place..place + 2].copy_from_slice(&unit.to_le_bytes());
            }
            folder.extend(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shorts(names: &[&str]) -> Vec<String> {
        let names = in_folder(names.iter().map(|name| name.as_bytes())).unwrap();
        names.iter().map(|name| shown(&name.short)).collect()
    }

    #[test]
    fn short_names_are_those_of_the_names_or_have_a_number() {
        let names = [
            "A.TXT",
            "a long name.text",
            "a long names.textile",
            "b.c.d",
            ".profile",
            "ALONGN~1.TEX",
            "grün",
            "x",
        ];
        let expected =
            ["A.TXT", "ALONGN~2.TEX", "ALONGN~3.TEX", "BC~1.D", "PROFIL~1", "ALONGN~1.TEX", "GR_N~1", "X"];
        assert_eq!(shorts(&names), expected);
        let many: Vec<_> = (0..2000).map(|n| format!("a rather long name {n}")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let shorts = shorts(&many);
        assert_eq!((&*shorts[8], &*shorts[9], &*shorts[1999]), ("ARATHE~9", "ARATH~10", "ARA~2000"));
        assert_eq!(shorts.iter().collect::<HashSet<_>>().len(), 2000);
    }

    #[test]
    fn bytes_of_a_code_page_are_its_characters() {
        assert_eq!(CODE_PAGE.chars().count(), 128);
        assert_eq!(shown(b"GR\x9aN\xe1   T T"), "GRÜNß.T T");
    }

    #[test]
    fn long_names_are_kept_where_they_say_more() {
        let entries = |name: &str| in_folder([name.as_bytes()].into_iter()).unwrap()[0].entries();
        assert_eq!((entries("A.TXT"), entries("a.txt"), entries("thirteen.long")), (1, 2, 2));
        assert_eq!((entries("fourteen .long"), entries(&"x".repeat(255))), (3, 21));
    }

    #[test]
    fn names_that_a_disk_can_t_hold_are_refused() {
        let judge = |name: &[u8]| in_folder([b"good", name].into_iter()).map_err(|(at, e)| (at == 1, e));
        assert_eq!(judge(b"\xff"), Err((true, NameError::Encoding)));
        assert_eq!(judge(b"a:b"), Err((true, NameError::Character(':'))));
        assert_eq!(judge(b"a\nb"), Err((true, NameError::Character('\n'))));
        assert_eq!(judge(b"a."), Err((true, NameError::End('.'))));
        assert_eq!(judge("x".repeat(256).as_bytes()), Err((true, NameError::Length(256))));
        assert_eq!(judge(b"GOOD"), Err((true, NameError::Case)));
        assert!(judge("x".repeat(255).as_bytes()).is_ok());
    }
}
