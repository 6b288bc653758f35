//! Formats that are only read, beside the peer: both show the same disk, and refuse the same.
use crate::pair::{Ours, Pair, Peer, peer_is_here};
use crate::vhdx::unpacked;
use std::fs;
use std::process::Command;
use testkit::dmg::{self, Kind};

/// A disk with data, zeroes between them, and an end that is no multiple of anything.
fn disk() -> Vec<u8> {
    let mut disk: Vec<u8> = (0..131_072 + 512).map(|at| (at / 512 * 7 + at % 13) as u8).collect();
    disk[8192..40_000].fill(0);
    disk[70_000..71_000].fill(0);
    disk
}

/// A disk image of Apple in chunks of 10 KiB.
fn dmg(shown: &[u8], kinds: &[Kind]) -> dmg::Image {
    dmg::Image::of(shown, 10 << 10, kinds)
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
        ("dmg", "f.dmg", dmg(&raw, &[Kind::Zero, Kind::Zlib, Kind::Plain]).with_list()),
        ("dmg", "g.dmg", dmg(&raw, &[Kind::Ignore, Kind::Zlib, Kind::Zlib]).with_list()),
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

#[test]
fn an_image_of_apple_s_own_programs_is_read_as_the_peer_reads_it() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("dmg-real");
    if unpacked(&pair, "simple-dmg.dmg") {
        pair.all_same(&[
            "qemu-img info --output=json simple-dmg.dmg",
            "qemu-img convert -O raw simple-dmg.dmg raw",
            "sha256sum raw",
            "qemu-io -r -c 'read 0 512' -c 'read 1799000 168' simple-dmg.dmg",
        ]);
        let sum = String::from_utf8_lossy(&pair.by(Ours, "sha256sum ours/raw").stdout).into_owned();
        assert!(sum.starts_with("20647e0a98a830a6a250b91e0e6d7200a872caea07b87a3c19611f3dd031c9df"), "{sum}");
        pair.must(Peer, "qemu-img compare -f raw -F dmg ours/raw peer/simple-dmg.dmg");
    }
}

/// The peer reads fewer ways of storing a chunk.
#[test]
fn images_of_apple_are_read_as_7_zip_reads_them() {
    let pair = Pair::new("dmg-7-zip");
    let raw = disk();
    for (number, kinds) in dmg::ALL.map(|kind| vec![kind]).iter().chain([&dmg::ALL.to_vec()]).enumerate() {
        let name = format!("{number}.dmg");
        fs::write(pair.root.join(&name), dmg(&raw, kinds).with_list()).unwrap();
        pair.must(Ours, &format!("qemu-img convert -O raw {name} raw"));
        assert!(fs::read(pair.root.join("raw")).unwrap() == raw, "{kinds:?}");
        let shown = Command::new("7zz").args(["e", "-so", "-tdmg"]).arg(pair.root.join(&name)).output();
        let Ok(shown) = shown else {
            println!("skipped: 7zz is not installed");
            return;
        };
        assert!(shown.status.success(), "{kinds:?}: {}", String::from_utf8_lossy(&shown.stderr));
        assert!(shown.stdout == raw, "{kinds:?}: 7-Zip shows {} other bytes", shown.stdout.len());
    }
}
