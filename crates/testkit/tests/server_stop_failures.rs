//! `nbd-server-stop`, with a failure at each of its requests to the disk: the server has stopped and its exports are gone,
//! reported once, whatever fails; what was written is durable unless something failed; and the next server serves.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::sync::Arc;

use block::Request;
use exports::{ExportSpec, Exports, NbdOptions, NbdService, ServerOptions};
use parking_lot::Mutex;
use sim::{Disk, OpKind, Sim};
use testkit::crash::flatten;
use testkit::stack::{Stack, TestImage};
use testkit::stamp::stamped;
use testkit::steps::{Failing, Fuse, at_every_step};

const DRIVERS: &[&[block::DriverType]] = &[protocols::DRIVERS, formats::DRIVERS];

fn stack() -> Stack {
    Stack::of("served", DRIVERS, vec![TestImage::new("qcow2", "/top", 32 << 10).with("cluster_size", "1024")])
}

/// What is left of a server that was stopped.
struct Outcome {
    stopped: bool,
    left: usize,
    told: Vec<String>,
    /// Whether the next server's export shows what was written.
    serves: bool,
}

async fn stop(fuse: Fuse) -> Outcome {
    let graph = stack().graph();
    let options = stack().top.with_str("node-name", "disk");
    let node = graph.add(options).await.unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = told.clone();
    let exports = Exports::new(graph.clone(), move |id| heard.lock().push(id.to_owned()));
    let spec = |id: &str, writable| ExportSpec {
        id: id.to_owned(),
        node_name: "disk".to_owned(),
        writable,
        ..ExportSpec::default()
    };
    let service = NbdService::default();
    let kind = || service.export(NbdOptions::default());
    service.start(Vec::new(), ServerOptions::default()).unwrap();
    exports.add(spec("one", true), kind()).await.unwrap();
    let other = NbdOptions { name: Some("other".to_owned()), ..NbdOptions::default() };
    exports.add(spec("two", false), service.export(other)).await.unwrap();
    let entry = exports.backend("one").unwrap();
    entry.write(0, rt::Buf::from_slice(&stamped(0, 4096, 1)), Request::GUEST).await.unwrap();
    fuse.arm();
    let stopped = service.stop(&exports).await.is_ok() && service.server().is_none();
    fuse.disarm();
    let left = exports.list().len();
    service.start(Vec::new(), ServerOptions::default()).unwrap();
    exports.add(spec("three", false), kind()).await.unwrap();
    let (seen, result) = exports.backend("three").unwrap().read(0, rt::BufMut::with_len(4096)).await;
    let serves = result.is_ok() && seen[..] == stamped(0, 4096, 1);
    let told = told.lock().clone();
    service.end(&exports).await;
    exports.close_all().await;
    // Its failure is that of the flush that was told already.
    let _ = graph.remove(node.name()).await;
    Outcome { stopped, left, told, serves }
}

#[test]
fn nbd_server_stop_stops_the_server_whatever_fails_meanwhile() {
    let sim = Sim::new(3);
    sim.run(async { stack().create().await.unwrap() });
    sim.settle();
    let disk = sim.world().disk();
    let judge = |came: Outcome, disk: &Disk, failing: Option<Failing>| {
        let mut told = came.told;
        told.sort();
        if !came.stopped || came.left != 0 || told != ["one", "two"] {
            return Err(format!("stopped: {}, {} exports left, told {told:?}", came.stopped, came.left));
        }
        // The page cache may have lost what a sync could not write.
        if !came.serves && failing.is_none_or(|failing| failing.kind != OpKind::Sync) {
            return Err("the next server shows something else".to_owned());
        }
        flatten(disk, "/top", false)?;
        let durable = flatten(&disk.cut_keeping(|_| false), "/top", false)?;
        if failing.is_none() && durable.get(..4096) != Some(&stamped(0, 4096, 1)) {
            return Err("what was written is not durable".to_owned());
        }
        Ok(())
    };
    at_every_step("nbd-server-stop", &disk, &|fuse| Box::pin(stop(fuse)), &judge);
}
