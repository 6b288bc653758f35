//! Nodes and devices: listing what they are, and what they have done.
use crate::control::Control;
use crate::nodes;
use api::{
    BlockDeviceInfo, BlockInfo, BlockQueryCommands, BlockStats, QmpError, QueryBlockstatsArguments,
    QueryNamedBlockNodesArguments,
};

impl BlockQueryCommands for Control {
    async fn query_named_block_nodes(
        &self,
        arguments: QueryNamedBlockNodesArguments,
    ) -> Result<Vec<BlockDeviceInfo>, QmpError> {
        let flat = arguments.flat.unwrap_or(false);
        let mut infos = Vec::new();
        // The newest first, as clients are used to.
        for node in self.graph().nodes().iter().rev() {
            // A long chain has much to tell at each of its nodes; others are to be answered meanwhile.
            rt::yield_now().await;
            infos.push(nodes::device_info(node, flat));
        }
        Ok(infos)
    }

    async fn query_block(&self) -> Result<Vec<BlockInfo>, QmpError> {
        // Devices come with the schema's form of blockdev-add that makes them.
        Ok(Vec::new())
    }

    async fn query_blockstats(
        &self,
        arguments: QueryBlockstatsArguments,
    ) -> Result<Vec<BlockStats>, QmpError> {
        if !arguments.query_nodes.unwrap_or(false) {
            return Ok(Vec::new());
        }
        let entries = self.graph().entries();
        Ok(self.graph().nodes().iter().map(|node| nodes::stats(node, &entries)).collect())
    }
}
