//! The AES method of qcow images, and of qcow2 images older than LUKS: AES-128 in CBC, the guest's sector number as
//! vector, and the passphrase itself as key. It can't tell a wrong passphrase, and protects little; images that have it
//! are read and written, and should be converted.

use crate::cipher::{Algorithm, CipherSpec, IvGenerator, Mode, SectorCipher, SectorLen, SpecError};
use crate::key::Key;

/// The cipher for a passphrase, whose first 16 bytes count; a shorter one is filled up with zero bytes.
pub fn qcow_aes(passphrase: &[u8]) -> Result<SectorCipher, SpecError> {
    let spec = CipherSpec::new(Algorithm::Aes128, Mode::Cbc, IvGenerator::Plain64)?;
    let mut key = Key::zeroed(spec.key_len());
    key.as_mut_bytes().iter_mut().zip(passphrase).for_each(|(key, byte)| *key = *byte);
    SectorCipher::new(spec, &key, SectorLen::B512)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passphrase_is_filled_up_and_cut_off_at_16_bytes() {
        let encrypted = |passphrase: &[u8]| {
            let mut data = vec![1; 1024];
            qcow_aes(passphrase).unwrap().encrypt(7, &mut data).unwrap();
            data
        };
        assert_eq!(encrypted(b"short"), encrypted(b"short\0\0"));
        assert_eq!(encrypted(b"0123456789abcdef"), encrypted(b"0123456789abcdefg"));
        assert_ne!(encrypted(b"0123456789abcdef"), encrypted(b"0123456789abcde"));
        assert_eq!(encrypted(b""), encrypted(&[0; 16]));
    }
}
