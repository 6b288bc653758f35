// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! The machine: whether it runs, its devices, and its other monitor.

use crate::codec::*;
use crate::{Dict, QmpError, Value};

/// What the machine does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RunState {
    /// It has not run yet.
    Prelaunch,
    /// It runs.
    Running,
    /// It was stopped.
    Paused,
    /// It was stopped by an error of a device.
    IoError,
    /// It waits for the state of another machine.
    Inmigrate,
    /// It has handed over its state.
    Postmigrate,
    /// It is handing over its state.
    FinishMigrate,
    /// It has ended.
    Shutdown,
}

impl Enumeration for RunState {
    const VALUES: &'static [(&'static str, Self)] = &[
        ("prelaunch", Self::Prelaunch),
        ("running", Self::Running),
        ("paused", Self::Paused),
        ("io-error", Self::IoError),
        ("inmigrate", Self::Inmigrate),
        ("postmigrate", Self::Postmigrate),
        ("finish-migrate", Self::FinishMigrate),
        ("shutdown", Self::Shutdown),
    ];
}
enumeration_codec!(RunState);

/// What the machine does.
#[derive(Debug, Clone, PartialEq)]
pub struct StatusInfo {
    /// Whether requests of the guest are carried out.
    pub running: bool,
    /// The state.
    pub status: RunState,
}

impl Object for StatusInfo {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { running: from.required("running")?, status: from.required("status")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("running", &self.running);
        to.put("status", &self.status);
    }
}
object_codec!(StatusInfo);

/// Arguments of `device_del`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DeviceDelArguments {
    /// Its name, or its path.
    pub id: String,
}

impl Object for DeviceDelArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { id: from.required("id")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("id", &self.id);
    }
}
object_codec!(DeviceDelArguments);

/// Data of event `DEVICE_DELETED`.
///
/// A guest's device is gone.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DeviceDeleted {
    /// Its name, if it had one.
    pub device: Option<String>,
    /// Its path.
    pub path: String,
}

impl Object for DeviceDeleted {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { device: from.optional("device")?, path: from.required("path")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("device", &self.device);
        to.put("path", &self.path);
    }
}
object_codec!(DeviceDeleted);

/// Why a machine ends, or is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ShutdownCause {
    /// For no reason.
    None,
    /// An error of the host.
    HostError,
    /// The command quit.
    HostQmpQuit,
    /// The command system_reset.
    HostQmpSystemReset,
    /// A signal.
    HostSignal,
    /// Its user.
    HostUi,
    /// The guest.
    GuestShutdown,
    /// The guest, to begin anew.
    GuestReset,
    /// The guest, which has given up.
    GuestPanic,
    /// A part of it.
    SubsystemReset,
    /// A snapshot that is loaded.
    SnapshotLoad,
}

impl Enumeration for ShutdownCause {
    const VALUES: &'static [(&'static str, Self)] = &[
        ("none", Self::None),
        ("host-error", Self::HostError),
        ("host-qmp-quit", Self::HostQmpQuit),
        ("host-qmp-system-reset", Self::HostQmpSystemReset),
        ("host-signal", Self::HostSignal),
        ("host-ui", Self::HostUi),
        ("guest-shutdown", Self::GuestShutdown),
        ("guest-reset", Self::GuestReset),
        ("guest-panic", Self::GuestPanic),
        ("subsystem-reset", Self::SubsystemReset),
        ("snapshot-load", Self::SnapshotLoad),
    ];
}
enumeration_codec!(ShutdownCause);

/// Data of event `SHUTDOWN`.
///
/// The machine ends.
#[derive(Debug, Clone, PartialEq)]
pub struct Shutdown {
    /// Whether the guest wanted it.
    pub guest: bool,
    /// Why.
    pub reason: ShutdownCause,
}

impl Object for Shutdown {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { guest: from.required("guest")?, reason: from.required("reason")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("guest", &self.guest);
        to.put("reason", &self.reason);
    }
}
object_codec!(Shutdown);

/// Data of event `RESET`.
///
/// The machine was reset.
#[derive(Debug, Clone, PartialEq)]
pub struct Reset {
    /// Whether the guest wanted it.
    pub guest: bool,
    /// Why.
    pub reason: ShutdownCause,
}

impl Object for Reset {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { guest: from.required("guest")?, reason: from.required("reason")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("guest", &self.guest);
        to.put("reason", &self.reason);
    }
}
object_codec!(Reset);

/// Arguments of `human-monitor-command`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HumanMonitorCommandArguments {
    /// The command with its arguments.
    pub command_line: String,
    /// Taken for compatibility; there are no processors.
    pub cpu_index: Option<i64>,
}

impl Object for HumanMonitorCommandArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { command_line: from.required("command-line")?, cpu_index: from.optional("cpu-index")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("command-line", &self.command_line);
        to.put_optional("cpu-index", &self.cpu_index);
    }
}
object_codec!(HumanMonitorCommandArguments);

/// The handlers of section `machine`.
pub trait MachineCommands: Send + Sync {
    /// What the machine does.
    fn query_status(&self) -> impl Future<Output = Result<StatusInfo, QmpError>> + Send;

    /// Stops the machine: requests of the guest are held.
    fn stop(&self) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Lets the machine run: requests that were held go on.
    fn cont(&self) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Adds a guest's device.
    fn device_add(&self, arguments: Dict) -> impl Future<Output = Result<Value, QmpError>> + Send;

    /// Takes a guest's device away.
    fn device_del(&self, arguments: DeviceDelArguments) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Resets the machine: devices that were asked to go are gone.
    fn system_reset(&self) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Does a command of the monitor for people.
    ///
    /// Returns: What it prints.
    fn human_monitor_command(
        &self,
        arguments: HumanMonitorCommandArguments,
    ) -> impl Future<Output = Result<String, QmpError>> + Send;
}
