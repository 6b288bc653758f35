//! What is copied, and how: the two ends, what is left out, what becomes of zeroes.
use super::{CopyError, Step};
use crate::backend::Backend;
use crate::error::Result;
use crate::io::{WriteFlags, ZeroFlags};
use crate::node::Node;
use crate::status::Status;
use rt::{Buf, BufMut};
use std::sync::Arc;

/// What is looked at again after an error of the source, byte for byte saved what can be.
pub(super) const SECTOR: u64 = 512;

/// Where a copy reads from or writes to.
#[derive(Debug, Clone)]
pub enum Port {
    /// Through an entry, waiting at its gate.
    Entry(Arc<Backend>),
    /// Straight at a node: for whoever has closed the gates above it.
    Inner(Arc<Node>),
}

impl Port {
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

    pub(super) async fn write(&self, offset: u64, data: Buf) -> Result<()> {
        let done = match self {
            Port::Entry(entry) => entry.try_write(offset, &data)?,
            Port::Inner(node) => node.try_write(offset, &data)?,
        };
        if done == data.len() {
            return Ok(());
        }
        let (offset, rest) = (offset + done as u64, data.slice(done..data.len()));
        match self {
            Port::Entry(entry) => entry.write(offset, rest, WriteFlags::default()).await,
            Port::Inner(node) => node.write(offset, rest, WriteFlags::default()).await,
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
    /// The source's layers from this node down are left out; without it none, and what no layer holds is zeroes.
    pub base: Option<Arc<Node>>,
    /// Bytes of the target that show it; behind them the target reads as zeroes.
    pub length: u64,
}

impl Over {
    /// Whether what no copied layer holds at `offset` of the source comes from the layers that are left out. Without such
    /// layers, and behind their end, it is zeroes.
    fn shows(&self, offset: u64) -> bool {
        self.base.as_ref().is_some_and(|base| offset < base.length())
    }
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
        let over = Over { base: Some(base.clone()), length: u64::MAX };
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
        let need = match &self.over {
            Some(over) if target >= over.length && status.zero => Need::Nothing,
            Some(over) if !status.allocated && over.shows(offset) => Need::Nothing,
            // Nothing is below: the hole says zeroes, whatever the target lies over.
            Some(_) if !status.allocated => Need::Zeroes,
            None if status.zero && self.zeroes == Zeroes::Skip => Need::Nothing,
            _ if status.zero => Need::Zeroes,
            _ => Need::Data,
        };
        let len = match &self.over {
            Some(over) if target < over.length => len.min(over.length - target),
            _ => len,
        };
        let len = match base.map(|base| base.length()) {
            Some(end) if offset < end => len.min(end - offset),
            _ => len,
        };
        Ok((need, len))
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
