//! Making an image: a header and a bitmap of zeroes. The first sector comes last, when the rest is durable.
use super::header::{Header, LENGTH, SECTOR};
use api::{CowCreateOptions, PreallocMode};
use block::{BlockError, Create, CreateOption, CreateRequest, ErrorKind, Node, OptionKind, Request, Result};
use rt::{Buf, BufMut};
use std::sync::Arc;

/// Bytes of zeroes that are written at a time.
const PIECE: u64 = 1 << 20;

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
    if !file.facts().grows_with_zeroes && end + header.size > file.length() {
        let text = format!(
            "the image needs {} bytes, '{}' has {}",
            end + header.size,
            file.filename(),
            file.length()
        );
        return Err(BlockError::new(ErrorKind::NoSpace, text));
    }
    empty(&file).await?;
    for at in (0..end).step_by(PIECE as usize) {
        let zeroes = BufMut::zeroed(PIECE.min(end - at) as usize);
        file.write(at, zeroes.freeze(), Request::DRIVER).await?;
    }
    let bytes = header.bytes();
    let (first, rest) = bytes.split_at(SECTOR as usize);
    file.write(SECTOR, Buf::from_slice(rest), Request::DRIVER).await?;
    file.flush().await?;
    file.write(0, Buf::from_slice(first), Request::DRIVER).await?;
    file.flush().await
}

/// Takes the old content away. A device keeps its content: there no old header may be found.
async fn empty(file: &Arc<Node>) -> Result<()> {
    if file.length() > 0 && file.driver().resize(0, PreallocMode::Off).await.is_err() {
        file.write(0, Buf::from_slice(&[0; LENGTH as usize]), Request::DRIVER).await?;
        return file.flush().await;
    }
    Ok(())
}
