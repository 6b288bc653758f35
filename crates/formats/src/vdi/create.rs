//! Making an image. The header comes last: until everything else is durable, the file is no image.
use super::header::{self, BLOCK, FREE, Header, Kind, MOST_BLOCKS};
use crate::new_file;
use api::{PreallocMode, VdiCreateOptions};
use block::metacache::{Codec, Le32};
use block::{BlockError, Create, CreateRequest, Node, Opt, Options, Request, Result};
use rt::Buf;
use std::sync::Arc;

/// Entries that are written at a time.
const PIECE: u32 = 1 << 18;

pub(super) const CREATE: Create<VdiCreateOptions> = Create {
    adapt: Some(adapt),
    judge: |size, options| plan(size, options).map(drop),
    create: |request| Box::pin(create(request)),
    measure: None,
};

/// A static image is one whose table is made from the start.
fn adapt(options: &mut Options) -> Result<()> {
    if options.take_bool("static")?.unwrap_or(false) {
        options.set("preallocation", Opt::Str("metadata".to_owned()));
    }
    Ok(())
}

fn plan(size: u64, options: &VdiCreateOptions) -> Result<Header> {
    let kind = match options.preallocation.unwrap_or(PreallocMode::Off) {
        PreallocMode::Off => Kind::Dynamic,
        PreallocMode::Metadata => Kind::Static,
        other => {
            let text = format!("a VDI image can have preallocation 'off' or 'metadata', not '{other}'");
            return Err(BlockError::invalid(text));
        }
    };
    let most = u64::from(MOST_BLOCKS) * BLOCK;
    let whole = size.checked_next_multiple_of(512).filter(|size| *size <= most);
    let too_large = || {
        // Scripts know this sentence.
        let text = format!("Unsupported VDI image size (size is {size:#x}, max supported is {most:#x})");
        BlockError::unsupported(text)
    };
    Ok(Header::new(whole.ok_or_else(too_large)?, kind))
}

async fn create(request: CreateRequest<'_, VdiCreateOptions>) -> Result<()> {
    let CreateRequest { file, size, options, .. } = request;
    let header = plan(size, &options)?;
    let used = if header.kind == Kind::Static { u64::from(header.blocks) } else { 0 };
    let end = header.data + used * BLOCK;
    new_file::make_of_length(&file, end, header::LEN).await?;
    if !file.facts().grows_with_zeroes {
        // Blocks of a static image show what is in their places.
        file.write_zeroes(header.data, end - header.data, Request::DRIVER).await?;
    }
    write_table(&file, &header).await?;
    file.flush().await?;
    write(&file, 0, &header.with_allocated(used as u32)).await?;
    file.flush().await
}

async fn write_table(file: &Arc<Node>, header: &Header) -> Result<()> {
    let free = Le32::bytes(&vec![FREE; PIECE.min(header.blocks) as usize]).freeze();
    for first in (0..header.blocks).step_by(PIECE as usize) {
        let end = header.blocks.min(first + PIECE);
        let piece = match header.kind {
            Kind::Dynamic => free.slice(..(end - first) as usize * 4),
            Kind::Static => Le32::bytes(&(first..end).collect::<Vec<_>>()).freeze(),
        };
        file.write(header.table + u64::from(first) * 4, piece, Request::DRIVER).await?;
    }
    Ok(())
}

async fn write(file: &Arc<Node>, offset: u64, bytes: &[u8]) -> Result<()> {
    file.write(offset, Buf::from_slice(bytes), Request::DRIVER).await
}
