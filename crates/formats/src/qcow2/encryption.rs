//! Encrypted images: what their header, their options and their clusters say.
//!
//! ```text
//! header ─ crypt_method ─┬─ 1: AES, the guest's sector number as vector, the secret as key
//!                        └─ 2: LUKS: extension ─▶ clusters with a LUKS1 header and its key material,
//!                              the sector number in the file as vector
//! ```
//!
//! Data clusters are encrypted, metadata and compressed clusters are not. The clusters of the LUKS header have one
//! reference each, the header extension. Specification: qcow2.rst, "Full disk encryption header pointer", "Data encryption".
use super::header::{Header, HeaderError};
use crate::encryption::{self, CipherCoding, KeySlots, NewVolume, Numbers, Place, Volume};
use api::{
    BlockdevQcow2Encryption, BlockdevQcow2EncryptionFormat as Format, ImageInfoSpecificQCow2Encryption,
    QCryptoBlockAmendOptionsLUKS, QCryptoBlockOptionsLUKS, Qcow2CreateEncryption, Qcow2Options,
};
use block::{BlockError, CodedAt, Coding, Common, Node, Objects, Opt, Options, Request, Result, Secret};
use crypto::luks1::{Change, Payload};
use rt::BufMut;
use std::sync::Arc;

/// An encrypted image's own kind, of its `crypt_method`.
pub(super) fn format_of(header: &Header) -> Option<Format> {
    match header.crypt_method {
        1 => Some(Format::Aes),
        2 => Some(Format::Luks),
        _ => None,
    }
}

/// The encryption of an open image.
pub(super) struct Encryption {
    pub coding: Arc<dyn Coding>,
    format: Format,
    /// The id of the secret that the image is open with.
    key_secret: Option<String>,
    slots: Option<KeySlots>,
}

impl Encryption {
    /// That of an image, if it is encrypted. Options that are for another kind are refused; a secret without a kind may be
    /// given for any image.
    pub(super) async fn open(
        file: &Arc<Node>,
        header: &Header,
        options: &Qcow2Options,
        common: &Common,
        objects: &Objects,
    ) -> Result<Option<Self>> {
        let given = Given::of(options);
        let Some(format) = format_of(header) else {
            return given.format.map_or(Ok(None), |format| {
                let name = api::Enumeration::name(format);
                let text = format!("No encryption in image header, but options specified format '{name}'");
                Err(BlockError::invalid(text))
            });
        };
        if let Some(other) = given.format.filter(|other| *other != format) {
            return Err(BlockError::invalid(format!(
                "Header reported '{}' encryption format but options specify '{}'",
                api::Enumeration::name(format),
                api::Enumeration::name(other)
            )));
        }
        let limits =
            encryption::limits_of(given.luks.x_max_rounds.map(|n| n.0), given.luks.x_max_memory.map(|n| n.0));
        let volume = match format {
            Format::Aes => None,
            Format::Luks => Some(read(&place(file, header)?).await?),
        };
        let coding = if common.without_content {
            encryption::locked()
        } else {
            let id = given.key_secret.as_deref();
            let passphrase = encryption::passphrase_of(objects, "encrypt.key-secret", id)?;
            match &volume {
                None => encryption::qcow_aes(&passphrase)?,
                Some(volume) => {
                    let key = volume.open(&place(file, header)?, &passphrase, limits).await?.key;
                    CipherCoding::of(volume.cipher(&key)?.0, Numbers::Stored)
                }
            }
        };
        let slots = volume.map(|volume| KeySlots::new(volume, given.key_secret.clone(), limits));
        Ok(Some(Self { coding, format, key_secret: given.key_secret, slots }))
    }

    /// The option by which the image is opened again.
    pub(super) fn naming_options(&self) -> Options {
        encryption::naming_options("encrypt.key-secret", self.key_secret.as_deref())
    }

    /// What `info` tells of it.
    pub(super) fn describe(&self) -> ImageInfoSpecificQCow2Encryption {
        let told = self.slots.as_ref().and_then(|slots| slots.describe(false));
        let Some(told) = told else {
            return ImageInfoSpecificQCow2Encryption {
                ivgen_alg: None,
                detached_header: None,
                hash_alg: None,
                cipher_alg: None,
                uuid: None,
                ivgen_hash_alg: None,
                format: self.format,
                cipher_mode: None,
                slots: None,
                payload_offset: None,
                master_key_iters: None,
            };
        };
        ImageInfoSpecificQCow2Encryption {
            ivgen_alg: Some(told.ivgen_alg),
            detached_header: Some(told.detached_header),
            hash_alg: Some(told.hash_alg),
            cipher_alg: Some(told.cipher_alg),
            uuid: Some(told.uuid),
            ivgen_hash_alg: told.ivgen_hash_alg,
            format: self.format,
            cipher_mode: Some(told.cipher_mode),
            slots: Some(told.slots),
            payload_offset: Some(told.payload_offset),
            master_key_iters: Some(told.master_key_iters),
        }
    }

    /// Whether a passphrase opens the image; refused if not. Where nothing in the image tells that, it must be the one with which
    /// the image is open.
    pub(super) async fn judge(&self, file: &Arc<Node>, header: &Header, passphrase: &Secret) -> Result<()> {
        if let Some(slots) = &self.slots {
            return slots.judge(&place(file, header)?, passphrase).await;
        }
        encryption::judge_qcow_aes(&*self.coding, passphrase)
    }

    /// The kind has key slots.
    pub(super) fn has_slots(&self) -> bool {
        self.slots.is_some()
    }

