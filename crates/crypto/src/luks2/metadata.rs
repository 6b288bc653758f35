//! What a header says: segments, key slots and digests.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::json::{self, Value};
use super::{CopyFault, HeaderError, binary};
use crate::cipher::{CipherSpec, SectorCipher, SectorLen, SpecError};
use crate::hash::Hash;
use crate::kdf::{Argon2, Variant};
use crate::key::Key;

/// More stripes than this are damage: areas stay below 4 MiB.
const MAX_STRIPES: u32 = 1 << 16;
/// No volume key is longer, in bytes.
const MAX_KEY: usize = 64;
/// More key slots, segments or digests than this are damage.
const MOST_OBJECTS: usize = 32;

/// A range of the guest's disk, and how it is encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins in the file, in bytes; with a header in a file of its own often at 0.
    pub offset: u64,
    /// Its length in bytes, or `None` if it goes on to the file's end.
    pub len: Option<u64>,
    /// Number of its first sector, in units of 512 bytes.
    pub first_sector: u64,
    /// Its sectors.
    pub sector: SectorLen,
    /// Its cipher.
    pub spec: CipherSpec,
}

impl Segment {
    /// Its cipher under the volume key.
    pub fn cipher(&self, key: &Key) -> Result<SectorCipher, SpecError> {
        SectorCipher::new(self.spec, key, self.sector)
    }
}

/// How a slot's key is derived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kdf {
    Pbkdf2 { hash: Hash, iterations: u32 },
    Argon2(Argon2),
}

/// A key slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) number: u32,
    pub(super) prefer: bool,
    pub(super) key_len: usize,
    pub(super) stripes: u32,
    pub(super) af_hash: Hash,
    pub(super) offset: u64,
    pub(super) area_len: u64,
    pub(super) spec: CipherSpec,
    pub(super) kdf: Kdf,
    pub(super) salt: Vec<u8>,
}

/// Tells the volume key from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Digest {
    pub(super) hash: Hash,
    pub(super) iterations: u32,
    pub(super) salt: Vec<u8>,
    pub(super) digest: Vec<u8>,
}

/// A header that a volume can be opened by.
#[derive(Debug, Clone)]
pub struct Header {
    uuid: String,
    label: String,
    segments: Vec<Segment>,
    damaged_copy: Option<CopyFault>,
    /// The slots of the volume key, each as it is or with the reason why it can't be used.
    pub(super) slots: Vec<(u32, Result<Slot, String>)>,
    pub(super) digest: Digest,
}

impl Header {
    /// Reads the header at the start of `bytes`, the first [`super::HEADERS_LEN`] of a file of `len` bytes, or all of it.
    pub fn parse(bytes: &[u8], len: u64) -> Result<Header, HeaderError> {
        let (copy, damaged_copy) = binary::newest(bytes)?;
        let root = json::parse(copy.json)?;
        for name in ["keyslots", "segments", "digests"] {
            if root.get(name).is_none_or(|objects| objects.members().len() > MOST_OBJECTS) {
                return Err(HeaderError::Field(format!("'{name}'")));
            }
        }
        check_requirements(&root)?;
        let named = named_segments(&root)?;
        let Some((first, _)) = named.first() else { return Err(HeaderError::Field("'segments'".into())) };
        let (digest, bound) = digest_of(&root, *first)?;
        for (number, _) in &named {
            if digest_of(&root, *number)?.0 != digest {
                return Err(HeaderError::NoDigest(*number));
            }
        }
        let slots = slots(&root, &bound, copy.len * 2, len);
        let key_len = slots.iter().find_map(|(_, slot)| slot.as_ref().ok().map(|slot| slot.key_len));
        let key_len = key_len.or_else(|| stated_key_len(&root, &bound));
        let key_len = key_len.ok_or_else(|| HeaderError::Field("a key slot of the volume".into()))?;
        let segments = named
            .iter()
            .map(|(number, value)| segment(*number, value, key_len, copy.len * 2, len))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Header { uuid: copy.uuid.into(), label: copy.label.into(), segments, damaged_copy, slots, digest })
    }

    /// The volume's UUID.
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// The volume's label, which may be empty.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The guest's disk: these, one behind the other. There is at least one.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// What is wrong with the copy that was not used; worth a notice, and a repair by cryptsetup.
    pub fn damaged_copy(&self) -> Option<CopyFault> {
        self.damaged_copy
    }
}

