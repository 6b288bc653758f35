//! Who may ask the cluster what answers only by a call that waits: one at a time.
//!
//! A cluster that is gone so holds one thread, for as long as that call takes; whoever waits meanwhile is not held for longer than the one
//! before him. The time in which others are answered is not that of the cluster.

use futures_util::future::{Either, select};
use futures_util::lock::{Mutex, OwnedMutexGuard};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The turns of an image.
#[derive(Default)]
pub(super) struct Turns {
    turn: Arc<Mutex<()>>,
    /// When the one who has the turn got it, in ns; 0: nobody has.
    begun_ns: Arc<AtomicU64>,
}

/// A turn; it ends with what has it, which may be a call that nobody waits for any more.
pub(super) struct Turn {
    begun_ns: Arc<AtomicU64>,
    _guard: OwnedMutexGuard<()>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.begun_ns.store(0, Relaxed);
    }
}

impl Turns {
    /// Makes a call that waits, on a thread that may, when its turn has come; none where it, or one before it, takes longer than `time`.
    /// A call goes on when nobody waits for it any more, and so does its turn.
    pub async fn call<T: Send + 'static>(
        &self,
        time: Duration,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let turn = self.next(time).await?;
        let called = rt::blocking(move || {
            let _turn = turn;
            call()
        });
        rt::timeout(time, called).await.ok()
    }

    async fn next(&self, time: Duration) -> Option<Turn> {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let mut turn = pin!(self.turn.clone().lock_owned());
        loop {
            let begun_ns = match self.begun_ns.load(Relaxed) {
                0 => rt::now_ns(),
                begun_ns => begun_ns,
            };
            let left = begun_ns.saturating_add(ns).checked_sub(rt::now_ns()).filter(|left| *left > 0)?;
            match select(turn.as_mut(), pin!(rt::sleep(Duration::from_nanos(left)))).await {
                Either::Left((guard, _)) => {
                    self.begun_ns.store(rt::now_ns(), Relaxed);
                    return Some(Turn { begun_ns: self.begun_ns.clone(), _guard: guard });
                }
                // It may be another's turn by now.
                Either::Right(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn run<T>(test: impl Future<Output = T>) -> T {
        let config = rt::Config { workers: Some(1), ..rt::Config::default() };
        rt::Runtime::new(config).unwrap().block_on(test)
    }

    #[test]
    fn many_who_are_answered_in_time_are_all_answered_however_long_that_takes_together() {
        run(async {
            let turns = Arc::new(Turns::default());
            let calls: Vec<_> = (0..20)
                .map(|n| {
                    let turns = turns.clone();
                    rt::spawn(async move {
                        let call = move || {
                            std::thread::sleep(Duration::from_millis(100));
                            n
                        };
                        turns.call(Duration::from_secs(1), call).await
                    })
                })
                .collect();
            for (n, call) in calls.into_iter().enumerate() {
                assert_eq!(call.await.unwrap(), Some(n));
            }
        });
    }

    #[test]
    fn a_call_that_does_not_come_back_holds_nobody_for_longer_than_its_time_but_what_it_uses() {
        run(async {
            let turns = Arc::new(Turns::default());
            let (answer, answered) = mpsc::channel::<()>();
            let held = Arc::new(());
            let (its, time) = (held.clone(), Duration::from_millis(200));
            let call = move || {
                let _its = its;
                answered.recv().is_ok()
            };
            let begun_ns = rt::now_ns();
            let first = turns.call(time, call);
            let others = async { (turns.call(time, || true).await, turns.call(time, || true).await) };
            assert_eq!(futures_util::future::join(first, others).await, (None, (None, None)));
            assert!(rt::now_ns() - begun_ns < 60_000_000_000);
            let mut alone = pin!(super::super::alone(held));
            assert!(rt::timeout(Duration::from_millis(50), alone.as_mut()).await.is_err());
            answer.send(()).unwrap();
            alone.await;
            let soon = async { while turns.call(time, || true).await.is_none() {} };
            rt::timeout(Duration::from_secs(60), soon).await.unwrap();
        });
    }
}
