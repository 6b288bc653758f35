//! `quorum` and `blkverify`: several children of one disk, and what becomes of children that differ.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use api::Enumeration;
use block::{Backend, BackendRequest, BlockError, Graph, Notice, Opt, Options, Perms, Registry, Request};
use parking_lot::Mutex;
use rt::{Buf, BufMut};
use sim::{EIO, OpKind, Plant, Rng, Sim};
use std::sync::Arc;

const DRIVERS: [&[block::DriverType]; 3] = [protocols::DRIVERS, formats::DRIVERS, filters::DRIVERS];
const SIZE: u64 = 8192;

fn image(format: &str, file: &str) -> Options {
    let file = Options::new().with_str("driver", "file").with_str("filename", file);
    Options::new().with_str("driver", format).with("file", Opt::Dict(file))
}

/// Requests of four tasks at a time, at places where they meet, over children of three kinds.
async fn meet(top: Options, children: &[&str]) {
    let graph = Graph::new(Registry::new(&DRIVERS), |_| Err(BlockError::invalid("no json")));
    let told = Arc::new(Mutex::new(Vec::new()));
    let ear = told.clone();
    graph.on_notice(move |notice| ear.lock().extend(words(notice)));
    let small = Options::new().with_str("cluster_size", "1024");
    for (format, file, options) in
        [("raw", "/x", Options::new()), ("qcow2", "/y", small), ("raw", "/z", Options::new())]
    {
        graph.create(format, file, SIZE, options).await.unwrap();
        graph.add(image(format, file).with_str("node-name", &file[1..])).await.unwrap();
    }
    let node = graph.add(top.with_str("node-name", "top")).await.unwrap();
    let request = BackendRequest { label: "top".to_owned(), node, perms: Perms::WRITER, pinned: false };
    let disk = graph.attach(request).await.unwrap();
    let tasks = (1..=4u64).map(|task| {
        let disk = disk.clone();
        rt::spawn(async move {
            let mut rng = Rng::new(task);
            for step in 0..40 {
                let offset = rng.below(SIZE);
                let len = 1 + rng.below((SIZE - offset).min(3000));
                match rng.below(4) {
                    0 => disk.write_zeroes(offset, len, Request::GUEST).await.unwrap(),
                    1 => disk.read(offset, BufMut::with_len(len as usize)).await.1.unwrap(),
                    2 if step % 8 == 0 => disk.flush().await.unwrap(),
                    _ => {
                        let data = Buf::from_slice(&vec![task as u8 * 40 + step; len as usize]);
                        disk.write(offset, data, Request::GUEST).await.unwrap();
                    }
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let (shown, read) = disk.read(0, BufMut::with_len(SIZE as usize)).await;
    read.unwrap();
    for child in children {
        let node = graph.need_node(child).unwrap();
        let (read, result) = node.read(0, BufMut::with_len(SIZE as usize)).await;
        result.unwrap();
        assert!(read[..] == shown[..], "{child} differs");
    }
    assert!(told.lock().is_empty(), "{told:?}");
    graph.detach(&disk).await.unwrap();
    graph.close_all().await.unwrap();
}

#[test]
fn children_stay_the_same_whatever_order_requests_meet_in() {
    for seed in 1..=20 {
        Sim::new(seed).run(meet(named_children(&["x", "y", "z"]), &["x", "y", "z"]));
    }
}

#[test]
fn an_image_and_its_copy_stay_the_same_whatever_order_requests_meet_in() {
    for seed in 1..=20 {
        let pair = Options::new().with_str("driver", "blkverify").with_str("raw", "x").with_str("test", "y");
        Sim::new(seed).run(meet(pair, &["x", "y"]));
    }
}

/// A quorum of two of these nodes.
fn named_children(names: &[&str]) -> Options {
    let names = names.iter().map(|name| Opt::Str((*name).to_owned())).collect();
    let options = Options::new().with_str("driver", "quorum").with("vote-threshold", Opt::Uint(2));
    options.with("children", Opt::List(names))
}

/// Three raw disks in files, and what was told of them.
struct World {
    graph: Graph,
    told: Arc<Mutex<Vec<String>>>,
}

fn machine() -> Sim {
    let sim = Sim::new(1);
    for name in ["/a", "/b", "/c", "/d"] {
        sim.world().put(name, &[1; SIZE as usize]);
    }
    sim
}

fn words(notice: Notice<'_>) -> Option<String> {
    Some(match notice {
        Notice::QuorumBad { operation, node, offset, len, error } => {
            let why = error.map_or("outvoted", |_| "failed");
            format!("{} {why}: {} {offset}+{len}", operation.name(), node.name())
        }
        Notice::QuorumFailed { node, offset, len } => format!("no majority: {} {offset}+{len}", node.name()),
        Notice::Diverged(_) => "diverged".to_owned(),
        _ => return None,
    })
}

impl World {
    async fn new() -> World {
        let graph = Graph::new(Registry::new(&DRIVERS), |_| Err(BlockError::invalid("no json")));
        let told = Arc::new(Mutex::new(Vec::new()));
        let ear = told.clone();
        graph.on_notice(move |notice| ear.lock().extend(words(notice)));
        for (name, file) in [("a", "/a"), ("b", "/b"), ("c", "/c"), ("d", "/d")] {
            graph.add(image("raw", file).with_str("node-name", name)).await.unwrap();
        }
        World { graph, told }
    }

    /// A quorum of nodes, with further options, and the way in.
    async fn quorum(&self, threshold: u64, children: &[&str], further: &[(&str, Opt)]) -> Arc<Backend> {
        let mut options = named_children(children).with("vote-threshold", Opt::Uint(threshold));
        further.iter().for_each(|(name, value)| options.set(*name, value.clone()));
        self.graph.add(options.with_str("node-name", "q")).await.unwrap();
        self.enter("q").await
    }

    async fn enter(&self, name: &str) -> Arc<Backend> {
        let node = self.graph.need_node(name).unwrap();
        let request = BackendRequest { label: name.to_owned(), node, perms: Perms::READER, pinned: false };
        self.graph.attach(request).await.unwrap()
    }

    /// Changes a child behind the quorum's back.
    async fn spoil(&self, name: &str, byte: u8) {
        let node = self.graph.need_node(name).unwrap();
        node.write(512, Buf::from_slice(&[byte; 512]), Request::DRIVER).await.unwrap();
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock())
    }
}

async fn byte(disk: &Backend) -> Result<u8, BlockError> {
    let (read, result) = disk.read(0, BufMut::with_len(1024)).await;
    result.map(|()| read[600])
}

#[test]
fn what_enough_children_say_is_read_and_others_are_reported_and_mended_where_that_is_asked_for() {
    machine().run(async {
        let world = World::new().await;
        let disk = world.quorum(2, &["a", "b", "c"], &[]).await;
        world.spoil("b", 7).await;
        assert_eq!(byte(&disk).await.unwrap(), 1);
        assert_eq!(world.told(), ["read outvoted: b 0+1024"]);
        assert_eq!(byte(&disk).await.unwrap(), 1, "nothing was mended");
        world.spoil("c", 9).await;
        world.told();
        byte(&disk).await.unwrap_err();
        assert_eq!(world.told(), ["no majority: q 0+1024"]);
        world.spoil("c", 7).await;
        assert_eq!(byte(&disk).await.unwrap(), 7, "the majority may be wrong");
        world.graph.detach(&disk).await.unwrap();
        world.graph.remove("q").await.unwrap();
        world.told();
        let disk = world.quorum(2, &["a", "b", "c"], &[("rewrite-corrupted", Opt::Bool(true))]).await;
        assert_eq!(byte(&disk).await.unwrap(), 7);
        assert_eq!(world.told(), ["read outvoted: a 0+1024"]);
        assert_eq!(byte(&disk).await.unwrap(), 7);
        assert!(world.told().is_empty(), "it was mended");
        world.graph.detach(&disk).await.unwrap();
    });
}

#[test]
fn two_that_are_compared_end_everything_when_they_differ() {
    machine().run(async {
        let world = World::new().await;
        let disk = world.quorum(2, &["a", "b"], &[("blkverify", Opt::Bool(true))]).await;
        assert_eq!(byte(&disk).await.unwrap(), 1);
        world.spoil("b", 7).await;
        byte(&disk).await.unwrap_err();
        assert_eq!(world.told()[0], "diverged");
        let (q, c) = (world.graph.need_node("q").unwrap(), world.graph.need_node("c").unwrap());
        assert!(world.graph.add_member(&q, &c).await.is_err(), "there are two");
        world.graph.detach(&disk).await.unwrap();
    });
}

#[test]
fn one_after_the_other_is_read_until_one_answers() {
    machine().run(async {
        let world = World::new().await;
        let disk = world.quorum(2, &["a", "b", "c"], &[("read-pattern", Opt::Str("fifo".to_owned()))]).await;
        world.spoil("b", 7).await;
        assert_eq!(byte(&disk).await.unwrap(), 1);
        world.spoil("a", 5).await;
        assert_eq!(byte(&disk).await.unwrap(), 5, "the first one is believed");
        assert!(world.told().is_empty());
        world.graph.detach(&disk).await.unwrap();
    });
}

#[test]
fn children_come_and_go_while_the_disk_is_in_use_but_never_fewer_than_must_agree() {
    machine().run(async {
        let world = World::new().await;
        let disk = world.quorum(2, &["a", "b", "c"], &[]).await;
        let (q, d) = (world.graph.need_node("q").unwrap(), world.graph.need_node("d").unwrap());
        let names = || {
            q.edges()
                .all()
                .iter()
                .map(|child| format!("{}={}", child.name, child.node.name()))
                .collect::<Vec<_>>()
        };
        world.graph.remove_member(&q, "children.1").await.unwrap();
        assert_eq!(names(), ["children.0=a", "children.2=c"]);
        let few = world.graph.remove_member(&q, "children.0").await.unwrap_err();
        assert!(few.message().contains("vote threshold 2"), "{few}");
        world.graph.add_member(&q, &d).await.unwrap();
        assert_eq!(names(), ["children.0=a", "children.2=c", "children.3=d"]);
        let twice = world.graph.add_member(&q, &d).await.unwrap_err();
        assert!(twice.message().contains("already has a parent"), "{twice}");
        assert!(world.graph.remove("d").await.is_err(), "it is in use");
        world.graph.remove("b").await.unwrap();
        world.spoil("d", 7).await;
        assert_eq!(byte(&disk).await.unwrap(), 1);
        assert_eq!(world.told(), ["read outvoted: d 0+1024"]);
        let other = world.graph.need_node("a").unwrap();
        assert!(world.graph.add_member(&other, &q).await.is_err(), "a raw disk has no such children");
        world.graph.detach(&disk).await.unwrap();
    });
}

/// The next operation of this kind on a file fails.
fn failing(kind: OpKind, file: &str) -> Plant {
    Plant { file: Some(file.into()), ..Plant::nth_of(kind, 0, EIO) }
}

#[test]
fn a_child_that_missed_a_write_neither_outvotes_one_that_did_not_nor_makes_a_flush_succeed() {
    for rewrites in [false, true] {
        let sim = machine();
        let disks = sim.world().clone();
        sim.run(async move {
            let world = World::new().await;
            let further = [("rewrite-corrupted", Opt::Bool(rewrites))];
            let disk = world.quorum(1, &["a", "b"], &further).await;
            let q = world.graph.need_node("q").unwrap();
            disks.plant(failing(OpKind::Write, "/a"));
            q.write(512, Buf::from_slice(&[7; 512]), Request::DRIVER).await.unwrap();
            assert_eq!(world.told(), ["write failed: a 512+512"]);
            assert_eq!(byte(&disk).await.unwrap(), 7);
            assert_eq!(world.told(), ["read outvoted: a 0+1024"]);
            let b = world.enter("b").await;
            assert_eq!(byte(&b).await.unwrap(), 7);
            q.flush().await.unwrap();
            q.write(512, Buf::from_slice(&[8; 512]), Request::DRIVER).await.unwrap();
            disks.plant(failing(OpKind::Sync, "/b"));
            q.flush().await.unwrap_err();
        });
    }
}

#[test]
fn children_that_alone_were_shrunk_do_not_outvote_what_they_have_lost() {
    let sim = machine();
    let disks = sim.world().clone();
    sim.run(async move {
        let world = World::new().await;
        world.quorum(2, &["a", "c", "b", "d"], &[]).await;
        let q = world.graph.need_node("q").unwrap();
        disks.plant(failing(OpKind::SetLen, "/c"));
        q.set_length(SIZE / 2, api::PreallocMode::Off).await.unwrap_err();
        assert_eq!(world.told(), ["write failed: a 4096+4096"]);
        assert_eq!(q.length(), SIZE);
        let (read, result) = q.read(SIZE / 2, BufMut::with_len(512)).await;
        // What the other one has that failed is not known.
        assert_eq!(world.told()[0], "read failed: a 4096+512");
        result.unwrap();
        assert_eq!(read[..], [1; 512]);
    });
}

#[test]
fn block_status_is_told_as_data_where_a_child_does_not_tell_it() {
    machine().run(async {
        let world = World::new().await;
        let rule = Options::new().with_str("event", "none").with_str("iotype", "block-status");
        let fails = Options::new().with_str("driver", "blkdebug").with_str("image", "b");
        let fails = fails.with("inject-error", Opt::List(vec![Opt::Dict(rule)]));
        world.graph.add(fails.with_str("node-name", "fails")).await.unwrap();
        world.quorum(2, &["a", "fails", "c"], &[]).await;
        let q = world.graph.need_node("q").unwrap();
        let status = q.status(0, SIZE, None).await.unwrap();
        assert!(status.data && status.len == SIZE, "{status:?}");
        assert_eq!(world.told(), ["read failed: fails 0+8192"]);
    });
}
