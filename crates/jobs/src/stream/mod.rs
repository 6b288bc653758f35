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
use crate::work::Work;
use api::{BlockErrorAction, IoOperationType};
use block::{
    AfterError, BlockError, CopyControl, CopyError, CopyPlan, Endpoint, ErrorKind, GraphChange, Link, Node,
    RangePieces, Result, copy,
};
use hold::Hold;
use parking_lot::Mutex;
use rt::BoxFuture;
use std::sync::Arc;
use std::time::Duration;

/// Ranges that a stream has in flight.
const PARALLEL: usize = 16;

/// Bytes that are copied at once: a limited rate is kept in such steps.
const PIECE: u64 = 512 << 10;

/// How long a switch that could not close the gates waits before it tries again.
const RETRY: Duration = Duration::from_secs(1);

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
    async fn switch(&self, change: &mut GraphChange<'_>) -> Result<Option<Arc<Node>>> {
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
    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if !self.has_layers() {
                return job.pause_point().await;
            }
            let length = self.hold.image.length();
            job.set_len(length);
            let up = CopyPlan::up(Endpoint::Entry(self.hold.entry.clone()), self.hold.base().as_ref());
            let plan = CopyPlan { piece: PIECE, ..up };
            let control = Control { job, ignored: Mutex::new(None) };
            copy(&Arc::new(plan), &RangePieces::new(0..length), PARALLEL, &control).await?;
            match control.ignored.into_inner() {
                Some(error) => Err(error),
                // A long flush while guests still write, so that the one with the gates closed is short.
                None => self.hold.entry.flush().await,
            }
        })
    }

    fn prepare<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            loop {
                job.pause_point().await?;
                match self.switch_over().await {
                    Err(e) if e.kind() == ErrorKind::Timeout => {
                        tracing::warn!(job = job.id(), error = %e, "the switch is tried again");
                        job.idle(RETRY).await;
                    }
                    other => return other,
                }
            }
        })
    }

    fn end(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.hold.give_back())
    }
}

/// The job as it controls a copy. What is ignored is left out, and the job fails at its end.
struct Control<'j> {
    job: &'j Job,
    /// The first error that was ignored.
    ignored: Mutex<Option<BlockError>>,
}

impl CopyControl for Control<'_> {
    fn on_hold(&self) -> bool {
        self.job.on_hold()
    }

    fn wait_to_start(&self) -> BoxFuture<'_, Result<()>> {
        self.job.wait_to_start()
    }

    fn started(&self, bytes: u64) {
        self.job.started(bytes);
    }

    fn progressed(&self, bytes: u64) {
        self.job.progressed(bytes);
    }

    fn on_error<'a>(&'a self, error: &'a CopyError) -> BoxFuture<'a, AfterError> {
        // Whatever failed, clients know it as a read through the image.
        let verdict = match self.job.judge(&error.error, IoOperationType::Read) {
            BlockErrorAction::Report => AfterError::Fail,
            BlockErrorAction::Stop => AfterError::Retry,
            BlockErrorAction::Ignore => {
                self.ignored.lock().get_or_insert_with(|| error.error.clone());
                AfterError::Skip
            }
        };
        Box::pin(std::future::ready(verdict))
    }
}
