//! Making an image: a header and an L1 table of zeroes.
//!
//! The fields of the header come last, when what they lead to is durable: a power cut leaves a file that is no image, or the
//! whole image.
use super::header::{self, Header};
use api::{PreallocMode, QedCreateOptions};
use block::{
    BlockError, Create, CreateOption, CreateRequest, ErrorKind, Link, Node, OptionKind, Request, Result,
};
use rt::{Buf, BufMut};
use std::sync::Arc;

/// Bytes of zeroes that are written at a time.
const PIECE: u64 = 1 << 20;

pub(super) const OPTIONS: &[CreateOption] = &[
    CreateOption::SIZE,
    CreateOption::new("backing_file", OptionKind::Str, "File name of a base image"),
    CreateOption::new("backing_fmt", OptionKind::Str, "Image format of the base image"),
    CreateOption::new("cluster_size", OptionKind::Size, "Cluster size (in bytes)").default("65536"),
    CreateOption::new("table_size", OptionKind::Size, "L1/L2 table size (in clusters)"),
];

pub(super) const CREATE: Create<QedCreateOptions> = Create {
    adapt: None,
    judge: |size, options| new_header(size, options).map(drop),
    create: |request| Box::pin(create(request)),
    measure: None,
};

fn new_header(size: u64, options: &QedCreateOptions) -> Result<Header> {
    let cluster_size = options.cluster_size.map_or(65536, |size| size.0);
    if !cluster_size.is_power_of_two() || !(4096..=1 << 26).contains(&cluster_size) {
        let text = "QED cluster size must be within range [4096, 67108864] and power of 2";
        return Err(BlockError::invalid(text));
    }
    let table_size = options.table_size.map_or(4, |size| size.0);
    if !table_size.is_power_of_two() || table_size > 16 {
        return Err(BlockError::invalid("QED table size must be within range [1, 16] and power of 2"));
    }
    let (cluster_size, table_size) = (cluster_size as u32, table_size as u32);
    let most = header::max_size(cluster_size, table_size);
    let size = size.checked_next_multiple_of(512).filter(|size| *size <= most).ok_or_else(|| {
        let text =
            format!("QED image size must be at most {most} bytes with tables and clusters of these sizes");
        BlockError::new(ErrorKind::Limit, text)
    })?;
    let link = Link { filename: options.backing_file.clone(), format: options.backing_fmt.clone() };
    Ok(Header::new(cluster_size, table_size, size).with_link(&link)?)
}

async fn create(request: CreateRequest<'_, QedCreateOptions>) -> Result<()> {
    let CreateRequest { file, size, options, .. } = request;
    let header = new_header(size, &options)?;
    let end = header.l1_offset + 8 * header.geometry().l1_entries;
    if !file.facts().grows_with_zeroes && end > file.length() {
        let text = format!("the image needs {end} bytes, '{}' has {}", file.filename(), file.length());
        return Err(BlockError::new(ErrorKind::NoSpace, text));
    }
    empty(&file).await?;
    let fresh = file.length() == 0 && file.facts().grows_with_zeroes;
    let start = if fresh { header.l1_offset } else { 0 };
    for at in (start..end).step_by(PIECE as usize) {
        let zeroes = BufMut::zeroed(PIECE.min(end - at) as usize);
        file.write(at, zeroes.freeze(), Request::DRIVER).await?;
    }
    file.flush().await?;
    header.store_with_name(&file).await
}

/// Takes the old content away. A device keeps its content: there no old header may be found.
async fn empty(file: &Arc<Node>) -> Result<()> {
    if file.length() > 0 && file.driver().resize(0, PreallocMode::Off).await.is_err() {
        file.write(0, Buf::from_slice(&[0; header::LENGTH as usize]), Request::DRIVER).await?;
        return file.flush().await;
    }
    Ok(())
}
