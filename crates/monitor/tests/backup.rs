//! Backups by QMP: under a guest that never stops, into images that are made for them, in transactions.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]
mod client;
mod support;

use api::Value;
use block::{Backend, BackendRequest, Node, Options, Perms, Request};
use client::Client;
use rt::{Buf, BufMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};
use support::*;

const SIZE: u64 = 4 << 20;

/// A daemon with disks `a` and `b` and targets `t` and `u`, and a client.
struct World {
    control: monitor::Control,
    folder: Folder,
    client: Client,
}

impl World {
    async fn new() -> World {
        let (control, folder) = (control(), Folder::new());
        let client = Client::new(&control).await;
        let mut world = World { control, folder, client };
        for node in ["a", "b", "t", "u"] {
            world.add(node, "").await;
        }
        world
    }

    async fn add(&mut self, node: &str, more: &str) {
        let file = self.folder.path(node);
        self.control.graph().create("qcow2", &file, SIZE, Options::new()).await.unwrap();
        self.client
            .ok(&format!(
                "{{'execute': 'blockdev-add', 'arguments': {{'driver': 'qcow2', 'node-name': '{node}', {more} \
                 'file': {{'driver': 'file', 'filename': '{file}'}}}}}}"
            ))
            .await;
    }

    fn node(&self, name: &str) -> Arc<Node> {
        self.control.graph().node(name).unwrap()
    }

    async fn guest(&self, name: &str) -> Arc<Backend> {
        let (label, node) = ("guest".to_owned(), self.node(name));
        self.control
            .graph()
            .attach(BackendRequest { label, node, perms: Perms::WRITER, pinned: false })
            .await
            .unwrap()
    }

    async fn ask(&mut self, command: &str, arguments: &str) -> Result<(), String> {
        let text = format!("{{'execute': '{command}', 'arguments': {{{arguments}}}}}");
        let answer = self.client.ask(&text).await;
        match answer.get("return") {
            Some(_) => Ok(()),
            None => Err(crate::text(&answer, &["error", "desc"])),
        }
    }

    async fn transaction(&mut self, actions: &str, mode: &str) -> Result<(), String> {
        let properties = format!("'properties': {{'completion-mode': '{mode}'}}");
        self.ask("transaction", &format!("'actions': [{actions}], {properties}")).await
    }

    /// Waits for the end of all jobs; what they reported.
    async fn ended(&mut self, id: &str) -> Value {
        loop {
            let is_the_end = |event: &Value| {
                let ends = ["BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED"];
                ends.contains(&&*text(event, &["event"])) && text(event, &["data", "device"]) == id
            };
            if let Some(at) = self.client.events.iter().position(is_the_end) {
                return self.client.events.remove(at);
            }
            let message = self.client.receive().await;
            self.client.events.push(message);
        }
    }
}

async fn write(entry: &Backend, offset: u64, byte: u8, len: usize) {
    entry.write(offset, Buf::from_slice(&vec![byte; len]), Request::GUEST).await.unwrap();
}

async fn content(node: &Arc<Node>) -> Vec<u8> {
    let (buf, result) = node.read(0, BufMut::with_len(SIZE as usize)).await;
    result.unwrap();
    buf.to_vec()
}

/// A guest that writes, in rounds, the round's number to every 16th KiB of the disk.
async fn writer(entry: Arc<Backend>, stop: Arc<AtomicBool>) {
    for round in (1..=255u8).cycle() {
        for at in (0..SIZE).step_by(16384) {
            write(&entry, at, round, 1024).await;
            if stop.load(Relaxed) {
                return;
            }
        }
    }
}

/// Whether a disk is one of some moment of that guest: a round up to somewhere, the one before it from there on.
fn is_of_a_moment(disk: &[u8]) -> bool {
    let marks: Vec<u8> = disk.chunks(16384).map(|unit| unit[0]).collect();
    let whole = disk.chunks(16384).all(|unit| unit[..1024].iter().all(|b| *b == unit[0]));
    let changes = marks.windows(2).filter(|pair| pair[0] != pair[1]).count();
    whole && changes <= 1
}

