//! An open dynamic image: where its blocks are, and how they come and go.
//!
//! An entry of the table is the sector of a block, which begins with a bitmap: a bit for each sector of the block, the
//! first one the highest. A sector whose bit is not set is the parent's, or zeroes. Blocks written here have all bits set; one of
//! another program whose bits are not all set gets what they lack before the first write to it.
//!
//! Bounds: the table and bitmaps are held by pages, [`CACHE`] bytes together.
use super::footer::{FOOTER, Footer, Kind};
use super::geometry::SECTOR;
use super::header::{HEADER, Header, UNUSED};
use crate::slots::{Layout, Misplaced, Slot, Slots};
use block::metacache::{Be32, Cause, Change, Format, MetadataFile, Order, Page, Reserved, Run};
use block::{
    Action, BlockError, ChildId, Domain, Edges, ErrorKind, Extent, ExtentKind, Flags, Lease, Leases,
    MapChange, Request, Result, Want, WritePlan,
};
use futures_util::lock::Mutex as Lock;
use rt::{Buf, BufMut};
use std::sync::Arc;

/// Entries of a page.
const ENTRIES: u64 = 1024;
/// Bytes of memory for pages.
const CACHE: usize = 2 << 20;
/// Set in the cache keys of bitmaps, beside the sector of their block.
const BITMAP_KEY: u64 = 1 << 63;
/// Bytes of the table that are read at a time where all of it is looked at.
const PIECE: u64 = 256 << 10;

/// An open dynamic or differencing image.
pub(super) struct Image {
    pub order: Order<Be32>,
    pub footer: Footer,
    pub header: Header,
    /// Virtual size in bytes.
    pub size: u64,
    /// Guest blocks whose mapping changes.
    leases: Arc<Leases>,
    slots: Lock<Space>,
}

/// The slots of the file, and where its footer is.
#[derive(Default)]
struct Space {
    slots: Slots,
    /// The sector of the footer at the end, where it is known to be in its place.
    footer: Option<u64>,
}

impl Format for Image {
    type Codec = Be32;

    fn order(&self) -> &Order<Be32> {
        &self.order
    }

    /// Blocks begin at any sector: sectors are what the file is handed out in.
    fn block_bits(&self) -> u32 {
        SECTOR.trailing_zeros()
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn blocks_of(&self, entry: u32) -> Option<Run> {
        (entry != UNUSED).then(|| Run { start: entry.into(), count: self.slot_sectors() })
    }

    async fn write_ahead(&self, _: bool) -> Result<()> {
        let mut space = self.slots.lock().await;
        match self.store_footer(&mut space).await {
            // The copy at the front is enough, and what was accepted must not fail for lack of space.
            Err(e) if e.kind() == ErrorKind::NoSpace => Ok(()),
            stored => stored,
        }
    }

    async fn free(&self, runs: Vec<Run>) {
        let mut space = self.slots.lock().await;
        runs.into_iter().for_each(|run| space.slots.free(run));
    }
}

/// Where the entry of a guest block is: the page, and the index in it.
fn entry_of(block: u64) -> (u64, usize) {
    (block / ENTRIES, (block % ENTRIES) as usize)
}

/// How many bits from `first` on are the same as that one, at most `most`, and whether they are set.
fn alike(bitmap: &Page<Be32>, first: u64, most: u64) -> (bool, u64) {
    let word = (first / 32) as usize;
    let shift = (first % 32) as u32;
    let set = bitmap.word(word) << shift >> 31 == 1;
    let leading = |word: u32| if set { word.leading_ones() } else { word.leading_zeros() };
    let mut count = u64::from(leading(bitmap.word(word) << shift).min(32 - shift));
    if count == u64::from(32 - shift) {
        for next in bitmap.words_from(word + 1) {
            count += u64::from(leading(next));
            if leading(next) < 32 || count >= most {
                break;
            }
        }
    }
    (set, count.min(most))
}

impl Image {
    pub fn new(
        (footer, header, size): (Footer, Header, u64),
        (edges, file): (Arc<Edges>, ChildId),
        domain: Arc<Domain>,
    ) -> Self {
        let order = Order::new(MetadataFile::new(edges, file, "vpc"), domain, CACHE);
        Self { order, footer, header, size, leases: Leases::new(), slots: Lock::default() }
    }

    /// Bytes of a block.
    pub fn block(&self) -> u64 {
        self.header.block.into()
    }

    /// Bytes of the bitmap in front of a block.
    pub fn bitmap_len(&self) -> u64 {
        (self.block() / SECTOR).div_ceil(8).next_multiple_of(SECTOR)
    }

