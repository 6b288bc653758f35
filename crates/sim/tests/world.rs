//! The simulated machine's own laws: runs repeat, all orders are explored, and deadlocks are reported.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use parking_lot::Mutex;
use rt::{Allocate, Buf, BufMut, OpenOptions, Try};
use sim::{Config, Disk, EIO, OpKind, Plant, Rng, Sim};

async fn open(path: &str) -> rt::File {
    let options = OpenOptions { create: true, ..OpenOptions::read_write() };
    rt::fs::open(Path::new(path), &options).await.unwrap()
}

/// A program of several tasks that write, read, sync and sleep.
async fn busy_program() -> u64 {
    let file = open("/d/f").await;
    let tasks: Vec<_> = (0..6u64)
        .map(|n| {
            let file = file.clone();
            rt::spawn(async move {
                for round in 0..5 {
                    let off = rt::random_u64() % 50_000;
                    file.write_all(off, &vec![n as u8; 1 + 700 * round]).await.unwrap();
                    rt::sleep(Duration::from_micros(rt::random_u64() % 100)).await;
                    let (buf, got) = file.read(off, BufMut::with_len(100)).await;
                    got.unwrap();
                    if buf.first() == Some(&1) {
                        file.sync(true).await.unwrap();
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    rt::now_ns()
}

#[test]
fn the_same_seed_gives_the_same_run_and_others_give_others() {
    let run = |seed| {
        let sim = Sim::new(seed);
        let end = sim.run(busy_program());
        (end, sim.world().hash(), sim.world().disk().content("/d/f").map(|c| c.to_vec()))
    };
    let hashes: BTreeSet<u64> = (0..20)
        .map(|seed| {
            let (first, second) = (run(seed), run(seed));
            assert!(first == second, "seed {seed} did not repeat itself");
            first.1
        })
        .collect();
    assert_eq!(hashes.len(), 20);
}

#[test]
fn two_tasks_that_race_are_seen_in_every_order() {
    let orders: BTreeSet<Vec<u8>> = (0..200)
        .map(|seed| {
            let log = Arc::new(Mutex::new(Vec::new()));
            let theirs = log.clone();
            Sim::new(seed).run(async move {
                let tasks: Vec<_> = (0..3u8)
                    .map(|n| {
                        let log = theirs.clone();
                        rt::spawn(async move { log.lock().push(n) })
                    })
                    .collect();
                for task in tasks {
                    task.await.unwrap();
                }
            });
            Arc::into_inner(log).map(Mutex::into_inner).unwrap_or_default()
        })
        .collect();
    assert_eq!(orders.len(), 6);
}

#[test]
fn inline_calls_do_all_a_part_or_nothing() {
    let sim = Sim::new(1);
    let seen = sim.run(async {
        let file = open("/f").await;
        let answers = (0..200).map(|_| match file.try_write(0, &[1; 1000]) {
            Try::Done(Ok(1000)) => "all",
            Try::Done(Ok(_)) => "part",
            Try::Done(Err(_)) => "error",
            Try::WouldBlock => "nothing",
        });
        answers.collect::<BTreeSet<_>>()
    });
    assert_eq!(seen, BTreeSet::from(["all", "part", "nothing"]));
}

/// A gap would show what the buffer held before, as if it had been read.
#[test]
fn a_read_has_no_gap_where_the_file_grows_meanwhile() {
    let mut lengths = BTreeSet::new();
    for seed in 0..300 {
        let sim = Sim::new(seed);
        let (bytes, got) = sim.run(async {
            let file = open("/f").await;
            file.write_all(0, &[7; 1000]).await.unwrap();
            let grower = file.clone();
            let grown = rt::spawn(async move { grower.set_len(9000).await.unwrap() });
            let (buf, got) = file.read(0, BufMut::with_len(8192)).await;
            grown.await.unwrap();
            (buf.to_vec(), got.unwrap())
        });
        let expected: Vec<u8> = (0..got).map(|at| if at < 1000 { 7 } else { 0 }).collect();
        assert!(bytes[..got] == expected, "seed {seed}: not all of the {got} bytes were read");
        lengths.insert(got);
    }
    assert_eq!(lengths, BTreeSet::from([1000, 8192]), "the file grows after the read and before it");
}

#[test]
fn the_clock_moves_only_with_what_is_due_and_a_dropped_sleep_wakes_no_task() {
    let sim = Sim::new(1);
    sim.run(async {
        let before = rt::now_ns();
        assert!(rt::timeout(Duration::from_secs(3600), std::future::pending::<()>()).await.is_err());
        assert_eq!(rt::now_ns() - before, 3600 * 1_000_000_000);
        assert_eq!(rt::timeout(Duration::from_secs(1), rt::yield_now()).await, Ok(()));
    });
    sim.settle();
}

#[test]
fn blocking_jobs_run_with_the_world_around_them() {
    let answer = Sim::new(1).run(async { rt::blocking(|| rt::engine_name().len() + 40).await });
    assert_eq!(answer, 43);
}

#[test]
fn an_abandoned_write_is_still_done() {
    let sim = Sim::new(3);
    sim.run(async {
        let file = open("/f").await;
        let mut write = file.write(0, Buf::from_slice(b"hello"));
        assert!((&mut write).now_or_never().is_none());
        drop(write);
    });
    sim.settle();
    assert_eq!(sim.world().disk().content("/f").map(|c| c.to_vec()), Some(b"hello".to_vec()));
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_wait_for_nothing_is_reported_as_a_deadlock() {
    Sim::new(1).run(std::future::pending::<()>());
}

#[test]
#[should_panic(expected = "a task panicked")]
fn a_panic_in_a_detached_task_fails_the_run() {
    Sim::new(1).run(async {
        rt::spawn(async { panic!("on purpose") }).detach();
        rt::sleep(Duration::from_secs(1)).await;
    });
}

#[test]
fn a_fault_hits_the_operation_it_was_planted_for_and_no_other() {
    for k in 0..6 {
        let sim = Sim::boot(Config { inline: false, ..Config::seeded(k) }, Disk::default());
        sim.world().plant(Plant::nth_of(OpKind::Write, k, EIO));
        let failed = sim.run(async {
            let file = open("/f").await;
            let mut failed = Vec::new();
            for n in 0..6 {
                let result = file.write(n * 512, Buf::from_slice(&[7; 512])).await.1;
                failed.extend(result.is_err().then_some(n));
            }
            failed
        });
        assert_eq!(failed, [k]);
    }
}

#[test]
fn unsynced_operations_survive_a_power_cut_in_every_combination_and_synced_ones_always() {
    let mut seen = BTreeSet::new();
    for seed in 0..400 {
        let sim = Sim::new(seed);
        sim.run(async {
            let file = open("/d/f").await;
            file.write_all(0, &[1; 1024]).await.unwrap();
            file.sync(false).await.unwrap();
            rt::fs::sync_dir(Path::new("/d")).await.unwrap();
            file.write(512, Buf::from_slice(&[2; 512])).await.1.unwrap();
            file.allocate(Allocate::Reserve, 1024, 512).await.unwrap();
            file.set_len(512).await.unwrap();
        });
        let sim = sim.power_cut();
        let bytes = sim.world().disk().content("/d/f").map(|c| c.to_vec()).unwrap();
        assert!(bytes.iter().take(512).all(|b| *b == 1), "seed {seed}");
        seen.insert((bytes.len(), bytes.get(512).copied()));
    }
    let all = [(512, None), (1024, Some(1)), (1024, Some(2)), (1536, Some(1)), (1536, Some(2))];
    assert_eq!(seen, BTreeSet::from(all));
}

#[test]
fn a_killed_process_leaves_the_page_cache_and_no_locks() {
    let sim = Sim::new(1);
    let file = sim.run(async {
        let file = open("/f").await;
        file.write_all(0, b"cached").await.unwrap();
        assert!(file.try_lock(100, 1, true).unwrap());
        file
    });
    let sim = sim.kill();
    assert_eq!(sim.world().disk().content("/f").map(|c| c.to_vec()), Some(b"cached".to_vec()));
    assert!(matches!(file.try_write(0, b"late"), Try::Done(Err(_))));
    sim.run(async {
        assert!(open("/f").await.try_lock(100, 1, true).unwrap());
    });
}

#[test]
fn locks_belong_to_an_open_file_and_can_be_split() {
    Sim::new(1).run(async {
        let (a, b) = (open("/f").await, open("/f").await);
        assert!(a.try_lock(0, 10, true).unwrap());
        assert!(!b.try_lock(5, 1, false).unwrap() && !b.test_lock(9, 1, true).unwrap());
        a.unlock(4, 2).unwrap();
        assert!(b.try_lock(4, 2, true).unwrap() && !b.test_lock(3, 1, false).unwrap());
        drop(a);
        assert!(b.try_lock(0, 0, true).unwrap());
    });
}

#[test]
fn a_direct_file_refuses_what_is_not_aligned() {
    Sim::new(1).run(async {
        let options = OpenOptions { create: true, direct: true, ..OpenOptions::read_write() };
        let file = rt::fs::open(Path::new("/f"), &options).await.unwrap();
        assert_eq!(file.alignment(), 512);
        assert!(file.write(100, Buf::from_slice(&[1; 512])).await.1.is_err());
        assert!(file.write(512, Buf::from_slice(&[1; 512])).await.1.is_ok());
        assert_eq!(file.read(0, BufMut::with_len(4096)).await.1.unwrap(), 1024);
    });
}

#[test]
fn tasks_are_dropped_where_they_wait_when_their_world_ends() {
    struct Witness(Arc<Mutex<u32>>);
    impl Drop for Witness {
        fn drop(&mut self) {
            *self.0.lock() += 1;
        }
    }
    let dropped = Arc::new(Mutex::new(0));
    let sim = Sim::new(1);
    let theirs = dropped.clone();
    sim.run(async move {
        for _ in 0..3 {
            let witness = Witness(theirs.clone());
            rt::spawn(async move {
                let _witness = witness;
                std::future::pending::<()>().await;
            })
            .detach();
        }
        rt::yield_now().await;
    });
    assert_eq!(*dropped.lock(), 0);
    drop(sim);
    assert_eq!(*dropped.lock(), 3);
}

#[test]
fn a_moment_kept_is_the_disk_as_it_was() {
    let sim = Sim::new(5);
    let kept = Arc::new(Mutex::new(Vec::new()));
    let theirs = kept.clone();
    sim.world().watch(Some(Box::new(move |moment, disk| theirs.lock().push((moment, disk.clone())))));
    sim.run(busy_program());
    let kept = kept.lock();
    assert!(kept.len() > 50 && kept.windows(2).all(|pair| pair[0].0 < pair[1].0));
    for (moment, disk) in kept.iter() {
        let all = disk.cut_keeping(|_| true);
        let lens = (all.content("/d/f").map_or(0, |c| c.len()), disk.content("/d/f").map_or(0, |c| c.len()));
        assert!(lens.0 >= lens.1, "moment {moment}: {lens:?}");
        disk.power_cut(&mut Rng::new(*moment));
    }
}
