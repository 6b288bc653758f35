//! Every step that is told where it belongs: a filter below the image hears of it.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use api::{Enumeration, PreallocMode};
use block::{
    Driver, DriverType, Facts, Filtered, Flags, NewSnapshot, Open, OpenContext, Opened, Opt, Options,
    Request, Result, Step,
};
use parking_lot::Mutex;
use rt::{BoxFuture, Buf};
use sim::Sim;
use std::collections::BTreeSet;
use std::sync::Arc;
use testkit::stack::{Session, Stack, TestImage};

const DRIVERS: [&[DriverType]; 3] = [protocols::DRIVERS, formats::DRIVERS, LISTENER];

/// A filter that hears of steps, and wants requests of whole kibibytes.
const LISTENER: &[DriverType] =
    &[DriverType { name: "listener", open: &Open(open_listener), ..DriverType::FILTER }];

struct Listener(Filtered);

/// What was heard; one test uses it.
static HEARD: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

fn open_listener(context: &mut OpenContext, _: api::RawOptions) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let below = context.filtered().await?;
        Ok(Opened { driver: Arc::new(Listener(below)), filename: None })
    })
}

impl Driver for Listener {
    fn filtered(&self) -> Option<&Filtered> {
        Some(&self.0)
    }

    fn facts(&self) -> Facts {
        Facts { mapping: false, alignment: 1024, steps: true, ..self.0.facts() }
    }

    fn try_read(&self, _: u64, _: &mut [u8]) -> Result<usize> {
        Ok(0)
    }

    fn announced(&self, step: Step) -> BoxFuture<'_, ()> {
        HEARD.lock().insert(step.name());
        Box::pin(async {})
    }
}

/// Nothing here copies on read; and `none` comes to a filter from itself.
const NEVER: [&str; 2] = ["cor_write", "none"];

fn stack() -> Stack {
    let base = TestImage::new("raw", "/base", 64 << 10);
    let top =
        TestImage::new("qcow2", "/top", 2 << 20).with("cluster_size", "512").with("refcount_bits", "64");
    let top = top.with("backing_file", "/base").with("backing_fmt", "raw");
    let mut stack = Stack::of("heard", &DRIVERS, vec![base, top]);
    let file = Options::new().with_str("driver", "file").with_str("filename", "/top");
    let heard = Options::new().with_str("driver", "listener").with("file", Opt::Dict(file));
    stack.top = Options::new().with_str("driver", "qcow2").with("file", Opt::Dict(heard));
    stack
}

async fn use_all(stack: &Stack) {
    let base = stack.open_image(&stack.images[0]).await.unwrap();
    base.write(0, &[1; 64 << 10], false).await.unwrap();
    base.close().await.unwrap();
    let disk: Session = stack.open().await.unwrap();
    disk.write(100, &[2; 100], false).await.unwrap();
    disk.write(100, &[3; 100], false).await.unwrap();
    disk.read(0, 1024).await.unwrap();
    for at in 0..2048 {
        disk.write(at << 10, &[4; 512], false).await.unwrap();
    }
    disk.backend.flush().await.unwrap();
    disk.backend.discard(0, 512 << 10, Request::GUEST).await.unwrap();
    disk.backend.flush().await.unwrap();
    disk.clone().close().await.unwrap();
    let disk = stack.open().await.unwrap();
    disk.read(1 << 20, 64 << 10).await.unwrap();
    disk.write(1 << 20, &[5; 4096], true).await.unwrap();
    disk.backend.write_zeroes(1 << 20, 8192, Request::GUEST.with(Flags::MAY_UNMAP)).await.unwrap();
    disk.resize(32 << 20).await.unwrap();
    disk.graph.resize(&disk.node, 40 << 20, PreallocMode::Falloc).await.unwrap();
    disk.resize(1 << 20).await.unwrap();
    disk.node.driver().make_empty().await.unwrap();
    disk.close().await.unwrap();
    use_snapshots_and_compression(stack).await;
}

async fn use_snapshots_and_compression(stack: &Stack) {
    let disk = stack.open().await.unwrap();
    let data = Buf::from_slice(&[6; 4096]);
    disk.backend.write(0, data.clone(), Request::GUEST.with(Flags::COMPRESSED)).await.unwrap();
    disk.read(0, 4096).await.unwrap();
    let snapshot = NewSnapshot { name: "s".to_owned(), ..NewSnapshot::default() };
    disk.graph.create_snapshot(&disk.node, snapshot, |_| Ok(())).await.unwrap();
    disk.write(0, &[7; 512], false).await.unwrap();
    disk.graph.write_state(&disk.node, 0, data).await.unwrap();
    disk.graph.read_state(&disk.node, 0, 4096).await.unwrap();
    disk.close().await.unwrap();
}

#[test]
fn every_step_is_heard_below_the_image_that_does_it() {
    Sim::new(1).run(async {
        let stack = stack();
        stack.create().await.unwrap();
        use_all(&stack).await;
        let heard = HEARD.lock().clone();
        let missed: BTreeSet<_> =
            Step::VALUES.iter().map(|(name, _)| *name).filter(|name| !heard.contains(name)).collect();
        assert_eq!(missed, BTreeSet::from(NEVER));
    });
}
