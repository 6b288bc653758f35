//! L2 tables whose entries continue each other from the first to the last, remembered by their place in the file.
//!
//! Many L1 entries may lead to one table, and so claim a disk a million times as large as the file. The block status of
//! such a disk is told in few extents: a table is looked at once, and neighbouring L1 entries that lead to the same one
//! are told together. A table that holds several kinds of things can't be told so, and one that leads to data would be
//! read by whoever copies the disk: meeting such tables again under ever more L1 entries ends with an error.
//!
//! Law: what is remembered of a table holds as long as an entry leads to it. In a writable image only tables that are not
//! this image's own are remembered: they never change, and when a new table takes the same place, the old is forgotten.
//!
//! Bounds: [`MOST_KNOWN`] tables; [`MOST_AGAIN`] entries, [`MOST_BYTES_AGAIN`] bytes of the disk.
use super::cache::TABLE_PAGE_WORDS;
use super::entry::{Entry, Geometry, Stored};
use super::image::Image;
use super::map::following;
use super::subclusters;
use block::{BlockError, ErrorKind, Extent, Result, Want};
use std::collections::HashMap;

/// Tables that are remembered, about 3 MiB; further ones are looked at each time.
const MOST_KNOWN: usize = 1 << 16;

/// Entries of tables with several things in them, or with data, that are told again under other L1 entries.
pub(super) const MOST_AGAIN: u64 = 1 << 20;

/// Bytes that they may cover.
const MOST_BYTES_AGAIN: u64 = 4 << 30;

/// A table, as a look at all of it found it.
#[derive(Debug, Clone, Copy)]
struct Table {
    /// All entries go on with this first one.
    uniform: Option<Stored>,
    /// The L1 index under which it was met first; an image that a program made has it under no other.
    index: u64,
}

impl Table {
    /// It is one thing, in which there is nothing to read.
    fn is_empty(&self, g: Geometry) -> bool {
        self.uniform.is_some_and(|first| matches!(Entry::of(first, g), Entry::Hole | Entry::Zero { .. }))
    }
}

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// By byte offset.
    known: HashMap<u64, Table>,
    /// Entries told again so far.
    again: u64,
    /// Counts how often all was forgotten, as for what is read ahead: what was read before is not kept after.
    times: u64,
}

impl Tables {
    /// Forgets the table at a byte offset.
    pub fn forget(&mut self, host: u64) {
        self.known.remove(&host);
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        *self = Self { times: self.times + 1, ..Self::default() };
    }

    /// Takes note that the table at `host` is told under an L1 index.
    fn meet(&mut self, host: u64, index: u64, g: Geometry) {
        if self.known.get(&host).is_some_and(|table| table.index != index && !table.is_empty(g)) {
            // A split cluster is as many things as it has parts.
            let parts = if g.extended { subclusters::COUNT } else { 1 };
            self.again = self.again.saturating_add(u64::from(parts) << g.entry_bits);
        }
    }
}

impl Image {
    /// Status from `offset` on, if the whole L2 table there is known to be one thing.
    pub(super) async fn uniform_tables(&self, offset: u64) -> Result<Option<Extent>> {
        let g = self.g();
        let cluster = g.cluster(offset);
        let Some(table) = self.table_of(g.slice(cluster)).await? else { return Ok(None) };
        if table.owned && self.order.access.writable() {
            return Ok(None);
        }
        let entries = 1 << g.entry_bits;
        let (index, within) = (cluster / entries, cluster % entries);
        let known = self.uniform.lock().known.get(&table.host).copied();
        let known = match known {
            None if within == 0 => self.look_at_table(table.host, cluster).await?,
            None => return Ok(None),
            Some(known) => known,
        };
        if within == 0 {
            self.meet_again(table.host, index)?;
        }
        let Some(first) = known.uniform else { return Ok(None) };
        let mut clusters = entries - within;
        let mut entry = Entry::of(first, g);
        match &mut entry {
            Entry::Data { host, .. } | Entry::Zero { host: Some(host), .. } => {
                *host += within << g.cluster_bits
            }
            Entry::Hole | Entry::Zero { host: None, .. } => {
                let l1 = self.l1_page(index).await?;
                let first = (index % TABLE_PAGE_WORDS) as usize;
                let same = |word: &u64| *word == l1.word(first);
                clusters += entries * l1.words_from(first + 1).take_while(same).count() as u64;
            }
            // Neighbours that lead to the same one are met one by one.
            Entry::Compressed(_) | Entry::Split { .. } | Entry::Bad(_) => {}
        }
        Ok(Some(self.extent(entry, offset, 0, Want::Status, clusters)))
    }

    /// Looks at the table at `host` as a whole, and remembers what it is.
    async fn look_at_table(&self, host: u64, cluster: u64) -> Result<Table> {
        let g = self.g();
        let times = self.uniform.lock().times;
        let bytes = self.order.file.read(host, g.cluster_size()).await?;
        let mut entries = g.stored_in(&bytes);
        let first = entries.next().unwrap_or_default();
        let alike = 1 + following(first, Entry::of(first, g), entries, g) == 1 << g.entry_bits;
        let index = cluster >> g.entry_bits;
        let table = Table { uniform: alike.then_some(first), index };
        self.keep_ahead(g.slice(cluster), host, bytes, times);
        let mut tables = self.uniform.lock();
        if tables.times == times && tables.known.len() < MOST_KNOWN {
            tables.known.insert(host, table);
        }
        Ok(table)
    }

    /// A table is told again, unless too much was told so under other L1 entries.
    fn meet_again(&self, host: u64, index: u64) -> Result<()> {
        let mut tables = self.uniform.lock();
        tables.meet(host, index, self.g());
        if tables.again <= MOST_AGAIN.min(MOST_BYTES_AGAIN >> self.g().cluster_bits) {
            return Ok(());
        }
        let text = format!(
            "{}: the L1 table leads to the same L2 tables over and over, so that the disk would have more data than can be in \
             the file: its block status is not told any further, and what it shows can only be read piece by piece",
            self.order.file.name()
        );
        Err(BlockError::new(ErrorKind::Limit, text))
    }
}
