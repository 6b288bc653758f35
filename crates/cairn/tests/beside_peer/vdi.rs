//! VDI beside the peer: what one makes and writes, the other reads, and calls sound.
use crate::pair::*;
use std::fs;

/// The first bytes of the header that matter, without the line of text.
const COUNT: usize = 0x184;
const TABLE: usize = 0x200;

#[test]
fn what_is_told_of_images_is_the_same() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("vdi");
    for (name, options) in [("a", ""), ("b", "-o static=on"), ("c", "-o static=off")] {
        for size in ["0", "1", "1500k", "5000k", "3M"] {
            pair.same(&format!("qemu-img create -f vdi {options} {name}-{size} {size}"));
        }
    }
    pair.all_same(&[
        "qemu-img create -f vdi -o static=maybe a 1M",
        "qemu-img create -f vdi -o block_size=4096 a 1M",
        "qemu-img create -f vdi -b a -F raw b 1M",
        "qemu-img create -f vdi a 1P",
        "qemu-img create -f vdi -o help",
        "qemu-img measure -O vdi --size 5M",
        "qemu-img resize a-3M 4M",
        "qemu-img snapshot -l a-3M",
        "qemu-img amend -f vdi -o size=1 a-3M",
    ]);
    pair.given(&[
        "rm -f a-0 a-1 a-1500k a-5000k a-3M b-0 b-1 b-1500k b-5000k b-3M",
        "qemu-img create -q -f vdi d 4900k",
    ]);
    pair.given(&["qemu-io -c 'write -P 1 1M 64k' -c 'write -P 2 4800k 100k' -c 'write -P 3 0 1k' d"]);
    pair.same_told("d");
    pair.all_same(&[
        "qemu-io -r -c 'read -P 0 2k 1000k' -c 'read -P 1 1M 64k' -c 'read -P 2 4800k 100k' d",
        "qemu-io -c 'alloc 0 4900k' -c 'map' d",
        "qemu-io -c 'write 4900k 512' d",
    ]);
}

#[test]
fn what_one_writes_the_other_reads() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("vdi-both-ways");
    pair.written_both_ways("vdi", &["static=off", "static=on"]);
}

#[test]
fn what_can_be_repaired_is_sound_for_the_peer_afterwards() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("vdi-repair");
    // Of five blocks three are in use.
    pair.given(&[
        "qemu-img create -q -f vdi v 5M",
        "qemu-io -c 'write -P 1 0 1M' -c 'write -P 2 2M 1M' -c 'write -P 3 4M 1M' v",
    ]);
    let check = |repair: &str| pair.by(Ours, &format!("qemu-img check -f vdi {repair} ours/d"));
    // What is damaged, what a check says of it, what repairs it, and what the disk shows then.
    type Damage = fn(&mut Vec<u8>);
    let cases: [(Damage, i32, &str, &str); 5] = [
        (|bytes| put(bytes, TABLE + 8, 2), 2, "-r all", "-c 'read -P 3 2M 1M' -c 'read -P 3 4M 1M'"),
        (|bytes| put(bytes, COUNT, 1), 2, "-r all", "-c 'read -P 2 2M 1M'"),
        (|bytes| put(bytes, COUNT, 5), 3, "-r leaks", "-c 'read -P 2 2M 1M'"),
        (
            |bytes| put(bytes, TABLE, u32::MAX),
            3,
            "-r leaks",
            "-c 'read -P 0 0 1M' -c 'read -P 2 2M 1M' -c 'read -P 3 4M 1M'",
        ),
        (
            |bytes| {
                bytes.resize(bytes.len() + (6 << 20), 9);
                put(bytes, TABLE + 8, 7);
            },
            2,
            "-r all",
            "-c 'read -P 9 2M 1M' -c 'read -P 3 4M 1M'",
        ),
    ];
    for (nth, (damage, code, repair, reads)) in cases.into_iter().enumerate() {
        pair.damaged(damage);
        assert_eq!(check("").status.code(), Some(code), "case {nth}");
        assert_eq!(check(repair).status.code(), Some(0), "case {nth}: {:?}", check(repair));
        fs::copy(pair.root.join("ours/d"), pair.root.join("peer/d")).unwrap();
        pair.all_same(&["qemu-img check -f vdi d", &format!("qemu-io -f vdi -r {reads} d")]);
    }
    pair.damaged(|bytes| put(bytes, TABLE + 8, 4));
    assert_eq!(check("-r all").status.code(), Some(2), "lost data is not called zeroes");
    for (line, text) in [
        ("qemu-img convert -f vdi -O raw ours/d raw", "at offset 2097152"),
        ("qemu-io -f vdi -c 'read 0 1M' ours/d", "the image can be opened read-only"),
    ] {
        let output = pair.by(Ours, line);
        let told = plain(&output.stderr) + &plain(&output.stdout);
        assert!(!output.status.success() && told.contains(text), "{line}: {told}");
    }
}
