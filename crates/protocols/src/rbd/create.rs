//! Making an image in a cluster: an empty one is made under the name, encrypted if that is asked for, and gets its size afterwards.
use super::connect::{Place, os};
use super::location::shown;
use api::{BlockdevOptionsRbd, QCryptoCipherAlgo, RbdEncryptionCreateOptions, RbdPlaceOptions};
use block::{
    BlockError, Claim, Claiming, CreateOption, Objects, OptionKind, Options, PlaceRequest, Result, Secret,
};
use ceph::{Cipher, Encryption, Format};
use rt::BoxFuture;

pub(super) const OPTIONS: &[CreateOption] = &[
    CreateOption::new("cluster_size", OptionKind::Size, "RBD object size"),
    CreateOption::new(
        "encrypt.cipher-alg",
        OptionKind::Str,
        "Name of encryption cipher algorithm (allowed values: aes-128, aes-256)",
    ),
    CreateOption::new(
        "encrypt.format",
        OptionKind::Str,
        "Encrypt the image, format choices: 'luks', 'luks2'",
    ),
    CreateOption::new("encrypt.key-secret", OptionKind::Str, "ID of secret providing LUKS passphrase"),
    CreateOption::new("password-secret", OptionKind::Str, "ID of secret providing the password"),
    CreateOption::SIZE,
];

/// Bytes of an image in which a header for encryption has room, whatever its objects' size: it takes whole objects.
const ROOM: u64 = 128 << 20;

/// Bytes of the smallest object.
const SMALLEST: u64 = 4096;

/// Makes an empty image.
pub(super) fn claim(request: PlaceRequest<'_, RbdPlaceOptions>) -> Claiming<'_> {
    Box::pin(async move {
        let PlaceRequest { location, objects, options, .. } = request;
        let mut location: BlockdevOptionsRbd = location.read()?;
        if location.snapshot.is_some() {
            return Err(BlockError::invalid("an image can't be made in a snapshot"));
        }
        location.encrypt = None;
        location.key_secret = location.key_secret.or_else(|| options.password_secret.clone());
        let order = options.cluster_size.map(|size| order(size.0)).transpose()?;
        let header = options.encrypt.as_ref().map(|encrypt| Header::of(encrypt, objects)).transpose()?;
        let opened_with = further(&options);
        let place = Place::of(location, objects)?;
        let claimed = Claimed { place: place.clone(), opened_with };
        rt::blocking(move || make(&place, order, header)).await?;
        Ok(Box::new(claimed) as Box<dyn Claim>)
    })
}

fn make(place: &Place, order: Option<u8>, header: Option<Header>) -> Result<()> {
    let name = &place.location.image;
    let size = if header.is_some() { ROOM } else { 0 };
    let pool = place.connect(false)?.pool;
    pool.create(name, size, order).map_err(os("error rbd create"))?;
    let Some(header) = header else { return Ok(()) };
    let formatted = place.open(pool, false).and_then(|open| {
        let encryption = Encryption { format: header.format, passphrase: header.passphrase.bytes() };
        let formatted = open.image.format(encryption, header.cipher);
        formatted.and(open.image.close()).map_err(os("encryption format fail"))
    });
    if formatted.is_err()
        && let Err(left) = remove(place)
    {
        tracing::warn!(error = %left, image = shown(&place.location), "an image that could not be encrypted stays");
    }
    formatted
}

fn remove(place: &Place) -> Result<()> {
    let pool = place.connect(false)?.pool;
    pool.remove(&place.location.image).map_err(os("error removing the image"))
}

/// The header that is to be made.
struct Header {
    format: Format,
    cipher: Cipher,
    passphrase: Secret,
}

impl Header {
    fn of(encrypt: &RbdEncryptionCreateOptions, objects: &Objects) -> Result<Self> {
        let (format, id, cipher) = match encrypt {
            RbdEncryptionCreateOptions::Luks(luks) => (Format::Luks1, &luks.key_secret, luks.cipher_alg),
            RbdEncryptionCreateOptions::Luks2(luks) => (Format::Luks2, &luks.key_secret, luks.cipher_alg),
            RbdEncryptionCreateOptions::LuksAny => {
                return Err(BlockError::invalid("a new image is encrypted with 'luks' or 'luks2'"));
            }
        };
        let cipher = match cipher {
            None | Some(QCryptoCipherAlgo::Aes256) => Cipher::Aes256,
            Some(QCryptoCipherAlgo::Aes128) => Cipher::Aes128,
            Some(other) => {
                let text = format!("RBD encrypts with 'aes-128' or 'aes-256', not with '{other}'");
                return Err(BlockError::unsupported(text));
            }
        };
        Ok(Self { format, cipher, passphrase: Secret::clone(&*objects.hold::<Secret>(id)?) })
    }
}

/// What the image is opened with then, besides its name.
fn further(options: &RbdPlaceOptions) -> Options {
    let mut further = Options::new();
    let encrypt = options.encrypt.as_ref().and_then(|encrypt| match encrypt {
        RbdEncryptionCreateOptions::Luks(luks) => Some(("luks", &luks.key_secret)),
        RbdEncryptionCreateOptions::Luks2(luks) => Some(("luks2", &luks.key_secret)),
        RbdEncryptionCreateOptions::LuksAny => None,
    });
    if let Some((format, secret)) = encrypt {
        further = further.with_str("encrypt.format", format).with_str("encrypt.key-secret", secret);
    }
    match &options.password_secret {
        Some(secret) => further.with_str("password-secret", secret),
        None => further,
    }
}

/// How many bits the size of an object has; librbd says which are too large.
fn order(size: u64) -> Result<u8> {
    if !size.is_power_of_two() {
        return Err(BlockError::invalid("obj size needs to be power of 2"));
    }
    if size < SMALLEST {
        return Err(BlockError::invalid("obj size too small"));
    }
    Ok(size.trailing_zeros() as u8)
}

/// An image that was made here.
struct Claimed {
    place: Place,
    opened_with: Options,
}

impl Claim for Claimed {
    fn opened_with(&self) -> Options {
        self.opened_with.clone()
    }

    fn settle(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn keep(self: Box<Self>) {}

    fn undo(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move { rt::blocking(move || remove(&self.place)).await })
    }
}
