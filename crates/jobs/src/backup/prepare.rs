//! Beginning a backup: all that can be refused, then the filter in place, in one change of the graph.
use super::PARALLEL;
use super::check::{self, Perf, UsedBitmap};
use super::work::{Backup, Outcome};
use crate::group::Group;
use crate::job::Job;
use crate::register::{JobError, JobRequest, Jobs};
use crate::saved::Saved;
use api::{BlockdevBackup, BlockdevOnError, JobType, MirrorSyncMode, OnCbwError};
use block::{
    BackendRequest, BlockError, CopyAway, CopyZeroes, ErrorKind, Existing, Graph, GraphChange, Node,
    Operations, Opt, Options, Perms, PointInTime, Policy, Result, Share, Unallocated, WhenNotCopied,
};
use std::sync::Arc;

/// Why a backup did not start.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BackupError {
    /// The request or its nodes are refused.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// The job can't be made.
    #[error(transparent)]
    Job(#[from] JobError),
}

/// A backup that is in place and does not run yet.
#[must_use = "it is in place until it is started or given up"]
pub struct PreparedBackup {
    jobs: Jobs,
    job: Arc<Job>,
    work: Backup,
}

/// What a request means.
struct Arguments {
    id: String,
    speed: u64,
    bitmap: Option<UsedBitmap>,
    perf: Perf,
}

/// Refuses what can be refused before there is a target.
pub fn check_backup(jobs: &Jobs, request: &BlockdevBackup, source: &Arc<Node>) -> Result<(), BackupError> {
    judge(jobs, request, source).map(drop)
}

fn judge(jobs: &Jobs, request: &BlockdevBackup, source: &Arc<Node>) -> Result<Arguments, BackupError> {
    let bitmap = check::bitmap(request, source)?;
    let perf = check::perf(request.x_perf.as_ref(), PARALLEL)?;
    let id = request.job_id.clone().unwrap_or_default();
    let speed = jobs.check_speed(&id, request.speed.unwrap_or(0))?;
    source.check_operation(Operations::JOB)?;
    Ok(Arguments { id, speed, bitmap, perf })
}

/// Starts a backup of `source` into `target`. When it returns, the job runs.
pub async fn backup(
    graph: &Graph,
    jobs: &Jobs,
    request: BlockdevBackup,
    (source, target): (&Arc<Node>, &Arc<Node>),
) -> Result<(), BackupError> {
    let mut change = graph.change().await;
    let prepared = prepare_backup(graph, jobs, &mut change, request, (source, target), None).await;
    let placed = prepared.as_ref().map(drop).map_err(|error| error.clone().into_block());
    match (prepared, change.end(placed).await) {
        (Ok(prepared), Ok(())) => {
            prepared.start();
            Ok(())
        }
        (Ok(prepared), Err(error)) => {
            prepared.give_up().await;
            Err(error.into())
        }
        (Err(error), _) => Err(error),
    }
}

/// Puts a backup in place as a part of a change; closes the gates above the source. If the change fails later, it is to be
/// given up after its end.
pub async fn prepare_backup(
    graph: &Graph,
    jobs: &Jobs,
    change: &mut GraphChange,
    request: BlockdevBackup,
    (source, target): (&Arc<Node>, &Arc<Node>),
    group: Option<Group>,
) -> Result<PreparedBackup, BackupError> {
    check::nodes(&request, source, target)?;
    let Arguments { id, speed, bitmap, perf } = judge(jobs, &request, source)?;
    target.check_operation(Operations::JOB)?;
    let saved = match goes_on_later(&request) {
        true => Saved::begin(graph, jobs, (&id, JobType::Backup), (source, target)).await?,
        false => None,
    };
    let filter = open_filter(graph, &request, (source, target), perf).await?;
    let placed = place(graph, change, &request, (source, target), &filter, (&id, perf, bitmap, saved)).await;
    let made = match placed {
        Ok(work) => {
            let request = JobRequest {
                id,
                kind: JobType::Backup,
                speed,
                on_error: request.on_source_error.unwrap_or(BlockdevOnError::Report),
                auto_finalize: request.auto_finalize.unwrap_or(true),
                auto_dismiss: request.auto_dismiss.unwrap_or(true),
                group,
            };
            jobs.add(request, &work).map(|job| (job, work)).map_err(BackupError::from)
        }
        Err(error) => {
            jobs.refused(&id, &error);
            Err(error.into())
        }
    };
    match made {
        Ok((job, work)) => Ok(PreparedBackup { jobs: jobs.clone(), job, work }),
        Err(error) => {
            abandon_later(graph, filter);
            Err(error)
        }
    }
}

/// Whether the same backup can go on from what it has copied before it was cut off: everything that it is to copy must be in the
/// source still, and its bitmap too, which a crash takes.
fn goes_on_later(request: &BlockdevBackup) -> bool {
    matches!(request.sync, MirrorSyncMode::Full | MirrorSyncMode::Top)
        && request.bitmap.is_none()
        && request.discard_source != Some(true)
}

/// Closes a filter once the change that it was to be part of has been undone.
fn abandon_later(graph: &Graph, filter: Arc<Node>) {
    let graph = graph.clone();
    rt::spawn(async move {
        drop(graph.change().await);
        release(&graph, &filter).await;
    })
    .detach();
}

async fn release(graph: &Graph, filter: &Arc<Node>) {
    if let Err(error) = graph.release(filter).await {
        tracing::warn!(node = filter.name(), %error, "closing the filter of a backup failed");
    }
}

