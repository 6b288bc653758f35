//! Volumes of `cryptsetup`, LUKS1 and LUKS2, opened, read and written by our programs, and ours opened by it. It needs no
//! block device for that; where it or its kernel has not got a cipher, that one is left out and told.
use crate::encryption::Desk;
use crate::pair::peer_is_here;

const SECRETS: &str = "--object secret,id=first,file=first --object secret,id=second,file=second";
const LUKS1: &str = "--type luks1 --pbkdf-force-iterations 1000";
const PBKDF2: &str = "--type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000";
const ARGON2ID: &str =
    "--type luks2 --pbkdf argon2id --pbkdf-memory 4096 --pbkdf-parallel 2 --pbkdf-force-iterations 4";
const ARGON2I: &str =
    "--type luks2 --pbkdf argon2i --pbkdf-memory 1024 --pbkdf-parallel 1 --pbkdf-force-iterations 4";

/// A desk with two passphrases, if `cryptsetup` is installed.
fn desk(name: &str) -> Option<Desk> {
    let desk = Desk::new(name);
    for passphrase in ["first", "second"] {
        std::fs::write(desk.folder().join(passphrase), format!("the {passphrase} passphrase")).unwrap();
    }
    match desk.run(false, "cryptsetup --version") {
        Ok(_) => Some(desk),
        Err(_) => {
            println!("skipped: cryptsetup is not installed");
            None
        }
    }
}

/// Makes a volume by cryptsetup, with data of `mib` MiB and its header in front; whether it can.
fn format(desk: &Desk, options: &str, mib: u64) -> bool {
    let volume = desk.folder().join("v");
    std::fs::File::create(&volume).unwrap().set_len(mib << 20).unwrap();
    let made = desk.run(false, &format!("cryptsetup luksFormat -q {options} --key-file first v"));
    if let Err(e) = &made {
        println!("left out: {e}");
    }
    made.is_ok()
}

fn io(secret: &str, commands: &str, more: &str) -> String {
    format!("qemu-io {SECRETS} {commands} --image-opts driver=luks,key-secret={secret},file.filename=v{more}")
}

const WRITE: &str = "-c 'write -P 4 0 70k' -c 'write -P 5 1000 2000' -c 'write -P 6 1M 64k'";
const READ: &str =
    "-c 'read -P 4 0 1000' -c 'read -P 5 1000 2000' -c 'read -P 4 3000 68680' -c 'read -P 6 1M 64k'";

fn opens(desk: &Desk, passphrase: &str, more: &str) -> bool {
    let line = format!("cryptsetup open --test-passphrase --key-file {passphrase} {more} v");
    desk.run(false, &line).is_ok()
}

/// Ciphers by their names there, with the bits of their keys and a hash.
const CIPHERS: [(&str, u32, &str); 23] = [
    ("aes-xts-plain64", 512, "sha256"),
    ("aes-xts-plain64", 384, "sha512"),
    ("aes-xts-plain64", 256, "sha1"),
    ("aes-xts-plain", 512, "sha384"),
    ("aes-xts-essiv:sha256", 512, "sha256"),
    ("aes-cbc-essiv:sha256", 256, "sha1"),
    ("aes-cbc-essiv:sha256", 128, "ripemd160"),
    ("aes-cbc-plain64", 192, "sha224"),
    ("aes-cbc-plain", 256, "sha256"),
    ("aes-ctr-plain64", 256, "sha256"),
    ("aes-ecb", 256, "sha256"),
    ("serpent-xts-plain64", 512, "sha256"),
    ("serpent-xts-plain64", 384, "sha256"),
    ("serpent-xts-plain64", 256, "sha512"),
    ("serpent-cbc-essiv:sha256", 256, "sha256"),
    ("serpent-cbc-plain", 128, "sha1"),
    ("twofish-xts-plain64", 512, "sha512"),
    ("twofish-xts-plain64", 384, "sha512"),
    ("twofish-xts-plain64", 256, "sha256"),
    ("twofish-cbc-essiv:sha256", 256, "ripemd160"),
    ("twofish-cbc-plain64", 192, "sha256"),
    ("cast5-cbc-plain64", 128, "sha1"),
    ("aes-xts-plain64", 512, "sm3"),
];

