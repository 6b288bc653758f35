//! The command lines by which libvirt makes, fills, copies and grows encrypted volumes, in the forms that its own tests have
//! (`storagevolxml2argvdata`): each by ours and by the peer, and what comes out read by both. What libvirt asks a daemon
//! for is in `tests/qmp.sh`.
use crate::encryption::Desk;
use crate::pair::peer_is_here;

/// What libvirt leaves out: trying a passphrase shall not take seconds here.
const QUICK: &str = ",iter-time=10";
const QUICK_QCOW2: &str = ",encrypt.iter-time=10";

const SECRET: &str = "--object secret,id=vol.img_encrypt0,file=secret,,file";
const INPUT: &str = "--object secret,id=input.img_encrypt0,file=input-secret";

/// A desk with the files that libvirt puts passphrases into, and a disk's content.
fn desk(name: &str) -> Option<Desk> {
    if !peer_is_here() {
        return None;
    }
    let desk = Desk::new(name);
    let put = |name: &str, content: &[u8]| std::fs::write(desk.folder().join(name), content).unwrap();
    put("secret,file", b"passphrase");
    put("input-secret", b"another passphrase");
    put("source.raw", &[5; 1 << 20]);
    Some(desk)
}

/// Both see this at the start of the volume, and zeroes behind it.
fn seen(desk: &Desk, secret: &str, volume: &str, pattern: u8) {
    for ours in [true, false] {
        let commands = format!("-c 'read -P {pattern} 0 1M' -c 'read -P 0 1M 1M'");
        desk.ok(ours, &format!("qemu-io {secret} {commands} --image-opts {volume}"));
    }
}

fn luks(name: &str) -> String {
    format!("driver=luks,file.filename={name}.img,key-secret={name}.img_encrypt0")
}

fn qcow2(name: &str) -> String {
    format!("driver=qcow2,file.filename={name}.img,encrypt.key-secret={name}.img_encrypt0")
}

#[test]
fn volumes_are_made_with_every_set_of_options_that_libvirt_gives() {
    let Some(desk) = desk("libvirt-create") else { return };
    let cipher = |prefix: &str| {
        [
            "cipher-alg=serpent-256",
            "cipher-mode=cbc",
            "hash-alg=sha256",
            "ivgen-alg=plain64",
            "ivgen-hash-alg=sha256",
        ]
        .map(|option| format!(",{prefix}{option}"))
        .concat()
    };
    let key = "encrypt.format=luks,encrypt.key-secret=vol.img_encrypt0";
    let with = |options: &str| format!("-f qcow2 {SECRET} -o {key}{QUICK_QCOW2}{options} vol.img 2048K");
    for maker in [true, false] {
        for line in [
            format!("-f luks {SECRET} -o key-secret=vol.img_encrypt0{QUICK} vol.img 2048K"),
            format!("-f luks {SECRET} -o key-secret=vol.img_encrypt0{QUICK}{} vol.img 2048K", cipher("")),
            with(",compat=0.10"),
            with(",compat=1.1,cluster_size=131072,lazy_refcounts"),
            with(",compat=1.1,extended_l2=on"),
            with(",nocow=on,compat=1.1"),
            with(&format!("{},compat=0.10", cipher("encrypt."))),
            with(",preallocation=metadata,compat=1.1"),
            with(",preallocation=falloc,compat=1.1"),
            with(",preallocation=metadata,compat=0.10"),
            with(",preallocation=falloc,compat=0.10"),
        ] {
            desk.ok(maker, &format!("qemu-img create -q {line}"));
            let volume = if line.starts_with("-f luks") { luks("vol") } else { qcow2("vol") };
            desk.ok(maker, &format!("qemu-io {SECRET} -c 'write -P 5 0 1M' --image-opts {volume}"));
            let noise = volume.contains("luks,") || !maker && line.contains("preallocation");
            if noise {
                // What nobody wrote is noise there, which a guest makes a file system in.
                desk.ok(maker, &format!("qemu-io {SECRET} -c 'write -P 0 1M 1M' --image-opts {volume}"));
            }
            seen(&desk, SECRET, &volume, 5);
            // The volume grows as it is, and is checked.
            for _ in 0..2 {
                desk.ok(maker, &format!("qemu-img resize -q {SECRET} --image-opts {volume} +1M"));
            }
            let told = desk.ok(!maker, &format!("qemu-img info {SECRET} --image-opts {volume}"));
            assert!(told.contains("4 MiB (4194304 bytes)") && told.contains("encrypted: yes"), "{told}");
            seen(&desk, SECRET, &volume, 5);
            if volume.contains("qcow2,") {
                desk.ok(!maker, &format!("qemu-img check -q {SECRET} --image-opts {volume}"));
            }
        }
    }
}

