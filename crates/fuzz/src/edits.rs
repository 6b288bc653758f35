//! Images in qcow2 that were sound before their structures were changed one field at a time: a fuzzer gets behind the header's
//! checks with every input.
//!
//! ```text
//! input ─▶ which image · edit, edit, …       an edit: which structure · which field of it · which value
//! ```
//!
//! The images are those of [`qcow2::seeds`]: what is added there is edited here.

use std::sync::OnceLock;

use crate::bytes::Bytes;
use crate::qcow2;

/// Most edits of one image.
const EDITS: usize = 16;

/// The header's fields: offset and width in bytes.
const HEADER: [(usize, usize); 19] = [
    (4, 4),
    (8, 8),
    (16, 4),
    (20, 4),
    (24, 8),
    (32, 4),
    (36, 4),
    (40, 8),
    (48, 8),
    (56, 4),
    (60, 4),
    (64, 8),
    (72, 8),
    (80, 8),
    (88, 8),
    (96, 4),
    (100, 4),
    (104, 1),
    (105, 1),
];

/// The type of the header extension that leads to bitmaps.
const BITMAPS: u64 = 0x2385_2875;

/// Bits of an entry that are an offset.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;

/// Values at which what reads them may break.
const EDGES: [u64; 16] = [
    0,
    1,
    2,
    9,
    0x1ff,
    0x200,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 33,
    1 << 62,
    1 << 63,
    OFFSET,
    i64::MAX as u64,
    u64::MAX,
];

/// Edits an image as the input says, and drives it as [`qcow2::image`] does, with its laws.
pub fn edits(input: &[u8]) {
    static IMAGES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    let images = IMAGES.get_or_init(qcow2::seeds);
    let mut input = Bytes(input);
    let which = usize::from(input.byte()).checked_rem(images.len()).unwrap_or(0);
    let mut image = Edited(images.get(which).cloned().unwrap_or_default());
    for _ in 0..EDITS {
        if input.0.is_empty() {
            break;
        }
        image.edit(&mut input);
    }
    qcow2::image(&image.0);
}

/// One edit of each structure in each image.
pub fn seeds() -> Vec<Vec<u8>> {
    let images = qcow2::seeds().len().min(255) as u8;
    let edits = (0..STRUCTURES).flat_map(|structure| (0..VALUES).map(move |value| (structure, value)));
    let seed = |(image, (structure, value)): (u8, (u8, u8))| {
        vec![image, structure, 0, value.wrapping_mul(3), value, 0, 0, 0, 0, 0, 0, 1, value]
    };
    (0..images).cycle().zip(edits).map(seed).collect()
}

/// How many kinds of structure [`Edited::field`] knows.
const STRUCTURES: u8 = 11;

/// How many kinds of value [`Edited::value`] knows.
const VALUES: u8 = 6;

/// An image that is being edited.
struct Edited(Vec<u8>);

