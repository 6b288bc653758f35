//! The machine goes to another program.
use super::Migration;
use crate::control::Control;
use api::{MigrationCapability, MigrationStatus, QmpError, RunState};
use block::HandedOver;
use futures_channel::oneshot;
use futures_util::FutureExt as _;
use futures_util::future::{Either, select};
use migration::{Channel, MigrationError, Outgoing, Place, Sender};
use std::pin::pin;

/// Why it ended before everything was sent.
enum Stopped {
    Cancelled,
    Failed(MigrationError),
}

impl<E: Into<MigrationError>> From<E> for Stopped {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// What the machine did before it was stopped.
#[derive(Clone, Copy)]
struct Before {
    state: RunState,
    ran: bool,
    /// Its images were let go, and could not be taken back.
    lacks_images: bool,
}

impl Control {
    /// Begins to hand the machine over, when `first` has ended: whoever asked is answered before the first event.
    pub async fn begin_hand_over(
        &self,
        place: Place,
        first: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), QmpError> {
        match self.machine().state().now().status {
            RunState::Inmigrate => {
                return Err(QmpError::generic("Guest is waiting for an incoming migration"));
            }
            // One that has failed is still being undone.
            RunState::FinishMigrate => {
                return Err(QmpError::generic("There's a migration process in progress"));
            }
            RunState::Postmigrate => {
                let text = "Can't migrate the vm that was paused due to previous migration";
                return Err(QmpError::generic(text));
            }
            _ => {}
        }
        self.migration().begin(true)?;
        // The hand-over has begun: it goes on also where this client is gone meanwhile.
        let (tell, opened) = oneshot::channel();
        let control = self.clone();
        rt::spawn(async move { control.hand_over(place, tell, first).await }).detach();
        opened.await.unwrap_or(Ok(()))
    }

    /// Waits until a hand-over has ended, or waits for another command.
    pub async fn until_hand_over_rests(&self) {
        let waits = |status| status == MigrationStatus::PreSwitchover;
        self.migration().wait(|run| !run.is_under_way() || waits(run.status())).await;
    }

    async fn open_channel(&self, place: &Place) -> Result<Channel, MigrationError> {
        Channel::connect(place, &|name| self.descriptors().socket(name)).await
    }

    /// Opens what needs nobody else, or has it told that it can't be opened.
    async fn open_at_once(&self, place: &Place) -> Result<Option<Channel>, Stopped> {
        match place {
            Place::Unix(_) | Place::Tcp { .. } => Ok(None),
            place => self.migration().unless_cancelled(self.open_channel(place)).await.map(Some),
        }
    }

    async fn hand_over(
        &self,
        place: Place,
        tell: oneshot::Sender<Result<(), QmpError>>,
        first: impl Future<Output = ()>,
    ) {
        let migration = self.migration();
        let open = match self.open_at_once(&place).await {
            Ok(open) => open,
            Err(stopped) => {
                let (status, error) = match stopped {
                    Stopped::Cancelled => (MigrationStatus::Cancelled, None),
                    Stopped::Failed(error) => (MigrationStatus::Failed, Some(error.to_string())),
                };
                migration.end(status, error.clone());
                let refused = error.map_or(Ok(()), |error| Err(QmpError::generic(error)));
                return tell.send(refused).unwrap_or_default();
            }
        };
        tell.send(Ok(())).unwrap_or_default();
        let mut before = None;
        let handed_over = match migration.unless_cancelled(first.map(Ok)).await {
            Ok(()) => self.try_hand_over(&place, open, &mut before).await,
            Err(stopped) => Err(stopped),
        };
        match handed_over {
            Ok((sender, handed_over)) => {
                // Whatever happens now: the machine is the other program's.
                self.machine().state().set(RunState::Postmigrate);
                drop(handed_over);
                sender.close().await;
                migration.end(MigrationStatus::Completed, None);
            }
            Err(Stopped::Cancelled) => {
                if let Some(before) = before {
                    self.take_back(before);
                }
                migration.end(MigrationStatus::Cancelled, None);
            }
            Err(Stopped::Failed(error)) => {
                self.graph().notices().warn(&error.to_string());
                migration.end(MigrationStatus::Failed, Some(error.to_string()));
                if let Some(before) = before {
                    self.take_back(before);
                }
            }
        }
    }

