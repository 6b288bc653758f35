//! The driver: qcow2 as the core sees it.
use super::alloc::Alloc;
use super::amend;
use super::bitmaps::{LOST, Marked, Persistent};
use super::check;
use super::data_file;
use super::encryption::Encryption;
use super::header::Header;
use super::image::{Children, Image};
use super::info::{self, Listed};
use super::options::Settings;
use super::overlap;
use api::{PreallocMode, Qcow2Options};
use block::metacache::{Format, Order};
use block::{
    Amendment, BitmapStore, BlockError, CheckReport, Checker, Coding, Common, Discard, Driver, DriverInfo,
    Edge, ErrorKind, Extent, Facts, Flags, Link, MapChange, Node, Notice, OpenContext, Opened, Options,
    Perms, Reopened, Repair, Request, Result, Secret, Snapshots, Undo, Want, WritePlan,
};
use parking_lot::RwLock;
use rt::{BoxFuture, BufMut};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::*;

/// Opens an image.
pub(super) fn open(context: &mut OpenContext, options: Qcow2Options) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let (file_id, file) = context.file().await?;
        let header = Header::read(&file).await?;
        if file.read_only() && !context.common().read_only && !context.fall_back_to_read_only() {
            return Err(BlockError::new(
                ErrorKind::ReadOnly,
                format!("Block node '{}' is read-only", file.name()),
            ));
        }
        let common = context.common().clone();
        let discards = common.discard == Discard::Unmap;
        let settings = Settings::new(&options, discards, &header, context.limits())?;
        let named = |e: BlockError| e.context(format!("qcow2 image '{}'", file.filename()));
        let encryption =
            Encryption::open(&file, &header, &options, &common, context.objects()).await.map_err(named)?;
        let data = data_file::open(context, file_id, &header).await?;
        let thin_data = data == file_id && holds_less_than_it_maps(&file, header.cluster_size());
        let link = Link { filename: header.backing_name.clone(), format: header.backing_format() };
        let (backing, _) = context.backing(Some(&link)).await?;
        let children = Children { edges: context.edges().clone(), file: file_id, backing, data };
        let bitmaps = Persistent::new(context.bitmaps().clone());
        let mut image =
            Image::new(header, children, context.domain().clone(), context.notices(), bitmaps, settings);
        image.coding = encryption.as_ref().map(|encryption| encryption.coding.clone());
        let driver = Qcow2 { image: Arc::new(image), listed: RwLock::default(), thin_data, encryption };
        Ok(Opened { driver: Arc::new(driver), filename: None })
    })
}

/// An open image as a driver.
pub(super) struct Qcow2 {
    pub(super) image: Arc<Image>,
    pub(super) listed: RwLock<Listed>,
    thin_data: bool,
    pub(super) encryption: Option<Encryption>,
}

/// Whether a file has a tenth and two clusters less of space than it has clusters, as preallocated images do: the rule by
/// which today's tools look for holes in mapped data. Less than [`THIN`] is no sign of it: metadata has holes too.
fn holds_less_than_it_maps(file: &Node, cluster_size: u64) -> bool {
    let length = file.length();
    let allocated = file.allocated_size().unwrap_or(length);
    let (clusters, held) = (length.div_ceil(cluster_size), allocated / cluster_size);
    length.saturating_sub(allocated) >= THIN && clusters >= (held.saturating_mul(10) / 9).max(held + 2)
}

/// Holes of fewer bytes are not worth looking for.
const THIN: u64 = 1 << 20;

impl Qcow2 {
    /// Takes over what the image has beside the disk, and makes it writable if it is to be.
    async fn take_over(&self, common: &Common) -> Result<()> {
        let image = &self.image;
        let file = image.order.file.node()?;
        let header = image.header.read().clone();
        if common.inactive {
            // Its owner writes to it: all is read again when it is taken over.
            self.list(&file, &header).await;
            return Ok(());
        }
        // Others could still write when it was read first.
        if !common.force_share && Header::read(&file).await? != header {
            let text = format!("'{}' was changed while it was opened; open it again", file.filename());
            return Err(BlockError::new(ErrorKind::Busy, text));
        }
        self.list(&file, &header).await;
        if common.for_repair {
            return Ok(());
        }
        if !common.read_only {
            self.prepare_for_writes().await?;
        }
        image.load_bitmaps().await?;
        self.tell_notices();
        if common.read_only { Ok(()) } else { self.admit_writes().await }
    }

