//! Mirrors: of a node to another node, or to an image that is made for it, and what can be changed of one that runs.
use super::{failed, lookup};
use crate::control::Control;
use api::{
    BlockJobChangeOptions, BlockMirrorCommands, BlockdevMirrorArguments, BlockdevOnError, MirrorCopyMode,
    QmpError,
};
use jobs::{Backing, JobError, MirrorRequest};

impl BlockMirrorCommands for Control {
    async fn blockdev_mirror(&self, arguments: BlockdevMirrorArguments) -> Result<(), QmpError> {
        let graph = self.graph();
        let source = lookup(graph, Some(&arguments.device), Some(&arguments.device))?;
        let target = lookup(graph, Some(&arguments.target), Some(&arguments.target))?;
        if let Some(name) = &arguments.filter_node_name {
            graph.check_free(name).map_err(failed)?;
        }
        let request = MirrorRequest {
            id: arguments.job_id.unwrap_or_default(),
            source,
            replaces: arguments.replaces,
            sync: arguments.sync,
            speed: arguments.speed.unwrap_or(0),
            granularity: arguments.granularity.unwrap_or(0),
            buf_size: arguments.buf_size.unwrap_or(0),
            on_source_error: arguments.on_source_error.unwrap_or(BlockdevOnError::Report),
            on_target_error: arguments.on_target_error.unwrap_or(BlockdevOnError::Report),
            unmap: true,
            copy_mode: arguments.copy_mode.unwrap_or(MirrorCopyMode::Background),
            auto_finalize: arguments.auto_finalize.unwrap_or(true),
            auto_dismiss: arguments.auto_dismiss.unwrap_or(true),
            target_is_zero: arguments.target_is_zero.unwrap_or(false),
            backing: Backing::Kept,
        };
        jobs::mirror(graph, self.jobs(), request, &target).await.map_err(failed)
    }

    async fn block_job_change(&self, arguments: BlockJobChangeOptions) -> Result<(), QmpError> {
        let job = self.jobs().need_block_job(&arguments.id).map_err(|e| match e {
            JobError::NoBlockJob(id) => QmpError::job_not_found(&id),
            other => failed(other),
        })?;
        job.change(&arguments.branch).map_err(failed)
    }
}
