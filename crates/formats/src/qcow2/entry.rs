//! What the entries of an L2 table mean, and where their pages are: arithmetic only.
//!
//! ```text
//!  guest cluster ─┬─ L1 index = cluster >> entry_bits ──▶ L2 table
//!                 └─ slice    = cluster >> slice_bits ──▶ page of that table, cached under this number
//! ```
//! Specification: qcow2.rst, "Cluster mapping".
use super::header::{COMPRESSED, COPIED, Header, OFFSET_MASK, ZERO};
use block::metacache::Run;

/// log2 of the words of a page, where the table has as many.
const PAGE_BITS: u32 = 9;
/// Bytes of a slice, where the table has as many and nothing else is asked for.
pub(super) const DEFAULT_SLICE: u64 = 8 << PAGE_BITS;

/// The numbers that follow from the header and never change while the image is open; all but `slice_bits`, which an
/// option decides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    /// log2 of the cluster size.
    pub cluster_bits: u32,
    /// log2 of the entries of an L2 table.
    pub entry_bits: u32,
    /// log2 of the words of a slice: what is read of an L2 table at a time.
    pub slice_bits: u32,
    /// log2 of the words of a page of a refcount block.
    pub page_bits: u32,
    /// log2 of the bits of a refcount.
    pub refcount_order: u32,
    /// The zero flag exists (version 3).
    pub zero_flag: bool,
}

impl Geometry {
    pub fn of(header: &Header) -> Self {
        let entry_bits = header.cluster_bits - 3;
        Self {
            cluster_bits: header.cluster_bits,
            entry_bits,
            slice_bits: entry_bits.min(PAGE_BITS),
            page_bits: entry_bits.min(PAGE_BITS),
            refcount_order: header.refcount_order,
            zero_flag: header.version >= 3,
        }
    }

    /// Bytes of a cluster.
    pub fn cluster_size(self) -> u64 {
        1 << self.cluster_bits
    }

    /// The cluster that a byte offset is in.
    pub fn cluster(self, offset: u64) -> u64 {
        offset >> self.cluster_bits
    }

    /// Clusters that `bytes` take.
    pub fn clusters(self, bytes: u64) -> u64 {
        bytes.div_ceil(self.cluster_size())
    }

    /// Bytes between the start of its cluster and `offset`.
    pub fn within(self, offset: u64) -> u64 {
        offset & (self.cluster_size() - 1)
    }

    /// The slice that has the entry of a guest cluster.
    pub fn slice(self, cluster: u64) -> u64 {
        cluster >> self.slice_bits
    }

    /// The index of a guest cluster's entry in its slice.
    pub fn index(self, cluster: u64) -> usize {
        (cluster & (self.slice_words() as u64 - 1)) as usize
    }

    /// Words of a slice.
    pub fn slice_words(self) -> usize {
        1 << self.slice_bits
    }

    /// Words of a page of a refcount block.
    pub fn page_words(self) -> usize {
        1 << self.page_bits
    }

    /// Slices of an L2 table.
    pub fn slices(self) -> u64 {
        1 << (self.entry_bits - self.slice_bits)
    }

    /// The L1 index of a slice.
    pub fn l1_index(self, slice: u64) -> u64 {
        slice >> (self.entry_bits - self.slice_bits)
    }

    /// Byte offset of a slice in its L2 table.
    pub fn slice_offset(self, slice: u64) -> u64 {
        (slice & (self.slices() - 1)) << (self.slice_bits + 3)
    }

    /// Guest bytes that an L1 entry maps.
    pub fn l1_span(self) -> u64 {
        1 << (self.entry_bits + self.cluster_bits)
    }

    /// Guest clusters from `cluster` to the end of its slice.
    pub fn to_slice_end(self, cluster: u64) -> u64 {
        self.slice_words() as u64 - self.index(cluster) as u64
    }

    /// Refcounts of a page.
    pub fn counts_per_page(self) -> u64 {
        1 << (self.page_bits + 6 - self.refcount_order)
    }

    /// Refcounts of a block.
    pub fn counts_per_block(self) -> u64 {
        1 << (self.cluster_bits + 3 - self.refcount_order)
    }

    /// The entry of a cluster of this image's own at a host offset.
    pub fn owned(self, host: u64) -> u64 {
        host | COPIED
    }
}

/// Where a compressed cluster's bytes are in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stream {
    /// Byte offset of the first byte.
    pub offset: u64,
    /// Bytes that the stream may take; it may end earlier.
    pub len: u64,
}

