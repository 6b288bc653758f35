//! `rbd`: an image in a Ceph cluster, by librbd, which is loaded when the first one is opened.
//!
//! ```text
//! Node ─▶ RbdDriver ─▶ ceph::Image ─▶ Operation (future) ─▶ librbd ─▶ cluster
//!            └ waits (open, resize, snapshots, status, close) ─▶ a thread that may wait
//! ```
//!
//! Laws:
//! - a request that the cluster does not answer fails after the node's patience: librados ends it then, and if that does not come,
//!   nobody waits any longer. Its buffer stays librbd's until it has ended;
//! - a write behind the end makes the image larger, one such at a time;
//! - an encrypted image has the size that it shows: its header comes on top.
//!
//! Bounds: requests under way are bounded by those above; threads that wait are [`rt::blocking`]'s.
mod connect;
mod create;
mod encryption;
mod location;
mod snapshots;
mod turn;

use api::{
    BlockdevOptionsRbd, ImageInfoSpecific, ImageInfoSpecificRbd, PreallocMode, RbdImageEncryptionFormat,
};
use arc_swap::ArcSwapOption;
use block::{
    BlockError, ClaimLocation, Common, Driver, DriverInfo, DriverType, ErrorKind, Extent, ExtentKind, Facts,
    Flags, Identity, Open, OpenContext, Opened, Options, PLAIN, Reopened, Request, Result, Snapshots, Undo,
    Want,
};
use ceph::{Image, Operation};
use connect::Place;
use futures_util::lock::Mutex as AsyncMutex;
use parking_lot::Mutex;
use rt::{BoxFuture, Buf, BufMut};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::time::Duration;
use turn::Turns;

/// The `rbd` driver.
pub(crate) const RBD: DriverType = DriverType {
    name: "rbd",
    prefixes: &["rbd:"],
    parse_filename: Some(location::parse_filename),
    adapt: Some(location::adapt),
    open: &Open(open),
    create: Some(&PLAIN),
    claim: Some(&ClaimLocation(create::claim)),
    create_options: create::OPTIONS,
    ..DriverType::PROTOCOL
};

/// How much longer than librados we wait for its word that a request has failed.
const GRACE: Duration = Duration::from_secs(10);
/// Time between two looks whether an image that is to be closed is used still.
const AGAIN: Duration = Duration::from_millis(5);
/// How long block status is waited for.
const STATUS: Duration = Duration::from_secs(10);

fn open(context: &mut OpenContext, location: BlockdevOptionsRbd) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        if location.snapshot.is_some() && !context.common().read_only && !context.fall_back_to_read_only() {
            return Err(BlockError::new(ErrorKind::ReadOnly, "rbd snapshots are read-only"));
        }
        let place = Place::of(location, context.objects())?;
        let (read_only, cached) = (context.common().read_only, !context.common().direct);
        let driver = rt::blocking(move || RbdDriver::connect(place, read_only, cached)).await?;
        if driver.encryption.is_none() {
            driver.look_for_encryption().await;
        }
        Ok(Opened { driver: Arc::new(driver), filename: None })
    })
}

struct RbdDriver {
    /// `None` when it is closed.
    image: ArcSwapOption<Image>,
    /// As errors name it.
    name: String,
    location: BlockdevOptionsRbd,
    identity: Option<Identity>,
    /// Bytes that are shown.
    length: AtomicU64,
    /// Bytes of the header of what is encrypted, which are not shown.
    header: u64,
    object_size: u64,
    encryption: Option<RbdImageEncryptionFormat>,
    /// What a look at the content that is not decrypted says.
    seems_encrypted: Mutex<Option<RbdImageEncryptionFormat>>,
    writable: bool,
    snapshots: Mutex<Vec<ceph::Snapshot>>,
    growing: AsyncMutex<()>,
    /// Of those who ask for block status.
    turns: Turns,
    /// How long a request waits.
    patience: Option<Duration>,
}

impl RbdDriver {
    /// Connects and opens. Waits for the cluster.
    fn connect(place: Place, read_only: bool, cached: bool) -> Result<Self> {
        let connected = place.connect(cached)?;
        let opened = place.open(connected.pool, read_only)?;
        let name = location::shown(&place.location);
        let identity = connected.cluster_id.map(|id| Identity::Served(format!("{name} of cluster {id}")));
        Ok(Self {
            image: ArcSwapOption::from_pointee(opened.image),
            name,
            identity,
            length: AtomicU64::new(opened.size),
            header: opened.header,
            object_size: opened.object_size,
            encryption: place.encryption().map(encryption::told),
            location: place.location,
            seems_encrypted: Mutex::new(None),
            writable: opened.writable,
            snapshots: Mutex::new(opened.snapshots),
            growing: AsyncMutex::new(()),
            turns: Turns::default(),
            patience: connected.patience.map(|patience| patience + GRACE),
        })
    }

