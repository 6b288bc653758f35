//! Formats that are only read, beside the peer: both show the same disk, and refuse the same.
use crate::pair::{Pair, peer_is_here};
use std::fs;

/// A disk with data, zeroes between them, and an end that is no multiple of anything.
fn disk() -> Vec<u8> {
    let mut disk: Vec<u8> = (0..131_072 + 512).map(|at| (at / 512 * 7 + at % 13) as u8).collect();
    disk[8192..40_000].fill(0);
    disk[70_000..71_000].fill(0);
    disk
}

fn put(pair: &Pair, name: &str, bytes: &[u8]) {
    for folder in ["ours", "peer"] {
        fs::write(pair.root.join(folder).join(name), bytes).unwrap();
    }
}

#[test]
fn images_show_the_same_and_can_t_be_written_to() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("read-only");
    let raw = disk();
    let images = [
        ("bochs", "b", testkit::read_only::bochs(&raw)),
        ("cloop", "c", testkit::read_only::cloop(&raw, 512)),
        ("cloop", "d", testkit::read_only::cloop(&raw[..131_072], 65_536)),
        ("cloop", "e", testkit::read_only::cloop(&raw[..131_072], 131_072)),
    ];
    for (format, name, bytes) in images {
        put(&pair, name, &bytes);
        pair.all_same(&[
            &format!("qemu-img info {name}"),
            &format!("qemu-img info --output=json {name}"),
            &format!("qemu-img check {name}"),
            &format!("qemu-img convert -O raw {name} raw"),
            "cksum raw",
            &format!("qemu-io -r -c 'read -v 8000 600' -c 'read -v 69900 1200' -c 'read 100k 40k' {name}"),
            &format!("qemu-io -f {format} -c 'read 0 512' {name}"),
            &format!("qemu-img create -f {format} x 1M"),
            &format!("qemu-img convert -O {format} raw x"),
            &format!("qemu-img resize -f {format} {name} 1M"),
        ]);
    }
}
