//! Mirrors of images in memory, while guests keep writing.
use crate::support::*;
use api::{
    BlockJobChangeOptionsBranch, BlockJobChangeOptionsMirror, BlockdevOnError, JobStatus, MirrorCopyMode,
    MirrorSyncMode,
};
use block::{Backend, Graph, Node, Request};
use jobs::*;
use rt::Buf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::time::Duration;

const SIZE: u64 = 24 * CLUSTER;
const BLOCK: u64 = 512;

struct World {
    graph: Graph,
    jobs: Jobs,
    events: Arc<Memory>,
    source: Arc<Node>,
    target: Arc<Node>,
}

impl World {
    /// A source and a target, each filled by random clusters of its own.
    async fn new() -> Self {
        let events = Arc::new(Memory::default());
        FAULTS.lock().clear();
        let graph = graph();
        let source = layer(&graph, "source", SIZE, None, false).await;
        fill(&graph, &source, 1).await;
        let target = layer(&graph, "target", SIZE, None, false).await;
        fill(&graph, &target, 2).await;
        Self { graph, jobs: Jobs::new(events.clone()), events, source, target }
    }

    fn request(&self) -> MirrorRequest {
        MirrorRequest {
            id: "j".to_owned(),
            source: self.source.clone(),
            replaces: None,
            sync: MirrorSyncMode::Full,
            speed: 0,
            granularity: 0,
            buf_size: 0,
            on_source_error: BlockdevOnError::Report,
            on_target_error: BlockdevOnError::Report,
            unmap: true,
            copy_mode: MirrorCopyMode::Background,
            auto_finalize: true,
            auto_dismiss: true,
            target_is_zero: false,
            filter_node_name: None,
            backing: Backing::Kept,
        }
    }

    async fn mirror(&self, request: MirrorRequest) -> Result<(), MirrorError> {
        mirror(&self.graph, &self.jobs, request, &self.target).await
    }

    async fn ended(&self) {
        if let Some(job) = self.jobs.find("j") {
            job.concluded().await;
        }
    }

    fn events(&self) -> Vec<String> {
        self.events.0.lock().clone()
    }

    fn has_told(&self, what: &str) -> bool {
        self.events().iter().any(|e| e.starts_with(what))
    }

    async fn until_told(&self, what: &str) {
        while !self.has_told(what) {
            rt::sleep(Duration::from_millis(1)).await;
        }
    }

    fn nothing_is_held(&self) {
        assert!(self.source.blocked_by().is_empty() && self.target.blocked_by().is_empty());
        let jobs = self.graph.entries().into_iter().filter(|entry| entry.label().starts_with("job"));
        assert_eq!(jobs.count(), 0);
    }
}

async fn fill(graph: &Graph, node: &Arc<Node>, byte: u8) {
    let entry = writer(graph, node).await;
    for at in (0..node.length()).step_by(CLUSTER as usize) {
        if random(3) == 0 {
            write(&entry, at, &[byte; CLUSTER as usize]).await;
        }
    }
    graph.detach(&entry).await.unwrap();
}

/// What a guest knows of its blocks: what it wrote last, or nothing where that failed.
type Known = Vec<(u64, Option<u8>)>;

/// A guest that writes until `stop`; it has blocks of its own.
async fn guest(entry: Arc<Backend>, number: u64, guests: u64, stop: Arc<AtomicBool>) -> Known {
    let mut last = Known::new();
    while !stop.load(Relaxed) {
        let block = random(SIZE / BLOCK / guests) * guests + number;
        let (at, byte) = (block * BLOCK, random(255) as u8);
        let data = Buf::from_slice(&[byte; BLOCK as usize]);
        let (written, byte) = match random(4) {
            0 => (entry.write_zeroes(at, BLOCK, Request::GUEST).await, 0),
            1 => (entry.write(at, data, Request::GUEST).await, byte),
            _ => (inline_first(&entry, at, data).await, byte),
        };
        last.retain(|(b, _)| *b != block);
        last.push((block, written.ok().map(|()| byte)));
        give_way().await;
    }
    last
}

