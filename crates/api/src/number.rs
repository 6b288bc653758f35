//! Numbers as text: sizes and integers of the command line.

use thiserror::Error;

/// Why a size cannot be read.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SizeError {
    /// Not a size at all.
    #[error("not a size")]
    Invalid,
    /// A number that is negative or too large.
    #[error("out of range")]
    Range,
}

/// Reads a size in bytes:
///
/// ```text
/// [+] digits [. digits] [b k K M G T P E]      1024-based; 1.5k = 1536; a fraction needs a unit
/// [+] 0x hex-digits                            no unit, no fraction
/// ```
///
/// Fractions are rounded to the nearest byte. Exponents (`1e3`), signs, blanks at the end and anything else after the
/// unit are refused.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let text = text.trim_start();
    if let Some(number) = text.strip_prefix('-') {
        let all_digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        return Err(if all_digits { SizeError::Range } else { SizeError::Invalid });
    }
    let text = text.strip_prefix('+').unwrap_or(text);
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return parse_hex(hex);
    }
    parse_decimal(text)
}

fn parse_hex(digits: &str) -> Result<u64, SizeError> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(SizeError::Invalid);
    }
    u64::from_str_radix(digits, 16).map_err(|_| SizeError::Range)
}

fn parse_decimal(text: &str) -> Result<u64, SizeError> {
    let (whole, rest) = split_digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => split_digits(rest),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(SizeError::Invalid);
    }
    let unit = unit(rest).ok_or(SizeError::Invalid)?;
    let fraction = fraction.trim_end_matches('0');
    if !fraction.is_empty() && unit == 1 {
        return Err(SizeError::Invalid);
    }
    let whole: u128 = match whole {
        "" => 0,
        digits => digits.parse().map_err(|_| SizeError::Range)?,
    };
    let bytes = whole.checked_mul(u128::from(unit)).ok_or(SizeError::Range)?;
    let bytes = bytes.checked_add(fraction_of(fraction, unit)).ok_or(SizeError::Range)?;
    u64::try_from(bytes).map_err(|_| SizeError::Range)
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

/// The part of `unit` that the digits after the point stand for, to the nearest byte that a double can tell.
fn fraction_of(digits: &str, unit: u64) -> u128 {
    let fraction: f64 = format!("0.{digits}").parse().unwrap_or(0.0);
    (fraction * unit as f64).round() as u128
}

fn unit(suffix: &str) -> Option<u64> {
    Some(match suffix {
        "" | "b" | "B" => 1,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        "g" | "G" => 1 << 30,
        "t" | "T" => 1 << 40,
        "p" | "P" => 1 << 50,
        "e" | "E" => 1 << 60,
        _ => return None,
    })
}

/// An integer of the command line: decimal or `0x` hexadecimal, with an optional sign.
pub(crate) fn parse_integer(text: &str) -> Option<i128> {
    let text = text.trim_start();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let magnitude = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => i128::from(parse_hex(hex).ok()?),
        None if digits.is_empty() => return None,
        None => i128::try_from(decimal(digits)?).ok()?,
    };
    Some(if negative { -magnitude } else { magnitude })
}

/// Digits only; an empty text is 0.
fn decimal(digits: &str) -> Option<u128> {
    digits.bytes().try_fold(0u128, |n, b| {
        let digit = b.is_ascii_digit().then(|| u128::from(b - b'0'))?;
        n.checked_mul(10)?.checked_add(digit).filter(|n| *n <= 1 << 64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_fractions_and_hexadecimal_are_read() {
        for (text, bytes) in [
            ("0", 0),
            ("1024b", 1024),
            ("1k", 1024),
            ("1.5K", 1536),
            (".5k", 512),
            ("5.k", 5120),
            ("1024.0b", 1024),
            (" +1k", 1024),
            ("0x10", 16),
            ("010", 10),
            ("1.1k", 1126),
            ("1.0006k", 1025),
            ("1.9999999999k", 2048),
            ("0.1M", 104858),
            ("7.9E", 9108079886394091136),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_told_from_what_is_too_large() {
        for text in
            ["", ".", ".k", "1e3", "1.5", "1.5b", "0x1k", "0x", "1kk", "1x", "5 ", "-1k", "-", "-x", "1kB"]
        {
            assert_eq!(parse_size(text), Err(SizeError::Invalid), "{text:?}");
        }
        for text in
            ["-1", "-0", "16E", "18446744073709551616", "99999999999999999999999999999999999999999999"]
        {
            assert_eq!(parse_size(text), Err(SizeError::Range), "{text:?}");
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
