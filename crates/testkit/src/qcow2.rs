//! An independent reader of qcow2 images: every reference counted, every guest byte read, from the
//! bytes of the file alone and straight from the specification. Slow and simple, so that no mistake is shared.
//!
//! Law checked: count ≥ references for every cluster (unless the image is marked dirty), metadata overlaps nothing, every offset is aligned and inside the
//! file where it must be, COPIED says "counted once" exactly.
//!
//! Specification: qcow2.rst. Bounds: files of a few MiB, as tests make them.

use std::fmt;

const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const MAGIC: u32 = 0x5146_49fb;
const DIRTY: u64 = 1;
const CORRUPT: u64 = 2;
const DATA_FILE: u64 = 1 << 2;
const EXTENDED: u64 = 1 << 4;
const DATA_FILE_NAME: u32 = 0x4441_5441;
const BITMAPS: u32 = 0x2385_2875;

/// What an image is found to be.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Virtual size in bytes.
    pub size: u64,
    /// The dirty bit: refcounts may be behind until the image is repaired.
    pub dirty: bool,
    /// The corrupt bit.
    pub corrupt: bool,
    /// Name of the backing file.
    pub backing: Option<String>,
    /// What breaks the law.
    pub corruptions: Vec<String>,
    /// COPIED flags that don't agree with the counts.
    pub copied: Vec<String>,
    /// Clusters counted more often than they are referred to.
    pub leaks: Vec<u64>,
}

/// An image's bytes and geometry.
struct Parsed<'a> {
    bytes: &'a [u8],
    version: u32,
    cluster_bits: u32,
    refcount_order: u32,
    size: u64,
    l1_offset: u64,
    l1_entries: u64,
    refcount_offset: u64,
    refcount_clusters: u64,
    snapshots: u64,
    snapshots_offset: u64,
    incompatible: u64,
    autoclear: u64,
    header_length: u64,
}

/// An entry of the snapshot table.
struct SnapshotEntry<'a> {
    l1: u64,
    l1_entries: u64,
    /// Bytes of the disk, where that is told.
    size: Option<u64>,
    /// Nothing where it is cut off.
    name: Option<&'a [u8]>,
}

/// An entry of the bitmap directory.
struct BitmapEntry<'a> {
    table: u64,
    table_entries: u64,
    flags: u32,
    granularity_bits: u32,
    /// Nothing where it is cut off.
    name: Option<&'a [u8]>,
}

/// Whose tables they are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Active,
    Snapshot(u64),
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Whose::Active => f.write_str("the active"),
            Whose::Snapshot(number) => write!(f, "snapshot {number}'s"),
        }
    }
}

/// What refers to a cluster. Its text is made where something is wrong only.
#[derive(Clone, Copy)]
enum Who {
    The(&'static str),
    Block(u64),
    L1(Whose),
    L2(Whose, u64),
    Entry(Whose, u64, u64),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::The(what) => f.write_str(what),
            Who::Block(index) => write!(f, "refcount block {index}"),
            Who::L1(whose) => write!(f, "{whose} L1 table"),
            Who::L2(whose, index) => write!(f, "{whose} L2 table {index}"),
            Who::Entry(whose, index, slot) => write!(f, "{whose} L2 table {index} entry {slot}"),
        }
    }
}

/// One reference to a cluster. `metadata`: nobody else may refer to it.
#[derive(Clone, Copy)]
struct Reference {
    cluster: u64,
    who: Who,
    metadata: bool,
}

/// References to clusters, and by whom.
#[derive(Default)]
struct References {
    all: Vec<Reference>,
    /// Clusters that the active disk would overwrite in place, and by whose word.
    owned: Vec<(u64, Who)>,
    corruptions: Vec<String>,
}

