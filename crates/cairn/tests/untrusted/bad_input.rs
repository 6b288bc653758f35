//! Crafted and damaged images, in little memory: each gets an answer, and an error names the file.

use crate::craft::{Qcow2, qcow_over, qed_over, vmdk_descriptor, vmdk_hollow};
use crate::world::World;

/// All samples have to do with this.
const MEMORY: &str = "--limit-memory 64M";
const COMMANDS: [&str; 4] = ["info --untrusted", "check --untrusted", "map --untrusted", "inspect"];

/// Every command answers, by itself, with an exit code of its own; an error names the file.
fn answers(world: &World, name: &str, what: &str) {
    for command in COMMANDS {
        let line = format!("img {command} {MEMORY} {name}");
        let ended = world.run(&line);
        let code = ended.code.unwrap_or_else(|| panic!("{what}: {line}: a signal has ended it"));
        assert!(matches!(code, 0..=3 | 63), "{what}: {line}: {code}: {}", ended.err);
        if code == 1 && !ended.err.contains("errors") {
            assert!(ended.err.contains(name), "{what}: {line}: the file is not named: {}", ended.err);
        }
    }
}

#[test]
fn fields_of_a_qcow2_header_with_the_worst_values_get_an_answer() {
    let world = World::new();
    let be = |number: u64| number.to_be_bytes().to_vec();
    let fields: &[(usize, usize)] = &[
        (8, 8),
        (16, 4),
        (20, 4),
        (24, 8),
        (32, 4),
        (36, 4),
        (40, 8),
        (48, 8),
        (56, 4),
        (60, 4),
        (64, 8),
        (72, 8),
        (80, 8),
        (88, 8),
        (96, 4),
        (100, 4),
    ];
    for &(at, len) in fields {
        for worst in [1, 65536, 1 << 20, u64::from(u32::MAX) - 511, i64::MAX as u64, u64::MAX - 511, u64::MAX]
        {
            let bytes = &be(worst)[8 - len..];
            world.write("bad.qcow2", &Qcow2::new(1 << 30).with(at, bytes).bytes());
            answers(&world, "bad.qcow2", &format!("{bytes:x?} at {at}"));
        }
    }
}

#[test]
fn a_disk_of_16_eib_and_a_million_snapshots_get_an_answer() {
    let world = World::new();
    world.write("huge", &Qcow2::new(1 << 20).with(24, &u64::MAX.to_be_bytes()).bytes());
    answers(&world, "huge", "16 EiB");
    // The largest disk that the L1 table may have, of which nothing is allocated.
    let mut image = Qcow2::new(1 << 20).with(24, &(1u64 << 50).to_be_bytes());
    image.put(36, &(1u32 << 21).to_be_bytes());
    let mut bytes = image.bytes();
    bytes.resize((3 << 16) + (16 << 20), 0);
    world.write("wide", &bytes);
    answers(&world, "wide", "1 PiB");
    let many =
        Qcow2::new(1 << 20).with(60, &1_000_000u32.to_be_bytes()).with(64, &(4u64 << 16).to_be_bytes());
    let mut bytes = many.bytes();
    for _ in 0..1_000_000u32 {
        bytes.extend([0; 40]);
    }
    world.write("many", &bytes);
    answers(&world, "many", "a million snapshots");
    let some = Qcow2::new(1 << 20).with(60, &65_536u32.to_be_bytes()).with(64, &(4u64 << 16).to_be_bytes());
    let mut bytes = some.bytes();
    bytes.resize((4 << 16) + 65_536 * 40, 0);
    world.write("some", &bytes);
    answers(&world, "some", "65536 snapshots");
}

#[test]
fn files_that_are_cut_off_get_an_answer() {
    let world = World::new();
    let mut samples = vec![
        ("qcow2", Qcow2::new(1 << 20).over("base", "raw").bytes()),
        ("vmdk", vmdk_hollow("x")),
        ("text", vmdk_descriptor("x").into_bytes()),
        ("qed", qed_over("base")),
        ("qcow", qcow_over("base")),
    ];
    for format in ["vmdk", "vdi", "vhdx", "vpc", "parallels"] {
        world.done(&format!("img create -q -f {format} whole 4M"));
        samples.push((format, world.read("whole")));
    }
    for (format, bytes) in samples {
        for len in [0, 1, 4, 8, 64, 72, 104, 511, 512, 1024, 4096, 65536, 65536 + 512, bytes.len() - 1] {
            world.write("cut", &bytes[..len.min(bytes.len())]);
            answers(&world, "cut", &format!("{format} of {len} bytes"));
        }
    }
}

#[test]
fn headers_of_all_ones_behind_their_marks_get_an_answer() {
    let world = World::new();
    for format in ["qcow2", "vmdk", "vdi", "vhdx", "vpc", "parallels", "qed", "qcow"] {
        world.done(&format!("img create -q -f {format} whole 4M"));
        let whole = world.read("whole");
        // Words of the first sectors, one after the other.
        for at in (8..512.min(whole.len())).step_by(8) {
            let mut bytes = whole.clone();
            bytes[at..at + 8].fill(0xff);
            world.write("ones", &bytes);
            answers(&world, "ones", &format!("{format}, ones at {at}"));
        }
    }
}

#[test]
fn names_with_control_characters_reach_no_terminal() {
    let world = World::new();
    world.write("esc.qcow2", &Qcow2::new(1 << 20).over("\x1b]0;title\x07\x1b[2J", "raw").bytes());
    let ended = world.run("img inspect esc.qcow2");
    assert_eq!(ended.code, Some(2));
    assert!(!ended.out.contains('\x1b') && !ended.out.contains('\x07'), "{:?}", ended.out);
    let ended = world.run("img inspect --output=json esc.qcow2");
    assert!(!ended.out.contains('\x1b') && ended.out.contains("\\u001B"), "{:?}", ended.out);
}
