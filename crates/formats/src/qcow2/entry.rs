//! What the entries of an L2 table mean, and where their pages are: arithmetic only.
//!
//! ```text
//!  guest cluster ─┬─ L1 index = cluster >> entry_bits ──▶ L2 table
//!                 └─ slice    = cluster >> slice_bits ──▶ page of that table, cached under this number
//! ```
//! Specification: qcow2.rst, "Cluster mapping".
use super::header::{COMPRESSED, COPIED, Header, OFFSET_MASK, ZERO};
use super::image::Page;
use super::subclusters::{self, Part, Subclusters};
use crate::streams::Stream;
use block::metacache::{Be64, Codec, Run};

/// log2 of the words of a page, where the table has as many.
const PAGE_BITS: u32 = 9;
/// Bytes of a slice, where the table has as many and nothing else is asked for.
pub(super) const DEFAULT_SLICE: u64 = 8 << PAGE_BITS;

/// The numbers that follow from the header and do not change while the image is used; all but `slice_bits`, which an
/// option decides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    /// log2 of the cluster size.
    pub cluster_bits: u32,
    /// log2 of the entries of an L2 table.
    pub entry_bits: u32,
    /// Entries have two words: the second one tells of subclusters.
    pub extended: bool,
    /// Guest data is in a file of its own, each cluster at the offset that it has on the disk. Nothing counts references to
    /// its clusters.
    pub data_file: bool,
    /// log2 of the entries of a slice: what is read of an L2 table at a time.
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
        let (extended, word_bits) = (header.has_extended_l2(), header.cluster_bits - 3);
        Self {
            cluster_bits: header.cluster_bits,
            entry_bits: word_bits - u32::from(extended),
            extended,
            data_file: header.has_data_file(),
            slice_bits: word_bits.min(PAGE_BITS) - u32::from(extended),
            page_bits: word_bits.min(PAGE_BITS),
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

    /// Bytes of a subcluster: of what has an answer of its own to where it is.
    pub fn subcluster_size(self) -> u64 {
        if self.extended { self.cluster_size() / u64::from(subclusters::COUNT) } else { self.cluster_size() }
    }

    /// Which subcluster of its cluster the byte `within` it is in.
    pub fn subcluster(self, within: u64) -> u32 {
        (within / self.subcluster_size()) as u32
    }

    /// The slice that has the entry of a guest cluster.
    pub fn slice(self, cluster: u64) -> u64 {
        cluster >> self.slice_bits
    }

    /// The index of a guest cluster's entry in its slice.
    pub fn index(self, cluster: u64) -> usize {
        (cluster & (self.slice_entries() - 1)) as usize
    }

    /// Entries of a slice.
    pub fn slice_entries(self) -> u64 {
        1 << self.slice_bits
    }

    /// Words of a slice.
    pub fn slice_words(self) -> usize {
        1 << (self.slice_bits + u32::from(self.extended))
    }

    /// The index of an entry's first word, by the index of the entry.
    pub fn word_index(self, index: usize) -> usize {
        index << u32::from(self.extended)
    }

    /// The entry at `index` of a slice.
    pub fn stored(self, page: &Page, index: usize) -> Stored {
        if self.extended {
            let [word, bitmap] = page.pair(self.word_index(index));
            return Stored { word, bitmap };
        }
        Stored { word: page.word(index), bitmap: 0 }
    }

    /// The entries of a slice from `index` on.
    pub fn stored_from(self, page: &Page, index: usize) -> impl Iterator<Item = Stored> {
        (index..page.len() >> u32::from(self.extended)).map(move |index| self.stored(page, index))
    }

    /// The entries in bytes of an L2 table.
    pub fn stored_in(self, bytes: &[u8]) -> impl Iterator<Item = Stored> {
        let mut words = Be64::words(bytes);
        std::iter::from_fn(move || {
            let word = words.next()?;
            Some(Stored { word, bitmap: if self.extended { words.next()? } else { 0 } })
        })
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
        (slice & (self.slices() - 1)) * self.slice_words() as u64 * 8
    }

    /// Guest bytes that an L1 entry maps.
    pub fn l1_span(self) -> u64 {
        1 << (self.entry_bits + self.cluster_bits)
    }

    /// Guest clusters from `cluster` to the end of its slice.
    pub fn to_slice_end(self, cluster: u64) -> u64 {
        self.slice_entries() - self.index(cluster) as u64
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

    /// Bits of a compressed cluster's entry that are its host offset.
    fn stream_offset_bits(self) -> u32 {
        62 - (self.cluster_bits - 8)
    }

    /// The entry of a stream of `len` bytes, less than a cluster and not 0; `None` where no entry can name the place.
    pub fn stream_entry(self, offset: u64, len: u64) -> Option<u64> {
        let (bits, last) = (self.stream_offset_bits(), offset + len - 1);
        let sectors = last / 512 - offset / 512;
        (last >> bits.min(56) == 0).then_some(COMPRESSED | sectors << bits | offset)
    }
}

/// An L2 entry as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Stored {
    /// What kind of cluster, and where it is.
    pub word: u64,
    /// The bitmap of its subclusters; 0 where entries have none.
    pub bitmap: u64,
}

