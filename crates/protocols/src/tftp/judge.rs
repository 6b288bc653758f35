//! What TFTP servers send, as programs that test its reader drive it: on bytes of their own.

use super::packet::{Agreed, Packet};

/// Reads a packet: what it says, if it is one that a server sends. Of data, how many bytes.
pub fn judge_packet(packet: &[u8]) -> Option<String> {
    Some(match Packet::parse(packet)? {
        Packet::Data { number, bytes } => format!("data {number} {}", bytes.len()),
        Packet::Options(Agreed { block, size, window }) => format!("options {block:?} {size:?} {window:?}"),
        Packet::Error { code, text } => format!("error {code:?} {text}"),
    })
}
