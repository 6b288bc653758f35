//! Changes through a node that may wait: writes, zeroes, discards.
//!
//! Durable writes ([`Flags::FUA`]) ask no more of the storage than they must. A child is asked to store the data durably
//! where the mapping that leads there is durable already ([`crate::Driver::is_settled`]), and a protocol that can do it
//! ([`crate::Facts::fua`]) does, if no other sync of it is under way ([`crate::group_commit`] says why); everything else ends
//! with a flush of the node, which those that come together share. A sync that fails may have cost what others wrote, and
//! nobody is told of it twice: so a durable write that fails poisons the protocol node, as a failed flush does, also when
//! nobody waits for its answer any more. Only a lack of space does not, which a driver tells of only where it was found before
//! anything was synced.
use crate::chain::Changing;
use crate::coding::CodedAt;
use crate::common::Discard;
use crate::driver::{Action, ExtentKind, MapChange, Token, Want, WritePlan};
use crate::edges::ChildId;
use crate::error::{BlockError, ErrorKind, Result};
use crate::hooks::NodeChange;
use crate::io::Placed;
use crate::lease::Lease;
use crate::node::{Node, Slow};
use crate::request::{Flags, Request};
use crate::steps::Step;
use rt::{BoxFuture, Buf, BufMut};
use std::sync::atomic::Ordering::*;

/// Zeroes are written in pieces of at most this many bytes where there is no faster way.
const ZERO_PIECE: u64 = 1 << 20;

/// Whether what was done is durable, as far as that was asked for; else it takes a flush of the node.
type Durable = bool;

impl Node {
    /// Refuses what may not be written to.
    pub(crate) fn writable(&self) -> Result<()> {
        let slow = self.slow.load(Acquire);
        if slow & Slow::POISON != 0 {
            return Err(self.poison_error());
        }
        if slow & Slow::CLOSED != 0 {
            return Err(BlockError::new(ErrorKind::Closed, format!("'{}' is closed", self.name)));
        }
        if slow & Slow::INACTIVE != 0 {
            return Err(self.inactive_error());
        }
        if slow & Slow::READ_ONLY != 0 {
            return Err(BlockError::new(ErrorKind::ReadOnly, format!("'{}' is read-only", self.name))
                .at_node(&self.name));
        }
        Ok(())
    }

    /// Carries out a change of a range, with the hooks around it. A node that is poisoned while it is under way did not do
    /// it. What is to be durable, and is not yet, is flushed.
    async fn changing(
        &self,
        change: NodeChange,
        data: Option<Buf>,
        work: impl Future<Output = Result<Durable>> + Send,
    ) -> Result<()> {
        self.writable()?;
        let result = if self.waits_for_hooks() { self.hooked(change, data, work).await? } else { work.await };
        self.changed(change);
        let durable = result.inspect_err(|_| self.change_failed(change))?;
        self.acknowledges();
        if self.poisoned() {
            return Err(self.poison_error());
        }
        if change.request.has(Flags::FUA) && !durable { self.flush().await } else { Ok(()) }
    }

    /// Publishes what a plan for `at..at + len` has changed, if it changes a mapping.
    async fn publish(&self, at: u64, len: u64, token: Option<Box<dyn Token>>) -> Result<()> {
        let Some(token) = token else { return Ok(()) };
        let _changing = self.change_for_chains(at, len);
        token.commit().await.map_err(|e| e.at_node(&self.name))
    }

