//! Growing: of the virtual disk, and of the structures that count its clusters.
use super::*;
use api::PreallocMode;

#[test]
fn a_resize_shows_zeroes_and_never_old_data() {
    let sizes = [1 << 20, (5 << 20) + 512, (1 << 20) + 1024, 9 << 20, 100_352, 0, 700_416, 3 << 20];
    for variant in [1, 2, 5, 6, 7, 8, 11].map(|i| VARIANTS[i]) {
        for preallocation in
            [PreallocMode::Off, PreallocMode::Metadata, PreallocMode::Falloc, PreallocMode::Full]
        {
            let mut world = World::new(variant);
            rt::block_on_control(async {
                let mut disk = Disk::open(&world.path).await;
                for (i, size) in sizes.into_iter().enumerate() {
                    let old = world.model.len() as u64;
                    if old > 4096 {
                        let (offset, len) = (old - 4096, 4096);
                        disk.write(offset, &[i as u8 + 1; 4096]).await;
                        world.put(offset, len, i as u8 + 1);
                    }
                    let preallocation = if size < old { PreallocMode::Off } else { preallocation };
                    disk.graph.resize(&disk.backend.node(), size, preallocation).await.unwrap();
                    world.model.resize(size as usize, 0);
                    world.agrees(&disk).await;
                    if i % 3 == 2 {
                        disk.close().await;
                        disk = Disk::open(&world.path).await;
                        world.agrees(&disk).await;
                    }
                }
                disk.close().await;
            });
            world.accepted_by_the_peer();
        }
    }
}

#[test]
fn a_shrunk_image_gives_its_space_back() {
    let scratch = Scratch::new();
    let path = scratch.path("image.qcow2");
    create(&path, 40 << 20, &[]).unwrap();
    rt::block_on_control(async {
        let disk = Disk::open(&path).await;
        disk.write(0, &vec![7; 40 << 20]).await;
        disk.graph.resize(&disk.backend.node(), 1 << 20, PreallocMode::Off).await.unwrap();
        assert!(path.metadata().unwrap().len() < 2 << 20);
        disk.close().await;
    });
    checked_by_peer(&path);
}

#[test]
fn refcount_structures_grow_with_the_image() {
    // 64 counts a block, 64 entries in the first table cluster: both grow many times over.
    for (cluster_size, bits, size) in
        [("512", "64", 12 << 20), ("512", "1", 4 << 20), ("1024", "32", 24 << 20)]
    {
        let scratch = Scratch::new();
        let path = scratch.path("image.qcow2");
        create(&path, size, &[("cluster_size", cluster_size), ("refcount_bits", bits)]).unwrap();
        let content: Vec<u8> = (0..size).map(backing_byte).collect();
        rt::block_on_control(async {
            let disk = Disk::open(&path).await;
            for (i, piece) in content.chunks(700_000).enumerate() {
                disk.write(i as u64 * 700_000, piece).await;
            }
            disk.close().await;
            let disk = Disk::open(&path).await;
            assert!(disk.read(0, size as usize).await[..] == content[..]);
            disk.backend.write_zeroes(0, size, Request::GUEST.with(Flags::MAY_UNMAP)).await.unwrap();
            disk.backend.flush().await.unwrap();
            disk.write(5000, &content[..4_000_000]).await;
            disk.close().await;
        });
        checked_by_peer(&path);
    }
}
