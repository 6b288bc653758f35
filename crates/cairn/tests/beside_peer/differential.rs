//! The command-line faces beside the programs whose place they take: the same command lines, in folders that hold the
//! same images, must end with the same exit code and print the same on standard output.
//!
//! What a run decides by chance (times, rates) is cut out first. Where the peer is not installed, a test says so and
//! proves nothing.
use crate::pair::*;
use std::fs;
use std::path::Path;

#[test]
fn what_create_prints_and_makes_is_the_same() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("create");
    pair.given(&["qemu-img create -q -f qcow2 base.qcow2 3M"]);
    pair.all_same(&[
        "qemu-img create a.raw 1M",
        "qemu-img create -f raw a.raw 1.5k",
        "qemu-img create -q a.raw 1000",
        "qemu-io -f raw -c length a.raw",
        "qemu-img create -f qcow2 a.qcow2 1M",
        "qemu-img create -f qcow2 a.qcow2 0",
        "qemu-img create -f qcow2 -o cluster_size=4k,compat=0.10 a.qcow2 10M",
        "qemu-img create -f qcow2 -o cluster_size=2M,refcount_bits=64,lazy_refcounts=on a.qcow2 10G",
        "qemu-img create -f qcow2 -o size=1M -o cluster_size=8k a.qcow2",
        "qemu-img create -f qcow2 -b base.qcow2 -F qcow2 over.qcow2",
        "qemu-img map --output=json over.qcow2",
        "qemu-img create -f qcow2 -b base.qcow2 -F qcow2 over.qcow2 5M",
        "qemu-img create -f qcow2 -u -b nowhere -F raw over.qcow2 3M",
        "qemu-img create -f qcow2 -u -b nowhere -F raw over.qcow2",
        "qemu-img create -f qcow2 -u -b nowhere over.qcow2 3M",
        "qemu-img create -f qcow2 -o refcount_bits=0x10,cluster_size=0x1000 a.qcow2 1M",
        "qemu-img create -f qcow2 -o refcount_bits=010 a.qcow2 1M",
        "qemu-img create -f qcow2 -o '' a.qcow2 1M",
        "qemu-img create -f qcow2 -b 'json:{\"driver\":\"qcow2\",\"file.filename\":\"base.qcow2\"}' -F qcow2 over.qcow2",
        "qemu-img create -f raw 'json:{\"driver\":\"file\",\"filename\":\"j\"}' 1M",
        "qemu-img create -f qcow2 --object '{\"qom-type\":\"secret\",\"id\":\"s\",\"data\":\"x\"}' a.qcow2 1M",
        "qemu-img create -f qcow2 --object secret,id=9,data=x a.qcow2 1M",
        "qemu-img create -f qcow2 -b base.qcow2 over.qcow2",
        "qemu-img create -f qcow2 -b nowhere -F qcow2 over.qcow2",
        "qemu-img create -f raw -b base.qcow2 over.raw",
        "qemu-img create -f qcow2 -F raw over.qcow2 1M",
        "qemu-img create -f qcow2 -o cluster_size=3 a.qcow2 1M",
        "qemu-img create -f qcow2 -o compat=9 a.qcow2 1M",
        "qemu-img create -f qcow2 -o foo=1 a.qcow2 1M",
        "qemu-img create -f qcow2 -o preallocation=foo a.qcow2 1M",
        "qemu-img create -f qcow2 -o refcount_bits=7 a.qcow2 1M",
        "qemu-img create -f qcow2 -o size=1M a.qcow2 2M",
        "qemu-img create -f foo a.qcow2 1M",
        "qemu-img create a.raw",
        "qemu-img create a.raw 1e3",
        "qemu-img create a.raw 8E",
        "qemu-img create a.raw -- -1",
        "qemu-img create /nowhere/a.raw 1M",
        "qemu-img create . 1M",
        "qemu-img create",
        "qemu-img create --foo",
        "qemu-img create a b c d",
    ]);
}

