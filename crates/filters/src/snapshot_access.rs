//! `snapshot-access`: the disk that a `copy-before-write` filter keeps, as it was.
//!
//! It can be read, and what is needed no more can be discarded: then the filter keeps it no longer, and the space of its copy
//! is given back. It can't be written to.
use api::codec::{Members, Object};
use api::{DecodeError, Dict};
use block::{
    BlockError, ChildId, ChildRole, ChildSpec, Driver, DriverType, Edge, Edges, Extent, ExtentKind, Facts,
    Open, OpenContext, Opened, Perms, PointInTime, Request, Result, Share, Want,
};
use rt::{BoxFuture, Buf, BufMut};
use std::sync::Arc;

/// The `snapshot-access` driver.
pub const SNAPSHOT_ACCESS: DriverType =
    DriverType { name: "snapshot-access", open: &Open(open), ..DriverType::FILTER };

/// There are none but its child.
struct NoOptions;

impl Object for NoOptions {
    fn take(_: &mut Members<'_>) -> std::result::Result<Self, DecodeError> {
        Ok(Self)
    }

    fn put(&self, _: &mut Dict) {}
}

struct SnapshotAccess {
    edges: Arc<Edges>,
    below: ChildId,
}

fn open(context: &mut OpenContext, _: NoOptions) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let role = ChildRole::DATA.union(ChildRole::PRIMARY);
        let (below, _) = context.needed(ChildSpec { name: "file".into(), role, stored: None }).await?;
        let driver = SnapshotAccess { edges: context.edges().clone(), below };
        Ok(Opened { driver: Arc::new(driver), filename: None })
    })
}

impl SnapshotAccess {
    fn disk(&self) -> Result<Arc<PointInTime>> {
        let below = self.edges.need(self.below)?;
        below.driver().point_in_time().cloned().ok_or_else(|| {
            let text =
                format!("the node '{}' keeps no snapshot: that is what copy-before-write does", below.name());
            BlockError::unsupported(text)
        })
    }
}

impl Driver for SnapshotAccess {
    fn facts(&self) -> Facts {
        Facts::default()
    }

    fn length(&self) -> u64 {
        self.edges.with(self.below, |below| below.map_or(0, |below| below.length()))
    }

    fn map(&self, offset: u64, len: u64, _: Want) -> BoxFuture<'_, Result<Extent>> {
        Box::pin(async move {
            let (len, zero) = self.disk()?.status(offset, len).await?;
            let kind = if zero { ExtentKind::Zero { reserved: None } } else { ExtentKind::Stored };
            Ok(Extent { len, kind })
        })
    }

    fn read(&self, offset: u64, buf: BufMut) -> BoxFuture<'_, (BufMut, Result<()>)> {
        Box::pin(async move {
            match self.disk() {
                Ok(disk) => disk.read(offset, buf).await,
                Err(e) => (buf, Err(e)),
            }
        })
    }

    fn write(&self, _: u64, _: Buf, _: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(std::future::ready(Err(BlockError::unsupported("a snapshot can't be written to"))))
    }

    fn write_zeroes(&self, _: u64, _: u64, _: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(std::future::ready(Err(BlockError::unsupported("a snapshot can't be written to"))))
    }

    fn discard(&self, offset: u64, len: u64, _: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { self.disk()?.discard(offset, len).await })
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn child_perms(&self, _: &Edge, _: Perms, _: bool) -> Perms {
        // Whoever reads it does not see what is written to the disk.
        Perms { need: Share::READ, share: Share::ALL.without(Share::RESIZE) }
    }
}
