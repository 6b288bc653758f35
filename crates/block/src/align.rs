//! Direct I/O to protocol nodes: requests are padded to the node's alignment. What is longer than a
//! bounce buffer goes in pieces; what a protocol can't take at once it cuts itself, for it alone knows what counts.
//!
//! A padded write reads what surrounds it, so it holds the aligned range exclusively; whole ones hold it shared.
//! Nodes without an alignment (the usual case) pass through untouched.
use crate::error::{BlockError, ErrorKind, Result};
use crate::lease::Lease;
use crate::node::Node;
use crate::request::{Flags, Request, Source};
use crate::steps::{Step, Told};
use api::PreallocMode;
use rt::{BoxFuture, Buf, BufMut};

/// The longest piece of one direct request; it bounds a bounce buffer.
const LONGEST: usize = 8 << 20;

impl Node {
    fn aligned(&self, offset: u64, bytes: &[u8]) -> bool {
        let mask = u64::from(self.alignment()) - 1;
        (offset | bytes.len() as u64 | bytes.as_ptr().addr() as u64) & mask == 0
    }

    /// The aligned range around `offset..offset + len`.
    fn padded(&self, offset: u64, len: u64) -> (u64, u64) {
        let align = u64::from(self.alignment());
        (offset - offset % align, (offset + len).next_multiple_of(align))
    }

