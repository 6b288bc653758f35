//! LUKS2 of cryptsetup.

use std::fs;

use crypto::luks::Opened;
use crypto::luks2::{CopyFault, HEADERS_LEN, Header, HeaderError};

use crate::bench::{Bench, budget, is_here, pattern, phrase};

fn parse(bytes: &[u8]) -> Result<Header, HeaderError> {
    Header::parse(&bytes[..bytes.len().min(HEADERS_LEN)], bytes.len() as u64)
}

/// Opens a volume by the header in `bytes`.
fn open(header: &Header, bytes: &[u8], passphrase: &str) -> Option<Opened> {
    let passphrase = phrase(passphrase);
    let mut unlock = header.unlock(&passphrase, budget());
    while let Some(area) = unlock.next_area() {
        if let Some(opened) = unlock.offer(area, &bytes[area.offset as usize..][..area.len]).unwrap() {
            return Some(opened);
        }
    }
    println!("{}", unlock.failed());
    None
}

const ARGON2ID: [&str; 8] = [
    "--pbkdf",
    "argon2id",
    "--pbkdf-memory",
    "4096",
    "--pbkdf-force-iterations",
    "4",
    "--pbkdf-parallel",
    "3",
];
const ARGON2I: [&str; 8] =
    ["--pbkdf", "argon2i", "--pbkdf-memory", "100", "--pbkdf-force-iterations", "5", "--pbkdf-parallel", "1"];
const PBKDF2: [&str; 6] = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--hash", "sha512"];

#[test]
fn we_open_the_volumes_of_cryptsetup() {
    if !is_here("cryptsetup") {
        return;
    }
    let bench = Bench::new("cryptsetup-luks2");
    for (kdf, more) in [
        (&ARGON2ID[..], &["-c", "aes-xts-plain64", "-s", "512"][..]),
        (&ARGON2I, &["-c", "aes-xts-plain64", "-s", "256", "--sector-size", "512"]),
        (&PBKDF2, &["-c", "aes-cbc-essiv:sha256", "-s", "256", "--luks2-metadata-size", "64k"]),
    ] {
        bench.zeroes("v.luks", 32 << 20);
        let format = [&["luksFormat", "--type", "luks2"], kdf, more, &["v.luks"]].concat();
        if let Err(e) = bench.cryptsetup(&format, "first") {
            println!("left out: this kernel has no {more:?} for cryptsetup: {e}");
            continue;
        }
        bench.put("second", b"second");
        bench.cryptsetup(&[&["luksAddKey"], kdf, &["v.luks", "second"]].concat(), "first").unwrap();
        let bytes = bench.get("v.luks");
        let header = parse(&bytes).unwrap();
        let key = bench.volume_key("v.luks", "first");
        for (slot, passphrase) in ["first", "second"].into_iter().enumerate() {
            let opened = open(&header, &bytes, passphrase).unwrap();
            assert_eq!((opened.slot, opened.key.as_bytes()), (slot, &key[..]), "{more:?}");
        }
        assert!(open(&header, &bytes, "third").is_none());
        assert_eq!(header.damaged_copy(), None);

        let mut damaged = bytes.clone();
        damaged[..512].fill(0);
        let header = parse(&damaged).unwrap();
        assert_eq!(header.damaged_copy(), Some(CopyFault::Missing));
        assert!(open(&header, &damaged, "first").is_some());
    }
}

/// Data that cryptsetup encrypts itself: in place, with the header in a file of its own.
#[test]
fn we_read_what_cryptsetup_encrypts() {
    if !is_here("cryptsetup") {
        return;
    }
    let bench = Bench::new("cryptsetup-data");
    let plain = pattern(4 << 20);
    for sector in ["512", "4096"] {
        bench.put("data", &plain);
        fs::remove_file(bench.path("header")).ok();
        bench.zeroes("header", 16 << 20);
        let encrypt =
            ["reencrypt", "--encrypt", "--type", "luks2", "--header", "header", "--sector-size", sector];
        let encrypted = bench.cryptsetup(&[&encrypt[..], &PBKDF2, &["data"]].concat(), "first");
        if let Err(e) = encrypted {
            println!("left out: cryptsetup can't encrypt files here: {e}");
            return;
        }
        let header_bytes = bench.get("header");
        let header = parse(&header_bytes).unwrap();
        let key = open(&header, &header_bytes, "first").unwrap().key;
        let [segment] = header.segments() else { panic!("{:?}", header.segments()) };
        assert_eq!(segment.sector.bytes().to_string(), sector);
        let mut data = bench.get("data").split_off(segment.offset as usize);
        assert!(data != plain);
        segment.cipher(&key).unwrap().decrypt(segment.first_sector, &mut data).unwrap();
        assert!(data == plain, "sectors of {sector} bytes");
    }
}

#[test]
fn a_volume_in_the_middle_of_its_encryption_is_refused() {
    if !is_here("cryptsetup") {
        return;
    }
    let bench = Bench::new("cryptsetup-begun");
    bench.put("data", &pattern(1 << 20));
    bench.zeroes("header", 16 << 20);
    let begin = ["reencrypt", "--encrypt", "--init-only", "--type", "luks2", "--header", "header"];
    if let Err(e) = bench.cryptsetup(&[&begin[..], &PBKDF2, &["data"]].concat(), "first") {
        println!("left out: cryptsetup can't encrypt files here: {e}");
        return;
    }
    let error = parse(&bench.get("header")).unwrap_err();
    assert!(
        matches!(&error, HeaderError::Requirement(name) if name.starts_with("online-reencrypt")),
        "{error}"
    );
}
