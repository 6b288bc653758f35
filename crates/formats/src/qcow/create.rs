//! Making an image: a header and an L1 table of zeroes.
//!
//! The header comes last, when the table is durable: a power cut leaves a file that is no image, or the whole image.
use super::header::{self, Header, MAX_NAME};
use crate::{encryption, new_file};
use api::{BlockdevQcowEncryption, QcowCreateOptions};
use block::{BlockError, Create, CreateOption, CreateRequest, ErrorKind, OptionKind, Request, Result};
use rt::Buf;

/// The table ends with a sector's end.
const SECTOR: u64 = 512;

pub(super) const OPTIONS: &[CreateOption] = &[
    CreateOption::SIZE,
    CreateOption::new("backing_file", OptionKind::Str, "File name of a base image"),
    CreateOption::new("backing_fmt", OptionKind::Str, "Format of the backing image"),
    CreateOption::new(
        "encryption",
        OptionKind::Bool,
        "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)",
    ),
    CreateOption::new("encrypt.format", OptionKind::Str, "Encrypt the image, format choices: 'aes'"),
    CreateOption::new(
        "encrypt.key-secret",
        OptionKind::Str,
        "ID of the secret that provides the AES encryption key",
    ),
];

pub(super) const CREATE: Create<QcowCreateOptions> = Create {
    adapt: Some(encryption::adapt_create),
    judge: |size, options| new_header(size, options).map(drop),
    create: |request| Box::pin(create(request)),
    measure: None,
};

fn new_header(size: u64, options: &QcowCreateOptions) -> Result<Header> {
    if size == 0 {
        return Err(BlockError::invalid("Image size is too small, cannot be zero length"));
    }
    let name = options.backing_file.as_deref().filter(|name| !name.is_empty());
    if name.is_some_and(|name| codec::filename::bytes(name.as_bytes()).len() > MAX_NAME) {
        let text = format!("the backing file name is too long: at most {MAX_NAME} bytes can be stored");
        return Err(BlockError::new(ErrorKind::Limit, text));
    }
    let size = size.checked_next_multiple_of(SECTOR).filter(|size| i64::try_from(*size).is_ok());
    let header = size.and_then(|size| Header::new(size, options.encrypt.is_some(), name));
    header.ok_or_else(|| {
        BlockError::new(ErrorKind::Limit, "the image size is too large for file format 'qcow'")
    })
}

async fn create(request: CreateRequest<'_, QcowCreateOptions>) -> Result<()> {
    let CreateRequest { file, size, options, places } = request;
    let header = new_header(size, &options)?;
    if let Some(BlockdevQcowEncryption::Aes(aes)) = &options.encrypt {
        // There is nothing to store of it, but it must be there.
        let id = aes.key_secret.as_deref();
        encryption::passphrase_of(places.objects(), "encrypt.key-secret", id)?;
    }
    let g = header.geometry();
    let end = g.l1_offset + (8 * g.l1_entries).next_multiple_of(SECTOR);
    new_file::require_room(&file, end)?;
    new_file::empty(&file, header::LENGTH as usize).await?;
    new_file::write_zeroes(&file, 0..end).await?;
    file.flush().await?;
    // A name of more than a sector comes before the sector that leads to it.
    let bytes = header.bytes();
    let (first, rest) = bytes.split_at(bytes.len().min(SECTOR as usize));
    if !rest.is_empty() {
        file.write(SECTOR, Buf::from_slice(rest), Request::DRIVER).await?;
        file.flush().await?;
    }
    file.write(0, Buf::from_slice(first), Request::DRIVER).await?;
    file.flush().await
}
