//! What must hold between definitions: every name resolves, to the right sort, and none clashes.

use std::collections::{HashMap, HashSet};

use crate::model::*;
use crate::names::{camel, snake};
use crate::{Error, Location};

pub(crate) fn check(schema: &Schema) -> Result<(), Error> {
    for definition in &schema.definitions {
        check_documented_names(schema, definition)?;
        match &definition.kind {
            DefinitionKind::Enum(e) => check_enum(definition, e)?,
            DefinitionKind::Struct(s) => check_members(schema, &definition.name, &schema.members(s)?)?,
            DefinitionKind::Union(u) => check_union(schema, definition, u)?,
            DefinitionKind::Alternate(a) => check_alternate(schema, definition, a)?,
            DefinitionKind::Command(c) => {
                check_data(schema, definition, &c.data, c.boxed)?;
                if let Some(returns) = &c.returns {
                    schema.referent(returns)?;
                }
            }
            DefinitionKind::Event(e) => check_data(schema, definition, &e.data, e.boxed)?,
        }
    }
    Ok(())
}

fn unique<'a>(
    what: &str,
    names: impl Iterator<Item = (&'a str, &'a Location)>,
    rust: fn(&str) -> String,
) -> Result<(), Error> {
    let mut seen = HashMap::new();
    for (name, at) in names {
        if let Some(other) = seen.insert(rust(name), name) {
            let message = if other == name {
                format!("{what} has '{name}' twice")
            } else {
                format!("{what} has '{other}' and '{name}', which become the same name in Rust")
            };
            return Err(Error::new(at, message));
        }
    }
    Ok(())
}

fn check_enum(definition: &Definition, e: &Enum) -> Result<(), Error> {
    let what = format!("enum '{}'", definition.name);
    unique(&what, e.values.iter().map(|v| (v.name.as_str(), &v.at)), camel)
}

fn check_members(schema: &Schema, owner: &str, members: &[&Member]) -> Result<(), Error> {
    unique(&format!("'{owner}'"), members.iter().map(|m| (m.name.as_str(), &m.at)), snake)?;
    members.iter().try_for_each(|m| schema.referent(&m.ty).map(drop))
}

fn check_data(schema: &Schema, definition: &Definition, data: &Data, boxed: bool) -> Result<(), Error> {
    match data {
        Data::Empty => Ok(()),
        Data::Members(members) => {
            check_members(schema, &definition.name, &members.iter().collect::<Vec<_>>())
        }
        Data::Named(ty) => match schema.referent(ty)? {
            Referent::Definition(d) if matches!(d.kind, DefinitionKind::Struct(_)) && !ty.array => Ok(()),
            Referent::Definition(d) if matches!(d.kind, DefinitionKind::Union(_)) && !ty.array && boxed => {
                Ok(())
            }
            Referent::Definition(d) if matches!(d.kind, DefinitionKind::Union(_)) && !ty.array => {
                Err(Error::new(&ty.at, format!("'{}' is a union and so needs 'boxed': true", ty.name)))
            }
            _ => Err(Error::new(
                &ty.at,
                format!("'data' must be a struct or a union, '{}' is neither", ty.name),
            )),
        },
    }
}

fn check_union(schema: &Schema, definition: &Definition, union: &Union) -> Result<(), Error> {
    let base = schema.base_members(union)?;
    check_members(schema, &definition.name, &base)?;
    let what = format!("union '{}'", definition.name);
    unique(&what, union.branches.iter().map(|b| (b.name.as_str(), &b.at)), camel)?;
    match &union.tag {
        Tag::Simple => {
            if let Some(m) = base.iter().find(|m| m.name == "type" || m.name == "data") {
                return Err(Error::new(
                    &m.at,
                    format!("{what} is simple: '{}' is taken by its branches", m.name),
                ));
            }
            union.branches.iter().try_for_each(|b| schema.referent(&b.ty).map(drop))
        }
        Tag::Member(tag) => check_flat(schema, definition, union, &base, tag),
    }
}

fn check_flat(
    schema: &Schema,
    definition: &Definition,
    union: &Union,
    base: &[&Member],
    tag: &str,
) -> Result<(), Error> {
    let what = format!("union '{}'", definition.name);
    let Some(member) = base.iter().find(|m| m.name == tag) else {
        return Err(Error::new(
            &definition.at,
            format!("the discriminator '{tag}' of {what} is no common member"),
        ));
    };
    if member.optional || member.condition.is_some() {
        return Err(Error::new(
            &member.at,
            format!("the discriminator '{tag}' of {what} must always be there"),
        ));
    }
    let values = match schema.referent(&member.ty)? {
        Referent::Definition(Definition { kind: DefinitionKind::Enum(e), .. }) if !member.ty.array => {
            &e.values
        }
        _ => {
            return Err(Error::new(
                &member.at,
                format!("the discriminator '{tag}' of {what} must be of an enum"),
            ));
        }
    };
    let common: HashSet<String> = base.iter().map(|m| snake(&m.name)).collect();
    for branch in &union.branches {
        if !values.iter().any(|v| v.name == branch.name) {
            let message = format!("branch '{}' of {what} is no value of '{}'", branch.name, member.ty.name);
            return Err(Error::new(&branch.at, message));
        }
        for m in branch_members(schema, union, branch)? {
            if common.contains(&snake(&m.name)) {
                let message =
                    format!("branch '{}' of {what} repeats the common member '{}'", branch.name, m.name);
                return Err(Error::new(&branch.at, message));
            }
        }
    }
    Ok(())
}

