//! A sparse file of compressed grains, one behind the other: read on all cores, and appended to as a stream.
//!
//! ```text
//!  made:     header ─▶ directory of zeroes │ grains …
//!  flushed:  header ──────────────────────────────────────▶ directory     each table and directory anew, behind the grains
//!            … grains │ tables │ grains │ tables │ directory ─┘
//!  closed:   header says "at the end" │ … │ tables │ directory │ footer │ end of stream
//! ```
//!
//! Nothing that the header leads to is ever written over, so each flush is: {grains} · flush A · {tables, directory} · flush ·
//! {header} · flush B. The footer is made when the file is closed, or is read-only again. A file that has one is made to
//! lead to its directory by the header again before it is written to, and what is appended takes the place of the footer.
//!
//! Laws:
//! - a grain is stored once, whole: what is allocated can't be written to again;
//! - grains are stored in the order in which their requests came, one append at a time.
//!
//! Bounds: the directory is held in memory while the file is written to, with at most [`MOST_TABLES`] entries.
mod read;
mod write;

use super::header::{AT_END, Hosted, SECTOR};
use super::tables::Tables;
use api::PreallocMode;
use block::metacache::{Codec, Format, Le32, Order, Page, Run, Sealed};
use block::{BlockError, ErrorKind, Leases, Result, Turns};
use futures_util::lock::Mutex as Lock;
use parking_lot::Mutex;
use read::Decoded;
use rt::Buf;
use std::sync::Arc;

/// Most tables of a stream that is written to.
const MOST_TABLES: u64 = 1 << 21;

/// Kinds of markers.
const END_OF_STREAM: u32 = 0;
const TABLE: u32 = 1;
const DIRECTORY: u32 = 2;
const FOOTER: u32 = 3;

/// Bytes of the footer with its markers, at the end of a file.
pub const FOOTER_LEN: u64 = 3 * SECTOR;

/// A file of compressed grains.
pub struct Stream {
    pub tables: Tables,
    /// As it was when the file was opened, with the directory's place.
    header: Hosted,
    /// The header says that the directory is at the end.
    has_footer: Lock<bool>,
    /// Grains of the disk whose mapping changes.
    leases: Arc<Leases>,
    tail: Lock<Tail>,
    order_of_appends: Mutex<Turns>,
    decoded: Decoded,
    /// Grains that are being decoded for small reads.
    decoding: Arc<Leases>,
}

/// The end of the file, in bytes.
struct Tail {
    /// Where the next append goes.
    end: u64,
    /// The directory that the header or the footer leads to.
    directory: u64,
}

/// A marker in front of tables, and at the end.
fn marker(sectors: u64, kind: u32) -> Vec<u8> {
    let mut marker = sectors.to_le_bytes().to_vec();
    marker.extend(0u32.to_le_bytes());
    marker.extend(kind.to_le_bytes());
    marker.resize(SECTOR as usize, 0);
    marker
}

/// The footer's header, of the last bytes of a file.
pub fn footer(last: &[u8]) -> Option<Hosted> {
    let kind = |at| super::header::u32_at(last, at);
    let sound = kind(8)? == 0
        && kind(12)? == FOOTER
        && kind(1024)? == 0
        && kind(1032)? == 0
        && kind(1036)? == END_OF_STREAM;
    sound.then(|| Hosted::parse(last.get(SECTOR as usize..)?)).flatten()
}

impl Format for Stream {
    type Codec = Le32;

    fn order(&self) -> &Order<Le32> {
        &self.tables.order
    }

    fn block_bits(&self) -> u32 {
        SECTOR.trailing_zeros()
    }

    fn size(&self) -> u64 {
        self.tables.shape.len
    }

    /// Nothing is ever given up.
    fn blocks_of(&self, _: u32) -> Option<Run> {
        None
    }

    async fn write_ahead(&self, _: bool) -> Result<()> {
        Ok(())
    }

