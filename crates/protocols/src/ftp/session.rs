//! A user's session: a control connection, and at most one transfer that stands where it was left.
//!
//! A transfer goes from a byte to the end of the file. Reads that follow each other take from it; so does one a little farther
//! on, which drops what is between. Any other place ends it: its connection is closed, the server says that it noticed, and the
//! next transfer begins (REST). The command ABOR is not sent: servers take it up when their transfer has ended, with one answer
//! or two, so that closing is surer.
//!
//! Law: after an error the session is of no use any more.

use super::control::Control;
use super::failure::Failure;
use super::location::Location;
use block::Secret;
use rt::BufMut;
use std::time::Duration;
use tls::{Channel, Trust};

/// Bytes that are dropped rather than that a transfer is begun anew: they come sooner.
pub(super) const SKIP: u64 = 128 << 10;
/// Bytes that are dropped at a time.
const DROP: usize = 32 << 10;
/// Bytes that a server sends within the time for which it may be silent.
pub(super) const STEP: usize = 64 << 10;

/// A file as a server tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub size: u64,
    /// When it was changed, in the server's words.
    pub modified: Option<String>,
}

impl Facts {
    /// They are those of the same file, as far as is known.
    pub fn agree(&self, other: &Self) -> bool {
        self.size == other.size
            && (self.modified == other.modified || self.modified.is_none() || other.modified.is_none())
    }
}

/// A session that is open.
pub(super) struct Session {
    control: Control,
    facts: Facts,
    transfer: Option<Transfer>,
    /// A transfer has been begun.
    begun: bool,
    usable: bool,
}

/// A transfer that goes on.
struct Transfer {
    data: Channel,
    /// The byte of the file that comes next.
    at: u64,
}

impl Session {
    /// Logs in, and asks for the file.
    pub async fn open(
        location: &Location,
        password: &Secret,
        trust: Option<&Trust>,
    ) -> Result<Self, Failure> {
        let mut control = Control::open(location, password, trust).await?;
        let size = control.size(&location.path).await?;
        let modified = control.modified(&location.path).await?;
        Ok(Self { control, facts: Facts { size, modified }, transfer: None, begun: false, usable: true })
    }

    /// What the server tells of the file.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Something can be asked for still.
    pub fn is_usable(&self) -> bool {
        self.usable
    }

    /// No transfer has been begun yet.
    pub fn is_fresh(&self) -> bool {
        !self.begun
    }

    /// The transfer that is open comes to this byte.
    pub fn comes_to(&self, offset: u64) -> bool {
        let near = |transfer: &Transfer| (transfer.at..=transfer.at.saturating_add(SKIP)).contains(&offset);
        self.transfer.as_ref().is_some_and(near)
    }

    /// Fills what is behind the first `filled` bytes of `buf`, which begins at `offset` and ends within the file.
    pub async fn read_at(
        &mut self,
        location: &Location,
        trust: Option<&Trust>,
        offset: u64,
        buf: &mut BufMut,
        filled: &mut usize,
    ) -> Result<(), Failure> {
        let offset = offset + *filled as u64;
        if !self.comes_to(offset) {
            self.stop().await?;
            self.begin(location, trust, offset).await?;
        }
        self.skip_to(offset, location.timeout).await?;
        self.fill(buf, filled, location.timeout).await?;
        self.finish(location.timeout).await
    }

    async fn begin(&mut self, location: &Location, trust: Option<&Trust>, at: u64) -> Result<(), Failure> {
        // The file may have been replaced since the session began: what comes now must not stand beside what came of the old one.
        if std::mem::replace(&mut self.begun, true) && self.facts.modified.is_some() {
            let modified = self.control.modified(&location.path).await?;
            if !self.facts.agree(&Facts { size: self.facts.size, modified }) {
                return Err(Failure::Changed);
            }
        }
        let data = self.control.data_connection().await?;
        self.control.retrieve(&location.path, at).await?;
        self.control.secure_data(&data, location, trust).await?;
        self.transfer = Some(Transfer { data, at });
        Ok(())
    }

    /// Ends a transfer before its time.
    async fn stop(&mut self) -> Result<(), Failure> {
        if let Some(transfer) = self.transfer.take() {
            // In TLS the end is said: a session whose channel breaks off is not taken up again by the next one.
            let _ = transfer.data.shutdown();
            drop(transfer);
            // Whatever the server says: it has noticed.
            self.control.final_reply("when a transfer was ended").await?;
        }
        Ok(())
    }

    async fn skip_to(&mut self, offset: u64, timeout: Duration) -> Result<(), Failure> {
        let mut dropped = Vec::new();
        while let Some(left) =
            self.transfer.as_ref().map(|transfer| offset - transfer.at).filter(|left| *left > 0)
        {
            dropped.resize(DROP.min(usize::try_from(left).unwrap_or(DROP)), 0);
            self.fill(&mut dropped, &mut 0, timeout).await?;
        }
        Ok(())
    }

    /// Fills what is behind the first `filled` bytes of `buf`, each [`STEP`] of it in the time.
    async fn fill(&mut self, buf: &mut [u8], filled: &mut usize, timeout: Duration) -> Result<(), Failure> {
        while *filled < buf.len() {
            let until = filled.saturating_add(STEP).min(buf.len());
            let step = async {
                while *filled < until {
                    match self.receive(buf.get_mut(*filled..).unwrap_or_default()).await? {
                        0 => return Ok(false),
                        n => *filled += n,
                    }
                }
                Ok(true)
            };
            let stepped = rt::timeout(timeout, step).await;
            if !stepped.unwrap_or(Err(Failure::Silence { what: "sending the file", timeout }))? {
                return Err(self.ended_early().await);
            }
        }
        Ok(())
    }

    /// Receives something of the file; 0 bytes are the end of the transfer.
    async fn receive(&mut self, to: &mut [u8]) -> Result<usize, Failure> {
        let Some(transfer) = &mut self.transfer else { return Err(Failure::GivenUp(None)) };
        let n = transfer.data.recv(to).await.map_err(Failure::network("the transfer broke"))?;
        transfer.at += n as u64;
        Ok(n)
    }

    /// A transfer has ended before the file: why, if the server says so, for which it has a time of its own.
    async fn ended_early(&mut self) -> Failure {
        let at = self.transfer.take().map_or(0, |transfer| transfer.at);
        let reply = self.control.final_reply("when a transfer had ended").await.ok();
        Failure::Short { at, size: self.facts.size, reply: reply.filter(|reply| !reply.is_done()) }
    }

    /// Hears the end of a transfer that has come to the end of the file.
    async fn finish(&mut self, timeout: Duration) -> Result<(), Failure> {
        let size = self.facts.size;
        let Some(transfer) = self.transfer.take_if(|transfer| transfer.at >= size) else { return Ok(()) };
        let more = rt::timeout(timeout, transfer.data.recv(&mut [0])).await;
        if matches!(more, Ok(Ok(1..))) {
            return Err(Failure::Long(size));
        }
        let _ = transfer.data.shutdown();
        drop(transfer);
        // All of it has come: what the server says of it changes nothing.
        self.usable = self.control.final_reply("when a transfer had ended").await.is_ok();
        Ok(())
    }

    /// Takes leave at once, also in the middle of a transfer.
    pub async fn leave(self) {
        self.control.quit().await;
    }

    /// Takes leave.
    pub async fn close(mut self) {
        if self.stop().await.is_ok() {
            self.control.quit().await;
        }
    }
}
