//! What `img inspect` says, and what policies make of it.

use crate::craft::Qcow2;
use crate::world::World;

/// The codes that are refused.
fn refused(world: &World, line: &str) -> Vec<String> {
    let ended = world.run(&format!("img inspect --output=json {line}"));
    assert!(matches!(ended.code, Some(0 | 2)), "{line}: {:?}: {}", ended.code, ended.err);
    let (_, list) = ended.out.split_once("\"refused\": [").unwrap();
    let (list, _) = list.split_once(']').unwrap();
    let codes: Vec<_> = list.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    assert_eq!(codes.is_empty(), ended.code == Some(0), "{line}");
    assert!(ended.out.contains(&format!("\"allowed\": {}", codes.is_empty())), "{}", ended.out);
    codes
}

/// All codes that are found.
fn found(world: &World, line: &str) -> Vec<String> {
    let ended = world.run(&format!("img inspect --output=json {line}"));
    let lines = ended.out.lines().filter_map(|line| line.trim().strip_prefix("\"code\": \""));
    lines.filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
}

#[test]
fn images_that_our_tools_make_are_let_in_by_every_policy_that_has_their_format() {
    let world = World::new();
    for format in ["raw", "qcow2", "vmdk", "vdi", "vhdx", "vpc", "qed", "parallels", "qcow"] {
        world.done(&format!("img create -q -f {format} a 4M"));
        assert_eq!(refused(&world, &format!("-f {format} a")), [""; 0], "{format}");
        let by_content = if format == "vpc" { "-f vpc a" } else { "a" };
        assert_eq!(refused(&world, by_content), [""; 0], "{format}");
        for (policy, has) in [
            ("glance", !matches!(format, "qed" | "qcow")),
            ("nova", !matches!(format, "qed" | "qcow")),
            ("cdi", !matches!(format, "qed" | "qcow" | "parallels")),
            ("lima", matches!(format, "raw" | "qcow2")),
        ] {
            let codes = refused(&world, &format!("--policy={policy} -f {format} a"));
            let expected: &[&str] = if has { &[] } else { &["format-not-allowed"] };
            assert_eq!(codes, expected, "{policy}, {format}");
        }
    }
}

#[test]
fn images_that_the_peer_makes_are_let_in() {
    let world = World::new();
    for line in [
        "create -q -f qcow2 a 4M",
        "create -q -f qcow2 -o cluster_size=512,compat=0.10 a 4M",
        "create -q -f qcow2 -o extended_l2=on,cluster_size=128k,lazy_refcounts=on a 4M",
        "create -q -f qcow2 -o refcount_bits=1,preallocation=metadata a 64M",
        "create -q -f qcow2 -o compression_type=zstd,preallocation=full a 4M",
        "create -q -f vmdk -o subformat=streamOptimized a 4M",
        "create -q -f vmdk a 4M",
        "create -q -f vdi a 4M",
        "create -q -f vhdx a 4M",
        "create -q -f qed a 4M",
    ] {
        let Some(made) = world.peer(line) else {
            println!("left out: qemu-img is not here");
            return;
        };
        assert_eq!(made.code, Some(0), "{line}: {}", made.err);
        assert_eq!(refused(&world, "a"), [""; 0], "{line}");
        std::fs::remove_file(world.path("a")).unwrap();
    }
}

