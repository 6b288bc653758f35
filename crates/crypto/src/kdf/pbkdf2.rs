//! PBKDF2 (RFC 8018) over HMAC (RFC 2104), and how many iterations take a given time.

use std::time::Duration;

use hmac::digest::block_api::EagerHash;
use hmac::{Hmac, KeyInit, Mac};
use zeroize::{Zeroize, Zeroizing};

use super::{KdfError, Limits};
use crate::hash::{Hash, with_hash};

/// Fewer iterations than this are never chosen (RFC 8018, 4.2).
pub const MIN_ITERATIONS: u32 = 1000;

/// How long trying a passphrase takes where nothing else is asked for.
const USUAL_TIME: Duration = Duration::from_secs(2);

/// Iterations between two looks at whether to stop.
const UNINTERRUPTED: u32 = 1 << 14;

/// How many blocks of output a key of `len` bytes takes.
pub(crate) fn blocks(hash: Hash, len: usize) -> u64 {
    len.div_ceil(hash.digest_len()).max(1) as u64
}

/// Rounds that an iteration for a key of `len` bytes counts for, by how long it takes.
pub(super) fn rounds(hash: Hash, len: usize) -> u64 {
    let each = match hash {
        Hash::Md5 | Hash::Sha1 | Hash::Sha224 | Hash::Sha256 => 1,
        Hash::Sha384 | Hash::Sha512 | Hash::Ripemd160 | Hash::Sm3 => 3,
    };
    each * blocks(hash, len)
}

/// Fills `out`.
pub(super) fn derive(
    hash: Hash,
    passphrase: &[u8],
    salt: &[u8],
    iterations: u32,
    out: &mut [u8],
    stop: &dyn Fn() -> bool,
) -> Result<(), KdfError> {
    with_hash!(hash, D => {
        // HMAC takes keys of any length.
        let keyed = Hmac::<D>::new_from_slice(passphrase)
            .map_err(|e| KdfError::Parameters(e.to_string()))?;
        for (number, block) in (1_u32..).zip(out.chunks_mut(hash.digest_len())) {
            fill(&keyed, salt, number, iterations, block, stop)?;
        }
        Ok(())
    })
}

/// One block of output.
fn fill<D: EagerHash>(
    keyed: &Hmac<D>,
    salt: &[u8],
    number: u32,
    iterations: u32,
    block: &mut [u8],
    stop: &dyn Fn() -> bool,
) -> Result<(), KdfError> {
    let mut last =
        keyed.clone().chain_update(salt).chain_update(number.to_be_bytes()).finalize().into_bytes();
    let mut sum = last.clone();
    let mut left = iterations.saturating_sub(1);
    while left > 0 {
        if stop() {
            return Err(KdfError::Stopped);
        }
        let turn = left.min(UNINTERRUPTED);
        for _ in 0..turn {
            last = keyed.clone().chain_update(&last).finalize().into_bytes();
            sum.iter_mut().zip(&last).for_each(|(sum, last)| *sum ^= last);
        }
        left -= turn;
    }
    block.iter_mut().zip(&sum).for_each(|(out, sum)| *out = *sum);
    last.as_mut_slice().zeroize();
    sum.as_mut_slice().zeroize();
    Ok(())
}

/// How many iterations make a key of `key_len` bytes in `time` on this machine, at least [`MIN_ITERATIONS`].
///
/// `clock` tells a time that goes on steadily while this thread works, best its processor time; it is measured for about a
/// tenth of a second, or a tenth of `time` where that is less. More iterations than `limits` allows when the image is
/// opened are refused here already. Without a time it is two seconds, or on a fast machine as many iterations as are allowed.
pub fn calibrate(
    hash: Hash,
    key_len: usize,
    time: Option<Duration>,
    limits: &Limits,
    clock: &mut dyn FnMut() -> Duration,
) -> Result<u32, KdfError> {
    let (asked, time) = (time.is_some(), time.unwrap_or(USUAL_TIME));
    let mut out = Zeroizing::new(vec![0; key_len]);
    let enough = (time / 10).clamp(Duration::from_millis(1), Duration::from_millis(100));
    let mut measured: u32 = 1 << 10;
    let took = loop {
        let start = clock();
        derive(hash, b"passphrase", b"salt", measured, &mut out, &|| false)?;
        let took = clock().saturating_sub(start);
        if took >= enough || measured >= 1 << 24 {
            break took;
        }
        measured *= 2;
    };
    let needed = u128::from(measured) * time.as_nanos() / took.as_nanos().max(1);
    let needed = u64::try_from(needed).unwrap_or(u64::MAX).max(MIN_ITERATIONS.into());
    let limit = (limits.slot_rounds / rounds(hash, key_len)).min(u32::MAX.into());
    let chosen = if asked { needed } else { needed.min(limit.max(MIN_ITERATIONS.into())) };
    match u32::try_from(chosen) {
        Ok(iterations) if chosen <= limit => Ok(iterations),
        _ => {
            let time_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            Err(KdfError::Time { time_ms, needed, limit })
        }
    }
}
