//! The block allocation table: an entry for each block of the disk, and after so many one for the bitmap of their sectors.
//!
//! ```text
//!  block 0 │ block 1 │ … │ block ratio - 1 │ their bitmap │ block ratio │ …
//! ```
//!
//! An entry has a state in its lowest three bits, and a place in MiB in its highest 44. A bitmap has a bit for 2^23 sectors, which
//! is what `ratio` blocks have; only images over a parent have any.
//! Specification: MS-VHDX 2.5.
use super::metadata::Metadata;

/// Bytes of a page of the table.
pub(super) const PAGE: u64 = 4096;
/// Entries of a page.
pub(super) const ENTRIES: u64 = PAGE / 8;
/// A block that has a place in the file, all of it.
const PRESENT: u64 = 6;
/// A block of zeroes.
pub(super) const ZERO: u64 = 2;

/// Where a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the file, from this MiB on.
    Here(u64),
    /// The same for the sectors that its bitmap has; the others are the parent's.
    Partly(u64),
    /// Nowhere: it is zeroes.
    Zero,
    /// In the parent.
    Parent,
    /// What it says can't be.
    Wrong,
}

/// The table of an image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bat {
    /// Blocks of the disk.
    pub blocks: u64,
    /// Blocks that have one bitmap.
    pub ratio: u64,
    over_parent: bool,
}

impl Bat {
    pub fn new(metadata: &Metadata) -> Self {
        let ratio = (u64::from(metadata.sector) << 23) / metadata.block;
        Self { blocks: metadata.size.div_ceil(metadata.block), ratio, over_parent: metadata.parent.is_some() }
    }

    /// Entries of the table.
    pub fn entries(&self) -> u64 {
        match self.over_parent {
            true => self.blocks.div_ceil(self.ratio) * (self.ratio + 1),
            false => self.blocks + self.blocks.saturating_sub(1) / self.ratio,
        }
    }

    /// The entry of a block.
    pub fn index_of(&self, block: u64) -> u64 {
        block + block / self.ratio
    }

    /// The block of an entry; `None`: it is that of a bitmap.
    pub fn block_of(&self, index: u64) -> Option<u64> {
        let chunk = index / (self.ratio + 1);
        (index % (self.ratio + 1) != self.ratio).then_some(index - chunk)
    }

    /// The entry of the bitmap of a block.
    pub fn bitmap_of(&self, block: u64) -> u64 {
        (block / self.ratio + 1) * (self.ratio + 1) - 1
    }

    /// What an entry of a block says.
    pub fn place(&self, entry: u64) -> Place {
        let at = place_of(entry);
        match entry & 7 {
            0 if self.over_parent => Place::Parent,
            // Not present, undefined, zero, unmapped, and unmapped as earlier versions had it.
            0 | 1 | ZERO | 3 | 5 => Place::Zero,
            PRESENT if at > 0 => Place::Here(at),
            7 if at > 0 && self.over_parent => Place::Partly(at),
            _ => Place::Wrong,
        }
    }
}

/// The MiB that an entry names.
pub(super) fn place_of(entry: u64) -> u64 {
    entry >> 20
}

/// The entry of a block that is all in the file, from this MiB on.
pub(super) fn present(at: u64) -> u64 {
    at << 20 | PRESENT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bitmaps_lie_between_the_entries_of_blocks() {
        let metadata = Metadata { block: 32 << 20, fixed: false, parent: None, size: 10 << 30, sector: 512 };
        let plain = Bat::new(&metadata);
        assert_eq!((plain.blocks, plain.ratio, plain.entries()), (320, 128, 322));
        assert_eq!((plain.index_of(127), plain.index_of(128), plain.index_of(319)), (127, 129, 321));
        assert_eq!(
            (plain.block_of(127), plain.block_of(128), plain.block_of(129)),
            (Some(127), None, Some(128))
        );
        let over = Bat::new(&Metadata { parent: Some(Vec::new()), ..metadata.clone() });
        assert_eq!((over.entries(), over.bitmap_of(0), over.bitmap_of(128)), (387, 128, 257));
        let large = Bat::new(&Metadata { sector: 4096, ..metadata });
        assert_eq!(large.ratio, 1024);
        assert_eq!(plain.place(present(5)), Place::Here(5));
        assert_eq!(
            [0, 1, 2, 3, 4, 6, 7].map(|state| plain.place(state)),
            [Place::Zero, Place::Zero, Place::Zero, Place::Zero, Place::Wrong, Place::Wrong, Place::Wrong]
        );
        assert_eq!((over.place(0), over.place(3 << 20 | 7)), (Place::Parent, Place::Partly(3)));
    }
}
