//! The old disk, for those who read it.
use super::PointInTime;
use crate::edges::ChildId;
use crate::error::{BlockError, ErrorKind, Result};
use crate::request::Request;
use rt::BufMut;

impl PointInTime {
    /// Refuses readers when the old disk can't be had any more.
    fn readable(&self) -> Result<()> {
        self.check().map_err(|error| BlockError::new(ErrorKind::Permission, error.message()))
    }

    /// Who has the start of a range as it was, and of how many bytes.
    fn keeper(&self, offset: u64, len: u64) -> Result<(ChildId, u64)> {
        self.readable()?;
        let (unreadable, end) = self.unreadable.run_at(offset, offset.saturating_add(len));
        if unreadable {
            let text = "this part of the disk is not in the snapshot";
            return Err(BlockError::new(ErrorKind::Permission, text).at(offset));
        }
        let len = len.min(end.saturating_sub(offset));
        let (uncopied, end) = self.uncopied.run_at(offset, offset.saturating_add(len));
        let keeper = if uncopied { self.source } else { self.target };
        Ok((keeper, len.min(end.saturating_sub(offset)).max(1)))
    }

    /// Whether what was just learned from `keeper` is true of the disk as it was.
    fn is_true(&self, keeper: ChildId, offset: u64, len: u64) -> Result<bool> {
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        self.readable()?;
        let (unreadable, end) = self.unreadable.run_at(offset, offset + len);
        if unreadable || end < offset + len {
            // It was given up meanwhile: `keeper` tells.
            return Ok(false);
        }
        let (uncopied, end) = self.uncopied.run_at(offset, offset + len);
        Ok(keeper == self.target || (uncopied && end >= offset + len))
    }

    /// Reads all of `buf` as it was.
    pub async fn read(&self, offset: u64, mut buf: BufMut) -> (BufMut, Result<()>) {
        let mut done = buf.split_to(0);
        while !buf.is_empty() {
            let at = offset + done.len() as u64;
            let (keeper, len) = match self.keeper(at, buf.len() as u64) {
                Ok(found) => found,
                Err(e) => return (joined(done, buf), Err(e)),
            };
            let piece = buf.split_to(len as usize);
            let (piece, read) = match self.node(keeper) {
                Ok(node) => node.read(at, piece).await,
                Err(e) => (piece, Err(e)),
            };
            match read.and_then(|()| self.is_true(keeper, at, len)) {
                Ok(true) => done = joined(done, piece),
                Ok(false) => buf = joined(piece, buf),
                Err(e) => return (joined(joined(done, piece), buf), Err(e)),
            }
        }
        (done, Ok(()))
    }

    /// What the start of a range was: how many bytes, and whether they read as zeroes.
    pub async fn status(&self, offset: u64, len: u64) -> Result<(u64, bool)> {
        loop {
            let (keeper, len) = self.keeper(offset, len)?;
            let status = self.node(keeper)?.status(offset, len, None).await?;
            let len = status.len.min(len);
            if self.is_true(keeper, offset, len)? {
                return Ok((len, status.zero));
            }
        }
    }

    /// Whole clusters of the range are needed no more: they are not copied away any more, and the space of their copies is
    /// given back. They can't be read afterwards.
    pub async fn discard(&self, offset: u64, len: u64) -> Result<()> {
        let cluster = self.cluster();
        let end = offset.saturating_add(len).min(self.length());
        let start = offset.checked_next_multiple_of(cluster).unwrap_or(end);
        let end = if end == self.length() { end } else { end - end % cluster };
        if start >= end {
            return Ok(());
        }
        let _lease = self.leases.lease(start, end, true).await;
        self.unreadable.mark(start, end - start);
        let mut at = start;
        while let Some(from) = self.uncopied.next_dirty(at).filter(|from| *from < end) {
            at = self.uncopied.take_run(from, end);
        }
        self.node(self.target)?.discard(start, end - start, Request::GUEST).await
    }
}

fn joined(mut front: BufMut, back: BufMut) -> BufMut {
    if front.is_empty() {
        return back;
    }
    if !back.is_empty() {
        front.unsplit(back);
    }
    front
}
