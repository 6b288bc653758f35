//! `nfs`: a file of an NFS server (version 3, over TCP).
//!
//! ```text
//! Node ─▶ NfsDriver ─▶ Link ─▶ Connection (numbers of calls) ─▶ socket ─▶ server
//!             └▶ Ahead (reads in order, if asked for)
//! ```
//!
//! Requests are cut to what the server takes, and the pieces are under way side by side. Data are received into the caller's buffer
//! and sent from it. Nothing is locked: version 3 has no locks of its own, and QEMU takes none either.
//!
//! Laws: what was acknowledged is written again where the server may have lost it, before anybody reads over another connection; a
//! flush fails where it can't be ([`link`]). What is behind the end of the file reads as zeroes.
//!
//! Bounds: those of [`connection`], [`unflushed`] and [`ahead`]; pieces of at most [`MOST`] bytes.

mod ahead;
mod connection;
mod create;
mod link;
mod location;
mod mount;
mod progress;
mod receive;
#[cfg(test)]
mod tests;
mod unflushed;

use crate::way::Connection as _;
use ahead::Ahead;
use api::{BlockdevOptionsNfs, PreallocMode};
use block::{
    BlockError, ClaimLocation, Common, Cut, Driver, DriverType, ErrorKind, Extent, ExtentKind, Facts, Flags,
    Identity, Open, OpenContext, Opened, Options, PLAIN, Reopened, Request, Result, Source, Undo, Want,
};
use connection::Patience;
use connection::Peer;
use futures_util::future::join_all;
use link::Link;
use location::{Location, READAHEAD_MOST, Settings};
use mount::{FoundFile, Server};
use nfs::v3::{self, Attributes, NewAttributes, Outcome, Stability, access};
use progress::Progress;
use rt::net::Dial;
use rt::{BoxFuture, Buf, BufMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};

/// Most bytes of a read or write at a time, whatever the server takes.
const MOST: usize = 1 << 20;
/// Fewest, whatever it says: it may always answer that it took less.
const LEAST: usize = 4096;

/// The `nfs` driver.
pub(crate) const NFS: DriverType = DriverType {
    name: "nfs",
    prefixes: &["nfs:"],
    parse_filename: Some(location::parse_filename),
    adapt: Some(location::adapt),
    open: &Open(open),
    create: Some(&PLAIN),
    claim: Some(&ClaimLocation(create::claim)),
    create_options: create::OPTIONS,
    ..DriverType::PROTOCOL
};

fn open(context: &mut OpenContext, options: BlockdevOptionsNfs) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let (location, mut settings) = Location::of(options)?;
        if settings.readahead > 0 && context.common().direct {
            let text = "nothing can be read ahead with cache.direct=on: leave 'readahead-size' out";
            return Err(BlockError::invalid(text));
        }
        if settings.readahead > READAHEAD_MOST {
            let name = location.filename();
            context.notices().warn(&format!("'{name}': at most {READAHEAD_MOST} bytes are read ahead"));
            settings.readahead = READAHEAD_MOST;
        }
        let peer = dialled(&location, &settings, Patience::default());
        let driver = NfsDriver::open(location, settings, peer).await?;
        driver.need_readable().await?;
        if !context.common().read_only
            && let Err(error) = driver.need_writable().await
            && !context.fall_back_to_read_only()
        {
            return Err(error);
        }
        let filename = Some(driver.link.name().to_owned());
        Ok(Opened { driver: Arc::new(driver), filename })
    })
}

/// How the server of a location is spoken to.
fn dialled(location: &Location, settings: &Settings, patience: Patience) -> Peer {
    Peer {
        host: location.host.clone(),
        credential: location.credential(),
        // Servers ask for a privileged port unless they are told not to (`insecure`).
        dial: Dial { privileged: true, syn_count: settings.syn_count },
        portmapper: nfs::portmap::PORT,
        patience,
        name: location.filename().into(),
    }
}

/// What a procedure answers, or its status as an error.
fn reply<T, F>(result: Result<Outcome<T, F>>) -> Result<T> {
    match result?.0 {
        Ok(done) => Ok(done),
        Err((status, _)) => Err(BlockError::os(status, &std::io::Error::from_raw_os_error(status.errno()))),
    }
}

/// What is known of the file's size, in bytes.
#[derive(Default)]
struct Size {
    /// Its content's.
    length: AtomicU64,
    /// On the server's disk.
    used: AtomicU64,
}

struct NfsDriver {
    link: Arc<Link>,
    location: Location,
    settings: Settings,
    size: Arc<Size>,
    identity: Identity,
    /// Most bytes of a read, and of a write.
    read_most: usize,
    write_most: usize,
    ahead: Option<Ahead>,
}

