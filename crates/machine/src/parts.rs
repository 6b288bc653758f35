//! The machine's devices, and whether it runs.
use crate::error::MachineError;
use crate::model::{self, Kind, Model};
use crate::properties::Properties;
use crate::state::State;
use api::{BlockdevOnError, Enumeration, RunState};
use block::{Accounting, Device, Graph, Tray};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};

/// Most devices.
const MOST: usize = 4096;

/// A machine; a handle, cheap to clone.
#[derive(Clone)]
pub struct Machine(Arc<Inner>);

struct Inner {
    graph: Graph,
    state: State,
    parts: Mutex<Vec<Part>>,
    /// Held while devices come or go, which takes time: one after the other.
    changing: futures_util::lock::Mutex<()>,
    anonymous: AtomicUsize,
    unattached: AtomicUsize,
}

/// A guest's device.
struct Part {
    id: Option<String>,
    path: String,
    model: Model,
    /// Where its medium is.
    device: Option<Arc<Device>>,
    /// It was asked to go, which its guest has not agreed to.
    is_to_go: bool,
}

/// A device that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// Its id, if it had one.
    pub id: Option<String>,
    /// Its path.
    pub path: String,
}

impl Machine {
    /// A machine without devices.
    pub fn new(graph: Graph, state: RunState) -> Self {
        Self(Arc::new(Inner {
            state: State::new(state, graph.running().clone()),
            graph,
            parts: Mutex::default(),
            changing: futures_util::lock::Mutex::new(()),
            anonymous: AtomicUsize::new(0),
            unattached: AtomicUsize::new(0),
        }))
    }

    // ---- whether it runs ----

    /// What it does.
    pub fn state(&self) -> &State {
        &self.0.state
    }

    /// Lets it run if it does not, and has it told. What had stopped it is forgotten. Not while it is handed over; whether it runs now.
    pub fn go_on(&self, tell: impl FnOnce()) -> bool {
        self.0.graph.devices().iter().for_each(|device| device.reset_io_status());
        self.0.state.go_on_unless_handed_over(tell)
    }

    // ---- devices ----

    /// Adds a device by its options, `driver` among them.
    pub async fn add(&self, mut options: Properties) -> Result<(), MachineError> {
        let name = options.take("driver").ok_or_else(|| invalid("Parameter 'driver' is missing"))?;
        let model = model::find(&name).ok_or_else(|| MachineError::UnknownModel(name.clone()))?;
        let id = options.take("id");
        let _changing = self.0.changing.lock().await;
        if let Some(id) = &id {
            block::Objects::check_id(id)?;
            if self.0.parts.lock().iter().any(|part| part.id.as_ref() == Some(id)) {
                return Err(MachineError::Duplicate(id.clone()));
            }
        }
        let path = match &id {
            Some(id) => format!("/machine/peripheral/{id}"),
            None => self.anonymous_path(),
        };
        self.put(id, path, model, options).await
    }

    fn anonymous_path(&self) -> String {
        format!("/machine/peripheral-anon/device[{}]", self.0.anonymous.fetch_add(1, Relaxed))
    }

    /// Adds a device that the machine has of itself: one for a drive that says what it hangs on.
    pub async fn add_for_drive(&self, model: &str, drive: &str) -> Result<(), MachineError> {
        let model = model::find(model).ok_or_else(|| MachineError::UnknownModel(model.to_owned()))?;
        let _changing = self.0.changing.lock().await;
        let path = match model.name {
            model::FLASH => {
                let parts = self.0.parts.lock();
                let there = parts.iter().filter(|part| part.model.name == model::FLASH).count();
                format!("/machine/system.flash{there}")
            }
            // A drive of this interface stands for the option that adds such a device.
            _ if model.inner.is_some() => self.anonymous_path(),
            _ => format!("/machine/unattached/device[{}]", self.0.unattached.fetch_add(1, Relaxed)),
        };
        self.put(None, path, model, [("drive", drive)].into_iter().collect()).await
    }

    async fn put(
        &self,
        id: Option<String>,
        path: String,
        model: Model,
        mut options: Properties,
    ) -> Result<(), MachineError> {
        if self.0.parts.lock().len() >= MOST {
            return Err(invalid(format!("there are {MOST} devices already")));
        }
        let drive = options.take("drive");
        let device = match model.kind {
            Kind::Other => None,
            kind => Some(self.plug(id.as_deref(), &path, (model, kind), drive, &mut options).await?),
        };
        let ignored: Vec<_> = options.iter().map(|(name, _)| name).collect();
        if !ignored.is_empty() {
            tracing::info!(target: "unimp", device = model.name, options = ignored.join(","), "without effect");
        }
        self.0.parts.lock().push(Part { id, path, model, device, is_to_go: false });
        Ok(())
    }