#[test]
fn info_is_the_same_byte_for_byte() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("info");
    pair.given(&[
        "qemu-img create -q -f raw a.raw 1M",
        "qemu-img create -q -f raw file:with:colons 1M",
        "qemu-img create -q -f qcow2 base.qcow2 10M",
        "qemu-io -f qcow2 -c 'write 1M 64k' -c 'write -z 3M 64k' base.qcow2",
        "qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 mid.qcow2",
        "qemu-img create -q -f qcow2 -b mid.qcow2 -F qcow2 -o compat=0.10 top.qcow2",
        "qemu-img create -q -f qcow2 -o cluster_size=512,refcount_bits=1,lazy_refcounts=on odd.qcow2 1500500",
        "qemu-img create -q -f qcow2 -o compression_type=zstd zstd.qcow2 1G",
        "qemu-img create -q -f qcow2 big.qcow2 16T",
        "qemu-img create -q -f qcow2 -u -b missing -F raw orphan.qcow2 1M",
        "qemu-img create -q -f qcow2 bitmap.qcow2 1M",
        // One snapshot for both: it holds the time it was made at.
        "sh -c '[ -e ../snap ] || { qemu-img create -q -f qcow2 ../snap 1M && qemu-img snapshot -c s ../snap; }'",
        "cp ../snap snap.qcow2",
        "qemu-img bitmap --add bitmap.qcow2 b0",
        "qemu-img bitmap --add -g 1M --disable bitmap.qcow2 b1",
    ]);
    for image in [
        "a.raw",
        "file:with:colons",
        "./with:colons",
        "base.qcow2",
        "mid.qcow2",
        "top.qcow2",
        "odd.qcow2",
        "zstd.qcow2",
        "snap.qcow2",
        "big.qcow2",
        "bitmap.qcow2",
    ] {
        for options in
            ["", "--output=json", "--backing-chain", "--output=json --backing-chain", "-U", "-f raw"]
        {
            pair.same(&format!("qemu-img info {options} {image}"));
        }
    }
    pair.all_same(&[
        "qemu-img info --backing-chain orphan.qcow2",
        "qemu-img info orphan.qcow2",
        "qemu-img info --output=json orphan.qcow2",
        "qemu-img info nowhere",
        "qemu-img info .",
        "qemu-img info",
        "qemu-img info a b",
        "qemu-img info --output=foo a.raw",
        "qemu-img info -f foo a.raw",
        "qemu-img info -f qcow2 a.raw",
        "qemu-img info --image-opts driver=qcow2,file.filename=base.qcow2",
        "qemu-img info --image-opts file.filename=base.qcow2",
        "qemu-img info --image-opts driver=raw,offset=512,size=1024,file.filename=a.raw",
        "qemu-img info --image-opts driver=null-co,read-zeroes=on,size=1M",
        "qemu-img info 'json:{\"driver\":\"null-co\",\"size\":1048576,\"read-zeroes\":false}'",
        "qemu-img info --image-opts -f qcow2 driver=qcow2",
        "qemu-img info 'json:{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"base.qcow2\"}}'",
        "qemu-img info file:base.qcow2",
        "qemu-img info foo:base.qcow2",
    ]);
}

#[test]
fn map_is_the_same_byte_for_byte() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("map");
    pair.given(&[
        "qemu-img create -q -f raw a.raw 1M",
        "qemu-io -f raw -c 'write 128k 64k' a.raw",
        "qemu-img create -q -f qcow2 base.qcow2 10M",
        "qemu-io -f qcow2 -c 'write 1M 64k' -c 'write -z 3M 64k' -c 'write 4M 1M' base.qcow2",
        "qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2 12M",
        "qemu-io -f qcow2 -c 'write 2M 130k' -c 'write -z 4M 128k' -c 'write 11M 1k' top.qcow2",
        "qemu-img convert -c -O qcow2 base.qcow2 packed.qcow2",
    ]);
    for image in ["a.raw", "base.qcow2", "top.qcow2", "packed.qcow2"] {
        for options in
            ["", "--output=json", "--output=json --start-offset=1M --max-length=3500k", "--start-offset=4M"]
        {
            pair.same(&format!("qemu-img map {options} {image}"));
        }
    }
    pair.all_same(&[
        "qemu-img map --output=json --start-offset=20M top.qcow2",
        "qemu-img map nowhere",
        "qemu-img map",
        "qemu-img map --start-offset=x a.raw",
        "qemu-img map --output=xml a.raw",
    ]);
}

