//! Changes of edges, access, size and options, each a transaction under the graph's turn.
use super::topology::reachable;
use super::{Graph, QUIESCE_TIMEOUT};
use crate::backend::Backend;
use crate::error::{BlockError, ErrorKind, Result};
use crate::gate::Closed;
use crate::node::{Node, Role, Slow};
use crate::open::{self, Common};
use crate::options::{Opt, Options};
use crate::perm::{Perms, Share};
use std::sync::Arc;

impl Graph {
    /// Closes the gates of all entries from which one of `nodes` can be reached, and waits for their requests. On
    /// time-out nothing has changed, and the error names who is stuck.
    pub async fn quiesce(&self, nodes: &[Arc<Node>]) -> Result<Closed> {
        let (entries, closed) = {
            let mut topology = self.0.topology.write();
            let reaches = |e: &Arc<Backend>| nodes.iter().any(|n| reachable(&e.node(), n));
            let entries: Vec<_> = topology.entries.iter().filter(|e| reaches(e)).cloned().collect();
            let closed = topology.close(&entries, nodes);
            (entries, closed)
        };
        match rt::timeout(QUIESCE_TIMEOUT, closed.drained()).await {
            Ok(()) => Ok(closed),
            Err(_) => {
                let stuck: Vec<_> =
                    entries.iter().filter(|e| e.in_flight() > 0).map(|e| e.label().to_owned()).collect();
                let text =
                    format!("requests of {} did not end within 30 s; nothing was changed", stuck.join(", "));
                Err(BlockError::new(ErrorKind::Timeout, text))
            }
        }
    }

    /// Puts `overlay` over `node`: all users of `node` move to `overlay`, whose backing node it becomes. With the
    /// gates closed, `node` is flushed, and turned read-only.
    pub async fn insert_overlay(&self, node: &Arc<Node>, overlay: &Arc<Node>) -> Result<()> {
        let _turn = self.0.change.lock().await;
        if overlay.child(Role::Backing).is_some() {
            return Err(BlockError::invalid("The overlay already has a backing image"));
        }
        if !overlay.driver_type.supports_backing {
            return Err(BlockError::unsupported("The overlay does not support backing images"));
        }
        if let Some(user) = self.users(overlay).first() {
            return Err(BlockError::new(ErrorKind::Busy, format!("The overlay is already in use by {user}")));
        }
        if reachable(overlay, node) {
            return Err(BlockError::invalid("Making the node a backing file of itself would make a loop"));
        }
        // A first, long flush while requests still run; only the short rest waits for the gates.
        node.flush().await?;
        let _closed = self.quiesce(std::slice::from_ref(node)).await?;
        node.flush().await?;
        {
            let topology = self.0.topology.write();
            topology.has(node)?;
            topology.has(overlay)?;
            let moved = topology.moved_users(node, |_| true);
            overlay.edges.set(Role::Backing, Some(node.clone()));
            moved.point_to(overlay);
            if let Err(e) = topology.settle(&[overlay.clone(), node.clone()]) {
                moved.point_to(node);
                overlay.edges.set(Role::Backing, None);
                return Err(e.and_settle(&topology, &[overlay.clone(), node.clone()]));
            }
        }
        // The overlay is in force: whoever writes, writes there. That the node below could not be turned read-only
        // must not be told as a failure of the change, or the overlay would be thrown away with what it takes.
        if let Err(e) = self.set_writable_inner(node, false).await {
            tracing::warn!(node = node.name(), error = %e, "the node below a new overlay stays writable");
        }
        Ok(())
    }

    /// Moves all users of `from` to `to`, where `keep` does not hold a parent back. `to` may be below `from`. Then
    /// `from` is closed, unless the monitor owns it. The gates above both are closed by the caller.
    pub async fn replace(
        &self,
        from: &Arc<Node>,
        to: &Arc<Node>,
        keep: impl Fn(&Arc<Node>) -> bool,
    ) -> Result<()> {
        let _turn = self.0.change.lock().await;
        {
            let topology = self.0.topology.write();
            topology.has(to)?;
            let moved = topology.moved_users(from, |parent| !keep(parent));
            moved.point_to(to);
            if let Err(e) = topology.settle(&[from.clone(), to.clone()]) {
                moved.point_to(from);
                return Err(e.and_settle(&topology, &[from.clone(), to.clone()]));
            }
        }
        Ok(())
    }

