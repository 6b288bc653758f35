//! Durable writes of a client whose server has FUA: they reach it as such, and it is asked for a flush only where a format
//! has changed its tables.

use super::world::{World, run};
use block::{Backend, BackendRequest, Common, Flags, Options, Perms, Policy, Request};
use rt::Buf;
use std::sync::Arc;

const DURABLE: Request = Request::GUEST.with(Flags::FUA);

/// A guest on an image that lies on the server's disk.
async fn guest(world: &World, format: &str) -> Arc<Backend> {
    let uri = world.uri("disk");
    let node = world.graph.open_image(&uri, Some(format), Common::default(), Policy::FOLLOW).await.unwrap();
    let request = BackendRequest { label: "guest".to_owned(), node, perms: Perms::WRITER, pinned: false };
    world.graph.attach(request).await.unwrap()
}

/// Flushes and writes that the server was asked for.
fn asked(world: &World) -> (u64, u64) {
    let stats = world.exports.backend("e-disk").unwrap().stats();
    (stats.flush.ops, stats.write.ops)
}

fn data(byte: u8) -> Buf {
    Buf::from_slice(&[byte; 4096])
}

#[test]
fn a_durable_write_is_one_request_and_no_flush() {
    run(async |world: &World| {
        world.serve_disk().await;
        let disk = guest(world, "raw").await;
        let before = asked(world);
        disk.write(0, data(1), DURABLE).await.unwrap();
        assert_eq!(asked(world), (before.0, before.1 + 1));
        disk.write_zeroes(512, 1024, DURABLE).await.unwrap();
        assert_eq!(asked(world), (before.0, before.1 + 2));
        world.graph.detach(&disk).await.unwrap();
        assert!(asked(world).0 > before.0, "closing flushes");
    });
}

#[test]
fn a_durable_write_through_a_format_is_flushed_only_when_its_tables_wait() {
    run(async |world: &World| {
        world.serve_disk().await;
        world.graph.create("qcow2", &world.uri("disk"), 1 << 20, Options::new()).await.unwrap();
        let disk = guest(world, "qcow2").await;
        let before = asked(world).0;
        disk.write(0, data(1), DURABLE).await.unwrap();
        let mapped = asked(world);
        assert!(mapped.0 > before, "the new mapping must be durable too");
        disk.write(0, data(2), DURABLE).await.unwrap();
        assert_eq!(asked(world), (mapped.0, mapped.1 + 1), "in place, its mapping is durable");
        // A table that waits is flushed whoever's write it is.
        disk.write(128 << 10, data(3), Request::GUEST).await.unwrap();
        disk.write(0, data(4), DURABLE).await.unwrap();
        assert!(asked(world).0 > mapped.0);
        let (seen, result) = disk.read(0, rt::BufMut::with_len(4096)).await;
        result.unwrap();
        assert_eq!(seen[..], [4; 4096]);
        world.graph.detach(&disk).await.unwrap();
    });
}
