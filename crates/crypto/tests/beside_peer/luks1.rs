//! LUKS1 with QEMU and with cryptsetup.

use std::time::{Duration, Instant};

use crypto::kdf::Limits;
use crypto::luks1::{Change, Iterations, Loss, NewSlot, NewVolume, Payload, calibrate, create};
use crypto::random::SystemRandom;
use crypto::{Algorithm, CipherSpec, Hash, IvGenerator, Key, Mode, SectorCipher, SectorLen};

use crate::bench::{Bench, budget, is_here, open_luks1, pattern, phrase, read_luks1};

const DATA_LEN: usize = 40 * 512;

fn new_volume(spec: CipherSpec, hash: Hash, payload: Payload) -> NewVolume {
    NewVolume { spec, hash, iterations: Iterations { slot: 1000, digest: 1000 }, payload }
}

fn new_slot<'a>(key: &'a Key, passphrase: &'a Key, iterations: u32) -> NewSlot<'a> {
    NewSlot { key, found_in: None, passphrase, iterations }
}

/// Makes a volume with our code: slot 0 for "first", and `data` in it.
fn make(bench: &Bench, file: &str, new: &NewVolume, data: &[u8]) -> (Key, Change) {
    let (key, change) = create(new, &phrase("first"), &mut budget(), &mut SystemRandom).unwrap();
    bench.put(file, &[]);
    bench.run(file, &change.steps);
    let mut payload = data.to_vec();
    SectorCipher::new(new.spec, &key, SectorLen::B512).unwrap().encrypt(0, &mut payload).unwrap();
    let mut bytes = bench.get(file);
    bytes.resize(change.header.payload_offset() as usize, 0);
    bench.put(file, &[bytes, payload].concat());
    (key, change)
}

/// Every combination of ours that the peer knows, each with one of the hashes. It stops itself on keys of 24 bytes
/// whose split form ends inside of a sector, so those are not shown to it.
#[test]
fn the_peer_reads_our_volumes_of_every_cipher() {
    if !is_here("qemu-img") {
        return;
    }
    let bench = Bench::new("every-cipher");
    let data = pattern(DATA_LEN);
    let mut hashes = Hash::ALL.into_iter().cycle();
    let ivs = [
        IvGenerator::Plain,
        IvGenerator::Plain64,
        IvGenerator::Essiv(Hash::Md5),
        IvGenerator::Essiv(Hash::Sha256),
    ];
    let combinations = Algorithm::ALL.into_iter().flat_map(|algorithm| {
        [Mode::Xts, Mode::Cbc, Mode::Ecb, Mode::Ctr].into_iter().flat_map(move |mode| {
            ivs.into_iter().filter_map(move |iv| CipherSpec::new(algorithm, mode, iv).ok())
        })
    });
    let mut count = 0;
    for (spec, hash) in combinations.filter(|spec| spec.key_len() != 24).zip(&mut hashes) {
        make(&bench, "ours.luks", &new_volume(spec, hash, Payload::Packed), &data);
        let source = "driver=luks,key-secret=s,file.filename=ours.luks";
        let read = bench.qemu_img("convert", "data=first", &["--image-opts", source, "-O", "raw", "out.raw"]);
        assert_eq!(read, Ok(String::new()), "{spec} {hash}");
        assert!(bench.get("out.raw") == data, "{spec} {hash}");
        count += 1;
    }
    assert_eq!(count, 114);
}

#[test]
fn we_read_the_volumes_of_the_peer() {
    if !is_here("qemu-img") {
        return;
    }
    let bench = Bench::new("peers-volumes");
    let data = pattern(DATA_LEN);
    bench.put("data.raw", &data);
    for options in [
        "",
        ",cipher-alg=aes-128,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256,hash-alg=sha1",
        ",cipher-alg=serpent-256,cipher-mode=xts,ivgen-alg=plain,hash-alg=ripemd160",
        ",cipher-alg=cast5-128,cipher-mode=cbc,hash-alg=sha224",
    ] {
        let options = format!("key-secret=s,iter-time=10{options}");
        let convert = ["-f", "raw", "-O", "luks", "-o", &options, "data.raw", "peers.luks"];
        bench.qemu_img("convert", "data=first", &convert).unwrap();
        assert!(read_luks1(&bench.path("peers.luks"), "first") == data, "{options}");
        assert!(open_luks1(&bench.get("peers.luks"), "second").1.is_none());
        let (header, _) = open_luks1(&bench.get("peers.luks"), "first");
        let ours =
            make(&bench, "ours.luks", &new_volume(*header.spec(), header.hash(), Payload::Packed), &data);
        let ours = ours.1.header;
        assert_eq!(ours.payload_offset(), header.payload_offset(), "{options}");
        assert_eq!(
            ours.slots().clone().map(|slot| slot.offset),
            header.slots().clone().map(|slot| slot.offset)
        );
        // Magic, version, cipher, mode, hash, payload, key length: the same bytes.
        assert_eq!(ours.as_bytes()[..112], header.as_bytes()[..112], "{options}");
    }
}

