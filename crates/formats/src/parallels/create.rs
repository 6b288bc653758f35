//! Making an image. The header comes last: until everything else is durable, the file is no image.
use super::header::{Header, LEN, SECTOR};
use api::ParallelsCreateOptions;
use block::{BlockError, Create, CreateRequest, ErrorKind, Node, Request, Result};
use rt::{Buf, BufMut};
use std::sync::Arc;

/// Bytes of a cluster where nothing else is asked for.
const CLUSTER: u64 = 1 << 20;
/// Bytes that are written at a time.
const PIECE: u64 = 1 << 20;
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
    empty(&file, header.data).await?;
    // Whole, zeroes too: no later change of the table needs space that the file system may not have.
    let zeroes = BufMut::zeroed(PIECE as usize).freeze();
    for at in (0..header.data).step_by(PIECE as usize) {
        let piece = zeroes.slice(..PIECE.min(header.data - at) as usize);
        file.write(at, piece, Request::DRIVER).await?;
    }
    file.flush().await?;
    file.write(0, Buf::from_slice(&header.bytes()), Request::DRIVER).await?;
    file.flush().await
}

/// Takes the old content away, and makes the file `end` bytes long.
async fn empty(file: &Arc<Node>, end: u64) -> Result<()> {
    if file.facts().grows_with_zeroes {
        let driver = file.driver();
        driver.resize(0, api::PreallocMode::Off).await?;
        return driver.resize(end, api::PreallocMode::Off).await;
    }
    if file.length() < end {
        let text = format!("the image needs {end} bytes, '{}' has {}", file.filename(), file.length());
        return Err(BlockError::new(ErrorKind::NoSpace, text));
    }
    // A device keeps its content: no old header may be found when the power goes meanwhile.
    file.write(0, Buf::from_slice(&[0; LEN]), Request::DRIVER).await?;
    file.flush().await
}
