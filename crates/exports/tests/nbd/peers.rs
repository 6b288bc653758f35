//! Programs that others wrote, and the driver of our own, against the server.

use crate::world::{SIZE, fill, has, output, pattern, run};
use block::{BackendRequest, Common, Flags, Perms, Policy, Request};
use rt::{Buf, BufMut};

#[test]
fn nbdinfo_sees_what_is_offered() {
    if !has("nbdinfo") {
        return;
    }
    run(async |world| {
        world.serve_disk().await;
        let text = output("nbdinfo", &["--json", &world.uri("disk")]).await;
        for wanted in [
            "\"protocol\": \"newstyle-fixed\"",
            "\"structured\": true",
            "\"export-name\": \"disk\"",
            "\"base:allocation\"",
            "\"is_read_only\": false",
            "\"can_cache\": true",
            "\"can_df\": true",
            "\"can_fast_zero\": true",
            "\"can_flush\": true",
            "\"can_fua\": true",
            "\"can_multi_conn\": true",
            "\"can_trim\": true",
            "\"can_zero\": true",
            "\"block_size_minimum\": 1",
            "\"block_size_preferred\": 4096",
            "\"block_size_maximum\": 33554432",
            "\"export-size\": 8388608",
        ] {
            assert!(text.contains(wanted), "{wanted} is not in {text}");
        }
        let list = output("nbdinfo", &["--list", &world.uri("")]).await;
        assert!(list.contains("export=\"disk\""), "{list}");
    });
}

#[test]
fn nbdcopy_brings_an_image_over_and_back() {
    if !has("nbdcopy") {
        return;
    }
    run(async |world| {
        world.serve_disk().await;
        let source = world.image().with_extension("source");
        let mut image = pattern(0, SIZE);
        image[1 << 20..3 << 20].fill(0);
        std::fs::write(&source, &image).unwrap();
        output("nbdcopy", &[&source.display().to_string(), &world.uri("disk")]).await;
        assert!(std::fs::read(world.image()).unwrap() == image);
        let back = world.image().with_extension("back");
        output("nbdcopy", &[&world.uri("disk"), &back.display().to_string()]).await;
        assert!(std::fs::read(back).unwrap() == image);
    });
}

#[test]
fn qemu_io_finds_its_patterns_again() {
    if !has("qemu-io") {
        return;
    }
    run(async |world| {
        world.serve_disk().await;
        let uri = world.uri("disk");
        let mut arguments = vec!["-f", "raw"];
        for command in [
            "write -P 1 0 8M",
            "write -P 2 4k 64k",
            "write -z 1M 1M",
            "write -z -u 2M 1M",
            "write -f -P 3 3M 100k",
            "discard 4M 1M",
            "flush",
            "read -P 1 0 4k",
            "read -P 2 4k 64k",
            "read -P 0 1M 2M",
            "read -P 3 3M 100k",
            "read -P 1 5M 3M",
        ] {
            arguments.extend(["-c", command]);
        }
        arguments.push(&uri);
        let text = output("qemu-io", &arguments).await;
        assert!(!text.contains("failed"), "{text}");
    });
}

#[test]
fn qemu_img_sees_the_holes_of_the_export() {
    if !has("qemu-img") {
        return;
    }
    run(async |world| {
        let file = std::fs::File::create(world.image()).unwrap();
        file.set_len(SIZE as u64).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[1; 65536], 1 << 20).unwrap();
        world.serve_disk().await;
        let map = output("qemu-img", &["map", "--output=json", "-f", "raw", &world.uri("disk")]).await;
        let data = map.lines().filter(|line| line.contains("\"data\": true")).count();
        assert_eq!((map.lines().count(), data), (3, 1), "{map}");
    });
}

#[test]
fn our_own_driver_and_our_server_agree() {
    run(async |world| {
        fill(&world.image());
        world.serve_disk().await;
        let common = Common { discard: block::Discard::Unmap, ..Common::default() };
        let node =
            world.graph.open_image(&world.uri("disk"), Some("raw"), common, Policy::FOLLOW).await.unwrap();
        let request = BackendRequest { label: "test".into(), node, perms: Perms::WRITER, pinned: false };
        let backend = world.graph.attach(request).await.unwrap();
        let (buf, result) = backend.read(0, BufMut::with_len(SIZE)).await;
        result.unwrap();
        assert!(buf[..] == pattern(0, SIZE));
        backend
            .write(12345, Buf::from_slice(b"over the wire"), Request::GUEST.with(Flags::FUA))
            .await
            .unwrap();
        backend.discard(1 << 20, 1 << 20, Request::GUEST).await.unwrap();
        let status = backend.status(1 << 20, 2 << 20).await.unwrap();
        assert!(status.zero && !status.data && status.len == 1 << 20, "{status:?}");
        world.graph.detach(&backend).await.unwrap();
        assert_eq!(std::fs::read(world.image()).unwrap()[12345..12358], *b"over the wire");
    });
}
