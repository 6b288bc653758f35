//! Nodes and devices: descriptions and statistics.
use super::{failed, find_device};
use crate::control::Control;
use crate::nodes;
use api::{
    BlockDeviceInfo, BlockInfo, BlockLatencyHistogramSetArguments, BlockQueryCommands,
    BlockSetWriteThresholdArguments, BlockStats, QmpError, QueryBlockstatsArguments,
    QueryNamedBlockNodesArguments,
};
use block::IoKind;

impl BlockQueryCommands for Control {
    async fn query_named_block_nodes(
        &self,
        arguments: QueryNamedBlockNodesArguments,
    ) -> Result<Vec<BlockDeviceInfo>, QmpError> {
        let flat = arguments.flat.unwrap_or(false);
        let mut infos = Vec::new();
        // The newest first, as QEMU lists them.
        for node in self.graph().nodes().iter().rev() {
            // Each node of a long chain is described with all below it: other tasks are served in between.
            rt::yield_now().await;
            infos.push(self.of_interface(nodes::device_info(node, flat)));
        }
        Ok(infos)
    }

    async fn query_block(&self) -> Result<Vec<BlockInfo>, QmpError> {
        let devices = self.graph().devices();
        let shown = devices.iter().filter(|device| !device.shown().is_empty()).map(nodes::device);
        let inserted = |device: BlockInfo| BlockInfo {
            inserted: device.inserted.map(|inserted| self.of_interface(inserted)),
            ..device
        };
        Ok(shown.map(inserted).collect())
    }

    async fn block_set_write_threshold(
        &self,
        arguments: BlockSetWriteThresholdArguments,
    ) -> Result<(), QmpError> {
        let BlockSetWriteThresholdArguments { node_name: name, write_threshold } = arguments;
        let node = self.graph().node(&name);
        let node = node.ok_or_else(|| QmpError::generic(format!("Device '{name}' not found")))?;
        node.set_write_threshold(write_threshold);
        Ok(())
    }

    async fn block_latency_histogram_set(
        &self,
        arguments: BlockLatencyHistogramSetArguments,
    ) -> Result<(), QmpError> {
        let device = find_device(self.graph(), None, Some(&arguments.id))?;
        let all = arguments.boundaries;
        let kinds = [
            ("read", IoKind::Read, arguments.boundaries_read),
            ("write", IoKind::Write, arguments.boundaries_write),
            ("append write", IoKind::ZoneAppend, arguments.boundaries_zap),
            ("flush", IoKind::Flush, arguments.boundaries_flush),
        ];
        let none = all.is_none() && kinds.iter().all(|(_, _, own)| own.is_none());
        for (what, kind, own) in kinds {
            let Some(boundaries) = own.or_else(|| all.clone()) else {
                if none {
                    device.account().set_histogram(kind, None).map_err(failed)?;
                }
                continue;
            };
            device.account().set_histogram(kind, Some(boundaries)).map_err(|_| {
                QmpError::generic(format!("Device '{}' set {what} boundaries fail", arguments.id))
            })?;
        }
        Ok(())
    }

    async fn query_blockstats(
        &self,
        arguments: QueryBlockstatsArguments,
    ) -> Result<Vec<BlockStats>, QmpError> {
        let entries = self.graph().entries();
        if !arguments.query_nodes.unwrap_or(false) {
            let devices = self.graph().devices();
            let devices = devices.iter().filter(|device| !device.shown().is_empty());
            return Ok(devices.map(|device| nodes::device_stats(device, &entries)).collect());
        }
        Ok(self.graph().nodes().iter().map(|node| nodes::stats(node, &entries)).collect())
    }
}

impl Control {
    /// What is told of a node: a machine's tests compare it word by word with what QEMU 10.0 tells.
    fn of_interface(&self, info: BlockDeviceInfo) -> BlockDeviceInfo {
        BlockDeviceInfo { children: info.children.filter(|_| !self.is_machine()), ..info }
    }
}
