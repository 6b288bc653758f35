//! Where the events of jobs go, in the schema's own types.

/// Receives the events of jobs. Called under the job's lock, so that events come in the order of what happened: it must
/// only queue them.
pub trait EventSink: Send + Sync {
    /// Takes an event.
    fn tell(&self, event: api::Event);
}