    pub(crate) fn read_direct(&self, offset: u64, buf: BufMut) -> BoxFuture<'_, (BufMut, Result<()>)> {
        if self.alignment() <= 1 || (self.aligned(offset, &buf) && buf.len() <= LONGEST) {
            return self.driver.read(offset, buf);
        }
        Box::pin(async move {
            let mut buf = buf;
            let mut done = 0;
            while done < buf.len() {
                let len = (buf.len() - done).min(LONGEST);
                let (start, end) = self.padded(offset + done as u64, len as u64);
                let (bounce, result) =
                    self.driver.read(start, BufMut::with_len((end - start) as usize)).await;
                if let Err(e) = result {
                    return (buf, Err(e));
                }
                let skip = (offset + done as u64 - start) as usize;
                buf[done..done + len].copy_from_slice(&bounce[skip..skip + len]);
                done += len;
            }
            (buf, Ok(()))
        })
    }

    pub(crate) async fn write_direct(&self, offset: u64, data: Buf, request: Request) -> Result<()> {
        if self.alignment() <= 1 {
            return self.write_here(offset, data, request).await;
        }
        let mut done = 0;
        while done < data.len() {
            let len = (data.len() - done).min(LONGEST);
            self.write_padded(offset + done as u64, data.slice(done..done + len), request).await?;
            done += len;
        }
        Ok(())
    }

    fn announce_if(&self, so: bool, step: Step) -> Told<'_> {
        if so { self.announce(step) } else { Told::NOBODY }
    }

    /// Writes what is aligned.
    async fn write_here(&self, offset: u64, data: Buf, request: Request) -> Result<()> {
        self.announce(Step::Pwritev).await;
        let written = self.driver.write(offset, data, request).await;
        self.announce(Step::PwritevDone).await;
        written
    }

    /// Zeroes what is aligned.
    async fn zero_here(&self, offset: u64, len: u64, request: Request) -> Result<()> {
        self.announce(Step::PwritevZero).await;
        let zeroed = self.driver.write_zeroes(offset, len, request).await;
        self.announce(Step::PwritevDone).await;
        zeroed
    }

    async fn write_padded(&self, offset: u64, data: Buf, request: Request) -> Result<()> {
        let (start, end) = self.padded(offset, data.len() as u64);
        let written = offset + data.len() as u64;
        let whole = start == offset && end == written;
        // Padding behind the end of the node is in its storage for a moment; nobody else may grow it meanwhile.
        let reach = || if end > written && end > self.driver.length() { u64::MAX } else { end };
        let mut to = reach();
        let mut lease = self.padding.lease(start, to, !whole).await;
        if to < reach() {
            // While this waited, the end went back.
            drop(lease);
            to = u64::MAX;
            lease = self.padding.lease(start, to, !whole).await;
        }
        if self.aligned(offset, &data) {
            return self.write_here(offset, data, request).await;
        }
        let length = self.driver.length().max(written);
        let padding = end.saturating_sub(length);
        let mut bounce = BufMut::with_len((end - start) as usize);
        if !whole {
            let (head, tail) = (start < offset, written < end);
            self.announce_if(head, Step::PwritevRmwHead).await;
            self.announce_if(tail, Step::PwritevRmwTail).await;
            let result;
            (bounce, result) = self.driver.read(start, bounce).await;
            result?;
            self.announce_if(head, Step::PwritevRmwAfterHead).await;
            self.announce_if(tail, Step::PwritevRmwAfterTail).await;
        }
        let skip = (offset - start) as usize;
        bounce[skip..skip + data.len()].copy_from_slice(&data);
        let padded = request.sent_by(Source::Padding { beyond: padding as u32 });
        self.write_here(start, bounce.freeze(), padded).await?;
        if padding > 0 {
            self.driver.resize(length, PreallocMode::Off).await?;
        }
        drop(lease);
        Ok(())
    }

    /// Changes the length, as [`crate::Driver::resize`] does, while no padded write is under way that would cut off what the
    /// node has been grown by. Its dirty bitmaps follow; it is refused where one of them could not.
    pub async fn set_length(&self, size: u64, preallocation: PreallocMode) -> Result<()> {
        self.bitmaps.check_length(size)?;
        let _end = self.lease_end(size).await;
        self.resizing(size, self.driver.resize(size, preallocation)).await
    }

    /// Grows the node to `size` bytes, if it has fewer.
    pub async fn grow_to(&self, size: u64) -> Result<()> {
        let _end = self.lease_end(size).await;
        if self.driver.length() >= size {
            return Ok(());
        }
        self.resizing(size, self.driver.resize(size, PreallocMode::Off)).await
    }

    /// Has what follows from the length follow a change of it, which is to be `size`: dirty bitmaps, and what is known of a
    /// chain with this node in it.
    pub(crate) async fn resizing(&self, size: u64, work: impl Future<Output = Result<()>>) -> Result<()> {
        // What a larger disk shows behind its old end may be written before it is larger.
        self.bitmaps.resize(|old| old.max(size));
        let resized = work.await;
        self.edges.chain().forget();
        self.bitmaps.resize(|_| self.length());
        if resized.is_ok() {
            self.acknowledges();
        }
        resized
    }

    /// Waits until no write is under way beyond `size` or the end, and keeps others from there.
    async fn lease_end(&self, size: u64) -> Option<Lease> {
        if self.alignment() <= 1 {
            return None;
        }
        Some(self.padding.lease(size.min(self.driver.length()), u64::MAX, true).await)
    }

    pub(crate) async fn zero_direct(&self, offset: u64, len: u64, request: Request) -> Result<()> {
        let align = u64::from(self.alignment().max(1));
        let (start, end) = (offset.next_multiple_of(align), (offset + len) / align * align);
        if start >= end {
            return self.zeroes_directly(offset, len, request).await;
        }
        self.zeroes_directly(offset, start - offset, request).await?;
        let zeroed = if self.alignment() > 1 {
            let _lease = self.padding.lease(start, end, false).await;
            self.zero_here(start, end - start, request).await
        } else {
            self.zero_here(start, end - start, request).await
        };
        match zeroed {
            Err(e) if e.kind() == ErrorKind::Unsupported => {
                self.zeroes_directly(start, end - start, request).await?
            }
            other => other?,
        }
        self.zeroes_directly(end, offset + len - end, request).await
    }

    /// Writes zeroes as data.
    async fn zeroes_directly(&self, offset: u64, len: u64, request: Request) -> Result<()> {
        if len > 0 && request.has(Flags::NO_FALLBACK) && len >= u64::from(self.alignment()) {
            return Err(
                BlockError::unsupported("zeroes can't be written faster than data here").at_node(&self.name)
            );
        }
        let zeroes = BufMut::zeroed(len.min(1 << 20) as usize).freeze();
        let mut done = 0;
        while done < len {
            let piece = (len - done).min(zeroes.len() as u64);
            self.write_direct(offset + done, zeroes.slice(0..piece as usize), request).await?;
            done += piece;
        }
        Ok(())
    }

    pub(crate) async fn discard_direct(&self, offset: u64, len: u64, request: Request) -> Result<()> {
        let align = u64::from(self.alignment().max(1));
        let (start, end) = (offset.next_multiple_of(align), (offset + len) / align * align);
        if start < end { self.driver.discard(start, end - start, request).await } else { Ok(()) }
    }
}
