//! A raw image on a file, through crashes: `raw`, `file` and the core keep what was flushed.

use sim::Config;
use testkit::crash::{CrashTest, inspect_raw, run_seeds};
use testkit::guest::{Faults, Mix, Plan};
use testkit::stack::{Stack, TestImage};

#[test]
fn a_raw_image_keeps_what_was_flushed_through_every_crash() {
    let stack = Stack::of(
        "raw",
        &[protocols::DRIVERS, formats::DRIVERS],
        vec![TestImage::new("raw", "/raw", 64 << 10)],
    );
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
        stack: stack.clone(),
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
