//! `bochs`: growing disk images of Bochs ("redologs"), versions 1 and 2. They are only read.
//!
//! ```text
//!  │ header │ catalog: one u32 an extent of the disk │ bitmap, extent 0 │ bitmap, extent 1 │ …
//! ```
//!
//! A catalog entry is the number of the extent's place in the file, or says that there is none. A bit of the bitmap in front of an
//! extent says whether that sector was written; the others read as zeroes.
//!
//! Bounds: the catalog has at most 2^20 entries and is held in memory; an extent has at most 8 MiB, so that its bitmap has at most
//! 2 KiB; the last [`KEPT`] bitmaps are kept.
use crate::read_only;
use api::codec::NoArguments;
use block::{
    BlockError, ChildId, Common, Driver, DriverType, Edge, Edges, ErrorKind, Extent, ExtentKind, Facts,
    Glimpse, Node, Open, OpenContext, Opened, Perms, Result, Undo, Want,
};
use parking_lot::Mutex;
use rt::{BoxFuture, BufMut};
use std::collections::VecDeque;
use std::sync::Arc;

/// The `bochs` driver.
pub const BOCHS: DriverType =
    DriverType { name: "bochs", probe: Some(probe), open: &Open(open), ..DriverType::FORMAT };

const MAGIC: &[u8] = b"Bochs Virtual HD Image\0";
const HEADER: usize = 512;
const SECTOR: u64 = 512;
const NO_EXTENT: u32 = u32::MAX;
const MOST_ENTRIES: u32 = 1 << 20;
const MOST_EXTENT: u32 = 8 << 20;
/// Longest bitmap in bytes: that of the largest extent, or what a file has instead.
const MOST_BITMAP: u32 = 1 << 20;
/// Bitmaps that are kept.
const KEPT: usize = 256;

fn probe(seen: &Glimpse<'_>) -> u32 {
    let redolog = seen.head.starts_with(MAGIC)
        && stands_at(seen.head, 32, b"Redolog\0")
        && stands_at(seen.head, 48, b"Growing\0");
    let known = matches!(word(seen.head, 64), 0x0001_0000 | 0x0002_0000);
    if redolog && known { 100 } else { 0 }
}

fn stands_at(bytes: &[u8], at: usize, text: &[u8]) -> bool {
    bytes.get(at..).is_some_and(|rest| rest.starts_with(text))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u32::from_le_bytes(*word))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u64::from_le_bytes(*word))
}

fn open(context: &mut OpenContext, _: NoArguments) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        read_only::require(context)?;
        let (child, file) = context.file().await?;
        let (bytes, read) = file.read_or_zero(0, BufMut::with_len(HEADER)).await;
        read?;
        let header = Header::parse(&bytes).map_err(|e| {
            let error = BlockError::of(ErrorKind::Invalid, e).context("the Bochs header");
            error.about_file(&file.filename()).at(0)
        })?;
        let catalog = header.read_catalog(&file).await?;
        let bochs =
            Bochs { edges: context.edges().clone(), child, header, catalog, bitmaps: Mutex::default() };
        Ok(Opened { driver: Arc::new(bochs), filename: None })
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    /// Byte offset of the catalog.
    catalog: u64,
    entries: u32,
    /// Bytes of a bitmap in the file, whole sectors.
    bitmap: u64,
    /// Bytes of an extent.
    extent: u64,
    /// Virtual size in bytes.
    size: u64,
}

