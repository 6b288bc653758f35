//! Making an image. The header comes last: until everything else is durable, the file is no image.
use super::header::{Header, LEN, SECTOR};
use crate::new_file;
use api::ParallelsCreateOptions;
use block::{BlockError, Create, CreateRequest, ErrorKind, Request, Result};
use rt::Buf;

/// Bytes of a cluster where nothing else is asked for.
const CLUSTER: u64 = 1 << 20;
/// Bytes that no cluster has.
const TOO_LARGE: u64 = 2 << 30;

pub(super) const CREATE: Create<ParallelsCreateOptions> = Create {
    adapt: None,
    judge: |size, options| plan(size, options).map(drop),
    create: |request| Box::pin(create(request)),
    measure: None,
};

fn plan(size: u64, options: &ParallelsCreateOptions) -> Result<Header> {
    let cluster = options.cluster_size.map_or(CLUSTER, |size| size.0);
    if cluster >= TOO_LARGE {
        return Err(BlockError::invalid("Cluster size is too large"));
    }
    let cluster = cluster.next_multiple_of(SECTOR);
    let whole = size.checked_next_multiple_of(SECTOR).filter(|_| cluster > 0);
    let header = whole.and_then(|size| Header::new(size, cluster));
    header.ok_or_else(|| BlockError::new(ErrorKind::Limit, "Image size is too large for this cluster size"))
}

async fn create(request: CreateRequest<'_, ParallelsCreateOptions>) -> Result<()> {
    let CreateRequest { file, size, options, .. } = request;
    let header = plan(size, &options)?;
    new_file::make_of_length(&file, header.data, LEN).await?;
    new_file::write_zeroes(&file, 0..header.data).await?;
    file.flush().await?;
    file.write(0, Buf::from_slice(&header.bytes()), Request::DRIVER).await?;
    file.flush().await
}
