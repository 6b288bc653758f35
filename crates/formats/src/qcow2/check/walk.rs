//! The walk over everything that refers to clusters.
use super::counts::Counts;
use super::findings::{Findings, Mend};
use super::salvage::Kept;
use super::scan::{Mapped, Scan};
use super::stored::RefcountTable;
use super::tables::TableSet;
use super::{Image, PIECE};
use crate::qcow2::bitmaps;
use crate::qcow2::directory::room_for_tables;
use crate::qcow2::header::{COPIED, MAX_L1_BYTES, OFFSET_MASK, REFCOUNT_BLOCK_MASK};
use crate::qcow2::snapshots::Snapshots;
use block::{Repair, Result};
use std::ops::Range;

/// Bits of an L1 entry that must not be set.
const L1_RESERVED: u64 = !(OFFSET_MASK | COPIED);

/// Bits of a bitmap table entry that must not be set.
const BITMAP_RESERVED: u64 = !(OFFSET_MASK | 1);

/// Where the file is known to be a hole: tables there are zeroes, which refer to nothing, however many there are.
struct Holes<'a> {
    image: Image<'a>,
    /// What was looked at last.
    extent: Range<u64>,
    hole: bool,
}

impl<'a> Holes<'a> {
    fn new(image: Image<'a>) -> Self {
        Self { image, extent: 0..0, hole: false }
    }

    /// Whether these bytes lie in a hole.
    async fn has(&mut self, at: u64, len: u64) -> bool {
        if !self.extent.contains(&at) {
            let rest = self.image.file_len.saturating_sub(at);
            let status = self.image.file.status(at, rest, None).await;
            let (known, hole) = status.map_or((len, false), |status| (status.len, status.zero));
            (self.extent, self.hole) = (at..at.saturating_add(known), hole);
        }
        self.hole && at.saturating_add(len) <= self.extent.end
    }
}

/// One pass.
pub(super) struct Walk<'a> {
    image: Image<'a>,
    table: &'a RefcountTable,
    tables: &'a mut TableSet,
    scan: Scan<'a>,
    holes: Holes<'a>,
    /// What takes the place of the snapshot table.
    kept: Option<&'a Kept>,
}

impl<'a> Walk<'a> {
    /// A pass over a window. `first`: it is the first one, which finds the tables and tells what does not depend on
    /// the window.
    pub(super) fn new(
        image: Image<'a>,
        table: &'a RefcountTable,
        tables: &'a mut TableSet,
        counts: &'a mut Counts,
        findings: &'a mut Findings,
        first: bool,
    ) -> Self {
        let flags = findings.repair() == Repair::No;
        let (header, file_len) = (image.header, image.file_len);
        let scan = Scan { header, file_len, counts, findings, first, flags, mapped: Mapped::default() };
        Self { image, table, tables, scan, holes: Holes::new(image), kept: None }
    }

    /// The same with what takes the place of a damaged snapshot table.
    pub(super) fn with_snapshots(self, kept: Option<&'a Kept>) -> Self {
        Self { kept, ..self }
    }

    /// Counts all references.
    pub(super) async fn run(mut self) -> Result<()> {
        let header = self.image.header;
        self.scan.region(1, 0, header.cluster_size());
        if let Some((offset, len)) = header.encryption() {
            self.scan.region(1, offset, len);
        }
        self.l1_table(header.l1_offset, header.l1_bytes(), true).await?;
        self.snapshots().await?;
        self.tables.sort();
        self.tables.iter().for_each(|table| self.scan.counts.add(table.cluster, table.refs));
        self.l2_tables().await?;
        if header.refcount_fault(self.image.file_len).is_none() {
            self.scan.region(1, header.refcount_table_offset, header.refcount_table_bytes());
        }
        self.bitmaps().await?;
        self.refcount_blocks();
        if self.scan.first {
            let mapped = self.scan.mapped;
            let report = self.scan.findings.report();
            report.total_clusters = Some(header.virtual_size().div_ceil(header.cluster_size()));
            report.allocated_clusters = Some(mapped.allocated);
            report.fragmented_clusters = Some(mapped.fragmented);
            report.compressed_clusters = Some(mapped.compressed);
        }
        Ok(())
    }

    async fn l1_table(&mut self, offset: u64, bytes: u64, active: bool) -> Result<()> {
        self.scan.region(1, offset, bytes);
        if bytes > 0 && offset >= self.image.file_len {
            // Nobody knows what it refers to.
            self.scan.findings.complete = false;
        }
        let end = self.image.table_end(offset, bytes);
        let mut at = offset;
        while at < end {
            let len = PIECE.min(end - at);
            if self.holes.has(at, len).await {
                at += len;
                continue;
            }
            match self.image.read(at, len).await {
                Ok(piece) => self.l1_entries(at, &piece, active),
                Err(e) if self.scan.first => {
                    self.scan.findings.check_error(format!("the L1 table can't be read at {at:#x}: {e}"));
                }
                Err(_) => {}
            }
            at += len;
            rt::yield_now().await;
        }
        Ok(())
    }