    /// Writes tables as they are now, behind the grains: what may have been appended since they were sealed is as new, and what
    /// their entries lead to is durable before the header leads to them.
    async fn write_tables(&self, _: &[Sealed<Le32>]) -> Result<()> {
        let mut tail = self.tail.lock().await;
        let sealed = self.order().tables.dirty.seal();
        let (mut bytes, directory) = self.tables_at(tail.end, &sealed)?;
        let place = tail.end + bytes.len() as u64 + SECTOR;
        let words = Le32::bytes(&directory);
        bytes.extend(marker((words.len() as u64).div_ceil(SECTOR), DIRECTORY));
        bytes.extend_from_slice(&words);
        bytes.resize(bytes.len().next_multiple_of(SECTOR as usize), 0);
        let file = &self.order().file;
        file.write(tail.end, Buf::from_slice(&bytes)).await?;
        tail.end += bytes.len() as u64;
        self.tables.hold(Some(directory));
        file.flush().await?;
        self.write_header(place / SECTOR).await?;
        tail.directory = place;
        Ok(())
    }
}

/// A place as an entry names it.
fn sector(place: u64) -> Result<u32> {
    let too_long = || {
        BlockError::new(
            ErrorKind::Limit,
            "the image file can't grow further: its tables can't name more sectors",
        )
    };
    u32::try_from(place / SECTOR).map_err(|_| too_long())
}

impl Stream {
    pub fn new(tables: Tables, header: Hosted, has_footer: bool) -> Arc<Self> {
        let tail = Lock::new(Tail { end: 0, directory: tables.shape.directory });
        Arc::new(Self {
            tables,
            header,
            has_footer: Lock::new(has_footer),
            leases: Leases::new(),
            tail,
            order_of_appends: Mutex::default(),
            decoded: Decoded::default(),
            decoding: Leases::new(),
        })
    }

    /// Tables with their markers, as they are appended at `end`, and the directory that leads to them.
    fn tables_at(&self, end: u64, sealed: &[Sealed<Le32>]) -> Result<(Vec<u8>, Vec<u32>)> {
        let mut directory = self.tables.with_held(|held| held.clone()).unwrap_or_default();
        let mut bytes = Vec::new();
        for table in sealed {
            let words = Le32::bytes(&table.words);
            bytes.extend(marker((words.len() as u64).div_ceil(SECTOR), TABLE));
            if let Some(entry) = directory.get_mut(table.key() as usize) {
                *entry = sector(end + bytes.len() as u64)?;
            }
            bytes.extend_from_slice(&words);
            bytes.resize(bytes.len().next_multiple_of(SECTOR as usize), 0);
        }
        Ok((bytes, directory))
    }

    /// Writes tables that fill the memory for them behind the grains. Nothing on disk leads there before a flush.
    ///
    /// `page` stays dirty, so that the next flush has something to write: the directory that leads to all of them. It is marked
    /// anew, for an epoch that is under way may take from the list what it sealed before.
    async fn append_crowded(&self, page: &Arc<Page<Le32>>) -> Result<()> {
        if !self.tables.order.tables.is_crowded(self.tables.shape.entries as usize) {
            return Ok(());
        }
        let mut tail = self.tail.lock().await;
        let sealed = self.order().tables.dirty.seal();
        let (bytes, directory) = self.tables_at(tail.end, &sealed)?;
        self.order().file.write(tail.end, Buf::from_slice(&bytes)).await?;
        tail.end += bytes.len() as u64;
        self.tables.hold(Some(directory));
        self.order().tables.dirty.mark(page);
        self.order().tables.dirty.settle(&sealed);
        Ok(())
    }

    /// Stores the header with its directory at this sector.
    async fn write_header(&self, directory: u64) -> Result<()> {
        let header = self.header.with_directory(directory);
        self.order().file.write(0, Buf::from_slice(&header.bytes())).await
    }