#[test]
fn check_is_the_same() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("check");
    pair.given(&[
        "qemu-img create -q -f raw a.raw 1M",
        "qemu-img create -q -f qcow2 base.qcow2 10M",
        "qemu-io -f qcow2 -c 'write 1M 640k' base.qcow2",
        "qemu-img convert -c -O qcow2 base.qcow2 packed.qcow2",
        "qemu-img create -q -f qcow2 leaky.qcow2 1M",
        "qemu-io -f qcow2 -c 'write 0 256k' leaky.qcow2",
    ]);
    for folder in ["ours", "peer"] {
        leak_a_cluster(&pair.root.join(folder).join("leaky.qcow2"));
    }
    pair.all_same(&[
        "qemu-img check a.raw",
        "qemu-img check --output=json a.raw",
        "qemu-img check base.qcow2",
        "qemu-img check --output=json base.qcow2",
        "qemu-img check packed.qcow2",
        "qemu-img check --output=json packed.qcow2",
        "qemu-img check leaky.qcow2",
        "qemu-img check -q leaky.qcow2",
        "qemu-img check --output=json leaky.qcow2",
        "qemu-img check -r leaks leaky.qcow2",
        "qemu-img check leaky.qcow2",
        "qemu-img check nowhere",
        "qemu-img check -r foo base.qcow2",
        "qemu-img check",
    ]);
}

/// Counts one cluster behind the end of the used ones that nothing refers to.
fn leak_a_cluster(path: &Path) {
    let mut image = fs::read(path).unwrap();
    let number = |image: &[u8], at: usize| u64::from_be_bytes(image[at..at + 8].try_into().unwrap()) as usize;
    let block = number(&image, number(&image, 48));
    let cluster = 65536;
    image.resize(image.len().next_multiple_of(cluster) + cluster, 0);
    let leaked = image.len() / cluster - 1;
    image[block + 2 * leaked + 1] = 1;
    fs::write(path, image).unwrap();
}

#[test]
fn compare_prints_the_same() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("compare");
    pair.given(&[
        "qemu-img create -q -f qcow2 a.qcow2 10M",
        "qemu-io -f qcow2 -c 'write -P 7 1M 64k' -c 'write -P 0 3M 64k' -c 'write -P 9 9M 1M' a.qcow2",
        "qemu-img convert -O raw a.qcow2 a.raw",
        "qemu-img create -q -f raw zero.raw 10M",
        "qemu-img create -q -f raw longer.raw 12M",
        "qemu-img convert -O raw a.qcow2 tail.raw",
        "qemu-img resize -q -f raw tail.raw 12M",
        "qemu-io -f raw -c 'write 11M 1k' tail.raw",
    ]);
    pair.all_same(&[
        "qemu-img compare a.qcow2 a.raw",
        "qemu-img compare a.raw a.qcow2",
        "qemu-img compare -q a.raw zero.raw",
        "qemu-img compare a.raw zero.raw",
        "qemu-img compare zero.raw a.qcow2",
        "qemu-img compare zero.raw longer.raw",
        "qemu-img compare -s zero.raw longer.raw",
        "qemu-img compare a.qcow2 tail.raw",
        "qemu-img compare tail.raw a.qcow2",
        "qemu-img compare -T foo a.raw zero.raw",
        "qemu-img compare a.raw nowhere",
        "qemu-img compare a.raw",
        "qemu-img compare -f foo a.raw zero.raw",
    ]);
}

