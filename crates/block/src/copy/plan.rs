//! What is copied and how: source and target, what is left out, how zeroes are written.
use super::flight::STEP;
use super::notes::CopyNotes;
use super::pieces::up_to_unit;
use super::witness::Witness;
use super::{CopyError, CopyStep};
use crate::backend::Backend;
use crate::edges::{ChildId, Edges};
use crate::error::Result;
use crate::io::Placed;
use crate::node::Node;
use crate::request::{Flags, Request};
use crate::status::Status;
use rt::{Buf, BufMut};
use std::sync::Arc;

/// Unit in which an unreadable range of the source is read again to save what can be read.
pub(super) const SECTOR: u64 = 512;

/// Unit of comparison where the target has no clusters.
const UNIT: u64 = 65536;

/// Smallest unit of comparison.
const LEAST_UNIT: u64 = 4096;

/// Where a copy reads from or writes to.
#[derive(Debug, Clone)]
pub enum Endpoint {
    /// Through an entry, waiting at its gate.
    Entry(Arc<Backend>),
    /// Directly at a node, for who has closed the gates above it, or is inside one of them.
    Inner(Arc<Node>),
    /// The same at the child to which an edge leads by then: each request asks anew, for a filter may come or go between two.
    Child(Arc<Edges>, ChildId),
}

impl Endpoint {
    /// The node to which requests go now.
    fn node(&self) -> Result<Arc<Node>> {
        match self {
            Self::Entry(entry) => Ok(entry.node()),
            Self::Inner(node) => Ok(node.clone()),
            Self::Child(edges, id) => edges.need(*id),
        }
    }

    /// Whether writing zeroes costs less than writing data.
    fn zeroes_are_cheap(&self) -> bool {
        self.node().is_ok_and(|node| node.facts().can_write_zeroes)
    }

    /// Unit of comparison: a cluster of the target, within limits.
    pub(super) fn unit(&self) -> u64 {
        let size = self.node().ok().and_then(|node| node.facts().cluster_size);
        size.unwrap_or(UNIT).clamp(LEAST_UNIT, STEP)
    }

    fn length(&self) -> u64 {
        self.node().map_or(0, |node| node.length())
    }

    async fn status(&self, offset: u64, len: u64, base: Option<&Arc<Node>>) -> Result<Status> {
        match (self, base) {
            (Self::Entry(entry), Some(base)) => entry.status_above(offset, len, base).await,
            (Self::Entry(entry), None) => entry.status(offset, len).await,
            _ => self.node()?.status(offset, len, base).await,
        }
    }

    /// Reads inline what needs no waiting: how many bytes from the start of `buf`.
    pub(super) fn try_read(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        match self {
            Self::Entry(entry) => entry.try_read(offset, buf),
            _ => self.node()?.try_read(offset, buf),
        }
    }

    pub(super) async fn read(&self, offset: u64, buf: BufMut) -> (BufMut, Result<()>) {
        if let Self::Entry(entry) = self {
            return entry.read(offset, buf).await;
        }
        match self.node() {
            Ok(node) => node.read(offset, buf).await,
            Err(error) => (buf, Err(error)),
        }
    }

    async fn write(&self, offset: u64, data: Buf, request: Request, placed: Placed<'_>) -> Result<()> {
        let node = self.node()?;
        if node.has_place(offset, data.len()) {
            placed();
        }
        let done = match self {
            Self::Entry(entry) => entry.try_write(offset, &data, request)?,
            _ => node.try_write(offset, &data, request)?,
        };
        if done == data.len() {
            return Ok(());
        }
        self.write_waiting(offset + done as u64, data.slice(done..data.len()), request, placed).await
    }

    async fn write_waiting(&self, at: u64, data: Buf, request: Request, placed: Placed<'_>) -> Result<()> {
        match self {
            Self::Entry(entry) => entry.write_placed(at, data, request, placed).await,
            _ => self.node()?.write_placed(at, data, request, placed).await,
        }
    }

    async fn write_zeroes(&self, offset: u64, len: u64, request: Request) -> Result<()> {
        match self {
            Self::Entry(entry) => entry.write_zeroes(offset, len, request).await,
            _ => self.node()?.write_zeroes(offset, len, request).await,
        }
    }
}

/// What the target shows already where nothing is copied to: it is an overlay, or a layer of the source itself.
#[derive(Debug, Clone)]
pub struct Existing {
    /// Data of the source's layers above this node are copied; `None`: data of all layers.
    pub base: Option<Arc<Node>>,
    /// What is done with ranges that those layers don't hold.
    pub unallocated: Unallocated,
    /// Offset in the target from which on it reads as zeroes before the copy.
    pub length: u64,
}

/// What is done with ranges that the source's layers above the base don't hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unallocated {
    /// Target and source have the base in common: nothing.
    Shown,
    /// The target shows other content there: both are compared, and differences are copied.
    Compared,
}

/// How zeroes of the source are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CopyZeroes {
    /// With write-zeroes requests.
    #[default]
    Write,
    /// With write-zeroes requests, where the target does not read as zeroes already.
    Needed,
    /// Not at all: the target reads as zeroes already.
    Skip,
    /// As data.
    Data,
}

