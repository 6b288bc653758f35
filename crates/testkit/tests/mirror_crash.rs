//! Mirrors through crashes: at whatever moment the machine dies, the disk that a client would open then shows what was
//! flushed: the source up to the event COMPLETED, the target from there on. The target is durable, and then its users move, and
//! only then comes the event.

use std::sync::Arc;
use std::time::Duration;

use api::{BlockJobCompleted, BlockdevOnError, Event, JobStatus, MirrorCopyMode, MirrorSyncMode};
use block::{BlockError, Common, Grant, Options, Policy, Result};
use jobs::{Backing, EventSink, Jobs, MirrorRequest};
use rt::BoxFuture;
use sim::{Config, Disk, Rng, World};
use testkit::crash::{CrashTest, flatten, inspect_qcow2, run_kinds};
use testkit::guest::{Faults, Mix, Plan};
use testkit::stack::{Session, Stack, TestImage};

/// The cluster size of targets of the format's old version, which has no clusters of zeroes.
const OLD: &str = "8192";

/// Stands on the simulated disk from the moment of the event COMPLETED on.
const COMPLETED: &str = "/completed";

/// Hears of the job, and leaves the mark.
struct Ear(World);

impl EventSink for Ear {
    fn tell(&self, event: Event) {
        if matches!(event, Event::BlockJobCompleted(BlockJobCompleted { error: None, .. })) {
            self.0.put(COMPLETED, b"reported");
        }
    }
}

fn two_layers(rng: &mut Rng) -> Stack {
    let size = 32 << 10 << rng.below(2);
    let mut layer = |file| {
        let cluster = rng.pick(&["512", "1024", "4096"]).unwrap_or("512");
        TestImage::new("qcow2", file, size).with("cluster_size", cluster)
    };
    let base = layer("/base");
    let top = layer("/top").with("backing_file", "/base").with("backing_fmt", "qcow2");
    Stack::of("mirror", &[protocols::DRIVERS, formats::DRIVERS], vec![base, top])
}

/// Makes the target as drive-mirror does, and mirrors to it until users have moved there.
async fn run_job(
    session: &Session,
    world: World,
    sync: MirrorSyncMode,
    copy_mode: MirrorCopyMode,
    cluster: &str,
) -> Result<()> {
    let (graph, source) = (&session.graph, &session.node);
    let below = match sync {
        MirrorSyncMode::Top => Some("/base"),
        MirrorSyncMode::None => Some("/top"),
        _ => None,
    };
    let compat = if cluster == OLD { "0.10" } else { "1.1" };
    let mut options = Options::new().with_str("cluster_size", cluster).with_str("compat", compat);
    if let Some(below) = below {
        options = options.with_str("backing_file", below).with_str("backing_fmt", "qcow2");
    }
    graph.create("qcow2", "/target", source.length(), options).await?;
    let policy = Policy { backing: Grant::Skip, ..Policy::FOLLOW };
    let target = graph.open_image("/target", Some("qcow2"), Common::default(), policy).await?;
    let request = MirrorRequest {
        id: "mirror".to_owned(),
        source: source.clone(),
        replaces: None,
        sync,
        speed: 0,
        granularity: 512,
        buf_size: 0,
        on_source_error: BlockdevOnError::Report,
        on_target_error: BlockdevOnError::Report,
        unmap: true,
        copy_mode,
        auto_finalize: true,
        auto_dismiss: true,
        target_is_zero: false,
        filter_node_name: None,
        backing: Backing::LeftOut,
    };
    let jobs = Jobs::new(Arc::new(Ear(world.clone())));
    let started = jobs::mirror(graph, &jobs, request, &target).await;
    started.map_err(|e| BlockError::invalid(e.to_string()))?;
    if let Some(job) = jobs.find("mirror") {
        let ended = || matches!(job.status(), JobStatus::Aborting | JobStatus::Concluded | JobStatus::Null);
        while job.complete().is_err() && !ended() {
            rt::sleep(Duration::from_micros(20)).await;
        }
        job.concluded().await;
    }
    match world.disk().content(COMPLETED) {
        Some(_) => Ok(()),
        None => Err(BlockError::invalid("the job did not complete")),
    }
}

