//! Formats that are only read: how their images are opened, and what is kept of what was decoded.
use block::{BlockError, ErrorKind, Leases, OpenContext, Result};
use parking_lot::Mutex;
use rt::{Buf, BufMut};
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes of decoded units that are kept; one unit, where that has more.
const KEPT: usize = 8 << 20;

/// Bytes of units that are decoded at once for one request; one unit, where that has more.
const AT_ONCE: u64 = 4 << 20;

/// The error of an image that can't be written to.
pub fn refused() -> BlockError {
    BlockError::new(ErrorKind::ReadOnly, "Image is read-only")
}

/// Refuses to open an image for writing.
pub fn require(context: &mut OpenContext) -> Result<()> {
    let read_only = context.common().read_only || context.fall_back_to_read_only();
    if read_only { Ok(()) } else { Err(refused()) }
}

/// The units that were decoded last, by their numbers.
pub struct Decoded {
    units: Mutex<VecDeque<(u64, Buf)>>,
    /// Those that are being decoded.
    decoding: Arc<Leases>,
}

impl Decoded {
    pub fn new() -> Self {
        Self { units: Mutex::default(), decoding: Leases::new() }
    }

    /// Forgets all.
    pub fn forget(&self) {
        self.units.lock().clear();
    }

    /// Reads `buf` from byte `offset` on of a disk in units of `size` bytes, several units at a time.
    pub async fn read<F: Future<Output = Result<Buf>>>(
        &self,
        size: u64,
        offset: u64,
        mut buf: BufMut,
        decode: impl Fn(u64) -> F,
    ) -> (BufMut, Result<()>) {
        let (end, mut at) = (offset + buf.len() as u64, offset);
        while at < end {
            let first = at / size;
            let count = (AT_ONCE / size).clamp(1, 16).min((end - 1) / size - first + 1);
            let units = (first..first + count).map(|unit| self.unit(unit, &decode));
            let contents = match futures_util::future::try_join_all(units).await {
                Ok(contents) => contents,
                Err(e) => return (buf, Err(e)),
            };
            for content in contents {
                let (within, done) = ((at % size) as usize, (at - offset) as usize);
                let len = (size as usize - within).min(buf.len() - done);
                if let (Some(to), Some(from)) =
                    (buf.get_mut(done..done + len), content.get(within..within + len))
                {
                    to.copy_from_slice(from);
                }
                at += len as u64;
            }
        }
        (buf, Ok(()))
    }

    /// A unit's content.
    async fn unit<F: Future<Output = Result<Buf>>>(
        &self,
        unit: u64,
        decode: &impl Fn(u64) -> F,
    ) -> Result<Buf> {
        // Those that come for the same unit find it decoded.
        let _lease = self.decoding.lease(unit, unit + 1, true).await;
        let known =
            self.units.lock().iter().find(|(known, _)| *known == unit).map(|(_, content)| content.clone());
        if let Some(content) = known {
            return Ok(content);
        }
        let content = decode(unit).await?;
        let mut units = self.units.lock();
        units.truncate((KEPT / content.len().max(1)).max(1) - 1);
        units.push_front((unit, content.clone()));
        Ok(content)
    }
}
