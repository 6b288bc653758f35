//! qcow images, of the first version, beside the peer's programs: what is said, what the image is then, and that each reads what
//! the other wrote.
use crate::pair::*;
use std::fs;

#[test]
fn qcow_images_are_made_written_and_told_of_alike() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("qcow-made");
    pair.given(&["qemu-img create -q -f raw base.raw 320k"]);
    pair.all_same(&[
        "qemu-img create -f qcow a.qcow 10M",
        "qemu-img create -f qcow odd.qcow 1000",
        "qemu-img create -f qcow never.qcow 0",
        "qemu-img create -f qcow -b a.qcow -F qcow over.qcow",
        "qemu-img create -f qcow -b base.raw -F raw raw.qcow",
        "qemu-img create -f qcow --object secret,id=s,data=pw -o encryption=on,encrypt.key-secret=s aes.qcow 1M",
        "qemu-img create -f qcow -o help",
    ]);
    for image in ["a", "odd", "over", "raw", "aes"] {
        pair.same_image(&format!("{image}.qcow"));
    }
    pair.all_same(&[
        "qemu-io -f qcow -c 'write -P 1 0 4k' -c 'write -P 2 64k 8k' -c 'write -P 3 700 700' a.qcow",
        "qemu-img map --output=json a.qcow",
        "qemu-io -f qcow -c 'write -P 4 0 4k' -c 'write -P 5 64k 700' -c 'write -z 8k 4k' over.qcow",
        "qemu-img check a.qcow",
        "qemu-img resize a.qcow 20M",
        "qemu-img commit over.qcow",
        "qemu-img map --output=json over.qcow",
        "qemu-img map --output=json a.qcow",
        "qemu-img measure -O qcow --size 1G",
    ]);
}

#[test]
fn each_program_reads_and_goes_on_with_the_qcow_images_of_the_other() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("qcow-both");
    let secret = "--object secret,id=s,data=pw";
    let encrypted = "driver=qcow,encrypt.format=aes,encrypt.key-secret=s,file.filename=a.qcow";
    for first in BOTH {
        for aes in [false, true] {
            let create = if aes { "-o encrypt.format=aes,encrypt.key-secret=s" } else { "" };
            let create = format!("qemu-img create -q -f qcow {secret} {create} a.qcow 40M");
            pair.must(first, &create);
            let image = if aes { format!("--image-opts {encrypted}") } else { "-f qcow a.qcow".to_owned() };
            let turns = [first, first.other(), first, first.other()];
            for (round, side) in turns.into_iter().enumerate() {
                let compressed = if aes { "" } else { "-c" };
                let write = format!(
                    "qemu-io {secret} -c 'write -q -P {} {}k 300k' -c 'write -q {compressed} -P 9 {}M 4k' {image}",
                    1 + round,
                    64 * round,
                    8 * round + 4,
                );
                pair.must(side, &write);
                let read = format!(
                    "qemu-io {secret} -c 'read -P {} {}k 300k' -c 'read -P 9 {}M 4k' {image}",
                    1 + round,
                    64 * round,
                    8 * round + 4,
                );
                BOTH.iter().for_each(|side| pair.must(*side, &read));
            }
            let copy = |to| match aes {
                true => format!("qemu-img convert {secret} -O raw --image-opts {encrypted} {to}"),
                false => format!("qemu-img convert -f qcow -O raw a.qcow {to}"),
            };
            pair.must(Ours, &copy("ours.raw"));
            pair.must(Peer, &copy("peer.raw"));
            let read = |name| fs::read(pair.root.join(name)).unwrap();
            assert!(read("ours.raw") == read("peer.raw"));
            if !aes {
                // The peer makes none of a whole disk.
                pair.must(Ours, "qemu-img convert -c -f raw -O qcow ours.raw c.qcow");
                pair.must(Peer, "qemu-img convert -f qcow -O raw c.qcow again.raw");
                assert!(read("again.raw") == read("peer.raw"));
                assert!(read("c.qcow").len() * 4 < read("a.qcow").len());
            }
        }
    }
}
