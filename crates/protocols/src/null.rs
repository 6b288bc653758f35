//! `null-co`, and `null-aio`, which is the same here: takes every write, keeps nothing. For measuring what is above it.
use api::{BlockdevOptionsNull, PreallocMode};
use block::{
    BlockError, Driver, DriverType, Extent, ExtentKind, Facts, Open, Opened, Opt, Options, Request, Result,
    Want, not_negative,
};
use rt::{BoxFuture, Buf, BufMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::time::Duration;

/// Size where none is given.
const DEFAULT_SIZE: u64 = 1 << 30;

/// The `null-co` driver.
pub const NULL_CO: DriverType = DriverType {
    name: "null-co",
    prefixes: &["null-co:"],
    parse_filename: Some(|name| is_named(name, "null-co://")),
    open: &Open(|_, options| open("null-co://", options)),
    ..DriverType::PROTOCOL
};

/// The `null-aio` driver.
pub const NULL_AIO: DriverType = DriverType {
    name: "null-aio",
    prefixes: &["null-aio:"],
    parse_filename: Some(|name| is_named(name, "null-aio://")),
    open: &Open(|_, options| open("null-aio://", options)),
    ..DriverType::PROTOCOL
};

fn is_named(name: &str, only: &str) -> Result<Options> {
    match name == only {
        true => Ok(Options::new()),
        false => Err(BlockError::invalid(format!("The only allowed filename for this driver is '{only}'"))),
    }
}

fn open<'a>(name: &'static str, options: BlockdevOptionsNull) -> BoxFuture<'a, Result<Opened>> {
    Box::pin(async move {
        let mut naming = Options::new();
        if let Some(size) = options.size {
            naming.set("size", Opt::Int(size));
        }
        if let Some(on) = options.read_zeroes {
            naming.set("read-zeroes", Opt::Bool(on));
        }
        let size = not_negative("size", options.size)?.unwrap_or(DEFAULT_SIZE);
        let latency = options.latency_ns.unwrap_or(0);
        if i64::try_from(latency).is_err() {
            return Err(BlockError::invalid("latency-ns is invalid: it must be less than 2^63"));
        }
        let latency = Duration::from_nanos(latency);
        let read_zeroes = options.read_zeroes.unwrap_or(false);
        if i64::try_from(size).is_err() {
            return Err(BlockError::invalid("size is larger than 2^63 bytes"));
        }
        let filename = naming.is_empty().then(|| name.to_owned());
        let driver = Null { size: AtomicU64::new(size), latency, read_zeroes, naming };
        Ok(Opened { driver: Arc::new(driver), filename })
    })
}

struct Null {
    size: AtomicU64,
    latency: Duration,
    read_zeroes: bool,
    /// What was said of the disk itself.
    naming: Options,
}

impl Null {
    fn wait(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if !self.latency.is_zero() {
                rt::sleep(self.latency).await;
            }
            Ok(())
        })
    }
}

impl Driver for Null {
    fn facts(&self) -> Facts {
        Facts { can_write_zeroes: true, ..Facts::default() }
    }

    fn length(&self) -> u64 {
        self.size.load(Relaxed)
    }

    fn naming_options(&self) -> Options {
        self.naming.clone()
    }

    fn map(&self, _: u64, len: u64, _: Want) -> BoxFuture<'_, Result<Extent>> {
        let kind = if self.read_zeroes { ExtentKind::Zero { reserved: None } } else { ExtentKind::Stored };
        Box::pin(async move { Ok(Extent { len, kind }) })
    }

    fn try_read(&self, _: u64, buf: &mut [u8]) -> Result<usize> {
        if !self.latency.is_zero() {
            return Ok(0);
        }
        // Without read-zeroes the content is unspecified; zeroes never show another request's bytes.
        buf.fill(0);
        Ok(buf.len())
    }

    fn try_write(&self, _: u64, data: &[u8]) -> Result<usize> {
        Ok(if self.latency.is_zero() { data.len() } else { 0 })
    }

    fn read(&self, _: u64, buf: BufMut) -> BoxFuture<'_, (BufMut, Result<()>)> {
        Box::pin(async move {
            let mut buf = buf;
            let result = self.wait().await;
            buf.fill(0);
            (buf, result)
        })
    }

    fn write(&self, _: u64, _: Buf, _: Request) -> BoxFuture<'_, Result<()>> {
        self.wait()
    }

    fn write_zeroes(&self, _: u64, _: u64, _: Request) -> BoxFuture<'_, Result<()>> {
        self.wait()
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        self.wait()
    }

    fn allocated_size(&self) -> Option<u64> {
        Some(0)
    }

    fn resize(&self, size: u64, _: PreallocMode) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.size.store(size, Relaxed);
            Ok(())
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}
