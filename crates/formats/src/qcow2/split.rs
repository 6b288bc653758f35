//! Clusters of several things: where the bytes of each subcluster are, and changes of single ones.
//!
//! A write gives a cluster of this image's own the data of the subclusters it touches, and copies old content only as far as
//! these are not whole: nothing else of the cluster moves. Where the cluster is not its own, what is data in it is copied
//! too. The bits are set when the data are stored, as any entry: they reach the file behind flush A. Both words of an entry
//! are in one sector of the file, so a power cut leaves the old entry or the new one.
//! Specification: qcow2.rst, "Extended L2 Entries".
use super::entry::{Entry, Stored};
use super::image::{Image, Page};
use super::map::clip;
use super::subclusters::{COUNT, Part, Subclusters};
use block::metacache::Cause;
use block::{Action, ChildId, Extent, ExtentKind, Flags, Request, Result, Want, WritePlan};
use std::ops::Range;
use std::sync::Arc;

impl Image {
    // ---- where bytes are ----

    /// Where the byte `within` a cluster is, and how many bytes from there on to the end of what goes on in this cluster.
    pub(super) fn part(&self, entry: Entry, within: u64, want: Want) -> (ExtentKind, u64) {
        let g = self.g();
        let end = match entry {
            Entry::Split { parts, .. } => {
                let index = g.subcluster(within);
                u64::from(index + parts.run(index)) * g.subcluster_size()
            }
            _ => g.cluster_size(),
        };
        (self.kind(entry, within, want), end - within)
    }

    /// The extent of the subclusters that continue each other, from one cluster to the next; `None` for a wrong entry.
    pub(super) fn walk_parts(&self, page: &Page, offset: u64, len: u64, want: Want) -> Option<Extent> {
        let g = self.g();
        let cluster = g.cluster(offset);
        let mut entries = g.stored_from(page, g.index(cluster)).map(|stored| Entry::of(stored, g));
        let first = entries.next().filter(|entry| !matches!(entry, Entry::Bad(_)))?;
        let (kind, mut bytes) = self.part(first, g.within(offset), want);
        // Compressed clusters are read one by one.
        let single = kind == ExtentKind::Encoded && want != Want::Status;
        while !single && g.within(offset + bytes) == 0 && (want == Want::Status || bytes < len) {
            let Some(entry) = entries.next().filter(|entry| !matches!(entry, Entry::Bad(_))) else { break };
            let (next, more) = self.part(entry, 0, want);
            if !continues(kind, next, bytes) {
                break;
            }
            bytes += more;
        }
        Some(clip(bytes, kind, len, want))
    }

    // ---- writes ----

    /// Plans new data for the start of a range.
    pub(super) async fn plan_parts(
        self: &Arc<Self>,
        offset: u64,
        len: u64,
        request: Request,
    ) -> Result<WritePlan> {
        let g = self.g();
        let (cluster, within) = (g.cluster(offset), g.within(offset));
        let leased = self.lease_to_change(cluster, g.clusters(within + len)).await?;
        let mut entries = self.entries(&leased).await?;
        let first = entries.first().copied().unwrap_or(Entry::Hole);
        let mut len = len;
        if request.has(Flags::IF_UNALLOCATED) {
            entries.truncate(1);
            let (kind, bytes) = self.part(first, within, Want::Write);
            len = len.min(bytes);
            if !kind.is_hole() {
                return Ok(WritePlan { len, action: Action::Nothing, token: None });
            }
        }
        let own = |(i, entry): (u64, &Entry)| self.own_place(entry, cluster + i);
        let (host, count, reserved, fresh) = match own((0, &first)) {
            Some(host) => {
                let follows = |e: &(u64, &Entry)| own(*e) == Some(host + (e.0 << g.cluster_bits));
                (host, (0..).zip(&entries).take_while(follows).count() as u64, None, false)
            }
            None => {
                let most = (0..).zip(&entries).take_while(|e| own(*e).is_none()).count() as u64;
                let found = self.allocate(most).await?;
                let run = found.reserved.run();
                (run.start << g.cluster_bits, run.count, Some(found.reserved), found.fresh)
            }
        };
        entries.truncate(count as usize);
        let end = (within + len).min(count << g.cluster_bits);
        let stored = self.stored_range(&entries, within..end, reserved.is_none());
        let tail = self.on_disk(offset + (end - within), stored.end - end);
        let action = self.in_file(host + within, within - stored.start, tail, fresh);
        let new: Vec<_> = (entries.iter().zip(0u64..))
            .map(|(entry, i)| {
                let parts = with_stored(entry.parts(), &stored, i, g.subcluster_size());
                Stored { word: g.owned(host + (i << g.cluster_bits)), bitmap: parts.bits() }
            })
            .collect();
        // Allocated meanwhile: it is overwritten in place, like any data of this image's own.
        let same = entries.iter().zip(&new).all(|(entry, new)| entry.parts().bits() == new.bitmap);
        let token = (reserved.is_some() || !same).then(|| {
            let words = new.into_iter().flat_map(|entry| entry.words(g)).collect();
            self.change(leased, words, reserved, Some(Cause::Replaced))
        });
        Ok(WritePlan { len: end - within, action, token })
    }

