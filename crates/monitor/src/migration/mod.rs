//! Handing the machine over to another program, and taking one over: how far it has come, and what was asked for.
//!
//! ```text
//!  outgoing: setup ─▶ active ─▶ machine stopped [─▶ pre-switchover] ─▶ device: images let go ─▶ all sent ─▶ completed
//!                └────────┴───────────────┴──────────────┴──── failed, cancelled: images taken back, machine as before
//!  incoming: setup ─▶ somebody connects ─▶ active ─▶ all has arrived ─▶ images taken over ─▶ machine runs ─▶ completed
//! ```
//!
//! Laws:
//! - the images are let go before the last record is sent, and are taken over after it has arrived: at each moment at most one of the two
//!   programs has them;
//! - as long as the last record is not sent whole, the sender takes its images back if anything goes wrong. From then on it does so only when
//!   it is told to run (`cont`), which locks refuse as long as another program has them.
mod incoming;
mod outgoing;
mod settings;

pub(crate) use settings::Settings;

use crate::events::{Events, int};
use api::{MigrationInfo, MigrationPass, MigrationRAMStats, MigrationStatus, QmpError};
use event_listener::{Event, IntoNotification};
use parking_lot::Mutex;
use std::sync::Arc;

/// Nanoseconds of a millisecond.
const MILLISECOND: u64 = 1_000_000;

/// What is under way, or was last.
pub(crate) struct Migration {
    events: Arc<Events>,
    state: Mutex<State>,
    changed: Event,
}

#[derive(Default)]
struct State {
    settings: Settings,
    run: Option<Run>,
    incoming: Incoming,
    /// The machine runs when it has been taken over.
    starts: bool,
}

/// Whether a machine is to come in.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Incoming {
    /// This program was not started for that.
    #[default]
    No,
    /// It is to be said where from.
    Deferred,
    /// It is awaited, or has come.
    Begun,
}

/// One hand-over.
#[derive(Debug, Clone, Default)]
struct Run {
    status: Option<MigrationStatus>,
    /// The machine goes out, not in.
    outgoing: bool,
    error: Option<String>,
    /// When it began, the machine was stopped, and it ended.
    began: u64,
    stopped: Option<u64>,
    ended: Option<u64>,
    setup: u64,
    sent: u64,
    /// Of these, while the machine ran.
    sent_before: u64,
    passes: u64,
    cancelled: bool,
    /// It goes on although it was to wait.
    goes_on: bool,
}

impl Run {
    fn status(&self) -> MigrationStatus {
        self.status.unwrap_or(MigrationStatus::None)
    }

    fn is_under_way(&self) -> bool {
        use MigrationStatus::*;
        !matches!(self.status(), None | Completed | Failed | Cancelled)
    }
}

impl Migration {
    pub(crate) fn new(events: Arc<Events>) -> Self {
        let state = State { starts: true, ..State::default() };
        Self { events, state: Mutex::new(state), changed: Event::new() }
    }

    /// What was asked for.
    pub(crate) fn settings(&self) -> Settings {
        self.state.lock().settings.clone()
    }

    /// Changes what is asked for.
    pub(crate) fn change_settings(
        &self,
        change: impl FnOnce(&mut Settings) -> Result<(), QmpError>,
    ) -> Result<(), QmpError> {
        let mut state = self.state.lock();
        // All of it, or nothing.
        let mut settings = state.settings.clone();
        change(&mut settings)?;
        state.settings = settings;
        Ok(())
    }

    /// Whether something is under way.
    pub(crate) fn is_under_way(&self) -> bool {
        self.state.lock().run.as_ref().is_some_and(Run::is_under_way)
    }

    /// Begins one, unless one is under way.
    fn begin(&self, outgoing: bool) -> Result<(), QmpError> {
        {
            let mut state = self.state.lock();
            if state.run.as_ref().is_some_and(Run::is_under_way) {
                return Err(QmpError::generic("There's a migration process in progress"));
            }
            let status = Some(MigrationStatus::Setup);
            state.run = Some(Run { status, outgoing, began: rt::now_ns(), ..Run::default() });
        }
        self.tell(MigrationStatus::Setup);
        Ok(())
    }

