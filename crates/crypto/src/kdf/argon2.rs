//! Argon2 (RFC 9106), the key derivation of LUKS2.

use argon2::{Algorithm, Block, Params, Version};
use zeroize::Zeroize;

use super::KdfError;

/// Which of the two that LUKS2 knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Variant {
    Argon2i,
    Argon2id,
}

/// Its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argon2 {
    /// Which one.
    pub variant: Variant,
    /// Passes over the memory.
    pub passes: u32,
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Lanes. They change the result; the work is done by one thread.
    pub lanes: u32,
}

/// Memory that is wiped when it is dropped.
struct Memory(Vec<Block>);

impl Drop for Memory {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(Zeroize::zeroize);
    }
}

impl Argon2 {
    /// Fills `out`. The caller has bounded memory and passes.
    pub(super) fn derive(&self, passphrase: &[u8], salt: &[u8], out: &mut [u8]) -> Result<(), KdfError> {
        let damaged = |e: argon2::Error| KdfError::Parameters(e.to_string());
        let params =
            Params::new(self.memory_kib, self.passes, self.lanes, Some(out.len())).map_err(damaged)?;
        let algorithm = match self.variant {
            Variant::Argon2i => Algorithm::Argon2i,
            Variant::Argon2id => Algorithm::Argon2id,
        };
        let count = params.block_count();
        let mut memory = Memory(Vec::new());
        memory
            .0
            .try_reserve_exact(count)
            .map_err(|_| KdfError::NoMemory(count as u64 * Block::SIZE as u64))?;
        memory.0.resize(count, Block::new());
        argon2::Argon2::new(algorithm, Version::V0x13, params)
            .hash_password_into_with_memory(passphrase, salt, out, &mut memory.0)
            .map_err(damaged)
    }
}
