//! A new filter, from outside of the crates: it delays requests.
//!
//! What one has to write is what the filter changes (`delay.rs`), its name and options in `schema/`, and its line in the
//! wing's `DRIVERS`. Whatever else a driver can do passes to its child by itself.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod delay;

use block::{
    Backend, BackendRequest, BlockError, Domain, Driver, DriverType, Filtered, Flags, Graph, Open,
    OpenContext, Opened, Opt, Options, Perms, Registry, Request, Result,
};
use delay::{DELAY, DelayOptions};
use parking_lot::Mutex;
use rt::{BoxFuture, Buf, BufMut};
use sim::{Config, Sim};
use std::sync::Arc;
use std::time::Duration;
use testkit::conformance::Suite;
use testkit::crash::{CrashTest, inspect_qcow2, inspect_raw, run_seeds};
use testkit::guest::{Faults, Mix, Plan};
use testkit::scope::{Op, SmallScope};
use testkit::stack::{Stack, TestImage};

const DRIVERS: [&[DriverType]; 4] = [protocols::DRIVERS, formats::DRIVERS, DELAY, REACHED];

/// The smallest filter there is: it changes nothing. It tells who can reach it.
const REACHED: &[DriverType] =
    &[DriverType { name: "reached", open: &Open(open_reached), ..DriverType::FILTER }];

struct Reached(Filtered);

impl Driver for Reached {
    fn filtered(&self) -> Option<&Filtered> {
        Some(&self.0)
    }
}

/// Of the filters `reached`, in the order they were opened.
static DOMAINS: Mutex<Vec<Arc<Domain>>> = Mutex::new(Vec::new());

fn open_reached(context: &mut OpenContext, _: DelayOptions) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let below = context.filtered().await?;
        DOMAINS.lock().push(context.domain().clone());
        Ok(Opened { driver: Arc::new(Reached(below)), filename: None })
    })
}

/// An hour: only a drain ends it.
const FOR_EVER: u64 = 3_600_000_000;

fn delayed(below: Options) -> Options {
    Options::new().with_str("driver", "delay").with("file", Opt::Dict(below))
}

fn image(format: &str, file: &str) -> Options {
    let file = Options::new().with_str("driver", "file").with_str("filename", file);
    Options::new().with_str("driver", format).with("file", Opt::Dict(file))
}

/// The filter over a format.
fn above(format: &'static str) -> Stack {
    let images = vec![TestImage::new(format, "/disk", 24 << 10)];
    let mut stack = Stack::of(&format!("delay over {format}"), &DRIVERS, images);
    stack.top = delayed(image(format, "/disk"));
    stack
}

/// The filter between a format and its file.
fn between() -> Stack {
    let image = TestImage::new("qcow2", "/disk", 16 << 10).with("cluster_size", "1024");
    let mut stack = Stack::of("qcow2 over delay", &DRIVERS, vec![image]);
    let file = Options::new().with_str("driver", "file").with_str("filename", "/disk");
    stack.top = Options::new().with_str("driver", "qcow2").with("file", Opt::Dict(delayed(file)));
    stack
}

#[test]
fn it_keeps_the_laws_of_a_disk_over_raw_and_qcow2() {
    Suite::of(above("raw"), Some(inspect_raw)).run();
    Suite::of(above("qcow2"), Some(inspect_qcow2)).run();
}

#[test]
fn what_was_flushed_is_there_after_any_crash() {
    let plan = Plan {
        requests: 16,
        depth: 4,
        mix: Mix { resize: 0, ..Mix::ALL },
        longest: 9,
        span: 0,
        largest: 0,
        faults: Faults::None,
    };
    run_seeds("DELAY_CRASH", 30, |seed| CrashTest {
        config: Config { workers: 1 + seed as usize % 3, ..Config::seeded(0) },
        inspect: Some(inspect_qcow2),
        moments: 15,
        ..CrashTest::new(if seed % 2 == 0 { between() } else { above("qcow2") }, plan)
    });
}

