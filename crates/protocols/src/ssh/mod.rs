//! `ssh`: a file that an SSH server offers over SFTP.
//!
//! ```text
//! Node ─▶ SshDriver ─▶ RemoteFile ─▶ Connection (ids) ─▶ channel ─▶ russh ─▶ socket ─▶ server
//!                      (pieces, side by side)            └── the thread of SSH ──┘
//! ```
//!
//! Laws: when a server vanishes or stops answering, every request fails, those in flight and later ones, also a flush; the
//! node stays in the graph and reports it at each request, and only closing and opening it anew connects again. A flush
//! succeeds only where the server has made durable what it answered (`fsync@openssh.com`).
//!
//! Bounds: those of [`connection`]; nothing that a server says decides on memory.

mod account;
mod connection;
mod create;
mod file;
mod host_key;
mod inflight;
mod known_hosts;
mod location;
mod login;
mod receive;
#[cfg(test)]
mod tests;
mod thread;
mod transport;

use api::{BlockdevOptionsSsh, PreallocMode};
use arc_swap::ArcSwap;
use block::{
    BlockError, ClaimLocation, Common, Cut, Driver, DriverType, ErrorKind, Extent, ExtentKind, Facts,
    Identity, Open, OpenContext, Opened, Options, PLAIN, Reopened, Request, Result, Source, Undo, Want,
};
use connection::Connection;
use file::RemoteFile;
use location::Location;
use login::Keys;
use rt::{BoxFuture, Buf, BufMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The `ssh` driver.
pub(crate) const SSH: DriverType = DriverType {
    name: "ssh",
    prefixes: &["ssh:"],
    parse_filename: Some(location::parse_filename),
    adapt: Some(location::adapt),
    open: &Open(open),
    create: Some(&PLAIN),
    claim: Some(&ClaimLocation(create::claim)),
    create_options: &[block::CreateOption::SIZE],
    ..DriverType::PROTOCOL
};

fn open(context: &mut OpenContext, options: BlockdevOptionsSsh) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let (location, no_flush) = (Location::of(options)?, context.common().no_flush);
        let keys = Keys::find(context.objects(), &location.proof)?;
        let name = location.filename(context.asked());
        let connection = file::connect(&location, &keys, &name).await?;
        let mut opened = RemoteFile::open(&connection, &location.path, !context.common().read_only).await;
        let refused = |e: &BlockError| matches!(e.kind(), ErrorKind::Permission | ErrorKind::ReadOnly);
        if !context.common().read_only
            && opened.as_ref().is_err_and(refused)
            && context.fall_back_to_read_only()
        {
            opened = RemoteFile::open(&connection, &location.path, false).await;
        }
        let driver = match opened {
            Ok(file) => SshDriver::new(location, keys, connection.clone(), file, no_flush).await,
            Err(error) => Err(error),
        };
        match driver {
            Ok(driver) => Ok(Opened { driver: Arc::new(driver), filename: Some(name) }),
            Err(error) => {
                connection.close().await;
                Err(error)
            }
        }
    })
}

/// Looks at two files until they are taken for two.
const LOOKS: usize = 3;

struct SshDriver {
    location: Location,
    /// Kept, so that the objects are not deleted: the node's options name them.
    _keys: Keys,
    connection: Arc<Connection>,
    file: Arc<ArcSwap<RemoteFile>>,
    /// Bytes of the file.
    length: AtomicU64,
    /// It is a regular file: what it grows by is zero.
    regular: bool,
    /// Something was written.
    written: AtomicBool,
    /// Nothing has to be durable (`cache.no-flush`).
    no_flush: AtomicBool,
}

impl SshDriver {
    async fn new(
        location: Location,
        keys: Keys,
        connection: Arc<Connection>,
        file: RemoteFile,
        no_flush: bool,
    ) -> Result<Self> {
        let attributes = file.attributes().await?;
        let path = &location.path;
        if attributes.is_directory() {
            return Err(BlockError::invalid(format!("the remote file '{path}' is a directory")));
        }
        let size = attributes.size.filter(|size| i64::try_from(*size).is_ok());
        let size = size.ok_or_else(|| {
            BlockError::new(ErrorKind::Io, format!("the SSH server tells no size of '{path}' that can be"))
        })?;
        let regular = attributes.is_regular();
        Ok(Self {
            location,
            _keys: keys,
            connection,
            file: Arc::new(ArcSwap::from_pointee(file)),
            length: AtomicU64::new(size),
            regular,
            written: AtomicBool::new(false),
            no_flush: AtomicBool::new(no_flush),
        })
    }

