//! What was written to a disk, in a temporary file without a name, as large as the disk and sparse.
//!
//! Bounds: three bits for each sector in memory at most, and the disk's size in `$TMPDIR` or `/var/tmp`.
use super::bits::Bits;
use super::layout::{Layout, SECTOR};
use super::volume::{Span, Volume};
use block::{BlockError, Result};
use rt::Buf;
use rt::file::{Allocate, File, OpenOptions, Try};
use std::ops::Range;

pub struct Overlay {
    file: File,
    layout: Layout,
    /// Sectors that are here.
    written: Bits,
    /// Those of them that guests wrote since the folder was changed last.
    fresh: Bits,
    /// Sectors of which the folder was made: first sectors, tables, folders and files. What is written elsewhere changes nothing yet.
    watched: Bits,
}

impl Overlay {
    pub async fn new(layout: &Layout) -> Result<Self> {
        let (path, made) = rt::fs::make_temporary(".vvfat");
        let failed = |e: std::io::Error| {
            BlockError::os(format!("could not make the temporary file '{}'", path.display()), &e)
        };
        made.map_err(failed)?;
        let opened = rt::fs::open(&path, &OpenOptions::read_write()).await;
        // Open or not, nobody needs the name: the open file lives on without it.
        let removed = rt::fs::unlink(&path).await;
        let file = opened.map_err(failed)?;
        removed.map_err(failed)?;
        file.set_len(layout.sectors * SECTOR).await.map_err(failed)?;
        let bits = || Bits::new(layout.sectors);
        Ok(Self { file, layout: *layout, written: bits(), fresh: bits(), watched: bits() })
    }

    /// Whether the byte lies here, and for how many bytes from it on this is so, of `len`.
    pub fn has(&self, at: u64, len: u64) -> (bool, u64) {
        let sector = at / SECTOR;
        let alike = self.written.alike(sector..(at + len).div_ceil(SECTOR));
        (self.written.get(sector), ((sector + alike) * SECTOR - at).min(len))
    }

    pub fn try_read(&self, at: u64, buf: &mut [u8]) -> Result<usize> {
        match self.file.try_read(at, buf) {
            Try::Done(read) => read.map_err(|e| failed("reading", at, &e)),
            Try::WouldBlock => Ok(0),
        }
    }

    pub async fn read(&self, at: u64, len: usize) -> Result<rt::BufMut> {
        self.file.read_exact(at, len).await.map_err(|e| failed("reading", at, &e))
    }

    /// Writes what can be written without waiting, in whole sectors: how many bytes.
    pub fn try_write(&self, at: u64, data: &[u8]) -> Result<usize> {
        match self.file.try_write(at, data) {
            Try::Done(Ok(written)) => {
                let whole = written as u64 / SECTOR * SECTOR;
                self.note(at, whole);
                Ok(whole as usize)
            }
            Try::Done(Err(e)) => Err(failed("writing", at, &e)),
            Try::WouldBlock => Ok(0),
        }
    }

    pub async fn write(&self, at: u64, data: Buf) -> Result<()> {
        let len = data.len() as u64;
        self.file.write(at, data).await.1.map_err(|e| failed("writing", at, &e))?;
        self.note(at, len);
        Ok(())
    }

    /// Zeroes without storing them, where the file system can do that.
    pub async fn write_zeroes(&self, at: u64, len: u64) -> Result<()> {
        match self.file.allocate(Allocate::PunchHole, at, len).await {
            Err(e) if e.kind() == std::io::ErrorKind::Unsupported => {
                return Err(BlockError::unsupported("no fast zeroes here"));
            }
            done => done.map_err(|e| failed("writing", at, &e))?,
        }
        self.note(at, len);
        Ok(())
    }

    /// Keeps what the disk shows already.
    pub async fn keep(&self, at: u64, data: &[u8]) -> Result<()> {
        self.file.write_all(at, data).await.map_err(|e| failed("writing", at, &e))?;
        self.written.set(sectors(at, data.len() as u64));
        Ok(())
    }

    fn note(&self, at: u64, len: u64) {
        let sectors = sectors(at, len);
        self.written.set(sectors.clone());
        self.fresh.set(sectors);
    }

    /// Whether a change of these bytes may be one of the folder.
    pub fn is_watched(&self, at: u64, len: u64) -> bool {
        self.watched.any(sectors(at, len))
    }

    /// Has any change count, until the folder is settled: what a disk lacks to be a sound file system may be written anywhere.
    pub fn watch_all(&self) {
        self.watched.set(0..self.layout.sectors);
    }

    /// Whether guests wrote to some clusters since the folder was changed last.
    pub fn is_fresh(&self, span: Span) -> bool {
        let bytes = self.layout.bytes_of(span);
        self.fresh.any(sectors(bytes.start, bytes.end - bytes.start))
    }

    /// Takes note that the folder is what this volume says.
    pub fn settled(&self, volume: &Volume) {
        self.fresh.clear();
        self.watched.clear();
        self.watched.set(0..self.layout.data());
        for cluster in volume.in_use() {
            let bytes = self.layout.bytes_of(Span { first: cluster, clusters: 1 });
            self.watched.set(sectors(bytes.start, bytes.end - bytes.start));
        }
    }
}

fn sectors(at: u64, len: u64) -> Range<u64> {
    at / SECTOR..(at + len).div_ceil(SECTOR)
}

fn failed(doing: &str, at: u64, e: &std::io::Error) -> BlockError {
    BlockError::from_io(e).context(format!("{doing} the temporary file of what was written")).at(at)
}
