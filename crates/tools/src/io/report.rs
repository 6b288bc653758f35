//! What `io` prints about a request: counts, rate, dumps, pattern mismatches.

use crate::console::Console;
use crate::{out, outln, size};
use std::time::Duration;

/// How a finished request is reported: in two lines for people, if nothing else is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Not at all.
    pub quiet: bool,
    /// In one line of numbers with commas.
    pub machine: bool,
}

/// Reports a request: `verb` of `done` bytes, all that was asked, at `offset`, in `took`.
pub fn request(
    console: &mut Console,
    style: Style,
    verb: &str,
    offset: i64,
    asked: u64,
    done: u64,
    took: Duration,
) {
    let seconds = took.as_secs_f64();
    let (bytes_rate, ops_rate) = (done as f64 / seconds, 1.0 / seconds);
    if style.quiet {
        return;
    }
    if style.machine {
        outln!(console, "{done},1,{},{bytes_rate:.3},{ops_rate:.3}", fixed_clock(took));
        return;
    }
    outln!(console, "{verb} {done}/{asked} bytes at offset {offset}");
    let (total, rate) = (size::exact(done), size::exact_of(bytes_rate));
    outln!(console, "{total}, 1 ops; {} ({rate}/sec and {ops_rate:.4} ops/sec)", clock(took));
}

/// Hundredths of a second; hours and minutes only where there are any.
fn clock(took: Duration) -> String {
    let (hours, minutes, seconds, hundredths) = split(took);
    if hours == 0 && minutes == 0 {
        format!("{seconds:02}.{hundredths:02} sec")
    } else {
        format!("{hours}:{minutes:02}:{seconds:02}.{hundredths:02}")
    }
}

fn fixed_clock(took: Duration) -> String {
    let (hours, minutes, seconds, hundredths) = split(took);
    format!("{hours}:{minutes:02}:{seconds:02}.{hundredths:02}")
}

fn split(took: Duration) -> (u64, u64, u64, u32) {
    let seconds = took.as_secs();
    (seconds / 3600, seconds / 60 % 60, seconds % 60, took.subsec_millis() / 10)
}

/// Bytes a row of a dump shows.
const ROW: usize = 16;

/// Prints bytes in hexadecimal and, where printable, as text.
pub fn dump(console: &mut Console, style: Style, offset: i64, bytes: &[u8]) {
    if style.quiet {
        return;
    }
    let mut at = offset;
    for row in bytes.chunks(ROW) {
        out!(console, "{at:08x}:  ");
        row.iter().for_each(|byte| out!(console, "{byte:02x} "));
        out!(console, " ");
        for byte in row {
            let shown = if byte.is_ascii_alphanumeric() { char::from(*byte) } else { '.' };
            out!(console, "{shown}");
        }
        outln!(console);
        at += ROW as i64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_shows_hours_only_when_there_are_minutes() {
        assert_eq!(clock(Duration::from_millis(1239)), "01.23 sec");
        assert_eq!(clock(Duration::from_secs(3723)), "1:02:03.00");
        assert_eq!(fixed_clock(Duration::from_millis(10)), "0:00:00.01");
    }
}
