//! Commit jobs on random chains, under a guest that writes: layers of several sizes, with holes, zeroes and data, short and
//! long ones below each other. What the guest's disk shows, the base shows, and what the layers show that are left: all as an
//! independent reader finds it.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};

use api::{BlockCommitArguments, BlockJobCompleted, Event, JobStatus};
use jobs::{EventSink, Jobs};
use parking_lot::Mutex;
use sim::{Config, Disk, Rng, Sim};
use testkit::chains::{Book, chain, fill, first_difference, guest, layers, shown};
use testkit::stack::Session;

const DRIVERS: &[&[block::DriverType]] = &[protocols::DRIVERS, formats::DRIVERS];

/// Remembers errors of jobs.
#[derive(Default)]
struct Ear(Mutex<Vec<String>>);

impl EventSink for Ear {
    fn tell(&self, event: Event) {
        if let Event::BlockJobCompleted(BlockJobCompleted { error: Some(error), .. }) = event {
            self.0.lock().push(error);
        }
    }
}

/// Commits the layers from `top` down into `base` (numbers from the lowest), with a guest at the uppermost.
async fn commit(session: &Session, top: usize, base: usize) -> Vec<String> {
    let nodes = layers(&session.node);
    let (active, ear) = (top + 1 == nodes.len(), Arc::new(Ear::default()));
    let jobs = Jobs::new(ear.clone());
    let request = BlockCommitArguments {
        job_id: Some("commit".to_owned()),
        device: session.node.name().to_owned(),
        top_node: Some(nodes[top].name().to_owned()),
        base_node: Some(nodes[base].name().to_owned()),
        auto_finalize: Some(true),
        auto_dismiss: Some(true),
        ..BlockCommitArguments::default()
    };
    if let Err(e) = jobs::commit(&session.graph, &jobs, request).await {
        return vec![e.to_string()];
    }
    if let Some(job) = jobs.find("commit") {
        let ended = || matches!(job.status(), JobStatus::Aborting | JobStatus::Concluded | JobStatus::Null);
        while active && job.complete().is_err() && !ended() {
            rt::sleep(std::time::Duration::from_micros(20)).await;
        }
        job.concluded().await;
    }
    ear.0.lock().clone()
}

fn try_seed(seed: u64) {
    let mut rng = Rng::new(seed);
    let stack = chain(&mut rng, DRIVERS);
    let count = stack.images.len();
    let top = 1 + rng.index(count - 1);
    let base = rng.index(top);
    let active = top + 1 == count;
    let sim = Sim::boot(Config { workers: 1 + rng.index(2), ..Config::seeded(seed) }, Disk::default());
    let (made, fill_rng) = (stack.clone(), rng.fork());
    sim.run(async move { fill(&made, fill_rng).await });
    let before = shown(&stack, &sim.world().disk());
    let book: Book = Arc::new(Mutex::new(before[count - 1].clone()));
    let (opened, pages, mut dice) = (stack.clone(), book.clone(), rng.fork());
    let errors = sim.run(async move {
        let session = opened.open().await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let guests: Vec<_> = (0..2)
            .map(|number| {
                rt::spawn(guest(session.clone(), pages.clone(), dice.fork(), (number, 2), stop.clone()))
            })
            .collect();
        let errors = commit(&session, top, base).await;
        rt::sleep(std::time::Duration::from_micros(300)).await;
        stop.store(true, Relaxed);
        for guest in guests {
            guest.await.unwrap();
        }
        let len = pages.lock().len() as u64;
        let found = session.read(0, len).await.unwrap();
        let wrong = first_difference(&found, &pages.lock());
        assert_eq!(wrong, None, "the open disk shows something else, at this sector");
        session.close().await.unwrap();
        errors
    });
    assert_eq!(errors, Vec::<String>::new());
    sim.settle();
    let after = shown(&stack, &sim.world().disk());
    let disk = book.lock().clone();
    let left = if active { base } else { count - 1 };
    assert_eq!(first_difference(&after[left], &disk), None, "the closed disk shows something else");
    assert!(after[left].len() >= disk.len());
    if !active {
        assert_eq!(
            first_difference(&after[base], &before[top]),
            None,
            "the base does not show what the top did"
        );
    }
    for below in 0..base {
        assert!(after[below] == before[below], "layer {below}, below the base, has changed");
    }
}

#[test]
fn a_commit_on_any_chain_under_any_writes_leaves_the_disk_as_the_guest_wrote_it() {
    let number = |what| std::env::var(what).ok().and_then(|text: String| text.parse().ok());
    let (first, count) = match number("COMMIT_CHAINS_SEED") {
        Some(seed) => (seed, 1),
        None => (1, number("COMMIT_CHAINS_COUNT").unwrap_or(240)),
    };
    let mut failed = Vec::new();
    for seed in first..first + count {
        if std::panic::catch_unwind(|| try_seed(seed)).is_err() {
            failed.push(seed);
        }
    }
    assert!(failed.is_empty(), "seeds {failed:?} fail; COMMIT_CHAINS_SEED=N runs one alone");
}