/// An L2 entry, understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// Not in this image.
    Hole,
    /// Reads as zeroes; `host` is reserved for it.
    Zero { host: Option<u64>, owned: bool },
    /// In a cluster of its own.
    Data { host: u64, owned: bool },
    /// Compressed.
    Compressed(Stream),
    /// Not a valid entry.
    Bad(&'static str),
}

impl Entry {
    /// What a word of an L2 table means.
    pub fn of(word: u64, g: Geometry) -> Self {
        if word & COMPRESSED != 0 {
            return Self::compressed(word, g);
        }
        let (host, owned) = (word & OFFSET_MASK, word & COPIED != 0);
        if word & !(OFFSET_MASK | COPIED | ZERO) != 0 || (word & ZERO != 0 && !g.zero_flag) {
            return Self::Bad("reserved bits are set");
        }
        if g.within(host) != 0 {
            return Self::Bad("it is not aligned to a cluster");
        }
        if host == 0 && owned {
            return Self::Bad("it would be the header's cluster");
        }
        match (word & ZERO != 0, host) {
            (false, 0) => Self::Hole,
            (true, 0) => Self::Zero { host: None, owned: false },
            (true, host) => Self::Zero { host: Some(host), owned },
            (false, host) => Self::Data { host, owned },
        }
    }

    fn compressed(word: u64, g: Geometry) -> Self {
        if word & COPIED != 0 {
            return Self::Bad("a compressed cluster can't be marked as this image's own");
        }
        let offset_bits = 62 - (g.cluster_bits - 8);
        let offset = word & ((1 << offset_bits) - 1);
        let sectors = ((word & (COMPRESSED - 1)) >> offset_bits) + 1;
        if offset >> 56 != 0 {
            return Self::Bad("reserved bits are set");
        }
        Self::Compressed(Stream { offset, len: sectors * 512 - offset % 512 })
    }

    /// Host clusters that the entry refers to.
    pub fn host_clusters(self, g: Geometry) -> Option<Run> {
        match self {
            Self::Data { host, .. } | Self::Zero { host: Some(host), .. } => {
                Some(Run { start: g.cluster(host), count: 1 })
            }
            Self::Compressed(s) => {
                let (first, last) = (g.cluster(s.offset), g.cluster(s.offset + s.len - 1));
                Some(Run { start: first, count: last - first + 1 })
            }
            Self::Hole | Self::Zero { host: None, .. } | Self::Bad(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(cluster_bits: u32) -> Geometry {
        let entry_bits = cluster_bits - 3;
        Geometry {
            cluster_bits,
            entry_bits,
            slice_bits: entry_bits.min(9),
            page_bits: entry_bits.min(9),
            refcount_order: 4,
            zero_flag: true,
        }
    }

    #[test]
    fn every_wrong_kind_of_entry_is_told_from_the_right_ones() {
        let g = geometry(16);
        assert_eq!(Entry::of(0, g), Entry::Hole);
        assert_eq!(Entry::of(1, g), Entry::Zero { host: None, owned: false });
        assert_eq!(Entry::of(0x50000 | COPIED, g), Entry::Data { host: 0x50000, owned: true });
        assert_eq!(Entry::of(0x50001, g), Entry::Zero { host: Some(0x50000), owned: false });
        for bad in [COPIED, 0x50200, 0x50002, 1 << 56, 1 << 61, COPIED | COMPRESSED | 0x50000] {
            assert!(matches!(Entry::of(bad, g), Entry::Bad(_)), "{bad:#x}");
        }
        assert!(matches!(Entry::of(1, Geometry { zero_flag: false, ..g }), Entry::Bad(_)));
    }

    #[test]
    fn a_compressed_entry_tells_its_bytes_and_the_clusters_they_touch() {
        let g = geometry(16);
        // 3 sectors from 0x5fe10 on: to the end of sector 0x60200.
        let entry = Entry::of(COMPRESSED | (2 << 54) | 0x5_fe10, g);
        assert_eq!(entry, Entry::Compressed(Stream { offset: 0x5_fe10, len: 3 * 512 - 0x10 }));
        assert_eq!(entry.host_clusters(g), Some(Run { start: 5, count: 2 }));
    }

    #[test]
    fn small_clusters_have_pages_of_one_table() {
        let g = geometry(9);
        assert_eq!((g.slice_words(), g.slices(), g.l1_span()), (64, 1, 64 * 512));
        let g = geometry(21);
        assert_eq!((g.slice_words(), g.slices(), g.slice_offset(513)), (512, 512, 4096));
        let g = Geometry { slice_bits: 6, ..g };
        assert_eq!((g.slice_words(), g.slices(), g.slice_offset(4097)), (64, 4096, 512));
        assert_eq!((g.slice(130), g.index(130), g.to_slice_end(130), g.l1_index(4097)), (2, 2, 62, 1));
    }
}
