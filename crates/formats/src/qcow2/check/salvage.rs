//! What a repair keeps of a damaged snapshot table: every entry that still leads to an L1 table.
//!
//! ```text
//!  old table   [entry 0][entry 1: lengths are nonsense][entry 2]░░░ cut off
//!                  │         └ read with the usual lengths  └ found again on a multiple of 8, in the same cluster
//!                  ▼
//!  new table   behind everything in use; then one header write switches to it
//! ```
//!
//! Laws:
//! - an entry where the table says it is needs an aligned L1 table inside the file; one that is only guessed needs an id
//!   and an L1 table that leads to clusters of the file, too: a guess must not make a snapshot of arbitrary bytes;
//! - where all that is kept lies in one piece from the start of a cluster on, only the header changes.
//!
//! Bounds: 64 MiB are looked at, as much as a table may have; of L1 tables, [`LOOKS`] times as much as all of them can be.
use super::counts::Counts;
use super::findings::Findings;
use super::{Image, MAX_REPAIR_CLUSTERS};
use crate::field::until_nul;
use crate::qcow2::directory::room_for_tables;
use crate::qcow2::header::{COPIED, Header, HeaderError, MAX_L1_BYTES, MAX_SNAPSHOTS, OFFSET_MASK};
use crate::qcow2::snapshots::{self, Entry, FIXED_BYTES, MAX_EXTRA_BYTES, MAX_TABLE_BYTES, Snapshot};
use block::{BlockError, ErrorKind, Node, Result};
use rt::BufMut;
use std::collections::HashSet;
use std::sync::Arc;

/// Bytes of extra data that programs write, the newest first.
const USUAL_EXTRA_BYTES: [u32; 4] = [24, 16, 8, 0];

/// How often each L1 table may be looked at, on the average: entries are tried with several lengths.
const LOOKS: u64 = 8;

/// What takes the place of a damaged table.
pub(super) struct Kept {
    entries: Vec<Entry>,
    /// Where all of them lie, as they are, from the start of a cluster on: file offset and bytes.
    in_place: Option<(u64, u64)>,
    /// What was wrong, in words.
    faults: Vec<String>,
}

/// Looks at the snapshot table; `None` if nothing is wrong with it.
pub(super) async fn look(image: Image<'_>) -> Result<Option<Kept>> {
    let header = image.header;
    if header.snapshot_count == 0 {
        let empty = |fault: HeaderError| Kept {
            entries: Vec::new(),
            in_place: None,
            faults: vec![fault.to_string()],
        };
        return Ok(header.snapshots_fault(image.file_len).map(empty));
    }
    let (mut kept, fault) = match snapshots::read_entries(image.file, header).await {
        Ok(entries) => {
            let voids = entries.iter().filter(|entry| entry.snapshot().is_void()).count();
            let mut kept = Kept { entries, in_place: None, faults: Vec::new() };
            kept.entries.retain(|entry| !entry.snapshot().is_void());
            match voids {
                0 => (kept, None),
                _ => {
                    // What was overwritten with zeroes may have shifted what follows.
                    let found = search(image).await?;
                    let better = found.entries.len() > kept.entries.len();
                    (
                        if better { found } else { kept },
                        Some("there are entries without a snapshot".to_owned()),
                    )
                }
            }
        }
        Err(error) => (search(image).await?, Some(error.message())),
    };
    if let Some(fault) = fault {
        let (count, left) = (header.snapshot_count, kept.entries.len());
        kept.faults.push(format!("snapshot table ({fault}): {left} of {count} entries are kept"));
    }
    for (index, entry) in kept.entries.iter_mut().enumerate() {
        if header.version >= 3 && !entry.is_complete() {
            kept.faults.push(format!("snapshot table entry {index} is incomplete"));
            entry.complete(header.virtual_size());
            kept.in_place = None;
        }
    }
    Ok((!kept.faults.is_empty()).then_some(kept))
}

/// Finds entries where the header leads to, or at the start of that cluster.
async fn search(image: Image<'_>) -> Result<Kept> {
    let (offset, cluster_size) = (image.header.snapshots_offset, image.header.cluster_size());
    let aligned = offset - offset % cluster_size;
    let mut best = Kept { entries: Vec::new(), in_place: None, faults: Vec::new() };
    for start in [offset, aligned] {
        // The header's cluster has no entries.
        if start >= cluster_size && start < image.file_len {
            let found = Search::new(image, start).await?.run().await?;
            best = if found.entries.len() > best.entries.len() { found } else { best };
        }
    }
    Ok(best)
}

struct Search<'a> {
    image: Image<'a>,
    /// Where the table is taken to begin.
    start: u64,
    /// Its bytes and what follows.
    area: BufMut,
    /// Bytes of L1 tables that may still be looked at.
    left: u64,
}

impl<'a> Search<'a> {
    async fn new(image: Image<'a>, start: u64) -> Result<Self> {
        let area = image.read(start, (image.file_len - start).min(MAX_TABLE_BYTES)).await?;
        let left = room_for_tables(image.file).saturating_mul(LOOKS);
        Ok(Self { image, start, area, left })
    }

