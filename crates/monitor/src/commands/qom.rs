//! User objects.
use super::failed;
use crate::control::Control;
use crate::objects;
use api::{ObjectDelArguments, ObjectOptions, QmpError, QomCommands};

impl QomCommands for Control {
    async fn object_add(&self, arguments: ObjectOptions) -> Result<(), QmpError> {
        objects::add(self.graph().objects(), arguments).await
    }

    async fn object_del(&self, arguments: ObjectDelArguments) -> Result<(), QmpError> {
        self.graph().objects().remove(&arguments.id).map_err(failed)
    }
}
