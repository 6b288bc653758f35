//! The schema as checked definitions: what the generators read.

use std::collections::HashMap;

use crate::{Condition, Defines, Doc, Error, Location};

/// A whole schema: every definition, in the order of the files.
#[derive(Debug, Clone, Default)]
pub struct Schema {
    /// The files, in the order in which they were first read to their end.
    pub modules: Vec<Module>,
    /// All definitions, in the order of the text.
    pub definitions: Vec<Definition>,
    pub(crate) index: HashMap<String, usize>,
}

/// One schema file.
#[derive(Debug, Clone)]
pub struct Module {
    /// The file's name without folder and extension: `block-core`.
    pub name: String,
    /// The first free-standing documentation block.
    pub doc: String,
}

/// A named thing with what every definition can have.
#[derive(Debug, Clone)]
pub struct Definition {
    /// Its name on the wire, or the type's name.
    pub name: String,
    /// Index into [`Schema::modules`].
    pub module: usize,
    /// Where it is defined.
    pub at: Location,
    /// Its documentation; empty when there is none.
    pub doc: Doc,
    /// When it exists.
    pub condition: Option<Condition>,
    /// Feature strings for introspection.
    pub features: Vec<Feature>,
    /// What it is.
    pub kind: DefinitionKind,
}

/// The six kinds of definitions.
#[derive(Debug, Clone)]
pub enum DefinitionKind {
    /// A set of strings.
    Enum(Enum),
    /// An object with fixed members.
    Struct(Struct),
    /// An object whose further members depend on one of them.
    Union(Union),
    /// A value of one of several JSON types.
    Alternate(Alternate),
    /// Something a client can ask for.
    Command(Command),
    /// Something the server reports.
    Event(Event),
}

/// A feature string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// The string.
    pub name: String,
    /// When it exists.
    pub condition: Option<Condition>,
}

/// An enumeration.
#[derive(Debug, Clone)]
pub struct Enum {
    /// Its values, in order.
    pub values: Vec<EnumValue>,
}

/// One value of an enumeration.
#[derive(Debug, Clone)]
pub struct EnumValue {
    /// The string on the wire.
    pub name: String,
    /// When it exists.
    pub condition: Option<Condition>,
    /// Feature strings.
    pub features: Vec<Feature>,
    /// Where it stands.
    pub at: Location,
}

/// A reference to a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeRef {
    /// The type, or the element type.
    pub name: String,
    /// Whether a list of it is meant.
    pub array: bool,
    /// Where it is named.
    pub at: Location,
}

/// A member of an object.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its name on the wire, without the `*`.
    pub name: String,
    /// Whether it may be absent.
    pub optional: bool,
    /// Its type.
    pub ty: TypeRef,
    /// When it exists.
    pub condition: Option<Condition>,
    /// Feature strings.
    pub features: Vec<Feature>,
    /// Where it stands.
    pub at: Location,
}

/// A struct.
#[derive(Debug, Clone)]
pub struct Struct {
    /// The struct whose members come first.
    pub base: Option<TypeRef>,
    /// Its own members.
    pub members: Vec<Member>,
}

/// A union.
#[derive(Debug, Clone)]
pub struct Union {
    /// The members every branch has.
    pub base: Base,
    /// How a branch is chosen.
    pub tag: Tag,
    /// The branches.
    pub branches: Vec<Branch>,
}

/// The common members of a union.
#[derive(Debug, Clone)]
pub enum Base {
    /// Only the implicit tag of a simple union.
    None,
    /// Those of a struct.
    Named(TypeRef),
    /// Written in place.
    Members(Vec<Member>),
}

/// What chooses the branch of a union.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tag {
    /// Flat: the named common member; the branch's members stand beside the common ones.
    Member(String),
    /// Simple: an implicit member `type`; the branch's value stands in a member `data`.
    Simple,
}

/// A branch of a union or an alternate.
#[derive(Debug, Clone)]
pub struct Branch {
    /// Its name: for unions, the tag's value.
    pub name: String,
    /// Its type.
    pub ty: TypeRef,
    /// When it exists.
    pub condition: Option<Condition>,
    /// Where it stands.
    pub at: Location,
}

/// An alternate.
#[derive(Debug, Clone)]
pub struct Alternate {
    /// Its branches, each of another JSON type.
    pub branches: Vec<Branch>,
}

/// The data of a command or an event.
#[derive(Debug, Clone)]
pub enum Data {
    /// None.
    Empty,
    /// Members written in place.
    Members(Vec<Member>),
    /// The members of a struct or union.
    Named(TypeRef),
}

/// A command.
#[derive(Debug, Clone)]
pub struct Command {
    /// Its arguments.
    pub data: Data,
    /// Whether the handler takes them as one value of the named type.
    pub boxed: bool,
    /// The type of the answer; none: an empty object.
    pub returns: Option<TypeRef>,
    /// Whether success is answered at all.
    pub success_response: bool,
    /// Whether arguments and answer are converted; false hands raw JSON to the handler.
    pub generate: bool,
    /// Whether it may run out of band.
    pub allow_oob: bool,
    /// Whether it may run before a machine exists.
    pub allow_preconfig: bool,
    /// Whether its handler may wait.
    pub coroutine: bool,
}

/// An event.
#[derive(Debug, Clone)]
pub struct Event {
    /// What it carries.
    pub data: Data,
    /// Whether the data is one value of the named type.
    pub boxed: bool,
}

/// The predefined types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the names of the language")]
pub enum Builtin {
    Str,
    Number,
    Int,
    Int8,
    Int16,
    Int32,
    Int64,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Size,
    Bool,
    Null,
    Any,
}

