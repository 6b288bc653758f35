//! What a mirror between any two nodes holds: blockers on both, an entry at each, a filter over the source.
use super::engine::{Ends, Hold};
use super::request::Below;
use crate::filter::{JobFilter, MIRROR_TOP};
use crate::job::Job;
use block::{
    Backend, BackendRequest, BlockError, Blocker, ErrorKind, Graph, GraphChange, Node, Operations, Perms,
    Result, Share,
};
use parking_lot::Mutex;
use rt::BoxFuture;
use std::sync::Arc;

/// The job's use of the source: others may do anything but change its size.
const SOURCE: Perms = Perms { need: Share::READ, share: Share(Share::ALL.0 & !Share::RESIZE.0) };

/// The job's use of the target: nobody else may write there, nor count on what it shows.
const TARGET: Perms = Perms { need: Share::WRITE, share: Share::WRITE_UNCHANGED };

/// What others may not do with the target: they may give it its backing node.
const TARGET_KEPT: Operations = Operations::CHANGE.without(Operations::OVERLAY).without(Operations::REOPEN);

/// Who blocks the nodes.
const IN_USE: &str = "block device is in use by block job: mirror";

/// The nodes of a mirror and what the job holds on them.
pub(super) struct MirrorHold {
    ends: Ends,
    /// The node whose users move, if that is not the source.
    replaces: Option<String>,
    backing: Below,
    /// The backing node that the target is to get.
    below: Mutex<Option<Arc<Node>>>,
    /// Over the source.
    filter: JobFilter,
    blockers: Mutex<Vec<Blocker>>,
}

impl MirrorHold {
    /// Takes both nodes for the job `id`. `compares`: it reads the target too.
    pub(super) async fn take(
        graph: &Graph,
        id: &str,
        (from, to): (&Arc<Node>, &Arc<Node>),
        (replaces, backing): (Option<String>, Below),
        (filter_name, compares): (Option<String>, bool),
    ) -> Result<Self> {
        let mut change = graph.change().await;
        let taken = async {
            from.check_operation(Operations::JOB)?;
            to.check_operation(Operations::JOB)?;
            let in_use = |node: &Arc<Node>| node.block(Operations::CHANGE, IN_USE);
            let blockers = Mutex::new(vec![in_use(from), to.block(TARGET_KEPT, IN_USE)]);
            let entry = |node: &Arc<Node>, perms| BackendRequest {
                label: Job::entry_label(id),
                node: node.clone(),
                perms,
                pinned: true,
            };
            let filter =
                JobFilter::insert(&mut change, graph, from, (MIRROR_TOP, filter_name), IN_USE).await?;
            let need = if compares { TARGET.need.union(Share::READ) } else { TARGET.need };
            let target: Arc<Backend> = change.attach(entry(to, Perms { need, ..TARGET }))?;
            // What is moved away with its machine: the job has nothing to write by then, or fails.
            target.tolerate_inactive();
            let source = change.attach(entry(from, SOURCE))?;
            let ends = Ends { graph: graph.clone(), from: from.clone(), to: to.clone(), source, target };
            Ok(Self { ends, replaces, backing, below: Mutex::default(), filter, blockers })
        };
        let taken = taken.await;
        change.end(taken).await
    }

    /// The ends.
    pub(super) fn ends(&self) -> &Ends {
        &self.ends
    }
}

/// The node of this name, if another one that shows what `source` shows can take its place: it is the source, or below it
/// with nothing but filters between; or it is one of several there that vote, and nobody else looks at it.
pub(super) fn shown_by(graph: &Graph, source: &Arc<Node>, name: &str) -> Result<Option<Arc<Node>>> {
    let named = graph.node(name).ok_or_else(|| {
        BlockError::new(ErrorKind::NotFound, format!("Failed to find node with node-name='{name}'"))
    })?;
    let mut shown = std::iter::successors(Some(source.clone()), |node| node.filtered());
    let is_member = |of: &Arc<Node>| {
        let parents = graph.parents(&named);
        of.driver().membership().is_some()
            && !parents.is_empty()
            && parents.iter().all(|parent| Arc::ptr_eq(&parent.node, of))
            && !graph.entries().iter().any(|entry| Arc::ptr_eq(&entry.node(), &named))
    };
    Ok(shown.any(|node| Arc::ptr_eq(&node, &named) || is_member(&node)).then_some(named))
}

impl Hold for MirrorHold {
    fn ends(&self) -> &Ends {
        &self.ends
    }

    fn replaced(&self) -> Result<Arc<Node>> {
        let Ends { graph, from, to, .. } = &self.ends;
        let Some(name) = &self.replaces else { return Ok(from.clone()) };
        shown_by(graph, from, name)?.ok_or_else(|| {
            BlockError::invalid(format!(
                "Can no longer replace '{name}' by '{}', because it can no longer be guaranteed that doing so would \
                 not lead to an abrupt change of visible data",
                to.name()
            ))
        })
    }

    fn before_switch(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            *self.below.lock() = self.backing.node(&self.ends).await?;
            Ok(())
        })
    }

    fn hand_over<'a>(&'a self, change: &'a mut GraphChange) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let Ends { from, to, target, .. } = &self.ends;
            let replaced = self.replaced()?;
            change.set_perms(target, Perms::IDLE);
            change.replace(&replaced, to)?;
            self.filter.take_out(change).await?;
            let Some(below) = self.below.lock().clone() else { return Ok(()) };
            change.set_backing(&to.skip_filters(), Some(below.clone()))?;
            if Arc::ptr_eq(&below, from) {
                change.settle()?;
                change.set_writable(from, false).await?;
            }
            Ok(())
        })
    }

    fn handed_over(&self) {
        self.filter.is_out();
    }

    fn give_back(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let Ends { graph, source, target, .. } = &self.ends;
            let result = self.filter.remove().await;
            let result = result.and(graph.detach(target).await);
            self.blockers.lock().clear();
            let below = self.below.lock().take();
            let result = result.and(graph.detach(source).await);
            match below {
                // Opened for a switch-over that did not come about.
                Some(below) => result.and(graph.release(&below).await),
                None => result,
            }
        })
    }
}