/// What is wrong with a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum HeaderError {
    #[error("the file does not begin as a growing image does")]
    Magic,
    #[error("version {0:#x} is not supported")]
    Version(u32),
    #[error("the catalog has {0} entries, more than {MOST_ENTRIES}")]
    Entries(u32),
    #[error("an extent has {0} bytes; it must be a power of two from 512 to {MOST_EXTENT}")]
    Extent(u32),
    #[error("a bitmap has {0} bytes, which can't be for extents of {1}")]
    Bitmap(u32, u32),
    #[error("the disk has {size} bytes, more than {entries} extents of {extent} hold")]
    Size { size: u64, entries: u32, extent: u32 },
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        if !bytes.starts_with(MAGIC)
            || !stands_at(bytes, 32, b"Redolog\0")
            || !stands_at(bytes, 48, b"Growing\0")
        {
            return Err(HeaderError::Magic);
        }
        let size = match word(bytes, 64) {
            0x0001_0000 => long(bytes, 84),
            0x0002_0000 => long(bytes, 88),
            other => return Err(HeaderError::Version(other)),
        };
        let (entries, bitmap, extent) = (word(bytes, 72), word(bytes, 76), word(bytes, 80));
        if entries > MOST_ENTRIES {
            return Err(HeaderError::Entries(entries));
        }
        if !extent.is_power_of_two() || !(SECTOR as u32..=MOST_EXTENT).contains(&extent) {
            return Err(HeaderError::Extent(extent));
        }
        let extent_len = u64::from(extent);
        if u64::from(bitmap) * 8 < extent_len / SECTOR || bitmap > MOST_BITMAP {
            return Err(HeaderError::Bitmap(bitmap, extent));
        }
        let whole = size.checked_next_multiple_of(SECTOR);
        let size = whole
            .filter(|size| *size <= u64::from(entries) * extent_len)
            .ok_or(HeaderError::Size { size, entries, extent })?;
        let bitmap = u64::from(bitmap).next_multiple_of(SECTOR);
        Ok(Self { catalog: word(bytes, 68).into(), entries, bitmap, extent: extent_len, size })
    }

    /// Entries of the catalog for which there is something of the disk.
    fn extents(&self) -> u64 {
        self.size.div_ceil(self.extent)
    }

    async fn read_catalog(&self, file: &Node) -> Result<Vec<u32>> {
        let end = self.catalog + u64::from(self.entries) * 4;
        if end > file.length() {
            let text = format!("the catalog ends at {end:#x}, beyond the end of the file");
            return Err(BlockError::corrupt(text).about_file(&file.filename()).at(self.catalog));
        }
        let (bytes, read) = file.read(self.catalog, BufMut::with_len(self.extents() as usize * 4)).await;
        read.map_err(|e| e.context("reading the catalog"))?;
        Ok(bytes.as_chunks().0.iter().map(|entry| u32::from_le_bytes(*entry)).collect())
    }

    /// Byte offset in the file of the bitmap of a place.
    fn place(&self, entry: u32) -> u64 {
        self.catalog + u64::from(self.entries) * 4 + u64::from(entry) * (self.bitmap + self.extent)
    }
}

/// An open image.
struct Bochs {
    edges: Arc<Edges>,
    child: ChildId,
    header: Header,
    catalog: Vec<u32>,
    /// The bitmaps that were read last, by their places.
    bitmaps: Mutex<VecDeque<(u32, Arc<[u8]>)>>,
}

impl Bochs {
    async fn bitmap(&self, entry: u32) -> Result<Arc<[u8]>> {
        let known =
            self.bitmaps.lock().iter().find(|(known, _)| *known == entry).map(|(_, bits)| bits.clone());
        if let Some(bits) = known {
            return Ok(bits);
        }
        let (file, at) = (self.edges.need(self.child)?, self.header.place(entry));
        if at >= file.length() {
            let text = format!("a catalog entry leads to offset {at:#x}, beyond the end of the file");
            return Err(BlockError::corrupt(text).about_file(&file.filename()));
        }
        let len = (self.header.extent / SECTOR).div_ceil(8) as usize;
        let (bytes, read) = file.read_or_zero(at, BufMut::with_len(len)).await;
        read?;
        let bits: Arc<[u8]> = Arc::from(&*bytes);
        let mut bitmaps = self.bitmaps.lock();
        bitmaps.truncate(KEPT - 1);
        bitmaps.push_front((entry, bits.clone()));
        Ok(bits)
    }

