//! `iscsi`: a logical unit of an iSCSI target, by an initiator of our own.
//!
//! ```text
//! Node ─▶ IscsiDriver ─▶ Link (sessions one after the other) ─▶ Connection (commands by tag) ─▶ socket ─▶ target
//!                          └ Unit: what the unit is, asked at the login
//! ```
//!
//! What is on the wire is the crate `iscsi`'s. A session has one connection, and no recovery inside of it: what goes wrong ends
//! the session, and the next one makes the commands again ([`link`]). Requests are cut to what the unit takes.
//!
//! Laws: a target that vanishes or stops answering makes requests wait, at most as long as `timeout` says, and then fail; the
//! node lives on, and requests work again when the target does.
//!
//! Bounds: those of [`connection`], and of [`crate::unflushed`].

mod connection;
mod discover;
mod execute;
mod link;
mod location;
mod login;
mod outgoing;
mod receive;
mod status;
mod tasks;
#[cfg(test)]
mod tests;
mod unit;

use api::{BlockdevOptionsIscsi, PreallocMode};
use block::{
    BlockError, Common, Cut, Driver, DriverInfo, DriverType, ErrorKind, Extent, Facts, Flags, Identity, Open,
    OpenContext, Opened, Options, PLAIN, Reopened, Request, Result, Undo, Want,
};
use connection::Patience;
use link::Link;
use location::Location;
use rt::{BoxFuture, Buf, BufMut};
use status::KnownExtents;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The `iscsi` driver.
pub(crate) const ISCSI: DriverType = DriverType {
    name: "iscsi",
    prefixes: &["iscsi:", "iser:"],
    parse_filename: Some(location::parse_filename),
    adapt: Some(location::adapt),
    open: &Open(open),
    // A unit can't be made from here; one that is there and large enough is taken as made.
    create: Some(&PLAIN),
    ..DriverType::PROTOCOL
};

fn open(context: &mut OpenContext, options: BlockdevOptionsIscsi) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let (location, profile) = location::read(options, context.objects(), session_number()?)?;
        let patience = Patience::with_answer(location.delays.answer);
        let driver = IscsiDriver::connect(location, profile, patience).await?;
        if !context.common().read_only && driver.read_only() && !context.fall_back_to_read_only() {
            let text = format!("'{}' is write-protected", driver.link.name());
            driver.link.close().await;
            return Err(BlockError::new(ErrorKind::Permission, text));
        }
        if !context.common().read_only && driver.link.can_not_flush() {
            context.notices().warn(&driver.link.unflushable().to_string());
        }
        Ok(Opened { driver: Arc::new(driver), filename: None })
    })
}

/// A session's number, by chance (RFC 7143, section 11.12.5: a random qualifier).
fn session_number() -> Result<[u8; 6]> {
    let mut number = [0; 6];
    getrandom::fill(&mut number)
        .map_err(|_| BlockError::new(ErrorKind::Io, "the system has no random numbers for a session"))?;
    number[0] = 0x80;
    Ok(number)
}

struct IscsiDriver {
    link: Arc<Link>,
    known: KnownExtents,
    /// The unit has refused to write one block many times.
    no_same: AtomicBool,
    /// It has refused to give back space.
    no_unmap: AtomicBool,
}

impl IscsiDriver {
    async fn connect(location: Location, profile: iscsi::Profile, patience: Patience) -> Result<Self> {
        let link = Link::open(location, profile, patience).await?;
        Ok(Self {
            link,
            known: KnownExtents::default(),
            no_same: AtomicBool::new(false),
            no_unmap: AtomicBool::new(false),
        })
    }

    fn size(&self) -> u64 {
        self.link.unit.size()
    }

    fn read_only(&self) -> bool {
        self.link.unit.control.protected
    }

    /// One block can be written many times, as far as is known.
    fn may_write_same(&self) -> bool {
        !self.no_same.load(Ordering::Relaxed) && self.link.unit.write_same != Some(false)
    }
}

/// A range in pieces of at most so many blocks.
fn pieces((offset, len): (u64, u64), most: u64) -> impl Iterator<Item = (u64, u64)> {
    let starts = (0..len).step_by(usize::try_from(most).unwrap_or(usize::MAX).max(1));
    starts.map(move |at| (offset + at, (len - at).min(most)))
}

impl Driver for IscsiDriver {
    fn facts(&self) -> Facts {
        let unit = &self.link.unit;
        let by_same = unit.write_same == Some(true) || unit.provisioning.write_same;
        Facts {
            alignment: unit.capacity.block_size,
            fua: unit.control.durable_writes,
            can_write_zeroes: by_same && self.may_write_same(),
            ..Facts::default()
        }
    }

    fn length(&self) -> u64 {
        self.size()
    }

    fn naming_options(&self) -> Options {
        self.link.location().naming.clone()
    }

    fn identity(&self) -> Option<Identity> {
        Some(Identity::Served(self.link.name().to_owned()))
    }

    fn info(&self) -> DriverInfo {
        DriverInfo { dirty: Some(false), ..DriverInfo::default() }
    }

