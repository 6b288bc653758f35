//! What a commit holds: the chain as busy, an entry above and one below, the base made writable.
use block::{
    Backend, BackendRequest, BlockError, ChildRole, ErrorKind, Graph, GraphChange, Node, Parent, Perms,
    Result, Share,
};
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

/// Nodes marked as busy, and nodes beside the chain that nobody may begin to use; given back when dropped.
struct BusyChain {
    chain: Vec<Arc<Node>>,
    /// Overlays without users that stand on a layer of the chain: what they show changes.
    idle: Vec<Arc<Node>>,
}

impl BusyChain {
    /// Marks all of `chain`, or none.
    fn mark(chain: Vec<Arc<Node>>, reason: &str) -> Result<Self> {
        for node in &chain {
            node.not_busy()?;
        }
        chain.iter().for_each(|n| n.set_busy(Some(reason.to_owned())));
        Ok(Self { chain, idle: Vec::new() })
    }

    /// Keeps users away from overlays beside the chain, while what those show changes.
    fn keep_idle(&mut self, overlays: Vec<Arc<Node>>) {
        overlays.iter().for_each(|n| n.set_unsteady(true));
        self.idle = overlays;
    }

    /// Says of the nodes between `top` and `base` that what they show by themselves changes: the base takes what lies
    /// above them.
    fn unsettle(&self, graph: &Graph, top: &Arc<Node>, base: &Arc<Node>) -> Result<()> {
        let end = |n: &&Arc<Node>| !Arc::ptr_eq(n, base);
        let between = self.chain.iter().skip_while(|n| !Arc::ptr_eq(n, top)).skip(1).take_while(end);
        let reader = |node: &Arc<Node>| {
            graph
                .entries()
                .into_iter()
                .find(|e| Arc::ptr_eq(&e.node(), node) && e.perms().need.has(Share::READ))
        };
        for node in between {
            if let Some(reader) = reader(node) {
                let text = format!(
                    "Permission conflict on node '{}': {} needs 'consistent read', which the job would not share",
                    node.name(),
                    reader.label()
                );
                return Err(BlockError::new(ErrorKind::Busy, text));
            }
            node.set_unsteady(true);
        }
        Ok(())
    }

    fn give_back(&self) {
        for node in &self.idle {
            node.set_unsteady(false);
        }
        for node in &self.chain {
            node.set_unsteady(false);
            node.set_busy(None);
        }
    }
}

impl Drop for BusyChain {
    fn drop(&mut self) {
        self.give_back();
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
        let still: Vec<_> = std::iter::successors(Some(top.clone()), |n| n.skip_filters().backing())
            .take_while(|n| !Arc::ptr_eq(n, base))
            .skip(usize::from(!freeze_top))
            .collect();
        let mut change = graph.change().await;
        let seized = async {
            only_in_chain(graph, base, &still, top)?;
            let mut busy = BusyChain::mark(chain, "block device is in use by block job: commit")?;
            // Who writes to them now is in the way; once they are read-only, nobody new can be.
            let frozen: Vec<_> = still.iter().filter(|n| !n.read_only()).cloned().collect();
            for node in &frozen {
                change.set_writable(node, false).await?;
            }
            busy.unsettle(graph, top, base)?;
            // Nodes are opened without the turn: whoever came to stand on the chain meanwhile is seen now, whoever comes
            // later sees that it is unsteady.
            busy.keep_idle(only_in_chain(graph, base, &still, top)?);
            let was_read_only = base.read_only();
            change.set_writable(base, true).await?;
            let (source, target) = enter(&mut change, id, top, base).await?;
            let base_back_to_read_only = AtomicBool::new(was_read_only);
            let (graph, top, base) = (graph.clone(), top.clone(), base.clone());
            Ok(Self { graph, top, base, source, target, busy, frozen, base_back_to_read_only })
        };
        let seized = seized.await;
        change.end(seized).await
    }

    /// The base is the active layer from now on.
    pub(super) fn base_stays_writable(&self) {
        self.base_back_to_read_only.store(false, Relaxed);
    }

    /// Lets all users of the top move to the base, where the job itself does not write any more.
    pub(super) fn hand_over(&self, change: &mut GraphChange<'_>) -> Result<()> {
        change.set_perms(&self.target, Perms::IDLE);
        change.replace(&self.top, &self.base)
    }

    /// Gives everything back. All of it is tried; the first error is told.
    pub(super) async fn give_back(&self) -> Result<()> {
        let mut result = self.graph.detach(&self.target).await;
        if self.base_back_to_read_only.load(Relaxed) {
            result = result.and(self.base.flush().await);
            result = result.and(self.graph.set_writable(&self.base, false).await);
        }
        for node in &self.frozen {
            result = result.and(self.graph.set_writable(node, true).await);
        }
        self.busy.give_back();
        result.and(self.graph.detach(&self.source).await)
    }
}

/// Refuses layers that are also the backing image of others that somebody uses: what those show would change under
/// their users. Returns the overlays, with all that stands on them, that nobody uses.
fn only_in_chain(
    graph: &Graph,
    base: &Arc<Node>,
    still: &[Arc<Node>],
    top: &Arc<Node>,
) -> Result<Vec<Arc<Node>>> {
    let in_chain = |node: &Arc<Node>| Arc::ptr_eq(node, top) || still.iter().any(|n| Arc::ptr_eq(n, node));
    let mut idle = Vec::new();
    for node in still.iter().chain([base]).filter(|n| !Arc::ptr_eq(n, top)) {
        let parents = graph.parents(node).into_iter();
        for Parent { node: other, .. } in
            parents.filter(|p| p.role.has(ChildRole::BACKING) && !in_chain(&p.node))
        {
            let mut above = vec![other.clone()];
            while let Some(overlay) = above.pop() {
                if let Some(entry) = graph.entries().iter().find(|e| Arc::ptr_eq(&e.node(), &overlay)) {
                    let text = format!(
                        "'{}' is the backing image of '{}' too, whose content would change under {}",
                        node.name(),
                        other.name(),
                        entry.label()
                    );
                    return Err(BlockError::new(ErrorKind::Busy, text));
                }
                above.extend(graph.parents(&overlay).into_iter().map(|parent| parent.node));
                idle.push(overlay);
            }
        }
    }
    Ok(idle)
}

/// The job's entries at both ends; the base grows where it is shorter than the top.
async fn enter(
    change: &mut GraphChange<'_>,
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
    let target = change.attach(entry(base, resizing))?;
    let source = change.attach(entry(top, SOURCE))?;
    if grows {
        let what = || format!("Failed to resize base image {}", base.filename());
        change.quiesce(std::slice::from_ref(base)).await?;
        base.driver().resize(top.length(), "off").await.map_err(|e| e.context(what()))?;
        change.set_perms(&target, TARGET);
    }
    Ok((source, target))
}
