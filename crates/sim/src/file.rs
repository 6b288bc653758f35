//! An open file of the simulated machine.

use std::io;
use std::sync::Arc;

use rt::{Allocate, BoxFuture, Buf, BufMut, Errno, FileExtent, FileKind, FileStat, RawFile, Try};

use crate::content::Content;
use crate::effect::{Effect, SECTOR};
use crate::fault::{EIO, ENOSPC, Fault, OpKind};
use crate::world::{Answer, Body, Inner, Shared};

fn errno<T>(n: i32) -> io::Result<T> {
    Err(io::Error::from_raw_os_error(n))
}

pub(crate) struct SimFile {
    pub(crate) shared: Arc<Shared>,
    pub(crate) ino: u64,
    pub(crate) owner: u64,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    pub(crate) alignment: u32,
}

impl SimFile {
    /// What O_DIRECT demands of a request.
    fn aligned(&self, off: u64, bytes: &[u8]) -> bool {
        let mask = u64::from(self.alignment) - 1;
        (off | bytes.len() as u64 | bytes.as_ptr().addr() as u64) & mask == 0
    }

    fn may_read(&self, off: u64, buf: &[u8]) -> io::Result<()> {
        match (self.readable, self.aligned(off, buf)) {
            (false, _) => errno(Errno::BADF.raw_os_error()),
            (_, false) => errno(Errno::INVAL.raw_os_error()),
            _ => Ok(()),
        }
    }

    fn may_write(&self, off: u64, len: usize) -> io::Result<()> {
        let fits = off.checked_add(len as u64).is_some_and(|end| i64::try_from(end).is_ok());
        match (self.writable, fits) {
            (false, _) => errno(Errno::BADF.raw_os_error()),
            (_, false) => errno(Errno::INVAL.raw_os_error()),
            _ => Ok(()),
        }
    }

    async fn perform(
        &self,
        kind: OpKind,
        what: &'static str,
        body: Body,
        effect: Option<Effect>,
    ) -> (Body, io::Result<usize>) {
        let id = self.shared.0.lock().issue(kind, self.ino, what, body, effect);
        Answer { shared: self.shared.clone(), id }.await
    }

    async fn change(&self, kind: OpKind, what: &'static str, effect: Effect) -> io::Result<()> {
        self.may_write(0, 0)?;
        self.perform(kind, what, Body::Change, Some(effect)).await.1.map(drop)
    }

    /// A write whose operation is `body`.
    fn write_as<'a>(
        &'a self,
        what: &'static str,
        off: u64,
        buf: Buf,
        body: impl FnOnce(&Inner) -> Body + Send + 'a,
    ) -> BoxFuture<'a, (Buf, io::Result<()>)> {
        Box::pin(async move {
            let allowed = self.may_write(off, buf.len());
            if allowed.is_err() {
                return (buf, allowed);
            }
            if !self.aligned(off, &buf) {
                return (buf, errno(Errno::INVAL.raw_os_error()));
            }
            if buf.is_empty() {
                return (buf, Ok(()));
            }
            let body = {
                let mut inner = self.shared.0.lock();
                inner.note("bytes", [self.ino, off, buf.len() as u64]);
                inner.mix(digest(&buf));
                body(&inner)
            };
            let result = self.perform(OpKind::Write, what, body, Some(Effect::write(off, &buf))).await.1;
            (buf, result.map(drop))
        })
    }

    /// How much of an inline request is answered: all, a part, or nothing. A part ends with a sector of the file: the
    /// kernel copies less than that at once.
    fn inline_part(&self, kind: OpKind, off: u64, len: usize) -> Result<usize, Try<usize>> {
        let mut inner = self.shared.0.lock();
        if inner.dead() {
            return Err(Try::Done(errno(EIO)));
        }
        if !inner.config.inline || self.alignment > 1 || inner.rng.chance(1, 4) {
            return Err(Try::WouldBlock);
        }
        match inner.meet(kind, self.ino) {
            Some(Fault::Errno(n)) => return Err(Try::Done(errno(n))),
            Some(Fault::Stall(_)) => return Err(Try::WouldBlock),
            None => {}
        }
        let first = (SECTOR - off % SECTOR) as usize;
        let ends = len.saturating_sub(first).div_ceil(SECTOR as usize);
        let short = ends > 0 && inner.rng.chance(1, 6);
        Ok(if short { first + inner.rng.index(ends) * SECTOR as usize } else { len })
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.shared.0.lock().unlock(self.ino, self.owner, 0, 0);
    }
}

impl RawFile for SimFile {
    fn try_read(&self, off: u64, buf: &mut [u8]) -> Try<usize> {
        if let Err(error) = self.may_read(off, buf) {
            return Try::Done(Err(error));
        }
        match self.inline_part(OpKind::Read, off, buf.len()) {
            Err(answer) => answer,
            Ok(len) => {
                let mut inner = self.shared.0.lock();
                inner.note("try_read", [self.ino, off, len as u64]);
                let cache = inner.disk.cache(self.ino);
                Try::Done(Ok(cache.zip(buf.get_mut(..len)).map_or(0, |(cache, buf)| cache.read(off, buf))))
            }
        }
    }