    /// Takes over what the image has beside the disk.
    pub(super) async fn list(&self, file: &Arc<Node>, header: &Header) {
        let listed = Listed::read(file, header, &self.image.bitmaps).await;
        self.image.overlap.set_snapshots(&listed.snapshots);
        *self.listed.write() = listed;
    }

    /// Makes sure that the image may be written to, and repairs one that was not closed.
    async fn prepare_for_writes(&self) -> Result<()> {
        let image = &self.image;
        let name = image.order.file.name();
        let header = image.header.read().clone();
        if image.shows_snapshot.load(Acquire) {
            return Err(BlockError::invalid(
                "the image shows an internal snapshot, which can't be written to",
            ));
        }
        if header.is_corrupt() {
            let text = format!(
                "qcow2: Image is corrupt; cannot be opened read/write; 'cairn img check -r all {name}' may repair it"
            );
            return Err(BlockError::new(ErrorKind::Permission, text));
        }
        if let Some(fault) = &self.listed.read().snapshots_fault {
            // Its snapshots' tables are unknown, so nothing keeps a write off them.
            let text = format!(
                "qcow2: the snapshot table of '{name}' is damaged ({fault}); the image can be opened read-only, and \
                 'cairn img check -r all {name}' repairs it"
            );
            return Err(BlockError::corrupt(text));
        }
        if header.is_dirty() {
            let report = self
                .repair(Repair::All)
                .await
                .map_err(|e| e.context(format!("Could not repair dirty image '{name}'")))?;
            if image.header.read().is_dirty() {
                let text = format!(
                    "Could not repair dirty image '{name}': {} errors are left; try 'cairn img check -r all'",
                    report.corruptions
                );
                return Err(BlockError::corrupt(text));
            }
            self.image.notices.tell(Notice::Repaired { image: &name, report: &report });
        }
        let length = image.order.file.node()?.length();
        if let Some(fault) = image.header.read().refcount_fault(length) {
            return Err(BlockError::from(fault).context(format!("qcow2 image '{name}'")));
        }
        // Refcount blocks have the first claim to their clusters; L2 tables are known as their L1 pages are loaded.
        image.overlap.tables.clear();
        image.find_blocks().await?;
        let asked = image.settings.read().checks.has("inactive-l2");
        image.overlap.set_inactive(self.inactive_tables(asked).await?);
        *image.alloc.lock().await = Alloc::new(length, image.g().clusters(length));
        let outdated = info::outdated_by_writing(&image.header.read(), &self.listed.read(), &name);
        outdated.iter().for_each(|text| self.image.notices.warn(text));
        Ok(())
    }

    /// Lets writes in, when all bitmaps that are to record them are loaded, and are marked on disk.
    async fn admit_writes(&self) -> Result<()> {
        let image = &self.image;
        image.mark_bitmaps(Marked::Loaded).await?;
        image.be_writable(image.header_is_ready() && image.overlap.conflict().is_none());
        Ok(())
    }

    /// Of an image that another program may have had meanwhile: what only that one keeps up to date is declared out of date at
    /// once, for it may look for that as soon as the image is back.
    async fn disown_unknown_features(&self) -> Result<()> {
        let image = &self.image;
        if image.header.read().unknown_autoclear().is_none() {
            return Ok(());
        }
        let ready = image.first_write().await;
        ready.inspect_err(|_| image.order.access.forbid())
    }

    pub(super) fn tell_notices(&self) {
        let told = self.listed.read().notices(&self.image.header.read(), &self.image.order.file.name());
        told.iter().for_each(|text| self.image.notices.warn(text));
    }

    /// The L2 tables of snapshots, if they are `asked` for.
    pub(super) async fn inactive_tables(&self, asked: bool) -> Result<HashSet<u64>> {
        if !asked {
            return Ok(HashSet::new());
        }
        let snapshots = self.listed.read().snapshots.clone();
        overlap::inactive_tables(&self.image.order.file.node()?, &snapshots, self.image.g()).await
    }

