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
use crate::error::{BlockError, ErrorKind, Result};
use crate::node::{Node, Slow};
use crate::open::{self, Common};
use crate::options::{Opt, Options};
use std::sync::Arc;

/// The change of one node.
struct Plan {
    node: Arc<Node>,
    common: Common,
    /// The driver's own options; none where the node only follows its parent.
    own: Option<Options>,
    /// The new backing node, if it changes.
    #[allow(clippy::option_option, reason = "unchanged, none, or another node are three answers")]
    backing: Option<Option<Arc<Node>>>,
}

impl Graph {
    /// Takes changed options of nodes: those every driver has here, the driver's own there. Options that are not
    /// listed go back to their defaults. `file` is the present child's name, or its options where it was opened
    /// together with its parent; `backing` is a node's name or null.
    pub async fn reopen(&self, nodes: Vec<Options>) -> Result<()> {
        let mut change = self.change().await;
        let plans = self.reopen_inside(&mut change, nodes).await;
        let plans = change.end(plans).await?;
        // What only these nodes used goes with it. They are changed: that a close failed is no failure of that.
        for old in plans {
            self.dispose(&old).await;
        }
        Ok(())
    }

    /// Returns the backing nodes that were given up.
    async fn reopen_inside(
        &self,
        change: &mut GraphChange<'_>,
        nodes: Vec<Options>,
    ) -> Result<Vec<Arc<Node>>> {
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
        for Plan { node, backing, .. } in &plans {
            if let Some(backing) = backing {
                given_up.extend(node.backing());
                change.set_backing(node, backing.clone())?;
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
        let common = open::take_common(&mut options, None)?;
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
        let mut below = Vec::new();
        self.reopened_file(&node, &common, &mut options, &mut below)?;
        let backing = self.reopened_backing(&node, &mut options)?;
        // A file is writable before its user is, and read-only after it.
        let read_only = common.read_only;
        let kept = if backing.is_none() { node.backing() } else { None };
        following(kept, &old, &common, plans);
        let options = node.driver_type.adapted(options)?;
        let own = Plan { node, common, own: Some(options), backing };
        if read_only {
            plans.push(own);
            plans.append(&mut below);
        } else {
            plans.append(&mut below);
            plans.push(own);
        }
        Ok(())
    }

    /// What a reopen says of the file below: its name, which stays the same, or its options.
    fn reopened_file(
        &self,
        node: &Arc<Node>,
        common: &Common,
        options: &mut Options,
        plans: &mut Vec<Plan>,
    ) -> Result<()> {
        let Some(file) = node.primary() else { return Ok(()) };
        match options.take("file") {
            Some(Opt::Str(name)) if name == file.name() => {
                following(Some(file), &node.common(), common, plans);
                Ok(())
            }
            Some(Opt::Dict(_)) if file.monitor_owned() => Err(BlockError::invalid(format!(
                "'file' of '{}' is the node '{}', which has options of its own: reopen it by its name",
                node.name(),
                file.name()
            ))),
            Some(Opt::Dict(mut own)) => {
                if own.take_str("node-name")?.is_some_and(|name| name != file.name()) {
                    return Err(BlockError::invalid("Cannot change the option 'file.node-name'"));
                }
                let common = open::take_common(&mut own, Some(common.of_file()))?;
                self.plan_node(file, common, own, plans)
            }
            Some(_) => Err(BlockError::unsupported("Cannot change the option 'file'")),
            None => Err(BlockError::invalid(format!("file is missing for '{}'", node.name()))),
        }
    }

    /// The backing node that a reopen names, if it is another one.
    #[allow(clippy::option_option, reason = "unchanged, none, or another node are three answers")]
    fn reopened_backing(&self, node: &Arc<Node>, options: &mut Options) -> Result<Option<Option<Arc<Node>>>> {
        if !node.driver_type.supports_backing {
            return Ok(None);
        }
        let old = node.backing();
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
        let same = old.as_ref().map(|n| n.name().to_owned()) == new.as_ref().map(|n| n.name().to_owned());
        Ok((!same).then_some(new))
    }
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
        plans.push(Plan { node, common, own: None, backing: None });
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
