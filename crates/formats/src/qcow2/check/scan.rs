//! The inner loop: the entries of one L2 table.
use super::counts::Counts;
use super::findings::{Findings, Mend};
use super::tables::Table;
use crate::qcow2::entry::Stored;
use crate::qcow2::header::{COMPRESSED, COPIED, Header, OFFSET_MASK, ZERO};
use crate::qcow2::subclusters::Subclusters;

/// Bits of a standard L2 entry that must not be set; where entries are extended, nor must [`ZERO`].
const RESERVED: u64 = 0x3f00_0000_0000_01fe;

/// Entries that are skipped at once when they are all zero.
const GROUP: usize = 256;

/// Numbers about guest clusters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Mapped {
    pub allocated: u64,
    pub fragmented: u64,
    pub compressed: u64,
}

/// Scans L2 tables.
pub(super) struct Scan<'a> {
    pub header: &'a Header,
    pub file_len: u64,
    pub counts: &'a mut Counts,
    pub findings: &'a mut Findings,
    /// What does not depend on the window is told in the first pass only.
    pub first: bool,
    /// Flags are compared with the stored counts.
    pub flags: bool,
    pub mapped: Mapped,
}

impl Scan<'_> {
    /// Counts the references of a table with these bytes.
    pub(super) fn table(&mut self, table: Table, bytes: &[u8]) {
        let mut next = None;
        let start = table.cluster << self.header.cluster_bits;
        let plain = Plain::of(self, table);
        for (group, words) in bytes.chunks(GROUP).enumerate() {
            if codec::is_zero(words) {
                continue;
            }
            let start = start + (group * GROUP) as u64;
            if self.header.has_extended_l2() {
                self.extended(table, start, words, &mut next);
                continue;
            }
            if self.run(plain, words, &mut next) {
                continue;
            }
            for (i, word) in words.as_chunks().0.iter().enumerate() {
                let word = u64::from_be_bytes(*word);
                if word != 0 && !self.plain(plain, word, &mut next) {
                    let unread = word & ZERO != 0;
                    self.entry(table, start + i as u64 * 8, word, Unread(unread), &mut next);
                }
            }
        }
    }

    /// Counts the references of entries that name one cluster after another, if there is nothing to tell of them: so most
    /// entries of an image that was written in order are.
    fn run(&mut self, plain: Plain, words: &[u8], next: &mut Option<u64>) -> bool {
        let (words, []) = words.as_chunks() else { return false };
        let Some(first) = words.first().map(|word| u64::from_be_bytes(*word)) else { return false };
        let (offset, bytes) = (first & OFFSET_MASK, (words.len() as u64) << plain.cluster_bits);
        let inside = offset.checked_add(bytes).is_some_and(|end| end <= plain.end);
        if first & plain.odd != 0 || offset == 0 || !inside {
            return false;
        }
        let expected = (0..).map(|i| first + (i << plain.cluster_bits));
        let differ =
            words.iter().zip(expected).fold(0, |all, (word, it)| all | (u64::from_be_bytes(*word) ^ it));
        let single = plain.flags.then_some(first & COPIED != 0);
        let cluster = offset >> plain.cluster_bits;
        if differ != 0 || !self.counts.add_plain_run(cluster, words.len(), plain.table.refs, single) {
            return false;
        }
        let active = u64::from(plain.table.active);
        if active > 0 {
            self.mapped.allocated += active * words.len() as u64;
            self.mapped.fragmented += if next.is_some_and(|next| next != offset) { active } else { 0 };
            *next = Some(offset + bytes);
        }
        true
    }

    /// Counts the reference of an entry that only names a cluster, if there is nothing to tell of it.
    #[inline]
    fn plain(&mut self, plain: Plain, word: u64, next: &mut Option<u64>) -> bool {
        let offset = word & OFFSET_MASK;
        if word & plain.odd != 0 || offset == 0 || offset >= plain.end {
            return false;
        }
        let single = plain.flags.then_some(word & COPIED != 0);
        if !self.counts.add_plain(offset >> plain.cluster_bits, plain.table.refs, single) {
            return false;
        }
        self.map(plain.table.active, offset, 1 << plain.cluster_bits, next);
        true
    }

    /// Takes note of a data cluster at `offset`.
    #[inline]
    fn map(&mut self, active: u32, offset: u64, cluster_size: u64, next: &mut Option<u64>) {
        if active > 0 {
            self.mapped.allocated += u64::from(active);
            if next.is_some_and(|next| next != offset) {
                self.mapped.fragmented += u64::from(active);
            }
            *next = Some(offset + cluster_size);
        }
    }

    /// Looks at entries of two words.
    fn extended(&mut self, table: Table, start: u64, bytes: &[u8], next: &mut Option<u64>) {
        for (i, [word, bitmap]) in bytes.as_chunks::<16>().0.iter().map(halves).enumerate() {
            let stored = Stored { word, bitmap };
            if stored == Stored::HOLE {
                continue;
            }
            let wrong = wrong_bitmap(stored);
            if let Some(why) = wrong.filter(|_| self.first) {
                self.findings.corruption(table.refs, || format!("{why}, entry={word:#x} bitmap={bitmap:#x}"));
            }
            let unread = Subclusters::new(bitmap).is_some_and(|parts| parts.data_range().is_empty());
            self.entry(table, start + i as u64 * 16, word, Unread(unread), next);
        }
    }

    /// `next`: where the next data cluster of the table would not be fragmented.
    fn entry(&mut self, table: Table, at: u64, word: u64, unread: Unread, next: &mut Option<u64>) {
        if word & COMPRESSED != 0 {
            return self.compressed(table, word);
        }
        let extended = self.header.has_extended_l2();
        let reserved = if extended { RESERVED | ZERO } else { RESERVED };
        let offset = word & OFFSET_MASK;
        let cluster_size = self.header.cluster_size();
        if word & reserved != 0 && self.first {
            let target = Some(offset >> self.header.cluster_bits);
            let mend = Mend { at, value: word & !reserved, refs: table.refs, target };
            let words = || format!("found l2 entry with reserved bits set: {word:x}");
            let inside = offset.is_multiple_of(cluster_size) && offset < self.file_len;
            // Without an offset the bits may be all that is left of one. In a data file nothing is counted.
            if offset != 0 && inside && !self.header.has_data_file() {
                self.findings.mendable_entry(mend, words);
            } else {
                self.findings.corruption(table.refs, words);
            }
        }
        if offset == 0 && !(self.header.has_data_file() && word & COPIED != 0) {
            return;
        }
        if !offset.is_multiple_of(cluster_size) {
            if unread.0 {
                let words = || {
                    format!(
                        "offset={offset:x}: Preallocated cluster is not properly aligned; L2 entry corrupted."
                    )
                };
                let before = self.findings.mends.len();
                if self.first {
                    let value = if extended { 0 } else { ZERO };
                    let mend = Mend { at, value, refs: table.refs, target: None };
                    self.findings.mendable_entry(mend, words);
                }
                if self.findings.mends.len() > before {
                    return;
                }
            } else if self.first {
                self.findings.corruption(table.refs, || {
                    format!("offset={offset:x}: Data cluster is not properly aligned; L2 entry corrupted.")
                });
            }
        }
        self.map(table.active, offset, cluster_size, next);
        if self.header.has_data_file() {
            return;
        }
        if offset.is_multiple_of(cluster_size) && offset < self.file_len {
            self.counts.add(offset >> self.header.cluster_bits, table.refs);
        } else {
            self.region(table.refs, offset, cluster_size);
        }
        if table.active > 0 && self.flags {
            self.flag(table, word, offset);
        }
    }

    fn compressed(&mut self, table: Table, word: u64) {
        let offset_bits = 62 - (self.header.cluster_bits - 8);
        let offset = word & ((1 << offset_bits) - 1);
        if word & COPIED != 0 && self.first {
            self.findings.owned_compressed(table.refs, offset);
        }
        let sectors = ((word & (COMPRESSED - 1)) >> offset_bits) + 1;
        self.region(table.refs, offset, sectors * 512 - offset % 512);
        self.mapped.allocated += u64::from(table.active);
        self.mapped.fragmented += u64::from(table.active);
        self.mapped.compressed += u64::from(table.active);
    }

    /// Counts a reference to each cluster that a region of the file touches.
    pub(super) fn region(&mut self, times: u32, offset: u64, size: u64) {
        if size == 0 {
            return;
        }
        let end = offset.saturating_add(size);
        if end > self.file_len && end - self.file_len >= self.header.cluster_size() {
            if self.first {
                self.findings.beyond_end(times, offset, size);
            }
            return;
        }
        let (first, last) = (offset >> self.header.cluster_bits, (end - 1) >> self.header.cluster_bits);
        for cluster in first..=last {
            self.counts.add(cluster, times);
        }
    }

    fn flag(&mut self, table: Table, word: u64, offset: u64) {
        let cluster = offset >> self.header.cluster_bits;
        let inside = offset < self.file_len;
        if !inside && !self.first {
            return;
        }
        let single = match self.counts.is_single(cluster) {
            // What is not there is nobody's own.
            _ if !inside => false,
            Some(single) => single,
            None => return,
        };
        if single != (word & COPIED != 0) {
            let refcount = if inside { self.counts.get(cluster).0 } else { 0 };
            self.findings.flag_differs(table.active, false, || {
                format!("data cluster: l2_entry={word:x} refcount={refcount}")
            });
        }
    }
}

