//! Write thresholds: a node tells once when a write goes beyond an offset, so that its storage can be made larger in time.
use crate::driver::MapChange;
use crate::hooks::NodeChange;
use crate::node::Node;
use crate::notice::Notice;
use std::sync::atomic::Ordering::*;

impl Node {
    /// Sets the offset in bytes beyond which a write is told of ([`Notice::BeyondThreshold`]); 0: none. It is told of once, and
    /// then there is none.
    pub fn set_write_threshold(&self, threshold: u64) {
        self.threshold.store(threshold, Release);
    }

    /// The offset in bytes beyond which a write is told of; 0: none.
    pub fn write_threshold(&self) -> u64 {
        self.threshold.load(Acquire)
    }

    /// Takes note of a change.
    pub(crate) fn look_at_threshold(&self, change: NodeChange) {
        let threshold = self.threshold.load(Relaxed);
        let end = change.offset.saturating_add(change.len);
        if threshold == 0 || end <= threshold || change.change == MapChange::Discard {
            return;
        }
        if self.threshold.compare_exchange(threshold, 0, AcqRel, Relaxed).is_ok() {
            self.notices.tell(Notice::BeyondThreshold { node: self, threshold, exceeded: end - threshold });
        }
    }
}
