//! Filters that a job puts over a node while it is in use, and takes out again.
//!
//! ```text
//!   users ─▶ node        make ─▶ filter ─▶ node        insert ─▶ users ─▶ filter ─▶ node        take out ─▶ users ─▶ node
//!                        users ──────────▲
//! ```
//!
//! All users move, but for entries that are pinned to the node, and for what the filter itself is made of (a second child
//! that has the node below it).
use super::{Graph, GraphChange};
use crate::bitmaps::Bitmaps;
use crate::common::{Common, Discard};
use crate::driver::Driver;
use crate::edges::{ChildName, ChildRole, Edges, Parent};
use crate::error::{BlockError, ErrorKind, Result};
use crate::filter::Filtered;
use crate::node::Node;
use crate::open::{OpenContext, Opened};
use crate::options::Options;
use crate::policy::Policy;
use crate::registry::DriverType;
use std::sync::Arc;

/// A filter that options can't name, to be put over a node.
pub struct NewFilter {
    /// Its driver.
    pub driver: &'static DriverType,
    /// Its name; one that begins with `#block` if absent.
    pub name: Option<String>,
    /// The name of the edge to what it filters.
    pub child: ChildName,
    /// It takes no writes.
    pub read_only: bool,
    /// The driver, given what it filters.
    pub make: fn(Filtered) -> Arc<dyn Driver>,
}

impl GraphChange {
    /// Makes a filter of `node` and puts it between the node and its users. With the gates closed.
    pub async fn add_filter(&mut self, node: &Arc<Node>, new: NewFilter) -> Result<Arc<Node>> {
        let filter = self.make_filter(node, new).await?;
        self.insert_filter(&filter).await?;
        Ok(filter)
    }

    async fn make_filter(&mut self, node: &Arc<Node>, new: NewFilter) -> Result<Arc<Node>> {
        let edges = Arc::new(Edges::default());
        let child = edges.declare(new.child, ChildRole::FILTERED.union(ChildRole::PRIMARY));
        edges.set(child, Some(node.clone()));
        let driver = (new.make)(Filtered::new(edges.clone(), child));
        let common = Common {
            read_only: new.read_only || node.read_only(),
            discard: Discard::Unmap,
            ..Common::default()
        };
        let context = OpenContext {
            graph: self.graph.clone(),
            edges,
            domain: self.graph.domain(),
            bitmaps: Arc::<Bitmaps>::default(),
            common,
            policy: Policy::FOLLOW,
            probed: false,
            place: Default::default(),
            given: Options::new(),
            asked: Options::new(),
            since: u64::MAX,
        };
        let filter = self.graph.adopt(new.name, new.driver, Opened { driver, filename: None }, &context)?;
        let filter = self.graph.start(filter).await?;
        self.made(&filter);
        Ok(filter)
    }

    /// Puts a filter that nobody uses yet between what it filters and the users of that. With the gates closed.
    pub async fn insert_filter(&mut self, filter: &Arc<Node>) -> Result<()> {
        let node = need_filtered(filter)?;
        self.quiesce(std::slice::from_ref(&node)).await?;
        self.replace(&node, filter)
    }

    /// Moves the users of a filter to what it filters now. With the gates closed. The filter is closed as the change ends
    /// well, unless somebody else keeps it.
    pub async fn take_out_filter(&mut self, filter: &Arc<Node>) -> Result<()> {
        let node = need_filtered(filter)?;
        self.quiesce(std::slice::from_ref(filter)).await?;
        self.replace(filter, &node)?;
        self.done_with(filter);
        Ok(())
    }
}

impl Graph {
    /// The edges by which others have the node as their backing image, directly or through filters over it.
    pub fn overlays(&self, node: &Arc<Node>) -> Vec<Parent> {
        let (mut overlays, mut todo) = (Vec::new(), self.parents(node));
        while let Some(parent) = todo.pop() {
            if parent.role.has(ChildRole::FILTERED) {
                todo.extend(self.parents(&parent.node));
            } else if parent.role.has(ChildRole::BACKING) {
                overlays.push(parent);
            }
        }
        overlays
    }
}

fn need_filtered(filter: &Arc<Node>) -> Result<Arc<Node>> {
    let none = || BlockError::new(ErrorKind::Invalid, format!("'{}' is no filter", filter.name()));
    filter.filtered().ok_or_else(none)
}
