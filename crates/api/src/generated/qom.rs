// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Objects that others refer to by name.

use super::*;
use crate::codec::*;
use crate::{Dict, QmpError, Value};

/// The types of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectType {
    /// Rules that say who is let in.
    AuthzList,
    /// Such rules, in a file.
    AuthzListfile,
    /// One name that is let in.
    AuthzSimple,
    /// A worker that exports can be put on.
    Iothread,
    /// A password or key.
    Secret,
    /// Limits that several nodes share.
    ThrottleGroup,
    /// Shared keys for TLS.
    TlsCredsPsk,
    /// Certificates for TLS.
    TlsCredsX509,
}

impl Enumeration for ObjectType {
    const VALUES: &'static [(&'static str, Self)] = &[
        ("authz-list", Self::AuthzList),
        ("authz-listfile", Self::AuthzListfile),
        ("authz-simple", Self::AuthzSimple),
        ("iothread", Self::Iothread),
        ("secret", Self::Secret),
        ("throttle-group", Self::ThrottleGroup),
        ("tls-creds-psk", Self::TlsCredsPsk),
        ("tls-creds-x509", Self::TlsCredsX509),
    ];
}
enumeration_codec!(ObjectType);

/// A worker.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct IothreadProperties {
    /// Most requests submitted at once; 0 leaves it to the program.
    pub aio_max_batch: Option<i64>,
    /// Threads kept ready for blocking calls.
    pub thread_pool_min: Option<i64>,
    /// Most threads for blocking calls.
    pub thread_pool_max: Option<i64>,
    /// Longest time in nanoseconds to poll before sleeping; 0 turns polling off.
    pub poll_max_ns: Option<i64>,
    /// Factor by which polling grows.
    pub poll_grow: Option<i64>,
    /// Divisor by which polling shrinks.
    pub poll_shrink: Option<i64>,
}

impl Object for IothreadProperties {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            aio_max_batch: from.optional("aio-max-batch")?,
            thread_pool_min: from.optional("thread-pool-min")?,
            thread_pool_max: from.optional("thread-pool-max")?,
            poll_max_ns: from.optional("poll-max-ns")?,
            poll_grow: from.optional("poll-grow")?,
            poll_shrink: from.optional("poll-shrink")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("aio-max-batch", &self.aio_max_batch);
        to.put_optional("thread-pool-min", &self.thread_pool_min);
        to.put_optional("thread-pool-max", &self.thread_pool_max);
        to.put_optional("poll-max-ns", &self.poll_max_ns);
        to.put_optional("poll-grow", &self.poll_grow);
        to.put_optional("poll-shrink", &self.poll_shrink);
    }
}
object_codec!(IothreadProperties);

/// The part of [`ObjectOptions`] that depends on `qom-type`.
#[derive(Debug, Clone, PartialEq)]
pub enum ObjectOptionsBranch {
    /// `authz-list`.
    AuthzList(AuthZListProperties),
    /// `authz-listfile`.
    AuthzListfile(AuthZListFileProperties),
    /// `authz-simple`.
    AuthzSimple(AuthZSimpleProperties),
    /// `iothread`.
    Iothread(IothreadProperties),
    /// `secret`.
    Secret(SecretProperties),
    /// `throttle-group`.
    ThrottleGroup(ThrottleGroupProperties),
    /// `tls-creds-psk`.
    TlsCredsPsk(TlsCredsPskProperties),
    /// `tls-creds-x509`.
    TlsCredsX509(TlsCredsX509Properties),
}

impl ObjectOptionsBranch {
    /// The value of `qom-type` that goes with this branch.
    pub fn qom_type(&self) -> ObjectType {
        match self {
            Self::AuthzList(_) => ObjectType::AuthzList,
            Self::AuthzListfile(_) => ObjectType::AuthzListfile,
            Self::AuthzSimple(_) => ObjectType::AuthzSimple,
            Self::Iothread(_) => ObjectType::Iothread,
            Self::Secret(_) => ObjectType::Secret,
            Self::ThrottleGroup(_) => ObjectType::ThrottleGroup,
            Self::TlsCredsPsk(_) => ObjectType::TlsCredsPsk,
            Self::TlsCredsX509(_) => ObjectType::TlsCredsX509,
        }
    }