type Job = fn(Session, World) -> BoxFuture<'static, Result<()>>;

fn in_background(session: Session, world: World) -> BoxFuture<'static, Result<()>> {
    Box::pin(async move {
        run_job(&session, world, MirrorSyncMode::Full, MirrorCopyMode::Background, "4096").await
    })
}

fn write_blocking(session: Session, world: World) -> BoxFuture<'static, Result<()>> {
    Box::pin(async move {
        run_job(&session, world, MirrorSyncMode::Full, MirrorCopyMode::WriteBlocking, "1024").await
    })
}

fn of_the_top(session: Session, world: World) -> BoxFuture<'static, Result<()>> {
    Box::pin(async move {
        run_job(&session, world, MirrorSyncMode::Top, MirrorCopyMode::Background, "4096").await
    })
}

fn of_the_top_to_an_old_image(session: Session, world: World) -> BoxFuture<'static, Result<()>> {
    Box::pin(
        async move { run_job(&session, world, MirrorSyncMode::Top, MirrorCopyMode::Background, OLD).await },
    )
}

fn of_the_top_write_blocking(session: Session, world: World) -> BoxFuture<'static, Result<()>> {
    Box::pin(async move {
        run_job(&session, world, MirrorSyncMode::Top, MirrorCopyMode::WriteBlocking, "2048").await
    })
}

fn of_new_writes(session: Session, world: World) -> BoxFuture<'static, Result<()>> {
    Box::pin(async move {
        run_job(&session, world, MirrorSyncMode::None, MirrorCopyMode::Background, "1024").await
    })
}

fn of_new_writes_write_blocking(session: Session, world: World) -> BoxFuture<'static, Result<()>> {
    Box::pin(async move {
        run_job(&session, world, MirrorSyncMode::None, MirrorCopyMode::WriteBlocking, "4096").await
    })
}

/// Before COMPLETED a client opens the source; afterwards the target.
fn inspect_current(stack: &Stack, disk: &Disk, settled: bool) -> std::result::Result<Vec<u8>, String> {
    match disk.content(COMPLETED) {
        Some(_) => flatten(disk, "/target", false),
        None => inspect_qcow2(stack, disk, settled),
    }
}

/// Between the switch and its event the guest works on the target already.
fn inspect_target(_: &Stack, disk: &Disk, _: bool) -> std::result::Result<Vec<u8>, String> {
    flatten(disk, "/target", false)
}

fn test_of(seed: u64, job: Job) -> CrashTest {
    let mut rng = Rng::new(seed);
    let mix = Mix { read: 3, write: 8, zero: 3, discard: 2, flush: 4, resize: 0, fua: 10, compressed: 0 };
    let depth = 1 + rng.below(4);
    let stack = two_layers(&mut rng);
    let plan =
        Plan { requests: 60 / depth, depth, mix, longest: 12, span: 0, largest: 0, faults: Faults::None };
    CrashTest {
        config: Config { workers: 1 + rng.index(3), ..Config::seeded(0) },
        inspect: Some(inspect_current),
        or_inspect: Some(inspect_target),
        beside: Some(job),
        moments: 30,
        reopen_every: 0,
        ..CrashTest::new(stack, plan)
    }
}

#[test]
fn after_completed_the_target_holds_everything_that_was_flushed() {
    let kinds: [(&str, Job); 7] = [
        ("all, in the background", in_background),
        ("all, write-blocking", write_blocking),
        ("the topmost layer, in the background", of_the_top),
        ("the topmost layer, to an image of the old version", of_the_top_to_an_old_image),
        ("the topmost layer, write-blocking", of_the_top_write_blocking),
        ("new writes, in the background", of_new_writes),
        ("new writes, write-blocking", of_new_writes_write_blocking),
    ];
    for (name, job) in kinds {
        run_kinds("MIRROR_CRASH", 60, &[(name, &|seed| test_of(seed, job))]);
    }
}
