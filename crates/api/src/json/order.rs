//! The order in which members are written.
//!
//! QEMU keeps an object's members in a hash table of 512 places and writes them place by place, so that a given set of names always
//! comes in the same order, whatever the order in which the members were set. Scripts that compare text rely on it. Found
//! by observing replies, events, `json:` names and the tools' output; `tests/order.rs` has what was seen.

use crate::{Dict, Value};
use std::cmp::Reverse;

/// Places of the table.
const PLACES: u32 = 512;

/// The place of a name in the table.
fn place(name: &str) -> u32 {
    let mut value = 0x238f_13af_u32.wrapping_mul(name.len() as u32);
    let mut shift = 0;
    for byte in name.bytes() {
        value = value.wrapping_add(u32::from(byte) << shift);
        shift += 5;
        if shift >= 24 {
            shift -= 24;
        }
    }
    value.wrapping_mul(1_103_515_243).wrapping_add(12345) % PLACES
}

/// The members of the objects that are being written, one inside the other: an object takes no memory of its own.
#[derive(Default)]
pub(super) struct Ordered<'v>(Vec<(u32, &'v str, &'v Value)>);

impl<'v> Ordered<'v> {
    /// Begins an object. Its members are given by [`Self::next`] in the order in which they are written: by their places, and of
    /// those that share one the last that was set first. Answers what `next` is to be called with.
    pub(super) fn begin(&mut self, dict: &'v Dict) -> usize {
        let outer = self.0.len();
        self.0.extend(dict.iter().map(|(name, value)| (place(name), name, value)));
        if let Some(members) = self.0.get_mut(outer..) {
            // The next one is taken from the end.
            members.sort_by_key(|(place, ..)| Reverse(*place));
        }
        outer
    }

    /// The next member of the object that was begun last; none at its end.
    pub(super) fn next(&mut self, outer: usize) -> Option<(&'v str, &'v Value)> {
        let (_, name, value) = if self.0.len() > outer { self.0.pop()? } else { return None };
        Some((name, value))
    }
}
