//! A reopen fails and no node has changed, or succeeds and all have: with a failure at each of its requests to the disk.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::sync::Arc;

use block::{BackendRequest, BlockError, Graph, Node, Opt, Options, Perms, Registry, Request};
use sim::{Disk, OpKind, Sim};
use testkit::crash::flatten;
use testkit::stack::{Stack, TestImage};
use testkit::stamp::stamped;
use testkit::steps::{Failing, at_every_step};

const DRIVERS: &[&[block::DriverType]] = &[protocols::DRIVERS, formats::DRIVERS];
const SIZE: u64 = 32 << 10;
const FILES: [&str; 4] = ["/base1", "/base2", "/one", "/two"];

/// Two base images, and two overlays of the first.
fn made() -> Disk {
    let sim = Sim::new(3);
    sim.run(async move {
        for (file, write) in FILES.into_iter().zip(1..) {
            let image = TestImage::new("qcow2", file, SIZE).with("cluster_size", "1024");
            let image = match write {
                1 | 2 => image,
                _ => image.with("backing_file", "/base1").with("backing_fmt", "qcow2"),
            };
            let stack = Stack::of("reopen", DRIVERS, vec![image]);
            stack.create().await.unwrap();
            let session = stack.open().await.unwrap();
            session.write(write * 2048, &stamped(write * 4, 4096, write), false).await.unwrap();
            session.close().await.unwrap();
        }
    });
    sim.settle();
    sim.world().disk()
}

fn graph() -> Graph {
    Graph::new(Registry::new(DRIVERS), |_| Err(BlockError::invalid("no options as JSON here")))
}

/// An image's options.
fn options(name: &str, file: &str, backing: Option<&str>, read_only: bool) -> Options {
    let file = Options::new().with_str("driver", "file").with_str("filename", file);
    let options = Options::new()
        .with_str("driver", "qcow2")
        .with_str("node-name", name)
        .with("file", Opt::Dict(file))
        .with("read-only", Opt::Bool(read_only));
    options.with("backing", backing.map_or(Opt::Null, |name| Opt::Str(name.to_owned())))
}

/// All of a node that a reopen may change.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    read_only: bool,
    file_read_only: bool,
    detects_zeroes: bool,
    backing: Option<String>,
}

fn state(node: &Arc<Node>) -> State {
    State {
        read_only: node.read_only(),
        file_read_only: node.primary().unwrap().read_only(),
        detects_zeroes: node.common().detect_zeroes,
        backing: node.backing().map(|node| node.name().to_owned()),
    }
}

/// Whether a writer is let in, and what it writes is kept.
async fn takes_writes(graph: &Graph, node: &Arc<Node>) -> bool {
    let request =
        BackendRequest { label: "later".to_owned(), node: node.clone(), perms: Perms::WRITER, pinned: false };
    let Ok(entry) = graph.attach(request).await else { return false };
    let data = rt::Buf::from_slice(&stamped(0, 512, 99));
    let written = entry.write(0, data, Request::GUEST).await.is_ok() && entry.flush().await.is_ok();
    let _ = graph.detach(&entry).await;
    written
}

struct Outcome {
    reported: block::Result<()>,
    before: Vec<State>,
    after: Vec<State>,
    takes_writes: Vec<bool>,
}

/// What is open before, who writes to it, and what is reopened.
#[derive(Clone)]
struct Case {
    name: &'static str,
    open: Vec<Options>,
    writer: Option<&'static str>,
    reopen: Vec<Options>,
}

async fn opened(case: &Case) -> (Graph, Vec<Arc<Node>>) {
    let graph = graph();
    for (name, file) in [("b1", "/base1"), ("b2", "/base2")] {
        graph.add(options(name, file, None, true)).await.unwrap();
    }
    let mut nodes = Vec::new();
    for options in &case.open {
        nodes.push(graph.add(options.clone()).await.unwrap());
    }
    (graph, nodes)
}