#[test]
fn backups_under_a_guest_are_of_a_moment_and_those_of_one_transaction_of_the_same() {
    rt::block_on_control(async {
        let mut world = World::new().await;
        let (entry, stop) = (world.guest("a").await, Arc::new(AtomicBool::new(false)));
        let guest = rt::spawn_on(rt::Target::Worker(0), writer(entry.clone(), stop.clone()));
        for round in 0..6 {
            let arguments = "'job-id': 'j', 'device': 'a', 'target': 't', 'sync': 'full'";
            world.ask("blockdev-backup", arguments).await.unwrap();
            let end = world.ended("j").await;
            assert_eq!(text(&end, &["event"]), "BLOCK_JOB_COMPLETED", "{end}");
            assert!(end.get("data").unwrap().get("error").is_none(), "{end}");
            assert!(is_of_a_moment(&content(&world.node("t")).await), "round {round}");
        }
        for round in 0..6 {
            let action = |id: &str, target: &str| {
                format!(
                    "{{'type': 'blockdev-backup', 'data': {{'job-id': '{id}', 'device': 'a', 'target': '{target}', \
                     'sync': 'full'}}}}"
                )
            };
            let actions = format!("{}, {}", action("j", "t"), action("k", "u"));
            world.transaction(&actions, "grouped").await.unwrap();
            world.ended("j").await;
            world.ended("k").await;
            let one = content(&world.node("t")).await;
            assert!(is_of_a_moment(&one) && one == content(&world.node("u")).await, "round {round}");
        }
        stop.store(true, Relaxed);
        guest.await.unwrap();
        world.control.end().await.unwrap();
    });
}

#[test]
fn a_transaction_with_an_action_that_fails_leaves_neither_filters_nor_jobs_nor_overlays() {
    rt::block_on_control(async {
        let mut world = World::new().await;
        let entry = world.guest("a").await;
        let other = world.guest("b").await;
        write(&entry, 0, 7, 65536).await;
        world.ask("block-dirty-bitmap-add", "'node': 'a', 'name': 'b0'").await.unwrap();
        write(&entry, 65536, 8, 65536).await;
        let nodes = world.control.graph().nodes().len();
        let snapshot = world.folder.path("overlay");
        let backup = world.folder.path("backup");
        let actions = format!(
            "{{'type': 'block-dirty-bitmap-clear', 'data': {{'node': 'a', 'name': 'b0'}}}},
             {{'type': 'blockdev-backup', 'data': {{'job-id': 'j', 'device': 'a', 'target': 't', 'sync': 'full'}}}},
             {{'type': 'drive-backup', 'data': {{'job-id': 'k', 'device': 'b', 'target': '{backup}', 'sync': 'full'}}}},
             {{'type': 'blockdev-snapshot-sync', 'data': {{'node-name': 'b', 'snapshot-file': '{snapshot}', \
             'snapshot-node-name': 'o'}}}},
             {{'type': 'abort', 'data': {{}}}}"
        );
        let refused = world.transaction(&actions, "individual").await.unwrap_err();
        assert_eq!(refused, "Transaction aborted using Abort action");
        let unknown = "{'execute': 'blockdev-backup', 'arguments': {'job-id': 'j', 'device': 'a', 'target': 'x', 'sync': 'full'}}";
        let (class, words) = world.client.refused(unknown).await;
        assert_eq!((&*class, &*words), ("GenericError", "Cannot find device='x' nor node-name='x'"));
        assert_eq!(world.control.graph().nodes().len(), nodes);
        assert!(world.control.jobs().all().is_empty());
        assert!(Arc::ptr_eq(&entry.node(), &world.node("a")));
        let bitmap = world.node("a").need_bitmap("b0").unwrap();
        assert!(!bitmap.is_busy() && bitmap.bits().dirty_bytes() == 65536);
        // Without the last action all of it takes effect, together.
        let actions = actions.rsplit_once(",\n").unwrap().0.replace("full", "top");
        std::fs::remove_file(&snapshot).unwrap();
        world.transaction(&actions, "individual").await.unwrap();
        for id in ["j", "k"] {
            let end = world.ended(id).await;
            assert!(end.get("data").unwrap().get("error").is_none(), "{end}");
        }
        assert!(content(&world.node("t")).await == content(&world.node("a")).await);
        assert_eq!((other.node().name(), world.node("o").backing().unwrap().name()), ("o", "b"));
        assert_eq!(bitmap.bits().dirty_bytes(), 0);
        world.control.end().await.unwrap();
    });
}

