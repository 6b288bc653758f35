//! The driver: cow as the core sees it.
use super::header::Header;
use super::image::Image;
use crate::overlay;
use api::codec::NoArguments;
use block::metacache::{Format, Order};
use block::{
    BlockError, Common, Driver, DriverInfo, Edge, ErrorKind, Extent, Facts, Link, MapChange, Node,
    OpenContext, Opened, Perms, Request, Result, Undo, Want, WritePlan,
};
use rt::BoxFuture;
use std::sync::Arc;

/// Opens an image.
pub(super) fn open(context: &mut OpenContext, _: NoArguments) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let (file_id, file) = context.file().await?;
        let named = |e: BlockError| e.context(format!("cow image '{}'", file.filename()));
        let header = Header::read(&file).await.map_err(named)?;
        if file.read_only() && !context.common().read_only && !context.fall_back_to_read_only() {
            let text = format!("Block node '{}' is read-only", file.name());
            return Err(BlockError::new(ErrorKind::ReadOnly, text));
        }
        let link = Link { filename: header.backing_name.clone(), format: None };
        let (backing, _) = context.backing(Some(&link)).await?;
        let image = Image::new(header, context.edges().clone(), file_id, backing, context.domain().clone());
        Ok(Opened { driver: Arc::new(Cow { image: Arc::new(image) }), filename: None })
    })
}

/// An open image.
struct Cow {
    image: Arc<Image>,
}

impl Cow {
    fn header(&self) -> Header {
        self.image.header.read().clone()
    }

    /// Whether the header is the one that was read: another one is another image.
    async fn check_header(&self) -> Result<()> {
        let file = self.image.order.file.node()?;
        if Header::read(&file).await? == self.header() {
            return Ok(());
        }
        let text = format!("'{}' was changed while it was open here; open it again", file.filename());
        Err(BlockError::new(ErrorKind::Busy, text))
    }
}

impl Driver for Cow {
    fn facts(&self) -> Facts {
        Facts {
            mapping: true,
            can_write_zeroes: !self.image.shows_backing(),
            grows_with_zeroes: true,
            can_fill: true,
            ..Facts::default()
        }
    }

    fn length(&self) -> u64 {
        self.image.size()
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

    fn make_empty(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.image.make_empty())
    }

    fn start<'a>(&'a self, common: &'a Common) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if common.inactive {
                return Ok(());
            }
            if !common.force_share {
                self.check_header().await?;
            }
            if !common.read_only {
                self.image.order.access.allow(false);
            }
            Ok(())
        })
    }

    fn set_writable(&self, writable: bool) -> BoxFuture<'_, Result<Undo>> {
        Box::pin(async move {
            if writable {
                self.image.order.access.allow(false);
            } else {
                self.image.end_changes(true).await?;
            }
            Ok(Order::undo(&self.image, writable, false))
        })
    }

    fn reload<'a>(&'a self, _: &'a Common) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.check_header().await?;
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

    fn set_backing_link(&self, link: Link) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let image = &self.image;
            image.first_write().await?;
            // What takes over the backing file's part must be durable before the header lets go of it.
            Order::flush(image).await?;
            let _turn = image.order.access.header_turn().await;
            let old = self.header();
            let new = old.with_name(link.filename.as_deref())?;
            new.store_over(&image.order.file.node()?, &old).await?;
            *image.header.write() = new;
            Ok(())
        })
    }

    fn info(&self) -> DriverInfo {
        DriverInfo {
            dirty: Some(false),
            backing_filename: self.header().backing_name,
            ..DriverInfo::default()
        }
    }

    fn attached(&self, node: &Arc<Node>) {
        self.image.order.file.attached(node);
    }
}
