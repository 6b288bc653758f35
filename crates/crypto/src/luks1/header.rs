//! The header as bytes and as what it says.

use std::ops::Range;

use super::{HEADER_LEN, SECTOR, SLOTS};
use crate::cipher::{CipherSpec, SpecError};
use crate::hash::{Hash, UnknownHash};
use crate::luks::MAGIC;

const ACTIVE: u32 = 0x00ac_71f3;
const FREE: u32 = 0x0000_dead;
/// More stripes than this are damage: areas stay below 4 MiB.
const MAX_STRIPES: u32 = 1 << 16;
/// Where the slots begin, and how long each is.
const SLOTS_AT: usize = 208;
const SLOT_LEN: usize = 48;

const CIPHER: Range<usize> = 8..40;
const MODE: Range<usize> = 40..72;
const HASH: Range<usize> = 72..104;
const PAYLOAD_AT: usize = 104;
const KEY_LEN_AT: usize = 108;
const DIGEST: Range<usize> = 112..132;
const DIGEST_SALT: Range<usize> = 132..164;
const DIGEST_ITERATIONS_AT: usize = 164;
const UUID: Range<usize> = 168..208;

/// A header that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Too few bytes.
    #[error("a LUKS1 header has 592 bytes, and there are only {0}")]
    TooShort(usize),
    /// No LUKS at all.
    #[error("this is no LUKS header: its first bytes are others")]
    Magic,
    /// Another version.
    #[error("LUKS version {0} is not known as version 1")]
    Version(u16),
    /// A name that is not text.
    #[error("the LUKS header is damaged: its {field} at byte {at} is not text")]
    Text {
        /// Which name.
        field: &'static str,
        /// Where it stands, in bytes.
        at: usize,
    },
    /// The cipher is not known, or damaged.
    #[error("the volume can't be opened: {0}")]
    Cipher(#[from] SpecError),
    /// The hash is not known, or damaged.
    #[error("the volume can't be opened: {0}")]
    Hash(#[from] UnknownHash),
    /// The guest's data would begin inside the header.
    #[error("the LUKS header is damaged: its payload begins at byte {0}, inside the header")]
    PayloadInside(u64),
    /// The guest's data would begin behind the end.
    #[error(
        "the LUKS header is damaged, or the file is cut off: the payload begins at byte {offset}, and there are {len}"
    )]
    PayloadOutside {
        /// Where the payload begins.
        offset: u64,
        /// How many bytes there are.
        len: u64,
    },
    /// No volume key can be checked.
    #[error("the LUKS header is damaged: the digest of the volume key has no iterations")]
    NoIterations,
}

/// Why a slot can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlotFault {
    /// Neither active nor free.
    #[error("its state is {0:#x}")]
    State(u32),
    /// Too many, or none.
    #[error("it has {0} stripes")]
    Stripes(u32),
    /// No iterations.
    #[error("it has no iterations")]
    NoIterations,
    /// Its area begins inside the header.
    #[error("its key material begins at byte {0}, inside the header")]
    InsideHeader(u64),
    /// Its area reaches into the payload.
    #[error("its key material ends at byte {end}, inside the payload that begins at {payload}")]
    InsidePayload {
        /// Where the area ends.
        end: u64,
        /// Where the payload begins.
        payload: u64,
    },
    /// Its area reaches beyond the end.
    #[error("its key material ends at byte {end}, and there are {len}")]
    Outside {
        /// Where the area ends.
        end: u64,
        /// How many bytes there are.
        len: u64,
    },
    /// Its area is another one's as well.
    #[error("its key material lies over that of slot {0}")]
    Overlap(usize),
}

/// A key slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Whether it holds the volume key.
    pub active: bool,
    /// Iterations of PBKDF2.
    pub iterations: u32,
    /// Salt of PBKDF2.
    pub salt: [u8; 32],
    /// Where its area begins, in bytes.
    pub offset: u64,
    /// Stripes of the split key.
    pub stripes: u32,
    /// What is wrong with it; such a slot is neither tried nor written.
    pub fault: Option<SlotFault>,
}

impl Slot {
    /// Whether a passphrase may open it.
    pub fn usable(&self) -> bool {
        self.active && self.fault.is_none()
    }
}

/// A header whose cipher is known.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    raw: [u8; HEADER_LEN],
    /// How many bytes there are, header, areas and payload together.
    len: u64,
    spec: CipherSpec,
    hash: Hash,
    uuid: String,
    slots: [Slot; SLOTS],
}

