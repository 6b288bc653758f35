//! The machine comes from another program.
use super::Incoming;
use crate::control::Control;
use api::{MigrationCapability, MigrationStatus, QmpError, RunState};
use futures_channel::oneshot;
use futures_util::future::{Either, select};
use migration::{Arriving, Door, MigrationError, Place};
use std::pin::pin;

impl Control {
    /// Whether the machine runs as soon as it is there.
    pub fn start_later(&self, starts: bool) {
        self.migration().start_later(starts);
    }

    /// This program waits for a machine: nothing is written to any image before that has come.
    pub fn await_machine(&self) {
        self.machine().state().set(RunState::Inmigrate);
        self.graph().open_inactive(true);
        self.migration().state.lock().incoming = Incoming::Deferred;
    }

    /// Begins to wait for a machine. `exits`: the program ends if that fails.
    pub async fn begin_to_take_over(&self, place: Place, exits: bool) -> Result<(), QmpError> {
        let migration = self.migration();
        let incoming = std::mem::replace(&mut migration.state.lock().incoming, Incoming::Begun);
        match incoming {
            Incoming::Deferred => {}
            Incoming::Begun => {
                return Err(QmpError::generic("The incoming migration has already been started"));
            }
            Incoming::No => {
                migration.state.lock().incoming = Incoming::No;
                return Err(QmpError::generic("'-incoming' was not specified on the command line"));
            }
        }
        if let Err(error) = migration.begin(false) {
            migration.state.lock().incoming = incoming;
            return Err(error);
        }
        // It has begun: it goes on also where this client is gone meanwhile.
        let (tell, opened) = oneshot::channel();
        let control = self.clone();
        rt::spawn(async move { control.take_over(place, exits, tell).await }).detach();
        opened.await.unwrap_or(Ok(()))
    }

    async fn open_door(&self, place: &Place) -> Result<Door, MigrationError> {
        let named = |name: &str| self.descriptors().socket(name);
        self.unless_ending(Door::open(place, &named)).await
    }

    /// Does something that may be left off at any time, unless the program ends before it is done.
    async fn unless_ending<T>(
        &self,
        work: impl Future<Output = Result<T, MigrationError>>,
    ) -> Result<T, MigrationError> {
        match select(pin!(work), pin!(self.ending())).await {
            Either::Left((done, _)) => done,
            Either::Right(_) => Err(MigrationError::Invalid("the program is ending".to_owned())),
        }
    }

    async fn take_over(&self, place: Place, exits: bool, tell: oneshot::Sender<Result<(), QmpError>>) {
        let migration = self.migration();
        let door = match self.open_door(&place).await {
            Ok(door) => door,
            Err(error) => {
                migration.state.lock().incoming = Incoming::Deferred;
                migration.end(MigrationStatus::None, None);
                return tell.send(Err(QmpError::generic(error.to_string()))).unwrap_or_default();
            }
        };
        tell.send(Ok(())).unwrap_or_default();
        let Err(error) = self.try_take_over(door).await else {
            migration.end(MigrationStatus::Completed, None);
            return;
        };
        let text = error.to_string();
        // It may be tried again, from elsewhere, as soon as this is told.
        migration.state.lock().incoming = Incoming::Deferred;
        migration.end(MigrationStatus::Failed, Some(text.clone()));
        if exits && self.admit().is_ok() {
            self.fail(format!("load of migration failed: {text}")).await;
        }
    }

    async fn try_take_over(&self, door: Door) -> Result<(), MigrationError> {
        let (migration, graph) = (self.migration(), self.graph());
        let arriving = async {
            let channel = door.enter().await?;
            let arriving = Arriving::begin(&channel).await?;
            migration.set_status(MigrationStatus::Active);
            let settings = migration.settings();
            arriving.all(graph, settings.mapping()).await
        };
        let arrived = self.unless_ending(arriving).await?;
        let ran = arrived.ran;
        let bitmaps = arrived.put_bitmaps()?;
        let runs = ran && migration.state.lock().starts;
        if runs || !migration.settings().does(MigrationCapability::LateBlockActivate) {
            graph.activate_all().await?;
        }
        graph.open_inactive(false);
        bitmaps.keep();
        if runs {
            graph.guest_runs().await;
            self.machine().state().go_on(|| self.events().emit(&api::Event::Resume));
        } else {
            self.machine().state().set(RunState::Paused);
        }
        Ok(())
    }
}