/// What is the same for all entries of a table: most of them are looked at with nothing else.
#[derive(Clone, Copy)]
struct Plain {
    table: Table,
    cluster_bits: u32,
    /// Bits that an entry does not have which only names a cluster.
    odd: u64,
    /// Where the clusters end that can be named so.
    end: u64,
    /// The mark of sole ownership is compared with the stored counts.
    flags: bool,
}

impl Plain {
    fn of(scan: &Scan<'_>, table: Table) -> Self {
        let odd = !(OFFSET_MASK | COPIED) | (scan.header.cluster_size() - 1);
        // In a data file nothing is counted.
        let end = if scan.header.has_data_file() { 0 } else { scan.file_len.min(OFFSET_MASK) };
        let flags = scan.flags && table.active > 0;
        Self { table, cluster_bits: scan.header.cluster_bits, odd, end, flags }
    }
}

/// Whether nothing is read from the host cluster of an entry.
#[derive(Clone, Copy)]
struct Unread(bool);

/// The words of an extended entry.
fn halves(bytes: &[u8; 16]) -> [u64; 2] {
    let number = u128::from_be_bytes(*bytes);
    [(number >> 64) as u64, number as u64]
}

/// What is wrong with the bitmap of an extended entry.
fn wrong_bitmap(stored: Stored) -> Option<&'static str> {
    let Stored { word, bitmap } = stored;
    if word & COMPRESSED != 0 {
        return (bitmap != 0).then_some("compressed cluster with a subcluster allocation bitmap");
    }
    match Subclusters::new(bitmap) {
        None => Some("a subcluster is both allocated and zero"),
        Some(parts) if word & (OFFSET_MASK | COPIED) == 0 && !parts.data_range().is_empty() => {
            Some("unallocated cluster with allocated subclusters")
        }
        Some(_) => None,
    }
}
