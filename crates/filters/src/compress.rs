//! `compress`: a filter that has all data stored compressed.
//!
//! Compressed data are stored by whole clusters of the image below. So a write to a part of one takes the rest of the cluster
//! from what the image shows, and stores the whole anew; nobody else changes the cluster meanwhile. Reads, zeroes, discards and
//! everything else pass.
use api::codec::{Members, Object};
use api::{DecodeError, Dict};
use block::{
    Action, BlockError, Driver, DriverType, Extent, ExtentKind, Facts, Filtered, Flags, Lease, Leases,
    MapChange, Node, Open, OpenContext, Opened, Request, Result, Token, Want, WritePlan,
};
use rt::{BoxFuture, Buf, BufMut};
use std::sync::Arc;

/// The `compress` driver.
pub const COMPRESS: DriverType = DriverType { name: "compress", open: &Open(open), ..DriverType::FILTER };

/// Bytes that one plan takes, or a cluster.
const MOST: u64 = 4 << 20;

/// There are none but its child.
struct NoOptions;

impl Object for NoOptions {
    fn take(_: &mut Members<'_>) -> std::result::Result<Self, DecodeError> {
        Ok(Self)
    }

    fn put(&self, _: &mut Dict) {}
}

struct Compress {
    below: Filtered,
    /// Clusters that are being changed.
    clusters: Arc<Leases>,
}

fn open(context: &mut OpenContext, _: NoOptions) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let below = context.filtered().await?;
        let child = below.node()?;
        cluster_size(&child)?;
        Ok(Opened { driver: Arc::new(Compress { below, clusters: Leases::new() }), filename: None })
    })
}

/// Bytes of a cluster of an image that can be compressed.
fn cluster_size(child: &Arc<Node>) -> Result<u64> {
    let Facts { can_compress, cluster_size, .. } = child.facts();
    cluster_size.filter(|_| can_compress).ok_or_else(|| {
        let format = child.skip_filters().driver_name();
        BlockError::unsupported(format!("Compression is not supported for underlying format: {format}"))
    })
}

impl Compress {
    /// Keeps others from changing the clusters of a range.
    async fn lease(&self, offset: u64, len: u64, cluster: u64) -> Lease {
        self.clusters.lease(offset / cluster, (offset + len).div_ceil(cluster), true).await
    }
}

impl Driver for Compress {
    fn filtered(&self) -> Option<&Filtered> {
        Some(&self.below)
    }

    fn try_map(&self, offset: u64, len: u64, want: Want) -> Option<Extent> {
        let mut extent = self.below.place(offset, len);
        if let ExtentKind::Data { owned, .. } = &mut extent.kind {
            *owned = want != Want::Write;
        }
        Some(extent)
    }

    fn map(&self, offset: u64, len: u64, want: Want) -> BoxFuture<'_, Result<Extent>> {
        let extent = self.try_map(offset, len, want).unwrap_or(self.below.place(offset, len));
        Box::pin(std::future::ready(Ok(extent)))
    }

    fn prepare_write(
        &self,
        offset: u64,
        len: u64,
        change: MapChange,
        request: Request,
    ) -> BoxFuture<'_, Result<WritePlan>> {
        Box::pin(async move {
            let child = self.below.node()?;
            let cluster = cluster_size(&child)?;
            if change != MapChange::Data {
                let lease = self.lease(offset, len, cluster).await;
                let token = Some(Box::new(Passing { _lease: lease }) as Box<dyn Token>);
                return Ok(WritePlan { token, ..self.below.plan(offset, len) });
            }
            let len = len.min(MOST.max(cluster) - offset % cluster);
            let lease = self.lease(offset, len, cluster).await;
            let request = request.without(Flags::FUA).with(Flags::COMPRESSED);
            let token = Box::new(Storing { child, offset, cluster, request, _lease: lease });
            Ok(WritePlan { len, action: Action::Encode, token: Some(token) })
        })
    }
}

/// A change that the child makes, while nobody stores a cluster of it anew.
struct Passing {
    _lease: Lease,
}

impl Token for Passing {
    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

/// Data that are stored by whole clusters.
struct Storing {
    child: Arc<Node>,
    offset: u64,
    cluster: u64,
    request: Request,
    _lease: Lease,
}

impl Storing {
    /// The data, and what the clusters hold around them; where it begins.
    async fn whole_clusters(&self, data: Buf) -> Result<(u64, Buf)> {
        let end = self.offset + data.len() as u64;
        let from = self.offset - self.offset % self.cluster;
        let to = end.next_multiple_of(self.cluster).min(self.child.length().max(end));
        if (from, to) == (self.offset, end) {
            return Ok((from, data));
        }
        let (mut whole, result) = self.child.read(from, BufMut::with_len((to - from) as usize)).await;
        result?;
        let at = (self.offset - from) as usize;
        if let Some(changed) = whole.get_mut(at..at + data.len()) {
            changed.copy_from_slice(&data);
        }
        Ok((from, whole.freeze()))
    }
}

impl Token for Storing {
    fn store(&mut self, data: Buf) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let (from, whole) = self.whole_clusters(data).await?;
            self.child.write(from, whole, self.request).await
        })
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}
