//! The changes of edges, access and size that the graph knows by name.
use super::topology::{below, reachable};
use super::{BackendRequest, Graph};
use crate::blockers::Operations;
use crate::edges::ChildRole;
use crate::error::{BlockError, ErrorKind, Result};
use crate::hold::Draining;
use crate::node::Node;
use crate::perm::{Perms, Share};
use crate::{Backend, GraphChange};
use api::PreallocMode;
use std::sync::Arc;

impl Graph {
    /// Puts `overlay` over `node`: all users of `node` move to `overlay`, whose backing node it becomes. With the
    /// gates closed, `node` is flushed, and turned read-only.
    pub async fn insert_overlay(&self, node: &Arc<Node>, overlay: &Arc<Node>) -> Result<()> {
        // A first, long flush while requests still run, so that the one with the gates closed is short.
        node.flush().await?;
        let mut change = self.change().await;
        let inserted = change.insert_overlay(node, overlay).await;
        change.end(inserted).await
    }

    /// Refuses to put `overlay` over `node`.
    fn check_overlay(&self, node: &Arc<Node>, overlay: &Arc<Node>) -> Result<()> {
        node.check_operation(Operations::OVERLAY)?;
        overlay.check_operation(Operations::OVERLAY)?;
        self.check_room_above(node)?;
        if overlay.backing().is_some() {
            return Err(BlockError::invalid("The overlay already has a backing image"));
        }
        if !overlay.driver_type.supports_backing {
            return Err(BlockError::unsupported("The overlay does not support backing images"));
        }
        // Who only writes there counts on nothing that it shows: the job whose target it is.
        let users = self.0.topology.read().users(overlay);
        if let Some((user, _)) = users.iter().find(|(_, perms)| perms.need.has(Share::READ)) {
            return Err(BlockError::new(ErrorKind::Busy, format!("The overlay is already in use by {user}")));
        }
        if let Some(overlay) = self.parents(node).into_iter().find(|p| p.role.has(ChildRole::BACKING)) {
            let text = format!(
                "Node '{}' is busy: it is the backing image of '{}', which would see what is written to the overlay",
                node.name(),
                overlay.node.name()
            );
            return Err(BlockError::new(ErrorKind::Busy, text));
        }
        if reachable(overlay, node) {
            return Err(BlockError::invalid("Making the node a backing file of itself would make a loop"));
        }
        Ok(())
    }

    /// Makes a node, with the files below it, writable or read-only in place.
    pub async fn set_writable(&self, node: &Arc<Node>, writable: bool) -> Result<()> {
        let mut change = self.change().await;
        let switched = change.set_writable(node, writable).await;
        change.end(switched).await
    }

    /// Has all nodes let go what they hold back, as long as what is returned is kept: for the end of a program, which waits
    /// for every request.
    pub fn let_go(&self) -> Draining {
        Draining::begin(self.nodes())
    }

    /// Attaches an entry, after a check of its permissions against all other users.
    pub async fn attach(&self, request: BackendRequest) -> Result<Arc<Backend>> {
        let mut change = self.change().await;
        let entry = change.attach(request);
        change.end(entry).await
    }

    /// Detaches an entry: waits for its requests, then closes what only it used. Later requests fail. It is off also where there
    /// is an error.
    pub async fn detach(&self, entry: &Arc<Backend>) -> Result<()> {
        // Before the change begins: a request that never ends must not block all other changes.
        entry.retire();
        let draining = Draining::begin(below(&[entry.node()]));
        entry.gate.drained().await;
        drop(draining);
        let mut change = self.change().await;
        let node = entry.node();
        change.take_off(entry);
        // Fewer permissions can't conflict; file locks are given back here.
        let given_back = change.settle();
        let given_back = change.end(given_back).await;
        given_back.and(self.release(&node).await)
    }

    /// Changes what an entry needs and shares.
    pub async fn set_perms(&self, entry: &Arc<Backend>, perms: Perms) -> Result<()> {
        let mut change = self.change().await;
        change.set_perms(entry, perms);
        change.end(Ok(())).await
    }

    /// Changes the virtual size of a node. The gates above are closed meanwhile.
    pub async fn resize(&self, node: &Arc<Node>, size: u64, preallocation: PreallocMode) -> Result<()> {
        crate::size::check_length(size)?;
        let mut change = self.change().await;
        let resized = async {
            node.check_operation(Operations::RESIZE)?;
            if node.read_only() {
                return Err(BlockError::new(ErrorKind::ReadOnly, "Image is read-only"));
            }
            // Users that don't share resizing are in the way.
            let perms = Perms { need: Share::RESIZE, share: Share::ALL };
            let request =
                BackendRequest { label: "resize".to_owned(), node: node.clone(), perms, pinned: true };
            let entry = change.attach(request)?;
            change.quiesce(std::slice::from_ref(node)).await?;
            node.set_length(size, preallocation).await?;
            change.take_off(&entry);
            self.tell_length(node);
            Ok(())
        };
        let resized = resized.await;
        change.end(resized).await
    }

    /// Tells all above a node that it has another length: filters have it too, and their bitmaps.
    pub(super) fn tell_length(&self, node: &Arc<Node>) {
        let above = self.nodes_to_be().into_iter().filter(|other| reachable(other, node));
        above.for_each(|other| other.bitmaps.resize(|_| other.length()));
        self.entries().iter().filter(|e| reachable(&e.node(), node)).for_each(|e| e.tell_size());
    }
}

impl GraphChange {
    /// [`Graph::insert_overlay`] as a part of a change.
    pub async fn insert_overlay(&mut self, node: &Arc<Node>, overlay: &Arc<Node>) -> Result<()> {
        self.graph.check_overlay(node, overlay)?;
        self.quiesce(&[node.clone(), overlay.clone()]).await?;
        if !node.is_active() && overlay.is_active() {
            // Who does not know of inactive nodes puts an overlay over one all the same: both belong to the other program then.
            self.inactivate(std::slice::from_ref(overlay)).await?;
        }
        node.flush().await?;
        self.replace(node, overlay)?;
        self.set_backing(overlay, Some(node.clone()))?;
        self.settle()?;
        // The overlay is in place and takes the writes. If the node below can't be made read-only, the change must not fail, or
        // the overlay would be thrown away together with data written to it.
        if let Err(e) = self.set_writable(node, false).await {
            tracing::warn!(node = node.name(), error = %e, "the node below a new overlay stays writable");
        }
        Ok(())
    }
}
