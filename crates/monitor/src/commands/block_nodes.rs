//! Nodes: adding, deleting, changing.
use super::{failed, lookup};
use crate::control::Control;
use crate::options;
use api::{
    BlockNodesCommands, BlockPasswdArguments, BlockResizeArguments, BlockdevDelArguments, BlockdevOptions,
    BlockdevReopenArguments, PreallocMode, QmpError, XBlockdevChangeArguments,
};
use block::{Device, ErrorKind, Options, Policy, Secret};
use std::sync::Arc;

impl BlockNodesCommands for Control {
    async fn blockdev_add(&self, arguments: BlockdevOptions) -> Result<(), QmpError> {
        let (mut arguments, mut device) = (arguments, None);
        let (rerror, werror) = (arguments.rerror.take(), arguments.werror.take());
        if let Some(id) = arguments.id.take() {
            let made = self.graph().add_device(&id).map_err(failed)?;
            made.set_on_error(rerror, werror);
            device = Some(made);
        } else if arguments.node_name.is_none() {
            return Err(QmpError::generic("'node-name' must be specified for the root node"));
        } else if rerror.is_some() || werror.is_some() {
            return Err(QmpError::generic("'rerror' and 'werror' are a device's: 'id' is missing"));
        }
        let options = options::from_typed(&arguments).map_err(failed)?;
        let Some(device) = device else {
            self.descriptors().lend(self.graph().add(options)).await.map_err(failed)?;
            return Ok(());
        };
        let filled = self.descriptors().lend(self.fill(&device, options)).await;
        if filled.is_err() {
            self.graph().remove_device(&device).await.map_err(failed)?;
        }
        filled.map_err(failed)
    }

    async fn blockdev_del(&self, arguments: BlockdevDelArguments) -> Result<(), QmpError> {
        if let Some(device) = self.graph().device(&arguments.node_name) {
            if device.model().is_some() {
                return Err(QmpError::generic(format!("Device '{}' is in use", device.name())));
            }
            return self.graph().remove_device(&device).await.map_err(failed);
        }
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

    async fn x_blockdev_change(&self, arguments: XBlockdevChangeArguments) -> Result<(), QmpError> {
        let XBlockdevChangeArguments { parent, child, node } = arguments;
        let parent = lookup(self.graph(), Some(&parent), Some(&parent))?;
        let changed = match (child, node) {
            (None, None) => return Err(QmpError::generic("Either child or node must be specified")),
            (Some(_), Some(_)) => {
                return Err(QmpError::generic("The parameters child and node are in conflict"));
            }
            (Some(child), None) => self.graph().remove_member(&parent, &child).await,
            (None, Some(node)) => {
                let missing = || QmpError::generic(format!("Node '{node}' not found"));
                let node = self.graph().node(&node).ok_or_else(missing)?;
                self.graph().add_member(&parent, &node).await
            }
        };
        changed.map_err(failed)
    }
}

impl Control {
    /// Opens a node for a device, which alone keeps it.
    async fn fill(&self, device: &Arc<Device>, options: Options) -> block::Result<()> {
        let node = self.graph().open(options, Policy::FOLLOW).await?;
        let inserted = self.graph().put_in(device, node.clone()).await;
        if inserted.is_err() {
            self.graph().release(&node).await?;
        }
        inserted
    }
}
