//! A raw image on a file, through crashes: `raw`, `file` and the core keep what was flushed.

use futures_util::FutureExt;
use sim::{Config, Disk, EIO, OpKind, Plant, Sim};
use testkit::crash::{CrashTest, inspect_raw, run_seeds};
use testkit::guest::{Faults, Mix, Plan};
use testkit::stack::{Stack, TestImage};

fn stack() -> Stack {
    Stack::of("raw", &[protocols::DRIVERS, formats::DRIVERS], vec![TestImage::new("raw", "/raw", 64 << 10)])
}

#[test]
fn a_raw_image_keeps_what_was_flushed_through_every_crash() {
    let plan = Plan {
        requests: 12,
        depth: 4,
        mix: Mix::ALL,
        longest: 24,
        span: 0,
        largest: 200,
        faults: Faults::None,
    };
    run_seeds("RAW_CRASH", 240, |seed| CrashTest {
        config: Config { inline: seed % 4 != 0, ..Config::seeded(0) },
        inspect: Some(inspect_raw),
        exact_size: false,
        reopen_every: 10,
        ..CrashTest::new(stack(), plan)
    });
}

/// A system tells of data that it lost to one of several syncs at once, and the others succeed.
#[test]
fn of_flushes_at_once_none_vouches_for_what_another_one_lost() {
    const SECTOR: u64 = 512;
    for seed in 1..=100 {
        let sim = Sim::boot(Config::seeded(seed), Disk::default());
        let world = sim.world().clone();
        let told: Vec<bool> = sim.run(async move {
            stack().create().await.expect("a raw image");
            let session = stack().open().await.expect("a raw image");
            world.plant(Plant::nth_of(OpKind::Sync, seed % 3, EIO));
            let guests = (0..4).map(|n| {
                let session = session.clone();
                rt::spawn(async move {
                    session.write(n * SECTOR, &[7; SECTOR as usize], false).await?;
                    session.backend.flush().await
                })
            });
            let mut told = Vec::new();
            for guest in guests.collect::<Vec<_>>() {
                told.push(guest.await.is_ok_and(|flushed| flushed.is_ok()));
            }
            told
        });
        let cut = sim.world().disk().cut_keeping(|_| false);
        let left = cut.content("/raw").map(|content| content.to_vec()).unwrap_or_default();
        for (n, sector) in left.chunks(SECTOR as usize).take(told.len()).enumerate() {
            assert!(
                !told[n] || sector.iter().all(|byte| *byte == 7),
                "seed {seed}: sector {n} is lost: {told:?}"
            );
        }
    }
}

/// A durable write is a sync as well: it may be told of what others lost, and must not be told of it beside them.
#[test]
fn of_durable_writes_and_flushes_at_once_none_vouches_for_what_another_one_lost() {
    const SECTOR: u64 = 512;
    let mut ended_by_themselves = 0;
    for seed in 1..=200 {
        let sim = Sim::boot(Config::seeded(seed), Disk::default());
        let world = sim.world().clone();
        let (told, syncs) = sim.run(async move {
            stack().create().await.expect("a raw image");
            let session = stack().open().await.expect("a raw image");
            let before = world.count(Some(OpKind::Sync));
            world.plant(Plant::nth_of(OpKind::Sync, seed % 3, EIO));
            let guests = (0..4).map(|n| {
                let session = session.clone();
                rt::spawn(async move {
                    let durable = (seed + n) % 2 == 0;
                    session.write(n * SECTOR, &[7; SECTOR as usize], durable).await?;
                    if durable { Ok(()) } else { session.backend.flush().await }
                })
            });
            let mut told = Vec::new();
            for guest in guests.collect::<Vec<_>>() {
                told.push(guest.await.is_ok_and(|flushed| flushed.is_ok()));
            }
            (told, world.count(Some(OpKind::Sync)) - before)
        });
        ended_by_themselves += u64::from(syncs >= 3);
        let cut = sim.world().disk().cut_keeping(|_| false);
        let left = cut.content("/raw").map(|content| content.to_vec()).unwrap_or_default();
        let sector = |n: usize| left.chunks(SECTOR as usize).nth(n).unwrap_or_default();
        for (n, told) in told.iter().enumerate() {
            let kept = sector(n).len() as u64 == SECTOR && sector(n).iter().all(|byte| *byte == 7);
            assert!(!told || kept, "seed {seed}: sector {n} is lost: {told:?}");
        }
    }
    assert!(ended_by_themselves > 0);
}

/// Where the system has no durable write, it is a write and a sync; the guest sees no difference.
#[test]
fn a_durable_write_is_durable_with_and_without_a_call_of_the_system() {
    for (seed, durable_writes) in (1..=20).flat_map(|seed| [(seed, false), (seed, true)]) {
        let sim = Sim::boot(Config { durable_writes, ..Config::seeded(seed) }, Disk::default());
        let world = sim.world().clone();
        let syncs = sim.run(async move {
            stack().create().await.expect("a raw image");
            let session = stack().open().await.expect("a raw image");
            for n in 0..3 {
                session.write(n * 512, &[7; 512], true).await.expect("a durable write");
            }
            world.log().iter().filter(|line| line.contains(" sync ")).count()
        });
        let cut = sim.world().disk().cut_keeping(|_| false);
        let left = cut.content("/raw").map(|content| content.to_vec()).unwrap_or_default();
        assert!(left.len() >= 1536 && left[..1536].iter().all(|byte| *byte == 7), "seed {seed}");
        assert!(durable_writes || syncs >= 3, "seed {seed}: {syncs} syncs");
    }
}

/// Whoever waits for a sync may be gone when it fails: the report is not lost with it.
#[test]
fn the_failure_of_a_sync_that_nobody_waits_for_any_more_is_not_forgotten() {
    for (seed, durable) in (1..=40).flat_map(|seed| [(seed, false), (seed, true)]) {
        let sim = Sim::boot(Config { inline: false, ..Config::seeded(seed) }, Disk::default());
        let world = sim.world().clone();
        sim.run(async move {
            stack().create().await.expect("a raw image");
            let session = stack().open().await.expect("a raw image");
            session.write(0, &[7; 512], false).await.expect("a write");
            world.plant(Plant::nth_of(OpKind::Sync, 0, EIO));
            let before = world.count(Some(OpKind::Sync));
            let sync = async {
                match durable {
                    true => session.write(512, &[7; 512], true).await,
                    false => session.backend.flush().await,
                }
            };
            let mut sync = Box::pin(sync);
            // Until it is under way.
            while world.count(Some(OpKind::Sync)) == before {
                assert!(sync.as_mut().now_or_never().is_none(), "it takes time");
                rt::yield_now().await;
            }
            drop(sync);
            assert!(session.backend.flush().await.is_err(), "seed {seed}: a flush vouches for what is lost");
        });
    }
}
