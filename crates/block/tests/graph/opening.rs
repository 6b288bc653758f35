//! Names, and how long nodes are there.
use crate::drivers::{FAILS, START, WAITS, WELL};
use crate::*;
use std::sync::atomic::Ordering::*;

#[test]
fn names_are_unique_and_well_formed_and_a_failed_open_leaves_nothing() {
    rt::block_on_control(async {
        let graph = graph();
        graph.add(memory("a")).await.unwrap();
        let message = |e: BlockError| e.message().to_owned();
        assert_eq!(message(graph.add(memory("a")).await.unwrap_err()), "Duplicate nodes with node-name='a'");
        assert_eq!(message(graph.add(memory("1a")).await.unwrap_err()), "Invalid node-name: '1a'");
        assert_eq!(message(graph.add(memory(&"x".repeat(32))).await.unwrap_err()), "Node name too long");
        let nested = memory("inner");
        let broken = Options::new()
            .with_str("driver", "overlay")
            .with("file", Opt::Dict(nested))
            .with("what", Opt::Null);
        graph.add(broken).await.unwrap_err();
        assert_eq!(graph.nodes().len(), 1);
    });
}

#[test]
fn a_node_has_its_name_but_is_not_found_before_its_driver_is_started() {
    rt::block_on_control(async {
        for start in [FAILS, WELL] {
            let graph = graph();
            START.store(WAITS, Release);
            let options = Options::new().with_str("driver", "starts").with_str("node-name", "s");
            let options = options.with("file", Opt::Dict(memory("inner")));
            let opening = {
                let graph = graph.clone();
                rt::spawn(async move { graph.add(options).await })
            };
            let begun = |inner: Arc<Node>| async move {
                let (bytes, result) = inner.read(0, BufMut::with_len(7)).await;
                result.is_ok() && &bytes[..] == b"started"
            };
            while !matches!(graph.node("inner"), Some(inner) if begun(inner.clone()).await) {
                rt::sleep(Duration::from_millis(1)).await;
            }
            assert!(graph.node("s").is_none());
            assert_eq!(graph.nodes().len(), 1);
            let duplicate = "Duplicate nodes with node-name='s'";
            assert_eq!(graph.check_free("s").unwrap_err().message(), duplicate);
            assert_eq!(graph.add(memory("s")).await.unwrap_err().message(), duplicate);
            assert!(graph.add_device("s").unwrap_err().message().contains("an existing node name"));
            assert_eq!(graph.add(overlay("o", "s")).await.unwrap_err().kind(), ErrorKind::NotFound);
            assert_eq!(graph.remove("s").await.unwrap_err().kind(), ErrorKind::NotFound);
            let inner = graph.need_node("inner").unwrap();
            let [parent] = &graph.parents(&inner)[..] else { panic!("it uses its child") };
            let (label, node) = ("guest".to_owned(), parent.node.clone());
            let request = BackendRequest { label, node, perms: Perms::READER, pinned: false };
            assert_eq!(graph.attach(request).await.map(drop).unwrap_err().kind(), ErrorKind::Busy);

            START.store(start, Release);
            let opened = opening.await.unwrap();
            assert_eq!(opened.is_ok(), start == WELL);
            assert_eq!(graph.nodes().len(), if start == WELL { 2 } else { 0 });
            assert_eq!(graph.node("s").is_some(), start == WELL);
            assert_eq!(graph.check_free("s").is_ok(), start == FAILS);
        }
    });
}

#[test]
fn a_node_is_closed_with_its_last_user_unless_the_monitor_owns_it() {
    rt::block_on_control(async {
        let graph = graph();
        let nested = Options::new().with_str("driver", "mem");
        let options = Options::new().with_str("driver", "overlay").with("file", Opt::Dict(nested));
        let node = graph.open(options, Policy::ALONE).await.unwrap();
        assert_eq!(graph.nodes().len(), 2);
        let request = BackendRequest { label: "guest".to_owned(), node, perms: Perms::READER, pinned: false };
        let disk = graph.attach(request).await.unwrap();
        graph.detach(&disk).await.unwrap();
        assert!(graph.nodes().is_empty());
    });
}

#[test]
fn a_node_that_was_deleted_can_neither_be_attached_nor_read() {
    rt::block_on_control(async {
        let graph = graph();
        graph.add(memory("f")).await.unwrap();
        let top = graph.add(overlay("top", "f")).await.unwrap();
        graph.remove("top").await.unwrap();
        let request = BackendRequest {
            label: "late".to_owned(),
            node: top.clone(),
            perms: Perms::READER,
            pinned: false,
        };
        assert_eq!(graph.attach(request).await.unwrap_err().kind(), ErrorKind::NotFound);
        let (_, result) = top.read(0, BufMut::with_len(512)).await;
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Closed);
    });
}
