//! Hooks see every change of their node, whichever way it takes, each once and in order: before, with, after. And a request
//! that wants its range for itself has it.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use block::{
    AfterChange, Backend, BackendRequest, BeforeChange, BlockError, Common, Discard, Flags, Graph, Held,
    Hook, MapChange, Node, NodeChange, Opt, Options, Perms, Policy, Registry, Request, Result, Serialiser,
    Source, WithChange,
};
use parking_lot::Mutex;
use rt::{BoxFuture, Buf, BufMut};
use sim::{Config, Disk, Sim};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};

/// What a hook was told, by its phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Before(NodeChange),
    With(NodeChange, Option<u8>),
    After(NodeChange),
    /// What the first phase held was let go.
    Ended,
}

#[derive(Default)]
struct Recorder {
    told: Arc<Mutex<Vec<Told>>>,
    refuses: bool,
}

struct Lasts(Arc<Mutex<Vec<Told>>>);

impl Drop for Lasts {
    fn drop(&mut self) {
        self.0.lock().push(Told::Ended);
    }
}

impl BeforeChange for Recorder {
    fn before(&self, change: NodeChange) -> BoxFuture<'_, Result<Held>> {
        Box::pin(async move {
            rt::sleep(std::time::Duration::from_micros(3)).await;
            self.told.lock().push(Told::Before(change));
            match self.refuses {
                true => Err(BlockError::invalid("not now")),
                false => Ok(Some(Box::new(Lasts(self.told.clone())) as Box<dyn Send>)),
            }
        })
    }
}

impl WithChange for Recorder {
    fn with(&self, change: NodeChange, data: Option<Buf>) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.told.lock().push(Told::With(change, data.and_then(|data| data.first().copied())));
        })
    }
}

impl AfterChange for Recorder {
    fn after(&self, change: NodeChange) {
        self.told.lock().push(Told::After(change));
    }
}

impl Recorder {
    fn take(&self) -> Vec<Told> {
        std::mem::take(&mut *self.told.lock())
    }

    /// Puts it on a node, in the first two phases only if asked for.
    async fn watch(self: &Arc<Self>, graph: &Graph, node: &Arc<Node>, all: bool) {
        let mut change = graph.change().await;
        change.quiesce(std::slice::from_ref(node)).await.unwrap();
        if all {
            change.add_hook(node, Hook::Before(self.clone()));
            change.add_hook(node, Hook::With(self.clone()));
        }
        change.add_hook(node, Hook::After(self.clone()));
        change.end(Ok(())).await.unwrap();
    }
}

fn graph() -> Graph {
    let registry = Registry::new(&[protocols::DRIVERS, formats::DRIVERS]);
    Graph::new(registry, |_| Err(BlockError::invalid("no json")))
}

async fn attach(graph: &Graph, node: &Arc<Node>) -> Arc<Backend> {
    let request =
        BackendRequest { label: "guest".to_owned(), node: node.clone(), perms: Perms::WRITER, pinned: false };
    graph.attach(request).await.unwrap()
}

/// A qcow2 image of 64 clusters.
async fn disk(graph: &Graph, options: Options) -> Arc<Backend> {
    graph.create("qcow2", "/disk", 64 << 10, Options::new().with_str("cluster_size", "1024")).await.unwrap();
    let file = Options::new().with_str("driver", "file").with_str("filename", "/disk");
    let options = options.with_str("driver", "qcow2").with("file", Opt::Dict(file));
    let common = Common { discard: Discard::Unmap, ..Common::default() };
    let node = graph.open_with(options, common, Policy::FOLLOW).await.unwrap();
    attach(graph, &node).await
}

fn bytes(byte: u8, len: usize) -> Buf {
    Buf::from_slice(&vec![byte; len])
}

fn changed(offset: u64, len: u64, change: MapChange, request: Request) -> NodeChange {
    NodeChange { offset, len, change, request }
}

/// What a change is told as by all three phases.
fn thrice(change: NodeChange, data: Option<u8>) -> Vec<Told> {
    vec![Told::Before(change), Told::With(change, data), Told::Ended, Told::After(change)]
}

const GUEST: Request = Request::GUEST;

#[test]
fn each_change_is_told_once_in_each_phase_whichever_way_it_takes() {
    Sim::new(1).run(async {
        let graph = graph();
        let disk = disk(&graph, Options::new().with_str("detect-zeroes", "on")).await;
        let hook = Arc::new(Recorder::default());
        hook.watch(&graph, &disk.node(), true).await;
        let write = async |at, byte, len: usize, request| {
            assert_eq!(
                disk.try_write(at, &vec![byte; len], request).unwrap(),
                0,
                "hooks stop the inline path"
            );
            disk.write(at, bytes(byte, len), request).await.unwrap();
            let change = changed(at, len as u64, MapChange::Data, request);
            assert_eq!(hook.take(), thrice(change, Some(byte)), "{at:#x}");
        };
        // New clusters, in place, over the border of both, durable, and zeroes that are found.
        write(1024, 1, 512, GUEST).await;
        write(1024, 2, 512, GUEST).await;
        write(1536, 3, 2048, GUEST).await;
        write(1024, 4, 512, GUEST.with(Flags::FUA)).await;
        write(1024, 0, 1024, GUEST).await;
        // A part of a cluster is zeroed by data: one change still.
        for (request, at, len) in [(GUEST, 2048, 100), (GUEST.with(Flags::MAY_UNMAP), 0, 8192)] {
            disk.write_zeroes(at, len, request).await.unwrap();
            assert_eq!(hook.take(), thrice(changed(at, len, MapChange::Zero, request), None));
        }
        disk.discard(0, 4096, GUEST).await.unwrap();
        assert_eq!(hook.take(), thrice(changed(0, 4096, MapChange::Discard, GUEST), None));
        // A job.
        disk.write(8192, bytes(9, 512), Request::JOB).await.unwrap();
        let told = hook.take();
        assert!(matches!(told[0], Told::Before(change) if change.request.source() == Source::Job));
        assert_eq!(told.len(), 4);
        // A refusal: nothing has changed, and nobody else hears of it.
        let refuses = Arc::new(Recorder { refuses: true, ..Recorder::default() });
        refuses.watch(&graph, &disk.node(), true).await;
        assert!(disk.write(8192, bytes(7, 512), GUEST).await.is_err());
        assert_eq!(refuses.take().len(), 1);
        assert_eq!(hook.take().len(), 2, "the first hook had begun");
        assert_eq!(disk.read(8192, BufMut::with_len(1)).await.0[0], 9);
        graph.detach(&disk).await.unwrap();
    });
}

