// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! What the server is and can do.

use crate::codec::*;
use crate::{Dict, QmpError, Value};

/// Optional abilities of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QMPCapability {
    /// Commands that allow it are carried out while others are under way ("exec-oob").
    Oob,
}

impl Enumeration for QMPCapability {
    const VALUES: &'static [(&'static str, Self)] = &[("oob", Self::Oob)];
}
enumeration_codec!(QMPCapability);

/// Arguments of `qmp_capabilities`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QmpCapabilitiesArguments {
    /// The abilities that the client wants, out of those the greeting offered.
    pub enable: Option<Vec<QMPCapability>>,
}

impl Object for QmpCapabilitiesArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { enable: from.optional("enable")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("enable", &self.enable);
    }
}
object_codec!(QmpCapabilitiesArguments);

/// A version number.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct VersionTriple {
    /// First part.
    pub major: i64,
    /// Second part.
    pub minor: i64,
    /// Third part.
    pub micro: i64,
}

impl Object for VersionTriple {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            major: from.required("major")?,
            minor: from.required("minor")?,
            micro: from.required("micro")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("major", &self.major);
        to.put("minor", &self.minor);
        to.put("micro", &self.micro);
    }
}
object_codec!(VersionTriple);

/// The version of the protocol and of the program.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct VersionInfo {
    /// The QEMU version whose interface this is; clients decide by it what they may use.
    pub qemu: VersionTriple,
    /// The program and its own version.
    pub package: String,
}

impl Object for VersionInfo {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { qemu: from.required("qemu")?, package: from.required("package")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("qemu", &self.qemu);
        to.put("package", &self.package);
    }
}
object_codec!(VersionInfo);

/// A command that exists.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CommandInfo {
    /// Its name.
    pub name: String,
}

impl Object for CommandInfo {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { name: from.required("name")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("name", &self.name);
    }
}
object_codec!(CommandInfo);

/// The sorts of things in the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SchemaMetaType {
    /// A predefined type.
    Builtin,
    /// An enumeration.
    Enum,
    /// A list type.
    Array,
    /// A struct or union.
    Object,
    /// A choice between JSON types.
    Alternate,
    /// A command.
    Command,
    /// An event.
    Event,
}

impl Enumeration for SchemaMetaType {
    const VALUES: &'static [(&'static str, Self)] = &[
        ("builtin", Self::Builtin),
        ("enum", Self::Enum),
        ("array", Self::Array),
        ("object", Self::Object),
        ("alternate", Self::Alternate),
        ("command", Self::Command),
        ("event", Self::Event),
    ];
}
enumeration_codec!(SchemaMetaType);

/// What a predefined type looks like in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum JSONType {
    /// A string.
    String,
    /// Any number.
    Number,
    /// A number without a fraction.
    Int,
    /// true or false.
    Boolean,
    /// null.
    Null,
    /// An object.
    Object,
    /// A list.
    Array,
    /// Anything.
    Value,
}

impl Enumeration for JSONType {
    const VALUES: &'static [(&'static str, Self)] = &[
        ("string", Self::String),
        ("number", Self::Number),
        ("int", Self::Int),
        ("boolean", Self::Boolean),
        ("null", Self::Null),
        ("object", Self::Object),
        ("array", Self::Array),
        ("value", Self::Value),
    ];
}
enumeration_codec!(JSONType);

/// The part of [`SchemaInfo`] that depends on `meta-type`.
#[derive(Debug, Clone, PartialEq)]
pub enum SchemaInfoBranch {
    /// `builtin`.
    Builtin(SchemaInfoBuiltin),
    /// `enum`.
    Enum(SchemaInfoEnum),
    /// `array`.
    Array(SchemaInfoArray),
    /// `object`.
    Object(SchemaInfoObject),
    /// `alternate`.
    Alternate(SchemaInfoAlternate),
    /// `command`.
    Command(SchemaInfoCommand),
    /// `event`.
    Event(SchemaInfoEvent),
}

impl SchemaInfoBranch {
    /// The value of `meta-type` that goes with this branch.
    pub fn meta_type(&self) -> SchemaMetaType {
        match self {
            Self::Builtin(_) => SchemaMetaType::Builtin,
            Self::Enum(_) => SchemaMetaType::Enum,
            Self::Array(_) => SchemaMetaType::Array,
            Self::Object(_) => SchemaMetaType::Object,
            Self::Alternate(_) => SchemaMetaType::Alternate,
            Self::Command(_) => SchemaMetaType::Command,
            Self::Event(_) => SchemaMetaType::Event,
        }
    }

    fn take_branch(tag: SchemaMetaType, from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(match tag {
            SchemaMetaType::Builtin => Self::Builtin(Object::take(from)?),
            SchemaMetaType::Enum => Self::Enum(Object::take(from)?),
            SchemaMetaType::Array => Self::Array(Object::take(from)?),
            SchemaMetaType::Object => Self::Object(Object::take(from)?),
            SchemaMetaType::Alternate => Self::Alternate(Object::take(from)?),
            SchemaMetaType::Command => Self::Command(Object::take(from)?),
            SchemaMetaType::Event => Self::Event(Object::take(from)?),
        })
    }

    fn put_branch(&self, to: &mut Dict) {
        match self {
            Self::Builtin(inner) => inner.put(to),
            Self::Enum(inner) => inner.put(to),
            Self::Array(inner) => inner.put(to),
            Self::Object(inner) => inner.put(to),
            Self::Alternate(inner) => inner.put(to),
            Self::Command(inner) => inner.put(to),
            Self::Event(inner) => inner.put(to),
        }
    }
}

