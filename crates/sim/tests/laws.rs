//! The simulated disk keeps the laws that every implementation of a file must keep.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::path::Path;

use rt::{OpenOptions, laws};
use sim::{Config, Disk, Sim};

fn try_laws(config: Config, direct: bool) {
    Sim::boot(config, Disk::default()).run(async move {
        let options = OpenOptions { create: true, direct, ..OpenOptions::read_write() };
        let file = rt::fs::open(Path::new("/f"), &options).await.unwrap();
        laws::file_laws(&file).await;
        let other = rt::fs::open(Path::new("/f"), &options).await.unwrap();
        laws::lock_laws(&file, &other);
    });
}

#[test]
fn the_file_laws_hold_whatever_the_seed_with_inline_calls() {
    (0..4).for_each(|seed| try_laws(Config::seeded(seed), false));
}

#[test]
fn the_file_laws_hold_whatever_the_seed_without_inline_calls() {
    (0..4).for_each(|seed| try_laws(Config { inline: false, ..Config::seeded(seed) }, false));
}

#[test]
fn the_file_laws_hold_with_direct_io() {
    (0..2).for_each(|seed| try_laws(Config { direct_alignment: 4096, ..Config::seeded(seed) }, true));
}
