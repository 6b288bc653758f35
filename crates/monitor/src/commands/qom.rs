//! User objects.
use crate::control::Control;
use api::{ObjectDelArguments, ObjectOptions, QmpError, QomCommands};

impl QomCommands for Control {
    async fn object_add(&self, arguments: ObjectOptions) -> Result<(), QmpError> {
        self.objects().add(arguments).await
    }

    async fn object_del(&self, arguments: ObjectDelArguments) -> Result<(), QmpError> {
        self.objects().remove(&arguments.id)
    }
}