#[test]
fn a_drive_backup_that_is_refused_makes_no_image_and_one_that_is_not_makes_it_like_the_disk() {
    rt::block_on_control(async {
        let mut world = World::new().await;
        let entry = world.guest("a").await;
        write(&entry, 1 << 20, 3, 200_000).await;
        let target = world.folder.path("new");
        let arguments = format!("'job-id': 'j', 'device': 'a', 'target': '{target}'");
        for (more, words) in [
            ("'sync': 'incremental'", "must provide a valid bitmap name for 'incremental' sync mode"),
            ("'sync': 'full', 'speed': -1", "Parameter 'speed' expects a non-negative value"),
            ("'sync': 'full', 'format': 'nope'", "Unknown file format 'nope'"),
            (
                "'sync': 'full', 'format': 'raw', 'compress': true",
                "Compression is not supported for this drive raw",
            ),
            ("'sync': 'none', 'format': 'raw'", "Backing file not supported for file format 'raw'"),
            ("'sync': 'full', 'x-perf': {'max-workers': 0}", "max-workers must be between 1 and 2147483647"),
        ] {
            let refused = world.ask("drive-backup", &format!("{arguments}, {more}")).await.unwrap_err();
            assert_eq!(refused, words);
            assert!(!std::path::Path::new(&target).exists(), "{more}");
        }
        let nodes = world.control.graph().nodes().len();
        world.ask("drive-backup", &format!("{arguments}, 'sync': 'none'")).await.unwrap();
        write(&entry, 1 << 20, 4, 65536).await;
        world.ask("block-job-cancel", "'device': 'j'").await.unwrap();
        let end = world.client.event("BLOCK_JOB_CANCELLED").await;
        assert_eq!(end.get("data").unwrap().get("offset"), Some(&Value::Int(65536)), "what was overwritten");
        while world.control.graph().nodes().len() > nodes {
            rt::sleep(std::time::Duration::from_millis(1)).await;
        }
        let kept = std::fs::read(&target).unwrap();
        assert!(
            kept.windows(65536).any(|part| part.iter().all(|b| *b == 3)),
            "the old content is in the image"
        );
        world.control.end().await.unwrap();
    });
}

#[test]
fn zeroes_of_the_moment_are_zeroes_of_an_increment_and_of_a_target_over_the_disk() {
    rt::block_on_control(async {
        let mut world = World::new().await;
        let entry = world.guest("a").await;
        write(&entry, 0, 5, 1 << 20).await;
        world.ask("block-dirty-bitmap-add", "'node': 'a', 'name': 'b'").await.unwrap();
        world
            .ask("blockdev-backup", "'job-id': 'j', 'device': 'a', 'target': 't', 'sync': 'full'")
            .await
            .unwrap();
        world.ended("j").await;
        entry.write_zeroes(65536, 131_072, Request::GUEST).await.unwrap();
        let before = content(&world.node("a")).await;
        // The increment knows nothing of the image that it will lie over.
        world
            .ask(
                "blockdev-backup",
                "'job-id': 'j', 'device': 'a', 'target': 'u', 'sync': 'incremental', 'bitmap': 'b'",
            )
            .await
            .unwrap();
        world.ended("j").await;
        let (full, increment) = (world.node("t"), world.node("u"));
        let mut change = world.control.graph().change().await;
        change.quiesce(std::slice::from_ref(&increment)).await.unwrap();
        change.set_backing(&increment, Some(full)).unwrap();
        change.end(Ok(())).await.unwrap();
        assert!(content(&increment).await == before, "the chain is the disk");
        // What was zero is kept as zero, though the target shows it already, through the disk.
        world.add("s", "'backing': 'a',").await;
        world
            .ask("blockdev-backup", "'job-id': 'j', 'device': 'a', 'target': 's', 'sync': 'none'")
            .await
            .unwrap();
        write(&entry, 65536, 6, 4096).await;
        write(&entry, 2 << 20, 7, 4096).await;
        assert!(content(&world.node("s")).await == before);
        world.control.end().await.unwrap();
    });
}

#[test]
fn a_transaction_that_fails_takes_back_the_internal_snapshot_of_a_node_that_it_covered_or_copied_to() {
    rt::block_on_control(async {
        let mut world = World::new().await;
        world.add("o", "'backing': null,").await;
        let cover = "{'type': 'blockdev-snapshot', 'data': {'node': 'a', 'overlay': 'o'}}";
        let copy = "{'type': 'blockdev-backup', 'data': {'job-id': 'j', 'device': 'a', 'target': 't', 'sync': 'full'}}";
        for (node, then) in [("a", cover), ("t", copy)] {
            let make = format!(
                "{{'type': 'blockdev-snapshot-internal-sync', 'data': {{'device': '{node}', 'name': 'new'}}}}"
            );
            let actions = format!("'actions': [{make}, {then}, {{'type': 'abort', 'data': {{}}}}]");
            let said = world.ask("transaction", &actions).await.unwrap_err();
            assert!(said.contains("Transaction aborted using Abort action"), "{said}");
            let node = world.node(node);
            assert!(node.driver().info().snapshots.is_empty() && !node.read_only(), "{then}");
        }
    });
}

