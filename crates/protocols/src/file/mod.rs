//! `file`, `host_device`, `host_cdrom` and `host_floppy`: a regular file, or a block or character device of this machine.
//!
//! ```text
//! Node ─▶ FileDriver ─▶ rt::File  (data; replaced when the node turns writable or read-only)
//!                  └──▶ rt::File  (locks; read-only, stays open until the driver closes)
//! ```
//!
//! Laws:
//! - a read beyond the end gives zeroes: formats grow their file by writing behind its end;
//! - locks lie on a descriptor of their own, so that a reopen never gives them up;
//! - a durable write is one call where the system has it. It may be told of data that others wrote and the system lost, so its
//!   errors count as a failed sync's. Of a lack of space, another open file knows whether anything was lost;
//! - a FIFO, directory or socket is refused, never waited on.
mod create;
mod device;
mod lock;
mod open;
mod space;

use api::{
    BlockStatsSpecific, BlockStatsSpecificFile, BlockdevOptionsFile, ImageInfoSpecific,
    ImageInfoSpecificFile, OnOffAuto, PreallocMode,
};
use arc_swap::ArcSwap;
use block::{
    BlockError, ClaimPlace, Common, Driver, DriverInfo, DriverType, ErrorKind, Extent, ExtentKind, Facts,
    Flags, Identity, Open, Options, PLAIN, Perms, PlainNames, Reopened, Request, RequestLimits, Result,
    Source, Undo, Want,
};
use device::Kind;
use lock::Locks;
use parking_lot::Mutex;
use rt::{Allocate, BoxFuture, Buf, BufMut, File, FileExtent, Try};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};

/// The `file` driver.
pub const FILE: DriverType = DriverType {
    name: "file",
    prefixes: &["file:"],
    plain_names: PlainNames::Others,
    parse_filename: Some(open::parse_filename),
    adapt: Some(open::adapt),
    open: &Open(open::open_file),
    create: Some(&PLAIN),
    claim: Some(&ClaimPlace(create::claim_file)),
    create_options: create::FILE_OPTIONS,
    ..DriverType::PROTOCOL
};

/// The `host_device` driver.
pub const HOST_DEVICE: DriverType = DriverType {
    name: "host_device",
    prefixes: &["host_device:"],
    plain_names: PlainNames::Some(open::is_device),
    parse_filename: Some(open::parse_device_name),
    adapt: Some(open::adapt),
    open: &Open(open::open_device),
    create: Some(&PLAIN),
    create_options: create::DEVICE_OPTIONS,
    ..DriverType::PROTOCOL
};

/// The `host_cdrom` driver: a CD drive, with a disc in it or without.
pub const HOST_CDROM: DriverType = DriverType {
    name: "host_cdrom",
    prefixes: &["host_cdrom:"],
    plain_names: PlainNames::Some(rt::fs::is_cd_drive),
    parse_filename: Some(open::parse_device_name),
    adapt: Some(open::adapt),
    open: &Open(open::open_cd_drive),
    ..DriverType::PROTOCOL
};

/// The `host_floppy` driver: what programs of earlier days call a floppy drive. To today's systems it is a device as others.
pub const HOST_FLOPPY: DriverType = DriverType {
    name: "host_floppy",
    prefixes: &["host_floppy:"],
    plain_names: PlainNames::None,
    open: &Open(open::open_floppy_drive),
    ..HOST_DEVICE
};

/// A file or device that is open.
pub(crate) struct FileDriver {
    filename: String,
    /// Its name, good also after the process has changed its working directory.
    place: PathBuf,
    file: Arc<ArcSwap<File>>,
    /// O_DIRECT; changed only by a reopen.
    direct: AtomicBool,
    given: BlockdevOptionsFile,
    kind: Kind,
    /// Device and inode.
    identity: Identity,
    length: AtomicU64,
    locks: Option<Locks>,
    /// Fast zeroes were refused by this file system; not tried again.
    no_zero_range: AtomicBool,
    no_punch: AtomicBool,
    no_discard: AtomicBool,
    no_reserve: AtomicBool,
    /// The system has durable writes here: one has succeeded.
    writes_durably: AtomicBool,
    /// It has none; not tried again.
    no_durable_write: AtomicBool,
    discards: AtomicU64,
    failed_discards: AtomicU64,
    discarded_bytes: AtomicU64,
    /// The last extent that was looked up, from where, and after how many changes: block status asks in order.
    extent: Mutex<Option<(u64, u64, FileExtent)>>,
    /// Counts changes, each after it was made and before it is acknowledged: an extent looked up before it is not used.
    changes: AtomicU64,
}

