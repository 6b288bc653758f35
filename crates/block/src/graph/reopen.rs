//! Reopen: changed options of several nodes (`blockdev-reopen`), all of them or none.
//!
//! ```text
//! for each node: options read · driver's own prepared  ─▶  access · backing · direct  ─▶  in force: driver's own, common ones
//! └──────────── nothing changed yet ────────────────┘  └────── can be undone ──────┘     └──────── can't fail ────────┘
//! ```
//! Nodes that were opened together with their parent take over a change of `cache.direct` and `cache.no-flush`.
use super::Graph;
use crate::GraphChange;
use crate::blockers::Operations;
use crate::common::Common;
use crate::edges::{ChildId, ChildName, ChildRole};
use crate::error::{BlockError, ErrorKind, Result};
use crate::node::{Node, Slow};
use crate::open::{self, Reference};
use crate::options::Options;
use std::sync::Arc;

/// The change of one node.
struct Plan {
    node: Arc<Node>,
    common: Common,
    /// The driver's own options; none where the node only follows its parent.
    own: Option<Options>,
    /// The children that change, each with what comes in its place.
    children: Vec<(ChildId, Option<Arc<Node>>)>,
}

impl Graph {
    /// Takes changed options of nodes: those every driver has here, the driver's own there. Options that are not
    /// listed go back to their defaults. A child is named, or described by its options where it was opened together with
    /// its parent; `backing` is a node's name or null. A child whose tables the driver has in memory may be
    /// exchanged for one with the same content: a layer over it, or what is below one.
    pub async fn reopen(&self, nodes: Vec<Options>) -> Result<()> {
        let mut change = self.change().await;
        let plans = self.reopen_inside(&mut change, nodes).await;
        let plans = change.end(plans).await?;
        // Nodes below that only these used are closed. The reopen has succeeded by now, so a failed close is only logged.
        for old in plans {
            self.dispose(&old).await;
        }
        Ok(())
    }

    /// Returns the children that were given up.
    async fn reopen_inside(&self, change: &mut GraphChange, nodes: Vec<Options>) -> Result<Vec<Arc<Node>>> {
        let mut plans = Vec::with_capacity(nodes.len());
        for options in nodes {
            self.plan(options, &mut plans)?;
        }
        let mut prepared = Vec::with_capacity(plans.len());
        for Plan { node, common, own, .. } in &plans {
            if let Some(own) = own {
                prepared.push(node.driver.reopen(own.clone(), common).await?);
            }
        }
        let concerned: Vec<_> = plans.iter().map(|plan| plan.node.clone()).collect();
        change.quiesce(&concerned).await?;
        for node in concerned.iter().filter(|n| !n.read_only()) {
            node.flush().await?;
        }
        let mut given_up = Vec::new();
        for Plan { node, children, .. } in &plans {
            for (edge, child) in children {
                given_up.extend(node.edges.get(*edge));
                change.set_child(node, *edge, child.clone())?;
            }
        }
        // Who writes is above what is written to: users go first where they let go, and last where they want more.
        let named = || plans.iter().filter(|plan| plan.own.is_some());
        let writable = named().filter(|plan| !plan.common.read_only);
        for plan in writable.chain(named().filter(|plan| plan.common.read_only)) {
            change.set_writable(&plan.node, !plan.common.read_only).await?;
        }
        for Plan { node, common, .. } in &plans {
            if node.common().direct != common.direct {
                prepared.push(node.driver.reopen_direct(common.direct, !node.read_only()).await?);
            }
        }
        for Plan { node, children, .. } in plans.iter().filter(|plan| !plan.node.read_only()) {
            for (edge, child) in children {
                let stores = node.edges.edge(*edge).is_some_and(|edge| !edge.role().has(ChildRole::BACKING));
                if let Some(child) = child.as_ref().filter(|_| stores) {
                    change.set_writable(child, true).await?;
                }
            }
        }
        change.settle()?;
        prepared.into_iter().for_each(|take_effect| take_effect());
        plans.iter().for_each(Plan::take_effect);
        // What a driver needs of its children may follow from its options.
        self.0.topology.write().settle_left(&concerned);
        Ok(given_up)
    }