#[test]
fn converted_images_have_the_content_and_the_layout_of_the_peers() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("convert");
    pair.given(&[
        "qemu-img create -q -f qcow2 base.qcow2 10M",
        "qemu-io -f qcow2 -c 'write -P 7 1M 640k' -c 'write -z 3M 64k' base.qcow2",
        "qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2",
        "qemu-io -f qcow2 -c 'write -P 8 1M 8k' -c 'write -P 0 5M 64k' -c 'write -P 1 5M 1k' top.qcow2",
        "qemu-img convert -O raw top.qcow2 flat.raw",
        "qemu-img create -q -f raw target.raw 10M",
        "qemu-io -f raw -c 'write -P 5 0 10M' target.raw",
        "qemu-img create -q -f raw small.raw 1M",
    ]);
    pair.all_same(&[
        "qemu-img convert -O qcow2 flat.raw out.qcow2",
        "qemu-img map --output=json out.qcow2",
        "qemu-img compare out.qcow2 top.qcow2",
        "qemu-img convert -O raw top.qcow2 out.raw",
        "qemu-img compare -f raw out.raw top.qcow2",
        "qemu-img convert -O qcow2 -o cluster_size=4k top.qcow2 out.qcow2",
        "qemu-img compare out.qcow2 flat.raw",
        "qemu-img convert -O qcow2 -B base.qcow2 -F qcow2 top.qcow2 over.qcow2",
        "qemu-img map --output=json over.qcow2",
        "qemu-img compare over.qcow2 flat.raw",
        "qemu-img convert -S 0 -O raw flat.raw full.raw",
        "qemu-img map --output=json full.raw",
        "qemu-img convert -n -O raw flat.raw target.raw",
        "qemu-img compare -f raw -F raw flat.raw target.raw",
        "qemu-img convert flat.raw small.raw top.qcow2 joined.raw",
        "qemu-img info joined.raw",
        "qemu-img convert -n -O raw flat.raw small.raw",
        "qemu-img convert -n -O raw flat.raw nowhere.raw",
        "qemu-img convert -O qcow2 nowhere out.qcow2",
        "qemu-img convert -O qcow2 flat.raw",
        "qemu-img convert -m 17 flat.raw out.raw",
        "qemu-img convert --target-is-zero flat.raw out.raw",
        "qemu-img convert -C -S 0 flat.raw out.raw",
        "qemu-img convert -S 1000 flat.raw out.raw",
        "qemu-img convert -B base.qcow2 -O qcow2 flat.raw out.qcow2",
        "qemu-img convert -O foo flat.raw out.raw",
        "qemu-img convert -t foo flat.raw out.raw",
        "qemu-img convert -o foo=1 flat.raw out.raw",
    ]);
    // What ours made, the peer accepts.
    for image in ["out.qcow2", "over.qcow2"] {
        let output = run(&pair.root.join("ours"), None, &format!("qemu-img check {image}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn a_converted_image_lies_in_order() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("order");
    pair.given(&[
        "qemu-img create -q -f raw large.raw 64M",
        "qemu-io -f raw -c 'write -q -P 7 0 24M' -c 'write -q -P 8 25M 30M' large.raw",
    ]);
    let folder = pair.root.join("ours");
    run(&folder, Some(&pair.root.join("bin")), "qemu-img convert -f raw -O qcow2 large.raw out.qcow2");
    let report = run(&folder, None, "qemu-img check --output=json out.qcow2");
    let report = String::from_utf8_lossy(&report.stdout).into_owned();
    let number = |name: &str| {
        let line = report.lines().find(|line| line.contains(name));
        line.map_or(0, |line| line.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap())
    };
    assert_eq!(number("allocated-clusters"), 864);
    // Copies by several workers may be out of order by a piece, now and then.
    assert!(number("fragmented-clusters") <= 86, "{report}");
}

#[test]
fn what_an_existing_target_has_behind_the_source_stays() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("behind");
    pair.given(&[
        "qemu-img create -q -f raw small.raw 1M",
        "qemu-io -f raw -c 'write -P 7 100k 3k' small.raw",
        "qemu-img create -q -f raw large.raw 3M",
        "qemu-io -f raw -c 'write -P 9 0 3M' large.raw",
    ]);
    pair.all_same(&[
        "qemu-img convert -n -f raw -O raw small.raw large.raw",
        "qemu-io -r -f raw -c 'read -P 9 1M 2M' -c 'read -P 7 100k 3k' -c 'read -P 0 0 100k' large.raw",
    ]);
}

#[test]
fn resize_commit_and_rebase_end_the_same() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("change");
    pair.given(&[
        "qemu-img create -q -f qcow2 a.qcow2 1M",
        "qemu-img create -q -f raw a.raw 1M",
        "qemu-img create -q -f qcow2 base.qcow2 1M",
        "qemu-io -f qcow2 -c 'write -P 1 0 64k' base.qcow2",
        "qemu-img create -q -f qcow2 other.qcow2 1M",
        "qemu-io -f qcow2 -c 'write -P 2 64k 64k' other.qcow2",
        "qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 over.qcow2 2M",
        "qemu-io -f qcow2 -c 'write -P 3 128k 64k' over.qcow2",
    ]);
    pair.all_same(&[
        "qemu-img resize a.qcow2 2M",
        "qemu-img resize a.qcow2 +1M",
        "qemu-img resize a.qcow2 -1M",
        "qemu-img resize --shrink a.qcow2 -1M",
        "qemu-img resize --shrink a.qcow2 -100M",
        "qemu-img resize a.qcow2 0",
        "qemu-img resize a.qcow2 1e3",
        "qemu-img resize a.qcow2 2T --preallocation=foo",
        "qemu-img resize a.qcow2 4M --preallocation=metadata",
        "qemu-img resize --shrink a.qcow2 1M --preallocation=metadata",
        "qemu-img resize a.qcow2",
        "qemu-img resize a.qcow2 1M x",
        "qemu-img info a.qcow2 --output=json --image-opts",
        "qemu-img resize -f raw --shrink a.raw 1000",
        "qemu-img resize -f raw a.raw 10M --preallocation=metadata",
        "qemu-img resize -f raw nowhere 10M",
        "qemu-img rebase over.qcow2",
        "qemu-img rebase -b other.qcow2 over.qcow2",
        "qemu-img rebase -b nowhere -F qcow2 over.qcow2",
        "qemu-img rebase -b other.qcow2 -F foo over.qcow2",
        "qemu-img rebase -b other.qcow2 -F qcow2 over.qcow2",
        "qemu-io -f qcow2 -r -c 'read -P 1 0 64k' -c 'read -P 0 64k 64k' -c 'read -P 3 128k 64k' over.qcow2",
        "qemu-img commit base.qcow2",
        "qemu-img commit",
        "qemu-img commit -t foo over.qcow2",
        "qemu-img commit -b nowhere over.qcow2",
        "qemu-img commit -b other.qcow2 over.qcow2",
        "qemu-io -f qcow2 -r -c 'read -P 1 0 64k' -c 'read -P 0 64k 64k' -c 'read -P 3 128k 64k' -c length other.qcow2",
        "qemu-img commit over.qcow2",
        "qemu-io -f qcow2 -r -c map -c 'read -P 1 0 64k' -c 'read -P 3 128k 64k' over.qcow2",
        "qemu-img rebase -u -b '' over.qcow2",
        "qemu-img rebase -u -b nowhere -F raw over.qcow2",
    ]);
}

