//! Commit of layers below the active one.
//!
//! The layers that are copied are read-only, so one pass is enough. Then every overlay of `top` gets `base` as its
//! backing file, in this order: the base durable · the overlay's header, durable · the edge. After a crash in
//! between, the old chain and the new one show the same.
use super::hold::Hold;
use super::{PARALLEL, PIECE};
use crate::chain::link_to;
use crate::job::Job;
use crate::mirror::Ends;
use crate::work::Work;
use block::{CopyPlan, Endpoint, Flags, GraphChange, Node, RangePieces, Request, Result, copy};
use rt::BoxFuture;
use std::sync::Arc;

/// A commit of `(base, top]` where `top` is the backing node of others.
pub(super) struct IntermediateCommit {
    pub(super) hold: Hold,
    /// The image whose layers these are.
    pub(super) active: Arc<Node>,
    /// The name to store in the overlays; the base's own without it.
    pub(super) backing_file: Option<String>,
    /// The format to store of a protocol's node: raw.
    pub(super) mask_protocol: bool,
}

impl IntermediateCommit {
    async fn switch_over(&self) -> Result<()> {
        let mut change = self.hold.ends.graph.change().await;
        let switched = self.switch(&mut change).await;
        change.end(switched).await?;
        self.hold.filter.is_out();
        Ok(())
    }

    async fn switch(&self, change: &mut GraphChange) -> Result<()> {
        let Ends { graph, from: top, to: base, .. } = &self.hold.ends;
        let overlays: Vec<_> = graph.overlays(top).into_iter().map(|parent| parent.node).collect();
        let concerned: Vec<_> = overlays.iter().cloned().chain([base.clone()]).collect();
        change.quiesce(&concerned).await?;
        base.flush().await?;
        // Permissions of the new chain are checked before a header changes.
        self.hold.hand_over(change).await?;
        change.settle()?;
        for overlay in &overlays {
            // The overlay may be read-only.
            let was_read_only = overlay.read_only();
            change.set_writable(overlay, true).await?;
            let link = link_to(graph, overlay, base, (self.backing_file.as_deref(), self.mask_protocol));
            change.set_backing_link(overlay, link).await?;
            if was_read_only {
                change.set_writable(overlay, false).await?;
            }
        }
        Ok(())
    }
}

impl Work for IntermediateCommit {
    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let Ends { from: top, to: base, source, target, .. } = &self.hold.ends;
            let (from, to) = (Endpoint::Entry(source.clone()), Endpoint::Entry(target.clone()));
            let plan = CopyPlan { piece: PIECE, ..CopyPlan::above(base, from, to) };
            let length = top.length();
            job.set_len(length);
            copy(&Arc::new(plan), &RangePieces::new(0..length), PARALLEL, job).await?;
            // Beyond the end of the top a larger overlay reads zeroes, even if a longer base has data there.
            let rest = base.length().saturating_sub(length);
            if rest > 0 {
                target.write_zeroes(length, rest, Request::GUEST.with(Flags::MAY_UNMAP)).await?;
            }
            target.flush().await
        })
    }

    fn prepare<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<()>> {
        Box::pin(job.change_graph("the switch-over", || self.switch_over()))
    }

    fn image(&self) -> Option<Arc<Node>> {
        Some(self.active.clone())
    }

    fn end(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.hold.give_back())
    }
}
