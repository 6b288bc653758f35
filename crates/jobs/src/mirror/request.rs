//! The arguments of a mirror, and what they mean.
use super::engine::{Ends, Mirror, Settings, Start};
use super::hold::{MirrorHold, shown_by};
use crate::register::{JobError, JobRequest, Jobs};
use crate::saved::Saved;
use api::{BlockdevOnError, Enumeration, JobType, MirrorCopyMode, MirrorSyncMode};
use block::{
    BlockError, Common, CopyPlan, CopyZeroes, Endpoint, Graph, Node, Operations, Policy, resolve_filename,
};
use std::sync::Arc;

/// Least and most granularity, in bytes.
const GRANULARITIES: std::ops::RangeInclusive<u64> = 512..=64 << 20;

/// The granularity that the target's cluster size gives is within this, in bytes.
const DEFAULTS: (u64, u64) = (4096, 65536);

/// The buffer where none is asked for, in bytes.
const BUFFER: u64 = 16 << 20;

/// Bytes that a piece holds: as many as its unit has, within these.
const PIECES: (u64, u64) = (1 << 20, 10 << 20);

/// Most pieces in flight.
const MOST_PIECES: u64 = 16;

/// Why a mirror did not start.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MirrorError {
    /// The request or its nodes are refused.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// The job can't be made.
    #[error(transparent)]
    Job(#[from] JobError),
}

/// The backing node that the target gets when users move to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backing {
    /// The one that it has.
    Kept,
    /// What a copy of this kind leaves out: the backing node of the source, or the source itself.
    LeftOut,
    /// The one that its header names.
    OfHeader,
}

/// What a mirror is made from.
pub struct MirrorRequest {
    /// The job's name.
    pub id: String,
    /// The node that is copied.
    pub source: Arc<Node>,
    /// The node whose users move to the target, if that is not the source.
    pub replaces: Option<String>,
    /// What is copied at first.
    pub sync: MirrorSyncMode,
    /// Rate limit in bytes a second, 0 for none; may not be negative.
    pub speed: i64,
    /// Unit in bytes in which changes are tracked; 0 for what suits the target.
    pub granularity: u32,
    /// Most bytes in flight; 0 for what is usual.
    pub buf_size: i64,
    /// What is done when reading fails.
    pub on_source_error: BlockdevOnError,
    /// What is done when writing fails.
    pub on_target_error: BlockdevOnError,
    /// The target may give up space for zeroes.
    pub unmap: bool,
    /// When what is written reaches the target.
    pub copy_mode: MirrorCopyMode,
    /// Its result takes effect without `finalize`.
    pub auto_finalize: bool,
    /// It is dismissed by itself when it has ended.
    pub auto_dismiss: bool,
    /// The target reads as zeroes now.
    pub target_is_zero: bool,
    /// The name of the job's own node over the source.
    pub filter_node_name: Option<String>,
    /// What the target's backing node becomes.
    pub backing: Backing,
}

/// Refuses a unit in which changes can't be tracked; 0 stands for none.
fn check_granularity(granularity: u32) -> Result<(), BlockError> {
    let granularity = u64::from(granularity);
    if granularity != 0 && !GRANULARITIES.contains(&granularity) {
        return Err(BlockError::invalid("Parameter 'granularity' expects a value in range [512B, 64MB]"));
    }
    if granularity != 0 && !granularity.is_power_of_two() {
        return Err(BlockError::invalid("Parameter 'granularity' expects a power of 2"));
    }
    Ok(())
}

impl MirrorRequest {
    /// Refuses what is wrong with the request itself, before there is a target.
    pub fn check(&self, graph: &Graph, jobs: &Jobs) -> Result<(), MirrorError> {
        graph.check_root(&self.source)?;
        check_granularity(self.granularity)?;
        self.source.check_operation(Operations::JOB)?;
        if let Some(name) = &self.filter_node_name {
            graph.check_free(name)?;
        }
        if let Some(name) = &self.replaces {
            self.check_replaced(graph, name)?;
        }
        if matches!(self.sync, MirrorSyncMode::Incremental | MirrorSyncMode::Bitmap) {
            let text = format!("Sync mode '{}' not supported", self.sync.name());
            return Err(BlockError::invalid(text).into());
        }
        if self.buf_size < 0 {
            return Err(BlockError::invalid("Invalid parameter 'buf-size'").into());
        }
        jobs.check_speed(&self.id, self.speed)?;
        Ok(())
    }

    fn check_replaced(&self, graph: &Graph, name: &str) -> Result<(), BlockError> {
        if shown_by(graph, &self.source, name)?.is_some() {
            return Ok(());
        }
        Err(BlockError::invalid(format!(
            "Cannot replace '{name}' by a node mirrored from '{}', because it cannot be guaranteed that doing so \
             would not lead to an abrupt change of visible data",
            self.source.name()
        )))
    }