/// One entry of the schema. Names of types have no meaning beyond this answer.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaInfo {
    /// Its name.
    pub name: String,
    /// Strings that tell of behaviour which the types don't show.
    pub features: Option<Vec<String>>,
    /// What depends on `meta-type`.
    pub branch: SchemaInfoBranch,
}

impl Object for SchemaInfo {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        let name = from.required("name")?;
        let tag = from.required("meta-type")?;
        let features = from.optional("features")?;
        let branch = SchemaInfoBranch::take_branch(tag, from)?;
        Ok(Self { name, features, branch })
    }

    fn put(&self, to: &mut Dict) {
        to.put("name", &self.name);
        to.put("meta-type", &self.branch.meta_type());
        to.put_optional("features", &self.features);
        self.branch.put_branch(to);
    }
}
object_codec!(SchemaInfo);

/// A predefined type.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaInfoBuiltin {
    /// What it looks like in JSON.
    pub json_type: JSONType,
}

impl Object for SchemaInfoBuiltin {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { json_type: from.required("json-type")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("json-type", &self.json_type);
    }
}
object_codec!(SchemaInfoBuiltin);

/// An enumeration.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SchemaInfoEnum {
    /// Its values.
    pub members: Vec<SchemaInfoEnumMember>,
    /// Their names only, for older clients.
    pub values: Vec<String>,
}

impl Object for SchemaInfoEnum {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { members: from.required("members")?, values: from.required("values")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("members", &self.members);
        to.put("values", &self.values);
    }
}
object_codec!(SchemaInfoEnum);

/// A value of an enumeration.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SchemaInfoEnumMember {
    /// The value.
    pub name: String,
    /// Its features.
    pub features: Option<Vec<String>>,
}

impl Object for SchemaInfoEnumMember {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { name: from.required("name")?, features: from.optional("features")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("name", &self.name);
        to.put_optional("features", &self.features);
    }
}
object_codec!(SchemaInfoEnumMember);

/// A list type.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SchemaInfoArray {
    /// The type of its elements.
    pub element_type: String,
}

impl Object for SchemaInfoArray {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { element_type: from.required("element-type")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("element-type", &self.element_type);
    }
}
object_codec!(SchemaInfoArray);

/// An object type.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SchemaInfoObject {
    /// The members that every value has or may have.
    pub members: Vec<SchemaInfoObjectMember>,
    /// The member that chooses a variant.
    pub tag: Option<String>,
    /// What further members each value of the tag brings.
    pub variants: Option<Vec<SchemaInfoObjectVariant>>,
}

impl Object for SchemaInfoObject {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            members: from.required("members")?,
            tag: from.optional("tag")?,
            variants: from.optional("variants")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("members", &self.members);
        to.put_optional("tag", &self.tag);
        to.put_optional("variants", &self.variants);
    }
}
object_codec!(SchemaInfoObject);

/// A member of an object type.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SchemaInfoObjectMember {
    /// Its name.
    pub name: String,
    /// Its type.
    pub r#type: String,
    /// Present, as null, if the member may be absent.
    pub default: Option<Value>,
    /// Its features.
    pub features: Option<Vec<String>>,
}

impl Object for SchemaInfoObjectMember {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            name: from.required("name")?,
            r#type: from.required("type")?,
            default: from.optional("default")?,
            features: from.optional("features")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("name", &self.name);
        to.put("type", &self.r#type);
        to.put_optional("default", &self.default);
        to.put_optional("features", &self.features);
    }
}
object_codec!(SchemaInfoObjectMember);

/// A variant of an object type.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SchemaInfoObjectVariant {
    /// The value of the tag.
    pub case: String,
    /// The object type with the further members.
    pub r#type: String,
}

impl Object for SchemaInfoObjectVariant {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { case: from.required("case")?, r#type: from.required("type")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("case", &self.case);
        to.put("type", &self.r#type);
    }
}
object_codec!(SchemaInfoObjectVariant);

/// A choice between JSON types.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SchemaInfoAlternate {
    /// The choices.
    pub members: Vec<SchemaInfoAlternateMember>,
}

impl Object for SchemaInfoAlternate {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { members: from.required("members")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("members", &self.members);
    }
}
object_codec!(SchemaInfoAlternate);

/// One choice of an alternate.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SchemaInfoAlternateMember {
    /// Its type.
    pub r#type: String,
}

impl Object for SchemaInfoAlternateMember {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { r#type: from.required("type")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("type", &self.r#type);
    }
}
object_codec!(SchemaInfoAlternateMember);

/// A command.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SchemaInfoCommand {
    /// The object type of its arguments.
    pub arg_type: String,
    /// The type of its answer.
    pub ret_type: String,
    /// Whether it may run out of band.
    pub allow_oob: Option<bool>,
}

impl Object for SchemaInfoCommand {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            arg_type: from.required("arg-type")?,
            ret_type: from.required("ret-type")?,
            allow_oob: from.optional("allow-oob")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("arg-type", &self.arg_type);
        to.put("ret-type", &self.ret_type);
        to.put_optional("allow-oob", &self.allow_oob);
    }
}
object_codec!(SchemaInfoCommand);

/// An event.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SchemaInfoEvent {
    /// The object type of its data.
    pub arg_type: String,
}

impl Object for SchemaInfoEvent {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { arg_type: from.required("arg-type")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("arg-type", &self.arg_type);
    }
}
object_codec!(SchemaInfoEvent);

/// The handlers of section `introspect`.
pub trait IntrospectCommands: Send + Sync {
    /// Ends the program: jobs are cancelled, exports closed, everything flushed.
    fn quit(&self) -> impl Future<Output = Result<(), QmpError>> + Send;
}
