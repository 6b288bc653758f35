//! What the format gives to the crash order, and how it uses it: an entry is 0 or the block of the file that holds a guest
//! block. A block has one reference, so that none are counted: what is in use is found at open, from the table.

use std::sync::Arc;

use block::metacache::{
    Blocks, Cause, Change, Format, Le32, MetadataFile, Order, Page, Reserved, Run, Sealed,
};
use block::{
    Action, BlockError, ChildId, Domain, Edges, Extent, ExtentKind, Flags, Lease, Leases, MapChange, Request,
    Result, Token, Want, WritePlan,
};
use futures_util::lock::Mutex as Lock;
use parking_lot::Mutex;
use rt::{BoxFuture, Buf};

use crate::Bug;
use crate::header::{BLOCK, BLOCK_BITS, Header, TABLE, sum};

/// Entries of a page: few, so that a small table has several.
const ENTRIES: u64 = 16;
const PAGE: u64 = ENTRIES * 4;
/// Bytes of memory for pages: few, so that they are evicted, and written before a guest asks for it.
const CACHE: usize = 1024;
/// Bytes of the table that are read at a time where all of it is looked at.
const PIECE: u64 = 64 << 10;

pub struct Image {
    pub order: Order<Le32>,
    pub header: Header,
    /// Guest blocks whose mapping changes.
    leases: Arc<Leases>,
    blocks: Lock<Blocks>,
    bug: Bug,
    /// For a planted bug: what is free too early.
    early: Mutex<Vec<Run>>,
}

impl Format for Image {
    type Codec = Le32;

    fn order(&self) -> &Order<Le32> {
        &self.order
    }

    fn block_bits(&self) -> u32 {
        BLOCK_BITS
    }

    fn size(&self) -> u64 {
        self.header.size
    }

    fn blocks_of(&self, entry: u32) -> Option<Run> {
        (entry != 0).then_some(Run { start: entry.into(), count: 1 })
    }

    async fn write_ahead(&self, entries: bool) -> Result<()> {
        if entries && self.bug != Bug::FileTooShort {
            let blocks = self.blocks.lock().await;
            self.order.file.cover(blocks.end() * BLOCK).await?;
        }
        if self.bug == Bug::EntriesBeforeData {
            self.order.file.write_pages(&self.order.tables.dirty.seal()).await?;
        }
        Ok(())
    }

    async fn write_tables(&self, sealed: &[Sealed<Le32>]) -> Result<()> {
        self.order.file.write_pages(sealed).await?;
        let early = std::mem::take(&mut *self.early.lock());
        if !early.is_empty() {
            self.order.file.flush().await?;
            let mut blocks = self.blocks.lock().await;
            early.into_iter().for_each(|run| blocks.free(run));
        }
        Ok(())
    }

    async fn free(&self, runs: Vec<Run>) {
        let mut blocks = self.blocks.lock().await;
        runs.into_iter().for_each(|run| blocks.free(run));
    }
}

/// Where the entry of a guest block is: the page, and the index in it.
fn entry_of(block: u64) -> (u64, usize) {
    (block / ENTRIES, (block % ENTRIES) as usize)
}

impl Image {
    pub fn new(edges: Arc<Edges>, file: ChildId, domain: Arc<Domain>, header: Header, bug: Bug) -> Image {
        let order = Order::new(MetadataFile::new(edges, file, "u32table"), domain, CACHE);
        let (blocks, early) = (Lock::new(Blocks::new(0, 0)), Mutex::default());
        Image { order, header, leases: Leases::new(), blocks, bug, early }
    }

    // ---- the whole table ----

    /// Runs `look` on the bytes of the table, piece by piece.
    async fn each_piece(&self, mut look: impl FnMut(u64, &[u8]) -> Result<()> + Send) -> Result<()> {
        let len = self.header.entries() * 4;
        for at in (0..len).step_by(PIECE as usize) {
            look(at, &self.order.file.read(TABLE + at, PIECE.min(len - at)).await?)?;
        }
        Ok(())
    }