#[test]
fn what_rebase_has_opened_is_what_it_writes_down() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("rebase-names");
    pair.given(&[
        "mkdir sub",
        "qemu-img create -q -f raw b.raw 1M",
        "qemu-io -f raw -c 'write -P 1 0 1M' b.raw",
        "qemu-img create -q -f qcow2 b.qcow2 1M",
        "qemu-io -f qcow2 -c 'write -P 2 0 512k' b.qcow2",
        "qemu-img create -q -f raw sub/r.raw 2M",
        "qemu-io -f raw -c 'write -P 4 0 2M' sub/r.raw",
        "qemu-img create -q -f qcow2 -b b.raw -F raw t.qcow2",
        "qemu-io -f qcow2 -c 'write -P 3 64k 64k' t.qcow2",
        "qemu-img convert -O raw t.qcow2 shown.raw",
        // The same image in a part of a file: its base is named as seen from there.
        "dd if=t.qcow2 of=part.img bs=64k seek=1 status=none",
        "truncate -s 2M part.img",
    ]);
    let window = r#"json:{"driver":"raw","file":{"driver":"file","filename":"sub/r.raw"},"offset":65536,"size":1048576}"#;
    let no_base = r#"json:{"driver":"qcow2","file.filename":"b.qcow2","backing":null}"#;
    let on_another = r#"json:{"driver":"qcow2","file.filename":"b.qcow2","backing":{"driver":"raw","file.filename":"b.raw"}}"#;
    let is_called_raw = r#"json:{"driver":"qcow2","file.filename":"b.qcow2"}"#;
    let part = "driver=qcow2,file.driver=raw,file.offset=65536,file.file.filename=part.img";
    for rebase in [
        format!("-F raw -b '{window}' t.qcow2"),
        format!("-b '{window}' t.qcow2"),
        format!("-F qcow2 -b '{no_base}' t.qcow2"),
        format!("-F qcow2 -b '{on_another}' t.qcow2"),
        format!("-F raw -b '{is_called_raw}' t.qcow2"),
        "-F raw -b b.qcow2 t.qcow2".to_owned(),
        "-F qcow2 -b file:b.qcow2 t.qcow2".to_owned(),
        "-F nonsense -b b.qcow2 t.qcow2".to_owned(),
        "-F qcow2 -b b.qcow2 --image-opts driver=qcow2,file.filename=t.qcow2".to_owned(),
        "-F raw -b b.raw t.qcow2".to_owned(),
    ] {
        pair.same(&format!("qemu-img rebase {rebase}"));
        pair.same("qemu-img info --output=json t.qcow2");
        pair.same("qemu-img compare -f qcow2 -F raw t.qcow2 shown.raw");
    }
    pair.all_same(&[
        &format!("qemu-io -r -c 'read -P 1 0 64k' -c 'read -P 3 64k 64k' --image-opts {part}"),
        &format!("qemu-img compare -F raw --image-opts {part} driver=raw,file.filename=shown.raw"),
        &format!("qemu-img convert -O raw --image-opts {part} part.raw"),
        "qemu-img compare -f raw -F raw part.raw shown.raw",
        &format!("qemu-img rebase -u -F raw -b '{window}' t.qcow2"),
        "qemu-io -r -c 'read -P 4 0 64k' -c 'read -P 3 64k 64k' t.qcow2",
        "qemu-img rebase -u -F raw -b 'json:{nonsense' t.qcow2",
        "qemu-img rebase -u -F nonsense -b b.raw t.qcow2",
        "qemu-img rebase -u -b b.raw t.qcow2",
        "qemu-img info --output=json t.qcow2",
    ]);
}

