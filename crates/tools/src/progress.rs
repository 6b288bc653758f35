//! How far a long command has come: a line repainted in place, and one line more at each SIGUSR1.

use crate::console::Console;
use crate::out;
use parking_lot::Mutex;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::task::Poll;
use std::time::Duration;

/// A repaint needs at least this much progress since the last one, in percent.
const STEP: f64 = 1.0;

/// How often the progress is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// The signal that asks for a line.
const ASK: i32 = libc::SIGUSR1;

/// What a work tells of how far it is, from whatever thread: every step of it is painted, also where one follows the other
/// faster than they are looked at.
#[derive(Debug)]
pub struct Told {
    /// Done in all, in the work's own measure.
    done: AtomicU64,
    total: u64,
    steps: Mutex<Steps>,
}

#[derive(Debug, Default)]
struct Steps {
    last: u64,
    /// Those that were not taken yet; at most a hundred.
    waiting: Vec<u64>,
}

impl Told {
    /// Nothing of `total` is done.
    pub fn new(total: u64) -> Told {
        Told { done: AtomicU64::new(0), total, steps: Mutex::default() }
    }

    /// So much more is done.
    pub fn add(&self, more: u64) {
        self.step(self.done.fetch_add(more, AcqRel) + more);
    }

    /// So much is done in all.
    pub fn set(&self, done: u64) {
        self.done.store(done, Release);
        self.step(done);
    }

    /// How much is done.
    pub fn done(&self) -> u64 {
        self.done.load(Acquire)
    }

    fn step(&self, done: u64) {
        let mut steps = self.steps.lock();
        if done > steps.last
            && ((done - steps.last) as f64 * 100.0 >= self.total as f64 * STEP || done >= self.total)
        {
            steps.last = done;
            steps.waiting.push(done);
        }
    }

    fn take(&self) -> Vec<u64> {
        std::mem::take(&mut self.steps.lock().waiting)
    }
}

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
    fn set(&mut self, console: &mut Console, done: u64, total: u64) {
        self.percent = if total == 0 { 100.0 } else { (done as f64 * 100.0 / total as f64).min(100.0) };
        let edge = self.percent >= 100.0 && self.painted < 100.0;
        if edge || self.percent >= self.painted + STEP {
            self.paint(console);
        }
    }

    fn paint(&mut self, console: &mut Console) {
        self.painted = self.percent;
        if self.shown {
            out!(console, "    ({:.2}/100%)\r", self.percent);
            console.flush();
        }
    }

    /// What was told since the last look.
    fn look(&mut self, console: &mut Console, told: &Told) {
        told.take().into_iter().for_each(|done| self.set(console, done, told.total));
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

/// Does `work` and shows how far it is, as it tells; at its end that it is all done, where `whole` says so of its answer.
pub async fn watch<T>(
    console: &mut Console,
    progress: &mut Progress,
    told: &Told,
    work: impl Future<Output = T>,
    whole: impl FnOnce(&T) -> bool,
) -> T {
    let mut work = pin!(work);
    progress.set(console, 0, 1);
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
                progress.look(console, told);
                if whole(&answer) {
                    progress.percent = 100.0;
                    progress.paint(console);
                }
                return answer;
            }
            Woken::Asked => {
                progress.look(console, told);
                progress.set(console, told.done(), told.total);
                console.note(progress.line());
            }
            Woken::Look => progress.look(console, told),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_kept_and_no_more_than_a_hundred() {
        let told = Told::new(4);
        (0..4).for_each(|_| told.add(1));
        assert_eq!(told.take(), [1, 2, 3, 4]);
        assert_eq!((told.take(), told.done()), (vec![], 4));
        let told = Told::new(1_000_000);
        (0..1_000_000).for_each(|_| told.add(1));
        assert_eq!(told.take().len(), 100);
        let nothing = Told::new(0);
        nothing.add(512);
        assert_eq!(nothing.take(), [512]);
    }
}
