//! What a commit holds: the chain as busy, an entry above and one below, the base made writable.
use block::{Backend, BackendRequest, BlockError, ErrorKind, Graph, Node, Perms, Result, Role, Share};
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
    /// Layers that were writable before, and shall be again.
    frozen: Vec<Arc<Node>>,
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

/// The job's use of the top: others may do with it what they like, but for changing its size.
const SOURCE: Perms = Perms { need: Share::READ, share: Share(Share::ALL.0 & !Share::RESIZE.0) };

/// The job's use of the base: nobody else may write there. The layers above go on reading through it.
const TARGET: Perms = Perms {
    need: Share(Share::READ.0 | Share::WRITE.0),
    share: Share(Share::READ.0 | Share::WRITE_UNCHANGED.0),
};

impl Hold {
    /// Takes `chain`, which holds all nodes from `top` down to `base`, for the job `id`. Nobody may write to those
    /// between the two, or to `top` either if `freeze_top`.
    pub(super) async fn take(
        graph: &Graph,
        id: &str,
        chain: Vec<Arc<Node>>,
        (top, base): (&Arc<Node>, &Arc<Node>),
        freeze_top: bool,
    ) -> Result<Self> {
        let still: Vec<_> =
            std::iter::successors(Some(top.clone()), |n| n.skip_filters().child(Role::Backing))
                .take_while(|n| !Arc::ptr_eq(n, base))
                .skip(usize::from(!freeze_top))
                .collect();
        only_in_chain(graph, base, &still, top)?;
        let busy = BusyChain::mark(chain, "block device is in use by block job: commit")?;
        let frozen = freeze_all(graph, still).await?;
        let was_read_only = base.read_only();
        let attached = match graph.set_writable(base, true).await {
            Ok(()) => attach_both(graph, id, top, base).await,
            Err(e) => Err(e),
        };
        match attached {
            Ok((source, target)) => Ok(Self {
                graph: graph.clone(),
                top: top.clone(),
                base: base.clone(),
                source,
                target,
                busy,
                frozen,
                base_back_to_read_only: AtomicBool::new(was_read_only),
            }),
            Err(e) => {
                let back = if was_read_only { graph.set_writable(base, false).await } else { Ok(()) };
                if let Err(e) = back.and(thaw(graph, &frozen).await) {
                    tracing::warn!(node = base.name(), error = %e, "a commit that did not start left its mark");
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
        result = result.and(thaw(&self.graph, &self.frozen).await);
        self.busy.0.iter().for_each(|n| n.set_busy(None));
        result.and(self.graph.detach(&self.source).await)
    }
}

/// Refuses layers that are the backing image of others too: what those show would change under them.
fn only_in_chain(graph: &Graph, base: &Arc<Node>, still: &[Arc<Node>], top: &Arc<Node>) -> Result<()> {
    let in_chain = |node: &Arc<Node>| Arc::ptr_eq(node, top) || still.iter().any(|n| Arc::ptr_eq(n, node));
    for node in still.iter().chain([base]).filter(|n| !Arc::ptr_eq(n, top)) {
        let others = graph.parents(node).into_iter().find(|(p, role)| *role == Role::Backing && !in_chain(p));
        if let Some((other, _)) = others {
            let text = format!(
                "'{}' is the backing image of '{}' too, whose content would change",
                node.name(),
                other.name()
            );
            return Err(BlockError::new(ErrorKind::Busy, text));
        }
    }
    Ok(())
}

/// Makes layers read-only in place; those that were not are returned.
async fn freeze_all(graph: &Graph, nodes: Vec<Arc<Node>>) -> Result<Vec<Arc<Node>>> {
    let mut frozen = Vec::new();
    for node in nodes.into_iter().filter(|n| !n.read_only()) {
        if let Err(e) = freeze(graph, &node).await {
            if let Err(e) = thaw(graph, &frozen).await {
                tracing::warn!(node = node.name(), error = %e, "a layer stays read-only");
            }
            return Err(e);
        }
        frozen.push(node);
    }
    Ok(frozen)
}

async fn freeze(graph: &Graph, node: &Arc<Node>) -> Result<()> {
    // Who writes to it now is in the way; once it is read-only, nobody new can be.
    let perms = Perms { need: Share::NONE, share: Share::ALL.without(Share::WRITE) };
    let request = BackendRequest { label: "commit".to_owned(), node: node.clone(), perms, pinned: true };
    let guard = graph.attach(request).await?;
    let result = graph.set_writable(node, false).await;
    result.and(graph.detach(&guard).await)
}

async fn thaw(graph: &Graph, nodes: &[Arc<Node>]) -> Result<()> {
    let mut result = Ok(());
    for node in nodes {
        result = result.and(graph.set_writable(node, true).await);
    }
    result
}

async fn attach_both(
    graph: &Graph,
    id: &str,
    top: &Arc<Node>,
    base: &Arc<Node>,
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
        graph.attach(entry(top, SOURCE)).await
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
