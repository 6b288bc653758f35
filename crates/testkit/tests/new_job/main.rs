//! A new kind of job, from outside of the crates: it fills a range of a node with a byte, alone or together with others.
//!
//! What one has to write: a [`Work`] as a folder of `crates/jobs`, whose `run` goes on piece by piece, asking its [`Job`]
//! before each (`wait_to_start`) and reporting progress; what makes the result take effect (`commit`) and undoes it
//! (`abort`); and what it releases (`end`). Its kind is a line of the schema's `JobType`, and so is its command.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use api::{BlockdevOnError, JobStatus, JobType, PreallocMode};
use block::{
    Backend, BackendRequest, BlockError, Blocker, CopyControl, Graph, Operations, Opt, Options, Perms,
    Registry, Request, Result,
};
use futures_util::future::BoxFuture;
use jobs::{EventSink, Group, Job, JobRequest, Jobs, Work};
use parking_lot::Mutex;
use rt::{Buf, BufMut};
use sim::Sim;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

const SIZE: u64 = 256 << 10;
const PIECE: u64 = 4096;
const OLD: u8 = 1;

/// Fills a range with a byte. What was there is kept until the job, and all of its group, are done.
struct Fill {
    graph: Graph,
    entry: Arc<Backend>,
    range: Range<u64>,
    byte: u8,
    old: Mutex<Vec<(u64, Buf)>>,
    /// Keeps the node as it is while the job works on it.
    blocker: Mutex<Option<Blocker>>,
}

impl Fill {
    async fn piece(&self, at: u64, len: u64) -> Result<()> {
        let (old, read) = self.entry.read(at, BufMut::with_len(len as usize)).await;
        read?;
        self.old.lock().push((at, old.freeze()));
        let new = Buf::from_slice(&vec![self.byte; len as usize]);
        self.entry.write(at, new, Request::GUEST).await
    }
}

impl Work for Fill {
    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            job.set_len(self.range.end - self.range.start);
            for at in self.range.clone().step_by(PIECE as usize) {
                let len = PIECE.min(self.range.end - at);
                // Here it waits while it is paused or above its speed, and ends when it was cancelled.
                job.wait_to_start().await?;
                job.started(len);
                self.piece(at, len).await?;
                job.progressed(len);
            }
            Ok(())
        })
    }

    fn prepare<'a>(&'a self, _: &'a Job) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.entry.flush())
    }

    fn commit(&self) -> BoxFuture<'_, ()> {
        self.old.lock().clear();
        Box::pin(async {})
    }

    fn abort(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let old = std::mem::take(&mut *self.old.lock());
            for (at, bytes) in old {
                self.entry.write(at, bytes, Request::GUEST).await.unwrap();
            }
            self.entry.flush().await.unwrap();
        })
    }

    fn end(&self) -> BoxFuture<'_, Result<()>> {
        *self.blocker.lock() = None;
        Box::pin(self.graph.detach(&self.entry))
    }
}

/// The last status of each job, and how it ended.
#[derive(Default)]
struct EventLog(Mutex<Vec<String>>);

impl EventSink for EventLog {
    fn tell(&self, event: api::Event) {
        match event {
            api::Event::BlockJobCompleted(e) => {
                self.0.lock().push(format!("{} {}", e.device, e.error.unwrap_or_else(|| "done".to_owned())));
            }
            api::Event::BlockJobCancelled(e) => self.0.lock().push(format!("{} cancelled", e.device)),
            _ => {}
        }
    }
}

struct Desk {
    graph: Graph,
    jobs: Jobs,
    ear: Arc<EventLog>,
}

impl Desk {
    /// Two disks full of [`OLD`].
    async fn new() -> Desk {
        let graph = Graph::new(Registry::new(&[protocols::DRIVERS, formats::DRIVERS]), |_| {
            Err(BlockError::invalid("no JSON here"))
        });
        for name in ["a", "b"] {
            let path = format!("/{name}");
            graph.create("raw", &path, SIZE, Options::new()).await.unwrap();
            let file = Options::new().with_str("driver", "file").with_str("filename", &path);
            let options = Options::new().with_str("driver", "raw").with_str("node-name", name);
            let node = graph.add(options.with("file", Opt::Dict(file))).await.unwrap();
            let old = Buf::from_slice(&vec![OLD; SIZE as usize]);
            node.write(0, old, Request::GUEST).await.unwrap();
        }
        let ear = Arc::new(EventLog::default());
        Desk { graph, jobs: Jobs::new(ear.clone()), ear }
    }

    /// What the command of this kind of job would do.
    async fn fill(&self, node: &str, range: Range<u64>, group: Option<&Group>, speed: u64) -> Arc<Job> {
        let request = JobRequest {
            id: format!("fill-{node}"),
            // A kind of its own would be a line of the schema.
            kind: JobType::Commit,
            speed,
            on_error: BlockdevOnError::Report,
            auto_finalize: true,
            auto_dismiss: true,
            group: group.cloned(),
        };
        let (label, node) = (format!("job '{}'", request.id), self.graph.need_node(node).unwrap());
        node.check_operation(Operations::JOB).unwrap();
        let blocker = Mutex::new(Some(node.block(Operations::CHANGE, label.clone())));
        let entry = BackendRequest { label, node, perms: Perms::WRITER, pinned: true };
        let entry = self.graph.attach(entry).await.unwrap();
        let work = Fill { graph: self.graph.clone(), entry, range, byte: 9, old: Mutex::default(), blocker };
        self.jobs.start(request, Box::new(work)).await.unwrap()
    }

