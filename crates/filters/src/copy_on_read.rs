//! `copy-on-read`: a filter that copies what is read from backing images into the image that it filters.
//!
//! Before a range is read, what the image does not hold of it itself is stored there, by units of what it allocates at once,
//! where it still holds nothing when its turn comes: what others write meanwhile stays. With `bottom`, only what that layer
//! and those above it hold. Then the range is read from the image as always.
//!
//! It writes also when it is itself read-only, and nothing that changes what is shown. Over an image that becomes read-only
//! it copies nothing; it is not put over one that is.
use api::CopyOnReadOptions;
use arc_swap::ArcSwapOption;
use block::{
    BlockError, Common, Driver, DriverType, Edge, ErrorKind, Extent, ExtentKind, Filtered, Flags, Node, Open,
    OpenContext, Opened, Options, Perms, Reopened, Request, Result, Share, Want,
};
use rt::{BoxFuture, BufMut};
use std::sync::Arc;

/// The `copy-on-read` driver.
pub const COPY_ON_READ: DriverType =
    DriverType { name: "copy-on-read", open: &Open(open), copies_on_read: true, ..DriverType::FILTER };

/// Bytes that are copied at once, or a cluster.
const MOST: u64 = 1 << 20;

struct CopyOnRead {
    below: Filtered,
    /// The lowest layer from which is copied; none: the lowest of the chain.
    bottom: ArcSwapOption<Node>,
}

fn open(context: &mut OpenContext, options: CopyOnReadOptions) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let below = context.filtered().await?;
        let child = below.node()?;
        if child.read_only() {
            return Err(BlockError::new(ErrorKind::ReadOnly, "Block node is read-only").at_node(child.name()));
        }
        let bottom = options.bottom.map(|name| layer(&child, &name)).transpose()?;
        let driver = CopyOnRead { below, bottom: ArcSwapOption::new(bottom) };
        Ok(Opened { driver: Arc::new(driver), filename: None })
    })
}

/// The image that a node shows unchanged (of a raw node its file), and where a range of the node begins there.
async fn image(mut node: Arc<Node>, mut offset: u64, len: u64) -> Result<(Arc<Node>, u64)> {
    loop {
        let shown = node.skip_filters();
        if !shown.facts().transparent {
            return Ok((node, offset));
        }
        let ExtentKind::Data { child, offset: there, .. } =
            shown.driver().map(offset, len, Want::Status).await?.kind
        else {
            return Ok((node, offset));
        };
        (node, offset) = (shown.edges().need(child)?, there);
    }
}

/// The layer of this name.
fn layer(child: &Arc<Node>, name: &str) -> Result<Arc<Node>> {
    child.images().find(|layer| layer.name() == name).ok_or_else(|| {
        let text = format!("Bottom node '{name}' not found: it is no layer of '{}'", child.name());
        BlockError::new(ErrorKind::NotFound, text)
    })
}

impl CopyOnRead {
    /// How many bytes of the start of a range the image holds itself, if that can be told at once.
    fn held(&self, offset: u64, len: u64) -> Option<u64> {
        let look = |child: &Node| {
            let extent = child.driver().try_map(offset, len, Want::Read);
            let held = !child.facts().transparent && extent.is_some_and(|e| !e.kind.is_hole());
            Ok(extent.filter(|_| held).map(|extent| extent.len))
        };
        self.below.with(None, look).ok().flatten()
    }

    /// Copies what only layers below hold of a range into the image.
    async fn copy_up(&self, offset: u64, len: u64) -> Result<()> {
        let (child, offset) = image(self.below.node()?, offset, len).await?;
        let top = child.skip_filters();
        let facts = top.facts();
        if top.backing().is_none() || !facts.can_fill || child.read_only() || !child.is_active() {
            return Ok(());
        }
        // What is below the bottom is not looked at. A bottom that has left the chain ends nothing.
        let bottom = self.bottom.load_full();
        let bottom = bottom.filter(|bottom| child.images().any(|layer| Arc::ptr_eq(&layer, bottom)));
        let base = bottom.and_then(|bottom| bottom.backing());
        let unit = facts.allocation_unit.or(facts.cluster_size).unwrap_or(1).max(1);
        let end = (offset + len).next_multiple_of(unit).min(child.length());
        let mut at = offset - offset % unit;
        while at < end {
            let status = child.status(at, end - at, base.as_ref()).await?;
            let held = status.allocated && status.depth == 0;
            // What nobody holds is stored as zeroes, but not what only those hold that are not looked at.
            let wanted = !held && (status.allocated || base.is_none());
            let len = if status.zero || !wanted { status.len } else { status.len.min(MOST.max(unit)) };
            if wanted {
                self.fill(&child, at, len, status.zero).await?;
            }
            at += len;
        }
        Ok(())
    }

    /// Stores what the image shows in a range, where it holds nothing itself.
    async fn fill(&self, child: &Arc<Node>, at: u64, len: u64, zero: bool) -> Result<()> {
        let request = Request::JOB.with(Flags::IF_UNALLOCATED.union(Flags::UNCHANGED));
        if zero {
            return match child.write_zeroes(at, len, request.with(Flags::MAY_UNMAP)).await {
                // They are shown without being held.
                Err(e) if e.kind() == ErrorKind::Unsupported => Ok(()),
                filled => filled,
            };
        }
        let (data, read) = child.read(at, BufMut::with_len(len as usize)).await;
        read?;
        child.write(at, data.freeze(), request).await
    }
}

impl Driver for CopyOnRead {
    fn filtered(&self) -> Option<&Filtered> {
        Some(&self.below)
    }

    fn try_map(&self, offset: u64, len: u64, want: Want) -> Option<Extent> {
        match want {
            Want::Read => self.held(offset, len).map(|held| self.below.place(offset, len.min(held))),
            _ => Some(self.below.place(offset, len)),
        }
    }

    fn map(&self, offset: u64, len: u64, want: Want) -> BoxFuture<'_, Result<Extent>> {
        Box::pin(async move {
            let held = if want == Want::Read { self.held(offset, len) } else { Some(len) };
            if held.is_none_or(|held| held < len) {
                self.copy_up(offset, len).await?;
            }
            Ok(self.below.place(offset, len))
        })
    }

    fn child_perms(&self, _: &Edge, parents: Perms, _: bool) -> Perms {
        match self.below.with(false, |child| Ok(!child.read_only())) {
            Ok(true) => Perms { need: parents.need.union(Share::WRITE_UNCHANGED), ..parents },
            _ => parents,
        }
    }

    fn reopen<'a>(&'a self, options: Options, _: &Common) -> BoxFuture<'a, Result<Reopened<'a>>> {
        Box::pin(async move {
            let CopyOnReadOptions { bottom } = options.read()?;
            let child = self.below.node()?;
            let bottom = bottom.map(|name| layer(&child, &name)).transpose()?;
            Ok(Box::new(move || self.bottom.store(bottom)) as Reopened<'a>)
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        self.bottom.store(None);
        Box::pin(std::future::ready(Ok(())))
    }
}