impl NfsDriver {
    async fn open(location: Location, settings: Settings, peer: Peer) -> Result<Self> {
        let server = Server::new(location.clone(), peer);
        let FoundFile { handle, attributes, info, connection } = server.find().await?;
        let size = Arc::new(Size::default());
        if i64::try_from(attributes.size).is_err() {
            connection.leave();
            let text = format!("'{}' is larger than 2^63 bytes", location.filename());
            return Err(BlockError::new(ErrorKind::Limit, text));
        }
        size.length.store(attributes.size, Release);
        size.used.store(attributes.used, Relaxed);
        let (file_system, number) = (attributes.file_system, attributes.number);
        let identity = format!("nfs://{}/{file_system:x}/{number:x}", location.host);
        let seen = {
            let size = size.clone();
            move |attributes: &Attributes| size.used.store(attributes.used, Relaxed)
        };
        let link = Link::new(server, location.filename(), (handle, connection), settings.reconnect, seen);
        let most = |most: u32| (most as usize).clamp(LEAST, MOST) / LEAST * LEAST;
        let (read_most, write_most) = (most(info.read_most), most(info.write_most));
        let ahead = (settings.readahead > 0).then(|| Ahead::new(settings.readahead as usize));
        Ok(Self {
            link,
            location,
            settings,
            size,
            identity: Identity::Served(identity),
            read_most,
            write_most,
            ahead,
        })
    }

    /// Refuses a file that the server does not let this user read.
    async fn need_readable(&self) -> Result<()> {
        self.need(access::READ, "read").await
    }

    /// Refuses a file that the server does not let this user change.
    async fn need_writable(&self) -> Result<()> {
        // Some file systems know nothing of growing apart from changing.
        self.need(access::MODIFY, "change").await
    }

    async fn need(&self, right: u32, what: &str) -> Result<()> {
        let name = self.link.name();
        let wanted = access::READ | access::MODIFY | access::EXTEND;
        let call = v3::Access { file: self.link.handle.clone(), wanted };
        let answer = self.link.call(&call).await.map_err(|e| e.context(format_args!("'{name}'")))?;
        if answer.allowed & right != 0 {
            return Ok(());
        }
        let text = format!("the server does not let this user {what} '{name}': Permission denied");
        Err(BlockError::new(ErrorKind::Permission, text))
    }

    /// Reads a piece that the server may answer at a time.
    async fn read_piece(&self, offset: u64, buf: BufMut) -> (BufMut, Result<()>) {
        read_piece(&self.link, offset, buf).await
    }

    /// Reads from the server, by pieces side by side.
    async fn read_whole(&self, offset: u64, mut buf: BufMut) -> (BufMut, Result<()>) {
        if buf.len() <= self.read_most {
            return self.read_piece(offset, buf).await;
        }
        let mut pieces = Vec::with_capacity(buf.len() / self.read_most + 1);
        let mut at = offset;
        while !buf.is_empty() {
            let piece = buf.split_to(self.read_most);
            let len = piece.len() as u64;
            pieces.push(self.read_piece(at, piece));
            at += len;
        }
        let mut result = Ok(());
        for (piece, read) in join_all(pieces).await {
            if buf.is_empty() {
                buf = piece
            } else {
                buf.unsplit(piece)
            }
            result = result.and(read);
        }
        (buf, result)
    }

    async fn size_now(&self) -> Result<Attributes> {
        let call = v3::GetAttributes { file: self.link.handle.clone() };
        let attributes = self.link.call(&call).await;
        attributes.map_err(|e| e.context(format_args!("looking at '{}' failed", self.link.name())))
    }

    fn changed(&self) {
        if let Some(ahead) = &self.ahead {
            ahead.forget();
        }
    }
}

/// Reads a piece that the server may answer at a time, however little it answers.
async fn read_piece(link: &Arc<Link>, offset: u64, mut buf: BufMut) -> (BufMut, Result<()>) {
    let mut progress = Progress::new(buf.len());
    let mut done = buf.split_to(0);
    loop {
        let (at, len) = (offset + progress.done as u64, buf.len());
        let call = v3::Read { file: link.handle.clone(), offset: at, count: len as u32 };
        let (back, result) = link.transfer(&call, false, None, Some(buf)).await;
        buf = back.unwrap_or_else(|| BufMut::zeroed(len));
        let took = reply(result).map_err(|e| link.failed("reading", at, e)).and_then(|answer| {
            link.look(answer.attributes.as_ref());
            if answer.is_end && (answer.count as usize) < progress.left() {
                buf.iter_mut().skip(answer.count as usize).for_each(|byte| *byte = 0);
                progress.done += progress.left();
                return Ok(());
            }
            progress.took(answer.count).map_err(|what| link.wrong_count("read", what, at))
        });
        let here = progress.done - done.len();
        let part = buf.split_to(here);
        done.unsplit(part);
        if took.is_err() || progress.left() == 0 {
            done.unsplit(buf);
            return (done, took);
        }
    }
}

