// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Types, handlers, dispatch and events of the schema.

#![allow(clippy::large_enum_variant, reason = "options are short-lived; boxing them helps nobody")]

mod common;
pub use common::*;
mod introspect;
pub use introspect::*;
mod crypto;
pub use crypto::*;
mod tls;
pub use tls::*;
mod authz;
pub use authz::*;
mod image_specific;
pub use image_specific::*;
mod image;
pub use image::*;
mod image_tool;
pub use image_tool::*;
mod image_content;
pub use image_content::*;
mod image_tree;
pub use image_tree::*;
mod image_hash;
pub use image_hash::*;
mod image_inspection;
pub use image_inspection::*;
mod crash_test;
pub use crash_test::*;
mod top;
pub use top::*;
mod tool_messages;
pub use tool_messages::*;
mod block_core;
pub use block_core::*;
mod block_nodes;
pub use block_nodes::*;
mod block_protocols;
pub use block_protocols::*;
mod block_several;
pub use block_several::*;
mod block_servers;
pub use block_servers::*;
mod block_web;
pub use block_web::*;
mod block_rbd;
pub use block_rbd::*;
mod block_formats;
pub use block_formats::*;
mod blkdebug;
pub use blkdebug::*;
mod filters;
pub use filters::*;
mod block_snapshot;
pub use block_snapshot::*;
mod block_dirty_bitmap;
pub use block_dirty_bitmap::*;
mod block_backup;
pub use block_backup::*;
mod transaction;
pub use transaction::*;
mod block_create;
pub use block_create::*;
mod block_query;
pub use block_query::*;
mod block_stats;
pub use block_stats::*;
mod block_graph;
pub use block_graph::*;
mod device;
pub use device::*;
mod throttle;
pub use throttle::*;
mod block_job;
pub use block_job::*;
mod block_mirror;
pub use block_mirror::*;
mod block_stream;
pub use block_stream::*;
mod blockdev_create_places;
pub use blockdev_create_places::*;
mod blockdev_create;
pub use blockdev_create::*;
mod block_amend;
pub use block_amend::*;
mod block_export;
pub use block_export::*;
mod machine;
pub use machine::*;
mod yank;
pub use yank::*;
mod migration_settings;
pub use migration_settings::*;
mod migration;
pub use migration::*;
mod block_activity;
pub use block_activity::*;
mod descriptors;
pub use descriptors::*;
mod qom;
pub use qom::*;
mod daemon;
pub use daemon::*;
mod events;
pub use events::*;

use crate::codec::{Encode, NoArguments, run, run_raw};
use crate::{Dict, QmpError, Value};

/// Every command, in the order of the schema.
pub const COMMANDS: &[&str] = &[
    "qmp_capabilities",
    "query-version",
    "query-commands",
    "query-qmp-schema",
    "quit",
    "blockdev-add",
    "blockdev-del",
    "blockdev-reopen",
    "block_passwd",
    "block_resize",
    "x-blockdev-change",
    "blockdev-snapshot-sync",
    "blockdev-snapshot",
    "blockdev-snapshot-internal-sync",
    "blockdev-snapshot-delete-internal-sync",
    "block-dirty-bitmap-add",
    "block-dirty-bitmap-remove",
    "block-dirty-bitmap-clear",
    "block-dirty-bitmap-enable",
    "block-dirty-bitmap-disable",
    "block-dirty-bitmap-merge",
    "x-debug-block-dirty-bitmap-sha256",
    "drive-backup",
    "blockdev-backup",
    "transaction",
    "query-named-block-nodes",
    "query-block",
    "query-blockstats",
    "block-set-write-threshold",
    "block-latency-histogram-set",
    "x-debug-query-block-graph",
    "eject",
    "blockdev-open-tray",
    "blockdev-close-tray",
    "blockdev-remove-medium",
    "blockdev-insert-medium",
    "blockdev-change-medium",
    "change",
    "block_set_io_throttle",
    "query-jobs",
    "job-pause",
    "job-resume",
    "job-cancel",
    "job-complete",
    "job-finalize",
    "job-dismiss",
    "query-block-jobs",
    "block-job-set-speed",
    "block-job-cancel",
    "block-job-pause",
    "block-job-resume",
    "block-job-complete",
    "block-job-finalize",
    "block-job-dismiss",
    "block-commit",
    "blockdev-mirror",
    "drive-mirror",
    "block-job-change",
    "block-stream",
    "change-backing-file",
    "blockdev-create",
    "x-blockdev-amend",
    "nbd-server-start",
    "nbd-server-stop",
    "block-export-add",
    "block-export-del",
    "nbd-server-add",
    "nbd-server-remove",
    "query-block-exports",
    "query-status",
    "stop",
    "cont",
    "device_add",
    "device_del",
    "system_reset",
    "human-monitor-command",
    "yank",
    "query-yank",
    "migrate-set-capabilities",
    "query-migrate-capabilities",
    "migrate-set-parameters",
    "query-migrate-parameters",
    "query-migrate",
    "migrate",
    "migrate-incoming",
    "migrate_cancel",
    "migrate-continue",
    "migrate-start-postcopy",
    "blockdev-set-active",
    "x-blockdev-set-iothread",
    "getfd",
    "closefd",
    "add-fd",
    "remove-fd",
    "query-fdsets",
    "object-add",
    "object-del",
    "qom-list",
    "qom-get",
    "qom-set",
    "qom-list-get",
    "qom-list-types",
    "qom-list-properties",
    "query-iothreads",
];

