//! Images whose one table leads to blocks of the file: `vdi`, `parallels`.
//!
//! ```text
//!  │ header │ table: one little-endian u32 a guest block │ … │ block 0 │ block 1 │ …
//!                         └ nothing, or where its block is ──▶
//! ```
//!
//! What a format adds is its [`Layout`]: how entries are stored, and what its header says.
//!
//! Laws:
//! - a block of the file belongs to one entry, for as long as the image is open: discards and zeroes are done in place, so
//!   that no block is ever given up, and an entry once set never changes;
//! - what an entry leads to is durable before the entry is (`block::metacache`), and so is what the header says of blocks in
//!   use ([`Layout::write_ahead`]): a crash leaks blocks at most, and the next open for writing finds them free;
//! - an image in which two entries lead to one block, or one leads out of the file, is read but for that, and not written to.
//!
//! Bounds: pages of the table in [`CACHE`] bytes; a bit for each block of the file in an image that is written to.
mod check;
mod driver;
mod plan;

use block::metacache::{Blocks, Format, Le32, MetadataFile, Order, Page, Run};
use block::{BlockError, ChildId, Domain, Edges, Extent, ExtentKind, Leases, Node, Result, Want};
use futures_util::lock::Mutex as Lock;
use std::sync::Arc;

pub(crate) use check::Findings;
pub(crate) use driver::TableDriver;

/// Entries of a page.
const PAGE_ENTRIES: u64 = 1024;
/// Bytes of memory for pages.
const CACHE: usize = 8 << 20;
/// Bytes of the table that are read at a time where all of it is looked at.
const PIECE: u64 = 256 << 10;

/// Mark of a page whose entries were looked at: all of them lead to where data can be.
const SOUND: u32 = 1;

/// What a format adds to its table.
pub(crate) trait Layout: Send + Sync + Sized + 'static {
    /// The format's name.
    const FORMAT: &'static str;
    /// The entry that leads to nothing.
    const NOTHING: u32;
    /// What the disk shows where an entry leads to nothing.
    const EMPTY: ExtentKind;
    /// A repair drops entries that lead to where no data can be.
    const DROPS_LOST: bool;
    /// An image that is opened for writing is repaired first, where that is needed.
    const REPAIRS_AT_OPEN: bool;
    /// A check tells of clusters, and where the last one ends.
    const COUNTS_CLUSTERS: bool;

    /// Reads the header and judges it.
    fn read(file: &Arc<Node>) -> impl Future<Output = Result<Self>> + Send;

    /// Whether the other one is of the same disk in the same place, so that it can be gone on with.
    fn is_like(&self, other: &Self) -> bool;

    /// Virtual size in bytes.
    fn size(&self) -> u64;

    /// Bytes of a block.
    fn block_size(&self) -> u64;

    /// Byte offset of the table in the file.
    fn table(&self) -> u64;

    /// Entries of the table.
    fn entries(&self) -> u64;

    /// Byte offset in the file of the first block.
    fn data(&self) -> u64;

    /// No entry can lead to this block of the file, or to a later one.
    fn most_blocks(&self) -> u64;

    /// Byte offset in the file of what an entry leads to; `None`: nothing, it reads as zeroes.
    fn place(&self, entry: u32) -> Option<u64>;

    /// The entry that leads to this block of the file.
    fn entry(&self, block: u64) -> u32;

    /// Blocks of the file that are in use by the header's word, where it says so; else they reach to the end of the file.
    fn counted(&self) -> Option<u64> {
        None
    }

    /// Offsets in the file of blocks that something else than the table leads to.
    fn other_blocks(&self) -> Vec<u64> {
        Vec::new()
    }

    /// The image is a node now. What it has beside the disk is made known.
    fn opened(&self, file: &MetadataFile, read_only: bool) -> impl Future<Output = Result<()>> + Send {
        let _ = (file, read_only);
        async { Ok(()) }
    }

    /// Whether the header says that the image has to be repaired before it is written to.
    fn needs_repair(&self) -> bool {
        false
    }

    /// What is wrong in the header; [`Layout::mend_header`] mends it where that is asked for.
    fn check_header(&self, found: &mut Findings) {
        let _ = found;
    }

    /// Mends the header of an image in which nothing else is wrong any more. A flush follows.
    fn mend_header(&self, file: &MetadataFile) -> impl Future<Output = Result<()>> + Send {
        let _ = file;
        async { Ok(()) }
    }

    /// Before data are written to blocks that end at byte `end` of the file: may make the file longer than that.
    fn reserve(&self, file: &Node, end: u64) -> impl Future<Output = ()> + Send {
        let _ = (file, end);
        async {}
    }

    /// Before the first write after the image was opened. Durable when it returns.
    fn begin_changes(&self, file: &MetadataFile) -> impl Future<Output = Result<()>> + Send {
        let _ = file;
        async { Ok(()) }
    }

    /// Before entries are written that lead to blocks below `end`. A flush follows.
    fn write_ahead(&self, file: &MetadataFile, end: u64) -> impl Future<Output = Result<()>> + Send {
        let _ = (file, end);
        async { Ok(()) }
    }

    /// Everything is durable, and nothing is changed any more before [`Layout::begin_changes`]. Blocks end at byte `end` of the
    /// file.
    fn end_changes(&self, file: &MetadataFile, end: u64) -> impl Future<Output = Result<()>> + Send {
        let _ = (file, end);
        async { Ok(()) }
    }

    /// Whether blocks may lie in holes of the file.
    fn is_thin(&self) -> bool {
        false
    }

    /// What `info` tells.
    fn info(&self) -> block::DriverInfo;
}

