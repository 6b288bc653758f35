//! Files: what a file can do, as a trait that the operating system's files and the simulator's implement.
//!
//! Inline calls (`try_*`) answer at once or say that they would wait; the others are operations that live until the
//! kernel has finished them, whether or not somebody still waits. Offsets and lengths are bytes.

use std::io;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::BoxFuture;
use crate::buf::{Buf, BufMut};

/// The answer of an inline attempt.
#[derive(Debug)]
pub enum Try<T> {
    /// Answered at once.
    Done(io::Result<T>),
    /// It would wait: use the asynchronous call.
    WouldBlock,
}

/// How [`RawFile::allocate`] changes a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocate {
    /// Reserves space; the file grows to the end of the range.
    Reserve,
    /// Reserves space; the file keeps its length.
    ReserveKeepSize,
    /// Frees the range, which reads zero.
    PunchHole,
    /// Frees the range as advice. On a block device what it reads afterwards is up to the device; a file reads zero.
    Discard,
    /// Makes the range read zero, keeping it allocated where possible; the file keeps its length.
    ZeroRange,
}

/// How a file system may lay a file out, in what [`RawFile::set_layout`] asks of it. Only a file without data takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileLayout {
    /// Writes go in place also where the file system would copy (btrfs).
    NoCopyOnWrite,
    /// Space is reserved in pieces of so many bytes (XFS).
    ExtentSize(u32),
}

/// A run of bytes that are all data or all hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileExtent {
    /// Whether the file stores these bytes; a hole reads zero.
    pub data: bool,
    /// Offset of the first byte behind the run; beyond the offset asked for.
    pub end: u64,
}

/// What a name refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A block device.
    Block,
    /// A character device.
    Char,
    /// A directory.
    Directory,
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// Something else.
    Other,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// Made where it does not exist, with mode 0644 less the umask.
    pub create: bool,
    /// Made, and refused where it exists.
    pub create_new: bool,
    /// Truncated to length 0.
    pub truncate: bool,
    /// Past the page cache (`O_DIRECT`).
    pub direct: bool,
    /// Operations that wait are done by threads, also where there is a ring.
    pub threads: bool,
}

impl OpenOptions {
    /// For reading only.
    pub fn read_only() -> OpenOptions {
        OpenOptions { read: true, ..OpenOptions::default() }
    }

    /// For reading and writing.
    pub fn read_write() -> OpenOptions {
        OpenOptions { read: true, write: true, ..OpenOptions::default() }
    }
}

/// What is known of a file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStat {
    /// What it is.
    pub kind: FileKind,
    /// Length in bytes; of a block device its size where it was asked through an open file, else 0.
    pub len: u64,
    /// Bytes allocated on disk.
    pub allocated: u64,
    /// Device that holds it.
    pub dev: u64,
    /// Inode number there.
    pub ino: u64,
    /// The number of the device that it is, where it is one.
    pub rdev: u64,
    /// Permission bits and type, as in `st_mode`.
    pub mode: u32,
    /// When the content was last changed, in ns since 1970.
    pub modified_ns: i64,
    /// When the content, or anything else that is known of it, was last changed, in ns since 1970: nobody can set it back.
    pub changed_ns: i64,
}

/// What a CD drive says of its disc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disc {
    /// There is one, or the drive can't tell.
    Present,
    /// There is none.
    Missing,
    /// The tray is open.
    TrayOpen,
    /// The drive is not ready: it may be looking at a disc.
    NotReady,
}