/// A member that must be there, through `read`.
fn field<T>(
    of: &str,
    object: &Value,
    name: &str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<T, HeaderError> {
    object.get(name).and_then(read).ok_or_else(|| HeaderError::Field(format!("'{name}' of {of}")))
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    STANDARD.decode(value.text()?).ok()
}

fn text(value: &Value) -> Option<String> {
    value.text().map(str::to_string)
}

/// No requirement is known.
fn check_requirements(root: &Value) -> Result<(), HeaderError> {
    let requirements = root.get("config").and_then(|config| config.get("requirements"));
    let mandatory =
        requirements.and_then(|requirements| requirements.get("mandatory").or(Some(requirements)));
    match mandatory {
        None => Ok(()),
        Some(Value::Map(members)) if members.is_empty() => Ok(()),
        Some(list) => match list.texts().as_deref() {
            Some([]) => Ok(()),
            Some([first, ..]) => Err(HeaderError::Requirement((*first).into())),
            None => Err(HeaderError::Field("'requirements' of 'config'".into())),
        },
    }
}

/// The segments that are the guest's disk, in order; those that only remember how things were are left out.
fn named_segments(root: &Value) -> Result<Vec<(u32, &Value)>, HeaderError> {
    let all = root.get("segments").map(Value::members).unwrap_or_default();
    let mut segments = Vec::new();
    for (name, value) in all {
        let number = name.parse().map_err(|_| HeaderError::Field(format!("segment '{name}'")))?;
        let flags = value.get("flags").and_then(Value::texts).unwrap_or_default();
        if !flags.iter().any(|flag| flag.starts_with("backup-")) {
            segments.push((number, value));
        }
    }
    segments.sort_by_key(|(number, _)| *number);
    Ok(segments)
}

fn segment(
    number: u32,
    value: &Value,
    key_len: usize,
    headers_len: u64,
    len: u64,
) -> Result<Segment, HeaderError> {
    let of = format!("segment {number}");
    let kind = field(&of, value, "type", text)?;
    if kind != "crypt" {
        return Err(HeaderError::SegmentKind { segment: number, kind });
    }
    if value.get("integrity").is_some() {
        return Err(HeaderError::Integrity(number));
    }
    let offset = field(&of, value, "offset", Value::long)?;
    let inside_header = offset != 0 && offset < headers_len;
    if inside_header || offset > len || !offset.is_multiple_of(512) {
        return Err(HeaderError::SegmentOffset { segment: number, offset });
    }
    let sector = field(&of, value, "sector_size", |size| SectorLen::from_bytes(size.number()?.into()))?;
    let segment_len = field(&of, value, "size", |size| match size.text()? {
        "dynamic" => Some(None),
        _ => size.long().filter(|len| len.is_multiple_of(sector.bytes() as u64)).map(Some),
    })?;
    Ok(Segment {
        offset,
        len: segment_len,
        first_sector: field(&of, value, "iv_tweak", Value::long)?,
        sector,
        spec: CipherSpec::from_text(&field(&of, value, "encryption", text)?, key_len)?,
    })
}

/// The digest of a segment, and the key slots that hold its key.
fn digest_of(root: &Value, segment: u32) -> Result<(Digest, Vec<u32>), HeaderError> {
    let all = root.get("digests").map(Value::members).unwrap_or_default();
    let covers = |value: &Value| {
        let segments = value.get("segments").and_then(Value::texts).unwrap_or_default();
        segments.iter().any(|name| name.parse() == Ok(segment))
    };
    let (name, value) = all.iter().find(|(_, value)| covers(value)).ok_or(HeaderError::NoDigest(segment))?;
    let of = format!("digest {name}");
    let kind = field(&of, value, "type", text)?;
    if kind != "pbkdf2" {
        return Err(HeaderError::Field(format!("'type' of {of}")));
    }
    let numbers = |list: &Value| list.texts()?.into_iter().map(|name| name.parse().ok()).collect();
    let digest = Digest {
        hash: Hash::from_name(&field(&of, value, "hash", text)?)?,
        iterations: field(&of, value, "iterations", Value::number)?,
        salt: field(&of, value, "salt", bytes)?,
        digest: field(&of, value, "digest", |digest| {
            bytes(digest).filter(|bytes| (16..=64).contains(&bytes.len()))
        })?,
    };
    Ok((digest, field(&of, value, "keyslots", numbers)?))
}

/// The key slots that hold the volume key, those that are preferred first.
fn slots(root: &Value, bound: &[u32], headers_len: u64, len: u64) -> Vec<(u32, Result<Slot, String>)> {
    let all = root.get("keyslots").map(Value::members).unwrap_or_default();
    let mut slots: Vec<_> = all
        .iter()
        .filter_map(|(name, value)| Some((name.parse().ok()?, value)))
        .filter(|(number, _)| bound.contains(number))
        .map(|(number, value)| (number, slot(number, value, headers_len, len)))
        .collect();
    slots.sort_by_key(|(number, slot)| (!slot.as_ref().is_ok_and(|slot| slot.prefer), *number));
    slots
}

/// The length of the volume key by a slot that can't be used for other reasons.
fn stated_key_len(root: &Value, bound: &[u32]) -> Option<usize> {
    let all = root.get("keyslots").map(Value::members).unwrap_or_default();
    let (_, value) = all.iter().find(|(name, _)| name.parse().is_ok_and(|number| bound.contains(&number)))?;
    usize::try_from(value.get("key_size")?.number()?).ok()
}

fn slot(number: u32, value: &Value, headers_len: u64, len: u64) -> Result<Slot, String> {
    match value.get("type").and_then(Value::text) {
        Some("luks2") => {}
        kind => return Err(format!("its type is '{}', and only 'luks2' is known", kind.unwrap_or_default())),
    }
    if value.get("priority").and_then(Value::number) == Some(0) {
        return Err("it is marked to be left alone".into());
    }
    let slot = read_slot(number, value).map_err(|e| e.to_string())?;
    let needed = u64::from(slot.stripes) * slot.key_len as u64;
    let end = slot.offset.checked_add(slot.area_len);
    if !(1..=MAX_STRIPES).contains(&slot.stripes) || needed.next_multiple_of(512) > slot.area_len {
        return Err(format!("{} stripes don't fit its area of {} bytes", slot.stripes, slot.area_len));
    }
    if slot.offset < headers_len || end.is_none_or(|end| end > len) {
        let offset = slot.offset;
        return Err(format!("its key material at byte {offset} lies in the header, or beyond the end"));
    }
    Ok(slot)
}

fn read_slot(number: u32, value: &Value) -> Result<Slot, HeaderError> {
    let of = "it";
    let part = |name: &str| value.get(name).ok_or_else(|| HeaderError::Field(format!("'{name}' of {of}")));
    let (area, af, kdf) = (part("area")?, part("af")?, part("kdf")?);
    let size = |value: &Value| usize::try_from(value.number()?).ok();
    let key_len =
        field(of, value, "key_size", |value| size(value).filter(|len| (1..=MAX_KEY).contains(len)))?;
    let known = |object: &Value, name: &str, kind: &str| {
        field(of, object, name, |value| (value.text()? == kind).then_some(()))
    };
    known(area, "type", "raw")?;
    known(af, "type", "luks1")?;
    let salt = field(of, kdf, "salt", bytes)?;
    let argon2 = |variant| -> Result<Kdf, HeaderError> {
        Ok(Kdf::Argon2(Argon2 {
            variant,
            passes: field(of, kdf, "time", Value::number)?,
            memory_kib: field(of, kdf, "memory", Value::number)?,
            lanes: field(of, kdf, "cpus", Value::number)?,
        }))
    };
    let kdf = match field(of, kdf, "type", text)?.as_str() {
        "argon2i" => argon2(Variant::Argon2i)?,
        "argon2id" => argon2(Variant::Argon2id)?,
        "pbkdf2" => Kdf::Pbkdf2 {
            hash: Hash::from_name(&field(of, kdf, "hash", text)?)?,
            iterations: field(of, kdf, "iterations", Value::number)?,
        },
        kind => {
            return Err(HeaderError::Field(format!("a known type of key derivation instead of '{kind}'")));
        }
    };
    Ok(Slot {
        number,
        prefer: value.get("priority").and_then(Value::number) == Some(2),
        key_len,
        stripes: field(of, af, "stripes", Value::number)?,
        af_hash: Hash::from_name(&field(of, af, "hash", text)?)?,
        offset: field(of, area, "offset", Value::long)?,
        area_len: field(of, area, "size", Value::long)?,
        spec: CipherSpec::from_text(
            &field(of, area, "encryption", text)?,
            field(of, area, "key_size", size)?,
        )?,
        kdf,
        salt,
    })
}
