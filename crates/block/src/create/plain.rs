//! Disks without metadata: a file, a device, an export, as they are.
use super::{Create, CreateRequest, Measured};
use crate::error::{BlockError, ErrorKind, Result};
use crate::node::Node;
use crate::request::Request;
use api::{PlainCreateOptions, PreallocMode};
use rt::{BoxFuture, BufMut};
use std::sync::Arc;

/// Makes an empty file of the size asked for, in whole sectors. A device or an export keeps the size it has; one that is
/// large enough will do, and nothing that was in it is found at its begin any more.
pub const PLAIN: Create<PlainCreateOptions> =
    Create { adapt: None, judge: |size, options| plain(size, options).map(drop), create, measure: None };

impl Create<PlainCreateOptions> {
    /// The same for a format: its file is as large as the disk.
    #[must_use]
    pub const fn measured(self) -> Self {
        Self {
            measure: Some(|request| {
                Box::pin(async move {
                    let size = request.size.checked_next_multiple_of(512).ok_or_else(too_large)?;
                    Ok(Measured { required: size, full: size, bitmaps: None })
                })
            }),
            ..self
        }
    }
}

fn create(request: CreateRequest<'_, PlainCreateOptions>) -> BoxFuture<'_, Result<()>> {
    Box::pin(async move {
        let CreateRequest { file, size, options, .. } = request;
        let (size, preallocation) = plain(size, &options)?;
        if !file.facts().grows_with_zeroes {
            return take_over(&file, size, preallocation).await;
        }
        file.driver().resize(0, PreallocMode::Off).await?;
        file.driver().resize(size, preallocation).await?;
        file.flush().await
    })
}

/// The size in whole sectors, and how space is reserved.
fn plain(size: u64, options: &PlainCreateOptions) -> Result<(u64, PreallocMode)> {
    let preallocation = options.preallocation.unwrap_or(PreallocMode::Off);
    if preallocation == PreallocMode::Metadata {
        return Err(BlockError::invalid("Parameter 'preallocation' does not accept value 'metadata'"));
    }
    let size = size.checked_next_multiple_of(512).ok_or_else(too_large)?;
    crate::size::check_length(size)?;
    Ok((size, preallocation))
}

fn too_large() -> BlockError {
    BlockError::invalid("Image size is too large")
}

/// What is there already and has a size of its own.
async fn take_over(file: &Arc<Node>, size: u64, preallocation: PreallocMode) -> Result<()> {
    let (name, room) = (file.filename(), file.length());
    if preallocation != PreallocMode::Off {
        let text = format!("preallocation '{preallocation}' is not possible: '{name}' has a size of its own");
        return Err(BlockError::unsupported(text));
    }
    if room < size {
        let text = format!("'{name}' has {room} bytes, fewer than the {size} of the image");
        return Err(BlockError::new(ErrorKind::NoSpace, text));
    }
    let head = room.min(u64::from(file.facts().alignment).max(512));
    if head > 0 {
        file.write(0, BufMut::zeroed(head as usize).freeze(), Request::GUEST).await?;
    }
    file.flush().await
}
