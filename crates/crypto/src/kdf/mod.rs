//! Keys from passphrases, within limits.
//!
//! How much work a passphrase costs stands in the image's header, which anybody may have written: 2^32 - 1 rounds, or
//! terabytes of memory. [`Limits`] bounds what one unlocking may cost; what asks for more is refused before it is begun,
//! by an error with both numbers. A caller may stop it at any time ([`Budget::new`]).

mod argon2;
mod pbkdf2;

pub use argon2::{Argon2, Variant};
pub(crate) use pbkdf2::blocks;
pub use pbkdf2::{MIN_ITERATIONS, calibrate};

use crate::Hash;

/// What one unlocking may cost, all key slots together where nothing else is said: half of one limit and half of another are
/// the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Rounds of PBKDF2 for one derivation: iterations times blocks of output; of SHA-384, SHA-512,
    /// RIPEMD-160 and SM3, which take longer, three times as many. A round of SHA-256 takes 0.1 µs to 1 µs on today's processors.
    pub slot_rounds: u64,
    /// Rounds of PBKDF2 for all derivations.
    pub rounds: u64,
    /// Memory of Argon2, in bytes.
    pub memory: u64,
    /// Memory times passes of Argon2 for all derivations, in bytes; a GiB takes about 0.8 s.
    pub memory_passes: u64,
}

/// Fits what today's tools make by default: 2 seconds of PBKDF2 for each of a few slots, 1 GiB and 4 passes for Argon2, or 12
/// passes for the only slot; and what asks for no more is answered within about 10 seconds.
impl Default for Limits {
    fn default() -> Limits {
        Limits { slot_rounds: 1 << 25, rounds: 1 << 26, memory: 1 << 30, memory_passes: 12 << 30 }
    }
}

/// A key that was not derived.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KdfError {
    /// PBKDF2 asks for too much.
    #[error(
        "deriving the key takes {needed} rounds of PBKDF2, and {limit} are allowed; raise the limit if you trust the image"
    )]
    Rounds {
        /// What the header asks for.
        needed: u64,
        /// What is left of the limit.
        limit: u64,
    },
    /// Argon2 asks for too much memory.
    #[error(
        "deriving the key takes {needed} bytes of memory, and {limit} are allowed; raise the limit if you trust the image"
    )]
    Memory {
        /// What the header asks for.
        needed: u64,
        /// The limit.
        limit: u64,
    },
    /// Argon2 asks for too many passes over its memory.
    #[error(
        "deriving the key fills {needed} bytes of memory pass by pass, and {limit} are allowed; raise the limit if you trust the image"
    )]
    Passes {
        /// What the header asks for.
        needed: u64,
        /// What is left of the limit.
        limit: u64,
    },
    /// The system has not that much memory.
    #[error("the system does not give the {0} bytes of memory that deriving the key takes")]
    NoMemory(u64),
    /// Parameters that the function is not defined for.
    #[error("the parameters of the key derivation are damaged: {0}")]
    Parameters(String),
    /// The caller asked to stop.
    #[error("deriving the key was stopped")]
    Stopped,
    /// Iterations for the time that was asked for can't be written down, or would not be allowed when opening.
    #[error("{time_ms} ms would take {needed} iterations, and {limit} are allowed; ask for less time")]
    Time {
        /// The time that was asked for, in milliseconds.
        time_ms: u64,
        /// Iterations that would take so long here.
        needed: u64,
        /// The most there may be.
        limit: u64,
    },
}

/// All that may be spent.
const WHOLE: u128 = 1 << 64;

/// What is left of the limits while a volume is unlocked.
pub struct Budget<'a> {
    limits: Limits,
    /// How much is left, out of [`WHOLE`].
    left: u128,
    stop: &'a (dyn Fn() -> bool + Sync),
}

impl<'a> Budget<'a> {
    /// All of `limits`. `stop` is asked every few milliseconds of PBKDF2, and before each run of Argon2.
    pub fn new(limits: Limits, stop: &'a (dyn Fn() -> bool + Sync)) -> Budget<'a> {
        Budget { limits, left: WHOLE, stop }
    }

    /// What is left of a limit.
    fn left_of(&self, limit: u64) -> u64 {
        u64::try_from(u128::from(limit) * self.left / WHOLE).unwrap_or(u64::MAX)
    }

    /// Takes what is no more than is left of a limit.
    fn spend(&mut self, needed: u64, limit: u64) {
        let part = u128::from(needed) * WHOLE / u128::from(limit.max(1));
        self.left = self.left.saturating_sub(part);
    }

    /// Fills `out` by PBKDF2 (RFC 8018, 5.2) with the HMAC of `hash`.
    pub fn pbkdf2(
        &mut self,
        hash: Hash,
        passphrase: &[u8],
        salt: &[u8],
        iterations: u32,
        out: &mut [u8],
    ) -> Result<(), KdfError> {
        if iterations == 0 {
            return Err(KdfError::Parameters("no iterations".into()));
        }
        let needed = u64::from(iterations) * pbkdf2::rounds(hash, out.len());
        let limit = self.left_of(self.limits.rounds).min(self.limits.slot_rounds);
        if needed > limit {
            return Err(KdfError::Rounds { needed, limit });
        }
        self.spend(needed, self.limits.rounds);
        pbkdf2::derive(hash, passphrase, salt, iterations, out, self.stop)
    }

    /// Fills `out` by Argon2 (RFC 9106).
    pub fn argon2(
        &mut self,
        parameters: &Argon2,
        passphrase: &[u8],
        salt: &[u8],
        out: &mut [u8],
    ) -> Result<(), KdfError> {
        let memory = u64::from(parameters.memory_kib) * 1024;
        if memory > self.limits.memory {
            return Err(KdfError::Memory { needed: memory, limit: self.limits.memory });
        }
        let needed = memory * u64::from(parameters.passes);
        let limit = self.left_of(self.limits.memory_passes);
        if needed > limit {
            return Err(KdfError::Passes { needed, limit });
        }
        self.spend(needed, self.limits.memory_passes);
        if (self.stop)() {
            return Err(KdfError::Stopped);
        }
        parameters.derive(passphrase, salt, out)
    }
}

#[cfg(test)]
mod tests;
