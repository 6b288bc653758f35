//! Devices: what control commands call `device`. A device has a name and a place for a medium, and is there while media
//! come and go.
//!
//! ```text
//!   device "d0" ── medium: Backend (gate, statistics) ──▶ node
//!      └── model: a disk, a CD drive, a floppy drive: whether its medium can be changed; tray and lock
//! ```
//!
//! Laws:
//! - devices and nodes have their names from one space: no node is called as a device is;
//! - what changes a device comes in turn: a model finds the medium that is there when it comes, and uses it as it does;
//! - a medium goes in and out through the tray, where the model has one; what cannot be removed stays in;
//! - without a model the place is a bare one: removable, without a tray, shared with all other users.
use crate::backend::Backend;
use crate::blockers::Operations;
use crate::error::{BlockError, ErrorKind, Result};
use crate::graph::{BackendRequest, Graph};
use crate::guest::{Guests, OnError};
use crate::node::Node;
use crate::perm::{Perms, Share};
use crate::stats::Account;
use crate::throttle::{ThrottleGroup, ThrottleMember};
use api::{BlockDeviceIoStatus, BlockdevOnError};
use futures_util::lock::MutexGuard;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use std::sync::{Arc, Weak};

/// A model's tray.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tray {
    /// It is open.
    pub open: bool,
    /// The guest keeps it closed.
    pub locked: bool,
}

/// What stands for the guest's hardware at a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// By what commands address it: its id, or its path in the tree of the machine's objects.
    pub id: String,
    /// Its path in the tree of the machine's objects.
    pub path: String,
    /// Its medium can be changed.
    pub removable: bool,
    /// Its tray, if it has one.
    pub tray: Option<Tray>,
    /// It writes.
    pub writes: bool,
    /// It tells how its last request ended.
    pub has_status: bool,
    /// Others may write to its medium too (`share-rw`).
    pub shares_writing: bool,
}

/// A place for a medium.
pub struct Device {
    name: String,
    /// What it has done, over all its media.
    account: Arc<Account>,
    guests: Guests,
    state: Mutex<State>,
    /// Held by who changes its medium or its model, or deletes it: one at a time.
    changing: futures_util::lock::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// The throttle group it is in, whatever medium is in it.
    throttle: Option<Arc<ThrottleGroup>>,
    medium: Option<Arc<Backend>>,
    model: Option<Model>,
    /// The medium is only read.
    read_only: bool,
    /// What is put over its image copies on read.
    copies_on_read: bool,
    /// It goes with its model.
    goes_with_model: bool,
    on_error: OnError,
    /// Somebody has said what is done about errors.
    has_policy: bool,
    /// How a request failed for which the machine is stopped.
    stopped_by: Option<BlockDeviceIoStatus>,
    /// The entries through which its guests come.
    guests: Vec<Weak<Backend>>,
}

impl Device {
    fn new(name: &str, guests: Guests, state: State) -> Self {
        Self {
            name: name.to_owned(),
            account: Arc::default(),
            guests,
            state: Mutex::new(state),
            changing: Default::default(),
        }
    }

    /// Its name; empty for one that belongs to a model alone.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is in it is below a filter that copies on read, which nobody sees.
    pub fn copy_on_read(&self) {
        self.state.lock().copies_on_read = true;
    }

    /// The node of what is in it.
    pub fn node(&self) -> Option<Arc<Node>> {
        let (node, copies) = {
            let state = self.state.lock();
            (state.medium.as_ref()?.node(), state.copies_on_read)
        };
        let below = if copies && node.driver_type().copies_on_read { node.filtered() } else { None };
        Some(below.unwrap_or(node))
    }

    /// What is in it.
    pub fn medium(&self) -> Option<Arc<Backend>> {
        self.state.lock().medium.clone()
    }

    /// The node that is in it, or an error that says that none is.
    pub fn need_node(&self) -> Result<Arc<Node>> {
        self.node().ok_or_else(|| BlockError::invalid(format!("Device '{}' has no medium", self.shown())))
    }

    /// What it has done, over all its media.
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// The throttle group it is in.
    pub fn throttle_group(&self) -> Option<Arc<ThrottleGroup>> {
        self.state.lock().throttle.clone()
    }

    /// Puts it in a throttle group, or takes it out. Requests that wait in the old one go on at once.
    pub fn set_throttle_group(&self, group: Option<Arc<ThrottleGroup>>) {
        let mut state = self.state.lock();
        let guests = state.guests.iter().filter_map(Weak::upgrade);
        for entry in state.medium.clone().into_iter().chain(guests) {
            entry.set_throttle(group.clone().map(ThrottleMember::new));
        }
        state.throttle = group;
    }