    /// Bytes of both.
    pub fn slot_bytes(&self) -> u64 {
        self.bitmap_len() + self.block()
    }

    fn slot_sectors(&self) -> u64 {
        self.slot_bytes() / SECTOR
    }

    /// The first sector behind footer, header and table.
    pub fn metadata_sectors(&self) -> u64 {
        let table = self.header.table + u64::from(self.header.entries) * 4;
        let header = self.footer.header.saturating_add(HEADER as u64);
        table.max(header).max(FOOTER as u64).div_ceil(SECTOR)
    }

    fn corrupt(&self, what: String, at: u64) -> BlockError {
        BlockError::corrupt(format!("{what}; 'cairn img check' tells more"))
            .at(at)
            .about_file(&self.order.file.name())
    }

    // ---- the whole table ----

    /// Runs `look` on the entries of the table, piece by piece: the number of the first, and their bytes.
    pub async fn each_piece(&self, mut look: impl FnMut(u64, &[[u8; 4]]) + Send) -> Result<()> {
        let len = u64::from(self.header.entries) * 4;
        for at in (0..len).step_by(PIECE as usize) {
            let bytes = self.order.file.read(self.header.table + at, PIECE.min(len - at)).await?;
            look(at / 4, bytes.as_chunks().0);
        }
        Ok(())
    }

    /// Finds what is in use, and allows changes.
    pub async fn become_writable(&self) -> Result<()> {
        let file = self.order.file.node()?;
        let length = file.length();
        if self.header.table + u64::from(self.header.entries) * 4 > length {
            let text = "the block allocation table does not end before the file does".to_owned();
            return Err(self.corrupt(text, self.header.table));
        }
        let mut blocks = Vec::new();
        self.each_piece(|_, entries| {
            blocks.extend(
                entries.iter().map(|entry| u32::from_be_bytes(*entry)).filter(|entry| *entry != UNUSED),
            );
        })
        .await?;
        blocks.sort_unstable();
        let (sectors, grows) = (length.div_ceil(SECTOR), file.facts().grows_with_zeroes);
        let layout = Layout {
            len: self.slot_sectors(),
            front: self.bitmap_len() / SECTOR,
            behind: FOOTER as u64 / SECTOR,
            unnamed: UNUSED.into(),
            room: if grows { u64::MAX } else { length / SECTOR },
        };
        let used = blocks.iter().map(|start| Run { start: u64::from(*start), count: layout.len });
        let slots = Slots::between(layout, self.metadata_sectors(), used, sectors);
        let wrong = |Misplaced(sector)| {
            let text = format!(
                "an entry of the table leads to sector {sector:#x}, where no block of its own can be"
            );
            self.corrupt(text, sector * SECTOR)
        };
        let mut slots = slots.map_err(wrong)?;
        let last = (length / SECTOR).saturating_sub(1);
        let is_footer = async |sector: u64| -> Result<bool> {
            Ok(self.order.file.read(sector * SECTOR, FOOTER as u64).await?[..] == self.footer.bytes)
        };
        if length % SECTOR == 0 && is_footer(last).await? {
            slots.leave_short_gap(last);
        }
        let end = slots.end();
        let footer = (!grows || length == (end + 1) * SECTOR) && is_footer(end).await?;
        *self.slots.lock().await = Space { slots, footer: footer.then_some(end) };
        self.order.access.allow(true);
        Ok(())
    }

    /// Ends all changes: the image is closed, or read-only from now on.
    pub async fn end_changes(self: &Arc<Self>, in_time: bool) -> Result<()> {
        Order::end(self, in_time, async || Ok(())).await
    }

    /// Puts the footer behind the last block, where it is not there; what lies behind it leads nowhere, and goes.
    async fn store_footer(&self, space: &mut Space) -> Result<()> {
        let end = space.slots.end();
        if space.footer == Some(end) {
            return Ok(());
        }
        let file = self.order.file.node()?;
        let (at, behind) = (end * SECTOR, end * SECTOR + FOOTER as u64);
        if file.length() > behind && file.facts().grows_with_zeroes {
            file.set_length(behind, api::PreallocMode::Off).await?;
        }
        self.order.file.write(at, Buf::from_slice(&self.footer.bytes)).await?;
        space.footer = Some(end);
        Ok(())
    }

    // ---- mapping ----

    async fn page(&self, number: u64) -> Result<Arc<Page<Be32>>> {
        let first = number * ENTRIES;
        let count = ENTRIES.min(u64::from(self.header.entries).saturating_sub(first));
        self.order.page(number, self.header.table + first * 4, count * 4).await
    }

