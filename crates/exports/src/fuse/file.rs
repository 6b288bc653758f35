//! The exported node as a regular file: its length, its attributes, and what its users ask for.
//!
//! - Nothing is read or written beyond the end: what reaches beyond it is cut off there, as files do. Only a growable export
//!   grows by a write.
//! - Closing the file flushes as fsync does, since programs that write images may do no more than that.
//! - A file that is opened to be emptied (`O_TRUNC`) keeps its length, as a disk does; `truncate` changes it.
//! - Who does not write through the export can't open it for writing either, whoever he is.

use super::wire::{self, Attributes, Refused, Request, Wanted, attr, op};
use crate::export::ExportTerms;
use api::PreallocMode;
use block::{Backend, ErrorKind, Flags, Graph};
use futures_util::lock::Mutex as Lock;
use rt::Buf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};
use std::time::{SystemTime, UNIX_EPOCH};

/// Type bits of a regular file's mode.
const REGULAR: u32 = 0o100_000;
const WRITE_BITS: u32 = 0o222;
const OTHERS_BITS: u32 = 0o077;

/// Bits of a fallocate's mode.
mod mode {
    pub const KEEP_SIZE: u32 = 1;
    pub const PUNCH_HOLE: u32 = 2;
    pub const ZERO_RANGE: u32 = 16;
}

const SECTOR: u64 = 512;
const SEEK_DATA: u32 = 3;
const SEEK_HOLE: u32 = 4;
/// Access bits of the flags of an open.
const ACCESS: u32 = 3;

/// What a request is answered with.
pub(super) type Answer = Result<Vec<u8>, Refused>;

/// An exported node as a file.
pub(super) struct File {
    backend: Arc<Backend>,
    graph: Graph,
    id: String,
    writable: bool,
    writethrough: bool,
    growable: bool,
    /// Users other than this process's may use it.
    allow_other: bool,
    mode: AtomicU32,
    uid: AtomicU32,
    gid: AtomicU32,
    /// Seconds since 1970.
    changed: AtomicU64,
    /// Something was written since the last flush.
    dirty: AtomicBool,
    /// Held while the length changes: two writes beyond the end must not take turns in shortening it.
    length: Lock<()>,
    /// Held by a flush.
    flushing: Lock<()>,
    /// It is about to go: what takes long ends early.
    closing: AtomicBool,
}