    /// The model at it.
    pub fn model(&self) -> Option<Model> {
        self.state.lock().model.clone()
    }

    /// Its name, or that of its model, for messages.
    pub fn shown(&self) -> String {
        match self.name.as_str() {
            "" => self.model().map(|model| model.id).unwrap_or_default(),
            name => name.to_owned(),
        }
    }

    /// Whether its medium can be changed.
    pub fn is_removable(&self) -> bool {
        self.state.lock().model.as_ref().is_none_or(|model| model.removable)
    }

    /// Whether its medium is only read; of an empty one, whether the last was.
    pub fn is_read_only(&self) -> bool {
        let state = self.state.lock();
        match (&state.medium, &state.model) {
            (Some(medium), _) => medium.node().read_only(),
            (None, Some(model)) => state.read_only || !model.writes,
            (None, None) => state.read_only,
        }
    }

    /// What is done about errors.
    pub fn on_error(&self) -> OnError {
        self.state.lock().on_error
    }

    /// Sets what is done about errors; what is not said stays.
    pub fn set_on_error(&self, read: Option<BlockdevOnError>, write: Option<BlockdevOnError>) {
        let mut state = self.state.lock();
        state.has_policy |= read.is_some() || write.is_some();
        let on_error = &mut state.on_error;
        on_error.read = read.unwrap_or(on_error.read);
        on_error.write = write.unwrap_or(on_error.write);
    }

    /// Whether somebody has said what is done about errors.
    pub fn has_policy(&self) -> bool {
        self.state.lock().has_policy
    }

    /// How a request failed for which the machine is stopped; `None` where none can stop it.
    pub fn io_status(&self) -> Option<BlockDeviceIoStatus> {
        let state = self.state.lock();
        let tells = state.model.as_ref().is_some_and(|model| model.has_status) || !state.guests.is_empty();
        (tells && state.on_error.may_stop()).then_some(state.stopped_by.unwrap_or(BlockDeviceIoStatus::Ok))
    }

    /// A request has stopped the machine. Of several the first counts.
    pub(crate) fn note_status(&self, status: BlockDeviceIoStatus) {
        self.state.lock().stopped_by.get_or_insert(status);
    }

    /// The machine goes on: what had failed is tried again.
    pub fn reset_io_status(&self) {
        self.state.lock().stopped_by = None;
    }

    /// What it shares with the other devices of its graph.
    pub(crate) fn guests(&self) -> &Guests {
        &self.guests
    }

    /// A guest comes through this entry too.
    pub(crate) fn add_guest(&self, entry: &Arc<Backend>) {
        let mut state = self.state.lock();
        entry.set_throttle(state.throttle.clone().map(ThrottleMember::new));
        state.guests.retain(|other| other.strong_count() > 0);
        state.guests.push(Arc::downgrade(entry));
    }

    /// It is deleted when its model is.
    pub fn go_with_model(&self) {
        self.state.lock().goes_with_model = true;
    }

    /// Whether it is deleted when its model is.
    pub fn goes_with_model(&self) -> bool {
        self.state.lock().goes_with_model
    }

    /// Opens or closes the tray; whether it moved. Without a tray nothing does.
    pub fn move_tray(&self, open: bool) -> bool {
        let mut state = self.state.lock();
        let Some(tray) = state.model.as_mut().and_then(|model| model.tray.as_mut()) else { return false };
        let moves = tray.open != open;
        tray.open = open;
        moves
    }

    fn need_removable(&self, called: &str) -> Result<()> {
        if self.is_removable() {
            return Ok(());
        }
        Err(BlockError::invalid(format!("Device '{called}' is not removable")))
    }

    /// Refuses a change of the medium behind a closed tray.
    fn need_open_tray(&self, called: &str) -> Result<()> {
        self.need_removable(called)?;
        let tray = self.state.lock().model.as_ref().and_then(|model| model.tray);
        if tray.is_none_or(|tray| tray.open) {
            return Ok(());
        }
        Err(BlockError::invalid(format!("Tray of device '{called}' is not open")))
    }

    /// Opens the tray, if there is one: whether it moved. A locked one opens only if `force` says so. Errors name the device as
    /// it was `called`.
    pub fn open_tray(&self, called: &str, force: bool) -> Result<bool> {
        self.need_removable(called)?;
        let tray = self.state.lock().model.as_ref().and_then(|model| model.tray);
        if tray.is_some_and(|tray| tray.locked && !tray.open) && !force {
            let text = format!(
                "Device '{called}' is locked and force was not specified, wait for tray to open and try again"
            );
            return Err(BlockError::new(ErrorKind::Busy, text));
        }
        Ok(self.move_tray(true))
    }

