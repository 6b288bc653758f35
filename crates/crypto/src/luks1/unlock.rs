//! The volume key by a passphrase.

use super::header::Header;
use crate::af;
use crate::cipher::{SectorCipher, SectorLen};
use crate::kdf::Budget;
use crate::key::{Key, same};
use crate::luks::{Area, KeySlots, SlotError, Unlock};

impl Header {
    /// Tries a passphrase on all active slots.
    pub fn unlock<'a>(&'a self, passphrase: &'a Key, budget: Budget<'a>) -> Unlock<'a> {
        Unlock::new(self, passphrase, budget)
    }
}

impl KeySlots for Header {
    fn candidates(&self) -> Vec<(usize, Result<Area, String>)> {
        let active = self.slots().iter().enumerate().filter(|(_, slot)| slot.active);
        let candidate = |(number, slot): (usize, &super::Slot)| {
            let area = match &slot.fault {
                Some(fault) => Err(fault.to_string()),
                None => {
                    let len = usize::try_from(self.area_len(slot)).unwrap_or(usize::MAX);
                    Ok(Area { slot: number, offset: slot.offset, len })
                }
            };
            (number, area)
        };
        active.map(candidate).collect()
    }

    fn try_slot(
        &self,
        number: usize,
        passphrase: &Key,
        material: &[u8],
        budget: &mut Budget<'_>,
    ) -> Result<Option<Key>, SlotError> {
        let Some(slot) = self.slots().get(number) else { return Ok(None) };
        let (hash, spec) = (self.hash(), self.spec());
        let mut slot_key = Key::zeroed(spec.key_len());
        budget.pbkdf2(hash, passphrase.as_bytes(), &slot.salt, slot.iterations, slot_key.as_mut_bytes())?;
        let cipher = SectorCipher::new(*spec, &slot_key, SectorLen::B512)?;
        let mut split = Key::new(material.to_vec());
        cipher.decrypt(0, split.as_mut_bytes())?;
        let stripes = usize::try_from(slot.stripes).unwrap_or(usize::MAX);
        let key = af::merge_area(hash, &split, stripes, spec.key_len())?;
        let mut digest = Key::zeroed(self.digest().len());
        let (salt, iterations) = (self.digest_salt(), self.digest_iterations());
        budget.pbkdf2(hash, key.as_bytes(), &salt, iterations, digest.as_mut_bytes())?;
        Ok(same(digest.as_bytes(), &self.digest()).then_some(key))
    }
}