impl Builtin {
    /// The predefined type of that name.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "str" => Self::Str,
            "number" => Self::Number,
            "int" => Self::Int,
            "int8" => Self::Int8,
            "int16" => Self::Int16,
            "int32" => Self::Int32,
            "int64" => Self::Int64,
            "uint8" => Self::Uint8,
            "uint16" => Self::Uint16,
            "uint32" => Self::Uint32,
            "uint64" => Self::Uint64,
            "size" => Self::Size,
            "bool" => Self::Bool,
            "null" => Self::Null,
            "any" => Self::Any,
            _ => return None,
        })
    }

    /// The name and JSON type that introspection shows: all integers are one type there.
    pub fn introspected(self) -> (&'static str, &'static str) {
        match self {
            Self::Str => ("str", "string"),
            Self::Number => ("number", "number"),
            Self::Bool => ("bool", "boolean"),
            Self::Null => ("null", "null"),
            Self::Any => ("any", "value"),
            _ => ("int", "int"),
        }
    }
}

/// What a type's name means.
#[derive(Debug, Clone, Copy)]
pub enum Referent<'a> {
    /// A predefined type.
    Builtin(Builtin),
    /// A definition of the schema, not a command or event.
    Definition(&'a Definition),
}

impl Schema {
    /// The definition of that name.
    pub fn definition(&self, name: &str) -> Option<&Definition> {
        self.index.get(name).and_then(|&i| self.definitions.get(i))
    }

    /// What a reference refers to (the element type, for a list).
    pub fn referent(&self, ty: &TypeRef) -> Result<Referent<'_>, Error> {
        if let Some(builtin) = Builtin::named(&ty.name) {
            return Ok(Referent::Builtin(builtin));
        }
        match self.definition(&ty.name) {
            Some(d) if !matches!(d.kind, DefinitionKind::Command(_) | DefinitionKind::Event(_)) => {
                Ok(Referent::Definition(d))
            }
            Some(_) => Err(Error::new(&ty.at, format!("'{}' is not a type", ty.name))),
            None => Err(Error::new(&ty.at, format!("type '{}' is not defined", ty.name))),
        }
    }

    /// All members of a struct, those of its bases first.
    pub fn members<'a>(&'a self, own: &'a Struct) -> Result<Vec<&'a Member>, Error> {
        let mut layers = vec![own];
        let mut next = own.base.as_ref();
        while let Some(base) = next {
            let structure = self.structure(base, "a base")?;
            if layers.len() > self.definitions.len() {
                return Err(Error::new(&base.at, format!("'{}' is its own base", base.name)));
            }
            layers.push(structure);
            next = structure.base.as_ref();
        }
        Ok(layers.iter().rev().flat_map(|s| &s.members).collect())
    }

    /// The common members of a union.
    pub fn base_members<'a>(&'a self, union: &'a Union) -> Result<Vec<&'a Member>, Error> {
        match &union.base {
            Base::None => Ok(Vec::new()),
            Base::Members(members) => Ok(members.iter().collect()),
            Base::Named(base) => self.members(self.structure(base, "a base")?),
        }
    }

    /// The struct a reference must refer to.
    pub(crate) fn structure(&self, ty: &TypeRef, role: &str) -> Result<&Struct, Error> {
        match self.referent(ty)? {
            Referent::Definition(Definition { kind: DefinitionKind::Struct(s), .. }) if !ty.array => Ok(s),
            _ => Err(Error::new(&ty.at, format!("{role} must be a struct, '{}' is not", ty.name))),
        }
    }

    /// The schema without what its conditions exclude in a build with these symbols. It is checked anew: something
    /// kept must not refer to something left out.
    pub fn configured(mut self, defines: &Defines) -> Result<Self, Error> {
        let holds = |c: &Option<Condition>| c.as_ref().is_none_or(|c| c.holds(defines));
        let features = |f: &mut Vec<Feature>| f.retain(|f| holds(&f.condition));
        let members = |m: &mut Vec<Member>| {
            m.retain(|m| holds(&m.condition));
            m.iter_mut().for_each(|m| features(&mut m.features));
        };
        self.definitions.retain(|d| holds(&d.condition));
        for definition in &mut self.definitions {
            features(&mut definition.features);
            match &mut definition.kind {
                DefinitionKind::Enum(e) => {
                    e.values.retain(|v| holds(&v.condition));
                    e.values.iter_mut().for_each(|v| features(&mut v.features));
                }
                DefinitionKind::Struct(s) => members(&mut s.members),
                DefinitionKind::Union(u) => {
                    if let Base::Members(m) = &mut u.base {
                        members(m);
                    }
                    u.branches.retain(|b| holds(&b.condition));
                }
                DefinitionKind::Alternate(a) => a.branches.retain(|b| holds(&b.condition)),
                DefinitionKind::Command(Command { data, .. }) | DefinitionKind::Event(Event { data, .. }) => {
                    if let Data::Members(m) = data {
                        members(m);
                    }
                }
            }
        }
        self.reindex()?;
        crate::check::check(&self)?;
        Ok(self)
    }

    pub(crate) fn reindex(&mut self) -> Result<(), Error> {
        self.index.clear();
        for (i, definition) in self.definitions.iter().enumerate() {
            if Builtin::named(&definition.name).is_some() {
                return Err(Error::new(&definition.at, format!("'{}' is predefined", definition.name)));
            }
            if let Some(first) = self.index.insert(definition.name.clone(), i) {
                let first = self.definitions.get(first).map(|d| d.at.to_string()).unwrap_or_default();
                let message = format!("'{}' is already defined at {first}", definition.name);
                return Err(Error::new(&definition.at, message));
            }
        }
        Ok(())
    }
}
