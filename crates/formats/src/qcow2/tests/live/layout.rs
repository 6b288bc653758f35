//! Where guest data lies in the file: metadata does not part it needlessly.
use super::*;
use api::PreallocMode;

/// Guest offsets at which data does not go on in the file where the data before it ends.
async fn partings(disk: &Disk) -> Vec<u64> {
    let (mut at, end, mut behind, mut found) = (0, disk.backend.length(), None, Vec::new());
    while at < end {
        let status = disk.backend.status(at, end - at).await.unwrap();
        let host = status.host.map(|(_, offset)| offset).expect("all is mapped");
        if behind.is_some_and(|behind| behind != host) {
            found.push(at);
        }
        behind = Some(host + status.len);
        at += status.len;
    }
    found
}

#[test]
fn a_new_refcount_block_does_not_part_the_run_that_needs_it() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    for (cluster_size, refcount_bits, size) in
        [(512u64, "16", 1u64 << 20), (512, "64", 1 << 20), (4096, "64", 16 << 20)]
    {
        let options = [("cluster_size", &*cluster_size.to_string()), ("refcount_bits", refcount_bits)];
        create(&path, size, &options).unwrap();
        let span = cluster_size / 8 * cluster_size;
        rt::block_on_control(async {
            let disk = Disk::open(&path).await;
            for at in (0..size).step_by(span as usize) {
                disk.write(at, &vec![7; span as usize]).await;
            }
            // Between one table's data and the next table's is that table.
            let partings = partings(&disk).await;
            disk.close().await;
            // A table's clusters may be as many as a block counts: it can't lie behind all of them.
            let few_counts = (cluster_size, refcount_bits) == (512, "64");
            assert!(few_counts || partings.iter().all(|at| at % span == 0), "{cluster_size}: {partings:?}");
        });
        if let Some((code, text)) = peer("qemu-img", &["check", path.to_str().unwrap()]) {
            assert_eq!(code, 0, "{text}");
        }
    }
}

#[test]
fn space_reserved_from_the_start_is_one_run_in_the_order_of_the_disk() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    for cluster_size in ["512", "4096", "65536"] {
        for mode in ["metadata", "falloc", "full"] {
            let tables = if cluster_size == "65536" { 1 } else { 3 };
            let cluster = cluster_size.parse::<u64>().unwrap();
            let size = tables * cluster / 8 * cluster / if tables == 1 { 64 } else { 1 } + 512;
            create(&path, size, &[("cluster_size", cluster_size), ("preallocation", mode)]).unwrap();
            rt::block_on_control(async {
                let disk = Disk::open(&path).await;
                assert_eq!(partings(&disk).await, [], "{mode} with clusters of {cluster_size}");
                disk.close().await;
            });
            if let Some((code, text)) = peer("qemu-img", &["check", path.to_str().unwrap()]) {
                assert_eq!(code, 0, "{text}");
            }
        }
    }
}

#[test]
fn space_reserved_by_a_resize_is_one_run() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    for mode in [PreallocMode::Metadata, PreallocMode::Falloc, PreallocMode::Full] {
        create(&path, 0, &[("cluster_size", "4096")]).unwrap();
        rt::block_on_control(async {
            let disk = Disk::open(&path).await;
            disk.graph.resize(&disk.backend.node(), 5 << 20, mode).await.unwrap();
            assert_eq!(partings(&disk).await, [], "{mode}");
            disk.close().await;
        });
    }
}