async fn inline_first(entry: &Backend, at: u64, data: Buf) -> block::Result<()> {
    match entry.try_write(at, &data, Request::GUEST)? {
        n if n == data.len() => Ok(()),
        n => entry.write(at + n as u64, data.slice(n..data.len()), Request::GUEST).await,
    }
}

fn check(content: &[u8], known: &Known) {
    for (block, byte) in known {
        let at = (block * BLOCK) as usize;
        let there = &content[at..at + BLOCK as usize];
        assert!(
            byte.is_none_or(|byte| there.iter().all(|b| *b == byte)),
            "block {block} lost its last write"
        );
    }
}

fn change(mode: MirrorCopyMode) -> BlockJobChangeOptionsBranch {
    BlockJobChangeOptionsBranch::Mirror(BlockJobChangeOptionsMirror { copy_mode: mode })
}

/// Makes requests fail at a moment of its own.
async fn trouble(round: u64) {
    for _ in 0..random(120) {
        rt::yield_now().await;
    }
    let name = ["target.img", "source.img", "read source.img"][(round % 3) as usize];
    FAULTS.lock().push((name.to_owned(), 1 + random(3), 5));
}

async fn mirror_under_writers(round: u64) {
    seed(round);
    let world = World::new().await;
    let entry = writer(&world.graph, &world.source).await;
    let stop = Arc::new(AtomicBool::new(false));
    let guests: Vec<_> = (0..3).map(|n| rt::spawn(guest(entry.clone(), n, 3, stop.clone()))).collect();
    let policies = [BlockdevOnError::Report, BlockdevOnError::Ignore, BlockdevOnError::Stop];
    let (policy, modes) =
        (policies[random(3) as usize], [MirrorCopyMode::Background, MirrorCopyMode::WriteBlocking]);
    let request = MirrorRequest {
        copy_mode: modes[random(2) as usize],
        granularity: [512, 4096, 65536][random(3) as usize],
        on_source_error: policy,
        on_target_error: policy,
        ..world.request()
    };
    world.mirror(request).await.unwrap();
    let job = world.jobs.find("j").unwrap();
    let faults = (random(3) == 0).then(|| rt::spawn(trouble(round)));
    let (switch_at, quit_at, stop_at) = (random(60), random(400), random(3));
    for step in 0.. {
        if step == switch_at {
            job.change(&change(MirrorCopyMode::WriteBlocking)).ok();
        }
        if job.status() == JobStatus::Paused || job.status() == JobStatus::Standby {
            job.resume().ok();
        }
        if job.is_ready() && step >= quit_at || matches!(job.status(), JobStatus::Null) {
            break;
        }
        if step == quit_at && random(8) == 0 {
            job.cancel(true).ok();
        }
        rt::sleep(Duration::from_micros(50)).await;
    }
    if stop_at == 0 {
        stop.store(true, Relaxed);
    }
    let soft = random(4) == 0;
    while !matches!(job.status(), JobStatus::Null) {
        // A job that an error has just stopped refuses to be cancelled.
        job.resume().ok();
        if soft {
            job.cancel(false).ok()
        } else {
            job.complete().ok()
        };
        rt::yield_now().await;
    }
    let failed = job.info().error.is_some();
    for _ in 0..random(200) {
        rt::yield_now().await;
    }
    stop.store(true, Relaxed);
    let mut known = Known::new();
    for guest in guests {
        known.extend(guest.await.unwrap());
    }
    if let Some(faults) = faults {
        faults.await.unwrap();
    }
    FAULTS.lock().clear();
    let moved = Arc::ptr_eq(&entry.node(), &world.target);
    assert_eq!(moved, !failed && !soft, "{:?}", world.events());
    check(&content(&entry.node()).await, &known);
    if !failed && stop_at == 0 {
        assert!(content(&world.source).await == content(&world.target).await, "both ends are equal");
    }
    world.nothing_is_held();
    assert_eq!(world.events().last().map(String::as_str), Some("null"));
}

