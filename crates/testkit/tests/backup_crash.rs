//! A backup through crashes: the disk that is backed up loses nothing that was flushed, and from the event COMPLETED on the
//! target is, durably, the disk of the moment when the backup began.
#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::sync::Arc;

use api::{BlockJobCompleted, BlockdevBackup, Event, MirrorSyncMode};
use block::{BlockError, Options, Policy, Result};
use jobs::{EventSink, Jobs, prepare_backup};
use rt::{BoxFuture, BufMut};
use sim::{Config, Disk, Rng, World};
use testkit::crash::{CrashTest, flatten, inspect_qcow2, run_seeds};
use testkit::guest::{Faults, Mix, Plan};
use testkit::stack::{Session, Stack, TestImage};

/// Stands on the simulated disk from the moment of the event COMPLETED on.
const COMPLETED: &str = "/completed";
/// What the disk was when the backup began.
const MOMENT: &str = "/moment";
/// The target.
const TARGET: &str = "/backup";

/// Hears of the job, and leaves the mark.
struct Ear(World);

impl EventSink for Ear {
    fn tell(&self, event: Event) {
        if matches!(event, Event::BlockJobCompleted(BlockJobCompleted { error: None, .. })) {
            self.0.put(COMPLETED, b"reported");
        }
    }
}

fn request(source: &str, target: &str, sync: MirrorSyncMode) -> BlockdevBackup {
    BlockdevBackup {
        job_id: Some("backup".to_owned()),
        device: source.to_owned(),
        target: target.to_owned(),
        sync,
        speed: None,
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
        x_perf: None,
    }
}

async fn back_up(session: Session, world: World, sync: MirrorSyncMode) -> Result<()> {
    let (graph, source) = (&session.graph, &session.node);
    let options = match sync {
        MirrorSyncMode::Top => {
            Options::new().with_str("backing_file", "/base").with_str("backing_fmt", "qcow2")
        }
        _ => Options::new(),
    };
    graph.create("qcow2", TARGET, source.length(), options).await?;
    let target = graph.open_image(TARGET, Some("qcow2"), source.common(), Policy::FOLLOW).await?;
    let jobs = Jobs::new(Arc::new(Ear(world.clone())));
    let mut change = graph.change().await;
    change.quiesce(std::slice::from_ref(source)).await?;
    let (moment, result) = source.read(0, BufMut::with_len(source.length() as usize)).await;
    result?;
    world.put(MOMENT, &moment);
    let request = request(source.name(), target.name(), sync);
    let nodes = (source, &target);
    let prepared = prepare_backup(graph, &jobs, &mut change, request, nodes, None).await;
    let prepared = prepared.map_err(|e| e.into_block())?;
    change.end(Ok(())).await?;
    prepared.start();
    if let Some(job) = jobs.find("backup") {
        job.concluded().await;
    }
    match world.disk().content(COMPLETED) {
        Some(_) => Ok(()),
        None => Err(BlockError::invalid("the job did not complete")),
    }
}

fn back_up_all(session: Session, world: World) -> BoxFuture<'static, Result<()>> {
    Box::pin(back_up(session, world, MirrorSyncMode::Full))
}

fn back_up_top(session: Session, world: World) -> BoxFuture<'static, Result<()>> {
    Box::pin(back_up(session, world, MirrorSyncMode::Top))
}

/// The disk as ever, and the backup, if it was reported.
fn inspect(stack: &Stack, disk: &Disk, settled: bool) -> std::result::Result<Vec<u8>, String> {
    if disk.content(COMPLETED).is_some() {
        let (copied, moment) =
            (flatten(disk, TARGET, false)?, disk.content(MOMENT).map(|c| c.to_vec()).unwrap_or_default());
        if copied != moment {
            let at = copied.iter().zip(&moment).position(|(a, b)| a != b);
            return Err(format!("the backup is not the disk of the moment, from byte {at:?} on"));
        }
    }
    inspect_qcow2(stack, disk, settled)
}

fn any_test(seed: u64) -> CrashTest {
    let mut rng = Rng::new(seed);
    let mix = Mix { read: 3, write: 8, zero: 3, discard: 2, flush: 4, resize: 0, fua: 10, compressed: 0 };
    let depth = 1 + rng.below(4);
    let size = 64 << 10 << rng.below(3);
    let mut layer = |file| {
        let cluster = rng.pick(&["512", "4096", "65536"]).unwrap_or("512");
        TestImage::new("qcow2", file, size).with("cluster_size", cluster)
    };
    let base = layer("/base");
    let top = layer("/top").with("backing_file", "/base").with("backing_fmt", "qcow2");
    let drivers = &[protocols::DRIVERS, formats::DRIVERS, filters::DRIVERS];
    let plan =
        Plan { requests: 60 / depth, depth, mix, longest: 12, span: 0, largest: 0, faults: Faults::None };
    CrashTest {
        config: Config { workers: 1 + rng.index(3), ..Config::seeded(0) },
        inspect: Some(inspect),
        beside: Some(if seed.is_multiple_of(2) { back_up_all } else { back_up_top }),
        moments: 30,
        reopen_every: 0,
        ..CrashTest::new(Stack::of("backup", drivers, vec![base, top]), plan)
    }
}

#[test]
fn a_backup_is_durable_when_it_is_reported_and_the_disk_loses_nothing() {
    run_seeds("BACKUP_CRASH", 120, any_test);
}
