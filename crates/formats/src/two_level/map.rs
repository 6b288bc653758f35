//! Where a guest range's bytes are.
use super::geometry::Entry;
use super::image::{Image, Page};
use super::tables::{JUDGED, L1_KEY, SUSPECT};
use super::{Layout, PAGE_ENTRIES};
use block::{Extent, ExtentKind, Result, Want};

impl<L: Layout> Image<L> {
    /// The mapping of the start of a range, from memory.
    pub fn try_map(&self, offset: u64, len: u64, want: Want) -> Option<Extent> {
        if want == Want::Write && !self.order.access.is_ready() {
            return None;
        }
        let page = self.geometry.page_of(self.geometry.cluster(offset));
        match self.order.tables.with(page, |page| self.walk(page, offset, len, want)) {
            Some(found) => found,
            None => self.empty_tables(offset, len, want),
        }
    }

    /// The mapping of the start of a range.
    pub async fn map(&self, offset: u64, len: u64, want: Want) -> Result<Extent> {
        if want == Want::Write {
            self.first_write().await?;
        }
        if let Some(extent) = self.try_map(offset, len, want) {
            return Ok(extent);
        }
        let g = &self.geometry;
        let cluster = g.cluster(offset);
        let Some(page) = self.page(g.page_of(cluster)).await? else {
            // Its L1 page is in memory now, or was a moment ago.
            let to_end = (g.to_page_end(cluster) << g.cluster_bits) - g.within(offset);
            let nearest = Extent { len: to_end.min(len), kind: ExtentKind::HOLE };
            return Ok(self.empty_tables(offset, len, want).unwrap_or(nearest));
        };
        if let Some(extent) = self.walk(&page, offset, len, want) {
            return Ok(extent);
        }
        // The page has a wrong entry somewhere: one entry at a time is looked at.
        let entry = self.checked(page.word(g.index(cluster)), cluster)?;
        Ok(self.extent(entry, offset, len, want, 1))
    }

    /// Whether the mapping of a range is durable: no table waits for an epoch. Who is about to publish a new mapping, and
    /// has not marked its table yet, still has the lease.
    pub fn is_settled(&self, offset: u64, len: u64) -> bool {
        let (first, end) = (self.geometry.cluster(offset), self.geometry.clusters(offset + len));
        self.clusters.try_lease(first, end, false).is_some_and(|_lease| self.order.tables.dirty.is_empty())
    }

    /// Whole L2 tables that do not exist: a hole to the first that does.
    fn empty_tables(&self, offset: u64, len: u64, want: Want) -> Option<Extent> {
        let span = self.geometry.table_span();
        let index = offset / span;
        let (number, first) = (index / PAGE_ENTRIES, (index % PAGE_ENTRIES) as usize);
        let empty = self.order.tables.with(L1_KEY | number, |page| {
            page.words_from(first).take_while(|word| *word == 0).count() as u64
        })?;
        let end = (index + empty).saturating_mul(span).min(i64::MAX as u64);
        (empty > 0).then(|| clip(end - offset, ExtentKind::HOLE, len, want))
    }

    /// The extent of the entries that continue each other; `None` where an entry of the page may be wrong.
    fn walk(&self, page: &Page<L>, offset: u64, len: u64, want: Want) -> Option<Extent> {
        if page.marks() & (JUDGED | SUSPECT) != JUDGED {
            return None;
        }
        let g = &self.geometry;
        let cluster = g.cluster(offset);
        let most = match want {
            Want::Status => g.to_page_end(cluster),
            Want::Read | Want::Write => g.cluster(offset + len.max(1) - 1) - cluster + 1,
        };
        let mut entries = page.words_from(g.index(cluster)).map(|word| L::entry(word, g));
        let first = entries.next()?;
        let more = match first {
            Entry::Stream(_) if want == Want::Write => 0,
            _ => following(first, entries.take(most as usize - 1), g.cluster_size()),
        };
        Some(self.extent(first, offset, len, want, 1 + more))
    }

    fn extent(&self, entry: Entry, offset: u64, len: u64, want: Want, clusters: u64) -> Extent {
        let within = self.geometry.within(offset);
        let kind = match entry {
            Entry::Hole | Entry::Bad(_) => ExtentKind::HOLE,
            Entry::Zero => ExtentKind::Zero { reserved: None },
            Entry::Data(host) => {
                ExtentKind::Data { child: self.order.file.child(), offset: host + within, owned: true }
            }
            Entry::Stream(_) => ExtentKind::Encoded,
        };
        clip((clusters << self.geometry.cluster_bits) - within, kind, len, want)
    }
}

/// How many entries go on with what the first says: the same thing, and where that is in the file, one behind the other.
pub(super) fn following(first: Entry, rest: impl Iterator<Item = Entry>, cluster_size: u64) -> u64 {
    let goes_on = |(next, i): &(Entry, u64)| match (first, *next) {
        (Entry::Hole, Entry::Hole) | (Entry::Zero, Entry::Zero) | (Entry::Stream(_), Entry::Stream(_)) => {
            true
        }
        (Entry::Data(host), Entry::Data(next)) => {
            i.checked_mul(cluster_size).and_then(|i| host.checked_add(i)) == Some(next)
        }
        _ => false,
    };
    rest.zip(1..).take_while(goes_on).count() as u64
}

/// An extent, no longer than asked for where only that was wanted.
fn clip(bytes: u64, kind: ExtentKind, len: u64, want: Want) -> Extent {
    let len = if want == Want::Status { bytes } else { bytes.min(len) };
    Extent { len, kind }
}
