//! Snapshots inside of images.
use crate::client::Client;
use crate::guest::{add, image};
use crate::support::*;

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