impl References {
    /// `metadata`: nobody else may refer to the cluster.
    fn add(&mut self, image: &Parsed, offset: u64, len: u64, who: Who, metadata: bool) {
        if !offset.is_multiple_of(image.cluster()) {
            self.corruptions.push(format!("{who} at {offset:#x} is not aligned to a cluster"));
        }
        let end = offset.saturating_add(len.max(1));
        for cluster in offset / image.cluster()..end.div_ceil(image.cluster()) {
            self.all.push(Reference { cluster, who, metadata });
        }
    }
}

impl<'a> Parsed<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Parsed<'a>, String> {
        let mut image = Parsed {
            bytes,
            version: be32(bytes, 4).ok_or("the file is too short for a header")?,
            cluster_bits: be32(bytes, 20).unwrap_or(0),
            refcount_order: 4,
            size: be64(bytes, 24).unwrap_or(0),
            l1_entries: be32(bytes, 36).unwrap_or(0).into(),
            l1_offset: be64(bytes, 40).unwrap_or(0),
            refcount_offset: be64(bytes, 48).unwrap_or(0),
            refcount_clusters: be32(bytes, 56).unwrap_or(0).into(),
            snapshots: be32(bytes, 60).unwrap_or(0).into(),
            snapshots_offset: be64(bytes, 64).unwrap_or(0),
            incompatible: 0,
            autoclear: 0,
            header_length: 72,
        };
        if be32(bytes, 0) != Some(MAGIC) {
            return Err("the magic is missing".to_owned());
        }
        if image.version >= 3 {
            image.incompatible = be64(bytes, 72).unwrap_or(0);
            image.autoclear = be64(bytes, 88).unwrap_or(0);
            image.refcount_order = be32(bytes, 96).unwrap_or(0);
            image.header_length = be32(bytes, 100).unwrap_or(0).into();
        }
        let known = (2..=3).contains(&image.version)
            && (9..=21).contains(&image.cluster_bits)
            && image.refcount_order <= 6;
        if known { Ok(image) } else { Err("the header is out of bounds".to_owned()) }
    }

    fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    fn l2_entries(&self) -> u64 {
        self.cluster() / self.l2_entry_bytes()
    }

    fn extended(&self) -> bool {
        self.incompatible & EXTENDED != 0
    }

    fn l2_entry_bytes(&self) -> u64 {
        if self.extended() { 16 } else { 8 }
    }

    /// An entry of an L2 table and its bitmap, which is 0 where there is none.
    fn l2_entry(&self, table: u64, slot: u64) -> (u64, u64) {
        let at = table + slot * self.l2_entry_bytes();
        (self.entry(at, 0), if self.extended() { self.entry(at, 1) } else { 0 })
    }

    /// A table entry; beyond the end of the file there are zeros.
    fn entry(&self, table: u64, index: u64) -> u64 {
        be64(self.bytes, (table + index * 8) as usize).unwrap_or(0)
    }

    /// Whether a whole table lies inside the file.
    fn holds(&self, offset: u64, len: u64) -> bool {
        offset
            .checked_add(len)
            .is_some_and(|end| end <= (self.bytes.len() as u64).next_multiple_of(self.cluster()))
    }

    fn count(&self, cluster: u64) -> u64 {
        let bits = 1u64 << self.refcount_order;
        let per_block = self.cluster() * 8 / bits;
        if cluster / per_block >= self.refcount_clusters * self.cluster() / 8 {
            return 0;
        }
        let block = self.entry(self.refcount_offset, cluster / per_block) & OFFSET;
        if block == 0 {
            return 0;
        }
        let bit = (cluster % per_block) * bits;
        let at = (block + bit / 8) as usize;
        if bits < 8 {
            let byte = self.bytes.get(at).copied().unwrap_or(0);
            return u64::from(byte >> (bit % 8)) & ((1 << bits) - 1);
        }
        let bytes = self.bytes.get(at..at + bits as usize / 8).unwrap_or_default();
        bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
    }

    /// The content of a compressed cluster.
    fn decoded(&self, entry: u64) -> Result<Vec<u8>, String> {
        let (offset, len) = self.compressed(entry);
        let end = (offset + len).min(self.bytes.len() as u64);
        let stored = self.bytes.get(offset as usize..end as usize).unwrap_or_default();
        let zstd = self.header_length > 104 && self.bytes.get(104) == Some(&1);
        let algorithm = if zstd { codec::Algorithm::Zstd } else { codec::Algorithm::Deflate };
        let mut content = vec![0; self.cluster() as usize];
        codec::decode(algorithm, stored, &mut content).map_err(|e| e.to_string())?;
        Ok(content)
    }

    /// Host range of a compressed cluster.
    fn compressed(&self, entry: u64) -> (u64, u64) {
        let shift = 62 - (self.cluster_bits - 8);
        let offset = entry & ((1 << shift) - 1);
        let sectors = (entry >> shift) & ((1 << (self.cluster_bits - 8)) - 1);
        (offset, (offset / 512 + sectors + 1) * 512 - offset)
    }

    fn tables(&self, refs: &mut References, l1: u64, entries: u64, whose: Whose, copied: &mut Vec<String>) {
        let active = whose == Whose::Active;
        if entries == 0 {
            return;
        }
        refs.add(self, l1, entries * 8, Who::L1(whose), true);
        if !self.holds(l1, entries * 8) {
            refs.corruptions.push(format!("{whose} L1 table lies outside of the file"));
            return;
        }
        for index in 0..entries {
            let entry = self.entry(l1, index);
            let table = entry & OFFSET;
            if table == 0 {
                continue;
            }
            let who = Who::L2(whose, index);
            refs.add(self, table, self.cluster(), who, false);
            if !self.holds(table, self.cluster()) {
                refs.corruptions.push(format!("{who} at {table:#x} lies outside of the file"));
                continue;
            }
            self.judge_copied(active, entry, table, who, copied);
            if active && entry & COPIED != 0 {
                refs.owned.push((table / self.cluster(), who));
            }
            for slot in 0..self.l2_entries() {
                let (entry, bitmap) = self.l2_entry(table, slot);
                let who = Who::Entry(whose, index, slot);
                self.data(refs, entry, who, active, copied);
                self.bitmap_of(refs, entry, bitmap, who);
            }
        }
    }

    fn data(&self, refs: &mut References, entry: u64, who: Who, active: bool, copied: &mut Vec<String>) {
        if entry & COMPRESSED != 0 {
            let (offset, len) = self.compressed(entry);
            let start = offset / self.cluster() * self.cluster();
            refs.add(self, start, offset + len - start, who, false);
            if entry & COPIED != 0 {
                copied.push(format!("{who} is compressed and has COPIED set"));
            }
            return;
        }
        if self.version < 3 && entry & 1 != 0 {
            refs.corruptions.push(format!("{who} has a reserved bit set"));
        }
        let host = entry & OFFSET;
        if self.incompatible & DATA_FILE != 0 {
            // Nothing counts what is in a data file.
        } else if host != 0 {
            refs.add(self, host, self.cluster(), who, false);
            if host.saturating_add(self.cluster()) > self.bytes.len() as u64 {
                refs.corruptions.push(format!("{who}: the file ends before its cluster at {host:#x} does"));
            }
            self.judge_copied(active, entry, host, who, copied);
            if active && entry & COPIED != 0 {
                refs.owned.push((host / self.cluster(), who));
            }
        } else if entry & COPIED != 0 {
            copied.push(format!("{who} has COPIED set and leads nowhere"));
        }
    }

    fn bitmap_of(&self, refs: &mut References, entry: u64, bitmap: u64, who: Who) {
        let (data, zero) = (bitmap & 0xffff_ffff, bitmap >> 32);
        let wrong = if entry & COMPRESSED != 0 {
            bitmap != 0
        } else {
            self.extended() && entry & 1 != 0
                || data & zero != 0
                || data != 0 && entry & (OFFSET | COPIED) == 0
        };
        if wrong {
            refs.corruptions.push(format!("{who} is {entry:#x} with the bitmap {bitmap:#x}"));
        }
    }

    fn judge_copied(&self, active: bool, entry: u64, host: u64, who: Who, copied: &mut Vec<String>) {
        let count = self.count(host / self.cluster());
        if active && (entry & COPIED != 0) != (count == 1) {
            let set = if entry & COPIED != 0 { "set" } else { "clear" };
            copied.push(format!("{who}: COPIED is {set}, the count of {host:#x} is {count}"));
        }
    }

    fn refcounts(&self, refs: &mut References) {
        let len = self.refcount_clusters * self.cluster();
        refs.add(self, self.refcount_offset, len, Who::The("the refcount table"), true);
        if !self.holds(self.refcount_offset, len) {
            refs.corruptions.push("the refcount table lies outside of the file".to_owned());
            return;
        }
        for index in 0..len / 8 {
            let block = self.entry(self.refcount_offset, index) & OFFSET;
            if block != 0 {
                refs.add(self, block, self.cluster(), Who::Block(index), true);
                if !self.holds(block, self.cluster()) {
                    refs.corruptions
                        .push(format!("refcount block {index} at {block:#x} lies outside of the file"));
                }
            }
        }
    }

    /// The entries of the snapshot table, and where it ends.
    fn snapshot_table(&self) -> (Vec<SnapshotEntry<'a>>, u64) {
        let (mut at, mut table) = (self.snapshots_offset, Vec::new());
        for _ in 0..self.snapshots {
            let half = |offset: u64| be32(self.bytes, (at + offset) as usize).unwrap_or(0);
            let (extra, id, name) = (u64::from(half(36)), half(12) >> 16, half(12) & 0xffff);
            let start = at + 40 + extra + u64::from(id);
            let end = start + u64::from(name);
            table.push(SnapshotEntry {
                l1: be64(self.bytes, at as usize).unwrap_or(0),
                l1_entries: half(8).into(),
                size: be64(self.bytes, (at + 48) as usize).filter(|_| extra >= 16),
                name: self.bytes.get(start as usize..end as usize),
            });
            at = end.next_multiple_of(8);
        }
        (table, at)
    }

    fn internal_snapshots(&self, refs: &mut References, copied: &mut Vec<String>) {
        let (table, end) = self.snapshot_table();
        for (number, entry) in (0..).zip(&table) {
            self.tables(refs, entry.l1, entry.l1_entries, Whose::Snapshot(number), copied);
        }
        if !table.is_empty() {
            let len = end - self.snapshots_offset;
            refs.add(self, self.snapshots_offset, len, Who::The("the snapshot table"), true);
        }
    }

    /// Bitmaps hold their clusters also when they are out of date: they are kept until somebody removes them.
    fn bitmaps(&self, refs: &mut References) {
        if let Some((offset, len)) = self.directory() {
            refs.add(self, offset, len, Who::The("the bitmap directory"), true);
        }
        for entry in self.bitmap_entries() {
            refs.add(self, entry.table, entry.table_entries * 8, Who::The("a bitmap table"), true);
            for index in 0..entry.table_entries {
                let data = self.entry(entry.table, index) & OFFSET;
                if data != 0 {
                    refs.add(self, data, self.cluster(), Who::The("a bitmap's data"), true);
                }
            }
        }
    }

    /// Where the directory of bitmaps is, and how long.
    fn directory(&self) -> Option<(u64, u64)> {
        let data = self.extension(BITMAPS)?;
        be64(data, 16).zip(be64(data, 8))
    }

    /// The data of the header extension of this type.
    fn extension(&self, wanted: u32) -> Option<&'a [u8]> {
        let mut at = self.header_length as usize;
        loop {
            let (kind, len) = (be32(self.bytes, at)?, be32(self.bytes, at + 4)? as usize);
            match kind {
                0 => return None,
                kind if kind == wanted => return self.bytes.get(at + 8..at + 8 + len),
                _ => at += 8 + len.next_multiple_of(8),
            }
        }
    }

    /// The bits of a bitmap as bytes, the lowest bit first.
    fn bits(&self, table: u64, entries: u64) -> Vec<u8> {
        let mut bits = Vec::new();
        for entry in (0..entries).map(|index| self.entry(table, index)) {
            let start = bits.len();
            let data = entry & OFFSET;
            if data != 0 {
                let end = self.bytes.len().min((data + self.cluster()) as usize);
                bits.extend(self.bytes.get(data as usize..end).unwrap_or_default());
            }
            bits.resize(start + self.cluster() as usize, if entry & 1 != 0 { 255 } else { 0 });
        }
        bits
    }

    /// The entries of the bitmap directory.
    fn bitmap_entries(&self) -> Vec<BitmapEntry<'a>> {
        let (mut at, len) = self.directory().unwrap_or((0, 0));
        let (end, mut entries) = (at + len, Vec::new());
        while at + 24 <= end {
            let half = |offset: u64| be32(self.bytes, (at + offset) as usize).unwrap_or(0);
            let start = at + 24 + u64::from(half(20));
            let name_end = start + u64::from(half(16) & 0xffff);
            entries.push(BitmapEntry {
                table: be64(self.bytes, at as usize).unwrap_or(0),
                table_entries: half(8).into(),
                flags: half(12),
                granularity_bits: half(16) >> 16 & 0xff,
                name: self.bytes.get(start as usize..name_end as usize),
            });
            at = name_end.next_multiple_of(8);
        }
        entries
    }

    /// `data`: the bytes that host offsets of guest data refer to.
    fn read(&self, l1: u64, entries: u64, size: u64, backing: &[u8], data: &[u8]) -> Result<Vec<u8>, String> {
        let in_data_file = self.incompatible & DATA_FILE != 0;
        let mut guest = vec![0; usize::try_from(size).map_err(|e| e.to_string())?];
        for (number, to) in (0..).zip(guest.chunks_mut(self.cluster() as usize)) {
            let index = number / self.l2_entries();
            let table = if index < entries { self.entry(l1, index) & OFFSET } else { 0 };
            let (entry, bitmap) =
                if table == 0 { (0, 0) } else { self.l2_entry(table, number % self.l2_entries()) };
            if entry & COMPRESSED != 0 {
                let content = self.decoded(entry).map_err(|why| format!("guest cluster {number}: {why}"))?;
                copy(&content, 0, to);
                continue;
            }
            let (host, below) = (entry & OFFSET, number * self.cluster());
            let allocated = host != 0 || in_data_file && entry & COPIED != 0;
            if in_data_file && allocated && host != below {
                return Err(format!("guest cluster {number} lies at {host:#x} of the data file"));
            }
            if self.extended() {
                let part = self.cluster() / 32;
                for (i, to) in (0..).zip(to.chunks_mut(part as usize)) {
                    match (bitmap >> i & 1, bitmap >> (32 + i) & 1) {
                        (1, _) => copy(data, host + i * part, to),
                        (_, 1) => {}
                        _ => copy(backing, below + i * part, to),
                    }
                }
                continue;
            }
            match allocated {
                _ if self.version >= 3 && entry & 1 != 0 => {}
                false => copy(backing, below, to),
                true => copy(data, host, to),
            }
        }
        Ok(guest)
    }

    fn data_file(&self) -> Option<String> {
        let name = self.extension(DATA_FILE_NAME).filter(|_| self.incompatible & DATA_FILE != 0)?;
        Some(String::from_utf8_lossy(name).into_owned())
    }

    fn backing(&self) -> Option<String> {
        let (offset, len) = (be64(self.bytes, 8)? as usize, be32(self.bytes, 16)? as usize);
        if offset == 0 || len == 0 {
            return None;
        }
        Some(String::from_utf8_lossy(self.bytes.get(offset..offset + len)?).into_owned())
    }
}

