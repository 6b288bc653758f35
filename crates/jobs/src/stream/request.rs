//! The arguments of block-stream, and which nodes they mean.
use super::Stream;
use super::hold::Hold;
use crate::chain::{chain, find_backing, is_in_chain, named};
use crate::register::{JobError, JobRequest, Jobs};
use api::{BlockStreamArguments, BlockdevOnError, JobType};
use block::{BlockError, Graph, Node, Operations};
use std::sync::Arc;

/// Why a stream did not start.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StreamError {
    /// The request or its nodes are refused.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// The job can't be made.
    #[error(transparent)]
    Job(#[from] JobError),
}

/// Starts a stream into `top`, the node that `request.device` names. When it returns, the job runs.
pub async fn stream(
    graph: &Graph,
    jobs: &Jobs,
    top: &Arc<Node>,
    request: BlockStreamArguments,
) -> Result<(), StreamError> {
    let base = find_base(graph, top, &request).await?;
    let nodes = above(top, base.as_ref());
    nodes.iter().try_for_each(|node| node.check_operation(Operations::JOB))?;
    if base.is_none() && request.backing_file.is_some() {
        return Err(BlockError::invalid("backing file specified, but streaming the entire chain").into());
    }
    let image = top.skip_filters();
    if image.backing().is_some() && !image.facts().can_fill {
        let text = format!(
            "The driver '{}' can't take data from its backing image while it is in use",
            image.driver_name()
        );
        return Err(BlockError::unsupported(text).at_node(image.name()).into());
    }
    if let Some(name) = &request.filter_node_name {
        graph.check_free(name).map_err(|e| e.context("Could not create node"))?;
    }
    let id = request.job_id.unwrap_or_default();
    let speed = jobs.check_speed(&id, request.speed.unwrap_or(0))?;
    let lowest = nodes.last().unwrap_or(top);
    let hold = Hold::take(graph, &id, (top, lowest), request.filter_node_name).await;
    let hold = hold.inspect_err(|error| jobs.refused(&id, error))?;
    let work = Stream {
        hold,
        backing_file: request.backing_file,
        mask_protocol: request.backing_mask_protocol.unwrap_or(false),
    };
    let job = JobRequest {
        id,
        kind: JobType::Stream,
        speed,
        on_error: request.on_error.unwrap_or(BlockdevOnError::Report),
        auto_finalize: request.auto_finalize.unwrap_or(true),
        auto_dismiss: request.auto_dismiss.unwrap_or(true),
        group: None,
    };
    jobs.start(job, Box::new(work)).await?;
    Ok(())
}

/// The nodes from `top` down to the base, which is left out. The filter of a job that works at the base is the base's.
fn above(top: &Arc<Node>, base: Option<&Arc<Node>>) -> Vec<Arc<Node>> {
    let is_base = |node: &Arc<Node>| base.is_some_and(|base| Arc::ptr_eq(node, base));
    let mut nodes: Vec<_> = chain(top).into_iter().take_while(|node| !is_base(node)).collect();
    let of_a_job = |node: &mut Arc<Node>| {
        base.is_some() && node.filtered().is_some() && node.check_operation(Operations::JOB).is_err()
    };
    while nodes.pop_if(of_a_job).is_some() {}
    nodes
}

/// The node that is kept; `None`: none is.
async fn find_base(
    graph: &Graph,
    top: &Arc<Node>,
    request: &BlockStreamArguments,
) -> Result<Option<Arc<Node>>, BlockError> {
    let BlockStreamArguments { base, base_node, bottom, .. } = request;
    let both = |one, other| {
        let text = format!("'{one}' and '{other}' cannot be specified at the same time");
        Err(BlockError::invalid(text))
    };
    match (base, base_node, bottom) {
        (Some(_), Some(_), _) => both("base", "base-node"),
        (Some(_), _, Some(_)) => both("base", "bottom"),
        (_, Some(_), Some(_)) => both("bottom", "base-node"),
        (Some(file), ..) => find_backing(top, file).await.map(Some),
        (_, Some(name), _) => base_named(graph, top, name).map(Some),
        (.., Some(name)) => Ok(bottom_named(graph, top, name)?.next_in_chain()),
        (None, None, None) => Ok(None),
    }
}

fn base_named(graph: &Graph, top: &Arc<Node>, name: &str) -> Result<Arc<Node>, BlockError> {
    let base = named(graph, name)?;
    if Arc::ptr_eq(&base, top) || !is_in_chain(top, &base) {
        let text = format!("Node '{name}' is not a backing image of '{}'", top.name());
        return Err(BlockError::invalid(text));
    }
    if is_in_chain(&base, &top.skip_filters()) {
        let text = format!("'{name}' is not in the backing chain of '{}'", top.name());
        return Err(BlockError::invalid(text));
    }
    Ok(base)
}

fn bottom_named(graph: &Graph, top: &Arc<Node>, name: &str) -> Result<Arc<Node>, BlockError> {
    let bottom = named(graph, name)?;
    if bottom.filtered().is_some() {
        let text = format!("Node '{name}' is a filter, use a non-filter node as 'bottom'");
        return Err(BlockError::invalid(text));
    }
    if !is_in_chain(top, &bottom) {
        let text = format!("Node '{name}' is not in a chain starting from '{}'", top.name());
        return Err(BlockError::invalid(text));
    }
    Ok(bottom)
}
