//! The answer of `query-qmp-schema`: what can be reached from commands and events, its types' names masked as numbers,
//! bases flattened, all integers one type.

use std::collections::{HashMap, VecDeque};

use crate::{
    Alternate, Command, Data, Definition, DefinitionKind, Error, Feature, Member, Referent, Schema, Tag,
    TypeRef, Union,
};

pub(crate) fn introspection(schema: &Schema) -> Result<String, Error> {
    let mut walk = Walk { schema, names: HashMap::new(), queue: VecDeque::new(), entries: Vec::new() };
    for definition in &schema.definitions {
        match &definition.kind {
            DefinitionKind::Command(command) => walk.command(definition, command)?,
            DefinitionKind::Event(event) => {
                let arguments = walk.data(&definition.name, &event.data)?;
                walk.entry(
                    &definition.name,
                    "event",
                    &format!("\"arg-type\": {arguments}"),
                    &definition.features,
                );
            }
            _ => {}
        }
    }
    while let Some((name, ty)) = walk.queue.pop_front() {
        walk.describe(&name, ty)?;
    }
    Ok(format!("[{}]\n", walk.entries.join(",\n ")))
}

/// A type that is referred to and still has to be described.
enum Pending<'a> {
    Builtin(&'static str),
    Definition(&'a Definition),
    Array(&'a TypeRef),
    Members(&'a [Member]),
    /// The `data` of a branch of a simple union.
    Wrapped(&'a TypeRef),
    /// The tag's enumeration of a simple union.
    Kind(&'a Union),
    Empty,
}

struct Walk<'a> {
    schema: &'a Schema,
    names: HashMap<String, String>,
    queue: VecDeque<(String, Pending<'a>)>,
    entries: Vec<String>,
}

impl<'a> Walk<'a> {
    /// The quoted masked name of the type known here as `key`, queued when it is new.
    fn masked(&mut self, key: String, pending: Pending<'a>) -> String {
        if let Some(name) = self.names.get(&key) {
            return name.clone();
        }
        let name = match pending {
            Pending::Builtin(_) | Pending::Array(_) => format!("\"{key}\""),
            _ => format!("\"{}\"", self.names.len()),
        };
        self.names.insert(key, name.clone());
        self.queue.push_back((name.clone(), pending));
        name
    }

    fn reference(&mut self, ty: &'a TypeRef) -> Result<String, Error> {
        if ty.array {
            let element = self.element(ty)?;
            let name = format!("[{}]", element.trim_matches('"'));
            return Ok(self.masked(name, Pending::Array(ty)));
        }
        self.element(ty)
    }

    fn element(&mut self, ty: &TypeRef) -> Result<String, Error> {
        Ok(match self.schema.referent(ty)? {
            Referent::Builtin(builtin) => {
                let (name, json) = builtin.introspected();
                self.masked(name.into(), Pending::Builtin(json))
            }
            Referent::Definition(d) => self.masked(d.name.clone(), Pending::Definition(d)),
        })
    }

    fn empty(&mut self) -> String {
        self.masked("{}".into(), Pending::Empty)
    }

    fn data(&mut self, owner: &str, data: &'a Data) -> Result<String, Error> {
        match data {
            Data::Empty => Ok(self.empty()),
            Data::Members(members) if members.is_empty() => Ok(self.empty()),
            Data::Members(members) => Ok(self.masked(format!("{owner} data"), Pending::Members(members))),
            Data::Named(ty) => self.reference(ty),
        }
    }

    fn entry(&mut self, name: &str, meta: &str, rest: &str, features: &[Feature]) {
        let name = if name.starts_with('"') { name.to_string() } else { format!("\"{name}\"") };
        let features = features_text(features);
        self.entries.push(format!("{{\"name\": {name}, \"meta-type\": \"{meta}\", {rest}{features}}}"));
    }

    fn command(&mut self, definition: &'a Definition, command: &'a Command) -> Result<(), Error> {
        let arguments = self.data(&definition.name, &command.data)?;
        let returns = match &command.returns {
            Some(ty) => self.reference(ty)?,
            None => self.empty(),
        };
        let oob = if command.allow_oob { ", \"allow-oob\": true" } else { "" };
        let rest = format!("\"arg-type\": {arguments}, \"ret-type\": {returns}{oob}");
        self.entry(&definition.name, "command", &rest, &definition.features);
        Ok(())
    }

    fn describe(&mut self, name: &str, pending: Pending<'a>) -> Result<(), Error> {
        match pending {
            Pending::Builtin(json) => self.entry(name, "builtin", &format!("\"json-type\": \"{json}\""), &[]),
            Pending::Array(ty) => {
                let element = self.element(ty)?;
                self.entry(name, "array", &format!("\"element-type\": {element}"), &[]);
            }
            Pending::Members(members) => {
                let members = self.members(members.iter())?;
                self.entry(name, "object", &members, &[]);
            }
            Pending::Wrapped(ty) => {
                let ty = self.reference(ty)?;
                let rest = format!("\"members\": [{{\"name\": \"data\", \"type\": {ty}}}]");
                self.entry(name, "object", &rest, &[]);
            }
            Pending::Kind(union) => {
                let rest = enum_text(union.branches.iter().map(|b| (b.name.as_str(), [].as_slice())));
                self.entry(name, "enum", &rest, &[]);
            }
            Pending::Empty => self.entry(name, "object", "\"members\": []", &[]),
            Pending::Definition(definition) => self.definition(name, definition)?,
        }
        Ok(())
    }

    fn definition(&mut self, name: &str, definition: &'a Definition) -> Result<(), Error> {
        let (meta, rest) = match &definition.kind {
            DefinitionKind::Enum(e) => {
                ("enum", enum_text(e.values.iter().map(|v| (v.name.as_str(), v.features.as_slice()))))
            }
            DefinitionKind::Struct(s) => ("object", self.members(self.schema.members(s)?.into_iter())?),
            DefinitionKind::Union(u) => ("object", self.union(definition, u)?),
            DefinitionKind::Alternate(a) => ("alternate", self.alternate(a)?),
            DefinitionKind::Command(_) | DefinitionKind::Event(_) => return Ok(()),
        };
        self.entry(name, meta, &rest, &definition.features);
        Ok(())
    }

    fn members(&mut self, members: impl Iterator<Item = &'a Member>) -> Result<String, Error> {
        let mut texts = Vec::new();
        for member in members {
            let ty = self.reference(&member.ty)?;
            let default = if member.optional { ", \"default\": null" } else { "" };
            let features = features_text(&member.features);
            texts.push(format!("{{\"name\": \"{}\", \"type\": {ty}{default}{features}}}", member.name));
        }
        Ok(format!("\"members\": [{}]", texts.join(", ")))
    }

    fn union(&mut self, definition: &'a Definition, union: &'a Union) -> Result<String, Error> {
        let mut members = self.members(self.schema.base_members(union)?.into_iter())?;
        let tag = match &union.tag {
            Tag::Member(tag) => tag.as_str(),
            Tag::Simple => {
                let kind = self.masked(format!("{} kind", definition.name), Pending::Kind(union));
                let separator = if members.ends_with("[]") { "" } else { ", " };
                members.pop();
                members.push_str(&format!("{separator}{{\"name\": \"type\", \"type\": {kind}}}]"));
                "type"
            }
        };
        let mut variants = Vec::new();
        for branch in &union.branches {
            let ty = match union.tag {
                Tag::Member(_) => self.reference(&branch.ty)?,
                Tag::Simple => self.masked(
                    format!("{} {} wrapped", branch.ty.array, branch.ty.name),
                    Pending::Wrapped(&branch.ty),
                ),
            };
            variants.push(format!("{{\"case\": \"{}\", \"type\": {ty}}}", branch.name));
        }
        Ok(format!("{members}, \"tag\": \"{tag}\", \"variants\": [{}]", variants.join(", ")))
    }

    fn alternate(&mut self, alternate: &'a Alternate) -> Result<String, Error> {
        let mut texts = Vec::new();
        for branch in &alternate.branches {
            texts.push(format!("{{\"type\": {}}}", self.reference(&branch.ty)?));
        }
        Ok(format!("\"members\": [{}]", texts.join(", ")))
    }
}

/// The values as objects, and as strings for older clients.
fn enum_text<'a>(values: impl Iterator<Item = (&'a str, &'a [Feature])>) -> String {
    let (mut objects, mut strings) = (Vec::new(), Vec::new());
    for (name, features) in values {
        objects.push(format!("{{\"name\": \"{name}\"{}}}", features_text(features)));
        strings.push(format!("\"{name}\""));
    }
    format!("\"members\": [{}], \"values\": [{}]", objects.join(", "), strings.join(", "))
}

fn features_text(features: &[Feature]) -> String {
    if features.is_empty() {
        return String::new();
    }
    let names: Vec<_> = features.iter().map(|f| format!("\"{}\"", f.name)).collect();
    format!(", \"features\": [{}]", names.join(", "))
}