/// Those that can run while others are under way.
pub const OUT_OF_BAND: &[&str] = &["yank", "query-yank"];

/// The handlers of all sections.
pub trait Handlers:
    IntrospectCommands
    + BlockNodesCommands
    + BlockSnapshotCommands
    + BlockDirtyBitmapCommands
    + BlockBackupCommands
    + TransactionCommands
    + BlockQueryCommands
    + BlockStatsCommands
    + BlockGraphCommands
    + DeviceCommands
    + ThrottleCommands
    + BlockJobCommands
    + BlockMirrorCommands
    + BlockStreamCommands
    + BlockdevCreateCommands
    + BlockAmendCommands
    + BlockExportCommands
    + MachineCommands
    + YankCommands
    + MigrationSettingsCommands
    + MigrationCommands
    + BlockActivityCommands
    + DescriptorsCommands
    + QomCommands
{
}

impl<
    T: IntrospectCommands
        + BlockNodesCommands
        + BlockSnapshotCommands
        + BlockDirtyBitmapCommands
        + BlockBackupCommands
        + TransactionCommands
        + BlockQueryCommands
        + BlockStatsCommands
        + BlockGraphCommands
        + DeviceCommands
        + ThrottleCommands
        + BlockJobCommands
        + BlockMirrorCommands
        + BlockStreamCommands
        + BlockdevCreateCommands
        + BlockAmendCommands
        + BlockExportCommands
        + MachineCommands
        + YankCommands
        + MigrationSettingsCommands
        + MigrationCommands
        + BlockActivityCommands
        + DescriptorsCommands
        + QomCommands,
> Handlers for T
{
}

