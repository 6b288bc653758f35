//! Devices of this machine: what they have beside what files have. Their size is the system's to change; hardware can be missing, or
//! go; the disc in a CD drive comes and goes while the drive is open.
use super::FileDriver;
use block::{BlockError, ErrorKind, Result};
use rt::{BufMut, Disc, Errno, File};
use std::sync::Arc;
use std::sync::atomic::Ordering::*;

/// What is behind a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Regular,
    Device,
    CdDrive,
}

/// What failed, and what a user can do about hardware that is not there.
pub(super) fn failed(what: String, e: &std::io::Error) -> BlockError {
    let advice = match Errno::from_io_error(e) {
        Some(Errno::NOENT) => "no device has this name: see whether it is connected, and the name right",
        Some(Errno::NXIO) => "no device is behind this name: connect it, or load its driver",
        Some(Errno::NODEV) => {
            "the system has no driver for this device, or it was removed: connect it, load its driver"
        }
        Some(Errno::NOMEDIUM) => "there is no medium in the drive: insert one",
        _ => return BlockError::os(what, e),
    };
    BlockError::os(format!("{what} ({advice})"), e)
}

impl FileDriver {
    /// Whether it is a device, of whatever kind.
    pub(super) fn is_device(&self) -> bool {
        self.kind != Kind::Regular
    }

    /// Takes over the size that the device has by now; no other one can be asked for.
    pub(super) fn resize_device(&self, size: u64) -> Result<()> {
        let length = self.file().len();
        let length = length.map_err(|e| failed(format!("'{}' can't be looked at", self.filename), &e))?;
        if size == length {
            self.length.store(length, Release);
            return Ok(());
        }
        let what = if size > length { "grow" } else { "resize" };
        let text = format!("Cannot {what} device files ('{}' has {length} bytes)", self.filename);
        Err(BlockError::new(ErrorKind::Unsupported, text))
    }

    /// The error of a read behind the end of a device that was larger: zeroes would be made up.
    pub(super) fn has_shrunk(&self, end: u64) -> BlockError {
        let text =
            format!("reading '{}' failed: the device ends at {end:#x} now, and was larger", self.filename);
        BlockError::new(ErrorKind::Io, text).at(end)
    }

    /// Reads from a CD drive. A request that meets another disc than the one before takes it up and fails, so that nobody gets a part
    /// of each for one disc; so does one that fails while there is a disc, for the system may read no other disc through what was
    /// opened before.
    pub(super) async fn read_disc(&self, offset: u64, buf: BufMut) -> (BufMut, Result<()>) {
        let before = self.length.load(Acquire);
        let (buf, result) = filled(self.file().read(offset, buf).await);
        let same_size = self.file().len().is_ok_and(|now| now == before);
        let error = match result {
            Ok(()) if same_size => return (buf, Ok(())),
            Ok(()) => None,
            Err(e) => Some(e),
        };
        let failed = || format!("reading '{}' at {offset:#x} failed", self.filename);
        if let Some(e) = &error {
            let without = |state: &str| {
                let cause = Errno::NOMEDIUM.into();
                BlockError::os(format!("{} ({state})", failed()), &cause).at(offset)
            };
            match self.file().disc().await {
                Ok(Disc::Present) => {}
                Ok(Disc::Missing) => return (buf, Err(without("there is no disc in the drive: insert one"))),
                Ok(Disc::TrayOpen) => return (buf, Err(without("the drive's tray is open: close it"))),
                Ok(Disc::NotReady) => return (buf, Err(without("the drive is not ready yet: try again"))),
                Err(_) => return (buf, Err(self.error("reading", offset, e))),
            }
        }
        let taken_up = self.take_up_disc().await;
        let error = match (taken_up, error) {
            (Ok(()), Some(e)) if self.length.load(Acquire) == before => self.error("reading", offset, &e),
            (Err(_), Some(e)) => self.error("reading", offset, &e),
            (Err(e), None) => e,
            (Ok(()), _) => {
                let text = format!("{}: the disc was changed; from now on the new one is read", failed());
                BlockError::new(ErrorKind::Io, text).at(offset)
            }
        };
        (buf, Err(error))
    }

    /// Opens the drive again, for the disc that is in it now.
    async fn take_up_disc(&self) -> Result<()> {
        let file = self.opened_anew(false, self.direct.load(Acquire)).await?;
        let length = file.len().map_err(|e| failed(format!("'{}' can't be looked at", self.filename), &e))?;
        self.file.store(Arc::new(file));
        self.length.store(length, Release);
        Ok(())
    }
}

/// A read whose rest, behind the end, is zeroes.
fn filled((mut buf, result): (BufMut, std::io::Result<usize>)) -> (BufMut, std::io::Result<()>) {
    let result = result.map(|got| buf.get_mut(got..).unwrap_or_default().fill(0));
    (buf, result)
}

/// Refuses what is no CD drive.
pub(super) async fn need_cd_drive(filename: &str, file: &File) -> Result<()> {
    match file.disc().await {
        Err(e) if e.kind() == std::io::ErrorKind::Unsupported => Err(BlockError::invalid(format!(
            "'host_cdrom' driver requires '{filename}' to be a CD drive; for other devices use 'host_device'"
        ))),
        // A drive that fails to tell its state is still a drive.
        _ => Ok(()),
    }
}

/// Refuses a device without a medium: it was opened without a wait for one, and has no size.
pub(super) async fn need_medium(filename: &str, file: &File) -> Result<()> {
    let what = || format!("Could not open '{filename}'");
    if file.len().map_err(|e| failed(what(), &e))? > 0 {
        return Ok(());
    }
    let name = filename.to_owned();
    // As everybody opens it: its driver then looks for a medium.
    let opened = rt::blocking(move || std::fs::File::open(rt::fs::path(&name)).map(drop)).await;
    opened.map_err(|e| failed(what(), &e))
}
