//! The tree of objects with their properties, as `qom-list`, `qom-get` and `qom-set` show it.
//!
//! ```text
//! / ── objects ─┬─ ID ── properties
//!               └─ ID …
//! ```
//!
//! An object is found by its path, or by the last parts of it. What a secret holds is shown to nobody.
use crate::commands::failed;
use crate::objects::check_iothread;
use crate::throttle::changed_limits;
use api::codec::Encode;
use api::{Dict, IOThreadInfo, IothreadProperties, QmpError, ThrottleGroupProperties, ThrottleLimits, Value};
use block::{Iothread, Object, Objects, Secret, ThrottleGroup};
use tls::{List, ListFile, PskCredentials, Simple, X509Credentials};

/// A property: its name, its type, and its value where that may be read.
pub(crate) struct Property {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) value: Option<Value>,
}

/// Where a path leads.
enum Place {
    Root,
    Objects,
    Object { id: String, kind: &'static str },
}

/// The properties of a throttle group, in the order in which they are listed.
const LIMITS: [&str; 20] = [
    "x-bps-write-max-length",
    "x-iops-total-max-length",
    "x-iops-size",
    "limits",
    "x-bps-total",
    "x-iops-read-max-length",
    "x-bps-write",
    "x-iops-write-max-length",
    "x-bps-read-max",
    "x-iops-read-max",
    "x-bps-total-max",
    "x-bps-read-max-length",
    "x-iops-read",
    "x-bps-read",
    "x-bps-write-max",
    "x-iops-total-max",
    "x-iops-total",
    "x-iops-write",
    "x-bps-total-max-length",
    "x-iops-write-max",
];

/// The properties of an iothread in that order, each with its value where nothing was said.
const SETTINGS: [(&str, i64); 6] = [
    ("thread-pool-min", 0),
    ("aio-max-batch", 0),
    ("thread-pool-max", 64),
    ("poll-max-ns", 32_768),
    ("poll-grow", 0),
    ("poll-shrink", 0),
];

/// The types of objects that users make, each with what it is derived from.
pub(crate) const TYPES: [(&str, &str); 9] = [
    ("container", "object"),
    (List::KIND, "authz"),
    (ListFile::KIND, "authz"),
    (Simple::KIND, "authz"),
    (Iothread::KIND, "event-loop-base"),
    (Secret::KIND, "secret_common"),
    (ThrottleGroup::KIND, "object"),
    (PskCredentials::KIND, "tls-creds"),
    (X509Credentials::KIND, "tls-creds"),
];

impl Property {
    fn new(name: &str, kind: &str, value: Option<Value>) -> Self {
        Self { name: name.to_owned(), kind: kind.to_owned(), value }
    }
}

fn find(objects: &Objects, path: &str) -> Result<Place, QmpError> {
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    let object = |id: &str| {
        let found = objects.list().into_iter().find(|(other, _)| other == id);
        found.map(|(id, kind)| Place::Object { id, kind })
    };
    let place = match parts.as_slice() {
        [] if path.starts_with('/') => Some(Place::Root),
        ["objects"] => Some(Place::Objects),
        ["objects", id] => object(id),
        [id] if !path.starts_with('/') => object(id),
        _ => None,
    };
    place.ok_or_else(|| QmpError::device_not_found(path))
}

/// The properties of what is at `path`.
pub(crate) fn properties(objects: &Objects, path: &str) -> Result<Vec<Property>, QmpError> {
    Ok(match find(objects, path)? {
        Place::Root => {
            vec![
                Property::new("type", "string", Some("container".into())),
                Property::new("objects", "child<container>", Some("/objects".into())),
            ]
        }
        Place::Objects => {
            let child = |(id, kind): &(String, &str)| {
                Property::new(id, &format!("child<{kind}>"), Some(format!("/objects/{id}").into()))
            };
            let kind = Property::new("type", "string", Some("container".into()));
            std::iter::once(kind).chain(objects.list().iter().rev().map(child)).collect()
        }
        Place::Object { id, kind } => {
            let mut all = of_type(kind);
            let values = values(objects, &id, kind);
            all.iter_mut().for_each(|property| property.value = values.get(&property.name).cloned());
            all
        }
    })
}

/// The properties of a type of objects, without values.
pub(crate) fn of_type(kind: &str) -> Vec<Property> {
    let mut all = vec![Property::new("type", "string", None)];
    match kind {
        ThrottleGroup::KIND => all.extend(LIMITS.iter().map(|name| {
            let kind = if *name == "limits" { "ThrottleLimits" } else { "int" };
            Property::new(name, kind, None)
        })),
        Iothread::KIND => all.extend(SETTINGS.iter().map(|(name, _)| Property::new(name, "int", None))),
        _ => {}
    }
    all
}

fn values(objects: &Objects, id: &str, kind: &str) -> Dict {
    let mut values = Dict::default();
    if let Ok(group) = objects.hold::<ThrottleGroup>(id) {
        let limits = ThrottleLimits::from(group.limits()).encode();
        for (name, value) in limits.as_dict().into_iter().flat_map(Dict::iter) {
            values.insert(format!("x-{name}"), value.clone());
        }
        values.insert("limits", limits);
    }
    if let Ok(thread) = objects.hold::<Iothread>(id) {
        let given = thread.settings().encode();
        for (name, default) in SETTINGS {
            values.insert(name, given.get(name).cloned().unwrap_or(Value::Int(default)));
        }
    }
    values.insert("type", kind);
    values
}

/// The value of a property.
pub(crate) fn get(objects: &Objects, path: &str, name: &str) -> Result<Value, QmpError> {
    let all = properties(objects, path)?;
    let found = all.into_iter().find(|property| property.name == name).and_then(|property| property.value);
    found.map_or_else(|| Err(not_found(objects, path, name)?), Ok)
}

fn type_at(objects: &Objects, path: &str) -> Result<&'static str, QmpError> {
    Ok(match find(objects, path)? {
        Place::Object { kind, .. } => kind,
        Place::Root | Place::Objects => "container",
    })
}