/// An open file.
pub trait RawFile: Send + Sync + 'static {
    /// Reads at once what can be read without waiting. The count may be short; 0 is the end of the file.
    fn try_read(&self, off: u64, buf: &mut [u8]) -> Try<usize>;

    /// Writes at once what can be written without waiting. The count may be short.
    fn try_write(&self, off: u64, buf: &[u8]) -> Try<usize>;

    /// Fills `buf` from `off`; the count is short only at the end of the file.
    fn read(&self, off: u64, buf: BufMut) -> BoxFuture<'_, (BufMut, io::Result<usize>)>;

    /// Writes all of `buf` at `off`.
    fn write(&self, off: u64, buf: Buf) -> BoxFuture<'_, (Buf, io::Result<()>)>;

    /// Writes all of `buf` at `off`, durable when it returns, with what it takes to read it back (the length): one call of the
    /// system (`RWF_DSYNC`). `Unsupported` where there is none that is known to keep this promise; then nothing was written.
    /// An error may be that of data which others wrote, and no later sync tells of it again.
    fn write_durably(&self, off: u64, buf: Buf) -> BoxFuture<'_, (Buf, io::Result<()>)>;

    /// Makes what was written durable: `fdatasync` with `data_only`, else `fsync`.
    fn sync(&self, data_only: bool) -> BoxFuture<'_, io::Result<()>>;

    /// Reserves, frees or zeroes a range.
    fn allocate(&self, mode: Allocate, off: u64, len: u64) -> BoxFuture<'_, io::Result<()>>;

    /// Changes the file's length: cut off, or grown with zeroes.
    fn set_len(&self, len: u64) -> BoxFuture<'_, io::Result<()>>;

    /// Asks the file system for another way to lay the file out; an error where it has none, or not any more for this file.
    fn set_layout(&self, layout: FileLayout) -> io::Result<()> {
        let _ = layout;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes a range share the storage of a range of `source`: a copy that moves no bytes. An error where the file system does not
    /// do that, or not for these two. Ranges begin, and end, at blocks of the file system.
    fn share<'a>(
        &'a self,
        off: u64,
        source: &'a File,
        source_off: u64,
        len: u64,
    ) -> BoxFuture<'a, io::Result<()>> {
        let _ = (off, source, source_off, len);
        Box::pin(std::future::ready(Err(io::ErrorKind::Unsupported.into())))
    }

    /// What the CD drive that this is says of its disc; `Unsupported` where it is none.
    fn disc(&self) -> BoxFuture<'_, io::Result<Disc>> {
        Box::pin(std::future::ready(Err(io::ErrorKind::Unsupported.into())))
    }

    /// The system's own file, where it is one.
    fn descriptor(&self) -> Option<Arc<OwnedFd>> {
        None
    }

    /// Length in bytes; of a block device its size.
    fn len(&self) -> io::Result<u64>;

    /// Whether it has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }

    /// The run of data or hole that contains `off`, which must lie before the end of the file.
    fn extent(&self, off: u64) -> BoxFuture<'_, io::Result<FileExtent>>;

    /// What is known of the file.
    fn stat(&self) -> io::Result<FileStat>;

    /// What offsets, lengths and memory must be multiples of, in bytes: 1 unless the file is open with O_DIRECT.
    fn alignment(&self) -> u32;

    /// Locks bytes for this open file (not this process); `false` when another holds them. `len` 0: to the end.
    fn try_lock(&self, start: u64, len: u64, exclusive: bool) -> io::Result<bool>;

    /// Unlocks bytes.
    fn unlock(&self, start: u64, len: u64) -> io::Result<()>;

    /// Whether [`try_lock`](RawFile::try_lock) would succeed.
    fn test_lock(&self, start: u64, len: u64, exclusive: bool) -> io::Result<bool>;
}

/// A handle to an open file; clones share it.
#[derive(Clone)]
pub struct File(Arc<dyn RawFile>);

impl File {
    /// A handle to `file`.
    pub fn new(file: impl RawFile) -> File {
        File(Arc::new(file))
    }

    /// Reads exactly `n` bytes at `off`; `UnexpectedEof` where the file ends before.
    pub async fn read_exact(&self, off: u64, n: usize) -> io::Result<BufMut> {
        let (buf, got) = self.read(off, BufMut::with_len(n)).await;
        if got? < n {
            let text = format!("the file ends before byte {}", off.saturating_add(n as u64));
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        Ok(buf)
    }

    /// Writes all of `data` at `off`; copied only where it can't be written at once.
    pub async fn write_all(&self, mut off: u64, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            match self.try_write(off, data) {
                Try::Done(Ok(n)) if n > 0 => {
                    data = data.get(n..).unwrap_or_default();
                    off = off.saturating_add(n as u64);
                }
                Try::Done(Err(error)) => return Err(error),
                _ => return self.write(off, Buf::from_slice(data)).await.1,
            }
        }
        Ok(())
    }
}

impl Deref for File {
    type Target = dyn RawFile;

    fn deref(&self) -> &Self::Target {
        self.0.as_ref()
    }
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("File")
    }
}