#[test]
fn slots_of_the_peer_and_ours_stand_side_by_side() {
    if !is_here("qemu-img") {
        return;
    }
    let bench = Bench::new("slots");
    bench
        .qemu_img("create", "data=first", &["-f", "luks", "-o", "key-secret=s,iter-time=10", "v.luks", "1M"])
        .unwrap();
    let source = "driver=luks,key-secret=s,file.filename=v.luks";
    let amend = |secrets: &[&str], options: &str| {
        let objects: Vec<String> =
            secrets.iter().map(|text| format!("secret,id={text},data={text}")).collect();
        let objects: Vec<&str> = objects.iter().flat_map(|object| ["--object", object.as_str()]).collect();
        bench.qemu_img(
            "amend",
            "data=first",
            &[&objects[..], &["--image-opts", source, "-o", options]].concat(),
        )
    };
    amend(&["second"], "state=active,new-secret=second,iter-time=10").unwrap();
    let open = |text: &str| open_luks1(&bench.get("v.luks"), text).1;
    assert_eq!(open("second").unwrap().slot, 1);

    let opened = open("second").unwrap();
    let (header, _) = open_luks1(&bench.get("v.luks"), "first");
    let change = header
        .replace(&new_slot(&opened.key, &phrase("third"), 1000), &[1], &mut budget(), &mut SystemRandom)
        .unwrap();
    bench.run("v.luks", &change.steps);
    assert!(open("second").is_none());
    assert_eq!(open("third").unwrap().slot, 2);
    amend(&["third"], "state=inactive,old-secret=third").unwrap();
    assert!(open("third").is_none());
    assert_eq!(open("first").unwrap().slot, 0);

    let (header, opened) = open_luks1(&bench.get("v.luks"), "first");
    let key = opened.unwrap().key;
    let add = |header: &crypto::luks1::Header, text, slot| {
        header
            .add(
                &new_slot(&key, &phrase(text), 1000),
                Some(slot),
                Loss::Refused,
                &mut budget(),
                &mut SystemRandom,
            )
            .unwrap()
    };
    let change = add(&header, "fourth", 6);
    bench.run("v.luks", &change.steps);
    bench.qemu_img("convert", "data=fourth", &["--image-opts", source, "-O", "raw", "out.raw"]).unwrap();
    let change = change.header.erase(&[0], Loss::Refused, &mut SystemRandom).unwrap();
    bench.run("v.luks", &change.steps);
    let wrong = bench.qemu_img("convert", "data=first", &["--image-opts", source, "-O", "raw", "out.raw"]);
    assert!(wrong.is_err());
    bench.qemu_img("convert", "data=fourth", &["--image-opts", source, "-O", "raw", "out.raw"]).unwrap();
}

#[test]
fn cryptsetup_and_we_open_each_others_volumes() {
    if !is_here("cryptsetup") {
        return;
    }
    let bench = Bench::new("cryptsetup-luks1");
    for (cipher, bits, hash) in [
        ("aes-xts-plain64", 512, "sha256"),
        ("aes-xts-plain64", 256, "sha512"),
        ("aes-cbc-essiv:sha256", 256, "sha1"),
        ("aes-cbc-plain64", 192, "sha1"),
        ("serpent-cbc-plain", 128, "ripemd160"),
        ("twofish-xts-plain64", 512, "sha224"),
    ] {
        bench.zeroes("theirs.luks", 4 << 20);
        let bits_text = bits.to_string();
        let format = ["luksFormat", "--type", "luks1", "--pbkdf-force-iterations", "1000", "-c", cipher];
        let made = bench
            .cryptsetup(&[&format[..], &["-s", &bits_text, "-h", hash, "theirs.luks"]].concat(), "first");
        if let Err(e) = made {
            println!("left out: this kernel has no {cipher} for cryptsetup: {e}");
            continue;
        }
        let theirs = bench.get("theirs.luks");
        let (header, opened) = open_luks1(&theirs, "first");
        assert_eq!(opened.unwrap().key.as_bytes(), bench.volume_key("theirs.luks", "first"), "{cipher}");

        let new = new_volume(*header.spec(), header.hash(), Payload::Aligned(1 << 20));
        let (key, change) = make(&bench, "ours.luks", &new, &[0; 4096]);
        assert_eq!(bench.volume_key("ours.luks", "first"), key.as_bytes(), "{cipher}");
        assert_eq!(change.header.as_bytes()[..112], header.as_bytes()[..112], "{cipher}");
        let mut header = change.header;
        for slot in 1..8 {
            let passphrase = phrase(&format!("passphrase {slot}"));
            let change = header
                .add(
                    &new_slot(&key, &passphrase, 1000),
                    Some(slot),
                    Loss::Refused,
                    &mut budget(),
                    &mut SystemRandom,
                )
                .unwrap();
            bench.run("ours.luks", &change.steps);
            header = change.header;
        }
        for slot in 1..8 {
            let passphrase = format!("passphrase {slot}");
            assert!(bench.cryptsetup_opens("ours.luks", Some(slot), &passphrase), "{cipher} slot {slot}");
        }
        let change = header.erase(&[0, 3], Loss::Refused, &mut SystemRandom).unwrap();
        bench.run("ours.luks", &change.steps);
        assert!(!bench.cryptsetup_opens("ours.luks", None, "first"));
        assert!(!bench.cryptsetup_opens("ours.luks", None, "passphrase 3"));
        bench.put("new", b"of cryptsetup");
        let add = ["luksAddKey", "--pbkdf-force-iterations", "1000", "ours.luks", "new"];
        bench.cryptsetup(&add, "passphrase 4").unwrap();
        assert!(open_luks1(&bench.get("ours.luks"), "of cryptsetup").1.is_some());
    }
}

#[test]
fn calibrated_iterations_take_the_time_they_should() {
    let spec = CipherSpec::new(Algorithm::Aes256, Mode::Xts, IvGenerator::Plain64).unwrap();
    let start = Instant::now();
    let mut clock = || start.elapsed();
    let time = Duration::from_millis(100);
    let iterations = calibrate(&spec, Hash::Sha256, Some(time), &Limits::default(), &mut clock).unwrap();
    println!("{} iterations in 100 ms, {} of the digest", iterations.slot, iterations.digest);
    assert!(iterations.slot >= 1000 && iterations.digest >= 1000);
}