#[test]
fn measure_counts_the_same() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("measure");
    pair.given(&[
        "qemu-img create -q -f qcow2 a.qcow2 10M",
        "qemu-io -f qcow2 -c 'write 1M 64k' -c 'write 5000k 3k' -c 'write -z 8M 64k' a.qcow2",
        "qemu-img create -q -f qcow2 -o compat=0.10 old.qcow2 1M",
        "qemu-img convert -O raw a.qcow2 a.raw",
    ]);
    for options in ["", "-O qcow2", "-O qcow2 -o cluster_size=4k", "-O qcow2 --output=json", "--output=json"]
    {
        for source in ["--size 1G", "--size 0", "--size 1500500", "a.qcow2", "a.raw", "old.qcow2"] {
            pair.same(&format!("qemu-img measure {options} {source}"));
        }
    }
    pair.all_same(&[
        "qemu-img measure",
        "qemu-img measure --size 1e3",
        "qemu-img measure --size 64P -O qcow2",
        "qemu-img measure --size 128G -O qcow2 -o cluster_size=512",
        "qemu-img measure --size 129G -O qcow2 -o cluster_size=512",
        "qemu-img measure --size 1G a.raw",
        "qemu-img measure a b",
    ]);
}

#[test]
fn a_hole_means_what_its_own_chain_says_when_an_image_comes_to_lie_over_another() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("holes");
    let (folder, bin) = (pair.root.join("ours"), pair.root.join("bin"));
    let done = |line: &str| {
        let output = run(&folder, Some(&bin), line);
        let told = format!("{}{}", plain(&output.stdout), plain(&output.stderr));
        assert!(output.status.success() && !told.contains("verification failed"), "{line}: {told}");
    };
    // b has data everywhere. s has data in its first MiB; c, shorter, is what the second one comes from.
    for line in [
        "qemu-img create -q -f qcow2 b 4M",
        "qemu-io -f qcow2 -c 'write -q -P 7 0 4M' b",
        "qemu-img create -q -f qcow2 c 2M",
        "qemu-io -f qcow2 -c 'write -q -P 3 1M 1M' c",
    ] {
        done(line);
    }
    for compat in ["0.10", "1.1"] {
        for (name, over, second) in [("alone", "", 0), ("over", "-b c -F qcow2", 3)] {
            done(&format!("qemu-img create -q -f qcow2 -o compat={compat} {over} {name} 3M"));
            done(&format!("qemu-io -f qcow2 -c 'write -q -P 1 0 1M' {name}"));
            let reads = format!("-c 'read -P 1 0 1M' -c 'read -P {second} 1M 1M' -c 'read -P 0 2M 1M'");
            if over.is_empty() {
                done(&format!("qemu-img convert -O qcow2 -o compat={compat} -B b -F qcow2 {name} copy"));
                done(&format!("qemu-io -f qcow2 {reads} copy"));
            } else {
                // The backing image to be has the same content as the old one, where that one has any.
                done("qemu-io -f qcow2 -c 'write -q -P 3 1M 1M' b");
                done(&format!("qemu-img convert -O qcow2 -o compat={compat} -B b -F qcow2 {name} copy"));
                done(&format!("qemu-io -f qcow2 {reads} copy"));
            }
            done(&format!("qemu-img rebase -b b -F qcow2 {name}"));
            done(&format!("qemu-io -f qcow2 {reads} {name}"));
            done(&format!("qemu-img check {name}"));
        }
    }
}

