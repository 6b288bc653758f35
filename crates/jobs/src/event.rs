//! What jobs tell, in the schema's own events, and to whom.

/// Who hears of jobs. Called under the job's lock, so that events come in the order things happened: it must only
/// queue them.
pub trait Sink: Send + Sync {
    /// Takes an event.
    fn tell(&self, event: api::Event);
}
