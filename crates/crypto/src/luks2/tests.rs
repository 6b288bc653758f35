use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::*;
use crate::cipher::{CipherSpec, SectorCipher, SectorLen};
use crate::kdf::{Budget, Limits};
use crate::luks::{Opened, UnlockError};
use crate::random::tests::Seeded;
use crate::{Hash, Key, af};

const COPY: usize = 16384;
const LEN: u64 = 4 << 20;
const OFFSET: usize = 1 << 20;

fn phrase(text: &str) -> Key {
    Key::new(text.as_bytes().to_vec())
}

/// One copy of a header, as it should be.
fn copy(second: bool, sequence: u64, json: &str) -> Vec<u8> {
    let mut bytes = vec![0; COPY];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, if second { b"SKUL\xba\xbe" } else { b"LUKS\xba\xbe" });
    put(6, &2_u16.to_be_bytes());
    put(8, &(COPY as u64).to_be_bytes());
    put(16, &sequence.to_be_bytes());
    put(24, b"a label");
    put(72, b"sha256");
    put(168, b"a uuid");
    put(256, &(if second { COPY as u64 } else { 0 }).to_be_bytes());
    put(4096, json.as_bytes());
    seal(&mut bytes);
    bytes
}

fn seal(copy: &mut [u8]) {
    copy[448..512].fill(0);
    let mut digest = [0; 32];
    Hash::Sha256.digest(&[copy], &mut digest);
    copy[448..480].copy_from_slice(&digest);
}

fn headers(json: &str) -> Vec<u8> {
    [copy(false, 5, json), copy(true, 5, json)].concat()
}

/// The JSON of a volume with slot 1, and its slot's area.
fn json(key: &Key, digest_salt: &[u8]) -> String {
    let mut digest = [0; 32];
    budget().pbkdf2(Hash::Sha256, key.as_bytes(), digest_salt, 10, &mut digest).unwrap();
    format!(
        r#"{{"keyslots":{{"1":{{"type":"luks2","key_size":32,"af":{{"type":"luks1","stripes":10,"hash":"sha1"}},
        "area":{{"type":"raw","offset":"32768","size":"4096","encryption":"aes-xts-plain64","key_size":32}},
        "kdf":{{"type":"argon2id","time":1,"memory":64,"cpus":2,"salt":"{salt}"}}}}}},
        "tokens":{{"0":{{"type":"luks2-keyring","keyslots":["1"],"key_description":"x"}}}},
        "segments":{{"0":{{"type":"crypt","offset":"{OFFSET}","size":"dynamic","iv_tweak":"7",
        "encryption":"aes-xts-plain64","sector_size":4096}}}},
        "digests":{{"0":{{"type":"pbkdf2","keyslots":["1"],"segments":["0"],"hash":"sha256","iterations":10,
        "salt":"{digest_salt}","digest":"{digest}"}}}},
        "config":{{"json_size":"12288","keyslots_size":"131072"}}}}"#,
        salt = STANDARD.encode(b"saltsalt"),
        digest_salt = STANDARD.encode(digest_salt),
        digest = STANDARD.encode(digest),
    )
}

fn budget() -> Budget<'static> {
    Budget::new(Limits::default(), &|| false)
}

fn volume_key() -> Key {
    Key::new((100..132).collect())
}

/// The area of slot 1 under "first".
fn material() -> Vec<u8> {
    let spec = CipherSpec::from_text("aes-xts-plain64", 32).unwrap();
    let parameters =
        crate::kdf::Argon2 { variant: crate::kdf::Variant::Argon2id, passes: 1, memory_kib: 64, lanes: 2 };
    let mut slot_key = Key::new(vec![0; 32]);
    budget().argon2(&parameters, b"first", b"saltsalt", slot_key.as_mut_bytes()).unwrap();
    let mut area = af::split(Hash::Sha1, &volume_key(), 10, &mut Seeded(1)).unwrap().as_bytes().to_vec();
    area.resize(512, 0);
    SectorCipher::new(spec, &slot_key, SectorLen::B512).unwrap().encrypt(0, &mut area).unwrap();
    area
}

fn good() -> String {
    json(&volume_key(), b"digest salt")
}

