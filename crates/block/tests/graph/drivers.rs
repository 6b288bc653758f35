//! Toy drivers: a disk in memory, an overlay that allocates by the sector, and a filter that is started when it is told how.
use api::codec::{Members, NoArguments};
use api::{DecodeError, Dict};
use block::*;
use parking_lot::Mutex;
use rt::{BoxFuture, Buf, BufMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::time::Duration;

const SECTOR: u64 = 512;

const fn driver(name: &'static str, kind: DriverKind, open: &'static dyn Opener) -> DriverType {
    let supports_backing = matches!(kind, DriverKind::Format);
    DriverType { name, kind, open, supports_backing, ..DriverType::FORMAT }
}

pub const DRIVERS: &[DriverType] = &[
    driver("mem", DriverKind::Protocol, &Open(open_memory)),
    driver("overlay", DriverKind::Format, &Open(open_overlay)),
    driver("starts", DriverKind::Filter, &Open(open_starts)),
];

struct Memory {
    bytes: Mutex<Vec<u8>>,
    slow: AtomicBool,
    fail_flush: bool,
    fua: bool,
    tells: bool,
}

/// What the memory that tells was last told to hold, and whether it refuses writers.
pub static TOLD: Mutex<Perms> = Mutex::new(Perms::IDLE);
pub static REFUSES: AtomicBool = AtomicBool::new(false);
/// How often overlays that count were asked what they need.
pub static ASKED: AtomicUsize = AtomicUsize::new(0);

/// What memory is opened with.
#[derive(Default)]
struct MemoryOptions {
    size: Option<u64>,
    slow: Option<bool>,
    fail_flush: Option<bool>,
    fua: Option<bool>,
    tells: Option<bool>,
}

impl api::codec::Object for MemoryOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            size: from.optional("size")?,
            slow: from.optional("slow")?,
            fail_flush: from.optional("fail-flush")?,
            fua: from.optional("fua")?,
            tells: from.optional("tells")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("size", &self.size);
        to.put_optional("slow", &self.slow);
        to.put_optional("fail-flush", &self.fail_flush);
        to.put_optional("fua", &self.fua);
        to.put_optional("tells", &self.tells);
    }
}

fn open_memory(_: &mut OpenContext, options: MemoryOptions) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let size = options.size.unwrap_or(1 << 20);
        let slow = AtomicBool::new(options.slow.unwrap_or(false));
        let fail_flush = options.fail_flush.unwrap_or(false);
        let fua = options.fua.unwrap_or(false);
        let tells = options.tells.unwrap_or(false);
        let driver = Memory { bytes: Mutex::new(vec![0; size as usize]), slow, fail_flush, fua, tells };
        Ok(Opened { driver: Arc::new(driver), filename: Some("mem:".to_owned()) })
    })
}

impl Memory {
    async fn pause(&self) {
        while self.slow.load(Acquire) {
            rt::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Driver for Memory {
    fn facts(&self) -> Facts {
        Facts { fua: self.fua, ..Facts::default() }
    }
    fn set_perms(&self, perms: Perms) -> Result<()> {
        if self.tells {
            let mut told = TOLD.lock();
            if REFUSES.load(Acquire) && perms.need.has(Share::WRITE) && !told.need.has(Share::WRITE) {
                return Err(BlockError::new(ErrorKind::Locked, "another process writes"));
            }
            *told = perms;
        }
        Ok(())
    }
    fn length(&self) -> u64 {
        self.bytes.lock().len() as u64
    }
    fn map(&self, _: u64, len: u64, _: Want) -> BoxFuture<'_, Result<Extent>> {
        Box::pin(async move { Ok(Extent { len, kind: ExtentKind::Stored }) })
    }
    /// A first sector comes without waiting.
    fn try_read(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let n = if self.slow.load(Acquire) { 0 } else { buf.len().min(SECTOR as usize) };
        let offset = offset as usize;
        buf[..n].copy_from_slice(&self.bytes.lock()[offset..offset + n]);
        Ok(n)
    }
    fn read(&self, offset: u64, buf: BufMut) -> BoxFuture<'_, (BufMut, Result<()>)> {
        Box::pin(async move {
            self.pause().await;
            let mut buf = buf;
            let end = offset as usize + buf.len();
            buf.copy_from_slice(&self.bytes.lock()[offset as usize..end]);
            (buf, Ok(()))
        })
    }
    fn write(&self, offset: u64, data: Buf, request: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.pause().await;
            self.bytes.lock()[offset as usize..offset as usize + data.len()].copy_from_slice(&data);
            if request.has(Flags::FUA) { self.flush().await } else { Ok(()) }
        })
    }
    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if self.fail_flush { Err(BlockError::new(ErrorKind::Io, "the disk broke")) } else { Ok(()) }
        })
    }
    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

