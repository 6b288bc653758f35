//! How the entries of a map are told: a line for each, put together without the machinery of formatting, for there may be
//! millions.

use crate::failure::Failure;
use crate::flags::Output;
use block::Node;
use codec::filename;
use std::sync::Arc;

/// A run of bytes that are all the same kind of thing.
pub(super) struct Entry {
    pub start: u64,
    pub length: u64,
    pub kind: Kind,
    /// Which of the files of [`Lines`], and the offset there.
    pub host: Option<(usize, u64)>,
}

impl Entry {
    /// Whether what comes behind it is of this kind and has this place: then both are one entry.
    pub fn is_continued_by(&self, kind: Kind, host: Option<(usize, u64)>) -> bool {
        let behind = self.host.map(|(file, offset)| (file, offset.checked_add(self.length)));
        self.kind == kind && behind == host.map(|(file, offset)| (file, Some(offset)))
    }
}

/// What kind of thing a run of bytes is.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Kind {
    pub data: bool,
    pub zero: bool,
    pub present: bool,
    pub compressed: bool,
    pub depth: u32,
}

/// Writes entries as lines.
pub(super) struct Lines {
    output: Output,
    /// The files that entries are in, with their names as bytes.
    files: Vec<(Arc<Node>, Vec<u8>)>,
    /// What stands between the numbers of a line, by the kind of its entry, as the last line of such a kind had it.
    middles: Box<[(u32, Vec<u8>); 16]>,
}

impl Lines {
    pub fn new(output: Output) -> Lines {
        Lines { output, files: Vec::new(), middles: Box::default() }
    }

    /// Which of its files this is. It becomes one.
    pub fn file(&mut self, node: &Arc<Node>) -> usize {
        let known = self.files.iter().position(|(known, _)| Arc::ptr_eq(known, node));
        known.unwrap_or_else(|| {
            self.files.push((node.clone(), filename::bytes(node.filename().as_bytes()).into_owned()));
            self.files.len() - 1
        })
    }

    /// The file of that number.
    pub fn node(&self, file: usize) -> Option<&Arc<Node>> {
        self.files.get(file).map(|(node, _)| node)
    }

    /// Adds the line of an entry. `first`: no line stands before it.
    pub fn put(&mut self, text: &mut Vec<u8>, entry: &Entry, first: bool) -> Result<(), Failure> {
        match self.output {
            Output::Human => self.human(text, entry),
            Output::Json => {
                self.json(text, entry, first);
                Ok(())
            }
        }
    }

    fn human(&mut self, text: &mut Vec<u8>, entry: &Entry) -> Result<(), Failure> {
        if !entry.kind.data || entry.kind.zero {
            return Ok(());
        }
        let Some((file, offset)) = entry.host else {
            return Err(Failure::new("File contains external, encrypted or compressed clusters."));
        };
        for number in [entry.start, entry.length, offset] {
            push_hex(text, number);
        }
        text.extend_from_slice(self.files.get(file).map_or(&[][..], |(_, name)| name));
        text.push(b'\n');
        Ok(())
    }

    /// A layout of its own, with blanks inside the braces, which scripts know.
    fn json(&mut self, text: &mut Vec<u8>, entry: &Entry, first: bool) {
        let mut digits = itoa::Buffer::new();
        text.extend_from_slice(if first { b"{ \"start\": " } else { b",\n{ \"start\": " });
        text.extend_from_slice(digits.format(entry.start).as_bytes());
        text.extend_from_slice(b", \"length\": ");
        text.extend_from_slice(digits.format(entry.length).as_bytes());
        text.extend_from_slice(self.middle(entry.kind));
        if let Some((_, offset)) = entry.host {
            text.extend_from_slice(b", \"offset\": ");
            text.extend_from_slice(digits.format(offset).as_bytes());
        }
        text.push(b'}');
    }

    fn middle(&mut self, kind: Kind) -> &[u8] {
        let Kind { data, zero, present, compressed, depth } = kind;
        let flags = [data, zero, present, compressed];
        let at = flags.iter().fold(0, |at, &flag| at << 1 | usize::from(flag));
        let (told, middle) = &mut self.middles[at % 16];
        if middle.is_empty() || *told != depth {
            *told = depth;
            *middle = format!(
                ", \"depth\": {depth}, \"present\": {present}, \"zero\": {zero}, \"data\": {data}, \"compressed\": {compressed}"
            )
            .into_bytes();
        }
        middle
    }
}

/// Width of a column of numbers.
const COLUMN: usize = 16;

/// Puts a number into a column: in hexadecimal with 0x in front, except nought.
fn push_hex(line: &mut Vec<u8>, number: u64) {
    let start = line.len();
    let digits = (u64::BITS - number.leading_zeros()).div_ceil(4).max(1);
    if number > 0 {
        line.extend_from_slice(b"0x");
    }
    for digit in (0..digits).rev() {
        let digit = (number >> (4 * digit) & 0xf) as u8;
        line.push(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
    }
    line.resize(line.len().max(start + COLUMN), b' ');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_columns_are_printed_whole() {
        for number in [0, 9, 10, 4096, u64::MAX - 1, u64::MAX] {
            let mut line = Vec::new();
            push_hex(&mut line, number);
            let hex = if number == 0 { "0".to_owned() } else { format!("{number:#x}") };
            assert_eq!(line, format!("{hex:<16}").into_bytes());
        }
    }

    #[test]
    fn a_line_tells_its_own_entry_whatever_stood_before_it() {
        let mut lines = Lines::new(Output::Json);
        for at in 0..64_u32 {
            let flag = |bit: u32| at >> bit & 1 == 1;
            let (data, zero, present, compressed) = (flag(0), flag(1), flag(2), flag(3));
            let kind = Kind { data, zero, present, compressed, depth: at / 16 };
            let entry = Entry { start: u64::MAX - u64::from(at), length: at.into(), kind, host: None };
            let mut text = Vec::new();
            lines.json(&mut text, &entry, at == 0);
            let told = format!(
                ",\n{{ \"start\": {}, \"length\": {at}, \"depth\": {}, \"present\": {present}, \"zero\": {zero}, \
                 \"data\": {data}, \"compressed\": {compressed}}}",
                entry.start,
                at / 16
            );
            assert_eq!(String::from_utf8_lossy(&text), if at == 0 { &told[2..] } else { &told });
        }
    }
}
