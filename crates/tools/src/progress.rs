//! How far a long command has come: a line repainted in place, and one line more at each SIGUSR1; or lines for programs.

use crate::console::Console;
use crate::copy::Stop;
use crate::flags::Verbosity;
use crate::{out, size};
use api::{ToolMessageBranch, ToolProgress, ToolProgressUnit as Unit};
use parking_lot::Mutex;
use rt::signal::ASK;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::task::Poll;
use std::time::Duration;

/// A repaint needs at least this much progress since the last one, in percent.
const STEP: f64 = 1.0;

/// How often the progress is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// A bar is painted anew at least so often.
const FRAME: Duration = Duration::from_millis(100);

/// A program hears at least so often.
const BEAT: Duration = Duration::from_secs(1);

/// Width of a bar, in characters.
const WIDTH: usize = 30;

/// What a work tells of how far it is, from whatever thread: every step of it is painted, also where one follows the other
/// faster than they are looked at.
#[derive(Debug)]
pub struct Told {
    /// Done in all.
    done: AtomicU64,
    total: u64,
    unit: Unit,
    steps: Mutex<Steps>,
}

#[derive(Debug, Default)]
struct Steps {
    last: u64,
    /// Those that were not taken yet; at most a hundred.
    waiting: Vec<u64>,
}

impl Told {
    /// Nothing of `total` bytes is done.
    pub fn bytes(total: u64) -> Told {
        Told { done: AtomicU64::new(0), total, unit: Unit::Bytes, steps: Mutex::default() }
    }

    /// Nothing of `total` steps is done.
    pub fn steps(total: u64) -> Told {
        Told { unit: Unit::Steps, ..Told::bytes(total) }
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

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// Not at all.
    Nothing,
    /// The percentage, in the line that scripts know from QEMU's programs.
    Percent,
    /// A bar on a terminal, with the rate and the time that is left.
    Bar,
    /// Lines for programs.
    Json,
}

/// Progress of one command.
#[derive(Debug)]
pub struct Progress {
    shown: Shown,
    percent: f64,
    painted: f64,
    since_ns: u64,
    /// When it was painted last.
    painted_ns: u64,
    /// What ends the work in order.
    stop: Option<Arc<Stop>>,
}

impl Progress {
    /// Progress at nought, begun now.
    pub fn new(console: &Console, verbosity: Verbosity) -> Progress {
        let shown = match (console.forms().progress_as_json, verbosity.shows_progress()) {
            (true, _) => Shown::Json,
            (false, false) => Shown::Nothing,
            (false, true) if console.on_terminal() => Shown::Bar,
            (false, true) => Shown::Percent,
        };
        let now = rt::now_ns();
        let painted = f64::NEG_INFINITY;
        Progress { shown, percent: 0.0, painted, since_ns: now, painted_ns: now, stop: None }
    }

    /// The first of its signals ends the work by `stop`; the second one ends the program.
    pub fn until(self, stop: &Arc<Stop>) -> Progress {
        Progress { stop: Some(stop.clone()), ..self }
    }

    /// Signals that are waited for.
    fn signals(&self) -> Vec<i32> {
        let stop = self.stop.iter().flat_map(|stop| stop.signals()).copied();
        stop.chain([ASK]).collect()
    }

    /// Whether somebody sees it.
    pub fn is_shown(&self) -> bool {
        self.shown != Shown::Nothing
    }

    /// `done` of what there is to do is done.
    fn set(&mut self, console: &mut Console, told: &Told, done: u64) {
        let total = told.total;
        self.percent = if total == 0 { 100.0 } else { (done as f64 * 100.0 / total as f64).min(100.0) };
        let edge = self.percent >= 100.0 && self.painted < 100.0;
        if edge || self.percent >= self.painted + STEP || self.is_stale() {
            self.paint(console, told, done);
        }
    }

    /// Whether what is shown is too old, though little was done since.
    fn is_stale(&self) -> bool {
        let age = Duration::from_nanos(rt::now_ns().saturating_sub(self.painted_ns));
        match self.shown {
            Shown::Nothing | Shown::Percent => false,
            Shown::Bar => age >= FRAME,
            Shown::Json => age >= BEAT,
        }
    }

    fn paint(&mut self, console: &mut Console, told: &Told, done: u64) {
        self.painted = self.percent;
        self.painted_ns = rt::now_ns();
        match self.shown {
            Shown::Nothing => return,
            Shown::Percent => out!(console, "    ({:.2}/100%)\r", self.percent),
            Shown::Bar => out!(console, "\r{}\x1b[K", self.bar(told, done)),
            Shown::Json => console.for_programs(self.message(told, done)),
        }
        console.flush();
    }

