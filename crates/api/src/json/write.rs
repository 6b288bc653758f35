//! Values to text, as QEMU's programs write it: on one line for QMP, or indented by four for people and scripts.
//! Everything outside printable ASCII is escaped, except in a name that is to be opened again.

use super::order::Ordered;
use crate::Value;
use std::fmt::{self, Write};

/// How text is written.
#[derive(Clone, Copy)]
struct Style {
    /// The indentation in steps of four; none for one line.
    level: Option<usize>,
    /// Characters outside of ASCII stand as they are: a byte of a file name that is no text could not be escaped.
    verbatim: bool,
}

impl Style {
    fn deeper(self) -> Style {
        Style { level: self.level.map(|level| level + 1), ..self }
    }
}

/// On one line: `{"return": {}}`.
pub fn to_line(value: &Value) -> String {
    text(value, Style { level: None, verbatim: false })
}

/// Over several lines, without a newline at the end.
pub fn to_pretty(value: &Value) -> String {
    text(value, Style { level: Some(0), verbatim: false })
}

/// On one line, for the name of an image that begins with `json:`.
pub fn to_name(value: &Value) -> String {
    text(value, Style { level: None, verbatim: true })
}

/// As [`to_pretty`], piece by piece: the whole text need not be held.
pub fn write_pretty(out: &mut impl Write, value: &Value) -> fmt::Result {
    let mut pieces = Pieces { out, held: String::new() };
    write(&mut pieces, value, Style { level: Some(0), verbatim: false }, &mut Ordered::default())?;
    pieces.out.write_str(&pieces.held)
}

/// Bytes of a piece.
const PIECE: usize = 4096;

/// Joins what is written to pieces of some size.
struct Pieces<'a, W> {
    out: &'a mut W,
    held: String,
}

impl<W: Write> Write for Pieces<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.held.push_str(text);
        if self.held.len() >= PIECE {
            self.out.write_str(&self.held)?;
            self.held.clear();
        }
        Ok(())
    }
}

fn text(value: &Value, style: Style) -> String {
    let mut out = String::new();
    // Writing to a string never fails.
    write(&mut out, value, style, &mut Ordered::default()).ok();
    out
}

/// Recursion is bounded by the depth of what the parser or the types can make.
fn write<'v>(out: &mut impl Write, value: &'v Value, style: Style, ordered: &mut Ordered<'v>) -> fmt::Result {
    let level = style.level;
    match value {
        Value::Null => out.write_str("null"),
        Value::Bool(flag) => out.write_str(if *flag { "true" } else { "false" }),
        Value::Int(n) => out.write_str(itoa::Buffer::new().format(*n)),
        Value::Uint(n) => out.write_str(itoa::Buffer::new().format(*n)),
        Value::Float(n) => out.write_str(&float(*n)),
        Value::String(text) => string(out, text, style),
        Value::List(elements) => {
            out.write_char('[')?;
            for (i, element) in elements.iter().enumerate() {
                separate(out, i, level)?;
                write(out, element, style.deeper(), ordered)?;
            }
            break_line(out, level)?;
            out.write_char(']')
        }
        Value::Dict(dict) => {
            out.write_char('{')?;
            let outer = ordered.begin(dict);
            let mut i = 0;
            while let Some((name, member)) = ordered.next(outer, dict) {
                separate(out, i, level)?;
                i += 1;
                string(out, name, style)?;
                out.write_str(": ")?;
                write(out, member, style.deeper(), ordered)?;
            }
            break_line(out, level)?;
            out.write_char('}')
        }
    }
}

fn separate(out: &mut impl Write, index: usize, level: Option<usize>) -> fmt::Result {
    if index > 0 {
        out.write_str(if level.is_some() { "," } else { ", " })?;
    }
    break_line(out, level.map(|l| l + 1))
}

fn break_line(out: &mut impl Write, level: Option<usize>) -> fmt::Result {
    let Some(level) = level else { return Ok(()) };
    out.write_char('\n')?;
    (0..level).try_for_each(|_| out.write_str("    "))
}