    fn try_write(&self, off: u64, buf: &[u8]) -> Try<usize> {
        if let Err(error) = self.may_write(off, buf.len()) {
            return Try::Done(Err(error));
        }
        match self.inline_part(OpKind::Write, off, buf.len()) {
            Err(answer) => answer,
            Ok(len) => {
                let mut inner = self.shared.0.lock();
                inner.note("try_write", [self.ino, off, len as u64]);
                inner.mix(digest(buf));
                let effect = Effect::write(off, buf.get(..len).unwrap_or_default());
                if inner.lacks_room(self.ino, &effect) {
                    return Try::Done(errno(ENOSPC));
                }
                inner.change_now(self.ino, "did", effect);
                Try::Done(Ok(len))
            }
        }
    }

    fn read(&self, off: u64, buf: BufMut) -> BoxFuture<'_, (BufMut, io::Result<usize>)> {
        Box::pin(async move {
            if let Err(error) = self.may_read(off, &buf) {
                return (buf, Err(error));
            }
            let mut buf = buf;
            // What it holds is unspecified; of a byte that no read fills, no test may take it for data.
            buf.fill(0xa5);
            let len = buf.len();
            let parts = self.shared.0.lock().read_parts(off, len);
            let body = Body::Read { off, buf, parts, got: 0 };
            match self.perform(OpKind::Read, "read", body, None).await {
                (Body::Read { buf, .. }, result) => (buf, result),
                (_, result) => (BufMut::with_len(len), result),
            }
        })
    }

    fn write(&self, off: u64, buf: Buf) -> BoxFuture<'_, (Buf, io::Result<()>)> {
        self.write_as("write", off, buf, |_| Body::Change)
    }

    fn write_durably(&self, off: u64, buf: Buf) -> BoxFuture<'_, (Buf, io::Result<()>)> {
        if !self.shared.0.lock().config.durable_writes {
            return Box::pin(std::future::ready((buf, Err(io::ErrorKind::Unsupported.into()))));
        }
        self.write_as("write_durably", off, buf, |inner| Body::Durable {
            covers: inner.disk.covered(self.ino),
            fails: false,
        })
    }

    fn sync(&self, _data_only: bool) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            let covered = self.shared.0.lock().disk.covered(self.ino);
            self.perform(OpKind::Sync, "sync", Body::Sync(covered), None).await.1.map(drop)
        })
    }

    fn allocate(&self, mode: Allocate, off: u64, len: u64) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            if len == 0 {
                return errno(Errno::INVAL.raw_os_error());
            }
            self.may_write(off, usize::try_from(len).unwrap_or(usize::MAX))?;
            let (what, effect) = match mode {
                Allocate::Reserve => ("reserve", Effect::reserve(off, len, true)),
                Allocate::ReserveKeepSize => ("reserve", Effect::reserve(off, len, false)),
                Allocate::PunchHole | Allocate::Discard => ("punch", Effect::punch(off, len)),
                Allocate::ZeroRange => ("zero", Effect::zero(off, len)),
            };
            self.shared.0.lock().note("bytes", [self.ino, off, len]);
            self.change(OpKind::Allocate, what, effect).await
        })
    }

    fn set_len(&self, len: u64) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            self.shared.0.lock().note("bytes", [self.ino, len, 0]);
            self.change(OpKind::SetLen, "set_len", Effect::set_len(len)).await
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.stat().map(|stat| stat.len)
    }

    fn extent(&self, off: u64) -> BoxFuture<'_, io::Result<FileExtent>> {
        Box::pin(async move {
            if off >= self.len()? {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "the offset lies beyond the end of the file",
                ));
            }
            self.perform(OpKind::Extent, "extent", Body::Pause, None).await.1?;
            let inner = self.shared.0.lock();
            // The file may have been cut meanwhile: the run is then what lies between.
            let (data, end) = inner.disk.cache(self.ino).map_or((false, 0), |cache| cache.extent(off));
            Ok(FileExtent { data, end: end.max(off + 1) })
        })
    }

    fn stat(&self) -> io::Result<FileStat> {
        let inner = self.shared.0.lock();
        match inner.disk.cache(self.ino) {
            Some(cache) => Ok(file_stat(self.ino, cache, inner.disk.changed(self.ino))),
            None => errno(EIO),
        }
    }

    fn alignment(&self) -> u32 {
        self.alignment
    }

    fn try_lock(&self, start: u64, len: u64, exclusive: bool) -> io::Result<bool> {
        Ok(self.shared.0.lock().lock(self.ino, self.owner, start, len, exclusive))
    }

    fn unlock(&self, start: u64, len: u64) -> io::Result<()> {
        self.shared.0.lock().unlock(self.ino, self.owner, start, len);
        Ok(())
    }

    fn test_lock(&self, start: u64, len: u64, exclusive: bool) -> io::Result<bool> {
        Ok(self.shared.0.lock().may_lock(self.ino, self.owner, start, len, exclusive))
    }
}

/// A number that differs when the bytes do.
fn digest(bytes: &[u8]) -> u64 {
    let words = bytes.chunks(8).map(|word| word.iter().fold(0u64, |n, byte| n << 8 | u64::from(*byte)));
    words.fold(0, |hash: u64, word| (hash ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23))
}

/// What is known of a file that was last changed at `changed`.
pub(crate) fn file_stat(ino: u64, cache: &Content, changed: i64) -> FileStat {
    FileStat {
        kind: FileKind::Regular,
        len: cache.len(),
        allocated: cache.allocated(),
        dev: 1,
        ino,
        rdev: 0,
        mode: 0o100_644,
        modified_ns: changed,
        changed_ns: changed,
    }
}
