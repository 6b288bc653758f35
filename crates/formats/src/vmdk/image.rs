//! An open image: its parts, its descriptor, and what ties it to the image below.
//!
//! Laws:
//! - before the first write after the image was opened its content identifier changes, durably: overlays that were made of
//!   it before are told apart from then on;
//! - what an image below shows is read through holes only where its content identifier is the one that this image was made
//!   with. That is looked at once, before the first such read: who writes to the image below afterwards, in the same program,
//!   knows what it does.
use super::descriptor::{Descriptor, NO_PARENT};
use super::extent::{Kind, Part};
use super::header::SECTOR;
use api::ImageInfoSpecific;
use block::metacache::{Access, MetadataFile};
use block::{BlockError, Edges, Extent, MapChange, Request, Result, Want, WritePlan};
use parking_lot::RwLock;
use rt::Buf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};

/// Where the descriptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DescriptorPlace {
    /// In a sparse file: its first byte, and how many it may have.
    Inside { offset: u64, room: u64 },
    /// It is the file.
    Whole,
    /// There is none.
    Nowhere,
}

/// An open image.
pub struct Image {
    pub edges: Arc<Edges>,
    /// The file of the descriptor.
    pub file: MetadataFile,
    pub place: DescriptorPlace,
    pub descriptor: RwLock<Descriptor>,
    pub parts: Vec<Part>,
    pub len: u64,
    /// Whether the content identifier has changed since the image was opened.
    pub cid: Access,
    /// The image below is the one that this image was made of.
    pub parent_is_known: AtomicBool,
}

impl Image {
    /// The part that an offset of the disk is in.
    fn part(&self, offset: u64) -> Result<&Part> {
        let next = self.parts.partition_point(|part| part.start <= offset);
        let part = next.checked_sub(1).and_then(|index| self.parts.get(index));
        let part = part.filter(|part| offset < part.start + part.len);
        part.ok_or_else(|| BlockError::invalid("no extent has this part of the disk").at(offset))
    }

    /// Whether the image may be shown to have a hole there: what is below may be read.
    fn may_show_hole(&self, extent: &Extent, want: Want) -> bool {
        want != Want::Read || !extent.kind.is_hole() || self.parent_is_known.load(Acquire)
    }

    pub fn try_map(&self, offset: u64, len: u64, want: Want) -> Option<Extent> {
        if want == Want::Write && !self.cid.is_ready() {
            return None;
        }
        let part = self.part(offset).ok()?;
        let within = offset - part.start;
        let extent = part.try_map(within, len.min(part.len - within), want)?;
        self.may_show_hole(&extent, want).then_some(extent)
    }

    pub async fn map(&self, offset: u64, len: u64, want: Want) -> Result<Extent> {
        if want == Want::Write {
            self.first_write().await?;
        }
        let part = self.part(offset)?;
        let within = offset - part.start;
        let mapped = part.map(within, len.min(part.len - within), want).await;
        let extent = mapped.map_err(|e| e.at(offset))?;
        if !self.may_show_hole(&extent, want) {
            self.judge_parent()?;
        }
        Ok(extent)
    }

    pub async fn prepare(
        &self,
        offset: u64,
        len: u64,
        change: MapChange,
        request: Request,
    ) -> Result<WritePlan> {
        self.first_write().await?;
        let part = self.part(offset)?;
        let within = offset - part.start;
        part.prepare(within, len.min(part.len - within), change, request).await
    }

    /// Refuses to show the image below where it has changed since this image was made of it.
    fn judge_parent(&self) -> Result<()> {
        let known = self.descriptor.read().parent_cid.unwrap_or(NO_PARENT);
        let backing = self.edges.backing().and_then(|id| self.edges.get(id));
        // An image that was made of none may be put over any.
        if let Some(backing) = backing.filter(|_| known != NO_PARENT) {
            let why = match backing.skip_filters().driver().info().specific {
                Some(ImageInfoSpecific::Vmdk(info)) if info.cid == i64::from(known) => None,
                Some(ImageInfoSpecific::Vmdk(info)) => Some(format!(
                    "has changed since, or is another one: its content identifier is {:08x}, not {known:08x}",
                    info.cid
                )),
                _ => Some("is no vmdk image".to_owned()),
            };
            if let Some(why) = why {
                let text = format!(
                    "the image that this one was made of is not below it: '{}' {why}",
                    backing.filename()
                );
                return Err(BlockError::invalid(text).about_file(&self.file.name()));
            }
        }
        self.parent_is_known.store(true, Release);
        Ok(())
    }

    /// Before the first write after the image was opened: gives its content another identifier.
    async fn first_write(&self) -> Result<()> {
        if self.cid.needs_header()? {
            self.cid.make_ready(async || self.change_cid().await).await?;
        }
        Ok(())
    }

    async fn change_cid(&self) -> Result<()> {
        let old = self.descriptor.read().clone();
        // The one value that stands for nothing is left out.
        let cid = (rt::random_u64() as u32).min(NO_PARENT - 1);
        let Some(new) = old.with_cid(cid) else { return Ok(()) };
        let (offset, room) = match self.place {
            DescriptorPlace::Nowhere => return Ok(()),
            DescriptorPlace::Whole => (0, u64::MAX),
            DescriptorPlace::Inside { offset, room } => (offset, room),
        };
        if new.text().len() as u64 > room {
            return Err(BlockError::corrupt("the descriptor has no room for another content identifier"));
        }
        let mut text = new.text().to_vec();
        if let DescriptorPlace::Inside { .. } = self.place {
            text.resize(text.len().next_multiple_of(SECTOR as usize).min(room as usize), 0);
        }
        // What is as it was is not written again: the identifier stands near the start, in one sector.
        let same = text.iter().zip(old.text()).take_while(|(new, old)| new == old).count();
        let from = same - same % SECTOR as usize;
        let same_length = new.text().len() == old.text().len();
        let to = if same_length { text.len().min(from + 2 * SECTOR as usize) } else { text.len() };
        let changed = text.get(from..to).unwrap_or_default();
        self.file.write(offset + from as u64, Buf::from_slice(changed)).await?;
        self.file.flush().await?;
        *self.descriptor.write() = new;
        Ok(())
    }

    /// Finds what is in use, and allows changes.
    pub async fn become_writable(&self) -> Result<()> {
        for part in &self.parts {
            part.become_writable().await?;
        }
        self.cid.allow(false);
        Ok(())
    }

    /// Ends all changes: the image is closed, or read-only from now on.
    pub async fn end_changes(&self, in_time: bool) -> Result<()> {
        if !self.cid.writable() {
            return Ok(());
        }
        let mut ended = Ok(());
        for part in &self.parts {
            let this = part.end_changes(in_time).await;
            ended = ended.and(this);
            if ended.is_err() && in_time {
                break;
            }
        }
        match &ended {
            Err(_) if in_time => self.set_access(true),
            _ => self.cid.forbid(),
        }
        ended
    }

    /// Allows changes, or none.
    pub fn set_access(&self, writable: bool) {
        self.parts.iter().for_each(|part| part.set_access(writable));
        if writable { self.cid.allow(false) } else { self.cid.forbid() }
    }

    pub async fn flush(&self) -> Result<()> {
        let parts = self.parts.iter().map(|part| part.flush(&self.edges));
        futures_util::future::join_all(parts).await.into_iter().collect()
    }

    /// The stream that the image is, if it is one.
    pub fn stream(&self) -> Option<&Arc<super::stream::Stream>> {
        match self.parts.as_slice() {
            [Part { kind: Kind::Stream(stream), .. }] => Some(stream),
            _ => None,
        }
    }
}
