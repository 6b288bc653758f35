//! Clients: what each is answered, and what one does to others.
use crate::client::Client;
use crate::guest::{SIZE, add, image};
use crate::support::*;
use api::Value;
use block::{BlockError, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

#[test]
fn every_document_is_answered_in_order_with_its_id_and_a_mistake_affects_nothing_after_it() {
    rt::block_on_control(async {
        let mut client = Client::connect(&control());
        let greeting = client.receive().await;
        assert_eq!(greeting.get("QMP").unwrap().get("capabilities").unwrap().to_string(), r#"["oob"]"#);
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