#[test]
fn volumes_of_every_cipher_are_opened_read_and_written() {
    let Some(desk) = desk("cryptsetup-ciphers") else { return };
    let mut seen = 0;
    for (cipher, bits, hash) in CIPHERS {
        for kind in [LUKS1, PBKDF2] {
            if !format(&desk, &format!("{kind} -c {cipher} -s {bits} -h {hash}"), 18) {
                continue;
            }
            desk.ok(true, &io("first", WRITE, ""));
            desk.ok(true, &io("first", READ, ""));
            assert!(opens(&desk, "first", ""), "{cipher}");
            seen += 1;
            let told = desk.ok(false, "cryptsetup luksDump v");
            // Not all that cryptsetup makes is known to the peer.
            let known = !["aes-xts-essiv:sha256", "aes-ecb"].contains(&cipher) && hash != "sm3";
            if kind == LUKS1 && peer_is_here() && known {
                // The peer stumbles over keys of 24 bytes.
                let read = desk.run(false, &io("first", READ, ""));
                let excused = |e: String| bits % 192 == 0 && e.contains("Assertion");
                read.map_or_else(|e| assert!(excused(e.clone()), "{cipher}: {e}\n{told}"), drop);
            }
        }
    }
    assert!(seen >= 6, "{seen}");
}

#[test]
fn every_derivation_and_sector_length_of_luks2_is_known() {
    let Some(desk) = desk("cryptsetup-luks2") else { return };
    for (kdf, more) in [
        (PBKDF2, "--sector-size 512"),
        (PBKDF2, "--sector-size 4096 --luks2-metadata-size 64k --luks2-keyslots-size 2M"),
        (ARGON2ID, "--sector-size 512 --label disk --subsystem test"),
        (ARGON2ID, "--sector-size 4096 --offset 65536"),
        (ARGON2ID, "--sector-size 1024"),
        (ARGON2I, "--sector-size 2048"),
        (ARGON2I, "--sector-size 4096 --keyslot-cipher aes-cbc-plain64 --keyslot-key-size 256"),
    ] {
        if !format(&desk, &format!("{kdf} {more}"), 40) {
            continue;
        }
        desk.ok(true, &io("first", WRITE, ""));
        desk.ok(true, &io("first", READ, ""));
        let told = desk.ok(true, "qemu-img info -f luks v");
        assert!(told.contains("encrypted: yes"), "{told}");
        // Slots by other derivations, one that is to be left alone, and none of the first any more.
        for (slot, kdf) in [(1, PBKDF2), (7, ARGON2I), (31, ARGON2ID)] {
            let kdf = kdf.split_once("luks2").unwrap().1;
            desk.ok(
                false,
                &format!("cryptsetup luksAddKey {kdf} --key-slot {slot} --key-file first v second"),
            );
        }
        desk.ok(true, &io("second", READ, ""));
        desk.ok(false, "cryptsetup luksRemoveKey -q v first");
        desk.ok(true, &io("second", READ, ""));
        let wrong = desk.run(true, &io("first", READ, "")).unwrap_err();
        assert!(wrong.contains("passphrase is wrong") && wrong.contains("1, 7, 31"), "{wrong}");
        for slot in [1, 7, 31] {
            desk.ok(false, &format!("cryptsetup config --priority ignore --key-slot {slot} v"));
        }
        let left = desk.run(true, &io("second", READ, "")).unwrap_err();
        assert!(left.contains("slot 31: it is marked to be left alone"), "{left}");
        desk.ok(false, "cryptsetup config --priority prefer --key-slot 31 v");
        desk.ok(true, &io("second", READ, ""));
        let amend = "state=active,new-secret=first";
        let refused = desk.run(
            true,
            &format!("qemu-img amend {SECRETS} -o {amend} --image-opts driver=luks,key-secret=second,file.filename=v"),
        );
        assert!(refused.unwrap_err().contains("cryptsetup can"));
        desk.ok(false, "cryptsetup luksErase -q v");
        let erased = desk.run(true, &io("second", READ, "")).unwrap_err();
        assert!(erased.contains("key slot"), "{erased}");
    }
}