    /// Checks and mends the image in its file, and takes over what came of it.
    async fn repair(&self, repair: Repair) -> Result<CheckReport> {
        let image = &self.image;
        let file = image.order.file.node()?;
        let mut header = image.header.read().clone();
        let checked = check::check(&file, &mut header, repair).await;
        if repair != Repair::No {
            image.order.tables.clear();
            image.forget_ahead();
            image.counts.clear();
            // The dirty bit went where everything agrees.
            image.disagrees.fetch_and(header.is_dirty(), AcqRel);
            let listed = Listed::read(&file, &header, &image.bitmaps).await;
            image.overlap.tables.clear();
            image.overlap.rename(&header);
            image.overlap.set_snapshots(&listed.snapshots);
            *image.header.write() = header;
            *self.listed.write() = listed;
        }
        checked
    }

    /// Ends all changes: what is dirty becomes durable, what was given up is free.
    pub(super) async fn settle(&self) -> Result<()> {
        let image = &self.image;
        Order::settle(image).await?;
        self.settle_counts().await
    }

    /// Gives reservations and growth back, durably.
    async fn settle_counts(&self) -> Result<()> {
        let image = &self.image;
        {
            let mut alloc = image.alloc.lock().await;
            image.take_returned(&mut alloc).await?;
            image.cut_growth(&mut alloc).await?;
        }
        Order::flush(image).await?;
        image.settle_header().await
    }
}

/// When it is dropped, the header must be looked at again before the next write, if any is allowed.
struct Unready<'a>(&'a Image);

impl Drop for Unready<'_> {
    fn drop(&mut self) {
        self.0.order.access.unready();
    }
}

impl Driver for Qcow2 {
    fn facts(&self) -> Facts {
        let image = &self.image;
        Facts {
            mapping: true,
            alignment: 1,
            cluster_size: Some(image.g().cluster_size()),
            allocation_unit: image.g().extended.then(|| image.g().subcluster_size()),
            can_write_zeroes: image.g().zero_flag || !image.shows_backing(),
            grows_with_zeroes: true,
            // Streams are not encrypted: what must not be readable is not stored so.
            can_compress: self.encryption.is_none() && !image.g().data_file,
            can_fill: true,
            thin_data: self.thin_data,
            ..Facts::default()
        }
    }

    fn length(&self) -> u64 {
        self.image.size()
    }

    fn try_map(&self, offset: u64, len: u64, want: Want) -> Option<Extent> {
        self.image.try_map(offset, len, want)
    }

    fn try_extents(&self, offset: u64, len: u64, each: &mut dyn FnMut(Extent) -> bool) {
        self.image.try_extents(offset, len, each);
    }

