//! Jobs of one group: all of them take effect or none, whatever fails or is cancelled when.
use crate::support::{Memory, give_way, on_control, random, seed};
use api::{BlockdevOnError, JobStatus, JobType};
use block::{BlockError, Result};
use jobs::{Group, Job, JobRequest, Jobs, Work};
use parking_lot::Mutex;
use rt::BoxFuture;
use std::sync::Arc;

/// Where a member fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fails {
    Nowhere,
    InRun,
    InPrepare,
}

/// What became of the work of one member: its steps, in order.
type Log = Arc<Mutex<Vec<&'static str>>>;

struct Member {
    fails: Fails,
    log: Log,
}

impl Member {
    async fn step(&self, name: &'static str, fails: Fails, job: &Job) -> Result<()> {
        for _ in 0..random(4) {
            give_way().await;
            job.pause_point().await?;
        }
        if self.fails == fails {
            return Err(BlockError::invalid("a planned failure"));
        }
        self.log.lock().push(name);
        Ok(())
    }
}

impl Work for Member {
    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.step("run", Fails::InRun, job))
    }
    fn prepare<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.step("prepare", Fails::InPrepare, job))
    }
    fn commit(&self) -> BoxFuture<'_, ()> {
        self.log.lock().push("commit");
        Box::pin(give_way())
    }
    fn abort(&self) -> BoxFuture<'_, ()> {
        self.log.lock().push("abort");
        Box::pin(give_way())
    }
    fn end(&self) -> BoxFuture<'_, Result<()>> {
        self.log.lock().push("end");
        Box::pin(async { Ok(()) })
    }
}

struct World {
    jobs: Jobs,
    events: Arc<Memory>,
    logs: Vec<Log>,
}

/// Starts a group of as many jobs as there are in `members`, each failing where it says; with `by_hand` every other one
/// waits for `finalize`.
async fn start(members: &[Fails], by_hand: bool) -> World {
    let events = Arc::new(Memory::default());
    let mut world = World { jobs: Jobs::new(events.clone()), events, logs: Vec::new() };
    let group = Group::new();
    for (n, fails) in members.iter().enumerate() {
        let log = Log::default();
        world.logs.push(log.clone());
        let request = JobRequest {
            id: format!("j{n}"),
            kind: JobType::Commit,
            speed: 0,
            on_error: BlockdevOnError::Report,
            auto_finalize: !(by_hand && n % 2 == 0),
            auto_dismiss: false,
            group: Some(group.clone()),
        };
        world.jobs.start(request, Box::new(Member { fails: *fails, log })).await.unwrap();
    }
    group.close();
    world
}

impl World {
    async fn end(&self) {
        for job in self.jobs.all() {
            job.concluded().await;
        }
    }

    /// Whether the group took effect; a part of it never does.
    fn took_effect(&self) -> bool {
        let did = |what| self.logs.iter().filter(|log| log.lock().contains(&what)).count();
        let (committed, aborted) = (did("commit"), did("abort"));
        assert!(
            (committed, aborted) == (self.logs.len(), 0) || (committed, aborted) == (0, self.logs.len()),
            "{committed} of {} took effect, {aborted} were undone",
            self.logs.len()
        );
        for log in self.logs.iter().map(|log| log.lock()) {
            assert_eq!(log.iter().filter(|step| **step == "end").count(), 1, "{log:?}");
            assert_eq!(log.last(), Some(&"end"), "{log:?}");
        }
        committed > 0
    }
}

#[test]
fn a_group_takes_effect_as_a_whole_or_not_at_all() {
    on_control(async {
        for round in 0..400 {
            seed(round + 1);
            let some = |n| match random(n) {
                0 => Fails::InRun,
                1 => Fails::InPrepare,
                _ => Fails::Nowhere,
            };
            let members: Vec<_> = (0..1 + random(5)).map(|_| some(8)).collect();
            let world = start(&members, false).await;
            let cancelled = random(3) == 0;
            if cancelled {
                for _ in 0..random(12) {
                    give_way().await;
                }
                // It may have ended already.
                let _ = world.jobs.all().first().unwrap().cancel(true);
            }
            world.end().await;
            let well = members.iter().all(|fails| *fails == Fails::Nowhere);
            let took_effect = world.took_effect();
            assert!(!took_effect || well, "round {round}: {members:?}");
            assert!(took_effect || !well || cancelled, "round {round}: {members:?}");
        }
    });
}

#[test]
fn finalizing_one_member_finalizes_the_group() {
    on_control(async {
        seed(3);
        let world = start(&[Fails::Nowhere; 3], true).await;
        while !world.jobs.all().iter().all(|job| job.status() == JobStatus::Pending) {
            rt::yield_now().await;
        }
        assert!(world.logs.iter().all(|log| *log.lock() == ["run"]), "no member goes on by itself");
        world.jobs.finalize("j2").await.unwrap();
        world.end().await;
        assert!(world.took_effect());
        let pending = world.events.0.lock().iter().filter(|e| *e == "PENDING").count();
        assert_eq!(pending, 2, "members that wait for finalize are pending");
    });
}