    /// Closes the tray, if there is one: whether it moved.
    pub fn close_tray(&self, called: &str) -> Result<bool> {
        self.need_removable(called)?;
        Ok(self.move_tray(false))
    }

    /// Takes a medium.
    fn keep(&self, medium: Arc<Backend>, read_only: bool) {
        let mut state = self.state.lock();
        state.read_only = read_only;
        medium.set_throttle(state.throttle.clone().map(ThrottleMember::new));
        state.medium = Some(medium);
    }

    /// What the users of a medium need and share.
    fn perms(&self, read_only: bool) -> Perms {
        let state = self.state.lock();
        // Without a model nobody is there that would write.
        let Some(model) = &state.model else { return Perms::READER };
        let need = if read_only { Share::READ } else { Perms::WRITER.need };
        let share = if model.shares_writing { Share::ALL } else { Share::ALL.without(Share::WRITE) };
        Perms { need, share }
    }
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Device({})", self.shown())
    }
}

/// All devices, in the order they came.
#[derive(Default)]
pub(crate) struct Devices(RwLock<Vec<Arc<Device>>>);

/// No device comes or goes as long as this is kept.
pub(crate) type DevicesStay<'a> = RwLockReadGuard<'a, Vec<Arc<Device>>>;

impl Devices {
    pub(crate) fn named(&self, name: &str) -> Option<Arc<Device>> {
        self.0.read().iter().find(|device| !name.is_empty() && device.name == name).cloned()
    }

    /// Refuses a node's name that is a device's. The lock of the nodes is taken under what is returned, not around it.
    pub(crate) fn check_free(&self, name: &str) -> Result<DevicesStay<'_>> {
        let devices = self.0.read();
        match devices.iter().any(|device| device.name == name) {
            true => Err(BlockError::invalid(format!("node-name={name} is conflicting with a device id"))),
            false => Ok(devices),
        }
    }

    fn has(&self, device: &Arc<Device>) -> bool {
        self.0.read().iter().any(|other| Arc::ptr_eq(other, device))
    }
}

impl Graph {
    /// All devices, in the order they came.
    pub fn devices(&self) -> Vec<Arc<Device>> {
        self.device_list().0.read().clone()
    }

    /// The device of this name.
    pub fn device(&self, name: &str) -> Option<Arc<Device>> {
        self.device_list().named(name)
    }

    /// Makes a device without a medium. One without a name belongs to a model alone.
    pub fn add_device(&self, name: &str) -> Result<Arc<Device>> {
        let mut devices = self.device_list().0.write();
        if !name.is_empty() {
            crate::objects::Objects::check_id(name)?;
            // One that is being opened has its name already.
            if self.nodes_to_be().iter().any(|node| node.name() == name) {
                let text = format!("Device name '{name}' conflicts with an existing node name");
                return Err(BlockError::invalid(text));
            }
            if devices.iter().any(|other| other.name == name) {
                return Err(BlockError::invalid(format!("Device with id '{name}' already exists")));
            }
        }
        let device = Arc::new(Device::new(name, self.guests().clone(), State::default()));
        devices.push(device.clone());
        Ok(device)
    }

