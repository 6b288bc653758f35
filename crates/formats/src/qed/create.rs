//! Making an image: a header and an L1 table of zeroes.
//!
//! The fields of the header come last, when what they lead to is durable: a power cut leaves a file that is no image, or the
//! whole image.
use super::header::{self, Header};
use crate::new_file;
use api::QedCreateOptions;
use block::{BlockError, Create, CreateOption, CreateRequest, ErrorKind, Link, OptionKind, Result};

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
    new_file::require_room(&file, end)?;
    let fresh = new_file::empty(&file, header::LENGTH as usize).await?;
    let start = if fresh { header.l1_offset } else { 0 };
    new_file::write_zeroes(&file, start..end).await?;
    file.flush().await?;
    header.store_with_name(&file).await
}