impl Stored {
    /// Of a cluster that is not in this image.
    pub const HOLE: Self = Self { word: 0, bitmap: 0 };

    /// The entry that reads as zeroes; `host`: host cluster and flags that it keeps, or 0.
    pub fn zero(host: u64, g: Geometry) -> Self {
        if g.extended {
            return Self { word: host, bitmap: Subclusters::ZERO.bits() };
        }
        Self { word: host | ZERO, bitmap: 0 }
    }

    /// The same without the mark of sole ownership: in a table that is shared, nothing is.
    pub fn disowned(self) -> Self {
        Self { word: self.word & !COPIED, ..self }
    }

    /// Its words.
    pub fn words(self, g: Geometry) -> impl Iterator<Item = u64> {
        [self.word, self.bitmap].into_iter().take(g.word_index(1))
    }
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
    /// Its subclusters are several things, or holes that `host` is reserved for.
    Split { host: Option<u64>, owned: bool, parts: Subclusters },
    /// Compressed.
    Compressed(Stream),
    /// Not a valid entry.
    Bad(&'static str),
}

impl Entry {
    /// What an entry of an L2 table means.
    pub fn of(stored: Stored, g: Geometry) -> Self {
        if g.extended { Self::extended(stored, g) } else { Self::plain(stored.word, g) }
    }

    /// What an entry of one word means.
    pub fn plain(word: u64, g: Geometry) -> Self {
        if word & COMPRESSED != 0 {
            return Self::compressed(word, g);
        }
        if word & ZERO != 0 && !g.zero_flag {
            return Self::Bad(RESERVED);
        }
        let (host, owned) = match Self::host(word & !ZERO, g) {
            Ok(host) => host,
            Err(why) => return Self::Bad(why),
        };
        match (word & ZERO != 0, host) {
            (false, None) => Self::Hole,
            (true, host) => Self::Zero { host, owned },
            (false, Some(host)) => Self::Data { host, owned },
        }
    }

    /// What an entry of two words means.
    fn extended(stored: Stored, g: Geometry) -> Self {
        let Stored { word, bitmap } = stored;
        if word & COMPRESSED != 0 {
            return match bitmap {
                0 => Self::compressed(word, g),
                _ => Self::Bad("a compressed cluster has no subclusters"),
            };
        }
        let (host, owned) = match Self::host(word, g) {
            Ok(host) => host,
            Err(why) => return Self::Bad(why),
        };
        let Some(parts) = Subclusters::new(bitmap) else {
            return Self::Bad("a subcluster is called both data and zeroes");
        };
        match (host, parts) {
            (None, Subclusters::HOLE) => Self::Hole,
            (host, Subclusters::ZERO) => Self::Zero { host, owned },
            (Some(host), Subclusters::DATA) => Self::Data { host, owned },
            (None, parts) if !parts.data_range().is_empty() => {
                Self::Bad("subclusters are called data, and there is no host cluster")
            }
            (host, parts) => Self::Split { host, owned, parts },
        }
    }

    /// The host cluster that the first word of a standard entry names, and whether it is this image's own.
    fn host(word: u64, g: Geometry) -> Result<(Option<u64>, bool), &'static str> {
        let (host, owned) = (word & OFFSET_MASK, word & COPIED != 0);
        if word & !(OFFSET_MASK | COPIED) != 0 {
            return Err(RESERVED);
        }
        if g.within(host) != 0 {
            return Err("it is not aligned to a cluster");
        }
        if g.data_file {
            let named = host != 0 || owned;
            return Ok((named.then_some(host), named));
        }
        if host == 0 && owned {
            return Err("it would be the header's cluster");
        }
        Ok(((host != 0).then_some(host), owned))
    }

    fn compressed(word: u64, g: Geometry) -> Self {
        if word & COPIED != 0 {
            return Self::Bad("a compressed cluster can't be marked as this image's own");
        }
        if g.data_file {
            return Self::Bad("a compressed cluster can't be in an external data file");
        }
        let offset_bits = g.stream_offset_bits();
        let offset = word & ((1 << offset_bits) - 1);
        let sectors = ((word & (COMPRESSED - 1)) >> offset_bits) + 1;
        if offset >> 56 != 0 {
            return Self::Bad(RESERVED);
        }
        Self::Compressed(Stream { offset, len: sectors * 512 - offset % 512 })
    }

    /// Host clusters that the entry with this first word refers to.
    pub fn host_clusters_of(word: u64, g: Geometry) -> Option<Run> {
        Self::plain(word, g).host_clusters(g)
    }

