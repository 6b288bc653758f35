//! QMP sessions inside this process: the wire, several clients, and the live graph under a writer.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]
mod client;
mod support;

use api::{PreallocMode, Value};
use block::{Backend, BackendRequest, BlockError, Common, ErrorKind, Opt, Options, Perms, Policy, Request};
use client::Client;
use rt::{Buf, BufMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::time::Duration;
use support::*;

#[test]
fn every_document_is_answered_in_order_with_its_id_and_a_mistake_affects_nothing_after_it() {
    rt::block_on_control(async {
        let mut client = Client::connect(&control());
        let greeting = client.receive().await;
        assert_eq!(greeting.get("QMP").unwrap().get("capabilities").unwrap().as_list(), Some(&[][..]));
        let early = client.refused("{'execute': 'query-block', 'id': 1}").await;
        assert_eq!(early.0, "CommandNotFound");
        client.ok("{'execute': 'qmp_capabilities'}").await;
        assert_eq!(client.refused("{'execute': 'qmp_capabilities'}").await.0, "CommandNotFound");

        client.send("{'execute': 'query-block', 'id': 'a'} {'execute': 'nope', 'id': [2]}\n{'execute'").await;
        client.send(": 5, 'id': 3}[1]{'execute': 'query-block', 'arguments': {'x': 1}, 'id': null}").await;
        let answers = [
            client.receive().await,
            client.receive().await,
            client.receive().await,
            client.receive().await,
            client.receive().await,
        ];
        assert_eq!(answers[0].to_string(), r#"{"return": [], "id": "a"}"#);
        assert_eq!(text(&answers[1], &["error", "class"]), "CommandNotFound");
        assert_eq!(answers[1].get("id").unwrap().to_string(), "[2]");
        assert_eq!(text(&answers[2], &["error", "desc"]), "QMP input member 'execute' must be a string");
        assert_eq!(text(&answers[3], &["error", "desc"]), "QMP input must be a JSON object");
        assert_eq!(text(&answers[4], &["error", "desc"]), "Parameter 'x' is unexpected");

        let (class, words) = client.refused("{'execute': nonsense }\n").await;
        assert_eq!(class, "GenericError");
        assert!(words.starts_with("JSON parse error"), "{words}");
        client.send("\n").await;
        while client.ask("{'execute': 'query-block', 'id': 9}").await.get("id") != Some(&Value::Int(9)) {}
    });
}

#[test]
fn a_client_that_stops_reading_is_disconnected_and_others_are_not_affected() {
    rt::block_on_control(async {
        let control = control();
        let (mut deaf, mut other) = (Client::new(&control).await, Client::new(&control).await);
        // More answers than the server keeps for it, none of them read.
        deaf.send(&"{'execute': 'query-qmp-schema'}".repeat(60)).await;
        for _ in 0..20 {
            other.ok("{'execute': 'query-commands'}").await;
            rt::sleep(Duration::from_millis(10)).await;
        }
        // There is no room for an event any more.
        let folder = Folder::new();
        other.ok("{'execute': 'blockdev-add', 'arguments': {'driver': 'null-co', 'node-name': 'n'}}").await;
        other
            .ok(&format!(
                "{{'execute': 'nbd-server-start', 'arguments': {{'addr': {{'type': 'unix', 'data': {{'path': '{}'}}}}}}}}",
                folder.path("nbd.sock")
            ))
            .await;
        other
            .ok("{'execute': 'block-export-add', 'arguments': {'type': 'nbd', 'id': 'e', 'node-name': 'n'}}")
            .await;
        other.ok("{'execute': 'block-export-del', 'arguments': {'id': 'e'}}").await;
        other.event("BLOCK_EXPORT_DELETED").await;
        let mut answers = 0;
        while deaf.try_receive().await.is_some() {
            answers += 1;
        }
        assert!(answers < 60, "it was disconnected before it had received everything");
        other.ok("{'execute': 'query-commands'}").await;
        control.end().await.unwrap();
    });
}

#[test]
fn a_command_is_carried_through_though_its_client_has_left() {
    rt::block_on_control(async {
        let control = control();
        let mut watcher = Client::new(&control).await;
        let client = Client::new(&control).await;
        client
            .send("{'execute': 'blockdev-add', 'arguments': {'driver': 'null-co', 'node-name': 'n'}}")
            .await;
        client.stream.shutdown().unwrap();
        drop(client);
        for _ in 0..12_000 {
            if watcher.ok("{'execute': 'query-named-block-nodes'}").await.as_list().unwrap().len() == 1 {
                return;
            }
            rt::sleep(Duration::from_millis(10)).await;
        }
        panic!("the node was not added");
    });
}

async fn image(control: &monitor::Control, folder: &Folder, name: &str, size: u64) {
    control.graph().create("qcow2", &folder.path(name), size, Options::new()).await.unwrap();
}

fn add(folder: &Folder, node: &str, file: &str) -> String {
    let file = folder.path(file);
    format!(
        "{{'execute': 'blockdev-add', 'arguments': {{'driver': 'qcow2', 'node-name': '{node}', \
         'file': {{'driver': 'file', 'filename': '{file}'}}}}}}"
    )
}

async fn entry(control: &monitor::Control, node: &str) -> Arc<Backend> {
    let node = control.graph().node(node).unwrap();
    let request = BackendRequest { label: "guest".to_owned(), node, perms: Perms::WRITER, pinned: false };
    control.graph().attach(request).await.unwrap()
}

const SIZE: u64 = 4 << 20;
const BLOCK: u64 = 4096;

/// Writes each block in turn, round after round, with the round's number; returns what was acknowledged.
async fn guest(entry: Arc<Backend>, stop: Arc<AtomicBool>) -> Vec<u8> {
    let mut last = vec![0; (SIZE / BLOCK) as usize];
    let mut n: u64 = 0;
    while !stop.load(Relaxed) {
        let block = (n * 7919) % (SIZE / BLOCK);
        let byte = (n % 251) as u8;
        let data = Buf::from_slice(&[byte; BLOCK as usize]);
        entry.write(block * BLOCK, data, Request::GUEST).await.unwrap();
        last[block as usize] = byte;
        n += 1;
    }
    last
}

#[test]
fn a_snapshot_of_a_window_into_a_file_names_the_window_not_the_file() {
    rt::block_on_control(async {
        let (control, folder) = (control(), Folder::new());
        let bytes: Vec<u8> = (0..8192u32).map(|i| (i / 512) as u8).collect();
        std::fs::write(folder.path("disk \"a\""), &bytes).unwrap();
        let file = Options::new().with_str("driver", "file").with_str("filename", &folder.path("disk \"a\""));
        let window = Options::new()
            .with_str("driver", "raw")
            .with_str("node-name", "w")
            .with("offset", Opt::Uint(1024))
            .with("file", Opt::Dict(file));
        let node = control.graph().add(window).await.unwrap();
        let resized = control.graph().resize(&node.primary().unwrap(), 4096, PreallocMode::Off).await;
        assert!(resized.unwrap_err().message().contains("does not share"), "the window stays in the file");
        let guest = entry(&control, "w").await;
        let arguments = format!(
            "{{\"node-name\": \"w\", \"snapshot-file\": \"{}\", \"snapshot-node-name\": \"s\"}}",
            folder.path("s.qcow2")
        );
        let Ok(Value::Dict(arguments)) = api::json::parse(&arguments) else { panic!("arguments") };
        api::dispatch(&control, "blockdev-snapshot-sync", arguments).await.unwrap();
        assert_eq!(guest.node().name(), "s");
        // The image opened by its name alone shows what the guest sees.
        let common = Common { read_only: true, force_share: true, ..Common::default() };
        let alone = control.graph().open_image(&folder.path("s.qcow2"), None, common, Policy::FOLLOW).await;
        let (seen, result) = alone.unwrap().read(0, BufMut::with_len(7168)).await;
        result.unwrap();
        assert_eq!(&seen[..], &bytes[1024..]);
    });
}

async fn snapshot(control: &monitor::Control, node: &str, file: &str) -> Result<(), String> {
    let arguments = format!(
        "{{\"node-name\": \"{node}\", \"snapshot-file\": \"{file}\", \"snapshot-node-name\": \"s\"}}"
    );
    let Ok(Value::Dict(arguments)) = api::json::parse(&arguments) else { panic!("arguments") };
    api::dispatch(control, "blockdev-snapshot-sync", arguments).await.map(drop).map_err(|e| format!("{e:?}"))
}

async fn made(control: &monitor::Control, path: &str) {
    control.graph().create("qcow2", path, 65536, Options::new()).await.unwrap();
}

fn qcow2(name: &str, path: &str) -> Options {
    let file = Options::new().with_str("driver", "file").with_str("filename", path);
    Options::new().with_str("driver", "qcow2").with_str("node-name", name).with("file", Opt::Dict(file))
}

#[test]
fn a_snapshot_names_a_backing_image_that_the_header_of_its_image_does_not_name() {
    rt::block_on_control(async {
        let (control, folder) = (control(), Folder::new());
        made(&control, &folder.path("b")).await;
        made(&control, &folder.path("t")).await;
        control.graph().add(qcow2("b", &folder.path("b"))).await.unwrap();
        let base = entry(&control, "b").await;
        base.write(0, Buf::from_slice(&[5; 512]), Request::GUEST).await.unwrap();
        control.graph().detach(&base).await.unwrap();
        control.graph().set_writable(&base.node(), false).await.unwrap();
        let top = qcow2("t", &folder.path("t")).with("backing", Opt::Str("b".to_owned()));
        control.graph().add(top).await.unwrap();
        let guest = entry(&control, "t").await;
        snapshot(&control, "t", &folder.path("o")).await.unwrap();
        control.graph().detach(&guest).await.unwrap();

        let common = Common { read_only: true, force_share: true, ..Common::default() };
        let again =
            control.graph().open_image(&folder.path("o"), None, common, Policy::FOLLOW).await.unwrap();
        let (seen, result) = again.read(0, BufMut::with_len(512)).await;
        result.unwrap();
        assert_eq!(&seen[..], &[5; 512]);
        assert_eq!(again.exact_filename(), folder.path("o"), "all below is as the headers say");
    });
}

#[test]
fn a_long_chain_that_its_headers_name_is_not_described_in_a_new_header() {
    rt::block_on_control(async {
        let (control, folder) = (control(), Folder::new());
        let graph = control.graph();
        made(&control, &folder.path("t")).await;
        made(&control, &folder.path("b0")).await;
        for layer in 1..20 {
            let below = folder.path(&format!("b{}", layer - 1));
            let options = Options::new().with_str("backing_file", &below).with_str("backing_fmt", "qcow2");
            graph.create("qcow2", &folder.path(&format!("b{layer}")), 65536, options).await.unwrap();
        }
        graph.add(qcow2("b", &folder.path("b19")).with("read-only", Opt::Bool(true))).await.unwrap();
        let top = qcow2("t", &folder.path("t")).with("backing", Opt::Str("b".to_owned()));
        graph.add(top).await.unwrap();
        let guest = entry(&control, "t").await;
        snapshot(&control, "t", &folder.path("o")).await.unwrap();
        graph.detach(&guest).await.unwrap();

        let common = Common { read_only: true, force_share: true, ..Common::default() };
        let again = graph.open_image(&folder.path("o"), None, common, Policy::FOLLOW).await.unwrap();
        let chain = std::iter::successors(Some(again), |node| node.backing());
        assert_eq!(chain.count(), 22);
    });
}

#[test]
fn naming_a_long_chain_looks_at_each_layer_once() {
    rt::block_on_control(async {
        let (control, folder) = (control(), Folder::new());
        let graph = control.graph();
        made(&control, &folder.path("b0")).await;
        for layer in 1..64 {
            let file = folder.path(&format!("b{}", layer - 1));
            let below = format!(
                "json:{{\"driver\": \"qcow2\", \"file\": {{\"driver\": \"file\", \"filename\": \"{file}\"}}}}"
            );
            let options = Options::new().with_str("backing_file", &below).with_str("backing_fmt", "qcow2");
            graph.create("qcow2", &folder.path(&format!("b{layer}")), 65536, options).await.unwrap();
        }
        let common = Common { read_only: true, force_share: true, ..Common::default() };
        let top = graph.open_image(&folder.path("b63"), None, common, Policy::FOLLOW).await.unwrap();
        assert!(!top.exact_filename().is_empty());
    });
}

#[test]
fn a_snapshot_of_an_image_that_is_not_its_plain_file_shows_what_it_showed() {
    // A raw image in a qcow2 image, and a qcow2 image in a part of a file, whose base is named as seen from that file.
    rt::block_on_control(async {
        let (control, folder) = (control(), Folder::new());
        made(&control, &folder.path("t")).await;
        control.graph().add(qcow2("q", &folder.path("t"))).await.unwrap();
        let raw = Options::new().with_str("driver", "raw").with_str("node-name", "t");
        control.graph().add(raw.with("file", Opt::Str("q".to_owned()))).await.unwrap();
        shows_the_same_after_a_snapshot(&control, &folder.path("o")).await;
    });
    rt::block_on_control(async {
        let (control, folder) = (control(), Folder::new());
        made(&control, &folder.path("b")).await;
        let over_base = Options::new().with_str("backing_file", "b").with_str("backing_fmt", "qcow2");
        control.graph().create("qcow2", &folder.path("t"), 65536, over_base).await.unwrap();
        let mut bytes = vec![0; 65536];
        bytes.extend(std::fs::read(folder.path("t")).unwrap());
        bytes.resize(1 << 20, 0);
        std::fs::write(folder.path("t"), bytes).unwrap();
        let file = Options::new().with_str("driver", "file").with_str("filename", &folder.path("t"));
        let part = Options::new().with_str("driver", "raw").with("offset", Opt::Uint(65536));
        let image = Options::new().with_str("driver", "qcow2").with_str("node-name", "t");
        control.graph().add(image.with("file", Opt::Dict(part.with("file", Opt::Dict(file))))).await.unwrap();
        shows_the_same_after_a_snapshot(&control, &folder.path("o")).await;
    });
}

/// Writes to the node `t`, takes a snapshot into `overlay`, and opens that by its name alone.
async fn shows_the_same_after_a_snapshot(control: &monitor::Control, overlay: &str) {
    let guest = entry(control, "t").await;
    guest.write(512, Buf::from_slice(&[5; 512]), Request::GUEST).await.unwrap();
    snapshot(control, "t", overlay).await.unwrap();
    control.graph().detach(&guest).await.unwrap();
    control.graph().close_all().await.unwrap();
    let common = Common { read_only: true, ..Common::default() };
    let again = control.graph().open_image(overlay, None, common, Policy::FOLLOW).await.unwrap();
    let (seen, result) = again.read(0, BufMut::with_len(1024)).await;
    result.unwrap();
    assert_eq!(&seen[..], [[0; 512], [5; 512]].concat());
}

#[test]
fn a_snapshot_onto_a_file_in_use_is_refused_under_any_of_its_names_before_it_is_touched() {
    rt::block_on_control(async {
        let (control, folder) = (control(), Folder::new());
        made(&control, &folder.path("t")).await;
        std::os::unix::fs::symlink(folder.path("t"), folder.path("symbolic")).unwrap();
        std::fs::hard_link(folder.path("t"), folder.path("hard")).unwrap();
        control.graph().add(qcow2("t", &folder.path("t"))).await.unwrap();
        let _guest = entry(&control, "t").await;
        let before = std::fs::read(folder.path("t")).unwrap();
        for name in ["t", "symbolic", "hard"] {
            let refused = snapshot(&control, "t", &folder.path(name)).await.unwrap_err();
            assert!(refused.contains("a new image needs another one"), "{refused}");
        }
        assert_eq!(std::fs::read(folder.path("t")).unwrap(), before);
    });
}

#[test]
fn snapshots_are_taken_and_committed_back_while_a_guest_keeps_writing() {
    rt::block_on_control(async {
        let (control, folder) = (control(), Folder::new());
        let mut client = Client::new(&control).await;
        image(&control, &folder, "base.qcow2", SIZE).await;
        client.ok(&add(&folder, "disk", "base.qcow2")).await;
        let entry = entry(&control, "disk").await;
        let stop = Arc::new(AtomicBool::new(false));
        let guest = rt::spawn(guest(entry.clone(), stop.clone()));
        for round in 0..3 {
            for layer in ["a", "b"] {
                let over = if layer == "a" { "disk".to_owned() } else { format!("a{round}") };
                client
                    .ok(&format!(
                        "{{'execute': 'blockdev-snapshot-sync', 'arguments': {{'node-name': '{over}', \
                         'snapshot-file': '{}', 'snapshot-node-name': '{layer}{round}'}}}}",
                        folder.path(&format!("{layer}{round}.qcow2"))
                    ))
                    .await;
                rt::sleep(Duration::from_millis(20)).await;
            }
            // First the layer in the middle, then the active one.
            let commit = |more: &str| {
                format!(
                    "{{'execute': 'block-commit', 'arguments': {{'device': 'b{round}', 'job-id': 'j' {more}}}}}"
                )
            };
            client.ok(&commit(&format!(", 'top-node': 'a{round}'"))).await;
            let done = client.event("BLOCK_JOB_COMPLETED").await;
            assert!(done.get("data").unwrap().get("error").is_none(), "{done}");
            while !client.ok("{'execute': 'query-jobs'}").await.as_list().unwrap().is_empty() {}
            client.ok(&commit("")).await;
            client.event("BLOCK_JOB_READY").await;
            client.ok("{'execute': 'job-complete', 'arguments': {'id': 'j'}}").await;
            let done = client.event("BLOCK_JOB_COMPLETED").await;
            assert!(done.get("data").unwrap().get("error").is_none(), "{done}");
            assert_eq!(entry.node().name(), "disk");
        }
        stop.store(true, Relaxed);
        let last = guest.await.unwrap();
        for (block, byte) in last.iter().enumerate() {
            let (data, result) = entry.read(block as u64 * BLOCK, BufMut::with_len(BLOCK as usize)).await;
            result.unwrap();
            assert!(data.iter().all(|b| b == byte), "block {block} is not as it was last written");
        }
        control.graph().detach(&entry).await.unwrap();
        assert_eq!(control.graph().nodes().len(), 2, "{:?}", control.graph());
        control.end().await.unwrap();
    });
}

#[test]
fn quit_is_answered_last_after_exports_are_gone_and_jobs_cancelled() {
    rt::block_on_control(async {
        let (control, folder) = (control(), Folder::new());
        let mut client = Client::new(&control).await;
        image(&control, &folder, "base.qcow2", SIZE).await;
        client.ok(&add(&folder, "disk", "base.qcow2")).await;
        client
            .ok(&format!(
                "{{'execute': 'nbd-server-start', 'arguments': {{'addr': {{'type': 'unix', 'data': {{'path': '{}'}}}}}}}}",
                folder.path("nbd.sock")
            ))
            .await;
        client
            .ok("{'execute': 'block-export-add', 'arguments': {'type': 'nbd', 'id': 'e', 'node-name': 'disk', 'writable': true}}")
            .await;
        client
            .ok(&format!(
                "{{'execute': 'blockdev-snapshot-sync', 'arguments': {{'node-name': 'disk', \
                 'snapshot-file': '{}', 'snapshot-node-name': 'top'}}}}",
                folder.path("top.qcow2")
            ))
            .await;
        client.ok("{'execute': 'block-commit', 'arguments': {'device': 'top', 'job-id': 'j'}}").await;
        client.event("BLOCK_JOB_READY").await;
        client.events.clear();
        client.ok("{'execute': 'quit'}").await;
        let names: Vec<_> = client.events.iter().map(|e| text(e, &["event"])).collect();
        assert_eq!(names[0], "BLOCK_EXPORT_DELETED");
        assert!(names.contains(&"BLOCK_JOB_CANCELLED".to_owned()), "{names:?}");
        assert!(control.graph().nodes().is_empty());
        rt::timeout(Duration::from_secs(120), control.left()).await.unwrap();
    });
}

#[test]
fn a_node_that_takes_no_more_writes_is_reported_once_by_name() {
    rt::block_on_control(async {
        let control = control();
        let mut client = Client::new(&control).await;
        for (node, error, event, words) in [
            ("a", BlockError::corrupt("it contradicts itself").at(512), "BLOCK_IMAGE_CORRUPTED", "msg"),
            ("b", BlockError::new(ErrorKind::Io, "the flush failed"), "BLOCK_IO_ERROR", "reason"),
        ] {
            let add = format!(
                "{{'execute': 'blockdev-add', 'arguments': {{'driver': 'null-co', 'node-name': '{node}'}}}}"
            );
            client.ok(&add).await;
            let poisoned = control.graph().node(node).unwrap();
            poisoned.poison(&error);
            poisoned.poison(&error);
            let told = client.event(event).await;
            assert_eq!(text(&told, &["data", "node-name"]), node);
            assert_eq!(text(&told, &["data", words]), error.message());
            client.ok("{'execute': 'query-block'}").await;
            assert!(client.events.is_empty(), "once: {:?}", client.events);
        }
    });
}

#[test]
fn a_file_that_stays_when_its_format_is_deleted_releases_the_formats_locks() {
    rt::block_on_control(async {
        let (control, other, folder) = (control(), control(), Folder::new());
        image(&control, &folder, "disk.qcow2", SIZE).await;
        let mut client = Client::new(&control).await;
        let file = folder.path("disk.qcow2");
        client
            .ok(&format!(
                "{{'execute': 'blockdev-add', 'arguments': {{'driver': 'file', 'node-name': 'f', 'filename': '{file}'}}}}"
            ))
            .await;
        let format =
            "{'execute': 'blockdev-add', 'arguments': {'driver': 'qcow2', 'node-name': 'q', 'file': 'f'}}";
        client.ok(format).await;
        let mut second = Client::new(&other).await;
        let (_, refused) = second.refused(&add(&folder, "disk", "disk.qcow2")).await;
        assert!(refused.contains("lock"), "{refused}");
        client.ok("{'execute': 'blockdev-del', 'arguments': {'node-name': 'q'}}").await;
        second.ok(&add(&folder, "disk", "disk.qcow2")).await;
        control.end().await.unwrap();
        other.end().await.unwrap();
    });
}

/// A kind of export that the schema has no name for.
struct Unnamed;

impl exports::ExportKind for Unnamed {
    fn name(&self) -> &'static str {
        "unnamed"
    }

    fn check(&self, _: &exports::ExportSpec) -> Result<(), exports::ExportError> {
        Ok(())
    }

    fn start(
        self: Box<Self>,
        _: exports::ExportTerms,
    ) -> rt::BoxFuture<'static, Result<Arc<dyn exports::Export>, exports::ExportError>> {
        Box::pin(async { Ok(Arc::new(Unnamed) as Arc<dyn exports::Export>) })
    }
}

