//! The driver: a thin shell around the table.
use super::{BlockTable, Layout};
use crate::overlay;
use block::metacache::Order;
use block::{
    BlockError, CheckReport, Checker, ChildId, Common, Driver, DriverInfo, Edge, ErrorKind, Extent, Facts,
    MapChange, Node, Notice, Notices, OpenContext, Opened, Perms, Repair, Request, Result, Undo, Want,
    WritePlan,
};
use rt::BoxFuture;
use std::sync::Arc;

/// An open image of a format with a table.
pub(crate) struct TableDriver<L: Layout> {
    table: Arc<BlockTable<L>>,
    notices: Notices,
}

impl<L: Layout> TableDriver<L> {
    /// The driver of the image in a file of the context.
    pub(crate) fn opened(context: &OpenContext, file: ChildId, layout: L) -> Opened {
        let table = BlockTable::new(context.edges().clone(), file, context.domain().clone(), layout);
        let driver = Self { table: Arc::new(table), notices: context.notices() };
        Opened { driver: Arc::new(driver), filename: None }
    }

    /// Finds what is in use, and allows changes; an image that needs it is repaired before.
    async fn admit_changes(&self) -> Result<()> {
        let table = &self.table;
        let admitted = if table.layout.needs_repair() { None } else { Some(table.admit_changes().await) };
        match admitted {
            Some(Err(e)) if e.kind() != ErrorKind::Corrupt || !L::REPAIRS_AT_OPEN => Err(e),
            Some(Ok(())) => Ok(()),
            _ => {
                let report = table.check(Repair::All).await?;
                table.order.tables.clear();
                let image = table.order.file.name();
                self.notices.tell(Notice::Repaired { image: &image, report: &report });
                table.admit_changes().await
            }
        }
    }

    /// Refuses to go on with a file that has become another image.
    async fn same_image(&self, what: &str) -> Result<()> {
        let file = self.table.order.file.node()?;
        if L::read(&file).await?.is_like(&self.table.layout) {
            return Ok(());
        }
        let text = format!("'{}' {what}; open it anew", file.filename());
        Err(BlockError::new(ErrorKind::Busy, text))
    }
}

impl<L: Layout> Driver for TableDriver<L> {
    fn facts(&self) -> Facts {
        Facts {
            mapping: true,
            cluster_size: Some(self.table.layout.block_size()),
            can_write_zeroes: true,
            grows_with_zeroes: true,
            thin_data: self.table.layout.is_thin(),
            ..Facts::default()
        }
    }

    fn length(&self) -> u64 {
        self.table.layout.size()
    }

    fn try_map(&self, offset: u64, len: u64, want: Want) -> Option<Extent> {
        self.table.try_map(offset, len, want)
    }

    fn map(&self, offset: u64, len: u64, want: Want) -> BoxFuture<'_, Result<Extent>> {
        Box::pin(self.table.map(offset, len, want))
    }

    fn prepare_write(
        &self,
        offset: u64,
        len: u64,
        change: MapChange,
        _: Request,
    ) -> BoxFuture<'_, Result<WritePlan>> {
        Box::pin(self.table.plan(offset, len, change))
    }

    fn is_settled(&self, offset: u64, len: u64) -> bool {
        self.table.is_settled(offset, len)
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(Order::flush(&self.table))
    }

    fn reclaim(&self) -> BoxFuture<'_, bool> {
        Box::pin(Order::reclaim(&self.table))
    }

    fn start<'a>(&'a self, common: &'a Common) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if common.inactive {
                return Ok(());
            }
            self.table.layout.opened(&self.table.order.file, common.read_only).await?;
            if common.for_repair || common.read_only {
                return Ok(());
            }
            // Others could still write when it was read first.
            self.same_image("was changed while it was opened").await?;
            self.admit_changes().await
        })
    }

    fn set_writable(&self, writable: bool) -> BoxFuture<'_, Result<Undo>> {
        Box::pin(async move {
            if writable {
                self.admit_changes().await?;
            } else {
                self.table.end_changes(true).await?;
            }
            Ok(Order::undo(&self.table, writable, false))
        })
    }

    fn reload<'a>(&'a self, _: &'a Common) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.same_image("is another image by now").await?;
            self.table.order.tables.clear();
            Ok(())
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.table.end_changes(false))
    }

    fn child_perms(&self, child: &Edge, parents: Perms, read_only: bool) -> Perms {
        overlay::child_perms(child, parents, read_only)
    }

    fn info(&self) -> DriverInfo {
        self.table.layout.info()
    }

    fn checker(&self) -> Option<&dyn Checker> {
        Some(self)
    }

    fn attached(&self, node: &Arc<Node>) {
        self.table.order.file.attached(node);
    }
}

impl<L: Layout> Checker for TableDriver<L> {
    fn check(&self, repair: Repair) -> BoxFuture<'_, Result<CheckReport>> {
        Box::pin(async move {
            let writable = self.table.order.access.writable();
            self.table.settle().await?;
            let report = self.table.check(repair).await?;
            if repair != Repair::No {
                self.table.order.tables.clear();
                if writable {
                    self.table.admit_changes().await?;
                }
            }
            Ok(report)
        })
    }
}
