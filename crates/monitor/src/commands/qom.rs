//! User objects, and their properties.
use super::failed;
use crate::control::Control;
use crate::objects;
use crate::qom::{self, Property};
use api::{
    IOThreadInfo, ObjectDelArguments, ObjectOptions, ObjectPropertiesValues, ObjectPropertyInfo,
    ObjectPropertyValue, ObjectTypeInfo, QmpError, QomCommands, QomGetArguments, QomListArguments,
    QomListGetArguments, QomListPropertiesArguments, QomListTypesArguments, QomSetArguments, Value,
};
use block::Device;
use std::sync::Arc;

impl QomCommands for Control {
    async fn object_add(&self, arguments: ObjectOptions) -> Result<(), QmpError> {
        objects::add(self.graph().objects(), arguments).await
    }

    async fn object_del(&self, arguments: ObjectDelArguments) -> Result<(), QmpError> {
        self.graph().objects().remove(&arguments.id).map_err(failed)
    }

    async fn qom_list(&self, arguments: QomListArguments) -> Result<Vec<ObjectPropertyInfo>, QmpError> {
        let all = qom::properties(self.graph().objects(), &arguments.path)?;
        Ok(all.into_iter().map(info).collect())
    }

    async fn qom_get(&self, arguments: QomGetArguments) -> Result<Value, QmpError> {
        if let Some(device) = self.drive_of(&arguments.path, &arguments.property) {
            let node = device.node().map(|node| node.name().to_owned());
            let name =
                if device.name().is_empty() { node.unwrap_or_default() } else { device.name().to_owned() };
            return Ok(Value::String(name));
        }
        qom::get(self.graph().objects(), &arguments.path, &arguments.property)
    }

    async fn qom_set(&self, arguments: QomSetArguments) -> Result<(), QmpError> {
        let QomSetArguments { path, property, value } = arguments;
        if let Some(device) = self.drive_of(&path, &property) {
            let name = value.as_str().unwrap_or_default();
            let cannot = || QmpError::generic(format!("Property 'drive' can't find value '{name}'"));
            let node = self.graph().node(name).ok_or_else(cannot)?;
            return self.graph().change_node(&device, &node).await.map_err(failed);
        }
        qom::set(self.graph().objects(), &path, &property, value)
    }

    async fn qom_list_get(
        &self,
        arguments: QomListGetArguments,
    ) -> Result<Vec<ObjectPropertiesValues>, QmpError> {
        let value =
            |Property { name, kind, value }: Property| ObjectPropertyValue { name, r#type: kind, value };
        let of = |path: &String| {
            let all = qom::properties(self.graph().objects(), path)?;
            Ok(ObjectPropertiesValues { properties: all.into_iter().map(value).collect() })
        };
        arguments.paths.iter().map(of).collect()
    }

    async fn qom_list_types(
        &self,
        arguments: QomListTypesArguments,
    ) -> Result<Vec<ObjectTypeInfo>, QmpError> {
        let wanted = arguments.implements.as_deref().unwrap_or("object");
        let of = |(name, parent): &(&str, &str)| {
            let derived = wanted == "object" || wanted == *name || wanted == *parent;
            derived.then(|| ObjectTypeInfo {
                name: (*name).to_owned(),
                r#abstract: None,
                parent: Some((*parent).to_owned()),
            })
        };
        Ok(qom::TYPES.iter().filter_map(of).collect())
    }

    async fn qom_list_properties(
        &self,
        arguments: QomListPropertiesArguments,
    ) -> Result<Vec<ObjectPropertyInfo>, QmpError> {
        if qom::TYPES.iter().all(|(name, _)| *name != arguments.typename) {
            let text = format!("Class '{}' not found", arguments.typename);
            return Err(QmpError { class: api::ErrorClass::DeviceNotFound, desc: text });
        }
        Ok(qom::of_type(&arguments.typename).into_iter().map(info).collect())
    }

    async fn query_iothreads(&self) -> Result<Vec<IOThreadInfo>, QmpError> {
        Ok(qom::iothreads(self.graph().objects()))
    }
}

impl Control {
    /// The device whose medium a property of a guest's device is.
    fn drive_of(&self, path: &str, property: &str) -> Option<Arc<Device>> {
        self.machine().device(path).filter(|_| property == "drive")
    }
}

fn info(property: Property) -> ObjectPropertyInfo {
    let Property { name, kind, .. } = property;
    ObjectPropertyInfo { name, r#type: kind, description: None, default_value: None }
}
