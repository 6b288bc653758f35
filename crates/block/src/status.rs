//! Block status: what a range of a chain is, and which layer says so.
use crate::driver::{ExtentKind, Facts, Want};
use crate::edges::ChildId;
use crate::error::Result;
use crate::node::Node;
use std::ops::Range;
use std::sync::Arc;

/// What the start of a range is. `N` stands for the node that its bytes are in.
#[derive(Debug, Clone)]
pub struct Status<N = Arc<Node>> {
    /// Bytes from the asked offset on, never 0 and never more than asked.
    pub len: u64,
    /// Some layer holds data for it.
    pub data: bool,
    /// It reads as zeroes.
    pub zero: bool,
    /// Some layer of those looked at has it allocated.
    pub allocated: bool,
    /// Layers below the top one that was looked through: 0 is the top.
    pub depth: u32,
    /// Stored compressed.
    pub encoded: bool,
    /// Where its bytes are, or have space reserved, one to one: the protocol node and the byte offset there.
    pub host: Option<(N, u64)>,
}

impl<N> Status<N> {
    /// Something that the top layer holds.
    fn held(len: u64, data: bool, host: Option<(N, u64)>) -> Self {
        Status { len, data, zero: false, allocated: true, depth: 0, encoded: false, host }
    }

    /// Something that no layer holds.
    fn unallocated(len: u64) -> Self {
        Status { allocated: false, ..Status::held(len, false, None) }
    }

    /// What no layer holds, where there is none below: it reads as zeroes.
    fn zeroes(len: u64, reserved: Option<(N, u64)>) -> Self {
        Status { zero: true, host: reserved, ..Status::unallocated(len) }
    }

    /// The same with something else for the node; `None`: it can't be asked, and no place is told.
    fn map_node<M>(self, name: impl FnOnce(N) -> Option<M>) -> Status<M> {
        let Status { len, data, zero, allocated, depth, encoded, host } = self;
        let host = host.and_then(|(node, offset)| Some((name(node)?, offset)));
        Status { len, data, zero, allocated, depth, encoded, host }
    }
}

impl Status {
    /// The same, for a look at it.
    pub(crate) fn borrowed(&self) -> Status<&Arc<Node>> {
        let Status { len, data, zero, allocated, depth, encoded, ref host } = *self;
        let host = host.as_ref().map(|(node, offset)| (node, *offset));
        Status { len, data, zero, allocated, depth, encoded, host }
    }
}

/// Whose bytes those of an extent are.
#[derive(Debug, Clone, Copy)]
enum Holder {
    Itself,
    Child(ChildId),
}

/// What the extent of a layer tells.
enum Told {
    /// All there is to say.
    Held(Status<Holder>),
    /// Its bytes are a child's, at this offset there, which knows more of them.
    Below(Arc<Node>, u64),
    /// The layer holds nothing; what place it has reserved for it.
    Hole(Option<(Holder, u64)>),
}

/// Why a walk through a node's own map ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Walked {
    /// Whoever is told has enough.
    Enough,
    /// The piece of the map that was looked at did: the next one is there to be looked at.
    Looks,
    /// What comes next is not known from memory, or not by this node alone.
    Asks,
}

impl Node {
    /// Block status of the start of `offset..offset + len`, looking down the chain as far as `base`, which is left
    /// out with the filters on it. The range is inside the node.
    pub async fn status(self: &Arc<Self>, offset: u64, len: u64, base: Option<&Arc<Node>>) -> Result<Status> {
        match self.status_here(offset, len, base) {
            Some(status) => Ok(status),
            None => self.status_through(offset, len, base).await,
        }
    }

    /// The same, where the memory of this node is not enough.
    pub(crate) async fn status_through(
        self: &Arc<Self>,
        offset: u64,
        len: u64,
        base: Option<&Arc<Node>>,
    ) -> Result<Status> {
        loop {
            let mut through = Vec::new();
            let status = self.status_once(offset, len, base, &mut through).await?;
            let mut holds = true;
            for node in through {
                holds &= node.is_still_hole(offset, status.len).await;
            }
            if holds {
                return Ok(status);
            }
        }
    }

    /// `through` gets the nodes whose holes were looked through, of those that may hold something meanwhile.
    async fn status_once(
        self: &Arc<Self>,
        offset: u64,
        len: u64,
        base: Option<&Arc<Node>>,
        through: &mut Vec<Arc<Node>>,
    ) -> Result<Status> {
        let base = base.map(Node::skip_filters);
        let mut node = self.clone();
        let mut len = len;
        let mut depth = 0;
        loop {
            let layer = node.asked_below_filters(offset, len).await?;
            let known = if layer.mapping { layer.driver().try_map(offset, len, Want::Status) } else { None };
            let extent = match known {
                Some(extent) => extent,
                None => {
                    let asked = layer.driver().map(offset, len, Want::Status).await;
                    asked.map_err(|e| e.at_node(layer.name()))?
                }
            };
            len = len.min(extent.len);
            let facts = layer.facts();
            let reserved = match layer.told(offset, len, extent.kind, &facts) {
                Told::Held(status) => return Ok(Status { depth, ..layer.shown(status) }),
                Told::Below(child, place) => {
                    let below = Box::pin(child.status(place, len, None)).await?;
                    if facts.transparent {
                        return Ok(Status { allocated: true, depth, ..below });
                    }
                    let host = Some((child, place));
                    return Ok(Status {
                        len: below.len,
                        zero: below.zero,
                        depth,
                        ..Status::held(len, true, host)
                    });
                }
                Told::Hole(reserved) => reserved,
            };
            if layer.looks_again() {
                through.push(layer.clone());
            }
            let is_base =
                |node: &Arc<Node>| base.as_ref().is_some_and(|base| Arc::ptr_eq(&node.skip_filters(), base));
            let next = layer.backing().filter(|below| !is_base(below));
            let Some(next) = next else {
                // Without a backing node a hole reads as zeroes; above a base it says nothing.
                let zero = base.is_none() || layer.backing().is_none();
                return Ok(Status { zero, depth, ..layer.shown(Status::zeroes(len, reserved)) });
            };
            if offset >= next.length() {
                // Behind the end of a shorter image the chain reads as zeroes. For whoever looks at some layers only,
                // they hold these zeroes: what is below has nothing to show there.
                let (allocated, depth) = (base.is_some(), depth + u32::from(base.is_some()));
                return Ok(Status { zero: true, allocated, depth, ..Status::unallocated(len) });
            }
            len = len.min(next.length() - offset);
            node = next;
            depth += 1;
        }
    }

