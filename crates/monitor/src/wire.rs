//! QMP's messages from the server: greeting, answers, events.
//!
//! ```text
//! {"QMP": {"version": {"qemu": {…}, "package": "…"}, "capabilities": ["oob"]}}
//! {"return": …, "id": …}
//! {"id": …, "error": {"class": "…", "desc": "…"}}
//! {"timestamp": {"seconds": …, "microseconds": …}, "event": "…", "data": {…}}
//! ```
//!
//! Each message is one JSON object and ends with `\r\n`; `id` is there if the request had one.
//! Specification: docs/interop/qmp-spec.rst of QEMU.

use std::time::Duration;

use api::{Dict, Encode, Enumeration, Event, QMPCapability, QmpError, Value};

/// How messages are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MessageLayout {
    /// One line a message.
    #[default]
    Line,
    /// Indented, for people (`pretty=on`).
    Pretty,
}

impl MessageLayout {
    /// The first message of a session, with the capabilities that it offers.
    pub fn greeting(self) -> String {
        let mut qmp = Dict::new();
        qmp.insert("version", api::introspect::version().encode());
        let capabilities =
            QMPCapability::VALUES.iter().map(|(name, _)| (*name).into()).collect::<Vec<Value>>();
        qmp.insert("capabilities", capabilities);
        self.message([("QMP", Value::Dict(qmp))])
    }

    /// The answer to a request with this `id`.
    pub fn answer(self, id: Option<Value>, result: Result<Value, QmpError>) -> String {
        let id = id.map(|id| ("id", id));
        match result {
            Ok(value) => self.message([("return", value)].into_iter().chain(id)),
            Err(QmpError { class, desc }) => {
                let error: Dict = [("class", class.name()), ("desc", &desc)].into_iter().collect();
                self.message(id.into_iter().chain([("error", Value::Dict(error))]))
            }
        }
    }

    /// An event that happened `since_epoch` after 1970-01-01 00:00 UTC.
    pub fn event(self, event: &Event, since_epoch: Duration) -> String {
        let mut timestamp = Dict::new();
        timestamp.insert("seconds", since_epoch.as_secs());
        timestamp.insert("microseconds", since_epoch.subsec_micros());
        let head = [("timestamp", Value::Dict(timestamp)), ("event", event.name().into())];
        self.message(head.into_iter().chain(event.data().map(|data| ("data", data))))
    }

    fn message(self, members: impl IntoIterator<Item = (&'static str, Value)>) -> String {
        let value = Value::Dict(members.into_iter().collect());
        let mut text = match self {
            Self::Line => api::json::to_line(&value),
            Self::Pretty => api::json::to_pretty(&value),
        };
        text.push_str("\r\n");
        text
    }
}
