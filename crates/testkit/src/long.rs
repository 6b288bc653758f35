//! Many numbered pieces of work on all cores: the seeds of a suite, the scripts of a small scope. A run that takes long says
//! now and then how far it is.

use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How often a long run says how far it is.
const TELL: Duration = Duration::from_secs(30);

/// Failures that are collected; then no new piece is begun.
const MOST_FAILURES: usize = 20;

/// What the pieces came to.
#[derive(Debug, Default)]
pub struct Done {
    /// The sum of what they counted.
    pub count: u64,
    /// Pieces that were done.
    pub pieces: u64,
    /// Those that failed, by number, and why.
    pub failures: Vec<(u64, String)>,
}

/// A number from the environment.
pub fn number(name: &str, what: &str) -> Option<u64> {
    std::env::var(format!("{name}_{what}")).ok().and_then(|text| text.parse().ok())
}

/// Does the pieces, until they have counted `enough` or the seconds of `NAME_SECONDS` in the environment are over. A piece counts
/// something, as crashes.
pub fn on_all_cores(
    name: &str,
    pieces: std::ops::Range<u64>,
    enough: u64,
    piece: impl Fn(u64) -> Result<u64, String> + Sync,
) -> Done {
    let (next, done) = (AtomicU64::new(pieces.start), Mutex::new(Done::default()));
    let (begun, told) = (Instant::now(), Mutex::new(Instant::now()));
    let most = number(name, "SECONDS").map(Duration::from_secs);
    let work = || {
        loop {
            let number = next.fetch_add(1, Relaxed);
            let over = |done: &Done| done.count >= enough || done.failures.len() >= MOST_FAILURES;
            let late = most.is_some_and(|most| begun.elapsed() >= most);
            if number >= pieces.end || late || over(&done.lock()) {
                return;
            }
            let ran = catch_unwind(AssertUnwindSafe(|| piece(number)));
            let ran = ran.unwrap_or_else(|_| Err(format!("number {number} panicked; its message is above")));
            let mut done = done.lock();
            done.pieces += 1;
            match ran {
                Ok(count) => done.count += count,
                Err(text) => done.failures.push((number, text)),
            }
            let mut told = told.lock();
            if told.elapsed() >= TELL {
                *told = Instant::now();
                let rate = done.count as f64 / begun.elapsed().as_secs_f64();
                println!("{name}: {} after {} pieces, {rate:.0} a second", done.count, done.pieces);
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        (0..cores).for_each(|_| drop(scope.spawn(work)));
    });
    let mut done = done.into_inner();
    done.failures.sort();
    println!("{name}: {} in {} pieces, {:.0} s", done.count, done.pieces, begun.elapsed().as_secs_f64());
    done
}
