//! block-stream through crashes: at whatever moment the machine dies, the disk shows what was flushed, by the chain that its
//! header names then. Letting go of layers is: their data, durable in the image · the header that names the base · durable · only
//! then the event. From then on the layers between may be deleted.

use std::sync::Arc;

use api::{BlockJobCompleted, BlockStreamArguments, Event};
use block::{BlockError, Result};
use jobs::{EventSink, Jobs};
use rt::BoxFuture;
use sim::{Config, Disk, Rng, World};
use testkit::crash::{CrashTest, inspect_qcow2, run_seeds};
use testkit::guest::{Faults, Mix, Plan};
use testkit::stack::{Session, Stack, TestImage};

/// Stands on the simulated disk from the moment of the event COMPLETED on; it holds the name of the base.
const COMPLETED: &str = "/completed";

/// Hears of the job, and leaves the mark.
struct Ear(World, String);

impl EventSink for Ear {
    fn tell(&self, event: Event) {
        if matches!(event, Event::BlockJobCompleted(BlockJobCompleted { error: None, .. })) {
            self.0.put(COMPLETED, self.1.as_bytes());
        }
    }
}

fn three_layers(rng: &mut Rng) -> Stack {
    let size = 32 << 10 << rng.below(2);
    let mut images: Vec<TestImage> = Vec::new();
    for file in ["/base", "/middle", "/top"] {
        let cluster = rng.pick(&["512", "1024", "4096"]).unwrap_or("512");
        let image = TestImage::new("qcow2", file, size).with("cluster_size", cluster);
        images.push(match images.last() {
            Some(below) => image.with("backing_file", below.file).with("backing_fmt", "qcow2"),
            None => image,
        });
    }
    Stack::of("stream", &[protocols::DRIVERS, formats::DRIVERS], images)
}

async fn stream(session: Session, world: World, base: Option<&str>) -> Result<()> {
    let jobs = Jobs::new(Arc::new(Ear(world.clone(), base.unwrap_or_default().to_owned())));
    let request = BlockStreamArguments {
        job_id: Some("stream".to_owned()),
        device: session.node.name().to_owned(),
        base: base.map(str::to_owned),
        ..BlockStreamArguments::default()
    };
    let started = jobs::stream(&session.graph, &jobs, &session.node, request).await;
    started.map_err(|e| BlockError::invalid(e.to_string()))?;
    if let Some(job) = jobs.find("stream") {
        job.concluded().await;
    }
    match world.disk().content(COMPLETED) {
        Some(_) => Ok(()),
        None => Err(BlockError::invalid("the job did not complete")),
    }
}

fn stream_all(session: Session, world: World) -> BoxFuture<'static, Result<()>> {
    Box::pin(stream(session, world, None))
}

fn stream_above_the_base(session: Session, world: World) -> BoxFuture<'static, Result<()>> {
    Box::pin(stream(session, world, Some("/base")))
}

/// After COMPLETED the header names the base, or nothing.
fn inspect(stack: &Stack, disk: &Disk, settled: bool) -> std::result::Result<Vec<u8>, String> {
    if let Some(base) = disk.content(COMPLETED) {
        let top = disk.content("/top").ok_or("the image is gone")?.to_vec();
        let named = testkit::qcow2::backing_of(&top).unwrap_or_default();
        if named.as_bytes() != base.to_vec() {
            return Err(format!("after COMPLETED the header still names '{named}'"));
        }
    }
    inspect_qcow2(stack, disk, settled)
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
        inspect: Some(inspect),
        beside: Some(if rng.chance(1, 2) { stream_all } else { stream_above_the_base }),
        moments: 30,
        reopen_every: 12,
        ..CrashTest::new(stack, plan)
    }
}

#[test]
fn layers_that_are_streamed_are_let_go_only_when_their_data_is_durable_above() {
    run_seeds("STREAM_CRASH", 240, any_test);
}
