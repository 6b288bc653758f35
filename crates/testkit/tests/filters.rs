//! The filters `copy-on-read` and `preallocate`: laws of a disk, and what each is for.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use block::{
    Backend, BackendRequest, BlockError, Common, Graph, Node, Opt, Options, Perms, Policy, Registry, Request,
};
use rt::{Buf, BufMut};
use sim::{Config, ENOSPC, Fault, OpKind, Plant, Rng, Sim};
use std::sync::Arc;
use testkit::conformance::Suite;
use testkit::crash::{CrashTest, inspect_qcow2, inspect_raw, run_seeds};
use testkit::guest::{Faults, Mix, Plan};
use testkit::stack::{Stack, TestImage};

const DRIVERS: [&[block::DriverType]; 3] = [protocols::DRIVERS, formats::DRIVERS, filters::DRIVERS];
const CLUSTER: u64 = 4096;

fn filtered(driver: &str, below: Opt) -> Options {
    Options::new().with_str("driver", driver).with("file", below)
}

fn file(name: &str) -> Options {
    Options::new().with_str("driver", "file").with_str("filename", name)
}

fn image(format: &str, file: Options) -> Options {
    Options::new().with_str("driver", format).with("file", Opt::Dict(file))
}

fn qcow2(file: &'static str, below: Option<&'static str>) -> TestImage {
    let image = TestImage::new("qcow2", file, 24 << 10).with("cluster_size", "1024");
    match below {
        None => image,
        Some(below) => image.with("backing_file", below).with("backing_fmt", "qcow2"),
    }
}

fn copying() -> Stack {
    let images = vec![qcow2("/base", None), qcow2("/mid", Some("/base")), qcow2("/top", Some("/mid"))];
    let mut stack = Stack::of("copy-on-read", &DRIVERS, images);
    stack.top = filtered("copy-on-read", Opt::Dict(stack.top));
    stack
}

/// The filter between an image and its file.
fn reserving(format: &'static str) -> Stack {
    let mut stack = Stack::of(
        &format!("{format} over preallocate"),
        &DRIVERS,
        vec![TestImage::new(format, "/disk", 24 << 10)],
    );
    let filter = filtered("preallocate", Opt::Dict(file("/disk")))
        .with("prealloc-align", Opt::Uint(4096))
        .with("prealloc-size", Opt::Uint(16384));
    stack.top = image(format, filter);
    stack
}

#[test]
fn what_copies_on_read_keeps_the_laws_of_a_disk() {
    Suite::of(Stack { reads_only: false, ..copying() }, Some(inspect_qcow2)).run();
}

#[test]
fn what_reserves_space_keeps_the_laws_of_a_disk() {
    Suite::of(reserving("qcow2"), Some(inspect_qcow2)).run();
    Suite::of(reserving("raw"), Some(inspect_raw)).run();
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
    run_seeds("FILTERS_CRASH", 30, |seed| CrashTest {
        config: Config { workers: 1 + seed as usize % 3, ..Config::seeded(0) },
        inspect: Some(inspect_qcow2),
        moments: 15,
        ..CrashTest::new(if seed % 2 == 0 { reserving("qcow2") } else { copying() }, plan)
    });
}

fn graph() -> Graph {
    Graph::new(Registry::new(&DRIVERS), |_| Err(BlockError::invalid("no json")))
}

async fn attach(graph: &Graph, name: &str, perms: Perms) -> Arc<Backend> {
    let node = graph.need_node(name).unwrap();
    graph.attach(BackendRequest { label: "guest".to_owned(), node, perms, pinned: false }).await.unwrap()
}

