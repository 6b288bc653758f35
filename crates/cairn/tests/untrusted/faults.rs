//! The families of public faults of image tools: a file that an image names, read from the host by whoever opens the image. Each
//! with the commands that look and those that copy.

use crate::craft::{Qcow2, qcow_over, qed_over, vmdk_descriptor, vmdk_hollow};
use crate::world::{SECRET, World};

/// What a command without `--untrusted` does about the host's file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trusting {
    /// It opens the file, as users of overlays and of images in several files expect.
    Follows,
    /// It does not.
    Leaves,
}
use Trusting::{Follows, Leaves};

/// An image that names the host's file.
struct Fault<'a> {
    world: &'a World,
    image: &'a str,
    /// Commands, and what each does without `--untrusted`.
    trusting: [(&'a str, Trusting); 4],
    /// The format and the findings that inspection refuses.
    format: &'a str,
    refused: &'a [&'a str],
}

impl Fault<'_> {
    /// With `--untrusted` no command opens the file; without it those that are known to; `inspect` never.
    fn check(&self) {
        let Fault { world, image, .. } = *self;
        let secret = world.secret();
        for (command, trusting) in self.trusting {
            let line = |flag: &str| match command {
                "convert" => format!("img convert {flag} -O raw {image} out"),
                _ => format!("img {command} {flag} {image}"),
            };
            let untrusted = line("--untrusted");
            let ended = world.run(&untrusted);
            let looks = matches!(command, "info" | "check");
            assert!(looks || ended.code == Some(1), "{untrusted}: {:?}, {}", ended.code, ended.err);
            assert!(!world.path("out").exists(), "{untrusted} left a target");
            if let Some(trace) = world.traced(&untrusted) {
                assert!(!trace.reached(&secret), "{untrusted} opened the host's file");
                assert!(trace.was_confined() || !world.is_confining(), "{untrusted}");
            }
            if let Some(trace) = world.traced(&line("")) {
                let follows = trace.reached(&secret);
                assert_eq!(follows, trusting == Follows, "{}: {}", line(""), trace.ended.err);
            }
            std::fs::remove_file(world.path("out")).ok();
        }
        let line = format!("img inspect --output=json {image}");
        let ended = world.run(&line);
        assert_eq!(ended.code, Some(2), "{line}: {}{}", ended.out, ended.err);
        assert!(ended.out.contains(&format!("\"format\": \"{}\"", self.format)), "{}", ended.out);
        for code in self.refused {
            let found = format!("\"code\": \"{code}\"");
            assert!(ended.out.contains(&found), "{line}: no {code} in {}", ended.out);
        }
        for policy in ["glance", "nova", "cdi", "lima"] {
            assert_eq!(
                world.run(&format!("img inspect --policy={policy} {image}")).code,
                Some(2),
                "{policy}"
            );
        }
        if let Some(trace) = world.traced(&line) {
            assert!(!trace.reached(&secret), "{line} opened the host's file");
        }
    }
}

#[test]
fn cve_2015_5163_a_backing_file_of_the_host_is_not_read() {
    let world = World::new();
    for (name, bytes, format) in [
        ("b.qcow2", Qcow2::new(1 << 20).over(&world.secret(), "raw").bytes(), "qcow2"),
        ("b.qed", qed_over(&world.secret()), "qed"),
        ("b.qcow", qcow_over(&world.secret()), "qcow"),
    ] {
        world.write(name, &bytes);
        let check = if format == "qcow" { "info" } else { "check" };
        Fault {
            world: &world,
            image: name,
            trusting: [("info", Leaves), (check, Leaves), ("map", Follows), ("convert", Follows)],
            format,
            refused: &["backing-file", "absolute-name"],
        }
        .check();
    }
}

#[test]
fn cve_2022_47951_a_flat_extent_of_the_host_is_not_read() {
    let world = World::new();
    world.write("text.vmdk", vmdk_descriptor(&world.secret()).as_bytes());
    world.write("hollow.vmdk", &vmdk_hollow(&world.secret()));
    for name in ["text.vmdk", "hollow.vmdk"] {
        Fault {
            world: &world,
            image: name,
            // An image in several files is those files: it can't be told about without.
            trusting: [("info", Follows), ("check", Follows), ("map", Follows), ("convert", Follows)],
            format: "vmdk",
            refused: &["extent", "absolute-name", "subformat-not-allowed"],
        }
        .check();
    }
    let info = world.run("img info --untrusted --output=json text.vmdk");
    assert_eq!(info.code, Some(0), "{}", info.err);
    assert!(info.out.contains("\"virtual-size\": 1048576"), "{}", info.out);
}

#[test]
fn cve_2024_4467_a_json_name_is_not_followed() {
    let world = World::new();
    let json = |driver: &str| {
        format!(
            "json:{{\"driver\":\"{driver}\",\"file\":{{\"driver\":\"file\",\"filename\":\"{}\"}}}}",
            world.secret()
        )
    };
    world.write("d.qcow2", &Qcow2::new(1 << 20).with_data_file(&json("raw")).bytes());
    Fault {
        world: &world,
        image: "d.qcow2",
        // A name of a part of the image is the name of a file, for all who open it.
        trusting: [("info", Leaves), ("check", Leaves), ("map", Leaves), ("convert", Leaves)],
        format: "qcow2",
        refused: &["data-file", "json-name"],
    }
    .check();
    world.write("b.qcow2", &Qcow2::new(1 << 20).over(&json("raw"), "raw").bytes());
    Fault {
        world: &world,
        image: "b.qcow2",
        trusting: [("info", Leaves), ("check", Leaves), ("map", Follows), ("convert", Follows)],
        format: "qcow2",
        refused: &["backing-file", "json-name"],
    }
    .check();
}

