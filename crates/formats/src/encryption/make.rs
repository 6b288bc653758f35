//! New LUKS1 volumes.
use super::options::limits_of;
use api::Enumeration;
use api::{LUKSCreateOptions, QCryptoBlockCreateOptionsLUKS, QCryptoHashAlgo, QCryptoIVGenAlgo};
use block::{BlockError, ErrorKind, Result, not_negative};
use crypto::kdf::{Budget, Limits, MIN_ITERATIONS};
use crypto::luks1::{self, Change, Iterations, Payload};
use crypto::random::SystemRandom;
use crypto::{Algorithm, CipherSpec, Hash, IvGenerator, Key, Mode};
use std::time::Duration;

/// What a new volume is to be, of options that have been judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewVolume {
    spec: CipherSpec,
    hash: Hash,
    iter_time: Option<u64>,
    limits: Limits,
}

impl NewVolume {
    /// What these options ask for.
    pub(crate) fn new(options: &QCryptoBlockCreateOptionsLUKS) -> Result<Self> {
        let (algorithm, mode) = (options.cipher_alg.map(|a| a.name()), options.cipher_mode.map(|m| m.name()));
        let algorithm = algorithm.map_or(Some(Algorithm::Aes256), Algorithm::from_name);
        let mode = mode.map_or(Some(Mode::Xts), Mode::from_name);
        let (Some(algorithm), Some(mode)) = (algorithm, mode) else {
            return Err(BlockError::unsupported("the cipher is not known"));
        };
        let iv = match options.ivgen_alg {
            None | Some(QCryptoIVGenAlgo::Plain64) => IvGenerator::Plain64,
            Some(QCryptoIVGenAlgo::Plain) => IvGenerator::Plain,
            Some(QCryptoIVGenAlgo::Essiv) => IvGenerator::Essiv(hash_of(options.ivgen_hash_alg)?),
        };
        Ok(Self {
            spec: CipherSpec::new(algorithm, mode, iv).map_err(|e| BlockError::of(ErrorKind::Invalid, e))?,
            hash: hash_of(options.hash_alg)?,
            iter_time: not_negative("iter-time", options.iter_time)?,
            limits: limits_of(options.x_max_rounds.map(|n| n.0), options.x_max_memory.map(|n| n.0)),
        })
    }

    /// Bytes of header and key material.
    pub(crate) fn header_len(&self) -> u64 {
        luks1::header_len(&self.spec)
    }

    /// Makes the volume: a new key, and slot 0 for the passphrase.
    pub(crate) async fn make(self, passphrase: Key, payload: Payload) -> Result<(Key, Change)> {
        let made = rt::compute(move || {
            let NewVolume { spec, hash, limits, .. } = self;
            let iterations = iterations(&spec, hash, self.iter_time, &limits)?;
            let new = luks1::NewVolume { spec, hash, iterations, payload };
            let budget = &mut Budget::new(limits, &|| false);
            luks1::create(&new, &passphrase, budget, &mut SystemRandom)
                .map_err(|e| BlockError::of(ErrorKind::Invalid, e))
        });
        made.await
    }
}

/// Iterations that take so many milliseconds here, or the usual time; as few as there may be for 0.
pub(super) fn iterations(
    spec: &CipherSpec,
    hash: Hash,
    ms: Option<u64>,
    limits: &Limits,
) -> Result<Iterations> {
    if ms == Some(0) {
        return Ok(Iterations { slot: MIN_ITERATIONS, digest: MIN_ITERATIONS });
    }
    // A busy machine must not make a weak key slot.
    let clock = &mut || Duration::from_nanos(rt::busy_ns());
    luks1::calibrate(spec, hash, ms.map(Duration::from_millis), limits, clock)
        .map_err(|e| BlockError::of(ErrorKind::Limit, e))
}

fn hash_of(asked: Option<QCryptoHashAlgo>) -> Result<Hash> {
    let Some(asked) = asked else { return Ok(Hash::Sha256) };
    Hash::from_name(asked.name()).map_err(|e| BlockError::of(ErrorKind::Invalid, e))
}

/// The options of a volume that is a file of its own, without those of the file.
pub(crate) fn of_file(options: &LUKSCreateOptions) -> QCryptoBlockCreateOptionsLUKS {
    QCryptoBlockCreateOptionsLUKS {
        key_secret: options.key_secret.clone(),
        x_max_rounds: options.x_max_rounds,
        x_max_memory: options.x_max_memory,
        cipher_alg: options.cipher_alg,
        cipher_mode: options.cipher_mode,
        ivgen_alg: options.ivgen_alg,
        ivgen_hash_alg: options.ivgen_hash_alg,
        hash_alg: options.hash_alg,
        iter_time: options.iter_time,
    }
}
