//! `ftp`, `ftps`: a file of an FTP server, to be read.
//!
//! ```text
//! Node ─▶ Ftp ─▶ Readahead ─▶ Pool ─▶ Session (a task) ─┬▶ Control ─▶ commands and replies
//!                                                       └▶ one transfer at a time ─▶ the file, from any byte on
//! ```
//!
//! Reads in order cost one transfer; any other place costs three exchanges with the server.
//!
//! Bounds: those of [`pool`] and of `readahead`; what is kept of what a server says stands in [`reply`].
//! Specifications: RFC 959, 2389, 2428, 3659, 4217.

mod control;
mod failure;
mod judge;
mod location;
mod pool;
mod reply;
mod session;
#[cfg(test)]
mod tests;

use crate::readahead::Readahead;
use crate::url;
use api::BlockdevOptionsCurlFtps;
use block::{
    BlockError, Common, Cut, Driver, DriverType, ErrorKind, Extent, ExtentKind, Facts, Identity, Objects,
    Open, OpenContext, Opened, Options, Reopened, Result, Secret, Undo, Want,
};
pub use judge::judge_replies;
use location::{Location, Tls};
use pool::Pool;
use rt::{BoxFuture, BufMut};
use std::sync::Arc;
use tls::{Authorities, Trust};

/// The `ftp` driver.
pub(crate) const FTP: DriverType = DriverType {
    name: "ftp",
    prefixes: &["ftp:"],
    parse_filename: Some(location::parse_filename),
    adapt: Some(url::adapt),
    open: &Open(open_plain),
    ..DriverType::PROTOCOL
};

/// The `ftps` driver.
pub(crate) const FTPS: DriverType =
    DriverType { name: "ftps", prefixes: &["ftps:", "ftpes:"], open: &Open(open_in_tls), ..FTP };

fn open_plain(context: &mut OpenContext, options: BlockdevOptionsCurlFtps) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(open(context, options, false))
}

fn open_in_tls(context: &mut OpenContext, options: BlockdevOptionsCurlFtps) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(open(context, options, true))
}

async fn open(context: &mut OpenContext, options: BlockdevOptionsCurlFtps, in_tls: bool) -> Result<Opened> {
    let (location, password) = Location::of(options, in_tls, context.objects())?;
    if !context.common().read_only && !context.fall_back_to_read_only() {
        return Err(refused());
    }
    let filename = location.filename();
    let objects = context.objects().clone();
    Ok(Opened { driver: Arc::new(Ftp::open(location, password, objects).await?), filename })
}

/// The error of a file that can't be written to.
fn refused() -> BlockError {
    BlockError::new(ErrorKind::ReadOnly, "files of FTP servers are only read: open them read-only")
}

/// An open file.
struct Ftp {
    file: Arc<Readahead<Pool>>,
    objects: Objects,
}

impl Ftp {
    async fn open(location: Location, password: Secret, objects: Objects) -> Result<Self> {
        let trust = match location.tls.clone() {
            Some(tls) => Some(rt::blocking(move || trust(&tls)).await?),
            None => None,
        };
        let readahead = location.readahead;
        let pool = Pool::open(location, password, trust).await?;
        let size = pool.facts().size;
        if i64::try_from(size).is_err() {
            let text = format!("'{}' has {size} bytes, by the server's word", pool.location().url);
            return Err(BlockError::new(ErrorKind::Limit, text));
        }
        Ok(Self { file: Readahead::new(pool, size, readahead), objects })
    }

    fn pool(&self) -> &Pool {
        self.file.remote()
    }

    fn location(&self) -> &Location {
        self.pool().location()
    }

    fn end(&self, why: BlockError) {
        self.pool().end(why);
        self.file.forget();
    }

    fn closed(&self) -> BlockError {
        BlockError::new(ErrorKind::Closed, format!("'{}' is closed", self.location().url))
    }
}

/// Whom the client believes. Servers may demand that data connections go on with what was agreed on in the control connection.
fn trust(tls: &Tls) -> Result<Trust> {
    let authorities = match (tls.verify, &tls.authorities) {
        (false, _) => Authorities::Unasked,
        (true, Some(path)) => Authorities::File(path),
        (true, None) => Authorities::System,
    };
    Trust::load(authorities, true)
}

impl Driver for Ftp {
    fn facts(&self) -> Facts {
        Facts::default()
    }

    fn length(&self) -> u64 {
        self.file.size()
    }

    fn naming_options(&self) -> Options {
        self.location().naming.clone()
    }

    fn identity(&self) -> Option<Identity> {
        let Location { url, user, .. } = self.location();
        Some(Identity::Served(format!("{url} of {}", String::from_utf8_lossy(user))))
    }

    fn map(&self, _: u64, len: u64, _: Want) -> BoxFuture<'_, Result<Extent>> {
        Box::pin(async move { Ok(Extent { len, kind: ExtentKind::Stored }) })
    }

    fn try_read(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        self.pool().check()?;
        Ok(self.file.try_read(offset, buf))
    }

    fn read(&self, offset: u64, buf: BufMut) -> BoxFuture<'_, (BufMut, Result<()>)> {
        Box::pin(self.file.read(offset, buf))
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn cut(&self) -> Option<Cut<'_>> {
        let text = format!("the connection to '{}' was given up on request", self.location().url);
        Some(Box::new(move || self.end(BlockError::new(ErrorKind::Io, text))))
    }

    fn set_writable(&self, writable: bool) -> BoxFuture<'_, Result<Undo>> {
        Box::pin(async move { if writable { Err(refused()) } else { Ok(Box::new(|| {}) as Undo) } })
    }

    fn reopen<'a>(&'a self, options: Options, _: &Common) -> BoxFuture<'a, Result<Reopened<'a>>> {
        Box::pin(async move {
            let (old, options) = (self.location(), options.read()?);
            if Location::of(options, old.tls.is_some(), &self.objects)?.0 != *old {
                let text = format!("'{}' can't be exchanged or be given other options", self.location().url);
                return Err(BlockError::invalid(text));
            }
            Ok(Box::new(|| {}) as Reopened<'a>)
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.end(self.closed());
            Ok(())
        })
    }
}

impl Drop for Ftp {
    fn drop(&mut self) {
        self.end(self.closed());
    }
}
