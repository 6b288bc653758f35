//! Handing the machine over; whose images are.
use super::failed;
use crate::control::Control;
use api::*;
use block::Iothread;
use migration::Place;

impl Control {
    fn refuse_during_migration(&self) -> Result<(), QmpError> {
        if self.migration().is_under_way() && !self.waits_for_machine() {
            return Err(QmpError::generic("There's a migration process in progress"));
        }
        Ok(())
    }

    /// Whether its machine is still to come.
    pub(crate) fn waits_for_machine(&self) -> bool {
        self.machine().state().now().status == RunState::Inmigrate
    }
}

impl MigrationCommands for Control {
    async fn query_migrate(&self) -> Result<MigrationInfo, QmpError> {
        Ok(self.migration().info())
    }

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

    async fn migrate(&self, arguments: MigrateArguments) -> Result<(), QmpError> {
        let MigrateArguments { uri, channels, resume, .. } = arguments;
        if resume == Some(true) {
            return Err(QmpError::generic("Cannot resume if there is no paused migration"));
        }
        self.begin_hand_over(Place::of(uri, channels).map_err(failed)?).await
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

    async fn blockdev_set_active(&self, arguments: BlockdevSetActiveArguments) -> Result<(), QmpError> {
        let BlockdevSetActiveArguments { node_name, active } = arguments;
        let graph = self.graph();
        let node = node_name.map(|name| {
            let missing = || QmpError::generic(format!("Failed to find node with node-name='{name}'"));
            graph.node(&name).ok_or_else(missing)
        });
        match (node.transpose()?, active) {
            (Some(node), true) => graph.activate(&node).await.map_err(failed),
            (None, true) => graph.activate_all().await.map_err(failed),
            (Some(node), false) => graph.inactivate(&node).await.map_err(failed),
            (None, false) => graph.inactivate_all().await.map_err(failed),
        }
    }

    async fn x_blockdev_set_iothread(
        &self,
        arguments: XBlockdevSetIothreadArguments,
    ) -> Result<(), QmpError> {
        let XBlockdevSetIothreadArguments { node_name, iothread, force } = arguments;
        let missing = || QmpError::generic(format!("Failed to find node with node-name='{node_name}'"));
        let node = self.graph().node(&node_name).ok_or_else(missing)?;
        let entries = self.graph().entries();
        if force != Some(true) && entries.iter().any(|entry| std::sync::Arc::ptr_eq(&entry.node(), &node)) {
            let text = format!(
                "Node {node_name} is associated with a BlockBackend and could be in use (use force=true to override this check)"
            );
            return Err(QmpError::generic(text));
        }
        if let StrOrNull::S(id) = iothread {
            let missing = |_| QmpError::generic(format!("Cannot find iothread {id}"));
            self.graph().objects().hold::<Iothread>(&id).map(drop).map_err(missing)?;
            tracing::info!(target: "unimp", node = node_name, iothread = id, "requests go to the least busy worker");
        }
        Ok(())
    }
}
