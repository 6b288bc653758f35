//! What a confined command can and can't do, and what is told when it could not go on.

use crate::craft::Qcow2;
use crate::world::World;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

/// An image with data in it.
fn image(world: &World, name: &str, format: &str) {
    world.done(&format!("img create -q -f {format} {name} 4M"));
    let output = Command::new(env!("CARGO_BIN_EXE_cairn"))
        .args(["io", "-f", format, "-c", "write -P 5 64k 1M"])
        .arg(world.path(name))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn nothing_is_opened_once_the_process_is_confined() {
    let world = World::new();
    image(&world, "a.qcow2", "qcow2");
    if !world.is_confining() {
        return;
    }
    for line in [
        "img info --untrusted a.qcow2",
        "img info --require-confinement --output=json a.qcow2",
        "img check --untrusted a.qcow2",
        "img map --untrusted --output=json a.qcow2",
        "img convert --untrusted -c -O qcow2 a.qcow2 b.qcow2",
        "img inspect a.qcow2",
    ] {
        world.done(line);
        let Some(trace) = world.traced(line) else { continue };
        assert_eq!(trace.ended.code, Some(0), "{line}: {}", trace.ended.err);
        assert!(trace.was_confined(), "{line}");
        assert!(trace.behind_the_filter().is_empty(), "{line}: {:?}", trace.behind_the_filter());
        assert!(trace.ended.err.is_empty(), "{line}: {}", trace.ended.err);
    }
}

#[test]
fn what_is_told_is_the_same_as_without() {
    let world = World::new();
    for format in ["raw", "qcow2", "vmdk", "vdi", "vhdx", "vpc", "qed", "parallels", "qcow"] {
        image(&world, "a", format);
        for command in
            ["info", "info --output=json", "map", "map --output=json", "check", "check --output=json"]
        {
            let (plain, untrusted) = (
                world.run(&format!("img {command} -f {format} a")),
                world.run(&format!("img {command} -f {format} --untrusted a")),
            );
            assert_eq!(plain.code, untrusted.code, "{format}: {command}: {}", untrusted.err);
            assert_eq!(plain.out, untrusted.out, "{format}: {command}");
            let missing = untrusted.err.contains("this kernel has");
            assert!(plain.err == untrusted.err || missing, "{format}: {command}: {}", untrusted.err);
        }
    }
}

#[test]
fn copies_into_and_out_of_every_format_are_the_same_as_without() {
    let world = World::new();
    image(&world, "a", "raw");
    for format in ["raw", "qcow2", "vmdk", "vdi", "vhdx", "vpc", "qed", "parallels", "qcow"] {
        world.done(&format!("img convert --untrusted -f raw -O {format} a b"));
        // Whole cylinders, in vpc.
        world.done(&format!("img compare -f raw -F {format} a b"));
        world.done(&format!("img convert --untrusted -f {format} -O raw b c"));
        assert!(world.read("c").starts_with(&world.read("a")), "{format}");
        for name in ["b", "c"] {
            std::fs::remove_file(world.path(name)).unwrap();
        }
    }
    world.done("img create -q -f raw there 8M");
    world.done("img convert --untrusted -n -f raw -O raw a there");
    assert!(world.read("there").starts_with(&world.read("a")));
}

#[test]
fn a_target_is_removed_with_a_copy_that_fails_and_stays_if_it_was_there() {
    let world = World::new();
    world.write("overlay", &Qcow2::new(1 << 20).over("base", "raw").bytes());
    world.write("base", &[1; 1 << 20]);
    assert_eq!(world.run("img convert --untrusted -O raw overlay new").code, Some(1));
    assert!(!world.path("new").exists());
    world.write("old", b"somebody's");
    assert_eq!(world.run("img convert --untrusted -O raw overlay old").code, Some(1));
    assert_eq!(world.read("old"), b"somebody's");
    let ended = world.run("img convert --untrusted -f raw -O raw base base");
    assert_eq!(ended.code, Some(1), "a file is not copied into itself: {}", ended.err);
    assert_eq!(world.read("base"), [1; 1 << 20]);
    symlink(world.path("base"), world.path("link")).unwrap();
    let ended = world.run("img convert --untrusted -f raw -O qcow2 base link");
    assert_eq!(ended.code, Some(1), "nor by another name: {}", ended.err);
    assert_eq!(world.read("base"), [1; 1 << 20]);
}

#[test]
fn a_file_that_grows_beyond_its_limit_ends_the_copy() {
    let world = World::new();
    world.write("a", &[3; 1 << 20]);
    let ended = world.run("img convert --untrusted --limit-output 512k -f raw -O raw a b");
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("File too large"), "{}", ended.err);
    assert!(!world.path("b").exists());
}

#[test]
fn time_that_is_over_is_told_by_an_exit_code_of_its_own() {
    let world = World::new();
    world.write("a", &[3; 1 << 20]);
    // A byte a second.
    let ended = world.run("img convert --untrusted --limit-time 1 -r 1 -m 1 -f raw -O raw a b");
    assert_eq!(ended.code, Some(110), "{}", ended.err);
    assert!(ended.err.contains("'a': it takes longer than 1 seconds; see --limit-time"), "{}", ended.err);
    assert!(!world.path("b").exists());
}

