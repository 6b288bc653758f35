//! Headers of LUKS volumes, and passphrases tried on what they say.

use crypto::kdf::{Budget, Limits};
use crypto::luks::Unlock;
use crypto::luks1::{self, Iterations, Loss, NewSlot, NewVolume, Payload};
use crypto::random::{NoRandomness, Random};
use crypto::{CipherSpec, Hash, Key, luks2};
use sim::Rng;

/// Length of the volumes, in bytes.
const LEN: u64 = 4 << 20;
/// No key slot has a longer area, in bytes.
const MOST_MATERIAL: usize = 4 << 20;
/// Length of one copy of a LUKS2 header that is made here.
const COPY: usize = 16 << 10;

struct Seeded(Rng);

impl Random for Seeded {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), NoRandomness> {
        bytes.iter_mut().for_each(|byte| *byte = self.0.next_u64() as u8);
        Ok(())
    }
}

/// Few rounds and little memory: what asks for more is refused before it is begun.
fn budget() -> Budget<'static> {
    let limits = Limits { slot_rounds: 1 << 10, rounds: 1 << 12, memory: 1 << 20, memory_passes: 1 << 22 };
    Budget::new(limits, &|| false)
}

/// Tries every slot on material of zeroes. Laws: areas are whole sectors, and lie behind `headers` and inside the volume; no
/// slot opens, since a digest would have to be met by chance.
fn try_slots(mut unlock: Unlock<'_>, headers: u64) {
    while let Some(area) = unlock.next_area() {
        assert!(area.len.is_multiple_of(512) && area.len <= MOST_MATERIAL);
        assert!(area.offset >= headers && area.offset + area.len as u64 <= LEN);
        assert!(!matches!(unlock.offer(area, &vec![0; area.len]), Ok(Some(_))));
    }
    assert!(!unlock.failed().to_string().is_empty());
}

/// A LUKS1 header at the front of a volume. Laws, besides those of its slots: what adding or erasing a passphrase leaves is a
/// header again, is what the steps wrote, and has the other slots as they were.
pub fn luks1_header(input: &[u8]) {
    let Ok(header) = luks1::Header::parse(input, LEN) else { return };
    let passphrase = Key::new(b"passphrase".to_vec());
    try_slots(header.unlock(&passphrase, budget()), luks1::HEADER_LEN as u64);

    let key = Key::new(vec![1; header.spec().key_len()]);
    let new = NewSlot { key: &key, found_in: None, passphrase: &passphrase, iterations: 1 };
    let random = &mut Seeded(Rng::new(1));
    let added = header.add(&new, None, Loss::Refused, &mut budget(), random);
    let used = header.slots().iter().position(luks1::Slot::usable);
    let erased = used.map(|slot| header.erase(&[slot], Loss::Allowed, random));
    for change in [Some(added), erased].into_iter().flatten().flatten() {
        let again = luks1::Header::parse(change.header.as_bytes(), LEN);
        let again = again.map(|again| *again.as_bytes());
        assert_eq!(again.as_ref(), Ok(change.header.as_bytes()));
        let before = header.slots().iter().zip(change.header.slots());
        assert_eq!(before.filter(|(old, new)| old.salt != new.salt || old.active != new.active).count(), 1);
        let mut written = header.as_bytes().to_vec();
        for step in &change.steps {
            match step {
                crypto::Step::Write { offset, bytes } if *offset < luks1::HEADER_LEN as u64 => {
                    let at = usize::try_from(*offset).unwrap_or_default();
                    written.iter_mut().skip(at).zip(bytes).for_each(|(old, new)| *old = *new);
                }
                _ => {}
            }
        }
        assert_eq!(written, change.header.as_bytes());
    }
}

/// A new volume's header, by two ciphers.
pub fn luks1_seeds() -> Vec<Vec<u8>> {
    let header = |text: &str, key_len: usize| {
        let volume = NewVolume {
            spec: CipherSpec::from_text(text, key_len).ok()?,
            hash: Hash::Sha1,
            iterations: Iterations { slot: 2, digest: 2 },
            payload: Payload::Packed,
        };
        let random = &mut Seeded(Rng::new(7));
        let (_, change) = luks1::create(&volume, &Key::new(b"p".to_vec()), &mut budget(), random).ok()?;
        Some(change.header.as_bytes().to_vec())
    };
    [header("aes-xts-plain64", 32), header("cast5-cbc-plain64", 16)].into_iter().flatten().collect()
}

/// The front of a LUKS2 volume: as it is if it begins as one, or else the JSON of a copy that is sound.
pub fn luks2_header(input: &[u8]) {
    let made = if input.starts_with(b"{") { sound_copy(input) } else { input.to_vec() };
    let Ok(header) = luks2::Header::parse(&made, LEN) else { return };
    assert!(!header.segments().is_empty());
    assert!(header.segments().iter().all(|segment| segment.offset <= LEN));
    let passphrase = Key::new(b"passphrase".to_vec());
    try_slots(header.unlock(&passphrase, budget()), 2 * COPY as u64);
}

/// The first copy of a header with this JSON; the second one is not there.
fn sound_copy(json: &[u8]) -> Vec<u8> {
    let mut copy = vec![0; COPY];
    let mut put = |at: usize, field: &[u8]| {
        copy.iter_mut().skip(at).zip(field).for_each(|(byte, new)| *byte = *new);
    };
    put(0, b"LUKS\xba\xbe\0\x02");
    put(8, &(COPY as u64).to_be_bytes());
    put(72, b"sha256");
    put(4096, json);
    let mut digest = [0; 32];
    Hash::Sha256.digest(&[&copy], &mut digest);
    copy.iter_mut().skip(448).zip(digest).for_each(|(byte, new)| *byte = new);
    copy
}

/// The JSON of a volume with a slot of each kind, and a whole copy of its header.
pub fn luks2_seeds() -> Vec<Vec<u8>> {
    let json = br#"{"keyslots":{"0":{"type":"luks2","key_size":32,"af":{"type":"luks1","stripes":4,"hash":"sha1"},
"area":{"type":"raw","offset":"32768","size":"4096","encryption":"aes-xts-plain64","key_size":32},
"kdf":{"type":"argon2id","time":1,"memory":64,"cpus":2,"salt":"c2FsdHNhbHQ="}},
"1":{"type":"luks2","key_size":32,"priority":2,"af":{"type":"luks1","stripes":4,"hash":"sha256"},
"area":{"type":"raw","offset":"36864","size":"4096","encryption":"aes-xts-plain64","key_size":32},
"kdf":{"type":"pbkdf2","hash":"sha256","iterations":10,"salt":"c2FsdHNhbHQ="}}},"tokens":{},
"segments":{"0":{"type":"crypt","offset":"1048576","size":"dynamic","iv_tweak":"0","encryption":"aes-xts-plain64",
"sector_size":4096}},"digests":{"0":{"type":"pbkdf2","keyslots":["0","1"],"segments":["0"],"hash":"sha256",
"iterations":10,"salt":"c2FsdHNhbHQ=","digest":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}},
"config":{"json_size":"12288","keyslots_size":"131072","requirements":{"mandatory":[]}}}"#;
    vec![json.to_vec(), sound_copy(json)]
}
