//! `throttle`: a filter that holds requests back by the limits of a throttle group.
//!
//! Reads count as such; writes, zeroes and discards count as writes. Flushes and block status pass. As long as the group has
//! no limits, every request passes as if the filter were not there. When the node is drained, nothing is held back.
use api::ThrottleOptions;
use arc_swap::ArcSwapOption;
use block::{
    BlockError, Common, Driver, DriverType, ErrorKind, Extent, Filtered, IoDirection, MapChange, Objects,
    Open, OpenContext, Opened, Opt, Options, Reopened, Request, Result, ThrottleGroup, ThrottleMember, Want,
    WritePlan,
};
use rt::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// The `throttle` driver.
pub const THROTTLE: DriverType = DriverType { name: "throttle", open: &Open(open), ..DriverType::FILTER };

struct Throttle {
    below: Filtered,
    /// None once it is closed.
    member: ArcSwapOption<ThrottleMember>,
    draining: AtomicBool,
    objects: Objects,
}

fn open(context: &mut OpenContext, options: ThrottleOptions) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let objects = context.objects().clone();
        let member = member(&objects, &options)?;
        let below = context.filtered().await?;
        let member = ArcSwapOption::from_pointee(member);
        let driver = Throttle { below, member, draining: AtomicBool::new(false), objects };
        Ok(Opened { driver: Arc::new(driver), filename: None })
    })
}

fn member(objects: &Objects, options: &ThrottleOptions) -> Result<ThrottleMember> {
    let name = &options.throttle_group;
    let group = objects.hold::<ThrottleGroup>(name).map_err(|_| {
        BlockError::new(ErrorKind::NotFound, format!("Throttle group '{name}' does not exist"))
    })?;
    Ok(ThrottleMember::new(group))
}

impl Throttle {
    async fn admit(&self, direction: IoDirection, len: u64) {
        if let Some(member) = self.member.load_full() {
            member.admit(direction, len).await;
        }
    }
}

impl Driver for Throttle {
    fn filtered(&self) -> Option<&Filtered> {
        Some(&self.below)
    }

    fn try_map(&self, offset: u64, len: u64, want: Want) -> Option<Extent> {
        let held = want != Want::Status && self.member.load().as_ref().is_some_and(|member| member.limited());
        (!held).then(|| self.below.place(offset, len))
    }

    fn map(&self, offset: u64, len: u64, want: Want) -> BoxFuture<'_, Result<Extent>> {
        Box::pin(async move {
            match want {
                Want::Read => self.admit(IoDirection::Read, len).await,
                Want::Write => self.admit(IoDirection::Write, len).await,
                Want::Status => {}
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
            self.admit(IoDirection::Write, len).await;
            Ok(self.below.plan(offset, len))
        })
    }

    fn drain(&self, begins: bool) {
        self.draining.store(begins, SeqCst);
        self.member.load().iter().for_each(|member| member.drain(begins));
    }

    fn reopen<'a>(&'a self, options: Options, _: &Common) -> BoxFuture<'a, Result<Reopened<'a>>> {
        Box::pin(async move {
            let member = Arc::new(member(&self.objects, &options.read()?)?);
            Ok(Box::new(move || {
                self.member.store(Some(member.clone()));
                member.drain(self.draining.load(SeqCst));
            }) as Reopened<'a>)
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        self.member.store(None);
        Box::pin(std::future::ready(Ok(())))
    }

    fn naming_options(&self) -> Options {
        let member = self.member.load();
        let name = member.as_ref().map_or("", |member| member.group().name());
        Options::new().with("throttle-group", Opt::Str(name.to_owned()))
    }
}