#[test]
fn memory_that_does_not_suffice_is_told() {
    let world = World::new();
    world.write("a", &vec![3; 48 << 20]);
    // Sixteen clusters at a time, each with its compressed form.
    let ended = world.run(
        "img convert --untrusted --limit-memory 16M -m 16 -W -c -f raw -O qcow2 -o cluster_size=2M,compression_type=zstd a b",
    );
    // What it fails in may have an error of its own.
    assert!(matches!(ended.code, Some(1 | 111)), "{:?}: {}", ended.code, ended.err);
    let told = ended.err.contains("'a': it needs more memory than 16 MiB; see --limit-memory");
    assert_eq!(told, ended.code == Some(111), "{}", ended.err);
    assert!(!world.path("b").exists());
}

#[test]
fn a_name_is_that_of_a_file_whatever_it_looks_like() {
    let world = World::new();
    world.write("nbd:here", &[0; 512]);
    world.done("img info --untrusted nbd:here");
    for name in ["json:{\"driver\":\"null-co\"}", "nbd://localhost/x", "file:nbd:here", "null-co://"] {
        for command in ["info --untrusted", "check --untrusted", "map --untrusted", "inspect"] {
            let ended = world.run(&format!("img {command} {name}"));
            assert_eq!(ended.code, Some(1), "{command} {name}");
            assert!(ended.err.contains("No such file or directory"), "{command} {name}: {}", ended.err);
        }
    }
    let ended = world.run("img convert --untrusted -O raw nbd:here json:{}");
    assert!(ended.code == Some(1) && ended.err.contains("means a protocol"), "{}", ended.err);
}

#[test]
fn what_would_open_more_is_refused() {
    let world = World::new();
    image(&world, "a.qcow2", "qcow2");
    for (line, why) in [
        ("img info --untrusted --image-opts driver=qcow2,file.filename=a.qcow2", "--image-opts"),
        ("img info --untrusted --backing-chain a.qcow2", "--backing-chain"),
        ("img convert --untrusted -O qcow2 -B a.qcow2 -F qcow2 a.qcow2 b", "-B"),
        (
            "img convert --untrusted -O vmdk -o subformat=twoGbMaxExtentFlat a.qcow2 b.vmdk",
            "confined to the files",
        ),
        ("img convert --untrusted -O qcow2 -o data_file=other a.qcow2 b", "confined to the files"),
    ] {
        let ended = world.run(line);
        assert!(ended.code == Some(1) && ended.err.contains(why), "{line}: {}", ended.err);
    }
    for name in ["b", "b.vmdk", "other", "b-f001.vmdk"] {
        assert!(!world.path(name).exists(), "{name}");
    }
}

#[test]
fn what_is_no_file_is_refused_and_never_waited_on() {
    let world = World::new();
    assert!(Command::new("mkfifo").arg(world.path("fifo")).status().unwrap().success());
    let _socket = UnixListener::bind(world.path("socket")).unwrap();
    std::fs::create_dir(world.path("folder")).unwrap();
    for (name, why) in
        [("fifo", "it is a FIFO"), ("socket", "it is a socket"), ("folder", "it is a directory")]
    {
        for command in ["info --untrusted", "inspect"] {
            let ended = world.run(&format!("img {command} {name}"));
            assert_eq!(ended.code, Some(1), "{name}");
            assert!(ended.err.contains(why) && ended.err.contains(name), "{name}: {}", ended.err);
        }
    }
    // Standard input is a pipe, or a file like any other.
    let ask = |input: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
        command.args(["img", "info", "--untrusted", "/dev/stdin"]).stdin(input).output().unwrap()
    };
    let output = ask(Stdio::piped());
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("it is a FIFO"));
    image(&world, "a.qcow2", "qcow2");
    let output = ask(std::fs::File::open(world.path("a.qcow2")).unwrap().into());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("file format: qcow2"));
}

#[test]
fn a_link_leads_to_its_file() {
    let world = World::new();
    image(&world, "a.qcow2", "qcow2");
    symlink("a.qcow2", world.path("link")).unwrap();
    assert!(world.done("img info --untrusted link").contains("file format: qcow2"));
    symlink("nowhere", world.path("dangling")).unwrap();
    assert_eq!(world.run("img info --untrusted dangling").code, Some(1));
}

#[test]
fn a_secret_is_read_before_the_process_is_confined() {
    let world = World::new();
    world.write("key", b"words");
    let secret = "--object secret,id=s,file=key";
    world.done(&format!("img create -q {secret} -f luks -o key-secret=s,iter-time=10 a.luks 1M"));
    let ended = world.run(&format!("img info --untrusted {secret} a.luks"));
    assert!(ended.code == Some(0) && ended.out.contains("encrypted: yes"), "{}", ended.err);
}
