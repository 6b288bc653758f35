//! qcow2 images with extended L2 entries and with external data files, made, changed and looked at by both.
use crate::pair::*;

/// Requests that touch parts of clusters of 64 KiB and of subclusters of 2 KiB.
const SCRIPT: &str = "qemu-io -f qcow2 -d unmap -c 'write -P 1 3000 1000' -c 'write -P 2 70k 100k' -c 'write -z 8k 2k' \
                      -c 'write -z 300k 200' -c 'write -P 3 512k 512' -c 'write -z -u 80k 6k' -c 'write -P 4 640k 64k' \
                      -c 'write -z 640k 64k' -c 'write -P 5 660k 1k' -c 'write -z -u 70k 2k' -c 'discard 512k 64k'";

/// The same image, as both tell of it.
fn told_the_same(pair: &Pair, image: &str) {
    for command in ["check", "map", "map --output=json", "info", "measure -O raw"] {
        pair.same(&format!("qemu-img {command} -f qcow2 {image}"));
    }
    pair.same(&format!("qemu-img convert -f qcow2 -O raw {image} {image}.raw"));
    pair.same(&format!("md5sum {image}.raw"));
}

#[test]
fn images_with_subclusters_are_made_changed_and_told_of_the_same() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("subclusters");
    pair.given(&["qemu-img create -q -f raw base 1M", "qemu-io -f raw -c 'write -P 0xbb 0 1M' base"]);
    for options in ["extended_l2=on", "extended_l2=on,backing_file=base,backing_fmt=raw"] {
        pair.same(&format!("qemu-img create -f qcow2 -o {options} a 1M"));
        pair.same(&format!("{SCRIPT} a"));
        told_the_same(&pair, "a");
        pair.all_same(&[
            // A cluster whose first subclusters are not allocated is discarded whole.
            "qemu-io -f qcow2 -c 'discard 640k 64k' -c 'write -P 9 668k 2k' -c 'discard 576k 128k' a",
            "qemu-img map --output=json a",
            "qemu-img resize -q a 1500k",
            "qemu-img check a",
            "qemu-img map a",
            "qemu-img resize -q --shrink a 700k",
            "qemu-img check a",
            "qemu-img map a",
            "qemu-img convert -O qcow2 -o extended_l2=on a b",
            "qemu-img compare a b",
            "qemu-img measure -O qcow2 -o extended_l2=on a",
        ]);
    }
    pair.all_same(&[
        "qemu-img measure -O qcow2 -o extended_l2=on --size 10G",
        "qemu-img measure -O qcow2 -o extended_l2=on,cluster_size=16k --size 10G",
        "qemu-img create -f qcow2 -o extended_l2=on,cluster_size=8k c 1M",
        "qemu-img create -f qcow2 -o extended_l2=on,compat=0.10 c 1M",
        "qemu-img create -f qcow2 -o extended_l2=on,preallocation=metadata c 1M",
        "qemu-img check c",
        "qemu-io -f qcow2 -c 'write -P 1 3k 1k' -c 'read -P 0 4k 1000k' c",
        "qemu-img create -q -f qcow2 -o extended_l2=on,cluster_size=16k c 128T",
        "qemu-img create -q -f qcow2 -o extended_l2=on,cluster_size=16k c 300G",
    ]);
}

#[test]
fn a_layer_of_subclusters_is_committed_and_rebased_the_same() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("subclusters-chain");
    for command in ["commit top", "rebase -b '' top", "commit -d top"] {
        pair.given(&[
            "qemu-img create -q -f qcow2 -o extended_l2=on base 1M",
            "qemu-io -f qcow2 -c 'write -P 0xbb 0 800k' base",
            "qemu-img create -q -f qcow2 -o extended_l2=on -b base -F qcow2 top",
        ]);
        pair.same(&format!("{SCRIPT} top"));
        pair.same(&format!("qemu-img {command}"));
        for image in ["base", "top"] {
            pair.same(&format!("qemu-img check -q {image}"));
            pair.same(&format!("qemu-img convert -O raw {image} {image}.raw"));
            pair.same(&format!("md5sum {image}.raw"));
        }
    }
}

#[test]
fn images_with_data_files_are_made_changed_and_told_of_the_same() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("data-files");
    for options in ["", ",data_file_raw=on", ",extended_l2=on"] {
        pair.same(&format!("qemu-img create -f qcow2 -o data_file=data{options} a 1M"));
        pair.same(&format!("{SCRIPT} a"));
        told_the_same(&pair, "a");
        pair.all_same(&[
            "qemu-img info --output=json a",
            "qemu-img resize -q a 1500k",
            "qemu-img map a",
            "qemu-img resize -q --shrink a 700k",
            "qemu-img check a",
            "qemu-io -f raw -c length data",
            "qemu-img convert -O qcow2 -o data_file=copy a b",
            "qemu-img compare a b",
            "qemu-img convert -O raw a a.raw",
            "md5sum a.raw",
        ]);
        if options == ",data_file_raw=on" {
            pair.same("md5sum data");
        }
    }
    pair.all_same(&[
        "qemu-img create -f qcow2 -o data_file_raw=on c 1M",
        "qemu-img create -f qcow2 -o data_file=x,compat=0.10 c 1M",
        "qemu-img create -f qcow2 -o data_file=x,data_file_raw=on,backing_file=a,backing_fmt=qcow2 c 1M",
        "qemu-img create -q -f qcow2 -o data_file=x c 1M",
        "qemu-img snapshot -c s c",
        "rm x",
        "qemu-img info c",
        "qemu-io -f qcow2 -c 'read 0 1k' c",
        "qemu-img measure -O qcow2 -o data_file=x --size 1G",
        "qemu-io -c 'read 0 1k' 'json:{\"driver\":\"qcow2\",\"file.filename\":\"b\",\"data-file.filename\":\"nowhere\"}'",
        "qemu-img create -q -f qcow2 plain 1M",
        "qemu-io -c 'read 0 1k' 'json:{\"driver\":\"qcow2\",\"file.filename\":\"plain\",\"data-file.filename\":\"data\"}'",
    ]);
}
