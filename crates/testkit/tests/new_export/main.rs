//! A new kind of export, from outside of the crates: the kind is `socket.rs`, these are its clients.
//!
//! What one has to write: `socket.rs` as a folder of `crates/exports`, a branch of the schema's `BlockExportOptions`, and
//! one line in the monitor's `block-export-add`.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod socket;

use api::PreallocMode;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::Duration;

use block::{BlockError, Graph, Node, Opt, Options, Registry};
use exports::{ExportError, ExportSpec, Exports, RemoveMode};
use parking_lot::Mutex;
use rt::BufMut;
use rt::net::Stream;
use sim::Rng;
use socket::{REPLY, REQUEST, SECTOR, SocketKind};

const SIZE: u64 = 64 << 10;

/// What a test works with.
struct World {
    folder: PathBuf,
    graph: Graph,
    node: Arc<Node>,
    exports: Exports,
    /// Ids of exports whose end was reported.
    told: Arc<Mutex<Vec<String>>>,
}

/// Runs a test on a disk of its own, exported to nobody yet.
fn run(test: impl AsyncFnOnce(&World)) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let n = COUNT.fetch_add(1, Relaxed);
    let folder = std::env::temp_dir().join(format!("cairn-new-export-{}-{n}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let runtime = rt::Runtime::new(rt::Config { workers: Some(2), ..rt::Config::default() }).unwrap();
    runtime.block_on(async {
        let registry = Registry::new(&[protocols::DRIVERS, formats::DRIVERS]);
        let graph = Graph::new(registry, |_| Err(BlockError::invalid("no JSON here")));
        let path = folder.join("disk.qcow2").display().to_string();
        graph.create("qcow2", &path, SIZE, Options::new()).await.unwrap();
        let file = Options::new().with_str("driver", "file").with_str("filename", &path);
        let options = Options::new().with_str("driver", "qcow2").with_str("node-name", "disk");
        let node = graph.add(options.with("file", Opt::Dict(file))).await.unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let ear = told.clone();
        let exports = Exports::new(graph.clone(), move |id| ear.lock().push(id.to_owned()));
        let world = World { folder: folder.clone(), graph, node, exports, told };
        test(&world).await;
        world.exports.close_all().await;
        assert!(world.graph.entries().is_empty(), "every export lets go of its node");
        world.graph.close_all().await.unwrap();
    });
    std::fs::remove_dir_all(folder).unwrap();
}

impl World {
    async fn export(&self, id: &str, writable: bool) -> Client {
        let (ours, theirs) = Stream::pair().unwrap();
        self.exports.add(spec(id, writable), SocketKind(theirs)).await.unwrap();
        Client(ours)
    }

    async fn gone(&self, id: &str) {
        self.exports.wait_gone(&[id.to_owned()]).await;
        assert!(self.exports.list().iter().all(|export| export.id != id));
    }
}

fn spec(id: &str, writable: bool) -> ExportSpec {
    ExportSpec { id: id.to_owned(), node_name: "disk".to_owned(), writable, ..ExportSpec::default() }
}

struct Client(Stream);

/// What a client is told: whether it went well, the size, and the data.
type Answer = (bool, u64, Vec<u8>);

impl Client {
    /// Nothing, when the export has hung up.
    async fn ask(&self, op: u8, sector: u64, data: &[u8]) -> Option<Answer> {
        let mut request = Vec::with_capacity(REQUEST + data.len());
        request.push(op);
        request.extend(sector.to_le_bytes());
        request.extend_from_slice(data);
        self.0.send_all(&request).await.ok()?;
        let mut reply = [0; REPLY];
        self.0.recv_exact(&mut reply).await.ok()?;
        let [failed, size @ ..] = reply;
        let mut bytes = vec![0; if op == b'r' && failed == 0 { SECTOR } else { 0 }];
        self.0.recv_exact(&mut bytes).await.ok()?;
        Some((failed == 0, u64::from_le_bytes(size), bytes))
    }

    async fn write(&self, sector: u64, byte: u8) -> Option<Answer> {
        self.ask(b'w', sector, &[byte; SECTOR]).await
    }

    async fn read(&self, sector: u64) -> Option<Answer> {
        self.ask(b'r', sector, &[]).await
    }
}

#[test]
fn what_a_client_writes_is_on_the_node_and_it_reads_what_is_there() {
    run(async |world| {
        let (mut rng, sectors) = (Rng::new(7), SIZE / SECTOR as u64);
        let client = world.export("e0", true).await;
        let mut bytes = vec![0; SIZE as usize];
        for _ in 0..400 {
            let (sector, byte) = (rng.below(sectors), rng.below(255) as u8 + 1);
            let at = sector as usize * SECTOR;
            let part = &mut bytes[at..at + SECTOR];
            if rng.chance(1, 2) {
                part.fill(byte);
                assert_eq!(client.write(sector, byte).await, Some((true, SIZE, Vec::new())));
            } else {
                assert_eq!(client.read(sector).await, Some((true, SIZE, part.to_vec())));
            }
        }
        for beyond in [sectors, u64::MAX / 512, u64::MAX] {
            assert_eq!(client.read(beyond).await, Some((false, SIZE, Vec::new())));
            assert_eq!(client.write(beyond, 1).await, Some((false, SIZE, Vec::new())));
        }
        let (shown, read) = world.node.read(0, BufMut::with_len(SIZE as usize)).await;
        read.unwrap();
        assert!(shown[..] == bytes[..]);
        let reader = world.export("e1", false).await;
        assert_eq!(reader.read(3).await, Some((true, SIZE, bytes[3 * SECTOR..4 * SECTOR].to_vec())));
        assert_eq!(reader.write(3, 1).await, Some((false, SIZE, Vec::new())));
    });
}

#[test]
fn one_in_use_is_removed_only_in_hard_mode_and_what_was_written_is_in_the_file() {
    run(async |world| {
        let client = world.export("e0", true).await;
        client.write(5, 0x5c).await.unwrap();
        let listed = world.exports.list();
        assert_eq!((listed[0].kind, listed[0].node_name.as_str()), ("socket", "disk"));
        assert!(world.graph.remove("disk").await.unwrap_err().message().contains("is in use"));
        let refused = world.exports.remove("e0", RemoveMode::Safe).unwrap_err();
        assert!(matches!(refused, ExportError::InUse(id) if id == "e0"));
        assert!(client.read(5).await.is_some(), "a refused removal changes nothing");
        let backend = world.exports.backend("e0").unwrap();
        assert_eq!(backend.stats().flush.ops, 0);
        world.exports.remove("e0", RemoveMode::Hard).unwrap();
        world.gone("e0").await;
        assert_eq!((backend.stats().flush.ops, backend.in_flight()), (1, 0), "the last flush");
        assert_eq!(client.read(5).await, None);
        assert_eq!(*world.told.lock(), ["e0"]);
        let file = std::fs::read(world.folder.join("disk.qcow2")).unwrap();
        assert!(file.chunks(SECTOR).any(|sector| sector == [0x5c; SECTOR]));
        // The id and the node are free again.
        world.export("e0", true).await.write(5, 1).await.unwrap();
    });
}

#[test]
fn one_whose_client_has_left_is_removed_safely_or_ends_by_itself() {
    run(async |world| {
        let client = world.export("e0", true).await;
        client.write(0, 1).await.unwrap();
        drop(client);
        while let Err(refused) = world.exports.remove("e0", RemoveMode::Safe) {
            assert!(matches!(refused, ExportError::InUse(_)));
            rt::sleep(Duration::from_millis(1)).await;
        }
        world.gone("e0").await;
        // Of two, the one whose client has left is ended, and the other serves on.
        let (stays, leaves) = (world.export("e1", true).await, world.export("e2", true).await);
        drop(leaves);
        while world.exports.list().len() == 2 {
            world.exports.end_cut_off().await;
            rt::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(*world.told.lock(), ["e0", "e2"]);
        assert!(stays.read(0).await.is_some());
    });
}

#[test]
fn clients_are_told_a_new_size_because_this_kind_shares_resizing() {
    run(async |world| {
        let client = world.export("e0", true).await;
        let (old, new) = (SIZE / SECTOR as u64, SIZE * 2);
        assert_eq!(client.read(old).await, Some((false, SIZE, Vec::new())));
        world.graph.resize(&world.node, new, PreallocMode::Off).await.unwrap();
        assert_eq!(client.read(old).await, Some((true, new, vec![0; SECTOR])));
        world.graph.resize(&world.node, SIZE, PreallocMode::Off).await.unwrap();
        assert_eq!(client.write(old, 1).await, Some((false, SIZE, Vec::new())));
    });
}

#[test]
fn what_the_kind_refuses_leaves_nothing_behind() {
    run(async |world| {
        let (_ours, theirs) = Stream::pair().unwrap();
        let asked = ExportSpec { writethrough: true, ..spec("e0", true) };
        let refused = world.exports.add(asked, SocketKind(theirs)).await.unwrap_err();
        assert_eq!(refused.to_string(), "this kind has no writethrough");
        assert!(world.exports.list().is_empty() && world.graph.entries().is_empty());
        world.export("e0", true).await;
    });
}
