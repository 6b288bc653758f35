//! Whether the machine runs.
use api::{RunState, StatusInfo};
use block::Running;
use parking_lot::Mutex;
use std::sync::Arc;

/// What the machine does; a handle, cheap to clone. Requests of guests wait exactly while it does not run.
#[derive(Clone)]
pub struct State(Arc<Inner>);

struct Inner {
    state: Mutex<RunState>,
    guests: Running,
}

impl State {
    pub(crate) fn new(state: RunState, guests: Running) -> Self {
        let new = Self(Arc::new(Inner { state: Mutex::new(RunState::Running), guests }));
        new.set(state);
        new
    }

    /// What it does.
    pub fn now(&self) -> StatusInfo {
        let status = *self.0.state.lock();
        StatusInfo { running: status == RunState::Running, status }
    }

    /// Stops it if it runs, and has it told. Nothing that follows is told before.
    pub fn stop(&self, to: RunState, tell: impl FnOnce()) {
        let mut state = self.0.state.lock();
        if *state == RunState::Running {
            self.enter(&mut state, to);
            tell();
        }
    }

    /// Lets it run if it does not, and has it told. Nothing that follows is told before.
    pub fn go_on(&self, tell: impl FnOnce()) {
        self.run(&mut self.0.state.lock(), tell);
    }

    /// The same for a client, who does not let it run while it is handed over; whether it runs now.
    pub(crate) fn go_on_unless_handed_over(&self, tell: impl FnOnce()) -> bool {
        let mut state = self.0.state.lock();
        if *state == RunState::FinishMigrate {
            return false;
        }
        self.run(&mut state, tell);
        true
    }

    fn run(&self, state: &mut RunState, tell: impl FnOnce()) {
        if *state != RunState::Running {
            tell();
            self.enter(state, RunState::Running);
        }
    }

    /// Sets what it does.
    pub fn set(&self, to: RunState) {
        self.enter(&mut self.0.state.lock(), to);
    }

    fn enter(&self, state: &mut RunState, to: RunState) {
        *state = to;
        if to == RunState::Running { self.0.guests.go_on() } else { self.0.guests.stop() }
    }
}
