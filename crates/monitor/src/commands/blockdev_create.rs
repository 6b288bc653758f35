//! blockdev-create: an image that is made by a job.
use super::failed;
use crate::control::Control;
use crate::options;
use api::{BlockdevCreateArguments, BlockdevCreateCommands, QmpError};

impl BlockdevCreateCommands for Control {
    async fn blockdev_create(&self, arguments: BlockdevCreateArguments) -> Result<(), QmpError> {
        let BlockdevCreateArguments { job_id, options: given } = arguments;
        let mut options = options::from_typed(&given).map_err(failed)?;
        let driver = options.take_str("driver").map_err(failed)?.unwrap_or_default();
        // Drivers of which the schema says nothing more make no images so.
        if options.is_empty() {
            return Err(QmpError::generic("Driver does not support blockdev-create"));
        }
        jobs::create(self.graph(), self.jobs(), job_id, driver, options).await.map_err(failed)
    }
}