impl FileDriver {
    fn new(
        given: BlockdevOptionsFile,
        kind: Kind,
        file: File,
        direct: bool,
        locks: Option<Locks>,
    ) -> Result<Self> {
        let filename = given.filename.clone();
        let what = || format!("Could not open '{filename}'");
        let stat = file.stat().map_err(|e| BlockError::os(what(), &e))?;
        let length = file.len().map_err(|e| BlockError::os(what(), &e))?;
        if i64::try_from(length).is_err() {
            return Err(BlockError::new(ErrorKind::Limit, format!("'{filename}' is larger than 2^63 bytes")));
        }
        Ok(Self {
            kind,
            place: PathBuf::from(rt::fs::absolute(&filename)),
            filename,
            file: Arc::new(ArcSwap::from_pointee(file)),
            direct: AtomicBool::new(direct),
            given,
            identity: Identity::of_file(&stat),
            length: AtomicU64::new(length),
            locks,
            no_zero_range: AtomicBool::new(false),
            no_punch: AtomicBool::new(false),
            no_discard: AtomicBool::new(false),
            no_reserve: AtomicBool::new(false),
            writes_durably: AtomicBool::new(false),
            no_durable_write: AtomicBool::new(false),
            discards: AtomicU64::new(0),
            failed_discards: AtomicU64::new(0),
            discarded_bytes: AtomicU64::new(0),
            extent: Mutex::new(None),
            changes: AtomicU64::new(0),
        })
    }

    /// The same file, opened once more for what is asked.
    async fn opened_anew(&self, writable: bool, direct: bool) -> Result<File> {
        open::reopen(&self.place, self.kind, &self.file(), &open::open_options(&self.given, writable, direct))
            .await
    }

    fn file(&self) -> File {
        File::clone(&self.file.load())
    }

    fn error(&self, what: &str, offset: u64, e: &std::io::Error) -> BlockError {
        let what = format!("{what} '{}' at {offset:#x} failed", self.filename);
        if self.is_device() { device::failed(what, e) } else { BlockError::os(what, e) }.at(offset)
    }

    fn grown(&self, end: u64) {
        self.length.fetch_max(end, AcqRel);
        self.changed();
    }

    fn changed(&self) {
        self.changes.fetch_add(1, AcqRel);
    }

    /// Writes what is durable when this returns, in one call where the system has it.
    async fn write_durably(&self, offset: u64, data: Buf) -> Result<()> {
        let file = self.file();
        let (_, result) = file.write_durably(offset, data.clone()).await;
        let error = match result {
            Ok(()) => {
                self.writes_durably.store(true, Relaxed);
                return Ok(());
            }
            Err(e) => self.error("writing", offset, &e),
        };
        let full = error.kind() == ErrorKind::NoSpace;
        if !full && !matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Invalid) {
            return Err(error);
        }
        // What was refused for another reason is refused again.
        let written = file.write(offset, data).await.1.map_err(|e| self.error("writing", offset, &e));
        let lost = |e: &dyn std::fmt::Display| {
            let text = format!("making '{}' durable at {offset:#x} failed: {e}", self.filename);
            BlockError::new(ErrorKind::Io, text).at(offset)
        };
        if full {
            // It may be the storage below that had no room for these data, or for earlier ones. Each open file is told of a
            // loss once: the one with the locks still tells.
            let witness = self.locks.as_ref().map_or(&file, Locks::file);
            witness.sync(true).await.map_err(|e| lost(&e))?;
            return written;
        }
        written?;
        if self.writes_durably.load(Relaxed) {
            // The write itself can be done: it was the sync that failed, for these data or for earlier ones.
            return Err(lost(&error.message()));
        }
        self.no_durable_write.store(true, Relaxed);
        file.sync(true).await.map_err(|e| lost(&e))
    }
}

impl Driver for FileDriver {
    fn facts(&self) -> Facts {
        Facts {
            alignment: self.file.load().alignment(),
            // Past the page cache a write and a sync were measured to be several times as fast (ext4).
            fua: !self.no_durable_write.load(Relaxed) && !self.direct.load(Relaxed),
            can_write_zeroes: !self.no_zero_range.load(Relaxed) || !self.no_punch.load(Relaxed),
            grows_with_zeroes: !self.is_device(),
            ..Facts::default()
        }
    }

    fn length(&self) -> u64 {
        self.length.load(Acquire)
    }

