//! What is copied, and how: the two ends, what is left out, what becomes of zeroes.
use super::flight::STEP;
use super::{CopyError, Step};
use crate::backend::Backend;
use crate::error::Result;
use crate::io::{Placed, WriteFlags, ZeroFlags};
use crate::node::Node;
use crate::status::Status;
use rt::{Buf, BufMut};
use std::sync::Arc;

/// What is looked at again after an error of the source, byte for byte saved what can be.
pub(super) const SECTOR: u64 = 512;

/// Bytes that are compared at a time where the target has no clusters.
const UNIT: u64 = 65536;

/// Fewest bytes that are compared at a time.
const LEAST_UNIT: u64 = 4096;

/// Where a copy reads from or writes to.
#[derive(Debug, Clone)]
pub enum Port {
    /// Through an entry, waiting at its gate.
    Entry(Arc<Backend>),
    /// Straight at a node: for whoever has closed the gates above it.
    Inner(Arc<Node>),
}

impl Port {
    /// Whether zeroes cost less than data, also where something else shows now.
    fn zeroes_are_cheap(&self) -> bool {
        match self {
            Port::Entry(entry) => entry.node().facts().can_write_zeroes,
            Port::Inner(node) => node.facts().can_write_zeroes,
        }
    }

    /// Bytes that are compared at a time: those that are stored at a time.
    pub(super) fn unit(&self) -> u64 {
        let size = match self {
            Port::Entry(entry) => entry.node().facts().cluster_size,
            Port::Inner(node) => node.facts().cluster_size,
        };
        size.unwrap_or(UNIT).clamp(LEAST_UNIT, STEP)
    }

    async fn status(&self, offset: u64, len: u64, base: Option<&Arc<Node>>) -> Result<Status> {
        match (self, base) {
            (Port::Entry(entry), Some(base)) => entry.status_above(offset, len, base).await,
            (Port::Entry(entry), None) => entry.status(offset, len).await,
            (Port::Inner(node), base) => node.status(offset, len, base).await,
        }
    }

    /// Reads at once what can be; how many bytes of `buf` that was.
    pub(super) fn try_read(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        match self {
            Port::Entry(entry) => entry.try_read(offset, buf),
            Port::Inner(node) => node.try_read(offset, buf),
        }
    }

    pub(super) async fn read(&self, offset: u64, buf: BufMut) -> (BufMut, Result<()>) {
        match self {
            Port::Entry(entry) => entry.read(offset, buf).await,
            Port::Inner(node) => node.read(offset, buf).await,
        }
    }

    pub(super) async fn write(&self, offset: u64, data: Buf, placed: Placed<'_>) -> Result<()> {
        let node = match self {
            Port::Entry(entry) => &entry.node(),
            Port::Inner(node) => node,
        };
        if node.has_place(offset, data.len()) {
            placed();
        }
        let done = match self {
            Port::Entry(entry) => entry.try_write(offset, &data)?,
            Port::Inner(node) => node.try_write(offset, &data)?,
        };
        if done == data.len() {
            return Ok(());
        }
        let (offset, rest) = (offset + done as u64, data.slice(done..data.len()));
        match self {
            Port::Entry(entry) => entry.write_placed(offset, rest, WriteFlags::default(), placed).await,
            Port::Inner(node) => node.write_placed(offset, rest, WriteFlags::default(), placed).await,
        }
    }

    pub(super) async fn write_zeroes(&self, offset: u64, len: u64) -> Result<()> {
        let flags = ZeroFlags { unmap: true, ..ZeroFlags::default() };
        match self {
            Port::Entry(entry) => entry.write_zeroes(offset, len, flags).await,
            Port::Inner(node) => node.write_zeroes(offset, len, flags).await,
        }
    }
}

/// The target lies over something that shows what is not copied.
#[derive(Debug, Clone)]
pub struct Over {
    /// What the source's layers above this node hold is copied; without it what any layer holds.
    pub base: Option<Arc<Node>>,
    /// What they do not hold.
    pub rest: Rest,
    /// From here on, in bytes of the target, it reads as zeroes before the copy.
    pub length: u64,
}

/// What becomes of ranges that the looked-at layers of the source do not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// The target shows what the base holds: nothing is to be done.
    Shown,
    /// What the target shows is another thing: it is compared, and copied where it differs.
    Compared,
}

/// What becomes of zeroes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zeroes {
    /// They are written as zeroes.
    Write,
    /// The target reads as zeroes already: nothing.
    Skip,
    /// They are written as data.
    Data,
}

