//! A sparse file whose grains are written in place.
//!
//! ```text
//!  header │ descriptor │ directory 2, tables 2 │ directory 1, tables 1 │ grains
//!                       └──── the same once more ────┘
//! ```
//!
//! It stands on the shared crash order, once for each file (`block::metacache`). What is of its own:
//! - no counts: grains in use are found from the first copy of the tables when the file is opened for writing;
//! - both copies of a table are written after flush A and before flush B. Whatever of them a crash keeps, each entry of each
//!   copy leads to what was durable before. What the old entries led to is used again after flush B only, when both copies
//!   have let go of it. The first copy is the one that is read;
//! - a crash may leave the copies different. Before the first write to a file that was opened, the second copy is made equal
//!   to the first, durably, for what it alone leads to counts as free;
//! - from the first write until it is closed the header says that the file is being written.
//!
//! `scan` what is found in the tables · `change` plans.
mod change;
pub mod scan;

use super::header::{Hosted, UNCLEAN_AT};
use super::tables::{Entry, TablePage, Tables};
use block::metacache::{Blocks, Codec, Format, Le32, Order, Run, Sealed};
use block::{BlockError, ErrorKind, Leases, Result};
use futures_util::lock::Mutex as Lock;
use rt::Buf;
use scan::Scan;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};

/// A sparse file.
pub struct Grains {
    pub tables: Tables,
    /// Why it can't be written to, if it can't.
    read_only: Option<&'static str>,
    /// Grains of the disk whose mapping changes.
    leases: Arc<Leases>,
    blocks: Lock<Blocks>,
    /// The copies of the tables differ.
    copies_differ: AtomicBool,
    /// The header says that the file is being written.
    marked: AtomicBool,
}

impl Format for Grains {
    type Codec = Le32;

    fn order(&self) -> &Order<Le32> {
        &self.tables.order
    }

    fn block_bits(&self) -> u32 {
        self.tables.shape.grain_bits
    }

    fn size(&self) -> u64 {
        self.tables.shape.len
    }

    fn blocks_of(&self, entry: u32) -> Option<Run> {
        match self.tables.entry(entry) {
            Entry::At(place) => Some(Run { start: place >> self.block_bits(), count: 1 }),
            _ => None,
        }
    }

    async fn write_ahead(&self, entries: bool) -> Result<()> {
        if entries {
            let blocks = self.blocks.lock().await;
            self.order().file.cover(blocks.end() << self.block_bits()).await?;
        }
        Ok(())
    }

    async fn write_tables(&self, sealed: &[Sealed<Le32>]) -> Result<()> {
        for table in sealed {
            if let Some(place) = self.tables.redundant_place(table.key()).await? {
                self.order().file.write(place, Le32::bytes(&table.words).freeze()).await?;
            }
        }
        self.order().file.write_pages(sealed).await
    }

    async fn free(&self, runs: Vec<Run>) {
        let mut blocks = self.blocks.lock().await;
        runs.into_iter().for_each(|run| blocks.free(run));
    }
}

impl Grains {
    pub fn new(tables: Tables, read_only: Option<&'static str>) -> Arc<Self> {
        let (leases, blocks) = (Leases::new(), Lock::new(Blocks::new(0, 0)));
        let (copies_differ, marked) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { tables, read_only, leases, blocks, copies_differ, marked })
    }

    /// Whether it can be written to.
    pub fn is_written(&self) -> bool {
        self.read_only.is_none()
    }

    /// Finds what is in use, and allows changes.
    pub async fn become_writable(&self) -> Result<()> {
        if let Some(why) = self.read_only {
            return Err(BlockError::new(ErrorKind::ReadOnly, format!("{why}; open it read-only")));
        }
        let scan = Scan::of(&self.tables).await?;
        if let Some(finding) = scan.findings.first() {
            let text = format!("{finding}; 'cairn img check -r all' can mend it");
            return Err(BlockError::corrupt(text).about_file(&self.order().file.name()));
        }
        self.copies_differ.store(scan.copies_differ > 0, Release);
        *self.blocks.lock().await = scan.blocks;
        self.order().access.allow(false);
        Ok(())
    }

    /// Before the first write after the file was opened.
    pub async fn first_write(&self) -> Result<()> {
        if !self.order().access.needs_header()? {
            return Ok(());
        }
        let step = async || {
            if self.copies_differ.load(Acquire) {
                scan::copy_tables(&self.tables).await?;
                self.copies_differ.store(false, Release);
            }
            self.say_unclean(true).await?;
            self.marked.store(true, Release);
            Ok(())
        };
        self.order().access.make_ready(step).await
    }

    async fn head(&self) -> Result<Vec<u8>> {
        let head = self.order().file.read(0, super::header::SECTOR).await?;
        match Hosted::parse(&head) {
            Some(_) => Ok(head.to_vec()),
            None => Err(self.tables.damaged(0, "the header is gone")),
        }
    }

    /// Whether the header says that the file is being written, or was not closed.
    pub async fn is_unclean(&self) -> Result<bool> {
        Ok(self.head().await?.get(UNCLEAN_AT).is_some_and(|mark| *mark != 0))
    }

    /// Says in the header whether the file is being written, durably.
    async fn say_unclean(&self, unclean: bool) -> Result<()> {
        let file = &self.order().file;
        let mut head = self.head().await?;
        if let Some(mark) = head.get_mut(UNCLEAN_AT) {
            *mark = unclean.into();
        }
        file.write(0, Buf::from_slice(&head)).await?;
        file.flush().await
    }

    /// Ends all changes: the file is closed, or read-only from now on.
    pub async fn end_changes(self: &Arc<Self>, in_time: bool) -> Result<()> {
        let say_clean = async || {
            let _turn = self.order().access.header_turn().await;
            self.order().access.unready();
            if self.marked.load(Acquire) {
                self.say_unclean(false).await?;
                self.marked.store(false, Release);
            }
            Ok(())
        };
        Order::end(self, in_time, say_clean).await
    }

    /// Gives a table space in the file, in both copies, before its first change.
    async fn place(&self, page: &TablePage) -> Result<()> {
        use block::metacache::UNPLACED;
        if page.marks() & UNPLACED == 0 {
            return Ok(());
        }
        let order = self.order();
        let _lease = order.pages.lease(page.key(), page.key() + 1, true).await;
        if page.marks() & UNPLACED != 0
            && let Some(place) = self.tables.redundant_place(page.key()).await?
        {
            let words: Vec<u32> = page.words_from(0).collect();
            order.file.write(place, Le32::bytes(&words).freeze()).await?;
        }
        order.file.place(page).await
    }
}