impl Header {
    /// Reads the header at the start of `bytes`. `len` is the length of what it stands in: the file, or qcow2's area.
    pub fn parse(bytes: &[u8], len: u64) -> Result<Header, HeaderError> {
        let raw: [u8; HEADER_LEN] = bytes
            .get(..HEADER_LEN)
            .and_then(|raw| raw.try_into().ok())
            .ok_or(HeaderError::TooShort(bytes.len()))?;
        if !raw.starts_with(&MAGIC) {
            return Err(HeaderError::Magic);
        }
        let version = u16::from_be_bytes(array(&raw, 6));
        if version != 1 {
            return Err(HeaderError::Version(version));
        }
        let key_len = usize::try_from(u32_at(&raw, KEY_LEN_AT)).unwrap_or(usize::MAX);
        let (cipher, mode) = (text(&raw, CIPHER, "cipher name")?, text(&raw, MODE, "cipher mode")?);
        let spec = CipherSpec::from_names(cipher, mode, key_len)?;
        let hash = Hash::from_name(text(&raw, HASH, "hash name")?)?;
        let uuid = text(&raw, UUID, "UUID")?.to_string();
        let slots = std::array::from_fn(|number| slot_at(&raw, number));
        let mut header = Header { raw, len, spec, hash, uuid, slots };
        header.check()?;
        Ok(header)
    }

    /// Checks the payload, which must be right, and finds the faults of slots.
    fn check(&mut self) -> Result<(), HeaderError> {
        let payload = self.payload_offset();
        if payload != 0 && payload < HEADER_LEN as u64 {
            return Err(HeaderError::PayloadInside(payload));
        }
        if payload > self.len {
            return Err(HeaderError::PayloadOutside { offset: payload, len: self.len });
        }
        if self.digest_iterations() == 0 {
            return Err(HeaderError::NoIterations);
        }
        let alone: Vec<_> = self.slots.iter().map(|slot| self.fault_alone(slot)).collect();
        for (slot, fault) in self.slots.iter_mut().zip(alone) {
            slot.fault = slot.fault.take().or(fault);
        }
        let overlaps: [_; SLOTS] = std::array::from_fn(|number| self.overlap(number));
        for (slot, other) in self.slots.iter_mut().zip(overlaps) {
            slot.fault = slot.fault.take().or(other.map(SlotFault::Overlap));
        }
        Ok(())
    }

    /// What is wrong with a slot whatever the others are.
    fn fault_alone(&self, slot: &Slot) -> Option<SlotFault> {
        let payload = self.payload_offset();
        let end = slot.offset + self.area_len(slot);
        if !(1..=MAX_STRIPES).contains(&slot.stripes) {
            Some(SlotFault::Stripes(slot.stripes))
        } else if slot.active && slot.iterations == 0 {
            Some(SlotFault::NoIterations)
        } else if slot.offset < HEADER_LEN as u64 {
            Some(SlotFault::InsideHeader(slot.offset))
        } else if payload != 0 && end > payload {
            Some(SlotFault::InsidePayload { end, payload })
        } else if slot.active && end > self.len {
            Some(SlotFault::Outside { end, len: self.len })
        } else {
            None
        }
    }

    /// The slot that this one's area lies over. An active one yields to no free one, and none to one that is damaged
    /// itself: what that says of its area means nothing.
    fn overlap(&self, number: usize) -> Option<usize> {
        let slot = self.slots.get(number)?;
        let range = |slot: &Slot| slot.offset..slot.offset + self.area_len(slot);
        let own = range(slot);
        self.slots.iter().enumerate().find_map(|(other_number, other)| {
            let area = range(other);
            let over = area.start < own.end && own.start < area.end;
            let counts = other_number != number && other.fault.is_none() && (other.active || !slot.active);
            (over && counts).then_some(other_number)
        })
    }

    /// Length of a slot's area in bytes: the split key, filled up to whole sectors.
    pub(super) fn area_len(&self, slot: &Slot) -> u64 {
        (u64::from(slot.stripes) * self.spec.key_len() as u64).next_multiple_of(SECTOR)
    }

    /// What the volume is encrypted with.
    pub fn spec(&self) -> &CipherSpec {
        &self.spec
    }

    /// The hash of PBKDF2 and of the splitter.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// The volume's UUID.
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// Where the payload begins, in bytes; 0 if it lies in another file, all of it.
    pub fn payload_offset(&self) -> u64 {
        u64::from(u32_at(&self.raw, PAYLOAD_AT)) * SECTOR
    }

    /// Iterations of the volume key's digest.
    pub fn digest_iterations(&self) -> u32 {
        u32_at(&self.raw, DIGEST_ITERATIONS_AT)
    }

    pub(super) fn digest(&self) -> [u8; 20] {
        array(&self.raw, DIGEST.start)
    }

    pub(super) fn digest_salt(&self) -> [u8; 32] {
        array(&self.raw, DIGEST_SALT.start)
    }