/// Whether the file begins as qcow2 images do.
pub fn is_qcow2(bytes: &[u8]) -> bool {
    be32(bytes, 0) == Some(MAGIC)
}

/// The name of the image below this one, if it is a qcow2 image and names one.
pub fn backing_of(bytes: &[u8]) -> Option<String> {
    Parsed::parse(bytes).ok()?.backing()
}

/// The name of the file that guest data is in, if it is not in the image.
pub fn data_file_of(bytes: &[u8]) -> Option<String> {
    Parsed::parse(bytes).ok()?.data_file()
}

/// Looks at everything an image's metadata says.
pub fn inspect(bytes: &[u8]) -> Result<Findings, String> {
    let image = Parsed::parse(bytes)?;
    let (mut refs, mut copied) = (References::default(), Vec::new());
    refs.add(&image, 0, 1, Who::The("the header"), true);
    image.refcounts(&mut refs);
    image.tables(&mut refs, image.l1_offset, image.l1_entries, Whose::Active, &mut copied);
    image.internal_snapshots(&mut refs, &mut copied);
    image.bitmaps(&mut refs);
    let per_l1 = image.cluster() * image.l2_entries();
    if image.size.div_ceil(per_l1) > image.l1_entries {
        refs.corruptions
            .push(format!("{} L1 entries are too few for {} bytes", image.l1_entries, image.size));
    }
    let mut corruptions = refs.corruptions;
    refs.all.sort_by_key(|reference| reference.cluster);
    for users in refs.all.chunk_by(|a, b| a.cluster == b.cluster) {
        let cluster = users.first().map_or(0, |user| user.cluster);
        let (count, at) = (image.count(cluster), cluster * image.cluster());
        let names = || users.iter().map(|user| user.who.to_string()).collect::<Vec<_>>().join(", ");
        if users.len() > 1 && users.iter().any(|user| user.metadata) {
            corruptions.push(format!("overlap at {at:#x}: {}", names()));
        }
        if (count as usize) < users.len() && image.incompatible & DIRTY == 0 {
            corruptions.push(format!("{at:#x} is counted {count} times and referred to by {}", names()));
        }
    }
    let below = |cluster: u64| refs.all.partition_point(|reference| reference.cluster < cluster);
    let used = |cluster: u64| (below(cluster + 1) - below(cluster)) as u64;
    for (cluster, who) in &refs.owned {
        // An L2 table that is shared leads to nothing that is the active disk's own, whatever its entries say.
        let users = used(*cluster);
        if users > 1 {
            corruptions.push(format!("{who}: COPIED is set on what {users} tables lead to"));
        }
    }
    let clusters = (bytes.len() as u64).div_ceil(image.cluster());
    let leaks = (0..clusters).filter(|cluster| image.count(*cluster) > used(*cluster)).collect();
    Ok(Findings {
        size: image.size,
        dirty: image.incompatible & DIRTY != 0,
        corrupt: image.incompatible & CORRUPT != 0,
        backing: image.backing(),
        corruptions,
        copied,
        leaks,
    })
}