/// Is called for each range that could not be read and became zeroes in the target.
pub type OnUnreadable = Arc<dyn Fn(&CopyError) + Send + Sync>;

/// What is copied from where to where, and how.
#[derive(Clone)]
pub struct CopyPlan {
    /// Read from here.
    pub source: Endpoint,
    /// Write to there.
    pub target: Endpoint,
    /// Offset in the source where the copy begins.
    pub from: u64,
    /// Offset in the target where the copy begins.
    pub to: u64,
    /// What the target shows where nothing is copied; `None`: everything is copied.
    pub existing: Option<Existing>,
    /// Source and target are one image: what its lower layers hold is stored in the topmost, where that holds nothing.
    pub fills: bool,
    /// How zeroes of the source are written.
    pub zeroes: CopyZeroes,
    /// Zeroes inside data are searched for in units of so many bytes; 0: not at all.
    pub sparse: usize,
    /// What is whole clusters of so many bytes in the target is stored compressed there; `None`: nothing is. The last cluster
    /// of the target may be cut off. Zeroes are searched for by clusters then.
    pub compress: Option<u64>,
    /// Most bytes of a piece: what goes on at once where a rate is limited.
    pub piece: u64,
    /// Pieces may be written in any order.
    pub out_of_order: bool,
    /// Where zeroes are written, the target may give up space.
    pub unmap: bool,
    /// So many bytes are copied first, piece after piece, on the calling worker: a small copy ends sooner that way.
    pub serial: u64,
    /// If set, what can't be read becomes zeroes and is reported here; else it is an error.
    pub on_unreadable: Option<OnUnreadable>,
    /// What an earlier copy noted is compared instead of copied, and what is copied is noted.
    pub notes: Option<Arc<CopyNotes>>,
    /// Sees what is copied.
    pub witness: Option<Arc<dyn Witness>>,
}

/// How a range is to be copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    Data,
    Zeroes,
    Nothing,
    /// Data, but only where the target shows something else.
    Differences,
}

impl CopyPlan {
    /// A copy of everything.
    pub fn new(source: Endpoint, target: Endpoint) -> Self {
        Self {
            source,
            target,
            from: 0,
            to: 0,
            existing: None,
            fills: false,
            zeroes: CopyZeroes::Write,
            sparse: 0,
            compress: None,
            piece: STEP,
            out_of_order: false,
            unmap: true,
            serial: 0,
            on_unreadable: None,
            notes: None,
            witness: None,
        }
    }

    /// A copy of the data in the layers of `source` above `base`.
    pub fn above(base: &Arc<Node>, source: Endpoint, target: Endpoint) -> Self {
        let existing =
            Existing { base: Some(base.clone()), unallocated: Unallocated::Shown, length: u64::MAX };
        Self { existing: Some(existing), ..Self::new(source, target) }
    }

    /// A copy of what the layers of `image` between the topmost and `base` hold into the topmost; without a base, of what all
    /// layers below it hold. What is written to the topmost meanwhile stays. Needs [`crate::Facts::can_fill`].
    pub fn up(image: Endpoint, base: Option<&Arc<Node>>) -> Self {
        let existing = Existing { base: base.cloned(), unallocated: Unallocated::Shown, length: u64::MAX };
        Self { existing: Some(existing), fills: true, ..Self::new(image.clone(), image) }
    }

    /// How data and zeroes are written.
    fn request(&self) -> Request {
        Request::JOB.with_if(self.fills, Flags::IF_UNALLOCATED.union(Flags::UNCHANGED))
    }

    /// The target's offset of a byte of the source.
    pub(super) fn target_of(&self, offset: u64) -> u64 {
        self.to.saturating_add(offset.saturating_sub(self.from))
    }

    /// Most bytes that are moved at a time.
    pub(super) fn step(&self) -> u64 {
        self.compress.map_or(self.piece, |cluster| cluster.max(self.piece))
    }

    /// Unit in which zeroes inside data are searched for; 0: they are not.
    pub(super) fn zero_unit(&self) -> usize {
        match self.compress {
            Some(cluster) if self.sparse > 0 => cluster as usize,
            _ => self.sparse,
        }
    }

    /// How much of a run at the start of a range is copied as what it is: where whole clusters are compressed, a cluster of
    /// which it is a part only is copied whole, as data.
    pub(super) fn whole_clusters(&self, at: u64, run: (Need, u64), left: u64) -> (Need, u64) {
        let (need, len) = run;
        let Some(cluster) = self.compress.filter(|_| len < left) else { return run };
        let target = self.target_of(at);
        match up_to_unit(target, len, cluster) {
            0 => (Need::Data, left.min(cluster - target % cluster)),
            whole => (need, whole),
        }
    }