#[test]
fn a_header_in_a_file_of_its_own_opens_the_data() {
    let Some(desk) = desk("cryptsetup-detached") else { return };
    for kind in [LUKS1, ARGON2ID, &format!("{PBKDF2} --sector-size 4096")] {
        let folder = desk.folder();
        std::fs::File::create(folder.join("v")).unwrap().set_len(4 << 20).unwrap();
        std::fs::write(folder.join("head"), "").unwrap();
        std::fs::File::create(folder.join("head")).unwrap().set_len(16 << 20).unwrap();
        desk.ok(false, &format!("cryptsetup luksFormat -q {kind} --header head --key-file first v"));
        let header = ",file.driver=file,header.driver=file,header.filename=head";
        desk.ok(true, &io("first", WRITE, header));
        desk.ok(true, &io("first", READ, header));
        assert!(opens(&desk, "first", "--header head"), "{kind}");
        let told = desk.ok(true, &format!("qemu-img info --image-opts driver=luks,file.filename=v{header}"));
        assert!(told.contains("virtual size: 4 MiB"), "{told}");
    }
}

#[test]
fn cryptsetup_opens_our_volumes_of_every_cipher_and_our_key_slots() {
    let Some(desk) = desk("cryptsetup-ours") else { return };
    let mut seen = 0;
    for (cipher, mode, iv, hash) in [
        ("aes-256", "xts", "plain64", "sha256"),
        ("aes-192", "xts", "plain", "sha384"),
        ("aes-128", "xts", "plain64", "sha1"),
        ("aes-256", "cbc", "essiv,ivgen-hash-alg=sha256", "sha512"),
        ("aes-192", "cbc", "plain64", "sha224"),
        ("aes-128", "cbc", "plain", "ripemd160"),
        ("aes-256", "ctr", "plain64", "sha256"),
        ("aes-256", "ecb", "plain64", "sha256"),
        ("serpent-256", "xts", "plain64", "sha256"),
        ("serpent-128", "cbc", "plain64", "sha256"),
        ("twofish-256", "xts", "plain64", "sha256"),
        ("twofish-128", "cbc", "plain", "sha256"),
        ("cast5-128", "cbc", "plain64", "sha256"),
    ] {
        let spec = format!("cipher-alg={cipher},cipher-mode={mode},ivgen-alg={iv},hash-alg={hash}");
        desk.ok(
            true,
            &format!("qemu-img create -q {SECRETS} -f luks -o key-secret=first,iter-time=10,{spec} v 2M"),
        );
        let told = desk.ok(false, "cryptsetup luksDump v");
        let family = cipher.split('-').next().unwrap();
        for line in [family, mode, hash] {
            assert!(told.contains(line), "{spec}: {told}");
        }
        if !opens(&desk, "first", "") {
            println!("left out: this kernel has no {spec}");
            continue;
        }
        seen += 1;
        let amend = |options: &str, secret: &str| {
            desk.ok(true, &format!(
                "qemu-img amend {SECRETS} -o {options} --image-opts driver=luks,key-secret={secret},file.filename=v"
            ));
        };
        amend("state=active,new-secret=second,iter-time=10,keyslot=6", "first");
        assert!(opens(&desk, "second", "--key-slot 6") && opens(&desk, "first", "--key-slot 0"), "{spec}");
        amend("state=inactive,old-secret=first", "second");
        assert!(opens(&desk, "second", "") && !opens(&desk, "first", ""), "{spec}");
        // Its own change is understood again.
        desk.ok(false, "cryptsetup luksAddKey --pbkdf-force-iterations 1000 --key-file second v first");
        desk.ok(true, &io("first", WRITE, ""));
        desk.ok(true, &io("second", READ, ""));
    }
    assert!(seen >= 3, "{seen}");
}
