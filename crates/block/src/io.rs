//! Requests through a node: the inline path and the waiting path, over one set of mappings.
//!
//! The inline functions (`try_*`) do what needs no waiting and tell how far they came; the caller continues with the
//! waiting ones from there. Both ask the driver where the bytes are and move them themselves.
use crate::driver::{Action, Extent, ExtentKind, MapChange, Want, WritePlan};
use crate::edges::ChildId;
use crate::error::{BlockError, ErrorKind, Result};
use crate::node::{Node, Slow};
use crate::open::Discard;
use arc_swap::Guard;
use rt::{BoxFuture, Buf, BufMut};
use std::sync::Arc;
use std::sync::atomic::Ordering::*;

/// Zeroes are written in pieces of at most this many bytes where there is no faster way.
const ZERO_PIECE: u64 = 1 << 20;

/// How a write is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteFlags {
    /// Durable before it is acknowledged.
    pub fua: bool,
    /// So many of the last bytes fill up the node's alignment behind its end, which does not move for them: the core cuts
    /// them off again. 0 where guests write.
    pub padding: u64,
}

/// Hears that a write has its place in the file, before its data are stored there: what asks for a place from now on comes
/// to lie behind it. It may be told more than once, or not at all: then the write has it when it has ended.
pub type Placed<'a> = &'a (dyn Fn() + Send + Sync);

/// How zeroes are to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ZeroFlags {
    /// Space may be given up.
    pub unmap: bool,
    /// Fail instead of writing zeroes as data.
    pub no_fallback: bool,
    /// Durable before it is acknowledged.
    pub fua: bool,
}

