//! How far a long command has come: a line repainted in place, and one line more at each SIGUSR1.

use crate::console::Console;
use crate::out;

/// A repaint needs at least this much progress since the last one, in percent.
const STEP: f64 = 1.0;

/// Progress of one command.
#[derive(Debug)]
pub struct Progress {
    shown: bool,
    percent: f64,
    painted: f64,
}

impl Progress {
    /// Progress at nought; painted only if `shown`.
    pub fn new(shown: bool) -> Progress {
        Progress { shown, percent: 0.0, painted: f64::NEG_INFINITY }
    }

    /// `done` of `total` is done.
    pub fn set(&mut self, console: &mut Console, done: u64, total: u64) {
        self.percent = if total == 0 { 100.0 } else { done as f64 * 100.0 / total as f64 };
        let edge = self.percent == 0.0 || self.percent >= 100.0;
        if self.shown && (edge || self.percent >= self.painted + STEP) {
            self.painted = self.percent;
            out!(console, "    ({:.2}/100%)\r", self.percent.min(100.0));
            console.flush();
        }
    }

    /// Ends the repainted line.
    pub fn end(&mut self, console: &mut Console) {
        if self.shown {
            out!(console, "\n");
            console.flush();
        }
    }

    /// The line that SIGUSR1 asks for.
    pub fn line(&self) -> String {
        format!("    ({:.2}/100%)", self.percent.min(100.0))
    }
}
