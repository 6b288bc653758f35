//! What requests of a node are to be aligned to, and how long they may be: for programs that tell a guest about a disk. The
//! core pads and splits requests by itself.

use crate::node::Node;
use api::BlockLimitsInfo;

/// Bytes that memory is best aligned to: a page.
const PAGE: i64 = 4096;
/// What a file that knows no better asks of memory, in bytes.
const SECTOR: i64 = 512;
/// Parts of a buffer that the system takes at once.
const MOST_PARTS: i64 = 1024;

/// What a driver says of requests, in bytes, as far as it is not what is so anyway.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestLimits {
    /// What reads and writes are padded to, where that is more than [`crate::Facts::alignment`].
    pub alignment: Option<u64>,
    /// What the memory of requests has to be aligned to, where there is no file below: a sector, if nothing is said.
    pub memory_alignment: Option<u64>,
    /// What zeroes are best aligned to.
    pub zeroes_alignment: Option<u64>,
    /// What discards are best aligned to.
    pub discard_alignment: Option<u64>,
    /// The longest read or write.
    pub longest: Option<u64>,
    /// The length that reads and writes have at best.
    pub best_length: Option<u64>,
    /// Most zeroes at once.
    pub longest_zeroes: Option<u64>,
    /// The longest discard.
    pub longest_discard: Option<u64>,
}

impl Node {
    /// What is said of its requests. What memory is aligned to is up to the files below, and the shortest of the longest requests
    /// holds.
    pub fn limits(&self) -> BlockLimitsInfo {
        let own = self.driver().info().limits;
        let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        // Who maps passes requests on as they are.
        let facts = self.facts();
        let direct = if facts.mapping { 1 } else { i64::from(facts.alignment) };
        let coded = self.driver().coding().map(|coding| coding.unit());
        let mut limits = BlockLimitsInfo {
            write_zeroes_alignment: own.zeroes_alignment.map(number),
            request_alignment: direct.max(number(own.alignment.max(coded).unwrap_or(1))),
            opt_transfer: own.best_length.map(number),
            max_transfer: own.longest.map(number),
            discard_alignment: own.discard_alignment.map(number),
            max_iov: MOST_PARTS,
            max_write_zeroes: own.longest_zeroes.map(number),
            max_discard: own.longest_discard.map(number),
            ..BlockLimitsInfo::default()
        };
        let below = self.edges().all();
        if below.is_empty() {
            limits.min_mem_alignment = direct.max(own.memory_alignment.map_or(SECTOR, number));
            limits.opt_mem_alignment = PAGE.max(direct);
        }
        for child in &below {
            let child = child.node.limits();
            limits.min_mem_alignment = limits.min_mem_alignment.max(child.min_mem_alignment);
            limits.opt_mem_alignment = limits.opt_mem_alignment.max(child.opt_mem_alignment);
            limits.opt_transfer = limits.opt_transfer.max(child.opt_transfer);
            limits.max_transfer = [limits.max_transfer, child.max_transfer].into_iter().flatten().min();
        }
        limits
    }
}