    /// Changes its key slots. Nothing else of the image changes.
    pub(super) async fn amend(
        &self,
        file: &Arc<Node>,
        header: &Header,
        options: &QCryptoBlockAmendOptionsLUKS,
        objects: &Objects,
        force: bool,
    ) -> Result<()> {
        let Some(slots) = &self.slots else {
            return Err(BlockError::unsupported("an image with the old AES encryption has no key slots"));
        };
        slots.amend(&place(file, header)?, options, objects, force).await
    }
}

/// What the options say, whatever the kind.
struct Given {
    format: Option<Format>,
    key_secret: Option<String>,
    luks: QCryptoBlockOptionsLUKS,
}

impl Given {
    fn of(options: &Qcow2Options) -> Self {
        let none = QCryptoBlockOptionsLUKS { key_secret: None, x_max_rounds: None, x_max_memory: None };
        match options.encrypt.as_ref() {
            None => Self { format: None, key_secret: options.x_key_secret.clone(), luks: none },
            Some(BlockdevQcow2Encryption::Aes(aes)) => {
                Self { format: Some(Format::Aes), key_secret: aes.key_secret.clone(), luks: none }
            }
            Some(BlockdevQcow2Encryption::Luks(luks)) => {
                Self { format: Some(Format::Luks), key_secret: luks.key_secret.clone(), luks: luks.clone() }
            }
        }
    }
}

/// Where the LUKS header is.
fn place(file: &Arc<Node>, header: &Header) -> Result<Place> {
    let (offset, len) = header.encryption().ok_or(HeaderError::NoEncryptionHeader)?;
    Ok(Place { file: file.clone(), offset, len })
}

async fn read(place: &Place) -> Result<Volume> {
    let volume = Volume::read(place).await.map_err(|e| e.context("the image's LUKS header"))?;
    match volume {
        Volume::Luks1(_) => Ok(volume),
        Volume::Luks2(_) => Err(BlockError::unsupported("an image can't have a header of LUKS version 2")),
    }
}

/// Stores zeroes as data in whole clusters of the file.
pub(super) async fn store_zeroes(coding: &dyn Coding, file: &Node, at: CodedAt, len: u64) -> Result<()> {
    let piece = coding.at_once().max(coding.unit() as usize);
    let zeroes = BufMut::zeroed(len.min(piece as u64) as usize);
    let mut done = 0;
    while done < len {
        let mut stored = BufMut::with_len((len - done).min(piece as u64) as usize);
        let at = CodedAt { guest: at.guest + done, stored: at.stored + done };
        coding.encode(at, zeroes.get(..stored.len()).unwrap_or_default(), &mut stored)?;
        done += stored.len() as u64;
        file.write(at.stored, stored.freeze(), Request::DRIVER).await?;
    }
    Ok(())
}

/// Options of open where the kind of encryption is left to the image: the schema has a word of its own for them.
pub(super) fn adapt_open(options: &mut Options) -> Result<()> {
    let Some(mut encrypt) = options.take_dict("encrypt")? else { return Ok(()) };
    if encrypt.get("format").is_none() {
        if let Some(secret) = encrypt.take_str("key-secret")? {
            options.set("x-key-secret", Opt::Str(secret));
        }
        return encrypt.finish();
    }
    options.set("encrypt", Opt::Dict(encrypt));
    Ok(())
}

/// Options of amend that are about key slots.
pub(super) fn slot_options(mut encrypt: Options) -> Result<QCryptoBlockAmendOptionsLUKS> {
    match encrypt.take_str("format")?.as_deref() {
        None | Some("luks") => encrypt.read(),
        Some(other) => {
            Err(BlockError::invalid(format!("encryption of the kind '{other}' has no options to amend")))
        }
    }
}

/// The encryption of an image that is to be made, of options that have been judged.
#[derive(Debug, Clone, Copy)]
pub(super) enum NewEncryption {
    Aes,
    Luks(NewVolume),
}

impl NewEncryption {
    pub(super) fn new(options: &Qcow2CreateEncryption) -> Result<Self> {
        match options {
            Qcow2CreateEncryption::Aes(_) => Ok(Self::Aes),
            Qcow2CreateEncryption::Luks(luks) => Ok(Self::Luks(NewVolume::new(luks)?)),
        }
    }

    /// `crypt_method` of the header.
    pub(super) fn method(&self) -> u32 {
        match self {
            Self::Aes => 1,
            Self::Luks(_) => 2,
        }
    }

    /// Bytes of the LUKS header and its key material.
    pub(super) fn header_len(&self) -> u64 {
        match self {
            Self::Aes => 0,
            Self::Luks(volume) => volume.header_len(),
        }
    }

    /// Makes the key, which takes seconds: the form of the data, and what there is to write for it, if anything.
    pub(super) async fn make(
        self,
        objects: &Objects,
        options: &Qcow2CreateEncryption,
    ) -> Result<(Arc<dyn Coding>, Option<Change>)> {
        let id = match options {
            Qcow2CreateEncryption::Aes(aes) => aes.key_secret.as_deref(),
            Qcow2CreateEncryption::Luks(luks) => luks.key_secret.as_deref(),
        };
        let passphrase = encryption::passphrase_of(objects, "encrypt.key-secret", id)?;
        match self {
            Self::Aes => Ok((encryption::qcow_aes(&passphrase)?, None)),
            Self::Luks(volume) => {
                let (key, change) = volume.make(passphrase, Payload::Packed).await?;
                let (cipher, _) = Volume::Luks1(Box::new(change.header.clone())).cipher(&key)?;
                Ok((CipherCoding::of(cipher, Numbers::Stored), Some(change)))
            }
        }
    }
}