    fn take_branch(tag: ObjectType, from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(match tag {
            ObjectType::AuthzList => Self::AuthzList(Object::take(from)?),
            ObjectType::AuthzListfile => Self::AuthzListfile(Object::take(from)?),
            ObjectType::AuthzSimple => Self::AuthzSimple(Object::take(from)?),
            ObjectType::Iothread => Self::Iothread(Object::take(from)?),
            ObjectType::Secret => Self::Secret(Object::take(from)?),
            ObjectType::ThrottleGroup => Self::ThrottleGroup(Object::take(from)?),
            ObjectType::TlsCredsPsk => Self::TlsCredsPsk(Object::take(from)?),
            ObjectType::TlsCredsX509 => Self::TlsCredsX509(Object::take(from)?),
        })
    }

    fn put_branch(&self, to: &mut Dict) {
        match self {
            Self::AuthzList(inner) => inner.put(to),
            Self::AuthzListfile(inner) => inner.put(to),
            Self::AuthzSimple(inner) => inner.put(to),
            Self::Iothread(inner) => inner.put(to),
            Self::Secret(inner) => inner.put(to),
            Self::ThrottleGroup(inner) => inner.put(to),
            Self::TlsCredsPsk(inner) => inner.put(to),
            Self::TlsCredsX509(inner) => inner.put(to),
        }
    }
}

/// An object.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectOptions {
    /// Its name.
    pub id: String,
    /// What depends on `qom-type`.
    pub branch: ObjectOptionsBranch,
}

impl Object for ObjectOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        let tag = from.required("qom-type")?;
        let id = from.required("id")?;
        let branch = ObjectOptionsBranch::take_branch(tag, from)?;
        Ok(Self { id, branch })
    }

    fn put(&self, to: &mut Dict) {
        to.put("qom-type", &self.branch.qom_type());
        to.put("id", &self.id);
        self.branch.put_branch(to);
    }
}
object_codec!(ObjectOptions);

/// Arguments of `object-del`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ObjectDelArguments {
    /// The object.
    pub id: String,
}

impl Object for ObjectDelArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { id: from.required("id")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("id", &self.id);
    }
}
object_codec!(ObjectDelArguments);

/// A property of an object, or an object inside of another.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ObjectPropertyInfo {
    /// Its name.
    pub name: String,
    /// Its type; "child\<TYPE\>" for an object.
    pub r#type: String,
    /// What it is.
    pub description: Option<String>,
    /// Its value where nothing was said.
    pub default_value: Option<Value>,
}

impl Object for ObjectPropertyInfo {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            name: from.required("name")?,
            r#type: from.required("type")?,
            description: from.optional("description")?,
            default_value: from.optional("default-value")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("name", &self.name);
        to.put("type", &self.r#type);
        to.put_optional("description", &self.description);
        to.put_optional("default-value", &self.default_value);
    }
}
object_codec!(ObjectPropertyInfo);

/// Arguments of `qom-list`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QomListArguments {
    /// The object: /objects/ID, or ID alone.
    pub path: String,
}

impl Object for QomListArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { path: from.required("path")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("path", &self.path);
    }
}
object_codec!(QomListArguments);

/// Arguments of `qom-get`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QomGetArguments {
    /// The object.
    pub path: String,
    /// The property.
    pub property: String,
}

impl Object for QomGetArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { path: from.required("path")?, property: from.required("property")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("path", &self.path);
        to.put("property", &self.property);
    }
}
object_codec!(QomGetArguments);

/// Arguments of `qom-set`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QomSetArguments {
    /// The object.
    pub path: String,
    /// The property.
    pub property: String,
    /// Its new value.
    pub value: Value,
}

impl Object for QomSetArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            path: from.required("path")?,
            property: from.required("property")?,
            value: from.required("value")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("path", &self.path);
        to.put("property", &self.property);
        to.put("value", &self.value);
    }
}
object_codec!(QomSetArguments);

/// A property of an object with its value.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ObjectPropertyValue {
    /// Its name.
    pub name: String,
    /// Its type.
    pub r#type: String,
    /// Its value, where it can be read.
    pub value: Option<Value>,
}

impl Object for ObjectPropertyValue {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            name: from.required("name")?,
            r#type: from.required("type")?,
            value: from.optional("value")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("name", &self.name);
        to.put("type", &self.r#type);
        to.put_optional("value", &self.value);
    }
}
object_codec!(ObjectPropertyValue);

/// The properties of one object.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ObjectPropertiesValues {
    /// They.
    pub properties: Vec<ObjectPropertyValue>,
}

impl Object for ObjectPropertiesValues {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { properties: from.required("properties")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("properties", &self.properties);
    }
}
object_codec!(ObjectPropertiesValues);

/// Arguments of `qom-list-get`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QomListGetArguments {
    /// The objects.
    pub paths: Vec<String>,
}