fn string(out: &mut impl Write, text: &str, style: Style) -> fmt::Result {
    out.write_char('"')?;
    // Most texts stand as they are: every byte is looked at without a branch, many at a time.
    if !text.bytes().fold(false, |found, byte| found | is_escaped(byte)) {
        out.write_str(text)?;
        return out.write_char('"');
    }
    let mut rest = text;
    while let Some(end) = rest.bytes().position(is_escaped) {
        let (as_it_is, from) = rest.split_at_checked(end).unwrap_or((rest, ""));
        out.write_str(as_it_is)?;
        let mut chars = from.chars();
        if let Some(c) = chars.next() {
            escape(out, c, style)?;
        }
        rest = chars.as_str();
    }
    out.write_str(rest)?;
    out.write_char('"')
}

/// Whether a character that begins with this byte does not stand as it is.
fn is_escaped(byte: u8) -> bool {
    !matches!(byte, b' '..=b'~') || matches!(byte, b'"' | b'\\')
}

fn escape(out: &mut impl Write, c: char, style: Style) -> fmt::Result {
    match c {
        '"' => out.write_str("\\\""),
        '\\' => out.write_str("\\\\"),
        '\u{8}' => out.write_str("\\b"),
        '\u{c}' => out.write_str("\\f"),
        '\n' => out.write_str("\\n"),
        '\r' => out.write_str("\\r"),
        '\t' => out.write_str("\\t"),
        c if style.verbatim && !c.is_control() => out.write_char(c),
        // A byte of a file name that is no text.
        c if codec::filename::is_byte(c) => out.write_str("\\uFFFD"),
        _ => {
            let mut units = [0; 2];
            c.encode_utf16(&mut units).iter().try_for_each(|unit| {
                out.write_str("\\u")?;
                let digit = |at: u32| char::from_digit(u32::from(*unit) >> at & 15, 16).unwrap_or('0');
                [12, 8, 4, 0].into_iter().try_for_each(|at| out.write_char(digit(at).to_ascii_uppercase()))
            })
        }
    }
}

/// With 17 significant digits, which name every double, without trailing zeros: C's `%.17g`.
fn float(n: f64) -> String {
    if !n.is_finite() {
        return "null".into();
    }
    let scientific = format!("{n:.16e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let Ok(exponent) = exponent.parse::<i32>() else { return scientific };
    if (-4..17).contains(&exponent) {
        let decimals = usize::try_from(16 - exponent).unwrap_or_default();
        return trimmed(&format!("{n:.decimals$}")).into();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trimmed(mantissa), exponent.unsigned_abs())
}

fn trimmed(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_letters_and_escapes_what_controls() {
        let text = Value::from("\u{e9}\n\u{85}\"");
        assert_eq!(to_name(&text), "\"\u{e9}\\n\\u0085\\\"\"");
        assert_eq!(to_line(&text), r#""\u00E9\n\u0085\"""#);
    }

    #[test]
    fn what_is_written_piece_by_piece_is_the_same_text() {
        let long = "a\u{1}\u{fffd}\u{1f600}\"\\".repeat(PIECE);
        let list = Value::List(vec![Value::from(long.as_str()), Value::Int(-1), Value::List(Vec::new())]);
        let mut out = String::new();
        write_pretty(&mut out, &list).unwrap();
        assert_eq!(out, to_pretty(&list));
        assert!(out.contains(r#"a\u0001\uFFFD\uD83D\uDE00\"\\"#));
    }

    #[test]
    fn floats_print_as_clients_know_them() {
        for (n, text) in [
            (0.1, "0.10000000000000001"),
            (1.5, "1.5"),
            (3.0, "3"),
            (1e20, "1e+20"),
            (1e300, "1.0000000000000001e+300"),
            (18446744073709551616.0, "1.8446744073709552e+19"),
            (-9223372036854775809.0, "-9.2233720368547758e+18"),
            (-0.0, "-0"),
            (1e-5, "1.0000000000000001e-05"),
            (0.0001, "0.0001"),
        ] {
            assert_eq!(float(n), text);
        }
    }
}
