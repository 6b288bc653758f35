//! One job: its status, its progress, what its user asked of it, and how its work meets that.
//!
//! A verb only changes what is asked for; the job's own task changes the status at its next pause point. So a status
//! is never ahead of what the work really does.
use crate::event::{Figures, JobEvent, Sink};
use crate::register::JobError;
use crate::speed::Speed;
use crate::state::{Status, Verb};
use crate::work::Work;
use block::{BlockError, CopyError, ErrorKind, Pace, Result, Verdict};
use event_listener::{Event, EventListener, IntoNotification};
use parking_lot::Mutex;
use rt::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::time::Duration;

/// How long a job that ignores errors waits before it tries the same request again.
const RETRY_NS: u64 = 100_000_000;

/// What a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobKind {
    /// block-commit.
    Commit,
}

impl JobKind {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Commit => "commit",
        }
    }
}

/// What a job does when a request of it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// It fails.
    #[default]
    Report,
    /// It tries again.
    Ignore,
    /// It stops when there is no room, and fails otherwise.
    Enospc,
    /// It stops; resume tries again.
    Stop,
}

/// What came of [`OnError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The job fails.
    Report,
    /// The request is tried again.
    Ignore,
    /// The job is paused.
    Stop,
}

impl Action {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Ignore => "ignore",
            Self::Stop => "stop",
        }
    }
}

impl OnError {
    /// What to do about this error.
    pub fn action(self, error: &BlockError) -> Action {
        match self {
            Self::Report => Action::Report,
            Self::Ignore => Action::Ignore,
            Self::Enospc if error.kind() != ErrorKind::NoSpace => Action::Report,
            Self::Enospc | Self::Stop => Action::Stop,
        }
    }
}

/// Whether a job stopped for an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IoStatus {
    /// It did not.
    #[default]
    Ok,
    /// It did.
    Failed,
    /// It did, for want of room.
    NoSpace,
}

impl IoStatus {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::NoSpace => "nospace",
        }
    }
}

/// What queries tell of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSnapshot {
    /// Its name.
    pub id: String,
    /// What it is.
    pub kind: JobKind,
    /// Where it is.
    pub status: Status,
    /// Bytes done.
    pub offset: u64,
    /// Bytes to do, as known now.
    pub len: u64,
    /// Rate limit in bytes a second, 0 for none.
    pub speed: u64,
    /// Its work runs at this moment.
    pub busy: bool,
    /// A pause was asked for.
    pub paused: bool,
    /// Source and target are in step.
    pub ready: bool,
    /// Whether it stopped for an error.
    pub io_status: IoStatus,
    /// Its result takes effect without being asked for.
    pub auto_finalize: bool,
    /// It is forgotten without being asked to.
    pub auto_dismiss: bool,
    /// Why it failed.
    pub error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Cancel {
    No,
    /// End in place, without the switch that `complete` makes.
    Soft,
    Hard,
}

struct State {
    status: Status,
    paused: bool,
    cancel: Cancel,
    complete: bool,
    finalize: bool,
    busy: bool,
    io_status: IoStatus,
    error: Option<String>,
}

impl State {
    fn in_step(&self) -> bool {
        matches!(self.status, Status::Ready | Status::Standby)
    }
}

/// A job.
pub struct Job {
    id: String,
    kind: JobKind,
    on_error: OnError,
    auto_finalize: bool,
    auto_dismiss: bool,
    sink: Arc<dyn Sink>,
    state: Mutex<State>,
    /// Something was asked for, or the status changed.
    changed: Event,
    offset: AtomicU64,
    len: AtomicU64,
    speed: Speed,
    retry_at_ns: AtomicU64,
    failures: AtomicU64,
}

/// What a new job is told.
pub(crate) struct Orders {
    pub(crate) id: String,
    pub(crate) kind: JobKind,
    pub(crate) speed: u64,
    pub(crate) on_error: OnError,
    pub(crate) auto_finalize: bool,
    pub(crate) auto_dismiss: bool,
}