    async fn run(mut self) -> Result<Kept> {
        let most = self.image.header.snapshot_count.min(MAX_SNAPSHOTS) as usize;
        let (start, cluster_size) = (self.start, self.image.header.cluster_size());
        let mut kept = Kept { entries: Vec::new(), in_place: None, faults: Vec::new() };
        let (mut at, mut undisturbed, mut end) = (0, start.is_multiple_of(cluster_size), 0);
        let cluster_end = |at: usize| (start + at as u64 + 1).next_multiple_of(cluster_size);
        // Up to where an entry is looked for that nothing leads to.
        let mut horizon = None;
        while at + 12 <= self.area.len() && kept.entries.len() < most {
            match self.best_entry(at, horizon.is_some()).await? {
                Some(found) => {
                    undisturbed &= found.as_told && horizon.is_none();
                    kept.entries.push(found.entry);
                    (at, end) = (found.end.next_multiple_of(8), found.end as u64);
                    horizon = found.is_cut.then(|| cluster_end(at));
                }
                None => {
                    let horizon = *horizon.get_or_insert_with(|| cluster_end(at));
                    at += 8;
                    if self.start + at as u64 >= horizon {
                        break;
                    }
                }
            }
        }
        name_the_nameless(&mut kept.entries);
        kept.in_place = (undisturbed && !kept.entries.is_empty()).then_some((self.start, end));
        Ok(kept)
    }

    /// The entry at `at`: as its lengths tell, or else with the usual ones. `lost`: nothing leads to `at`.
    async fn best_entry(&mut self, at: usize, lost: bool) -> Result<Option<Found>> {
        let told = self.entry(at, None);
        let can_be = if lost {
            self.is_sure(&told.entry).await?
        } else {
            self.has_l1(&told.entry) && !told.entry.id.is_empty()
        };
        if can_be && !told.is_cut {
            // A name with a NUL in it may have been told too long: what follows it then is an entry.
            let early = until_nul(&told.entry.name).len();
            let too_long = told.entry.name.len() - early;
            let next = (told.end - too_long).next_multiple_of(8);
            let follows = (too_long > 8).then(|| self.entry(next, None).entry);
            if let Some(follows) = follows
                && self.is_sure(&follows).await?
            {
                let mut entry = told.entry;
                entry.name.truncate(early);
                return Ok(Some(Found { entry, end: told.end - too_long, as_told: false, is_cut: false }));
            }
            return Ok(Some(told));
        }
        for extra_bytes in USUAL_EXTRA_BYTES {
            let guess = self.entry(at, Some(extra_bytes));
            if !guess.is_cut && self.is_sure(&guess.entry).await? {
                return Ok(Some(guess));
            }
        }
        // Only what it is called is lost: what it leads to is there.
        let there = told.is_cut && !lost && self.leads_into_the_file(&told.entry).await?;
        Ok(there.then_some(told))
    }

    /// Reads an entry, with other bytes of extra data than it tells where they are given; zeroes beyond the end.
    fn entry(&self, at: usize, extra_bytes: Option<u32>) -> Found {
        let bytes = |from: usize, len: usize| {
            let from = from.min(self.area.len());
            let to = from.saturating_add(len).min(self.area.len());
            self.area.get(from..to).unwrap_or_default()
        };
        let mut fixed = [0; FIXED_BYTES];
        fixed.iter_mut().zip(bytes(at, FIXED_BYTES)).for_each(|(to, from)| *to = *from);
        let (told_bytes, id_bytes, name_bytes) = Entry::lengths(&fixed);
        let extra_at = at.saturating_add(FIXED_BYTES);
        let id_at = extra_at.saturating_add(extra_bytes.unwrap_or(told_bytes) as usize);
        let name_at = id_at.saturating_add(id_bytes.into());
        let end = name_at.saturating_add(name_bytes.into());
        let is_cut = end > self.area.len();
        let extra = bytes(extra_at, id_at - extra_at);
        let mut entry = Entry {
            fixed,
            extra: extra.get(..MAX_EXTRA_BYTES as usize).unwrap_or(extra).to_vec(),
            id: bytes(id_at, id_bytes.into()).to_vec(),
            name: bytes(name_at, name_bytes.into()).to_vec(),
        };
        let mut found_end = end;
        if is_cut {
            // Names that begin in nonsense are none; others end where they do.
            let lost = told_bytes > MAX_EXTRA_BYTES || name_at > self.area.len();
            [&mut entry.extra, &mut entry.id, &mut entry.name]
                .into_iter()
                .filter(|_| lost)
                .for_each(Vec::clear);
            entry.name.truncate(until_nul(&entry.name).len());
            found_end = if lost { extra_at } else { name_at + entry.name.len() };
        }
        let as_told = extra_bytes.is_none() && told_bytes <= MAX_EXTRA_BYTES && !is_cut;
        Found { entry, end: found_end, as_told, is_cut }
    }

