//! Mirrors and backups that are killed on the way, by a signal or a power cut, and begun again: they end with a copy that is
//! the source, whatever was written between the last note and the crash, and copy only what the target does not hold.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test may fail loudly")]

use api::{BackupPerf, BlockdevBackup, BlockdevOnError, Event, JobStatus, MirrorCopyMode, MirrorSyncMode};
use block::{Backend, BackendRequest, Graph, Node, Opt, Options, Perms, Registry, Request};
use jobs::{Backing, EventSink, Jobs, MirrorRequest};
use rt::{Buf, BufMut};
use sim::{Config, Disk, OpKind, Rng, Sim, World};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use testkit::crash::seeds;
use testkit::long::on_all_cores;

/// What a note is about, and what is copied at once.
const UNIT: u64 = 65536;
const UNITS: u64 = 24;
const SECTOR: u64 = 512;
const STATE: &str = "/j.job";

#[derive(Clone, Copy, Debug)]
struct Case {
    mirror: bool,
    sync: MirrorSyncMode,
    format: &'static str,
    copy_mode: MirrorCopyMode,
    /// Of the first run, in bytes a second.
    speed: i64,
}

struct Deaf;

impl EventSink for Deaf {
    fn tell(&self, _: Event) {}
}

fn new_graph() -> Graph {
    let drivers = [protocols::DRIVERS, formats::DRIVERS, filters::DRIVERS];
    Graph::new(Registry::new(&drivers), monitor::options::from_json)
}

async fn open(graph: &Graph, file: &str, format: &str) -> Arc<Node> {
    let mut options = graph.image_options(file, Some(format)).unwrap().with_str("node-name", &file[1..]);
    if graph.node("base").is_some() {
        options.set("backing", Opt::Str("base".to_owned()));
    }
    graph.add(options).await.unwrap()
}

async fn jobs_with_states(dir: &Path) -> Jobs {
    let jobs = Jobs::new(Arc::new(Deaf));
    jobs.keep_states_in(PathBuf::from(dir)).await.unwrap();
    jobs
}

async fn begin(
    graph: &Graph,
    jobs: &Jobs,
    (source, target): (&Arc<Node>, &Arc<Node>),
    case: Case,
) -> Result<(), String> {
    if case.mirror {
        let request = MirrorRequest {
            id: "j".to_owned(),
            source: source.clone(),
            replaces: None,
            sync: case.sync,
            speed: case.speed,
            granularity: 4096,
            buf_size: UNIT as i64,
            on_source_error: BlockdevOnError::Report,
            on_target_error: BlockdevOnError::Report,
            unmap: true,
            copy_mode: case.copy_mode,
            auto_finalize: true,
            auto_dismiss: true,
            target_is_zero: true,
            filter_node_name: None,
            backing: Backing::Kept,
        };
        return jobs::mirror(graph, jobs, request, target).await.map_err(|e| e.to_string());
    }
    let perf = BackupPerf { max_chunk: Some(UNIT as i64), ..BackupPerf::default() };
    let request = BlockdevBackup {
        job_id: Some("j".to_owned()),
        device: source.name().to_owned(),
        target: target.name().to_owned(),
        sync: case.sync,
        speed: Some(case.speed),
        x_perf: Some(perf),
        bitmap: None,
        bitmap_mode: None,
        compress: None,
        on_source_error: None,
        on_target_error: None,
        on_cbw_error: None,
        auto_finalize: None,
        auto_dismiss: None,
        filter_node_name: None,
        discard_source: None,
    };
    jobs::backup(graph, jobs, request, (source, target)).await.map_err(|e| e.to_string())
}

async fn writer(graph: &Graph, node: &Arc<Node>) -> Arc<Backend> {
    let request =
        BackendRequest { label: "guest".to_owned(), node: node.clone(), perms: Perms::WRITER, pinned: false };
    graph.attach(request).await.unwrap()
}

async fn write(entry: &Backend, at: u64, len: u64, byte: u8) {
    entry.write(at, Buf::from_slice(&vec![byte; len as usize]), Request::GUEST).await.unwrap();
}

async fn content(node: &Arc<Node>) -> Vec<u8> {
    let (data, read) = node.read(0, BufMut::with_len(node.length() as usize)).await;
    read.unwrap();
    data.to_vec()
}