/// Makes three images over each other, of which the lower two hold something in clusters 0 and 1, or 1 and 2; opens them as
/// `base`, `mid` and `top`.
async fn chain(graph: &Graph) {
    let options = |below: Option<&str>| {
        let options = Options::new().with_str("cluster_size", "4096");
        match below {
            None => options,
            Some(below) => options.with_str("backing_file", below).with_str("backing_fmt", "qcow2"),
        }
    };
    for (name, below) in [("/base", None), ("/mid", Some("/base")), ("/top", Some("/mid"))] {
        graph.create("qcow2", name, 16 * CLUSTER, options(below)).await.unwrap();
    }
    for (name, cluster, byte) in [("/base", 0, 1), ("/mid", 1, 2)] {
        let node = graph.open_image(name, Some("qcow2"), Common::default(), Policy::FOLLOW).await.unwrap();
        let data = Buf::from_slice(&[byte; 2 * CLUSTER as usize]);
        node.write(cluster * CLUSTER, data, Request::GUEST).await.unwrap();
        graph.release(&node).await.unwrap();
    }
    let open = |name: &str| image("qcow2", file(&format!("/{name}"))).with_str("node-name", name);
    let base = open("base").with("backing", Opt::Null).with("read-only", Opt::Bool(true));
    graph.add(base).await.unwrap();
    let mid = open("mid").with_str("backing", "base").with("read-only", Opt::Bool(true));
    graph.add(mid).await.unwrap();
    graph.add(open("top").with_str("backing", "mid")).await.unwrap();
}

/// The clusters that the topmost image holds, of the first eight.
async fn held(top: &Arc<Node>) -> Vec<u64> {
    let mut held = Vec::new();
    for cluster in 0..8 {
        if top.status(cluster * CLUSTER, CLUSTER, None).await.unwrap().depth == 0
            && top.status(cluster * CLUSTER, CLUSTER, None).await.unwrap().allocated
        {
            held.push(cluster);
        }
    }
    held
}

async fn read(guest: &Backend, offset: u64, len: usize) -> Vec<u8> {
    let (data, result) = guest.read(offset, BufMut::zeroed(len)).await;
    result.unwrap();
    data.to_vec()
}

#[test]
fn what_is_read_is_in_the_image_afterwards_by_whole_clusters_and_not_below_the_bottom() {
    Sim::new(1).run(async {
        let graph = graph();
        chain(&graph).await;
        let top = graph.need_node("top").unwrap();
        let cor = filtered("copy-on-read", Opt::Str("top".to_owned())).with_str("node-name", "cor");
        let wrong = graph.add(cor.clone().with_str("bottom", "nope")).await.unwrap_err();
        assert!(wrong.message().starts_with("Bottom node 'nope' not found"), "{wrong}");
        graph.add(cor.with_str("bottom", "mid")).await.unwrap();
        let guest = attach(&graph, "cor", Perms { need: block::Share::READ, ..Perms::WRITER }).await;
        assert_eq!(read(&guest, 0, 4096).await, [1; 4096]);
        assert!(held(&top).await.is_empty(), "what only the base holds is not copied");
        assert_eq!(read(&guest, CLUSTER + 100, 50).await, [2; 50]);
        assert_eq!(held(&top).await, [1]);
        let mut reopened = filtered("copy-on-read", Opt::Str("top".to_owned()));
        reopened.set("node-name", Opt::Str("cor".to_owned()));
        graph.reopen(vec![reopened]).await.unwrap();
        assert_eq!(read(&guest, 0, 16 * 4096).await[..3 * 4096], [[1; 4096], [2; 4096], [2; 4096]].concat());
        assert!(held(&top).await.starts_with(&[0, 1, 2]));
        let read_only = filtered("copy-on-read", Opt::Str("base".to_owned()));
        assert_eq!(graph.add(read_only).await.unwrap_err().message(), "Block node is read-only");
    });
}

#[test]
fn an_image_is_found_behind_nodes_that_show_it_unchanged() {
    Sim::new(1).run(async {
        let graph = graph();
        chain(&graph).await;
        let top = graph.need_node("top").unwrap();
        let raw = |below| Options::new().with_str("driver", "raw").with("file", below);
        let window = raw(Opt::Str("top".to_owned())).with("offset", Opt::Uint(CLUSTER));
        let inner = filtered("copy-on-read", Opt::Dict(window));
        let outer = filtered("copy-on-read", Opt::Dict(raw(Opt::Dict(inner)))).with_str("node-name", "cor");
        graph.add(outer).await.unwrap();
        let guest = attach(&graph, "cor", Perms { need: block::Share::READ, ..Perms::WRITER }).await;
        assert_eq!(read(&guest, 0, 4096).await, [2; 4096]);
        assert_eq!(held(&top).await, [1]);
    });
}

