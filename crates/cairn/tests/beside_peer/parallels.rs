//! Parallels images beside the peer: what one makes and writes, the other reads, and calls sound.
use crate::pair::{Pair, peer_is_here, run};
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
    for line in ["info", "info --output=json", "check", "check --output=json", "map --output=json", "map"] {
        pair.same(&format!("qemu-img {line} d"));
    }
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

/// A run of writes, and the disk that comes of them.
const WRITES: &str = "-c 'write -P 1 1000k 64k' -c 'write -z 3M 64k' -c 'write -P 2 7000k 1k' -c 'write -P 3 2M 3M' \
                      -c 'write -z -u 3M 1M' -c 'discard 2M 4k' -c 'write -P 4 2M 4k'";

#[test]
fn what_one_writes_the_other_reads() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("parallels-both-ways");
    let (bin, folder) = (pair.root.join("bin"), pair.root.join("ours"));
    let sh = |ours: bool, line: &str| {
        let output = run(&folder, ours.then_some(bin.as_path()), line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    };
    sh(false, "qemu-img create -q -f raw raw 7001k");
    sh(false, &format!("qemu-io -f raw {WRITES} raw"));
    for options in ["cluster_size=64k", "cluster_size=63k", "cluster_size=1M"] {
        for made_by_ours in [true, false] {
            for written_by_ours in [true, false] {
                sh(made_by_ours, &format!("qemu-img create -q -f parallels -o {options} v 7001k"));
                sh(written_by_ours, &format!("qemu-io -f parallels {WRITES} v"));
                sh(!written_by_ours, &format!("qemu-io -f parallels {WRITES} v"));
                for ours in [true, false] {
                    sh(ours, "qemu-img check -f parallels v");
                    sh(ours, "qemu-img compare -f raw -F parallels raw v");
                }
            }
        }
    }
    // The old version, which nobody makes any more: its table counts sectors.
    for ours in [true, false] {
        sh(ours, "qemu-img create -q -f parallels -o cluster_size=512 v 7001k");
        let mut bytes = fs::read(folder.join("v")).unwrap();
        bytes[..16].copy_from_slice(b"WithoutFreeSpace");
        fs::write(folder.join("v"), bytes).unwrap();
        sh(ours, &format!("qemu-io -f parallels {WRITES} v"));
        sh(!ours, "qemu-img check -f parallels v");
        sh(!ours, "qemu-img compare -f raw -F parallels raw v");
        sh(ours, "qemu-img convert -f raw -O parallels raw v");
        sh(!ours, "qemu-img check -f parallels v");
        sh(!ours, "qemu-img convert -f parallels -O raw v back");
        sh(ours, "qemu-img compare -f raw -F raw raw back");
    }
}

fn put(bytes: &mut [u8], at: usize, word: u32) {
    bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
}

/// Leaves a damaged image in both folders: of eight clusters the first, the fourth and the sixth are in use.
fn damage(pair: &Pair, damage: impl Fn(&mut Vec<u8>)) {
    let mut bytes = fs::read(pair.root.join("peer/v")).unwrap();
    damage(&mut bytes);
    ["ours/d", "peer/d"].iter().for_each(|file| fs::write(pair.root.join(file), &bytes).unwrap());
}

#[test]
fn a_check_finds_and_repairs_what_the_peer_s_does() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("parallels-repair");
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
            damage(&pair, case);
            pair.same(&format!("qemu-img check {repair} d"));
            damage(&pair, case);
            pair.same(&format!("qemu-img check --output=json {repair} d"));
        }
        pair.same("qemu-img check d");
        pair.same("cksum d");
        damage(&pair, case);
        pair.all_same(&["qemu-io -c 'read -P 1 0 1M' -c 'write -P 5 7M 64k' d", "qemu-img check d"]);
        pair.same("qemu-io -r -c 'read -P 1 0 1M' -c 'read -P 3 5M 1M' -c 'read -P 5 7M 64k' d");
    }
    // Beyond the end of the file; the peer's check alone ends by an assertion.
    damage(&pair, |bytes| put(bytes, TABLE + 12, 100));
    let output = run(&pair.root.join("ours"), Some(&pair.root.join("bin")), "qemu-img check d");
    assert_eq!(output.status.code(), Some(2));
    pair.same("qemu-io -c 'read -P 0 3M 1M' d");
    pair.same("qemu-img check d");
}