    /// Finds what is in use, and allows changes.
    pub async fn become_writable(&self) -> Result<()> {
        let length = self.order.file.node()?.length().div_ceil(BLOCK);
        let mut blocks = Blocks::new(length.max(self.header.first_block()), u64::from(u32::MAX) + 1);
        let wrong = |index: u64| {
            move |block| {
                BlockError::corrupt(format!("entry {index} leads to block {block}, which it can't have"))
            }
        };
        blocks.mark(Run { start: 0, count: self.header.first_block() }).map_err(wrong(0))?;
        self.each_piece(|at, bytes| {
            let entries = bytes.as_chunks().0.iter().map(|entry| u32::from_le_bytes(*entry));
            for (index, entry) in (at / 4..).zip(entries) {
                self.blocks_of(entry).map_or(Ok(()), |run| blocks.mark(run)).map_err(wrong(index))?;
            }
            Ok(())
        })
        .await?;
        *self.blocks.lock().await = blocks;
        self.order.access.allow(false);
        Ok(())
    }

    /// Ends all changes: the image is closed, or read-only from now on.
    pub async fn end_changes(self: &Arc<Self>, in_time: bool) -> Result<()> {
        let say_closed = async || {
            if self.order.access.is_ready() { self.say_closed().await } else { Ok(()) }
        };
        Order::end(self, in_time, say_closed).await
    }

    // ---- the header ----

    async fn store_header(&self, header: Header) -> Result<()> {
        self.order.file.write(0, Buf::from_slice(&header.bytes())).await?;
        self.order.file.flush().await
    }

    async fn say_closed(&self) -> Result<()> {
        let mut table = Vec::new();
        self.each_piece(|_, bytes| {
            table.extend_from_slice(bytes);
            Ok(())
        })
        .await?;
        let _turn = self.order.access.header_turn().await;
        self.order.access.unready();
        self.store_header(Header { in_use: false, sum: sum(&table), ..self.header }).await
    }

    /// Before the first write after the image was opened.
    async fn first_write(&self) -> Result<()> {
        if !self.order.access.needs_header()? {
            return Ok(());
        }
        let in_use = async || match self.bug {
            Bug::NotCalledInUse => Ok(()),
            _ => self.store_header(Header { in_use: true, ..self.header }).await,
        };
        self.order.access.make_ready(in_use).await
    }

    // ---- mapping ----

    async fn page(&self, number: u64) -> Result<Arc<Page<Le32>>> {
        self.order.page(number, TABLE + number * PAGE, PAGE).await
    }

    /// The page, with a lease of guest blocks of it, ready for a change.
    async fn to_change(self: &Arc<Self>, block: u64, count: u64) -> Result<(Lease, Arc<Page<Le32>>)> {
        // Leased under another key where the lease is missing: nobody waits for it.
        let key = if self.bug == Bug::NoLease { u64::MAX / 2 } else { 0 };
        let lease = self.leases.lease(key + block, key + block + count, self.bug != Bug::NoLease).await;
        let page = self.page(entry_of(block).0).await?;
        if self.bug != Bug::NoSpaceForTable {
            self.order.place(&page).await?;
        }
        Order::make_room(self, ENTRIES as usize).await?;
        Ok((lease, page))
    }

    pub fn try_map(&self, offset: u64, len: u64, want: Want) -> Option<Extent> {
        if want == Want::Write && !self.order.access.is_ready() {
            return None;
        }
        let (number, index) = entry_of(offset / BLOCK);
        let entry = self.order.tables.with(number, |page| page.word(index))?;
        Some(self.extent(entry, offset, len))
    }

    pub async fn map(&self, offset: u64, len: u64, want: Want) -> Result<Extent> {
        if want == Want::Write {
            self.first_write().await?;
        }
        let (number, index) = entry_of(offset / BLOCK);
        Ok(self.extent(self.page(number).await?.word(index), offset, len))
    }

    fn extent(&self, entry: u32, offset: u64, len: u64) -> Extent {
        let within = offset % BLOCK;
        let kind = match u64::from(entry) {
            0 => ExtentKind::HOLE,
            block => ExtentKind::Data {
                child: self.order.file.child(),
                offset: block * BLOCK + within,
                owned: true,
            },
        };
        Extent { len: len.min(BLOCK - within), kind }
    }

    // ---- changes ----

