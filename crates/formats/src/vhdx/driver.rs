//! The image as the core sees it: a thin shell around [`Image`].
use super::image::Image;
use crate::overlay;
use block::metacache::Order;
use block::{
    CheckReport, Checker, Common, Driver, DriverInfo, Edge, Extent, Facts, MapChange, Node, Perms, Repair,
    Request, Result, Undo, Want, WritePlan,
};
use rt::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};

/// An image.
pub(super) struct Vhdx {
    pub image: Arc<Image>,
    /// The parent's name, where there is one.
    pub parent: Option<String>,
    /// What its log said was carried out when it was opened; a check tells so once.
    pub replayed: AtomicBool,
}

impl Vhdx {
    /// Carries the log out.
    async fn take_over(&self) -> Result<()> {
        if self.image.take_over().await? {
            self.replayed.store(true, Release);
        }
        Ok(())
    }

    /// Whether a new image of this kind reads as zeroes: all blocks of a fixed one lie in the file from the start, with what that
    /// had there before, where it can't be emptied.
    fn is_new_with_zeroes(&self) -> bool {
        let file = self.image.order.file.node();
        !self.image.metadata.fixed || file.is_ok_and(|file| file.facts().grows_with_zeroes)
    }
}

impl Driver for Vhdx {
    fn facts(&self) -> Facts {
        Facts {
            mapping: true,
            cluster_size: Some(self.image.block()),
            can_write_zeroes: true,
            grows_with_zeroes: self.image.metadata.parent.is_none() && self.is_new_with_zeroes(),
            ..Facts::default()
        }
    }

    fn length(&self) -> u64 {
        self.image.metadata.size
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
        Box::pin(async move {
            if common.read_only {
                return Ok(());
            }
            self.take_over().await?;
            if common.for_repair { Ok(()) } else { self.image.become_writable().await }
        })
    }

    fn set_writable(&self, writable: bool) -> BoxFuture<'_, Result<Undo>> {
        Box::pin(async move {
            if writable {
                self.take_over().await?;
                self.image.become_writable().await?;
            } else {
                self.image.end_changes(true).await?;
            }
            Ok(Order::undo(&self.image, writable, false))
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

    fn info(&self) -> DriverInfo {
        DriverInfo {
            cluster_size: Some(self.image.block()),
            dirty: Some(false),
            backing_filename: self.parent.clone(),
            backing_format: self.parent.as_ref().map(|_| "vhdx".to_owned()),
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

impl Checker for Vhdx {
    fn check(&self, repair: Repair) -> BoxFuture<'_, Result<CheckReport>> {
        Box::pin(async move {
            let writable = self.image.order.access.writable();
            if writable {
                Order::settle(&self.image).await?;
            }
            let mut report = super::check::check(&self.image, repair).await?;
            if self.replayed.swap(false, AcqRel) {
                report.corruptions_fixed += 1;
            }
            if writable && repair != Repair::No {
                self.image.become_writable().await?;
            }
            Ok(report)
        })
    }
}
