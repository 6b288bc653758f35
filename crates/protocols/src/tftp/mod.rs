//! `tftp`: a file of a TFTP server, to be read.
//!
//! ```text
//! read ─▶ Cache ─ not here ─▶ Fetch, a task ─▶ Pieces ─▶ Transfer ─▶ UDP
//! ```
//!
//! TFTP has no way to begin in the middle of a file: what is read is fetched from the start up to there, and kept as far as the
//! cache has room. Reading in order costs one transfer; going back beyond what is kept costs another one from the start.
//!
//! Bounds: the cache as the option says, and one piece and one packet for the transfer, whatever the server sends.

mod cache;
mod fetch;
mod judge;
mod location;
mod packet;
mod pieces;
#[cfg(test)]
mod tests;
mod transfer;

use crate::ending::Ending;
use crate::url;
use api::BlockdevOptionsTftp;
use block::{
    BlockError, Common, Cut, Driver, DriverType, ErrorKind, Extent, ExtentKind, Facts, Identity, Open,
    OpenContext, Opened, Options, Reopened, Result, Undo, Want,
};
use cache::{Cache, PIECE};
use fetch::{Asked, Fetch};
use futures_channel::{mpsc, oneshot};
pub use judge::judge_packet;
use location::Location;
use parking_lot::Mutex;
use rt::{BoxFuture, BufMut};
use std::sync::Arc;

/// The `tftp` driver.
pub(crate) const TFTP: DriverType = DriverType {
    name: "tftp",
    prefixes: &["tftp:"],
    parse_filename: Some(url::parse_filename),
    adapt: Some(url::adapt),
    open: &Open(open),
    ..DriverType::PROTOCOL
};

fn open(context: &mut OpenContext, options: BlockdevOptionsTftp) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let location = Location::of(options)?;
        if !context.common().read_only && !context.fall_back_to_read_only() {
            return Err(refused());
        }
        let filename = Some(location.url.clone());
        Ok(Opened { driver: Arc::new(Tftp::open(location).await?), filename })
    })
}

/// The error of a file that can't be written to.
fn refused() -> BlockError {
    BlockError::new(ErrorKind::ReadOnly, "files of TFTP servers are only read: open them read-only")
}

/// An open file.
struct Tftp {
    location: Arc<Location>,
    size: u64,
    cache: Arc<Mutex<Cache>>,
    asked: mpsc::UnboundedSender<Asked>,
    ending: Ending,
}

impl Tftp {
    async fn open(location: Location) -> Result<Self> {
        let location = Arc::new(location);
        let cache = Arc::new(Mutex::new(Cache::new(location.terms.cache)));
        let (asked, to_serve) = mpsc::unbounded();
        let begun = {
            let (location, cache) = (location.clone(), cache.clone());
            // A socket stays with the worker on which it was first waited for: all of it is one task's.
            let (size, opened) = oneshot::channel();
            rt::spawn_on(rt::Target::LeastLoaded, async move {
                match Fetch::begin(location, cache).await {
                    Ok(fetch) => {
                        // Whoever opens it may have left; then nobody asks either.
                        let _ = size.send(Ok(fetch.size()));
                        fetch.serve(to_serve).await;
                    }
                    Err(error) => drop(size.send(Err(error))),
                }
            })
            .detach();
            opened
        };
        let size = begun.await.map_err(|_| closed(&location))??;
        Ok(Self { location, size, cache, asked, ending: Ending::default() })
    }

    async fn read_on(&self, offset: u64, buf: &mut BufMut) -> Result<()> {
        self.ending.check()?;
        let wanted = self.inside(offset, buf.len());
        let lost = || closed(&self.location);
        // All that is missing is asked for at once, so that one way through the file brings it, whoever else reads.
        let mut missing = Vec::new();
        let mut done = 0;
        while done < wanted {
            let at = offset + done as u64;
            let len = ((PIECE - at % PIECE) as usize).min(wanted - done);
            let part = done..done + len;
            let here = self.cache.lock().copy(at, buf.get_mut(part.clone()).unwrap_or_default());
            if here < len {
                let (answer, answered) = oneshot::channel();
                self.asked.unbounded_send(Asked { number: at / PIECE, answer }).map_err(|_| lost())?;
                missing.push((at, part, answered));
            }
            done += len;
        }
        for (at, part, answered) in missing {
            let piece = self.ending.unless(answered).await?.map_err(|_| lost())??;
            cache::copy_from(&piece, at, buf.get_mut(part).unwrap_or_default());
        }
        // What is asked for beyond the end reads as zeroes, as with files.
        buf.get_mut(wanted..).unwrap_or_default().fill(0);
        Ok(())
    }

    fn inside(&self, offset: u64, len: usize) -> usize {
        self.size.saturating_sub(offset).min(len as u64) as usize
    }

    fn end(&self, why: BlockError) {
        self.ending.come(why);
        self.asked.close_channel();
    }
}

fn closed(location: &Location) -> BlockError {
    BlockError::new(ErrorKind::Closed, format!("'{}' is closed", location.url))
}

impl Driver for Tftp {
    fn facts(&self) -> Facts {
        Facts::default()
    }

    fn length(&self) -> u64 {
        self.size
    }

    fn identity(&self) -> Option<Identity> {
        Some(Identity::Served(self.location.url.clone()))
    }

    fn map(&self, _: u64, len: u64, _: Want) -> BoxFuture<'_, Result<Extent>> {
        Box::pin(async move { Ok(Extent { len, kind: ExtentKind::Stored }) })
    }

    fn try_read(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        self.ending.check()?;
        let inside = self.inside(offset, buf.len());
        Ok(self.cache.lock().copy(offset, buf.get_mut(..inside).unwrap_or_default()))
    }

    fn read(&self, offset: u64, mut buf: BufMut) -> BoxFuture<'_, (BufMut, Result<()>)> {
        Box::pin(async move {
            let result = self.read_on(offset, &mut buf).await;
            (buf, result)
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn cut(&self) -> Option<Cut<'_>> {
        let text = format!("the transfer of '{}' was given up on request", self.location.url);
        Some(Box::new(move || self.end(BlockError::new(ErrorKind::Io, text))))
    }

    fn set_writable(&self, writable: bool) -> BoxFuture<'_, Result<Undo>> {
        Box::pin(async move { if writable { Err(refused()) } else { Ok(Box::new(|| {}) as Undo) } })
    }

    fn reopen<'a>(&'a self, options: Options, _: &Common) -> BoxFuture<'a, Result<Reopened<'a>>> {
        Box::pin(async move {
            if Location::of(options.read()?)? != *self.location {
                let text = format!("'{}' can't be exchanged or be given other options", self.location.url);
                return Err(BlockError::invalid(text));
            }
            Ok(Box::new(|| {}) as Reopened<'a>)
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.end(closed(&self.location));
            Ok(())
        })
    }
}

impl Drop for Tftp {
    fn drop(&mut self) {
        self.end(closed(&self.location));
    }
}
