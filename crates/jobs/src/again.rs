//! Changes of the graph that are tried again as long as they can't close the gates: a request inside may take that long.
use crate::job::Job;
use block::{BlockError, ErrorKind, Result};
use std::time::Duration;

/// How long after a change that could not close the gates the next one is tried.
const REST: Duration = Duration::from_secs(1);

/// Carries out a change that must take place.
pub(crate) async fn until_done<T, F>(what: &str, attempt: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    loop {
        match attempt().await {
            Err(error) if could_not_close(what, &error) => rt::sleep(REST).await,
            ended => return ended,
        }
    }
}

fn could_not_close(what: &str, error: &BlockError) -> bool {
    let again = error.kind() == ErrorKind::Timeout;
    if again {
        tracing::warn!(%error, "{what} is tried again");
    }
    again
}

impl Job {
    /// Carries out a change for the job, which may be paused or cancelled before each attempt.
    pub(crate) async fn change_graph<T, F>(&self, what: &str, attempt: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        loop {
            self.pause_point().await?;
            match attempt().await {
                Err(error) if could_not_close(what, &error) => self.idle(REST).await,
                ended => return ended,
            }
        }
    }
}
