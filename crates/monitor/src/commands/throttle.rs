//! Throttling of devices.
use super::{failed, find_device};
use crate::control::Control;
use crate::throttle;
use api::{BlockIOThrottle, QmpError, ThrottleCommands};

impl ThrottleCommands for Control {
    async fn block_set_io_throttle(&self, arguments: BlockIOThrottle) -> Result<(), QmpError> {
        let (name, id) = (arguments.device.as_deref(), arguments.id.as_deref());
        let device = find_device(self.graph(), name, id)?;
        if device.medium().is_none() {
            return Err(QmpError::generic("Device has no medium"));
        }
        let limits = throttle::device_limits(&arguments);
        throttle::limit(self.graph().objects(), &device, arguments.group.as_deref(), limits).map_err(failed)
    }
}