    /// Puts a model at the device or node that it names, or at an empty device of its own.
    async fn plug(
        &self,
        id: Option<&str>,
        path: &str,
        (model, kind): (Model, Kind),
        drive: Option<String>,
        options: &mut Properties,
    ) -> Result<Arc<Device>, MachineError> {
        let graph = &self.0.graph;
        let shares_writing = options.take_flag("share-rw")?.unwrap_or(false);
        let on_error =
            |name: &str, options: &mut Properties| -> Result<Option<BlockdevOnError>, MachineError> {
                let Some(word) = options.take(name) else { return Ok(None) };
                let value = BlockdevOnError::from_name(&word).filter(|value| *value != BlockdevOnError::Auto);
                if value.is_none() && word != "auto" {
                    return Err(invalid(format!("Parameter '{name}' does not accept value '{word}'")));
                }
                Ok(value)
            };
        let (read, write) = (on_error("rerror", options)?, on_error("werror", options)?);
        let known_by = match (id, model.inner) {
            (Some(id), None) => id.to_owned(),
            (_, None) => path.to_owned(),
            (_, Some(inner)) => format!("{path}/{inner}"),
        };
        let plugged = block::Model {
            id: known_by,
            path: model.inner.map_or_else(|| path.to_owned(), |inner| format!("{path}/{inner}")),
            removable: kind != Kind::Disk,
            tray: (kind == Kind::Cd).then(Tray::default),
            writes: kind != Kind::Cd,
            has_status: kind != Kind::Floppy && model.name != model::FLASH,
            shares_writing,
        };
        let account = |name: &str, options: &mut Properties| match options.take(name) {
            Some(word) if word == "auto" => Ok(None),
            Some(word) => [(name, word)].into_iter().collect::<Properties>().take_flag(name),
            None => Ok(None),
        };
        let (failed, invalid_too) =
            (account("account-failed", options)?, account("account-invalid", options)?);
        let (device, node) = match drive.as_deref() {
            Some("") | None if kind == Kind::Disk => return Err(invalid("drive property not set")),
            Some("") | None => (graph.add_device("")?, None),
            Some(name) => match graph.device(name) {
                Some(device) => (device, None),
                None => {
                    let cannot =
                        || invalid(format!("Property '{}.drive' can't find value '{name}'", model.name));
                    (graph.add_device("")?, Some(graph.node(name).ok_or_else(cannot)?))
                }
            },
        };
        let anonymous = device.name().is_empty();
        let placed = async {
            if kind == Kind::Disk && node.is_none() && device.medium().is_none() {
                return Err(invalid("Device needs media, but drive is empty"));
            }
            graph.plug(&device, plugged).await?;
            if let Some(node) = node {
                if model.must_write() && node.read_only() {
                    return Err(invalid("Block node is read-only"));
                }
                graph.put_in(&device, node).await?;
            }
            device.set_on_error(read, write);
            let old = device.account().accounting();
            device.account().set_accounting(&Accounting {
                failed: failed.unwrap_or(old.failed),
                invalid: invalid_too.unwrap_or(old.invalid),
                ..old
            });
            Ok(())
        };
        if let Err(error) = placed.await {
            if anonymous {
                graph.remove_device(&device).await?;
            }
            return Err(error);
        }
        Ok(device)
    }

    /// Takes a device away, by its id or path. One that a guest must agree to let go is there until the machine is reset; one
    /// that the block layer does not let go stays.
    pub async fn remove(&self, name: &str) -> Result<Option<Removed>, MachineError> {
        let _changing = self.0.changing.lock().await;
        let path = {
            let mut parts = self.0.parts.lock();
            let part = parts.iter_mut().find(|part| part.id.as_deref() == Some(name) || part.path == name);
            let part = part.ok_or_else(|| MachineError::NoDevice(name.to_owned()))?;
            if part.model.asks_guest() {
                part.is_to_go = true;
                return Ok(None);
            }
            part.path.clone()
        };
        self.unplug(&path).await.map(Some)
    }

    /// The devices of those that go when it is reset.
    pub fn leaving(&self) -> Vec<Arc<Device>> {
        let parts = self.0.parts.lock();
        parts.iter().filter(|part| part.is_to_go).filter_map(|part| part.device.clone()).collect()
    }

    /// Resets it: devices that were asked to go are taken away.
    pub async fn reset(&self) -> Result<Vec<Removed>, MachineError> {
        let _changing = self.0.changing.lock().await;
        let gone: Vec<_> =
            self.0.parts.lock().iter().filter(|part| part.is_to_go).map(|part| part.path.clone()).collect();
        let mut removed = Vec::new();
        for path in gone {
            removed.push(self.unplug(&path).await?);
        }
        Ok(removed)
    }

    async fn unplug(&self, path: &str) -> Result<Removed, MachineError> {
        if let Some(device) = self.device(path) {
            self.0.graph.unplug(&device).await?;
        }
        let mut parts = self.0.parts.lock();
        let at = parts.iter().position(|part| part.path == path);
        let part = at.map(|at| parts.remove(at)).ok_or_else(|| MachineError::NoDevice(path.to_owned()))?;
        Ok(Removed { id: part.id, path: part.path })
    }

    /// The device of a guest's device, by the latter's id or path.
    pub fn device(&self, name: &str) -> Option<Arc<Device>> {
        let parts = self.0.parts.lock();
        let its = |part: &&Part| {
            let inner = part.model.inner.map(|inner| format!("{}/{inner}", part.path));
            // The end of a path will do.
            let ends =
                |path: &str| path == name || path.strip_suffix(name).is_some_and(|rest| rest.ends_with('/'));
            part.id.as_deref() == Some(name) || ends(&part.path) || inner.as_deref().is_some_and(ends)
        };
        parts.iter().find(its).and_then(|part| part.device.clone())
    }

    /// The machine is given up: all devices are taken away.
    pub async fn end(&self) -> block::Result<()> {
        let parts = std::mem::take(&mut *self.0.parts.lock());
        // Some were deleted while a model was at them, and are held by that alone.
        let held = parts.into_iter().filter_map(|part| part.device);
        let mut result = Ok(());
        for device in held.chain(self.0.graph.devices()) {
            result = result.and(self.0.graph.remove_device(&device).await);
        }
        result
    }
}

fn invalid(text: impl Into<String>) -> MachineError {
    MachineError::Invalid(text.into())
}