    /// Reads the header again, and forgets what was read of the file: another program may have appended to it.
    pub async fn read_again(&self) -> Result<()> {
        let file = self.order().file.node()?;
        let head = self.order().file.read(0, SECTOR.min(file.length())).await?;
        let (now, at_end) = super::open::hosted(&file, &head).await?;
        if now.with_directory(0) != self.header.with_directory(0) || now.directory == AT_END {
            let text = format!("'{}' has become another image; open it again", file.filename());
            return Err(BlockError::new(ErrorKind::Busy, text));
        }
        let directory = now.shape()?.directory;
        self.tail.lock().await.directory = directory;
        *self.has_footer.lock().await = at_end;
        self.tables.read_again(directory);
        self.decoded.clear();
        Ok(())
    }

    /// Loads the directory, and allows changes.
    pub async fn become_writable(&self) -> Result<()> {
        let shape = self.tables.shape;
        if shape.tables() > MOST_TABLES {
            return Err(BlockError::unsupported(
                "the stream has too many tables to be appended to; open it read-only",
            ));
        }
        let mut tail = self.tail.lock().await;
        let (len, file_len) = (shape.tables() * 4, self.tables.file_len());
        if self.tables.with_held(|_| ()).is_none() {
            self.tables.inside(tail.directory, len, "the grain directory")?;
            let directory = self.order().file.read(tail.directory, len).await?;
            self.tables.hold(Some(Le32::words(&directory).collect()));
        }
        let behind = (tail.directory + len).next_multiple_of(SECTOR);
        let ends_there = *self.has_footer.lock().await && behind + FOOTER_LEN == file_len;
        let after = if ends_there { behind } else { file_len.max(shape.first) };
        tail.end = after.next_multiple_of(SECTOR);
        self.order().access.allow(false);
        Ok(())
    }

    /// Before the first write after the file was opened: what is appended may take the footer's place.
    pub async fn first_write(&self) -> Result<()> {
        if !self.order().access.needs_header()? {
            return Ok(());
        }
        let step = async || {
            let mut has_footer = self.has_footer.lock().await;
            if *has_footer {
                self.write_header(self.tail.lock().await.directory / SECTOR).await?;
                self.order().file.flush().await?;
                *has_footer = false;
            }
            Ok(())
        };
        self.order().access.make_ready(step).await
    }

    /// Ends all changes: the stream gets its end.
    pub async fn end_changes(self: &Arc<Self>, in_time: bool) -> Result<()> {
        let end_stream = async || {
            let access = &self.order().access;
            let _turn = access.header_turn().await;
            if access.is_ready() {
                access.unready();
                self.end_stream().await?;
            }
            Ok(())
        };
        Order::end(self, in_time, end_stream).await
    }

    /// Appends the footer, and has the header say so.
    async fn end_stream(&self) -> Result<()> {
        let file = &self.order().file;
        let mut has_footer = self.has_footer.lock().await;
        let mut tail = self.tail.lock().await;
        // Behind a directory in front nothing was appended that a footer could follow.
        if *has_footer || tail.directory < self.tables.shape.first {
            return Ok(());
        }
        let footer = self.header.with_directory(tail.directory / SECTOR);
        let bytes = [marker(1, FOOTER), footer.bytes(), marker(0, END_OF_STREAM)].concat();
        file.write(tail.end, Buf::from_slice(&bytes)).await?;
        let node = file.node()?;
        let whole = tail.end + bytes.len() as u64;
        if node.length() > whole {
            node.driver().resize(whole, PreallocMode::Off).await?;
        }
        file.flush().await?;
        self.write_header(AT_END).await?;
        file.flush().await?;
        tail.end += bytes.len() as u64;
        *has_footer = true;
        Ok(())
    }

    /// A table to be changed, made where there is none.
    async fn table_to_change(&self, table: u64) -> Result<Arc<Page<Le32>>> {
        if let Some(page) = self.tables.table(table).await? {
            return Ok(page);
        }
        let _lease = self.order().pages.lease(table, table + 1, true).await;
        let words = std::iter::repeat_n(0, self.tables.shape.entries as usize);
        // One that was made meanwhile is answered.
        Ok(self.order().tables.insert(Page::new(table, 0, 0, words)))
    }
}
