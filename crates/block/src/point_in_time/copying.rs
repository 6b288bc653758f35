//! Copying what is about to change.
use super::{CopyAway, PointInTime, WhenNotCopied};
use crate::copy::{AtOnce, CopyPlan, Endpoint, RangePieces, copy};
use crate::error::{BlockError, ErrorKind, Result};
use crate::request::{Flags, Request};
use std::ops::Range;
use std::sync::Arc;

impl PointInTime {
    /// How it is copied, by who is inside a gate above the source for each piece.
    pub fn plan(&self) -> Result<CopyPlan> {
        let target = self.node(self.target)?;
        let CopyAway { existing, zeroes, compress, .. } = self.how.lock().clone();
        let compress = target.facts().cluster_size.filter(|_| compress);
        let child = |id| Endpoint::Child(self.edges.clone(), id);
        let plan = CopyPlan::new(child(self.source), child(self.target));
        Ok(CopyPlan { existing, compress, zeroes, ..plan })
    }

    /// To be awaited by a request inside, before it changes a range of the source: what only the source has of it is copied
    /// away. An error refuses the change.
    pub async fn before_change(self: &Arc<Self>, offset: u64, len: u64, request: Request) -> Result<()> {
        if request.has(Flags::UNCHANGED) || self.is_settled(offset, len) {
            return Ok(());
        }
        let range = self.clusters(offset, len);
        let Err(error) = self.copy_in_time(range).await else { return Ok(()) };
        match *self.when_not_copied.lock() {
            WhenNotCopied::FailTheWrite => {
                Err(error.context("what is to be overwritten could not be copied away"))
            }
            WhenNotCopied::GiveUp => {
                self.break_for(&error);
                Ok(())
            }
        }
    }

    /// Waits no longer than is allowed. The copy goes on to its end all the same, as part of the request.
    async fn copy_in_time(self: &Arc<Self>, range: Range<u64>) -> Result<()> {
        let Some(timeout) = self.timeout else { return self.copy_away(range).await };
        let (this, inside) = (self.clone(), self.domain.stay());
        let work = rt::spawn(async move {
            let copied = this.copy_away(range).await;
            drop(inside);
            copied
        });
        match rt::timeout(timeout, work).await {
            Ok(Ok(copied)) => copied,
            Ok(Err(e)) => {
                Err(BlockError::new(ErrorKind::Io, format!("a task of the copy did not finish: {e}")))
            }
            Err(_) => {
                let text =
                    format!("copying what is to be overwritten took longer than {} s", timeout.as_secs());
                Err(BlockError::new(ErrorKind::Timeout, text))
            }
        }
    }

    async fn copy_away(&self, range: Range<u64>) -> Result<()> {
        let _lease = self.leases.lease(range.start, range.end, true).await;
        let mut at = range.start;
        while let Some(start) = self.uncopied.next_dirty(at).filter(|start| *start < range.end) {
            if self.broken.get().is_some() {
                return Ok(());
            }
            let end = self.uncopied.run_at(start, range.end).1.min(range.end);
            let plan = CopyPlan { serial: u64::MAX, ..self.plan()? };
            copy(&Arc::new(plan), &RangePieces::new(start..end), 1, &AtOnce).await?;
            self.uncopied.take_run(start, end);
            self.discard_copied(&(start..end)).await;
            self.changed.notify(usize::MAX);
            at = end;
        }
        Ok(())
    }

    /// Discards in the source what was copied, where that is asked for: a failure costs space only.
    pub(super) async fn discard_copied(&self, range: &Range<u64>) {
        if !self.discards_source() {
            return;
        }
        let discarded = match self.node(self.source) {
            Ok(source) => source.discard(range.start, range.end - range.start, Request::JOB).await,
            Err(e) => Err(e),
        };
        if let Err(error) = discarded {
            tracing::warn!(%error, offset = range.start, "what was copied could not be discarded in the source");
        }
    }
}