    /// Host clusters that the entry refers to, and that are counted.
    pub fn host_clusters(self, g: Geometry) -> Option<Run> {
        match self {
            _ if g.data_file => None,
            Self::Data { host, .. } => Some(Run { start: g.cluster(host), count: 1 }),
            Self::Zero { host, .. } | Self::Split { host, .. } => {
                host.map(|host| Run { start: g.cluster(host), count: 1 })
            }
            Self::Compressed(s) => {
                let (first, last) = (g.cluster(s.offset), g.cluster(s.offset + s.len - 1));
                Some(Run { start: first, count: last - first + 1 })
            }
            Self::Hole | Self::Bad(_) => None,
        }
    }

    /// The host cluster, whoever it belongs to.
    pub fn host_cluster(self) -> Option<u64> {
        match self {
            Self::Data { host, .. } => Some(host),
            Self::Zero { host, .. } | Self::Split { host, .. } => host,
            Self::Hole | Self::Compressed(_) | Self::Bad(_) => None,
        }
    }

    /// The host cluster, if it is this image's own: bytes in it may be overwritten in place.
    pub fn own_host(self) -> Option<u64> {
        match self {
            Self::Data { host, owned: true } => Some(host),
            Self::Zero { host, owned: true } | Self::Split { host, owned: true, .. } => host,
            _ => None,
        }
    }

    /// What its subclusters are; those of a compressed cluster count as holes.
    pub fn parts(self) -> Subclusters {
        match self {
            Self::Data { .. } => Subclusters::DATA,
            Self::Zero { .. } => Subclusters::ZERO,
            Self::Split { parts, .. } => parts,
            Self::Hole | Self::Compressed(_) | Self::Bad(_) => Subclusters::HOLE,
        }
    }

    /// Whether the subcluster is not in this image.
    pub fn is_hole(self, subcluster: u32) -> bool {
        let standard = !matches!(self, Self::Compressed(_) | Self::Bad(_));
        standard && self.parts().part(subcluster) == Part::Hole
    }

    /// Whether some of the cluster is data in a host cluster.
    pub fn has_data(self) -> bool {
        !self.parts().data_range().is_empty()
    }

    /// Whether the subcluster reads as zeroes by the image's own word.
    pub fn is_zero(self, subcluster: u32) -> bool {
        self.parts().part(subcluster) == Part::Zero
    }
}

/// What is wrong with an entry of a later version, or of none.
const RESERVED: &str = "reserved bits are set";

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(cluster_bits: u32) -> Geometry {
        let entry_bits = cluster_bits - 3;
        Geometry {
            cluster_bits,
            entry_bits,
            extended: false,
            data_file: false,
            slice_bits: entry_bits.min(9),
            page_bits: entry_bits.min(9),
            refcount_order: 4,
            zero_flag: true,
        }
    }

    #[test]
    fn every_wrong_kind_of_entry_is_told_from_the_right_ones() {
        let g = geometry(16);
        assert_eq!(Entry::plain(0, g), Entry::Hole);
        assert_eq!(Entry::plain(1, g), Entry::Zero { host: None, owned: false });
        assert_eq!(Entry::plain(0x50000 | COPIED, g), Entry::Data { host: 0x50000, owned: true });
        assert_eq!(Entry::plain(0x50001, g), Entry::Zero { host: Some(0x50000), owned: false });
        for bad in [COPIED, 0x50200, 0x50002, 1 << 56, 1 << 61, COPIED | COMPRESSED | 0x50000] {
            assert!(matches!(Entry::plain(bad, g), Entry::Bad(_)), "{bad:#x}");
        }
        assert!(matches!(Entry::plain(1, Geometry { zero_flag: false, ..g }), Entry::Bad(_)));
    }

    #[test]
    fn a_compressed_entry_tells_its_bytes_and_the_clusters_they_touch() {
        let g = geometry(16);
        // 3 sectors from 0x5fe10 on: to the end of sector 0x60200.
        let entry = Entry::plain(COMPRESSED | (2 << 54) | 0x5_fe10, g);
        assert_eq!(entry, Entry::Compressed(Stream { offset: 0x5_fe10, len: 3 * 512 - 0x10 }));
        assert_eq!(entry.host_clusters(g), Some(Run { start: 5, count: 2 }));
    }

    #[test]
    fn the_entry_of_a_stream_covers_it_and_no_more_than_its_last_sector() {
        for bits in 9..=21 {
            let g = geometry(bits);
            for offset in [g.cluster_size(), 0x60_fe01, 0x7f_ffff] {
                for len in [1, 2, 511, g.cluster_size() / 2, g.cluster_size() - 1] {
                    let entry = Entry::plain(g.stream_entry(offset, len).unwrap(), g);
                    let Entry::Compressed(stream) = entry else { panic!("{entry:?}") };
                    assert_eq!(stream.offset, offset);
                    assert!((len..len + 512).contains(&stream.len), "{stream:?} for {len}");
                    let run = entry.host_clusters(g).unwrap();
                    assert_eq!(run.end() - 1, g.cluster(offset + len - 1));
                }
            }
        }
        assert_eq!(geometry(21).stream_entry(1 << 49, 1), None);
        assert_eq!(geometry(9).stream_entry(1 << 56, 1), None);
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
