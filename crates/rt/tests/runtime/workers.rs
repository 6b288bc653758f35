//! Tasks, wakes, timers and pools under both engines.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use parking_lot::Mutex;
use rt::{JoinError, Target};

use crate::support::on_each_engine;

#[test]
fn a_panicking_task_is_contained() {
    on_each_engine(|| async {
        let error = rt::spawn(async { panic!("as intended") }).await.unwrap_err();
        assert_eq!(error, JoinError::Panicked("as intended".to_owned()));
        let elsewhere = rt::spawn_on(Target::Worker(0), async { panic!("as intended") }).await;
        assert!(elsewhere.is_err());
        assert_eq!(rt::spawn_on(Target::Worker(0), async { 7 }).await, Ok(7));
    });
}

#[test]
fn a_task_runs_where_it_was_placed() {
    on_each_engine(|| async {
        assert_eq!((rt::worker_count(), rt::current_worker()), (2, None));
        for index in 0..4 {
            let at = rt::spawn_on(Target::Worker(index), async {
                rt::sleep(Duration::from_millis(1)).await;
                (rt::current_worker(), rt::spawn(async { rt::current_worker() }).await.unwrap())
            });
            assert_eq!(at.await.unwrap(), (Some(index % 2), Some(index % 2)));
        }
        let back = rt::spawn_on(Target::Worker(1), async {
            rt::spawn_on(Target::Control, async { rt::current_worker() }).await.unwrap()
        });
        assert_eq!(back.await, Ok(None));
    });
}

#[test]
fn the_least_loaded_worker_gets_the_next_task() {
    on_each_engine(|| async {
        let all_there = Arc::new(AtomicBool::new(false));
        let stay = || {
            let all_there = all_there.clone();
            async move {
                while !all_there.load(Ordering::SeqCst) {
                    rt::sleep(Duration::from_millis(1)).await;
                }
                rt::current_worker()
            }
        };
        let placed: Vec<_> = (0..4).map(|_| rt::spawn_on(Target::LeastLoaded, stay())).collect();
        all_there.store(true, Ordering::SeqCst);
        let mut at: Vec<_> = join_all(placed).await.into_iter().map(|at| at.unwrap().unwrap()).collect();
        at.sort_unstable();
        assert_eq!(at, [0, 0, 1, 1]);
    });
}

