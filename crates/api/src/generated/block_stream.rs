// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Streaming: the data of a chain's lower images moves up.

use super::*;
use crate::codec::*;
use crate::{Dict, QmpError};

/// Arguments of `block-stream`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockStreamArguments {
    /// Identifier of the job; the device's name if absent.
    pub job_id: Option<String>,
    /// The device or node that gets the data.
    pub device: String,
    /// File name of the backing image that is kept.
    pub base: Option<String>,
    /// The node that is kept.
    pub base_node: Option<String>,
    /// What the node's image gets as its backing file's name; that of the base if absent.
    pub backing_file: Option<String>,
    /// Whether the format stored beside that name is raw where base is a file of no format; it is
    /// the protocol's if absent.
    pub backing_mask_protocol: Option<bool>,
    /// The lowest node whose data is copied. What is below it then is the base.
    pub bottom: Option<String>,
    /// Limit in bytes per second; 0 is none.
    pub speed: Option<i64>,
    /// What to do at an I/O error. With ignore the job goes on, and fails at its end.
    pub on_error: Option<BlockdevOnError>,
    /// Name of the node that the job puts over the device.
    pub filter_node_name: Option<String>,
    /// Whether it takes effect without being asked; it does if absent.
    pub auto_finalize: Option<bool>,
    /// Whether it is forgotten without being asked; it is if absent.
    pub auto_dismiss: Option<bool>,
}

impl Object for BlockStreamArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            job_id: from.optional("job-id")?,
            device: from.required("device")?,
            base: from.optional("base")?,
            base_node: from.optional("base-node")?,
            backing_file: from.optional("backing-file")?,
            backing_mask_protocol: from.optional("backing-mask-protocol")?,
            bottom: from.optional("bottom")?,
            speed: from.optional("speed")?,
            on_error: from.optional("on-error")?,
            filter_node_name: from.optional("filter-node-name")?,
            auto_finalize: from.optional("auto-finalize")?,
            auto_dismiss: from.optional("auto-dismiss")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("job-id", &self.job_id);
        to.put("device", &self.device);
        to.put_optional("base", &self.base);
        to.put_optional("base-node", &self.base_node);
        to.put_optional("backing-file", &self.backing_file);
        to.put_optional("backing-mask-protocol", &self.backing_mask_protocol);
        to.put_optional("bottom", &self.bottom);
        to.put_optional("speed", &self.speed);
        to.put_optional("on-error", &self.on_error);
        to.put_optional("filter-node-name", &self.filter_node_name);
        to.put_optional("auto-finalize", &self.auto_finalize);
        to.put_optional("auto-dismiss", &self.auto_dismiss);
    }
}
object_codec!(BlockStreamArguments);

/// Arguments of `change-backing-file`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ChangeBackingFileArguments {
    /// The device or node at the top of the chain.
    pub device: String,
    /// The image whose header is changed, in that chain.
    pub image_node_name: String,
    /// The new name.
    pub backing_file: String,
}

impl Object for ChangeBackingFileArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            device: from.required("device")?,
            image_node_name: from.required("image-node-name")?,
            backing_file: from.required("backing-file")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("device", &self.device);
        to.put("image-node-name", &self.image_node_name);
        to.put("backing-file", &self.backing_file);
    }
}
object_codec!(ChangeBackingFileArguments);

/// The handlers of section `block-stream`.
pub trait BlockStreamCommands: Send + Sync {
    /// Copies what the images between a node and a base hold into the node. At the end base is its backing image; without a base it has
    /// none. The node may be in use meanwhile. A job that is cancelled, or fails, leaves the chain as it is; what it has copied is good.
    fn block_stream(
        &self,
        arguments: BlockStreamArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Changes the name of the backing file that an image's header stores. The graph stays as it is.
    fn change_backing_file(
        &self,
        arguments: ChangeBackingFileArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;
}