#[test]
fn a_name_of_a_part_of_an_image_means_no_protocol() {
    let world = World::new();
    let socket = world.path("socket");
    for stored in [
        format!("nbd:unix:{}", socket.display()),
        format!("nbd+unix:///?socket={}", socket.display()),
        format!("file:{}", world.secret()),
        "json:{'driver':'null-co'}".to_owned(),
    ] {
        world.write("d.qcow2", &Qcow2::new(1 << 20).with_data_file(&stored).bytes());
        world.write("t.vmdk", vmdk_descriptor(&stored).as_bytes());
        for name in ["d.qcow2", "t.vmdk"] {
            let line = format!("img map {name}");
            let ended = world.run(&line);
            assert_eq!(ended.code, Some(1), "{line}, {stored}");
            assert!(ended.err.contains("No such file or directory"), "{line}, {stored}: {}", ended.err);
            assert!(!ended.err.contains("connect"), "{line}, {stored}: {}", ended.err);
            if let (Some(peer), false) = (world.peer(&format!("map {name}")), stored.starts_with("nbd+unix"))
            {
                assert_eq!(peer.code, Some(1), "the peer: {stored}: {}", peer.out);
            }
        }
    }
    world.write("./json:x", &[0; 1 << 20]);
    world.write("d.qcow2", &Qcow2::new(1 << 20).with_data_file("json:x").bytes());
    world.done("img map d.qcow2");
}

#[test]
fn cve_2024_32498_a_data_file_of_the_host_is_not_read() {
    let world = World::new();
    world.write("d.qcow2", &Qcow2::new(1 << 20).with_data_file(&world.secret()).bytes());
    Fault {
        world: &world,
        image: "d.qcow2",
        trusting: [("info", Leaves), ("check", Leaves), ("map", Follows), ("convert", Follows)],
        format: "qcow2",
        refused: &["data-file", "absolute-name"],
    }
    .check();
}

#[test]
fn cve_2026_24708_a_raw_disk_that_the_guest_made_look_like_an_image_stays_raw() {
    let world = World::new();
    // The guest writes a header to the start of its disk. Who then opens the disk without saying 'raw' opens an image.
    let mut disk = Qcow2::new(1 << 20).with_data_file(&world.secret()).bytes();
    disk.resize(4 << 20, 7);
    world.write("disk", &disk);
    for line in ["img info -f raw --untrusted disk", "img map -f raw --untrusted disk"] {
        world.done(line);
    }
    world.done("img convert -f raw -O raw --untrusted disk copy");
    assert!(world.read("copy") == disk, "the bytes are the disk");
    // Without the format it is the image that it looks like, and opens nothing.
    let ended = world.run("img convert -O raw --untrusted disk out");
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("may not be opened here"), "{}", ended.err);
    let ended = world.run("img inspect -f raw disk");
    assert_eq!(ended.code, Some(2), "{}", ended.out);
    for code in ["REFUSED: format-mismatch", "REFUSED: data-file"] {
        assert!(ended.out.contains(code), "no {code} in {}", ended.out);
    }
}

#[test]
fn an_image_in_an_image_is_told() {
    let world = World::new();
    world.write("inner.qcow2", &Qcow2::new(1 << 20).over(&world.secret(), "raw").bytes());
    world.done("img convert -f raw -O qcow2 inner.qcow2 outer.qcow2");
    let ended = world.run("img inspect outer.qcow2");
    assert_eq!(ended.code, Some(2), "{}", ended.out);
    assert!(ended.out.contains("REFUSED: nested-image"), "{}", ended.out);
    world.write("text.vmdk", vmdk_descriptor(&world.secret()).as_bytes());
    world.done("img convert -f raw -O vdi text.vmdk outer.vdi");
    assert!(world.run("img inspect outer.vdi").out.contains("REFUSED: nested-image"));
}

#[test]
fn what_an_image_shows_never_has_the_hosts_words() {
    let world = World::new();
    for (name, bytes) in [
        ("b.qcow2", Qcow2::new(1 << 20).over(&world.secret(), "raw").bytes()),
        ("up.qcow2", Qcow2::new(1 << 20).over("../secret", "raw").bytes()),
        ("d.qcow2", Qcow2::new(1 << 20).with_data_file(&world.secret()).bytes()),
        ("t.vmdk", vmdk_descriptor(&world.secret()).into_bytes()),
        ("h.vmdk", vmdk_hollow(&world.secret())),
        ("b.qed", qed_over(&world.secret())),
        ("b.qcow", qcow_over(&world.secret())),
    ] {
        world.write(name, &bytes);
        for target in ["raw", "qcow2"] {
            let ended = world.run(&format!("img convert --untrusted -O {target} {name} out"));
            assert_eq!(ended.code, Some(1), "{name}");
            assert!(ended.err.contains("may not be opened here"), "{name}: {}", ended.err);
        }
        for line in ["img info --untrusted", "img check --untrusted", "img map --untrusted", "img inspect"] {
            let ended = world.run(&format!("{line} {name}"));
            let said = [ended.out, ended.err].concat();
            assert!(!said.contains(std::str::from_utf8(SECRET).unwrap()), "{line} {name}: {said}");
        }
    }
}
