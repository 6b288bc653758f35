//! How exports come and go.

use crate::world::{Client, World, run};
use exports::{ExportError, ExportSpec, NbdOptions, RemoveMode, ServerOptions};
use nbd::{Command, Headers};

fn spec(id: &str, node: &str) -> ExportSpec {
    ExportSpec { id: id.into(), node_name: node.into(), ..ExportSpec::default() }
}

fn named(name: &str) -> NbdOptions {
    NbdOptions { name: Some(name.to_owned()), ..NbdOptions::default() }
}

async fn refused(world: &World, spec: ExportSpec, options: NbdOptions) -> String {
    world.exports.add(spec, world.service.export(options)).await.expect_err("it was added").to_string()
}

#[test]
fn what_can_not_be_exported_is_refused_with_the_messages_clients_know() {
    run(async |world| {
        world.disk(true).await;
        assert_eq!(refused(world, spec("e0", "disk"), NbdOptions::default()).await, "NBD server not running");
        world.start(ServerOptions::default()).await;
        assert_eq!(
            refused(world, spec("0e", "disk"), NbdOptions::default()).await,
            "Invalid block export id"
        );
        assert!(refused(world, spec("e0", "disc"), NbdOptions::default()).await.contains("'disc'"));
        let writable = ExportSpec { writable: true, ..spec("e0", "disk") };
        assert_eq!(
            refused(world, writable, NbdOptions::default()).await,
            "Cannot export read-only node as writable"
        );
        assert!(refused(world, spec("e0", "disk"), named(&"x".repeat(4097))).await.ends_with("too long"));
        world.exports.add(spec("e0", "disk"), world.service.export(NbdOptions::default())).await.unwrap();
        assert_eq!(
            refused(world, spec("e0", "disk"), NbdOptions::default()).await,
            "Block export id 'e0' is already in use"
        );
        assert_eq!(
            refused(world, spec("e1", "disk"), NbdOptions::default()).await,
            "NBD server already has export named 'disk'"
        );
        world.exports.add(spec("e1", "disk"), world.service.export(named("other"))).await.unwrap();
        let listed: Vec<_> = world.exports.list().into_iter().map(|export| export.id).collect();
        assert_eq!(listed, ["e1", "e0"]);
        assert!(matches!(world.exports.remove("e9", RemoveMode::Safe), Err(ExportError::NotFound(_))));
    });
}

#[test]
fn an_export_in_use_is_removed_only_in_hard_mode_and_its_end_is_reported_once() {
    run(async |world| {
        world.serve_disk().await;
        let mut client = world.client("disk").await;
        client.ask(Command::WRITE, 0, 4, b"kept").await;
        let error = world.exports.remove("e-disk", RemoveMode::Safe).unwrap_err();
        assert_eq!(error.to_string(), "export 'e-disk' still in use");
        client.ask(Command::READ, 0, 4, &[]).await;
        world.exports.remove("e-disk", RemoveMode::Hard).unwrap();
        world.exports.wait_gone(&["e-disk".to_owned()]).await;
        assert!(client.is_closed().await);
        assert_eq!(*world.deleted.lock(), ["e-disk"]);
        assert!(Client::negotiate(world.connect().await, "disk", Headers::Extended).await.is_none());
        assert_eq!(std::fs::read(world.image()).unwrap()[..4], *b"kept");
        // The name is free again, and the node can be used.
        world.export("disk", true).await;
        world.exports.remove("e-disk", RemoveMode::Safe).unwrap();
        world.exports.wait_gone(&["e-disk".to_owned()]).await;
        assert_eq!(world.deleted.lock().len(), 2);
    });
}

#[test]
fn a_stopping_server_waits_for_the_requests_that_are_being_worked_on() {
    run(async |world| {
        world.start(ServerOptions::default()).await;
        world.slow(1_000_000_000, 1 << 20).await;
        world.export("slow", true).await;
        let mut client = world.client("slow").await;
        let request = client.request(Command::READ, 0, 4096);
        client.send(&request, &[]).await;
        let backend = world.exports.backend("e-slow").unwrap();
        while backend.in_flight() == 0 {
            rt::sleep(std::time::Duration::from_millis(1)).await;
        }
        world.service.stop(&world.exports).await.unwrap();
        assert_eq!(backend.in_flight(), 0);
        assert!(client.is_closed().await);
        assert_eq!(*world.deleted.lock(), ["e-slow"]);
        assert!(world.service.stop(&world.exports).await.is_err());
        // Another server may follow on the same socket.
        world.disk(false).await;
        world.start(ServerOptions::default()).await;
        world.export("disk", true).await;
        world.client("disk").await.ask(Command::READ, 0, 512, &[]).await;
    });
}
