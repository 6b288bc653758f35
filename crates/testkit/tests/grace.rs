//! What is given up stays in use as long as a request that was admitted before its unmapping is inside, however often storage
//! is found full meanwhile.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use block::{
    Backend, BackendRequest, BlockError, Common, Discard, Graph, Hook, Node, NodeChange, Opt, Options, Perms,
    Policy, Registry, Request, Share, Source, WithChange,
};
use rt::{BoxFuture, Buf};
use sim::Sim;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::time::Duration;

const CLUSTER: u64 = 1024;

/// Keeps a job's changes of one cluster inside, with their data stored, until it is told to let them go.
struct Hold {
    cluster: u64,
    open: AtomicBool,
}

impl Hold {
    fn of(cluster: u64) -> Arc<Self> {
        Arc::new(Self { cluster, open: AtomicBool::new(false) })
    }
}

impl WithChange for Hold {
    fn with(&self, change: NodeChange, _: Option<Buf>) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let its = change.offset == self.cluster * CLUSTER && change.request.source() == Source::Job;
            while its && !self.open.load(SeqCst) {
                rt::sleep(Duration::from_millis(1)).await;
            }
        })
    }
}

async fn attach(graph: &Graph, label: &str, node: &Arc<Node>) -> Arc<Backend> {
    let request = BackendRequest {
        label: label.to_owned(),
        node: node.clone(),
        perms: Perms { need: Share::READ.union(Share::WRITE), share: Share::ALL },
        pinned: false,
    };
    graph.attach(request).await.unwrap()
}

async fn write(entry: &Backend, cluster: u64, request: Request) {
    let data = Buf::from_slice(&[cluster as u8 + 1; CLUSTER as usize]);
    entry.write(cluster * CLUSTER, data, request).await.unwrap();
}

async fn place(node: &Arc<Node>, cluster: u64) -> Option<u64> {
    let status = node.status(cluster * CLUSTER, CLUSTER, None).await.unwrap();
    status.host.map(|(_, offset)| offset)
}

/// Long enough for what others do on the simulated disk, and much shorter than anybody's patience.
async fn a_moment() {
    rt::sleep(Duration::from_millis(50)).await;
}

#[test]
fn what_is_unmapped_while_a_reclaim_waits_is_not_released_by_it() {
    Sim::new(1).run(async {
        let registry = Registry::new(&[protocols::DRIVERS, formats::DRIVERS]);
        let graph = Graph::new(registry, |_| Err(BlockError::invalid("no json")));
        let options = Options::new().with_str("cluster_size", "1024");
        graph.create("qcow2", "/disk", 64 * CLUSTER, options).await.unwrap();
        let file = Options::new().with_str("driver", "file").with_str("filename", "/disk");
        let options = Options::new().with_str("driver", "qcow2").with("file", Opt::Dict(file));
        let common = Common { discard: Discard::Unmap, ..Common::default() };
        let node = graph.open_with(options, common, Policy::FOLLOW).await.unwrap();
        let (first, second) = (attach(&graph, "first", &node).await, attach(&graph, "second", &node).await);
        for cluster in 0..8 {
            write(&first, cluster, Request::GUEST).await;
        }
        first.flush().await.unwrap();
        let (early, late) = (Hold::of(5), Hold::of(0));
        let mut change = graph.change().await;
        change.quiesce(std::slice::from_ref(&node)).await.unwrap();
        change.add_hook(&node, Hook::With(early.clone()));
        change.add_hook(&node, Hook::With(late.clone()));
        change.end(Ok(())).await.unwrap();

        // A reclaim waits for the request of the second entry; those of the first have ended.
        let inside = rt::spawn(async move { write(&second, 5, Request::JOB).await });
        first.discard(CLUSTER, CLUSTER, Request::GUEST).await.unwrap();
        a_moment().await;
        let reclaiming = node.clone();
        let reclaim = rt::spawn(async move { reclaiming.driver().reclaim().await });
        a_moment().await;

        // Meanwhile a request of the first knows where cluster 0 is; then that is unmapped, durably.
        let held = place(&node, 0).await.unwrap();
        let entry = first.clone();
        let knows = rt::spawn(async move { write(&entry, 0, Request::JOB).await });
        a_moment().await;
        first.discard(0, CLUSTER, Request::GUEST).await.unwrap();
        first.flush().await.unwrap();
        early.open.store(true, SeqCst);
        inside.await.unwrap();
        assert!(reclaim.await.unwrap());

        write(&first, 20, Request::GUEST).await;
        assert_ne!(place(&node, 20).await.unwrap(), held, "a request inside still knows it");
        late.open.store(true, SeqCst);
        knows.await.unwrap();
        a_moment().await;
        write(&first, 21, Request::GUEST).await;
        assert_eq!(place(&node, 21).await.unwrap(), held, "it is free when nobody knows it any more");
    });
}
