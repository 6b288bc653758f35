//! Where a guest range's bytes are.
//!
//! [`Image::try_map`] answers from memory and takes no lock across anything that waits; [`Image::map`] loads what is
//! missing and answers the same. Both walk the entries of one slice as far as they continue each other, or the
//! entries of one L1 page as far as they are empty; for block status also whole tables that are one thing.
use super::cache::{SUSPECT, TABLE_PAGE_WORDS, UNJUDGED};
use super::entry::{Entry, Geometry, Stored};
use super::image::{Image, Page, TABLE_KEY};
use super::subclusters::Part;
use block::{Extent, ExtentKind, Result, Want};

impl Image {
    /// The mapping of the start of a range, from memory.
    pub(super) fn try_map(&self, offset: u64, len: u64, want: Want) -> Option<Extent> {
        if want == Want::Write && !self.order.access.is_ready() {
            return None;
        }
        let slice = self.g().slice(self.g().cluster(offset));
        match self.order.tables.with(slice, |page| self.walk(page, offset, len, want)) {
            Some(found) => found,
            None => self.empty_tables(offset, len, want),
        }
    }

    /// Block status of one extent after the other from `offset` on, from memory: those of one slice, or the tables that do
    /// not exist.
    pub(super) fn try_extents(&self, offset: u64, len: u64, each: &mut dyn FnMut(Extent) -> bool) {
        let g = self.g();
        let slice = g.slice(g.cluster(offset));
        let walked = self.order.tables.with(slice, |page| {
            let (mut at, end) = (offset, offset + len);
            while at < end && g.slice(g.cluster(at)) == slice {
                let Some(extent) = self.walk(page, at, end - at, Want::Status) else { return };
                at += extent.len;
                if !each(extent) {
                    return;
                }
            }
        });
        if walked.is_none()
            && let Some(extent) = self.empty_tables(offset, len, Want::Status)
        {
            each(extent);
        }
    }

    /// The mapping of the start of a range.
    pub(super) async fn map(&self, offset: u64, len: u64, want: Want) -> Result<Extent> {
        if want == Want::Write {
            self.first_write().await?;
        }
        if let Some(extent) = self.try_map(offset, len, want) {
            return Ok(extent);
        }
        if want == Want::Status
            && let Some(extent) = self.uniform_tables(offset).await?
        {
            return Ok(extent);
        }
        let g = self.g();
        let cluster = g.cluster(offset);
        let Some(page) = self.slice(g.slice(cluster)).await? else {
            // Its L1 page is in memory now, or was a moment ago.
            let to_end = g.to_slice_end(cluster) * g.cluster_size() - g.within(offset);
            let nearest = Extent { len: to_end.min(len), kind: ExtentKind::HOLE };
            return Ok(self.empty_tables(offset, len, want).unwrap_or(nearest));
        };
        if want == Want::Write {
            self.judge(&page).await?;
        }
        if let Some(extent) = self.walk(&page, offset, len, want) {
            return Ok(extent);
        }
        // The slice has a wrong entry somewhere: one entry at a time is looked at.
        let stored = g.stored(&page, g.index(cluster));
        let entry = match Entry::of(stored, g) {
            // Telling where bytes should be does no harm; whoever goes there is told that they are not.
            entry if want == Want::Status && !matches!(entry, Entry::Bad(_)) => entry,
            _ if want == Want::Write => self.checked_to_change(stored, cluster).await?,
            _ => self.checked(stored, cluster).await?,
        };
        Ok(self.extent(entry, offset, len, want, 1))
    }

    /// Whether the mapping of a range is durable: no table waits for an epoch. Who is about to publish a new mapping, and
    /// has not marked its table yet, still has the lease.
    pub(super) fn is_settled(&self, offset: u64, len: u64) -> bool {
        let (first, end) = (self.g().cluster(offset), self.g().clusters(offset + len));
        self.clusters.try_lease(first, end, false).is_some_and(|_lease| self.order.tables.dirty.is_empty())
    }

    /// Whole L2 tables that do not exist: a hole to the first that does.
    fn empty_tables(&self, offset: u64, len: u64, want: Want) -> Option<Extent> {
        let span = self.g().l1_span();
        let index = offset / span;
        let (number, first) = (index / TABLE_PAGE_WORDS, (index % TABLE_PAGE_WORDS) as usize);
        let empty = self.order.tables.with(TABLE_KEY | number, |page| {
            page.words_from(first).take_while(|word| *word == 0).count() as u64
        })?;
        let end = (index + empty).saturating_mul(span);
        (empty > 0).then(|| clip(end - offset, ExtentKind::HOLE, len, want))
    }