/// A bitmap of an image.
#[derive(Clone, Debug)]
pub struct Bitmap {
    /// Its name.
    pub name: Vec<u8>,
    /// It may miss changes.
    pub in_use: bool,
    /// It records changes.
    pub auto: bool,
    /// Bytes a bit.
    pub granularity: u64,
    /// Its bits, the lowest bit of each byte first.
    pub bits: Vec<u8>,
}

/// The bitmaps that the header calls up to date.
pub fn bitmaps(bytes: &[u8]) -> Result<Vec<Bitmap>, String> {
    let image = Parsed::parse(bytes)?;
    let valid = image.autoclear & 1 != 0;
    let bitmap = |entry: BitmapEntry<'_>| {
        Ok(Bitmap {
            name: entry.name.ok_or("a bitmap's name is cut off")?.to_vec(),
            in_use: entry.flags & 1 != 0,
            auto: entry.flags & 2 != 0,
            granularity: 1 << entry.granularity_bits,
            bits: image.bits(entry.table, entry.table_entries),
        })
    };
    image.bitmap_entries().into_iter().filter(|_| valid).map(bitmap).collect()
}

/// All bytes a guest sees; what is not allocated comes from `backing`, zeros beyond its end.
pub fn read(bytes: &[u8], backing: &[u8]) -> Result<Vec<u8>, String> {
    read_with_data(bytes, backing, bytes)
}

