//! Urgent commands, and connections that are given up.
use crate::client::Client;
use crate::support::*;
use block::{BackendRequest, Perms};
use futures_util::FutureExt;
use rt::BufMut;
use rt::net::Listener;
use std::path::Path;
use std::time::Duration;

/// A session with urgent commands.
async fn urgent(control: &monitor::Control) -> Client {
    let mut client = Client::connect(control);
    client.receive().await;
    client.ok("{'execute': 'qmp_capabilities', 'arguments': {'enable': ['oob']}}").await;
    client
}

fn node(name: &str, socket: &str, export: &str) -> String {
    format!(
        "{{'execute': 'blockdev-add', 'id': '{name}', 'arguments': {{'driver': 'nbd', 'read-only': true, 'node-name': '{name}', 'export': \
         '{export}', 'server': {{'type': 'unix', 'path': '{socket}'}}}}}}"
    )
}

#[test]
fn an_urgent_command_is_answered_while_others_wait() {
    rt::block_on_control(async {
        let (control, folder) = (control(), Folder::new());
        let silent = folder.path("silent");
        let listener = Listener::bind_unix(Path::new(&silent)).await.unwrap();
        let mut client = urgent(&control).await;
        client.send(&node("n", &silent, "")).await;
        client.send("{'execute': 'query-block', 'id': 'waits'}").await;
        for _ in 0..3 {
            let answer = client.ask("{'exec-oob': 'query-yank', 'id': 'urgent'}").await;
            assert_eq!(answer.to_string(), r#"{"return": [], "id": "urgent"}"#);
        }
        // The server ends, and what waited goes on in its order.
        drop((listener.accept().await.unwrap(), listener));
        let answer = client.receive().await;
        assert_eq!(text(&answer, &["id"]), "n");
        assert!(answer.get("error").is_some());
        assert_eq!(text(&client.receive().await, &["id"]), "waits");
    });
}

#[test]
fn more_commands_than_may_wait_are_all_answered_in_their_order() {
    rt::block_on_control(async {
        let mut client = urgent(&control()).await;
        let commands: Vec<_> = (0..50)
            .map(|n| format!("{{'execute': 'query-block', 'id': {n}}} {{'x': 1, 'id': {n}}}"))
            .collect();
        client.send(&commands.join("")).await;
        for n in 0..50 {
            assert_eq!(client.receive().await.to_string(), format!(r#"{{"return": [], "id": {n}}}"#));
            assert!(client.receive().await.get("error").is_some());
        }
    });
}

#[test]
fn a_connection_that_is_given_up_fails_what_waits_for_it_and_what_comes() {
    rt::block_on_control(async {
        let (control, folder) = (control(), Folder::new());
        let (socket, mut client) = (folder.path("nbd"), urgent(&control).await);
        for command in [
            "{'execute': 'object-add', 'arguments': {'qom-type': 'throttle-group', 'id': 'slow', \
             'limits': {'bps-total': 1}}}".to_owned(),
            "{'execute': 'blockdev-add', 'arguments': {'driver': 'throttle', 'node-name': 'far', 'throttle-group': \
             'slow', 'file': {'driver': 'null-co', 'size': 1048576}}}".to_owned(),
            format!("{{'execute': 'nbd-server-start', 'arguments': {{'addr': {{'type': 'unix', 'data': {{'path': '{socket}'}}}}}}}}"),
            "{'execute': 'block-export-add', 'arguments': {'type': 'nbd', 'id': 'e', 'node-name': 'far'}}".to_owned(),
            node("n", &socket, "far"),
        ] {
            client.ok(&command).await;
        }
        let listed = client.ok("{'exec-oob': 'query-yank'}").await;
        assert_eq!(listed.to_string(), r#"[{"node-name": "n", "type": "block-node"}]"#);
        let (label, reader) = ("reader".to_owned(), control.graph().node("n").unwrap());
        let entry = BackendRequest { label, node: reader, perms: Perms::READER, pinned: false };
        let entry = control.graph().attach(entry).await.unwrap();
        // The first one may be served from what the limit allows at once.
        let reads = async {
            loop {
                if let Err(error) = entry.read(0, BufMut::with_len(65536)).await.1 {
                    return error;
                }
            }
        };
        let mut reads = Box::pin(reads);
        assert!(
            rt::timeout(Duration::from_millis(200), &mut reads).await.is_err(),
            "it waits for the server"
        );
        for missing in [
            "{'type': 'block-node', 'node-name': 'n'}, {'type': 'block-node', 'node-name': 'far'}",
            "{'type': 'chardev', 'id': 'n'}",
            "{'type': 'migration'}",
        ] {
            let yank = format!("{{'exec-oob': 'yank', 'arguments': {{'instances': [{missing}]}}}}");
            assert_eq!(client.refused(&yank).await.0, "DeviceNotFound");
        }
        assert!(reads.as_mut().now_or_never().is_none(), "nothing is given up unless everything is there");
        let yank =
            "{'exec-oob': 'yank', 'arguments': {'instances': [{'type': 'block-node', 'node-name': 'n'}]}}";
        client.ok(yank).await;
        let error = reads.await;
        assert_eq!(error.kind(), block::ErrorKind::Io, "{error}");
        assert!(entry.read(0, BufMut::with_len(512)).await.1.is_err());
        control.graph().detach(&entry).await.unwrap();
        client.ok("{'execute': 'blockdev-del', 'arguments': {'node-name': 'n'}}").await;
        assert_eq!(client.refused(yank).await.0, "DeviceNotFound");
        client.ok("{'execute': 'block-export-del', 'arguments': {'id': 'e', 'mode': 'hard'}}").await;
        control.end().await.unwrap();
        client.event("BLOCK_EXPORT_DELETED").await;
    });
}

#[test]
fn a_node_without_children_that_come_and_go_says_so() {
    rt::block_on_control(async {
        let mut client = Client::new(&control()).await;
        let top = "{'driver': 'raw', 'node-name': 'top', 'file': {'driver': 'null-co', 'node-name': 'low'}}";
        client.ok(&format!("{{'execute': 'blockdev-add', 'arguments': {top}}}")).await;
        for (arguments, expected) in [
            ("'parent': 'x', 'child': 'file', 'node': 'low'", "Cannot find device='x' nor node-name='x'"),
            ("'parent': 'top'", "Either child or node must be specified"),
            (
                "'parent': 'top', 'child': 'file', 'node': 'low'",
                "The parameters child and node are in conflict",
            ),
            ("'parent': 'top', 'child': 'backing'", "Node 'top' does not have child 'backing'"),
            ("'parent': 'top', 'child': 'file'", "The node top does not support removing a child"),
            ("'parent': 'top', 'node': 'x'", "Node 'x' not found"),
            ("'parent': 'top', 'node': 'low'", "The node top does not support adding a child"),
        ] {
            let command = format!("{{'execute': 'x-blockdev-change', 'arguments': {{{arguments}}}}}");
            assert_eq!(client.refused(&command).await.1, expected);
        }
    });
}