    /// Looks whether the image has the header of an encrypted one, only to tell so.
    async fn look_for_encryption(&self) {
        let head = BufMut::zeroed(encryption::MARK.min(self.length() as usize));
        if let (head, Ok(())) = self.read(0, head).await {
            *self.seems_encrypted.lock() = encryption::recognised(&head);
        }
    }

    fn image(&self) -> Result<Arc<Image>> {
        self.image
            .load_full()
            .ok_or_else(|| BlockError::new(ErrorKind::Closed, format!("'{}' is closed", self.name)))
    }

    fn error(&self, what: &str, e: &io::Error) -> BlockError {
        BlockError::os(format!("{what} '{}' failed", self.name), e)
    }

    /// Waits for an operation, as long as the node's patience lasts; `None`: it did not end, and keeps its buffer.
    async fn ended<B: Send + 'static>(&self, operation: Operation<B>) -> Option<(B, io::Result<u64>)> {
        match self.patience {
            Some(patience) => rt::timeout(patience, operation).await.ok(),
            None => Some(operation.await),
        }
    }

    async fn changed<B: Send + 'static>(
        &self,
        what: &str,
        offset: u64,
        operation: Operation<B>,
    ) -> Result<()> {
        match self.ended(operation).await {
            Some((_, Ok(_))) => Ok(()),
            Some((_, Err(e))) => Err(self.error(what, &e).at(offset)),
            None => Err(self.unanswered(what).at(offset)),
        }
    }

    fn unanswered(&self, what: &str) -> BlockError {
        let text = format!("{what} '{}' failed: the cluster did not answer in time", self.name);
        BlockError::new(ErrorKind::Timeout, text)
    }

    /// Calls what waits for the cluster on a thread that may wait, for as long as it takes.
    async fn waited<T, F>(&self, what: &str, call: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Image) -> io::Result<T> + Send + 'static,
    {
        let image = self.image()?;
        rt::blocking(move || call(&image)).await.map_err(|e| self.error(what, &e))
    }

    /// Makes the image show this many bytes.
    async fn set_size(&self, size: u64) -> Result<()> {
        let header = self.header;
        let result = self
            .waited("resizing", move |image| {
                if header > 0 {
                    // Some versions of librbd count the header as part of the size and some don't, and which do is not told. Asked
                    // for more than either means nothing that is to stay is cut off.
                    image.resize(size.saturating_add(header))?;
                    if image.size()? == size {
                        return Ok(size);
                    }
                }
                image.resize(size)?;
                image.size()
            })
            .await;
        self.length.store(result?, Release);
        Ok(())
    }

    /// Makes the image larger, if it is smaller.
    async fn grow(&self, end: u64) -> Result<()> {
        let _turn = self.growing.lock().await;
        if end > self.length() { self.set_size(end).await } else { Ok(()) }
    }
}

impl Driver for RbdDriver {
    fn facts(&self) -> Facts {
        Facts {
            cluster_size: Some(self.object_size),
            can_write_zeroes: self.image.load().as_ref().is_some_and(|image| image.library().writes_zeroes()),
            grows_with_zeroes: true,
            ..Facts::default()
        }
    }

    fn length(&self) -> u64 {
        self.length.load(Acquire)
    }

    fn identity(&self) -> Option<Identity> {
        self.identity.clone()
    }

    fn naming_options(&self) -> Options {
        location::naming_options(&self.location)
    }

    fn info(&self) -> DriverInfo {
        let encryption_format = self.encryption.or(*self.seems_encrypted.lock());
        DriverInfo {
            cluster_size: Some(self.object_size),
            dirty: Some(false),
            encrypted: self.encryption.is_some(),
            specific: Some(ImageInfoSpecific::Rbd(ImageInfoSpecificRbd { encryption_format })),
            snapshots: self.snapshots.lock().iter().map(snapshots::told).collect(),
            ..DriverInfo::default()
        }
    }

    fn snapshots(&self) -> Option<&dyn Snapshots> {
        Some(self)
    }

