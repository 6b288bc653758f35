//! Encrypted images both ways: what one program makes and writes, the other opens and reads.
use crate::pair::*;

const SECRET: &str = "--object secret,id=s,data=passphrase";

/// Both programs in one folder.
pub struct Desk {
    pair: Pair,
}

impl Desk {
    pub fn new(name: &str) -> Desk {
        Desk { pair: Pair::new(name) }
    }

    pub fn folder(&self) -> std::path::PathBuf {
        self.pair.root.join("ours")
    }

    /// Runs a line with ours or with the peer: its output, or what went wrong.
    pub fn run(&self, ours: bool, line: &str) -> Result<String, String> {
        let bin = self.pair.root.join("bin");
        let output = run(&self.folder(), ours.then_some(bin.as_path()), line);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (said, errors) = (text(&output.stdout), text(&output.stderr));
        let fails = !output.status.success() || said.contains("Pattern verification failed");
        if fails { Err(format!("{line}\n{said}{errors}")) } else { Ok(said) }
    }

    pub fn ok(&self, ours: bool, line: &str) -> String {
        self.run(ours, line).unwrap_or_else(|e| panic!("{}: {e}", if ours { "ours" } else { "peer" }))
    }

    /// One writes, the other reads, and writes a part that the first reads.
    fn write_and_read(&self, maker: bool, open: &str) {
        let io = |commands: &str| format!("qemu-io {SECRET} {commands} --image-opts {open}");
        self.ok(maker, &io("-c 'write -P 7 0 300k' -c 'write -P 8 1M 1k'"));
        self.ok(!maker, &io("-c 'read -P 7 0 300k' -c 'read -P 8 1M 1k' -c 'write -P 9 100k 64k'"));
        self.ok(maker, &io("-c 'read -P 7 0 100k' -c 'read -P 9 100k 64k' -c 'read -P 7 164k 136k'"));
    }
}

#[test]
fn volumes_of_every_cipher_mode_and_hash_are_read_both_ways() {
    if !peer_is_here() {
        return;
    }
    let desk = Desk::new("luks");
    let open = "driver=luks,key-secret=s,file.filename=a.luks";
    let mut compared = 0;
    for (cipher, mode, iv, hash) in [
        ("aes-256", "xts", "plain64", "sha256"),
        ("aes-128", "xts", "plain", "sha1"),
        ("aes-192", "cbc", "plain64", "sha512"),
        ("aes-256", "cbc", "essiv", "sha256"),
        ("aes-256", "ctr", "plain64", "sha224"),
        ("aes-128", "ecb", "plain64", "sha384"),
        ("serpent-256", "xts", "plain64", "ripemd160"),
        ("serpent-128", "cbc", "essiv,ivgen-hash-alg=md5", "sha256"),
        ("twofish-256", "xts", "plain64", "sha256"),
        ("twofish-128", "cbc", "plain", "sha512"),
        ("cast5-128", "cbc", "plain64", "sha1"),
    ] {
        for maker in [true, false] {
            let create = format!(
                "qemu-img create -q {SECRET} -f luks -o \
                 key-secret=s,iter-time=10,cipher-alg={cipher},cipher-mode={mode},ivgen-alg={iv},hash-alg={hash} \
                 a.luks 2M"
            );
            // Not every peer is built with all of them.
            match desk.run(maker, &create) {
                Err(e) if !maker => {
                    println!("the peer makes no {cipher}-{mode}-{iv} {hash}: {e}");
                    continue;
                }
                made => drop(made.unwrap()),
            }
            let open_by_peer =
                desk.run(false, &format!("qemu-io {SECRET} -c 'read 0 512' --image-opts {open}"));
            if let Err(e) = open_by_peer {
                // Not every peer is built with all of them, and some stumble over keys of 24 bytes.
                let known = ["not supported", "nsupported", "Assertion"].iter().any(|word| e.contains(word));
                assert!(known, "{cipher}-{mode}-{iv}: {e}");
                continue;
            }
            desk.write_and_read(maker, open);
            let told = |ours| desk.ok(ours, "qemu-img info --output=json a.luks");
            assert_eq!(told(true), told(false));
            compared += 1;
        }
    }
    assert!(compared >= 8, "{compared}");
}

