//! block-stream: copies what the lower images of a chain hold into an upper one, while that is in use.
//!
//! ```text
//!   users ─▶ filter ─▶ top ─▶ mid ─▶ base          top takes what mid holds; then users ─▶ top ─▶ base
//! ```
//!
//! Only what `top` does not hold itself is written, under the lease of the change ([`block::Flags::IF_UNALLOCATED`]): what a guest
//! writes meanwhile stays. What `top` shows never changes, so that the job may end at any time, and the data that were copied are
//! good. At the end, in this order: the data durable · the header's link to the base, durable · the edge. After a crash in between
//! the old chain and the new one show the same.
//!
//! The nodes from `top` down to the one above the base are blocked, and nobody may write to those below `top`. The base is
//! whatever the lowest of these nodes is over at the end: another job may work there.
mod header;
mod hold;
mod request;

pub use header::change_backing_file;
pub use request::{StreamError, stream};

use crate::chain::{link_to, same_image};
use crate::job::Job;
use crate::ruled::{Ruled, Rules};
use crate::work::Work;
use api::{BlockErrorAction, IoOperationType};
use block::{
    AfterError, BlockError, CopyError, CopyPlan, Endpoint, GraphChange, Link, Node, RangePieces, Result, copy,
};
use hold::Hold;
use parking_lot::Mutex;
use rt::BoxFuture;
use std::sync::Arc;

/// Ranges that a stream has in flight.
const PARALLEL: usize = 16;

/// Bytes that are copied at once: a limited rate is kept in such steps.
const PIECE: u64 = 512 << 10;

struct Stream {
    hold: Hold,
    /// The name to store in the header; the base's own without it.
    backing_file: Option<String>,
    /// The format to store of a protocol's node: raw.
    mask_protocol: bool,
}

impl Stream {
    /// Whether there are images between the top and the base.
    fn has_layers(&self) -> bool {
        match (self.hold.image.backing(), self.hold.base()) {
            (Some(backing), Some(base)) => !same_image(&backing, &base),
            (backing, _) => backing.is_some(),
        }
    }

    async fn switch_over(&self) -> Result<()> {
        let mut change = self.hold.graph.change().await;
        let switched = self.switch(&mut change).await;
        let left = change.end(switched).await?;
        self.hold.switched(left);
        Ok(())
    }

    /// The steps of the switch. Returns the node that was the backing node, for it may not be needed any more.
    async fn switch(&self, change: &mut GraphChange) -> Result<Option<Arc<Node>>> {
        let Hold { image, .. } = &self.hold;
        change.quiesce(std::slice::from_ref(image)).await?;
        let left = image.backing();
        if left.is_some() {
            let base = self.hold.base();
            // Permissions of the new chain are checked before the header changes.
            change.set_backing(image, base.clone())?;
            change.settle()?;
            let link = self.link(base.as_ref());
            let info = image.driver().info();
            if (&link.filename, &link.format) != (&info.backing_filename, &info.backing_format) {
                change.set_backing_link(image, link).await?;
            }
        }
        self.hold.take_out(change).await?;
        Ok(left)
    }

    /// What the header is to say of its backing image.
    fn link(&self, base: Option<&Arc<Node>>) -> Link {
        let Some(base) = base else { return Link { filename: None, format: None } };
        let named = (self.backing_file.as_deref(), self.mask_protocol);
        link_to(&self.hold.graph, &self.hold.image, base, named)
    }
}

impl Work for Stream {
    fn image(&self) -> Option<Arc<Node>> {
        Some(self.hold.image.clone())
    }

    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if !self.has_layers() {
                return job.pause_point().await;
            }
            let length = self.hold.image.length();
            job.set_len(length);
            // Filters on it may go meanwhile.
            let base = self.hold.base().map(|base| base.skip_filters());
            let up = CopyPlan::up(Endpoint::Entry(self.hold.entry.clone()), base.as_ref());
            let plan = CopyPlan { piece: PIECE, ..up };
            let control = Ruled { job, rules: LeaveOut(Mutex::new(None)) };
            copy(&Arc::new(plan), &RangePieces::new(0..length), PARALLEL, &control).await?;
            match control.rules.0.into_inner() {
                Some(error) => Err(error),
                // A long flush while guests still write, so that the one with the gates closed is short.
                None => self.hold.entry.flush().await,
            }
        })
    }

    fn prepare<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<()>> {
        Box::pin(job.change_graph("the switch", || self.switch_over()))
    }

    fn end(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.hold.give_back())
    }
}

/// What is ignored is left out, and the job fails at its end with the first such error.
struct LeaveOut(Mutex<Option<BlockError>>);

impl Rules for LeaveOut {
    fn on_error<'a>(&'a self, job: &'a Job, error: &'a CopyError) -> BoxFuture<'a, AfterError> {
        // Whatever failed, clients know it as a read through the image.
        let verdict = match job.judge(&error.error, IoOperationType::Read) {
            BlockErrorAction::Report => AfterError::Fail,
            BlockErrorAction::Stop => AfterError::Retry,
            BlockErrorAction::Ignore => {
                self.0.lock().get_or_insert_with(|| error.error.clone());
                AfterError::Skip
            }
        };
        Box::pin(std::future::ready(verdict))
    }
}
