//! A copy that nobody rules: no rate limit, no pause, no second try.
use super::{AfterError, CopyControl, CopyError};
use crate::error::Result;
use rt::BoxFuture;

/// For copies that others wait for.
pub struct AtOnce;

impl CopyControl for AtOnce {
    fn on_hold(&self) -> bool {
        false
    }

    fn wait_to_start(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn started(&self, _bytes: u64) {}

    fn progressed(&self, _bytes: u64) {}

    fn on_error<'a>(&'a self, _error: &'a CopyError) -> BoxFuture<'a, AfterError> {
        Box::pin(std::future::ready(AfterError::Fail))
    }
}
