//! Overlays over nodes in use, and their commit.
use crate::client::Client;
use crate::guest::{Guest, SIZE, add, entry, image};
use crate::support::*;
use api::{PreallocMode, Value};
use block::{Common, Opt, Options, Policy, Request};
use rt::{Buf, BufMut};
use std::time::Duration;

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
        let guest = Guest::start(&control, "disk").await;
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
            assert_eq!(guest.node(), "disk");
        }
        guest.end(&control).await;
        assert_eq!(control.graph().nodes().len(), 2, "{:?}", control.graph());
        control.end().await.unwrap();
    });
}