/// The images, and some content in each layer of the source.
async fn make(world: World, case: Case) {
    let graph = new_graph();
    let has_base = case.sync == MirrorSyncMode::Top;
    let over_base = || Options::new().with_str("backing_file", "/base").with_str("backing_fmt", "qcow2");
    if has_base {
        graph.create("qcow2", "/base", UNITS * UNIT, Options::new()).await.unwrap();
    }
    let format = if has_base { "qcow2" } else { case.format };
    for file in ["/source", "/target"] {
        let options = if has_base { over_base() } else { Options::new() };
        graph.create(format, file, UNITS * UNIT, options).await.unwrap();
    }
    let files: &[(&str, &str)] =
        if has_base { &[("/base", "qcow2"), ("/source", "qcow2")] } else { &[("/source", format)] };
    for (file, format) in files {
        let node = open(&graph, file, format).await;
        graph.set_writable(&node, true).await.unwrap();
        let entry = writer(&graph, &node).await;
        for unit in 0..UNITS {
            if !has_base || world.choose(2) == 0 {
                write(&entry, unit * UNIT, UNIT, (world.choose(255) + 1) as u8).await;
            }
        }
        entry.flush().await.unwrap();
        graph.detach(&entry).await.unwrap();
        graph.set_writable(&node, false).await.unwrap();
    }
    graph.close_all().await.unwrap();
}

/// Source and target.
async fn open_both(graph: &Graph, case: Case) -> (Arc<Node>, Arc<Node>) {
    let mut format = case.format;
    if case.sync == MirrorSyncMode::Top {
        let base = open(graph, "/base", "qcow2").await;
        graph.set_writable(&base, false).await.unwrap();
        format = "qcow2";
    }
    (open(graph, "/source", format).await, open(graph, "/target", format).await)
}

/// The first run, up to some time: the job, and a guest that flushes seldom.
async fn first_run(world: World, case: Case, time: Duration, guest: bool) {
    let graph = new_graph();
    let (source, target) = open_both(&graph, case).await;
    let jobs = jobs_with_states(Path::new("/")).await;
    let entry = writer(&graph, &source).await;
    begin(&graph, &jobs, (&source, &target), case).await.unwrap();
    let end = world.now_ns() + time.as_nanos() as u64;
    while world.now_ns() < end {
        rt::sleep(Duration::from_micros(1 + world.choose(60_000))).await;
        if guest {
            let at = world.choose(UNITS * UNIT / SECTOR) * SECTOR;
            match world.choose(12) {
                0 => entry.flush().await.unwrap(),
                1 => entry.write_zeroes(at, SECTOR, Request::GUEST).await.unwrap(),
                _ => write(&entry, at, SECTOR, world.choose(256) as u8).await,
            }
        }
    }
}

/// The second run, to the end of the job: how many bytes the source and the target differ in, and how many writes it took.
async fn second_run(world: World, case: Case) -> (usize, u64) {
    let graph = new_graph();
    let (source, target) = open_both(&graph, case).await;
    let jobs = jobs_with_states(Path::new("/")).await;
    let before = world.count(Some(OpKind::Write));
    begin(&graph, &jobs, (&source, &target), Case { speed: 0, ..case }).await.unwrap();
    if let Some(job) = jobs.find("j") {
        let ended = || matches!(job.status(), JobStatus::Aborting | JobStatus::Concluded | JobStatus::Null);
        while case.mirror && !ended() && job.complete().is_err() {
            rt::sleep(Duration::from_micros(20)).await;
        }
        job.concluded().await;
    }
    let writes = world.count(Some(OpKind::Write)) - before;
    let (one, other) = (content(&source).await, content(&target).await);
    let differing = one.iter().zip(&other).filter(|(a, b)| a != b).count();
    graph.close_all().await.unwrap();
    (differing, writes)
}

fn any_case(rng: &mut Rng) -> Case {
    Case {
        mirror: rng.chance(1, 2),
        sync: if rng.chance(1, 3) { MirrorSyncMode::Top } else { MirrorSyncMode::Full },
        format: if rng.chance(1, 2) { "raw" } else { "qcow2" },
        copy_mode: if rng.chance(1, 3) { MirrorCopyMode::WriteBlocking } else { MirrorCopyMode::Background },
        speed: 256 << 10,
    }
}