/// An open image.
pub(crate) struct BlockTable<L: Layout> {
    order: Order<Le32>,
    layout: L,
    /// Guest blocks whose entries change.
    leases: Arc<Leases>,
    /// Blocks of the file in use; known while the image is open for writing.
    blocks: Lock<Blocks>,
}

/// Where a guest offset is.
#[derive(Clone, Copy)]
struct Position {
    /// Its page.
    page: u64,
    /// Its entry's index there.
    index: usize,
    /// Bytes from the start of its block.
    within: u64,
}

impl<L: Layout> Format for BlockTable<L> {
    type Codec = Le32;

    fn order(&self) -> &Order<Le32> {
        &self.order
    }

    fn block_bits(&self) -> u32 {
        self.layout.block_size().ilog2()
    }

    fn size(&self) -> u64 {
        self.layout.size()
    }

    fn blocks_of(&self, entry: u32) -> Option<Run> {
        let start = self.block_at(self.layout.place(entry)?)?;
        Some(Run { start, count: 1 })
    }

    async fn write_ahead(&self, entries: bool) -> Result<()> {
        if !self.order.access.is_ready() {
            return Ok(());
        }
        let mut blocks = self.blocks.lock().await;
        self.order.reservations.take_all_unused().into_iter().for_each(|run| blocks.free(run));
        let end = blocks.used_end();
        if entries {
            self.order.file.cover(self.offset_of(end)).await?;
        }
        self.layout.write_ahead(&self.order.file, end).await
    }

    async fn free(&self, runs: Vec<Run>) {
        let mut blocks = self.blocks.lock().await;
        runs.into_iter().for_each(|run| blocks.free(run));
    }
}

impl<L: Layout> BlockTable<L> {
    fn new(edges: Arc<Edges>, file: ChildId, domain: Arc<Domain>, layout: L) -> Self {
        let order = Order::new(MetadataFile::new(edges, file, L::FORMAT), domain, CACHE);
        Self { order, layout, leases: Leases::new(), blocks: Lock::new(Blocks::new(0, 0)) }
    }

    // ---- blocks of the file ----

    fn offset_of(&self, block: u64) -> u64 {
        self.layout.data() + block * self.layout.block_size()
    }

    /// The block of the file that begins at this offset, if one does.
    fn block_at(&self, offset: u64) -> Option<u64> {
        let from = offset.checked_sub(self.layout.data())?;
        from.is_multiple_of(self.layout.block_size()).then_some(from / self.layout.block_size())
    }

    /// Whether what is at this offset lies across two blocks: other programs count them from elsewhere.
    fn lies_across(&self, offset: u64) -> bool {
        offset >= self.layout.data() && self.block_at(offset).is_none()
    }

    /// Blocks that a file of `length` bytes has, the last one perhaps in part.
    fn blocks_in(&self, length: u64) -> u64 {
        length.saturating_sub(self.layout.data()).div_ceil(self.layout.block_size())
    }

