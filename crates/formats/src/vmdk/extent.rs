//! The parts of the disk, in their order: where each begins, and what knows where its bytes are.
use super::grains::Grains;
use super::header::SECTOR;
use super::se_sparse::SeSparse;
use super::stream::Stream;
use block::metacache::Order;
use block::{
    Action, BlockError, ChildId, Edges, ErrorKind, Extent, ExtentKind, MapChange, Request, Result, Want,
    WritePlan,
};
use std::sync::Arc;

/// What knows where the bytes of a part are.
pub enum Kind {
    /// They follow each other in a file, from this byte on.
    Flat(ChildId, u64),
    /// They are zeroes.
    Zero,
    /// Its file was not opened.
    Absent,
    Grains(Arc<Grains>),
    Stream(Arc<Stream>),
    SeSparse(Arc<SeSparse>),
}

/// A part of the disk.
pub struct Part {
    /// Where it begins on the disk, in bytes.
    pub start: u64,
    /// Bytes of it.
    pub len: u64,
    pub kind: Kind,
    /// Its kind, as the descriptor has it; nothing where the descriptor stands in its file.
    pub word: &'static str,
    /// The name of its file, where that was not opened.
    pub name: String,
    /// Its file.
    pub child: Option<ChildId>,
}

impl Part {
    /// The mapping of the start of a range of the part, from memory.
    pub fn try_map(&self, offset: u64, len: u64, want: Want) -> Option<Extent> {
        match &self.kind {
            Kind::Flat(child, at) => {
                let kind = ExtentKind::Data { child: *child, offset: at + offset, owned: true };
                let left = self.len - offset;
                Some(Extent { len: if want == Want::Status { left } else { left.min(len.max(1)) }, kind })
            }
            Kind::Zero if want != Want::Write => {
                Some(Extent { len: self.len - offset, kind: ExtentKind::Zero { reserved: None } })
            }
            Kind::Zero | Kind::Absent | Kind::SeSparse(_) => None,
            Kind::Grains(grains) if want == Want::Write && !grains.tables.order.access.is_ready() => None,
            Kind::Grains(grains) => grains.tables.try_map(offset, len, want),
            Kind::Stream(stream) => stream.tables.try_map(offset, len, want),
        }
    }

    /// The mapping of the start of a range of the part.
    pub async fn map(&self, offset: u64, len: u64, want: Want) -> Result<Extent> {
        if let Some(extent) = self.try_map(offset, len, want) {
            return Ok(extent);
        }
        match &self.kind {
            Kind::Grains(grains) => {
                if want == Want::Write {
                    grains.first_write().await?;
                }
                grains.tables.map(offset, len, want).await
            }
            Kind::Stream(stream) => stream.tables.map(offset, len, want).await,
            Kind::SeSparse(sparse) => sparse.map(offset, len, want).await,
            Kind::Zero => Err(BlockError::new(ErrorKind::ReadOnly, "the extent is zeroes, without a file")),
            Kind::Flat(..) | Kind::Absent => {
                let text = format!("the extent '{}' was not opened", self.name);
                Err(BlockError::new(ErrorKind::Refused, text))
            }
        }
    }

    /// Plans a change of the start of a range of the part.
    pub async fn prepare(
        &self,
        offset: u64,
        len: u64,
        change: MapChange,
        request: Request,
    ) -> Result<WritePlan> {
        match &self.kind {
            Kind::Flat(child, at) => {
                let action = Action::Forward { child: *child, offset: at + offset };
                Ok(WritePlan { len: len.min(self.len - offset), action, token: None })
            }
            Kind::Grains(grains) => grains.prepare(offset, len, change, request).await,
            Kind::Stream(stream) => stream.prepare(offset, len, change, request).await,
            _ => Err(BlockError::new(ErrorKind::ReadOnly, "the extent can't be written to")),
        }
    }

    /// Whether the mapping of a range of the part is durable.
    pub fn is_settled(&self, offset: u64, len: u64) -> bool {
        match &self.kind {
            Kind::Grains(grains) => grains.is_settled(offset, len),
            Kind::Stream(stream) => stream.is_settled(offset, len),
            _ => true,
        }
    }

    /// Finds what is in use, and allows changes.
    pub async fn become_writable(&self) -> Result<()> {
        let refused =
            |why: &str| Err(BlockError::new(ErrorKind::ReadOnly, format!("{why}; open it read-only")));
        match &self.kind {
            Kind::Flat(..) => Ok(()),
            Kind::Grains(grains) => grains.become_writable().await,
            Kind::Stream(stream) => stream.become_writable().await,
            Kind::SeSparse(_) => refused("seSparse extents are not written to"),
            Kind::Zero => refused("an extent of zeroes is not written to"),
            Kind::Absent => refused("an extent was not opened"),
        }
    }

    pub async fn flush(&self, edges: &Edges) -> Result<()> {
        match &self.kind {
            Kind::Flat(child, _) => edges.need(*child)?.flush().await,
            // What was not written to since it was opened has nothing to flush.
            Kind::Grains(grains) if grains.tables.order.access.is_ready() => Order::flush(grains).await,
            Kind::Stream(stream) if stream.tables.order.access.is_ready() => Order::flush(stream).await,
            _ => Ok(()),
        }
    }

    /// Frees what waits to be freed.
    pub async fn reclaim(&self) -> bool {
        match &self.kind {
            Kind::Grains(grains) => Order::reclaim(grains).await,
            _ => false,
        }
    }

    /// Ends all changes: the image is closed, or read-only from now on.
    pub async fn end_changes(&self, in_time: bool) -> Result<()> {
        match &self.kind {
            Kind::Grains(grains) => grains.end_changes(in_time).await,
            Kind::Stream(stream) => stream.end_changes(in_time).await,
            _ => Ok(()),
        }
    }

    /// Allows changes, or none.
    pub fn set_access(&self, writable: bool) {
        let access = match &self.kind {
            Kind::Grains(grains) => &grains.tables.order.access,
            Kind::Stream(stream) => &stream.tables.order.access,
            _ => return,
        };
        if writable { access.allow(false) } else { access.forbid() }
    }

    /// Forgets what was read of the file: another program may have written to it.
    pub async fn read_again(&self) -> Result<()> {
        match &self.kind {
            Kind::Grains(grains) => grains.tables.order.tables.clear(),
            Kind::Stream(stream) => stream.read_again().await?,
            Kind::SeSparse(sparse) => sparse.forget(),
            _ => {}
        }
        Ok(())
    }

    /// Bytes of a grain, where the part is sparse.
    pub fn grain(&self) -> Option<u64> {
        match &self.kind {
            Kind::Grains(grains) => Some(grains.tables.shape.grain()),
            Kind::Stream(stream) => Some(stream.tables.shape.grain()),
            Kind::SeSparse(_) => Some(8 * SECTOR),
            _ => None,
        }
    }
}
