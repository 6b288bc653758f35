//! The arguments of block-commit, and which nodes they mean.
//!
//! The device is looked up before anything else is checked: clients tell "no such device" from everything else by the
//! error's class.
use super::active;
use super::hold::Hold;
use super::intermediate::IntermediateCommit;
use crate::chain::{chain, find_backing, is_in_chain, named, same_image};
use crate::filter::{COMMIT_TOP, MIRROR_TOP};
use crate::register::{JobError, JobRequest, Jobs};
use crate::work::Work;
use api::{BlockCommitArguments, BlockdevOnError, JobType};
use block::{BlockError, ErrorKind, Graph, Node, Operations};
use std::sync::Arc;

/// Why a commit did not start.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// No node of this name; has an error class of its own.
    #[error("Device '{0}' not found")]
    NoDevice(String),
    /// The request or its nodes are refused.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// The job can't be made.
    #[error(transparent)]
    Job(#[from] JobError),
}

/// The nodes that a request means.
struct Layers {
    active: Arc<Node>,
    top: Arc<Node>,
    base: Arc<Node>,
}

/// Starts a commit. When it returns, the job runs.
pub async fn commit(graph: &Graph, jobs: &Jobs, request: BlockCommitArguments) -> Result<(), CommitError> {
    let layers = layers(graph, &request).await?;
    let is_active = same_image(&layers.top, &layers.active);
    if is_active && request.backing_file.is_some() {
        return Err(BlockError::invalid("'backing-file' specified, but 'top' is the active layer").into());
    }
    let id = request.job_id.clone().unwrap_or_default();
    let speed = jobs.check_speed(&id, request.speed.unwrap_or(0))?;
    if let Some(name) = &request.filter_node_name {
        graph.check_free(name)?;
    }
    let mut held = chain(&layers.top);
    if let Some(end) = held.iter().position(|n| Arc::ptr_eq(n, &layers.base)) {
        held.truncate(end + 1);
    }
    if !is_active {
        held.extend(above_top(&layers));
    }
    let filter = (if is_active { MIRROR_TOP } else { COMMIT_TOP }, request.filter_node_name.clone());
    let hold = Hold::take(graph, &id, held, (&layers.top, &layers.base), filter, !is_active).await;
    let hold = hold.inspect_err(|error| jobs.refused(&id, error))?;
    let committed = layers.top.images().take_while(|image| !same_image(image, &layers.base));
    graph.warn_of_snapshots(&committed.collect::<Vec<_>>());
    let work: Box<dyn Work> = if is_active {
        Box::new(active::begin(hold).await?)
    } else {
        Box::new(IntermediateCommit {
            hold,
            active: layers.active,
            backing_file: request.backing_file,
            mask_protocol: request.backing_mask_protocol.unwrap_or(false),
        })
    };
    let job = JobRequest {
        id,
        kind: JobType::Commit,
        speed,
        on_error: request.on_error.unwrap_or(BlockdevOnError::Report),
        auto_finalize: request.auto_finalize.unwrap_or(true),
        auto_dismiss: request.auto_dismiss.unwrap_or(true),
        group: None,
    };
    jobs.start(job, work).await?;
    Ok(())
}

/// Which nodes the request means, and whether they can be committed at all.
async fn layers(graph: &Graph, request: &BlockCommitArguments) -> Result<Layers, CommitError> {
    let active = graph.node(&request.device).ok_or_else(|| CommitError::NoDevice(request.device.clone()))?;
    // A job that works on it is a user of another kind than a device, or an export.
    if !graph.parents(&active).is_empty() || active.check_operation(Operations::JOB).is_err() {
        return Err(BlockError::invalid("Need a root block node").into());
    }
    let top = find_top(graph, &active, request).await?;
    let base = find_base(graph, &top, request).await?;
    if same_image(&top, &base) {
        return Err(BlockError::invalid("cannot commit an image into itself").into());
    }
    Ok(Layers { active, top, base })
}

async fn find_top(
    graph: &Graph,
    active: &Arc<Node>,
    request: &BlockCommitArguments,
) -> Result<Arc<Node>, BlockError> {
    match (&request.top_node, &request.top) {
        (Some(_), Some(_)) => Err(BlockError::invalid("'top-node' and 'top' are mutually exclusive")),
        (Some(name), None) => in_chain(graph, active, name),
        (None, Some(file)) if active.filename() == *file => Ok(active.clone()),
        (None, Some(file)) => find_backing(active, file)
            .await
            .map_err(|_| BlockError::new(ErrorKind::NotFound, format!("Top image file {file} not found"))),
        (None, None) => Ok(active.clone()),
    }
}

async fn find_base(
    graph: &Graph,
    top: &Arc<Node>,
    request: &BlockCommitArguments,
) -> Result<Arc<Node>, BlockError> {
    match (&request.base_node, &request.base) {
        (Some(_), Some(_)) => Err(BlockError::invalid("'base-node' and 'base' are mutually exclusive")),
        (Some(name), None) => in_chain(graph, top, name),
        (None, Some(file)) => find_backing(top, file).await,
        (None, None) => Ok(top.images().last().unwrap_or_else(|| top.clone())),
    }
}

/// The node of this name, which must be `top` or below it.
fn in_chain(graph: &Graph, top: &Arc<Node>, name: &str) -> Result<Arc<Node>, BlockError> {
    let node = named(graph, name)?;
    if !is_in_chain(top, &node) {
        return Err(BlockError::invalid(format!("'{name}' is not in this backing file chain")));
    }
    Ok(node)
}

/// The layer right above `top`, and the filters between them.
fn above_top(layers: &Layers) -> Vec<Arc<Node>> {
    let mut above: Vec<_> = chain(&layers.active);
    let end = above.iter().position(|n| Arc::ptr_eq(n, &layers.top)).unwrap_or(0);
    above.truncate(end);
    let overlay = above.iter().rposition(|n| n.filtered().is_none()).unwrap_or(0);
    above.split_off(overlay)
}