    /// Tells those that read through this node as a layer of theirs of a change under way, which may give all clusters of
    /// the range a place.
    fn change_for_chains(&self, at: u64, len: u64) -> Option<Changing<'_>> {
        if !self.mapping || self.transparent {
            return None;
        }
        let cluster = self.driver.facts().cluster_size.unwrap_or(1).max(1);
        let end = at.saturating_add(len);
        let range = (at - at % cluster, end.checked_next_multiple_of(cluster).unwrap_or(end));
        Some(self.edges.chain().change(range))
    }

    /// The request as the node's options make it.
    fn as_configured(&self, request: Request) -> Request {
        request.with_if(self.slow.load(Relaxed) & Slow::WRITE_THROUGH != 0, Flags::FUA)
    }

    /// What is asked of a child in which the node stores data.
    fn to_child(&self, request: Request, durable: Durable) -> Request {
        let below = if self.transparent { request } else { Request::of(request.source()) };
        below.without(Flags::FUA).with_if(durable && request.has(Flags::FUA), Flags::FUA)
    }

    /// Whether the mapping of the range is durable, as far as the request has to know.
    fn settled(&self, offset: u64, len: u64, request: Request) -> Durable {
        request.has(Flags::FUA) && self.driver.is_settled(offset, len)
    }

    /// Writes all of `data`.
    pub fn write(&self, offset: u64, data: Buf, request: Request) -> BoxFuture<'_, Result<()>> {
        self.write_placed(offset, data, request, &|| {})
    }

    /// As [`Node::write`], and tells when it has its place.
    pub fn write_placed<'a>(
        &'a self,
        offset: u64,
        data: Buf,
        request: Request,
        placed: Placed<'a>,
    ) -> BoxFuture<'a, Result<()>> {
        let request = self.as_configured(request);
        let change = NodeChange { offset, len: data.len() as u64, change: MapChange::Data, request };
        let seen = self.waits_for_hooks().then(|| data.clone());
        if self.looks_first(request) {
            return Box::pin(self.changing(change, seen, self.look_and_write(offset, data, request, placed)));
        }
        if self.mapping {
            return Box::pin(self.changing(change, seen, self.write_mapped(offset, data, request, placed)));
        }
        Box::pin(self.changing(change, seen, async move {
            placed();
            self.write_stored(offset, data, request).await
        }))
    }

    /// Whether there is more to a write than to store data where they belong.
    fn looks_first(&self, request: Request) -> bool {
        let special = request.has(Flags::IF_UNALLOCATED) || request.has(Flags::COMPRESSED);
        special || self.slow.load(Relaxed) & Slow::DETECT_ZEROES != 0
    }

    fn look_and_write<'a>(
        &'a self,
        offset: u64,
        data: Buf,
        request: Request,
        placed: Placed<'a>,
    ) -> BoxFuture<'a, Result<Durable>> {
        Box::pin(async move {
            self.can_store(offset, data.len() as u64, request)?;
            let detects = self.slow.load(Relaxed) & Slow::DETECT_ZEROES != 0;
            if detects && !request.has(Flags::IF_UNALLOCATED) && data.iter().all(|b| *b == 0) {
                let unmap = self.common.read().detect_zeroes_unmap;
                let zeroes = request.with(Flags::NO_FALLBACK).with_if(unmap, Flags::MAY_UNMAP);
                match self.zero(offset, data.len() as u64, zeroes).await {
                    Err(e) if e.kind() == ErrorKind::Unsupported => {}
                    other => return other,
                }
            }
            if self.mapping {
                return self.write_mapped(offset, data, request, placed).await;
            }
            placed();
            // A protocol holds everything itself; a filter that moves bytes has them looked at below.
            if request.has(Flags::IF_UNALLOCATED) && !self.transparent {
                return Ok(true);
            }
            self.write_stored(offset, data, request).await
        })
    }

    /// Writes to a protocol.
    async fn write_stored(&self, offset: u64, data: Buf, request: Request) -> Result<Durable> {
        // Padding behind the end is cut off again after the write, which takes a flush.
        let end = (offset + data.len() as u64).next_multiple_of(u64::from(self.alignment().max(1)));
        let native = self.syncs(request) && (self.alignment() <= 1 || end <= self.length());
        if native && self.driver.facts().fua {
            let (node, data) = (self.owned()?, data.clone());
            let work = || async move { node.judged(node.write_direct(offset, data, request).await) };
            if let Some(written) = self.flushes.alone(work).await {
                return written.map(|()| true);
            }
        }
        self.write_direct(offset, data, request.without(Flags::FUA)).await.map(|()| false)
    }

    /// Refuses by name what the driver can't do.
    fn can_store(&self, offset: u64, len: u64, request: Request) -> Result<()> {
        if self.transparent {
            return Ok(());
        }
        let facts = self.driver.facts();
        let refused = if request.has(Flags::COMPRESSED) && !facts.can_compress {
            "compressed"
        } else if request.has(Flags::IF_UNALLOCATED) && self.mapping && !facts.can_fill {
            "only where nothing is allocated"
        } else if let Some(size) = facts.cluster_size.filter(|_| request.has(Flags::COMPRESSED)) {
            let end = offset + len;
            if offset.is_multiple_of(size) && (end.is_multiple_of(size) || end >= self.length()) {
                return Ok(());
            }
            let text = format!("data are stored compressed by whole clusters of {size} bytes only");
            return Err(BlockError::invalid(text).at_node(&self.name).at(offset));
        } else {
            return Ok(());
        };
        let text = format!("The driver '{}' can't store data {refused}", self.driver_name());
        Err(BlockError::unsupported(text).at_node(&self.name))
    }

    /// Whether this request is to be durable, as far as the options go.
    fn syncs(&self, request: Request) -> bool {
        request.has(Flags::FUA) && !self.common.read().no_flush
    }

    /// The result of a request that syncs: one that failed may have cost what others wrote.
    fn judged(&self, result: Result<()>) -> Result<()> {
        let before_any = [ErrorKind::NoSpace, ErrorKind::Unsupported, ErrorKind::Invalid];
        if let Err(e) = result.as_ref().map_err(|e| e.clone().at_node(&self.name))
            && !before_any.contains(&e.kind())
        {
            self.poison(&e);
        }
        result
    }

    async fn write_mapped(
        &self,
        offset: u64,
        data: Buf,
        request: Request,
        placed: Placed<'_>,
    ) -> Result<Durable> {
        let (offset, data, _lease) = self.fill_units(offset, data).await?;
        let (mut done, mut all_durable) = (0, true);
        while done < data.len() {
            let at = offset + done as u64;
            let rest = data.slice(done..data.len());
            let extent = self
                .driver
                .map(at, rest.len() as u64, Want::Write)
                .await
                .map_err(|e| e.at_node(&self.name))?;
            let len = usize::try_from(extent.len).unwrap_or(usize::MAX).min(rest.len());
            let piece = rest.slice(0..len);
            let durable = match extent.kind {
                ExtentKind::Data { child, offset, owned: true }
                    if self.transparent
                        || overwrites(request)
                            && !self.goes_on_reserved(at, rest.len(), len, (child, offset)) =>
                {
                    if len == rest.len() {
                        placed();
                    }
                    let durable = self.settled(at, len as u64, request);
                    let to = CodedAt { guest: at, stored: offset };
                    self.put(child, to, piece, self.to_child(request, durable)).await?;
                    done += len;
                    durable
                }
                kind if !kind.is_hole() && !self.transparent && request.has(Flags::IF_UNALLOCATED) => {
                    done += len;
                    true
                }
                _ => {
                    let rest = if request.has(Flags::IF_UNALLOCATED) { piece } else { rest };
                    let (len, durable) = self.write_changing(at, rest, request, placed).await?;
                    done += len;
                    durable
                }
            };
            all_durable &= durable;
        }
        Ok(all_durable)
    }

    /// Whether zeroes follow the first `len` bytes of a write, in place of which new data go right behind those: both are one
    /// write then. `place`: where the first are.
    fn goes_on_reserved(&self, at: u64, whole: usize, len: usize, place: (ChildId, u64)) -> bool {
        let (next, left) = (at + len as u64, whole - len);
        let behind = (place.0, place.1 + len as u64);
        left > 0
            && self
                .driver
                .try_map(next, left as u64, Want::Write)
                .is_some_and(|extent| extent.kind == ExtentKind::Zero { reserved: Some(behind) })
    }

    /// Writes the start of `data` through a change of the mapping; tells how many bytes.
    async fn write_changing(
        &self,
        at: u64,
        data: Buf,
        request: Request,
        placed: Placed<'_>,
    ) -> Result<(usize, Durable)> {
        let mut plan = self
            .driver
            .prepare_write(at, data.len() as u64, MapChange::Data, request)
            .await
            .map_err(|e| e.at_node(&self.name))?;
        let len = usize::try_from(plan.len).unwrap_or(usize::MAX).min(data.len());
        let piece = data.slice(0..len);
        if len == data.len() {
            placed();
        }
        let durable = plan.token.is_none() && self.settled(at, len as u64, request);
        match plan.action {
            Action::Store { child, offset, head, tail, fresh } => {
                let below = self.to_child(request, durable);
                self.store(at, &piece, Store { child, offset, head, tail, fresh }, below).await?;
            }
            Action::Forward { child, offset } => {
                let to = CodedAt { guest: at, stored: offset };
                self.put(child, to, piece, self.to_child(request, durable)).await?;
            }
            Action::Direct => {
                let request = request.without(Flags::FUA).with_if(durable, Flags::FUA);
                self.driver.write(at, piece, request).await?;
            }
            Action::Encode => {
                if let Some(token) = &mut plan.token {
                    token.store(piece).await.map_err(|e| e.at_node(&self.name))?;
                }
            }
            // Others have given it a place meanwhile.
            Action::Nothing if request.has(Flags::IF_UNALLOCATED) => return Ok((len, true)),
            Action::Metadata | Action::AsData | Action::Nothing => {
                return Err(BlockError::unsupported(
                    "the driver plans a data write without a place for the data",
                )
                .at_node(&self.name));
            }
        }
        self.publish(at, len as u64, plan.token).await?;
        Ok((len, durable))
    }

    /// Stores new data with old content around it.
    async fn store(&self, at: u64, data: &Buf, to: Store, request: Request) -> Result<()> {
        if to.head > 0 || to.tail > 0 {
            self.announce_to(to.child, Step::CowRead).await;
        }
        // Bytes that the storage reads as zeroes are no zeroes where data is coded.
        let fresh = to.fresh && self.coding.is_none();
        let head = self.old_content(at - to.head, to.head, fresh).await?;
        let tail = self.old_content(at + data.len() as u64, to.tail, fresh).await?;
        let mut place = CodedAt { guest: at, stored: to.offset };
        let mut whole = data.clone();
        if head.is_some() || tail.is_some() {
            // One write for the whole: the file system sees one extent, and no other request sees half of it.
            let before = head.as_ref().map_or(0, |head| head.len() as u64);
            place = CodedAt { guest: place.guest - before, stored: place.stored - before };
            whole = joined(head, data, tail);
            self.announce_to(to.child, Step::CowWrite).await;
        }
        self.put(to.child, place, whole, request).await
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
                ExtentKind::Hole { .. } if self.backing().is_none_or(|b| b.length() <= at) => {}
                _ => return Ok(false),
            }
            at = at.saturating_add(extent.len);
        }
        Ok(true)
    }

    /// Makes the range read as zeroes.
    pub fn write_zeroes(&self, offset: u64, len: u64, request: Request) -> BoxFuture<'_, Result<()>> {
        let unmaps = self.common.read().discard == Discard::Unmap;
        let request = self.as_configured(request);
        let request = if unmaps { request } else { request.without(Flags::MAY_UNMAP) };
        let change = NodeChange { offset, len, change: MapChange::Zero, request };
        Box::pin(self.changing(change, None, async move {
            if request.has(Flags::IF_UNALLOCATED) {
                self.can_store(offset, len, request)?;
                // A protocol holds everything itself.
                if !self.mapping && !self.transparent {
                    return Ok(true);
                }
            }
            self.zero(offset, len, request).await
        }))
    }

    async fn zero(&self, offset: u64, len: u64, request: Request) -> Result<Durable> {
        if self.mapping {
            return self.change(offset, len, MapChange::Zero, request).await;
        }
        let facts = self.driver.facts();
        if self.syncs(request) && facts.fua && facts.fua_zeroes {
            let node = self.owned()?;
            let work = || async move { node.judged(node.zero_direct(offset, len, request).await) };
            if let Some(zeroed) = self.flushes.alone(work).await {
                return zeroed.map(|()| true);
            }
        }
        self.zero_direct(offset, len, request.without(Flags::FUA)).await.map(|()| false)
    }

    /// Gives the range's space back, where the node's `discard` option allows it.
    pub fn discard(&self, offset: u64, len: u64, request: Request) -> BoxFuture<'_, Result<()>> {
        if self.common.read().discard == Discard::Ignore {
            return Box::pin(async move {
                self.writable()?;
                if request.has(Flags::FUA) { self.flush().await } else { Ok(()) }
            });
        }
        let change = NodeChange { offset, len, change: MapChange::Discard, request };
        Box::pin(self.changing(change, None, async move {
            if request.has(Flags::IF_UNALLOCATED) {
                let text = "nothing can be discarded where nothing is allocated";
                return Err(BlockError::unsupported(text).at_node(&self.name));
            }
            if self.mapping {
                return self.change(offset, len, MapChange::Discard, request).await;
            }
            self.discard_direct(offset, len, request.without(Flags::FUA)).await.map(|()| false)
        }))
    }

    /// Zeroes or discards a range by changing mappings, piece by piece.
    async fn change(&self, offset: u64, len: u64, change: MapChange, request: Request) -> Result<Durable> {
        let (mut at, end, mut durable) = (offset, offset + len, true);
        while at < end {
            let lease = self.hold_units(at, end - at).await;
            let plan = self
                .driver
                .prepare_write(at, end - at, change, request)
                .await
                .map_err(|e| e.at_node(&self.name))?;
            let len = plan.len.min(end - at);
            durable &= self.carry_out(at, len, change, request, (plan, lease)).await?;
            at += len;
        }
        Ok(durable)
    }

    async fn carry_out(
        &self,
        at: u64,
        len: u64,
        change: MapChange,
        request: Request,
        (plan, lease): (WritePlan, Option<Lease>),
    ) -> Result<Durable> {
        let durable = plan.token.is_none() && self.settled(at, len, request);
        match plan.action {
            Action::Metadata | Action::Nothing => {}
            Action::Forward { child, offset } => {
                let unmaps = request.has(Flags::MAY_UNMAP);
                let below = self.to_child(request, durable).with_if(unmaps, Flags::MAY_UNMAP);
                let child = self.edges.need(child)?;
                match change {
                    MapChange::Discard => child.discard(offset, len, below).await?,
                    _ => child.write_zeroes(offset, len, below).await?,
                }
            }
            Action::Store { child, offset, head, tail, fresh } => {
                let zeroes = BufMut::zeroed(len as usize).freeze();
                let below = self.to_child(request, durable);
                self.store(at, &zeroes, Store { child, offset, head, tail, fresh }, below).await?;
            }
            Action::AsData | Action::Direct | Action::Encode if change == MapChange::Discard => {}
            Action::AsData | Action::Direct | Action::Encode if request.has(Flags::NO_FALLBACK) => {
                return Err(BlockError::unsupported("zeroes can't be written faster than data here")
                    .at_node(&self.name));
            }
            Action::AsData | Action::Direct | Action::Encode => {
                // The leases of the plan and of its units must not be held while the write takes its own.
                drop((plan.token, lease));
                return self.zeroes_as_data(at, len, request).await;
            }
        }
        self.publish(at, len, plan.token).await?;
        Ok(durable)
    }

    async fn zeroes_as_data(&self, at: u64, len: u64, request: Request) -> Result<Durable> {
        let (mut done, mut durable) = (0, true);
        while done < len {
            let piece = (len - done).min(ZERO_PIECE);
            let zeroes = BufMut::zeroed(piece as usize).freeze();
            durable &= self.write_mapped(at + done, zeroes, request, &|| {}).await?;
            done += piece;
        }
        Ok(durable)
    }
}

/// Whether a write may go to bytes that are the image's own, as they lie there.
fn overwrites(request: Request) -> bool {
    !request.has(Flags::IF_UNALLOCATED) && !request.has(Flags::COMPRESSED)
}

/// Where [`Action::Store`] puts data.
struct Store {
    child: ChildId,
    offset: u64,
    head: u64,
    tail: u64,
    fresh: bool,
}

/// New data with what goes before and behind it.
fn joined(head: Option<BufMut>, data: &Buf, tail: Option<BufMut>) -> Buf {
    let parts = [head.as_deref().unwrap_or_default(), data, tail.as_deref().unwrap_or_default()];
    let mut whole = BufMut::with_len(parts.iter().map(|part| part.len()).sum());
    let mut at = 0;
    for part in parts {
        whole[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    whole.freeze()
}
