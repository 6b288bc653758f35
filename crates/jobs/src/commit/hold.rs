//! What a commit holds: the chain as busy, an entry above and one below, the base made writable.
use block::{Backend, BackendRequest, BlockError, ErrorKind, Graph, Node, Perms, Result, Share};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};

/// The nodes of a commit and the job's hold on them.
pub(super) struct Hold {
    pub(super) graph: Graph,
    /// The layer that is read from: the topmost one that is committed.
    pub(super) top: Arc<Node>,
    /// The layer that is written to.
    pub(super) base: Arc<Node>,
    pub(super) source: Arc<Backend>,
    pub(super) target: Arc<Backend>,
    busy: BusyChain,
    /// The base was read-only before, and shall be again.
    base_back_to_read_only: AtomicBool,
}

/// Nodes marked as busy; given back when dropped.
struct BusyChain(Vec<Arc<Node>>);

impl BusyChain {
    /// Marks all of `nodes`, or none.
    fn mark(nodes: Vec<Arc<Node>>, reason: &str) -> Result<Self> {
        for node in &nodes {
            if let Some(reason) = node.busy() {
                return Err(BlockError::new(
                    ErrorKind::Busy,
                    format!("Node '{}' is busy: {reason}", node.name()),
                ));
            }
        }
        nodes.iter().for_each(|n| n.set_busy(Some(reason.to_owned())));
        Ok(Self(nodes))
    }
}

impl Drop for BusyChain {
    fn drop(&mut self) {
        self.0.iter().for_each(|n| n.set_busy(None));
    }
}

/// The job's use of the base: nobody else may write there. The layers above go on reading through it.
const TARGET: Perms = Perms {
    need: Share(Share::READ.0 | Share::WRITE.0),
    share: Share(Share::READ.0 | Share::WRITE_UNCHANGED.0),
};

impl Hold {
    /// Takes the nodes from `top` down to `base`, both included, for the job `id`. `source` is what the job allows
    /// others to do with `top`.
    pub(super) async fn take(
        graph: &Graph,
        id: &str,
        chain: Vec<Arc<Node>>,
        top: &Arc<Node>,
        base: &Arc<Node>,
        source: Perms,
    ) -> Result<Self> {
        let busy = BusyChain::mark(chain, "block device is in use by block job: commit")?;
        let was_read_only = base.read_only();
        graph.set_writable(base, true).await?;
        match attach_both(graph, id, top, base, source).await {
            Ok((source, target)) => Ok(Self {
                graph: graph.clone(),
                top: top.clone(),
                base: base.clone(),
                source,
                target,
                busy,
                base_back_to_read_only: AtomicBool::new(was_read_only),
            }),
            Err(e) => {
                if was_read_only && let Err(e) = graph.set_writable(base, false).await {
                    tracing::warn!(node = base.name(), error = %e, "the base stays writable");
                }
                Err(e)
            }
        }
    }

    /// The base is the active layer from now on.
    pub(super) fn base_stays_writable(&self) {
        self.base_back_to_read_only.store(false, Relaxed);
    }

    /// Lets others write to the base, and does not any more itself.
    pub(super) async fn retire_target(&self) -> Result<()> {
        self.graph.set_perms(&self.target, Perms::IDLE).await
    }

    /// Gives everything back. All of it is tried; the first error is told.
    pub(super) async fn give_back(&self) -> Result<()> {
        let mut result = self.graph.detach(&self.target).await;
        if self.base_back_to_read_only.load(Relaxed) {
            result = result.and(self.base.flush().await);
            result = result.and(self.graph.set_writable(&self.base, false).await);
        }
        self.busy.0.iter().for_each(|n| n.set_busy(None));
        result.and(self.graph.detach(&self.source).await)
    }
}

async fn attach_both(
    graph: &Graph,
    id: &str,
    top: &Arc<Node>,
    base: &Arc<Node>,
    source: Perms,
) -> Result<(Arc<Backend>, Arc<Backend>)> {
    let entry = |node: &Arc<Node>, perms| BackendRequest {
        label: format!("job '{id}'"),
        node: node.clone(),
        perms,
        pinned: true,
    };
    let grows = top.length() > base.length();
    let resizing = if grows { Perms { need: TARGET.need.and(Share::RESIZE), ..TARGET } } else { TARGET };
    let target = graph.attach(entry(base, resizing)).await?;
    let result = async {
        if grows {
            let what = || format!("Failed to resize base image {}", base.filename());
            let _closed = graph.quiesce(std::slice::from_ref(base)).await?;
            base.driver().resize(top.length(), "off").await.map_err(|e| e.context(what()))?;
            graph.set_perms(&target, TARGET).await?;
        }
        graph.attach(entry(top, source)).await
    };
    match result.await {
        Ok(source) => Ok((source, target)),
        Err(e) => {
            if let Err(e) = graph.detach(&target).await {
                tracing::warn!(node = base.name(), error = %e, "leaving the base failed");
            }
            Err(e)
        }
    }
}
