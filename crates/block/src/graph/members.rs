//! Children that come and go ([`Membership`]), while the parent is in use.
use super::Graph;
use crate::blockers::Operations;
use crate::driver::Membership;
use crate::edges::ChildName;
use crate::error::{BlockError, ErrorKind, Result};
use crate::node::Node;
use std::sync::Arc;

impl Graph {
    /// Makes a node that nobody uses a child of `parent`.
    pub async fn add_member(&self, parent: &Arc<Node>, child: &Arc<Node>) -> Result<()> {
        let membership = membership(parent, "adding")?;
        let mut change = self.change().await;
        let added = async {
            if !self.parents(child).is_empty() || self.entries().iter().any(|entry| is(&entry.node(), child))
            {
                let text = format!("The node {} already has a parent", child.name());
                return Err(BlockError::new(ErrorKind::Busy, text));
            }
            parent.check_operation(Operations::REOPEN)?;
            membership.may_join(child)?;
            change.quiesce(std::slice::from_ref(parent)).await?;
            let (name, role) = membership.list();
            let present = parent.edges().all();
            let next = present.iter().filter_map(|child| child.name.index).max().map_or(0, |last| last + 1);
            let name = ChildName { name, index: Some(next) };
            let edge = parent.edges().find(name).unwrap_or_else(|| parent.edges().declare(name, role));
            change.set_child(parent, edge, Some(child.clone()))
        };
        let added = added.await;
        change.end(added).await
    }

    /// Takes the child of this name away from `parent`. It is closed where nobody else uses it.
    pub async fn remove_member(&self, parent: &Arc<Node>, name: &str) -> Result<()> {
        let mut change = self.change().await;
        let removed = async {
            let children = parent.edges().all();
            let child =
                children.into_iter().find(|child| child.name.to_string() == name).ok_or_else(|| {
                    BlockError::invalid(format!("Node '{}' does not have child '{name}'", parent.name()))
                })?;
            let membership = membership(parent, "removing")?;
            parent.check_operation(Operations::REOPEN)?;
            membership.may_leave()?;
            change.quiesce(std::slice::from_ref(parent)).await?;
            change.set_child(parent, child.id, None)?;
            Ok(child.node)
        };
        let removed = removed.await;
        let node = change.end(removed).await?;
        self.release(&node).await
    }
}

fn membership<'a>(parent: &'a Node, doing: &str) -> Result<&'a dyn Membership> {
    parent.driver().membership().ok_or_else(|| {
        BlockError::unsupported(format!("The node {} does not support {doing} a child", parent.name()))
    })
}

fn is(one: &Arc<Node>, other: &Arc<Node>) -> bool {
    Arc::ptr_eq(one, other)
}
