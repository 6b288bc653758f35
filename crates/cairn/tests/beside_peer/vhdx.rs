//! VHDX images beside the peer: what one makes and writes the other reads, and a log that one left the other carries out.
use crate::pair::*;
use std::fs;

const LAYOUTS: [&str; 4] = [
    "subformat=dynamic",
    "subformat=fixed",
    "block_size=1M,log_size=2M",
    "block_size=4M,block_state_zero=off",
];

#[test]
fn what_is_made_is_the_same_and_as_large() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("vhdx-create");
    for size in
        ["1M", "10M", "1500500", "1G", "1025M", "2G", "33G", "100G", "101G", "200G", "32T", "33T", "64T"]
    {
        pair.all_same(&[&format!("qemu-img create -f vhdx a.vhdx {size}"), "stat -c %s a.vhdx"]);
        for folder in ["ours", "peer"] {
            // What the peer tells of both.
            let told =
                |folder| run(&pair.root.join(folder), None, "qemu-img info --output=json a.vhdx").stdout;
            let cut = |folder| {
                let text = String::from_utf8_lossy(&told(folder)).into_owned();
                text.lines()
                    .filter(|line| !line.contains("actual-size"))
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            };
            assert_eq!(cut(folder), cut("peer"), "{size}");
        }
    }
    for options in [
        "block_size=1",
        "block_size=1M",
        "block_size=1025k",
        "block_size=512M",
        "log_size=1",
        "log_size=1500k",
    ] {
        pair.all_same(&[
            &format!("qemu-img create -f vhdx -o {options} a.vhdx 20M"),
            "stat -c %s a.vhdx",
            "qemu-img check -f vhdx a.vhdx",
        ]);
    }
    for options in ["block_size=3M", "log_size=5G", "log_size=0", "subformat=other"] {
        pair.same(&format!("qemu-img create -f vhdx -o {options} b.vhdx 20M"));
    }
    // The last block of a fixed image is whole here.
    for options in ["subformat=fixed", "subformat=fixed,block_size=1M", "block_state_zero=off"] {
        pair.same(&format!("qemu-img create -f vhdx -o {options} a.vhdx 20M"));
        pair.same("qemu-img check -f vhdx a.vhdx");
    }
    pair.all_same(&[
        "qemu-img create -f vhdx -o help",
        "qemu-img create -f vhdx a.vhdx 65T",
        "qemu-img create -f vhdx -b a.vhdx -F vhdx b.vhdx",
        "qemu-img measure -O vhdx --size 1G",
    ]);
}

#[test]
fn what_one_writes_the_other_reads() {
    if !peer_is_here() {
        return;
    }
    for options in LAYOUTS {
        let pair = Pair::new("vhdx-write");
        pair.all_same(&[
            &format!("qemu-img create -q -f vhdx -o {options} a.vhdx 40M"),
            "qemu-io -f vhdx -c 'write -P 1 0 512' -c 'write -P 2 1M 3M' -c 'write -P 3 39M 700' a.vhdx",
            "qemu-io -f vhdx -c 'write -P 4 7M 64k' -c 'write -z 2M 1M' -c 'write -P 5 9M 5' a.vhdx",
            "qemu-io -f vhdx -c 'read -P 2 1M 1M' -c 'read -P 0 2M 1M' -c 'read -P 5 9M 5' -c 'read -P 0 25M 1M' a.vhdx",
            "qemu-img resize -f vhdx a.vhdx 50M",
        ]);
        // Each goes on where the other has left off.
        pair.written_on("vhdx", "a.vhdx", "-c 'write -P 6 12M 9M' -c 'write -P 7 0 4k'");
        for (side, copy) in [(Peer, "ours/b.vhdx"), (Ours, "peer/b.vhdx")] {
            pair.must(side, "qemu-img check -f vhdx ours/a.vhdx");
            pair.must(side, "qemu-img check -f vhdx peer/a.vhdx");
            pair.must(side, &format!("qemu-img convert -f vhdx -O vhdx -o {options} ours/a.vhdx {copy}"));
            pair.must(Ours, &format!("qemu-img compare ours/a.vhdx {copy}"));
        }
    }
}