async fn open_filter(
    graph: &Graph,
    request: &BlockdevBackup,
    (source, target): (&Arc<Node>, &Arc<Node>),
    perf: Perf,
) -> Result<Arc<Node>> {
    let mut options = Options::new()
        .with_str("driver", "copy-before-write")
        .with_str("file", source.name())
        .with_str("target", target.name())
        .with_str("discard", "unmap")
        .with("read-only", Opt::Bool(source.read_only()));
    if let Some(name) = &request.filter_node_name {
        options.set("node-name", Opt::Str(name.clone()));
    }
    if let Some(cluster) = perf.cluster {
        options.set("min-cluster-size", Opt::Uint(cluster));
    }
    let filter = graph.open(options, Policy::ALONE).await.map_err(|e| e.context("Could not create node"))?;
    let cluster = filter.driver().point_in_time().map_or(0, |disk| disk.cluster());
    match perf.chunk.filter(|chunk| *chunk < cluster) {
        None => Ok(filter),
        Some(chunk) => {
            release(graph, &filter).await;
            let text = format!("Required max-chunk ({chunk}) is less than backup cluster size ({cluster})");
            Err(BlockError::invalid(text))
        }
    }
}

/// How zeroes are written: they are left out only where a whole disk is copied to what is an image by itself. An increment, or
/// an image that is open without the backing image that its header names, shows something else there when it is put together
/// with the others.
fn zeroes(sync: MirrorSyncMode, target: &Arc<Node>, disk: &PointInTime) -> CopyZeroes {
    let image = target.skip_filters();
    let alone = !image.driver_type().supports_backing;
    let whole = alone || image.backing().is_some() || image.driver().info().backing_filename.is_none();
    match sync {
        MirrorSyncMode::Full if whole && !disk.shows_through() => CopyZeroes::Needed,
        _ if !alone && !image.facts().can_write_zeroes => CopyZeroes::Data,
        _ => CopyZeroes::Write,
    }
}

/// The steps of the change.
async fn place(
    graph: &Graph,
    change: &mut GraphChange,
    request: &BlockdevBackup,
    (source, target): (&Arc<Node>, &Arc<Node>),
    filter: &Arc<Node>,
    (id, perf, used, saved): (&str, Perf, Option<UsedBitmap>, Option<Saved>),
) -> Result<Backup> {
    let none = || BlockError::unsupported("the filter of the backup keeps nothing");
    let disk = filter.driver().point_in_time().cloned().ok_or_else(none)?;
    let below = source.skip_filters().backing().filter(|_| request.sync == MirrorSyncMode::Top);
    // A target that holds some of the copy already may hold what the source has given up since.
    let goes_on = saved.as_ref().is_some_and(Saved::goes_on);
    let unallocated = if goes_on { Unallocated::Compared } else { Unallocated::Shown };
    let existing = below.map(|base| Existing { base: Some(base), unallocated, length: u64::MAX });
    let how = CopyAway {
        existing,
        zeroes: zeroes(request.sync, target, &disk),
        compress: request.compress.unwrap_or(false),
        discard_source: request.discard_source.unwrap_or(false),
    };
    let when_not_copied = match request.on_cbw_error.unwrap_or(OnCbwError::BreakGuestWrite) {
        OnCbwError::BreakGuestWrite => WhenNotCopied::FailTheWrite,
        OnCbwError::BreakSnapshot => WhenNotCopied::GiveUp,
    };
    disk.set_how(how, when_not_copied);
    change.quiesce(&[source.clone(), target.clone()]).await?;
    let mut bitmap = None;
    if let Some(UsedBitmap { bitmap: named, mode, selects }) = used {
        let split = named.split()?;
        if selects {
            disk.restrict(split.bits());
        }
        bitmap = Some((split, mode));
    }
    change.insert_filter(filter).await?;
    let entry = change.attach(BackendRequest {
        label: Job::entry_label(id),
        node: filter.clone(),
        perms: Perms { need: Share::READ, share: Share::ALL.without(Share::RESIZE) },
        pinned: true,
    })?;
    let holder = "block device is in use by block job: backup";
    // What the guest overwrites is copied away to the target as long as the job is there.
    let kept = Operations::CHANGE.with(Operations::LET_GO);
    let mut blockers = vec![filter.block(kept, holder), target.block(kept, holder)];
    if bitmap.is_some() {
        blockers.push(source.block(Operations::REOPEN, holder));
    }
    Ok(Backup {
        graph: graph.clone(),
        source: source.clone(),
        target: target.clone(),
        filter: filter.clone(),
        entry,
        disk,
        endless: request.sync == MirrorSyncMode::None,
        perf,
        saved,
        on_target_error: request.on_target_error.unwrap_or(BlockdevOnError::Report),
        outcome: Outcome::new(bitmap, blockers),
    })
}

impl PreparedBackup {
    /// Runs it. The change that it was part of has ended.
    pub fn start(self) {
        self.jobs.run(&self.job, Box::new(self.work));
    }

    /// Lets go of its nodes and its bitmap, in a change that has failed and is to be undone: it is to be given up then.
    pub fn let_go(&self) {
        self.work.outcome.forget();
    }

    /// The change that it was part of has failed, and put back what was moved.
    pub async fn give_up(self) {
        self.job.give_up();
        self.let_go();
        release(&self.work.graph, &self.work.filter).await;
    }
}

impl BackupError {
    /// As an error of the core, for a change that fails for it.
    pub fn into_block(self) -> BlockError {
        match self {
            Self::Block(error) => error,
            Self::Job(error) => BlockError::new(ErrorKind::Invalid, error.to_string()),
        }
    }
}
