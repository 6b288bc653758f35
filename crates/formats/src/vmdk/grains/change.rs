//! Plans: data takes grains in long runs; what is cleared becomes a hole, or a zeroed grain where the file has such.
use super::super::tables::{Entry, TablePage};
use super::Grains;
use block::metacache::{Cause, Change, Format, Order, Reserved};
use block::{Action, Flags, Lease, MapChange, Request, Result, WritePlan};
use std::sync::Arc;

/// What is to be changed, with the lease on its grains.
struct Leased {
    page: Arc<TablePage>,
    first: usize,
    /// Grains, all of one table.
    count: usize,
    lease: Lease,
}

/// The entry of a zeroed grain.
const ZEROED: u32 = 1;

impl Grains {
    /// Plans a change of the start of a range of this file's part of the disk.
    pub async fn prepare(
        self: &Arc<Self>,
        offset: u64,
        len: u64,
        change: MapChange,
        request: Request,
    ) -> Result<WritePlan> {
        self.first_write().await?;
        let fill = request.has(Flags::IF_UNALLOCATED);
        match change {
            MapChange::Data => self.plan_data(offset, len, fill).await,
            _ => self.plan_clearing(offset, len, change, request).await,
        }
    }

    /// The grains of a range, or those of one table, ready for a change.
    async fn to_change(self: &Arc<Self>, offset: u64, grains: u64) -> Result<Leased> {
        let shape = self.tables.shape;
        let (table, first) = self.tables.place_of(offset);
        let count = grains.min(shape.entries - first as u64);
        let grain = offset >> shape.grain_bits;
        let lease = self.leases.lease(grain, grain + count, true).await;
        let Some(page) = self.tables.table(table).await? else {
            // Files without all of their tables are not opened for writing.
            return Err(self.tables.damaged(shape.directory + table * 4, "there is no grain table"));
        };
        self.place(&page).await?;
        Order::make_room(self, shape.entries as usize).await?;
        Ok(Leased { page, first, count: count as usize, lease })
    }

    async fn plan_data(self: &Arc<Self>, offset: u64, len: u64, fill: bool) -> Result<WritePlan> {
        let (grain, child) = (self.tables.shape.grain(), self.order().file.child());
        let within = offset & (grain - 1);
        let leased = self.to_change(offset, (within + len).div_ceil(grain)).await?;
        let entry = |word| self.tables.entry(word);
        let first = entry(leased.page.word(leased.first));
        if let Entry::At(place) = first {
            let action = match fill {
                true => Action::Nothing,
                false => Action::Store { child, offset: place + within, head: 0, tail: 0, fresh: false },
            };
            return Ok(WritePlan { len: len.min(grain - within), action, token: None });
        }
        if fill && first == Entry::Zero {
            return Ok(WritePlan { len: len.min(grain - within), action: Action::Nothing, token: None });
        }
        let alike = leased.alike(|word| entry(word) == first);
        let found = self.blocks.lock().await.allocate(&self.order().reservations, alike as u64)?;
        let run = found.reserved.run();
        if found.fresh {
            self.order().freed.grow(run.count);
        }
        let len = len.min(run.count * grain - within);
        let action = Action::Store {
            child,
            offset: run.start * grain + within,
            head: within,
            tail: run.count * grain - within - len,
            fresh: found.fresh,
        };
        let sectors = grain / super::super::header::SECTOR;
        // The allocator hands out no grain whose sector an entry can't name.
        let entries = (run.start..run.end()).map(|block| (block * sectors) as u32).collect();
        Ok(self.change(len, action, leased, entries, Some(found.reserved)))
    }

    async fn plan_clearing(
        self: &Arc<Self>,
        offset: u64,
        len: u64,
        change: MapChange,
        request: Request,
    ) -> Result<WritePlan> {
        let shape = self.tables.shape;
        let (grain, within) = (shape.grain(), offset & (shape.grain() - 1));
        // The last grain may be cut off; clearing to the end of the disk clears it whole.
        let to_end = offset + len >= shape.len;
        let whole = if to_end && within == 0 { len.div_ceil(grain) } else { len / grain };
        let leased = self.to_change(offset, whole.max(1)).await?;
        let first = self.tables.entry(leased.page.word(leased.first));
        let fill = request.has(Flags::IF_UNALLOCATED);
        let alike = leased.alike(|word| {
            let entry = self.tables.entry(word);
            // Grains are cleared together wherever they lie.
            std::mem::discriminant(&entry) == std::mem::discriminant(&first)
        });
        let without = |len: u64, action| Ok(WritePlan { len, action, token: None });
        let touched = len.min(alike as u64 * grain - within);
        if first == Entry::Zero || (fill && first != Entry::Hole) {
            return without(touched, Action::Nothing);
        }
        let shows_backing = self.tables.has_backing();
        let discard = change == MapChange::Discard;
        // Zeroes that are asked for are told as such, where there is a word for them.
        let is_told = shape.zeroed && !discard && within == 0 && whole > 0;
        if first == Entry::Hole && !shows_backing && !is_told {
            return without(touched, Action::Nothing);
        }
        let word = match (shape.zeroed, shows_backing) {
            (true, _) => Some(ZEROED),
            (false, false) if discard || request.has(Flags::MAY_UNMAP) => Some(0),
            _ => None,
        };
        let in_vain = if discard { Action::Nothing } else { Action::AsData };
        match word {
            Some(word) if within == 0 && whole > 0 => {
                Ok(self.change(touched, Action::Metadata, leased, vec![word; alike], None))
            }
            // Parts of grains, and grains that can't be given up: zeroes are stored as data, a discard does nothing.
            _ => without(len.min(grain - within), in_vain),
        }
    }

    /// A plan that sets entries from the first leased grain on.
    fn change(
        self: &Arc<Self>,
        len: u64,
        action: Action,
        leased: Leased,
        entries: Vec<u32>,
        reserved: Option<Reserved>,
    ) -> WritePlan {
        let Leased { page, first, lease, .. } = leased;
        let cause = Some(Cause::Discarded);
        let change = Change { image: self.clone(), page, first, entries, reserved, cause, lease };
        WritePlan { len, action, token: Some(Box::new(change)) }
    }

    /// Whether the mapping of a range is durable: no table waits for an epoch.
    pub fn is_settled(&self, offset: u64, len: u64) -> bool {
        let bits = self.tables.shape.grain_bits;
        let (first, end) = (offset >> bits, ((offset + len - 1) >> bits) + 1);
        let leased = self.leases.try_lease(first, end, false);
        leased.is_some_and(|_lease| self.order().tables.dirty.is_empty())
    }
}

impl Leased {
    /// How many of the grains are alike, from the first one on.
    fn alike(&self, is_alike: impl Fn(u32) -> bool) -> usize {
        self.page.words_from(self.first).take(self.count).take_while(|word| is_alike(*word)).count()
    }
}
