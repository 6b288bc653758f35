//! Where things are in an image, and what an entry says.
use crate::streams::Stream;
use std::ops::Range;

/// What an L2 entry says of its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// It is not in this image.
    Hole,
    /// It reads as zeroes.
    Zero,
    /// Its data begin at this byte offset of the file.
    Data(u64),
    /// Its data are compressed.
    Stream(Stream),
    /// It can't be understood.
    Bad(&'static str),
}

/// Where the tables are, in bytes and entries. It has been judged: all tables of a disk can be named by numbers here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// log2 of the bytes of a cluster.
    pub cluster_bits: u32,
    /// log2 of the entries of an L2 table.
    pub l2_bits: u32,
    /// Bytes at the front of the file that belong to the header.
    pub header_len: u64,
    /// Where the L1 table begins.
    pub l1_offset: u64,
    /// Entries of the L1 table.
    pub l1_entries: u64,
    /// Entries can name no cluster of the file from here on.
    pub limit: u64,
}

impl Geometry {
    /// Bytes of a cluster.
    pub fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// The cluster that has a byte.
    pub fn cluster(&self, offset: u64) -> u64 {
        offset >> self.cluster_bits
    }

    /// Where in its cluster a byte is.
    pub fn within(&self, offset: u64) -> u64 {
        offset & (self.cluster_size() - 1)
    }

    /// Clusters that so many bytes take.
    pub fn clusters(&self, bytes: u64) -> u64 {
        bytes.div_ceil(self.cluster_size())
    }

    /// Bytes of an L2 table.
    pub fn table_len(&self) -> u64 {
        8 << self.l2_bits
    }

    /// Bytes of the disk that an L2 table maps; as many as there can be, where they are more.
    pub fn table_span(&self) -> u64 {
        1_u64.checked_shl(self.l2_bits + self.cluster_bits).unwrap_or(u64::MAX)
    }

    /// log2 of the entries of a page of an L2 table.
    fn page_bits(&self) -> u32 {
        self.l2_bits.min(super::PAGE_ENTRIES.ilog2())
    }

    /// Entries of a page of an L2 table.
    pub fn page_entries(&self) -> u64 {
        1 << self.page_bits()
    }

    /// The page that has the entry of a guest cluster.
    pub fn page_of(&self, cluster: u64) -> u64 {
        cluster >> self.page_bits()
    }

    /// The index in its page of the entry of a guest cluster.
    pub fn index(&self, cluster: u64) -> usize {
        (cluster & (self.page_entries() - 1)) as usize
    }

    /// Clusters from this one on whose entries are in the same page.
    pub fn to_page_end(self, cluster: u64) -> u64 {
        self.page_entries() - (cluster & (self.page_entries() - 1))
    }

    /// The index in the L1 table of the table that has a page.
    pub fn table_of(&self, page: u64) -> u64 {
        page >> (self.l2_bits - self.page_bits())
    }

    /// Where in its table a page begins, in bytes.
    pub fn place_in_table(&self, page: u64) -> u64 {
        (page & ((1 << (self.l2_bits - self.page_bits())) - 1)) * self.page_entries() * 8
    }

    /// What the header names, in bytes of the file.
    pub fn fixed(&self) -> [(&'static str, Range<u64>); 2] {
        [("header", 0..self.header_len), ("L1 table", self.l1_offset..self.l1_offset + 8 * self.l1_entries)]
    }

    /// What of that is in a range of bytes of the file.
    pub fn fixed_in(&self, bytes: &Range<u64>) -> Option<&'static str> {
        let overlaps = |(_, its): &(_, Range<u64>)| its.start < bytes.end && bytes.start < its.end;
        self.fixed().into_iter().find(overlaps).map(|(name, _)| name)
    }
}
