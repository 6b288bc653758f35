//! The driver: qed as the core sees it.
use super::check::{self, Mend};
use super::header::Header;
use crate::overlay;
use crate::two_level::{Children, Entry, Geometry, Image, Layout};
use api::PreallocMode;
use api::codec::NoArguments;
use block::metacache::{Format, Le64, MetadataFile, Order};
use block::{
    BlockError, CheckReport, Checker, Common, Driver, DriverInfo, Edge, ErrorKind, Extent, Facts, Link,
    MapChange, Node, Notice, Notices, OpenContext, Opened, Perms, Repair, Request, RequestLimits, Result,
    Undo, Want, WritePlan,
};
use parking_lot::RwLock;
use rt::BoxFuture;
use std::sync::Arc;

/// What qed has of its own.
pub(super) struct Qed {
    header: RwLock<Header>,
}

impl Layout for Qed {
    type Codec = Le64;

    const NAME: &'static str = "qed";
    const ZERO: Option<u64> = Some(1);
    const DATA_BEFORE_TABLE: bool = true;
    const ADVICE: &'static str = "; 'cairn img check -r all' may repair the image";

    fn entry(word: u64, geometry: &Geometry) -> Entry {
        match word {
            0 => Entry::Hole,
            1 => Entry::Zero,
            _ if geometry.within(word) == 0 => Entry::Data(word),
            _ => Entry::Bad("it is not aligned to a cluster"),
        }
    }

    /// What only other programs keep up to date is declared out of date.
    async fn make_header_ready(&self, file: &MetadataFile) -> Result<()> {
        let ready = self.header.read().without_autoclear();
        match ready {
            Some(header) => self.switch(file, header).await,
            None => Ok(()),
        }
    }
}

impl Qed {
    /// Has these fields be the header's, durably. The caller has the header's turn.
    async fn switch(&self, file: &MetadataFile, header: Header) -> Result<()> {
        file.overwrite(0, rt::Buf::from_slice(&header.bytes())).await?;
        file.flush().await?;
        *self.header.write() = header;
        Ok(())
    }
}

/// Opens an image.
pub(super) fn open(context: &mut OpenContext, _: NoArguments) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let (file_id, file) = context.file().await?;
        let named = |e: BlockError| e.context(format!("qed image '{}'", file.filename()));
        let header = Header::read(&file).await.map_err(named)?;
        if file.read_only() && !context.common().read_only && !context.fall_back_to_read_only() {
            let text = format!("Block node '{}' is read-only", file.name());
            return Err(BlockError::new(ErrorKind::ReadOnly, text));
        }
        let link = Link { filename: header.backing_name.clone(), format: header.backing_format() };
        let (backing, _) = context.backing(Some(&link)).await?;
        let children = Children { edges: context.edges().clone(), file: file_id, backing };
        let (geometry, size) = (header.geometry(), header.size);
        let names_backing = header.backing_name.is_some();
        let layout = Qed { header: RwLock::new(header) };
        let image = Image::new(layout, geometry, size, children, context.domain().clone());
        image.set_names_backing(names_backing);
        let driver = QedDriver { image: Arc::new(image), notices: context.notices() };
        Ok(Opened { driver: Arc::new(driver), filename: None })
    })
}

/// An open image.
struct QedDriver {
    image: Arc<Image<Qed>>,
    notices: Notices,
}

impl QedDriver {
    fn header(&self) -> Header {
        self.image.layout.header.read().clone()
    }

    /// Takes the image over from whoever had it.
    async fn take_over(&self, common: &Common) -> Result<()> {
        if common.inactive {
            return Ok(());
        }
        let file = self.image.order.file.node()?;
        if !common.force_share && Header::read(&file).await? != self.header() {
            let text = format!("'{}' was changed while it was opened; open it again", file.filename());
            return Err(BlockError::new(ErrorKind::Busy, text));
        }
        if common.for_repair || common.read_only {
            return Ok(());
        }
        self.become_writable().await
    }

    /// Allows changes, of an image that was not closed after it is repaired.
    async fn become_writable(&self) -> Result<()> {
        if self.header().needs_check() {
            let name = self.image.order.file.name();
            let report = self.repair(Mend::Lost).await;
            let report = report.map_err(|e| e.context(format!("Could not repair dirty image '{name}'")))?;
            if self.header().needs_check() {
                let text = format!(
                    "Could not repair dirty image '{name}': {} errors are left; try 'cairn img check -r all'",
                    report.corruptions
                );
                return Err(BlockError::corrupt(text));
            }
            self.notices.tell(Notice::Repaired { image: &name, report: &report });
        }
        self.image.order.access.allow(false);
        Ok(())
    }