fn try_case(case: Case) {
    let disk = made();
    let name = case.name;
    let judge = |outcome: Outcome, disk: &Disk, failing: Option<Failing>| {
        let changed = outcome.before != outcome.after;
        if changed != outcome.reported.is_ok() {
            return Err(format!(
                "reported {:?}: {:?} became {:?}",
                outcome.reported, outcome.before, outcome.after
            ));
        }
        let poisons =
            |failing: Failing| failing.lasting || matches!(failing.kind, OpKind::Sync | OpKind::Write);
        for (state, takes) in outcome.after.iter().zip(&outcome.takes_writes) {
            let harmed = failing.is_some_and(poisons);
            let stopped = harmed && !state.read_only && !takes;
            if *takes == state.read_only && !stopped {
                return Err(format!("reported {:?}: {state:?}, and takes writes: {takes}", outcome.reported));
            }
        }
        for file in FILES {
            flatten(disk, file, false).map_err(|text| format!("reported {:?}: {text}", outcome.reported))?;
        }
        Ok(())
    };
    let act = move |fuse: testkit::steps::Fuse| -> rt::BoxFuture<'static, Outcome> {
        let case = case.clone();
        Box::pin(async move {
            let (graph, nodes) = opened(&case).await;
            let writer = match case.writer {
                None => None,
                Some(name) => {
                    let node = graph.need_node(name).unwrap();
                    let label = "guest".to_owned();
                    let request = BackendRequest { label, node, perms: Perms::WRITER, pinned: false };
                    let entry = graph.attach(request).await.unwrap();
                    let data = rt::Buf::from_slice(&stamped(20, 512, 50));
                    entry.write(20 * 512, data, Request::GUEST).await.unwrap();
                    Some(entry)
                }
            };
            let before = nodes.iter().map(state).collect();
            fuse.arm();
            let reported = graph.reopen(case.reopen).await;
            fuse.disarm();
            let after = nodes.iter().map(state).collect();
            if let Some(writer) = writer {
                let _ = graph.detach(&writer).await;
            }
            let mut written = Vec::new();
            for node in &nodes {
                written.push(takes_writes(&graph, node).await);
            }
            let _ = graph.close_all().await;
            Outcome { reported, before, after, takes_writes: written }
        })
    };
    at_every_step(name, &disk, &act, &judge);
}

#[test]
fn another_backing_node_and_other_options_under_a_writer_are_taken_together_or_not_at_all() {
    try_case(Case {
        name: "another backing node",
        open: vec![options("one", "/one", Some("b1"), false)],
        writer: Some("one"),
        reopen: vec![
            options("one", "/one", Some("b2"), false)
                .with_str("detect-zeroes", "on")
                .with("lazy-refcounts", Opt::Bool(true)),
        ],
    });
}

#[test]
fn a_node_turns_read_only_or_stays_as_it_was() {
    try_case(Case {
        name: "read-only",
        open: vec![options("one", "/one", Some("b1"), false)],
        writer: None,
        reopen: vec![options("one", "/one", Some("b1"), true)],
    });
}

#[test]
fn a_node_turns_writable_or_stays_as_it_was() {
    try_case(Case {
        name: "writable",
        open: vec![options("one", "/one", Some("b1"), true)],
        writer: None,
        reopen: vec![options("one", "/one", Some("b2"), false)],
    });
}

#[test]
fn two_nodes_change_their_access_together_or_not_at_all() {
    let open = vec![options("one", "/one", Some("b1"), true), options("two", "/two", Some("b1"), false)];
    let other = vec![options("two", "/two", Some("b2"), true), options("one", "/one", Some("b2"), false)];
    try_case(Case { name: "writable and read-only", open: open.clone(), writer: None, reopen: other });
    let open = vec![options("one", "/one", Some("b1"), false), options("two", "/two", Some("b1"), false)];
    let other = vec![options("two", "/two", Some("b2"), true), options("one", "/one", Some("b2"), true)];
    try_case(Case { name: "two read-only", open, writer: None, reopen: other });
}
