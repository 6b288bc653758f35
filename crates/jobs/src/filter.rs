//! The filters that block jobs stand on: a node between the node that a job works on and its users, as long as the job is.
//!
//! It passes everything. Users of the chain see by it that a job is there, and which; its name is the client's, or
//! `#block` with a number. A job that does more with requests (a copy before each write) makes its filter itself, and puts
//! it over the node by [`GraphChange::insert_filter`].
use crate::again::until_done;
use block::{
    BlockError, Blocker, Driver, DriverType, Edge, Filtered, Graph, GraphChange, NewFilter, Node, Open,
    OpenContext, Opened, Operations, Perms, Result, Share,
};
use parking_lot::Mutex;
use rt::BoxFuture;
use std::sync::Arc;

/// What a job puts over a node.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    driver: &'static DriverType,
    child: &'static str,
    read_only: bool,
    make: fn(Filtered) -> Arc<dyn Driver>,
}

/// Over the topmost layer that a commit below the active layer takes.
pub(crate) const COMMIT_TOP: Kind = Kind {
    driver: &internal("commit_top"),
    child: "backing",
    read_only: true,
    make: |below| Arc::new(Above(below)),
};

/// Over the source of a mirror, and over the active layer that is committed.
pub(crate) const MIRROR_TOP: Kind = Kind {
    driver: &internal("mirror_top"),
    child: "backing",
    read_only: false,
    make: |below| Arc::new(Above(below)),
};

/// Over the node that a stream copies into.
pub(crate) const STREAM_TOP: Kind = Kind {
    driver: &internal("copy-on-read"),
    child: "file",
    read_only: false,
    make: |below| Arc::new(Passing(below)),
};

const fn internal(name: &'static str) -> DriverType {
    DriverType { name, internal: true, unnamed: true, open: &Open(refuse), ..DriverType::FILTER }
}

fn refuse(_: &mut OpenContext, _: api::codec::NoArguments) -> BoxFuture<'_, Result<Opened>> {
    let text = "only a job makes nodes of this driver";
    Box::pin(std::future::ready(Err(BlockError::unsupported(text))))
}

struct Passing(Filtered);

impl Driver for Passing {
    fn filtered(&self) -> Option<&Filtered> {
        Some(&self.0)
    }
}

/// Over nodes of which the job changes those below, which nobody else may do: devices that don't share writing are above it, and
/// mean others.
struct Above(Filtered);

impl Driver for Above {
    fn filtered(&self) -> Option<&Filtered> {
        Some(&self.0)
    }

    fn child_perms(&self, _: &Edge, parents: Perms, _: bool) -> Perms {
        Perms { need: parents.need, share: Share::ALL }
    }
}

/// A job's filter over a node. Its owner takes it out.
pub(crate) struct JobFilter {
    graph: Graph,
    node: Arc<Node>,
    /// Until it is taken out.
    blocker: Mutex<Option<Blocker>>,
}

impl JobFilter {
    /// Puts a filter over `node`, with the gates closed. `holder` says who blocks it, as [`Node::block`] has it.
    pub(crate) async fn insert(
        change: &mut GraphChange,
        graph: &Graph,
        node: &Arc<Node>,
        (kind, name): (Kind, Option<String>),
        holder: &str,
    ) -> Result<Self> {
        let Kind { driver, child, read_only, make } = kind;
        let new = NewFilter { driver, name, child: child.into(), read_only, make };
        let filter = change.add_filter(node, new).await?;
        let blocker = Mutex::new(Some(filter.block(Operations::CHANGE, holder)));
        Ok(Self { graph: graph.clone(), node: filter, blocker })
    }

    /// Moves its users to what it filters now, with the gates closed; if the change takes effect it is gone.
    pub(crate) async fn take_out(&self, change: &mut GraphChange) -> Result<()> {
        change.take_out_filter(&self.node).await
    }

    /// It has been taken out by a change that took effect.
    pub(crate) fn is_out(&self) {
        self.blocker.lock().take();
    }

    /// Takes it out, if it is not: at the end of a job. Waits for the requests inside, however long that takes.
    pub(crate) async fn remove(&self) -> Result<()> {
        if self.blocker.lock().is_none() {
            return Ok(());
        }
        until_done("taking a job's filter out", || async {
            let mut change = self.graph.change().await;
            let taken = self.take_out(&mut change).await;
            change.end(taken).await
        })
        .await?;
        self.is_out();
        Ok(())
    }
}
