//! How far a long command has come: a line repainted in place, and one line more at each SIGUSR1.

use crate::console::Console;
use crate::out;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// A repaint needs at least this much progress since the last one, in percent.
const STEP: f64 = 1.0;

/// How often the progress is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// The signal that asks for a line.
const ASK: i32 = libc::SIGUSR1;

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
        self.percent = if total == 0 { 100.0 } else { (done as f64 * 100.0 / total as f64).min(100.0) };
        let edge = self.percent >= 100.0 && self.painted < 100.0;
        if self.shown && (edge || self.percent >= self.painted + STEP) {
            self.painted = self.percent;
            out!(console, "    ({:.2}/100%)\r", self.percent);
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

    fn line(&self) -> String {
        format!("    ({:.2}/100%)", self.percent)
    }
}

/// Why a wait ended.
enum Woken<T> {
    Done(T),
    Asked,
    Look,
}

/// Does `work` and shows how far it is: `done` of `total`.
pub async fn watch<T>(
    console: &mut Console,
    progress: &mut Progress,
    total: u64,
    done: impl Fn() -> u64,
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work);
    progress.set(console, 0, total.max(1));
    // Where signals can't be caught, none is waited for.
    let mut without_signals = false;
    loop {
        let mut asked = pin!(rt::signal::next_signal(&[ASK]));
        let mut look = pin!(rt::sleep(LOOK));
        let woken = std::future::poll_fn(|context| {
            if let Poll::Ready(answer) = work.as_mut().poll(context) {
                return Poll::Ready(Woken::Done(answer));
            }
            if !without_signals {
                match asked.as_mut().poll(context) {
                    Poll::Ready(Ok(_)) => return Poll::Ready(Woken::Asked),
                    Poll::Ready(Err(_)) => without_signals = true,
                    Poll::Pending => {}
                }
            }
            look.as_mut().poll(context).map(|()| Woken::Look)
        });
        match woken.await {
            Woken::Done(answer) => {
                progress.set(console, done(), total);
                return answer;
            }
            Woken::Asked => {
                progress.set(console, done(), total);
                console.note(progress.line());
            }
            Woken::Look => progress.set(console, done(), total),
        }
    }
}
