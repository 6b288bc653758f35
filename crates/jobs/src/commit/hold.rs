//! What a commit holds: blockers on the chain, an entry at each end, the base made writable.
use crate::chain::{chain, same_image};
use crate::filter::{JobFilter, Kind};
use crate::job::Job;
use crate::mirror::Ends;
use api::PreallocMode;
use block::{
    Backend, BackendRequest, BlockError, Blocker, ChildRole, ErrorKind, Graph, GraphChange, Node, Operations,
    Parent, Perms, Result, Share,
};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};

/// The nodes of a commit and what the job holds on them.
pub(super) struct Hold {
    /// From the topmost layer that is committed to the base.
    pub(super) ends: Ends,
    /// Over the topmost layer.
    pub(super) filter: JobFilter,
    blockers: Mutex<Vec<Blocker>>,
    /// Layers to be made writable again at the end.
    frozen: Vec<Arc<Node>>,
    /// The base is to be made read-only again at the end.
    base_back_to_read_only: AtomicBool,
}

/// Who blocks the nodes.
const IN_USE: &str = "block device is in use by block job: commit";

/// The job's use of the top: others may do anything but change its size.
const SOURCE: Perms = Perms { need: Share::READ, share: Share(Share::ALL.0 & !Share::RESIZE.0) };

/// The job's use of the base: nobody else may write there. The layers above go on reading through it.
const TARGET: Perms = Perms {
    need: Share(Share::READ.0 | Share::WRITE.0),
    share: Share(Share::READ.0 | Share::WRITE_UNCHANGED.0),
};

impl Hold {
    /// Takes `chain`, which holds all nodes from `top` down to `base`, for the job `id`, which gets a filter over `top`. Nobody
    /// may write to those between the two, or to `top` either if `freeze_top`.
    pub(super) async fn take(
        graph: &Graph,
        id: &str,
        chain: Vec<Arc<Node>>,
        (top, base): (&Arc<Node>, &Arc<Node>),
        filter: (Kind, Option<String>),
        freeze_top: bool,
    ) -> Result<Self> {
        let below_top = self::chain(top).into_iter().take_while(|n| !Arc::ptr_eq(n, base));
        let still: Vec<_> = below_top.skip_while(|n| !freeze_top && same_image(n, top)).collect();
        let mut change = graph.change().await;
        let seized = async {
            only_in_chain(graph, &chain, (top, base))?;
            for node in &chain {
                node.check_operation(Operations::JOB)?;
            }
            let in_use = |node: &Arc<Node>| node.block(Operations::CHANGE, IN_USE);
            let mut blockers: Vec<_> = chain.iter().map(in_use).collect();
            // A present writer fails this; once they are read-only, there can be no new one.
            let frozen: Vec<_> = still.iter().filter(|n| !n.read_only()).cloned().collect();
            for node in &frozen {
                change.set_writable(node, false).await?;
            }
            let no_reader = |node: &Arc<Node>| {
                let holder = format!("job '{id}' changes what it shows and does not share 'consistent read'");
                node.block(Operations::READ, holder)
            };
            for node in between(&chain, top, base) {
                refuse_reader(graph, node)?;
                blockers.push(no_reader(node));
            }
            // Nodes are opened outside of graph changes: an overlay that was opened on the chain meanwhile is found now, a later
            // one gets no readers, as what it is over has none.
            blockers.extend(only_in_chain(graph, &chain, (top, base))?.iter().map(no_reader));
            let was_read_only = base.read_only();
            change.set_writable(base, true).await?;
            let filter = JobFilter::insert(&mut change, graph, top, filter, IN_USE).await?;
            let (source, target) = enter(&mut change, id, top, base).await?;
            let base_back_to_read_only = AtomicBool::new(was_read_only);
            let ends = Ends { graph: graph.clone(), from: top.clone(), to: base.clone(), source, target };
            let blockers = Mutex::new(blockers);
            Ok(Self { ends, filter, blockers, frozen, base_back_to_read_only })
        };
        let seized = seized.await;
        change.end(seized).await
    }

    /// The base is the active layer from now on.
    pub(super) fn base_stays_writable(&self) {
        self.base_back_to_read_only.store(false, Relaxed);
    }

