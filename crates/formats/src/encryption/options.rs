//! What options mean: the secret by its id, and the limits of opening.
use block::{BlockError, ErrorKind, Objects, Options, Result, Secret};
use crypto::Key;
use crypto::kdf::Limits;
use crypto::secret::as_text;

/// The option that names the secret, for the name of an image that can't be opened without.
pub(crate) fn naming_options(option: &str, id: Option<&str>) -> Options {
    id.map_or_else(Options::new, |id| Options::new().with_str(option, id))
}

/// The passphrase that a secret object holds. `option` is the option's name, for the error of who gave none.
pub(crate) fn passphrase_of(objects: &Objects, option: &str, id: Option<&str>) -> Result<Key> {
    let id = id.ok_or_else(|| no_secret(option))?;
    let passphrase = Key::new(objects.hold::<Secret>(id)?.bytes().to_vec());
    as_text(&passphrase)
        .map_err(|e| BlockError::of(ErrorKind::Invalid, e).context(format!("secret '{id}'")))?;
    Ok(passphrase)
}

/// The error of who gave no secret by this option.
pub(crate) fn no_secret(option: &str) -> BlockError {
    BlockError::invalid(format!("Parameter '{option}' is required for cipher"))
}

/// What opening may cost: what these options say, else what is allowed by default.
pub(crate) fn limits_of(rounds: Option<u64>, memory: Option<u64>) -> Limits {
    let mut limits = Limits::default();
    if let Some(rounds) = rounds {
        // A volume has at most 32 slots, whose rounds count together.
        limits.slot_rounds = rounds;
        limits.rounds = rounds.saturating_mul(32);
    }
    if let Some(memory) = memory {
        limits.memory = memory;
        limits.memory_passes = memory.saturating_mul(256);
    }
    limits
}
