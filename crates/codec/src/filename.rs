//! File names as text. A name on Linux is bytes, text is Unicode: a byte that is no part of UTF-8 is written in a text as a
//! code point of its own, and becomes that byte again where a system call or a header wants the name.
//!
//! ```text
//! byte 0x80 … 0xff  ◀──▶  U+10FE80 … U+10FEFF   (private use; in UTF-8  F4 8F BA 80 … F4 8F BB BF)
//! ```
//!
//! Law: `bytes(text(name)) == name` for every name, also for one that holds such code points itself: their bytes are
//! written one by one.
use std::borrow::Cow;

const FIRST: u32 = 0x10_fe80;
const LAST: u32 = 0x10_feff;
/// What every such code point begins with in UTF-8.
const LEAD: [u8; 2] = [0xf4, 0x8f];

/// Whether a character stands for a byte.
pub fn is_byte(c: char) -> bool {
    (FIRST..=LAST).contains(&u32::from(c))
}

/// A name as text.
pub fn text(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    let escape = |text: &mut String, bytes: &[u8]| {
        text.extend(bytes.iter().filter_map(|&byte| char::from_u32(FIRST - 0x80 + u32::from(byte))));
    };
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_byte(c) {
                escape(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(c);
            }
        }
        escape(&mut text, chunk.invalid());
    }
    text
}

/// The name in a field of a header as text: a zero may end it. `None` where there is none.
pub fn in_field(field: &[u8]) -> Option<String> {
    let name = field.split(|byte| *byte == 0).next().unwrap_or_default();
    (!name.is_empty()).then(|| text(name))
}

/// The name that a text, given in UTF-8, stands for.
pub fn bytes(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.windows(LEAD.len()).any(|pair| pair == LEAD) {
        return Cow::Borrowed(text);
    }
    let (mut name, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some((&first, after)) = rest.split_first() {
        rest = match *rest {
            [0xf4, 0x8f, 0xba, low @ 0x80..=0xbf, ref after @ ..] => {
                name.push(low);
                after
            }
            [0xf4, 0x8f, 0xbb, low @ 0x80..=0xbf, ref after @ ..] => {
                name.push(low | 0x40);
                after
            }
            _ => {
                name.push(first);
                after
            }
        };
    }
    Cow::Owned(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_comes_back_byte_by_byte() {
        let own = "\u{10fe80}\u{10feff}\u{10fe7f}\u{10ff00}".as_bytes();
        let all: Vec<u8> = (1..=255).collect();
        for name in [b"disk.img".as_slice(), "größe.raw".as_bytes(), b"n\xff.raw", b"\xf4\x8f", own, &all] {
            assert_eq!(&*bytes(text(name).as_bytes()), name);
        }
        assert_eq!(text(b"a"), "a");
        assert!(text(b"\x80\xff").chars().all(is_byte));
    }

    #[test]
    fn a_field_holds_a_name_up_to_its_first_zero() {
        assert_eq!(in_field(b"base\xff").as_deref(), Some(&*text(b"base\xff")));
        assert_eq!(in_field(b"base\0old").as_deref(), Some("base"));
        assert_eq!((in_field(b""), in_field(b"\0old")), (None, None));
    }
}
