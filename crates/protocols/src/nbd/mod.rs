//! `nbd`: an export of an NBD server, over a UNIX, TCP or vsock socket, also one that was handed over, and in TLS.
//!
//! ```text
//! Node ─▶ NbdDriver ─▶ Link ─▶ Connection (cookies) ─▶ socket ─▶ server
//! ```
//!
//! Requests are cut to what the server takes; with extended headers zeroes, discards and questions about the status
//! are one request, however large. With `base:allocation` block status comes from the server; a short run
//! of its extents is remembered until something is written.
//!
//! Laws: when a server vanishes or stops answering, every request fails, those in flight and later ones; the node
//! stays in the graph and reports it at each request, and only closing and opening it anew connects again. With a delay
//! for reconnecting they wait that long for the server, and are made again ([`link`]).
//!
//! Bounds: those of [`connection`].

mod connection;
mod link;
mod location;
mod receive;
mod status;
#[cfg(test)]
mod tests;

use api::{BlockdevOptionsNbd, PreallocMode};
use block::{
    BlockError, Common, Cut, Driver, DriverType, ErrorKind, Extent, Facts, Flags, Identity, Open,
    OpenContext, Opened, Options, PLAIN, Reopened, Request, Result, Undo, Want,
};
use connection::Patience;
use link::{Delays, Link};
use location::{Location, Server};
use nbd::{Command, CommandFlags, TransmissionFlags};
use rt::{BoxFuture, Buf, BufMut};
use status::KnownExtents;
use std::sync::Arc;
use tls::{Credentials, Endpoint};

/// The `nbd` driver.
pub(crate) const NBD: DriverType = DriverType {
    name: "nbd",
    prefixes: &["nbd:", "nbd+tcp:", "nbd+unix:"],
    parse_filename: Some(location::parse_filename),
    adapt: Some(location::adapt),
    open: &Open(open),
    // An export can't be made from here; one that is there and large enough is taken as made.
    create: Some(&PLAIN),
    ..DriverType::PROTOCOL
};

fn open(context: &mut OpenContext, options: BlockdevOptionsNbd) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let delays = Delays::of(&options);
        let location = Location::of(options)?;
        let find =
            |tls: &location::Tls| Credentials::find(context.objects(), &tls.credentials, Endpoint::Client);
        let credentials = location.tls.as_ref().map(find).transpose()?;
        let driver = NbdDriver::connect(location, credentials, Patience::default(), delays).await?;
        if !context.common().read_only && driver.read_only() && !context.fall_back_to_read_only() {
            let text = format!("the server exports '{}' read-only", driver.link.name());
            driver.link.close();
            return Err(BlockError::new(ErrorKind::Permission, text));
        }
        let filename = Some(driver.link.name().to_owned());
        Ok(Opened { driver: Arc::new(driver), filename })
    })
}

struct NbdDriver {
    link: Arc<Link>,
    /// Longest request in bytes, a multiple of the server's block size.
    longest: u32,
    known: KnownExtents,
}

impl NbdDriver {
    async fn connect(
        location: Location,
        credentials: Option<Credentials>,
        patience: Patience,
        delays: Delays,
    ) -> Result<Self> {
        let link = Link::open(location, credentials, patience, delays).await?;
        if let Some(context) = link.location().context.as_ref().filter(|_| !link.tells_status()) {
            link.close();
            return Err(BlockError::invalid(format!("requested x-dirty-bitmap {context} not found")));
        }
        let most = link.export.maximum_payload.min(nbd::limits::PAYLOAD);
        let block = link.export.minimum_block;
        let longest = (most - most % block).max(block);
        let known = KnownExtents::new(link.location().context.is_none());
        Ok(Self { link, longest, known })
    }

    fn size(&self) -> u64 {
        self.link.export.size
    }

    fn has(&self, flag: TransmissionFlags) -> bool {
        self.link.export.flags.contains(flag)
    }

    fn read_only(&self) -> bool {
        self.has(TransmissionFlags::READ_ONLY)
    }

