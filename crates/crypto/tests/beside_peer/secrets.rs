//! Secrets that encrypt secrets, and the legacy AES method.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crypto::{Key, legacy, secret};

use crate::bench::{Bench, is_here, pattern};

/// A LUKS volume whose passphrase reaches the peer encrypted by our code.
#[test]
fn the_peer_understands_a_secret_that_we_encrypt() {
    if !is_here("qemu-img") {
        return;
    }
    let bench = Bench::new("secret");
    let master = Key::new(pattern(32));
    let iv = *b"0123456789abcdef";
    bench.put("master.b64", STANDARD.encode(master.as_bytes()).as_bytes());
    let create = ["-f", "luks", "-o", "key-secret=s,iter-time=10", "v.luks", "1M"];
    bench.qemu_img("create", "data=the passphrase", &create).unwrap();
    let encrypted = secret::encrypt(&master, &iv, &Key::new(b"the passphrase".to_vec())).unwrap();
    let text = STANDARD.encode(&encrypted);
    bench.put("raw.enc", &encrypted);
    let source = "driver=luks,key-secret=s,file.filename=v.luks";
    let master = "secret,id=master,format=base64,file=master.b64";
    let read = ["--object", master, "--image-opts", source, "-O", "raw", "out.raw"];
    let iv = STANDARD.encode(iv);
    for data in [format!("format=base64,data={text}"), "format=raw,file=raw.enc".to_string()] {
        let object = format!("secret,id=s,keyid=master,iv={iv},{data}");
        let result = bench.peer(
            "qemu-img",
            &[&["convert"], &read[..2], &["--object", &object], &read[2..]].concat(),
            "",
        );
        assert_eq!(result, Ok(String::new()), "{data}");
    }
}

/// The peer's qcow2 image with the legacy method; its one L2 table tells where each of the guest's clusters is.
#[test]
fn we_read_what_the_peer_encrypts_by_the_legacy_method() {
    if !is_here("qemu-img") {
        return;
    }
    let bench = Bench::new("legacy");
    let data = pattern(4 << 16);
    bench.put("data.raw", &data);
    for passphrase in ["short", "exactly16letters", "longer than sixteen"] {
        let options = "encrypt.format=aes,encrypt.key-secret=s";
        let convert = ["-f", "raw", "-O", "qcow2", "-o", options, "data.raw", "v.qcow2"];
        bench.qemu_img("convert", &format!("data={passphrase}"), &convert).unwrap();
        let image = bench.get("v.qcow2");
        let word = |at: usize| u64::from_be_bytes(image[at..at + 8].try_into().unwrap());
        let entry = |at: usize| (word(at) & 0x00ff_ffff_ffff_fe00) as usize;
        let l2_table = entry(word(40) as usize);
        let cipher = legacy::qcow_aes(passphrase.as_bytes()).unwrap();
        for (number, expected) in data.chunks(1 << 16).enumerate() {
            let mut cluster = vec![0; 1 << 16];
            let host = entry(l2_table + number * 8);
            cipher.decrypt_to(number as u64 * 128, &image[host..host + (1 << 16)], &mut cluster).unwrap();
            assert!(cluster == expected, "{passphrase}, cluster {number}");
        }
    }
}
