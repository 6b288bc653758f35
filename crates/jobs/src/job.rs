//! One job: its status, its progress, what its user asked of it, and how its work is driven.
//!
//! A verb only records a request; the job's own task changes the status at its next pause point. So a status never
//! claims what the work has not done yet.
use crate::chain::same_image;
use crate::copy_mode::CopyMode;
use crate::event::EventSink;
use crate::group::{Group, Step};
use crate::register::{JobError, JobRequest};
use crate::speed::Speed;
use crate::state::{Verb, may_become};
use crate::work::Work;
use api::{
    BlockDeviceIoStatus, BlockErrorAction, BlockJobCancelled, BlockJobChangeOptionsBranch, BlockJobCompleted,
    BlockJobError, BlockJobInfo, BlockJobPending, BlockJobReady, BlockdevOnError, Enumeration,
    IoOperationType, JobInfo, JobStatus, JobStatusChange, JobType, MirrorCopyMode,
};
use block::{AfterError, BlockError, CopyControl, CopyError, CopySide, ErrorKind, Node, Result};
use event_listener::{Event, EventListener, IntoNotification};
use parking_lot::Mutex;
use rt::BoxFuture;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How long a job that ignores errors waits before it tries the same request again.
const RETRY_NS: u64 = 100_000_000;