#[test]
fn a_volume_over_a_backing_file_is_made() {
    let Some(desk) = desk("libvirt-backing") else { return };
    for maker in [true, false] {
        let options = "backing_fmt=raw,encrypt.format=luks,encrypt.key-secret=vol.img_encrypt0,compat=0.10";
        let line =
            format!("create -q -f qcow2 -b source.raw {SECRET} -o {options}{QUICK_QCOW2} vol.img 2048K");
        desk.ok(maker, &format!("qemu-img {line}"));
        seen(&desk, SECRET, &qcow2("vol"), 5);
    }
}

#[test]
fn volumes_are_copied_into_one_another_whatever_is_encrypted() {
    let Some(desk) = desk("libvirt-convert") else { return };
    let both = format!("{SECRET} {INPUT}");
    let create = |name: &str, volume: &str| {
        let secrets = if name == "vol" { SECRET } else { INPUT };
        let key = format!("key-secret={name}.img_encrypt0");
        match volume.split(',').next().unwrap_or_default() {
            "driver=luks" => format!("qemu-img create -q -f luks {secrets} -o {key}{QUICK} {name}.img 2048K"),
            "driver=qcow2" if volume.contains("encrypt") => format!(
                "qemu-img create -q -f qcow2 {secrets} -o encrypt.format=luks,encrypt.{key}{QUICK_QCOW2},compat=0.10 {name}.img 2048K"
            ),
            "driver=qcow2" => format!("qemu-img create -q -f qcow2 -o compat=0.10 {name}.img 2048K"),
            _ => format!("qemu-img create -q -f raw {name}.img 2048K"),
        }
    };
    let plain = |format: &str| format!("driver={format},file.filename=vol.img");
    for maker in [true, false] {
        for (input, volume) in [
            ("driver=raw,file.filename=source.raw".to_owned(), luks("vol")),
            ("driver=raw,file.filename=source.raw".to_owned(), qcow2("vol")),
            (luks("input"), luks("vol")),
            (luks("input"), qcow2("vol")),
            (luks("input"), plain("raw")),
            (luks("input"), plain("qcow2")),
            (qcow2("input"), qcow2("vol")),
            (qcow2("input"), plain("raw")),
            (qcow2("input"), plain("qcow2")),
        ] {
            if input.contains("input") {
                desk.ok(!maker, &create("input", &input));
                let fill = format!("-c 'write -P 6 0 1M' -c 'write -P 0 1M 1M' --image-opts {input}");
                desk.ok(!maker, &format!("qemu-io {INPUT} {fill}"));
            } else {
                desk.ok(maker, "qemu-img resize -q -f raw source.raw 2M");
            }
            desk.ok(maker, &create("vol", &volume));
            let convert = "qemu-img convert --image-opts -n --target-image-opts";
            desk.ok(maker, &format!("{convert} {both} {input} {volume}"));
            seen(&desk, &both, &volume, if input.contains("input") { 6 } else { 5 });
        }
    }
}

#[test]
fn a_secret_that_a_master_key_encrypts_opens_a_volume() {
    let Some(desk) = desk("libvirt-sealed") else { return };
    desk.ok(
        true,
        &format!("qemu-img create -q -f luks {SECRET} -o key-secret=vol.img_encrypt0{QUICK} vol.img 1024K"),
    );
    std::fs::write(desk.folder().join("master-key.aes"), "01234567890123456789012345678901").unwrap();
    // `passphrase` under AES-256-CBC with the key above and the vector `0123456789abcdef`.
    let (data, iv) = ("pc2TTAMzSA2CZadF8AUmhQ==", "MDEyMzQ1Njc4OWFiY2RlZg==");
    let key = "--object secret,id=masterKey0,format=raw,file=master-key.aes";
    let secret = format!("--object secret,id=s,keyid=masterKey0,iv={iv},format=base64,data={data}");
    for ours in [true, false] {
        let open = "driver=luks,file.filename=vol.img,key-secret=s";
        desk.ok(ours, &format!("qemu-io {key} {secret} -c 'read 0 64k' --image-opts {open}"));
    }
}