/// Hears of what could not be read, where zeroes take its place.
pub type Lost = Arc<dyn Fn(&CopyError) + Send + Sync>;

/// From where to where, and what is left out.
#[derive(Clone)]
pub struct CopyPlan {
    /// Read from here.
    pub source: Port,
    /// Write to there.
    pub target: Port,
    /// Where the target's first byte comes from, in bytes of the source.
    pub from: u64,
    /// Where it goes to, in bytes of the target.
    pub to: u64,
    /// What the target lies over, if that shows what is not copied.
    pub over: Option<Over>,
    /// What becomes of zeroes.
    pub zeroes: Zeroes,
    /// Zeroes inside of data are looked for in units of so many bytes; 0: not at all.
    pub sparse: usize,
    /// Pieces are written as they come, not in their order.
    pub out_of_order: bool,
    /// Bytes that are copied in order on the worker that asks, before the others help: a small copy ends sooner so.
    pub alone: u64,
    /// Where there is one, what can't be read is told to it and becomes zeroes.
    pub lost: Option<Lost>,
}

/// What is to be done with a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    Data,
    Zeroes,
    Nothing,
    /// Data, where the target shows something else.
    Differences,
}

impl CopyPlan {
    /// A copy of everything.
    pub fn new(source: Port, target: Port) -> Self {
        Self {
            source,
            target,
            from: 0,
            to: 0,
            over: None,
            zeroes: Zeroes::Write,
            sparse: 0,
            out_of_order: false,
            alone: 0,
            lost: None,
        }
    }

    /// A copy of what the layers of `source` above `base` hold.
    pub fn above(base: &Arc<Node>, source: Port, target: Port) -> Self {
        let over = Over { base: Some(base.clone()), rest: Rest::Shown, length: u64::MAX };
        Self { over: Some(over), ..Self::new(source, target) }
    }

    /// Where a byte of the source goes to.
    pub(super) fn target_of(&self, offset: u64) -> u64 {
        self.to.saturating_add(offset.saturating_sub(self.from))
    }

    /// What the start of a range of the source needs, and how many bytes of it.
    pub(super) async fn look(&self, offset: u64, len: u64) -> std::result::Result<(Need, u64), CopyError> {
        let base = self.over.as_ref().and_then(|over| over.base.as_ref());
        let status = self.source.status(offset, len, base).await;
        let status = status.map_err(|error| CopyError { step: Step::Status, offset, error })?;
        let (target, len) = (self.target_of(offset), status.len.min(len));
        let Some(over) = &self.over else {
            let need = match status.zero {
                true if self.zeroes == Zeroes::Skip => Need::Nothing,
                true => Need::Zeroes,
                false => Need::Data,
            };
            return Ok((need, len));
        };
        let len = if target < over.length { len.min(over.length - target) } else { len };
        let need = match (status.allocated, over.rest) {
            _ if target >= over.length && status.zero => Need::Nothing,
            (false, Rest::Shown) => Need::Nothing,
            (false, Rest::Compared) => return self.compare(offset, len).await,
            (true, _) if !status.zero => Need::Data,
            (true, _) if self.zeroes == Zeroes::Write && !self.target.zeroes_are_cheap() => {
                return self.unless_zero(target, len).await;
            }
            (true, _) => Need::Zeroes,
        };
        Ok((need, len))
    }

    /// What a range needs that the layers above the base do not hold.
    async fn compare(&self, offset: u64, len: u64) -> std::result::Result<(Need, u64), CopyError> {
        let status = self.source.status(offset, len, None).await;
        let status = status.map_err(|error| CopyError { step: Step::Status, offset, error })?;
        let len = status.len.min(len);
        if !status.zero {
            return Ok((Need::Differences, len));
        }
        self.unless_zero(self.target_of(offset), len).await
    }

    /// Zeroes, unless the target, `target` bytes into it, reads as zeroes already.
    async fn unless_zero(&self, target: u64, len: u64) -> std::result::Result<(Need, u64), CopyError> {
        let shown = self.target.status(target, len, None).await;
        let shown = shown.map_err(|error| CopyError { step: Step::Write, offset: target, error })?;
        Ok((if shown.zero { Need::Nothing } else { Need::Zeroes }, shown.len.min(len)))
    }

    /// Passes over what can't be read, if that is wanted.
    pub(super) fn lose(&self, error: CopyError) -> std::result::Result<(), CopyError> {
        match &self.lost {
            Some(lost) => {
                lost(&error);
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
