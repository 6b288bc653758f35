//! The filter, and entries, in a graph.
use block::{
    Backend, BackendRequest, BlockError, Graph, IoLimits, Opt, Options, Perms, Rate, Registry, Request,
    ThrottleGroup, ThrottleMember,
};
use rt::{Buf, BufMut};
use sim::Sim;
use std::sync::Arc;
use std::time::Duration;
use testkit::conformance::Suite;
use testkit::crash::{inspect_qcow2, inspect_raw};
use testkit::stack::{Stack, TestImage};

const DRIVERS: [&[block::DriverType]; 3] = [protocols::DRIVERS, formats::DRIVERS, filters::DRIVERS];

fn limits(requests: i64) -> IoLimits {
    let mut limits = IoLimits::default();
    limits.requests.total = Rate { average: requests, ..Rate::default() };
    limits
}

fn file(name: &str) -> Options {
    Options::new().with_str("driver", "file").with_str("filename", name)
}

fn throttled(node: &str, group: &str, below: Opt) -> Options {
    let options = Options::new().with_str("driver", "throttle").with_str("throttle-group", group);
    options.with_str("node-name", node).with("file", below)
}

fn world() -> Sim {
    let sim = Sim::new(1);
    sim.world().put("/a", &[1; 64 << 10]);
    sim.world().put("/b", &[2; 64 << 10]);
    sim
}

fn graph(groups: &[(&str, i64)]) -> Graph {
    let graph = Graph::new(Registry::new(&DRIVERS), |_| Err(BlockError::invalid("no json")));
    for (name, requests) in groups {
        let group = ThrottleGroup::new(*name);
        group.set_limits(limits(*requests)).unwrap();
        graph.objects().add(name, group).unwrap();
    }
    graph
}

async fn attach(graph: &Graph, name: &str) -> Arc<Backend> {
    let node = graph.need_node(name).unwrap();
    let label = format!("guest of {name}");
    graph.attach(BackendRequest { label, node, perms: Perms::WRITER, pinned: false }).await.unwrap()
}

/// Spawns `count` writes of one sector.
fn writes(guest: &Arc<Backend>, count: u64) -> Vec<rt::JoinHandle<block::Result<()>>> {
    let write = |at: u64| {
        let guest = guest.clone();
        rt::spawn(async move { guest.write(at * 512, Buf::from_slice(&[7; 512]), Request::GUEST).await })
    };
    (0..count).map(write).collect()
}

async fn done(tasks: Vec<rt::JoinHandle<block::Result<()>>>) {
    for task in tasks {
        task.await.unwrap().unwrap();
    }
}

#[test]
fn the_filter_keeps_the_laws_of_a_disk() {
    for (format, inspect) in [("raw", inspect_raw as testkit::crash::Inspect), ("qcow2", inspect_qcow2)] {
        let mut stack = Stack::of("throttle", &DRIVERS, vec![TestImage::new(format, "/disk", 24 << 10)]);
        stack.groups = vec![("g", limits(100_000))];
        stack.top = Options::new()
            .with_str("driver", "throttle")
            .with_str("throttle-group", "g")
            .with("file", Opt::Dict(stack.top));
        Suite::of(stack, Some(inspect)).run();
    }
}

#[test]
fn every_kind_of_request_of_the_filter_counts_once() {
    world().run(async {
        let graph = graph(&[("g", 10)]);
        graph.add(throttled("t", "g", Opt::Dict(file("/a")))).await.unwrap();
        let guest = attach(&graph, "t").await;
        let start = rt::now_ns();
        let (buf, read) = guest.read(100, BufMut::zeroed(9000)).await;
        read.unwrap();
        assert!(buf.iter().all(|byte| *byte == 1));
        guest.write(100, Buf::from_slice(&[5; 5000]), Request::GUEST).await.unwrap();
        guest.write_zeroes(0, 4096, Request::GUEST).await.unwrap();
        guest.flush().await.unwrap();
        guest.status(0, 4096).await.unwrap();
        guest.write(0, Buf::from_slice(&[6; 512]), Request::GUEST).await.unwrap();
        assert_eq!((rt::now_ns() - start) / 10_000_000, 20, "two go through at once, two after 100 ms each");
    });
}