    /// Writes data: whole clusters compressed, where that is asked for. What sources of odd sizes, one behind the other, have
    /// in common of a cluster is stored as it is.
    pub(super) async fn write(&self, offset: u64, data: Buf, placed: Placed<'_>) -> Result<()> {
        let Some(cluster) = self.compress else {
            return self.target.write(offset, data, self.request(), placed).await;
        };
        let (mut at, end, length) = (offset, offset + data.len() as u64, self.target.length());
        while at < end {
            let whole = if end >= length { end - at } else { up_to_unit(at, end - at, cluster) };
            let compressed = at.is_multiple_of(cluster) && whole > 0;
            let len = if compressed { whole } else { (end - at).min(cluster - at % cluster) };
            let from = (at - offset) as usize;
            let part = data.slice(from..from + len as usize);
            let placed: Placed<'_> = if at + len == end { placed } else { &|| {} };
            match compressed {
                true => {
                    let request = Request::JOB.with(Flags::COMPRESSED);
                    self.target.write_waiting(at, part, request, placed).await?;
                }
                false => self.target.write(at, part, Request::JOB, placed).await?,
            }
            at += len;
        }
        Ok(())
    }

    /// Makes a range of the target read as zeroes.
    pub(super) async fn write_zeroes(&self, offset: u64, len: u64) -> Result<()> {
        self.target.write_zeroes(offset, len, self.request().with_if(self.unmap, Flags::MAY_UNMAP)).await
    }

    /// How the start of a range of the source is to be copied, and how many bytes of it.
    pub(crate) async fn look(&self, offset: u64, len: u64) -> std::result::Result<(Need, u64), CopyError> {
        let (need, len) = self.look_at_nodes(offset, len).await?;
        let (Some(notes), Need::Data) = (&self.notes, need) else { return Ok((need, len)) };
        Ok(match notes.alike(offset, len) {
            (true, len) => (Need::Differences, len),
            (false, len) => (Need::Data, len),
        })
    }

    /// The same, by what the nodes say.
    async fn look_at_nodes(&self, offset: u64, len: u64) -> std::result::Result<(Need, u64), CopyError> {
        let base = self.existing.as_ref().and_then(|existing| existing.base.as_ref());
        let status = self.source.status(offset, len, base).await;
        let status = status.map_err(|error| CopyError { step: CopyStep::Status, offset, error })?;
        let (target, len) = (self.target_of(offset), status.len.min(len));
        let Some(existing) = &self.existing else {
            let need = match status.zero {
                true if self.zeroes == CopyZeroes::Needed => return self.unless_zero(target, len).await,
                true if self.zeroes == CopyZeroes::Skip => Need::Nothing,
                true => Need::Zeroes,
                false => Need::Data,
            };
            return Ok((need, len));
        };
        if self.fills {
            let need = match (status.allocated && status.depth > 0, status.zero) {
                (false, _) => Need::Nothing,
                (true, false) => Need::Data,
                // What is above nothing any more reads as zeroes where it holds nothing.
                (true, true) if existing.base.is_none() => Need::Nothing,
                (true, true) => Need::Zeroes,
            };
            return Ok((need, len));
        }
        let len = if target < existing.length { len.min(existing.length - target) } else { len };
        let need = match (status.allocated, existing.unallocated) {
            _ if target >= existing.length && status.zero => Need::Nothing,
            (false, Unallocated::Shown) => Need::Nothing,
            (false, Unallocated::Compared) => return self.compare(offset, len).await,
            (true, _) if !status.zero => Need::Data,
            (true, _) if self.zeroes == CopyZeroes::Needed => return self.unless_zero(target, len).await,
            (true, _) if self.zeroes == CopyZeroes::Write && !self.target.zeroes_are_cheap() => {
                return self.unless_zero(target, len).await;
            }
            (true, _) => Need::Zeroes,
        };
        Ok((need, len))
    }

    /// How a range is to be copied that the layers above the base don't hold.
    async fn compare(&self, offset: u64, len: u64) -> std::result::Result<(Need, u64), CopyError> {
        let status = self.source.status(offset, len, None).await;
        let status = status.map_err(|error| CopyError { step: CopyStep::Status, offset, error })?;
        let len = status.len.min(len);
        if !status.zero {
            return Ok((Need::Differences, len));
        }
        self.unless_zero(self.target_of(offset), len).await
    }

    /// Zeroes, unless the target already reads as zeroes at offset `target`.
    async fn unless_zero(&self, target: u64, len: u64) -> std::result::Result<(Need, u64), CopyError> {
        let shown = self.target.status(target, len, None).await;
        let shown = shown.map_err(|error| CopyError { step: CopyStep::Write, offset: target, error })?;
        Ok((if shown.zero { Need::Nothing } else { Need::Zeroes }, shown.len.min(len)))
    }

    /// Reports what can't be read if it may be skipped; else the error.
    pub(super) fn skip_unreadable(&self, error: CopyError) -> std::result::Result<(), CopyError> {
        match &self.on_unreadable {
            Some(tell) => {
                tell(&error);
                Ok(())
            }
            None => Err(error),
        }
    }
}

impl std::fmt::Debug for CopyPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CopyPlan({:?} to {:?})", self.source, self.target)
    }
}