    /// Carries out a command without data over a range, in as many requests as it takes: one, if headers are extended.
    ///
    /// A server may find such a range too long, and says so as of a request that makes no sense: it is asked again for no
    /// more than a payload at a time ("Size constraints").
    async fn over_range(&self, command: Command, flags: CommandFlags, offset: u64, len: u64) -> Result<()> {
        let payload = u64::from(self.longest);
        let mut longest = if self.link.extended() { u64::MAX } else { payload };
        let mut done = 0;
        while done < len {
            let piece = (len - done).min(longest);
            let range = (offset + done, piece);
            let result = match command {
                Command::WRITE_ZEROES => self.link.write_zeroes(flags, range).await,
                _ => self.link.call(command, flags, range, None, None).await.1.map(drop),
            };
            match result {
                Err(error) if piece > payload && is_too_long(&error) => longest = payload,
                result => {
                    result?;
                    done += piece;
                }
            }
        }
        Ok(())
    }

    /// Sends all of `data`, in pieces that the server takes.
    async fn send(&self, offset: u64, data: &Buf, flags: CommandFlags) -> Result<()> {
        let mut done = 0;
        while done < data.len() {
            let piece = data.slice(done..done + (data.len() - done).min(self.longest as usize));
            let len = piece.len();
            self.link.write(flags, offset + done as u64, piece).await?;
            done += len;
        }
        Ok(())
    }

    /// Has a change carried out durably, if the request is to be. A server that answers so that it lacks space may have
    /// lacked it for the change, which costs nothing, or when it synced: then what others wrote may be lost, and no later
    /// flush need tell. Where the same is taken without the sync, it was the sync that failed.
    async fn durably<F>(&self, request: Request, change: impl Fn(CommandFlags) -> F + Send) -> Result<()>
    where
        F: Future<Output = Result<()>> + Send,
    {
        if !request.has(Flags::FUA) {
            return change(CommandFlags::NONE).await;
        }
        let lacking = match change(CommandFlags::FUA).await {
            Err(e) if e.kind() == ErrorKind::NoSpace => e,
            result => return result,
        };
        match change(CommandFlags::NONE).await {
            Ok(()) => {
                let text = format!("'{}' could not make durable what it was sent", self.link.name());
                Err(BlockError::new(ErrorKind::Io, text))
            }
            Err(_) => Err(lacking),
        }
    }

    async fn read_piece(&self, offset: u64, piece: BufMut) -> (BufMut, Result<()>) {
        let length = piece.len();
        let range = (offset, length as u64);
        match self.link.call(Command::READ, CommandFlags::NONE, range, None, Some(piece)).await {
            (Some(buf), result) => (buf, result.map(drop)),
            (None, Ok(_)) => {
                (BufMut::zeroed(length), Err(BlockError::new(ErrorKind::Io, "the read was lost")))
            }
            (None, Err(error)) => (BufMut::zeroed(length), Err(error)),
        }
    }
}

impl Driver for NbdDriver {
    fn facts(&self) -> Facts {
        Facts {
            alignment: self.link.export.minimum_block,
            fua: self.has(TransmissionFlags::SEND_FUA),
            fua_zeroes: self.has(TransmissionFlags::SEND_FUA),
            can_write_zeroes: self.has(TransmissionFlags::SEND_WRITE_ZEROES),
            ..Facts::default()
        }
    }

    fn length(&self) -> u64 {
        self.size()
    }

    fn identity(&self) -> Option<Identity> {
        // Two sockets of the same name can lead to two servers.
        match self.link.location().server {
            Server::At(_) => Some(Identity::Served(self.link.name().to_owned())),
            Server::Socket(_) => None,
        }
    }