    fn l1_entries(&mut self, at: u64, piece: &[u8], active: bool) {
        for (i, word) in piece.as_chunks().0.iter().enumerate() {
            let word = u64::from_be_bytes(*word);
            if word != 0 {
                self.l1_entry(at + i as u64 * 8, word, active);
            }
        }
    }

    fn l1_entry(&mut self, at: u64, word: u64, active: bool) {
        let cluster_size = self.image.header.cluster_size();
        let offset = word & OFFSET_MASK;
        let first = self.scan.first;
        if offset == 0 {
            if first {
                let words = || format!("l1_entry={word:x}: flags without a table; L1 entry corrupted");
                self.scan.findings.mendable_entry(Mend { at, value: 0, refs: 1, target: None }, words);
            }
            return;
        }
        if word & L1_RESERVED != 0 && first {
            let target = Some(offset >> self.image.header.cluster_bits);
            let mend = Mend { at, value: word & !L1_RESERVED, refs: 1, target };
            let words = || format!("found L1 entry with reserved bits set: {word:x}");
            if self.image.holds_cluster(offset) {
                self.scan.findings.mendable_entry(mend, words);
            } else {
                self.scan.findings.corruption(1, words);
            }
        }
        if !offset.is_multiple_of(cluster_size) {
            self.scan.region(1, offset, cluster_size);
            if first {
                self.scan.findings.blind_corruption(|| {
                    format!("l2_offset={offset:x}: Table is not cluster aligned; L1 entry corrupted")
                });
            }
            return;
        }
        let cluster = offset >> self.image.header.cluster_bits;
        // References to tables are counted when all are known, for each table at once.
        if offset >= self.image.file_len {
            self.scan.region(1, offset, cluster_size);
        } else if first && !self.tables.add(cluster, active) {
            self.scan.findings.check_error("there are more L2 tables than can be checked".to_owned());
        }
        if active && self.scan.flags {
            self.l1_flag(at, word, cluster);
        }
    }

    fn l1_flag(&mut self, at: u64, word: u64, cluster: u64) {
        let single = match self.scan.counts.is_single(cluster) {
            _ if cluster >= self.image.clusters() && self.scan.first => false,
            _ if cluster >= self.image.clusters() => return,
            Some(single) => single,
            None => return,
        };
        if single != (word & COPIED != 0) {
            let index = (at - self.image.header.l1_offset) / 8;
            let refcount = self.scan.counts.get(cluster).0;
            self.scan.findings.flag_differs(1, false, || {
                format!("L2 cluster: l1_index={index} l1_entry={word:x} refcount={refcount}")
            });
        }
    }

    async fn l2_tables(&mut self) -> Result<()> {
        let cluster_size = self.image.header.cluster_size();
        let most = (PIECE / cluster_size).max(1) as usize;
        for run in self.tables.runs(most) {
            let Some(first) = run.first() else { continue };
            let at = first.cluster << self.image.header.cluster_bits;
            if self.holes.has(at, cluster_size * run.len() as u64).await {
                continue;
            }
            match self.image.read(at, cluster_size * run.len() as u64).await {
                Ok(bytes) => {
                    let tables = run.iter().zip(bytes.chunks(cluster_size as usize));
                    tables.for_each(|(table, bytes)| self.scan.table(*table, bytes));
                }
                Err(e) if self.scan.first => {
                    self.scan.findings.check_error(format!("the L2 tables at {at:#x} can't be read: {e}"));
                }
                Err(_) => {}
            }
            rt::yield_now().await;
        }
        Ok(())
    }