/// Runs a command: decodes its arguments, calls its handler, encodes the answer. `None`: success is not
/// answered.
pub async fn dispatch<H: Handlers>(
    handlers: &H,
    command: &str,
    arguments: Dict,
) -> Result<Option<Value>, QmpError> {
    match command {
        "qmp_capabilities" => run(arguments, crate::introspect::qmp_capabilities).await,
        "query-version" => run(arguments, |NoArguments {}| crate::introspect::query_version()).await,
        "query-commands" => run(arguments, |NoArguments {}| crate::introspect::query_commands()).await,
        "query-qmp-schema" => run_raw(arguments, crate::introspect::query_qmp_schema).await,
        "quit" => run(arguments, |NoArguments {}| handlers.quit()).await,
        "blockdev-add" => run(arguments, |a| handlers.blockdev_add(a)).await,
        "blockdev-del" => run(arguments, |a| handlers.blockdev_del(a)).await,
        "blockdev-reopen" => run(arguments, |a| handlers.blockdev_reopen(a)).await,
        "block_passwd" => run(arguments, |a| handlers.block_passwd(a)).await,
        "block_resize" => run(arguments, |a| handlers.block_resize(a)).await,
        "x-blockdev-change" => run(arguments, |a| handlers.x_blockdev_change(a)).await,
        "blockdev-snapshot-sync" => run(arguments, |a| handlers.blockdev_snapshot_sync(a)).await,
        "blockdev-snapshot" => run(arguments, |a| handlers.blockdev_snapshot(a)).await,
        "blockdev-snapshot-internal-sync" => {
            run(arguments, |a| handlers.blockdev_snapshot_internal_sync(a)).await
        }
        "blockdev-snapshot-delete-internal-sync" => {
            run(arguments, |a| handlers.blockdev_snapshot_delete_internal_sync(a)).await
        }
        "block-dirty-bitmap-add" => run(arguments, |a| handlers.block_dirty_bitmap_add(a)).await,
        "block-dirty-bitmap-remove" => run(arguments, |a| handlers.block_dirty_bitmap_remove(a)).await,
        "block-dirty-bitmap-clear" => run(arguments, |a| handlers.block_dirty_bitmap_clear(a)).await,
        "block-dirty-bitmap-enable" => run(arguments, |a| handlers.block_dirty_bitmap_enable(a)).await,
        "block-dirty-bitmap-disable" => run(arguments, |a| handlers.block_dirty_bitmap_disable(a)).await,
        "block-dirty-bitmap-merge" => run(arguments, |a| handlers.block_dirty_bitmap_merge(a)).await,
        "x-debug-block-dirty-bitmap-sha256" => {
            run(arguments, |a| handlers.x_debug_block_dirty_bitmap_sha256(a)).await
        }
        "drive-backup" => run(arguments, |a| handlers.drive_backup(a)).await,
        "blockdev-backup" => run(arguments, |a| handlers.blockdev_backup(a)).await,
        "transaction" => run(arguments, |a| handlers.transaction(a)).await,
        "query-named-block-nodes" => run(arguments, |a| handlers.query_named_block_nodes(a)).await,
        "query-block" => run(arguments, |NoArguments {}| handlers.query_block()).await,
        "query-blockstats" => run(arguments, |a| handlers.query_blockstats(a)).await,
        "block-set-write-threshold" => run(arguments, |a| handlers.block_set_write_threshold(a)).await,
        "block-latency-histogram-set" => run(arguments, |a| handlers.block_latency_histogram_set(a)).await,
        "x-debug-query-block-graph" => {
            run(arguments, |NoArguments {}| handlers.x_debug_query_block_graph()).await
        }
        "eject" => run(arguments, |a| handlers.eject(a)).await,
        "blockdev-open-tray" => run(arguments, |a| handlers.blockdev_open_tray(a)).await,
        "blockdev-close-tray" => run(arguments, |a| handlers.blockdev_close_tray(a)).await,
        "blockdev-remove-medium" => run(arguments, |a| handlers.blockdev_remove_medium(a)).await,
        "blockdev-insert-medium" => run(arguments, |a| handlers.blockdev_insert_medium(a)).await,
        "blockdev-change-medium" => run(arguments, |a| handlers.blockdev_change_medium(a)).await,
        "change" => run(arguments, |a| handlers.change(a)).await,
        "block_set_io_throttle" => run(arguments, |a| handlers.block_set_io_throttle(a)).await,
        "query-jobs" => run(arguments, |NoArguments {}| handlers.query_jobs()).await,
        "job-pause" => run(arguments, |a| handlers.job_pause(a)).await,
        "job-resume" => run(arguments, |a| handlers.job_resume(a)).await,
        "job-cancel" => run(arguments, |a| handlers.job_cancel(a)).await,
        "job-complete" => run(arguments, |a| handlers.job_complete(a)).await,
        "job-finalize" => run(arguments, |a| handlers.job_finalize(a)).await,
        "job-dismiss" => run(arguments, |a| handlers.job_dismiss(a)).await,
        "query-block-jobs" => run(arguments, |NoArguments {}| handlers.query_block_jobs()).await,
        "block-job-set-speed" => run(arguments, |a| handlers.block_job_set_speed(a)).await,
        "block-job-cancel" => run(arguments, |a| handlers.block_job_cancel(a)).await,
        "block-job-pause" => run(arguments, |a| handlers.block_job_pause(a)).await,
        "block-job-resume" => run(arguments, |a| handlers.block_job_resume(a)).await,
        "block-job-complete" => run(arguments, |a| handlers.block_job_complete(a)).await,
        "block-job-finalize" => run(arguments, |a| handlers.block_job_finalize(a)).await,
        "block-job-dismiss" => run(arguments, |a| handlers.block_job_dismiss(a)).await,
        "block-commit" => run(arguments, |a| handlers.block_commit(a)).await,
        "blockdev-mirror" => run(arguments, |a| handlers.blockdev_mirror(a)).await,
        "drive-mirror" => run(arguments, |a| handlers.drive_mirror(a)).await,
        "block-job-change" => run(arguments, |a| handlers.block_job_change(a)).await,
        "block-stream" => run(arguments, |a| handlers.block_stream(a)).await,
        "change-backing-file" => run(arguments, |a| handlers.change_backing_file(a)).await,
        "blockdev-create" => run(arguments, |a| handlers.blockdev_create(a)).await,
        "x-blockdev-amend" => run(arguments, |a| handlers.x_blockdev_amend(a)).await,
        "nbd-server-start" => run(arguments, |a| handlers.nbd_server_start(a)).await,
        "nbd-server-stop" => run(arguments, |NoArguments {}| handlers.nbd_server_stop()).await,
        "block-export-add" => run(arguments, |a| handlers.block_export_add(a)).await,
        "block-export-del" => run(arguments, |a| handlers.block_export_del(a)).await,
        "nbd-server-add" => run(arguments, |a| handlers.nbd_server_add(a)).await,
        "nbd-server-remove" => run(arguments, |a| handlers.nbd_server_remove(a)).await,
        "query-block-exports" => run(arguments, |NoArguments {}| handlers.query_block_exports()).await,
        "query-status" => run(arguments, |NoArguments {}| handlers.query_status()).await,
        "stop" => run(arguments, |NoArguments {}| handlers.stop()).await,
        "cont" => run(arguments, |NoArguments {}| handlers.cont()).await,
        "device_add" => run_raw(arguments, |a| handlers.device_add(a)).await,
        "device_del" => run(arguments, |a| handlers.device_del(a)).await,
        "system_reset" => run(arguments, |NoArguments {}| handlers.system_reset()).await,
        "human-monitor-command" => run(arguments, |a| handlers.human_monitor_command(a)).await,
        "yank" => run(arguments, |a| handlers.yank(a)).await,
        "query-yank" => run(arguments, |NoArguments {}| handlers.query_yank()).await,
        "migrate-set-capabilities" => run(arguments, |a| handlers.migrate_set_capabilities(a)).await,
        "query-migrate-capabilities" => {
            run(arguments, |NoArguments {}| handlers.query_migrate_capabilities()).await
        }
        "migrate-set-parameters" => run(arguments, |a| handlers.migrate_set_parameters(a)).await,
        "query-migrate-parameters" => {
            run(arguments, |NoArguments {}| handlers.query_migrate_parameters()).await
        }
        "query-migrate" => run(arguments, |NoArguments {}| handlers.query_migrate()).await,
        "migrate" => run(arguments, |a| handlers.migrate(a)).await,
        "migrate-incoming" => run(arguments, |a| handlers.migrate_incoming(a)).await,
        "migrate_cancel" => run(arguments, |NoArguments {}| handlers.migrate_cancel()).await,
        "migrate-continue" => run(arguments, |a| handlers.migrate_continue(a)).await,
        "migrate-start-postcopy" => run(arguments, |NoArguments {}| handlers.migrate_start_postcopy()).await,
        "blockdev-set-active" => run(arguments, |a| handlers.blockdev_set_active(a)).await,
        "x-blockdev-set-iothread" => run(arguments, |a| handlers.x_blockdev_set_iothread(a)).await,
        "getfd" => run(arguments, |a| handlers.getfd(a)).await,
        "closefd" => run(arguments, |a| handlers.closefd(a)).await,
        "add-fd" => run(arguments, |a| handlers.add_fd(a)).await,
        "remove-fd" => run(arguments, |a| handlers.remove_fd(a)).await,
        "query-fdsets" => run(arguments, |NoArguments {}| handlers.query_fdsets()).await,
        "object-add" => run(arguments, |a| handlers.object_add(a)).await,
        "object-del" => run(arguments, |a| handlers.object_del(a)).await,
        "qom-list" => run(arguments, |a| handlers.qom_list(a)).await,
        "qom-get" => run(arguments, |a| handlers.qom_get(a)).await,
        "qom-set" => run(arguments, |a| handlers.qom_set(a)).await,
        "qom-list-get" => run(arguments, |a| handlers.qom_list_get(a)).await,
        "qom-list-types" => run(arguments, |a| handlers.qom_list_types(a)).await,
        "qom-list-properties" => run(arguments, |a| handlers.qom_list_properties(a)).await,
        "query-iothreads" => run(arguments, |NoArguments {}| handlers.query_iothreads()).await,
        _ => Err(QmpError::command_not_found(command)),
    }
}

