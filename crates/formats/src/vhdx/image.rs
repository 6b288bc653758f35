//! An open image: what its parts share, and how it is taken over, logged and closed. Where its blocks are tells `map`, how they
//! come and go `change`.
//!
//! Bounds: the table and bitmaps are held by pages of 4 KiB, [`CACHE`] bytes together.
use super::bat::{Bat, Place, place_of};
use super::header::{Current, Header};
use super::journal::Journal;
use super::metadata::Metadata;
use super::regions::{Part, Regions};
use super::replay::Replay;
use super::used::Used;
use super::words::Guid;
use super::{MIB, read};
use crate::slots::{Layout, Misplaced, Slots};
use block::metacache::{Format, Le64, MetadataFile, Order, Run, Sealed};
use block::{BlockError, ChildId, Domain, Edges, ErrorKind, Leases, Result};
use futures_util::lock::Mutex as Lock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};

/// Bytes of memory for pages.
const CACHE: usize = 4 << 20;
/// Entries can name no MiB from here on that is remembered here: 4 PiB.
const UNNAMED: u64 = u32::MAX as u64;

/// An open image.
pub(super) struct Image {
    pub order: Order<Le64>,
    pub regions: Regions,
    pub metadata: Metadata,
    pub bat: Bat,
    /// The header that counts; changes in the header's turn.
    pub header: Lock<Current>,
    /// Guest blocks whose mapping changes.
    pub leases: Arc<Leases>,
    pub slots: Lock<Slots>,
    /// The log, since the first write.
    journal: Lock<Option<Journal>>,
    /// Bytes of the file that the next entry of the log may count on.
    covered: AtomicU64,
    /// Bytes of the file, when it was looked at last.
    pub file_len: AtomicU64,
}

impl Format for Image {
    type Codec = Le64;

    fn order(&self) -> &Order<Le64> {
        &self.order
    }

    fn block_bits(&self) -> u32 {
        MIB.trailing_zeros()
    }

    fn size(&self) -> u64 {
        self.metadata.size
    }

    fn blocks_of(&self, entry: u64) -> Option<Run> {
        match self.bat.place(entry) {
            Place::Here(start) | Place::Partly(start) => {
                Some(Run { start, count: self.metadata.block / MIB })
            }
            _ => None,
        }
    }

    async fn write_ahead(&self, entries: bool) -> Result<()> {
        if entries {
            let end = self.end().await?;
            self.order.file.cover(end).await?;
            self.covered.store(end, Release);
        }
        Ok(())
    }

    /// By the log: stored there first, durably, then in place. What is in place is durable before the next entry is stored, and by
    /// the flush that ends the epoch.
    async fn write_tables(&self, sealed: &[Sealed<Le64>]) -> Result<()> {
        if sealed.is_empty() {
            return Ok(());
        }
        let mut journal = self.journal.lock().await;
        let missing = || BlockError::new(ErrorKind::ReadOnly, "the log has not been begun");
        let journal = journal.as_mut().ok_or_else(missing)?;
        for (number, pages) in sealed.chunks(journal.most()).enumerate() {
            if number > 0 {
                self.order.file.flush().await?;
            }
            journal.store(&self.order.file, pages, self.covered.load(Acquire)).await?;
            self.order.file.write_pages(pages).await?;
        }
        Ok(())
    }

    async fn free(&self, runs: Vec<Run>) {
        let mut slots = self.slots.lock().await;
        runs.into_iter().for_each(|run| slots.free(run));
    }
}

impl Image {
    pub fn new(
        (current, regions, metadata): (Current, Regions, Metadata),
        (edges, file): (Arc<Edges>, ChildId),
        domain: Arc<Domain>,
    ) -> Self {
        let order = Order::new(MetadataFile::new(edges, file, "vhdx"), domain, CACHE);
        Self {
            order,
            bat: Bat::new(&metadata),
            regions,
            metadata,
            header: Lock::new(current),
            leases: Leases::new(),
            slots: Lock::default(),
            journal: Lock::default(),
            covered: AtomicU64::new(0),
            file_len: AtomicU64::new(0),
        }
    }

    /// Bytes of a block.
    pub fn block(&self) -> u64 {
        self.metadata.block
    }

    pub fn corrupt(&self, what: String, at: u64) -> BlockError {
        BlockError::corrupt(format!("{what}; 'cairn img check' tells more"))
            .at(at)
            .about_file(&self.order.file.name())
    }

    // ---- access ----

    /// Takes over the image: the header is read again, for another program may have had the file until now, and its log is
    /// carried out; tells whether there was one.
    pub async fn take_over(&self) -> Result<bool> {
        let file = self.order.file.node()?;
        let mut current = self.header.lock().await;
        let before = current.header;
        *current = Current::read(&file).await?;
        let replay = Replay::find(&file, &current.header).await?;
        let Some(replay) = replay else {
            if before.log != Guid::ZERO || before.file_write != current.header.file_write {
                self.order.tables.clear();
            }
            return Ok(false);
        };
        if before != current.header {
            let text = format!("'{}' was changed while it was opened; open it again", file.filename());
            return Err(BlockError::new(ErrorKind::Busy, text));
        }
        replay.carry_out(&file, &mut current).await?;
        self.order.tables.clear();
        Ok(true)
    }