#[test]
fn encrypted_qcow2_images_are_read_both_ways_alone_and_over_a_backing_file() {
    if !peer_is_here() {
        return;
    }
    let desk = Desk::new("qcow2-encrypted");
    for maker in [true, false] {
        for (format, options) in [
            ("luks", ",encrypt.iter-time=10"),
            ("aes", ""),
            ("luks", ",encrypt.iter-time=10,cluster_size=512"),
        ] {
            let create = |name: &str, more: &str| {
                format!(
                    "qemu-img create -q {SECRET} -f qcow2 -o \
                     encrypt.format={format},encrypt.key-secret=s{options}{more} {name} 2M"
                )
            };
            desk.ok(maker, &create("base.qcow2", ""));
            let base =
                format!("driver=qcow2,encrypt.format={format},encrypt.key-secret=s,file.filename=base.qcow2");
            desk.write_and_read(maker, &base);
            let told = |ours| desk.ok(ours, "qemu-img info --output=json base.qcow2");
            assert_eq!(told(true), told(false));
            for ours in [true, false] {
                let check = format!("qemu-img check -q {SECRET} --image-opts {base}");
                desk.ok(ours, &check);
            }

            desk.ok(
                maker,
                &create("top.qcow2", ",backing_file=base.qcow2,backing_fmt=qcow2")
                    .replace("create -q", "create -u -q"),
            );
            let top = format!("{}, ", base.replace("base.qcow2", "top.qcow2"));
            let top = format!(
                "{}backing.driver=qcow2,backing.encrypt.format={format},backing.encrypt.key-secret=s,\
                 backing.file.driver=file,backing.file.filename=base.qcow2",
                top.trim_end()
            );
            let io = |commands: &str| format!("qemu-io {SECRET} {commands} --image-opts {top}");
            desk.ok(maker, &io("-c 'read -P 9 100k 64k' -c 'write -P 3 101k 1k' -c 'write -z 200k 64k'"));
            let seen = "-c 'read -P 9 100k 1k' -c 'read -P 3 101k 1k' -c 'read -P 9 102k 10k' -c 'read -P 0 200k 64k'";
            desk.ok(true, &io(seen));
            desk.ok(false, &io(seen));
            let convert = |ours: bool, name: &str| {
                desk.ok(ours, &format!("qemu-img convert {SECRET} --image-opts -O raw {top} {name}"));
                std::fs::read(desk.folder().join(name)).unwrap()
            };
            assert!(convert(true, "ours.raw") == convert(false, "peer.raw"), "{format}");
        }
    }
}

#[test]
fn encrypted_images_are_mapped_and_named_the_same() {
    if !peer_is_here() {
        return;
    }
    let desk = Desk::new("encrypted-told");
    let same = |line: &str| assert_eq!(desk.run(true, line).ok(), desk.run(false, line).ok(), "{line}");
    for (format, options) in [("luks", ",encrypt.iter-time=10"), ("aes", ""), ("luks", ",extended_l2=on")] {
        let create = format!("encrypt.format={format},encrypt.key-secret=s{options}");
        desk.ok(true, &format!("qemu-img create -q {SECRET} -f qcow2 -o {create} a 1M"));
        let image = format!("{SECRET} --image-opts driver=qcow2,encrypt.key-secret=s,file.filename=a");
        // Zeroes in clusters that keep their place, and parts of clusters that were never written.
        let writes = "-c 'write 0 192k' -c 'write -z 64k 64k' -c 'write -z 4k 4k' -c 'write 256k 1k'";
        desk.ok(true, &format!("qemu-io {writes} {image}"));
        same(&format!("qemu-img map --output=json {image}"));
        for output in ["human", "json"] {
            same(&format!("qemu-img info --output={output} {image}"));
        }
        same("qemu-img info --image-opts driver=qcow2,file.filename=a");
    }
    desk.ok(true, &format!("qemu-img create -q {SECRET} -f luks -o key-secret=s,iter-time=10 b 1M"));
    same(&format!("qemu-img info {SECRET} --image-opts driver=luks,key-secret=s,file.filename=b"));
}

#[test]
fn what_is_made_by_convert_is_encrypted_and_machine_state_too() {
    if !peer_is_here() {
        return;
    }
    let desk = Desk::new("convert-encrypted");
    desk.ok(true, "qemu-img create -q -f raw source.raw 2M");
    desk.ok(true, "qemu-io -f raw -c 'write -P 5 64k 1M' source.raw");
    let image = "--image-opts driver=qcow2,encrypt.format=luks,encrypt.key-secret=s,file.filename=a.qcow2";
    for maker in [true, false] {
        let options = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10";
        desk.ok(maker, &format!("qemu-img convert {SECRET} -O qcow2 -o {options} source.raw a.qcow2"));
        desk.ok(
            maker,
            &format!("qemu-img convert {SECRET} -O luks -o key-secret=s,iter-time=10 source.raw a.luks"),
        );
        for reader in [true, false] {
            let seen = "-c 'read -P 5 64k 1M' -c 'read -P 0 0 64k'";
            desk.ok(reader, &format!("qemu-io {SECRET} {seen} {image}"));
            let volume = "--image-opts driver=luks,key-secret=s,file.filename=a.luks";
            desk.ok(reader, &format!("qemu-io {SECRET} {seen} {volume}"));
        }
        desk.ok(maker, &format!("qemu-io {SECRET} -c 'write -b -P 9 0 64k' {image}"));
        for reader in [true, false] {
            desk.ok(
                reader,
                &format!("qemu-io {SECRET} -c 'read -b -P 9 0 64k' -c 'read -b -P 9 1k 2k' {image}"),
            );
        }
        let bytes = std::fs::read(desk.folder().join("a.qcow2")).unwrap();
        for plain in [[5; 512], [9; 512]] {
            assert!(!bytes.chunks(512).any(|sector| sector == plain), "a sector is not encrypted");
        }
    }
    for ours in [true, false] {
        let compressed = format!(
            "qemu-img convert -c {SECRET} -O qcow2 -o encrypt.format=luks,encrypt.key-secret=s source.raw b.qcow2"
        );
        assert!(desk.run(ours, &compressed).is_err());
        assert!(desk.run(ours, &format!("qemu-io {SECRET} -c 'write -c 0 64k' {image}")).is_err() || !ours);
    }
}

