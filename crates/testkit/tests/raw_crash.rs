//! A raw image on a file, through crashes: `raw`, `file` and the core keep what was flushed.
#![expect(clippy::panic, reason = "a failed crash test is a failed test")]

use sim::Config;
use testkit::crash::{CrashTest, Tally, inspect_raw, seeds};
use testkit::guest::{Mix, Plan};
use testkit::stack::{Image, Stack};

#[test]
fn a_raw_image_keeps_what_was_flushed_through_every_crash() {
    let stack = Stack::of("raw", &[protocols::DRIVERS, formats::DRIVERS], vec![Image::new("raw", "/raw", 64 << 10)]);
    let plan = Plan { requests: 12, depth: 4, mix: Mix::ALL, longest: 24, span: 0, largest: 200, faults: false };
    let mut tally = Tally::default();
    for seed in seeds("RAW_CRASH", 40) {
        let config = Config { inline: seed % 4 != 0, ..Config::seeded(0) };
        let test = CrashTest {
            stack: stack.clone(),
            plan,
            config,
            inspect: Some(inspect_raw),
            prepare: None,
            moments: 20,
            crashes: 2,
            reopen_every: 10,
        };
        tally += test.run(seed).unwrap_or_else(|text| panic!("{text}"));
    }
    println!("{} crashes looked at, {} of them opened again", tally.crashes, tally.reopened);
}