impl Driver for NfsDriver {
    fn facts(&self) -> Facts {
        Facts { fua: true, grows_with_zeroes: true, ..Facts::default() }
    }

    fn length(&self) -> u64 {
        self.size.length.load(Acquire)
    }

    fn identity(&self) -> Option<Identity> {
        Some(self.identity.clone())
    }

    fn allocated_size(&self) -> Option<u64> {
        Some(self.size.used.load(Relaxed))
    }

    fn map(&self, _: u64, len: u64, _: Want) -> BoxFuture<'_, Result<Extent>> {
        // Version 3 tells of no holes.
        Box::pin(async move { Ok(Extent { len, kind: ExtentKind::Stored }) })
    }

    fn read(&self, offset: u64, mut buf: BufMut) -> BoxFuture<'_, (BufMut, Result<()>)> {
        Box::pin(async move {
            if let Some(ahead) = &self.ahead
                && ahead.read(&self.link, offset, &mut buf, self.length()).await
            {
                return (buf, Ok(()));
            }
            self.read_whole(offset, buf).await
        })
    }

    fn write(&self, offset: u64, data: Buf, request: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let beyond = match request.source() {
                Source::Padding { beyond } => u64::from(beyond),
                _ => 0,
            };
            let stability = if request.has(Flags::FUA) { Stability::File } else { Stability::Unstable };
            let end = (offset + data.len() as u64).saturating_sub(beyond);
            self.changed();
            let piece = |at: usize| {
                let piece = data.slice(at..at + self.write_most.min(data.len() - at));
                self.link.write(offset + at as u64, piece, stability)
            };
            let result = match data.len() {
                len if len <= self.write_most => piece(0).await,
                len => {
                    let pieces = (0..len).step_by(self.write_most).map(piece);
                    join_all(pieces).await.into_iter().collect()
                }
            };
            self.changed();
            if result.is_ok() {
                self.size.length.fetch_max(end, AcqRel);
            }
            result
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.link.flush())
    }

    fn cut(&self) -> Option<Cut<'_>> {
        Some(Box::new(|| self.link.cut()))
    }

    fn resize(&self, size: u64, preallocation: PreallocMode) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if preallocation != PreallocMode::Off {
                let mode = api::Enumeration::name(preallocation);
                let text = format!("the preallocation mode '{mode}' is not possible on an NFS server");
                return Err(BlockError::unsupported(text));
            }
            // What would be written again later must not make the file longer again.
            self.link.flush_unasked().await?;
            let new = NewAttributes { size: Some(size), mode: None };
            let call = v3::SetAttributes { file: self.link.handle.clone(), new, only_if: None };
            let done = self.link.call(&call).await;
            let done =
                done.map_err(|e| e.context(format_args!("Could not resize '{}'", self.link.name())))?;
            self.changed();
            self.link.look(done.after.as_ref());
            if let Some(became) = done.after.map(|after| after.size).filter(|became| *became != size) {
                let text = format!(
                    "'{}': the server made it {became} bytes large, not {size} as it was told",
                    self.link.name()
                );
                return Err(BlockError::new(ErrorKind::Io, text));
            }
            self.size.length.store(size, Release);
            Ok(())
        })
    }

    fn set_writable(&self, writable: bool) -> BoxFuture<'_, Result<Undo>> {
        Box::pin(async move {
            match writable {
                true => self.need_writable().await?,
                false => self.link.flush_unasked().await?,
            }
            Ok(Box::new(|| {}) as Undo)
        })
    }

    fn reload<'a>(&'a self, _: &'a Common) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let attributes = self.size_now().await?;
            if i64::try_from(attributes.size).is_err() {
                let text = format!("'{}' is larger than 2^63 bytes", self.location.filename());
                return Err(BlockError::new(ErrorKind::Limit, text));
            }
            self.link.look(Some(&attributes));
            self.size.length.store(attributes.size, Release);
            self.changed();
            Ok(())
        })
    }

    fn reopen<'a>(&'a self, options: Options, common: &Common) -> BoxFuture<'a, Result<Reopened<'a>>> {
        let direct = common.direct;
        Box::pin(async move {
            let (location, settings) = Location::of(options.read()?)?;
            let name = self.link.name();
            if location != self.location {
                return Err(BlockError::invalid(format!("'{name}' can't be exchanged for another file")));
            }
            if settings != self.settings {
                let text = format!("'{name}' can't be given other options: add another node");
                return Err(BlockError::unsupported(text));
            }
            if direct && self.ahead.is_some() {
                let text = format!("'{name}' is read ahead, which can't be with cache.direct=on");
                return Err(BlockError::invalid(text));
            }
            Ok(Box::new(|| {}) as Reopened<'a>)
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.link.close();
            Ok(())
        })
    }
}

impl Drop for NfsDriver {
    fn drop(&mut self) {
        self.link.close();
    }
}