impl Edited {
    /// The number of `width` bytes at an offset; 0 beyond the end.
    fn get(&self, at: u64, width: usize) -> u64 {
        let bytes = usize::try_from(at).ok().and_then(|at| self.0.get(at..at.checked_add(width)?));
        bytes.unwrap_or_default().iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn put(&mut self, at: u64, width: usize, value: u64) {
        let bytes = value.to_be_bytes();
        let bytes = bytes.get(8usize.saturating_sub(width)..).unwrap_or_default();
        let places = self.0.iter_mut().skip(usize::try_from(at).unwrap_or(usize::MAX));
        places.zip(bytes).for_each(|(place, byte)| *place = *byte);
    }

    fn cluster(&self) -> u64 {
        1 << self.get(20, 4).min(21)
    }

    /// Bytes of an entry of an L2 table.
    fn entry(&self) -> u64 {
        if self.get(72, 8) & 1 << 4 == 0 { 8 } else { 16 }
    }

    /// Where the header extensions begin, each: its offset, its type, its length.
    fn extensions(&self) -> Vec<(u64, u64, u64)> {
        let (mut found, mut at) = (Vec::new(), if self.get(4, 4) < 3 { 72 } else { self.get(100, 4) });
        while found.len() < 16 {
            let (kind, len) = (self.get(at, 4), self.get(at.saturating_add(4), 4));
            found.push((at, kind, len));
            if kind == 0 {
                break;
            }
            at = at.saturating_add(8).saturating_add(len.next_multiple_of(8));
        }
        found
    }

    /// The directory of bitmaps.
    fn directory(&self) -> u64 {
        let extension = self.extensions().into_iter().find(|(_, kind, _)| *kind == BITMAPS);
        extension.map_or(0, |(at, ..)| self.get(at.saturating_add(24), 8))
    }

    /// A field: its offset and width.
    fn field(&self, structure: u8, index: u64) -> (u64, usize) {
        let entry_of = |table: u64, nth: u64| table.saturating_add(nth.saturating_mul(8));
        let led_to = |table: u64, nth: u64| self.get(entry_of(table, nth), 8) & OFFSET;
        let (l1, counts) = (self.get(40, 8), self.get(48, 8));
        let (high, low) = (index >> 8, index & 0xff);
        match structure % STRUCTURES {
            0 => {
                let nth = (low as usize).checked_rem(HEADER.len()).unwrap_or(0);
                HEADER.get(nth).map_or((0, 4), |(at, width)| (*at as u64, *width))
            }
            1 => {
                let extensions = self.extensions();
                let nth = (high as usize).checked_rem(extensions.len()).unwrap_or(0);
                let at = extensions.get(nth).map_or(0, |(at, ..)| *at);
                (at.saturating_add(low % 64 * 4), 4)
            }
            2 => (entry_of(l1, low), 8),
            3 => (led_to(l1, high % 8).saturating_add(low % 128 * self.entry()), 8),
            4 => (
                led_to(l1, high % 8)
                    .saturating_add(low % 128 * self.entry())
                    .saturating_add(self.entry() - 8),
                8,
            ),
            5 => (entry_of(counts, low % 16), 8),
            6 => (led_to(counts, 0).saturating_add(index % 512), 2),
            7 => (self.get(64, 8).saturating_add(low * 4), 4),
            8 => (self.directory().saturating_add(low * 4), 4),
            9 => (entry_of(self.get(entry_of(self.directory(), high % 4), 8), low), 8),
            _ => (index, 1),
        }
    }

    /// What is written there instead of `old`.
    fn value(&self, kind: u8, old: u64, number: u64) -> u64 {
        let structures =
            [self.get(40, 8), self.get(48, 8), self.get(64, 8), self.directory(), self.0.len() as u64];
        match kind % VALUES {
            0 => EDGES.get((number % 16) as usize).copied().unwrap_or(0),
            1 => old ^ 1 << (number % 64),
            2 => old.wrapping_add(number % 16).wrapping_sub(8),
            // A cluster of the file, with the flags of an entry.
            3 => (number % 64).wrapping_mul(self.cluster()) | number & 1 << 63 | number & 1 << 62,
            // Another structure.
            4 => structures.get((number % 5) as usize).copied().unwrap_or(0) | old & !OFFSET,
            _ => number,
        }
    }

    fn edit(&mut self, input: &mut Bytes<'_>) {
        let (structure, index, kind) = (input.byte(), input.short() as u64, input.byte());
        let number = input.take(8).iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
        let (at, width) = self.field(structure, index);
        let value = self.value(kind, self.get(at, width), number);
        self.put(at, width, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn edits_reach_every_structure_of_an_image_that_has_it() {
        let mut reached = BTreeSet::new();
        for image in qcow2::seeds() {
            let edited = Edited(image);
            for structure in 0..STRUCTURES {
                for index in [0, 1, 256, 257] {
                    let (at, width) = edited.field(structure, index);
                    if at + width as u64 <= edited.0.len() as u64 && at > 0 {
                        reached.insert(structure);
                    }
                }
            }
        }
        assert_eq!(reached.len(), usize::from(STRUCTURES));
    }
}