    fn map(&self, offset: u64, len: u64, want: Want) -> BoxFuture<'_, Result<Extent>> {
        Box::pin(async move {
            if want != Want::Status || !self.link.tells_status() {
                return Ok(status::stored(len));
            }
            self.known.find(&self.link, offset, len).await
        })
    }

    fn read(&self, offset: u64, buf: BufMut) -> BoxFuture<'_, (BufMut, Result<()>)> {
        Box::pin(async move {
            // What is asked for beyond the export reads as zeroes, as with files.
            let inside = self.size().saturating_sub(offset).min(buf.len() as u64) as usize;
            let mut rest = buf;
            let mut at = offset;
            let mut done: Option<BufMut> = None;
            let end = offset + inside as u64;
            while at < end {
                let len = (end - at).min(u64::from(self.longest)) as usize;
                let (piece, result) = self.read_piece(at, rest.split_to(len)).await;
                let whole = match done.take() {
                    Some(mut front) => {
                        front.unsplit(piece);
                        front
                    }
                    None => piece,
                };
                if let Err(error) = result {
                    return (joined(Some(whole), rest), Err(error));
                }
                done = Some(whole);
                at += len as u64;
            }
            rest.fill(0);
            (joined(done, rest), Ok(()))
        })
    }

    fn write(&self, offset: u64, data: Buf, request: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if offset.checked_add(data.len() as u64).is_none_or(|end| end > self.size()) {
                let text = format!("'{}' can't grow: it is {:#x} bytes large", self.link.name(), self.size());
                return Err(BlockError::new(ErrorKind::NoSpace, text).at(offset));
            }
            self.known.forget();
            self.durably(request, |fua| self.send(offset, &data, fua)).await?;
            self.known.forget();
            Ok(())
        })
    }

    fn write_zeroes(&self, offset: u64, len: u64, request: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let fast = self.has(TransmissionFlags::SEND_FAST_ZERO);
            if !self.has(TransmissionFlags::SEND_WRITE_ZEROES) || request.has(Flags::NO_FALLBACK) && !fast {
                return Err(BlockError::unsupported("the NBD server has no fast zeroes"));
            }
            let how = CommandFlags::when(!request.has(Flags::MAY_UNMAP), CommandFlags::NO_HOLE)
                | CommandFlags::when(request.has(Flags::NO_FALLBACK), CommandFlags::FAST_ZERO);
            self.known.forget();
            let zero = |fua| self.over_range(Command::WRITE_ZEROES, how | fua, offset, len);
            self.durably(request, zero).await?;
            self.known.forget();
            Ok(())
        })
    }

    fn discard(&self, offset: u64, len: u64, _: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if !self.has(TransmissionFlags::SEND_TRIM) {
                return Ok(());
            }
            self.known.forget();
            let result = self.over_range(Command::TRIM, CommandFlags::NONE, offset, len).await;
            self.known.forget();
            result
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.link.flush())
    }

    fn cut(&self) -> Option<Cut<'_>> {
        Some(Box::new(|| self.link.cut()))
    }

    fn resize(&self, size: u64, _: PreallocMode) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            match size == self.size() {
                true => Ok(()),
                false => Err(BlockError::unsupported("Cannot resize NBD nodes")),
            }
        })
    }

    fn set_writable(&self, writable: bool) -> BoxFuture<'_, Result<Undo>> {
        Box::pin(async move {
            if writable && self.read_only() {
                let text = format!("the server exports '{}' read-only", self.link.name());
                return Err(BlockError::new(ErrorKind::ReadOnly, text));
            }
            Ok(Box::new(|| {}) as Undo)
        })
    }

    fn reopen<'a>(&'a self, options: Options, _: &Common) -> BoxFuture<'a, Result<Reopened<'a>>> {
        Box::pin(async move {
            let options: BlockdevOptionsNbd = options.read()?;
            let delays = Delays::of(&options);
            if Location::of(options)? != *self.link.location() {
                let text = format!("'{}' can't be exchanged for another export", self.link.name());
                return Err(BlockError::invalid(text));
            }
            if delays != self.link.delays() {
                let text = format!("'{}' can't be given other delays: add another node", self.link.name());
                return Err(BlockError::unsupported(text));
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

impl Drop for NbdDriver {
    fn drop(&mut self) {
        self.link.close();
    }
}

/// The server may have refused a request for its length alone.
fn is_too_long(error: &BlockError) -> bool {
    let codes = [nbd::ErrorCode::EOVERFLOW, nbd::ErrorCode::EINVAL];
    codes.iter().any(|code| code.to_errno() == error.errno())
}

fn joined(front: Option<BufMut>, back: BufMut) -> BufMut {
    match front {
        Some(mut front) => {
            front.unsplit(back);
            front
        }
        None => back,
    }
}