#[test]
fn what_guests_write_beside_reads_is_never_lost() {
    for seed in 0..60 {
        Sim::new(seed).run(async move {
            let graph = graph();
            chain(&graph).await;
            let cor = filtered("copy-on-read", Opt::Str("top".to_owned())).with_str("node-name", "cor");
            graph.add(cor).await.unwrap();
            let guest = attach(&graph, "cor", Perms::WRITER).await;
            let mut rng = Rng::new(seed);
            let mut tasks = Vec::new();
            for sector in 0..24u64 {
                let (guest, reads) = (guest.clone(), rng.below(4));
                tasks.push(rt::spawn(async move {
                    for at in 0..reads {
                        read(&guest, (sector + at) % 20 * 512, 1024).await;
                    }
                    let data = Buf::from_slice(&[100 + sector as u8; 512]);
                    guest.write(sector * 512, data, Request::GUEST).await.unwrap();
                    assert_eq!(read(&guest, sector * 512, 512).await, [100 + sector as u8; 512]);
                }));
            }
            for task in tasks {
                task.await.unwrap();
            }
            for sector in 0..24u64 {
                assert_eq!(read(&guest, sector * 512, 512).await, [100 + sector as u8; 512], "seed {seed}");
            }
        });
    }
}

fn reserved(node: &str) -> Options {
    filtered("preallocate", Opt::Dict(file("/disk").with_str("node-name", "disk")))
        .with_str("node-name", node)
        .with("prealloc-align", Opt::Uint(4096))
        .with("prealloc-size", Opt::Uint(1 << 20))
}

#[test]
fn space_is_reserved_behind_a_write_and_given_back_at_the_end() {
    let sim = Sim::new(1);
    sim.world().put("/disk", &[7; 1000]);
    sim.run(async {
        let graph = graph();
        let node = graph.add(reserved("p")).await.unwrap();
        let disk = graph.need_node("disk").unwrap();
        let write = |at: u64| node.write(at, Buf::from_slice(&[1; 512]), Request::DRIVER);
        write(0).await.unwrap();
        assert_eq!((node.length(), disk.length()), (1000, 1000), "nothing grows");
        write(5000).await.unwrap();
        assert_eq!((node.length(), disk.length()), (5512, (5512u64 + (1 << 20)).next_multiple_of(4096)));
        write(8000).await.unwrap();
        let whole = disk.length();
        write(whole - 512).await.unwrap();
        assert_eq!((node.length(), disk.length()), (whole, whole), "up to its very end");
        write(whole).await.unwrap();
        assert_eq!(node.length(), whole + 512);
        node.set_length(whole + 4096, api::PreallocMode::Off).await.unwrap();
        assert!(node.length() == whole + 4096 && disk.length() > whole + (1 << 20));
        graph.set_writable(&node, false).await.unwrap();
        assert_eq!(disk.length(), whole + 4096, "a read-only node has nothing reserved");
        graph.set_writable(&node, true).await.unwrap();
        write(whole + 8192).await.unwrap();
        graph.remove("p").await.unwrap();
    });
    let len = sim.world().disk().content("/disk").unwrap().len();
    assert_eq!(len, (5512u64 + (1 << 20)).next_multiple_of(4096) + 8192 + 512);
}

#[test]
fn where_nothing_can_be_reserved_the_file_grows_by_the_writes() {
    let sim = Sim::new(1);
    sim.world().put("/disk", &[7; 4096]);
    let world = sim.world().clone();
    sim.run(async move {
        let graph = graph();
        let node = graph.add(reserved("p")).await.unwrap();
        let disk = graph.need_node("disk").unwrap();
        node.write(4096, Buf::from_slice(&[1; 512]), Request::DRIVER).await.unwrap();
        let whole = disk.length();
        let kinds = vec![OpKind::Allocate];
        world.plant(Plant { kinds, file: None, after: 0, times: u64::MAX, fault: Fault::Errno(ENOSPC) });
        node.write(whole - 512, Buf::from_slice(&[2; 1024]), Request::DRIVER).await.unwrap();
        assert_eq!((node.length(), disk.length()), (whole + 512, whole + 512));
        graph.remove("p").await.unwrap();
        assert!(graph.node("disk").is_none());
    });
}
