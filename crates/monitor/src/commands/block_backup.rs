//! Backups into nodes and into images.
//!
//! An image is made and opened before anybody is held back, and only when all that can be refused was looked at.
use super::{failed, lookup, node_of_job};
use crate::control::Control;
use api::{BlockBackupCommands, BlockdevBackup, DriveBackup, MirrorSyncMode, NewImageMode, QmpError};
use block::{Common, Discard, DriverType, Node, Opt, Policy};
use jobs::{backup, check_backup};
use std::sync::Arc;

impl BlockBackupCommands for Control {
    async fn drive_backup(&self, arguments: DriveBackup) -> Result<(), QmpError> {
        let (request, source, target) = self.image_for_backup(arguments).await?;
        let begun = backup(self.graph(), self.jobs(), request, (&source, &target)).await;
        self.release(&target).await;
        begun.map_err(failed)
    }

    async fn blockdev_backup(&self, mut arguments: BlockdevBackup) -> Result<(), QmpError> {
        let (source, target) = self.backup_nodes(&mut arguments)?;
        backup(self.graph(), self.jobs(), arguments, (&source, &target)).await.map_err(failed)
    }
}

impl Control {
    /// Source and target of a backup into a node.
    pub(super) fn backup_nodes(
        &self,
        request: &mut BlockdevBackup,
    ) -> Result<(Arc<Node>, Arc<Node>), QmpError> {
        let source = node_of_job(self.graph(), &request.device, &mut request.job_id)?;
        let target = lookup(self.graph(), Some(&request.target), Some(&request.target))?;
        Ok((source, target))
    }

    /// Makes the image of a backup, where it is to be made, and opens it: the backup into a node that this is then, with its
    /// nodes.
    pub(super) async fn image_for_backup(
        &self,
        arguments: DriveBackup,
    ) -> Result<(BlockdevBackup, Arc<Node>, Arc<Node>), QmpError> {
        let (mut request, file, format, mode) = into_node(arguments);
        let source = node_of_job(self.graph(), &request.device, &mut request.job_id)?;
        check_backup(self.jobs(), &request, &source).map_err(failed)?;
        let given = format.map(|format| self.known_format(&format)).transpose()?;
        let exists = mode == Some(NewImageMode::Existing);
        let driver = given.or_else(|| (!exists).then(|| self.format_of(&source)));
        if let Some(driver) = driver.filter(|d| request.compress == Some(true) && !d.supports_compression) {
            return Err(QmpError::generic(format!(
                "Compression is not supported for this drive {}",
                driver.name
            )));
        }
        if let Some(driver) = driver.filter(|_| !exists) {
            self.not_in_use(&file).await?;
            let below = match request.sync {
                MirrorSyncMode::Top => source.skip_filters().backing(),
                MirrorSyncMode::None => Some(source.clone()),
                _ => None,
            };
            let below = below.map(|below| below.skip_filters());
            self.make_target(&file, driver, source.length(), below).await?;
        }
        let target = self.open_backup_target(&request, &source, driver, &file).await?;
        Ok((request, source, target))
    }

    /// Opens the target as the source is opened, thin. One that only keeps what is overwritten shows the source where it holds
    /// nothing.
    async fn open_backup_target(
        &self,
        request: &BlockdevBackup,
        source: &Arc<Node>,
        driver: Option<&'static DriverType>,
        file: &str,
    ) -> Result<Arc<Node>, QmpError> {
        let common = Common {
            read_only: false,
            discard: Discard::Unmap,
            detect_zeroes: true,
            detect_zeroes_unmap: true,
            ..source.common()
        };
        let mut options =
            self.graph().image_options(file, driver.map(|driver| driver.name)).map_err(failed)?;
        if request.sync == MirrorSyncMode::None && driver.is_none_or(|driver| driver.supports_backing) {
            options.set("backing", Opt::Str(source.name().to_owned()));
        }
        self.graph().open_with(options, common, Policy::FOLLOW).await.map_err(failed)
    }
}

/// A backup into an image as one into a node, which has no name yet.
fn into_node(arguments: DriveBackup) -> (BlockdevBackup, String, Option<String>, Option<NewImageMode>) {
    let DriveBackup {
        job_id,
        device,
        sync,
        speed,
        bitmap,
        bitmap_mode,
        compress,
        on_source_error,
        on_target_error,
        on_cbw_error,
        auto_finalize,
        auto_dismiss,
        filter_node_name,
        discard_source,
        x_perf,
        target,
        format,
        mode,
    } = arguments;
    let request = BlockdevBackup {
        job_id,
        device,
        sync,
        speed,
        bitmap,
        bitmap_mode,
        compress,
        on_source_error,
        on_target_error,
        on_cbw_error,
        auto_finalize,
        auto_dismiss,
        filter_node_name,
        discard_source,
        x_perf,
        target: String::new(),
    };
    (request, target, format, mode)
}
