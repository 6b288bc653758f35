//! A filter that delays requests, and lets them all go at once when somebody waits for them to end.
//!
//! It says what it changes: it has no mapping without a wait, waits before it tells one, and knows of drains. The rest
//! passes to its child.

use api::codec::{Members, Object};
use api::{DecodeError, Dict};
use block::{
    Driver, DriverType, Extent, Filtered, Holder, MapChange, Open, OpenContext, Opened, Request, Result,
    Want, WritePlan,
};
use rt::BoxFuture;
use std::sync::Arc;
use std::time::Duration;

pub const DELAY: &[DriverType] = &[DriverType { name: "delay", open: &Open(open), ..DriverType::FILTER }];

/// What the filter is opened with; a driver of ours has it from the schema.
#[derive(Default)]
pub struct DelayOptions {
    microseconds: Option<u64>,
}

impl Object for DelayOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { microseconds: from.optional("microseconds")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("microseconds", &self.microseconds);
    }
}

struct Delay {
    below: Filtered,
    time: Duration,
    held: Holder,
}

fn open(context: &mut OpenContext, options: DelayOptions) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let below = context.filtered().await?;
        let time = Duration::from_micros(options.microseconds.unwrap_or(100));
        Ok(Opened { driver: Arc::new(Delay { below, time, held: Holder::default() }), filename: None })
    })
}

impl Driver for Delay {
    fn filtered(&self) -> Option<&Filtered> {
        Some(&self.below)
    }

    fn try_map(&self, _: u64, _: u64, _: Want) -> Option<Extent> {
        None
    }

    fn map(&self, offset: u64, len: u64, want: Want) -> BoxFuture<'_, Result<Extent>> {
        Box::pin(async move {
            if want != Want::Status {
                self.held.hold(rt::sleep(self.time)).await;
            }
            Ok(self.below.place(offset, len))
        })
    }

    fn prepare_write(
        &self,
        offset: u64,
        len: u64,
        _: MapChange,
        _: Request,
    ) -> BoxFuture<'_, Result<WritePlan>> {
        Box::pin(async move {
            self.held.hold(rt::sleep(self.time)).await;
            Ok(self.below.plan(offset, len))
        })
    }

    fn drain(&self, begins: bool) {
        self.held.drain(begins);
    }
}