    /// Block status from the memory of this node alone, where that is enough.
    fn status_here(self: &Arc<Self>, offset: u64, len: u64, base: Option<&Arc<Node>>) -> Option<Status> {
        if !self.answers_alone() {
            return None;
        }
        let extent = self.driver().try_map(offset, len, Want::Status)?;
        let len = len.min(extent.len);
        match self.told(offset, len, extent.kind, &self.facts()) {
            Told::Held(status) => Some(self.shown(status)),
            Told::Hole(host) if base.is_none() && self.backing().is_none() => {
                Some(self.shown(Status::zeroes(len, host)))
            }
            Told::Hole(_) | Told::Below(..) => None,
        }
    }

    /// Block status from the memory of this node alone, as far as that is enough, of one extent after the other until the
    /// range ends or `each` answers `false`: images of many small extents are asked for all of them. `each` is called while a
    /// part of the tables is locked: it does little, takes no lock and asks no node. Tells where that ended, and why.
    pub(crate) fn statuses_here(
        self: &Arc<Self>,
        range: Range<u64>,
        each: &mut impl FnMut(Status<&Arc<Node>>) -> bool,
    ) -> (u64, Walked) {
        let mut at = range.start;
        if !self.answers_alone() {
            return (at, Walked::Asks);
        }
        let mut walked = Walked::Asks;
        let (facts, lowest) = (self.facts(), self.backing().is_none());
        let mut child: Option<(ChildId, Arc<Node>)> = None;
        self.driver().try_extents(at, range.end - at, &mut |extent| {
            let len = extent.len.min(range.end - at);
            let status = match self.told(at, len, extent.kind, &facts) {
                _ if len == 0 => return false,
                Told::Held(status) => status,
                Told::Hole(host) if lowest => Status::zeroes(len, host),
                Told::Hole(_) | Told::Below(..) => {
                    walked = Walked::Asks;
                    return false;
                }
            };
            walked = Walked::Looks;
            let status = status.map_node(|holder| match holder {
                Holder::Itself => Some(self),
                Holder::Child(id) => {
                    // Nearly always the one that was looked up before.
                    if child.as_ref().is_none_or(|(known, _)| *known != id) {
                        child = self.edges().get(id).map(|node| (id, node));
                    }
                    child.as_ref().map(|(_, node)| node)
                }
            });
            at += len;
            if !each(status) {
                walked = Walked::Enough;
            }
            walked == Walked::Looks && at < range.end
        });
        (at, walked)
    }

    /// Whether the node's own map is all that there is to look at.
    fn answers_alone(&self) -> bool {
        self.mapping && self.edges().filtered().is_none() && !self.looks_again()
    }

    /// A status with the node itself that holds the bytes. A part of the image that its policy left out has none.
    fn shown(self: &Arc<Self>, status: Status<Holder>) -> Status {
        status.map_node(|holder| match holder {
            Holder::Itself => Some(self.clone()),
            Holder::Child(id) => self.edges().get(id),
        })
    }

    /// What an extent of the node tells of `len` bytes from `offset` on. A place in a child that can't be asked is none.
    fn told(&self, offset: u64, len: u64, kind: ExtentKind, facts: &Facts) -> Told {
        // What lies in the file is not what is shown: neither a place of it, nor zeroes.
        let coded = self.coding.is_some();
        let place = |reserved: Option<(ChildId, u64)>| {
            reserved.filter(|_| !coded).map(|(child, offset)| (Holder::Child(child), offset))
        };
        Told::Held(match kind {
            ExtentKind::Data { .. } if coded => Status::held(len, true, None),
            ExtentKind::Data { child, offset, .. } => {
                if (facts.transparent || facts.thin_data)
                    && let Some(child) = self.edges().get(child)
                {
                    return Told::Below(child, offset);
                }
                Status::held(len, true, Some((Holder::Child(child), offset)))
            }
            ExtentKind::Zero { reserved } => {
                let host = if self.mapping { place(reserved) } else { Some((Holder::Itself, offset)) };
                Status { zero: true, ..Status::held(len, false, host) }
            }
            ExtentKind::Encoded => Status { encoded: true, ..Status::held(len, true, None) },
            ExtentKind::Stored => Status::held(len, true, Some((Holder::Itself, offset))),
            // A protocol that was asked something else than what it holds.
            ExtentKind::Hole { .. } if !self.mapping => Status::unallocated(len),
            ExtentKind::Hole { reserved } => return Told::Hole(place(reserved)),
        })
    }

    /// As [`Node::skip_filters`], but filters that hear of steps are asked, for they may fail the question.
    async fn asked_below_filters(self: &Arc<Self>, offset: u64, len: u64) -> Result<Arc<Node>> {
        let mut node = self.clone();
        while let Some(child) = node.filtered() {
            if node.hears_steps() {
                node.driver().map(offset, len, Want::Status).await.map_err(|e| e.at_node(node.name()))?;
            }
            node = child;
        }
        Ok(node)
    }
}
