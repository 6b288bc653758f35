//! The requests of a connection: what each is, and what it ends with.

use crate::inflight;
use sftp::Attributes;

/// What a server answers, as far as it is an answer.
#[derive(Debug)]
pub(super) enum Answered {
    /// It was carried out.
    Done,
    /// There is nothing behind the end of the file.
    End,
    /// So many bytes are at the front of the buffer.
    Data(usize),
    /// The handle of a file.
    Handle(Vec<u8>),
    /// What is known of a file.
    Attributes(Attributes),
    /// What an extension says.
    Extended(Vec<u8>),
}

/// What a request is, for messages.
#[derive(Clone, Copy)]
pub(super) struct What {
    pub name: &'static str,
    pub offset: Option<u64>,
}

/// Those of a connection, by id, with what they are.
pub(super) type InFlight = inflight::InFlight<What, Answered>;
pub(super) type Pending = inflight::Pending<What, Answered>;
pub(super) type Answer = inflight::Answer<Answered>;

/// None yet, of a file.
pub(super) fn in_flight(name: &str) -> InFlight {
    InFlight::new(name, 0, u64::from(u32::MAX))
}
