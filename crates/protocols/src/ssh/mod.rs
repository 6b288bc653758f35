//! `ssh`: a file that an SSH server offers over SFTP.
//!
//! ```text
//! Node ─▶ SshDriver ─▶ Link ─▶ RemoteFile ─▶ Connection (ids) ─▶ channel ─▶ russh ─▶ socket ─▶ server
//!                              (pieces, side by side)            └── the thread of SSH ──┘
//! ```
//!
//! Laws: when a server vanishes or stops answering, requests wait for it as long as the options allow ([`link`]); then every
//! one fails, also a flush; the node stays in the graph and reports it at each request. A flush succeeds only where the
//! server has made durable what it answered (`fsync@openssh.com`).
//!
//! Bounds: those of [`connection`]; nothing that a server says decides on memory.

mod account;
mod connection;
mod create;
mod file;
mod host_key;
mod known_hosts;
mod link;
mod location;
mod login;
mod receive;
mod requests;
#[cfg(test)]
mod tests;
mod thread;
mod transport;

use api::{BlockdevOptionsSsh, PreallocMode};
use block::{
    BlockError, ClaimLocation, Common, Cut, Driver, DriverType, ErrorKind, Extent, ExtentKind, Facts,
    Identity, Open, OpenContext, Opened, Options, PLAIN, Reopened, Request, Result, Source, Undo, Want,
};
use connection::Patience;
use file::{RemoteFile, connect};
use link::{Link, Login};
use location::Location;
use login::Keys;
use rt::{BoxFuture, Buf, BufMut};
use std::sync::Arc;

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
        let (location, common) = (Location::of(options)?, context.common());
        let (no_flush, mut writable) = (common.no_flush, !common.read_only);
        let keys = Keys::find(context.objects(), &location.proof)?;
        let name = location.filename(context.asked());
        let patience = Patience::default();
        let connection = connect(&location, &keys, &name, patience).await?;
        let mut opened = RemoteFile::open(&connection, &location.path, writable).await;
        let refused = |e: &BlockError| matches!(e.kind(), ErrorKind::Permission | ErrorKind::ReadOnly);
        if writable && opened.as_ref().is_err_and(refused) && context.fall_back_to_read_only() {
            writable = false;
            opened = RemoteFile::open(&connection, &location.path, writable).await;
        }
        let link = match opened {
            Ok(file) => {
                let login = Login { location, keys, patience };
                Link::new(login, connection.clone(), file, writable, no_flush).await
            }
            Err(error) => Err(error),
        };
        match link {
            Ok(link) => Ok(Opened { driver: Arc::new(SshDriver { link }), filename: Some(name) }),
            Err(error) => {
                connection.close().await;
                Err(error)
            }
        }
    })
}

struct SshDriver {
    link: Arc<Link>,
}

impl Driver for SshDriver {
    fn facts(&self) -> Facts {
        Facts { grows_with_zeroes: self.link.regular, ..Facts::default() }
    }

    fn length(&self) -> u64 {
        self.link.length()
    }

    fn identity(&self) -> Option<Identity> {
        let Location { user, path, .. } = self.link.location();
        Some(Identity::Served(format!("ssh://{user}@{}{path}", self.link.location().address())))
    }

    fn map(&self, _: u64, len: u64, _: Want) -> BoxFuture<'_, Result<Extent>> {
        // The protocol knows of no holes.
        Box::pin(async move { Ok(Extent { len, kind: ExtentKind::Stored }) })
    }

    fn reload<'a>(&'a self, _: &'a Common) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.link.reload())
    }

    fn read(&self, offset: u64, mut buf: BufMut) -> BoxFuture<'_, (BufMut, Result<()>)> {
        Box::pin(async move {
            // What is asked for beyond the file reads as zeroes, as with files.
            let inside = self.length().saturating_sub(offset).min(buf.len() as u64) as usize;
            let front = buf.split_to(inside);
            let (mut front, result) = match front.is_empty() {
                true => (front, Ok(())),
                false => self.link.read(offset, front).await,
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
            self.link.write(offset, data, end).await.map_err(|error| error.at(offset))
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
                return Err(BlockError::unsupported(format!(
                    "Unsupported preallocation mode '{preallocation}'"
                )));
            }
            self.link.resize(size).await
        })
    }

    fn set_writable(&self, writable: bool) -> BoxFuture<'_, Result<Undo>> {
        Box::pin(self.link.set_writable(writable))
    }

    fn reopen<'a>(&'a self, options: Options, common: &Common) -> BoxFuture<'a, Result<Reopened<'a>>> {
        let no_flush = common.no_flush;
        Box::pin(async move {
            if Location::of(options.read()?)? != *self.link.location() {
                let text = format!("'{}' can't be exchanged for another file", self.link.name());
                return Err(BlockError::invalid(text));
            }
            Ok(Box::new(move || self.link.set_no_flush(no_flush)) as Reopened<'a>)
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.link.close().await;
            Ok(())
        })
    }
}
