//! Commit of the active layer, while it is in use: a mirror whose target is a layer below.
use super::PARALLEL;
use super::hold::Hold;
use crate::mirror::{self, Ends, Mirror, Settings, Start};
use block::{CopyPlan, Endpoint, GraphChange, Result};
use rt::BoxFuture;

/// Unit in bytes in which changes are tracked.
const GRANULARITY: u64 = 65536;

/// Begins to follow the active layer.
pub(super) async fn begin(hold: Hold) -> Result<Mirror<Hold>> {
    let Ends { to: base, source, target, .. } = &hold.ends;
    let (from, to) = (Endpoint::Entry(source.clone()), Endpoint::Entry(target.clone()));
    let settings = Settings {
        start: Start::Above(base.clone()),
        plan: CopyPlan::above(base, from, to),
        granularity: GRANULARITY,
        parallel: PARALLEL,
        bare: false,
        same_size: false,
        on_target_error: None,
        mode: None,
        saved: None,
    };
    Mirror::begin(hold, settings).await
}

impl mirror::Hold for Hold {
    fn ends(&self) -> &Ends {
        &self.ends
    }

    fn hand_over<'a>(&'a self, change: &'a mut GraphChange) -> BoxFuture<'a, Result<()>> {
        Box::pin(Hold::hand_over(self, change))
    }

    fn handed_over(&self) {
        self.filter.is_out();
        self.base_stays_writable();
    }

    fn give_back(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(Hold::give_back(self))
    }
}
