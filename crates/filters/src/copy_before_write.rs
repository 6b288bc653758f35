//! `copy-before-write`: a filter that keeps what its disk was, by copying to `target` what is about to change.
//!
//! What the disk was is read through `snapshot-access` above it, or copied on by a job ([`block::PointInTime`]). Reads pass.
//! A cluster that was copied is written to as if the filter was not there.
use api::{CbwOptions, OnCbwError};
use block::{
    BlockError, ChildRole, ChildSpec, Common, Driver, DriverType, Edge, ErrorKind, Extent, ExtentKind,
    Filtered, MapChange, Open, OpenContext, Opened, Perms, PointInTime, Request, Result, Share, Want,
    WhenNotCopied, WritePlan,
};
use rt::BoxFuture;
use std::sync::Arc;
use std::time::Duration;

/// The `copy-before-write` driver. A name that leads to its node could not say where the target is, and would outlive both.
pub const COPY_BEFORE_WRITE: DriverType =
    DriverType { name: "copy-before-write", open: &Open(open), unnamed: true, ..DriverType::FILTER };

/// What is in the way of a copy, in words that scripts know.
const REFUSED: &str = "Cannot create block-copy-state";

struct CopyBeforeWrite {
    below: Filtered,
    disk: Arc<PointInTime>,
}

fn open(context: &mut OpenContext, options: CbwOptions) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let below = context.filtered().await?;
        let spec = ChildSpec { name: "target".into(), role: ChildRole::DATA, stored: None };
        let (target, target_node) = context.needed(spec).await?;
        if target_node.read_only() {
            let text = format!("Block node '{}' is read-only", target_node.name());
            return Err(BlockError::new(ErrorKind::ReadOnly, text));
        }
        if Arc::ptr_eq(&target_node, &below.node()?) {
            return Err(BlockError::invalid("Source and target cannot be the same"));
        }
        if target_node.length() < below.length() {
            let text = "the target is shorter than the disk whose content it is to keep";
            return Err(BlockError::invalid(text));
        }
        let least = options.min_cluster_size.map_or(1, |size| size.0);
        if !least.is_power_of_two() {
            return Err(BlockError::invalid(format!("{REFUSED}: min-cluster-size needs to be a power of 2")));
        }
        let when_not_copied = match options.on_cbw_error.unwrap_or(OnCbwError::BreakGuestWrite) {
            OnCbwError::BreakGuestWrite => WhenNotCopied::FailTheWrite,
            OnCbwError::BreakSnapshot => WhenNotCopied::GiveUp,
        };
        let timeout = options.cbw_timeout.filter(|s| *s > 0).map(|s| Duration::from_secs(s.into()));
        let children = (below.child(), target);
        let (edges, domain) = (context.edges().clone(), context.domain().clone());
        let disk = PointInTime::new(edges, children, domain, least, when_not_copied, timeout)?;
        if let Some(of) = options.bitmap {
            let bitmap = context.node(&of.node)?.need_bitmap(&of.name)?;
            let (length, other) = (disk.length(), bitmap.bits().length());
            if length != other {
                return Err(BlockError::invalid(format!(
                    "{REFUSED}: Failed to merge bitmap '{}' to internal copy-bitmap: Bitmaps are of different sizes \
                     (destination size is {length}, source size is {other}) and can't be merged",
                    of.name
                )));
            }
            bitmap.check_usable()?;
            disk.restrict(bitmap.bits());
        }
        Ok(Opened { driver: Arc::new(CopyBeforeWrite { below, disk: Arc::new(disk) }), filename: None })
    })
}

impl Driver for CopyBeforeWrite {
    fn filtered(&self) -> Option<&Filtered> {
        Some(&self.below)
    }

    fn try_map(&self, offset: u64, len: u64, want: Want) -> Option<Extent> {
        if want != Want::Write {
            return Some(self.below.place(offset, len));
        }
        let (settled, len) = self.disk.look(offset, len);
        let mut extent = self.below.place(offset, len);
        if let ExtentKind::Data { owned, .. } = &mut extent.kind {
            *owned = settled;
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
        _: MapChange,
        request: Request,
    ) -> BoxFuture<'_, Result<WritePlan>> {
        Box::pin(async move {
            self.disk.before_change(offset, len, request).await?;
            Ok(self.below.plan(offset, len))
        })
    }

    fn start<'a>(&'a self, _: &'a Common) -> BoxFuture<'a, Result<()>> {
        self.disk.begin();
        Box::pin(std::future::ready(Ok(())))
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        self.disk.end();
        Box::pin(std::future::ready(Ok(())))
    }

    fn point_in_time(&self) -> Option<&Arc<PointInTime>> {
        Some(&self.disk)
    }

    fn child_perms(&self, child: &Edge, parents: Perms, read_only: bool) -> Perms {
        if child.name() == "target".into() {
            // Where the target shows the disk, this edge must share what is written there.
            let writes = if self.disk.shows_through() { Share::WRITE } else { Share::NONE };
            let share = Share::READ.union(Share::WRITE_UNCHANGED).union(writes);
            return Perms { need: Share::WRITE, share };
        }
        let idle = parents == Perms::IDLE;
        let writes = Share::WRITE.union(Share::WRITE_UNCHANGED).union(Share::RESIZE);
        let need = if read_only { parents.need.without(writes) } else { parents.need };
        if idle {
            return Perms { need, share: parents.share };
        }
        // Who would write to the disk beside the filter would change what it keeps.
        let share = parents.share.without(Share::WRITE).without(Share::RESIZE);
        let discards = if self.disk.discards_source() { Share::WRITE } else { Share::NONE };
        Perms { need: need.union(Share::READ).union(discards), share }
    }
}