#[test]
fn each_sign_is_found_by_its_code() {
    let world = World::new();
    let qcow2 = || Qcow2::new(1 << 20);
    let with_end = |more: &[u8]| [qcow2().bytes(), more.to_vec()].concat();
    let mut disc = qcow2().bytes();
    disc[0x8001..0x8006].copy_from_slice(b"CD001");
    let mut footer = vec![0; 65536];
    footer[65024..65032].copy_from_slice(b"conectix");
    for (what, bytes, code) in [
        ("dirty", qcow2().with(72, &1u64.to_be_bytes()).bytes(), "dirty"),
        ("corrupt", qcow2().with(72, &2u64.to_be_bytes()).bytes(), "corrupt-mark"),
        ("a feature to come", qcow2().with(72, &(1u64 << 40).to_be_bytes()).bytes(), "unknown-features"),
        ("encrypted", qcow2().with(32, &1u32.to_be_bytes()).bytes(), "encrypted"),
        ("a snapshot", qcow2().with(60, &1u32.to_be_bytes()).bytes(), "snapshots"),
        ("an L1 table in the header", qcow2().with(40, &0u64.to_be_bytes()).bytes(), "metadata-overlap"),
        ("an L1 table nowhere", qcow2().with(40, &(1u64 << 40).to_be_bytes()).bytes(), "beyond-end"),
        ("a short L1 table", qcow2().with(24, &(1u64 << 40).to_be_bytes()).bytes(), "header-contradiction"),
        ("version 9", qcow2().with(4, &9u32.to_be_bytes()).bytes(), "header-contradiction"),
        ("something behind the end", with_end(&[7; 70000]), "trailing-data"),
        ("an optical disc, too", disc, "polyglot"),
        ("a fixed VHD, too", with_end(&footer), "format-ambiguous"),
        ("nothing", Vec::new(), "empty-file"),
    ] {
        world.write("a", &bytes);
        let codes = found(&world, "a");
        assert!(codes.iter().any(|found| found == code), "{what}: no {code} among {codes:?}");
    }
    world.write("a", &qcow2().bytes());
    assert_eq!(found(&world, "a"), [""; 0], "the image that the others are made of has none");
    assert_eq!(found(&world, "-f raw a"), ["format-mismatch"]);
    world.write("a", &[0; 4096]);
    assert!(found(&world, "-f qcow2 a").contains(&"format-mismatch".to_owned()));
}

#[test]
fn names_are_told_with_where_they_lead() {
    let world = World::new();
    let image = Qcow2::new(1 << 20).over("../secret", "raw").with_data_file("nbd:unix:/run/x").bytes();
    world.write("a.qcow2", &image);
    let out = world.run("img inspect --output=json a.qcow2").out;
    for said in [
        "\"kind\": \"backing\"",
        "\"stored\": \"../secret\"",
        "\"format\": \"raw\"",
        "\"escaping\": true",
        "\"kind\": \"data-file\"",
        "\"protocol\": \"nbd\"",
    ] {
        assert!(out.contains(said), "no {said} in {out}");
    }
    let resolved = world.path("../secret");
    assert!(out.contains(&format!("\"resolved\": \"{}\"", resolved.display())), "{out}");
}

#[test]
fn own_policies_are_files() {
    let world = World::new();
    world.write("overlay", &Qcow2::new(1 << 20).over("base", "raw").bytes());
    assert_eq!(refused(&world, "overlay"), ["backing-file"]);
    world.write("p.json", br#"{"allow": ["backing-file"], "max-virtual-size": 1048576}"#);
    assert_eq!(refused(&world, "--policy=p.json overlay"), [""; 0]);
    assert_eq!(refused(&world, "--policy=p.json --max-virtual-size=1023k overlay"), ["too-large"]);
    world.write("p.json", br#"{"base": "lima", "formats": ["raw"], "refuse": ["dirty"]}"#);
    assert_eq!(refused(&world, "--policy=./p.json overlay"), ["backing-file", "format-not-allowed"]);
    for (policy, why) in [("nobody", "there is no policy 'nobody'"), ("./none", "can't be read")] {
        let ended = world.run(&format!("img inspect --policy={policy} overlay"));
        assert!(ended.code == Some(1) && ended.err.contains(why), "{}", ended.err);
    }
    world.write("p.json", br#"{"allow": ["everything"]}"#);
    let ended = world.run("img inspect --policy=p.json overlay");
    assert!(
        ended.code == Some(1) && ended.err.contains("does not accept value 'everything'"),
        "{}",
        ended.err
    );
}

#[test]
fn images_over_a_parent_are_told_of_whatever_format_names_it_and_wherever() {
    let world = World::new();
    let id = "{2DC27766-F623-4200-9D64-115E9BFD4A08}";
    world.done("img create -q -f vhdx a 4M");
    let mut vhdx = std::fs::read(world.path("a")).unwrap();
    testkit::vhdx::put_parent(&mut vhdx, id, r"..\..\secret");
    std::fs::write(world.path("a"), vhdx).unwrap();
    let codes = refused(&world, "a");
    assert!(codes.contains(&"backing-file".to_owned()), "{codes:?}");
    let ended = world.run("img inspect --output=json a");
    assert!(ended.out.contains("../../secret"), "{}", ended.out);
}