/// The members that a branch of a flat union adds: those of a struct, or the common ones of another union.
fn branch_members<'a>(
    schema: &'a Schema,
    union: &Union,
    branch: &'a Branch,
) -> Result<Vec<&'a Member>, Error> {
    match schema.referent(&branch.ty)? {
        Referent::Definition(Definition { kind: DefinitionKind::Struct(s), .. }) if !branch.ty.array => {
            schema.members(s)
        }
        Referent::Definition(Definition { kind: DefinitionKind::Union(u), .. })
            if !branch.ty.array && !std::ptr::eq(u, union) =>
        {
            schema.base_members(u)
        }
        _ => {
            let message = format!("branch '{}' must be a struct, '{}' is not", branch.name, branch.ty.name);
            Err(Error::new(&branch.at, message))
        }
    }
}

fn check_alternate(schema: &Schema, definition: &Definition, alternate: &Alternate) -> Result<(), Error> {
    let what = format!("alternate '{}'", definition.name);
    unique(&what, alternate.branches.iter().map(|b| (b.name.as_str(), &b.at)), camel)?;
    let mut seen: HashMap<JsonType, &str> = HashMap::new();
    for branch in &alternate.branches {
        let json = json_type(schema, &branch.ty)?;
        if let Some(other) = seen.insert(json, &branch.name) {
            let message =
                format!("branches '{other}' and '{}' of {what} look the same on the wire", branch.name);
            return Err(Error::new(&branch.at, message));
        }
    }
    Ok(())
}

/// What a value looks like in JSON, as far as an alternate can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum JsonType {
    Null,
    Bool,
    Number,
    String,
    Object,
    List,
}

/// The JSON type by which an alternate knows a branch.
pub(crate) fn json_type(schema: &Schema, ty: &TypeRef) -> Result<JsonType, Error> {
    if ty.array {
        schema.referent(ty)?;
        return Ok(JsonType::List);
    }
    match schema.referent(ty)? {
        Referent::Builtin(Builtin::Str) => Ok(JsonType::String),
        Referent::Builtin(Builtin::Bool) => Ok(JsonType::Bool),
        Referent::Builtin(Builtin::Null) => Ok(JsonType::Null),
        Referent::Builtin(Builtin::Any) => {
            Err(Error::new(&ty.at, "an alternate can't have a branch of type 'any'"))
        }
        Referent::Builtin(_) => Ok(JsonType::Number),
        Referent::Definition(d) => match d.kind {
            DefinitionKind::Enum(_) => Ok(JsonType::String),
            DefinitionKind::Struct(_) | DefinitionKind::Union(_) => Ok(JsonType::Object),
            _ => Err(Error::new(&ty.at, format!("an alternate can't have '{}' as a branch", ty.name))),
        },
    }
}

/// A documented member must exist: a wrong name in a comment misleads.
fn check_documented_names(schema: &Schema, definition: &Definition) -> Result<(), Error> {
    let mut names: HashSet<&str> = definition.features.iter().map(|f| f.name.as_str()).collect();
    match &definition.kind {
        DefinitionKind::Enum(e) => names.extend(e.values.iter().map(|v| v.name.as_str())),
        DefinitionKind::Struct(s) => names.extend(s.members.iter().map(|m| m.name.as_str())),
        DefinitionKind::Union(u) => {
            names.extend(schema.base_members(u)?.iter().map(|m| m.name.as_str()));
            names.extend(u.branches.iter().map(|b| b.name.as_str()));
        }
        DefinitionKind::Alternate(a) => names.extend(a.branches.iter().map(|b| b.name.as_str())),
        DefinitionKind::Command(Command { data: Data::Members(m), .. })
        | DefinitionKind::Event(Event { data: Data::Members(m), .. }) => {
            names.extend(m.iter().map(|m| m.name.as_str()));
        }
        DefinitionKind::Command(_) | DefinitionKind::Event(_) => {}
    }
    match definition.doc.members.iter().find(|(name, _)| !names.contains(name.as_str())) {
        None => Ok(()),
        Some((name, _)) => {
            let message = format!("'{}' documents '{name}', which it does not have", definition.name);
            Err(Error::new(&definition.at, message))
        }
    }
}
