//! Making an image: a header and a bitmap of zeroes. The first sector comes last, when the rest is durable.
use super::header::{Header, LENGTH, SECTOR};
use crate::new_file;
use api::CowCreateOptions;
use block::{BlockError, Create, CreateOption, CreateRequest, ErrorKind, OptionKind, Request, Result};
use rt::Buf;

pub(super) const OPTIONS: &[CreateOption] = &[
    CreateOption::SIZE,
    CreateOption::new("backing_file", OptionKind::Str, "File name of a base image"),
    CreateOption::new("backing_fmt", OptionKind::Str, "Format of the backing image"),
];

pub(super) const CREATE: Create<CowCreateOptions> = Create {
    adapt: None,
    judge: |size, options| new_header(size, options).map(drop),
    create: |request| Box::pin(create(request)),
    measure: None,
};

fn new_header(size: u64, options: &CowCreateOptions) -> Result<Header> {
    let size = size.checked_next_multiple_of(SECTOR).filter(|size| i64::try_from(*size).is_ok());
    let too_large = || BlockError::new(ErrorKind::Limit, "the image size is too large for file format 'cow'");
    let header = Header::new(size.ok_or_else(too_large)?, options.backing_file.as_deref())?;
    // The last sector must have a place.
    let end = header.data_offset().checked_add(header.size);
    end.filter(|end| i64::try_from(*end).is_ok()).map(|_| header).ok_or_else(too_large)
}

async fn create(request: CreateRequest<'_, CowCreateOptions>) -> Result<()> {
    let CreateRequest { file, size, options, .. } = request;
    let header = new_header(size, &options)?;
    let end = header.data_offset();
    new_file::require_room(&file, end + header.size)?;
    new_file::empty(&file, LENGTH as usize).await?;
    new_file::write_zeroes(&file, 0..end).await?;
    let bytes = header.bytes();
    let (first, rest) = bytes.split_at(SECTOR as usize);
    file.write(SECTOR, Buf::from_slice(rest), Request::DRIVER).await?;
    file.flush().await?;
    file.write(0, Buf::from_slice(first), Request::DRIVER).await?;
    file.flush().await
}
