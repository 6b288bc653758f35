//! Which program has a node active, and which worker its requests go to.
use super::failed;
use crate::control::Control;
use api::*;
use block::Iothread;

impl BlockActivityCommands for Control {
    async fn blockdev_set_active(&self, arguments: BlockdevSetActiveArguments) -> Result<(), QmpError> {
        let BlockdevSetActiveArguments { node_name, active } = arguments;
        let graph = self.graph();
        let node = node_name.map(|name| {
            let missing = || QmpError::generic(format!("Failed to find node with node-name='{name}'"));
            graph.node(&name).ok_or_else(missing)
        });
        match (node.transpose()?, active) {
            (Some(node), true) => graph.activate(&node).await.map_err(failed),
            (None, true) => graph.activate_all().await.map_err(failed),
            (Some(node), false) => graph.inactivate(&node).await.map_err(failed),
            (None, false) => graph.inactivate_all().await.map_err(failed),
        }
    }

    async fn x_blockdev_set_iothread(
        &self,
        arguments: XBlockdevSetIothreadArguments,
    ) -> Result<(), QmpError> {
        let XBlockdevSetIothreadArguments { node_name, iothread, force } = arguments;
        let missing = || QmpError::generic(format!("Failed to find node with node-name='{node_name}'"));
        let node = self.graph().node(&node_name).ok_or_else(missing)?;
        let entries = self.graph().entries();
        if force != Some(true) && entries.iter().any(|entry| std::sync::Arc::ptr_eq(&entry.node(), &node)) {
            let text = format!(
                "Node {node_name} is associated with a BlockBackend and could be in use (use force=true to override this check)"
            );
            return Err(QmpError::generic(text));
        }
        if let StrOrNull::S(id) = iothread {
            let missing = |_| QmpError::generic(format!("Cannot find iothread {id}"));
            self.graph().objects().hold::<Iothread>(&id).map(drop).map_err(missing)?;
            tracing::info!(target: "unimp", node = node_name, iothread = id, "requests go to the least busy worker");
        }
        Ok(())
    }
}
