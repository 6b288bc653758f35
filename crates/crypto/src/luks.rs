//! What both versions of LUKS share: how they begin, and how a passphrase is tried on their key slots.

use std::vec;

use crate::af;
use crate::cipher::{CipherError, SpecError};
use crate::kdf::{Budget, KdfError};
use crate::key::Key;

/// The first bytes of a header.
pub const MAGIC: [u8; 6] = *b"LUKS\xba\xbe";

/// Which version of LUKS begins like this, if any does.
pub fn version(start: &[u8]) -> Option<u16> {
    let version = start.strip_prefix(&MAGIC)?.first_chunk()?;
    Some(u16::from_be_bytes(*version))
}

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
    #[error("the passphrase is wrong: it opens none of the active key slots ({})", numbers(.0))]
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

/// Key slots of either version.
pub(crate) trait KeySlots {
    /// The active slots in the order in which they are tried: what to read, or why a slot can't be tried.
    fn candidates(&self) -> Vec<(usize, Result<Area, String>)>;

    /// The volume key in a slot, or `None` if the passphrase is another one.
    fn try_slot(
        &self,
        slot: usize,
        passphrase: &Key,
        material: &[u8],
        budget: &mut Budget<'_>,
    ) -> Result<Option<Key>, SlotError>;
}

/// Why a slot could not be tried.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SlotError {
    #[error(transparent)]
    Kdf(#[from] KdfError),
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    Length(#[from] af::WrongLength),
    #[error(transparent)]
    Cipher(#[from] CipherError),
}

/// Tries a passphrase on one slot after the other. The caller reads the areas:
///
/// ```no_run
/// # use crypto::{Key, kdf::Budget, luks::*, luks1::Header};
/// # fn read(area: Area) -> Vec<u8> { vec![0; area.len] }
/// # fn open(header: &Header, passphrase: &Key, budget: Budget) -> Result<Opened, UnlockError> {
/// let mut unlock = header.unlock(passphrase, budget);
/// while let Some(area) = unlock.next_area() {
///     if let Some(opened) = unlock.offer(area, &read(area))? {
///         return Ok(opened);
///     }
/// }
/// Err(unlock.failed())
/// # }
/// ```
///
/// Whoever goes on after a slot has opened finds all that the passphrase opens. Each [`Unlock::offer`] derives a key,
/// which takes seconds.
pub struct Unlock<'a> {
    slots: &'a dyn KeySlots,
    passphrase: &'a Key,
    budget: Budget<'a>,
    candidates: vec::IntoIter<(usize, Result<Area, String>)>,
    tried: Vec<usize>,
    passed_over: Vec<(usize, String)>,
}

impl<'a> Unlock<'a> {
    pub(crate) fn new(slots: &'a dyn KeySlots, passphrase: &'a Key, budget: Budget<'a>) -> Unlock<'a> {
        let candidates = slots.candidates().into_iter();
        Unlock { slots, passphrase, budget, candidates, tried: Vec::new(), passed_over: Vec::new() }
    }

    /// The area of the next active slot.
    pub fn next_area(&mut self) -> Option<Area> {
        for (slot, candidate) in &mut self.candidates {
            match candidate {
                Ok(area) => return Some(area),
                Err(why) => self.passed_over.push((slot, why)),
            }
        }
        None
    }

    /// The volume key, if the passphrase opens the slot whose area was read. A slot that asks for more work than is
    /// allowed, or is damaged, is passed over.
    pub fn offer(&mut self, area: Area, material: &[u8]) -> Result<Option<Opened>, UnlockError> {
        match self.slots.try_slot(area.slot, self.passphrase, material, &mut self.budget) {
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