    /// The disk's bytes as runs.
    async fn shows(&self, node: &str) -> Vec<(u8, usize)> {
        let (bytes, read) =
            self.graph.need_node(node).unwrap().read(0, BufMut::with_len(SIZE as usize)).await;
        read.unwrap();
        bytes.chunk_by(|a, b| a == b).map(|run| (run[0], run.len())).collect()
    }

    /// All jobs have ended, reported it and released their nodes.
    fn ended(&self, told: &[&str]) {
        assert_eq!(*self.ear.0.lock(), told);
        assert!(self.jobs.all().is_empty() && self.graph.entries().is_empty());
    }
}

fn untouched() -> Vec<(u8, usize)> {
    vec![(OLD, SIZE as usize)]
}

/// Waits until a job has come so far.
async fn until(job: &Job, is: impl Fn(&Job) -> bool) {
    while !is(job) {
        rt::sleep(Duration::from_millis(1)).await;
    }
}

fn seeds(test: fn() -> BoxFuture<'static, ()>) {
    (1..=20).for_each(|seed| Sim::new(seed).run(test()));
}

#[test]
fn alone_it_does_its_work_and_reports_its_progress() {
    seeds(|| {
        Box::pin(async {
            let desk = Desk::new().await;
            let job = desk.fill("a", 512..SIZE - 512, None, 0).await;
            assert_eq!(job.info().r#type, JobType::Commit);
            job.concluded().await;
            let info = job.info();
            assert_eq!(
                (info.current_progress, info.total_progress),
                (SIZE as i64 - 1024, SIZE as i64 - 1024)
            );
            assert_eq!(desk.shows("a").await, [(OLD, 512), (9, SIZE as usize - 1024), (OLD, 512)]);
            desk.ended(&["fill-a done"]);
        })
    });
}

#[test]
fn it_stops_while_it_is_paused_and_a_cancel_leaves_everything_as_it_was() {
    seeds(|| {
        Box::pin(async {
            let desk = Desk::new().await;
            let job = desk.fill("a", 0..SIZE, None, 64 << 10).await;
            until(&job, |job| job.info().current_progress > 0).await;
            job.pause().unwrap();
            until(&job, |job| job.status() == JobStatus::Paused).await;
            let (came, shows) = (job.info().current_progress, desk.shows("a").await);
            rt::sleep(Duration::from_secs(10)).await;
            assert_eq!((job.info().current_progress, desk.shows("a").await), (came, shows));
            assert!(desk.graph.remove("a").await.unwrap_err().message().contains("fill-a"));
            let node = desk.graph.need_node("a").unwrap();
            let refused = desk.graph.resize(&node, 2 * SIZE, PreallocMode::Off).await.unwrap_err();
            assert_eq!(refused.message(), "Node 'a' is busy: job 'fill-a'");
            job.resume().unwrap();
            until(&job, |job| job.info().current_progress > came).await;
            job.cancel(false).unwrap();
            job.concluded().await;
            assert_eq!(desk.shows("a").await, untouched());
            desk.ended(&["fill-a cancelled"]);
            desk.graph.resize(&node, 2 * SIZE, PreallocMode::Off).await.unwrap();
        })
    });
}

#[test]
fn of_two_in_a_group_both_take_effect_or_none() {
    seeds(|| {
        Box::pin(async {
            let desk = Desk::new().await;
            let group = Group::new();
            let quick = desk.fill("a", 0..SIZE, Some(&group), 0).await;
            // It fails at the end of its disk, when the other one is long through.
            let fails = desk.fill("b", 0..SIZE + PIECE, Some(&group), 128 << 10).await;
            group.close();
            until(&quick, |job| job.status() == JobStatus::Waiting).await;
            fails.concluded().await;
            quick.concluded().await;
            assert_eq!((desk.shows("a").await, desk.shows("b").await), (untouched(), untouched()));
            let told = std::mem::take(&mut *desk.ear.0.lock());
            assert!(told.iter().any(|text| text.starts_with("fill-b request of 4096 bytes")), "{told:?}");
            assert!(told.iter().any(|text| text == "fill-a cancelled"), "{told:?}");
            desk.ended(&[]);

            let group = Group::new();
            let jobs = [
                desk.fill("a", 0..SIZE, Some(&group), 0).await,
                desk.fill("b", 0..SIZE, Some(&group), 0).await,
            ];
            group.close();
            for job in &jobs {
                job.concluded().await;
            }
            let filled = vec![(9, SIZE as usize)];
            assert_eq!((desk.shows("a").await, desk.shows("b").await), (filled.clone(), filled));
        })
    });
}