/// Any event.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The tray of a device has moved.
    DeviceTrayMoved(DeviceTrayMoved),
    /// The machine was stopped.
    Stop,
    /// The machine runs.
    Resume,
    /// A guest's device is gone.
    DeviceDeleted(DeviceDeleted),
    /// The machine ends.
    Shutdown(Shutdown),
    /// The machine was reset.
    Reset(Reset),
    /// A hand-over has moved on; told if the capability events is on.
    Migration(Migration),
    /// A pass over what changes has begun; told if the capability events is on.
    MigrationPass(MigrationPass),
    /// A job has moved on.
    JobStatusChange(JobStatusChange),
    /// A block job has ended, well or with an error.
    BlockJobCompleted(BlockJobCompleted),
    /// A block job has been cancelled.
    BlockJobCancelled(BlockJobCancelled),
    /// A block job has met an I/O error.
    BlockJobError(BlockJobError),
    /// A block job can be completed.
    BlockJobReady(BlockJobReady),
    /// A block job waits to be finalized.
    BlockJobPending(BlockJobPending),
    /// An export is gone.
    BlockExportDeleted(BlockExportDeleted),
    /// A request of a device or export has failed.
    BlockIoError(BlockIoError),
    /// An image is damaged.
    BlockImageCorrupted(BlockImageCorrupted),
    /// A write went beyond the threshold of a node, which is none from now on.
    BlockWriteThreshold(BlockWriteThreshold),
    /// Too few children of a quorum agree: a request has failed. At most one in a second.
    QuorumFailure(QuorumFailure),
    /// A child of a quorum has failed, or was outvoted. At most one in a second for each child.
    QuorumReportBad(QuorumReportBad),
}