    /// Sets the backing child of `node`. The gates above are closed by the caller.
    pub async fn set_backing(&self, node: &Arc<Node>, backing: Option<Arc<Node>>) -> Result<()> {
        let _turn = self.0.change.lock().await;
        let old = node.child(Role::Backing);
        {
            let topology = self.0.topology.write();
            topology.has(node)?;
            backing.iter().try_for_each(|b| topology.has(b))?;
            node.edges.set(Role::Backing, backing.clone());
            let touched: Vec<_> = [Some(node.clone()), old.clone(), backing].into_iter().flatten().collect();
            if let Err(e) = topology.settle(&touched) {
                node.edges.set(Role::Backing, old);
                return Err(e.and_settle(&topology, &touched));
            }
        }
        Ok(())
    }

    /// Makes a node, with the files below it, writable or read-only in place.
    pub async fn set_writable(&self, node: &Arc<Node>, writable: bool) -> Result<()> {
        let _turn = self.0.change.lock().await;
        self.set_writable_inner(node, writable).await
    }

    /// A user that writes to the node, if there is one.
    fn writer_of(&self, node: &Arc<Node>) -> Option<String> {
        let users = self.0.topology.read().users(node);
        users.into_iter().find(|(_, perms)| perms.need.has(Share::WRITE)).map(|(label, _)| label)
    }

    async fn set_writable_inner(&self, node: &Arc<Node>, writable: bool) -> Result<()> {
        if node.read_only() != writable {
            return Ok(());
        }
        let children: Vec<_> =
            node.edges.all().into_iter().filter(|(r, _)| *r != Role::Backing).map(|(_, c)| c).collect();
        let switch = |node: &Arc<Node>, writable: bool| {
            node.set_slow(Slow::READ_ONLY, !writable);
            node.common.write().read_only = !writable;
        };
        if writable {
            for child in &children {
                Box::pin(self.set_writable_inner(child, true)).await?;
            }
            // The locks of the writer come first; undone if another process is in the way.
            switch(node, true);
            let settled = self.0.topology.write().settle(std::slice::from_ref(node));
            let result = match settled {
                Ok(()) => node.driver.set_writable(true).await,
                Err(e) => Err(e),
            };
            if let Err(e) = result {
                switch(node, false);
                self.0.topology.write().settle(std::slice::from_ref(node))?;
                return Err(e);
            }
            return Ok(());
        }
        if let Some(writer) = self.writer_of(node) {
            let text = format!(
                "Read-only block node '{}' cannot support read-write users: {writer} writes to it",
                node.name()
            );
            return Err(BlockError::new(ErrorKind::Busy, text));
        }
        node.driver.set_writable(false).await?;
        switch(node, false);
        self.0.topology.write().settle(std::slice::from_ref(node))?;
        for child in &children {
            let shared = self.0.topology.read().parents(child).iter().any(|(p, _)| !Arc::ptr_eq(p, node));
            if !shared && !child.monitor_owned() {
                Box::pin(self.set_writable_inner(child, false)).await?;
            }
        }
        Ok(())
    }

    /// Changes the virtual size of a node. The gates above are closed meanwhile.
    pub async fn resize(&self, node: &Arc<Node>, size: u64, preallocation: &str) -> Result<()> {
        let _turn = self.0.change.lock().await;
        if let Some(reason) = node.busy() {
            return Err(BlockError::new(
                ErrorKind::Busy,
                format!("Node '{}' is busy: {reason}", node.name()),
            ));
        }
        if node.read_only() {
            return Err(BlockError::new(ErrorKind::ReadOnly, "Image is read-only"));
        }
        let user = Perms { need: Share::READ.and(Share::WRITE).and(Share::RESIZE), share: Share::ALL };
        let entry =
            Arc::new(Backend::new("resize".to_owned(), node.clone(), self.domain().gate(), user, true));
        {
            let mut topology = self.0.topology.write();
            topology.has(node)?;
            topology.entries.push(entry.clone());
            if let Err(e) = topology.settle(std::slice::from_ref(node)) {
                topology.entries.pop();
                return Err(e);
            }
        }
        let result = match self.quiesce(std::slice::from_ref(node)).await {
            Ok(_closed) => node.driver.resize(size, preallocation).await.map_err(|e| e.at_node(node.name())),
            Err(e) => Err(e),
        };
        let mut topology = self.0.topology.write();
        topology.entries.retain(|e| !Arc::ptr_eq(e, &entry));
        result.and(topology.settle(std::slice::from_ref(node)))
    }

