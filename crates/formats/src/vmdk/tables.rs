//! The tables of a sparse file with 32-bit entries, as they are read: which sector each grain begins at.
//!
//! ```text
//!  directory, in pages of 512 entries ─▶ table, one page ─▶ 0 a hole · 1 zeroes, where the header allows it · a sector
//! ```
//!
//! Laws:
//! - a table is judged when it is loaded: of one with an entry that leads out of the file, entries are told one by one, and
//!   the wrong ones never;
//! - directories are never written here. A stream that grows holds its own in memory.
//!
//! Bounds: pages in a cache of a set size, whatever the disk's size is.
use super::header::{SECTOR, Shape};
use block::metacache::{Le32, MetadataFile, Order, Page};
use block::{BlockError, ChildId, Domain, Edges, Extent, ExtentKind, Result, Want};
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};

/// Entries of a page of a directory.
const DIRECTORY_ENTRIES: u64 = 512;
/// Keys of pages of directories; tables have their number.
const DIRECTORY: u64 = 1 << 40;
const REDUNDANT: u64 = 1 << 41;

/// Mark of a table whose entries were looked at.
const JUDGED: u32 = 1;
/// Mark of a table with a wrong entry.
const SUSPECT: u32 = 2;

pub type TablePage = Page<Le32>;

/// What an entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    Hole,
    Zero,
    /// The byte of the file at which the grain begins.
    At(u64),
}

/// How data lies in grains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    Plain,
    Compressed,
}

/// The tables of one sparse file.
pub struct Tables {
    pub order: Order<Le32>,
    pub shape: Shape,
    stored: Stored,
    edges: Arc<Edges>,
    child: ChildId,
    /// Where the directory is: a stream that is read again may have another.
    directory: AtomicU64,
    /// The descriptor names an image below, which may not be open.
    names_parent: bool,
    /// The directory of a stream that is written to.
    held: RwLock<Option<Vec<u32>>>,
}

impl Tables {
    /// The tables in the file at an edge, with a cache of about `cache` bytes. `names_parent`: the descriptor names an image
    /// below.
    pub fn new(
        edges: &Arc<Edges>,
        child: ChildId,
        domain: &Arc<Domain>,
        (shape, stored): (Shape, Stored),
        cache: usize,
        names_parent: bool,
    ) -> Self {
        let file = MetadataFile::new(edges.clone(), child, "vmdk");
        let order = Order::new(file, domain.clone(), cache);
        Self {
            order,
            shape,
            stored,
            edges: edges.clone(),
            child,
            directory: AtomicU64::new(shape.directory),
            names_parent,
            held: RwLock::default(),
        }
    }

    /// Bytes of the file.
    pub fn file_len(&self) -> u64 {
        self.edges.with(self.child, |file| file.map_or(0, |file| file.length()))
    }

    /// Whether an image below shows through holes, or will when the image is opened with it.
    pub fn has_backing(&self) -> bool {
        self.names_parent || self.edges.backing().is_some_and(|id| self.edges.get(id).is_some())
    }

    /// The table of an offset of the disk, and the index of its entry.
    pub fn place_of(&self, offset: u64) -> (u64, usize) {
        let grain = offset >> self.shape.grain_bits;
        (grain / self.shape.entries, (grain % self.shape.entries) as usize)
    }

    /// What a word of a table says.
    pub fn entry(&self, word: u32) -> Entry {
        match word {
            0 => Entry::Hole,
            1 if self.shape.zeroed => Entry::Zero,
            sector => Entry::At(u64::from(sector) * SECTOR),
        }
    }

    /// A damage at an offset of the file.
    pub fn damaged(&self, offset: u64, what: impl std::fmt::Display) -> BlockError {
        BlockError::corrupt(what.to_string()).about_file(&self.order.file.name()).at(offset)
    }

    // ---- directories ----

    /// Has the directory in memory from now on, and its changes; `None`: in the file again.
    pub fn hold(&self, directory: Option<Vec<u32>>) {
        *self.held.write() = directory;
    }

    /// Forgets what was read: the directory is there from now on, in the file.
    pub fn read_again(&self, directory: u64) {
        self.hold(None);
        self.order.tables.clear();
        self.directory.store(directory, Release);
    }