    fn map(&self, offset: u64, len: u64, want: Want) -> BoxFuture<'_, Result<Extent>> {
        if let Some(extent) = self.image.try_map(offset, len, want) {
            return Box::pin(std::future::ready(Ok(extent)));
        }
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
                MapChange::Data if request.has(Flags::COMPRESSED) => {
                    self.image.plan_compressed(offset, len, request).await
                }
                MapChange::Data => self.image.plan_data(offset, len, request).await,
                MapChange::Zero if request.has(Flags::IF_UNALLOCATED) => {
                    self.image.plan_zero_fill(offset, len).await
                }
                MapChange::Zero | MapChange::Discard => {
                    let unmap = request.has(Flags::MAY_UNMAP);
                    self.image.plan_clearing(offset, len, change, unmap).await
                }
            }
        })
    }

    fn read(&self, offset: u64, buf: BufMut) -> BoxFuture<'_, (BufMut, Result<()>)> {
        Box::pin(self.image.read_encoded(offset, buf))
    }

    fn is_settled(&self, offset: u64, len: u64) -> bool {
        self.image.is_settled(offset, len)
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(Order::flush(&self.image))
    }

    fn resize(&self, size: u64, preallocation: PreallocMode) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { self.image.resize(size, preallocation).await })
    }

    fn start<'a>(&'a self, common: &'a Common) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.take_over(common))
    }

    fn set_writable(&self, writable: bool) -> BoxFuture<'_, Result<Undo>> {
        Box::pin(async move {
            if writable {
                self.prepare_for_writes().await?;
                self.admit_writes().await?;
                self.disown_unknown_features().await?;
            } else if self.image.order.access.writable() {
                // Where it fails, or nobody waits for it any more, the bitmaps on disk must be called in use again before the next change.
                let _calls_in_use = Unready(&self.image);
                self.image.store_bitmaps().await?;
                Order::end(&self.image, true, || self.settle_counts()).await?;
            }
            let image = self.image.clone();
            Ok(
                Box::new(
                    move || if writable { image.order.access.forbid() } else { image.be_writable(false) },
                ) as Undo,
            )
        })
    }

    fn reload<'a>(&'a self, common: &'a Common) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.read_again(common))
    }

    fn reopen<'a>(&'a self, options: Options, common: &Common) -> BoxFuture<'a, Result<Reopened<'a>>> {
        let discards = common.discard == Discard::Unmap;
        Box::pin(async move {
            let header = self.image.header.read().clone();
            let settings = Settings::new(&options.read()?, discards, &header, block::Limits::default())?;
            let inactive = self.inactive_tables(settings.checks.has("inactive-l2")).await?;
            Ok(Box::new(move || {
                self.image.overlap.set_inactive(inactive);
                self.image.take_settings(settings);
            }) as Reopened<'a>)
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if !self.image.order.access.writable() {
                return Ok(());
            }
            let stored = self.image.store_bitmaps().await.map_err(|e| e.context(LOST));
            let settled = Order::end(&self.image, false, || self.settle_counts()).await;
            if let (Err(_), Err(error)) = (&stored, &settled) {
                let image = self.image.order.file.name();
                tracing::warn!(image, %error, "closing failed beside the storing of bitmaps");
            }
            stored.and(settled)
        })
    }

    fn child_perms(&self, child: &Edge, parents: Perms, read_only: bool) -> Perms {
        crate::overlay::child_perms(child, parents, read_only)
    }

    fn set_backing_link(&self, link: Link) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let image = &self.image;
            image.first_write().await?;
            // What takes over the backing file's part must be durable before the header lets go of it.
            Order::flush(image).await?;
            image.store_header(async |header, file| header.set_backing_link(file, &link).await).await
        })
    }

    fn reclaim(&self) -> BoxFuture<'_, bool> {
        Box::pin(Order::reclaim(&self.image))
    }

    fn make_empty(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.image.empty())
    }

    fn info(&self) -> DriverInfo {
        let encryption = self.encryption.as_ref().map(Encryption::describe);
        info::describe(&self.image.header.read(), &self.listed.read(), &self.image.bitmaps.list(), encryption)
    }

    fn naming_options(&self) -> Options {
        self.encryption.as_ref().map(Encryption::naming_options).unwrap_or_default()
    }

    fn bitmap_store(&self) -> Option<&dyn BitmapStore> {
        Some(&*self.image)
    }

    fn coding(&self) -> Option<Arc<dyn Coding>> {
        self.encryption.as_ref().map(|encryption| encryption.coding.clone())
    }

    fn judge_passphrase<'a>(&'a self, passphrase: &'a Secret) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let none = || BlockError::unsupported("the image is not encrypted");
            let encryption = self.encryption.as_ref().ok_or_else(none)?;
            let header = self.image.header.read().clone();
            encryption.judge(&self.image.order.file.node()?, &header, passphrase).await
        })
    }

    fn amend<'a>(&'a self, amendment: Amendment<'a>) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.amend_image(amendment))
    }

    fn amends_beside_requests(&self, options: &Options) -> bool {
        amend::is_about_slots(options)
    }

    fn checker(&self) -> Option<&dyn Checker> {
        Some(self)
    }

    fn snapshots(&self) -> Option<&dyn Snapshots> {
        Some(self)
    }

    fn attached(&self, node: &Arc<Node>) {
        self.image.order.file.attached(node);
    }
}

impl Checker for Qcow2 {
    fn check(&self, repair: Repair) -> BoxFuture<'_, Result<CheckReport>> {
        Box::pin(async move {
            let writable = self.image.order.access.writable();
            if writable {
                self.settle().await?;
            }
            let report = self.repair(repair).await?;
            if writable && repair != Repair::No {
                self.prepare_for_writes().await?;
                self.admit_writes().await?;
            }
            Ok(report)
        })
    }
}