    pub async fn prepare(
        self: &Arc<Self>,
        offset: u64,
        len: u64,
        change: MapChange,
        request: Request,
    ) -> Result<WritePlan> {
        self.first_write().await?;
        let (block, within) = (offset / BLOCK, offset % BLOCK);
        let left = ENTRIES - block % ENTRIES;
        if change == MapChange::Data {
            return self.plan_data(offset, len, (within + len).div_ceil(BLOCK).min(left)).await;
        }
        // The last block may be cut off; clearing to the end of the disk clears it whole.
        let to_end = offset + len >= self.header.size;
        let whole = if to_end { len.div_ceil(BLOCK) } else { len / BLOCK };
        let keeps = change == MapChange::Zero && !request.has(Flags::MAY_UNMAP);
        if within != 0 || whole == 0 || keeps {
            let hole = self.map(offset, len, Want::Read).await?.kind.is_hole();
            let nothing = hole || change == MapChange::Discard;
            let action = if nothing { Action::Nothing } else { Action::AsData };
            return Ok(WritePlan { len: len.min(BLOCK - within), action, token: None });
        }
        self.plan_clearing(block, len, whole.min(left)).await
    }

    /// Plans data for the start of a range that touches `count` blocks of one page.
    async fn plan_data(self: &Arc<Self>, offset: u64, len: u64, count: u64) -> Result<WritePlan> {
        let (block, within) = (offset / BLOCK, offset % BLOCK);
        let (lease, page) = self.to_change(block, count).await?;
        let first = entry_of(block).1;
        let store = |host: u64, head, tail, fresh| {
            let (child, offset) = (self.order.file.child(), host * BLOCK + within);
            Action::Store { child, offset, head, tail, fresh }
        };
        let entry = page.word(first);
        if entry != 0 {
            let action = store(entry.into(), 0, 0, false);
            return Ok(WritePlan { len: len.min(BLOCK - within), action, token: None });
        }
        let holes = page.words_from(first).take(count as usize).take_while(|entry| *entry == 0).count();
        let found = self.blocks.lock().await.allocate(&self.order.reservations, holes as u64)?;
        let run = found.reserved.run();
        if found.fresh {
            self.order.freed.grow(run.count);
        }
        let len = len.min(run.count * BLOCK - within);
        let action = store(run.start, within, run.count * BLOCK - within - len, found.fresh);
        let entries = (run.start..run.end()).map(|block| block as u32).collect();
        Ok(self.change(len, action, (lease, page), first, entries, Some(found.reserved)))
    }

    /// Plans that up to `count` blocks of one page read as zeroes.
    async fn plan_clearing(self: &Arc<Self>, block: u64, len: u64, count: u64) -> Result<WritePlan> {
        let (lease, page) = self.to_change(block, count).await?;
        let first = entry_of(block).1;
        let hole = page.word(first) == 0;
        let alike = page.words_from(first).take(count as usize).take_while(|entry| (*entry == 0) == hole);
        let alike = alike.count();
        let len = len.min(alike as u64 * BLOCK);
        if hole {
            return Ok(WritePlan { len, action: Action::Nothing, token: None });
        }
        Ok(self.change(len, Action::Metadata, (lease, page), first, vec![0; alike], None))
    }

    fn change(
        self: &Arc<Self>,
        len: u64,
        action: Action,
        (lease, page): (Lease, Arc<Page<Le32>>),
        first: usize,
        entries: Vec<u32>,
        reserved: Option<Reserved>,
    ) -> WritePlan {
        let old = page.words_from(first).take(entries.len()).filter_map(|entry| self.blocks_of(entry));
        let (old, early) = (old.collect(), matches!(self.bug, Bug::FreeAtOnce | Bug::NoGrace));
        let cause = (!early).then_some(Cause::Discarded);
        let change = Change { image: self.clone(), page, first, entries, reserved, cause, lease };
        let token: Box<dyn Token> =
            if early { Box::new(FreesEarly { image: self.clone(), change, old }) } else { Box::new(change) };
        WritePlan { len, action, token: Some(token) }
    }
}

/// A planted bug: a change whose old blocks are free when it is published, or when it is durable, whoever still reads them.
struct FreesEarly {
    image: Arc<Image>,
    change: Change<Image>,
    old: Vec<Run>,
}

impl Token for FreesEarly {
    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            Box::new(self.change).commit().await?;
            if self.image.bug == Bug::FreeAtOnce {
                let mut blocks = self.image.blocks.lock().await;
                self.old.into_iter().for_each(|run| blocks.free(run));
            } else {
                self.image.early.lock().extend(self.old);
            }
            Ok(())
        })
    }
}