    /// Looks at the directory that is held.
    pub fn with_held<T>(&self, look: impl FnOnce(&mut Vec<u32>) -> T) -> Option<T> {
        self.held.write().as_mut().map(look)
    }

    /// An entry of a directory from memory, as a byte of the file.
    fn directory_entry_now(&self, table: u64) -> Option<u64> {
        if let Some(held) = &*self.held.read() {
            return Some(u64::from(held.get(table as usize).copied().unwrap_or(0)) * SECTOR);
        }
        let index = (table % DIRECTORY_ENTRIES) as usize;
        let word =
            self.order.tables.with(DIRECTORY | (table / DIRECTORY_ENTRIES), |page| page.word(index))?;
        Some(u64::from(word) * SECTOR)
    }

    async fn directory_entry(&self, (kind, start): (u64, u64), table: u64) -> Result<u64> {
        if let Some(place) = self.directory_entry_now(table).filter(|_| kind == DIRECTORY) {
            return Ok(place);
        }
        let number = table / DIRECTORY_ENTRIES;
        let first = number * DIRECTORY_ENTRIES;
        let len = (self.shape.tables() - first).min(DIRECTORY_ENTRIES) * 4;
        let place = start + first * 4;
        self.inside(place, len, "the grain directory")?;
        let page = self.order.page(kind | number, place, len).await?;
        Ok(u64::from(page.word((table % DIRECTORY_ENTRIES) as usize)) * SECTOR)
    }

    /// Where a table is in the file; 0: there is none.
    pub async fn table_place(&self, table: u64) -> Result<u64> {
        self.directory_entry((DIRECTORY, self.directory.load(Acquire)), table).await
    }

    /// Where the second copy of a table is, if there is one.
    pub async fn redundant_place(&self, table: u64) -> Result<Option<u64>> {
        let Some(start) = self.shape.redundant else { return Ok(None) };
        let place = self.directory_entry((REDUNDANT, start), table).await?;
        Ok((place != 0).then_some(place))
    }

    /// Refuses what lies outside of the file.
    pub fn inside(&self, place: u64, len: u64, what: &str) -> Result<()> {
        let end = self.file_len();
        match place.checked_add(len).is_some_and(|to| to <= end) {
            true => Ok(()),
            false => Err(self.damaged(
                place,
                format_args!("{what} ({len} bytes at {place:#x}) lies beyond the end of the file ({end:#x})"),
            )),
        }
    }

    // ---- tables ----

    /// A table, judged; `None`: there is none.
    pub async fn table(&self, table: u64) -> Result<Option<Arc<TablePage>>> {
        let page = match self.order.tables.get(table) {
            Some(page) => page,
            None => {
                let place = self.table_place(table).await?;
                if place == 0 {
                    return Ok(None);
                }
                let len = self.shape.table_len();
                self.inside(place, len, "a grain table")?;
                self.order.page(table, place, len).await?
            }
        };
        self.judge(&page);
        Ok(Some(page))
    }

    fn judge(&self, page: &TablePage) {
        if page.marks() & JUDGED == 0 {
            let end = self.file_len();
            let wrong = page.words_from(0).any(|word| !self.is_sound(word, end));
            page.change_marks(JUDGED | if wrong { SUSPECT } else { 0 }, 0);
        }
    }

    /// Whether an entry leads into a file of this length.
    pub fn is_sound(&self, word: u32, end: u64) -> bool {
        match self.entry(word) {
            Entry::At(place) => place >= self.shape.first.min(end) && place < end,
            _ => true,
        }
    }

    // ---- mapping ----

    /// The mapping of the start of a range, from memory.
    pub fn try_map(&self, offset: u64, len: u64, want: Want) -> Option<Extent> {
        let (table, index) = self.place_of(offset);
        match self.order.tables.with(table, |page| self.walk(page, index, offset, len, want)) {
            Some(found) => found,
            None => self.missing_tables(table, offset, len, want),
        }
    }

