//! Handing the machine over.
use super::failed;
use crate::control::Control;
use api::*;
use migration::Place;

impl Control {
    /// Whether its machine is still to come.
    pub(crate) fn waits_for_machine(&self) -> bool {
        self.machine().state().now().status == RunState::Inmigrate
    }
}

impl MigrationCommands for Control {
    async fn query_migrate(&self) -> Result<MigrationInfo, QmpError> {
        Ok(self.migration().info())
    }

    async fn migrate(&self, arguments: MigrateArguments) -> Result<(), QmpError> {
        let MigrateArguments { uri, channels, resume, .. } = arguments;
        if resume == Some(true) {
            return Err(QmpError::generic("Cannot resume if there is no paused migration"));
        }
        let place = Place::of(uri, channels).map_err(failed)?;
        self.begin_hand_over(place, self.until_answered()).await
    }

    async fn migrate_incoming(&self, arguments: MigrateIncomingArguments) -> Result<(), QmpError> {
        let MigrateIncomingArguments { uri, channels, exit_on_error } = arguments;
        let place = Place::of(uri, channels).map_err(failed)?;
        self.begin_to_take_over(place, exit_on_error.unwrap_or(true)).await
    }

    async fn migrate_cancel(&self) -> Result<(), QmpError> {
        self.migration().cancel();
        Ok(())
    }

    async fn migrate_continue(&self, arguments: MigrateContinueArguments) -> Result<(), QmpError> {
        self.migration().go_on(arguments.state)
    }

    async fn migrate_start_postcopy(&self) -> Result<(), QmpError> {
        let settings = self.migration().settings();
        let later = [MigrationCapability::PostcopyRam, MigrationCapability::DirtyBitmaps];
        if !later.iter().any(|capability| settings.does(*capability)) {
            return Err(QmpError::generic(
                "Enable postcopy with migrate_set_capability before the start of migration",
            ));
        }
        if self.migration().info().status.is_none() {
            return Err(QmpError::generic("Postcopy must be started after migration has been started"));
        }
        // Nothing is left to be sent later.
        Ok(())
    }
}