    /// Adds the plan for one node to `plans`, with that of a file whose options are given inside, and those of the nodes
    /// below that follow it.
    fn plan(&self, mut options: Options, plans: &mut Vec<Plan>) -> Result<()> {
        let name =
            options.take_str("node-name")?.ok_or_else(|| BlockError::invalid("node-name not specified"))?;
        let node = self.node(&name).ok_or_else(|| {
            BlockError::new(ErrorKind::NotFound, format!("Failed to find node with node-name='{name}'"))
        })?;
        let common = Common::take(&mut options, None)?;
        self.plan_node(node, common, options, plans)
    }

    fn plan_node(
        &self,
        node: Arc<Node>,
        common: Common,
        mut options: Options,
        plans: &mut Vec<Plan>,
    ) -> Result<()> {
        let name = node.name();
        node.check_operation(Operations::REOPEN)?;
        let driver = options.take_str("driver")?.unwrap_or_default();
        if driver != node.driver_name() {
            return Err(BlockError::invalid(format!("Cannot change the option 'driver' of '{name}'")));
        }
        let old = node.common();
        if old.force_share != common.force_share {
            return Err(BlockError::unsupported(format!(
                "force-share of '{name}' can't be changed by a reopen"
            )));
        }
        options = options.nested();
        let (mut below, mut children) = (Vec::new(), Vec::new());
        for edge in node.edges.ids() {
            let said = self.reopened_child(&node, edge, &common, &mut options, &mut below)?;
            children.extend(said.map(|child| (edge, child)));
        }
        // A file is writable before its user is, and read-only after it.
        let read_only = common.read_only;
        let kept = node
            .backing()
            .filter(|_| node.edges.backing().is_some_and(|edge| children.iter().all(|(id, _)| *id != edge)));
        following(kept, &old, &common, plans);
        let options = node.driver_type.adapted(options)?;
        let own = Plan { node, common, own: Some(options), children };
        if read_only {
            plans.push(own);
            plans.append(&mut below);
        } else {
            plans.append(&mut below);
            plans.push(own);
        }
        Ok(())
    }

    /// What a reopen says of a child: another node or none, if that is what it is to be. Plans for one that is described
    /// by its options, or follows its parent, are added.
    #[allow(clippy::option_option, reason = "unchanged, none, or another node are three answers")]
    fn reopened_child(
        &self,
        node: &Arc<Node>,
        id: ChildId,
        common: &Common,
        options: &mut Options,
        plans: &mut Vec<Plan>,
    ) -> Result<Option<Option<Arc<Node>>>> {
        let Some(edge) = node.edges.edge(id) else { return Ok(None) };
        let (name, role, old) = (edge.name(), edge.role(), node.edges.get(id));
        let backing = role.has(ChildRole::BACKING);
        // The image itself says which files its data are in; the others must be said.
        let may_be_silent = !backing && !role.has(ChildRole::PRIMARY);
        match (open::take_child(options, name)?, old) {
            (None, Some(old)) if may_be_silent => following(Some(old), &node.common(), common, plans),
            (None, Some(_)) => {
                return Err(BlockError::invalid(format!("{name} is missing for '{}'", node.name())));
            }
            (None | Some(Reference::None), None) => {}
            (Some(Reference::Node(given)), Some(old)) if given == old.name() => {
                if !backing {
                    following(Some(old), &node.common(), common, plans);
                }
            }
            (Some(Reference::Options(_)), _) if backing => {
                return Err(BlockError::invalid(
                    "Option 'backing' must be a node's name or null at a reopen",
                ));
            }
            (Some(Reference::Options(own)), Some(old)) => {
                self.reopen_inside_of(node, name, &old, common, own, plans)?
            }
            (Some(said), old) => return self.replacement(name, role, old.as_ref(), said).map(Some),
        }
        Ok(None)
    }