impl Node {
    /// Reads inline what can be had without waiting; tells how many bytes from the start.
    pub fn try_read(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        if !self.mapping {
            let stop = self.slow.load(Relaxed) & (Slow::ALIGN | Slow::CLOSED) != 0;
            return if stop { Ok(0) } else { self.driver.try_read(offset, buf) };
        }
        if self.slow.load(Relaxed) & Slow::CLOSED != 0 {
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
        let mut layer = None;
        loop {
            let node = layer.as_ref().and_then(|l: &Guard<Option<Arc<Node>>>| l.as_deref()).unwrap_or(self);
            if !node.mapping || node.slow.load(Relaxed) & Slow::CLOSED != 0 {
                let got = if node.mapping { 0 } else { node.try_read(at, &mut buf[..len])? };
                return Ok((len, got));
            }
            let Some(extent) = node.driver.try_map(at, len as u64, Want::Read) else { return Ok((len, 0)) };
            len = len.min(usize::try_from(extent.len).unwrap_or(usize::MAX));
            let next = match extent.kind {
                ExtentKind::Data { child, offset, .. } => {
                    let read =
                        |c: Option<&Arc<Node>>| c.map_or(Ok(0), |c| c.try_read(offset, &mut buf[..len]));
                    return Ok((len, node.edges.with(child, read)?));
                }
                ExtentKind::Encoded | ExtentKind::Stored => return Ok((len, 0)),
                ExtentKind::Zero { .. } => None,
                ExtentKind::Hole => node.edges.look_at_backing(),
            };
            // Beyond the end of a backing image are zeroes.
            let inside =
                next.as_deref().and_then(Option::as_ref).map_or(0, |b| b.length().saturating_sub(at));
            if inside == 0 {
                buf[..len].fill(0);
                return Ok((len, len));
            }
            len = len.min(usize::try_from(inside).unwrap_or(usize::MAX));
            layer = next;
        }
    }

    /// Writes inline what goes to bytes of this node's own, in place; tells how many bytes from the start.
    pub fn try_write(&self, offset: u64, data: &[u8]) -> Result<usize> {
        if self.slow.load(Relaxed) != 0 {
            return Ok(0);
        }
        let done = if self.mapping {
            self.try_write_mapped(offset, data)
        } else {
            self.driver.try_write(offset, data)
        };
        match done {
            Ok(0) => {}
            Ok(n) => self.written(offset, n as u64),
            // Some of it may have been written.
            Err(_) => self.written(offset, data.len() as u64),
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

    fn try_write_mapped(&self, offset: u64, data: &[u8]) -> Result<usize> {
        let mut done = 0;
        while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
            let at = offset + done as u64;
            let extent = self.driver.try_map(at, rest.len() as u64, Want::Write);
            let Some(Extent { len, kind: ExtentKind::Data { child, offset, owned: true } }) = extent else {
                break;
            };
            let len = rest.len().min(usize::try_from(len).unwrap_or(usize::MAX));
            let got = self.edges.with(child, |c| c.map_or(Ok(0), |c| c.try_write(offset, &rest[..len])))?;
            done += got;
            if got < len {
                break;
            }
        }
        Ok(done)
    }

    /// What every write leaves behind: the highest offset, and bits in the dirty bitmaps.
    fn written(&self, offset: u64, len: u64) {
        self.highest.fetch_max(offset.saturating_add(len), Relaxed);
        if self.marked.load(Acquire) > 0 {
            self.marks.load().iter().for_each(|b| b.mark(offset, len));
        }
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
            let (piece, result) = self.read_source(at, source, piece).await;
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
            if extent.kind != ExtentKind::Hole {
                return Ok(Source { kind: extent.kind, len, ..source });
            }
            let Some(backing) = node.backing() else {
                return Ok(Source { kind: zeroes, len, ..source });
            };
            // Beyond the end of a backing image are zeroes.
            let inside = usize::try_from(backing.length().saturating_sub(at)).unwrap_or(usize::MAX);
            if inside == 0 {
                return Ok(Source { kind: zeroes, len, ..source });
            }
            source = Source { layer: Some(backing), kind: ExtentKind::Hole, len: len.min(inside) };
        }
    }

    async fn read_source(&self, at: u64, source: Source, mut piece: BufMut) -> (BufMut, Result<()>) {
        let node = source.layer.as_deref().unwrap_or(self);
        match source.kind {
            ExtentKind::Data { child, offset, .. } => match node.edges.need(child) {
                Ok(child) => child.read(offset, piece).await,
                Err(e) => (piece, Err(e)),
            },
            ExtentKind::Zero { .. } | ExtentKind::Hole => {
                piece.fill(0);
                (piece, Ok(()))
            }
            ExtentKind::Stored if !node.mapping => node.read(at, piece).await,
            ExtentKind::Encoded | ExtentKind::Stored => node.driver.read(at, piece).await,
        }
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

    /// Refuses what may not be written to.
    pub(crate) fn writable(&self) -> Result<()> {
        let slow = self.slow.load(Acquire);
        if slow & Slow::POISON != 0 {
            return Err(self.poison_error());
        }
        if slow & Slow::CLOSED != 0 {
            return Err(BlockError::new(ErrorKind::Closed, format!("'{}' is closed", self.name)));
        }
        if slow & Slow::READ_ONLY != 0 {
            return Err(BlockError::new(ErrorKind::ReadOnly, format!("'{}' is read-only", self.name))
                .at_node(&self.name));
        }
        Ok(())
    }

    /// Ends a write: a node that was poisoned while the write was under way did not do it.
    fn end_write(&self, offset: u64, len: u64, result: Result<()>) -> Result<()> {
        self.written(offset, len);
        result?;
        if self.poisoned() { Err(self.poison_error()) } else { Ok(()) }
    }

    /// Writes all of `data`.
    pub fn write(&self, offset: u64, data: Buf, flags: WriteFlags) -> BoxFuture<'_, Result<()>> {
        self.write_placed(offset, data, flags, &|| {})
    }

    /// As [`Node::write`], and tells when it has its place.
    pub fn write_placed<'a>(
        &'a self,
        offset: u64,
        data: Buf,
        flags: WriteFlags,
        placed: Placed<'a>,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.writable()?;
            if self.slow.load(Relaxed) & Slow::DETECT_ZEROES != 0 && data.iter().all(|b| *b == 0) {
                let unmap = self.common.read().detect_zeroes_unmap;
                let flags = ZeroFlags { unmap, no_fallback: true, fua: flags.fua };
                match self.write_zeroes(offset, data.len() as u64, flags).await {
                    Err(e) if e.kind() == ErrorKind::Unsupported => {}
                    other => return other,
                }
            }
            let (len, through) =
                (data.len() as u64, flags.fua || self.slow.load(Relaxed) & Slow::WRITE_THROUGH != 0);
            let result = if self.mapping {
                self.write_mapped(offset, data, placed).await
            } else {
                placed();
                self.write_direct(offset, data, WriteFlags::default()).await
            };
            self.end_write(offset, len, result)?;
            // Always by a flush of the node: a sync that fails must poison it, wherever it was asked for.
            if through { self.flush().await } else { Ok(()) }
        })
    }

    async fn write_mapped(&self, offset: u64, data: Buf, placed: Placed<'_>) -> Result<()> {
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let rest = data.slice(done..data.len());
            let extent = self
                .driver
                .map(at, rest.len() as u64, Want::Write)
                .await
                .map_err(|e| e.at_node(&self.name))?;
            let len = usize::try_from(extent.len).unwrap_or(usize::MAX).min(rest.len());
            if let ExtentKind::Data { child, offset, owned: true } = extent.kind {
                if len == rest.len() {
                    placed();
                }
                self.edges.need(child)?.write(offset, rest.slice(0..len), WriteFlags::default()).await?;
                done += len;
            } else {
                done += self.write_changing(at, rest, placed).await?;
            }
        }
        Ok(())
    }

    /// Writes the start of `data` through a change of the mapping; tells how many bytes.
    async fn write_changing(&self, at: u64, data: Buf, placed: Placed<'_>) -> Result<usize> {
        let plan = self
            .driver
            .prepare_write(at, data.len() as u64, MapChange::Data)
            .await
            .map_err(|e| e.at_node(&self.name))?;
        let len = usize::try_from(plan.len).unwrap_or(usize::MAX).min(data.len());
        let piece = data.slice(0..len);
        if len == data.len() {
            placed();
        }
        match plan.action {
            Action::Store { child, offset, head, tail, fresh } => {
                self.store(at, &piece, Store { child, offset, head, tail, fresh }).await?;
            }
            Action::Forward { child, offset } => {
                self.edges.need(child)?.write(offset, piece, WriteFlags::default()).await?;
            }
            Action::Direct => self.driver.write(at, piece, WriteFlags::default()).await?,
            Action::Metadata | Action::AsData | Action::Nothing => {
                return Err(BlockError::unsupported(
                    "the driver plans a data write without a place for the data",
                )
                .at_node(&self.name));
            }
        }
        if let Some(token) = plan.token {
            token.commit().await.map_err(|e| e.at_node(&self.name))?;
        }
        Ok(len)
    }

    /// Stores new data with old content around it.
    async fn store(&self, at: u64, data: &Buf, to: Store) -> Result<()> {
        let child = self.edges.need(to.child)?;
        let head = self.old_content(at - to.head, to.head, to.fresh).await?;
        let tail = self.old_content(at + data.len() as u64, to.tail, to.fresh).await?;
        if head.is_none() && tail.is_none() {
            return child.write(to.offset, data.clone(), WriteFlags::default()).await;
        }
        // One write for the whole: the file system sees one extent, and no other request sees half of it.
        let (before, after) = (head.as_ref().map_or(0, |h| h.len()), tail.as_ref().map_or(0, |t| t.len()));
        let mut whole = BufMut::with_len(before + data.len() + after);
        if let Some(head) = &head {
            whole[..before].copy_from_slice(head);
        }
        whole[before..before + data.len()].copy_from_slice(data);
        if let Some(tail) = &tail {
            whole[before + data.len()..].copy_from_slice(tail);
        }
        child.write(to.offset - before as u64, whole.freeze(), WriteFlags::default()).await
    }

    /// The present content of a guest range that a new cluster takes over; `None` if it need not be written.
    async fn old_content(&self, at: u64, len: u64, fresh: bool) -> Result<Option<BufMut>> {
        if len == 0 || (fresh && self.reads_as_zero(at, len).await?) {
            return Ok(None);
        }
        let (content, result) = self.read_or_zero(at, BufMut::with_len(len as usize)).await;
        result.map(|()| Some(content))
    }

    /// Whether the range is known to read as zeroes without looking at data.
    async fn reads_as_zero(&self, at: u64, len: u64) -> Result<bool> {
        let end = (at + len).min(self.length());
        let mut at = at;
        while at < end {
            let extent = self.driver.map(at, end - at, Want::Read).await?;
            match extent.kind {
                ExtentKind::Zero { .. } => {}
                ExtentKind::Hole if self.backing().is_none_or(|b| b.length() <= at) => {}
                _ => return Ok(false),
            }
            at = at.saturating_add(extent.len);
        }
        Ok(true)
    }

    /// Makes the range read as zeroes.
    pub fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.writable()?;
            let mut flags = flags;
            flags.unmap &= self.common.read().discard == Discard::Unmap;
            flags.fua |= self.slow.load(Relaxed) & Slow::WRITE_THROUGH != 0;
            let result = if self.mapping {
                self.change(offset, len, MapChange::Zero { unmap: flags.unmap }, flags).await
            } else {
                self.zero_direct(offset, len, ZeroFlags { fua: false, ..flags }).await
            };
            self.end_write(offset, len, result)?;
            if flags.fua { self.flush().await } else { Ok(()) }
        })
    }

    /// Gives the range's space back, where the node's `discard` option allows it.
    pub fn discard(&self, offset: u64, len: u64) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.writable()?;
            if self.common.read().discard == Discard::Ignore {
                return Ok(());
            }
            let result = if self.mapping {
                self.change(offset, len, MapChange::Discard, ZeroFlags::default()).await
            } else {
                self.discard_direct(offset, len).await
            };
            self.end_write(offset, len, result)
        })
    }

    /// Zeroes or discards a range by changing mappings, piece by piece.
    async fn change(&self, offset: u64, len: u64, change: MapChange, flags: ZeroFlags) -> Result<()> {
        let (mut at, end) = (offset, offset + len);
        while at < end {
            let plan =
                self.driver.prepare_write(at, end - at, change).await.map_err(|e| e.at_node(&self.name))?;
            let len = plan.len.min(end - at);
            self.carry_out(at, len, change, flags, plan).await?;
            at += len;
        }
        Ok(())
    }

    async fn carry_out(
        &self,
        at: u64,
        len: u64,
        change: MapChange,
        flags: ZeroFlags,
        plan: WritePlan,
    ) -> Result<()> {
        match plan.action {
            Action::Metadata | Action::Nothing => {}
            Action::Forward { child, offset } => {
                let child = self.edges.need(child)?;
                match change {
                    MapChange::Discard => child.discard(offset, len).await?,
                    _ => child.write_zeroes(offset, len, ZeroFlags { fua: false, ..flags }).await?,
                }
            }
            Action::Store { child, offset, head, tail, fresh } => {
                let zeroes = BufMut::zeroed(len as usize).freeze();
                self.store(at, &zeroes, Store { child, offset, head, tail, fresh }).await?;
            }
            Action::AsData | Action::Direct if change == MapChange::Discard => {}
            Action::AsData | Action::Direct if flags.no_fallback => {
                return Err(BlockError::unsupported("zeroes can't be written faster than data here")
                    .at_node(&self.name));
            }
            Action::AsData | Action::Direct => {
                // The plan's lease must not be held while the write takes its own.
                drop(plan.token);
                return self.zeroes_as_data(at, len).await;
            }
        }
        match plan.token {
            Some(token) => token.commit().await.map_err(|e| e.at_node(&self.name)),
            None => Ok(()),
        }
    }

    async fn zeroes_as_data(&self, at: u64, len: u64) -> Result<()> {
        let mut done = 0;
        while done < len {
            let piece = (len - done).min(ZERO_PIECE);
            self.write_mapped(at + done, BufMut::zeroed(piece as usize).freeze(), &|| {}).await?;
            done += piece;
        }
        Ok(())
    }

    /// Everything acknowledged before the call is durable when it returns.
    pub fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if self.poisoned() {
                return Err(self.poison_error());
            }
            if self.read_only() || (!self.mapping && self.common.read().no_flush) {
                return Ok(());
            }
            let result = self.driver.flush().await.map_err(|e| e.at_node(&self.name));
            if let Err(e) = &result
                && !self.mapping
            {
                self.poison(e);
            }
            // A flush that was under way when another one failed can't vouch for anything.
            if result.is_ok() && self.poisoned() {
                return Err(self.poison_error());
            }
            result
        })
    }
}

/// Where the start of a range is read from.
struct Source {
    /// The layer that has it, if it is not the topmost.
    layer: Option<Arc<Node>>,
    kind: ExtentKind,
    len: usize,
}

/// Where [`Action::Store`] puts data.
struct Store {
    child: ChildId,
    offset: u64,
    head: u64,
    tail: u64,
    fresh: bool,
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
