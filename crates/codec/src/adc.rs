//! Apple Data Compression: literal bytes, and copies of what was decoded before.
//!
//! ```text
//!  1nnnnnnn                    n + 1 literal bytes follow
//!  00nnnndd dddddddd           n + 3 bytes from d + 1 bytes back
//!  01nnnnnn dddddddd dddddddd  n + 4 bytes from d + 1 bytes back
//! ```
//!
//! A copy may reach into what it writes itself. Description: <https://keramics.github.io/udif.html>.

/// What is wrong with a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// It is cut off, or copies what is not there.
    Damaged,
    /// It holds more than fits.
    TooLong,
}

/// Decodes all of `source` to the start of `target`; tells how many bytes there were.
pub fn decode(mut source: &[u8], target: &mut [u8]) -> Result<usize, Wrong> {
    let mut at = 0;
    while let Some((first, rest)) = source.split_first() {
        let first = usize::from(*first);
        if first & 0x80 != 0 {
            let (literals, rest) = rest.split_at_checked((first & 0x7f) + 1).ok_or(Wrong::Damaged)?;
            target.get_mut(at..at + literals.len()).ok_or(Wrong::TooLong)?.copy_from_slice(literals);
            (at, source) = (at + literals.len(), rest);
            continue;
        }
        let (len, back, rest) = match rest {
            [high, low, rest @ ..] if first & 0x40 != 0 => {
                ((first & 0x3f) + 4, usize::from(u16::from_be_bytes([*high, *low])) + 1, rest)
            }
            [low, rest @ ..] if first & 0x40 == 0 => {
                ((first >> 2) + 3, ((first & 3) << 8 | usize::from(*low)) + 1, rest)
            }
            _ => return Err(Wrong::Damaged),
        };
        let from = at.checked_sub(back).ok_or(Wrong::Damaged)?;
        let copied = target.get_mut(from..at + len).ok_or(Wrong::TooLong)?;
        if back >= len {
            copied.copy_within(..len, back);
        } else {
            (back..copied.len()).for_each(|to| copied[to] = copied[to - back]);
        }
        (at, source) = (at + len, rest);
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_both_kinds_of_copies_are_decoded() {
        let stored = [0x83, 0xfe, 0xed, 0xfa, 0xce, 0x00, 0x00, 0x40, 0x00, 0x06];
        let mut target = [0; 11];
        assert_eq!(decode(&stored, &mut target), Ok(11));
        assert_eq!(target, [0xfe, 0xed, 0xfa, 0xce, 0xce, 0xce, 0xce, 0xfe, 0xed, 0xfa, 0xce]);
    }

    #[test]
    fn what_leads_outside_is_an_error() {
        for stored in
            [&[0x80][..], &[0x00], &[0x40, 0], &[0x00, 0], &[0x80, 1, 0x00, 1], &[0x80, 1, 0x7f, 0, 1]]
        {
            assert_eq!(decode(stored, &mut [0; 100]), Err(Wrong::Damaged), "{stored:?}");
        }
        for stored in [&[0x81, 1, 2][..], &[0x80, 1, 0x00, 0]] {
            assert_eq!(decode(stored, &mut [0; 1]), Err(Wrong::TooLong), "{stored:?}");
        }
    }
}
