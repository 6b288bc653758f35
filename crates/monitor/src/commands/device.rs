//! Devices: their trays and media.
use super::failed;
use crate::control::Control;
use api::{
    BlockdevChangeMediumArguments, BlockdevChangeReadOnlyMode, BlockdevCloseTrayArguments,
    BlockdevInsertMediumArguments, BlockdevOpenTrayArguments, BlockdevRemoveMediumArguments, ChangeArguments,
    DeviceCommands, DeviceTrayMoved, EjectArguments, QmpError,
};
use block::{Common, Device, Policy};
use std::sync::Arc;

impl DeviceCommands for Control {
    async fn eject(&self, arguments: EjectArguments) -> Result<(), QmpError> {
        let (device, called) = self.one_device(arguments.device.as_deref(), arguments.id.as_deref())?;
        self.open_tray(&device, &called, arguments.force)?;
        self.graph().remove_medium(&device, &called).await.map_err(failed)
    }

    async fn blockdev_open_tray(&self, arguments: BlockdevOpenTrayArguments) -> Result<(), QmpError> {
        let (device, called) = self.one_device(arguments.device.as_deref(), arguments.id.as_deref())?;
        self.open_tray(&device, &called, arguments.force)
    }

    async fn blockdev_close_tray(&self, arguments: BlockdevCloseTrayArguments) -> Result<(), QmpError> {
        let (device, called) = self.one_device(arguments.device.as_deref(), arguments.id.as_deref())?;
        self.close_tray(&device, &called)
    }

    async fn blockdev_remove_medium(&self, arguments: BlockdevRemoveMediumArguments) -> Result<(), QmpError> {
        let (device, called) = self.one_device(None, Some(&arguments.id))?;
        self.graph().remove_medium(&device, &called).await.map_err(failed)
    }

    async fn blockdev_insert_medium(&self, arguments: BlockdevInsertMediumArguments) -> Result<(), QmpError> {
        let (device, called) = self.one_device(None, Some(&arguments.id))?;
        let name = &arguments.node_name;
        let node = self.graph().node(name);
        let node = node.ok_or_else(|| QmpError::generic(format!("Node '{name}' not found")))?;
        let devices = self.graph().devices();
        if devices.iter().filter_map(|device| device.node()).any(|other| Arc::ptr_eq(&other, &node)) {
            return Err(QmpError::generic(format!("Node '{name}' is already in use")));
        }
        self.graph().insert_medium(&device, &called, node).await.map_err(failed)
    }

    async fn blockdev_change_medium(&self, arguments: BlockdevChangeMediumArguments) -> Result<(), QmpError> {
        let (device, called) = self.one_device(arguments.device.as_deref(), arguments.id.as_deref())?;
        let mode = arguments.read_only_mode.unwrap_or(BlockdevChangeReadOnlyMode::Retain);
        let read_only = match mode {
            BlockdevChangeReadOnlyMode::ReadOnly => true,
            BlockdevChangeReadOnlyMode::ReadWrite => false,
            BlockdevChangeReadOnlyMode::Retain => device.is_read_only(),
        };
        self.change_medium(
            (&device, &called),
            &arguments.filename,
            arguments.format.as_deref(),
            read_only,
            arguments.force,
        )
        .await
    }

    async fn change(&self, arguments: ChangeArguments) -> Result<(), QmpError> {
        let (device, called) = self.one_device(Some(&arguments.device), None)?;
        let read_only = device.is_read_only();
        self.change_medium((&device, &called), &arguments.target, arguments.arg.as_deref(), read_only, None)
            .await
    }
}

impl Control {
    /// The device that a command names by its name or by the id of its model, and that name.
    pub(crate) fn one_device(
        &self,
        device: Option<&str>,
        id: Option<&str>,
    ) -> Result<(Arc<Device>, String), QmpError> {
        let (name, found) = match (device, id) {
            (Some(name), None) => (name, self.graph().device(name)),
            // A device without a model has only its name.
            (None, Some(id)) => (id, self.machine().device(id).or_else(|| self.graph().device(id))),
            _ => return Err(QmpError::generic("Need exactly one of 'device' and 'id'")),
        };
        let found = found.map(|device| (device, name.to_owned()));
        found.ok_or_else(|| QmpError::device_not_found(name))
    }

    fn open_tray(&self, device: &Arc<Device>, called: &str, force: Option<bool>) -> Result<(), QmpError> {
        if device.open_tray(called, force.unwrap_or(false)).map_err(failed)? {
            self.tray_moved(device, true);
        }
        Ok(())
    }

    fn close_tray(&self, device: &Arc<Device>, called: &str) -> Result<(), QmpError> {
        if device.close_tray(called).map_err(failed)? {
            self.tray_moved(device, false);
        }
        Ok(())
    }

    fn tray_moved(&self, device: &Device, tray_open: bool) {
        let id = device.model().map(|model| model.id).unwrap_or_default();
        let moved = DeviceTrayMoved { device: device.name().to_owned(), id, tray_open };
        self.events().emit(&api::Event::DeviceTrayMoved(moved));
    }

    /// Opens an image and puts it into a device: the old medium stays in until the new one is open.
    async fn change_medium(
        &self,
        (device, called): (&Arc<Device>, &str),
        filename: &str,
        format: Option<&str>,
        read_only: bool,
        force: Option<bool>,
    ) -> Result<(), QmpError> {
        let graph = self.graph();
        if let Some(format) = format {
            let known = graph.registry().need(format);
            known.map_err(|_| QmpError::generic(format!("Invalid block format '{format}'")))?;
        }
        let before = device.node().map(|node| node.common()).unwrap_or_default();
        let common = Common { read_only, ..before };
        let opened = graph.open_image(filename, format, common, Policy::FOLLOW).await;
        let node = opened.map_err(|e| failed(e.context(format!("Could not open '{filename}'"))))?;
        let changed = async {
            self.open_tray(device, called, force)?;
            graph.remove_medium(device, called).await.map_err(failed)?;
            graph.insert_medium(device, called, node.clone()).await.map_err(failed)?;
            self.close_tray(device, called)
        };
        let changed = changed.await;
        if changed.is_err() {
            graph.release(&node).await.map_err(failed)?;
        }
        changed
    }
}