fn not_found(objects: &Objects, path: &str, name: &str) -> Result<QmpError, QmpError> {
    let kind = type_at(objects, path)?;
    Ok(QmpError::generic(format!("Property '{kind}.{name}' not found")))
}

/// Changes a property.
pub(crate) fn set(objects: &Objects, path: &str, name: &str, value: Value) -> Result<(), QmpError> {
    let known = properties(objects, path)?.iter().any(|property| property.name == name);
    if !known {
        return Err(not_found(objects, path, name)?);
    }
    let mut given = Dict::default();
    given.insert(name, value);
    match find(objects, path)? {
        Place::Object { id, kind: ThrottleGroup::KIND } if name == "limits" => {
            let group = objects.hold::<ThrottleGroup>(&id).map_err(failed)?;
            // As one of its properties, so that an error has the whole path of what is wrong.
            let given: ThrottleGroupProperties = api::codec::decode(Value::Dict(given)).map_err(failed)?;
            let limits = changed_limits(group.limits(), &given.limits.unwrap_or_default())?;
            group.set_limits(limits).map_err(failed)
        }
        Place::Object { kind: ThrottleGroup::KIND, .. } if name != "type" => {
            Err(QmpError::generic("Property cannot be set after initialization"))
        }
        Place::Object { id, kind: Iothread::KIND } if name != "type" => {
            let thread = objects.hold::<Iothread>(&id).map_err(failed)?;
            let mut settings = thread.settings().encode();
            if let Value::Dict(settings) = &mut settings {
                given.iter().for_each(|(name, value)| settings.insert(name, value.clone()));
            }
            let settings: IothreadProperties = api::codec::decode(settings).map_err(failed)?;
            check_iothread(&settings)?;
            thread.set(settings);
            Ok(())
        }
        _ => {
            let kind = type_at(objects, path)?;
            Err(QmpError::generic(format!("Property '{kind}.{name}' is not writable")))
        }
    }
}

/// The iothreads, the newest first.
pub(crate) fn iothreads(objects: &Objects) -> Vec<IOThreadInfo> {
    let info = |(id, _): (String, &str)| {
        let values = values(objects, &id, Iothread::KIND);
        let of = |name: &str| values.get(name).and_then(Value::as_i64).unwrap_or_default();
        IOThreadInfo {
            thread_id: i64::from(std::process::id()),
            poll_max_ns: of("poll-max-ns"),
            poll_grow: of("poll-grow"),
            poll_shrink: of("poll-shrink"),
            aio_max_batch: of("aio-max-batch"),
            id,
        }
    };
    objects.list().into_iter().rev().filter(|(_, kind)| *kind == Iothread::KIND).map(info).collect()
}
