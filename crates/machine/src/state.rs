//! Whether the machine runs.
use api::{RunState, StatusInfo};
use parking_lot::Mutex;

/// What the machine does.
pub(crate) struct State(Mutex<RunState>);

impl State {
    pub(crate) fn new(state: RunState) -> Self {
        Self(Mutex::new(state))
    }

    pub(crate) fn now(&self) -> StatusInfo {
        let status = *self.0.lock();
        StatusInfo { running: status == RunState::Running, status }
    }

    /// Stops it: whether it ran.
    pub(crate) fn stop(&self, to: RunState) -> bool {
        let mut state = self.0.lock();
        let ran = *state == RunState::Running;
        if ran {
            *state = to;
        }
        ran
    }

    /// Lets it run: whether it did not.
    pub(crate) fn go_on(&self) -> bool {
        std::mem::replace(&mut *self.0.lock(), RunState::Running) != RunState::Running
    }

    pub(crate) fn set(&self, to: RunState) {
        *self.0.lock() = to;
    }
}
