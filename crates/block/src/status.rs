//! Block status: what a range of a chain is, and which layer says so.
use crate::driver::{ExtentKind, Want};
use crate::edges::ChildId;
use crate::error::Result;
use crate::node::Node;
use std::sync::Arc;

/// What the start of a range is.
#[derive(Debug, Clone)]
pub struct Status {
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
    pub host: Option<(Arc<Node>, u64)>,
}

impl Node {
    /// Block status of the start of `offset..offset + len`, looking down the chain as far as `base`, which is left
    /// out with the filters on it. The range is inside the node.
    pub async fn status(self: &Arc<Self>, offset: u64, len: u64, base: Option<&Arc<Node>>) -> Result<Status> {
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
            let (layer, at) = (node.asked_below_filters(offset, len).await?, offset);
            let known = if layer.mapping { layer.driver().try_map(at, len, Want::Status) } else { None };
            let extent = match known {
                Some(extent) => extent,
                None => {
                    layer.driver().map(at, len, Want::Status).await.map_err(|e| e.at_node(layer.name()))?
                }
            };
            len = len.min(extent.len);
            let answer =
                |data, zero, host| Status { len, data, zero, allocated: true, depth, encoded: false, host };
            // What lies in the file is not what is shown: neither a place of it, nor zeroes.
            let coded = layer.coding.is_some();
            let place = |reserved: Option<(ChildId, u64)>| -> Result<_> {
                let Some((child, offset)) = reserved.filter(|_| !coded) else { return Ok(None) };
                Ok(Some((layer.edges().need(child)?, offset)))
            };
            let reserved = match extent.kind {
                ExtentKind::Data { child, offset, .. } => {
                    if coded {
                        return Ok(answer(true, false, None));
                    }
                    let child = layer.edges().need(child)?;
                    let facts = layer.facts();
                    if !facts.transparent && !facts.thin_data {
                        return Ok(answer(true, false, Some((child, offset))));
                    }
                    let below = Box::pin(child.status(offset, len, None)).await?;
                    if facts.transparent {
                        return Ok(Status { allocated: true, depth, ..below });
                    }
                    return Ok(Status { len: below.len, ..answer(true, below.zero, Some((child, offset))) });
                }
                ExtentKind::Zero { reserved } => {
                    let host = if layer.mapping { place(reserved)? } else { Some((layer, at)) };
                    return Ok(answer(false, true, host));
                }
                ExtentKind::Encoded => return Ok(Status { encoded: true, ..answer(true, false, None) }),
                ExtentKind::Stored => return Ok(answer(true, false, Some((layer, at)))),
                // A protocol that was asked something else than what it holds.
                ExtentKind::Hole { .. } if !layer.mapping => {
                    let nothing = answer(false, false, None);
                    return Ok(Status { allocated: false, ..nothing });
                }
                ExtentKind::Hole { reserved } => reserved,
            };
            if layer.looks_again() {
                through.push(layer.clone());
            }
            let next = layer.backing().filter(|b| base.as_ref().is_none_or(|base| !b.leads_to(base)));
            let unallocated =
                |zero| Status { len, data: false, zero, allocated: false, depth, encoded: false, host: None };
            let Some(next) = next else {
                // Without a backing node a hole reads as zeroes; above a base it says nothing.
                let zero = base.is_none() || layer.backing().is_none();
                return Ok(Status { host: place(reserved)?, ..unallocated(zero) });
            };
            if offset >= next.length() {
                // Behind the end of a shorter image the chain reads as zeroes. For whoever looks at some layers only,
                // they hold these zeroes: what is below has nothing to show there.
                let below = u32::from(base.is_some());
                return Ok(Status { allocated: base.is_some(), depth: depth + below, ..unallocated(true) });
            }
            len = len.min(next.length() - offset);
            node = next;
            depth += 1;
        }
    }

    /// The node below when filters are looked through. Those that hear of steps are asked, for they may fail the question.
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
