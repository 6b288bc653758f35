// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Devices: what is in them, and how that is changed.

use crate::codec::*;
use crate::{Dict, QmpError};

/// Arguments of `eject`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EjectArguments {
    /// The device, by its name.
    pub device: Option<String>,
    /// The device, by the id of the guest's device.
    pub id: Option<String>,
    /// Whether a locked tray is opened too; not if absent.
    pub force: Option<bool>,
}

impl Object for EjectArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            device: from.optional("device")?,
            id: from.optional("id")?,
            force: from.optional("force")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("device", &self.device);
        to.put_optional("id", &self.id);
        to.put_optional("force", &self.force);
    }
}
object_codec!(EjectArguments);

/// Arguments of `blockdev-open-tray`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevOpenTrayArguments {
    /// The device, by its name.
    pub device: Option<String>,
    /// The device, by the id of the guest's device.
    pub id: Option<String>,
    /// Whether a locked tray is opened too; not if absent.
    pub force: Option<bool>,
}

impl Object for BlockdevOpenTrayArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            device: from.optional("device")?,
            id: from.optional("id")?,
            force: from.optional("force")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("device", &self.device);
        to.put_optional("id", &self.id);
        to.put_optional("force", &self.force);
    }
}
object_codec!(BlockdevOpenTrayArguments);

/// Arguments of `blockdev-close-tray`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevCloseTrayArguments {
    /// The device, by its name.
    pub device: Option<String>,
    /// The device, by the id of the guest's device.
    pub id: Option<String>,
}

impl Object for BlockdevCloseTrayArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { device: from.optional("device")?, id: from.optional("id")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("device", &self.device);
        to.put_optional("id", &self.id);
    }
}
object_codec!(BlockdevCloseTrayArguments);

/// Arguments of `blockdev-remove-medium`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevRemoveMediumArguments {
    /// The device, by the id of the guest's device, or by its name.
    pub id: String,
}

impl Object for BlockdevRemoveMediumArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { id: from.required("id")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("id", &self.id);
    }
}
object_codec!(BlockdevRemoveMediumArguments);

/// Arguments of `blockdev-insert-medium`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevInsertMediumArguments {
    /// The device, by the id of the guest's device, or by its name.
    pub id: String,
    /// The node.
    pub node_name: String,
}

impl Object for BlockdevInsertMediumArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { id: from.required("id")?, node_name: from.required("node-name")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("id", &self.id);
        to.put("node-name", &self.node_name);
    }
}
object_codec!(BlockdevInsertMediumArguments);

/// Whether a new medium is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockdevChangeReadOnlyMode {
    /// As the one before.
    Retain,
    /// It is not.
    ReadOnly,
    /// It is.
    ReadWrite,
}

impl Enumeration for BlockdevChangeReadOnlyMode {
    const VALUES: &'static [(&'static str, Self)] =
        &[("retain", Self::Retain), ("read-only", Self::ReadOnly), ("read-write", Self::ReadWrite)];
}
enumeration_codec!(BlockdevChangeReadOnlyMode);

/// Arguments of `blockdev-change-medium`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevChangeMediumArguments {
    /// The device, by its name.
    pub device: Option<String>,
    /// The device, by the id of the guest's device.
    pub id: Option<String>,
    /// The image.
    pub filename: String,
    /// Its format; it is found out if absent.
    pub format: Option<String>,
    /// Whether a locked tray is opened too; not if absent.
    pub force: Option<bool>,
    /// Whether the new medium is written to; as the one before if absent.
    pub read_only_mode: Option<BlockdevChangeReadOnlyMode>,
}

impl Object for BlockdevChangeMediumArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            device: from.optional("device")?,
            id: from.optional("id")?,
            filename: from.required("filename")?,
            format: from.optional("format")?,
            force: from.optional("force")?,
            read_only_mode: from.optional("read-only-mode")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("device", &self.device);
        to.put_optional("id", &self.id);
        to.put("filename", &self.filename);
        to.put_optional("format", &self.format);
        to.put_optional("force", &self.force);
        to.put_optional("read-only-mode", &self.read_only_mode);
    }
}
object_codec!(BlockdevChangeMediumArguments);

/// Arguments of `change`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ChangeArguments {
    /// The device, by its name.
    pub device: String,
    /// The image.
    pub target: String,
    /// Its format; it is found out if absent.
    pub arg: Option<String>,
}

impl Object for ChangeArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            device: from.required("device")?,
            target: from.required("target")?,
            arg: from.optional("arg")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("device", &self.device);
        to.put("target", &self.target);
        to.put_optional("arg", &self.arg);
    }
}
object_codec!(ChangeArguments);

/// Data of event `DEVICE_TRAY_MOVED`.
///
/// The tray of a device has moved.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DeviceTrayMoved {
    /// The device's name; empty if it has none.
    pub device: String,
    /// The guest's device.
    pub id: String,
    /// Whether it is open now.
    pub tray_open: bool,
}

impl Object for DeviceTrayMoved {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            device: from.required("device")?,
            id: from.required("id")?,
            tray_open: from.required("tray-open")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("device", &self.device);
        to.put("id", &self.id);
        to.put("tray-open", &self.tray_open);
    }
}
object_codec!(DeviceTrayMoved);

/// The handlers of section `device`.
pub trait DeviceCommands: Send + Sync {
    /// Takes the medium out of a device: its tray opens first, where it has one.
    fn eject(&self, arguments: EjectArguments) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Opens the tray of a device.
    fn blockdev_open_tray(
        &self,
        arguments: BlockdevOpenTrayArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Closes the tray of a device.
    fn blockdev_close_tray(
        &self,
        arguments: BlockdevCloseTrayArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Takes the medium out of a device whose tray is open.
    fn blockdev_remove_medium(
        &self,
        arguments: BlockdevRemoveMediumArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Puts a node into a device whose tray is open.
    fn blockdev_insert_medium(
        &self,
        arguments: BlockdevInsertMediumArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Opens an image, and puts it into a device in place of the medium there.
    fn blockdev_change_medium(
        &self,
        arguments: BlockdevChangeMediumArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Opens an image, and puts it into a device in place of the medium there.
    fn change(&self, arguments: ChangeArguments) -> impl Future<Output = Result<(), QmpError>> + Send;
}