    /// The L1 table of an entry can be where it says; a disk without a byte has none.
    fn has_l1(&self, entry: &Entry) -> bool {
        let (offset, entries) = entry.l1();
        let bytes = u64::from(entries) * 8;
        entries == 0
            || self.image.holds_cluster(offset)
                && offset > 0
                && bytes <= MAX_L1_BYTES
                && offset + bytes <= self.image.file_len.next_multiple_of(self.image.header.cluster_size())
    }

    /// An entry that can't be chance: it has an id of plain characters, and [`Self::leads_into_the_file`].
    async fn is_sure(&mut self, entry: &Entry) -> Result<bool> {
        let plain = !entry.id.is_empty() && entry.id.iter().all(u8::is_ascii_graphic);
        Ok(plain && self.leads_into_the_file(entry).await?)
    }

    /// Its L1 table has entries that lead to clusters of the file, and no others.
    async fn leads_into_the_file(&mut self, entry: &Entry) -> Result<bool> {
        let (offset, entries) = entry.l1();
        if entries == 0 || !self.has_l1(entry) {
            return Ok(false);
        }
        let bytes = u64::from(entries) * 8;
        self.left = self.left.checked_sub(bytes).ok_or_else(|| {
            let text = "the snapshot table is damaged, and too many of its entries lead to the same L1 tables to tell which are \
                        right; 'convert' makes a copy of the disk";
            BlockError::new(ErrorKind::Limit, text)
        })?;
        let table = self.image.read(offset, bytes).await?;
        let words = || table.as_chunks().0.iter().map(|word| u64::from_be_bytes(*word));
        let leads = |word: u64| {
            word & !(OFFSET_MASK | COPIED) == 0
                && word & OFFSET_MASK != 0
                && self.image.holds_cluster(word & OFFSET_MASK)
        };
        Ok(words().all(|word| word == 0 || leads(word)))
    }
}

struct Found {
    entry: Entry,
    /// Where it ends in the area.
    end: usize,
    /// Nothing was guessed or cut.
    as_told: bool,
    /// It ends behind the area.
    is_cut: bool,
}

/// Gives ids to entries that lost them: numbers that no other has.
fn name_the_nameless(entries: &mut [Entry]) {
    let mut ids: HashSet<Vec<u8>> = entries.iter().map(|entry| entry.id.clone()).collect();
    let mut next = 1u64;
    for entry in entries.iter_mut().filter(|entry| entry.id.is_empty()) {
        while !ids.insert(next.to_string().into_bytes()) {
            next += 1;
        }
        entry.id = next.to_string().into_bytes();
    }
}

impl Kept {
    /// What the entries mean.
    pub(super) fn snapshots(&self) -> Vec<Snapshot> {
        self.entries.iter().map(Entry::snapshot).collect()
    }

    /// Offset and bytes of what stays in use of the old table.
    pub(super) fn old_place(&self) -> (u64, u64) {
        self.in_place.unwrap_or_default()
    }

    /// Writes a new table where nothing leads to, with one header write that switches to it, all durable.
    pub(super) async fn write(
        self,
        file: &Arc<Node>,
        header: &mut Header,
        file_len: u64,
        counts: &mut Counts,
        findings: &mut Findings,
    ) -> Result<()> {
        let mut new = header.clone();
        new.snapshot_count = self.entries.len() as u32;
        if self.entries.is_empty() {
            new.snapshots_offset = 0;
        } else if let Some((offset, _)) = self.in_place {
            new.snapshots_offset = offset;
        } else {
            let table = snapshots::encode(&self.entries);
            let clusters = (table.len() as u64).div_ceil(header.cluster_size());
            let start = free_place(header, file_len, counts, findings, clusters)?;
            counts.grow(start + clusters);
            (start..start + clusters).for_each(|cluster| counts.add(cluster, 1));
            new.snapshots_offset = start << header.cluster_bits;
            let image = Image { file, header, file_len };
            image.write(new.snapshots_offset, BufMut::from_slice(&table)).await?;
            file.flush().await?;
        }
        new.store(file).await?;
        file.flush().await?;
        *header = new;
        self.faults.into_iter().for_each(|fault| findings.mended(|| fault));
        Ok(())
    }
}

/// The first of so many clusters behind everything in use that no entry leads to, be it beyond the end of the file.
fn free_place(
    header: &Header,
    file_len: u64,
    counts: &Counts,
    findings: &Findings,
    clusters: u64,
) -> Result<u64> {
    let bits = header.cluster_bits;
    let in_use = counts.highest().map_or(1, |highest| highest + 1);
    let mut start = in_use.max(file_len.div_ceil(header.cluster_size()));
    let mut dangling: Vec<_> =
        findings.dangling.iter().map(|d| (d.offset >> bits, ((d.offset + d.size - 1) >> bits) + 1)).collect();
    dangling.sort_unstable();
    for (first, end) in dangling {
        if first < start + clusters {
            start = start.max(end);
        }
    }
    if !findings.all_dangling_known || start + clusters > MAX_REPAIR_CLUSTERS {
        let text =
            "the image has no place that a new snapshot table could be put to; rewrite it with 'convert'";
        return Err(BlockError::new(ErrorKind::Limit, text));
    }
    Ok(start)
}