#[test]
fn sizes_offsets_and_rates_near_the_largest_number_are_refused_in_the_same_way() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("largest");
    pair.given(&["qemu-img create -q -f raw a.raw 1M", "qemu-img create -q -f qcow2 a.qcow2 1M"]);
    for size in ["9223372036854775807", "9223372036854775808", "9223372036854774784", "8E", "7.9E", "16E"] {
        pair.all_same(&[
            &format!("qemu-img create -q -f qcow2 b.qcow2 {size}"),
            &format!("qemu-img resize -q -f qcow2 a.qcow2 {size}"),
            &format!("qemu-img resize -q -f raw a.raw +{size}"),
            &format!("qemu-img convert -r {size} -f raw -O raw a.raw b.raw"),
            &format!("qemu-img measure -O qcow2 --size {size}"),
            &format!("qemu-img map -f raw --start-offset={size} a.raw"),
            &format!("qemu-io -f raw -c 'truncate {size}' a.raw"),
            &format!("qemu-io -f raw -c 'read {size} 512' a.raw"),
            &format!("qemu-io -f raw -c 'write -z 0 {size}' a.raw"),
            &format!("qemu-io -f raw -c 'discard {size} 512' a.raw"),
        ]);
    }
    pair.same("qemu-img bench -c 2 -f raw -o 8M a.raw");
    pair.same("qemu-io -c 'open -o driver=null-co,latency-ns=9223372036854775808' -c length");
    pair.same("qemu-img info -f raw a.raw");
}

#[test]
fn a_strict_comparison_reports_the_same_offset() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("strict");
    pair.given(&[
        "qemu-img create -q -f qcow2 a 4M",
        "qemu-img create -q -f qcow2 b 4M",
        "qemu-img create -q -f qcow2 empty 4M",
        "qemu-io -c 'write -q -P 1 0 64k' -c 'write -q -P 0 1M 64k' a",
        "qemu-io -c 'write -q -P 1 0 64k' b",
    ]);
    pair.same("qemu-img compare -s a b");
    pair.same("qemu-img compare -s a empty");
    pair.given(&["qemu-io -c 'write -q -z 2M 64k' -c 'write -q -z 1M 64k' b"]);
    pair.same("qemu-img compare -s a b");
    pair.given(&["qemu-io -c 'write -q -P 0 1M 32k' b"]);
    pair.same("qemu-img compare -s a b");
    pair.same("qemu-img compare -s b a");
}

#[test]
fn measure_refuses_what_create_refuses_and_help_lists_what_create_takes() {
    let pair = Pair::new("options");
    let (folder, bin) = (pair.root.join("ours"), pair.root.join("bin"));
    let ran = |line: &str| run(&folder, Some(&bin), line);
    for options in [
        "compat=9",
        "preallocation=bogus",
        "refcount_bits=8,compat=0.10",
        "lazy_refcounts=on,compat=0.10",
        "compression_type=zstd,compat=0.10",
        "cluster_size=3k",
        "extended_l2=on,cluster_size=8k",
        "data_file_raw=on",
        "encrypt.format=luks",
        "backing_fmt=raw",
    ] {
        let create = ran(&format!("qemu-img create -q -f qcow2 -o {options} a 1G"));
        let measure = ran(&format!("qemu-img measure -O qcow2 -o {options} --size 1G"));
        assert_eq!((create.status.code(), measure.status.code()), (Some(1), Some(1)), "{options}");
    }
    assert_eq!(ran("qemu-img measure -O raw -o preallocation=metadata --size 1G").status.code(), Some(1));
    let help = plain(&ran("qemu-img create -f qcow2 -o help").stdout);
    let listed = help.lines().filter_map(|line| Some(line.trim().split_once("=<")?.0));
    for option in listed {
        let value = match option {
            "cluster_size" => "4k",
            "compat" => "1.1",
            "compression_type" => "zstd",
            "extended_l2" => "on",
            "data_file" => "data",
            "lazy_refcounts" => "on",
            "preallocation" => "metadata",
            "refcount_bits" => "8",
            "size" => "1M",
            "backing_file" | "backing_fmt" | "data_file_raw" | "keep_data_file" => continue,
            // These need each other and a secret: the tests of encryption try them.
            name if name.starts_with("encrypt") => continue,
            other => panic!("'{other}' is listed, and nothing here tries it"),
        };
        let size = if option == "size" { "" } else { "1M" };
        let made = ran(&format!("qemu-img create -q -f qcow2 -o {option}={value} a {size}"));
        assert!(made.status.success(), "{option}: {}", plain(&made.stderr));
    }
}

