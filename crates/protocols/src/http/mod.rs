//! `http`, `https`: a file of a web server, to be read.
//!
//! ```text
//! Node ─▶ HttpDriver ─┬▶ Readahead ─▶ Kept ─▶ RemoteFile ─▶ Client ─▶ Pool ─▶ Connection ─▶ tls::Channel
//!                     └▶ Whole ◀─ a stream that is taken in once
//! ```
//!
//! HTTP/1.1; several connections at a time, each with one request. Content goes from the socket into the reader's buffer.
//!
//! Laws:
//! - what is read is of one version of the file: an answer of another one is an error ([`file`]);
//! - a server gets its time for each answer and each piece of it, and may fail meanwhile ([`patience`]); then the request fails, and
//!   the next one begins anew;
//! - who the user is is told to the server of the URL and to no other; from TLS nothing leads to a server without.
//!
//! Bounds: connections by `connections`; a head by [`head`]; what is held of the file by [`crate::readahead`], by
//! `cache-size` of a stream, by `cache-disk-size` on disk. No answer decides on more.
//!
//! Specifications: RFC 9110 (HTTP), RFC 9112 (HTTP/1.1), RFC 7617 (basic authentication).

mod body;
mod client;
mod connection;
mod error;
mod file;
mod head;
mod incoming;
mod judge;
mod location;
mod options;
mod patience;
mod pool;
mod proxy;
mod request;
mod signer;
mod stream;
#[cfg(test)]
pub(crate) mod tests;

use crate::ending::Ending;
use crate::readahead::{Disk, Kept, Readahead, Whole};
use crate::url;
use api::BlockdevOptionsCurlHttp;
use block::{
    BlockError, Common, Cut, Driver, DriverType, ErrorKind, Extent, ExtentKind, Facts, Identity, Objects,
    Open, OpenContext, Opened, Options, Reopened, Result, Undo, Want,
};
use file::RemoteFile;
pub use judge::{judge_answer, judge_headers, judge_location};
pub(crate) use location::Location;
pub(crate) use options::{Settings, adapt_readahead};
use rt::{BoxFuture, BufMut};
pub(crate) use signer::Signer;
use std::sync::Arc;

/// The `http` driver.
pub(crate) const HTTP: DriverType = DriverType {
    name: "http",
    prefixes: &["http:"],
    parse_filename: Some(url::parse_filename),
    adapt: Some(options::adapt),
    open: &Open(open_http),
    ..DriverType::PROTOCOL
};

/// The `https` driver.
pub(crate) const HTTPS: DriverType =
    DriverType { name: "https", prefixes: &["https:"], open: &Open(open_https), ..HTTP };

fn open_http(context: &mut OpenContext, options: BlockdevOptionsCurlHttp) -> BoxFuture<'_, Result<Opened>> {
    let again: Read = |options, objects| Settings::of(options.read()?, "http", objects);
    Box::pin(async move { open(context, |objects| Settings::of(options, "http", objects), again).await })
}

fn open_https(context: &mut OpenContext, options: BlockdevOptionsCurlHttp) -> BoxFuture<'_, Result<Opened>> {
    let again: Read = |options, objects| Settings::of(options.read()?, "https", objects);
    Box::pin(async move { open(context, |objects| Settings::of(options, "https", objects), again).await })
}

/// Reads the options of a node that is open.
pub(crate) type Read = fn(Options, &Objects) -> Result<Settings>;

/// Opens what is read as a file of a web server; `again` reads the options of a reopen.
pub(crate) async fn open(
    context: &mut OpenContext,
    settings: impl FnOnce(&Objects) -> Result<Settings>,
    again: Read,
) -> Result<Opened> {
    if !context.common().read_only && !context.fall_back_to_read_only() {
        return Err(read_only());
    }
    let objects = context.objects().clone();
    let settings = settings(&objects)?;
    let filename = settings.name();
    let driver = HttpDriver::open(settings, objects, again).await?;
    Ok(Opened { driver: Arc::new(driver), filename })
}

fn read_only() -> BlockError {
    BlockError::new(ErrorKind::ReadOnly, "files of web servers are only read: open them read-only")
}

/// How the file is read.
enum Content {
    Ranges(Arc<Readahead<Kept<RemoteFile>>>),
    /// And of how many bytes.
    Stream(Arc<Whole>, u64),
}