fn open(header: &Header, passphrase: &str, limits: Limits) -> Result<Opened, UnlockError> {
    let passphrase = phrase(passphrase);
    let mut unlock = header.unlock(&passphrase, Budget::new(limits, &|| false));
    while let Some(area) = unlock.next_area() {
        assert!(area.len <= 4 << 20);
        let mut material = material();
        material.resize(area.len, 0);
        if let Some(opened) = unlock.offer(area, &material)? {
            return Ok(opened);
        }
    }
    Err(unlock.failed())
}

#[test]
fn a_volume_opens_by_its_passphrase() {
    let header = Header::parse(&headers(&good()), LEN).unwrap();
    assert_eq!((header.uuid(), header.label(), header.damaged_copy()), ("a uuid", "a label", None));
    let opened = open(&header, "first", Limits::default()).unwrap();
    assert_eq!((opened.slot, opened.key.as_bytes()), (1, volume_key().as_bytes()));
    assert_eq!(
        open(&header, "second", Limits::default()).unwrap_err(),
        UnlockError::WrongPassphrase(vec![1])
    );
    let [segment] = header.segments() else { panic!("one segment") };
    assert_eq!((segment.offset, segment.len, segment.first_sector), (OFFSET as u64, None, 7));
    assert_eq!(segment.cipher(&opened.key).unwrap().sector(), SectorLen::B4096);
}

#[test]
fn the_newer_sound_copy_counts() {
    let sequence = |first: Option<u64>, second: Option<u64>| {
        let json =
            |sequence: u64| good().replace("\"iv_tweak\":\"7\"", &format!("\"iv_tweak\":\"{sequence}\""));
        let make = |at: bool, sequence: Option<u64>| match sequence {
            Some(sequence) => copy(at, sequence, &json(sequence)),
            None => vec![1; COPY],
        };
        let header = Header::parse(&[make(false, first), make(true, second)].concat(), LEN)?;
        Ok((header.segments()[0].first_sector, header.damaged_copy()))
    };
    assert_eq!(sequence(Some(1), Some(2)), Ok((2, None)));
    assert_eq!(sequence(Some(2), Some(1)), Ok((2, None)));
    assert_eq!(sequence(Some(2), None), Ok((2, Some(CopyFault::Missing))));
    assert_eq!(sequence(None, Some(2)), Ok((2, Some(CopyFault::Missing))));
    assert_eq!(sequence(None, None), Err(HeaderError::Magic));

    let mut both = headers(&good());
    both[5000] ^= 1;
    assert_eq!(Header::parse(&both, LEN).unwrap().damaged_copy(), Some(CopyFault::Checksum));
    both[COPY + 5000] ^= 1;
    let damaged = HeaderError::BothDamaged { first: CopyFault::Checksum, second: CopyFault::Checksum };
    assert_eq!(Header::parse(&both, LEN).unwrap_err(), damaged);
    let cut = &headers(&good())[..COPY - 1];
    let damaged = HeaderError::BothDamaged { first: CopyFault::Length(16384), second: CopyFault::Missing };
    assert_eq!(Header::parse(cut, LEN).unwrap_err(), damaged);
    let mut moved = headers(&good());
    moved[263] = 1;
    seal(&mut moved[..COPY]);
    assert_eq!(Header::parse(&moved, LEN).unwrap().damaged_copy(), Some(CopyFault::Offset(1)));
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    let error = |from: &str, to: &str| {
        let json = good();
        assert!(json.contains(from), "{from}");
        Header::parse(&headers(&json.replace(from, to)), LEN).unwrap_err()
    };
    let config = "\"config\":{";
    let requirement = HeaderError::Requirement("online-reencrypt-v2".into());
    for list in [r#"{"mandatory":["online-reencrypt-v2"]}"#, r#"["online-reencrypt-v2"]"#] {
        assert_eq!(error(config, &format!("{config}\"requirements\":{list},")), requirement);
    }
    let kind = HeaderError::SegmentKind { segment: 0, kind: "linear".into() };
    assert_eq!(error("\"crypt\"", "\"linear\""), kind);
    assert_eq!(error("\"iv_tweak\"", "\"integrity\":{},\"iv_tweak\""), HeaderError::Integrity(0));
    let sector = HeaderError::Field("'sector_size' of segment 0".into());
    assert_eq!(error("\"sector_size\":4096", "\"sector_size\":8192"), sector);
    let at = |offset| HeaderError::SegmentOffset { segment: 0, offset };
    let offset = format!("\"offset\":\"{OFFSET}\"");
    assert_eq!(error(&offset, "\"offset\":\"16384\""), at(16384));
    assert_eq!(error(&offset, "\"offset\":\"1048577\""), at(1048577));
    assert_eq!(error(&offset, "\"offset\":\"18446744073709551104\""), at(18446744073709551104));
    assert_eq!(error("\"segments\":[\"0\"]", "\"segments\":[\"1\"]"), HeaderError::NoDigest(0));
    assert!(matches!(
        error("\"aes-xts-plain64\",\"sector", "\"idea-xts-plain64\",\"sector"),
        HeaderError::Cipher(_)
    ));
    assert!(matches!(error("{\"keyslots\"", "\"keyslots\""), HeaderError::Json(_)));
    assert_eq!(error("\"segments\":{", "\"segment\":{"), HeaderError::Field("'segments'".into()));
}