    /// Lets all users of the top move to the base, where the job itself does not write any more, and takes the filter out.
    pub(super) async fn hand_over(&self, change: &mut GraphChange) -> Result<()> {
        change.set_perms(&self.ends.target, Perms::IDLE);
        change.replace(&self.ends.from, &self.ends.to)?;
        self.filter.take_out(change).await
    }

    /// Gives everything back. Every step is tried; returns the first error.
    pub(super) async fn give_back(&self) -> Result<()> {
        let Ends { graph, to: base, source, target, .. } = &self.ends;
        let mut result = self.filter.remove().await;
        result = result.and(graph.detach(target).await);
        if self.base_back_to_read_only.load(Relaxed) {
            result = result.and(base.flush().await);
            result = result.and(graph.set_writable(base, false).await);
        }
        for node in &self.frozen {
            result = result.and(graph.set_writable(node, true).await);
        }
        self.blockers.lock().clear();
        result.and(graph.detach(source).await)
    }
}

/// The layers between `top` and `base`: what they show by themselves changes, because the base takes the data of the layers
/// above them.
fn between<'c>(
    chain: &'c [Arc<Node>],
    top: &Arc<Node>,
    base: &Arc<Node>,
) -> impl Iterator<Item = &'c Arc<Node>> {
    let below_top = chain.iter().skip_while(move |n| same_image(n, top));
    below_top.take_while(move |n| !Arc::ptr_eq(n, base))
}

/// Refuses a node that an entry reads.
fn refuse_reader(graph: &Graph, node: &Arc<Node>) -> Result<()> {
    let reads = |e: &Arc<Backend>| Arc::ptr_eq(&e.node(), node) && e.perms().need.has(Share::READ);
    match graph.entries().into_iter().find(reads) {
        None => Ok(()),
        Some(reader) => {
            let text = format!(
                "Permission conflict on node '{}': {} needs 'consistent read', which the job would not share",
                node.name(),
                reader.label()
            );
            Err(BlockError::new(ErrorKind::Busy, text))
        }
    }
}

/// Refuses layers that have another overlay in use beside the chain, or a filter: what it shows would change under its users.
/// A filter beside the base shows what the base does. Returns those that are not in use, and the nodes above them.
fn only_in_chain(
    graph: &Graph,
    chain: &[Arc<Node>],
    (top, base): (&Arc<Node>, &Arc<Node>),
) -> Result<Vec<Arc<Node>>> {
    let in_chain = |node: &Arc<Node>| chain.iter().any(|n| Arc::ptr_eq(n, node));
    let mut idle = Vec::new();
    for node in between(chain, top, base).chain([base]) {
        let shows = |role: ChildRole| {
            role.has(ChildRole::BACKING) || role.has(ChildRole::FILTERED) && !Arc::ptr_eq(node, base)
        };
        let parents = graph.parents(node).into_iter();
        for Parent { node: other, role, .. } in parents.filter(|p| shows(p.role) && !in_chain(&p.node)) {
            let how = if role.has(ChildRole::BACKING) { "the backing image of" } else { "read through" };
            let mut above = vec![other.clone()];
            while let Some(overlay) = above.pop() {
                if let Some(entry) = graph.entries().iter().find(|e| Arc::ptr_eq(&e.node(), &overlay)) {
                    let text = format!(
                        "'{}' is {how} '{}' too, whose content would change under {}",
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
    change: &mut GraphChange,
    id: &str,
    top: &Arc<Node>,
    base: &Arc<Node>,
) -> Result<(Arc<Backend>, Arc<Backend>)> {
    let entry = |node: &Arc<Node>, perms| BackendRequest {
        label: Job::entry_label(id),
        node: node.clone(),
        perms,
        pinned: true,
    };
    let grows = top.length() > base.length();
    let resizing = if grows { Perms { need: TARGET.need.union(Share::RESIZE), ..TARGET } } else { TARGET };
    let target = change.attach(entry(base, resizing))?;
    let source = change.attach(entry(top, SOURCE))?;
    if grows {
        let what = || format!("Failed to resize base image {}", base.filename());
        change.quiesce(std::slice::from_ref(base)).await?;
        base.set_length(top.length(), PreallocMode::Off).await.map_err(|e| e.context(what()))?;
        change.set_perms(&target, TARGET);
    }
    Ok((source, target))
}