    /// The bitmap of the block at a sector.
    async fn bitmap(&self, sector: u32) -> Result<Arc<Page<Be32>>> {
        let start = u64::from(sector);
        if start < self.metadata_sectors() {
            let text = format!("an entry of the table leads to sector {sector:#x}, into metadata");
            return Err(self.corrupt(text, start * SECTOR));
        }
        let length = self.order.file.node()?.length();
        if (start + self.slot_sectors()) * SECTOR > length.next_multiple_of(SECTOR) {
            let text = format!("the block at sector {sector:#x} does not end before the file does");
            return Err(self.corrupt(text, start * SECTOR));
        }
        self.order.page(BITMAP_KEY | start, start * SECTOR, self.bitmap_len()).await
    }

    /// What is not in this image: the parent's, or zeroes.
    fn absent(&self) -> ExtentKind {
        if self.footer.kind == Kind::Differencing {
            ExtentKind::HOLE
        } else {
            ExtentKind::Zero { reserved: None }
        }
    }

    pub fn try_map(&self, offset: u64, len: u64, want: Want) -> Option<Extent> {
        if want == Want::Write && !self.order.access.is_ready() {
            return None;
        }
        let ((number, index), within) = (entry_of(offset / self.block()), offset % self.block());
        let (entry, unused) = self.order.tables.with(number, |page| {
            let entry = page.word(index);
            let unused = || page.words_from(index).take_while(|entry| *entry == UNUSED);
            let most = (within.saturating_add(len)).div_ceil(self.block()) as usize;
            let most = if want == Want::Status { usize::MAX } else { most };
            (entry, if entry == UNUSED { unused().take(most).count() } else { 0 })
        })?;
        if entry == UNUSED {
            let known = unused as u64 * self.block() - within;
            let len = if want == Want::Status { known } else { known.min(len) };
            return Some(Extent { len, kind: self.absent() });
        }
        self.order
            .tables
            .with(BITMAP_KEY | u64::from(entry), |bitmap| self.extent(entry, bitmap, within, len))
    }

    pub async fn map(&self, offset: u64, len: u64, want: Want) -> Result<Extent> {
        if want == Want::Write {
            self.order.access.needs_header()?;
        }
        loop {
            if let Some(extent) = self.try_map(offset, len, want) {
                return Ok(extent);
            }
            let (number, index) = entry_of(offset / self.block());
            let entry = self.page(number).await?.word(index);
            if entry != UNUSED {
                let (bitmap, within) = (self.bitmap(entry).await?, offset % self.block());
                return Ok(self.extent(entry, &bitmap, within, len));
            }
        }
    }

    /// The extent that begins `within` a block that is in the file.
    fn extent(&self, entry: u32, bitmap: &Page<Be32>, within: u64, len: u64) -> Extent {
        let len = len.min(self.block() - within);
        let (set, sectors) = alike(bitmap, within / SECTOR, (within % SECTOR + len).div_ceil(SECTOR));
        let kind = if set {
            let (child, offset) = (self.order.file.child(), self.data_of(entry) + within);
            ExtentKind::Data { child, offset, owned: true }
        } else {
            self.absent()
        };
        Extent { len: len.min(sectors * SECTOR - within % SECTOR), kind }
    }

    /// Byte offset of the data of a block.
    fn data_of(&self, entry: u32) -> u64 {
        u64::from(entry) * SECTOR + self.bitmap_len()
    }

    // ---- changes ----

    pub async fn prepare(
        self: &Arc<Self>,
        offset: u64,
        len: u64,
        change: MapChange,
        request: Request,
    ) -> Result<WritePlan> {
        self.order.access.needs_header()?;
        if change == MapChange::Data {
            return self.plan_data(offset, len).await;
        }
        let (block, within) = (offset / self.block(), offset % self.block());
        // The last block may be cut off; clearing to the end of the disk clears it whole.
        let to_end = offset + len >= self.size;
        let whole = if to_end { len.div_ceil(self.block()) } else { len / self.block() };
        let keeps = change == MapChange::Zero && !request.has(Flags::MAY_UNMAP);
        if within != 0 || whole == 0 || keeps {
            let extent = self.map(offset, len, Want::Read).await?;
            let nothing = change == MapChange::Discard || extent.kind == self.absent();
            let action = if nothing { Action::Nothing } else { Action::AsData };
            return Ok(WritePlan { len: extent.len.min(len), action, token: None });
        }
        self.plan_clearing(block, len, whole.min(ENTRIES - block % ENTRIES)).await
    }

