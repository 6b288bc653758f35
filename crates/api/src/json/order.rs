//! The order in which members are written.
//!
//! QEMU keeps an object's members in a hash table of 512 places and writes them place by place, so that a given set of names always
//! comes in the same order, whatever the order in which the members were set. Scripts that compare text rely on it. Found
//! by observing replies, events, `json:` names and the tools' output; `tests/order.rs` has what was seen.

use crate::{Dict, Value};

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

/// The members of the objects that are being written, one inside the other.
pub(super) struct Ordered<'v> {
    /// Which members of the objects that are being written are still to come, the next one at the end.
    left: Vec<usize>,
    /// Orders that were found: a list mostly has objects of the same members.
    known: [Order<'v>; KNOWN],
}

/// Orders that are kept: the last one of objects of each number of members, counted modulo this. Objects of up to 40 members do
/// not take each other's place: those of a list, and those that stand in them.
const KNOWN: usize = 41;

/// The order in which members of these names are written, from the last to the first.
#[derive(Default)]
struct Order<'v> {
    names: Vec<&'v str>,
    order: Vec<usize>,
}

impl<'v> Order<'v> {
    /// By their places, and of those that share one the last that was set first.
    fn of(dict: &'v Dict) -> Order<'v> {
        let names: Vec<&str> = dict.iter().map(|(name, _)| name).collect();
        let mut order: Vec<(u32, usize)> =
            names.iter().enumerate().map(|(at, name)| (PLACES - place(name), at)).collect();
        order.sort_unstable();
        Order { names, order: order.into_iter().map(|(_, at)| at).collect() }
    }

    fn fits(&self, dict: &Dict) -> bool {
        self.names.len() == dict.len()
            && dict.iter().zip(&self.names).all(|((name, _), known)| name == *known)
    }
}

impl Default for Ordered<'_> {
    fn default() -> Self {
        Ordered { left: Vec::new(), known: std::array::from_fn(|_| Order::default()) }
    }
}

impl<'v> Ordered<'v> {
    /// Begins an object. Its members are given by [`Self::next`] in the order in which they are written. Answers what `next` is to be
    /// called with.
    pub(super) fn begin(&mut self, dict: &'v Dict) -> usize {
        let outer = self.left.len();
        if let Some(known) = self.known.get_mut(dict.len() % KNOWN) {
            if !known.fits(dict) {
                *known = Order::of(dict);
            }
            self.left.extend_from_slice(&known.order);
        }
        outer
    }

    /// The next member of the object that was begun last; none at its end.
    pub(super) fn next(&mut self, outer: usize, dict: &'v Dict) -> Option<(&'v str, &'v Value)> {
        if self.left.len() > outer { dict.at(self.left.pop()?) } else { None }
    }
}