/// What the policy says to do about this error.
fn action(on_error: BlockdevOnError, error: &BlockError) -> BlockErrorAction {
    match on_error {
        BlockdevOnError::Report => BlockErrorAction::Report,
        BlockdevOnError::Ignore => BlockErrorAction::Ignore,
        // `auto` means the device's own setting; a job has no device.
        BlockdevOnError::Enospc | BlockdevOnError::Auto if error.kind() != ErrorKind::NoSpace => {
            BlockErrorAction::Report
        }
        BlockdevOnError::Enospc | BlockdevOnError::Auto | BlockdevOnError::Stop => BlockErrorAction::Stop,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Cancel {
    No,
    /// End in place, without the switch that `complete` makes.
    Soft,
    Hard,
}

struct State {
    status: JobStatus,
    paused: bool,
    cancel: Cancel,
    complete: bool,
    finalize: bool,
    busy: bool,
    io_status: BlockDeviceIoStatus,
    error: Option<String>,
}

impl State {
    fn in_step(&self) -> bool {
        matches!(self.status, JobStatus::Ready | JobStatus::Standby)
    }
}

/// A job.
pub struct Job {
    id: String,
    kind: JobType,
    on_error: BlockdevOnError,
    on_target_error: BlockdevOnError,
    copy_mode: Option<Arc<CopyMode>>,
    image: Option<Weak<Node>>,
    auto_finalize: bool,
    auto_dismiss: bool,
    group: Group,
    sink: Arc<dyn EventSink>,
    state: Mutex<State>,
    /// Notified when something was asked for, the status changed, or the group reached a step.
    changed: Event,
    offset: AtomicU64,
    len: AtomicU64,
    speed: Speed,
    retry_at_ns: AtomicU64,
    failures: AtomicU64,
}

impl Job {
    pub(crate) fn new(request: JobRequest, work: &dyn Work, sink: Arc<dyn EventSink>) -> Arc<Self> {
        let JobRequest { id, kind, speed, on_error, auto_finalize, auto_dismiss, group } = request;
        let alone = group.is_none();
        let job = Arc::new(Self {
            id,
            kind,
            on_error,
            on_target_error: work.on_target_error().unwrap_or(on_error),
            copy_mode: work.copy_mode(),
            image: work.image().as_ref().map(Arc::downgrade),
            auto_finalize,
            auto_dismiss,
            group: group.unwrap_or_default(),
            sink,
            state: Mutex::new(State {
                status: JobStatus::Undefined,
                paused: false,
                cancel: Cancel::No,
                complete: false,
                finalize: false,
                busy: false,
                io_status: BlockDeviceIoStatus::Ok,
                error: None,
            }),
            changed: Event::new(),
            offset: AtomicU64::new(0),
            len: AtomicU64::new(0),
            speed: Speed::default(),
            retry_at_ns: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        });
        job.group.join(&job);
        if alone {
            job.group.close();
        }
        job.speed.set(speed, rt::now_ns());
        job.enter(&mut job.state.lock(), JobStatus::Created);
        job
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its status.
    pub fn status(&self) -> JobStatus {
        self.state.lock().status
    }

    /// Source and target are in sync.
    pub fn is_ready(&self) -> bool {
        self.state.lock().in_step()
    }

    /// Whether its result takes effect without being asked for.
    pub(crate) fn auto_finalize(&self) -> bool {
        self.auto_finalize
    }

    /// What `query-jobs` answers for it.
    pub fn info(&self) -> JobInfo {
        let state = self.state.lock();
        JobInfo {
            id: self.id.clone(),
            r#type: self.kind,
            status: state.status,
            current_progress: int(self.offset.load(Relaxed)),
            total_progress: int(self.len.load(Relaxed)),
            error: state.error.clone(),
        }
    }

    /// What `query-block-jobs` answers for it.
    pub fn block_info(&self) -> BlockJobInfo {
        let state = self.state.lock();
        BlockJobInfo {
            r#type: self.kind,
            device: self.id.clone(),
            len: int(self.len.load(Relaxed)),
            offset: int(self.offset.load(Relaxed)),
            busy: state.busy,
            paused: state.paused,
            speed: int(self.speed.rate()),
            io_status: state.io_status,
            ready: state.in_step(),
            status: state.status,
            auto_finalize: self.auto_finalize,
            auto_dismiss: self.auto_dismiss,
            error: state.error.clone(),
            actively_synced: self.copy_mode.as_ref().map(|mode| mode.is_synced()),
        }
    }

    /// Changes the status, if that is one of the changes allowed.
    fn enter(&self, state: &mut State, next: JobStatus) {
        if !may_become(state.status, next) {
            tracing::error!(job = %self.id, from = state.status.name(), to = next.name(), "a job's status may not change so");
            return;
        }
        tracing::debug!(job = %self.id, from = state.status.name(), to = next.name(), "status");
        state.status = next;
        self.sink.tell(api::Event::JobStatusChange(JobStatusChange { id: self.id.clone(), status: next }));
        self.changed.notify(usize::MAX.additional());
    }

    // ---- verbs ----

    /// Records a request, if the present status accepts it.
    fn ask(
        &self,
        verb: Verb,
        change: impl FnOnce(&mut State) -> Result<(), JobError>,
    ) -> Result<(), JobError> {
        let mut state = self.state.lock();
        self.accepts_in(&state, verb)?;
        change(&mut state)?;
        self.changed.notify(usize::MAX.additional());
        Ok(())
    }

    fn accepts_in(&self, state: &State, verb: Verb) -> Result<(), JobError> {
        if verb.accepted_in(state.status) {
            return Ok(());
        }
        Err(JobError::Verb { id: self.id.clone(), status: state.status, verb })
    }

    /// Whether the present status accepts the verb.
    pub fn accepts(&self, verb: Verb) -> Result<(), JobError> {
        self.accepts_in(&self.state.lock(), verb)
    }

    /// Asks it to stop at its next pause point.
    pub fn pause(&self) -> Result<(), JobError> {
        self.ask(Verb::Pause, |state| {
            if std::mem::replace(&mut state.paused, true) { Err(JobError::AlreadyPaused) } else { Ok(()) }
        })
    }

    /// Tells no longer of the error that it stopped for.
    pub(crate) fn reset_io_status(&self) {
        self.state.lock().io_status = BlockDeviceIoStatus::Ok;
    }

    /// Lets it go on, and clears the error that it stopped for.
    pub fn resume(&self) -> Result<(), JobError> {
        if !self.state.lock().paused {
            return Err(JobError::NotPaused);
        }
        self.ask(Verb::Resume, |state| {
            state.io_status = BlockDeviceIoStatus::Ok;
            self.end_pause(state);
            Ok(())
        })
    }

    /// It rests no longer, and that is told before the command is answered.
    fn end_pause(&self, state: &mut State) {
        state.paused = false;
        match state.status {
            JobStatus::Paused => self.enter(state, JobStatus::Running),
            JobStatus::Standby => self.enter(state, JobStatus::Ready),
            _ => {}
        }
    }

    /// Asks it to end. In the ready status a cancel without `force` ends it in place: in sync, but not switched over.
    pub fn cancel(&self, force: bool) -> Result<(), JobError> {
        self.ask(Verb::Cancel, |state| {
            if state.paused && !force {
                return Err(JobError::CurrentlyPaused(self.id.clone()));
            }
            self.ask_to_end(state, force);
            Ok(())
        })
    }

    /// Ends it as [`Job::cancel`] without `force`, also where it is paused: nobody has a use for it any more. One that has ended
    /// stays as it is.
    pub fn end_unused(&self) {
        let asked = self.ask(Verb::Cancel, |state| {
            self.ask_to_end(state, false);
            Ok(())
        });
        if let Err(error) = asked {
            tracing::debug!(job = self.id, %error, "the job is not cancelled with its device");
        }
    }

    fn ask_to_end(&self, state: &mut State, force: bool) {
        // One that ends in place already goes on to do so, in whichever status.
        let soft = !force && (state.in_step() || state.cancel == Cancel::Soft);
        let asked = if soft { Cancel::Soft } else { Cancel::Hard };
        if asked > state.cancel {
            state.cancel = asked;
        }
        self.end_pause(state);
    }

    /// Asks it to switch over.
    pub fn complete(&self) -> Result<(), JobError> {
        self.ask(Verb::Complete, |state| {
            if state.cancel != Cancel::No {
                return Err(JobError::CannotComplete(self.id.clone()));
            }
            state.complete = true;
            Ok(())
        })
    }

    /// Lets its result take effect, with those of all jobs of its group.
    pub fn finalize(&self) -> Result<(), JobError> {
        self.ask(Verb::Finalize, |state| {
            if std::mem::replace(&mut state.finalize, true) {
                let (id, status, verb) = (self.id.clone(), state.status, Verb::Finalize);
                return Err(JobError::Verb { id, status, verb });
            }
            Ok(())
        })?;
        for job in self.group.members() {
            job.state.lock().finalize = true;
            job.wake();
        }
        Ok(())
    }

    /// Another job of the group has failed: this one ends too.
    fn fall_with_the_group(&self) {
        self.state.lock().cancel = Cancel::Hard;
        self.wake();
    }

    /// Wakes it, to look again at what it waits for.
    pub(crate) fn wake(&self) {
        self.changed.notify(usize::MAX.additional());
    }

    /// Dismisses it: the register takes it off its list.
    pub(crate) fn dismiss(&self) -> Result<(), JobError> {
        self.ask(Verb::Dismiss, |state| {
            self.enter(state, JobStatus::Null);
            Ok(())
        })
    }

    /// Sets the rate limit in bytes a second, 0 for none.
    pub fn set_speed(&self, speed: u64) -> Result<(), JobError> {
        self.ask(Verb::SetSpeed, |_| {
            self.speed.set(speed, rt::now_ns());
            Ok(())
        })
    }

    /// Changes how it copies.
    pub fn change(&self, asked: &BlockJobChangeOptionsBranch) -> Result<(), JobError> {
        self.ask(Verb::Change, |_| match (asked, &self.copy_mode) {
            (BlockJobChangeOptionsBranch::Mirror(asked), Some(mode)) => {
                let (now, asked) = (mode.asked(), asked.copy_mode);
                if asked == MirrorCopyMode::Background && now != asked {
                    return Err(JobError::CopyMode(asked));
                }
                mode.ask(asked);
                Ok(())
            }
            _ => Err(JobError::NoChange { id: self.id.clone(), kind: self.kind }),
        })
    }

    /// Waits until it has ended, or is gone.
    pub async fn concluded(&self) {
        self.wait_until(|state| matches!(state.status, JobStatus::Concluded | JobStatus::Null)).await;
    }

    async fn wait_until(&self, done: impl Fn(&State) -> bool) {
        while let Some(listener) = self.listen_unless(&done) {
            listener.await;
        }
    }

    fn listen_unless(&self, done: impl Fn(&State) -> bool) -> Option<EventListener> {
        let state = self.state.lock();
        (!done(&state)).then(|| self.changed.listen())
    }

    // ---- for the work ----

    /// A pause point: waits while the job is paused. An error if it was cancelled.
    pub async fn pause_point(&self) -> Result<()> {
        while let Some(listener) = self.pause_or_go()? {
            listener.await;
        }
        Ok(())
    }

    fn pause_or_go(&self) -> Result<Option<EventListener>> {
        let mut state = self.state.lock();
        let cancelled = state.cancel == Cancel::Hard;
        let next = match (state.paused && !cancelled, state.status) {
            (true, JobStatus::Running) => Some(JobStatus::Paused),
            (true, JobStatus::Ready) => Some(JobStatus::Standby),
            (false, JobStatus::Paused) => Some(JobStatus::Running),
            (false, JobStatus::Standby) => Some(JobStatus::Ready),
            _ => None,
        };
        if let Some(next) = next {
            self.enter(&mut state, next);
        }
        let rests = matches!(state.status, JobStatus::Paused | JobStatus::Standby);
        state.busy = !rests;
        if cancelled {
            return Err(self::cancelled());
        }
        Ok(rests.then(|| self.changed.listen()))
    }

    /// Waits for so long, or until something is asked of the job.
    pub async fn idle(&self, time: Duration) {
        let listener = {
            let mut state = self.state.lock();
            state.busy = false;
            self.changed.listen()
        };
        if rt::timeout(time, listener).await.is_err() {
            tracing::trace!(job = %self.id, "nothing was asked for");
        }
        self.state.lock().busy = true;
    }

    /// It rests for a moment, which its clients are told.
    pub(crate) fn rest(&self) {
        let mut state = self.state.lock();
        if state.status == JobStatus::Running {
            self.enter(&mut state, JobStatus::Paused);
            self.enter(&mut state, JobStatus::Running);
        }
    }

    /// Source and target are in sync.
    pub fn ready(&self) {
        let mut state = self.state.lock();
        if state.status == JobStatus::Running {
            self.enter(&mut state, JobStatus::Ready);
            self.sink.tell(api::Event::BlockJobReady(BlockJobReady {
                r#type: self.kind,
                device: self.id.clone(),
                len: int(self.len.load(Relaxed)),
                offset: int(self.offset.load(Relaxed)),
                speed: int(self.speed.rate()),
            }));
        }
    }

    /// Whether a ready job was asked to complete or to end in place.
    pub fn shall_end(&self) -> bool {
        let state = self.state.lock();
        state.complete || state.cancel != Cancel::No
    }

    /// Whether it shall end in place, without switching over. An error if it was cancelled.
    pub fn ends_in_place(&self) -> Result<bool> {
        match self.state.lock().cancel {
            Cancel::No => Ok(false),
            Cancel::Soft => Ok(true),
            Cancel::Hard => Err(cancelled()),
        }
    }

    /// Whether it moves data between nodes: the `block-job-*` commands and the `BLOCK_JOB_*` events are of those jobs alone.
    pub fn is_block_job(&self) -> bool {
        !matches!(self.kind, JobType::Amend | JobType::Create)
    }

    /// Whether it works for whoever uses `node`.
    pub fn is_for(&self, node: &Arc<Node>) -> bool {
        let image = self.image.as_ref().and_then(Weak::upgrade);
        image.is_some_and(|image| same_image(node, &image))
    }

    /// What the entries of the job `id` are called, by which others know them.
    pub fn entry_label(id: &str) -> String {
        format!("job '{id}'")
    }

    /// Sets the total number of bytes.
    pub fn set_len(&self, bytes: u64) {
        self.len.store(bytes, Relaxed);
    }

    /// Sets how many bytes are left beside those done.
    pub fn set_remaining(&self, bytes: u64) {
        self.len.store(self.offset.load(Relaxed).saturating_add(bytes), Relaxed);
    }

    fn wait_ns(&self) -> u64 {
        let now = rt::now_ns();
        self.speed.wait_ns(now).max(self.retry_at_ns.load(Relaxed).saturating_sub(now))
    }

    /// How many of its requests have failed.
    pub fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    /// Decides what follows an error, tells of it, and stops the job if that is what follows.
    pub(crate) fn judge(&self, error: &BlockError, operation: IoOperationType) -> BlockErrorAction {
        self.failures.fetch_add(1, Relaxed);
        let mut state = self.state.lock();
        let can_stop = matches!(state.status, JobStatus::Running | JobStatus::Ready);
        let on_error = if operation == IoOperationType::Read { self.on_error } else { self.on_target_error };
        let action = match action(on_error, error) {
            BlockErrorAction::Stop if !can_stop => BlockErrorAction::Report,
            action => action,
        };
        tracing::warn!(job = %self.id, operation = operation.name(), ?error, action = action.name(), "a request failed");
        let device = self.id.clone();
        self.sink.tell(api::Event::BlockJobError(BlockJobError { device, operation, action }));
        if action == BlockErrorAction::Stop {
            let no_space = error.kind() == ErrorKind::NoSpace;
            state.io_status =
                if no_space { BlockDeviceIoStatus::Nospace } else { BlockDeviceIoStatus::Failed };
            state.paused = true;
        }
        action
    }

    // ---- driving ----

    /// Runs the work from its start to the job's end. The caller has reported its creation.
    pub(crate) async fn drive(self: Arc<Self>, work: Box<dyn Work>) {
        let result = self.work_through(work.as_ref()).await;
        self.state.lock().busy = false;
        if result.is_err() {
            self.enter(&mut self.state.lock(), JobStatus::Aborting);
            let others = self.group.members().into_iter().filter(|job| !Arc::ptr_eq(job, &self));
            others.for_each(|job| job.fall_with_the_group());
            work.abort().await;
        } else {
            work.commit().await;
        }
        // The result has taken effect or has not, whatever this returns: a job that moved its users and then could not close
        // the old node has not failed.
        if let Err(e) = work.end().await {
            tracing::warn!(job = %self.id, error = %e, "releasing the job's nodes failed");
        }
        drop(work);
        self.conclude(result);
    }

    /// Gives it up before it has started.
    pub(crate) fn give_up(&self) {
        self.enter(&mut self.state.lock(), JobStatus::Null);
    }

    /// Starts: from here on it runs.
    pub(crate) fn start(&self) {
        let mut state = self.state.lock();
        state.busy = true;
        self.enter(&mut state, JobStatus::Running);
    }

    async fn work_through(&self, work: &dyn Work) -> Result<()> {
        work.run(self).await?;
        self.pause_point().await?;
        {
            let mut state = self.state.lock();
            state.busy = false;
            self.enter(&mut state, JobStatus::Waiting);
        }
        self.reach(Step::Waiting).await;
        self.pause_point().await?;
        {
            let mut state = self.state.lock();
            state.busy = false;
            self.enter(&mut state, JobStatus::Pending);
            if !self.auto_finalize && self.is_block_job() {
                let pending = BlockJobPending { r#type: self.kind, id: self.id.clone() };
                self.sink.tell(api::Event::BlockJobPending(pending));
            }
        }
        let waits = self.group.waits_for_finalize();
        self.wait_until(|state| !waits || state.finalize || state.cancel == Cancel::Hard).await;
        self.pause_point().await?;
        self.state.lock().busy = true;
        work.prepare(self).await?;
        if self.reach(Step::Prepared).await {
            return Ok(());
        }
        self.pause_point().await
    }

    /// Waits until all jobs of the group have reached a step; `false` if a cancel ended the wait.
    async fn reach(&self, step: Step) -> bool {
        self.group.arrive(step);
        self.wait_until(|state| self.group.are_all_at(step) || state.cancel == Cancel::Hard).await;
        self.group.are_all_at(step)
    }

    fn conclude(&self, result: Result<()>) {
        let mut state = self.state.lock();
        let cancelled = matches!(&result, Err(e) if e.kind() == ErrorKind::Cancelled);
        let error = result.err().map(|e| match e.kind() {
            ErrorKind::Io | ErrorKind::NoSpace if self.is_block_job() => e.strerror(),
            ErrorKind::Cancelled => "Operation canceled".to_owned(),
            _ => e.message(),
        });
        state.error.clone_from(&error);
        let (r#type, device) = (self.kind, self.id.clone());
        let (len, offset) = (int(self.len.load(Relaxed)), int(self.offset.load(Relaxed)));
        let speed = int(self.speed.rate());
        let told = if cancelled {
            api::Event::BlockJobCancelled(BlockJobCancelled { r#type, device, len, offset, speed })
        } else {
            api::Event::BlockJobCompleted(BlockJobCompleted { r#type, device, len, offset, speed, error })
        };
        if self.is_block_job() {
            self.sink.tell(told);
        }
        self.enter(&mut state, JobStatus::Concluded);
        if self.auto_dismiss {
            self.enter(&mut state, JobStatus::Null);
        }
    }
}

fn cancelled() -> BlockError {
    BlockError::new(ErrorKind::Cancelled, "the job was cancelled")
}

/// Bytes as the schema counts them.
fn int(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

impl CopyControl for Job {
    fn on_hold(&self) -> bool {
        let asked = {
            let state = self.state.lock();
            state.paused || state.cancel == Cancel::Hard
        };
        asked || self.wait_ns() > 0
    }

    fn wait_to_start(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            loop {
                self.pause_point().await?;
                match self.wait_ns() {
                    0 => return Ok(()),
                    wait => self.idle(Duration::from_nanos(wait)).await,
                }
            }
        })
    }

    fn started(&self, bytes: u64) {
        self.speed.take(bytes, rt::now_ns());
    }

    fn progressed(&self, bytes: u64) {
        self.offset.fetch_add(bytes, Relaxed);
    }

    fn on_error<'a>(&'a self, error: &'a CopyError) -> BoxFuture<'a, AfterError> {
        let reading = error.side() == CopySide::Source;
        let operation = if reading { IoOperationType::Read } else { IoOperationType::Write };
        let verdict = match self.judge(&error.error, operation) {
            BlockErrorAction::Report => AfterError::Fail,
            BlockErrorAction::Ignore => {
                self.retry_at_ns.store(rt::now_ns() + RETRY_NS, Relaxed);
                AfterError::Retry
            }
            BlockErrorAction::Stop => AfterError::Retry,
        };
        Box::pin(std::future::ready(verdict))
    }
}
