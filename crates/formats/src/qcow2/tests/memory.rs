//! What is read of the tables at a time, how long it stays in memory, and which flushes reach the file, on the simulated disk.
use super::*;
use block::{Backend, BackendRequest, Opt, Perms};
use sim::{OpKind, Sim};
use std::time::Duration;

const PATH: &str = "/image";
/// Clusters of 4 KiB: a slice of 512 bytes maps 256 KiB, a table 2 MiB.
const CLUSTER: u64 = 4096;

async fn open(options: Options) -> (Graph, Arc<Backend>) {
    let graph = Graph::new(Registry::new(&[protocols::DRIVERS, crate::DRIVERS]), |_| Ok(Options::new()));
    let named = graph.image_options(PATH, Some("qcow2")).unwrap();
    let options = options.iter().fold(named, |all, (name, value)| all.with(name, value.clone()));
    let node = graph.open(options, Policy::FOLLOW).await.unwrap();
    let request = BackendRequest {
        label: "test".to_owned(),
        node,
        perms: Perms { share: block::Share::ALL, ..Perms::WRITER },
        pinned: false,
    };
    let backend = graph.attach(request).await.unwrap();
    (graph, backend)
}

/// A machine with an image of 2 MiB that has one whole table, of zeroes.
fn machine() -> Sim {
    let machine = Sim::new(5);
    machine.world().put(PATH, &[]);
    machine.run(async {
        let options = Options::new().with("cluster_size", Opt::Uint(CLUSTER));
        make(Path::new(PATH), 2 << 20, options).await.unwrap();
        let (graph, backend) = open(Options::new()).await;
        backend.write_zeroes(0, 2 << 20, block::Request::GUEST).await.unwrap();
        graph.detach(&backend).await.unwrap();
    });
    machine
}

/// Looks at one byte in each 256 KiB; tells how many reads of the file that took.
async fn look(world: &sim::World, backend: &Arc<Backend>) -> u64 {
    let before = world.count(Some(OpKind::Read));
    for piece in 0..8 {
        backend.status(piece << 18, 1).await.unwrap();
    }
    world.count(Some(OpKind::Read)) - before
}

fn slice(bytes: u64) -> Options {
    Options::new().with("l2-cache-entry-size", Opt::Uint(bytes))
}

#[test]
fn so_much_is_read_of_a_table_at_a_time_as_is_asked_for() {
    // A table has 4 KiB; the first look reads the page of the L1 table too.
    for (options, reads) in [(Options::new(), 1), (slice(4096), 1), (slice(1024), 4), (slice(512), 8)] {
        let machine = machine();
        let world = machine.world().clone();
        machine.run(async move {
            let (graph, backend) = open(options).await;
            assert_eq!(look(&world, &backend).await, reads + 1);
            assert_eq!(look(&world, &backend).await, 0);
            let again = |options: Options| {
                let file = backend.node().primary().unwrap().name().to_owned();
                let named = options.with_str("driver", "qcow2").with_str("node-name", backend.node().name());
                graph.reopen(vec![named.with_str("file", &file)])
            };
            // Another size takes effect by a reopen; the same one keeps what is there.
            again(slice(2048)).await.unwrap();
            assert_eq!(look(&world, &backend).await, 2 + 1);
            again(slice(2048)).await.unwrap();
            assert_eq!(look(&world, &backend).await, 0);
            backend.write(300 << 10, rt::Buf::from_slice(&[7; 512]), block::Request::GUEST).await.unwrap();
            again(slice(512)).await.unwrap();
            let (data, result) = backend.read(300 << 10, rt::BufMut::with_len(1024)).await;
            result.unwrap();
            assert_eq!((data[..512].to_vec(), data[512..].to_vec()), (vec![7; 512], vec![0; 512]));
            graph.detach(&backend).await.unwrap();
        });
    }
}

#[test]
fn tables_that_nobody_uses_leave_memory_after_the_interval() {
    let interval = |seconds| Options::new().with("cache-clean-interval", Opt::Uint(seconds));
    for (options, seconds, reads) in [
        (interval(10), 21, 2),
        (interval(10), 9, 0),
        (interval(0), 100_000, 0),
        (Options::new(), 1_300, 2),
        (Options::new(), 500, 0),
    ] {
        let machine = machine();
        let world = machine.world().clone();
        machine.run(async move {
            let (graph, backend) = open(options.clone()).await;
            assert_eq!(look(&world, &backend).await, 2);
            rt::sleep(Duration::from_secs(seconds)).await;
            assert_eq!(look(&world, &backend).await, reads, "{options:?}, {seconds} s");
            graph.detach(&backend).await.unwrap();
        });
        machine.settle();
    }
}

#[test]
fn a_file_follows_its_image_when_a_reopen_changes_whether_flushes_are_omitted() {
    let machine = machine();
    let world = machine.world().clone();
    machine.run(async move {
        let (graph, backend) = open(Options::new()).await;
        for no_flush in [false, true, false] {
            let (node, file) = (backend.node(), backend.node().primary().unwrap());
            let cache = Options::new().with("no-flush", Opt::Bool(no_flush));
            let options = Options::new()
                .with_str("driver", "qcow2")
                .with_str("node-name", node.name())
                .with_str("file", file.name())
                .with("cache", Opt::Dict(cache));
            graph.reopen(vec![options]).await.unwrap();
            let before = world.count(Some(OpKind::Sync));
            let data = rt::Buf::from_slice(&[7; 512]);
            backend.write(0, data, block::Request::GUEST).await.unwrap();
            backend.flush().await.unwrap();
            assert_eq!(world.count(Some(OpKind::Sync)) == before, no_flush);
        }
        graph.detach(&backend).await.unwrap();
    });
}
