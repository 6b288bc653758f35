//! New volumes, and changes of key slots, as steps in a safe order.

use std::time::Duration;

use super::header::{Fields, Header, HeaderError, Slot, SlotFault};
use super::{SECTOR, SLOTS, STRIPES};
use crate::cipher::{CipherError, CipherSpec, SectorCipher, SectorLen, SpecError};
use crate::hash::Hash;
use crate::kdf::{self, Budget, KdfError, Limits, MIN_ITERATIONS};
use crate::key::Key;
use crate::plan::Step;
use crate::random::{NoRandomness, Random};
use crate::{af, random};

/// Areas of slots begin at multiples of this, the first one at one of it.
const ALIGNMENT: u64 = 4096;
const DIGEST_LEN: usize = 20;

/// Where the guest's sectors go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// Right behind the last slot's area, as QEMU lays volumes out.
    Packed,
    /// At the next multiple of so many bytes, itself one of 512; cryptsetup takes 1 MiB.
    Aligned(u64),
    /// Into another file, from its start.
    Detached,
}

/// Iterations of PBKDF2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Iterations {
    /// For a slot.
    pub slot: u32,
    /// For the digest of the volume key. An attacker without a passphrase guesses a random key there, so few will do.
    pub digest: u32,
}

/// What a new volume shall be.
#[derive(Debug, Clone, Copy)]
pub struct NewVolume {
    /// Its cipher.
    pub spec: CipherSpec,
    /// Its hash.
    pub hash: Hash,
    /// Its iterations.
    pub iterations: Iterations,
    /// Where its payload goes.
    pub payload: Payload,
}

/// What a slot is to hold.
#[derive(Debug, Clone, Copy)]
pub struct NewSlot<'a> {
    /// The volume key, as [`crate::luks::Unlock`] finds it.
    pub key: &'a Key,
    /// The slot in which it was found, if that is known.
    pub found_in: Option<usize>,
    /// The passphrase that shall open it.
    pub passphrase: &'a Key,
    /// Iterations of PBKDF2.
    pub iterations: u32,
}

/// Whether a change may take away what nothing brings back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// A slot in use is not overwritten, and the last one not erased.
    Refused,
    /// The user forces it.
    Allowed,
}

/// A change of the header.
#[derive(Debug)]
pub struct Change {
    /// The header when all steps are done.
    pub header: Header,
    /// What to write; offsets count from the header's start.
    pub steps: Vec<Step>,
}

impl Change {
    /// Another change behind this one.
    fn then(self, next: impl FnOnce(&Header) -> Result<Change, ChangeError>) -> Result<Change, ChangeError> {
        let Change { header, steps } = next(&self.header)?;
        Ok(Change { header, steps: self.steps.into_iter().chain(steps).collect() })
    }
}