/// The same of an image with a data file, which holds `data`.
pub fn read_with_data(bytes: &[u8], backing: &[u8], data: &[u8]) -> Result<Vec<u8>, String> {
    let image = Parsed::parse(bytes)?;
    image.read(image.l1_offset, image.l1_entries, image.size, backing, data)
}

/// Names of all internal snapshots, and what each shows. One that does not tell the size of its disk has that of the
/// image's.
pub fn read_snapshots(bytes: &[u8], backing: &[u8]) -> Result<Vec<(String, Vec<u8>)>, String> {
    let image = Parsed::parse(bytes)?;
    let shown = |entry: SnapshotEntry<'_>| {
        let name = entry.name.ok_or("a snapshot's name is cut off")?;
        let size = entry.size.unwrap_or(image.size);
        let shown = image.read(entry.l1, entry.l1_entries, size, backing, bytes)?;
        Ok((String::from_utf8_lossy(name).into_owned(), shown))
    };
    image.snapshot_table().0.into_iter().map(shown).collect()
}

/// Makes an internal snapshot of a clean image whose clusters are all counted once: all its clusters are shared
/// afterwards.
pub fn add_snapshot(bytes: &mut Vec<u8>) -> Result<(), String> {
    let image = Parsed::parse(bytes)?;
    let (cluster, l1, entries) = (image.cluster(), image.l1_offset, image.l1_entries);
    let (order, table) = (image.refcount_order, image.refcount_offset);
    if order < 1 {
        return Err("refcounts of one bit can't count a snapshot".to_owned());
    }
    let mut shared = Vec::new();
    for index in 0..entries {
        let l2 = image.entry(l1, index) & OFFSET;
        if l2 != 0 {
            shared.push((l1 + index * 8, l2));
            let entries = (0..image.l2_entries())
                .map(|slot| (l2 + slot * image.l2_entry_bytes(), image.l2_entry(l2, slot).0 & OFFSET));
            shared.extend(entries);
        }
    }
    shared.retain(|(_, host)| *host != 0);
    let old_end = (bytes.len() as u64).next_multiple_of(cluster);
    // COPIED goes first, so that the copied L1 has it clear too.
    for (at, host) in &shared {
        let entry = be64(bytes, *at as usize).unwrap_or(0) & !COPIED;
        put(bytes, *at, &entry.to_be_bytes());
        set_count(bytes, table, cluster, order, host / cluster, 2)?;
    }
    let l1_copy = bytes.get(l1 as usize..(l1 + entries * 8) as usize).unwrap_or_default().to_vec();
    let l1_len = (entries * 8).next_multiple_of(cluster);
    put(bytes, old_end, &l1_copy);
    let mut head = vec![0u8; 40];
    let (name, id) = (b"s", b"1");
    put(&mut head, 0, &old_end.to_be_bytes());
    put(&mut head, 8, &(entries as u32).to_be_bytes());
    put(&mut head, 12, &[0, id.len() as u8, 0, name.len() as u8]);
    put(&mut head, 36, &16u32.to_be_bytes());
    head.extend([0u8; 8]);
    head.extend(be64(bytes, 24).unwrap_or(0).to_be_bytes());
    head.extend(id.iter().chain(name));
    let snapshots = old_end + l1_len;
    put(bytes, snapshots, &head);
    let end = (bytes.len() as u64).next_multiple_of(cluster);
    bytes.resize(end as usize, 0);
    for at in old_end / cluster..end / cluster {
        set_count(bytes, table, cluster, order, at, 1)?;
    }
    put(bytes, 60, &1u32.to_be_bytes());
    put(bytes, 64, &snapshots.to_be_bytes());
    Ok(())
}