#[test]
fn a_backup_of_a_layer_is_no_part_of_the_names_that_headers_keep() {
    rt::block_on_control(async {
        let mut world = World::new().await;
        world.add("top", "'backing': 'a',").await;
        let job = "'job-id': 'j', 'device': 'a', 'target': 't', 'sync': 'none'";
        world.ask("blockdev-backup", job).await.unwrap();
        let exact = world.node("top").exact_filename();
        assert!(exact.contains("backing") && !exact.contains("copy-before-write"), "{exact}");
        world.ask("block-job-cancel", "'device': 'j'").await.unwrap();
        world.ended("j").await;
        assert_eq!(world.node("top").exact_filename(), exact);
    });
}

#[test]
fn an_overlay_that_takes_no_writes_is_not_put_over_what_is_written_to() {
    rt::block_on_control(async {
        let mut world = World::new().await;
        world.add("o", "'backing': null, 'read-only': true,").await;
        let guest = world.guest("a").await;
        let said = world.ask("blockdev-snapshot", "'node': 'a', 'overlay': 'o'").await.unwrap_err();
        assert!(said.contains("Block node 'o' is read-only"), "{said}");
        guest.write(0, Buf::from_slice(&[7; 512]), Request::GUEST).await.unwrap();
        world.control.graph().detach(&guest).await.unwrap();
    });
}

#[test]
fn an_action_on_a_device_is_about_what_those_before_it_have_put_into_the_device() {
    rt::block_on_control(async {
        let mut world = World::new().await;
        let graph = world.control.graph().clone();
        let device = graph.add_device("d").unwrap();
        graph.put_in(&device, world.node("a")).await.unwrap();
        let overlay = |on: &str, name: &str| {
            let file = world.folder.path(name);
            format!(
                "{{'type': 'blockdev-snapshot-sync', 'data': {{{on}, 'snapshot-file': '{file}', \
                 'snapshot-node-name': '{name}'}}}}"
            )
        };
        let actions = [
            overlay("'device': 'd'", "o1"),
            overlay("'device': 'd'", "o2"),
            overlay("'node-name': 'o2'", "o3"),
        ];
        let copy = "{'type': 'blockdev-backup', 'data': {'job-id': 'j', 'device': 'd', 'target': 't', 'sync': 'top'}}";
        world.transaction(&format!("{}, {copy}", actions.join(", ")), "individual").await.unwrap();
        world.ended("j").await;
        assert_eq!(device.need_node().unwrap().name(), "o3");
        for (name, below) in [("o3", "o2"), ("o2", "o1"), ("o1", "a")] {
            let node = world.node(name);
            assert_eq!(node.backing().unwrap().name(), below);
            assert_eq!(node.driver().info().backing_filename, Some(world.folder.path(below)), "{name}");
        }
    });
}

#[test]
fn only_actions_that_begin_jobs_are_completed_together() {
    rt::block_on_control(async {
        let mut world = World::new().await;
        let copy = "{'type': 'blockdev-backup', 'data': {'job-id': 'j', 'device': 'x', 'target': 't', 'sync': 'full'}}";
        let others = [
            ("block-dirty-bitmap-add", "'node': 'a', 'name': 'new'"),
            ("blockdev-snapshot", "'node': 'a', 'overlay': 'b'"),
            ("blockdev-snapshot-internal-sync", "'device': 'a', 'name': 'new'"),
            ("abort", ""),
        ];
        for (kind, data) in others {
            let actions = format!("{copy}, {{'type': '{kind}', 'data': {{{data}}}}}");
            let refused = world.transaction(&actions, "grouped").await.unwrap_err();
            assert!(
                refused.starts_with(&format!("Action '{kind}' ")),
                "before anything is looked up: {refused}"
            );
        }
        world.transaction("", "grouped").await.unwrap();
        assert!(world.node("a").bitmaps().all().is_empty());
    });
}
