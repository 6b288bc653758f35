//! Requests through a node: the inline path and the waiting path, over one set of mappings.
//!
//! The inline functions (`try_*`) do what needs no waiting and tell how far they came; the caller continues with the
//! waiting ones from there. Both ask the driver where the bytes are and move them themselves.
use crate::coding::CodedAt;
use crate::driver::{Extent, ExtentKind, MapChange, Want};
use crate::error::{BlockError, ErrorKind, Result};
use crate::hooks::NodeChange;
use crate::node::{Node, Slow};
use crate::request::Request;
use crate::steps::Step;
use rt::{BoxFuture, BufMut};
use std::sync::Arc;
use std::sync::atomic::Ordering::*;

/// Hears that a write has its place in the file, before its data are stored there: what asks for a place from now on comes
/// to lie behind it. It may be told more than once, or not at all: then the write has it when it has ended.
pub type Placed<'a> = &'a (dyn Fn() + Send + Sync);

impl Node {
    /// Reads inline what can be had without waiting; tells how many bytes from the start.
    pub fn try_read(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        if !self.mapping {
            let stop = self.slow.load(Relaxed) & (Slow::ALIGN | Slow::CLOSED | Slow::INACTIVE) != 0;
            return if stop { Ok(0) } else { self.driver.try_read(offset, buf) };
        }
        if self.slow.load(Relaxed) & (Slow::CLOSED | Slow::INACTIVE) != 0 {
            return Ok(0);
        }
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let (len, got) = self.try_read_piece(offset + done as u64, rest)?;
            done += got;
            if got < len {
                break;
            }
        }
        Ok(done)
    }

    /// Reads the start of `buf` inline, from the layer that has it: how many bytes lie together there, and how many
    /// came. Holes are followed down the chain in a loop, for a chain may be longer than the stack is deep.
    fn try_read_piece(&self, at: u64, buf: &mut [u8]) -> Result<(usize, usize)> {
        let mut len = buf.len();
        if let Some(got) = self.try_read_layer(at, buf, &mut len)? {
            return Ok((len, got));
        }
        let chain = self.edges.chain();
        if let Some(layers) = &*chain.layers() {
            let (first, holds) = chain.first(layers, at, len as u64);
            len = len.min(usize::try_from(holds).unwrap_or(usize::MAX));
            for node in layers.from(first) {
                if let Some(got) = node.try_read_below(at, buf, &mut len)? {
                    return Ok((len, got));
                }
            }
            buf[..len].fill(0);
            return Ok((len, len));
        }
        let mut layer = self.edges.look_at_backing();
        let (mut deep, mut found) = (false, None);
        while let Some(node) = layer.as_deref().and_then(Option::as_ref) {
            found = node.try_read_below(at, buf, &mut len)?;
            if found.is_some() {
                break;
            }
            layer = node.edges.look_at_backing();
            deep |= layer.as_deref().is_some_and(Option::is_some);
        }
        if deep {
            chain.explore(&self.edges);
        }
        if found.is_none() {
            buf[..len].fill(0);
        }
        Ok((len, found.unwrap_or(len)))
    }

    /// As [`Node::try_read_layer`], of a layer below the topmost: beyond its end are zeroes.
    fn try_read_below(&self, at: u64, buf: &mut [u8], len: &mut usize) -> Result<Option<usize>> {
        let inside = self.length().saturating_sub(at);
        if inside == 0 {
            buf[..*len].fill(0);
            return Ok(Some(*len));
        }
        *len = (*len).min(usize::try_from(inside).unwrap_or(usize::MAX));
        self.try_read_layer(at, buf, len)
    }

    /// Reads inline what this layer itself has of the start of `buf`: how many bytes came, of `len` that lie together;
    /// `None` if it holds nothing of them.
    fn try_read_layer(&self, at: u64, buf: &mut [u8], len: &mut usize) -> Result<Option<usize>> {
        if !self.mapping || self.slow.load(Relaxed) & Slow::CLOSED != 0 {
            return Ok(Some(if self.mapping { 0 } else { self.try_read(at, &mut buf[..*len])? }));
        }
        let Some(extent) = self.driver.try_map(at, *len as u64, Want::Read) else { return Ok(Some(0)) };
        *len = (*len).min(usize::try_from(extent.len).unwrap_or(usize::MAX));
        let buf = &mut buf[..*len];
        match extent.kind {
            ExtentKind::Data { child, offset, .. } => {
                let read = |c: Option<&Arc<Node>>| match &self.coding {
                    None => c.map_or(Ok(0), |c| c.try_read(offset, buf)),
                    Some(coding) => {
                        Node::try_read_coded(&**coding, c, CodedAt { guest: at, stored: offset }, buf)
                    }
                };
                self.edges.with(child, read).map(Some)
            }
            ExtentKind::Encoded | ExtentKind::Stored => Ok(Some(0)),
            ExtentKind::Zero { .. } => {
                buf.fill(0);
                Ok(Some(buf.len()))
            }
            ExtentKind::Hole { .. } if self.looks_again() => Ok(Some(0)),
            ExtentKind::Hole { .. } => Ok(None),
        }
    }

    /// Writes inline what goes to bytes of this node's own, in place; tells how many bytes from the start.
    pub fn try_write(&self, offset: u64, data: &[u8], request: Request) -> Result<usize> {
        if self.slow.load(Relaxed) != 0 || !request.may_be_inline() {
            return Ok(0);
        }
        let done = if self.mapping {
            self.try_write_mapped(offset, data, request)
        } else {
            self.driver.try_write(offset, data)
        };
        let change = MapChange::Data;
        match done {
            Ok(0) => {}
            Ok(n) => {
                self.changed(NodeChange { offset, len: n as u64, change, request });
                self.acknowledges();
            }
            // Some of it may have been written.
            Err(_) => {
                let change = NodeChange { offset, len: data.len() as u64, change, request };
                self.changed(change);
                self.change_failed(change);
            }
        }
        done
    }

    /// Whether a write to this range has its place before it begins.
    pub(crate) fn has_place(&self, offset: u64, len: usize) -> bool {
        if !self.mapping {
            return true;
        }
        let extent = self.driver.try_map(offset, len as u64, Want::Write);
        extent.is_some_and(|e| e.len >= len as u64 && matches!(e.kind, ExtentKind::Data { owned: true, .. }))
    }

    fn try_write_mapped(&self, offset: u64, data: &[u8], request: Request) -> Result<usize> {
        let mut done = 0;
        while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
            let at = offset + done as u64;
            let extent = self.driver.try_map(at, rest.len() as u64, Want::Write);
            let Some(Extent { len, kind: ExtentKind::Data { child, offset, owned: true } }) = extent else {
                break;
            };
            let len = rest.len().min(usize::try_from(len).unwrap_or(usize::MAX));
            let rest = &rest[..len];
            let got = self.edges.with(child, |c| match &self.coding {
                None => c.map_or(Ok(0), |c| c.try_write(offset, rest, request)),
                Some(coding) => {
                    self.try_write_coded(&**coding, c, CodedAt { guest: at, stored: offset }, rest, request)
                }
            })?;
            done += got;
            if got < len {
                break;
            }
        }
        Ok(done)
    }

    /// Reads all of `buf`.
    pub fn read(&self, offset: u64, buf: BufMut) -> BoxFuture<'_, (BufMut, Result<()>)> {
        if self.slow.load(Acquire) & Slow::CLOSED != 0 {
            // Its children are gone: what it would call a hole may be anything.
            return Box::pin(std::future::ready((buf, Err(self.closed_error()))));
        }
        if !self.mapping {
            return self.read_direct(offset, buf);
        }
        Box::pin(self.read_mapped(offset, buf))
    }

    async fn read_mapped(&self, offset: u64, buf: BufMut) -> (BufMut, Result<()>) {
        let mut rest = buf;
        let mut done: Option<BufMut> = None;
        let mut at = offset;
        loop {
            let source = match self.find_source(at, rest.len()).await {
                Ok(source) => source,
                Err(e) => return (join(done, rest), Err(e)),
            };
            let piece = rest.split_to(source.len);
            let len = source.len as u64;
            let through = source.layer.is_some() && self.looks_again();
            let (piece, result) = self.read_source(at, source, piece).await;
            if through && result.is_ok() && !self.is_still_hole(at, len).await {
                rest = join(Some(piece), rest);
                continue;
            }
            let whole = join(done.take(), piece);
            if rest.is_empty() || result.is_err() {
                return (join(Some(whole), rest), result);
            }
            done = Some(whole);
            at += len;
        }
    }

    /// Finds the layer of the chain that has the start of a range. In a loop, for a chain may be longer than the stack
    /// is deep.
    async fn find_source(&self, at: u64, len: usize) -> Result<Source> {
        let mut source = Source { layer: None, kind: ExtentKind::Stored, len };
        loop {
            let node = source.layer.as_deref().unwrap_or(self);
            if node.slow.load(Acquire) & Slow::CLOSED != 0 {
                return Err(node.closed_error());
            }
            if !node.mapping {
                return Ok(Source { kind: ExtentKind::Stored, ..source });
            }
            let extent = node.driver.map(at, source.len as u64, Want::Read).await;
            let extent = extent.map_err(|e| e.at_node(&node.name))?;
            let len = source.len.min(usize::try_from(extent.len).unwrap_or(usize::MAX));
            let zeroes = ExtentKind::Zero { reserved: None };
            if !extent.kind.is_hole() {
                return Ok(Source { kind: extent.kind, len, ..source });
            }
            if source.layer.is_some() && node.looks_again() {
                return Ok(Source { kind: ExtentKind::Stored, len, ..source });
            }
            let (backing, len) = match source.layer {
                None => self.first_below(at, len),
                Some(_) => (node.backing(), len),
            };
            let Some(backing) = backing else {
                return Ok(Source { kind: zeroes, len, ..source });
            };
            // Beyond the end of a backing image are zeroes.
            let inside = usize::try_from(backing.length().saturating_sub(at)).unwrap_or(usize::MAX);
            if inside == 0 {
                return Ok(Source { kind: zeroes, len, ..source });
            }
            source = Source { layer: Some(backing), kind: ExtentKind::HOLE, len: len.min(inside) };
        }
    }

    /// The nearest layer below this one that may hold something of the start of a range, and for how many bytes that is so.
    fn first_below(&self, at: u64, len: usize) -> (Option<Arc<Node>>, usize) {
        let chain = self.edges.chain();
        let Some(layers) = &*chain.layers() else { return (self.backing(), len) };
        let (first, holds) = chain.first(layers, at, len as u64);
        (layers.from(first).first().cloned(), len.min(usize::try_from(holds).unwrap_or(usize::MAX)))
    }

    async fn read_source(&self, at: u64, source: Source, mut piece: BufMut) -> (BufMut, Result<()>) {
        let node = source.layer.as_deref().unwrap_or(self);
        if source.layer.is_some() {
            self.announce_to_file(Step::ReadBackingAio).await;
        }
        match source.kind {
            ExtentKind::Data { child, offset, .. } => {
                node.announce_to(child, Step::ReadAio).await;
                match (node.edges.need(child), &node.coding) {
                    (Ok(child), None) => child.read(offset, piece).await,
                    (Ok(child), Some(coding)) => {
                        node.read_coded(coding, &child, CodedAt { guest: at, stored: offset }, piece).await
                    }
                    (Err(e), _) => (piece, Err(e)),
                }
            }
            ExtentKind::Zero { .. } | ExtentKind::Hole { .. } => {
                piece.fill(0);
                (piece, Ok(()))
            }
            ExtentKind::Stored if !node.mapping || source.layer.is_some() => node.read(at, piece).await,
            ExtentKind::Encoded | ExtentKind::Stored => node.driver.read(at, piece).await,
        }
    }

    /// Whether what shows through may change once this node holds it.
    pub(crate) fn looks_again(&self) -> bool {
        self.slow.load(Relaxed) & Slow::LOOKS_AGAIN != 0
    }

    /// The node is the target of somebody who copies to it, cluster by cluster, what is about to change in its own backing chain:
    /// whoever has read something through a hole of it looks whether that is a hole still, and reads again if not. `false`
    /// ends that.
    pub fn look_again(&self, on: bool) {
        self.set_slow(Slow::LOOKS_AGAIN, on);
        // It is passed over by nobody.
        self.edges.chain().forget();
    }

    /// Whether the node holds nothing of a range; not, where it can't tell.
    pub(crate) async fn is_still_hole(&self, offset: u64, len: u64) -> bool {
        let (mut at, end) = (offset, offset.saturating_add(len));
        while at < end {
            match self.driver.map(at, end - at, Want::Read).await {
                Ok(extent) if extent.kind.is_hole() => at = at.saturating_add(extent.len),
                _ => return false,
            }
        }
        true
    }

    fn closed_error(&self) -> BlockError {
        BlockError::new(ErrorKind::Closed, format!("'{}' is closed", self.name)).at_node(&self.name)
    }

    /// As [`Node::read`], with zeroes beyond the end.
    pub async fn read_or_zero(&self, offset: u64, mut buf: BufMut) -> (BufMut, Result<()>) {
        let inside = self.length().saturating_sub(offset).min(buf.len() as u64) as usize;
        if inside == buf.len() {
            return self.read(offset, buf).await;
        }
        let mut front = buf.split_to(inside);
        buf.fill(0);
        if inside == 0 {
            return (buf, Ok(()));
        }
        let result;
        (front, result) = self.read(offset, front).await;
        front.unsplit(buf);
        (front, result)
    }

    /// Everything acknowledged before the call is durable when it returns.
    pub fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if self.poisoned() {
                return Err(self.poison_error());
            }
            if self.read_only() || !self.is_active() || (!self.mapping && self.common.read().no_flush) {
                return Ok(());
            }
            if self.mapping {
                self.announce_to_file(Step::FlushToOs).await;
            }
            // Formats know by themselves which flushes share one, and what a failure means.
            let result = if self.mapping {
                self.driver.flush().await
            } else {
                let node = self.owned()?;
                self.flushes.run(|| async move { node.flush_driver().await }).await
            };
            // A flush that was under way when another one failed can't vouch for anything.
            if result.is_ok() && self.poisoned() {
                return Err(self.poison_error());
            }
            result.map_err(|e| e.at_node(&self.name))
        })
    }

    /// The node, for what is to be brought to its end.
    pub(crate) fn owned(&self) -> Result<Arc<Node>> {
        self.me.upgrade().ok_or_else(|| self.closed_error())
    }

    /// Flushes a driver that moves bytes itself.
    async fn flush_driver(&self) -> Result<()> {
        if self.poisoned() {
            return Err(self.poison_error());
        }
        if self.transparent {
            self.announce_to_file(Step::FlushToDisk).await;
        }
        let result = self.driver.flush().await.map_err(|e| e.at_node(&self.name));
        if let Err(e) = &result {
            self.poison(e);
        }
        result
    }
}

/// Where the start of a range is read from.
struct Source {
    /// The layer that has it, if it is not the topmost.
    layer: Option<Arc<Node>>,
    kind: ExtentKind,
    len: usize,
}

fn join(front: Option<BufMut>, back: BufMut) -> BufMut {
    match front {
        None => back,
        Some(front) if back.is_empty() => front,
        Some(mut front) => {
            front.unsplit(back);
            front
        }
    }
}