/// Adds a dirty bitmap of the finest granularity, empty and up to date, to a small image of version 3 without a backing file.
pub fn add_bitmap(bytes: &mut Vec<u8>) -> Result<(), String> {
    let image = Parsed::parse(bytes)?;
    let (cluster, order, table) = (image.cluster(), image.refcount_order, image.refcount_offset);
    let (extensions, autoclear) = (image.header_length as usize, image.autoclear);
    if image.version < 3 || image.backing().is_some() {
        return Err("this image can't be given a bitmap here".to_owned());
    }
    let bitmap_table = (bytes.len() as u64).next_multiple_of(cluster);
    let directory = bitmap_table + cluster;
    let mut entry = bitmap_table.to_be_bytes().to_vec();
    entry.extend(1u32.to_be_bytes());
    entry.extend([0, 0, 0, 2, 1, 9, 0, 1, 0, 0, 0, 0, b'b', 0, 0, 0, 0, 0, 0, 0]);
    put(bytes, directory, &entry);
    bytes.resize((directory + cluster) as usize, 0);
    for at in [bitmap_table, directory] {
        set_count(bytes, table, cluster, order, at / cluster, 1)?;
    }
    let mut extension = BITMAPS.to_be_bytes().to_vec();
    extension.extend(24u32.to_be_bytes());
    extension.extend(1u32.to_be_bytes());
    extension.extend([0; 4]);
    extension.extend((entry.len() as u64).to_be_bytes());
    extension.extend(directory.to_be_bytes());
    // The others move up; the first cluster has room for them.
    extension.extend(bytes.get(extensions..cluster as usize - extension.len()).unwrap_or_default().to_vec());
    put(bytes, extensions as u64, &extension);
    put(bytes, 88, &(autoclear | 1).to_be_bytes());
    Ok(())
}

