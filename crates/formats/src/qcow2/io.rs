//! Changes of mappings: writes to what is not this image's own yet, zeroes, discards.
//!
//! Every change leases its guest clusters, whatever its kind, and looks at the mapping again under the lease; what
//! another request has changed meanwhile is planned for as it is now. The lease ends with the token.
use super::cache::SUSPECT;
use super::entry::{Entry, Stored};
use super::header::OFFSET_MASK;
use super::image::{Image, Page};
use block::metacache::{Cause, Change, Format, Order, Reserved};
use block::{Action, ExtentKind, Flags, Lease, MapChange, Request, Result, Token, Want, WritePlan};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// A range of whole guest clusters in one slice, leased.
pub(super) struct Leased {
    pub page: Arc<Page>,
    /// First guest cluster.
    pub cluster: u64,
    /// Index of its entry.
    pub first: usize,
    pub count: u64,
    pub lease: Lease,
}

impl Image {
    /// Leases guest clusters as far as their slice goes, and loads it for a change.
    pub(super) async fn lease_to_change(self: &Arc<Self>, cluster: u64, count: u64) -> Result<Leased> {
        let g = self.g();
        let count = count.min(g.to_slice_end(cluster));
        let lease = self.clusters.lease(cluster, cluster + count, true).await;
        let page = self.slice_to_change(g.slice(cluster)).await?;
        Order::make_room(self, g.slice_words()).await?;
        Ok(Leased { page, cluster, first: g.index(cluster), count, lease })
    }

    /// The entries of leased clusters, each checked.
    pub(super) async fn entries(&self, leased: &Leased) -> Result<Vec<Entry>> {
        self.judge(&leased.page).await?;
        let stored = self.stored(leased);
        if leased.page.marks() & SUSPECT == 0 {
            return Ok(stored.map(|entry| Entry::of(entry, self.g())).collect());
        }
        let mut entries = Vec::new();
        for (stored, cluster) in stored.collect::<Vec<_>>().into_iter().zip(leased.cluster..) {
            match self.checked_to_change(stored, cluster).await {
                Ok(entry) => entries.push(entry),
                Err(e) if entries.is_empty() => return Err(e),
                // What comes before the wrong entry can be done.
                Err(_) => break,
            }
        }
        Ok(entries)
    }

    /// The entries of leased clusters as they are stored.
    fn stored(&self, leased: &Leased) -> impl Iterator<Item = Stored> {
        self.g().stored_from(&leased.page, leased.first).take(leased.count as usize)
    }

    /// The same for entries that are about to be cleared whole: one that leads nowhere may go, for nothing can be read
    /// through it. What it names is left alone.
    async fn entries_to_clear(&self, leased: &Leased) -> Result<Vec<Entry>> {
        if leased.page.marks() & SUSPECT == 0 {
            return self.entries(leased).await;
        }
        let stored: Vec<_> = self.stored(leased).collect();
        let nowhere = stored.iter().take_while(|entry| self.leads_nowhere(**entry)).count();
        let Some(first) = stored.first().filter(|_| nowhere > 0) else {
            let count = stored.iter().take_while(|entry| !self.leads_nowhere(**entry)).count();
            let mut entries = self.entries(leased).await?;
            entries.truncate(count);
            return Ok(entries);
        };
        if !self.told_of_dropped.swap(true, Relaxed) {
            self.notices.warn(&format!(
                "'{}': the L2 entry of guest offset {:#x} ({:#x}) can't be followed, and is dropped as its cluster is \
                 cleared; 'cairn img check -r all' may find more",
                self.order.file.name(),
                leased.cluster << self.geometry.cluster_bits,
                first.word
            ));
        }
        Ok(vec![Entry::Bad("it leads nowhere"); nowhere])
    }

    /// Whether an entry is no valid one, or leads beyond the end of the file.
    fn leads_nowhere(&self, stored: Stored) -> bool {
        let g = self.g();
        let entry = Entry::of(stored, g);
        let clusters = self.order.file.node().map_or(0, |file| g.clusters(file.length()));
        matches!(entry, Entry::Bad(_)) || entry.host_clusters(g).is_some_and(|run| run.start >= clusters)
    }

    /// Whether the slice of a cluster has wrong entries.
    async fn is_suspect(&self, cluster: u64) -> Result<bool> {
        let page = self.slice(self.geometry.slice(cluster)).await?;
        Ok(page.is_some_and(|page| page.marks() & SUSPECT != 0))
    }

