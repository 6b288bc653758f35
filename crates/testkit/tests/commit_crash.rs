//! block-commit through crashes: at whatever moment the machine dies, the disk that a client would open then shows what was
//! flushed. Giving a layer up is: its data, durable in the layer below · the header that names the new backing file ·
//! durable · only then the event.

use std::sync::Arc;

use api::{BlockCommitArguments, BlockJobCompleted, Event, JobStatus};
use block::{BlockError, Result};
use jobs::{EventSink, Jobs};
use rt::BoxFuture;
use sim::{Config, Disk, Rng, World};
use testkit::crash::{CrashTest, flatten, inspect_qcow2, run_seeds};
use testkit::guest::{Faults, Mix, Plan};
use testkit::stack::{Session, Stack, TestImage};

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

fn three_layers(rng: &mut Rng) -> Stack {
    let size = 32 << 10 << rng.below(2);
    let mut layer = |file, below: Option<(&str, &str)>| {
        let cluster = rng.pick(&["512", "1024", "4096"]).unwrap_or("512");
        let image = TestImage::new("qcow2", file, size).with("cluster_size", cluster);
        match below {
            Some((file, format)) => image.with("backing_file", file).with("backing_fmt", format),
            None => image,
        }
    };
    let lowest = layer("/base", None);
    let images =
        vec![lowest, layer("/middle", Some(("/base", "qcow2"))), layer("/top", Some(("/middle", "qcow2")))];
    Stack::of("commit", &[protocols::DRIVERS, formats::DRIVERS], images)
}

fn request(session: &Session) -> BlockCommitArguments {
    BlockCommitArguments {
        job_id: Some("commit".to_owned()),
        device: session.node.name().to_owned(),
        ..BlockCommitArguments::default()
    }
}

async fn run_job(
    session: &Session,
    world: World,
    request: BlockCommitArguments,
    complete: bool,
) -> Result<()> {
    let jobs = Jobs::new(Arc::new(Ear(world.clone())));
    let started = jobs::commit(&session.graph, &jobs, request).await;
    started.map_err(|e| block::BlockError::invalid(e.to_string()))?;
    if let Some(job) = jobs.find("commit") {
        let ended = || matches!(job.status(), JobStatus::Aborting | JobStatus::Concluded | JobStatus::Null);
        while complete && job.complete().is_err() && !ended() {
            rt::sleep(std::time::Duration::from_micros(20)).await;
        }
        job.concluded().await;
    }
    match world.disk().content(COMPLETED) {
        Some(_) => Ok(()),
        None => Err(BlockError::invalid("the job did not complete")),
    }
}

/// Everything down into the base, then all users move there.
fn commit_active(session: Session, world: World) -> BoxFuture<'static, Result<()>> {
    Box::pin(async move {
        let request = request(&session);
        run_job(&session, world, request, true).await
    })
}

/// The middle layer down into the base, under the active one.
fn commit_middle(session: Session, world: World) -> BoxFuture<'static, Result<()>> {
    Box::pin(async move {
        let backing = || session.node.backing().ok_or_else(|| BlockError::invalid("nothing is below"));
        let middle = backing()?;
        let request = BlockCommitArguments { top_node: Some(middle.name().to_owned()), ..request(&session) };
        run_job(&session, world, request, false).await?;
        match backing()?.filename() {
            name if name == "/base" => Ok(()),
            name => Err(BlockError::invalid(format!("'{name}' is still below"))),
        }
    })
}

/// Before COMPLETED a client opens the active image; afterwards the base.
fn inspect_active(stack: &Stack, disk: &Disk, settled: bool) -> std::result::Result<Vec<u8>, String> {
    match disk.content(COMPLETED) {
        Some(_) => flatten(disk, "/base", false),
        None => inspect_qcow2(stack, disk, settled),
    }
}

/// Between the switch and its event the guest works on the base already.
fn inspect_base(_: &Stack, disk: &Disk, _: bool) -> std::result::Result<Vec<u8>, String> {
    flatten(disk, "/base", false)
}

fn any_test(seed: u64) -> CrashTest {
    let mut rng = Rng::new(seed);
    let mix = Mix { read: 3, write: 8, zero: 3, discard: 2, flush: 4, resize: 0, fua: 10, compressed: 0 };
    let depth = 1 + rng.below(4);
    let stack = three_layers(&mut rng);
    let plan =
        Plan { requests: 60 / depth, depth, mix, longest: 12, span: 0, largest: 0, faults: Faults::None };
    CrashTest {
        config: Config { workers: 1 + rng.index(3), ..Config::seeded(0) },
        inspect: Some(inspect_qcow2),
        beside: Some(commit_middle),
        moments: 30,
        reopen_every: 12,
        ..CrashTest::new(stack, plan)
    }
}

#[test]
fn a_layer_that_is_committed_is_given_up_only_when_its_data_is_durable_below() {
    run_seeds("COMMIT_CRASH", 240, any_test);
}

#[test]
fn after_completed_the_base_alone_holds_everything_that_was_flushed() {
    run_seeds("ACTIVE_COMMIT_CRASH", 240, |seed| CrashTest {
        inspect: Some(inspect_active),
        or_inspect: Some(inspect_base),
        beside: Some(commit_active),
        reopen_every: 0,
        ..any_test(seed)
    });
}