/// A filter that is started when it is told how.
struct Starts(Filtered);

/// How it is to be started: not yet, well, or not at all.
pub static START: AtomicUsize = AtomicUsize::new(WAITS);
pub const WAITS: usize = 0;
pub const WELL: usize = 1;
pub const FAILS: usize = 2;

impl Driver for Starts {
    fn filtered(&self) -> Option<&Filtered> {
        Some(&self.0)
    }
    fn start<'a>(&'a self, _: &'a Common) -> BoxFuture<'a, Result<()>> {
        Box::pin(async {
            let _ = self.0.node()?.write(0, Buf::from_slice(b"started"), Request::DRIVER).await;
            while START.load(Acquire) == WAITS {
                rt::sleep(Duration::from_millis(1)).await;
            }
            match START.load(Acquire) {
                FAILS => Err(BlockError::invalid("it does not start")),
                _ => Ok(()),
            }
        })
    }
}

fn open_starts(context: &mut OpenContext, _: NoArguments) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async {
        let driver = Arc::new(Starts(context.filtered().await?));
        Ok(Opened { driver, filename: None })
    })
}

struct Overlay {
    edges: Arc<Edges>,
    child: ChildId,
    allocated: Arc<Mutex<Vec<bool>>>,
    /// What is needed of it, it needs of its children.
    lends: bool,
    counts: bool,
}

struct Publish {
    allocated: Arc<Mutex<Vec<bool>>>,
    sector: usize,
}

impl Token for Publish {
    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            self.allocated.lock()[self.sector] = true;
            Ok(())
        })
    }
}

/// What an overlay is opened with.
#[derive(Default)]
struct OverlayOptions {
    lends: Option<bool>,
    counts: Option<bool>,
}

impl api::codec::Object for OverlayOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { lends: from.optional("lends")?, counts: from.optional("counts")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("lends", &self.lends);
        to.put_optional("counts", &self.counts);
    }
}

fn open_overlay(context: &mut OpenContext, options: OverlayOptions) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let (child, file) = context.file().await?;
        context.backing(None).await?;
        let (lends, counts) = (options.lends.unwrap_or(false), options.counts.unwrap_or(false));
        let allocated = Arc::new(Mutex::new(vec![false; (file.length() / SECTOR) as usize]));
        Ok(Opened {
            driver: Arc::new(Overlay { edges: context.edges().clone(), child, allocated, lends, counts }),
            filename: None,
        })
    })
}

impl Driver for Overlay {
    fn facts(&self) -> Facts {
        Facts { mapping: true, ..Facts::default() }
    }
    fn length(&self) -> u64 {
        self.allocated.lock().len() as u64 * SECTOR
    }
    fn try_map(&self, offset: u64, len: u64, _: Want) -> Option<Extent> {
        let len = len.min(SECTOR - offset % SECTOR);
        let kind = match self.allocated.lock()[(offset / SECTOR) as usize] {
            true => ExtentKind::Data { child: self.child, offset, owned: true },
            false => ExtentKind::HOLE,
        };
        Some(Extent { len, kind })
    }
    fn map(&self, offset: u64, len: u64, want: Want) -> BoxFuture<'_, Result<Extent>> {
        let extent = self.try_map(offset, len, want);
        Box::pin(async move { extent.ok_or_else(|| BlockError::invalid("no extent")) })
    }
    fn prepare_write(
        &self,
        offset: u64,
        len: u64,
        _: MapChange,
        _: Request,
    ) -> BoxFuture<'_, Result<WritePlan>> {
        let head = offset % SECTOR;
        let len = len.min(SECTOR - head);
        let action =
            Action::Store { child: self.child, offset, head, tail: SECTOR - head - len, fresh: true };
        let token = Publish { allocated: self.allocated.clone(), sector: (offset / SECTOR) as usize };
        Box::pin(async move { Ok(WritePlan { len, action, token: Some(Box::new(token) as Box<dyn Token>) }) })
    }
    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { self.edges.need(self.child)?.flush().await })
    }
    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }
    fn child_perms(&self, child: &Edge, parents: Perms, read_only: bool) -> Perms {
        ASKED.fetch_add(usize::from(self.counts), Relaxed);
        if self.lends {
            return parents;
        }
        let share = Share::READ.union(Share::WRITE_UNCHANGED);
        match child.role().has(ChildRole::DATA) && !read_only {
            true => Perms { need: Share::READ.union(Share::WRITE).union(Share::RESIZE), share },
            _ => Perms { need: Share::READ, share },
        }
    }
}