    /// What was told since the last look.
    fn look(&mut self, console: &mut Console, told: &Told) {
        told.take().into_iter().for_each(|done| self.set(console, told, done));
        if self.is_stale() {
            self.set(console, told, told.done());
        }
    }

    /// All is done.
    fn finish(&mut self, console: &mut Console, told: &Told) {
        self.percent = 100.0;
        self.paint(console, told, told.total);
    }

    /// Ends the line of the bar.
    fn leave_bar(&mut self, console: &mut Console) {
        if self.shown == Shown::Bar {
            out!(console, "\n");
            console.flush();
        }
    }

    /// Ends the repainted line.
    pub fn end(&mut self, console: &mut Console) {
        if self.shown == Shown::Percent {
            out!(console, "\n");
            console.flush();
        }
    }

    /// Tells how far it is because somebody asked.
    fn answer(&mut self, console: &mut Console, told: &Told) {
        let done = told.done();
        self.set(console, told, done);
        match self.shown {
            Shown::Json => console.for_programs(self.message(told, done)),
            _ => console.note(format_args!("    ({:.2}/100%)", self.percent)),
        }
    }

    fn seconds(&self) -> f64 {
        Duration::from_nanos(rt::now_ns().saturating_sub(self.since_ns)).as_secs_f64()
    }

    /// Seconds that what is left takes at the rate so far; nothing before there is a rate to go by.
    fn left(&self, told: &Told, done: u64) -> Option<f64> {
        let seconds = self.seconds();
        (done > 0 && seconds >= BEAT.as_secs_f64() / 2.0)
            .then(|| seconds * told.total.saturating_sub(done) as f64 / done as f64)
    }

    fn bar(&self, told: &Told, done: u64) -> String {
        let filled = (self.percent / 100.0 * WIDTH as f64) as usize;
        let mut line = format!(
            "[{}{}] {:6.2}%",
            "#".repeat(filled),
            "-".repeat(WIDTH - filled.min(WIDTH)),
            self.percent
        );
        let seconds = self.seconds();
        if told.unit == Unit::Bytes && seconds > 0.0 {
            line += &format!("  {}/s", size::human((done as f64 / seconds) as u64));
        }
        match self.left(told, done) {
            _ if done >= told.total => line += &format!("  {} in all", clock(seconds)),
            Some(left) => line += &format!("  {} left", clock(left)),
            None => {}
        }
        line
    }

    fn message(&self, told: &Told, done: u64) -> ToolMessageBranch {
        let milliseconds = |seconds: f64| (seconds * 1000.0).round() as u64;
        ToolMessageBranch::Progress(ToolProgress {
            done,
            total: told.total,
            unit: told.unit,
            percent: self.percent as u8,
            elapsed_ms: milliseconds(self.seconds()),
            left_ms: self.left(told, done).map(milliseconds),
        })
    }
}

/// Hours, if there are any, minutes and seconds.
fn clock(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// Why a wait ended.
enum Woken<T> {
    Done(T),
    Signal(i32),
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
    progress.paint(console, told, 0);
    // Where signals can't be caught, none is waited for.
    let mut without_signals = false;
    loop {
        let signals = progress.signals();
        let mut asked = pin!(rt::signal::next_signal(&signals));
        let mut look = pin!(rt::sleep(LOOK));
        let woken = std::future::poll_fn(|context| {
            if let Poll::Ready(answer) = work.as_mut().poll(context) {
                return Poll::Ready(Woken::Done(answer));
            }
            if !without_signals {
                match asked.as_mut().poll(context) {
                    Poll::Ready(Ok(signal)) => return Poll::Ready(Woken::Signal(signal)),
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
                    progress.finish(console, told);
                }
                progress.leave_bar(console);
                return answer;
            }
            Woken::Signal(signal) if signal != ASK => {
                if let Some(stop) = progress.stop.take() {
                    stop.by(signal);
                    // Where they can't be given back the work ends all the same.
                    rt::signal::let_go(stop.signals()).ok();
                }
            }
            Woken::Signal(_) => {
                progress.look(console, told);
                progress.answer(console, told);
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
        let told = Told::steps(4);
        (0..4).for_each(|_| told.add(1));
        assert_eq!(told.take(), [1, 2, 3, 4]);
        assert_eq!((told.take(), told.done()), (vec![], 4));
        let told = Told::steps(1_000_000);
        (0..1_000_000).for_each(|_| told.add(1));
        assert_eq!(told.take().len(), 100);
        let nothing = Told::steps(0);
        nothing.add(512);
        assert_eq!(nothing.take(), [512]);
    }
}