    /// Takes changed options of a node (`blockdev-reopen`): those every driver has here, the driver's own there.
    /// Options that are not listed go back to their defaults; children are given by their present names.
    pub async fn reopen(&self, options: Options) -> Result<()> {
        let mut options = options;
        let name =
            options.take_str("node-name")?.ok_or_else(|| BlockError::invalid("node-name not specified"))?;
        let node = self.node(&name).ok_or_else(|| {
            BlockError::new(ErrorKind::NotFound, format!("Failed to find node with node-name='{name}'"))
        })?;
        let driver = options.take_str("driver")?.unwrap_or_default();
        if driver != node.driver_name() {
            return Err(BlockError::invalid(format!("Cannot change the option 'driver' of '{name}'")));
        }
        let common = open::take_common(&mut options, None)?;
        let backing = self.reopened_children(&node, &mut options)?;
        let writable = !common.read_only;
        {
            let old = node.common();
            if (old.direct, old.force_share) != (common.direct, common.force_share) {
                return Err(BlockError::unsupported(format!(
                    "cache.direct and force-share of '{name}' can't be changed by a reopen"
                )));
            }
        }
        let _closed = self.quiesce(std::slice::from_ref(&node)).await?;
        if !node.read_only() {
            node.flush().await?;
        }
        self.set_writable(&node, writable).await?;
        // The driver looks at the new ones.
        let before = std::mem::replace(
            &mut *node.common.write(),
            Common { read_only: node.read_only(), ..common.clone() },
        );
        if let Err(e) = node.driver.reopen(options).await {
            *node.common.write() = before;
            return Err(e);
        }
        if let Some(backing) = backing {
            let old = node.child(Role::Backing);
            self.set_backing(&node, backing).await?;
            // What only this node used goes with it.
            if let Some(old) = old {
                self.release(&old).await?;
            }
        }
        node.set_slow(Slow::DETECT_ZEROES, common.detect_zeroes);
        node.set_slow(Slow::WRITE_THROUGH, common.write_through);
        Ok(())
    }

    /// The children a reopen names. `file` must be the present one; a changed `backing` is returned.
    #[allow(clippy::option_option, reason = "unchanged, none, or another node are three answers")]
    fn reopened_children(
        &self,
        node: &Arc<Node>,
        options: &mut Options,
    ) -> Result<Option<Option<Arc<Node>>>> {
        if let Some(file) = node.child(Role::File) {
            match options.take_str("file")? {
                Some(name) if name == file.name() => {}
                Some(_) => return Err(BlockError::unsupported("Cannot change the option 'file'")),
                None => return Err(BlockError::invalid(format!("file is missing for '{}'", node.name()))),
            }
        }
        if !node.driver_type.supports_backing {
            return Ok(None);
        }
        let old = node.child(Role::Backing);
        let new = match options.take("backing") {
            None if old.is_some() => {
                return Err(BlockError::invalid(format!("backing is missing for '{}'", node.name())));
            }
            None | Some(Opt::Null) => None,
            Some(Opt::Str(name)) => Some(self.need_node(&name)?),
            Some(_) => {
                return Err(BlockError::invalid(
                    "Option 'backing' must be a node's name or null at a reopen",
                ));
            }
        };
        if let Some(new) = &new
            && reachable(new, node)
        {
            return Err(BlockError::invalid(format!(
                "Making '{}' a backing file of '{}' would make a loop",
                new.name(),
                node.name()
            )));
        }
        let same = old.as_ref().map(|n| n.name().to_owned()) == new.as_ref().map(|n| n.name().to_owned());
        Ok((!same).then_some(new))
    }
}