    fn map(&self, offset: u64, len: u64, want: Want) -> BoxFuture<'_, Result<Extent>> {
        Box::pin(async move {
            let end = self.length();
            if offset >= end {
                return Ok(Extent { len, kind: ExtentKind::Zero { reserved: None } });
            }
            let len = len.min(end - offset);
            let stored = Extent { len, kind: ExtentKind::Stored };
            // Objects of what is encrypted don't lie where the disk has their content.
            if want != Want::Status || self.encryption.is_some() {
                return Ok(stored);
            }
            // librbd has no other call for it than one that waits, also for a cluster that is gone.
            let image = self.image()?;
            let told = self.turns.call(STATUS, move || image.status(offset, len)).await;
            // What can't be told, or not in time, counts as data.
            Ok(match told {
                Some(Ok(Some(status))) if !status.data => {
                    Extent { len: status.len, kind: ExtentKind::Zero { reserved: None } }
                }
                Some(Ok(Some(status))) => Extent { len: status.len, ..stored },
                Some(Ok(None) | Err(_)) | None => stored,
            })
        })
    }

    fn read(&self, offset: u64, buf: BufMut) -> BoxFuture<'_, (BufMut, Result<()>)> {
        Box::pin(async move {
            let whole = buf.len();
            // What is behind the end reads as zeroes, as with files.
            let inside = self.length().saturating_sub(offset).min(whole as u64) as usize;
            let mut rest = buf;
            let front = rest.split_to(inside);
            rest.fill(0);
            if inside == 0 {
                return (rest, Ok(()));
            }
            let image = match self.image() {
                Ok(image) => image,
                Err(e) => return (joined(front, rest), Err(e)),
            };
            let operation = image.read(offset, front);
            drop(image);
            match self.ended(operation).await {
                Some((mut front, Ok(got))) => {
                    let got = usize::try_from(got).unwrap_or(inside).min(inside);
                    front[got..].fill(0);
                    (joined(front, rest), Ok(()))
                }
                Some((front, Err(e))) => (joined(front, rest), Err(self.error("reading", &e).at(offset))),
                None => (BufMut::zeroed(whole), Err(self.unanswered("reading").at(offset))),
            }
        })
    }

    fn write(&self, offset: u64, data: Buf, _: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let end = offset.saturating_add(data.len() as u64);
            if end > self.length() {
                self.grow(end).await?;
            }
            let operation = self.image()?.write(offset, data);
            self.changed("writing", offset, operation).await
        })
    }

    fn write_zeroes(&self, offset: u64, len: u64, request: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let end = offset.saturating_add(len);
            let image = self.image()?;
            if !image.library().writes_zeroes() {
                return Err(BlockError::unsupported("the installed librbd has no fast zeroes"));
            }
            if end > self.length() {
                self.grow(end).await?;
            }
            let zeroes = image.write_zeroes(offset, len, !request.has(Flags::MAY_UNMAP));
            drop(image);
            let operation = zeroes.map_err(|e| self.error("zeroing", &e).at(offset))?;
            self.changed("zeroing", offset, operation).await
        })
    }

    fn discard(&self, offset: u64, len: u64, _: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let len = len.min(self.length().saturating_sub(offset));
            if len == 0 {
                return Ok(());
            }
            let operation = self.image()?.discard(offset, len);
            self.changed("discarding from", offset, operation).await
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let operation = self.image()?.flush();
            match self.ended(operation).await {
                Some((_, result)) => result.map(drop).map_err(|e| self.error("flushing", &e)),
                None => Err(self.unanswered("flushing")),
            }
        })
    }

    fn resize(&self, size: u64, preallocation: PreallocMode) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if preallocation != PreallocMode::Off {
                let text = format!("Unsupported preallocation mode '{preallocation}'");
                return Err(BlockError::unsupported(text));
            }
            let _turn = self.growing.lock().await;
            self.set_size(size).await
        })
    }

    fn set_writable(&self, writable: bool) -> BoxFuture<'_, Result<Undo>> {
        Box::pin(async move {
            if writable && !self.writable {
                let text = match self.location.snapshot {
                    Some(_) => format!("'{}' is a snapshot: it can't be written to", self.name),
                    None => format!("'{}' was opened read-only: its user may not write", self.name),
                };
                return Err(BlockError::new(ErrorKind::ReadOnly, text));
            }
            Ok(Box::new(|| {}) as Undo)
        })
    }

    fn reload<'a>(&'a self, _: &'a Common) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let read_again = |image: &Image| {
                image.invalidate_cache()?;
                Ok((image.size()?, image.snapshots()?))
            };
            let (size, snapshots) = self.waited("reading again", read_again).await?;
            self.length.store(size, Release);
            *self.snapshots.lock() = snapshots;
            Ok(())
        })
    }

    fn reopen<'a>(&'a self, options: Options, _: &Common) -> BoxFuture<'a, Result<Reopened<'a>>> {
        Box::pin(async move {
            let location: BlockdevOptionsRbd = options.read()?;
            if location != self.location {
                let text = format!("'{}' can't be opened in another way: add another node", self.name);
                return Err(BlockError::invalid(text));
            }
            Ok(Box::new(|| {}) as Reopened<'a>)
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let Some(image) = self.image.swap(None) else { return Ok(()) };
            let closing = async {
                // A question that nobody waits for any more may use it still: its end is that of the image.
                let image = alone(image).await;
                rt::blocking(move || image.close()).await
            };
            let closed = match self.patience {
                Some(patience) => match rt::timeout(patience, closing).await {
                    Ok(closed) => closed,
                    Err(_) => return Err(self.unanswered("closing")),
                },
                None => closing.await,
            };
            closed.map_err(|e| self.error("closing", &e))
        })
    }
}

/// What is shared, when nobody else has it any more.
async fn alone<T>(mut shared: Arc<T>) -> T {
    loop {
        match Arc::try_unwrap(shared) {
            Ok(own) => return own,
            Err(others) => shared = others,
        }
        rt::sleep(AGAIN).await;
    }
}

fn joined(mut front: BufMut, back: BufMut) -> BufMut {
    front.unsplit(back);
    front
}