    fn map(&self, offset: u64, len: u64, want: Want) -> BoxFuture<'_, Result<Extent>> {
        Box::pin(async move {
            if want != Want::Status {
                return Ok(status::stored(len));
            }
            self.known.find(&self.link, offset, len).await
        })
    }

    fn read(&self, offset: u64, buf: BufMut) -> BoxFuture<'_, (BufMut, Result<()>)> {
        Box::pin(async move {
            let longest = self.link.unit.longest();
            if buf.len() as u64 <= longest {
                return self.link.read(offset, buf).await;
            }
            let (mut done, mut rest, mut at) = (None::<BufMut>, buf, offset);
            while !rest.is_empty() {
                let (piece, result) = self.link.read(at, rest.split_to(longest as usize)).await;
                at += piece.len() as u64;
                let mut whole = match done.take() {
                    None => piece,
                    Some(mut front) => {
                        front.unsplit(piece);
                        front
                    }
                };
                if result.is_err() {
                    whole.unsplit(rest);
                    return (whole, result);
                }
                done = Some(whole);
            }
            (done.unwrap_or(rest), Ok(()))
        })
    }

    fn reload<'a>(&'a self, _: &'a Common) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.known.forget();
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: Buf, request: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if offset.checked_add(data.len() as u64).is_none_or(|end| end > self.size()) {
                let text = format!("'{}' can't grow: it is {:#x} bytes large", self.link.name(), self.size());
                return Err(BlockError::new(ErrorKind::NoSpace, text).at(offset));
            }
            let _changing = self.known.changing();
            for (at, len) in pieces((0, data.len() as u64), self.link.unit.longest()) {
                let piece = data.slice(at as usize..(at + len) as usize);
                self.link.write(offset + at, piece, request.has(Flags::FUA)).await?;
            }
            Ok(())
        })
    }

    fn write_zeroes(&self, offset: u64, len: u64, request: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let unit = &self.link.unit;
            let unmap = request.has(Flags::MAY_UNMAP) && unit.zeroes_by_unmap();
            // Without giving back space it may take as long as writing them.
            if !self.may_write_same() || request.has(Flags::NO_FALLBACK) && !unmap {
                return Err(BlockError::unsupported("the unit has no fast zeroes"));
            }
            let _changing = self.known.changing();
            for (at, len) in pieces((offset, len), unit.most_same() * unit.block_size()) {
                match self.link.zero((at, len), unmap).await {
                    Err(error) if error.kind() == ErrorKind::Unsupported => {
                        self.no_same.store(true, Ordering::Relaxed);
                        // The core may take another way only where nothing has changed.
                        let text = format!("'{}' refused zeroes that it had taken before", self.link.name());
                        let changed = BlockError::new(ErrorKind::Io, text).at(at);
                        return Err(if at == offset { error } else { changed });
                    }
                    result => result?,
                }
            }
            Ok(())
        })
    }

    fn discard(&self, offset: u64, len: u64, _: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let unit = &self.link.unit;
            if !unit.provisioning.unmap || self.no_unmap.load(Ordering::Relaxed) {
                return Ok(());
            }
            let _changing = self.known.changing();
            for piece in pieces((offset, len), unit.most_unmap() * unit.block_size()) {
                match self.link.unmap(piece).await {
                    Err(error) if error.kind() == ErrorKind::Unsupported => {
                        self.no_unmap.store(true, Ordering::Relaxed);
                        return Ok(());
                    }
                    result => result?,
                }
            }
            Ok(())
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
                false => Err(BlockError::unsupported("Cannot resize iSCSI devices")),
            }
        })
    }

    fn set_writable(&self, writable: bool) -> BoxFuture<'_, Result<Undo>> {
        Box::pin(async move {
            if writable && self.read_only() {
                let text = format!("'{}' is write-protected", self.link.name());
                return Err(BlockError::new(ErrorKind::ReadOnly, text));
            }
            Ok(Box::new(|| {}) as Undo)
        })
    }

    fn reopen<'a>(&'a self, options: Options, _: &Common) -> BoxFuture<'a, Result<Reopened<'a>>> {
        Box::pin(async move {
            let options: BlockdevOptionsIscsi = options.read()?;
            let link = &self.link;
            if !location::means(options, link.location())? {
                let text =
                    format!("'{}' can't be exchanged for another unit, nor be used otherwise", link.name());
                return Err(BlockError::invalid(text));
            }
            Ok(Box::new(|| {}) as Reopened<'a>)
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.link.close().await;
            Ok(())
        })
    }
}

impl Drop for IscsiDriver {
    fn drop(&mut self) {
        self.link.leave();
    }
}

#[cfg(test)]
mod piece_tests {
    use super::*;

    #[test]
    fn pieces_cover_a_range() {
        assert_eq!(pieces((5, 7), 3).collect::<Vec<_>>(), [(5, 3), (8, 3), (11, 1)]);
        assert_eq!(pieces((5, 0), 3).count(), 0);
    }
}
