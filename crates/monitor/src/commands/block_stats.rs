//! Statistics of nodes and devices, and the marks that are set for them.
use super::failed;
use crate::control::Control;
use crate::nodes;
use api::{
    BlockLatencyHistogramSetArguments, BlockSetWriteThresholdArguments, BlockStats, BlockStatsCommands,
    QmpError, QueryBlockstatsArguments,
};
use block::IoKind;

impl BlockStatsCommands for Control {
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
        let (device, _) = self.one_device(None, Some(&arguments.id))?;
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
        // QEMU counts a device's requests only, which a machine's tests compare; a daemon tells what went through each node.
        let entries = if self.is_machine() { Vec::new() } else { self.graph().entries() };
        if !arguments.query_nodes.unwrap_or(false) {
            let devices = self.graph().devices();
            let devices = devices.iter().filter(|device| !device.shown().is_empty());
            return Ok(devices.map(|device| nodes::device_stats(device, &entries)).collect());
        }
        Ok(self.graph().nodes().iter().map(|node| nodes::stats(node, &entries)).collect())
    }
}
