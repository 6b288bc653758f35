//! How blocks come and go.
use super::MIB;
use super::bat::{ENTRIES, Place, ZERO, present};
use super::image::Image;
use crate::slots::Slot;
use block::metacache::{Cause, Change, Le64, Order, Page, Reserved};
use block::{Action, ExtentKind, Flags, Lease, MapChange, Request, Result, Want, WritePlan};
use std::sync::Arc;
use std::sync::atomic::Ordering::*;

impl Image {
    pub async fn prepare(
        self: &Arc<Self>,
        offset: u64,
        len: u64,
        change: MapChange,
        request: Request,
    ) -> Result<WritePlan> {
        self.first_write().await?;
        if change == MapChange::Data {
            return self.plan_data(offset, len).await;
        }
        let (block, within) = (offset / self.block(), offset % self.block());
        // The last block may be cut off; clearing to the end of the disk clears it whole.
        let to_end = offset + len >= self.metadata.size;
        let whole = if to_end { len.div_ceil(self.block()) } else { len / self.block() };
        let keeps = self.metadata.fixed || change == MapChange::Zero && !request.has(Flags::MAY_UNMAP);
        if within != 0 || whole == 0 || keeps {
            let extent = self.map(offset, len, Want::Read).await?;
            let nothing = change == MapChange::Discard || matches!(extent.kind, ExtentKind::Zero { .. });
            let action = if nothing { Action::Nothing } else { Action::AsData };
            return Ok(WritePlan { len: extent.len.min(len), action, token: None });
        }
        self.plan_clearing(block, len, whole).await
    }

    /// The page, with a lease of guest blocks of it, ready for a change.
    async fn to_change(self: &Arc<Self>, block: u64, count: u64) -> Result<(Lease, Arc<Page<Le64>>)> {
        let lease = self.leases.lease(block, block + count, true).await;
        let page = self.page(self.entry_of(block).0).await?;
        self.order.place(&page).await?;
        Order::make_room(self, page.len()).await?;
        Ok((lease, page))
    }

    async fn plan_data(self: &Arc<Self>, offset: u64, len: u64) -> Result<WritePlan> {
        let (block, within) = (offset / self.block(), offset % self.block());
        let len = len.min(self.block() - within);
        let (lease, page) = self.to_change(block, 1).await?;
        let first = self.entry_of(block).1;
        let store = |place: u64, head, tail, fresh| {
            let (child, offset) = (self.order.file.child(), place * MIB + within);
            Action::Store { child, offset, head, tail, fresh }
        };
        match self.bat.place(page.word(first)) {
            Place::Here(at) if self.can_be_at(block, at) => {
                return Ok(WritePlan { len, action: store(at, 0, 0, false), token: None });
            }
            Place::Zero => {}
            _ => {
                let text = format!("the block at {offset:#x} has an entry that can't be written through");
                return Err(self.corrupt(text, self.regions.bat.offset + self.bat.index_of(block) * 8));
            }
        }
        let (reserved, fresh) = self.new_block().await?;
        let place = reserved.run().start;
        let action = store(place, within, self.block() - within - len, fresh);
        let change = Change {
            image: self.clone(),
            page,
            first,
            entries: vec![present(place)],
            reserved: Some(reserved),
            cause: Some(Cause::Replaced),
            lease,
        };
        Ok(WritePlan { len, action, token: Some(Box::new(change)) })
    }

    async fn new_block(&self) -> Result<(Reserved, bool)> {
        let mut slots = self.slots.lock().await;
        while let Some(unused) = self.order.reservations.take_unused() {
            slots.free(unused.keep());
        }
        let before = slots.end();
        let Slot { run, fresh } = slots.take()?;
        let end = slots.end();
        if end > before {
            self.order.freed.grow(run.count);
            self.file_len.fetch_max(end * MIB, AcqRel);
        }
        let fresh = fresh && self.order.file.node()?.facts().grows_with_zeroes;
        Ok((self.order.reservations.guard(run), fresh))
    }

    /// Sets an entry, for a repair. What it leads to is written.
    pub async fn set_entry(&self, block: u64, entry: u64) -> Result<()> {
        let (number, index) = self.entry_of(block);
        let page = self.page(number).await?;
        self.order.place(&page).await?;
        page.set(index, entry);
        self.order.tables.dirty.mark(&page);
        Ok(())
    }

    /// Plans that up to `count` blocks of one page read as zeroes.
    async fn plan_clearing(self: &Arc<Self>, block: u64, len: u64, count: u64) -> Result<WritePlan> {
        // Blocks whose entries are neighbours: of one page, with no bitmap's between them.
        let first = self.entry_of(block).1;
        let count = count.min(ENTRIES - first as u64).min(self.bat.ratio - block % self.bat.ratio);
        let (lease, page) = self.to_change(block, count).await?;
        let clear = |entry: u64| self.bat.place(entry) == Place::Zero;
        let nothing = clear(page.word(first));
        let alike = page.words_from(first).take(count as usize).take_while(|entry| clear(*entry) == nothing);
        let alike = alike.count().max(1);
        let len = len.min(alike as u64 * self.block());
        if nothing {
            return Ok(WritePlan { len, action: Action::Nothing, token: None });
        }
        let change = Change {
            image: self.clone(),
            page,
            first,
            entries: vec![ZERO; alike],
            reserved: None,
            cause: Some(Cause::Discarded),
            lease,
        };
        Ok(WritePlan { len, action: Action::Metadata, token: Some(Box::new(change)) })
    }

    /// Whether no entry of the range waits to be written, and none is about to change.
    pub fn is_settled(&self, offset: u64, len: u64) -> bool {
        let (first, end) = (offset / self.block(), (offset + len).div_ceil(self.block()));
        self.leases.try_lease(first, end, false).is_some_and(|_lease| self.order.tables.dirty.is_empty())
    }
}
