//! Space that is given back, and ranges that are zeroed the quick way.
use super::FileDriver;
use block::{BlockError, ErrorKind, Flags, Request, Result};
use rt::{Allocate, Errno};
use std::sync::atomic::{AtomicBool, Ordering::*};

impl FileDriver {
    pub(super) async fn punch(&self, offset: u64, len: u64) -> Result<()> {
        self.free(Allocate::PunchHole, &self.no_punch, offset, len).await
    }

    /// Frees a range in one of two ways, where it has not been refused before.
    pub(super) async fn free(
        &self,
        mode: Allocate,
        refused: &AtomicBool,
        offset: u64,
        len: u64,
    ) -> Result<()> {
        if refused.load(Relaxed) {
            return Err(BlockError::unsupported("no holes in this file system"));
        }
        self.changed();
        let result = self.file().allocate(mode, offset, len).await;
        self.changed();
        result.map_err(|e| self.fast_path_error(refused, "punching a hole in", offset, &e))
    }

    /// An unsupported fast path is remembered and reported as such, so that the core writes zeroes instead.
    fn fast_path_error(
        &self,
        refused: &AtomicBool,
        what: &str,
        offset: u64,
        e: &std::io::Error,
    ) -> BlockError {
        let error = self.error(what, offset, e);
        // Devices need whole sectors: another range may work.
        if self.is_device() && error.kind() == ErrorKind::Invalid {
            return BlockError::unsupported(error.message());
        }
        if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Invalid)
            || error.errno() == Errno::NOTTY.raw_os_error()
        {
            refused.store(true, Relaxed);
            return BlockError::unsupported(error.message());
        }
        error
    }

    pub(super) async fn zero(&self, offset: u64, len: u64, request: Request) -> Result<()> {
        let (unmap, no_fallback) = (request.has(Flags::MAY_UNMAP), request.has(Flags::NO_FALLBACK));
        if unmap {
            match self.punch(offset, len).await {
                Err(e) if e.kind() == ErrorKind::Unsupported => {}
                other => return other,
            }
        }
        // A device's zeroes may be written by the kernel, no faster than data. And Linux takes a loop device that can't
        // zero in place for one that can't punch from then on: it is asked only when no hole can be lost by that.
        let may_zero = !self.is_device() || self.no_punch.load(Relaxed) && !no_fallback;
        if may_zero && !self.no_zero_range.load(Relaxed) {
            self.changed();
            let result = self.file().allocate(Allocate::ZeroRange, offset, len).await;
            self.changed();
            match result.map_err(|e| self.fast_path_error(&self.no_zero_range, "zeroing", offset, &e)) {
                Err(e) if e.kind() == ErrorKind::Unsupported => {}
                other => return other,
            }
        }
        if unmap || self.is_device() || self.no_reserve.load(Relaxed) {
            return Err(BlockError::unsupported("no fast zeroes in this file system"));
        }
        // A memory file system can't zero a range, but punch it and reserve it again. If others take the space in between,
        // that is ENOSPC, with zeroes in the file already.
        self.punch(offset, len).await?;
        let result = self.file().allocate(Allocate::ReserveKeepSize, offset, len).await;
        self.changed();
        result.map_err(|e| self.fast_path_error(&self.no_reserve, "reserving room in", offset, &e))
    }
}
