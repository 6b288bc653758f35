//! qed images beside the peer's programs: what is said, what the image is then, and that each reads what the other wrote.
use crate::pair::*;
use std::fs;

#[test]
fn qed_images_are_made_and_told_of_alike() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("qed-made");
    pair.given(&["qemu-img create -q -f raw base.raw 320k"]);
    pair.all_same(&[
        "qemu-img create -f qed a.qed 10M",
        "qemu-img create -f qed odd.qed 1000",
        "qemu-img create -f qed -o cluster_size=4k,table_size=2 small.qed 1G",
        "qemu-img create -f qed -o cluster_size=1M,table_size=2 large.qed 3T",
        "qemu-img create -f qed -b a.qed -F qed over.qed",
        "qemu-img create -f qed -b base.raw -F raw raw.qed",
        "qemu-img create -f qed -b base.raw -F raw -u unsafe.qed 1M",
        "qemu-img create -f qed -o cluster_size=3000 never.qed 1M",
        "qemu-img create -f qed -o cluster_size=1k never.qed 1M",
        "qemu-img create -f qed -o cluster_size=128M never.qed 1M",
        "qemu-img create -f qed -o table_size=3 never.qed 1M",
        "qemu-img create -f qed -o table_size=32 never.qed 1M",
        "qemu-img create -f qed -o cluster_size=4k,table_size=1 never.qed 2G",
        "qemu-img create -f qed never.qed 65T",
        "qemu-img create -f qed -o help",
    ]);
    for image in ["a", "odd", "small", "large", "over", "raw", "unsafe"] {
        pair.same_image(&format!("{image}.qed"));
    }
    pair.all_same(&[
        "qemu-img rebase -u -f qed -b '' over.qed",
        "qemu-img info over.qed",
        "qemu-img rebase -u -f qed -b base.raw -F raw over.qed",
        "qemu-img info over.qed",
        "qemu-img resize a.qed 20M",
        "qemu-img resize a.qed 5M",
        "qemu-img resize --shrink a.qed 5M",
        "qemu-img info a.qed",
        "qemu-img measure -O qed --size 1G",
    ]);
}

#[test]
fn qed_images_that_are_written_to_are_the_same_afterwards() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("qed-written");
    pair.given(&[
        "qemu-img create -q -f qed base.qed 1M",
        "qemu-io -f qed -c 'write -q -P 1 0 1M' base.qed",
        "qemu-img create -q -f qed -b base.qed -F qed over.qed 64M",
        "qemu-img create -q -f qed a.qed 64M",
    ]);
    pair.all_same(&[
        "qemu-io -f qed -c 'write -P 2 0 64k' -c 'write -P 3 256k 64k' -c 'write -P 4 100k 64k' over.qed",
        "qemu-io -f qed -c 'write -z 512k 128k' -c 'write -P 5 33M 100k' -c 'read -P 0 512k 128k' over.qed",
        "qemu-img map --output=json over.qed",
        "qemu-img check over.qed",
        "qemu-img check --output=json over.qed",
        "qemu-io -f qed -c 'write -P 6 1M 6M' -c 'write -z 2M 64k' -c 'write -P 7 100 700' a.qed",
        "qemu-img map --output=json a.qed",
        "qemu-img check --output=json a.qed",
        "qemu-img convert -f qed -O qed over.qed copy.qed",
        "qemu-img compare over.qed copy.qed",
        // Ours empties the image then, too.
        "qemu-img commit over.qed",
        "qemu-img map --output=json base.qed",
        "qemu-img check -q base.qed",
        "qemu-img check -q over.qed",
    ]);
}

/// What one of the programs shows of an image, through the other's eyes and its own.
#[test]
fn each_program_reads_and_goes_on_with_the_qed_images_of_the_other() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("qed-both");
    for (create, first) in [("-o cluster_size=4k,table_size=2", Ours), ("-o cluster_size=64k", Peer)] {
        pair.must(first, &format!("qemu-img create -q -f qed {create} a.qed 100M"));
        let turns = [first, first.other(), first, first.other()];
        for (round, side) in turns.into_iter().enumerate() {
            let write = format!(
                "qemu-io -f qed -c 'write -q -P {} {}k 300k' -c 'write -q -z {}k 256k' -c 'write -q -P 9 {}M 3k' a.qed",
                1 + round,
                64 * round,
                128 * round,
                20 * round + 7,
            );
            pair.must(side, &write);
            BOTH.iter().for_each(|side| pair.must(*side, "qemu-img check -q a.qed"));
            let read = format!(
                "qemu-io -f qed -c 'read -P 0 {}k 256k' -c 'read -P 9 {}M 3k' a.qed",
                128 * round,
                20 * round + 7
            );
            pair.must(side.other(), &read);
        }
        pair.must(Ours, "qemu-img convert -f qed -O raw a.qed ours.raw");
        pair.must(Peer, "qemu-img convert -f qed -O raw a.qed peer.raw");
        assert!(
            fs::read(pair.root.join("ours.raw")).unwrap() == fs::read(pair.root.join("peer.raw")).unwrap()
        );
    }
}

#[test]
fn a_qed_image_that_was_not_closed_is_repaired_as_it_is_opened_for_writing() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("qed-crashed");
    pair.given(&[
        "qemu-img create -q -f qed a.qed 64M",
        "qemu-io -f qed -c 'write -q -P 1 0 1M' -c 'write -q -P 2 40M 1M' a.qed",
        // The mark, an entry that leads beyond the file, and clusters that nothing leads to.
        "sh -c 'printf \"\\002\" | dd of=a.qed bs=1 seek=16 conv=notrunc status=none'",
        "sh -c 'printf \"\\001\" | dd of=a.qed bs=1 seek=1441798 conv=notrunc status=none'",
        "truncate -s +128k a.qed",
    ]);
    let told = pair.by(Ours, "qemu-img info ours/a.qed");
    assert!(plain(&told.stdout).contains("cleanly shut down: no"), "{}", plain(&told.stdout));
    pair.all_same(&[
        "qemu-io -r -f qed -c 'read -P 1 64k 64k' a.qed",
        "qemu-io -f qed -c 'read -P 1 64k 64k' a.qed",
        "qemu-img info --output=json a.qed",
    ]);
    pair.must(Ours, "qemu-img check -r all ours/a.qed");
    pair.must(Peer, "qemu-img check ours/a.qed");
}