    /// What is written where the bytes `asked` of some clusters are new, in bytes from the first cluster's start: whole
    /// subclusters where they were no data yet; in a new host cluster also all that was data.
    fn stored_range(&self, entries: &[Entry], asked: Range<u64>, in_place: bool) -> Range<u64> {
        let g = self.g();
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return asked };
        let (size, last_start) = (g.subcluster_size(), (entries.len() as u64 - 1) << g.cluster_bits);
        let (start, end) = (asked.start / size * size, asked.end.next_multiple_of(size));
        if in_place {
            let is_data = |entry: &Entry, within| entry.parts().part(g.subcluster(within)) == Part::Data;
            return Range {
                start: if is_data(first, asked.start) { asked.start } else { start },
                end: if is_data(last, asked.end - 1 - last_start) { asked.end } else { end },
            };
        }
        let (before, after) = (old_data(first), old_data(last));
        let start = if before.is_empty() { start } else { start.min(u64::from(before.start) * size) };
        let end = if after.is_empty() { end } else { end.max(last_start + u64::from(after.end) * size) };
        start..end
    }

    // ---- zeroes ----

    /// Plans zeroes for the start of a range that is in one cluster and is not the whole of it.
    pub(super) async fn plan_zero_parts(
        self: &Arc<Self>,
        offset: u64,
        len: u64,
        to_end: bool,
    ) -> Result<WritePlan> {
        let g = self.g();
        let (within, size) = (g.within(offset), g.subcluster_size());
        let count = if to_end { len.div_ceil(size) } else { len / size };
        if !within.is_multiple_of(size) || count == 0 {
            return self.plan_partly(offset, len.min(size - within % size)).await;
        }
        let len = len.min(count * size);
        let leased = self.lease_to_change(g.cluster(offset), 1).await?;
        let entry = self.entries(&leased).await?.first().copied().unwrap_or(Entry::Hole);
        if matches!(entry, Entry::Compressed(_)) || entry.has_data() && self.kept.is_full() {
            return Ok(WritePlan { len, action: Action::AsData, token: None });
        }
        let first = g.subcluster(within);
        let parts = entry.parts().with_zero(first..first + count as u32);
        let (raw, same) = (self.data_is_raw(), parts == entry.parts());
        let action = match raw {
            true => self.in_data_file(offset),
            false if same => Action::Nothing,
            false => Action::Metadata,
        };
        if same {
            return Ok(WritePlan { len, action, token: None });
        }
        // The host cluster stays, also where nothing of it is read any more: it is there for the next write.
        let word = g.stored(&leased.page, g.index(g.cluster(offset))).word;
        let words = Stored { word, bitmap: parts.bits() }.words(g).collect();
        let kept = (!g.data_file && entry.has_data() && parts.data_range().is_empty())
            .then(|| g.cluster(offset))
            .into_iter()
            .collect();
        let token = self.change(leased, words, None, Some(Cause::Discarded));
        let token = self.keeping(token, kept);
        Ok(WritePlan { len, action, token: Some(token) })
    }
}

/// Whether what is `next`, `bytes` bytes behind the start of an extent, goes on with it.
fn continues(kind: ExtentKind, next: ExtentKind, bytes: u64) -> bool {
    let behind = |place: Option<(ChildId, u64)>| place.map(|(child, offset)| (child, offset + bytes));
    let expected = match kind {
        ExtentKind::Data { child, offset, owned } => {
            ExtentKind::Data { child, offset: offset + bytes, owned }
        }
        ExtentKind::Zero { reserved } => ExtentKind::Zero { reserved: behind(reserved) },
        ExtentKind::Hole { reserved } => ExtentKind::Hole { reserved: behind(reserved) },
        other => other,
    };
    next == expected
}

/// The subclusters, from the first to the last, whose content must come along to a new host cluster.
fn old_data(entry: &Entry) -> Range<u32> {
    match entry {
        Entry::Compressed(_) => 0..COUNT,
        other => other.parts().data_range(),
    }
}

/// The subclusters of cluster `index` with those as data that lie in a range of bytes.
fn with_stored(parts: Subclusters, stored: &Range<u64>, index: u64, size: u64) -> Subclusters {
    let base = index * u64::from(COUNT);
    let place = |at: u64| at.saturating_sub(base).min(COUNT.into()) as u32;
    parts.with_data(place(stored.start / size)..place(stored.end.div_ceil(size)))
}
