//! The client's side: the handshake, and replies checked against their requests.

mod coverage;
mod handshake;
mod option_reply;
mod reply;

pub use handshake::{Export, Handshake, HandshakeError, Listed, Step};
pub use reply::{Body, Header, Outcome, Part, ProtocolError, Tracker};