#[test]
fn a_detached_task_runs_on() {
    on_each_engine(|| async {
        let count = Arc::new(AtomicUsize::new(0));
        for target in [Target::Control, Target::Worker(0)] {
            let count = count.clone();
            drop(rt::spawn_on(target, async move {
                rt::yield_now().await;
                count.fetch_add(1, Ordering::SeqCst);
            }));
        }
        while count.load(Ordering::SeqCst) < 2 {
            rt::sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn timers_do_not_fire_early() {
    on_each_engine(|| async {
        let start = Instant::now();
        let sleeps = [30u64, 10, 20, 0].map(|ms| {
            rt::spawn(async move {
                rt::sleep(Duration::from_millis(ms)).await;
                assert!(start.elapsed() >= Duration::from_millis(ms));
            })
        });
        join_all(sleeps).await.into_iter().for_each(|ended| ended.unwrap());
    });
}

#[test]
fn a_timeout_ends_a_wait_and_only_a_long_one() {
    on_each_engine(|| async {
        let long = rt::timeout(Duration::from_millis(5), std::future::pending::<()>()).await;
        assert_eq!(long, Err(rt::Elapsed));
        assert_eq!(rt::timeout(Duration::from_secs(60), async { 3 }).await, Ok(3));
    });
}

#[test]
fn many_timers_that_are_cancelled_leave_nothing_behind() {
    on_each_engine(|| async {
        for n in 0..10_000 {
            let _ = rt::timeout(Duration::from_secs(60 + n % 7), rt::yield_now()).await;
        }
        rt::sleep(Duration::from_millis(1)).await;
    });
}

#[test]
fn wakes_from_other_threads_arrive_while_the_worker_sleeps() {
    on_each_engine(|| async {
        for round in 0..200 {
            let (sender, receiver) = futures_channel(round);
            std::thread::spawn(move || sender.send(round));
            assert_eq!(receiver.await, round);
        }
    });
}

/// A one-shot channel built on the pools, so that the wake comes from a foreign thread.
fn futures_channel(delay: u64) -> (Sender, impl Future<Output = u64>) {
    let state = Arc::new((Mutex::new(None), futures_util::task::AtomicWaker::new()));
    let sender = Sender(state.clone(), delay);
    let receiver = std::future::poll_fn(move |cx| {
        state.1.register(cx.waker());
        state.0.lock().take().map_or(std::task::Poll::Pending, std::task::Poll::Ready)
    });
    (sender, receiver)
}

struct Sender(Arc<(Mutex<Option<u64>>, futures_util::task::AtomicWaker)>, u64);

impl Sender {
    fn send(self, value: u64) {
        std::thread::sleep(Duration::from_micros(self.1 * 3));
        *self.0.0.lock() = Some(value);
        self.0.1.wake();
    }
}

#[test]
fn tasks_on_two_workers_wake_each_other_many_times() {
    on_each_engine(|| async {
        let (a, b) = (Arc::new(AtomicUsize::new(0)), 400);
        let tasks = (0..2).map(|side| {
            let turn = a.clone();
            rt::spawn_on(Target::Worker(side), async move {
                while turn.load(Ordering::SeqCst) < b {
                    if turn.load(Ordering::SeqCst) % 2 == side {
                        turn.fetch_add(1, Ordering::SeqCst);
                    }
                    rt::yield_now().await;
                }
            })
        });
        for ended in join_all(tasks).await {
            ended.unwrap();
        }
    });
}

#[test]
fn a_task_that_never_waits_but_cooperates_does_not_starve_others() {
    on_each_engine(|| async {
        let (stop, turns) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (told, counted) = (stop.clone(), turns.clone());
        let busy = rt::spawn(async move {
            while !told.load(Ordering::SeqCst) {
                counted.fetch_add(1, Ordering::SeqCst);
                rt::cooperate().await;
            }
        });
        // The main future, a timer, another task and a socket all make progress.
        rt::sleep(Duration::from_millis(1)).await;
        rt::spawn(async {}).await.unwrap();
        let (a, b) = rt::net::Stream::pair().unwrap();
        a.send_all(b"x").await.unwrap();
        assert_eq!(b.recv(&mut [0; 8]).await.unwrap(), 1);
        assert!(turns.load(Ordering::SeqCst) > 0);
        stop.store(true, Ordering::SeqCst);
        busy.await.unwrap();
    });
}

#[test]
fn blocking_and_computing_calls_answer_and_panic_like_calls_in_place() {
    on_each_engine(|| async {
        let calls = (0..100).map(|n| rt::blocking(move || n * 2));
        assert_eq!(join_all(calls).await.iter().sum::<i32>(), 9900);
        assert_eq!(rt::compute(rt::worker_count).await, 2);
        let panicked = rt::spawn(async { rt::blocking(|| panic!("in the pool")).await }).await;
        assert_eq!(panicked, Err(JoinError::Panicked("in the pool".to_owned())));
        assert_eq!(rt::blocking(|| 1).await, 1);
    });
}

#[test]
fn a_runtime_ends_with_tasks_still_waiting() {
    on_each_engine(|| async {
        for target in [Target::Control, Target::Worker(0), Target::Worker(1)] {
            drop(rt::spawn_on(target, std::future::pending::<()>()));
            drop(rt::spawn_on(target, rt::sleep(Duration::from_secs(3600))));
        }
    });
}

#[test]
fn a_runtime_starts_at_once() {
    let best = (0..20).map(|_| {
        let start = Instant::now();
        let runtime = rt::Runtime::new(rt::Config::default()).unwrap();
        let inside = runtime.block_on(async { start.elapsed() });
        drop(runtime);
        inside
    });
    // A fraction of a millisecond; the bound is for the slowest of machines.
    assert!(best.min().unwrap() < Duration::from_millis(100));
}