    /// Plans new data for the start of a range.
    pub(super) async fn plan_data(
        self: &Arc<Self>,
        offset: u64,
        len: u64,
        request: Request,
    ) -> Result<WritePlan> {
        let g = self.g();
        if g.extended {
            return self.plan_parts(offset, len, request).await;
        }
        let (cluster, within) = (g.cluster(offset), g.within(offset));
        let leased = self.lease_to_change(cluster, g.clusters(within + len)).await?;
        let mut entries = self.entries(&leased).await?;
        if request.has(Flags::IF_UNALLOCATED) && entries.first() != Some(&Entry::Hole) {
            let allocated = entries.iter().take_while(|entry| **entry != Entry::Hole).count() as u64;
            let len = (allocated * g.cluster_size() - within).min(len);
            return Ok(WritePlan { len, action: Action::Nothing, token: None });
        }
        let place = |(entry, i): (&Entry, u64)| self.own_place(entry, cluster + i);
        let taken = |e: &Entry| !request.has(Flags::IF_UNALLOCATED) || *e == Entry::Hole;
        let (host, count, reserved, fresh) = match entries.first().and_then(|first| place((first, 0))) {
            // Data of its own and zeroes that have a place, one behind the other, are one write.
            Some(host) => {
                let follows =
                    |e: &(&Entry, u64)| place(*e) == Some(host + (e.1 << g.cluster_bits)) && taken(e.0);
                (host, entries.iter().zip(0..).take_while(follows).count() as u64, None, false)
            }
            None => {
                let free = entries.iter().zip(0..).take_while(|e| place(*e).is_none() && taken(e.0));
                let most = free.count() as u64;
                let found = self.allocate(most).await?;
                let run = found.reserved.run();
                (run.start << g.cluster_bits, run.count, Some(found.reserved), found.fresh)
            }
        };
        entries.truncate(count as usize);
        let bytes = count * g.cluster_size();
        let len = (bytes - within).min(len);
        // What is data in its place already is not copied around: it may be written to meanwhile.
        let in_place = |entry: Option<&Entry>| reserved.is_none() && entry.is_some_and(|e| e.has_data());
        let head = if in_place(entries.first()) { 0 } else { within };
        let tail =
            if in_place(entries.last()) { 0 } else { self.on_disk(offset + len, bytes - within - len) };
        let action = self.in_file(host + within, head, tail, fresh);
        // Allocated meanwhile: it is overwritten in place, like any data of this image's own.
        let same = entries.iter().all(|entry| in_place(Some(entry)));
        let token = (!same).then(|| {
            let words = (0..count).map(|i| g.owned(host + (i << g.cluster_bits))).collect();
            self.change(leased, words, reserved, Some(Cause::Replaced))
        });
        Ok(WritePlan { len, action, token })
    }

    /// How much of the bytes behind `offset` is stored: an external data file has none behind the end of the disk.
    pub(super) fn on_disk(&self, offset: u64, len: u64) -> u64 {
        if self.geometry.data_file { len.min(self.size().saturating_sub(offset)) } else { len }
    }

    /// A change of the first entries of leased clusters; `entries`: their words.
    pub(super) fn change(
        self: &Arc<Self>,
        leased: Leased,
        entries: Vec<u64>,
        reserved: Option<Reserved>,
        cause: Option<Cause>,
    ) -> Box<dyn Token> {
        let Leased { page, first, lease, .. } = leased;
        let first = self.geometry.word_index(first);
        Box::new(Change { image: self.clone(), page, first, entries, reserved, cause, lease })
    }

    /// Plans zeroes or a discard for the start of a range.
    pub(super) async fn plan_clearing(
        self: &Arc<Self>,
        offset: u64,
        len: u64,
        change: MapChange,
        unmap: bool,
    ) -> Result<WritePlan> {
        let g = self.g();
        let within = g.within(offset);
        // The last cluster of a disk may be cut off; clearing to the end clears it whole.
        let to_end = offset + len >= self.size();
        let whole = if to_end { g.clusters(len) } else { len >> g.cluster_bits };
        if within != 0 || whole == 0 {
            let len = len.min(g.cluster_size() - within);
            return match change {
                MapChange::Discard => Ok(WritePlan { len, action: Action::Nothing, token: None }),
                _ if g.extended => self.plan_zero_parts(offset, len, to_end).await,
                _ => self.plan_partly(offset, len).await,
            };
        }
        let discard = change == MapChange::Discard;
        if !g.zero_flag && self.shows_backing() {
            // Without the zero flag, only data hides the backing file's.
            let action = if discard { Action::Nothing } else { Action::AsData };
            return Ok(WritePlan { len, action, token: None });
        }
        if (discard || !g.zero_flag) && !self.is_suspect(g.cluster(offset)).await? {
            let extent = self.map(offset, len, Want::Status).await?;
            let done = extent.kind == ExtentKind::Zero { reserved: None } && discard
                || extent.kind.is_hole() && !self.shows_backing();
            // An extent may end inside a cluster, of which the rest is to be cleared with it.
            let alike = if extent.len < len { extent.len - g.within(extent.len) } else { len };
            if done && alike > 0 {
                return Ok(WritePlan { len: alike, action: Action::Nothing, token: None });
            }
        }
        let leased = self.lease_to_change(g.cluster(offset), whole).await?;
        let entries = self.entries_to_clear(&leased).await?;
        let cleared = || {
            let old = self.stored(&leased);
            entries.iter().zip(old).map(|(entry, old)| (old, self.cleared(*entry, old, change, unmap)))
        };
        let len = ((entries.len() as u64) << g.cluster_bits).min(len);
        let in_data_file = self.clears_data_file(&entries, change, unmap);
        if cleared().all(|(old, new)| old == new) {
            // What a discard has left in a raw data file need not be zeroes yet.
            let action = if in_data_file && !discard { self.in_data_file(offset) } else { Action::Nothing };
            return Ok(WritePlan { len, action, token: None });
        }
        let cause =
            if matches!(entries.first(), Some(Entry::Bad(_))) { None } else { Some(Cause::Discarded) };
        let words = cleared().flat_map(|(_, new)| new.words(g)).collect();
        let kept = (cleared().zip(&entries).zip(leased.cluster..))
            .filter(|(((_, new), entry), _)| new.word & OFFSET_MASK != 0 && entry.has_data() && !g.data_file)
            .map(|(_, cluster)| cluster)
            .collect();
        let token = self.change(leased, words, None, cause);
        let token = self.keeping(token, kept);
        let action = if in_data_file { self.in_data_file(offset) } else { Action::Metadata };
        Ok(WritePlan { len, action, token: Some(token) })
    }

