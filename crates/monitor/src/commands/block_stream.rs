//! Streaming, and the names of backing files.
use super::{failed, lookup, node_of_job};
use crate::control::Control;
use api::{BlockStreamArguments, BlockStreamCommands, ChangeBackingFileArguments, QmpError};

impl BlockStreamCommands for Control {
    async fn block_stream(&self, mut arguments: BlockStreamArguments) -> Result<(), QmpError> {
        let node = node_of_job(self.graph(), &arguments.device, &mut arguments.job_id)?;
        jobs::stream(self.graph(), self.jobs(), &node, arguments).await.map_err(failed)
    }

    async fn change_backing_file(&self, arguments: ChangeBackingFileArguments) -> Result<(), QmpError> {
        let ChangeBackingFileArguments { device, image_node_name, backing_file } = arguments;
        let node = lookup(self.graph(), Some(&device), Some(&device))?;
        jobs::change_backing_file(self.graph(), &node, &image_node_name, &backing_file).await.map_err(failed)
    }
}
