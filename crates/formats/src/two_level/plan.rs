//! Changes of mappings. Every change leases its guest clusters, and looks at the mapping again under the lease.
use super::Layout;
use super::geometry::Entry;
use super::image::{Image, Page};
use super::map::following;
use block::metacache::{Cause, Change, Format, Found, Order, Reserved};
use block::{Action, ExtentKind, Flags, Lease, MapChange, Request, Result, Want, WritePlan};
use std::sync::Arc;

/// Guest clusters of one page, leased, and their entries.
pub(crate) struct Leased<L: Layout> {
    page: Arc<Page<L>>,
    /// Index of the first one's entry.
    first: usize,
    pub entries: Vec<Entry>,
    lease: Lease,
}

impl<L: Layout> Leased<L> {
    /// Keeps the first `count` clusters only.
    pub fn truncate(&mut self, count: usize) {
        self.entries.truncate(count);
    }
}

impl<L: Layout> Image<L> {
    /// Leases guest clusters as far as their page goes, and loads it for a change.
    pub async fn lease_to_change(self: &Arc<Self>, cluster: u64, count: u64) -> Result<Leased<L>> {
        self.lease(cluster, count, false).await.map(|(leased, _)| leased)
    }

    /// The same; `data` that a table is made for may have to lie before it, and are reserved then.
    async fn lease(
        self: &Arc<Self>,
        cluster: u64,
        count: u64,
        data: bool,
    ) -> Result<(Leased<L>, Option<Found>)> {
        let g = &self.geometry;
        let count = count.min(g.to_page_end(cluster));
        let lease = self.clusters.lease(cluster, cluster + count, true).await;
        let before_table = if data && L::DATA_BEFORE_TABLE { count } else { 0 };
        let (page, found) = self.page_to_change(g.page_of(cluster), before_table).await?;
        Order::make_room(self, g.page_entries() as usize).await?;
        let first = g.index(cluster);
        // The walk before the first write has found no wrong entry.
        let entries = page.words_from(first).take(count as usize).map(|word| L::entry(word, g)).collect();
        Ok((Leased { page, first, entries, lease }, found))
    }

    /// The change of the first of leased clusters; `reserved`: what the new entries lead to.
    pub fn change(
        self: &Arc<Self>,
        leased: Leased<L>,
        entries: Vec<u64>,
        reserved: Option<Reserved>,
    ) -> Box<Change<Self>> {
        let Leased { page, first, lease, .. } = leased;
        Box::new(Change {
            image: self.clone(),
            page,
            first,
            entries,
            reserved,
            cause: Some(Cause::Replaced),
            lease,
        })
    }

    /// Plans new data for the start of a range.
    pub async fn plan_data(self: &Arc<Self>, offset: u64, len: u64, request: Request) -> Result<WritePlan> {
        let g = &self.geometry;
        let within = g.within(offset);
        let count = g.clusters(within + len);
        let (mut leased, reserved) = self.lease(g.cluster(offset), count, true).await?;
        let fills = request.has(Flags::IF_UNALLOCATED);
        if fills && let Some(plan) = allocated(&leased.entries, within, len, g.cluster_size()) {
            return Ok(plan);
        }
        let first = leased.entries.first().copied().unwrap_or(Entry::Hole);
        let store = |host: u64, head, tail, fresh| {
            let child = self.order.file.child();
            Action::Store { child, offset: host + within, head, tail, fresh }
        };
        if let Entry::Data(host) = first {
            let more = following(first, leased.entries.iter().skip(1).copied(), g.cluster_size());
            let len = (((1 + more) << g.cluster_bits) - within).min(len);
            return Ok(WritePlan { len, action: store(host, 0, 0, false), token: None });
        }
        let takes_place = |entry: &&Entry| match entry {
            Entry::Hole => true,
            Entry::Data(_) => false,
            _ => !fills,
        };
        let count = leased.entries.iter().take_while(takes_place).count() as u64;
        let found = match reserved {
            Some(found) => found,
            None => self.allocate(count).await?,
        };
        let run = found.reserved.run();
        let bytes = run.count << g.cluster_bits;
        let len = (bytes - within).min(len);
        let action = store(run.start << g.cluster_bits, within, bytes - within - len, found.fresh);
        leased.truncate(run.count as usize);
        let entries = (run.start..run.end()).map(|cluster| cluster << g.cluster_bits).collect();
        let token = self.change(leased, entries, Some(found.reserved));
        Ok(WritePlan { len, action, token: Some(token) })
    }

    /// Plans zeroes or a discard for the start of a range. What has a place keeps it, and it is cleared there.
    pub async fn plan_clearing(
        self: &Arc<Self>,
        offset: u64,
        len: u64,
        change: MapChange,
        request: Request,
    ) -> Result<WritePlan> {
        let g = &self.geometry;
        let plan = |len, action| Ok(WritePlan { len, action, token: None });
        let extent = self.map(offset, len, Want::Read).await?;
        match (extent.kind, change) {
            (ExtentKind::Data { .. }, _) if request.has(Flags::IF_UNALLOCATED) => {
                return plan(extent.len, Action::Nothing);
            }
            (ExtentKind::Data { .. }, MapChange::Zero) if self.encrypted => {
                return plan(extent.len, Action::AsData);
            }
            (ExtentKind::Data { child, offset, .. }, _) if !self.encrypted => {
                return plan(extent.len, Action::Forward { child, offset });
            }
            (_, MapChange::Discard) | (ExtentKind::Zero { .. }, _) => {
                return plan(extent.len, Action::Nothing);
            }
            _ => {}
        }
        let within = g.within(offset);
        // The last cluster of a disk may be cut off; clearing to the end clears it whole.
        let to_end = offset + len >= self.size();
        let whole = if to_end { g.clusters(len) } else { g.cluster(len) };
        let Some(zero) = L::ZERO.filter(|_| within == 0 && whole > 0) else {
            // What follows may be whole clusters, which are cleared in a better way.
            let to_end = g.cluster_size() - within;
            let len = if L::ZERO.is_some() { extent.len.min(to_end) } else { extent.len };
            // What holds nothing reads as zeroes without a backing file.
            let zero = extent.kind.is_hole() && !self.shows_backing();
            return plan(len, if zero { Action::Nothing } else { Action::AsData });
        };
        let leased = self.lease_to_change(g.cluster(offset), whole).await?;
        let holes = leased.entries.iter().take_while(|entry| **entry == Entry::Hole).count();
        if holes == 0 {
            // It has a place since the look without a lease: that is looked at again.
            return plan(len.min(g.cluster_size()), Action::AsData);
        }
        let len = ((holes as u64) << g.cluster_bits).min(len);
        let token = self.change(leased, vec![zero; holes], None);
        Ok(WritePlan { len, action: Action::Metadata, token: Some(token) })
    }
}

/// Where something is stored only if nothing is there: the plan for the clusters in front that hold something.
fn allocated(entries: &[Entry], within: u64, len: u64, cluster_size: u64) -> Option<WritePlan> {
    let held = entries.iter().take_while(|entry| **entry != Entry::Hole).count() as u64;
    let len = (held * cluster_size).saturating_sub(within).min(len);
    (held > 0).then_some(WritePlan { len, action: Action::Nothing, token: None })
}