/// What a power cut leaves after the first write: the header names a log whose entries are not all in place.
#[test]
fn a_log_that_ours_left_is_carried_out_by_the_peer() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("vhdx-log");
    pair.must(Ours, "qemu-img create -q -f vhdx -o block_size=1M a.vhdx 20M");
    // Killed where the log is in use; `sync` stores an entry and what is in it.
    let killed =
        "qemu-io -f vhdx -c 'write -P 1 3M 2M' -c flush -c 'write -P 2 7M 1M' -c flush -c abort a.vhdx";
    assert!(!pair.by(Ours, killed).status.success());
    let mut bytes = fs::read(pair.root.join("a.vhdx")).unwrap();
    // The entry for 7 MiB is not in its place yet.
    bytes[(2 << 20) + 7 * 8..][..8].copy_from_slice(&2u64.to_le_bytes());
    for (side, name) in [(Peer, "b.vhdx"), (Ours, "c.vhdx")] {
        fs::write(pair.root.join(name), &bytes).unwrap();
        assert!(!pair.by(side, &format!("qemu-img info {name}")).status.success());
        pair.must(side, &format!("qemu-img check -r all {name}"));
        let reads = "-c 'read -P 1 3M 2M' -c 'read -P 2 7M 1M' -c 'read -P 0 8M 1M'";
        pair.must(side, &format!("qemu-io -r -f vhdx {reads} {name}"));
    }
    pair.must(Peer, "qemu-img compare b.vhdx c.vhdx");
}

/// An image of another program from the folder beside the checkout, unpacked in both folders; `false`: it is not there.
pub fn unpacked(pair: &Pair, name: &str) -> bool {
    let packed = format!("{}/../../../shared/images/{name}.bz2", env!("CARGO_MANIFEST_DIR"));
    let unpacked = std::process::Command::new("bzip2").args(["-dc", &packed]).output();
    let Some(unpacked) = unpacked.ok().map(|output| output.stdout).filter(|bytes| !bytes.is_empty()) else {
        println!("skipped: there is no {packed}");
        return false;
    };
    ["ours", "peer"]
        .iter()
        .for_each(|folder| fs::write(pair.root.join(folder).join(name), &unpacked).unwrap());
    true
}

#[test]
fn images_of_hyper_v_and_virtual_pc_are_read_as_the_peer_reads_them() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("vhdx-real");
    if unpacked(&pair, "iotest-dynamic-1G.vhdx") {
        pair.same("qemu-img info --output=json iotest-dynamic-1G.vhdx");
        // Each converts the one and compares it with the other's copy.
        pair.must(Ours, "qemu-img convert -O qcow2 ours/iotest-dynamic-1G.vhdx ours/a.qcow2");
        pair.must(Peer, "qemu-img compare ours/a.qcow2 peer/iotest-dynamic-1G.vhdx");
    }
    if unpacked(&pair, "iotest-dirtylog-10G-4M.vhdx") {
        pair.all_same(&[
            "qemu-img info iotest-dirtylog-10G-4M.vhdx",
            "qemu-img check -r all iotest-dirtylog-10G-4M.vhdx",
            "qemu-img info --output=json iotest-dirtylog-10G-4M.vhdx",
            "qemu-io -r -c 'read -P 0xa5 0 18M' iotest-dirtylog-10G-4M.vhdx",
        ]);
        let name = "iotest-dirtylog-10G-4M.vhdx";
        pair.must(Ours, &format!("qemu-img compare ours/{name} peer/{name}"));
    }
    if unpacked(&pair, "virtualpc-dynamic.vhd") {
        pair.all_same(&[
            "qemu-img info --output=json virtualpc-dynamic.vhd",
            "qemu-img map --output=json virtualpc-dynamic.vhd",
            "qemu-io -c 'write -P 3 5G 64k' virtualpc-dynamic.vhd",
        ]);
        pair.must(Ours, "qemu-img compare ours/virtualpc-dynamic.vhd peer/virtualpc-dynamic.vhd");
    }
}
