//! The log of an image that is open for writing.
//!
//! ```text
//!  odd entries │ even entries │ the rest of the log is not used
//! ```
//!
//! An entry stands alone: its tail is its own place. It is stored where it writes over the last entry but one, so that the last
//! one is whole as long as the new one is not: after a power cut the greatest number whose entry is whole counts. It
//! is stored when everything before it has been carried out durably.
//!
//! Law: from the moment when the header names the log there is a whole entry in it.
//!
//! Bounds: an entry stores at most [`Journal::most`] sectors.
use super::header::{Current, Header};
use super::log::{self, EntryHeader, entry, entry_len};
use super::words::Guid;
use block::metacache::{Codec as _, Le64, MetadataFile, Sealed};
use block::{Node, Result};
use rt::{Buf, BufMut};
use std::sync::Arc;

/// Most bytes of an entry.
const MOST: u64 = 512 << 10;

/// The log, as far as this program has written to it.
#[derive(Debug)]
pub(super) struct Journal {
    guid: Guid,
    /// Byte offset of the log.
    offset: u64,
    /// Bytes of the place of an entry.
    half: u64,
    /// Of the last entry.
    sequence: u64,
}

impl Journal {
    /// Begins a log: its places have space in the file, there is an entry in it, and then the header names it, all durably. The
    /// header says as well that the file and the disk are about to change. `end`: all that the image has ends there, in the file.
    pub async fn begin(
        file: &MetadataFile,
        node: &Arc<Node>,
        current: &mut Current,
        end: u64,
    ) -> Result<Self> {
        let Header { log_offset: offset, log_len, .. } = current.header;
        let half = (u64::from(log_len) / 2).min(MOST);
        if current.header.log != Guid::ZERO {
            // Naming or closing it has failed before; all that it has is in place.
            let closed = Header { log: Guid::ZERO, ..current.header };
            current.store(node, closed).await?;
        }
        let mut journal = Self { guid: Guid::random(), offset, half, sequence: 0 };
        file.write(offset, BufMut::zeroed(2 * half as usize).freeze()).await?;
        journal.store(file, &[], end).await?;
        let named = Header {
            log: journal.guid,
            file_write: Guid::random(),
            data_write: Guid::random(),
            ..current.header
        };
        if let Err(error) = current.store(node, named).await {
            // It may be named all the same: nothing is written over its entry before the header says again that it is empty.
            current.header.log = journal.guid;
            return Err(error);
        }
        Ok(journal)
    }

    /// Pages that one entry stores at most.
    pub fn most(&self) -> usize {
        let sectors =
            (0..self.half as usize / log::SECTOR).rev().find(|sectors| entry_len(*sectors) <= self.half);
        sectors.unwrap_or(0).max(1)
    }

    /// Stores pages, durably. What was stored before has been carried out durably. `end`: the file is so long, durably.
    pub async fn store(&mut self, file: &MetadataFile, pages: &[Sealed<Le64>], end: u64) -> Result<()> {
        let sequence = self.sequence + 1;
        let tail = if sequence.is_multiple_of(2) { self.half } else { 0 };
        let bytes: Vec<_> = pages.iter().map(|page| (page.place, Le64::bytes(&page.words))).collect();
        let sectors: Vec<_> = bytes.iter().map(|(place, bytes)| (*place, &bytes[..])).collect();
        let header = EntryHeader {
            len: 0,
            tail: tail as u32,
            sequence,
            descriptors: 0,
            log: self.guid,
            flushed: end,
            last: end,
        };
        file.write(self.offset + tail, Buf::from_slice(&entry(header, &sectors))).await?;
        file.flush().await?;
        self.sequence = sequence;
        Ok(())
    }
}
