//! Changes of key slots: a passphrase added, or taken away.
//!
//! What is written in which order, and why a power cut locks nobody out: `docs/luks.md`.
use super::info::describe;
use super::make::iterations;
use super::options::passphrase_of;
use super::volume::{Only, Place, Volume, refused};
use api::{QCryptoBlockAmendOptionsLUKS, QCryptoBlockInfoLUKS, QCryptoBlockLUKSKeyslotState};
use block::{BlockError, ErrorKind, Objects, Result, Secret, not_negative};
use crypto::Key;
use crypto::kdf::{Budget, Limits};
use crypto::luks::Opened;
use crypto::luks1::{ChangeError, Header, Loss, NewSlot, SLOTS};
use crypto::random::SystemRandom;
use futures_util::lock::Mutex;
use parking_lot::RwLock;

/// The volume of an open image, whose key slots may change meanwhile.
pub(crate) struct KeySlots {
    volume: RwLock<Volume>,
    /// The id of the secret that the image is open with.
    key_secret: Option<String>,
    limits: Limits,
    /// Held while key slots change.
    changing: Mutex<()>,
}

impl KeySlots {
    /// Those of a volume that was opened so.
    pub(crate) fn new(volume: Volume, key_secret: Option<String>, limits: Limits) -> Self {
        Self { volume: RwLock::new(volume), key_secret, limits, changing: Mutex::default() }
    }

    /// The id of the secret that the image is open with.
    pub(crate) fn key_secret(&self) -> Option<&str> {
        self.key_secret.as_deref()
    }

    /// What `info` tells of the volume.
    pub(crate) fn describe(&self, detached: bool) -> Option<QCryptoBlockInfoLUKS> {
        describe(&self.volume.read(), detached)
    }

    /// Whether a passphrase opens a slot; refused if not.
    pub(crate) async fn judge(&self, place: &Place, passphrase: &Secret) -> Result<()> {
        let volume = self.volume.read().clone();
        let passphrase = Key::new(passphrase.bytes().to_vec());
        volume.open(place, &passphrase, self.limits).await.map(drop)
    }

    /// Changes key slots. Nothing else of the volume changes.
    pub(crate) async fn amend(
        &self,
        place: &Place,
        options: &QCryptoBlockAmendOptionsLUKS,
        objects: &Objects,
        force: bool,
    ) -> Result<()> {
        let _turn = self.changing.lock().await;
        // Another program, or a change that failed, may have left another one.
        let before = Volume::read(place).await?;
        let secrets = (objects, self.key_secret.as_deref());
        let changed = amend(&before, place, options, secrets, (self.limits, force)).await;
        *self.volume.write() = match &changed {
            Ok(volume) => volume.clone(),
            Err(_) => Volume::read(place).await.unwrap_or(before),
        };
        changed.map(drop)
    }
}

/// Carries a change out, and gives the header as it is then. `opened_with` is the id of the secret that the image is open
/// with.
async fn amend(
    volume: &Volume,
    place: &Place,
    options: &QCryptoBlockAmendOptionsLUKS,
    (objects, opened_with): (&Objects, Option<&str>),
    (limits, force): (Limits, bool),
) -> Result<Volume> {
    let Volume::Luks1(header) = volume else {
        let text = "the key slots of LUKS2 volumes can't be changed here; cryptsetup can";
        return Err(BlockError::unsupported(text));
    };
    let loss = if force { Loss::Allowed } else { Loss::Refused };
    let slot = slot_of(options.keyslot)?;
    let change = match options.state {
        QCryptoBlockLUKSKeyslotState::Active => {
            refuse(options.old_secret.is_some(), "'old-secret' must not be given when activating keyslots")?;
            let new = passphrase_of(objects, "new-secret", options.new_secret.as_deref())?;
            let opens = options.secret.as_deref().or(opened_with);
            let opens = passphrase_of(objects, "secret", opens)?;
            // What can be refused is refused before keys are derived for seconds.
            check_target(header, slot, loss)?;
            let opened = volume.open(place, &opens, limits).await?;
            let time = not_negative("iter-time", options.iter_time)?;
            let header = header.as_ref().clone();
            rt::compute(move || add(&header, (&opened, &new), slot, loss, time, limits)).await?
        }
        QCryptoBlockLUKSKeyslotState::Inactive => {
            refuse(options.new_secret.is_some(), "'new-secret' must not be given when erasing keyslots")?;
            refuse(options.iter_time.is_some(), "'iter-time' must not be given when erasing keyslots")?;
            let slots = match (options.old_secret.as_deref(), slot) {
                (None, None) => {
                    let text = "To erase keyslot(s), either explicit keyslot index or the password currently \
                                contained in them must be given";
                    return Err(BlockError::invalid(text));
                }
                (None, Some(slot)) => vec![slot],
                (Some(old), slot) => {
                    let old = passphrase_of(objects, "old-secret", Some(old))?;
                    let only = slot.map_or(Only::All, Only::Slot);
                    let opened = volume.opened_by(place, &old, limits, only).await?;
                    let opened = opened.map_err(|e| refused(e).context("no key slot was erased"))?;
                    opened.into_iter().map(|opened| opened.slot).collect()
                }
            };
            header.erase(&slots, loss, &mut SystemRandom).map_err(unchanged)?
        }
    };
    place.carry_out(&change.steps).await?;
    Ok(Volume::Luks1(Box::new(change.header)))
}

fn refuse(given: bool, text: &str) -> Result<()> {
    if given { Err(BlockError::invalid(text)) } else { Ok(()) }
}

fn unchanged(e: ChangeError) -> BlockError {
    BlockError::of(ErrorKind::Invalid, e)
}

fn slot_of(asked: Option<i64>) -> Result<Option<usize>> {
    let Some(asked) = asked else { return Ok(None) };
    match usize::try_from(asked) {
        Ok(slot) if slot < SLOTS => Ok(Some(slot)),
        _ => {
            let most = SLOTS - 1;
            Err(BlockError::invalid(format!(
                "Invalid keyslot {asked} supplied, should be between 0 and {most}"
            )))
        }
    }
}

fn check_target(header: &Header, slot: Option<usize>, loss: Loss) -> Result<()> {
    let slots = header.slots();
    let in_use = |slot: usize| slots.get(slot).is_some_and(|slot| slot.active);
    match slot {
        Some(slot) if in_use(slot) && loss == Loss::Refused => Err(unchanged(ChangeError::InUse(slot))),
        None if slots.iter().all(|slot| slot.active || slot.fault.is_some()) => {
            Err(unchanged(ChangeError::AllInUse))
        }
        _ => Ok(()),
    }
}

fn add(
    header: &Header,
    (opened, passphrase): (&Opened, &Key),
    slot: Option<usize>,
    loss: Loss,
    time: Option<u64>,
    limits: Limits,
) -> Result<crypto::luks1::Change> {
    let iterations = iterations(header.spec(), header.hash(), time, &limits)?.slot;
    let new = NewSlot { key: &opened.key, found_in: Some(opened.slot), passphrase, iterations };
    let budget = &mut Budget::new(limits, &|| false);
    header.add(&new, slot, loss, budget, &mut SystemRandom).map_err(unchanged)
}