impl Event {
    /// Its name on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Self::DeviceTrayMoved(_) => "DEVICE_TRAY_MOVED",
            Self::Stop => "STOP",
            Self::Resume => "RESUME",
            Self::DeviceDeleted(_) => "DEVICE_DELETED",
            Self::Shutdown(_) => "SHUTDOWN",
            Self::Reset(_) => "RESET",
            Self::Migration(_) => "MIGRATION",
            Self::MigrationPass(_) => "MIGRATION_PASS",
            Self::JobStatusChange(_) => "JOB_STATUS_CHANGE",
            Self::BlockJobCompleted(_) => "BLOCK_JOB_COMPLETED",
            Self::BlockJobCancelled(_) => "BLOCK_JOB_CANCELLED",
            Self::BlockJobError(_) => "BLOCK_JOB_ERROR",
            Self::BlockJobReady(_) => "BLOCK_JOB_READY",
            Self::BlockJobPending(_) => "BLOCK_JOB_PENDING",
            Self::BlockExportDeleted(_) => "BLOCK_EXPORT_DELETED",
            Self::BlockIoError(_) => "BLOCK_IO_ERROR",
            Self::BlockImageCorrupted(_) => "BLOCK_IMAGE_CORRUPTED",
            Self::BlockWriteThreshold(_) => "BLOCK_WRITE_THRESHOLD",
            Self::QuorumFailure(_) => "QUORUM_FAILURE",
            Self::QuorumReportBad(_) => "QUORUM_REPORT_BAD",
        }
    }

    /// Its data, if it carries any.
    pub fn data(&self) -> Option<Value> {
        match self {
            Self::DeviceTrayMoved(data) => Some(data.encode()),
            Self::Stop => None,
            Self::Resume => None,
            Self::DeviceDeleted(data) => Some(data.encode()),
            Self::Shutdown(data) => Some(data.encode()),
            Self::Reset(data) => Some(data.encode()),
            Self::Migration(data) => Some(data.encode()),
            Self::MigrationPass(data) => Some(data.encode()),
            Self::JobStatusChange(data) => Some(data.encode()),
            Self::BlockJobCompleted(data) => Some(data.encode()),
            Self::BlockJobCancelled(data) => Some(data.encode()),
            Self::BlockJobError(data) => Some(data.encode()),
            Self::BlockJobReady(data) => Some(data.encode()),
            Self::BlockJobPending(data) => Some(data.encode()),
            Self::BlockExportDeleted(data) => Some(data.encode()),
            Self::BlockIoError(data) => Some(data.encode()),
            Self::BlockImageCorrupted(data) => Some(data.encode()),
            Self::BlockWriteThreshold(data) => Some(data.encode()),
            Self::QuorumFailure(data) => Some(data.encode()),
            Self::QuorumReportBad(data) => Some(data.encode()),
        }
    }
}

/// The answer of `query-qmp-schema`, as JSON text.
pub const INTROSPECTION: &str = include_str!("introspection.json");