    fn change<T>(&self, change: impl FnOnce(&mut Run) -> T) -> T {
        let changed = change(self.state.lock().run.get_or_insert_default());
        self.changed.notify(usize::MAX.additional());
        changed
    }

    /// It has come further.
    fn set_status(&self, status: MigrationStatus) {
        self.change(|run| run.status = Some(status));
        self.tell(status);
    }

    /// It has ended.
    fn end(&self, status: MigrationStatus, error: Option<String>) {
        let now = rt::now_ns();
        self.change(|run| (run.status, run.ended, run.error) = (Some(status), Some(now), error));
        self.tell(status);
    }

    fn tell(&self, status: MigrationStatus) {
        if self.settings().tells_events() {
            self.events.emit(&api::Event::Migration(api::Migration { status }));
        }
    }

    /// A pass begins.
    fn pass(&self) {
        let pass = self.change(|run| {
            run.passes += 1;
            run.passes
        });
        if self.settings().tells_events() {
            self.events.emit(&api::Event::MigrationPass(MigrationPass { pass: int(pass) }));
        }
    }

    /// Waits until `reached` of what is under way.
    async fn wait(&self, reached: impl Fn(&Run) -> bool) {
        loop {
            let listener = self.changed.listen();
            if self.state.lock().run.as_ref().is_none_or(&reached) {
                return;
            }
            listener.await;
        }
    }

    /// Waits until nothing is under way.
    pub(crate) async fn ended(&self) {
        self.wait(|run| !run.is_under_way()).await;
    }

    /// Gives up what goes out, as soon as that can be done.
    pub(crate) fn cancel(&self) {
        let cancels = self.change(|run| {
            let cancels = run.outgoing && run.is_under_way() && !run.cancelled;
            if cancels {
                (run.cancelled, run.status) = (true, Some(MigrationStatus::Cancelling));
            }
            cancels
        });
        if cancels {
            self.tell(MigrationStatus::Cancelling);
        }
    }

    /// Goes on with what waits in this status.
    pub(crate) fn go_on(&self, status: MigrationStatus) -> Result<(), QmpError> {
        let current = self.state.lock().run.as_ref().map_or(MigrationStatus::None, Run::status);
        if current != status {
            let name = api::Enumeration::name(current);
            return Err(QmpError::generic(format!("Migration not in expected state: {name}")));
        }
        self.change(|run| run.goes_on = true);
        Ok(())
    }

    /// Of a program that waits for a machine: whether that is to run.
    pub(crate) fn start_later(&self, starts: bool) {
        self.state.lock().starts = starts;
    }

    /// What is under way, or was last.
    pub(crate) fn info(&self) -> MigrationInfo {
        let run = self.state.lock().run.clone();
        let Some(run) = run else { return MigrationInfo::default() };
        let mut info =
            MigrationInfo { status: run.status, error_desc: run.error.clone(), ..MigrationInfo::default() };
        if run.outgoing && run.status() != MigrationStatus::Setup && info.error_desc.is_none() {
            let end = run.ended.unwrap_or_else(rt::now_ns);
            let total = end.saturating_sub(run.began);
            info.total_time = Some(int(total / MILLISECOND));
            info.setup_time = Some(int(run.setup / MILLISECOND));
            match run.ended {
                Some(_) => {
                    let still = run.stopped.map_or(0, |stopped| end.saturating_sub(stopped));
                    info.downtime = Some(int(still / MILLISECOND));
                }
                None => info.expected_downtime = Some(0),
            }
            info.ram = Some(run.sent(total));
        }
        info
    }
}

impl Run {
    fn sent(&self, nanoseconds: u64) -> MigrationRAMStats {
        let mbps = match nanoseconds {
            0 => 0.0,
            _ => self.sent as f64 * 8000.0 / nanoseconds as f64,
        };
        MigrationRAMStats {
            transferred: int(self.sent),
            mbps,
            dirty_sync_count: int(self.passes),
            page_size: 4096,
            precopy_bytes: self.sent_before,
            downtime_bytes: self.sent.saturating_sub(self.sent_before),
            ..MigrationRAMStats::default()
        }
    }
}
