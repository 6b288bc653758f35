//! What a hand-over of the machine does, and how.
use crate::control::Control;
use api::*;

impl Control {
    fn refuse_during_migration(&self) -> Result<(), QmpError> {
        if self.migration().is_under_way() && !self.waits_for_machine() {
            return Err(QmpError::generic("There's a migration process in progress"));
        }
        Ok(())
    }
}

impl MigrationSettingsCommands for Control {
    async fn migrate_set_capabilities(
        &self,
        arguments: MigrateSetCapabilitiesArguments,
    ) -> Result<(), QmpError> {
        self.refuse_during_migration()?;
        self.migration().change_settings(|settings| {
            settings.set(&arguments.capabilities);
            Ok(())
        })
    }

    async fn query_migrate_capabilities(&self) -> Result<Vec<MigrationCapabilityStatus>, QmpError> {
        Ok(self.migration().settings().capabilities())
    }

    async fn migrate_set_parameters(&self, arguments: MigrationParameters) -> Result<(), QmpError> {
        self.migration().change_settings(|settings| settings.change(arguments))
    }

    async fn query_migrate_parameters(&self) -> Result<MigrationParameters, QmpError> {
        Ok(self.migration().settings().parameters())
    }
}