    /// Hands over: when this has succeeded, the other program may have the machine, and its images aren't taken back here before what
    /// is returned is dropped. `before` is set when the machine is stopped.
    async fn try_hand_over(
        &self,
        place: &Place,
        open: Option<Channel>,
        before: &mut Option<Before>,
    ) -> Result<(Sender, HandedOver), Stopped> {
        let (migration, settings) = (self.migration(), self.migration().settings());
        let channel = match open {
            Some(channel) => channel,
            None => migration.unless_cancelled(self.open_channel(place)).await?,
        };
        let bitmaps = match settings.does(MigrationCapability::DirtyBitmaps) {
            true => Outgoing::all(self.graph(), settings.mapping())?,
            false => Vec::new(),
        };
        let mut sender = migration.unless_cancelled(Sender::begin(channel)).await?;
        migration.change(|run| run.setup = rt::now_ns().saturating_sub(run.began));
        migration.pass();
        migration.set_status(MigrationStatus::Active);
        if settings.does(MigrationCapability::DirtyBitmaps) {
            migration.pass();
        }
        migration.note_sent(&sender, true);

        let before = before.insert(self.stop_for_hand_over());
        migration.change(|run| run.stopped = Some(rt::now_ns()));
        if settings.does(MigrationCapability::PauseBeforeSwitchover) {
            migration.set_status(MigrationStatus::PreSwitchover);
            migration.wait(|run| run.goes_on || run.cancelled).await;
        }
        migration.refuse_cancelled()?;
        migration.set_status(MigrationStatus::Device);
        migration.pass();

        bitmaps.iter().for_each(|bitmap| bitmap.hand_over(true));
        let handed_over = match self.graph().hand_over_all().await {
            Ok(handed_over) => handed_over,
            Err(error) => {
                bitmaps.iter().for_each(|bitmap| bitmap.hand_over(false));
                return Err(error.into());
            }
        };
        let all = async {
            sender.machine(before.ran).await?;
            for bitmap in &bitmaps {
                sender.bitmap(bitmap).await?;
            }
            sender.hand_over().await
        };
        if let Err(stopped) = migration.unless_cancelled(all).await {
            // They are stored again. Nobody has had the images meanwhile: what is in memory counts.
            bitmaps.iter().for_each(|bitmap| bitmap.hand_over(false));
            if let Err(error) = handed_over.take_back().await {
                let text = format!("the images can't be taken back: {error}; 'cont' tries again");
                self.graph().notices().warn(&text);
                before.lacks_images = true;
            }
            return Err(stopped);
        }
        migration.note_sent(&sender, false);
        Ok((sender, handed_over))
    }

    /// Stops the machine for good, or until it fails.
    fn stop_for_hand_over(&self) -> Before {
        let state = self.machine().state();
        let (before, mut ran) = (state.now().status, false);
        state.stop(RunState::FinishMigrate, || {
            ran = true;
            self.events().emit(&api::Event::Stop);
        });
        state.set(RunState::FinishMigrate);
        Before { state: before, ran, lacks_images: false }
    }

    /// The machine does what it did before, with its images.
    fn take_back(&self, before: Before) {
        match before {
            Before { ran: true, lacks_images: false, .. } => {
                self.machine().state().go_on(|| self.events().emit(&api::Event::Resume));
            }
            Before { ran: true, .. } => self.machine().state().set(RunState::Postmigrate),
            Before { state, .. } => self.machine().state().set(state),
        }
    }
}

impl Migration {
    /// Does something that may be left off at any time, unless it is cancelled before it is done.
    async fn unless_cancelled<T>(
        &self,
        work: impl Future<Output = Result<T, MigrationError>>,
    ) -> Result<T, Stopped> {
        let cancelled = pin!(self.wait(|run| run.cancelled));
        match select(pin!(work), cancelled).await {
            Either::Left((done, _)) => done.map_err(Stopped::Failed),
            Either::Right(_) => Err(Stopped::Cancelled),
        }
    }

    fn refuse_cancelled(&self) -> Result<(), Stopped> {
        let cancelled = self.state.lock().run.as_ref().is_some_and(|run| run.cancelled);
        if cancelled { Err(Stopped::Cancelled) } else { Ok(()) }
    }

    fn note_sent(&self, sender: &Sender, runs: bool) {
        self.change(|run| {
            run.sent = sender.sent();
            if runs {
                run.sent_before = run.sent;
            }
        });
    }
}