    /// The entry that clearing makes of `entry`, which is stored as `old`.
    fn cleared(&self, entry: Entry, old: Stored, change: MapChange, unmap: bool) -> Stored {
        let g = self.g();
        if !g.zero_flag {
            return Stored::HOLE;
        }
        let allocated = matches!(
            entry,
            Entry::Data { .. } | Entry::Zero { host: Some(_), .. } | Entry::Split { host: Some(_), .. }
        );
        let keep = allocated
            && !(entry.has_data() && self.kept.is_full())
            && (change != MapChange::Discard && !unmap || self.settings.read().keep_discarded);
        match entry {
            Entry::Zero { host: None, .. } if change == MapChange::Discard => old,
            Entry::Hole if change == MapChange::Discard && !self.has_backing() => old,
            _ if keep => Stored::zero(old.word, g),
            _ => Stored::zero(0, g),
        }
    }

    /// Plans clearing a part of a cluster: nothing if it reads as zeroes already; the whole cluster, where the rest of
    /// it reads as zeroes from below.
    pub(super) async fn plan_partly(self: &Arc<Self>, offset: u64, len: u64) -> Result<WritePlan> {
        let plan = |action| Ok(WritePlan { len, action, token: None });
        let g = self.g();
        match self.map(offset, len, Want::Read).await?.kind {
            _ if self.data_is_raw() => return plan(Action::AsData),
            ExtentKind::Zero { reserved: None } => return plan(Action::Nothing),
            ExtentKind::Zero { reserved: Some(_) } => {
                // A write that is about to show the cluster again would bring back what an earlier one, that still knew
                // the old mapping, has left there: these zeroes come after it.
                let leased = self.lease_to_change(g.cluster(offset), 1).await?;
                let entries = self.entries(&leased).await?;
                let zero = entries.first().is_some_and(|e| e.is_zero(g.subcluster(g.within(offset))));
                return plan(if zero { Action::Nothing } else { Action::AsData });
            }
            ExtentKind::Hole { .. } if g.zero_flag => {}
            ExtentKind::Hole { .. } if !self.shows_backing() => return plan(Action::Nothing),
            _ => return plan(Action::AsData),
        }
        let leased = self.lease_to_change(g.cluster(offset), 1).await?;
        let (unit, subcluster) = (g.subcluster_size(), g.subcluster(g.within(offset)));
        let (start, end) = (offset - offset % unit, offset + len);
        let entry = self.entries(&leased).await?.first().copied();
        let hole = entry.is_some_and(|entry| entry.is_hole(subcluster));
        let rest = hole && self.zero_below(start, offset).await?;
        if !rest || !self.zero_below(end, end.next_multiple_of(unit)).await? {
            return plan(Action::AsData);
        }
        let zero = match entry {
            Some(entry) if g.extended => {
                let word = self.stored(&leased).next().unwrap_or_default().word;
                let parts = entry.parts().with_zero(subcluster..subcluster + 1);
                Stored { word, bitmap: parts.bits() }
            }
            _ => Stored::zero(0, g),
        };
        let token = self.change(leased, zero.words(g).collect(), None, Some(Cause::Discarded));
        Ok(WritePlan { len, action: Action::Metadata, token: Some(token) })
    }

    pub(super) fn in_file(&self, offset: u64, head: u64, tail: u64, fresh: bool) -> Action {
        Action::Store { child: self.data, offset, head, tail, fresh }
    }

    /// Whether the backing file has only zeroes in a range, without a look at its data.
    async fn zero_below(&self, start: u64, end: u64) -> Result<bool> {
        let Some(backing) = self.backing() else { return Ok(true) };
        let (mut at, end) = (start, end.min(backing.length()));
        while at < end {
            let status = backing.status(at, end - at, None).await?;
            if !status.zero {
                return Ok(false);
            }
            at += status.len;
        }
        Ok(true)
    }
}
