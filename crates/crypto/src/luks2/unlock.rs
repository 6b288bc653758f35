//! The volume key by a passphrase.

use super::metadata::{Header, Kdf, Slot};
use crate::af;
use crate::cipher::{SectorCipher, SectorLen};
use crate::kdf::Budget;
use crate::key::{Key, same};
use crate::luks::{Area, KeySlots, SlotError, Unlock};

impl Header {
    /// Tries a passphrase on all slots of the volume key.
    pub fn unlock<'a>(&'a self, passphrase: &'a Key, budget: Budget<'a>) -> Unlock<'a> {
        Unlock::new(self, passphrase, budget)
    }
}

/// Bytes of an area that are read: the split key in whole sectors.
fn read_len(slot: &Slot) -> usize {
    let stripes = usize::try_from(slot.stripes).unwrap_or(usize::MAX);
    stripes.saturating_mul(slot.key_len).checked_next_multiple_of(512).unwrap_or(usize::MAX)
}

impl KeySlots for Header {
    fn candidates(&self) -> Vec<(usize, Result<Area, String>)> {
        let candidate = |(number, slot): &(u32, Result<Slot, String>)| {
            let number = usize::try_from(*number).unwrap_or(usize::MAX);
            let area =
                slot.as_ref().map(|slot| Area { slot: number, offset: slot.offset, len: read_len(slot) });
            (number, area.map_err(String::clone))
        };
        self.slots.iter().map(candidate).collect()
    }

    fn try_slot(
        &self,
        number: usize,
        passphrase: &Key,
        material: &[u8],
        budget: &mut Budget<'_>,
    ) -> Result<Option<Key>, SlotError> {
        let mut sound = self.slots.iter().filter_map(|(_, slot)| slot.as_ref().ok());
        let Some(slot) = sound.find(|slot| usize::try_from(slot.number) == Ok(number)) else {
            return Ok(None);
        };
        let mut slot_key = Key::zeroed(slot.spec.key_len());
        match &slot.kdf {
            Kdf::Pbkdf2 { hash, iterations } => {
                budget.pbkdf2(
                    *hash,
                    passphrase.as_bytes(),
                    &slot.salt,
                    *iterations,
                    slot_key.as_mut_bytes(),
                )?;
            }
            Kdf::Argon2(parameters) => {
                budget.argon2(parameters, passphrase.as_bytes(), &slot.salt, slot_key.as_mut_bytes())?;
            }
        }
        let cipher = SectorCipher::new(slot.spec, &slot_key, SectorLen::B512)?;
        let mut split = Key::new(material.to_vec());
        cipher.decrypt(0, split.as_mut_bytes())?;
        let stripes = usize::try_from(slot.stripes).unwrap_or(usize::MAX);
        let key = af::merge_area(slot.af_hash, &split, stripes, slot.key_len)?;
        let Self { digest, .. } = self;
        let mut found = Key::zeroed(digest.digest.len());
        budget.pbkdf2(digest.hash, key.as_bytes(), &digest.salt, digest.iterations, found.as_mut_bytes())?;
        Ok(same(found.as_bytes(), &digest.digest).then_some(key))
    }
}