#[test]
fn a_header_in_a_file_of_its_own_opens_the_data_in_both_and_is_no_volume_alone() {
    if !peer_is_here() {
        return;
    }
    let desk = Desk::new("detached");
    let secrets = "--object secret,id=s,data=passphrase --object secret,id=t,data=second";
    let create = "-f luks -o key-secret=s,iter-time=10,detached-header=on head.luks";
    desk.ok(true, &format!("qemu-img create -q {secrets} {create}"));
    desk.ok(true, "qemu-img create -q -f raw data.raw 2M");
    let open = |id: &str| {
        format!(
            "driver=luks,key-secret={id},file.driver=file,file.filename=data.raw,header.driver=file,header.filename=head.luks"
        )
    };
    for maker in [true, false] {
        desk.write_and_read(maker, &open("s"));
    }
    for ours in [true, false] {
        let told = desk.ok(ours, &format!("qemu-img info {secrets} --image-opts {}", open("s")));
        assert!(told.contains("detached header: true") && told.contains("2 MiB (2097152 bytes)"), "{told}");
    }
    // The slots are in the header; the data stays as it is.
    let data = std::fs::read(desk.folder().join("data.raw")).unwrap();
    let slot = "state=active,new-secret=t,iter-time=10,keyslot=0";
    desk.ok(true, &format!("qemu-img amend --force {secrets} -o {slot} --image-opts {}", open("s")));
    assert!(std::fs::read(desk.folder().join("data.raw")).unwrap() == data);
    for ours in [true, false] {
        let read = |id| format!("qemu-io {secrets} -c 'read -P 9 100k 64k' --image-opts {}", open(id));
        desk.ok(ours, &read("t"));
        assert!(desk.run(ours, &read("s")).is_err());
    }
    let head = std::fs::read(desk.folder().join("head.luks")).unwrap();
    for ours in [true, false] {
        let alone = "--image-opts driver=luks,key-secret=t,file.filename=head.luks";
        let refused = desk.run(ours, &format!("qemu-io {secrets} -c 'write 0 64k' {alone}")).unwrap_err();
        assert!(refused.contains("header"), "{refused}");
        assert!(desk.run(ours, "qemu-img info -f luks head.luks").is_err());
    }
    assert!(std::fs::read(desk.folder().join("head.luks")).unwrap() == head);
}

#[test]
fn key_slots_that_one_changes_open_in_the_other() {
    if !peer_is_here() {
        return;
    }
    let desk = Desk::new("slots");
    let secrets = "--object secret,id=s,data=passphrase --object secret,id=t,data=second";
    for (format, prefix) in [("luks", ""), ("qcow2", "encrypt.")] {
        let kind = if format == "qcow2" { "encrypt.format=luks," } else { "" };
        desk.ok(true, &format!(
            "qemu-img create -q {secrets} -f {format} -o {kind}{prefix}key-secret=s,{prefix}iter-time=10 a 2M"
        ));
        let open = |id: &str| {
            let kind = if format == "qcow2" { "encrypt.format=luks," } else { "" };
            format!("--image-opts driver={format},{kind}{prefix}key-secret={id},file.filename=a")
        };
        let amend = |options: &str, id: &str| format!("qemu-img amend {secrets} -o {options} {}", open(id));
        let reads =
            |ours, id| desk.run(ours, &format!("qemu-io {secrets} -c 'read 0 1k' {}", open(id))).is_ok();
        for ours in [true, false] {
            let active = format!("{prefix}state=active,{prefix}new-secret=t,{prefix}iter-time=10");
            desk.ok(ours, &amend(&active, "s"));
            assert!(reads(true, "t") && reads(false, "t"), "{format}");
            desk.ok(!ours, &amend(&format!("{prefix}state=inactive,{prefix}old-secret=t"), "s"));
            assert!(
                !reads(true, "t") && !reads(false, "t") && reads(true, "s") && reads(false, "s"),
                "{format}"
            );
            for wrong in [
                format!("{prefix}state=inactive,{prefix}old-secret=s"),
                format!("{prefix}state=inactive,{prefix}keyslot=0"),
                format!("{prefix}state=active,{prefix}new-secret=t,{prefix}keyslot=0"),
                format!("{prefix}state=active,{prefix}new-secret=t,{prefix}keyslot=9"),
                format!("{prefix}state=inactive"),
            ] {
                assert!(desk.run(ours, &amend(&wrong, "s")).is_err(), "{wrong}");
            }
            assert!(reads(true, "s") && reads(false, "s"), "{format}");
        }
    }
}