    /// The key slots.
    pub fn slots(&self) -> &[Slot; SLOTS] {
        &self.slots
    }

    /// The header as it is on disk.
    pub fn as_bytes(&self) -> &[u8; HEADER_LEN] {
        &self.raw
    }

    /// The same header with another slot, or `None` if there is no such slot.
    pub(super) fn with_slot(&self, number: usize, slot: &Slot) -> Option<Header> {
        let mut new = self.clone();
        let at = SLOTS_AT + number.checked_mul(SLOT_LEN)?;
        let field = new.raw.get_mut(at..at + SLOT_LEN)?;
        field.copy_from_slice(&slot_bytes(slot));
        *new.slots.get_mut(number)? = slot.clone();
        Some(new)
    }
}

/// Never shows digests and salts.
impl std::fmt::Debug for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Header({}, {}, {})", self.spec, self.hash, self.uuid)
    }
}

/// What a new header says.
pub(super) struct Fields<'a> {
    pub(super) spec: &'a CipherSpec,
    pub(super) hash: Hash,
    pub(super) payload_offset: u32,
    pub(super) digest: &'a [u8],
    pub(super) digest_salt: &'a [u8],
    pub(super) digest_iterations: u32,
    pub(super) uuid: &'a str,
    pub(super) slots: &'a [Slot],
}

impl Fields<'_> {
    pub(super) fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut raw = [0; HEADER_LEN];
        let mut put = |at: usize, bytes: &[u8]| {
            raw.iter_mut().skip(at).zip(bytes).for_each(|(target, byte)| *target = *byte);
        };
        put(0, &MAGIC);
        put(6, &1_u16.to_be_bytes());
        put(CIPHER.start, self.spec.algorithm().family().as_bytes());
        put(MODE.start, self.spec.mode_name().as_bytes());
        put(HASH.start, self.hash.name().as_bytes());
        put(PAYLOAD_AT, &self.payload_offset.to_be_bytes());
        put(KEY_LEN_AT, &(self.spec.key_len() as u32).to_be_bytes());
        put(DIGEST.start, self.digest);
        put(DIGEST_SALT.start, self.digest_salt);
        put(DIGEST_ITERATIONS_AT, &self.digest_iterations.to_be_bytes());
        put(UUID.start, self.uuid.as_bytes());
        for (number, slot) in self.slots.iter().enumerate() {
            put(SLOTS_AT + number * SLOT_LEN, &slot_bytes(slot));
        }
        raw
    }
}

fn slot_bytes(slot: &Slot) -> [u8; SLOT_LEN] {
    let sector = u32::try_from(slot.offset / SECTOR).unwrap_or(u32::MAX);
    let state = if slot.active { ACTIVE } else { FREE };
    let mut bytes = [0; SLOT_LEN];
    let fields: [&[u8]; 5] = [
        &state.to_be_bytes(),
        &slot.iterations.to_be_bytes(),
        &slot.salt,
        &sector.to_be_bytes(),
        &slot.stripes.to_be_bytes(),
    ];
    bytes.iter_mut().zip(fields.concat()).for_each(|(target, byte)| *target = byte);
    bytes
}

fn slot_at(raw: &[u8; HEADER_LEN], number: usize) -> Slot {
    let at = SLOTS_AT + number * SLOT_LEN;
    let state = u32_at(raw, at);
    Slot {
        active: state == ACTIVE,
        iterations: u32_at(raw, at + 4),
        salt: array(raw, at + 8),
        offset: u64::from(u32_at(raw, at + 40)) * SECTOR,
        stripes: u32_at(raw, at + 44),
        fault: (state != ACTIVE && state != FREE).then_some(SlotFault::State(state)),
    }
}

/// `N` bytes at `at`, which the callers' constants keep inside the header.
fn array<const N: usize>(raw: &[u8; HEADER_LEN], at: usize) -> [u8; N] {
    raw.get(at..at + N).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
}

fn u32_at(raw: &[u8; HEADER_LEN], at: usize) -> u32 {
    u32::from_be_bytes(array(raw, at))
}

/// A text that ends at its first zero byte: visible ASCII, and not all of the field.
fn text<'a>(
    raw: &'a [u8; HEADER_LEN],
    range: Range<usize>,
    field: &'static str,
) -> Result<&'a str, HeaderError> {
    let fault = HeaderError::Text { field, at: range.start };
    let bytes = raw.get(range).unwrap_or_default();
    let Some(end) = bytes.iter().position(|byte| *byte == 0) else { return Err(fault) };
    let bytes = bytes.get(..end).unwrap_or_default();
    if !bytes.iter().all(u8::is_ascii_graphic) {
        return Err(fault);
    }
    std::str::from_utf8(bytes).map_err(|_| fault)
}
