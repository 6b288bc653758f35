//! Sizes as people write and read them.

pub use api::{SizeError, parse_size as parse};

const PREFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// A size in three significant digits: `1.33 MiB`. A unit serves until 1000 of it, then the next one does.
pub fn human(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut prefix = 0;
    while value >= 1000.0 && prefix + 1 < PREFIXES.len() {
        value /= 1024.0;
        prefix += 1;
    }
    format!("{} {}B", three_digits(value), PREFIXES.get(prefix).copied().unwrap_or_default())
}

/// `value` (at least 0, below about 1000) in three significant digits, zeros at the end of a fraction left out.
fn three_digits(value: f64) -> String {
    // Round first: 9.996 has one digit before the point, but is printed as 10.
    let places = match format!("{value:.2e}").split_once('e').and_then(|(_, power)| power.parse::<i32>().ok())
    {
        Some(power) => usize::try_from(2 - power).unwrap_or(0),
        None => 0,
    };
    let text = format!("{value:.places$}");
    if !text.contains('.') {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A size with all that three digits after the point can show: `1.500 KiB`, `64 KiB`, `832 bytes`.
pub fn exact(bytes: u64) -> String {
    exact_of(bytes as f64)
}

/// [`exact`] of a size that need not be whole, such as a rate.
pub fn exact_of(bytes: f64) -> String {
    let mut value = bytes;
    let mut prefix = 0;
    while value >= 1024.0 && prefix + 1 < PREFIXES.len() {
        value /= 1024.0;
        prefix += 1;
    }
    if prefix == 0 {
        let text = format!("{value:.6}");
        return format!("{} bytes", text.strip_suffix(".000000").unwrap_or(&text));
    }
    let text = format!("{value:.3}");
    let text = text.strip_suffix(".000").unwrap_or(&text);
    format!("{text} {}B", PREFIXES.get(prefix).copied().unwrap_or_default())
}

/// A whole number as C programs read it: decimal, `0x` hexadecimal or `0` octal.
pub fn whole(text: &str) -> Option<u64> {
    let digits = |text: &str, radix| {
        let plain = text.chars().all(|c| c.is_digit(radix));
        u64::from_str_radix(text, radix).ok().filter(|_| plain)
    };
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return digits(hex, 16);
    }
    match text.strip_prefix('0') {
        Some(octal) if !octal.is_empty() => digits(octal, 8),
        _ => digits(text, 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_are_shown_to_people() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "0.977 KiB"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (102400, "100 KiB"),
            (1022976, "999 KiB"),
            (1024000, "0.977 MiB"),
            (1047552, "0.999 MiB"),
            (1392640, "1.33 MiB"),
            (10230272, "9.76 MiB"),
            (10995116277760, "10 TiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }

    #[test]
    fn whole_numbers_are_read_by_their_beginning() {
        for (text, number) in [("0", Some(0)), ("10", Some(10)), ("0x10", Some(16)), ("010", Some(8))] {
            assert_eq!(whole(text), number, "{text}");
        }
        for text in ["", "-1", "+1", "08", "0x", "1k", " 1", "18446744073709551616"] {
            assert_eq!(whole(text), None, "{text}");
        }
    }

    #[test]
    fn exact_sizes_change_unit_at_1024() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1, "1 bytes"),
            (1023, "1023 bytes"),
            (1536, "1.500 KiB"),
            (65536, "64 KiB"),
            (123456789, "117.738 MiB"),
            (1 << 40, "1 TiB"),
        ] {
            assert_eq!(exact(bytes), text);
        }
    }
}
