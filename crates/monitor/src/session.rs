//! One QMP session, without its I/O: bytes in, requests and refusals out.
//!
//! ```text
//!            qmp_capabilities
//! negotiating ─────────────▶ commands
//!   every other command:       every command is returned;
//!   CommandNotFound            a second qmp_capabilities is refused by its handler
//! ```
//!
//! A client that has asked for it (`oob`) may have commands that allow it carried out before those that wait ("exec-oob").
//!
//! Laws:
//! - every document that arrives is answered once, in the order of arrival, provided that the caller answers each
//!   [`Incoming`] before it asks for the next; a caller need not wait with those that are urgent;
//! - a mistake in one document does not touch the next ([`api::json`] has the rules of recovery);
//! - nothing is read ahead: the session holds at most one unfinished document, within the parser's bounds.

use api::json::Stream;
use api::{Dict, ErrorClass, QMPCapability, QmpCapabilitiesArguments, QmpError, Value, introspect};

/// The command that ends the negotiation.
const NEGOTIATE: &str = "qmp_capabilities";

/// One document of a client.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// A command to run.
    Request(Request),
    /// A mistake, with its answer.
    Answer {
        /// The `id` to answer with.
        id: Option<Value>,
        /// The answer.
        result: Result<Value, QmpError>,
    },
}

/// A command with its arguments, neither of them checked yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The `id` to answer with.
    pub id: Option<Value>,
    /// The command's name.
    pub command: String,
    /// Its arguments.
    pub arguments: Dict,
    /// It is carried out at once, also while others are under way.
    pub is_urgent: bool,
}

/// The client's side of a session.
#[derive(Default)]
pub struct Session {
    stream: Stream,
    negotiated: bool,
    /// Urgent commands were agreed on.
    out_of_band: bool,
}

impl Session {
    /// A session at its start; the greeting ([`crate::wire::MessageLayout::greeting`]) is the caller's to send.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the negotiation is over. Before that, no events are sent.
    pub fn is_negotiated(&self) -> bool {
        self.negotiated
    }

    /// Whether commands may be urgent.
    pub fn is_out_of_band(&self) -> bool {
        self.out_of_band
    }

    /// Reads from `input`, which it shortens by what it has read, up to the end of a document. `None`: all was read, and
    /// more is needed.
    pub fn next(&mut self, input: &mut &[u8]) -> Option<Incoming> {
        let refused = |id, error| Incoming::Answer { id, result: Err(error) };
        Some(match self.stream.next(input)? {
            Err(mistake) => refused(None, QmpError::generic(mistake.to_string())),
            Ok(Value::Dict(mut document)) => {
                let id = document.remove("id");
                match request(document, self.out_of_band) {
                    Ok(request) => self.admit(Request { id, ..request }),
                    Err(error) => refused(id, error),
                }
            }
            Ok(_) => refused(None, QmpError::generic("QMP input must be a JSON object")),
        })
    }

    fn admit(&mut self, request: Request) -> Incoming {
        if self.negotiated {
            return Incoming::Request(request);
        }
        let Request { id, command, arguments, .. } = request;
        let result =
            if command == NEGOTIATE { self.negotiate(arguments) } else { Err(expecting_negotiation()) };
        Incoming::Answer { id, result: result.map(|()| Value::Dict(Dict::new())) }
    }

    fn negotiate(&mut self, arguments: Dict) -> Result<(), QmpError> {
        let QmpCapabilitiesArguments { enable } = api::decode(Value::Dict(arguments))?;
        self.out_of_band = enable.is_some_and(|enable| enable.contains(&QMPCapability::Oob));
        self.negotiated = true;
        Ok(())
    }
}

fn expecting_negotiation() -> QmpError {
    let desc = format!("Expecting capabilities negotiation with '{NEGOTIATE}'");
    QmpError { class: ErrorClass::CommandNotFound, desc }
}

/// The request of a document whose `id` is gone.
fn request(document: Dict, out_of_band: bool) -> Result<Request, QmpError> {
    let (mut command, mut arguments, mut is_urgent) = (None, Dict::new(), false);
    for (name, value) in document {
        match (name.as_str(), value) {
            ("exec-oob", _) if !out_of_band => return Err(malformed("exec-oob", "is unexpected")),
            ("execute" | "exec-oob", _) if command.is_some() => {
                return Err(malformed("execute", "clashes with 'exec-oob'"));
            }
            ("execute", Value::String(name)) => command = Some(name),
            ("exec-oob", Value::String(name)) => (command, is_urgent) = (Some(name), true),
            (name @ ("execute" | "exec-oob"), _) => return Err(malformed(name, "must be a string")),
            ("arguments", Value::Dict(dict)) => arguments = dict,
            ("arguments", _) => return Err(malformed("arguments", "must be an object")),
            (other, _) => return Err(malformed(other, "is unexpected")),
        }
    }
    let command = command.ok_or_else(|| QmpError::generic("QMP input lacks member 'execute'"))?;
    if is_urgent && introspect::is_command(&command) && !introspect::runs_out_of_band(&command) {
        return Err(QmpError::generic(format!("The command {command} does not support OOB")));
    }
    Ok(Request { id: None, command, arguments, is_urgent })
}

fn malformed(member: &str, what: &str) -> QmpError {
    QmpError::generic(format!("QMP input member '{}' {what}", api::codec::shortened(member)))
}