#[test]
fn what_comes_after_is_told_of_inline_writes_too_at_every_node_passed() {
    for seed in 0..20 {
        Sim::new(seed).run(async {
            let graph = graph();
            let disk = disk(&graph, Options::new()).await;
            disk.write(0, bytes(1, 4096), GUEST).await.unwrap();
            disk.flush().await.unwrap();
            let (top, file) = (Arc::new(Recorder::default()), Arc::new(Recorder::default()));
            top.watch(&graph, &disk.node(), false).await;
            file.watch(&graph, &disk.node().primary().unwrap(), false).await;
            // By chance none, some or all of it goes inline.
            let done = disk.try_write(512, &[2; 1024], Request::JOB).unwrap();
            if done < 1024 {
                disk.write(512 + done as u64, bytes(2, 1024 - done), Request::JOB).await.unwrap();
            }
            let covered = |told: Vec<Told>| {
                let job = |change: &NodeChange| change.request.source() == Source::Job;
                let len = |told: &Told| match told {
                    Told::After(change) if job(change) => change.len,
                    _ => 0,
                };
                told.iter().map(len).sum::<u64>()
            };
            assert_eq!(covered(top.take()), 1024);
            assert_eq!(covered(file.take()), 1024);
            graph.detach(&disk).await.unwrap();
        });
    }
}

#[test]
fn padding_shows_nothing_new_and_a_hook_is_gone_when_its_change_is_undone() {
    let sim = Sim::boot(Config { direct_alignment: 4096, ..Config::seeded(1) }, Disk::default());
    sim.run(async {
        let graph = graph();
        let file = Options::new().with_str("driver", "file").with_str("filename", "/plain");
        graph.create("raw", "/plain", 64 << 10, Options::new()).await.unwrap();
        let common = Common { direct: true, ..Common::default() };
        let node = graph.open_with(file, common, Policy::FOLLOW).await.unwrap();
        let disk = attach(&graph, &node).await;
        let hook = Arc::new(Recorder::default());
        hook.watch(&graph, &node, true).await;
        disk.write(5000, bytes(5, 300), GUEST).await.unwrap();
        assert_eq!(hook.take(), thrice(changed(5000, 300, MapChange::Data, GUEST), Some(5)));

        let undone = Arc::new(Recorder::default());
        let mut change = graph.change().await;
        change.add_hook(&node, Hook::After(undone.clone()));
        change.remove_hook(&node, Hook::Before(hook.clone()));
        assert!(change.end(Err::<(), _>(BlockError::invalid("undo"))).await.is_err());
        disk.write(0, bytes(6, 512), GUEST).await.unwrap();
        assert_eq!(undone.take(), []);
        assert_eq!(hook.take().len(), 4);
        graph.detach(&disk).await.unwrap();
    });
}

#[test]
fn a_serialising_request_has_its_range_for_itself() {
    for seed in 0..30 {
        Sim::new(seed).run(async move {
            let graph = graph();
            let disk = disk(&graph, Options::new()).await;
            let node = disk.node();
            let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let mut change = graph.change().await;
            change.quiesce(std::slice::from_ref(&node)).await.unwrap();
            change.add_hook(&node, Hook::Before(Arc::new(Serialiser::default())));
            change.add_hook(&node, Hook::With(Arc::new(Crowd { inside, most: most.clone() })));
            change.end(Ok(())).await.unwrap();
            let write = |request: Request| {
                let disk = disk.clone();
                rt::spawn(async move { disk.write(0, bytes(1, 1024), request).await.unwrap() })
            };
            let alone = Request::JOB.with(Flags::SERIALISING);
            for task in [write(GUEST), write(alone), write(GUEST), write(alone)] {
                task.await.unwrap();
            }
            assert_eq!(most.load(SeqCst), 0, "seed {seed}: somebody was beside a serialising request");
            graph.detach(&disk).await.unwrap();
        });
    }
}

/// Counts who is beside a serialising request.
struct Crowd {
    inside: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl WithChange for Crowd {
    fn with(&self, change: NodeChange, _: Option<Buf>) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let before = self.inside.fetch_add(1, SeqCst);
            rt::sleep(std::time::Duration::from_micros(50)).await;
            let after = self.inside.fetch_sub(1, SeqCst) - 1;
            if change.request.has(Flags::SERIALISING) {
                self.most.fetch_max(before.max(after), SeqCst);
            }
        })
    }
}