    /// Checks the image in its file, mends it, and takes over what came of it. Nothing is under way, and nothing is dirty.
    async fn repair(&self, mend: Mend) -> Result<CheckReport> {
        let file = self.image.order.file.node()?;
        let header = self.header();
        let checked = check::check(&file, &header, mend).await;
        self.image.forget_tables();
        let report = checked?;
        if mend != Mend::Nothing
            && header.needs_check()
            && report.corruptions == 0
            && report.check_errors == 0
        {
            self.image.layout.switch(&self.image.order.file, header.checked()).await?;
        }
        Ok(report)
    }
}

impl Driver for QedDriver {
    fn facts(&self) -> Facts {
        Facts {
            mapping: true,
            cluster_size: Some(self.image.geometry.cluster_size()),
            can_write_zeroes: true,
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
        Box::pin(async move {
            self.image.first_write().await?;
            match change {
                MapChange::Data => self.image.plan_data(offset, len, request).await,
                MapChange::Zero | MapChange::Discard => {
                    self.image.plan_clearing(offset, len, change, request).await
                }
            }
        })
    }

    fn is_settled(&self, offset: u64, len: u64) -> bool {
        self.image.is_settled(offset, len)
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(Order::flush(&self.image))
    }

    fn resize(&self, size: u64, preallocation: PreallocMode) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if preallocation != PreallocMode::Off {
                let text =
                    format!("Unsupported preallocation mode '{}'", api::Enumeration::name(preallocation));
                return Err(BlockError::unsupported(text));
            }
            self.header().with_size(size)?;
            if size < self.length() {
                return Err(BlockError::unsupported("Shrinking images is currently not supported"));
            }
            let image = &self.image;
            let store = async || {
                let _turn = image.order.access.header_turn().await;
                let header = self.header().with_size(size)?;
                image.layout.switch(&image.order.file, header).await
            };
            image.grow(size, store).await
        })
    }

    fn make_empty(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.image.make_empty())
    }

    fn reclaim(&self) -> BoxFuture<'_, bool> {
        Box::pin(Order::reclaim(&self.image))
    }

    fn start<'a>(&'a self, common: &'a Common) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.take_over(common))
    }

    fn set_writable(&self, writable: bool) -> BoxFuture<'_, Result<Undo>> {
        Box::pin(async move {
            if writable {
                self.become_writable().await?;
            } else {
                self.image.end_changes(true).await?;
            }
            Ok(Order::undo(&self.image, writable, false))
        })
    }

    fn reload<'a>(&'a self, _: &'a Common) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let file = self.image.order.file.node()?;
            let (header, old) = (Header::read(&file).await?, self.header());
            if header.geometry() != old.geometry() || header.backing_name != old.backing_name {
                let text = format!("'{}' is another image by now; open it anew", file.filename());
                return Err(BlockError::new(ErrorKind::Busy, text));
            }
            self.image.forget_tables();
            self.image.set_size(header.size);
            *self.image.layout.header.write() = header;
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
            let header = self.header().with_link(&link)?;
            if let Some((place, name)) = header.stored_name() {
                image.order.file.write(place, rt::Buf::from_slice(&name)).await?;
                image.order.file.flush().await?;
            }
            image.set_names_backing(header.backing_name.is_some());
            image.layout.switch(&image.order.file, header).await
        })
    }

    fn info(&self) -> DriverInfo {
        let header = self.header();
        DriverInfo {
            cluster_size: Some(header.cluster_size.into()),
            dirty: Some(header.needs_check()),
            backing_format: header.backing_format(),
            backing_filename: header.backing_name,
            limits: RequestLimits {
                zeroes_alignment: Some(header.cluster_size.into()),
                ..RequestLimits::default()
            },
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

impl Checker for QedDriver {
    fn check(&self, repair: Repair) -> BoxFuture<'_, Result<CheckReport>> {
        Box::pin(async move {
            let writable = self.image.order.access.writable();
            if writable {
                self.image.end_changes(false).await?;
            }
            let mend = match repair {
                Repair::No => Mend::Nothing,
                Repair::Leaks => Mend::Leaks,
                Repair::All => Mend::All,
            };
            let checked = self.repair(mend).await;
            if writable {
                self.image.order.access.allow(false);
            }
            checked
        })
    }
}
