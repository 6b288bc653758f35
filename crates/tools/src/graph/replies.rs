//! What a server tells of its graph.

use crate::client::Client;
use crate::failure::Failure;
use api::Value;

/// The answers of a server; what it does not know is empty.
#[derive(Default)]
pub(super) struct Replies {
    /// `query-named-block-nodes`.
    pub(super) nodes: Value,
    /// `query-block`.
    pub(super) devices: Value,
    /// `query-block-exports`.
    pub(super) exports: Value,
    /// `query-jobs`.
    pub(super) jobs: Value,
    /// `x-debug-query-block-graph`: who uses what, with permissions.
    pub(super) graph: Value,
}

impl Replies {
    /// Asks for all of them.
    pub(super) async fn ask(client: &mut Client) -> Result<Replies, Failure> {
        let flat = [("flat", true.into())];
        Ok(Replies {
            nodes: client.ask("query-named-block-nodes", &flat).await?,
            devices: client.ask_if_known("query-block", &[]).await?.unwrap_or_default(),
            exports: client.ask_if_known("query-block-exports", &[]).await?.unwrap_or_default(),
            jobs: client.ask_if_known("query-jobs", &[]).await?.unwrap_or_default(),
            graph: client.ask_if_known("x-debug-query-block-graph", &[]).await?.unwrap_or_default(),
        })
    }
}

/// The entries of a list; none if it is no list.
pub(super) fn entries(list: &Value) -> &[Value] {
    list.as_list().unwrap_or_default()
}

/// The text of a member; empty if there is none.
pub(super) fn word<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Whether a member is true.
pub(super) fn is(value: &Value, name: &str) -> bool {
    value.get(name).and_then(Value::as_bool) == Some(true)
}

/// A member that is a number from 0 on.
pub(super) fn number(value: &Value, name: &str) -> Option<u64> {
    value.get(name).and_then(Value::as_i64).and_then(|number| u64::try_from(number).ok())
}