impl Job {
    pub(crate) fn new(orders: Orders, sink: Arc<dyn Sink>) -> Arc<Self> {
        let Orders { id, kind, speed, on_error, auto_finalize, auto_dismiss } = orders;
        let job = Self {
            id,
            kind,
            on_error,
            auto_finalize,
            auto_dismiss,
            sink,
            state: Mutex::new(State {
                status: Status::Undefined,
                paused: false,
                cancel: Cancel::No,
                complete: false,
                finalize: false,
                busy: false,
                io_status: IoStatus::Ok,
                error: None,
            }),
            changed: Event::new(),
            offset: AtomicU64::new(0),
            len: AtomicU64::new(0),
            speed: Speed::default(),
            retry_at_ns: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        };
        job.speed.set(speed, rt::now_ns());
        job.enter(&mut job.state.lock(), Status::Created);
        Arc::new(job)
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it is.
    pub fn status(&self) -> Status {
        self.state.lock().status
    }

    /// What queries tell of it.
    pub fn snapshot(&self) -> JobSnapshot {
        let state = self.state.lock();
        JobSnapshot {
            id: self.id.clone(),
            kind: self.kind,
            status: state.status,
            offset: self.offset.load(Relaxed),
            len: self.len.load(Relaxed),
            speed: self.speed.rate(),
            busy: state.busy,
            paused: state.paused,
            ready: state.in_step(),
            io_status: state.io_status,
            auto_finalize: self.auto_finalize,
            auto_dismiss: self.auto_dismiss,
            error: state.error.clone(),
        }
    }

    fn figures(&self) -> Figures {
        Figures {
            id: self.id.clone(),
            kind: self.kind.name(),
            len: self.len.load(Relaxed),
            offset: self.offset.load(Relaxed),
            speed: self.speed.rate(),
        }
    }

    /// Changes the status, if that is one of the changes allowed.
    fn enter(&self, state: &mut State, next: Status) {
        if !state.status.may_become(next) {
            tracing::error!(job = %self.id, from = %state.status, to = %next, "a job's status may not change so");
            return;
        }
        tracing::debug!(job = %self.id, from = %state.status, to = %next, "status");
        state.status = next;
        self.sink.tell(JobEvent::Status { id: self.id.clone(), status: next });
        self.changed.notify(usize::MAX.additional());
    }

    // ---- verbs ----

    /// Asks for something, if the present status accepts it.
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

    /// Lets it go on, and clears what it stopped for.
    pub fn resume(&self) -> Result<(), JobError> {
        if !self.state.lock().paused {
            return Err(JobError::NotPaused);
        }
        self.ask(Verb::Resume, |state| {
            state.io_status = IoStatus::Ok;
            state.paused = false;
            Ok(())
        })
    }

    /// Asks it to end. In the ready status a cancel without `force` ends it in place, in step but not switched over.
    pub fn cancel(&self, force: bool) -> Result<(), JobError> {
        self.ask(Verb::Cancel, |state| {
            if state.paused && !force {
                return Err(JobError::CurrentlyPaused(self.id.clone()));
            }
            let asked = if state.in_step() && !force { Cancel::Soft } else { Cancel::Hard };
            if asked > state.cancel {
                state.cancel = asked;
            }
            state.paused = false;
            Ok(())
        })
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

    /// Lets its result take effect.
    pub fn finalize(&self) -> Result<(), JobError> {
        self.ask(Verb::Finalize, |state| {
            if std::mem::replace(&mut state.finalize, true) {
                let (id, status, verb) = (self.id.clone(), state.status, Verb::Finalize);
                return Err(JobError::Verb { id, status, verb });
            }
            Ok(())
        })
    }

    /// Forgets it; the register takes it off its list.
    pub(crate) fn dismiss(&self) -> Result<(), JobError> {
        self.ask(Verb::Dismiss, |state| {
            self.enter(state, Status::Null);
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

    /// Waits until it has ended, or is gone.
    pub async fn concluded(&self) {
        self.wait_until(|state| matches!(state.status, Status::Concluded | Status::Null)).await;
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

    /// Takes a pause that was asked for, as long as it lasts. An error tells that the job was cancelled.
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
            (true, Status::Running) => Some(Status::Paused),
            (true, Status::Ready) => Some(Status::Standby),
            (false, Status::Paused) => Some(Status::Running),
            (false, Status::Standby) => Some(Status::Ready),
            _ => None,
        };
        if let Some(next) = next {
            self.enter(&mut state, next);
        }
        let rests = matches!(state.status, Status::Paused | Status::Standby);
        state.busy = !rests;
        if cancelled {
            return Err(BlockError::new(ErrorKind::Cancelled, "the job was cancelled"));
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

    /// Source and target are in step.
    pub fn ready(&self) {
        let mut state = self.state.lock();
        if state.status == Status::Running {
            self.enter(&mut state, Status::Ready);
            self.sink.tell(JobEvent::Ready(self.figures()));
        }
    }

    /// Whether a ready job was asked to end, one way or the other.
    pub fn shall_end(&self) -> bool {
        let state = self.state.lock();
        state.complete || state.cancel != Cancel::No
    }

    /// Whether it shall end in place, without switching over.
    pub fn ends_in_place(&self) -> bool {
        self.state.lock().cancel == Cancel::Soft
    }

    /// Tells how many bytes there are to do.
    pub fn set_len(&self, bytes: u64) {
        self.len.store(bytes, Relaxed);
    }

    /// Tells how many bytes are left to do beside those done.
    pub fn set_remaining(&self, bytes: u64) {
        self.len.store(self.offset.load(Relaxed).saturating_add(bytes), Relaxed);
    }

    fn wait_ns(&self) -> u64 {
        let now = rt::now_ns();
        self.speed.wait_ns(now).max(self.retry_at_ns.load(Relaxed).saturating_sub(now))
    }

    /// Requests of it that failed so far.
    pub fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    fn judge(&self, failure: &CopyError) -> Action {
        self.failures.fetch_add(1, Relaxed);
        let mut state = self.state.lock();
        let can_stop = matches!(state.status, Status::Running | Status::Ready);
        let action = match self.on_error.action(&failure.error) {
            Action::Stop if !can_stop => Action::Report,
            action => action,
        };
        tracing::warn!(job = %self.id, side = ?failure.side(), error = ?failure.error, action = action.name(), "a request failed");
        let (id, side) = (self.id.clone(), failure.side());
        self.sink.tell(JobEvent::Error { id, side, action: action.name() });
        match action {
            Action::Report => {}
            Action::Ignore => self.retry_at_ns.store(rt::now_ns() + RETRY_NS, Relaxed),
            Action::Stop => {
                let no_space = failure.error.kind() == ErrorKind::NoSpace;
                state.io_status = if no_space { IoStatus::NoSpace } else { IoStatus::Failed };
                state.paused = true;
            }
        }
        action
    }

    // ---- driving ----

    /// Runs the work from its start to the job's end. The caller has told everybody that it is created.
    pub(crate) async fn drive(self: Arc<Self>, work: Box<dyn Work>) {
        let result = self.work_through(work.as_ref()).await;
        self.state.lock().busy = false;
        if result.is_err() {
            self.enter(&mut self.state.lock(), Status::Aborting);
        }
        // Whatever this says, the result has taken effect or has not: a job that moved its users and then could not close
        // what they left must not be told as failed.
        if let Err(e) = work.end().await {
            tracing::warn!(job = %self.id, error = %e, "what the job held could not be given back without a fault");
        }
        drop(work);
        self.conclude(result);
    }

    /// Starts: from here on it is at work.
    pub(crate) fn start(&self) {
        let mut state = self.state.lock();
        state.busy = true;
        self.enter(&mut state, Status::Running);
    }

    async fn work_through(&self, work: &dyn Work) -> Result<()> {
        work.run(self).await?;
        self.pause_point().await?;
        {
            let mut state = self.state.lock();
            state.busy = false;
            self.enter(&mut state, Status::Waiting);
            self.enter(&mut state, Status::Pending);
            if !self.auto_finalize {
                self.sink.tell(JobEvent::Pending { id: self.id.clone(), kind: self.kind.name() });
            }
        }
        let goes_on = |state: &State| self.auto_finalize || state.finalize || state.cancel == Cancel::Hard;
        self.wait_until(goes_on).await;
        self.pause_point().await?;
        self.state.lock().busy = true;
        work.finish(self).await
    }

    fn conclude(&self, result: Result<()>) {
        let mut state = self.state.lock();
        let cancelled = matches!(&result, Err(e) if e.kind() == ErrorKind::Cancelled);
        let error = result.err().map(|e| match e.kind() {
            ErrorKind::Io | ErrorKind::NoSpace => e.strerror(),
            ErrorKind::Cancelled => "Operation canceled".to_owned(),
            _ => e.message().to_owned(),
        });
        state.error.clone_from(&error);
        let figures = self.figures();
        self.sink.tell(if cancelled {
            JobEvent::Cancelled(figures)
        } else {
            JobEvent::Completed { figures, error }
        });
        self.enter(&mut state, Status::Concluded);
        if self.auto_dismiss {
            self.enter(&mut state, Status::Null);
        }
    }
}

impl Pace for Job {
    fn rests(&self) -> bool {
        let asked = {
            let state = self.state.lock();
            state.paused || state.cancel == Cancel::Hard
        };
        asked || self.wait_ns() > 0
    }

    fn admit(&self) -> BoxFuture<'_, Result<()>> {
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

    fn starts(&self, bytes: u64) {
        self.speed.take(bytes, rt::now_ns());
    }

    fn done(&self, bytes: u64) {
        self.offset.fetch_add(bytes, Relaxed);
    }

    fn failed<'a>(&'a self, error: &'a CopyError) -> BoxFuture<'a, Verdict> {
        let verdict = match self.judge(error) {
            Action::Report => Verdict::Fail,
            Action::Ignore | Action::Stop => Verdict::Again,
        };
        Box::pin(std::future::ready(verdict))
    }
}