    async fn find(&self, offset: u64, len: u64) -> Result<Extent> {
        let Header { extent, bitmap, .. } = self.header;
        let (index, within) = ((offset / extent) as usize, offset % extent);
        let entries = self.catalog.get(index..).unwrap_or_default();
        let holes = entries.iter().take_while(|entry| **entry == NO_EXTENT).count() as u64;
        let zero = ExtentKind::Zero { reserved: None };
        let entry = match entries.first() {
            Some(entry) if holes == 0 => *entry,
            _ => return Ok(Extent { len: len.min((holes.max(1)) * extent - within), kind: zero }),
        };
        let bits = self.bitmap(entry).await?;
        let written =
            |sector: u64| bits.get((sector / 8) as usize).is_some_and(|byte| byte >> (sector % 8) & 1 == 1);
        let first = within / SECTOR;
        let is_data = written(first);
        let alike = (first..extent / SECTOR).take_while(|sector| written(*sector) == is_data).count() as u64;
        let len = len.min((first + alike) * SECTOR - within);
        if !is_data {
            return Ok(Extent { len, kind: zero });
        }
        let (file, place) = (self.edges.need(self.child)?, self.header.place(entry) + bitmap + within);
        if place.checked_add(len).is_none_or(|end| end > file.length()) {
            let text = format!("the extent at {place:#x} ends beyond the end of the file");
            return Err(BlockError::corrupt(text).about_file(&file.filename()));
        }
        Ok(Extent { len, kind: ExtentKind::Data { child: self.child, offset: place, owned: false } })
    }
}

impl Driver for Bochs {
    fn facts(&self) -> Facts {
        Facts { mapping: true, ..Facts::default() }
    }

    fn length(&self) -> u64 {
        self.header.size
    }

    fn try_map(&self, _: u64, _: u64, _: Want) -> Option<Extent> {
        None
    }

    fn map(&self, offset: u64, len: u64, _: Want) -> BoxFuture<'_, Result<Extent>> {
        Box::pin(self.find(offset, len))
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn set_writable(&self, writable: bool) -> BoxFuture<'_, Result<Undo>> {
        read_only::set_writable(writable)
    }

    fn reload<'a>(&'a self, _: &'a Common) -> BoxFuture<'a, Result<()>> {
        self.bitmaps.lock().clear();
        Box::pin(async { Ok(()) })
    }

    fn child_perms(&self, _: &Edge, _: Perms, _: bool) -> Perms {
        // The catalog is held in memory: nobody writes.
        read_only::child_perms()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(words: &[(usize, u32)]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        bytes[..MAGIC.len()].copy_from_slice(MAGIC);
        bytes[32..39].copy_from_slice(b"Redolog");
        bytes[48..55].copy_from_slice(b"Growing");
        let all = [(64, 0x0002_0000), (68, 512), (72, 512), (76, 1), (80, 4096), (88, 1_032_192)];
        for (at, word) in all.iter().chain(words) {
            bytes[*at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn both_versions_are_read() {
        let new = Header::parse(&header(&[])).unwrap();
        assert_eq!(
            (new.catalog, new.entries, new.bitmap, new.extent, new.size),
            (512, 512, 512, 4096, 1_032_192)
        );
        let old = Header::parse(&header(&[(64, 0x0001_0000), (88, 0), (84, 1_032_192)])).unwrap();
        assert_eq!(old, new);
        assert_eq!(new.place(2), 512 + 2048 + 2 * (512 + 4096));
    }

    #[test]
    fn what_can_t_be_is_refused() {
        for (at, word) in
            [(0, 0), (64, 3), (72, 1 << 30), (72, 16), (76, 0), (80, 0), (80, 1 << 31), (80, 5000), (92, 1)]
        {
            assert!(Header::parse(&header(&[(at, word)])).is_err(), "{word:#x} at {at}");
        }
    }
}
