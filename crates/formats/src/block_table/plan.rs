//! Changes: access to the image, and plans for new blocks.
use super::{BlockTable, Layout, PAGE_ENTRIES, PIECE};
use block::metacache::{Blocks, Change, Order, Run};
use block::{Action, BlockError, Extent, ExtentKind, MapChange, Result, WritePlan};
use std::sync::Arc;

impl<L: Layout> BlockTable<L> {
    /// Finds what is in use, and allows changes.
    pub(super) async fn admit_changes(&self) -> Result<()> {
        let file = self.order.file.node()?;
        self.sound_table(&file)?;
        let mut blocks = Blocks::new(self.blocks_in(file.length()), self.layout.most_blocks());
        self.each_piece(|first, entries| {
            for (index, entry) in (first..).zip(entries) {
                let Some(place) = self.layout.place(*entry) else { continue };
                let block = self.block_at(place).filter(|block| *block < self.layout.most_blocks());
                let marked = block.is_some_and(|start| blocks.mark(Run { start, count: 1 }).is_ok());
                if !marked {
                    let name = file.filename();
                    if self.lies_across(place) {
                        return Err(lies_across(index, place, &name));
                    }
                    let text = format!(
                        "entry {index} of the block table leads to offset {place:#x}, which it can't have, or which is \
                         another one's too; 'cairn img check {name}' tells more, and the image can be opened read-only"
                    );
                    return Err(BlockError::corrupt(text).about_file(&name));
                }
            }
            Ok(())
        })
        .await?;
        *self.blocks.lock().await = blocks;
        self.order.access.allow(false);
        Ok(())
    }

    /// Runs `look` on the entries of the table as the file has them, piece by piece, with the index of the first.
    pub(super) async fn each_piece(
        &self,
        mut look: impl FnMut(u64, &[u32]) -> Result<()> + Send,
    ) -> Result<()> {
        let len = self.layout.entries() * 4;
        for at in (0..len).step_by(PIECE as usize) {
            look(at / 4, &self.entries_at(at, PIECE.min(len - at)).await?)?;
        }
        Ok(())
    }

    /// Entries of the table as the file has them: `len` bytes from byte `at` on.
    pub(super) async fn entries_at(&self, at: u64, len: u64) -> Result<Vec<u32>> {
        let bytes = self.order.file.read(self.layout.table() + at, len).await?;
        Ok(bytes.as_chunks().0.iter().map(|entry| u32::from_le_bytes(*entry)).collect())
    }

    /// Before the first write after the image was opened.
    pub(super) async fn begin_changes(&self) -> Result<()> {
        if !self.order.access.needs_header()? {
            return Ok(());
        }
        self.order.access.make_ready(async || self.layout.begin_changes(&self.order.file).await).await
    }

    /// Makes all changes durable, and the image one that is not being written to.
    pub(super) async fn settle(self: &Arc<Self>) -> Result<()> {
        Order::flush(self).await?;
        self.say_closed().await
    }

    async fn say_closed(&self) -> Result<()> {
        if !self.order.access.is_ready() {
            return Ok(());
        }
        let _turn = self.order.access.header_turn().await;
        self.order.access.unready();
        let end = self.offset_of(self.blocks.lock().await.used_end());
        self.layout.end_changes(&self.order.file, end).await
    }

    /// Ends all changes: the image is closed, or read-only from now on.
    pub(super) async fn end_changes(self: &Arc<Self>, in_time: bool) -> Result<()> {
        Order::end(self, in_time, || self.say_closed()).await
    }

    // ---- plans ----

    pub(super) async fn plan(
        self: &Arc<Self>,
        offset: u64,
        len: u64,
        change: MapChange,
    ) -> Result<WritePlan> {
        self.begin_changes().await?;
        let at = self.position(offset);
        let page = self.page(at.page).await?;
        let extent = self.find(&page, at, len)?;
        if change == MapChange::Data && !matches!(extent.kind, ExtentKind::Data { .. }) {
            return self.plan_blocks(offset, len).await;
        }
        Ok(in_place(extent, change))
    }

    /// Plans data for the start of a range whose first block has no place in the file yet.
    async fn plan_blocks(self: &Arc<Self>, offset: u64, len: u64) -> Result<WritePlan> {
        let (size, at) = (self.layout.block_size(), self.position(offset));
        let block = offset / size;
        let count = (at.within + len).div_ceil(size).min(PAGE_ENTRIES - at.index as u64);
        let lease = self.leases.lease(block, block + count, true).await;
        let page = self.page(at.page).await?;
        self.order.place(&page).await?;
        Order::make_room(self, PAGE_ENTRIES as usize).await?;
        let extent = self.find(&page, at, len)?;
        if matches!(extent.kind, ExtentKind::Data { .. }) {
            return Ok(in_place(extent, MapChange::Data));
        }
        let holes = (at.within + extent.len).div_ceil(size);
        let found = {
            let mut blocks = self.blocks.lock().await;
            let found = blocks.allocate(&self.order.reservations, holes)?;
            let end = self.offset_of(found.reserved.run().end());
            // As long as the blocks are held, nobody cuts the file.
            self.layout.reserve(&*self.order.file.node()?, end).await;
            found
        };
        let run = found.reserved.run();
        let len = extent.len.min(run.count * size - at.within);
        let action = Action::Store {
            child: self.order.file.child(),
            offset: self.offset_of(run.start) + at.within,
            head: at.within,
            tail: run.count * size - at.within - len,
            fresh: found.fresh,
        };
        let entries = (run.start..run.end()).map(|block| self.layout.entry(block)).collect();
        let change = Change {
            image: self.clone(),
            page,
            first: at.index,
            entries,
            reserved: Some(found.reserved),
            cause: None,
            lease,
        };
        Ok(WritePlan { len, action, token: Some(Box::new(change)) })
    }
}

/// The error of an image that can't be written to as it is, and is sound: other programs lay blocks out so.
fn lies_across(index: u64, place: u64, name: &str) -> BlockError {
    let text = format!(
        "entry {index} of the block table leads to offset {place:#x}, where no block of the header's order begins; the \
         image can be opened read-only, and 'cairn img check -r all {name}' moves its blocks"
    );
    BlockError::unsupported(text).about_file(name)
}

/// The plan of a change that gives nothing a new place.
fn in_place(extent: Extent, change: MapChange) -> WritePlan {
    let action = match (extent.kind, change) {
        (ExtentKind::Data { child, offset, .. }, MapChange::Data) => {
            Action::Store { child, offset, head: 0, tail: 0, fresh: false }
        }
        (ExtentKind::Data { child, offset, .. }, _) => Action::Forward { child, offset },
        _ => Action::Nothing,
    };
    WritePlan { len: extent.len, action, token: None }
}
