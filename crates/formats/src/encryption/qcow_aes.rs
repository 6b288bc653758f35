//! The AES encryption of the first qcow images: the secret is the key, a sector's number in the disk its vector. Nothing in an
//! image tells whether a key is the right one.
use super::coding::{CipherCoding, Numbers};
use block::{BlockError, CodedAt, Coding, ErrorKind, Opt, Options, Result, Secret};
use crypto::Key;
use std::sync::Arc;

/// Bytes by which two keys are told apart.
const SAMPLE: usize = 512;

/// The form of data under this secret.
pub(crate) fn qcow_aes(secret: &Key) -> Result<Arc<dyn Coding>> {
    let cipher =
        crypto::legacy::qcow_aes(secret.as_bytes()).map_err(|e| BlockError::of(ErrorKind::Invalid, e))?;
    Ok(CipherCoding::of(cipher, Numbers::Guest(0)))
}

/// Whether a passphrase is the one that an image is open with; refused if not.
pub(crate) fn judge_qcow_aes(open: &dyn Coding, passphrase: &Secret) -> Result<()> {
    let at = CodedAt { guest: 0, stored: 0 };
    let (mut here, mut there) = ([0; SAMPLE], [0; SAMPLE]);
    open.encode(at, &[0; SAMPLE], &mut here)?;
    qcow_aes(&Key::new(passphrase.bytes().to_vec()))?.encode(at, &[0; SAMPLE], &mut there)?;
    match here == there {
        true => Ok(()),
        false => Err(BlockError::new(ErrorKind::Permission, "the passphrase is another one")),
    }
}

/// Options of create by the names that are older than the schema.
pub(crate) fn adapt_create(options: &mut Options) -> Result<()> {
    let old = options.take_bool("encryption")?.unwrap_or(false);
    let mut encrypt = options.take_dict("encrypt")?.unwrap_or_default();
    if old {
        if encrypt.get("format").is_some() {
            return Err(BlockError::invalid("Options encryption and encrypt.format are mutually exclusive"));
        }
        encrypt.set("format", Opt::Str("aes".to_owned()));
    }
    if encrypt.get("format").is_none() {
        return match encrypt.iter().next() {
            None => Ok(()),
            Some((name, _)) => {
                let text =
                    format!("'encrypt.{name}' needs 'encrypt.format', which says how the image is encrypted");
                Err(BlockError::invalid(text))
            }
        };
    }
    options.set("encrypt", Opt::Dict(encrypt));
    Ok(())
}