    /// Waits for its turn to change a device that is there still: on the list, or held by its model.
    async fn turn<'d>(&self, device: &'d Arc<Device>) -> Result<MutexGuard<'d, ()>> {
        let turn = device.changing.lock().await;
        if self.device_list().has(device) || device.model().is_some() {
            return Ok(turn);
        }
        let text = format!("Device '{}' was deleted meanwhile", device.name);
        Err(BlockError::new(ErrorKind::NotFound, text))
    }

    /// Deletes a device: its medium is taken out, and closed if nobody else uses it. An error is one of the closing; the device
    /// is deleted all the same. It has its name until its medium is out.
    pub async fn remove_device(&self, device: &Arc<Device>) -> Result<()> {
        let _turn = device.changing.lock().await;
        self.delete(device).await
    }

    async fn delete(&self, device: &Arc<Device>) -> Result<()> {
        let out = self.take_out(device).await;
        self.device_list().0.write().retain(|other| !Arc::ptr_eq(other, device));
        out
    }

    /// Puts a model at a device; what is in it is used as the model does from now on.
    pub async fn plug(&self, device: &Arc<Device>, model: Model) -> Result<()> {
        let _turn = self.turn(device).await?;
        if device.model().is_some() {
            let text = format!("Drive '{}' is already in use by another block device", device.name);
            return Err(BlockError::new(ErrorKind::Busy, text));
        }
        let writes = model.writes;
        device.state.lock().model = Some(model);
        let Some(medium) = device.medium() else { return Ok(()) };
        let read_only = device.state.lock().read_only || !writes;
        let plugged = self.set_perms(&medium, device.perms(read_only)).await;
        if plugged.is_err() {
            device.state.lock().model = None;
        }
        plugged
    }

    /// Takes the model away.
    pub async fn unplug(&self, device: &Arc<Device>) -> Result<()> {
        let _turn = device.changing.lock().await;
        device.state.lock().model = None;
        // One that was deleted while a model was at it is held by that alone.
        let alone = !self.device_list().has(device);
        if device.goes_with_model() || device.name.is_empty() || alone {
            return self.delete(device).await;
        }
        let Some(medium) = device.medium() else { return Ok(()) };
        let read_only = device.state.lock().read_only;
        self.set_perms(&medium, device.perms(read_only)).await
    }

    /// Puts a node into a device, through the open tray. It is written to unless it, or the model, is read-only.
    pub async fn insert_medium(&self, device: &Arc<Device>, called: &str, node: Arc<Node>) -> Result<()> {
        let _turn = self.turn(device).await?;
        device.need_open_tray(called)?;
        self.fill(device, node).await
    }

    /// Takes the node out of a device, through the open tray. Nothing happens if there is none.
    pub async fn remove_medium(&self, device: &Arc<Device>, called: &str) -> Result<()> {
        let _turn = device.changing.lock().await;
        device.need_open_tray(called)?;
        self.take_out(device).await
    }

    /// Leads a device to another node in place of the one that is in it, while it is in use.
    pub async fn change_node(&self, device: &Arc<Device>, node: &Arc<Node>) -> Result<()> {
        let _turn = self.turn(device).await?;
        let Some(medium) = device.medium() else { return self.fill(device, node.clone()).await };
        let before = medium.node();
        let mut change = self.change().await;
        let led = async {
            node.check_operation(Operations::READ)?;
            change.quiesce(&[before.clone(), node.clone()]).await?;
            change.lead(&medium, node)
        };
        let led = led.await;
        change.end(led).await?;
        medium.tell_size();
        self.release(&before).await
    }

    /// Puts a node into an empty device, whatever its tray does.
    pub async fn put_in(&self, device: &Arc<Device>, node: Arc<Node>) -> Result<()> {
        let _turn = self.turn(device).await?;
        self.fill(device, node).await
    }

    async fn fill(&self, device: &Arc<Device>, node: Arc<Node>) -> Result<()> {
        if device.medium().is_some() {
            let text = format!("There already is a medium in device '{}'", device.shown());
            return Err(BlockError::new(ErrorKind::Busy, text));
        }
        let read_only = node.read_only() || device.model().is_some_and(|model| !model.writes);
        let (label, perms) = (format!("device '{}'", device.shown()), device.perms(read_only));
        let mut change = self.change().await;
        let request = BackendRequest { label, node, perms, pinned: false };
        let medium = change.attach_entry(request, device.account.clone(), true);
        let medium = change.end(medium).await?;
        device.keep(medium, read_only);
        Ok(())
    }

    async fn take_out(&self, device: &Arc<Device>) -> Result<()> {
        let Some(medium) = device.state.lock().medium.take() else { return Ok(()) };
        self.detach(&medium).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(tray: Option<Tray>) -> Model {
        Model {
            id: "cd".to_owned(),
            path: "/cd".to_owned(),
            removable: tray.is_some(),
            tray,
            writes: false,
            has_status: true,
            shares_writing: false,
        }
    }

    fn device(model: Option<Model>) -> Device {
        Device::new("d", Guests::default(), State { model, ..State::default() })
    }

    #[test]
    fn a_medium_goes_through_the_tray_where_there_is_one() {
        let bare = device(None);
        assert!(bare.need_open_tray("d").is_ok());
        assert_eq!(bare.open_tray("d", false).ok(), Some(false), "there is no tray");
        let disk = device(Some(model(None)));
        assert_eq!(disk.need_open_tray("d").unwrap_err().message(), "Device 'd' is not removable");
        let drive = device(Some(model(Some(Tray::default()))));
        assert_eq!(drive.need_open_tray("d").unwrap_err().message(), "Tray of device 'd' is not open");
        assert_eq!(drive.open_tray("d", false).ok(), Some(true));
        assert_eq!(drive.open_tray("d", false).ok(), Some(false), "it is open already");
        assert!(drive.need_open_tray("d").is_ok());
        assert_eq!(drive.close_tray("d").ok(), Some(true));
        let locked = device(Some(model(Some(Tray { open: false, locked: true }))));
        assert!(locked.open_tray("d", false).unwrap_err().message().contains("locked"));
        assert_eq!(locked.open_tray("d", true).ok(), Some(true));
    }
}