    /// Whether another opening of the path is of the file that is open, as far as the protocol tells: size, owner, permissions and
    /// time of the last change. Somebody may change it between two looks.
    async fn is_same(&self, other: &RemoteFile) -> Result<bool> {
        let own = self.file.load_full();
        for _ in 0..LOOKS {
            let (now, there) = (own.attributes().await?, other.attributes().await?);
            if now == there {
                return Ok(there.size == Some(self.length()));
            }
        }
        Ok(false)
    }
}

impl Driver for SshDriver {
    fn facts(&self) -> Facts {
        Facts { grows_with_zeroes: self.regular, ..Facts::default() }
    }

    fn length(&self) -> u64 {
        self.length.load(Ordering::Acquire)
    }

    fn identity(&self) -> Option<Identity> {
        let Location { user, path, .. } = &self.location;
        Some(Identity::Served(format!("ssh://{user}@{}{path}", self.location.address())))
    }

    fn map(&self, _: u64, len: u64, _: Want) -> BoxFuture<'_, Result<Extent>> {
        // The protocol knows of no holes.
        Box::pin(async move { Ok(Extent { len, kind: ExtentKind::Stored }) })
    }

    fn reload<'a>(&'a self, _: &'a Common) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let size =
                self.file.load_full().attributes().await?.size.filter(|size| i64::try_from(*size).is_ok());
            let size = size
                .ok_or_else(|| BlockError::new(ErrorKind::Io, "the SSH server tells no size that can be"))?;
            self.length.store(size, Ordering::Release);
            Ok(())
        })
    }

    fn read(&self, offset: u64, mut buf: BufMut) -> BoxFuture<'_, (BufMut, Result<()>)> {
        Box::pin(async move {
            // What is asked for beyond the file reads as zeroes, as with files.
            let inside = self.length().saturating_sub(offset).min(buf.len() as u64) as usize;
            let front = buf.split_to(inside);
            let (mut front, result) = match front.is_empty() {
                true => (front, Ok(())),
                false => self.file.load_full().read(offset, front).await,
            };
            buf.fill(0);
            front.unsplit(buf);
            (front, result)
        })
    }

    fn write(&self, offset: u64, data: Buf, request: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let beyond = match request.source() {
                Source::Padding { beyond } => u64::from(beyond),
                _ => 0,
            };
            let end = (offset + data.len() as u64).saturating_sub(beyond);
            self.written.store(true, Ordering::Relaxed);
            self.file.load_full().write(offset, data).await.map_err(|error| error.at(offset))?;
            self.length.fetch_max(end, Ordering::AcqRel);
            Ok(())
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if !self.connection.version().fsync {
                let text = format!(
                    "the SSH server can't make durable what is written to '{}': it has no fsync@openssh.com \
                     (OpenSSH has it since 6.3); with cache.no-flush=on it is written without",
                    self.connection.name()
                );
                return Err(BlockError::unsupported(text));
            }
            self.file.load_full().sync().await
        })
    }

    fn cut(&self) -> Option<Cut<'_>> {
        Some(Box::new(|| self.connection.cut()))
    }

    fn resize(&self, size: u64, preallocation: PreallocMode) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if preallocation != PreallocMode::Off {
                return Err(BlockError::unsupported(format!(
                    "Unsupported preallocation mode '{preallocation}'"
                )));
            }
            self.written.store(true, Ordering::Relaxed);
            self.file.load_full().set_size(size).await?;
            self.length.store(size, Ordering::Release);
            Ok(())
        })
    }

    fn set_writable(&self, writable: bool) -> BoxFuture<'_, Result<Undo>> {
        Box::pin(async move {
            let path = &self.location.path;
            let file = RemoteFile::open(&self.connection, path, writable).await?;
            if !self.is_same(&file).await? {
                let text = format!(
                    "the remote file '{path}' is another one than it was, has another size, or is being changed"
                );
                return Err(BlockError::new(ErrorKind::Io, text));
            }
            if !writable && self.written.load(Ordering::Relaxed) && !self.no_flush.load(Ordering::Relaxed) {
                self.flush().await?;
            }
            let (current, before) = (self.file.clone(), self.file.swap(Arc::new(file)));
            Ok(Box::new(move || current.store(before)) as Undo)
        })
    }

    fn reopen<'a>(&'a self, options: Options, common: &Common) -> BoxFuture<'a, Result<Reopened<'a>>> {
        let no_flush = common.no_flush;
        Box::pin(async move {
            if Location::of(options.read()?)? != self.location {
                let text = format!("'{}' can't be exchanged for another file", self.connection.name());
                return Err(BlockError::invalid(text));
            }
            Ok(Box::new(move || self.no_flush.store(no_flush, Ordering::Relaxed)) as Reopened<'a>)
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.connection.close().await;
            Ok(())
        })
    }
}