    /// The extent of the entries that continue each other; `None` if the slice has a wrong entry.
    fn walk(&self, page: &Page, offset: u64, len: u64, want: Want) -> Option<Extent> {
        let slow = if want == Want::Write { SUSPECT | UNJUDGED } else { SUSPECT };
        if page.marks() & slow != 0 {
            return None;
        }
        let g = self.g();
        if g.extended {
            return self.walk_parts(page, offset, len, want);
        }
        let cluster = g.cluster(offset);
        let index = g.index(cluster);
        let word = page.word(index);
        let entry = Entry::plain(word, g);
        let most = match want {
            Want::Status => g.to_slice_end(cluster),
            Want::Read | Want::Write => g.cluster(offset + len.max(1) - 1) - cluster + 1,
        };
        let more = match entry {
            Entry::Bad(_) => return None,
            Entry::Compressed(_) if want == Want::Write => 0,
            _ => {
                let words = page.words_from(index + 1).take(most as usize - 1);
                following(Stored { word, bitmap: 0 }, entry, words.map(|word| Stored { word, bitmap: 0 }), g)
            }
        };
        let clusters = 1 + more as u64;
        Some(self.extent(entry, offset, len, want, clusters))
    }

    pub(super) fn extent(&self, entry: Entry, offset: u64, len: u64, want: Want, clusters: u64) -> Extent {
        let g = self.g();
        let (kind, bytes) = self.part(entry, g.within(offset), want);
        clip(((clusters - 1) << g.cluster_bits) + bytes, kind, len, want)
    }

    /// Where the byte `within` a cluster is.
    pub(super) fn kind(&self, entry: Entry, within: u64, want: Want) -> ExtentKind {
        let at = |host| (self.data, host + within);
        match entry {
            Entry::Hole | Entry::Bad(_) => ExtentKind::HOLE,
            Entry::Zero { host, .. } => ExtentKind::Zero { reserved: host.map(at) },
            Entry::Data { host, owned } => {
                ExtentKind::Data { child: self.data, offset: host + within, owned }
            }
            Entry::Compressed(_) => ExtentKind::Encoded,
            Entry::Split { host, owned, parts } => match (parts.part(self.g().subcluster(within)), host) {
                (Part::Hole, Some(host)) if want == Want::Status => {
                    ExtentKind::Hole { reserved: Some(at(host)) }
                }
                // Data without a host cluster is a wrong entry.
                (Part::Hole, _) | (Part::Data, None) => ExtentKind::HOLE,
                (Part::Zero, host) => self.kind(Entry::Zero { host, owned }, within, want),
                (Part::Data, Some(host)) => self.kind(Entry::Data { host, owned }, within, want),
            },
        }
    }

    /// An entry that may be written through or replaced, or the error that names it.
    pub(super) async fn checked_to_change(&self, stored: Stored, cluster: u64) -> Result<Entry> {
        let entry = self.checked(stored, cluster).await?;
        if self.are_counted(entry.host_clusters(self.g()).into_iter()).await? {
            return Ok(entry);
        }
        let guest = cluster << self.g().cluster_bits;
        let text = format!(
            "the refcounts call the cluster free that the L2 entry of guest offset {guest:#x} ({:#x}) leads to",
            stored.word
        );
        Err(self.corrupt(text.into(), Some(guest)).await)
    }

    /// An entry that may be used, or the error that names it.
    pub(super) async fn checked(&self, stored: Stored, cluster: u64) -> Result<Entry> {
        match self.wrong_entry(stored, cluster) {
            None => Ok(Entry::of(stored, self.g())),
            Some(why) => {
                let guest = cluster << self.g().cluster_bits;
                let word = stored.word;
                let entry = format!("the L2 entry of guest offset {guest:#x} is {word:#x}");
                Err(self.corrupt(why.context(entry), Some(guest)).await)
            }
        }
    }
}

/// How many entries go on with what the first begins: they are the same kind of thing, and where that has a place in the
/// file, each lies behind the one before. `entry`: what the first means.
pub(super) fn following(
    first: Stored,
    entry: Entry,
    rest: impl Iterator<Item = Stored>,
    g: Geometry,
) -> usize {
    let step = match entry {
        Entry::Data { .. } | Entry::Zero { host: Some(_), .. } => g.cluster_size(),
        Entry::Hole | Entry::Zero { host: None, .. } => 0,
        Entry::Compressed(_) => {
            return rest.take_while(|next| matches!(Entry::of(*next, g), Entry::Compressed(_))).count();
        }
        Entry::Split { .. } | Entry::Bad(_) => return 0,
    };
    let goes_on = rest.scan(first.word, |last, next| {
        *last = last.wrapping_add(step);
        Some(Stored { word: *last, bitmap: first.bitmap } == next)
    });
    goes_on.take_while(|goes_on| *goes_on).count()
}

/// An extent, no longer than asked for where only that was wanted.
pub(super) fn clip(bytes: u64, kind: ExtentKind, len: u64, want: Want) -> Extent {
    let len = if want == Want::Status { bytes } else { bytes.min(len) };
    Extent { len, kind }
}
