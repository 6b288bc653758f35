//! Parallels images beside the peer: what one makes and writes, the other reads, and calls sound.
use crate::pair::*;
use std::fs;

const TABLE: usize = 64;
const IN_USE: usize = 44;
const DATA: usize = 48;

#[test]
fn what_is_told_of_images_is_the_same() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("parallels");
    for size in ["0", "1", "512", "1500k", "8M", "8E"] {
        pair.same(&format!("qemu-img create -f parallels a {size}"));
        pair.same("cat a");
        pair.same("qemu-img info a");
    }
    for cluster in ["0", "1", "512", "63k", "64k", "100000", "2M", "2G"] {
        pair.same(&format!("qemu-img create -f parallels -o cluster_size={cluster} b 10M"));
        if !matches!(cluster, "0" | "2G") {
            pair.same("cat b");
        }
    }
    pair.all_same(&[
        "qemu-img create -f parallels -o help",
        "qemu-img create -f parallels -b a -F raw b 1M",
        "qemu-img measure -O parallels --size 5M",
        "qemu-img resize -f parallels a 4M",
        "qemu-img snapshot -l a",
    ]);
    pair.given(&[
        "rm -f a b",
        "qemu-img create -q -f parallels d 4900k",
        "qemu-io -c 'write -P 1 1M 64k' -c 'write -P 2 4800k 100k' -c 'write -P 3 0 1k' d",
    ]);
    pair.same_told("d");
    pair.all_same(&[
        "qemu-io -r -c 'read -P 0 2k 1000k' -c 'read -P 1 1M 64k' -c 'read -P 2 4800k 100k' d",
        "qemu-io -c 'alloc 0 4900k' -c 'map' d",
        "qemu-io --image-opts -c 'write -P 7 2M 64k' driver=parallels,prealloc-size=3M,file.filename=d",
        "qemu-io --image-opts -c 'write -P 8 3M 64k' driver=parallels,prealloc-mode=truncate,file.filename=d",
        "qemu-io --image-opts -c 'read 0 64k' driver=parallels,prealloc-mode=none,file.filename=d",
        "cmp -s d d",
        "cksum d",
    ]);
}

#[test]
fn what_one_writes_the_other_reads() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("parallels-both-ways");
    pair.written_both_ways("parallels", &["cluster_size=64k", "cluster_size=63k", "cluster_size=1M"]);
    // The old version, which nobody makes any more: its table counts sectors.
    for side in BOTH {
        pair.must(side, "qemu-img create -q -f parallels -o cluster_size=512 v 7001k");
        let image = pair.root.join("v");
        let mut bytes = fs::read(&image).unwrap();
        bytes[..16].copy_from_slice(b"WithoutFreeSpace");
        fs::write(&image, bytes).unwrap();
        pair.must(side, &format!("qemu-io -f parallels {WRITES} v"));
        pair.must(side.other(), "qemu-img check -f parallels v");
        pair.must(side.other(), "qemu-img compare -f raw -F parallels raw v");
    }
}

#[test]
fn a_check_finds_and_repairs_what_the_peer_s_does() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("parallels-repair");
    // Of eight clusters the first, the fourth and the sixth are in use.
    pair.given(&[
        "qemu-img create -q -f parallels v 8M",
        "qemu-io -c 'write -P 1 0 1M' -c 'write -P 2 3M 64k' -c 'write -P 3 5M 1M' v",
    ]);
    type Damage = fn(&mut Vec<u8>);
    let cases: [Damage; 6] = [
        |bytes| put(bytes, IN_USE, 0x746f_6e59),
        |bytes| put(bytes, DATA, 1),
        |bytes| bytes.resize(bytes.len() + 2560 * 1024, 9),
        |bytes| put(bytes, TABLE + 12, 1),
        |bytes| put(bytes, TABLE + 12, 0),
        |bytes| {
            put(bytes, TABLE + 12, 1);
            bytes.resize(bytes.len() + 1, 9);
        },
    ];
    for case in cases {
        for repair in ["", "-r leaks", "-r all"] {
            pair.damaged(case);
            pair.same(&format!("qemu-img check {repair} d"));
            pair.damaged(case);
            pair.same(&format!("qemu-img check --output=json {repair} d"));
        }
        pair.same("qemu-img check d");
        pair.same("cksum d");
        pair.damaged(case);
        pair.all_same(&["qemu-io -c 'read -P 1 0 1M' -c 'write -P 5 7M 64k' d", "qemu-img check d"]);
        pair.same("qemu-io -r -c 'read -P 1 0 1M' -c 'read -P 3 5M 1M' -c 'read -P 5 7M 64k' d");
    }
    // Beyond the end of the file; the peer's check alone ends by an assertion.
    pair.damaged(|bytes| put(bytes, TABLE + 12, 100));
    assert_eq!(pair.by(Ours, "qemu-img check ours/d").status.code(), Some(2));
    pair.same("qemu-io -c 'read -P 0 3M 1M' d");
    pair.same("qemu-img check d");
}
