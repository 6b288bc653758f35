//! A dynamic or differencing image as the core sees it: a thin shell around [`Image`].
use super::footer::Kind;
use super::image::Image;
use crate::overlay;
use block::metacache::Order;
use block::{
    CheckReport, Checker, Common, Driver, DriverInfo, Edge, Extent, Facts, MapChange, Node, Options, Perms,
    Repair, Request, Result, Undo, Want, WritePlan,
};
use rt::BoxFuture;
use std::sync::Arc;

/// A dynamic or differencing image.
pub(super) struct Dynamic {
    pub image: Arc<Image>,
    /// The parent's name, where there is one.
    pub parent: Option<String>,
    /// Options without which the file would be another disk.
    pub naming: Options,
}

impl Driver for Dynamic {
    fn facts(&self) -> Facts {
        Facts {
            mapping: true,
            cluster_size: Some(self.image.block()),
            can_write_zeroes: true,
            grows_with_zeroes: self.image.footer.kind == Kind::Dynamic,
            ..Facts::default()
        }
    }

    fn length(&self) -> u64 {
        self.image.size
    }

    fn try_map(&self, offset: u64, len: u64, want: Want) -> Option<Extent> {
        self.image.try_map(offset, len, want)
    }

    fn map(&self, offset: u64, len: u64, want: Want) -> BoxFuture<'_, Result<Extent>> {
        Box::pin(self.image.map(offset, len, want))
    }

    fn prepare_write(
        &self,
        offset: u64,
        len: u64,
        change: MapChange,
        request: Request,
    ) -> BoxFuture<'_, Result<WritePlan>> {
        Box::pin(self.image.prepare(offset, len, change, request))
    }

    fn is_settled(&self, offset: u64, len: u64) -> bool {
        self.image.is_settled(offset, len)
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(Order::flush(&self.image))
    }

    fn reclaim(&self) -> BoxFuture<'_, bool> {
        Box::pin(Order::reclaim(&self.image))
    }

    fn start<'a>(&'a self, common: &'a Common) -> BoxFuture<'a, Result<()>> {
        let changes = !common.read_only && !common.for_repair;
        Box::pin(async move { if changes { self.image.become_writable().await } else { Ok(()) } })
    }

    fn set_writable(&self, writable: bool) -> BoxFuture<'_, Result<Undo>> {
        Box::pin(async move {
            if writable {
                self.image.become_writable().await?;
            } else {
                self.image.end_changes(true).await?;
            }
            Ok(Order::undo(&self.image, writable, true))
        })
    }

    fn reload<'a>(&'a self, _: &'a Common) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.image.order.tables.clear();
            Ok(())
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.image.end_changes(false))
    }

    fn child_perms(&self, child: &Edge, parents: Perms, read_only: bool) -> Perms {
        overlay::child_perms(child, parents, read_only)
    }

    fn naming_options(&self) -> Options {
        self.naming.clone()
    }

    fn info(&self) -> DriverInfo {
        DriverInfo {
            cluster_size: Some(self.image.block()),
            dirty: Some(false),
            backing_filename: self.parent.clone(),
            backing_format: self.parent.as_ref().map(|_| "vpc".to_owned()),
            ..DriverInfo::default()
        }
    }

    fn checker(&self) -> Option<&dyn Checker> {
        Some(self)
    }

    fn attached(&self, node: &Arc<Node>) {
        self.image.order.file.attached(node);
    }
}

impl Checker for Dynamic {
    fn check(&self, repair: Repair) -> BoxFuture<'_, Result<CheckReport>> {
        Box::pin(async move {
            let writable = self.image.order.access.writable();
            if writable {
                Order::settle(&self.image).await?;
            }
            let report = super::check::check(&self.image, repair).await?;
            if writable && repair != Repair::No {
                self.image.order.tables.clear();
                self.image.become_writable().await?;
            }
            Ok(report)
        })
    }
}