impl exports::Export for Unnamed {
    fn close_if_unused(&self) -> bool {
        true
    }

    fn close(&self) -> rt::BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

#[test]
fn an_export_of_a_kind_that_the_schema_lacks_is_told_of_by_an_error_and_can_be_removed() {
    rt::block_on_control(async {
        let control = control();
        let mut client = Client::new(&control).await;
        client
            .ok("{'execute': 'blockdev-add', 'arguments': {'driver': 'null-co', 'node-name': 'n', 'size': 4096}}")
            .await;
        let spec = |id: &str| exports::ExportSpec {
            id: id.to_owned(),
            node_name: "n".to_owned(),
            ..exports::ExportSpec::default()
        };
        control.exports().add(spec("e"), Unnamed).await.unwrap();
        let (class, words) = client.refused("{'execute': 'query-block-exports'}").await;
        assert_eq!(class, "GenericError");
        assert!(words.contains("'e'") && words.contains("'unnamed'"), "{words}");
        client.ok("{'execute': 'block-export-del', 'arguments': {'id': 'e'}}").await;
        control.exports().wait_gone(&["e".to_owned()]).await;
        let listed = client.ok("{'execute': 'query-block-exports'}").await;
        assert_eq!(listed.to_string(), "[]");
        client.ok("{'execute': 'blockdev-del', 'arguments': {'node-name': 'n'}}").await;
    });
}

#[test]
fn internal_snapshots_are_made_told_and_deleted_by_name_and_id() {
    rt::block_on_control(async {
        let (control, folder) = (control(), Folder::new());
        image(&control, &folder, "a", 1 << 20).await;
        let mut client = Client::new(&control).await;
        client.ok(&add(&folder, "n", "a")).await;
        let make = |name: &str| {
            format!(
                "{{'execute': 'blockdev-snapshot-internal-sync', 'arguments': {{'device': 'n', 'name': '{name}'}}}}"
            )
        };
        let delete = |which: &str| {
            format!(
                "{{'execute': 'blockdev-snapshot-delete-internal-sync', 'arguments': {{'device': 'n'{which}}}}}"
            )
        };
        client.ok(&make("one")).await;
        client.ok(&make("two")).await;
        for (line, why) in [
            (make("one"), "Snapshot with name 'one' already exists on device 'n'"),
            (make(""), "Name is empty"),
            (delete(""), "Name or id must be provided"),
            (delete(", 'name': 'x'"), "Snapshot with id 'null' and name 'x' does not exist on device 'n'"),
            (
                delete(", 'id': '1', 'name': 'two'"),
                "Snapshot with id '1' and name 'two' does not exist on device 'n'",
            ),
            (make("x").replace("'n'", "'q'"), "Cannot find device='q' nor node-name='q'"),
        ] {
            assert_eq!(client.refused(&line).await, ("GenericError".to_owned(), why.to_owned()));
        }
        let listed = client.ok("{'execute': 'query-named-block-nodes', 'arguments': {'flat': true}}").await;
        assert!(listed.to_string().contains("\"id\": \"2\""), "{listed}");
        let gone = client.ok(&delete(", 'id': '2'")).await;
        assert_eq!((text(&gone, &["name"]), text(&gone, &["id"])), ("two".to_owned(), "2".to_owned()));
        assert_eq!(text(&client.ok(&delete(", 'name': 'one'")).await, &["id"]), "1");
    });
}

#[test]
fn a_transaction_makes_all_of_its_internal_snapshots_or_none() {
    rt::block_on_control(async {
        let (control, folder) = (control(), Folder::new());
        let mut client = Client::new(&control).await;
        for name in ["a", "b"] {
            image(&control, &folder, name, 1 << 20).await;
            client.ok(&add(&folder, name, name)).await;
        }
        let make = |node: &str, name: &str| {
            format!(
                "{{'type': 'blockdev-snapshot-internal-sync', 'data': {{'device': '{node}', 'name': '{name}'}}}}"
            )
        };
        let all = |actions: &[String]| {
            format!("{{'execute': 'transaction', 'arguments': {{'actions': [{}]}}}}", actions.join(", "))
        };
        let names = |node: &str| {
            let snapshots = control.graph().node(node).unwrap().driver().info().snapshots.clone();
            snapshots.into_iter().map(|snapshot| snapshot.name).collect::<Vec<_>>()
        };
        client.ok(&all(&[make("a", "one"), make("b", "one"), make("a", "two")])).await;
        assert_eq!((names("a"), names("b")), (vec!["one".into(), "two".into()], vec!["one".to_owned()]));
        let bitmap = "{'type': 'block-dirty-bitmap-add', 'data': {'node': 'a', 'name': 'm'}}";
        for (last, why) in [
            (make("b", "one"), "Snapshot with name 'one' already exists on device 'b'"),
            ("{'type': 'abort', 'data': {}}".to_owned(), "Transaction aborted using Abort action"),
            (make("x", "new"), "Cannot find device='x' nor node-name='x'"),
            (make("b", ""), "Name is empty"),
        ] {
            let (_, said) =
                client.refused(&all(&[make("b", "new"), make("a", "new"), bitmap.to_owned(), last])).await;
            assert_eq!(said, why);
            assert_eq!((names("a").len(), names("b").len()), (2, 1), "{why}");
        }
        for (node, name) in [("a", "one"), ("b", "one"), ("a", "two")] {
            let gone = format!(
                "{{'execute': 'blockdev-snapshot-delete-internal-sync', 'arguments': {{'device': '{node}', 'name': '{name}'}}}}"
            );
            client.ok(&gone).await;
        }
    });
}

#[test]
fn key_slots_are_changed_by_a_job_that_stays_until_it_is_dismissed() {
    rt::block_on_control(async {
        let (control, folder) = (control(), Folder::new());
        let mut client = Client::new(&control).await;
        for id in ["s", "t"] {
            let secret = format!("'qom-type': 'secret', 'id': '{id}', 'data': 'secret {id}'");
            client.ok(&format!("{{'execute': 'object-add', 'arguments': {{{secret}}}}}")).await;
        }
        let path = folder.path("disk.luks");
        let options = Options::new().with_str("key-secret", "s").with_str("iter-time", "10");
        control.graph().create("luks", &path, 1 << 20, options).await.unwrap();
        let opened = |node: &str, secret: &str| {
            format!(
                "{{'execute': 'blockdev-add', 'arguments': {{'driver': 'luks', 'node-name': '{node}', 'key-secret': '{secret}', \
                 'file': {{'driver': 'file', 'filename': '{path}'}}}}}}"
            )
        };
        client.ok(&opened("n", "s")).await;
        let amend = |job: &str, options: &str, force: bool| {
            format!(
                "{{'execute': 'x-blockdev-amend', 'arguments': {{'job-id': '{job}', 'node-name': 'n', 'force': {force}, \
                 'options': {{'driver': {options}}}}}}}"
            )
        };
        let slot = "'luks', 'state': 'active', 'new-secret': 't', 'iter-time': 10";
        let (_, said) = client.refused(&amend("j", "'qcow2'", false)).await;
        assert_eq!(said, "x-blockdev-amend doesn't support changing the block driver");
        let over = format!("{slot}, 'keyslot': 0");
        for (job, options, force, error) in [
            ("added", slot, false, None),
            ("refused", &over, false, Some("in use")),
            ("forced", &over, true, None),
            ("last", "'luks', 'state': 'inactive', 'old-secret': 't'", false, Some("the last one")),
        ] {
            client.ok(&amend(job, options, force)).await;
            let failed = loop {
                let listed = client.ok("{'execute': 'query-jobs'}").await;
                let listed = listed.as_list().unwrap().first().unwrap().clone();
                assert_eq!((text(&listed, &["id"]), text(&listed, &["type"])), (job.into(), "amend".into()));
                if text(&listed, &["status"]) == "concluded" {
                    break text(&listed, &["error"]);
                }
                rt::sleep(Duration::from_millis(5)).await;
            };
            match error {
                None => assert_eq!(failed, "", "{job}"),
                Some(words) => assert!(failed.contains(words), "{job}: {failed}"),
            }
            client.ok(&format!("{{'execute': 'job-dismiss', 'arguments': {{'id': '{job}'}}}}")).await;
        }
        client.ok("{'execute': 'blockdev-del', 'arguments': {'node-name': 'n'}}").await;
        let (_, said) = client.refused(&opened("n", "s")).await;
        assert!(said.contains("passphrase is wrong"), "{said}");
        client.ok(&opened("n", "t")).await;
        client.ok("{'execute': 'blockdev-del', 'arguments': {'node-name': 'n'}}").await;
    });
}

#[test]
fn a_password_is_judged_by_the_image_it_is_for() {
    rt::block_on_control(async {
        let (control, folder) = (control(), Folder::new());
        let mut client = Client::new(&control).await;
        client
            .ok("{'execute': 'object-add', 'arguments': {'qom-type': 'secret', 'id': 's', 'data': 'open sesame'}}")
            .await;
        let passwd = |node: &str, password: &str| {
            format!(
                "{{'execute': 'block_passwd', 'arguments': {{'node-name': '{node}', 'password': '{password}'}}}}"
            )
        };
        let secret = || Options::new().with_str("key-secret", "s");
        let inside = |format: &str, secret: Options| {
            Options::new().with("encrypt", Opt::Dict(secret.with_str("format", format)))
        };
        for (node, driver, options, secret) in [
            ("luks", "luks", secret().with_str("iter-time", "10"), "'key-secret': 's'"),
            (
                "inside",
                "qcow2",
                inside("luks", secret().with_str("iter-time", "10")),
                "'encrypt': {'format': 'luks', 'key-secret': 's'}",
            ),
            ("old", "qcow2", inside("aes", secret()), "'encrypt': {'format': 'aes', 'key-secret': 's'}"),
        ] {
            let path = folder.path(node);
            control.graph().create(driver, &path, 1 << 20, options).await.unwrap();
            let file = format!("'file': {{'driver': 'file', 'filename': '{path}'}}");
            client
                .ok(&format!(
                    "{{'execute': 'blockdev-add', 'arguments': {{'driver': 'raw', 'node-name': '{node}', 'file': \
                     {{'driver': '{driver}', {secret}, {file}}}}}}}"
                ))
                .await;
            client.ok(&passwd(node, "open sesame")).await;
            let (class, said) = client.refused(&passwd(node, "open barley")).await;
            assert_eq!((class.as_str(), said.as_str()), ("GenericError", "Password incorrect"));
        }
        client
            .ok("{'execute': 'blockdev-add', 'arguments': {'driver': 'null-co', 'node-name': 'plain'}}")
            .await;
        let (_, said) = client.refused(&passwd("plain", "open sesame")).await;
        assert_eq!(said, "Device 'plain' is not encrypted");
        let (_, said) = client.refused(&passwd("nowhere", "open sesame")).await;
        assert!(said.starts_with("Cannot find device="), "{said}");
        let both =
            "{'execute': 'block_passwd', 'arguments': {'node-name': 'old', 'device': 'old', 'password': ''}}";
        assert_eq!(client.refused(both).await.1, "'device' and 'node-name' are mutually exclusive");
    });
}

/// A mirror of `device`, with more arguments.
fn drive_mirror(device: &str, target: &str, more: &str) -> String {
    format!(
        "{{'execute': 'drive-mirror', 'arguments': {{'job-id': 'j', 'device': '{device}', 'target': '{target}', \
         'sync': 'full'{more}}}}}"
    )
}

#[test]
fn a_disk_moves_from_image_to_image_while_a_guest_keeps_writing() {
    rt::block_on_control(async {
        let (control, folder) = (control(), Folder::new());
        let mut client = Client::new(&control).await;
        image(&control, &folder, "image.qcow2", SIZE).await;
        client.ok(&add(&folder, "disk", "image.qcow2")).await;
        let entry = entry(&control, "disk").await;
        let stop = Arc::new(AtomicBool::new(false));
        let guest = rt::spawn(guest(entry.clone(), stop.clone()));
        let mut device = "disk".to_owned();
        for (round, mode) in ["background", "write-blocking", "background"].into_iter().enumerate() {
            let (name, file) = (format!("copy{round}"), folder.path(&format!("copy{round}.qcow2")));
            let more = format!(", 'node-name': '{name}', 'copy-mode': '{mode}'");
            client.ok(&drive_mirror(&device, &file, &more)).await;
            let change = "{'execute': 'block-job-change', 'arguments': {'id': 'j', 'type': 'mirror', 'copy-mode': 'write-blocking'}}";
            client.ok(change).await;
            client.event("BLOCK_JOB_READY").await;
            assert!(control.graph().nodes().iter().any(|node| node.driver_name() == "mirror_top"));
            client.ok("{'execute': 'job-complete', 'arguments': {'id': 'j'}}").await;
            let done = client.event("BLOCK_JOB_COMPLETED").await;
            assert!(done.get("data").unwrap().get("error").is_none(), "{done}");
            assert_eq!(entry.node().name(), name);
            while !client.ok("{'execute': 'query-jobs'}").await.as_list().unwrap().is_empty() {}
            device = name;
        }
        stop.store(true, Relaxed);
        let last = guest.await.unwrap();
        for (block, byte) in last.iter().enumerate() {
            let (data, result) = entry.read(block as u64 * BLOCK, BufMut::with_len(BLOCK as usize)).await;
            result.unwrap();
            assert!(data.iter().all(|b| b == byte), "block {block} is not as it was last written");
        }
        control.graph().detach(&entry).await.unwrap();
        // The one that was added by name, and its file.
        assert_eq!(control.graph().nodes().len(), 2, "{:?}", control.graph());
        control.end().await.unwrap();
    });
}

#[test]
fn a_mirror_that_is_refused_has_made_no_file_and_left_no_node() {
    rt::block_on_control(async {
        let (control, folder) = (control(), Folder::new());
        let mut client = Client::new(&control).await;
        image(&control, &folder, "image.qcow2", SIZE).await;
        client.ok(&add(&folder, "disk", "image.qcow2")).await;
        let file = folder.path("copy.qcow2");
        let cases = [
            (", 'granularity': 256", "Parameter 'granularity' expects a value in range [512B, 64MB]"),
            (", 'granularity': 3000", "Parameter 'granularity' expects a power of 2"),
            (", 'buf-size': -1", "Invalid parameter 'buf-size'"),
            (", 'speed': -1", "Parameter 'speed' expects a non-negative value"),
            (", 'job-id': '1x'", "Invalid job ID '1x'"),
            (", 'sync': 'incremental'", "Sync mode 'incremental' not supported"),
            (", 'sync': 'bitmap'", "Sync mode 'bitmap' not supported"),
            (", 'format': 'nope'", "Unknown file format 'nope'"),
            (", 'format': 'raw', 'sync': 'none'", "Backing file not supported for file format 'raw'"),
            (", 'node-name': 'disk'", "Duplicate nodes with node-name='disk'"),
            (", 'node-name': '1x'", "Invalid node-name: '1x'"),
            (", 'replaces': 'disk'", "a node-name must be provided when replacing a named node of the graph"),
            (", 'replaces': 'x', 'node-name': 'n'", "Failed to find node with node-name='x'"),
            (", 'device': 'x'", "Cannot find device='x' nor node-name='x'"),
        ];
        let nodes = control.graph().nodes().len();
        for (more, expected) in cases {
            let mirror = drive_mirror("disk", &file, more);
            let (class, words) = client.refused(&without_repeated(&mirror, more)).await;
            assert_eq!((class.as_str(), words.as_str()), ("GenericError", expected), "{more}");
            assert!(!std::path::Path::new(&file).exists(), "{more}");
            assert_eq!(control.graph().nodes().len(), nodes, "{more}");
        }
        let own = folder.path("image.qcow2");
        let before = std::fs::read(&own).unwrap();
        client.refused(&drive_mirror("disk", &own, "")).await;
        assert_eq!(std::fs::read(&own).unwrap(), before);
        client.ok(&drive_mirror("disk", &file, "")).await;
        let (_, words) = client.refused(&drive_mirror("disk", &folder.path("second"), "")).await;
        assert_eq!(words, "Need a root block node");
        client.event("BLOCK_JOB_READY").await;
        control.end().await.unwrap();
    });
}

/// The command without those of its first members that `more` has too.
fn without_repeated(command: &str, more: &str) -> String {
    let members = ["'job-id': 'j', ", "'device': 'disk', "];
    let mut command = command.to_owned();
    for member in members {
        let name = member.split(':').next().unwrap();
        if more.contains(name) {
            command = command.replacen(member, "", 1);
        }
    }
    if more.contains("'sync'") {
        command = command.replacen("'sync': 'full', ", "", 1);
    }
    command
}
