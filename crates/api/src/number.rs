//! Numbers as text: sizes and integers of the command line.

/// Bytes from text: a decimal number with an optional fraction and one of the suffixes B, k, M, G, T, P, E (powers of
/// 1024, in either case), or a hexadecimal number after `0x`. `None`: anything else, or 2^64 bytes and more.
pub fn parse_size(text: &str) -> Option<u64> {
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return hexadecimal(digits);
    }
    let (number, shift) = match text.char_indices().last()? {
        (i, c) if c.is_ascii_alphabetic() => (text.get(..i)?, suffix_shift(c)?),
        _ => (text, 0),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || (number.contains('.') && fraction.is_empty()) {
        return None;
    }
    let whole = decimal(whole)?.checked_mul(1u128 << shift)?;
    // 18 digits are exact to a byte at every suffix.
    let fraction =
        fraction.get(..fraction.len().min(18)).filter(|_| fraction.bytes().all(|b| b.is_ascii_digit()))?;
    let scale = 10u128.checked_pow(fraction.len().try_into().ok()?)?;
    let part = decimal(fraction)?.checked_mul(1u128 << shift)?.checked_div(scale)?;
    u64::try_from(whole.checked_add(part)?).ok()
}

/// An integer of the command line: decimal or `0x` hexadecimal, with an optional sign.
pub(crate) fn parse_integer(text: &str) -> Option<i128> {
    let text = text.trim_start();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let magnitude = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => i128::from(hexadecimal(hex)?),
        None if digits.is_empty() => return None,
        None => i128::try_from(decimal(digits)?).ok()?,
    };
    Some(if negative { -magnitude } else { magnitude })
}

fn suffix_shift(suffix: char) -> Option<u32> {
    Some(match suffix.to_ascii_lowercase() {
        'b' => 0,
        'k' => 10,
        'm' => 20,
        'g' => 30,
        't' => 40,
        'p' => 50,
        'e' => 60,
        _ => return None,
    })
}

/// Digits only; an empty text is 0.
fn decimal(digits: &str) -> Option<u128> {
    digits.bytes().try_fold(0u128, |n, b| {
        let digit = b.is_ascii_digit().then(|| u128::from(b - b'0'))?;
        n.checked_mul(10)?.checked_add(digit).filter(|n| *n <= 1 << 64)
    })
}

fn hexadecimal(digits: &str) -> Option<u64> {
    let fits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
    fits.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_suffixes_and_fractions_and_nothing_else() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("1k", 1024),
            ("1.5K", 1536),
            ("1.5M", 3 << 19),
            ("2G", 2 << 30),
            ("7E", 7 << 60),
            ("0x100", 256),
            ("18446744073709551615", u64::MAX),
            ("0.000000001G", 1),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in [
            "", "k", "-1", "+1", "1e3", "1kB", "1.", ".5", "1.k", "16E", "0x", "0xg", "1 k", "1.-5", "é",
            "1é",
        ] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn integers_are_decimal_or_hexadecimal() {
        for (text, n) in [("1", 1), ("-5", -5), ("0x10", 16), ("-0x10", -16), (" 7", 7)] {
            assert_eq!(parse_integer(text), Some(n), "{text}");
        }
        for text in ["", "-", "1k", "0x", "1.0", "--1", "99999999999999999999999"] {
            assert_eq!(parse_integer(text), None, "{text}");
        }
    }
}