impl Object for QomListGetArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { paths: from.required("paths")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("paths", &self.paths);
    }
}
object_codec!(QomListGetArguments);

/// A type of objects.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ObjectTypeInfo {
    /// Its name.
    pub name: String,
    /// Whether no object is of it alone; not, if absent.
    pub r#abstract: Option<bool>,
    /// The type that it is derived from.
    pub parent: Option<String>,
}

impl Object for ObjectTypeInfo {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            name: from.required("name")?,
            r#abstract: from.optional("abstract")?,
            parent: from.optional("parent")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("name", &self.name);
        to.put_optional("abstract", &self.r#abstract);
        to.put_optional("parent", &self.parent);
    }
}
object_codec!(ObjectTypeInfo);

/// Arguments of `qom-list-types`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QomListTypesArguments {
    /// Only those that are derived from this one.
    pub implements: Option<String>,
    /// Also those that no object is of alone.
    pub r#abstract: Option<bool>,
}

impl Object for QomListTypesArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { implements: from.optional("implements")?, r#abstract: from.optional("abstract")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("implements", &self.implements);
        to.put_optional("abstract", &self.r#abstract);
    }
}
object_codec!(QomListTypesArguments);

/// Arguments of `qom-list-properties`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QomListPropertiesArguments {
    /// The type.
    pub typename: String,
}

impl Object for QomListPropertiesArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { typename: from.required("typename")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("typename", &self.typename);
    }
}
object_codec!(QomListPropertiesArguments);

/// A worker that a user named.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct IOThreadInfo {
    /// Its name.
    pub id: String,
    /// The operating system's number of its thread; of the program, since connections are distributed by load.
    pub thread_id: i64,
    /// Longest time in nanoseconds to poll before sleeping.
    pub poll_max_ns: i64,
    /// Factor by which polling grows; 0 for the program's own choice.
    pub poll_grow: i64,
    /// Divisor by which polling shrinks; 0 for the program's own choice.
    pub poll_shrink: i64,
    /// Most requests submitted at once; 0 for the program's own choice.
    pub aio_max_batch: i64,
}

impl Object for IOThreadInfo {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: from.required("id")?,
            thread_id: from.required("thread-id")?,
            poll_max_ns: from.required("poll-max-ns")?,
            poll_grow: from.required("poll-grow")?,
            poll_shrink: from.required("poll-shrink")?,
            aio_max_batch: from.required("aio-max-batch")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("id", &self.id);
        to.put("thread-id", &self.thread_id);
        to.put("poll-max-ns", &self.poll_max_ns);
        to.put("poll-grow", &self.poll_grow);
        to.put("poll-shrink", &self.poll_shrink);
        to.put("aio-max-batch", &self.aio_max_batch);
    }
}
object_codec!(IOThreadInfo);

/// The handlers of section `qom`.
pub trait QomCommands: Send + Sync {
    /// Makes an object.
    fn object_add(&self, arguments: ObjectOptions) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Removes an object that nothing uses.
    fn object_del(&self, arguments: ObjectDelArguments) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Lists the properties of an object.
    ///
    /// Returns: The properties.
    fn qom_list(
        &self,
        arguments: QomListArguments,
    ) -> impl Future<Output = Result<Vec<ObjectPropertyInfo>, QmpError>> + Send;

    /// Reads a property of an object.
    ///
    /// Returns: Its value.
    fn qom_get(&self, arguments: QomGetArguments) -> impl Future<Output = Result<Value, QmpError>> + Send;

    /// Changes a property of an object.
    fn qom_set(&self, arguments: QomSetArguments) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Lists the properties of objects with their values.
    ///
    /// Returns: The properties of each.
    fn qom_list_get(
        &self,
        arguments: QomListGetArguments,
    ) -> impl Future<Output = Result<Vec<ObjectPropertiesValues>, QmpError>> + Send;

    /// Lists the types of objects.
    ///
    /// Returns: The types.
    fn qom_list_types(
        &self,
        arguments: QomListTypesArguments,
    ) -> impl Future<Output = Result<Vec<ObjectTypeInfo>, QmpError>> + Send;

    /// Lists the properties of a type of objects.
    ///
    /// Returns: The properties.
    fn qom_list_properties(
        &self,
        arguments: QomListPropertiesArguments,
    ) -> impl Future<Output = Result<Vec<ObjectPropertyInfo>, QmpError>> + Send;

    /// Lists the workers that users named.
    ///
    /// Returns: Their figures.
    fn query_iothreads(&self) -> impl Future<Output = Result<Vec<IOThreadInfo>, QmpError>> + Send;
}