#[test]
fn a_change_of_the_graph_waits_for_nothing_that_the_filter_holds_back() {
    world().run(async {
        let graph = graph(&[("g", 1)]);
        graph.add(throttled("t", "g", Opt::Dict(file("/a").with_str("node-name", "f")))).await.unwrap();
        let guest = attach(&graph, "t").await;
        let waiting = writes(&guest, 20);
        rt::sleep(Duration::from_secs(3)).await;
        let began = rt::now_ns();
        let mut change = graph.change().await;
        change.quiesce(&[graph.need_node("f").unwrap()]).await.unwrap();
        change.end(Ok(())).await.unwrap();
        done(waiting).await;
        assert!(rt::now_ns() - began < 100_000_000);
        // The debt of those that were let through stays.
        done(writes(&guest, 1)).await;
        assert!(rt::now_ns() - began > 10_000_000_000);
        graph.detach(&guest).await.unwrap();
    });
}

#[test]
fn a_reopen_changes_the_group_and_the_old_one_is_free_then() {
    world().run(async {
        let graph = graph(&[("slow", 1), ("fast", 1000)]);
        graph.add(throttled("t", "slow", Opt::Dict(file("/a").with_str("node-name", "f")))).await.unwrap();
        let guest = attach(&graph, "t").await;
        assert!(graph.objects().remove("slow").unwrap_err().message().contains("in use"));
        let waiting = writes(&guest, 20);
        rt::sleep(Duration::from_millis(1)).await;
        let to = |group: &str| vec![throttled("t", group, Opt::Str("f".to_owned()))];
        let error = graph.reopen(to("none")).await.unwrap_err();
        assert_eq!(error.message(), "Throttle group 'none' does not exist");
        let began = rt::now_ns();
        graph.reopen(to("fast")).await.unwrap();
        done(waiting).await;
        assert!(rt::now_ns() - began < 100_000_000);
        done(writes(&guest, 100)).await;
        assert!(rt::now_ns() - began < 300_000_000);
        graph.objects().remove("slow").unwrap();
        graph.detach(&guest).await.unwrap();
        graph.remove("t").await.unwrap();
        graph.objects().remove("fast").unwrap();
    });
}

#[test]
fn an_entry_that_is_throttled_holds_up_neither_a_change_nor_its_own_end() {
    world().run(async {
        let graph = graph(&[]);
        graph.add(file("/a").with_str("node-name", "f")).await.unwrap();
        let guest = attach(&graph, "f").await;
        let group = graph.objects().hold_or_imply("guest", || ThrottleGroup::new("guest")).unwrap();
        group.set_limits(limits(1)).unwrap();
        guest.set_throttle(Some(ThrottleMember::new(group)));
        assert_eq!(guest.try_write(0, &[1; 512], Request::GUEST).unwrap(), 0, "it is not inline any more");
        let refused = guest.write(60 << 10, Buf::from_slice(&[1; 8192]), Request::GUEST).await;
        assert!(refused.is_err(), "what is refused doesn't count");
        let start = rt::now_ns();
        done(writes(&guest, 3)).await;
        assert_eq!((rt::now_ns() - start) / 100_000_000, 19);
        let waiting = writes(&guest, 3);
        rt::sleep(Duration::from_millis(1)).await;
        let mut change = graph.change().await;
        change.quiesce(&[guest.node()]).await.unwrap();
        change.end(Ok(())).await.unwrap();
        assert!(rt::now_ns() - start < 2_000_000_000);
        graph.detach(&guest).await.unwrap();
        for task in waiting {
            assert!(task.await.unwrap().is_err(), "it is closed");
        }
        assert!(graph.objects().hold::<ThrottleGroup>("guest").is_err(), "nobody holds the group");
    });
}

#[test]
fn entries_of_a_group_share_it_and_one_that_leaves_goes_on_at_once() {
    world().run(async {
        let graph = graph(&[("g", 10)]);
        graph.add(file("/a").with_str("node-name", "a")).await.unwrap();
        graph.add(file("/b").with_str("node-name", "b")).await.unwrap();
        let (a, b) = (attach(&graph, "a").await, attach(&graph, "b").await);
        for guest in [&a, &b] {
            guest.set_throttle(Some(ThrottleMember::new(graph.objects().hold("g").unwrap())));
        }
        let start = rt::now_ns();
        let (of_a, of_b) = (writes(&a, 10), writes(&b, 100));
        done(of_a).await;
        assert!((17..=20).contains(&((rt::now_ns() - start) / 100_000_000)), "every second one is of a");
        b.set_throttle(None);
        done(of_b).await;
        assert!(rt::now_ns() - start < 2_100_000_000);
        assert!(b.throttle().is_none());
    });
}