    fn map(&self, offset: u64, len: u64, want: Want) -> BoxFuture<'_, Result<Extent>> {
        Box::pin(async move {
            let whole = |kind| Ok(Extent { len, kind });
            let end = self.length();
            if want != Want::Status || self.is_device() {
                return whole(ExtentKind::Stored);
            }
            if offset >= end {
                return whole(ExtentKind::Zero { reserved: None });
            }
            let seen = self.changes.load(Acquire);
            let holds = |(after, start, e): &(u64, u64, FileExtent)| {
                *after == seen && (*start..e.end).contains(&offset)
            };
            let known = self.extent.lock().filter(holds).map(|(_, _, e)| e);
            let extent = match known {
                Some(extent) => extent,
                None => match self.file().extent(offset).await {
                    Ok(extent) => {
                        *self.extent.lock() = Some((seen, offset, extent));
                        extent
                    }
                    // If the file system can't tell, everything counts as data.
                    Err(_) => return whole(ExtentKind::Stored),
                },
            };
            // What was written behind the end meanwhile makes the last hole end there.
            let len = extent.end.max(offset + 1) - offset;
            let kind = if extent.data { ExtentKind::Stored } else { ExtentKind::Zero { reserved: None } };
            Ok(Extent { len, kind })
        })
    }

    fn try_read(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        // What fails may be looked into, which takes its time.
        if self.kind == Kind::CdDrive {
            return Ok(0);
        }
        match self.file.load().try_read(offset, buf) {
            Try::WouldBlock => Ok(0),
            Try::Done(Ok(got)) => {
                let end = offset + got as u64;
                if got < buf.len() && end >= self.length() {
                    buf[got..].fill(0);
                    return Ok(buf.len());
                }
                Ok(got)
            }
            Try::Done(Err(e)) => Err(self.error("reading", offset, &e)),
        }
    }

    fn try_write(&self, offset: u64, data: &[u8]) -> Result<usize> {
        match self.file.load().try_write(offset, data) {
            Try::WouldBlock => Ok(0),
            Try::Done(Ok(put)) => {
                let end = offset + put as u64;
                if end > self.length.load(Relaxed) {
                    self.grown(end);
                } else {
                    self.changed();
                }
                Ok(put)
            }
            Try::Done(Err(e)) => Err(self.error("writing", offset, &e)),
        }
    }

    fn read(&self, offset: u64, buf: BufMut) -> BoxFuture<'_, (BufMut, Result<()>)> {
        Box::pin(async move {
            if self.kind == Kind::CdDrive {
                return self.read_disc(offset, buf).await;
            }
            let (mut buf, result) = self.file().read(offset, buf).await;
            match result {
                Ok(got) if self.is_device() && offset + (got as u64) < self.length() && got < buf.len() => {
                    (buf, Err(self.has_shrunk(offset + got as u64)))
                }
                Ok(got) => {
                    buf[got..].fill(0);
                    (buf, Ok(()))
                }
                Err(e) => (buf, Err(self.error("reading", offset, &e))),
            }
        })
    }

    fn write(&self, offset: u64, data: Buf, request: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let beyond = match request.source() {
                Source::Padding { beyond } => u64::from(beyond),
                _ => 0,
            };
            let end = (offset + data.len() as u64).saturating_sub(beyond);
            let result = if request.has(Flags::FUA) {
                self.write_durably(offset, data).await
            } else {
                self.file().write(offset, data).await.1.map_err(|e| self.error("writing", offset, &e))
            };
            // A failed write may have grown the file too; what it is now is looked up.
            match &result {
                Ok(()) => self.grown(end),
                // A device grows by nobody's writes.
                Err(_) if self.is_device() => self.changed(),
                Err(_) if beyond > 0 => self.grown(self.file().len().unwrap_or(0).min(end)),
                Err(_) => self.grown(self.file().len().unwrap_or(0)),
            }
            result
        })
    }

    fn write_zeroes(&self, offset: u64, len: u64, request: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let end = offset + len;
            self.zero(offset, len, request).await?;
            if !self.is_device() && end > self.length() {
                // By a write of the last zeroes: unlike setting the length it never cuts off what another write has put behind.
                let last = u64::from(self.file.load().alignment()).min(len);
                let zeroes = BufMut::zeroed(last as usize).freeze();
                self.file().write(end - last, zeroes).await.1.map_err(|e| self.error("growing", end, &e))?;
                self.grown(end);
            }
            Ok(())
        })
    }

    fn discard(&self, offset: u64, len: u64, _: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let end = if self.is_device() { offset + len } else { (offset + len).min(self.length()) };
            if end <= offset {
                return Ok(());
            }
            match self.free(Allocate::Discard, &self.no_discard, offset, end - offset).await {
                Ok(()) => {
                    self.discards.fetch_add(1, Relaxed);
                    self.discarded_bytes.fetch_add(end - offset, Relaxed);
                    Ok(())
                }
                Err(e) => {
                    self.failed_discards.fetch_add(1, Relaxed);
                    // A discard is advice: a file system without holes ignores it.
                    if e.kind() == ErrorKind::Unsupported { Ok(()) } else { Err(e) }
                }
            }
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let result = self.file().sync(true).await;
            result.map_err(|e| BlockError::os(format!("flushing '{}' failed", self.filename), &e))
        })
    }

    fn resize(&self, size: u64, preallocation: PreallocMode) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if self.is_device() {
                return self.resize_device(size);
            }
            create::resize(&self.file(), &self.filename, self.length(), size, preallocation).await?;
            self.length.store(size, Release);
            self.changed();
            Ok(())
        })
    }

    fn set_writable(&self, writable: bool) -> BoxFuture<'_, Result<Undo>> {
        Box::pin(async move {
            if writable && self.kind == Kind::CdDrive {
                return Err(open::only_reads(&self.filename));
            }
            let file = self.opened_anew(writable, self.direct.load(Acquire)).await?;
            // Going back to the old descriptor can't fail.
            let (slot, old) = (self.file.clone(), self.file.swap(Arc::new(file)));
            Ok(Box::new(move || slot.store(old)) as Undo)
        })
    }

    fn reload<'a>(&'a self, _: &'a Common) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let length = self.file().len();
            let length =
                length.map_err(|e| BlockError::os(format!("'{}' can't be looked at", self.filename), &e))?;
            self.length.store(length, Release);
            self.changed();
            Ok(())
        })
    }

    fn reopen<'a>(&'a self, options: Options, common: &Common) -> BoxFuture<'a, Result<Reopened<'a>>> {
        let direct = common.direct;
        Box::pin(async move {
            let (given, old): (BlockdevOptionsFile, _) = (options.read()?, &self.given);
            open::check_aio(given.aio, direct)?;
            let locking = |locking: Option<OnOffAuto>| locking.unwrap_or(OnOffAuto::Auto);
            let changes = [
                ("filename", given.filename != old.filename),
                ("locking", given.locking.is_some() && locking(given.locking) != locking(old.locking)),
                ("aio", given.aio.is_some() && given.aio != old.aio),
            ];
            match changes.iter().find(|(_, changes)| *changes) {
                Some((name, _)) => Err(BlockError::invalid(format!(
                    "Cannot change the option '{name}' of '{}'",
                    self.filename
                ))),
                None => Ok(Box::new(|| {}) as Reopened<'a>),
            }
        })
    }

    fn reopen_direct(&self, direct: bool, writable: bool) -> BoxFuture<'_, Result<Reopened<'_>>> {
        Box::pin(async move {
            let file = Arc::new(self.opened_anew(writable, direct).await?);
            Ok(Box::new(move || {
                self.file.store(file);
                self.direct.store(direct, Release);
            }) as Reopened<'_>)
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if let Some(locks) = &self.locks {
                locks.release();
            }
            Ok(())
        })
    }

    fn set_perms(&self, perms: Perms) -> Result<()> {
        self.locks.as_ref().map_or(Ok(()), |locks| locks.set(perms))
    }

    fn allocated_size(&self) -> Option<u64> {
        self.file.load().stat().ok().map(|s| s.allocated)
    }

    fn identity(&self) -> Option<Identity> {
        Some(self.identity.clone())
    }

    fn info(&self) -> DriverInfo {
        if self.kind == Kind::CdDrive {
            return DriverInfo::default();
        }
        let specific = Some(ImageInfoSpecific::File(ImageInfoSpecificFile::default()));
        // Memory is to be aligned where requests are.
        let limits = RequestLimits { memory_alignment: Some(1), ..RequestLimits::default() };
        DriverInfo { dirty: Some(false), specific, limits, ..DriverInfo::default() }
    }

    fn statistics(&self) -> Option<BlockStatsSpecific> {
        let figures = BlockStatsSpecificFile {
            discard_nb_ok: self.discards.load(Relaxed),
            discard_nb_failed: self.failed_discards.load(Relaxed),
            discard_bytes_ok: self.discarded_bytes.load(Relaxed),
        };
        Some(match self.kind {
            Kind::Regular => BlockStatsSpecific::File(figures),
            Kind::Device => BlockStatsSpecific::HostDevice(figures),
            Kind::CdDrive => return None,
        })
    }
}

#[cfg(test)]
mod tests;