fn crash_and_go_on(seed: u64) -> Result<u64, String> {
    let mut rng = Rng::new(seed);
    let case = any_case(&mut rng);
    let config = Config { workers: 1 + rng.index(3), ..Config::seeded(rng.next_u64()) };
    let mut sim = Sim::boot(config, Disk::default());
    sim.run(make(sim.world().clone(), case));
    let crashes = 1 + rng.below(3);
    for _ in 0..crashes {
        let time = Duration::from_millis(rng.below(7000));
        let world = sim.world().clone();
        let first = sim.try_run(first_run(world, case, time, true));
        first.map_err(|stuck| format!("seed {seed}, {case:?}: {stuck:?}"))?;
        sim = if rng.chance(1, 2) { sim.power_cut() } else { sim.kill() };
    }
    let (differing, _) = sim.run(second_run(sim.world().clone(), case));
    if differing > 0 {
        return Err(format!("seed {seed}, {case:?}: the copy differs in {differing} bytes"));
    }
    match sim.world().disk().paths().find(|path| path.to_string_lossy().contains("j.job")) {
        Some(path) => Err(format!("seed {seed}, {case:?}: {} is left", path.display())),
        None => Ok(crashes),
    }
}

#[test]
fn a_job_that_is_begun_again_after_crashes_ends_with_a_copy_that_is_the_source() {
    let done = on_all_cores("JOB_STATE", seeds("JOB_STATE", 120), u64::MAX, crash_and_go_on);
    assert!(done.failures.is_empty(), "{:#?}", done.failures);
}

const PLAIN: Case = Case {
    mirror: true,
    sync: MirrorSyncMode::Full,
    format: "raw",
    copy_mode: MirrorCopyMode::Background,
    speed: 256 << 10,
};

/// A disk that a job has copied a part of.
fn cut_off(case: Case) -> Sim {
    let sim = Sim::new(1);
    sim.run(make(sim.world().clone(), case));
    sim.run(first_run(sim.world().clone(), case, Duration::from_millis(3500), false));
    let sim = sim.kill();
    assert!(sim.world().disk().content(STATE).is_some());
    sim
}

#[test]
fn only_what_was_not_copied_is_written_by_the_second_run() {
    for mirror in [true, false] {
        let case = Case { mirror, ..PLAIN };
        let disk = cut_off(case).world().disk();
        let run = |disk: Disk| {
            let sim = Sim::boot(Config::seeded(2), disk);
            let (differing, writes) = sim.run(second_run(sim.world().clone(), case));
            assert_eq!(differing, 0);
            writes
        };
        let goes_on = run(disk.clone());
        let mut without = Disk::default();
        for path in disk.paths().filter(|path| *path != Path::new(STATE)) {
            without.put(path, &disk.content(path).unwrap().to_vec());
        }
        let anew = run(without);
        assert!(anew >= UNITS && goes_on * 2 < anew, "{goes_on} writes, {anew} without the state");
    }
}

#[test]
fn a_state_that_is_damaged_or_of_another_copy_is_refused_and_says_why() {
    let refused = |change: &dyn Fn(&mut Disk), case: Case| {
        let mut disk = cut_off(PLAIN).world().disk();
        change(&mut disk);
        let sim = Sim::boot(Config::seeded(3), disk);
        sim.run(async move {
            let graph = new_graph();
            let (source, target) = open_both(&graph, case).await;
            let jobs = jobs_with_states(Path::new("/")).await;
            let refused = begin(&graph, &jobs, (&source, &target), case).await.unwrap_err();
            assert!(jobs.all().is_empty() && source.blocked_by().is_empty());
            graph.close_all().await.unwrap();
            refused
        })
    };
    let damage = |disk: &mut Disk| {
        let mut bytes = disk.content(STATE).unwrap().to_vec();
        bytes[100] ^= 1;
        disk.put(STATE, &bytes);
    };
    let text = refused(&damage, PLAIN);
    assert!(text.contains("checksum") && text.contains(STATE), "{text}");
    let text =
        refused(&|disk| disk.put(STATE, b"something else entirely, of some length, that is no state"), PLAIN);
    assert!(text.contains("no state"), "{text}");
    let text = refused(&|_| {}, Case { mirror: false, ..PLAIN });
    assert!(text.contains("\"mirror\"") && text.contains("\"backup\""), "{text}");
    let shorter = |disk: &mut Disk| {
        let bytes = disk.content("/source").unwrap().to_vec();
        disk.put("/source", &bytes[UNIT as usize..]);
        disk.put("/target", &bytes[UNIT as usize..]);
    };
    let text = refused(&shorter, PLAIN);
    assert!(text.contains("length"), "{text}");
}