    async fn snapshots(&mut self) -> Result<()> {
        let (header, first) = (self.image.header, self.scan.first);
        if header.snapshot_count == 0 && header.snapshots_fault(self.image.file_len).is_none() {
            return Ok(());
        }
        let mut table_offset = header.snapshots_offset;
        let read = match self.kept {
            Some(kept) => {
                let (offset, table_bytes) = kept.old_place();
                table_offset = offset;
                Ok(Snapshots { list: kept.snapshots(), table_bytes })
            }
            None => Snapshots::read(self.image.file, header).await,
        };
        let snapshots = match read {
            Ok(snapshots) => snapshots,
            Err(e) => {
                if first {
                    self.scan.findings.blind_corruption(|| e.to_string());
                }
                return Ok(());
            }
        };
        let mut bytes_left = room_for_tables(self.image.file);
        for (index, snapshot) in snapshots.list.iter().enumerate() {
            if snapshot.is_void() && first {
                self.scan.findings.corruption(1, || format!("snapshot table entry {index} has no snapshot"));
            } else if !snapshot.complete && header.version >= 3 && first {
                self.scan.findings.corruption(1, || format!("snapshot table entry {index} is incomplete"));
            }
            let bytes = u64::from(snapshot.l1_entries) * 8;
            let wrong = if !snapshot.l1_offset.is_multiple_of(header.cluster_size()) {
                "L1 table is not cluster aligned; snapshot table entry corrupted"
            } else if bytes > MAX_L1_BYTES {
                "L1 table is too large; snapshot table entry corrupted"
            } else if bytes > bytes_left {
                "L1 tables of all snapshots together are longer than the file; snapshot table corrupted"
            } else {
                bytes_left -= bytes;
                self.l1_table(snapshot.l1_offset, bytes, false).await?;
                continue;
            };
            if first {
                self.scan.findings.blind_corruption(|| {
                    format!(
                        "snapshot {} ({}) l1_offset={:#x}: {wrong}",
                        snapshot.id, snapshot.name, snapshot.l1_offset
                    )
                });
            }
        }
        self.scan.region(1, table_offset, snapshots.table_bytes);
        Ok(())
    }

    async fn bitmaps(&mut self) -> Result<()> {
        let Some(extension) = bitmaps::consistent(self.image.header) else { return Ok(()) };
        self.scan.region(1, extension.directory_offset, extension.directory_size);
        let bitmaps = match bitmaps::read(self.image.file, self.image.header).await {
            Ok(bitmaps) => bitmaps,
            Err(e) => {
                if self.scan.first {
                    self.scan.findings.blind_corruption(|| e.to_string());
                }
                return Ok(());
            }
        };
        let mut bytes_left = room_for_tables(self.image.file);
        for bitmap in bitmaps {
            let bytes = u64::from(bitmap.table_entries) * 8;
            if bytes > bytes_left {
                if self.scan.first {
                    let words = || "bitmap tables together are longer than the file".to_owned();
                    self.scan.findings.blind_corruption(words);
                }
                return Ok(());
            }
            bytes_left -= bytes;
            self.bitmap_table(bitmap.table_offset, bytes).await?;
        }
        Ok(())
    }

    async fn bitmap_table(&mut self, offset: u64, bytes: u64) -> Result<()> {
        self.scan.region(1, offset, bytes);
        let cluster_size = self.image.header.cluster_size();
        let end = self.image.table_end(offset, bytes);
        let mut at = offset;
        while at < end {
            let len = PIECE.min(end - at);
            let piece = self.image.read(at, len).await?;
            for word in piece.as_chunks().0 {
                let word = u64::from_be_bytes(*word);
                let offset = word & OFFSET_MASK;
                let odd = word & BITMAP_RESERVED != 0 || !offset.is_multiple_of(cluster_size);
                if odd || (offset != 0 && word & 1 != 0) {
                    if self.scan.first {
                        self.scan
                            .findings
                            .corruption(1, || format!("bitmap table entry {word:x} is not valid"));
                    }
                } else if offset != 0 {
                    self.scan.region(1, offset, cluster_size);
                }
            }
            at += len;
        }
        Ok(())
    }

    /// The blocks of the refcounts themselves.
    fn refcount_blocks(&mut self) {
        let cluster_size = self.image.header.cluster_size();
        let Scan { counts, findings, first, .. } = &mut self.scan;
        for (index, &entry) in self.table.entries().iter().enumerate().filter(|(_, entry)| **entry != 0) {
            let offset = entry & REFCOUNT_BLOCK_MASK;
            let cluster = offset >> self.image.header.cluster_bits;
            let wrong = if entry != offset {
                Some(format!("refcount table entry {index} has reserved bits set"))
            } else if !offset.is_multiple_of(cluster_size) {
                Some(format!("refcount block {index} is not cluster aligned; refcount table entry corrupted"))
            } else if offset >= self.image.file_len {
                Some(format!("refcount block {index} is outside image"))
            } else {
                None
            };
            match wrong {
                Some(words) if *first => findings.structure_corruption(|| words),
                Some(_) => {}
                None => {
                    counts.add(cluster, 1);
                    let refs = counts.get(cluster).1;
                    if refs > 1 {
                        findings.structure_corruption(|| format!("refcount block {index} refcount={refs}"));
                    }
                }
            }
        }
    }
}