    /// What is wrong with a place that an entry leads to, in a file of `length` bytes.
    fn fault(&self, place: u64, length: u64) -> Option<&'static str> {
        if place < self.layout.data() {
            Some("where the header and the table are")
        } else if place >= length {
            Some("beyond the end of the file")
        } else {
            None
        }
    }

    /// Refuses a table that the file does not hold, or that lies where blocks do.
    fn sound_table(&self, file: &Node) -> Result<()> {
        let (start, data) = (self.layout.table(), self.layout.data());
        let end = start + self.layout.entries() * 4;
        let what = match end {
            end if end > file.length() => "beyond the end of the file",
            end if end > data => "behind the first block of the file",
            _ => return Ok(()),
        };
        let text = format!("the block table ends at {end:#x}, {what}");
        Err(BlockError::corrupt(text).about_file(&file.filename()).at(start))
    }

    // ---- mapping ----

    fn position(&self, offset: u64) -> Position {
        let (entry, within) = (offset / self.layout.block_size(), offset % self.layout.block_size());
        Position { page: entry / PAGE_ENTRIES, index: (entry % PAGE_ENTRIES) as usize, within }
    }

    async fn page(&self, number: u64) -> Result<Arc<Page<Le32>>> {
        let first = number * PAGE_ENTRIES;
        let entries = PAGE_ENTRIES.min(self.layout.entries().saturating_sub(first));
        let page = self.order.page(number, self.layout.table() + first * 4, entries * 4).await?;
        if page.marks() & SOUND == 0 {
            let file = self.order.file.node()?;
            self.sound_table(&file)?;
            let length = file.length();
            let mut places = page.words_from(0).filter_map(|entry| self.layout.place(entry));
            if places.all(|place| self.fault(place, length).is_none()) {
                page.change_marks(SOUND, 0);
            }
        }
        Ok(page)
    }

    fn try_map(&self, offset: u64, len: u64, want: Want) -> Option<Extent> {
        if want == Want::Write && !self.order.access.is_ready() {
            return None;
        }
        let at = self.position(offset);
        let found = self.order.tables.with(at.page, |page| {
            (page.marks() & SOUND != 0).then(|| self.extent(page, at, len, usize::MAX))
        });
        found.flatten()
    }

    async fn map(&self, offset: u64, len: u64, want: Want) -> Result<Extent> {
        if want == Want::Write {
            self.begin_changes().await?;
        }
        let at = self.position(offset);
        let page = self.page(at.page).await?;
        self.find(&page, at, len)
    }

    /// The extent at the start of a range; an entry that leads to where no data can be fails.
    fn find(&self, page: &Page<Le32>, at: Position, len: u64) -> Result<Extent> {
        if page.marks() & SOUND != 0 {
            return Ok(self.extent(page, at, len, usize::MAX));
        }
        let file = self.order.file.node()?;
        if let Some(place) = self.layout.place(page.word(at.index))
            && let Some(fault) = self.fault(place, file.length())
        {
            let entry = at.page * PAGE_ENTRIES + at.index as u64;
            let text = format!("entry {entry} of the block table leads to offset {place:#x}, {fault}");
            return Err(BlockError::corrupt(text).about_file(&file.filename()));
        }
        Ok(self.extent(page, at, len, 1))
    }

    /// The extent at the start of a range, of at most so many entries.
    fn extent(&self, page: &Page<Le32>, at: Position, len: u64, most: usize) -> Extent {
        let size = self.layout.block_size();
        let touched = usize::try_from((at.within + len).div_ceil(size)).unwrap_or(usize::MAX).min(most);
        let mut places = page.words_from(at.index).take(touched).map(|entry| self.layout.place(entry));
        let first = places.next().flatten();
        let follows = |index: u64, place: Option<u64>| match (first, place) {
            (Some(first), Some(place)) => place == first + index * size,
            (None, None) => true,
            _ => false,
        };
        let alike =
            1 + (1u64..).zip(places).take_while(|(index, place)| follows(*index, *place)).count() as u64;
        let kind = match first {
            None => L::EMPTY,
            Some(place) => {
                ExtentKind::Data { child: self.order.file.child(), offset: place + at.within, owned: true }
            }
        };
        Extent { len: len.min(alike * size - at.within), kind }
    }

    /// Whether no change of the range's entries is under way, or waits to be durable.
    fn is_settled(&self, offset: u64, len: u64) -> bool {
        let size = self.layout.block_size();
        let lease = self.leases.try_lease(offset / size, (offset + len).div_ceil(size), false);
        lease.is_some_and(|_lease| self.order.tables.dirty.is_empty())
    }
}
