//! What the programs say of an image that opens although something about it should be known, beside the peer's.
use crate::pair::*;
use std::fs;

/// Runs ours in its folder; exit code, standard output, standard error.
fn ours(pair: &Pair, line: &str) -> (Option<i32>, String, String) {
    told(run(&pair.root.join("ours"), Some(&pair.root.join("bin")), line))
}

fn peers(pair: &Pair, line: &str) -> (Option<i32>, String, String) {
    told(run(&pair.root.join("peer"), None, line))
}

fn told(output: std::process::Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn an_image_that_was_not_closed_is_repaired_at_an_open_for_writing_with_the_peers_messages() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("dirty-notices");
    pair.given(&[
        "qemu-img create -q -f qcow2 -o lazy_refcounts=on a.qcow2 1M",
        "sh -c 'ulimit -c 0; qemu-io -c write\\ -P\\ 1\\ 0\\ 64k -c abort a.qcow2 2>/dev/null; true'",
    ]);
    for read_only in ["qemu-io -r -c 'read 0 4k' a.qcow2", "qemu-img info a.qcow2"] {
        assert_eq!(ours(&pair, read_only).2, "");
    }
    let line = "qemu-io -c 'read -P 1 0 4k' a.qcow2";
    let (ours_told, peers_told) = (ours(&pair, line), peers(&pair, line));
    assert!(ours_told.2.contains("ERROR cluster"), "{}", ours_told.2);
    assert_eq!((ours_told.0, ours_told.2), (peers_told.0, peers_told.2));
    // Once: it is clean now.
    assert_eq!(ours(&pair, line).2, "");
}

#[test]
fn a_commit_under_internal_snapshots_is_warned_of_and_done_as_by_the_peer() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("commit-notices");
    pair.given(&[
        "qemu-img create -q -f qcow2 base.qcow2 1M",
        "qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 a.qcow2",
        "qemu-img snapshot -c one a.qcow2",
        "qemu-io -c 'write -q -P 2 0 64k' a.qcow2",
    ]);
    let line = "qemu-img commit a.qcow2";
    let (ours_told, peers_told) = (ours(&pair, line), peers(&pair, line));
    assert_eq!((ours_told.0, ours_told.1), (peers_told.0, peers_told.1));
    let warning = "qemu-img: warning: 'a.qcow2' has internal snapshots: where they show the backing file";
    assert!(ours_told.2.starts_with(warning), "{}", ours_told.2);
    pair.same("qemu-img compare -f qcow2 -F qcow2 a.qcow2 base.qcow2");
    pair.same("qemu-img convert -l one -O raw a.qcow2 one.raw");
    pair.same("qemu-io -r -f raw -c 'read -P 2 0 64k' one.raw");
}

#[test]
fn unknown_features_that_a_write_switches_off_are_named_before_it() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("feature-notices");
    pair.given(&["qemu-img create -q -f qcow2 a.qcow2 1M"]);
    let path = pair.root.join("ours/a.qcow2");
    let mut image = fs::read(&path).unwrap();
    image[95] = 1 << 5;
    fs::write(&path, &image).unwrap();
    assert_eq!(ours(&pair, "qemu-img info a.qcow2").2, "");
    let (code, _, warned) = ours(&pair, "qemu-io -c 'write 0 4k' a.qcow2");
    assert!(code == Some(0) && warned.contains("Unknown autoclear feature: 20"), "{warned}");
    assert_eq!(fs::read(&path).unwrap()[88..96], [0; 8]);
    assert_eq!(ours(&pair, "qemu-io -c 'write 0 4k' a.qcow2").2, "");
}

#[test]
fn a_damaged_snapshot_table_is_reported_to_readers_refused_to_writers_and_repaired_as_by_the_peer() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("snapshot-notices");
    pair.given(&[
        "qemu-img create -q -f qcow2 a.qcow2 1M",
        "qemu-io -c 'write -q -P 1 0 64k' a.qcow2",
        "qemu-img snapshot -c one a.qcow2",
        "qemu-io -c 'write -q -P 2 0 64k' a.qcow2",
    ]);
    for folder in ["ours", "peer"] {
        let path = pair.root.join(folder).join("a.qcow2");
        let mut image = fs::read(&path).unwrap();
        let table = u64::from_be_bytes(image[64..72].try_into().unwrap()) as usize;
        image[table + 36..table + 40].copy_from_slice(&0x7fff_ffffu32.to_be_bytes());
        fs::write(&path, &image).unwrap();
    }
    let (code, _, warned) = ours(&pair, "qemu-io -r -c 'read -P 2 0 64k' a.qcow2");
    assert!(
        code == Some(0) && warned.starts_with("qemu-io: warning: the snapshots of 'a.qcow2'"),
        "{warned}"
    );
    let (code, _, refused) = ours(&pair, "qemu-io -c 'write 0 64k' a.qcow2");
    assert!(code == Some(1) && refused.contains("'cairn img check -r all a.qcow2'"), "{refused}");
    for line in ["qemu-img check a.qcow2", "qemu-img check -r leaks a.qcow2"] {
        assert_ne!(ours(&pair, line).0, Some(0), "{line}");
        assert_ne!(peers(&pair, line).0, Some(0), "{line}");
    }
    pair.all_same(&[
        "qemu-img check -q -r all a.qcow2",
        "qemu-img check -q a.qcow2",
        "qemu-io -c 'read -q -P 2 0 64k' a.qcow2",
    ]);
    // Ours keeps the snapshot, the peer's repair does not.
    let list = |folder| told(run(&pair.root.join(folder), None, "qemu-img snapshot -l a.qcow2")).1;
    assert!(list("ours").contains("one") && !list("peer").contains("one"));
    assert_eq!(told(run(&pair.root.join("ours"), None, "qemu-img snapshot -a one a.qcow2")).0, Some(0));
    assert_eq!(ours(&pair, "qemu-io -c 'read -q -P 1 0 64k' a.qcow2").0, Some(0));
}