#[test]
fn a_slot_that_can_not_be_used_is_told_of() {
    for (from, to, why) in [
        ("\"argon2id\"", "\"scrypt\"", "scrypt"),
        (
            "\"memory\":64",
            "\"memory\":4294967295",
            "4398046510080 bytes of memory, and 1073741824 are allowed",
        ),
        ("\"time\":1", "\"time\":4294967295", "pass by pass"),
        ("\"stripes\":10", "\"stripes\":4000", "4000 stripes don't fit its area of 4096 bytes"),
        ("\"offset\":\"32768\"", "\"offset\":\"32767\"", "byte 32767 lies in the header"),
        ("\"type\":\"luks2\"", "\"type\":\"reencrypt\"", "'reencrypt'"),
        ("\"key_size\":32,\"af\"", "\"priority\":0,\"key_size\":32,\"af\"", "left alone"),
        ("\"hash\":\"sha1\"", "\"hash\":\"whirlpool\"", "whirlpool"),
    ] {
        let json = good();
        assert!(json.contains(from), "{from}");
        let header = Header::parse(&headers(&json.replace(from, to)), LEN).unwrap();
        let text = open(&header, "first", Limits::default()).unwrap_err().to_string();
        assert!(text.contains("not tried: slot 1: ") && text.contains(why), "{text}");
    }
}

proptest! {
    /// Whatever stands in place of some values, reading and trying a passphrase ends soon and never panics.
    #[test]
    fn mutated_metadata_is_read_or_refused(
        changes in prop::collection::vec(
            (0_usize..150, prop::sample::select(vec![
                "0", "1", "-1", "4294967295", "18446744073709551615", "", "[]", "{}", "null", "\"\"", "\"0\"",
                "\"18446744073709551615\"", "\"dynamic\"", "\"luks2\"", "\"pbkdf2\"", "\"AAAA\"", "[\"0\",\"1\"]", ",", "}",
            ])),
            1..4,
        ),
    ) {
        let json = good();
        // Cut into strings, numbers and what stands between.
        let mut pieces: Vec<String> = Vec::new();
        let mut quoted = false;
        for c in json.chars() {
            let joined = quoted || (c.is_ascii_digit() && pieces.last().is_some_and(|p| p.ends_with(|d: char| d.is_ascii_digit())));
            match pieces.last_mut() {
                Some(last) if joined => last.push(c),
                _ => pieces.push(c.into()),
            }
            quoted ^= c == '"';
        }
        let count = pieces.len();
        for (at, value) in changes {
            pieces[(at * 7) % count] = value.into();
        }
        if let Ok(header) = Header::parse(&headers(&pieces.concat()), LEN) {
            let limits = Limits { slot_rounds: 1000, rounds: 4000, memory: 1 << 20, memory_passes: 1 << 22 };
            let _ = open(&header, "first", limits);
        }
    }

    #[test]
    fn mutated_copies_are_read_or_refused(places in prop::collection::vec((0_usize..4200, any::<u8>()), 1..8), sealed in any::<bool>()) {
        let mut bytes = headers(&good());
        for (at, value) in places {
            bytes[at] = value;
            bytes[COPY + at] = value;
        }
        if sealed {
            seal(&mut bytes[..COPY]);
        }
        let _ = Header::parse(&bytes, LEN);
    }
}
