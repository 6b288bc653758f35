//! Internal snapshots, made and read by both.

use super::pair::{Pair, peer_is_here, run};

/// What is done to an image in each of the two worlds, and what must come of it there.
const SCRIPT: &[&str] = &[
    "qemu-io -c 'write -q -P 1 0 700k' a",
    "qemu-img snapshot -c one a",
    "qemu-io -c 'write -q -P 2 300k 800k' -c 'discard -q 0 128k' a",
    "qemu-img snapshot -c two a",
    "qemu-img snapshot -c one a",
    "qemu-io -c 'write -q -z 512k 256k' -c 'write -b -q -P 7 0 128k' a",
    "qemu-img snapshot -c 2 a",
    "qemu-img check -q a",
    "qemu-img snapshot -a one a",
    "qemu-io -c 'read -q -P 1 0 700k' -c 'read -q -P 0 700k 324k' a",
    "qemu-img check -q a",
    "qemu-img snapshot -a 2 a",
    "qemu-io -c 'read -q -P 1 128k 172k' -c 'read -q -P 2 300k 724k' a",
    "qemu-img snapshot -a 4 a",
    "qemu-io -c 'read -q -P 0 512k 256k' -c 'read -b -q -P 7 0 128k' -c 'read -b -q -P 0 128k 4k' a",
    "qemu-img convert -l 1 -O raw a raw1",
    "qemu-img convert -l snapshot.name=two -O raw a raw2",
    "qemu-img convert -l snapshot.id=4,snapshot.name=2 -O raw a raw4",
    "md5sum raw1 raw2 raw4",
    "qemu-img snapshot -d two a",
    "qemu-img snapshot -d two a",
    "qemu-img snapshot -d 3 a",
    "qemu-img check -q a",
    "qemu-img snapshot -d one a",
    "qemu-img snapshot -d one a",
    "qemu-img check -q a",
    "qemu-img snapshot -a nowhere a",
    "qemu-img snapshot -c x -U a",
    "sh -c 'qemu-img snapshot -l a | cut -c1-34,56-'",
    "qemu-img snapshot -d 2 a",
    "qemu-img snapshot a",
    "qemu-img check -q a",
];

#[test]
fn snapshots_of_both_are_the_same_and_each_finds_the_others_in_order() {
    if !peer_is_here() {
        return;
    }
    for options in [
        "",
        "-o compat=0.10",
        "-o cluster_size=512",
        "-o cluster_size=2M",
        "-o refcount_bits=64,lazy_refcounts=on",
        "-o extended_l2=on",
    ] {
        let pair = Pair::new(&format!("snapshots-{}", options.len()));
        pair.given(&[&format!("qemu-img create -q -f qcow2 {options} a 1M")]);
        for line in SCRIPT {
            pair.same(line);
            if line.contains("snapshot -c") || line.contains("snapshot -a") {
                // The peer looks at what ours has done.
                let checked = run(&pair.root.join("ours"), None, "qemu-img check a");
                assert!(checked.status.success(), "{options}: after {line}: {checked:?}");
            }
        }
    }
}

#[test]
fn a_snapshot_of_a_disk_that_had_another_size_brings_the_size_with_it() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("snapshot-sizes");
    pair.given(&["qemu-img create -q -f qcow2 -o cluster_size=512 a 200k"]);
    pair.all_same(&[
        "qemu-io -c 'write -q -P 1 0 200k' a",
        "qemu-img snapshot -c small a",
        "qemu-img resize -q a 5M",
        "qemu-io -c 'write -q -P 2 4M 1M' a",
        "qemu-img snapshot -c large a",
        "qemu-img snapshot -a small a",
        "qemu-io -c 'length' -c 'read -q -P 1 0 200k' a",
        "qemu-img check -q a",
        "qemu-img resize -q --shrink a 100k",
        "qemu-img snapshot -c tiny a",
        "qemu-img snapshot -a large a",
        "qemu-io -c 'length' -c 'read -q -P 1 0 200k' -c 'read -q -P 2 4M 1M' -c 'read -q -P 0 200k 3M' a",
        "qemu-img check -q a",
        "qemu-img snapshot -a tiny a",
        "qemu-io -c 'length' -c 'read -q -P 1 0 100k' a",
        "qemu-img convert -l large -O raw a raw",
        "qemu-img check -q a",
    ]);
    let ours = |line: &str| run(&pair.root.join("ours"), None, line);
    let checked = ours("qemu-img check a");
    assert!(checked.status.success(), "{checked:?}");
    // The peer's copy of a snapshot has the size of the disk as it is now.
    let read =
        ours("qemu-io -r -f raw -c 'read -P 1 0 200k' -c 'read -P 0 200k 3M' -c 'read -P 2 4M 1M' raw");
    assert!(read.status.success(), "{read:?}");
}
