//! Nodes and devices: descriptions.
use crate::control::Control;
use crate::generation::Generation;
use crate::nodes;
use api::{BlockDeviceInfo, BlockInfo, BlockQueryCommands, QmpError, QueryNamedBlockNodesArguments};

/// Nodes that are described without the images below them before other tasks are served.
const FLAT_TOGETHER: usize = 16;

impl BlockQueryCommands for Control {
    async fn query_named_block_nodes(
        &self,
        arguments: QueryNamedBlockNodesArguments,
    ) -> Result<Vec<BlockDeviceInfo>, QmpError> {
        let flat = arguments.flat.unwrap_or(false);
        let mut infos = Vec::new();
        // The newest first, as QEMU lists them.
        let named_alone = self.generation() == Generation::First;
        for (index, node) in self.graph().nodes().iter().rev().enumerate() {
            if named_alone && node.name().starts_with('#') {
                continue;
            }
            // Other tasks are served in between: a node of a long chain may be described with all below it.
            if !flat || index % FLAT_TOGETHER == 0 {
                rt::yield_now().await;
            }
            infos.push(self.of_interface(nodes::device_info(node, flat)));
        }
        Ok(infos)
    }

    async fn query_block(&self) -> Result<Vec<BlockInfo>, QmpError> {
        let devices = self.graph().devices();
        let shown = devices.iter().filter(|device| !device.shown().is_empty()).map(nodes::device);
        let of_interface = |mut device: BlockInfo| {
            device.inserted = device.inserted.map(|inserted| self.of_interface(inserted));
            if self.generation() == Generation::First {
                device.dirty_bitmaps = device.inserted.as_ref().and_then(|node| node.dirty_bitmaps.clone());
            }
            device
        };
        Ok(shown.map(of_interface).collect())
    }
}

impl Control {
    /// What is told of a node: a machine's tests compare it word by word with what QEMU 10.0 tells.
    fn of_interface(&self, info: BlockDeviceInfo) -> BlockDeviceInfo {
        BlockDeviceInfo {
            children: info.children.filter(|_| !self.is_machine()),
            // An image is opened with its key, or not at all.
            encryption_key_missing: (self.generation() == Generation::First).then_some(false),
            ..info
        }
    }
}