impl File {
    pub fn new(terms: ExportTerms, growable: bool, allow_other: bool) -> Self {
        let ExportTerms { spec, backend, graph, .. } = terms;
        Self {
            backend,
            graph,
            id: spec.id,
            writable: spec.writable,
            writethrough: spec.writethrough,
            growable,
            allow_other,
            mode: AtomicU32::new(REGULAR | if spec.writable { 0o600 } else { 0o400 }),
            uid: AtomicU32::new(rt::fs::user()),
            gid: AtomicU32::new(rt::fs::group()),
            changed: AtomicU64::new(seconds()),
            dirty: AtomicBool::new(false),
            length: Lock::new(()),
            flushing: Lock::new(()),
            closing: AtomicBool::new(false),
        }
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn close(&self) {
        self.closing.store(true, Release);
    }

    pub fn is_closing(&self) -> bool {
        self.closing.load(Acquire)
    }

    /// How much of `len` bytes at `offset` is before the end.
    pub fn readable(&self, offset: u64, len: usize) -> usize {
        let left = self.backend.length().saturating_sub(offset);
        usize::try_from(left).map_or(len, |left| left.min(len))
    }

    /// Reads without waiting, to the start of `buf`: how much there is.
    pub fn try_read(&self, offset: u64, buf: &mut [u8]) -> Result<usize, Refused> {
        match buf.is_empty() {
            true => Ok(0),
            false => Ok(self.backend.try_read(offset, buf)?),
        }
    }

    /// Reads all of the range, which is before the end.
    pub async fn read(&self, offset: u64, len: usize) -> Result<Buf, Refused> {
        let (buf, read) = self.backend.read(offset, rt::BufMut::with_len(len)).await;
        read?;
        Ok(buf.freeze())
    }

    /// Writes without waiting: how much was written. Nothing that has to be durable.
    pub fn try_write(&self, offset: u64, data: &[u8], durable: bool) -> Result<usize, Refused> {
        if !self.writable {
            return Err(Refused::ACCES);
        }
        // What reaches beyond the end, or has to be durable, waits.
        if durable || self.writethrough || data.is_empty() || self.readable(offset, data.len()) < data.len() {
            return Ok(0);
        }
        let written = self.backend.try_write(offset, data, block::Request::GUEST)?;
        if written > 0 {
            self.touch();
        }
        Ok(written)
    }

    /// Writes what is before the end, or all where the file may grow: how much was written.
    pub async fn write(&self, offset: u64, data: Buf, durable: bool) -> Result<usize, Refused> {
        let end = offset.checked_add(data.len() as u64).ok_or(Refused::FBIG)?;
        let durable = durable || self.writethrough;
        let grows = self.growable && end > self.backend.length();
        if grows {
            self.grow(end, PreallocMode::Off).await?;
        }
        let len = self.readable(offset, data.len());
        if len == 0 {
            // Programs try again after a write that has written nothing.
            return if data.is_empty() { Ok(0) } else { Err(Refused::IO) };
        }
        let request = block::Request::GUEST.with_if(durable, Flags::FUA);
        self.backend.write(offset, data.slice(..len), request).await?;
        self.touch();
        if durable && grows {
            // So is the length.
            self.flush().await?;
        }
        Ok(len)
    }

    /// Answers what is neither read nor written, nor answered at once ([`File::answer_now`]).
    pub async fn answer(&self, request: &Request) -> Answer {
        match request.opcode {
            op::SETATTR => self.set_attributes(request.wanted()).await,
            op::FSYNC | op::FLUSH => self.flush().await,
            op::FALLOCATE => self.allocate(request).await,
            op::LSEEK => self.seek(request.offset(), request.whence()).await,
            _ => Err(Refused::NOSYS),
        }
    }

    /// Answers what needs no waiting; nothing for other requests.
    pub fn answer_now(&self, request: &Request) -> Option<Answer> {
        Some(match request.opcode {
            op::INIT => request.init(),
            op::GETATTR => Ok(self.attributes().bytes()),
            op::OPEN if !self.writable && request.open_flags() & ACCESS != 0 => Err(Refused::ACCES),
            op::OPEN => Ok(wire::opened()),
            op::RELEASE | op::DESTROY => Ok(Vec::new()),
            op::STATFS => Ok(wire::file_system()),
            op::SETATTR | op::FSYNC | op::FLUSH | op::FALLOCATE | op::LSEEK => return None,
            // The kernel does without: locks and polls are its own then, and extended attributes do not exist.
            _ => Err(Refused::NOSYS),
        })
    }

    fn touch(&self) {
        self.dirty.store(true, Release);
        self.changed.store(seconds(), Relaxed);
    }

    fn attributes(&self) -> Attributes {
        let size = self.backend.length();
        Attributes {
            size,
            allocated: self.backend.node().allocated_size().unwrap_or(size),
            mode: self.mode.load(Relaxed),
            uid: self.uid.load(Relaxed),
            gid: self.gid.load(Relaxed),
            changed: self.changed.load(Relaxed),
        }
    }

    async fn set_attributes(&self, wanted: Wanted) -> Answer {
        let owner = if self.allow_other { attr::UID | attr::GID } else { 0 };
        let asked = wanted.valid & !attr::IGNORED;
        if asked & !(attr::MODE | attr::SIZE | owner) != 0 {
            return Err(Refused::OPNOTSUPP);
        }
        if asked & attr::MODE != 0 {
            if !self.writable && wanted.mode & WRITE_BITS != 0 {
                return Err(Refused::ROFS);
            }
            if !self.allow_other && wanted.mode & OTHERS_BITS != 0 {
                return Err(Refused::PERM);
            }
        }
        if asked & attr::SIZE != 0 {
            let _changing = self.length.lock().await;
            self.resize(wanted.size, PreallocMode::Off).await?;
        }
        let set = |bit, to: &AtomicU32, value| {
            if asked & bit != 0 {
                to.store(value, Relaxed);
            }
        };
        set(attr::MODE, &self.mode, REGULAR | wanted.mode & 0o7777);
        set(attr::UID, &self.uid, wanted.uid);
        set(attr::GID, &self.gid, wanted.gid);
        Ok(self.attributes().bytes())
    }

    /// Makes it at least so long.
    async fn grow(&self, end: u64, preallocation: PreallocMode) -> Result<(), Refused> {
        let _changing = self.length.lock().await;
        match end > self.backend.length() {
            true => self.resize(end, preallocation).await,
            false => Ok(()),
        }
    }

    /// With `length` held. An image that can only have whole sectors gets the next one.
    async fn resize(&self, size: u64, preallocation: PreallocMode) -> Result<(), Refused> {
        if !self.writable {
            return Err(Refused::ACCES);
        }
        let node = self.backend.node();
        if let Err(error) = self.graph.resize(&node, size, preallocation).await {
            let whole = size.checked_next_multiple_of(SECTOR).filter(|whole| *whole != size);
            match whole.filter(|_| error.kind() == ErrorKind::Invalid) {
                Some(whole) => self.graph.resize(&node, whole, preallocation).await?,
                None => return Err(error.into()),
            }
        }
        self.touch();
        Ok(())
    }

    /// Makes durable what was written through the file: nothing is to be done where that has been, by a flush that has ended.
    async fn flush(&self) -> Answer {
        let _flushing = self.flushing.lock().await;
        // Before the flush: what is written meanwhile is not part of it.
        if !self.dirty.swap(false, AcqRel) {
            return Ok(Vec::new());
        }
        if let Err(error) = self.backend.flush().await {
            self.dirty.store(true, Release);
            return Err(error.into());
        }
        Ok(Vec::new())
    }

    async fn allocate(&self, request: &Request) -> Answer {
        let (offset, (len, wanted)) = (request.offset(), request.length_and_mode());
        if !self.writable {
            return Err(Refused::ACCES);
        }
        let end = offset.checked_add(len).ok_or(Refused::FBIG)?;
        const PUNCH: u32 = mode::PUNCH_HOLE | mode::KEEP_SIZE;
        const ZERO_INSIDE: u32 = mode::ZERO_RANGE | mode::KEEP_SIZE;
        match wanted {
            0 => self.append(offset, end).await,
            PUNCH => self.zero(offset, end, block::Request::GUEST.with(Flags::MAY_UNMAP)).await,
            ZERO_INSIDE => self.zero(offset, end, block::Request::GUEST).await,
            mode::ZERO_RANGE => {
                self.grow(end, PreallocMode::Off).await?;
                self.zero(offset, end, block::Request::GUEST).await
            }
            _ => Err(Refused::OPNOTSUPP),
        }
    }

    /// Space can be had only behind the end: the file is made longer, with space for what was asked for.
    async fn append(&self, offset: u64, end: u64) -> Answer {
        let _changing = self.length.lock().await;
        let length = self.backend.length();
        if offset < length {
            return Err(Refused::OPNOTSUPP);
        }
        if offset > length {
            self.resize(offset, PreallocMode::Off).await?;
        }
        self.resize(end, PreallocMode::Falloc).await?;
        Ok(Vec::new())
    }

    /// Makes what is before the end read as zeroes.
    async fn zero(&self, offset: u64, end: u64, request: block::Request) -> Answer {
        let end = end.min(self.backend.length());
        if offset < end {
            let request = request.with_if(self.writethrough, Flags::FUA);
            self.backend.write_zeroes(offset, end - offset, request).await?;
            self.touch();
        }
        Ok(Vec::new())
    }

    /// The next data, or the next hole; the end is one.
    async fn seek(&self, from: u64, whence: u32) -> Answer {
        let wants_hole = match whence {
            SEEK_DATA => false,
            SEEK_HOLE => true,
            _ => return Err(Refused::INVAL),
        };
        let mut offset = from;
        loop {
            let length = self.backend.length();
            if offset >= length {
                return if wants_hole && from <= length {
                    Ok(wire::position(length))
                } else {
                    Err(Refused::NXIO)
                };
            }
            if self.is_closing() {
                return Err(Refused::IO);
            }
            let status = self.backend.status(offset, length - offset).await?;
            if wants_hole == (status.zero && !status.data) {
                return Ok(wire::position(offset));
            }
            offset += status.len;
        }
    }
}

/// Seconds since 1970.
fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