fn set_count(
    bytes: &mut Vec<u8>,
    table: u64,
    cluster: u64,
    order: u32,
    index: u64,
    count: u64,
) -> Result<(), String> {
    let bits = 1u64 << order;
    let per_block = cluster * 8 / bits;
    let block = be64(bytes, (table + index / per_block * 8) as usize).unwrap_or(0) & OFFSET;
    if block == 0 {
        return Err(format!("no refcount block counts cluster {index}: leave room in the image"));
    }
    let bit = index % per_block * bits;
    let at = block + bit / 8;
    if bits >= 8 {
        let word = count.to_be_bytes();
        put(bytes, at, word.get(8 - bits as usize / 8..).unwrap_or_default());
    } else if let Some(byte) = bytes.get_mut(at as usize) {
        let mask = (((1u64 << bits) - 1) << (bit % 8)) as u8;
        *byte = *byte & !mask | (count << (bit % 8)) as u8 & mask;
    }
    Ok(())
}

/// Copies what there is from `at` on.
fn copy(from: &[u8], at: u64, to: &mut [u8]) {
    let there = from.get(at as usize..).unwrap_or_default();
    let len = there.len().min(to.len());
    if let (Some(to), Some(there)) = (to.get_mut(..len), there.get(..len)) {
        to.copy_from_slice(there);
    }
}

fn put(bytes: &mut Vec<u8>, at: u64, data: &[u8]) {
    let end = at as usize + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    if let Some(to) = bytes.get_mut(at as usize..end) {
        to.copy_from_slice(data);
    }
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
