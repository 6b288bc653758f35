//! Mirrors: of a node to another node, or to an image that is made for it, and what can be changed of one that runs.
use super::{failed, lookup, node_of_job};
use crate::control::Control;
use api::{
    BlockJobChangeOptions, BlockMirrorCommands, BlockdevMirrorArguments, BlockdevOnError, DriveMirror,
    MirrorCopyMode, MirrorSyncMode, NewImageMode, QmpError,
};
use block::{Common, DriverKind, DriverType, Grant, Identity, Node, Opt, Options, Policy, name_seen_from};
use jobs::{Backing, JobError, MirrorRequest};
use std::sync::Arc;

/// The target of a mirror is opened without its backing image: users who move there get the one that the job says.
const WITHOUT_BACKING: Policy = Policy { backing: Grant::Skip, ..Policy::FOLLOW };

impl BlockMirrorCommands for Control {
    async fn blockdev_mirror(&self, mut arguments: BlockdevMirrorArguments) -> Result<(), QmpError> {
        let graph = self.graph();
        let source = node_of_job(graph, &arguments.device, &mut arguments.job_id)?;
        graph.check_root(&source).map_err(failed)?;
        let target = lookup(graph, Some(&arguments.target), Some(&arguments.target))?;
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
            filter_node_name: arguments.filter_node_name,
            backing: Backing::Kept,
        };
        jobs::mirror(graph, self.jobs(), request, &target).await.map_err(failed)
    }

    async fn drive_mirror(&self, mut arguments: DriveMirror) -> Result<(), QmpError> {
        let graph = self.graph();
        let source = node_of_job(graph, &arguments.device, &mut arguments.job_id)?;
        graph.check_root(&source).map_err(failed)?;
        let mode = arguments.mode.unwrap_or(NewImageMode::AbsolutePaths);
        let request = MirrorRequest {
            id: arguments.job_id.unwrap_or_default(),
            source: source.clone(),
            replaces: arguments.replaces,
            sync: arguments.sync,
            speed: arguments.speed.unwrap_or(0),
            granularity: arguments.granularity.unwrap_or(0),
            buf_size: arguments.buf_size.unwrap_or(0),
            on_source_error: arguments.on_source_error.unwrap_or(BlockdevOnError::Report),
            on_target_error: arguments.on_target_error.unwrap_or(BlockdevOnError::Report),
            unmap: arguments.unmap.unwrap_or(true),
            copy_mode: arguments.copy_mode.unwrap_or(MirrorCopyMode::Background),
            auto_finalize: arguments.auto_finalize.unwrap_or(true),
            auto_dismiss: arguments.auto_dismiss.unwrap_or(true),
            target_is_zero: false,
            filter_node_name: None,
            backing: match mode {
                NewImageMode::AbsolutePaths => Backing::LeftOut,
                NewImageMode::Existing => Backing::OfHeader,
            },
        };
        // What can be refused is refused before a file is made.
        if request.replaces.is_some() && arguments.node_name.is_none() {
            let text = "a node-name must be provided when replacing a named node of the graph";
            return Err(QmpError::generic(text));
        }
        request.check(graph, self.jobs()).map_err(failed)?;
        if let Some(name) = &arguments.node_name {
            graph.check_free(name).map_err(failed)?;
        }
        self.not_in_use(&arguments.target).await?;
        let format = match (&arguments.format, mode) {
            (Some(format), _) => Some(self.known_format(format)?),
            (None, NewImageMode::AbsolutePaths) => Some(self.format_of(&source)),
            (None, NewImageMode::Existing) => None,
        };
        if let (Some(driver), NewImageMode::AbsolutePaths) = (format, mode) {
            let below = match arguments.sync {
                MirrorSyncMode::None => Some(source.clone()),
                MirrorSyncMode::Top => source.skip_filters().backing(),
                _ => None,
            };
            self.make_target(&arguments.target, driver, source.length(), below).await?;
        }
        let target = self.open_target(&source, &arguments.target, format, arguments.node_name).await?;
        // The first bytes of a new plain file are data to the file system.
        let is_plain =
            format.is_some_and(|new| Some(new.name) == graph.registry().fallback().map(|f| f.name));
        let is_new = mode == NewImageMode::AbsolutePaths;
        let target_is_zero = is_new && is_plain && matches!(target.identity(), Some(Identity::File { .. }));
        let request = MirrorRequest { target_is_zero, ..request };
        let started = jobs::mirror(graph, self.jobs(), request, &target).await.map_err(failed);
        // The job closes it at its end; if there is none, it may be open still.
        let is_open = graph.node(target.name()).is_some_and(|node| Arc::ptr_eq(&node, &target));
        if is_open && let Err(error) = graph.release(&target).await {
            tracing::warn!(node = target.name(), %error, "closing an unused target failed");
        }
        started
    }

    async fn block_job_change(&self, arguments: BlockJobChangeOptions) -> Result<(), QmpError> {
        let job = self.jobs().need_block_job(&arguments.id).map_err(|e| match e {
            JobError::NoBlockJob(id) => QmpError::job_not_found(&id),
            other => failed(other),
        })?;
        job.change(&arguments.branch).map_err(failed)
    }
}

impl Control {
    pub(super) fn known_format(&self, format: &str) -> Result<&'static DriverType, QmpError> {
        let unknown = |format: &str| format!("Unknown file format '{format}'");
        self.graph().registry().find_or(format, unknown).map_err(failed)
    }

    /// The format for a copy of a node: its own, but for a plain file that of plain files.
    pub(super) fn format_of(&self, node: &Arc<Node>) -> &'static DriverType {
        let own = node.skip_filters().driver_type();
        let plain = self.graph().registry().fallback().filter(|_| own.kind == DriverKind::Protocol);
        plain.unwrap_or(own)
    }

    /// Makes a new image, as an overlay of `below`.
    pub(super) async fn make_target(
        &self,
        file: &str,
        driver: &'static DriverType,
        size: u64,
        below: Option<Arc<Node>>,
    ) -> Result<(), QmpError> {
        let mut options = Options::new();
        if let Some(below) = below {
            self.overlay_driver(driver.name)?;
            options = options
                .with_str("backing_file", &name_seen_from(file, &below.exact_filename()))
                .with_str("backing_fmt", below.driver_name());
        }
        self.make_image(driver.name, file, size, options).await.map_err(failed)
    }

    /// Opens the image that a mirror writes to as its source is opened.
    async fn open_target(
        &self,
        source: &Arc<Node>,
        file: &str,
        format: Option<&'static DriverType>,
        name: Option<String>,
    ) -> Result<Arc<Node>, QmpError> {
        let mut options = self.graph().image_options(file, format.map(|f| f.name)).map_err(failed)?;
        if let Some(name) = name {
            options.set("node-name", Opt::Str(name));
        }
        let common = Common {
            read_only: false,
            auto_read_only: false,
            detect_zeroes: false,
            detect_zeroes_unmap: false,
            ..source.common()
        };
        self.graph().open_with(options, common, WITHOUT_BACKING).await.map_err(failed)
    }
}
