//! The driver: a shell around the image.
use super::descriptor::NO_PARENT;
use super::extent::Kind;
use super::image::Image;
use crate::overlay;
use api::{ImageInfoSpecific, ImageInfoSpecificVmdk, VmdkExtentInfo};
use block::{
    BlockError, Checker, ChildRole, Common, Driver, DriverInfo, Edge, ErrorKind, Extent, Facts, MapChange,
    Node, Perms, Request, RequestLimits, Result, Share, Undo, Want, WritePlan,
};
use rt::{BoxFuture, BufMut};
use std::sync::Arc;
use std::sync::atomic::Ordering::*;

/// An open image.
pub struct Vmdk {
    pub image: Arc<Image>,
}

impl Vmdk {
    fn is_flat(&self) -> bool {
        self.image.parts.iter().any(|part| matches!(part.kind, Kind::Flat(..)))
    }

    /// Whether an image below shows through holes, or will when the image is opened with it.
    fn has_backing(&self) -> bool {
        self.image.descriptor.read().named_parent().is_some()
            || self.image.edges.backing().is_some_and(|id| self.image.edges.get(id).is_some())
    }

    fn clears(&self) -> bool {
        let mut parts = self.image.parts.iter();
        let zeroed = parts.all(|part| match &part.kind {
            Kind::Grains(grains) => grains.tables.shape.zeroed,
            Kind::Stream(_) => false,
            _ => true,
        });
        zeroed || (!self.has_backing() && self.image.stream().is_none())
    }
}

impl Driver for Vmdk {
    fn facts(&self) -> Facts {
        let stream = self.image.stream().is_some();
        Facts {
            mapping: true,
            cluster_size: self.image.parts.first().and_then(|part| part.grain()),
            // What is not a stream stores as it is what it is asked to compress, as scripts expect.
            can_compress: !self.is_flat(),
            must_compress: stream,
            can_fill: !self.is_flat(),
            can_write_zeroes: self.clears(),
            grows_with_zeroes: true,
            // The file of a flat extent may have holes.
            thin_data: self.is_flat(),
            ..Facts::default()
        }
    }

    fn length(&self) -> u64 {
        self.image.len
    }

    fn try_map(&self, offset: u64, len: u64, want: Want) -> Option<Extent> {
        self.image.try_map(offset, len, want)
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
        Box::pin(self.image.prepare(offset, len, change, request))
    }

    fn is_settled(&self, offset: u64, len: u64) -> bool {
        let end = offset.saturating_add(len);
        self.image.parts.iter().filter(|part| part.start < end && offset < part.start + part.len).all(
            |part| {
                let (from, to) =
                    (offset.max(part.start) - part.start, end.min(part.start + part.len) - part.start);
                part.is_settled(from, to - from)
            },
        )
    }

    /// Decodes compressed grains.
    fn read(&self, offset: u64, buf: BufMut) -> BoxFuture<'_, (BufMut, Result<()>)> {
        Box::pin(async move {
            let part =
                self.image.parts.iter().find(|part| (part.start..part.start + part.len).contains(&offset));
            match part.map(|part| (&part.kind, offset - part.start)) {
                Some((Kind::Stream(stream), within)) => {
                    let (buf, result) = stream.read_encoded(within, buf).await;
                    (buf, result.map_err(|e| e.at(offset)))
                }
                _ => (buf, Err(BlockError::unsupported("this extent is read through its mapping"))),
            }
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { if self.image.cid.writable() { self.image.flush().await } else { Ok(()) } })
    }

    fn reclaim(&self) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            let mut freed = false;
            for part in &self.image.parts {
                freed |= part.reclaim().await;
            }
            freed
        })
    }

    fn start<'a>(&'a self, common: &'a Common) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if common.read_only || common.inactive || common.for_repair {
                return Ok(());
            }
            self.image.become_writable().await
        })
    }

    fn set_writable(&self, writable: bool) -> BoxFuture<'_, Result<Undo>> {
        Box::pin(async move {
            if writable {
                self.image.become_writable().await?;
            } else {
                self.image.end_changes(true).await?;
            }
            let image = self.image.clone();
            Ok(Box::new(move || image.set_access(!writable)) as Undo)
        })
    }

    fn reload<'a>(&'a self, _: &'a Common) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.read_again())
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.image.end_changes(false))
    }

    fn child_perms(&self, child: &Edge, parents: Perms, read_only: bool) -> Perms {
        if child.role().has(ChildRole::BACKING) || child.role().has(ChildRole::METADATA) {
            return overlay::child_perms(child, parents, read_only);
        }
        // The bytes of the disk, as they are.
        Perms { need: parents.need.union(Share::READ), share: parents.share.without(Share::RESIZE) }
    }

    fn info(&self) -> DriverInfo {
        let descriptor = self.image.descriptor.read();
        let extents = self.image.parts.iter().map(|part| {
            let opened = part.child.and_then(|id| self.image.edges.get(id));
            VmdkExtentInfo {
                compressed: matches!(part.kind, Kind::Stream(_)).then_some(true),
                virtual_size: part.len as i64,
                filename: opened.map_or_else(|| part.name.clone(), |file| file.filename()),
                cluster_size: part.grain().map(|grain| grain as i64),
                format: part.word.to_owned(),
            }
        });
        let specific = ImageInfoSpecificVmdk {
            cid: descriptor.cid.into(),
            parent_cid: descriptor.parent_cid.unwrap_or(NO_PARENT).into(),
            create_type: descriptor.create_type.clone().unwrap_or_default(),
            extents: extents.collect(),
        };
        let grain = self.image.parts.first().and_then(|part| part.grain());
        DriverInfo {
            cluster_size: grain,
            limits: RequestLimits { zeroes_alignment: grain, ..RequestLimits::default() },
            dirty: Some(false),
            backing_filename: descriptor.parent.clone(),
            backing_format: descriptor.parent.as_ref().map(|_| "vmdk".to_owned()),
            specific: Some(ImageInfoSpecific::Vmdk(specific)),
            ..DriverInfo::default()
        }
    }

    fn checker(&self) -> Option<&dyn Checker> {
        Some(self)
    }

    fn attached(&self, node: &Arc<Node>) {
        self.image.file.attached(node);
        for part in &self.image.parts {
            match &part.kind {
                Kind::Grains(grains) => grains.tables.order.file.attached(node),
                Kind::Stream(stream) => stream.tables.order.file.attached(node),
                _ => {}
            }
        }
    }
}

impl Vmdk {
    /// Forgets what was read. The descriptor may have another content identifier; the rest of it is as it was.
    async fn read_again(&self) -> Result<()> {
        let image = &self.image;
        let file = image.file.node()?;
        let head = image.file.read(0, 512.min(file.length())).await?;
        let (place, mut descriptor) = super::open::descriptor(&file, &head).await?;
        let is_same = {
            let known = image.descriptor.read();
            let parents = (descriptor.named_parent(), known.named_parent());
            place == image.place && descriptor.extents == known.extents && parents.0 == parents.1
        };
        if !is_same {
            let text = format!("'{}' has become another image; open it again", file.filename());
            return Err(BlockError::new(ErrorKind::Busy, text));
        }
        for part in &image.parts {
            part.read_again().await?;
        }
        descriptor.create_type.clone_from(&image.descriptor.read().create_type);
        *image.descriptor.write() = descriptor;
        image.parent_is_known.store(false, Release);
        Ok(())
    }
}