/// Where what is read is kept on disk, if anywhere.
async fn disk(settings: &Settings, file: &RemoteFile) -> Result<Option<Arc<Disk>>> {
    let Some(folder) = settings.cache_path.clone() else { return Ok(None) };
    if !file.tells_versions() {
        let text = format!(
            "'{}': the server tells neither ETag nor Last-Modified, so nothing of it can be kept in 'cache-path'",
            file.place()
        );
        return Err(BlockError::unsupported(text));
    }
    let shown = folder.display().to_string();
    let made = rt::blocking(move || rt::fs::make_unnamed(&folder)).await;
    let made = made.map_err(|error| BlockError::os(format!("'cache-path' '{shown}'"), &error))?;
    Ok(Some(Disk::new(made, settings.cache_disk, file.size)))
}

struct HttpDriver {
    settings: Settings,
    objects: Objects,
    again: Read,
    content: Content,
    /// The connection was given up, or the node closed.
    ending: Arc<Ending>,
}

impl HttpDriver {
    async fn open(settings: Settings, objects: Objects, again: Read) -> Result<Self> {
        let found = file::find(&settings).await;
        let found = found.map_err(|error| error.about(&settings.location.to_string()))?;
        let size = found.file.size;
        let ending = found.file.ending().clone();
        let content = match found.stream {
            None => {
                let disk = disk(&settings, &found.file).await?;
                let file = Kept::new(found.file, disk);
                Content::Ranges(Readahead::new(file, size, settings.readahead))
            }
            Some(reply) => {
                let (whole, filler) = Whole::new(size);
                let ending = ending.clone();
                // What is not taken in by the end is not asked for any more.
                rt::spawn(
                    async move { drop(ending.unless(stream::take_in(found.file, reply, filler)).await) },
                )
                .detach();
                Content::Stream(whole, size)
            }
        };
        Ok(Self { settings, objects, again, content, ending })
    }

    /// Nothing is asked for any more.
    fn end(&self) {
        self.ending.come(stream::given_up(&self.settings.location.to_string()));
        if let Content::Ranges(file) = &self.content {
            file.forget();
            file.remote().remote().client().pool.close();
        }
    }
}

impl Driver for HttpDriver {
    fn facts(&self) -> Facts {
        Facts::default()
    }

    fn length(&self) -> u64 {
        match &self.content {
            Content::Ranges(file) => file.size(),
            Content::Stream(_, size) => *size,
        }
    }

    fn naming_options(&self) -> Options {
        self.settings.naming.clone()
    }

    fn identity(&self) -> Option<Identity> {
        Some(Identity::Served(self.settings.location.whole()))
    }

    fn map(&self, _: u64, len: u64, _: Want) -> BoxFuture<'_, Result<Extent>> {
        Box::pin(async move { Ok(Extent { len, kind: ExtentKind::Stored }) })
    }

    fn try_read(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        self.ending.check()?;
        Ok(match &self.content {
            Content::Ranges(file) => file.try_read(offset, buf),
            Content::Stream(whole, _) => whole.try_read(offset, buf),
        })
    }

    fn read(&self, offset: u64, buf: BufMut) -> BoxFuture<'_, (BufMut, Result<()>)> {
        Box::pin(async move {
            let len = buf.len();
            let read = async {
                match &self.content {
                    Content::Ranges(file) => file.read(offset, buf).await,
                    Content::Stream(whole, _) => whole.read(offset, buf).await,
                }
            };
            match self.ending.unless(read).await {
                Ok(done) => done,
                Err(error) => (BufMut::zeroed(len), Err(error)),
            }
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn cut(&self) -> Option<Cut<'_>> {
        Some(Box::new(|| self.end()))
    }

    fn set_writable(&self, writable: bool) -> BoxFuture<'_, Result<Undo>> {
        Box::pin(async move { if writable { Err(read_only()) } else { Ok(Box::new(|| {}) as Undo) } })
    }

    fn reopen<'a>(&'a self, options: Options, _: &Common) -> BoxFuture<'a, Result<Reopened<'a>>> {
        Box::pin(async move {
            if (self.again)(options, &self.objects)? != self.settings {
                let text =
                    format!("'{}' can't be given other options: add another node", self.settings.location);
                return Err(BlockError::unsupported(text));
            }
            Ok(Box::new(|| {}) as Reopened<'a>)
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.end();
            Ok(())
        })
    }
}

impl Drop for HttpDriver {
    fn drop(&mut self) {
        self.end();
    }
}