#[test]
fn no_acknowledged_write_is_lost_by_a_mirror_under_any_interleaving_and_any_error() {
    let _turn = TURN.lock();
    rt::block_on_control(async {
        for round in 0..300 {
            // A failure names its round; it is the seed.
            let run = rt::spawn(mirror_under_writers(round)).await;
            assert!(run.is_ok(), "seed {round}: {run:?}");
        }
    });
}

#[test]
fn a_mirror_reports_its_statuses_in_order_and_moves_all_users_when_completed() {
    on_control(async {
        let world = World::new().await;
        let before = content(&world.source).await;
        let user = reader(&world.graph, &world.source).await.unwrap();
        world.mirror(world.request()).await.unwrap();
        assert_eq!(world.target.blocked_by()[0], "block device is in use by block job: mirror");
        world.until_told("READY").await;
        let job = world.jobs.find("j").unwrap();
        let figures = job.block_info();
        assert_eq!(
            (figures.offset, figures.ready, figures.actively_synced),
            (figures.len, true, Some(false))
        );
        job.complete().unwrap();
        world.ended().await;
        assert!(Arc::ptr_eq(&user.node(), &world.target));
        assert_eq!(content(&world.target).await, before);
        let events = world.events();
        let words: Vec<_> = events.iter().map(|e| e.split(' ').next().unwrap()).collect();
        let expected =
            ["created", "running", "ready", "READY", "waiting", "pending", "COMPLETED", "concluded", "null"];
        assert_eq!(words, expected);
        world.nothing_is_held();
    });
}

#[test]
fn in_write_blocking_mode_both_ends_are_equal_whenever_no_write_is_under_way() {
    on_control(async {
        let world = World::new().await;
        let entry = writer(&world.graph, &world.source).await;
        world.mirror(world.request()).await.unwrap();
        world.until_told("READY").await;
        let job = world.jobs.find("j").unwrap();
        job.change(&change(MirrorCopyMode::WriteBlocking)).unwrap();
        let back = job.change(&change(MirrorCopyMode::Background)).unwrap_err().to_string();
        assert_eq!(back, "Change to copy mode 'background' is not implemented");
        while job.block_info().actively_synced != Some(true) {
            rt::sleep(Duration::from_millis(1)).await;
        }
        for round in 0..50 {
            write(&entry, random(SIZE / BLOCK) * BLOCK, &[round; BLOCK as usize]).await;
            assert!(content(&world.source).await == content(&world.target).await);
        }
        job.cancel(true).unwrap();
        world.ended().await;
        let before = content(&world.target).await;
        write(&entry, 0, &[99; BLOCK as usize]).await;
        assert!(content(&world.target).await == before, "nothing follows after the end");
    });
}

#[test]
fn after_a_write_that_failed_on_the_target_both_ends_are_in_sync_only_when_it_was_copied() {
    on_control(async {
        let world = World::new().await;
        let entry = writer(&world.graph, &world.source).await;
        let request = MirrorRequest {
            copy_mode: MirrorCopyMode::WriteBlocking,
            on_target_error: BlockdevOnError::Stop,
            ..world.request()
        };
        world.mirror(request).await.unwrap();
        world.until_told("READY").await;
        let job = world.jobs.find("j").unwrap();
        let until_synced = async || {
            while job.block_info().actively_synced != Some(true) {
                rt::sleep(Duration::from_millis(1)).await;
            }
        };
        until_synced().await;
        FAULTS.lock().push(("target.img".to_owned(), 1, 5));
        write(&entry, 0, &[9; BLOCK as usize]).await;
        assert_eq!(job.block_info().actively_synced, Some(false));
        world.until_told("standby").await;
        assert_eq!(job.block_info().actively_synced, Some(false), "nothing is copied before the job goes on");
        assert!(content(&world.source).await != content(&world.target).await);
        job.resume().unwrap();
        until_synced().await;
        assert!(content(&world.source).await == content(&world.target).await);
        job.cancel(true).unwrap();
        world.ended().await;
        world.nothing_is_held();
    });
}