    /// The mapping of the start of a range.
    pub async fn map(&self, offset: u64, len: u64, want: Want) -> Result<Extent> {
        if let Some(extent) = self.try_map(offset, len, want) {
            return Ok(extent);
        }
        let (table, index) = self.place_of(offset);
        let Some(page) = self.table(table).await? else {
            let nearest = self.clip(offset, (table + 1) * self.shape.span(), ExtentKind::HOLE, len, want);
            return Ok(self.missing_tables(table, offset, len, want).unwrap_or(nearest));
        };
        if let Some(extent) = self.walk(&page, index, offset, len, want) {
            return Ok(extent);
        }
        // It has a wrong entry somewhere: one at a time is looked at.
        let word = page.word(index);
        if want != Want::Status && !self.is_sound(word, self.file_len()) {
            let place = page.place() + index as u64 * 4;
            let text = format!(
                "the entry of guest offset {offset:#x} ({word:#x}) leads out of the file; 'cairn img check -r all' can mend it"
            );
            return Err(self.damaged(place, text));
        }
        let end = ((offset >> self.shape.grain_bits) + 1) << self.shape.grain_bits;
        Ok(self.clip(offset, end, self.kind(word, offset), len, want))
    }

    /// Tables that there are not: a hole to the first that is.
    fn missing_tables(&self, table: u64, offset: u64, len: u64, want: Want) -> Option<Extent> {
        if self.directory_entry_now(table)? != 0 {
            return None;
        }
        let most = if want == Want::Status { u64::MAX } else { len.div_ceil(self.shape.span()) + 1 };
        let page_end = (table / DIRECTORY_ENTRIES + 1) * DIRECTORY_ENTRIES;
        let last = page_end.min(table.saturating_add(most));
        // A table that was made since the last flush is in memory, and no directory leads to it yet.
        let is_missing = |table| {
            self.directory_entry_now(table) == Some(0) && self.order.tables.with(table, |_| ()).is_none()
        };
        let mut end = table + 1;
        while end < last && is_missing(end) {
            end += 1;
        }
        Some(self.clip(offset, end * self.shape.span(), ExtentKind::HOLE, len, want))
    }

    /// The extent of the entries that continue each other; `None` if the table has a wrong entry, or was not looked at.
    fn walk(&self, page: &TablePage, index: usize, offset: u64, len: u64, want: Want) -> Option<Extent> {
        if page.marks() & (JUDGED | SUSPECT) != JUDGED {
            return None;
        }
        let bits = self.shape.grain_bits;
        let first = page.word(index);
        let most = match want {
            Want::Status => usize::MAX,
            _ => (((offset + len.max(1) - 1) >> bits) - (offset >> bits)) as usize,
        };
        let more = self.alike(first, page.words_from(index + 1).take(most));
        let end = ((offset >> bits) + 1 + more as u64) << bits;
        Some(self.clip(offset, end, self.kind(first, offset), len, want))
    }

    /// How many words go on as the first began.
    fn alike(&self, first: u32, words: impl Iterator<Item = u32>) -> usize {
        let step = self.shape.grain() / SECTOR;
        let mut next = u64::from(first);
        let goes_on = |word: &u32| match (self.entry(first), self.entry(*word)) {
            (Entry::Hole, Entry::Hole) | (Entry::Zero, Entry::Zero) => true,
            (Entry::At(_), Entry::At(_)) if self.stored == Stored::Compressed => true,
            (Entry::At(_), Entry::At(_)) => {
                next += step;
                u64::from(*word) == next
            }
            _ => false,
        };
        let mut goes_on = goes_on;
        words.take_while(|word| goes_on(word)).count()
    }

    fn kind(&self, word: u32, offset: u64) -> ExtentKind {
        match (self.entry(word), self.stored) {
            (Entry::Hole, _) => ExtentKind::HOLE,
            (Entry::Zero, _) => ExtentKind::Zero { reserved: None },
            (Entry::At(_), Stored::Compressed) => ExtentKind::Encoded,
            (Entry::At(place), Stored::Plain) => {
                let within = offset & (self.shape.grain() - 1);
                ExtentKind::Data { child: self.child, offset: place + within, owned: true }
            }
        }
    }

    /// An extent from an offset to an end.
    fn clip(&self, offset: u64, end: u64, kind: ExtentKind, len: u64, want: Want) -> Extent {
        let left = end.min(self.shape.len) - offset;
        Extent { len: if want == Want::Status { left } else { left.min(len.max(1)) }, kind }
    }
}