    /// Finds what is in use, and allows changes.
    pub async fn become_writable(&self) -> Result<()> {
        let file = self.order.file.node()?;
        let length = file.length();
        let header = self.header.lock().await.header;
        header.has_log()?;
        let parts = self.parts(header);
        if let Some(part) = parts.iter().find(|part| part.end() > length) {
            return Err(self.corrupt("a region does not end before the file does".to_owned(), part.offset));
        }
        let grows = file.facts().grows_with_zeroes;
        let layout = Layout {
            len: self.block() / MIB,
            front: 0,
            behind: 0,
            unnamed: UNNAMED,
            room: if grows { u64::MAX } else { length / MIB },
        };
        let mut used = Used::new(&parts);
        let length_in_mib = length.div_ceil(MIB);
        self.each_entry(|block, entry| {
            let mut run = Run { start: place_of(entry), count: layout.len };
            if run.end() > length_in_mib {
                run.count = self.len_of(block).div_ceil(MIB);
            }
            match self.bat.place(entry) {
                Place::Here(_) | Place::Partly(_) => used.add(run),
                // Another program may have kept the place for the block.
                _ if run.start > 0 => used.add_kept(run),
                _ => {}
            }
        })
        .await?;
        let wrong = |Misplaced(at)| {
            let text = format!("an entry of the table leads to {at} MiB, where no block of its own can be");
            self.corrupt(text, at * MIB)
        };
        let used = used.sorted(length_in_mib);
        let mut slots = Slots::between(layout, 1, used.iter(), length_in_mib).map_err(wrong)?;
        // A block that begins in front of the end would have to be filled with zeroes.
        slots.leave_short_gap(length_in_mib);
        *self.slots.lock().await = slots;
        self.file_len.store(length, Release);
        self.order.access.allow(false);
        Ok(())
    }

    /// The regions of the file, and its log.
    pub fn parts(&self, header: Header) -> Vec<Part> {
        let log = Part { offset: header.log_offset, len: header.log_len.into() };
        let known = [log, self.regions.bat, self.regions.metadata];
        known.into_iter().chain(self.regions.others.iter().copied()).filter(|part| part.len > 0).collect()
    }

    /// Where blocks end in the file; in a repair, which takes no slots, where the file does.
    async fn end(&self) -> Result<u64> {
        let end = self.slots.lock().await.end() * MIB;
        if end > 0 { Ok(end) } else { Ok(self.order.file.node()?.length()) }
    }

    /// Runs `look` on the entries of all blocks.
    pub async fn each_entry(&self, mut look: impl FnMut(u64, u64) + Send) -> Result<()> {
        let file = self.order.file.node()?;
        let len = self.bat.entries() * 8;
        for at in (0..len).step_by(MIB as usize) {
            let bytes = read(&file, self.regions.bat.offset + at, MIB.min(len - at) as usize).await?;
            for (index, entry) in (at / 8..).zip(bytes.as_chunks().0) {
                if let Some(block) = self.bat.block_of(index).filter(|block| *block < self.bat.blocks) {
                    look(block, u64::from_le_bytes(*entry));
                }
            }
        }
        Ok(())
    }

    /// Before the first write after the image was opened: begins the log.
    pub async fn first_write(&self) -> Result<()> {
        if !self.order.access.needs_header()? {
            return Ok(());
        }
        let begin = async || {
            self.order.file.unharmed()?;
            let file = self.order.file.node()?;
            let mut current = self.header.lock().await;
            let end = self.end().await?.min(file.length());
            let journal = Journal::begin(&self.order.file, &file, &mut current, end).await;
            *self.journal.lock().await = Some(journal.map_err(|e| self.order.file.failed(e))?);
            Ok(())
        };
        self.order.access.make_ready(begin).await
    }

    /// Ends all changes: the image is closed, or read-only from now on.
    pub async fn end_changes(self: &Arc<Self>, in_time: bool) -> Result<()> {
        Order::end(self, in_time, || self.close_log()).await
    }

    /// Everything is in its place, durably: the log is empty.
    async fn close_log(&self) -> Result<()> {
        let _turn = self.order.access.header_turn().await;
        if self.journal.lock().await.take().is_none() {
            return Ok(());
        }
        self.order.access.unready();
        let file = self.order.file.node()?;
        let mut current = self.header.lock().await;
        let closed = Header { log: Guid::ZERO, ..current.header };
        // As long as it is not stored the header in memory names the log, and `Journal::begin` stores it first.
        current.store(&file, closed).await.map_err(|e| self.order.file.failed(e))
    }
}
