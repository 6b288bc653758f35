//! The machine: whether it runs, its devices, and the monitor for people.
use super::failed;
use crate::control::Control;
use api::{
    DeviceDelArguments, DeviceDeleted, Dict, ErrorClass, HumanMonitorCommandArguments, MachineCommands,
    QmpError, StatusInfo, Value,
};
use machine::{MachineError, Properties};

impl MachineCommands for Control {
    async fn query_status(&self) -> Result<StatusInfo, QmpError> {
        Ok(self.machine().status())
    }

    async fn stop(&self) -> Result<(), QmpError> {
        if self.machine().stop() {
            self.events().emit(&api::Event::Stop);
        }
        Ok(())
    }

    async fn cont(&self) -> Result<(), QmpError> {
        if self.machine().go_on() {
            self.events().emit(&api::Event::Resume);
        }
        Ok(())
    }

    async fn device_add(&self, arguments: Dict) -> Result<Value, QmpError> {
        let text = |value: Value| match value {
            Value::String(text) => text,
            Value::Bool(on) => if on { "on" } else { "off" }.to_owned(),
            other => other.to_string(),
        };
        let properties: Properties = arguments.into_iter().map(|(name, value)| (name, text(value))).collect();
        self.machine().add(properties).await.map_err(refused)?;
        Ok(Value::Dict(Dict::new()))
    }

    async fn device_del(&self, arguments: DeviceDelArguments) -> Result<(), QmpError> {
        let removed = self.machine().remove(&arguments.id).await.map_err(refused)?;
        let deleted = DeviceDeleted { device: removed.id, path: removed.path };
        self.after_answer(api::Event::DeviceDeleted(deleted));
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

fn refused(error: MachineError) -> QmpError {
    match error {
        MachineError::NoDevice(_) => QmpError { class: ErrorClass::DeviceNotFound, desc: error.to_string() },
        other => failed(other),
    }
}