#[test]
fn requests_that_meet_below_it_leave_nothing_that_none_of_them_wrote_whatever_a_crash_keeps() {
    let scope = SmallScope { most: 64, ..SmallScope::new(between(), inspect_qcow2) };
    scope.run_each(&[&[Op::Write(0, 4)]], &[&[&[Op::Fua(1, 2)], &[Op::Write(2, 2), Op::Flush]]], 4);
}

fn graph() -> Graph {
    Graph::new(Registry::new(&DRIVERS), |_| Err(BlockError::invalid("no json")))
}

/// A guest on a disk that delays for an hour.
async fn stuck(graph: &Graph, name: &str) -> Arc<Backend> {
    let below = Options::new()
        .with_str("driver", "reached")
        .with("file", Opt::Dict(image("raw", &format!("/{name}"))));
    let options = delayed(below).with("microseconds", Opt::Uint(FOR_EVER));
    graph.add(options.with_str("node-name", name)).await.unwrap();
    attach(graph, name).await
}

async fn attach(graph: &Graph, name: &str) -> Arc<Backend> {
    let node = graph.need_node(name).unwrap();
    let request =
        BackendRequest { label: format!("guest of {name}"), node, perms: Perms::WRITER, pinned: false };
    graph.attach(request).await.unwrap()
}

fn data() -> Buf {
    Buf::from_slice(&[7; 512])
}

fn world() -> Sim {
    let sim = Sim::new(1);
    sim.world().put("/a", &[0; 8192]);
    sim.world().put("/b", &[0; 8192]);
    sim
}

#[test]
fn what_it_holds_back_stalls_no_change_and_no_end_of_an_entry() {
    world().run(async {
        let graph = graph();
        let disk = stuck(&graph, "a").await;
        let write = {
            let disk = disk.clone();
            rt::spawn(async move { disk.write(0, data(), Request::GUEST.with(Flags::FUA)).await })
        };
        rt::sleep(Duration::from_secs(1)).await;
        assert_eq!(disk.in_flight(), 1, "it is held back");
        let began = rt::now_ns();
        let mut change = graph.change().await;
        change.quiesce(&[disk.node()]).await.unwrap();
        write.await.unwrap().unwrap();
        // A later one waits at the gate, and is held back again when it is open.
        let read = {
            let disk = disk.clone();
            rt::spawn(async move { disk.read(0, BufMut::with_len(512)).await })
        };
        change.end(Ok(())).await.unwrap();
        rt::sleep(Duration::from_millis(1)).await;
        assert_eq!(disk.in_flight(), 1);
        graph.detach(&disk).await.unwrap();
        let (seen, result) = read.await.unwrap();
        result.unwrap();
        assert_eq!(seen[..], [7; 512]);
        assert!(rt::now_ns() - began < 1_000_000_000, "nobody waited for the delay");
    });
}

#[test]
fn a_grace_period_waits_for_requests_that_can_reach_the_node_and_for_no_others() {
    world().run(async {
        let graph = graph();
        let (a, b) = (stuck(&graph, "a").await, stuck(&graph, "b").await);
        let second = attach(&graph, "a").await;
        let domain = DOMAINS.lock().first().cloned().unwrap();
        let write = rt::spawn(async move { b.write(0, data(), Request::GUEST).await });
        rt::sleep(Duration::from_secs(1)).await;
        // A request elsewhere is not waited for.
        domain.grace().await;

        let read = rt::spawn(async move { second.read(0, BufMut::with_len(512)).await });
        rt::sleep(Duration::from_secs(1)).await;
        let waiting = {
            let domain = domain.clone();
            rt::spawn(async move { domain.grace().await })
        };
        rt::sleep(Duration::from_secs(60)).await;
        assert!(!waiting.is_finished(), "a request of its own is waited for");
        // Another grace period of the same entry takes its turn, and both end with the request.
        let mut change = graph.change().await;
        change.quiesce(&[a.node()]).await.unwrap();
        read.await.unwrap().1.unwrap();
        waiting.await.unwrap();
        change.end(Ok(())).await.unwrap();
        assert!(!write.is_finished());
        domain.grace().await;
    });
}
