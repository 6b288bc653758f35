//! Encryption by librbd: how an image is formatted and opened.
use crate::functions::{AnyLuksOptions, EncryptionSpec, LuksOptions};
use crate::image::Image;
use crate::library::{checked, too_old};
use std::ffi::{c_int, c_void};
use std::io;
use std::ptr::from_mut;

/// The header of an encrypted image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// LUKS1.
    Luks1,
    /// LUKS2.
    Luks2,
    /// Either; only of images that exist. Needs Ceph 18.
    AnyLuks,
}

/// The cipher of a new image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cipher {
    /// AES with 128 bits, in XTS mode.
    Aes128,
    /// AES with 256 bits, in XTS mode.
    Aes256,
}

/// How an image is opened: its header, and the bytes of its passphrase.
#[derive(Clone, Copy)]
pub struct Encryption<'a> {
    /// Its header.
    pub format: Format,
    /// Its passphrase.
    pub passphrase: &'a [u8],
}

impl Format {
    /// `rbd_encryption_format_t`.
    fn code(self) -> c_int {
        match self {
            Self::Luks1 => 0,
            Self::Luks2 => 1,
            Self::AnyLuks => 2,
        }
    }
}

/// The options of one header, in the shape that its format has.
enum Options {
    One(LuksOptions),
    Any(AnyLuksOptions),
}

impl Options {
    fn of(encryption: &Encryption<'_>, cipher: Cipher) -> Self {
        let (passphrase, passphrase_size) =
            (encryption.passphrase.as_ptr().cast(), encryption.passphrase.len());
        match encryption.format {
            Format::AnyLuks => Self::Any(AnyLuksOptions { passphrase, passphrase_size }),
            Format::Luks1 | Format::Luks2 => {
                let algorithm = if cipher == Cipher::Aes128 { 0 } else { 1 };
                Self::One(LuksOptions { algorithm, passphrase, passphrase_size })
            }
        }
    }

    fn raw(&mut self) -> (*mut c_void, usize) {
        match self {
            Self::One(options) => (from_mut(options).cast(), size_of::<LuksOptions>()),
            Self::Any(options) => (from_mut(options).cast(), size_of::<AnyLuksOptions>()),
        }
    }
}

impl Image {
    /// Writes a header for encryption. What the image held is lost. From then on the image shows the decrypted disk, which is smaller.
    pub fn format(&self, encryption: Encryption<'_>, cipher: Cipher) -> io::Result<()> {
        let format = self.functions().rbd_encryption_format.ok_or_else(|| too_old("encryption"))?;
        let mut options = Options::of(&encryption, cipher);
        let (pointer, size) = options.raw();
        // SAFETY: the image is open; the options are in the shape of the format, and live during the call.
        checked(unsafe { format(self.handle(), encryption.format.code(), pointer, size) }).map(drop)
    }

    /// Opens an encrypted image, and what it is a clone of: the first is its own, the next its parent's, and so on; the last
    /// holds of the remaining ones too. From then on the image shows the decrypted disk. No request is under way.
    pub fn load(&self, layers: &[Encryption<'_>]) -> io::Result<()> {
        let functions = self.functions();
        let mut options: Vec<_> = layers.iter().map(|layer| Options::of(layer, Cipher::Aes256)).collect();
        let specs: Vec<_> = layers
            .iter()
            .zip(&mut options)
            .map(|(layer, options)| {
                let (options, options_size) = options.raw();
                EncryptionSpec { format: layer.format.code(), options, options_size }
            })
            .collect();
        let answer = match (functions.rbd_encryption_load2, functions.rbd_encryption_load, specs.as_slice()) {
            // SAFETY: the image is open; the options are in the shapes of their formats and live during the call.
            (Some(load), _, specs) => unsafe { load(self.handle(), specs.as_ptr(), specs.len()) },
            (None, Some(load), [spec]) if spec.format != Format::AnyLuks.code() => {
                // SAFETY: as above.
                unsafe { load(self.handle(), spec.format, spec.options, spec.options_size) }
            }
            (None, Some(_), [_]) => return Err(too_old("'luks-any'")),
            (None, Some(_), _) => return Err(too_old("a parent with an encryption of its own")),
            (None, None, _) => return Err(too_old("encryption")),
        };
        checked(answer).map(drop)
    }
}