    /// The page, with a lease of guest blocks of it, ready for a change.
    async fn to_change(self: &Arc<Self>, block: u64, count: u64) -> Result<(Lease, Arc<Page<Be32>>)> {
        let lease = self.leases.lease(block, block + count, true).await;
        let page = self.page(entry_of(block).0).await?;
        self.order.place(&page).await?;
        Order::make_room(self, page.len()).await?;
        Ok((lease, page))
    }

    async fn plan_data(self: &Arc<Self>, offset: u64, len: u64) -> Result<WritePlan> {
        let (block, within) = (offset / self.block(), offset % self.block());
        let len = len.min(self.block() - within);
        let (lease, page) = self.to_change(block, 1).await?;
        let first = entry_of(block).1;
        let entry = page.word(first);
        let store = |entry, head, tail, fresh| {
            let (child, offset) = (self.order.file.child(), self.data_of(entry) + within);
            Action::Store { child, offset, head, tail, fresh }
        };
        if entry != UNUSED {
            self.complete(entry).await?;
            return Ok(WritePlan { len, action: store(entry, 0, 0, false), token: None });
        }
        let (reserved, fresh) = self.new_block().await?;
        let entry = reserved.run().start as u32;
        let action = store(entry, within, self.block() - within - len, fresh);
        let change = Change {
            image: self.clone(),
            page,
            first,
            entries: vec![entry],
            reserved: Some(reserved),
            cause: Some(Cause::Replaced),
            lease,
        };
        Ok(WritePlan { len, action, token: Some(Box::new(change)) })
    }

    /// Takes a slot, and stores a bitmap that has all bits set there.
    async fn new_block(&self) -> Result<(Reserved, bool)> {
        let mut space = self.slots.lock().await;
        while let Some(unused) = self.order.reservations.take_unused() {
            space.slots.free(unused.keep());
        }
        let before = space.slots.end();
        let Slot { run, fresh } = space.slots.take()?;
        let reserved = self.order.reservations.guard(run);
        if space.slots.end() > before {
            self.order.freed.grow(run.count);
        }
        // From now on the file is as long as its blocks need, and has room for the footer.
        if let Err(e) = self.store_footer(&mut space).await {
            space.slots.take_back(reserved.keep());
            return Err(e);
        }
        let len = self.bitmap_len();
        let (key, words) = (BITMAP_KEY | run.start, vec![u32::MAX; (len / 4) as usize]);
        let mut bits = BufMut::with_len(len as usize);
        bits.fill(0xff);
        self.order.file.write(run.start * SECTOR, bits.freeze()).await?;
        // Nobody who knows an older block there is left.
        self.order.tables.remove(key);
        self.order.tables.insert(Page::new(key, run.start * SECTOR, 0, words));
        let fresh = fresh && self.order.file.node()?.facts().grows_with_zeroes;
        Ok((reserved, fresh))
    }

    /// Before a write to a block of which some sectors are not there: stores the zeroes that they are, durably, then says that all
    /// are there.
    async fn complete(&self, entry: u32) -> Result<()> {
        let bitmap = self.bitmap(entry).await?;
        let sectors = self.block() / SECTOR;
        let (mut at, mut lacking) = (0, false);
        let file = self.order.file.node()?;
        while at < sectors {
            let (set, count) = alike(&bitmap, at, sectors - at);
            if !set {
                lacking = true;
                file.write_zeroes(self.data_of(entry) + at * SECTOR, count * SECTOR, Request::DRIVER).await?;
            }
            at += count;
        }
        if !lacking {
            return Ok(());
        }
        self.order.file.flush().await?;
        let mut bits = BufMut::with_len(self.bitmap_len() as usize);
        bits.fill(0xff);
        self.order.file.write(u64::from(entry) * SECTOR, bits.freeze()).await?;
        // A durable write in place counts on it.
        self.order.file.flush().await?;
        for word in 0..bitmap.len() {
            bitmap.set(word, u32::MAX);
        }
        Ok(())
    }

    /// Plans that up to `count` blocks of one page read as zeroes.
    async fn plan_clearing(self: &Arc<Self>, block: u64, len: u64, count: u64) -> Result<WritePlan> {
        let (lease, page) = self.to_change(block, count).await?;
        let first = entry_of(block).1;
        let unused = page.word(first) == UNUSED;
        let alike =
            page.words_from(first).take(count as usize).take_while(|entry| (*entry == UNUSED) == unused);
        let alike = alike.count().max(1);
        let len = len.min(alike as u64 * self.block());
        if unused {
            return Ok(WritePlan { len, action: Action::Nothing, token: None });
        }
        let change = Change {
            image: self.clone(),
            page,
            first,
            entries: vec![UNUSED; alike],
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