#[test]
fn options_without_a_file_are_of_the_backing_image_that_the_header_names() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("backing-options");
    pair.given(&[
        "qemu-img create -q -f qcow2 base 1M",
        "qemu-io -f qcow2 -c 'write -q -P 5 64k 64k' base",
        "qemu-img create -q -f qcow2 -b base -F qcow2 top",
        "qemu-img create -q -f qcow2 alone 1M",
    ]);
    let top = "driver=qcow2,file.filename=top";
    for options in [
        "backing.driver=qcow2",
        "backing.driver=raw",
        "backing.driver=qcow2,backing.l2-cache-size=1M",
        "backing.l2-cache-size=1M",
        "backing.file.filename=alone",
        "backing.driver=qcow2,backing.file.filename=alone",
        "backing.driver=nonsense",
        "backing.nonsense=1",
        // The name in the header goes with whatever driver is given: it must be a name for it.
        "backing.driver=file",
        "backing.driver=host_device",
        "backing.driver=null-co",
        "backing.driver=null-co,backing.size=1M",
        "backing.driver=nbd",
        "backing.driver=nbd,backing.host=localhost",
        "backing.file.driver=file",
        "backing.file.driver=null-co",
        "backing.file.locking=off",
        "backing.filename=alone",
        "backing.driver=file,backing.filename=alone",
        "backing.driver=qcow2,backing.file=node",
    ] {
        pair.same(&format!("qemu-img map --output=json --image-opts {top},{options}"));
    }
    pair.same("qemu-img map --image-opts driver=qcow2,file.filename=alone,backing.driver=qcow2");
    pair.same("qemu-img info null-co://");
    for size in ["1M", "2047M", "9223372036854775807"] {
        for cache in ["cache-size", "l2-cache-size", "refcount-cache-size"] {
            pair.same(&format!("qemu-io --image-opts -c 'read -q 0 512' {top},{cache}={size}"));
        }
        let entry = "l2-cache-entry-size=512";
        pair.same(&format!("qemu-io --image-opts -c 'read -q 0 512' {top},l2-cache-size={size},{entry}"));
    }
    for checks in [
        "overlap-check=none,overlap-check.template=none",
        "overlap-check=none,overlap-check.template=all",
        "overlap-check.template=all,overlap-check=none",
        "overlap-check=all,overlap-check.main-header=off",
        "overlap-check.nonsense=on",
        "file=node,file.filename=top",
        "file.filename=top,file=node",
        "cache.nonsense=on",
    ] {
        pair.same(&format!("qemu-io --image-opts -c 'read -q 0 512' {top},{checks}"));
    }
}

#[test]
fn flags_that_are_taken_have_their_effect() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("flags");
    pair.given(&[
        "sh -c 'head -c 65536 /dev/urandom >data'",
        // Data, zeroes that are stored, and a hole.
        "sh -c 'head -c 2M /dev/zero >disk; dd if=data of=disk conv=notrunc status=none; truncate -s 4M disk'",
    ]);
    for flags in ["", "-C", "-C -W", "-S 1M", "-S 0"] {
        pair.same(&format!(
            "sh -c 'qemu-img convert {flags} -f raw -O raw disk copy; stat -c %b copy; cmp disk copy; rm copy'"
        ));
        let compared = "qemu-img compare -f raw -F qcow2 disk copy";
        pair.same(&format!(
            "sh -c 'qemu-img convert {flags} -f raw -O qcow2 disk copy; stat -c %s copy; {compared}; rm copy'"
        ));
    }
    pair.same("qemu-io -m -t none -f raw -c 'write -P 7 1 70000' -c 'read -P 7 1 70000' disk");
    for file in
        ["aio=threads", "aio=io_uring", "aio=nonsense", "aio=native", "aio-max-batch=4", "aio-max-batch=x"]
    {
        pair.same(&format!("qemu-io --image-opts -c 'read 0 4k' driver=raw,file.filename=disk,file.{file}"));
    }
}
