//! x-blockdev-amend: a change of what an image is, by a job.
use super::failed;
use crate::control::Control;
use crate::options;
use api::{BlockAmendCommands, QmpError, XBlockdevAmendArguments};

impl BlockAmendCommands for Control {
    async fn x_blockdev_amend(&self, arguments: XBlockdevAmendArguments) -> Result<(), QmpError> {
        let XBlockdevAmendArguments { job_id, node_name, options: given, force } = arguments;
        let node = self.graph().need_node(&node_name).map_err(failed)?;
        let mut options = options::from_typed(&given).map_err(failed)?;
        let driver = options.take_str("driver").map_err(failed)?.unwrap_or_default();
        if driver != node.driver_name() {
            return Err(QmpError::generic("x-blockdev-amend doesn't support changing the block driver"));
        }
        let force = force.unwrap_or(false);
        jobs::amend(self.graph(), self.jobs(), job_id, &node_name, options, force).await.map_err(failed)
    }
}
