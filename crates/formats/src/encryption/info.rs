//! What `info` tells of a volume.
use super::volume::Volume;
use api::{
    Enumeration, QCryptoBlockInfoLUKS, QCryptoBlockInfoLUKSSlot, QCryptoCipherAlgo, QCryptoCipherMode,
    QCryptoHashAlgo, QCryptoIVGenAlgo,
};
use crypto::luks1::{Header, Slot};
use crypto::{Hash, IvGenerator};

/// What is told of a volume of version 1. The members of others have no place in the schema: nothing is told of them.
pub(super) fn describe(volume: &Volume, detached: bool) -> Option<QCryptoBlockInfoLUKS> {
    match volume {
        Volume::Luks1(header) => describe_luks1(header, detached),
        Volume::Luks2(_) => None,
    }
}

fn describe_luks1(header: &Header, detached: bool) -> Option<QCryptoBlockInfoLUKS> {
    let spec = header.spec();
    let (ivgen_alg, hash) = match spec.iv() {
        IvGenerator::Plain => (QCryptoIVGenAlgo::Plain, None),
        IvGenerator::Plain64 => (QCryptoIVGenAlgo::Plain64, None),
        IvGenerator::Essiv(hash) => (QCryptoIVGenAlgo::Essiv, Some(hash)),
        _ => return None,
    };
    Some(QCryptoBlockInfoLUKS {
        ivgen_alg,
        detached_header: detached,
        hash_alg: hash_name(header.hash())?,
        cipher_alg: QCryptoCipherAlgo::from_name(spec.algorithm().name())?,
        uuid: header.uuid().to_owned(),
        ivgen_hash_alg: hash.and_then(hash_name),
        cipher_mode: QCryptoCipherMode::from_name(spec.mode().name())?,
        slots: header.slots().iter().map(slot).collect(),
        payload_offset: i64::try_from(header.payload_offset()).ok()?,
        master_key_iters: i64::from(header.digest_iterations()),
    })
}

fn hash_name(hash: Hash) -> Option<QCryptoHashAlgo> {
    QCryptoHashAlgo::from_name(hash.name())
}

fn slot(slot: &Slot) -> QCryptoBlockInfoLUKSSlot {
    QCryptoBlockInfoLUKSSlot {
        active: slot.active,
        iters: slot.active.then_some(i64::from(slot.iterations)),
        key_offset: i64::try_from(slot.offset).unwrap_or(i64::MAX),
        stripes: slot.active.then_some(i64::from(slot.stripes)),
    }
}