    fn settings(&self, ends: &Ends, saved: Option<Saved>) -> Settings {
        let has_base = self.source.skip_filters().backing().is_some();
        let goes_on = saved.as_ref().is_some_and(Saved::goes_on);
        let start = match (self.sync, has_base) {
            (MirrorSyncMode::None, _) => Start::Nothing,
            (MirrorSyncMode::Top, true) => Start::Top,
            // It holds some of the copy already.
            _ if self.target_is_zero && !goes_on => Start::Data,
            _ => Start::All,
        };
        let whole = matches!(start, Start::Data | Start::All);
        let target = ends.to.skip_filters();
        // What it shows between the chunks that are copied, it shows only when it has got its backing node.
        let bare = !whole && target.driver_type().supports_backing && target.backing().is_none();
        let (from, to) = (Endpoint::Entry(ends.source.clone()), Endpoint::Entry(ends.target.clone()));
        let zeroes = if bare { CopyZeroes::Write } else { CopyZeroes::Needed };
        let buffer = if self.buf_size == 0 { BUFFER } else { self.buf_size.unsigned_abs() };
        let granularity = self.granularity(target.facts().cluster_size, bare);
        let whole = CopyPlan::new(from, to);
        let piece = buffer.min(whole.piece);
        let notes = saved.as_ref().map(Saved::notes);
        let plan = CopyPlan { zeroes, unmap: self.unmap, piece, notes, ..whole };
        Settings {
            start,
            plan,
            granularity,
            parallel: (buffer / granularity.clamp(PIECES.0, PIECES.1)).clamp(1, MOST_PIECES) as usize,
            bare,
            same_size: true,
            on_target_error: Some(self.on_target_error),
            mode: Some(self.copy_mode),
            saved,
        }
    }

    /// The unit in which changes are tracked: whole clusters of a target that can't fill up a part of one from below yet.
    fn granularity(&self, cluster: Option<u64>, bare: bool) -> u64 {
        let asked = match u64::from(self.granularity) {
            0 => cluster.unwrap_or(DEFAULTS.1).clamp(DEFAULTS.0, DEFAULTS.1),
            asked => asked,
        };
        asked.max(cluster.filter(|_| bare).unwrap_or(0)).next_power_of_two()
    }
}

/// Starts a mirror. When it returns, the job runs.
pub async fn mirror(
    graph: &Graph,
    jobs: &Jobs,
    request: MirrorRequest,
    target: &Arc<Node>,
) -> Result<(), MirrorError> {
    request.check(graph, jobs)?;
    let source = &request.source;
    target.check_operation(Operations::JOB)?;
    if Arc::ptr_eq(source, target) {
        return Err(BlockError::invalid("Can't mirror node into itself").into());
    }
    if graph.is_below(source, target) {
        let text = format!(
            "'{}' is a part of '{}'; 'block-commit' writes what an image holds into one below it",
            target.name(),
            source.name()
        );
        return Err(BlockError::unsupported(text).into());
    }
    let saved = match request.sync {
        MirrorSyncMode::None => None,
        _ => Saved::begin(graph, jobs, (&request.id, JobType::Mirror), (source, target)).await?,
    };
    let end = (request.replaces.clone(), Below::of(&request));
    let name = request.filter_node_name.clone();
    let hold = MirrorHold::take(graph, &request.id, (source, target), end, (name, saved.is_some())).await;
    let hold = hold.inspect_err(|error| jobs.refused(&request.id, error))?;
    let settings = request.settings(hold.ends(), saved);
    let work = Box::new(Mirror::begin(hold, settings).await?);
    let job = JobRequest {
        speed: request.speed.unsigned_abs(),
        id: request.id,
        kind: JobType::Mirror,
        on_error: request.on_source_error,
        auto_finalize: request.auto_finalize,
        auto_dismiss: request.auto_dismiss,
        group: None,
    };
    jobs.start(job, work).await?;
    Ok(())
}

/// Where the target's backing node at the switch-over comes from.
pub(super) enum Below {
    Kept,
    Source,
    OfSource,
    OfHeader,
}

impl Below {
    fn of(request: &MirrorRequest) -> Self {
        match (request.backing, request.sync) {
            (Backing::LeftOut, MirrorSyncMode::None) => Self::Source,
            (Backing::LeftOut, MirrorSyncMode::Top) => Self::OfSource,
            (Backing::OfHeader, _) => Self::OfHeader,
            _ => Self::Kept,
        }
    }

    /// The node that the target gets, if it is another one than it has.
    pub(super) async fn node(&self, ends: &Ends) -> block::Result<Option<Arc<Node>>> {
        let target = ends.to.skip_filters();
        if !target.driver_type().supports_backing || target.backing().is_some() {
            return Ok(None);
        }
        match self {
            Self::Kept => Ok(None),
            Self::Source => Ok(Some(ends.from.clone())),
            Self::OfSource => Ok(ends.from.skip_filters().backing()),
            Self::OfHeader => named_by(&target, ends).await,
        }
    }
}

/// The image that the header of `target` names as its backing file: a node of the source's chain, or one that is opened now.
async fn named_by(target: &Arc<Node>, ends: &Ends) -> block::Result<Option<Arc<Node>>> {
    let info = target.driver().info();
    let Some(stored) = info.backing_filename else { return Ok(None) };
    let file = resolve_filename(&target.place(), &stored);
    if let Some(identity) = ends.graph.storage_of(&file).await {
        let mut layer = Some(ends.from.clone());
        while let Some(node) = layer {
            if node.stored_at(&identity) {
                return Ok(Some(node));
            }
            layer = node.skip_filters().backing();
        }
    }
    let common =
        Common { read_only: true, detect_zeroes: false, detect_zeroes_unmap: false, ..target.common() };
    ends.graph.open_image(&file, info.backing_format.as_deref(), common, Policy::FOLLOW).await.map(Some)
}