/// A change that is not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// There are slots 0 to 7.
    #[error("there is no key slot {0}; they are 0 to 7")]
    NoSuchSlot(usize),
    /// All slots are active, or damaged.
    #[error("all eight key slots are in use; erase one first")]
    AllInUse,
    /// The slot has a passphrase.
    #[error("key slot {0} is in use; erase it first, or force it to be overwritten")]
    InUse(usize),
    /// It may be the only one that its owner has a passphrase for, and the new one can't be put anywhere else first.
    #[error(
        "key slot {0} is not overwritten: a power cut meanwhile could lock its owner out, for no other slot is free to hold \
         the new passphrase until then; erase another slot first, or use a passphrase of another slot"
    )]
    NoSpare(usize),
    /// The slot has none.
    #[error("key slot {0} is not in use")]
    NotInUse(usize),
    /// No slot would be left.
    #[error(
        "nothing could ever open the volume again without key slot {0}, the last one; force it if you mean it"
    )]
    Last(usize),
    /// The slot is damaged.
    #[error("key slot {slot} is damaged: {fault}")]
    Damaged {
        /// Which slot.
        slot: usize,
        /// What is wrong with it.
        fault: SlotFault,
    },
    /// The payload would begin at no sector, or too far away.
    #[error("the payload can't be aligned to {0} bytes")]
    Alignment(u64),
    /// Key derivation failed.
    #[error(transparent)]
    Kdf(#[from] KdfError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] NoRandomness),
    /// The key does not fit the cipher.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The cipher failed.
    #[error(transparent)]
    Cipher(#[from] CipherError),
    /// The new header is none.
    #[error(transparent)]
    Header(#[from] HeaderError),
}

/// Iterations that take `time` for a slot here, and an eighth of it for the digest ([`kdf::calibrate`]).
pub fn calibrate(
    spec: &CipherSpec,
    hash: Hash,
    time: Option<Duration>,
    limits: &Limits,
    clock: &mut dyn FnMut() -> Duration,
) -> Result<Iterations, KdfError> {
    let slot = kdf::calibrate(hash, spec.key_len(), time, limits, clock)?;
    let digest = u64::from(slot) * kdf::blocks(hash, spec.key_len()) / kdf::blocks(hash, DIGEST_LEN) / 8;
    let digest = u32::try_from(digest).unwrap_or(u32::MAX).max(MIN_ITERATIONS);
    Ok(Iterations { slot, digest })
}

fn area_len(spec: &CipherSpec) -> u64 {
    (u64::from(STRIPES) * spec.key_len() as u64).next_multiple_of(ALIGNMENT)
}

/// Bytes of the header and the areas of all slots of a new volume.
pub fn header_len(spec: &CipherSpec) -> u64 {
    ALIGNMENT + area_len(spec) * SLOTS as u64
}

/// A new volume with a new volume key, and slot 0 for `passphrase`. The header goes last: what is not ready is no
/// volume. The file is as long as header, areas and payload when the steps are done, and may have to grow for them.
pub fn create(
    new: &NewVolume,
    passphrase: &Key,
    budget: &mut Budget<'_>,
    random: &mut dyn Random,
) -> Result<(Key, Change), ChangeError> {
    let NewVolume { spec, hash, iterations, payload } = new;
    let area = area_len(spec);
    let slots: [Slot; SLOTS] = std::array::from_fn(|number| free_slot(ALIGNMENT + area * number as u64));
    let end = header_len(spec);
    let payload = match payload {
        Payload::Packed => end,
        Payload::Aligned(to) if *to > 0 && to.is_multiple_of(SECTOR) => {
            end.checked_next_multiple_of(*to).ok_or(ChangeError::Alignment(*to))?
        }
        Payload::Aligned(to) => return Err(ChangeError::Alignment(*to)),
        Payload::Detached => 0,
    };
    let mut key = Key::zeroed(spec.key_len());
    random.fill(key.as_mut_bytes())?;
    let (mut digest_salt, mut digest) = ([0; 32], [0; DIGEST_LEN]);
    random.fill(&mut digest_salt)?;
    budget.pbkdf2(*hash, key.as_bytes(), &digest_salt, iterations.digest, &mut digest)?;
    let fields = Fields {
        spec,
        hash: *hash,
        payload_offset: u32::try_from(payload / SECTOR).map_err(|_| ChangeError::Alignment(payload))?,
        digest: &digest,
        digest_salt: &digest_salt,
        digest_iterations: iterations.digest,
        uuid: &random::uuid(random)?,
        slots: &slots,
    };
    let empty = Header::parse(&fields.to_bytes(), payload.max(end))?;
    let first = NewSlot { key: &key, found_in: None, passphrase, iterations: iterations.slot };
    let (slot, area) = fill_slot(&empty, 0, &first, budget, random)?;
    let header = empty.with_slot(0, &slot).ok_or(ChangeError::NoSuchSlot(0))?;
    let mut whole = header.as_bytes().to_vec();
    whole.resize(ALIGNMENT as usize, 0);
    let steps = vec![area, Step::Flush, Step::write(0, whole), Step::Flush];
    Ok((key, Change { header, steps }))
}

impl Header {
    /// Gives the volume another passphrase: in `slot`, or in the first free one. A slot in use is overwritten only where
    /// loss is allowed. The key was found in another slot, which stays as it is; or else the new passphrase is put into a
    /// free slot as well until the change is done.
    pub fn add(
        &self,
        new: &NewSlot<'_>,
        slot: Option<usize>,
        loss: Loss,
        budget: &mut Budget<'_>,
        random: &mut dyn Random,
    ) -> Result<Change, ChangeError> {
        let number = match slot {
            Some(number) => number,
            None => self.first_free().ok_or(ChangeError::AllInUse)?,
        };
        let in_use = self.sound_slot(number)?.active;
        if in_use && loss == Loss::Refused {
            return Err(ChangeError::InUse(number));
        }
        if !in_use {
            return self.fill(number, new, budget, random);
        }
        if new.found_in.is_some_and(|found_in| found_in != number) {
            return self.overwrite(number, new, budget, random);
        }
        let spare = self.first_free().ok_or(ChangeError::NoSpare(number))?;
        self.fill(spare, new, budget, random)?
            .then(|header| header.overwrite(number, new, budget, random))?
            .then(|header| header.erase(&[spare], Loss::Refused, random))
    }

    /// Frees a slot, then fills it.
    fn overwrite(
        &self,
        number: usize,
        new: &NewSlot<'_>,
        budget: &mut Budget<'_>,
        random: &mut dyn Random,
    ) -> Result<Change, ChangeError> {
        let header = self.freed(number)?;
        let steps = self.steps_to(&header);
        Change { header, steps }.then(|header| header.fill(number, new, budget, random))
    }

    /// Fills a slot that is free: its area first.
    fn fill(
        &self,
        number: usize,
        new: &NewSlot<'_>,
        budget: &mut Budget<'_>,
        random: &mut dyn Random,
    ) -> Result<Change, ChangeError> {
        let (slot, area) = fill_slot(self, number, new, budget, random)?;
        let header = self.with_slot(number, &slot).ok_or(ChangeError::NoSuchSlot(number))?;
        let mut steps = vec![area, Step::Flush];
        steps.extend(self.steps_to(&header));
        Ok(Change { header, steps })
    }

    /// Takes the passphrases of `slots` away: their areas are overwritten, then the header frees them. The last slot
    /// goes only where loss is allowed, and the volume's content with it.
    pub fn erase(&self, slots: &[usize], loss: Loss, random: &mut dyn Random) -> Result<Change, ChangeError> {
        let mut header = self.clone();
        let mut steps = Vec::new();
        for &number in slots {
            let slot = self.sound_slot(number)?;
            if !slot.active {
                return Err(ChangeError::NotInUse(number));
            }
            let mut noise = vec![0; usize::try_from(self.area_len(slot)).unwrap_or(0)];
            random.fill(&mut noise)?;
            steps.push(Step::write(slot.offset, noise));
            header = header.freed(number)?;
        }
        let opens = header.slots().iter().any(Slot::usable);
        if let (Some(last), Loss::Refused, false) = (slots.last(), loss, opens) {
            return Err(ChangeError::Last(*last));
        }
        steps.push(Step::Flush);
        steps.extend(self.steps_to(&header));
        Ok(Change { header, steps })
    }

    /// Puts a passphrase in the place of those of the `old` slots: it gets a free slot, and only when that is durable
    /// are the old ones erased. Without a free slot nothing is done.
    pub fn replace(
        &self,
        new: &NewSlot<'_>,
        old: &[usize],
        budget: &mut Budget<'_>,
        random: &mut dyn Random,
    ) -> Result<Change, ChangeError> {
        self.add(new, None, Loss::Refused, budget, random)?
            .then(|header| header.erase(old, Loss::Refused, random))
    }

    fn first_free(&self) -> Option<usize> {
        self.slots().iter().position(|slot| !slot.active && slot.fault.is_none())
    }

    /// A slot that is there and not damaged.
    fn sound_slot(&self, number: usize) -> Result<&Slot, ChangeError> {
        let slot = self.slots().get(number).ok_or(ChangeError::NoSuchSlot(number))?;
        match &slot.fault {
            Some(fault) => Err(ChangeError::Damaged { slot: number, fault: fault.clone() }),
            None => Ok(slot),
        }
    }

    fn freed(&self, number: usize) -> Result<Header, ChangeError> {
        let slot = self.sound_slot(number)?;
        let free = Slot { stripes: slot.stripes, ..free_slot(slot.offset) };
        self.with_slot(number, &free).ok_or(ChangeError::NoSuchSlot(number))
    }

    /// Writes what differs in a new header, its second sector first: a slot that lies across both, slot 6, has its salt
    /// there before its state in the first sector makes it active. Each sector is either old or new after a power cut.
    fn steps_to(&self, new: &Header) -> Vec<Step> {
        let sector = SECTOR as usize;
        let (old_first, old_second) = self.as_bytes().split_at(sector);
        let (new_first, new_second) = new.as_bytes().split_at(sector);
        let mut steps = Vec::new();
        if old_second != new_second {
            steps.extend([Step::write(SECTOR, new_second), Step::Flush]);
        }
        if old_first != new_first {
            steps.extend([Step::write(0, new_first), Step::Flush]);
        }
        steps
    }
}

fn free_slot(offset: u64) -> Slot {
    Slot { active: false, iterations: 0, salt: [0; 32], offset, stripes: STRIPES, fault: None }
}

/// A slot with the volume key under a passphrase, and the step that writes its area.
fn fill_slot(
    header: &Header,
    number: usize,
    new: &NewSlot<'_>,
    budget: &mut Budget<'_>,
    random: &mut dyn Random,
) -> Result<(Slot, Step), ChangeError> {
    let old = header.sound_slot(number)?;
    let mut slot = Slot { active: true, iterations: new.iterations, ..old.clone() };
    random.fill(&mut slot.salt)?;
    let mut slot_key = Key::zeroed(header.spec().key_len());
    let passphrase = new.passphrase.as_bytes();
    budget.pbkdf2(header.hash(), passphrase, &slot.salt, slot.iterations, slot_key.as_mut_bytes())?;
    let cipher = SectorCipher::new(*header.spec(), &slot_key, SectorLen::B512)?;
    let split = af::split(header.hash(), new.key, usize::try_from(slot.stripes).unwrap_or(0), random)?;
    let mut area = Key::zeroed(usize::try_from(header.area_len(&slot)).unwrap_or(0));
    area.as_mut_bytes().iter_mut().zip(split.as_bytes()).for_each(|(area, byte)| *area = *byte);
    cipher.encrypt(0, area.as_mut_bytes())?;
    let step = Step::write(slot.offset, area.as_bytes());
    Ok((slot, step))
}
