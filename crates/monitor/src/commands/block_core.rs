//! Nodes: adding, deleting, changing.
use super::{failed, lookup};
use crate::control::Control;
use crate::options;
use api::{
    BlockCoreCommands, BlockPasswdArguments, BlockResizeArguments, BlockdevDelArguments, BlockdevOptions,
    BlockdevReopenArguments, PreallocMode, QmpError,
};
use block::{ErrorKind, Secret};

impl BlockCoreCommands for Control {
    async fn blockdev_add(&self, arguments: BlockdevOptions) -> Result<(), QmpError> {
        if arguments.node_name.is_none() {
            return Err(QmpError::generic("'node-name' must be specified for the root node"));
        }
        let options = options::from_typed(&arguments).map_err(failed)?;
        self.descriptors().lend(self.graph().add(options)).await.map_err(failed)?;
        Ok(())
    }

    async fn blockdev_del(&self, arguments: BlockdevDelArguments) -> Result<(), QmpError> {
        self.graph().remove(&arguments.node_name).await.map_err(failed)
    }

    async fn blockdev_reopen(&self, arguments: BlockdevReopenArguments) -> Result<(), QmpError> {
        let nodes =
            arguments.options.iter().map(options::from_typed).collect::<Result<_, _>>().map_err(failed)?;
        self.graph().reopen(nodes).await.map_err(failed)
    }

    async fn block_passwd(&self, arguments: BlockPasswdArguments) -> Result<(), QmpError> {
        let BlockPasswdArguments { device, node_name, password } = arguments;
        if device.is_some() && node_name.is_some() {
            return Err(QmpError::generic("'device' and 'node-name' are mutually exclusive"));
        }
        let node = lookup(self.graph(), device.as_deref(), node_name.as_deref())?;
        let judged = node.driver().judge_passphrase(&Secret::new(password.into_bytes())).await;
        judged.map_err(|error| match error.kind() {
            ErrorKind::Unsupported => QmpError::generic(format!("Device '{}' is not encrypted", node.name())),
            ErrorKind::Permission => QmpError::generic("Password incorrect"),
            _ => failed(error),
        })
    }

    async fn block_resize(&self, arguments: BlockResizeArguments) -> Result<(), QmpError> {
        let BlockResizeArguments { device, node_name, size } = arguments;
        let node = lookup(self.graph(), device.as_deref(), node_name.as_deref())?;
        let size =
            u64::try_from(size).map_err(|_| QmpError::generic("Parameter 'size' expects a >0 size"))?;
        self.graph().resize(&node, size, PreallocMode::Off).await.map_err(failed)
    }
}
