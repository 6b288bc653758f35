//! Commit jobs on random chains, under a guest that writes: layers of several sizes, with holes, zeroes and data, short and
//! long ones below each other. What the guest's disk shows, the base shows, and what the layers show that are left: all as an
//! independent reader finds it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};

use api::{BlockCommitArguments, BlockJobCompleted, Event, JobStatus};
use block::{Flags, Node, Request};
use jobs::{EventSink, Jobs};
use parking_lot::Mutex;
use sim::{Config, Disk, Rng, Sim};
use testkit::crash::flatten;
use testkit::stack::{Session, Stack, TestImage};
use testkit::stamp::stamped;

const DRIVERS: &[&[block::DriverType]] = &[protocols::DRIVERS, formats::DRIVERS];
const FILES: [&str; 4] = ["/0", "/1", "/2", "/3"];
const SECTOR: u64 = 512;

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

/// Layers of random sizes, clusters and versions; the lowest may be raw.
fn chain(rng: &mut Rng) -> Stack {
    let mut images = Vec::new();
    for (at, file) in FILES.into_iter().take(2 + rng.index(3)).enumerate() {
        let size = (8 + rng.below(72)) * SECTOR;
        if at == 0 && rng.chance(1, 4) {
            images.push(TestImage::new("raw", file, size));
            continue;
        }
        let image = TestImage::new("qcow2", file, size);
        let image = image.with("cluster_size", rng.pick(&["512", "1024", "4096"]).unwrap());
        let image = image.with("compat", rng.pick(&["0.10", "1.1", "1.1"]).unwrap());
        images.push(match images.last() {
            None => image,
            Some(TestImage { format, file, .. }) => {
                image.with("backing_file", file).with("backing_fmt", format)
            }
        });
    }
    Stack::of("chain", DRIVERS, images)
}

/// Data and zeroes in every layer, each through what is below it.
async fn fill(stack: &Stack, mut rng: Rng) {
    stack.create().await.unwrap();
    for (image, layer) in stack.images.iter().zip(1..) {
        let session = stack.open_image(image).await.unwrap();
        let sectors = image.size / SECTOR;
        for _ in 0..rng.below(5) {
            let first = rng.below(sectors);
            let count = (1 + rng.below(24)).min(sectors - first);
            if rng.chance(1, 3) {
                zero(&session, first, count, rng.chance(1, 2)).await;
            } else {
                session.write(first * SECTOR, &stamped(first, count * SECTOR, layer), false).await.unwrap();
            }
        }
        session.close().await.unwrap();
    }
}

async fn zero(session: &Session, first: u64, count: u64, unmap: bool) {
    let flags = Request::GUEST.with_if(unmap, Flags::MAY_UNMAP);
    session.backend.write_zeroes(first * SECTOR, count * SECTOR, flags).await.unwrap();
}

/// The guest's disk, as it must be.
type Book = Arc<Mutex<Vec<u8>>>;

/// Writes and zeroes on sectors of its own until it is stopped, and finds them as it wrote them.
async fn guest(session: Session, book: Book, mut rng: Rng, (number, of): (u64, u64), stop: Arc<AtomicBool>) {
    let sectors = book.lock().len() as u64 / SECTOR;
    let (from, to) = (sectors * number / of, sectors * (number + 1) / of);
    let mut write = 100;
    while !stop.load(Relaxed) {
        let first = from + rng.below(to - from);
        let count = (1 + rng.below(6)).min(to - first);
        let (start, end) = ((first * SECTOR) as usize, ((first + count) * SECTOR) as usize);
        write += of;
        let data = if rng.chance(1, 3) {
            zero(&session, first, count, rng.chance(1, 2)).await;
            vec![0; end - start]
        } else {
            let data = stamped(first, count * SECTOR, write + number);
            session.write(first * SECTOR, &data, false).await.unwrap();
            data
        };
        book.lock()[start..end].copy_from_slice(&data);
        let (at, len) = (from * SECTOR, (to - from) * SECTOR);
        let found = session.read(at, len).await.unwrap();
        let wrong = first_difference(&found, &book.lock()[at as usize..(at + len) as usize]);
        assert_eq!(wrong, None, "a guest finds something else than it wrote, at this sector of its own");
        rt::sleep(std::time::Duration::from_micros(30)).await;
    }
}

fn layers(top: &Arc<Node>) -> Vec<Arc<Node>> {
    let mut nodes = vec![top.clone()];
    while let Some(below) = nodes.last().and_then(|node| node.backing()) {
        nodes.push(below);
    }
    nodes.reverse();
    nodes
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

/// What each layer shows.
fn shown(stack: &Stack, disk: &Disk) -> Vec<Vec<u8>> {
    let read = |image: &TestImage| match image.format {
        "raw" => disk.content(image.file).unwrap().to_vec(),
        _ => flatten(disk, image.file, false).unwrap_or_else(|text| panic!("{}: {text}", image.file)),
    };
    stack.images.iter().map(read).collect()
}

fn first_difference(one: &[u8], other: &[u8]) -> Option<usize> {
    one.iter().zip(other).position(|(a, b)| a != b).map(|at| at / SECTOR as usize)
}

fn try_seed(seed: u64) {
    let mut rng = Rng::new(seed);
    let stack = chain(&mut rng);
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
