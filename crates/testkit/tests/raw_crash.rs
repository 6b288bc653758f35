//! A raw image on a file, through crashes: `raw`, `file` and the core keep what was flushed.

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
        stack: stack(),
        plan,
        config: Config { inline: seed % 4 != 0, ..Config::seeded(0) },
        inspect: Some(inspect_raw),
        or_inspect: None,
        beside: None,
        prepare: None,
        room: None,
        faults: Vec::new(),
        exact_size: false,
        moments: 20,
        crashes: 2,
        reopen_every: 10,
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
