//! The order in which members are written.
//!
//! QEMU keeps an object's members in a hash table of 512 places and writes them place by place, so that a given set of names always
//! comes in the same order, whatever the order in which the members were set. Scripts that compare text rely on it. Found
//! by observing replies, events, `json:` names and the tools' output; `tests/order.rs` has what was seen.

/// Places of the table.
const PLACES: u32 = 512;

/// The place of a name in the table.
fn place(name: &str) -> u32 {
    let start = 0x238f_13af_u32.wrapping_mul(name.len() as u32);
    let shifts = (0..).map(|index| index * 5 % 24);
    let add = |value: u32, (byte, shift)| value.wrapping_add(u32::from(byte) << shift);
    let value = name.bytes().zip(shifts).fold(start, add);
    value.wrapping_mul(1_103_515_243).wrapping_add(12345) % PLACES
}

/// The members of an object in the order in which they are written: by their places, and of those that share one the last
/// that was set first.
pub(super) fn ordered<'v, V>(members: impl Iterator<Item = (&'v str, V)>) -> Vec<(&'v str, V)> {
    let mut members: Vec<_> = members.map(|(name, value)| (place(name), name, value)).collect();
    members.reverse();
    members.sort_by_key(|(place, ..)| *place);
    members.into_iter().map(|(_, name, value)| (name, value)).collect()
}