    /// Adds the plan for a child that is described by its options.
    fn reopen_inside_of(
        &self,
        node: &Arc<Node>,
        name: ChildName,
        child: &Arc<Node>,
        common: &Common,
        mut own: Options,
        plans: &mut Vec<Plan>,
    ) -> Result<()> {
        if child.monitor_owned() {
            return Err(BlockError::invalid(format!(
                "'{name}' of '{}' is the node '{}', which has options of its own: reopen it by its name",
                node.name(),
                child.name()
            )));
        }
        if own.take_str("node-name")?.is_some_and(|given| given != child.name()) {
            return Err(BlockError::invalid(format!("Cannot change the option '{name}.node-name'")));
        }
        let common = Common::take(&mut own, Some(common.of_file()))?;
        self.plan_node(child.clone(), common, own, plans)
    }

    /// What comes in the place of a child.
    fn replacement(
        &self,
        name: ChildName,
        role: ChildRole,
        old: Option<&Arc<Node>>,
        said: Reference,
    ) -> Result<Option<Arc<Node>>> {
        let new = match said {
            Reference::Node(name) => Some(self.need_node(&name)?),
            _ => None,
        };
        if role.has(ChildRole::BACKING) {
            return Ok(new);
        }
        // The driver has tables of it in memory.
        let same = new.as_ref().zip(old).is_some_and(|(new, old)| Arc::ptr_eq(&content(new), &content(old)));
        if role.has(ChildRole::METADATA) && !same {
            return Err(BlockError::unsupported(format!("Cannot change the option '{name}'")));
        }
        match (&new, old) {
            (Some(new), Some(old)) if new.length() >= old.length() => {}
            (Some(new), _) => {
                let text = format!("node '{}' is too short to be '{name}'", new.name());
                return Err(BlockError::invalid(text));
            }
            (None, _) => {
                return Err(BlockError::invalid(format!("A block device must be specified for \"{name}\"")));
            }
        }
        Ok(new)
    }
}

/// The node at which the content of this one is: itself, or one below that it shows as it is.
fn content(node: &Arc<Node>) -> Arc<Node> {
    let mut node = node.clone();
    while let Some(child) = node.shown_whole() {
        node = child;
    }
    node
}

/// Adds the plans for a child, and what is below it, that take over what changes of a parent's caching. A node that the
/// monitor opened has options of its own, and one whose caching was not its parent's has too.
fn following(child: Option<Arc<Node>>, old: &Common, new: &Common, plans: &mut Vec<Plan>) {
    let mut below: Vec<_> = child.into_iter().collect();
    while let Some(node) = below.pop() {
        let present = node.common();
        let take = |present: bool, old: bool, new: bool| if present == old { new } else { present };
        let direct = take(present.direct, old.direct, new.direct);
        let no_flush = take(present.no_flush, old.no_flush, new.no_flush);
        let same = (direct, no_flush) == (present.direct, present.no_flush);
        if same || node.monitor_owned() || plans.iter().any(|plan| Arc::ptr_eq(&plan.node, &node)) {
            continue;
        }
        below.extend(node.edges.all().into_iter().map(|child| child.node));
        let common = Common { direct, no_flush, ..present };
        plans.push(Plan { node, common, own: None, children: Vec::new() });
    }
}

impl Plan {
    fn take_effect(&self) {
        let Plan { node, common, .. } = self;
        node.set_slow(Slow::DETECT_ZEROES, common.detect_zeroes);
        node.set_slow(Slow::WRITE_THROUGH, common.write_through);
        node.take_alignment();
        *node.common.write() = Common { read_only: node.read_only(), ..common.clone() };
    }
}
