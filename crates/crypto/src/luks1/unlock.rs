//! The volume key by a passphrase.

use super::header::Header;
use crate::af;
use crate::cipher::{SectorCipher, SectorLen, SpecError};
use crate::kdf::{Budget, KdfError};
use crate::key::{Key, same};

/// An area that is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Area {
    /// The slot it is of.
    pub slot: usize,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub len: usize,
}

/// A slot that the passphrase opens.
#[derive(Debug, Clone)]
pub struct Opened {
    /// Which slot.
    pub slot: usize,
    /// The volume key.
    pub key: Key,
}

/// Why no volume key was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnlockError {
    /// No slot is active.
    #[error("the volume can't be opened any more: none of its key slots is active")]
    NoSlot,
    /// The passphrase is another one.
    #[error("the passphrase is wrong: it opens none of the key slots {}", numbers(.0))]
    WrongPassphrase(Vec<usize>),
    /// The passphrase is another one, or is one of a slot that was not tried.
    #[error(
        "the passphrase opens none of the key slots{}; not tried: {}",
        tried_numbers(tried),
        reasons(passed_over)
    )]
    PassedOver {
        /// Slots that it does not open.
        tried: Vec<usize>,
        /// Slots that were not tried, and why not.
        passed_over: Vec<(usize, String)>,
    },
    /// The caller asked to stop.
    #[error("opening the volume was stopped")]
    Stopped,
}

fn numbers(slots: &[usize]) -> String {
    slots.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

fn tried_numbers(slots: &[usize]) -> String {
    if slots.is_empty() { " that could be tried".into() } else { format!(" {}", numbers(slots)) }
}

fn reasons(slots: &[(usize, String)]) -> String {
    slots.iter().map(|(slot, why)| format!("slot {slot}: {why}")).collect::<Vec<_>>().join("; ")
}

/// Tries a passphrase on one slot after the other. The caller reads the areas:
///
/// ```no_run
/// # use crypto::{Key, kdf::Budget, luks1::*};
/// # fn read(area: Area) -> Vec<u8> { vec![0; area.len] }
/// # fn open(header: &Header, passphrase: &Key, budget: Budget) -> Result<Opened, UnlockError> {
/// let mut unlock = Unlock::new(header, passphrase, budget);
/// while let Some(area) = unlock.next_area() {
///     if let Some(opened) = unlock.offer(area, &read(area))? {
///         return Ok(opened);
///     }
/// }
/// Err(unlock.failed())
/// # }
/// ```
///
/// Whoever goes on after a slot has opened finds all that the passphrase opens.
pub struct Unlock<'a> {
    header: &'a Header,
    passphrase: &'a Key,
    budget: Budget<'a>,
    next: usize,
    tried: Vec<usize>,
    passed_over: Vec<(usize, String)>,
}

impl<'a> Unlock<'a> {
    /// Begins with the first slot.
    pub fn new(header: &'a Header, passphrase: &'a Key, budget: Budget<'a>) -> Unlock<'a> {
        Unlock { header, passphrase, budget, next: 0, tried: Vec::new(), passed_over: Vec::new() }
    }

    /// The area of the next active slot.
    pub fn next_area(&mut self) -> Option<Area> {
        while let Some(slot) = self.header.slots().get(self.next) {
            let number = self.next;
            self.next += 1;
            match &slot.fault {
                Some(fault) if slot.active => self.passed_over.push((number, fault.to_string())),
                None if slot.active => {
                    let len = usize::try_from(self.header.area_len(slot)).ok()?;
                    return Some(Area { slot: number, offset: slot.offset, len });
                }
                _ => {}
            }
        }
        None
    }

    /// The volume key, if the passphrase opens the slot whose area was read. A slot that asks for more work than is
    /// allowed is passed over.
    pub fn offer(&mut self, area: Area, material: &[u8]) -> Result<Option<Opened>, UnlockError> {
        match try_slot(self.header, area.slot, self.passphrase, material, &mut self.budget) {
            Ok(Some(key)) => Ok(Some(Opened { slot: area.slot, key })),
            Ok(None) => {
                self.tried.push(area.slot);
                Ok(None)
            }
            Err(SlotError::Kdf(KdfError::Stopped)) => Err(UnlockError::Stopped),
            Err(e) => {
                self.passed_over.push((area.slot, e.to_string()));
                Ok(None)
            }
        }
    }

    /// Why nothing opened, after the last area.
    pub fn failed(self) -> UnlockError {
        let Unlock { tried, passed_over, .. } = self;
        match (tried.is_empty(), passed_over.is_empty()) {
            (true, true) => UnlockError::NoSlot,
            (false, true) => UnlockError::WrongPassphrase(tried),
            _ => UnlockError::PassedOver { tried, passed_over },
        }
    }
}

/// Why a slot could not be tried.
#[derive(Debug, thiserror::Error)]
enum SlotError {
    #[error(transparent)]
    Kdf(#[from] KdfError),
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    Length(#[from] af::WrongLength),
    #[error(transparent)]
    Cipher(#[from] crate::CipherError),
}

/// The volume key in a slot, or `None` if the passphrase is another one.
fn try_slot(
    header: &Header,
    number: usize,
    passphrase: &Key,
    material: &[u8],
    budget: &mut Budget<'_>,
) -> Result<Option<Key>, SlotError> {
    let Some(slot) = header.slots().get(number) else { return Ok(None) };
    let mut slot_key = Key::zeroed(header.spec().key_len());
    budget.pbkdf2(
        header.hash(),
        passphrase.as_bytes(),
        &slot.salt,
        slot.iterations,
        slot_key.as_mut_bytes(),
    )?;
    let cipher = SectorCipher::new(*header.spec(), &slot_key, SectorLen::B512)?;
    let mut split = Key::new(material.to_vec());
    cipher.decrypt(0, split.as_mut_bytes())?;
    let (key_len, stripes) = (header.spec().key_len(), usize::try_from(slot.stripes).unwrap_or(usize::MAX));
    let stripes_len = stripes.saturating_mul(key_len).min(split.len());
    let split = split.as_bytes().get(..stripes_len).unwrap_or_default();
    let key = af::merge(header.hash(), split, stripes, key_len)?;
    let mut digest = Key::zeroed(header.digest().len());
    let (salt, iterations) = (header.digest_salt(), header.digest_iterations());
    budget.pbkdf2(header.hash(), key.as_bytes(), &salt, iterations, digest.as_mut_bytes())?;
    Ok(same(digest.as_bytes(), &header.digest()).then_some(key))
}