#[test]
fn a_change_of_the_graph_does_not_wait_for_a_piece_that_a_write_waits_for() {
    on_control(async {
        let world = World::new().await;
        let entry = writer(&world.graph, &world.source).await;
        write(&entry, 0, &[7; 2 * CLUSTER as usize]).await;
        let (let_go, held) = futures_channel::oneshot::channel();
        *HELD.lock() = Some(("source.img".to_owned(), held));
        let request = MirrorRequest { copy_mode: MirrorCopyMode::WriteBlocking, ..world.request() };
        world.mirror(request).await.unwrap();
        while HELD.lock().is_some() {
            rt::yield_now().await;
        }
        // A piece is being copied, and a write waits for it.
        let writing = rt::spawn({
            let entry = entry.clone();
            async move { write(&entry, 0, &[8; BLOCK as usize]).await }
        });
        while entry.in_flight() == 0 {
            rt::yield_now().await;
        }
        let graph = world.graph.clone();
        let nodes = [world.source.clone(), world.target.clone()];
        let changed = rt::spawn(async move {
            let mut change = graph.change().await;
            let quiet = change.quiesce(&nodes).await;
            change.end(quiet).await
        });
        for _ in 0..100 {
            rt::yield_now().await;
        }
        let_go.send(()).unwrap();
        changed.await.unwrap().unwrap();
        writing.await.unwrap();
        world.until_told("READY").await;
        world.jobs.find("j").unwrap().complete().unwrap();
        world.ended().await;
        assert_eq!(content(&world.target).await[..BLOCK as usize], [8; BLOCK as usize]);
        world.nothing_is_held();
    });
}

#[test]
fn errors_of_each_side_follow_the_policy_of_that_side() {
    on_control(async {
        for (failing, told) in
            [("target.img", "ERROR write ignore"), ("read source.img", "ERROR read report")]
        {
            let world = World::new().await;
            let request = MirrorRequest { on_target_error: BlockdevOnError::Ignore, ..world.request() };
            FAULTS.lock().push((failing.to_owned(), 1, 5));
            world.mirror(request).await.unwrap();
            let job = world.jobs.find("j").unwrap();
            while !job.is_ready() && job.status() != JobStatus::Null {
                rt::sleep(Duration::from_millis(1)).await;
            }
            job.complete().ok();
            world.ended().await;
            assert!(world.has_told(told), "{:?}", world.events());
            assert_eq!(job.info().error.is_some(), failing.starts_with("read"));
            world.nothing_is_held();
            FAULTS.lock().clear();
        }
    });
}

