//! Throttling of devices.
use super::failed;
use crate::control::Control;
use crate::throttle;
use api::{BlockIOThrottle, QmpError, ThrottleCommands};

impl ThrottleCommands for Control {
    async fn block_set_io_throttle(&self, arguments: BlockIOThrottle) -> Result<(), QmpError> {
        let (device, _) = self.one_device(arguments.device.as_deref(), arguments.id.as_deref())?;
        if device.medium().is_none() {
            return Err(QmpError::generic("Device has no medium"));
        }
        let limits = throttle::device_limits(&arguments);
        throttle::limit(self.graph(), &device, arguments.group.as_deref(), limits).map_err(failed)
    }
}
