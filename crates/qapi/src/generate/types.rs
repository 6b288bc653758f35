//! Enumerations, alternates, and the Rust name of any type.

use super::outer_doc;
use crate::check::{JsonType, json_type};
use crate::names::camel;
use crate::{Alternate, Builtin, Definition, DefinitionKind, Enum, Error, Referent, Schema, TypeRef};

/// The Rust type of a value of type `ty`.
pub(crate) fn rust_type(schema: &Schema, ty: &TypeRef) -> Result<String, Error> {
    let element = match schema.referent(ty)? {
        Referent::Builtin(builtin) => builtin_type(builtin).to_string(),
        Referent::Definition(d) => camel(&d.name),
    };
    Ok(if ty.array { format!("Vec<{element}>") } else { element })
}

fn builtin_type(builtin: Builtin) -> &'static str {
    match builtin {
        Builtin::Str => "String",
        Builtin::Number => "f64",
        Builtin::Int | Builtin::Int64 => "i64",
        Builtin::Int8 => "i8",
        Builtin::Int16 => "i16",
        Builtin::Int32 => "i32",
        Builtin::Uint8 => "u8",
        Builtin::Uint16 => "u16",
        Builtin::Uint32 => "u32",
        Builtin::Uint64 => "u64",
        Builtin::Size => "Size",
        Builtin::Bool => "bool",
        Builtin::Null => "Null",
        Builtin::Any => "Value",
    }
}

/// The types whose values stand inside a value of this one, not behind a list or an alternate's box.
fn inner_types<'a>(schema: &'a Schema, definition: &'a Definition) -> Result<Vec<&'a TypeRef>, Error> {
    let mut refs: Vec<&TypeRef> = match &definition.kind {
        DefinitionKind::Struct(s) => schema.members(s)?.iter().map(|m| &m.ty).collect(),
        DefinitionKind::Union(u) => {
            let base = schema.base_members(u)?;
            base.iter().map(|m| &m.ty).chain(u.branches.iter().map(|b| &b.ty)).collect()
        }
        _ => Vec::new(),
    };
    refs.retain(|ty| !ty.array);
    Ok(refs)
}

/// Whether a value of `from` that holds a `to` would hold itself.
pub(crate) fn needs_box(schema: &Schema, from: &Definition, to: &TypeRef) -> Result<bool, Error> {
    if to.array {
        return Ok(false);
    }
    let mut seen = Vec::new();
    let mut stack = vec![to];
    while let Some(ty) = stack.pop() {
        let Referent::Definition(definition) = schema.referent(ty)? else { continue };
        if definition.name == from.name {
            return Ok(true);
        }
        if !seen.contains(&definition.name.as_str()) {
            seen.push(&definition.name);
            stack.extend(inner_types(schema, definition)?);
        }
    }
    Ok(false)
}

/// Whether a value can be made from nothing: numbers, flags, strings and lists, and structs of such.
pub(crate) fn has_default(schema: &Schema, ty: &TypeRef) -> Result<bool, Error> {
    if ty.array {
        return Ok(true);
    }
    match schema.referent(ty)? {
        Referent::Builtin(_) => Ok(true),
        Referent::Definition(Definition { kind: DefinitionKind::Struct(s), .. }) => {
            for member in schema.members(s)? {
                if !member.optional && !has_default(schema, &member.ty)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Referent::Definition(_) => Ok(false),
    }
}

pub(crate) fn enumeration(definition: &Definition, e: &Enum) -> String {
    let name = camel(&definition.name);
    let mut variants = String::new();
    let mut table = String::new();
    for value in &e.values {
        let variant = camel(&value.name);
        let doc = definition.doc.member(&value.name).unwrap_or_default();
        variants.push_str(&outer_doc(doc, &format!("`{}`.", value.name)));
        variants.push_str(&format!("{variant},\n"));
        table.push_str(&format!("(\"{}\", Self::{variant}),\n", value.name));
    }
    let doc = outer_doc(&definition.doc.overview, &format!("`{}`.", definition.name));
    format!(
        "{doc}#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]\npub enum {name} {{\n{variants}}}\n\n\
         impl Enumeration for {name} {{\nconst VALUES: &'static [(&'static str, Self)] = &[\n{table}];\n}}\n\
         enumeration_codec!({name});\n\n"
    )
}

pub(crate) fn alternate(
    schema: &Schema,
    definition: &Definition,
    alternate: &Alternate,
) -> Result<String, Error> {
    let name = camel(&definition.name);
    let (mut variants, mut decoders, mut encoders) = (String::new(), String::new(), String::new());
    let mut has_string = false;
    let mut scalar = None;
    for branch in &alternate.branches {
        let variant = camel(&branch.name);
        let doc = definition.doc.member(&branch.name).unwrap_or_default();
        variants.push_str(&outer_doc(doc, &format!("`{}`.", branch.name)));
        let json = json_type(schema, &branch.ty)?;
        if json == JsonType::Null {
            variants.push_str(&format!("{variant},\n"));
            decoders.push_str(&format!("Value::Null => Ok(Self::{variant}),\n"));
            encoders.push_str(&format!("Self::{variant} => Value::Null,\n"));
            continue;
        }
        let rust = rust_type(schema, &branch.ty)?;
        let rust = if json == JsonType::Object { format!("Box<{rust}>") } else { rust };
        variants.push_str(&format!("{variant}({rust}),\n"));
        let pattern = match json {
            JsonType::Null | JsonType::Bool => "Value::Bool(_)",
            JsonType::Number => "Value::Int(_) | Value::Uint(_) | Value::Float(_)",
            JsonType::String => "Value::String(_)",
            JsonType::Object => "Value::Dict(_)",
            JsonType::List => "Value::List(_)",
        };
        has_string |= json == JsonType::String;
        if matches!(json, JsonType::Bool | JsonType::Number) {
            scalar = Some(variant.clone());
        }
        decoders.push_str(&format!("{pattern} => Ok(Self::{variant}(Decode::decode(value, at)?)),\n"));
        encoders.push_str(&format!("Self::{variant}(inner) => inner.encode(),\n"));
    }
    if let Some(variant) = scalar.filter(|_| !has_string) {
        let guard = "Value::String(_) if at.scalars_are_text()";
        decoders.push_str(&format!("{guard} => Ok(Self::{variant}(Decode::decode(value, at)?)),\n"));
    }
    let doc = outer_doc(&definition.doc.overview, &format!("`{}`.", definition.name));
    Ok(format!(
        "{doc}#[derive(Debug, Clone, PartialEq)]\npub enum {name} {{\n{variants}}}\n\n\
         impl Decode for {name} {{\nfn decode(value: Value, at: &At<'_>) -> Result<Self, DecodeError> {{\n\
         match value {{\n{decoders}_ => Err(at.wrong_type(\"{}\")),\n}}\n}}\n}}\n\n\
         impl Encode for {name} {{\nfn encode(&self) -> Value {{\nmatch self {{\n{encoders}}}\n}}\n}}\n\n",
        definition.name
    ))
}