#[test]
fn what_can_not_be_mirrored_is_refused_and_nothing_is_held() {
    on_control(async {
        let world = World::new().await;
        let refused = async |request, target: &Arc<Node>| {
            let refused = mirror(&world.graph, &world.jobs, request, target).await.unwrap_err().to_string();
            world.nothing_is_held();
            refused
        };
        let (target, source) = (&world.target, &world.source);
        assert_eq!(refused(world.request(), source).await, "Can't mirror node into itself");
        let overlay = layer(&world.graph, "overlay", SIZE, Some("target"), false).await;
        let of_overlay = || MirrorRequest { source: overlay.clone(), ..world.request() };
        let part =
            "'target' is a part of 'overlay'; 'block-commit' writes what an image holds into one below it";
        assert_eq!(refused(of_overlay(), target).await, part);
        let of_target = MirrorRequest { source: target.clone(), ..world.request() };
        assert_eq!(refused(of_target, source).await, "Need a root block node");
        let replacing = |name: &str| MirrorRequest { replaces: Some(name.to_owned()), ..world.request() };
        assert_eq!(refused(replacing("x"), target).await, "Failed to find node with node-name='x'");
        assert!(refused(replacing("overlay"), target).await.starts_with("Cannot replace 'overlay' by"));
        let named = MirrorRequest { filter_node_name: Some("overlay".to_owned()), ..world.request() };
        assert_eq!(refused(named, target).await, "Duplicate nodes with node-name='overlay'");
        let entry = writer(&world.graph, target).await;
        assert!(refused(world.request(), target).await.starts_with("Permission conflict on node 'target'"));
        world.graph.detach(&entry).await.unwrap();

        let larger = layer(&world.graph, "larger", 2 * SIZE, None, false).await;
        mirror(&world.graph, &world.jobs, world.request(), &larger).await.unwrap();
        world.ended().await;
        assert!(world.has_told("COMPLETED Source and target image have different sizes"));
        world.nothing_is_held();
    });
}

#[test]
fn the_node_above_the_source_has_the_name_that_was_asked_for_and_is_gone_with_the_job() {
    on_control(async {
        for complete in [true, false] {
            let world = World::new().await;
            let user = writer(&world.graph, &world.source).await;
            let request = MirrorRequest { filter_node_name: Some("above".to_owned()), ..world.request() };
            world.mirror(request).await.unwrap();
            assert_eq!((user.node().name(), user.node().driver_name()), ("above", "mirror_top"));
            world.until_told("READY").await;
            let job = world.jobs.find("j").unwrap();
            if complete {
                job.complete().unwrap()
            } else {
                job.cancel(true).unwrap()
            }
            world.ended().await;
            assert!(Arc::ptr_eq(&user.node(), if complete { &world.target } else { &world.source }));
            assert!(world.graph.node("above").is_none());
        }
    });
}

#[test]
fn a_target_gets_its_backing_node_while_the_job_waits_to_be_finalized() {
    on_control(async {
        for mode in [MirrorCopyMode::Background, MirrorCopyMode::WriteBlocking] {
            let world = World::new().await;
            let base = layer(&world.graph, "base", SIZE, None, false).await;
            fill(&world.graph, &base, 5).await;
            let top = layer(&world.graph, "top", SIZE, Some("base"), false).await;
            fill(&world.graph, &top, 6).await;
            let guest = writer(&world.graph, &top).await;
            let bare = world.graph.add(bare_layer_options("bare", SIZE)).await.unwrap();
            let request = MirrorRequest {
                source: top.clone(),
                sync: MirrorSyncMode::Top,
                copy_mode: mode,
                auto_finalize: false,
                ..world.request()
            };
            mirror(&world.graph, &world.jobs, request, &bare).await.unwrap();
            world.until_told("READY").await;
            let job = world.jobs.find("j").unwrap();
            write(&guest, BLOCK, &[7; BLOCK as usize]).await;
            job.complete().unwrap();
            world.until_told("PENDING").await;
            write(&guest, 3 * CLUSTER + BLOCK, &[8; BLOCK as usize]).await;
            let lower = layer(&world.graph, "lower", SIZE, None, false).await;
            let copied = writer(&world.graph, &lower).await;
            write(&copied, 0, &content(&base).await).await;
            world.graph.detach(&copied).await.unwrap();
            world.graph.insert_overlay(&lower, &bare).await.unwrap();
            write(&guest, 5 * CLUSTER + BLOCK, &[9; BLOCK as usize]).await;
            let expected = content(&top).await;
            world.jobs.finalize("j").await.unwrap();
            assert!(Arc::ptr_eq(&guest.node(), &bare) && Arc::ptr_eq(&bare.backing().unwrap(), &lower));
            assert!(content(&bare).await == expected);
        }
    });
}
