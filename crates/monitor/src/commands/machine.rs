//! The machine: whether it runs, its devices, and the monitor for people.
use super::failed;
use crate::control::Control;
use api::{
    DeviceDelArguments, DeviceDeleted, Dict, ErrorClass, HumanMonitorCommandArguments, MachineCommands,
    QmpError, Reset, RunState, ShutdownCause, StatusInfo, Value,
};
use block::Device;
use jobs::Job;
use machine::{MachineError, Properties, Removed};
use std::sync::Arc;

impl MachineCommands for Control {
    async fn query_status(&self) -> Result<StatusInfo, QmpError> {
        Ok(self.machine().state().now())
    }

    async fn stop(&self) -> Result<(), QmpError> {
        self.migration().start_later(false);
        self.machine().state().stop(RunState::Paused, || self.events().emit(&api::Event::Stop));
        if let Err(error) = self.graph().settle_guests().await {
            self.graph()
                .notices()
                .warn(&format!("the machine is stopped, and not all it wrote is durable: {error}"));
        }
        Ok(())
    }

    async fn cont(&self) -> Result<(), QmpError> {
        match self.machine().state().now().status {
            RunState::Inmigrate => {
                self.migration().start_later(true);
                return Ok(());
            }
            RunState::FinishMigrate => return Err(handed_over()),
            _ => {}
        }
        // Images that were let go, as after a hand-over, are taken back first.
        self.graph().activate_all().await.map_err(failed)?;
        self.graph().guest_runs().await;
        self.jobs().reset_io_status();
        // The hand-over may have begun since.
        match self.machine().go_on(|| self.events().emit(&api::Event::Resume)) {
            true => Ok(()),
            false => Err(handed_over()),
        }
    }

    async fn device_add(&self, arguments: Dict) -> Result<Value, QmpError> {
        self.machine().add(device_properties(arguments)).await.map_err(refused)?;
        Ok(Value::Dict(Dict::new()))
    }

    async fn device_del(&self, arguments: DeviceDelArguments) -> Result<(), QmpError> {
        // Looked for while its chain is there.
        let jobs = self.jobs_for(self.machine().device(&arguments.id).into_iter());
        if let Some(removed) = self.machine().remove(&arguments.id).await.map_err(refused)? {
            self.after_answer(deleted(removed));
            jobs.iter().for_each(|job| job.end_unused());
        }
        Ok(())
    }

    async fn system_reset(&self) -> Result<(), QmpError> {
        let jobs = self.jobs_for(self.machine().leaving().into_iter());
        for removed in self.machine().reset().await.map_err(refused)? {
            self.events().emit(&deleted(removed));
        }
        jobs.iter().for_each(|job| job.end_unused());
        let reset = Reset { guest: false, reason: ShutdownCause::HostQmpSystemReset };
        self.after_answer(api::Event::Reset(reset));
        Ok(())
    }

    async fn human_monitor_command(
        &self,
        arguments: HumanMonitorCommandArguments,
    ) -> Result<String, QmpError> {
        match self.human() {
            Some(human) => Ok(human.command(self, &arguments.command_line).await),
            None => Err(QmpError::generic("this program has no monitor for people")),
        }
    }
}

impl Control {
    /// The jobs that work for the drives of devices which go: of no use any more then.
    fn jobs_for(&self, devices: impl Iterator<Item = Arc<Device>>) -> Vec<Arc<Job>> {
        let media: Vec<_> =
            devices.filter(|device| device.goes_with_model()).filter_map(|device| device.node()).collect();
        self.jobs().all().into_iter().filter(|job| media.iter().any(|node| job.is_for(node))).collect()
    }
}

fn handed_over() -> QmpError {
    QmpError::generic("Migration is not finalized yet")
}

fn deleted(removed: Removed) -> api::Event {
    api::Event::DeviceDeleted(DeviceDeleted { device: removed.id, path: removed.path })
}

fn refused(error: MachineError) -> QmpError {
    match error {
        MachineError::NoDevice(_) => QmpError { class: ErrorClass::DeviceNotFound, desc: error.to_string() },
        other => failed(other),
    }
}

/// The properties of a device that were given as JSON.
pub fn device_properties(members: Dict) -> Properties {
    let text = |value: Value| match value {
        Value::String(text) => text,
        Value::Bool(on) => if on { "on" } else { "off" }.to_owned(),
        other => other.to_string(),
    };
    members.into_iter().map(|(name, value)| (name, text(value))).collect()
}
