//! Structs and unions: JSON objects with their codecs.

use super::outer_doc;
use super::types::{has_default, needs_box, rust_type};
use crate::names::{camel, snake};
use crate::{Branch, Definition, DefinitionKind, Error, Member, Referent, Schema, Tag, Union};

/// A struct named `name` with these members; `definition` gives documentation.
pub(crate) fn structure(
    schema: &Schema,
    name: &str,
    definition: &Definition,
    members: &[&Member],
) -> Result<String, Error> {
    let (mut fields, mut takes, mut puts) = (String::new(), String::new(), String::new());
    let mut default = true;
    for member in members {
        let field = snake(&member.name);
        fields.push_str(&field_of(schema, definition, member)?);
        takes.push_str(&format!("{field}: {},\n", take(member)));
        puts.push_str(&put(member));
        default &= member.optional || has_default(schema, &member.ty)?;
    }
    let doc = outer_doc(&definition.doc.overview, &format!("`{}`.", definition.name));
    let derive = if default { "Debug, Clone, PartialEq, Default" } else { "Debug, Clone, PartialEq" };
    let (source, sink) = if members.is_empty() { ("_", "_") } else { ("from", "to") };
    Ok(format!(
        "{doc}#[derive({derive})]\npub struct {name} {{\n{fields}}}\n\nimpl Object for {name} {{\n\
         fn take({source}: &mut Members<'_>) -> Result<Self, DecodeError> {{\nOk(Self {{\n{takes}}})\n}}\n\n\
         fn put(&self, {sink}: &mut Dict) {{\n{puts}}}\n}}\nobject_codec!({name});\n\n"
    ))
}

fn field_of(schema: &Schema, definition: &Definition, member: &Member) -> Result<String, Error> {
    let mut rust = rust_type(schema, &member.ty)?;
    if needs_box(schema, definition, &member.ty)? {
        rust = format!("Box<{rust}>");
    }
    if member.optional {
        rust = format!("Option<{rust}>");
    }
    let doc = outer_doc(member_doc(schema, definition, &member.name)?, &format!("Member `{}`.", member.name));
    Ok(format!("{doc}pub {}: {rust},\n", snake(&member.name)))
}

/// The documentation of a member: the definition's own, or that of the base it comes from.
fn member_doc<'a>(schema: &'a Schema, definition: &'a Definition, name: &str) -> Result<&'a str, Error> {
    let mut next = Some(definition);
    while let Some(d) = next {
        if let Some(text) = d.doc.member(name) {
            return Ok(text);
        }
        let base = match &d.kind {
            DefinitionKind::Struct(s) => s.base.as_ref(),
            DefinitionKind::Union(Union { base: crate::Base::Named(base), .. }) => Some(base),
            _ => None,
        };
        next = match base.map(|b| schema.referent(b)).transpose()? {
            Some(Referent::Definition(d)) => Some(d),
            _ => None,
        };
    }
    Ok("")
}

fn take(member: &Member) -> String {
    let way = if member.optional { "optional" } else { "required" };
    format!("from.{way}(\"{}\")?", member.name)
}

fn put(member: &Member) -> String {
    let field = snake(&member.name);
    if member.optional {
        format!("to.put_optional(\"{}\", &self.{field});\n", member.name)
    } else {
        format!("to.put(\"{}\", &self.{field});\n", member.name)
    }
}

/// A union: an enum of its branches, inside a struct with the other common members if there are any.
pub(crate) fn union(schema: &Schema, definition: &Definition, union: &Union) -> Result<String, Error> {
    let name = camel(&definition.name);
    let base = schema.base_members(union)?;
    let tag = match &union.tag {
        Tag::Member(tag) => tag.as_str(),
        Tag::Simple => "type",
    };
    let common: Vec<_> = base.iter().copied().filter(|m| m.name != tag).collect();
    let enum_name = if common.is_empty() { name.clone() } else { format!("{name}Branch") };
    let tag_type = match base.iter().find(|m| m.name == tag) {
        Some(member) => rust_type(schema, &member.ty)?,
        None => format!("{name}Kind"),
    };

    let mut out = String::new();
    if union.tag == Tag::Simple {
        out.push_str(&implicit_kind(&tag_type, definition, union));
    }
    out.push_str(&branch_enum(schema, definition, union, &enum_name, tag, &tag_type)?);
    if common.is_empty() {
        out.push_str(&format!(
            "impl Object for {name} {{\nfn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {{\n\
             let tag = from.required(\"{tag}\")?;\nSelf::take_branch(tag, from)\n}}\n\n\
             fn put(&self, to: &mut Dict) {{\nto.put(\"{tag}\", &self.{}());\nself.put_branch(to);\n}}\n}}\n\
             object_codec!({name});\n\n",
            snake(tag)
        ));
        return Ok(out);
    }
    out.push_str(&common_struct(schema, definition, &base, tag, &enum_name)?);
    Ok(out)
}

fn common_struct(
    schema: &Schema,
    definition: &Definition,
    base: &[&Member],
    tag: &str,
    enum_name: &str,
) -> Result<String, Error> {
    let name = camel(&definition.name);
    let (mut fields, mut takes, mut names, mut puts) =
        (String::new(), String::new(), String::new(), String::new());
    let mut implicit = true;
    for member in base {
        let field = snake(&member.name);
        if member.name == tag {
            implicit = false;
            takes.push_str(&format!("let tag = {};\n", take(member)));
            puts.push_str(&format!("to.put(\"{tag}\", &self.branch.{field}());\n"));
            continue;
        }
        fields.push_str(&field_of(schema, definition, member)?);
        takes.push_str(&format!("let {field} = {};\n", take(member)));
        names.push_str(&format!("{field}, "));
        puts.push_str(&put(member));
    }
    if implicit {
        takes.push_str(&format!("let tag = from.required(\"{tag}\")?;\n"));
        puts.push_str(&format!("to.put(\"{tag}\", &self.branch.{}());\n", snake(tag)));
    }
    let doc = outer_doc(&definition.doc.overview, &format!("`{}`.", definition.name));
    Ok(format!(
        "{doc}#[derive(Debug, Clone, PartialEq)]\npub struct {name} {{\n{fields}\
         /// What depends on `{tag}`.\npub branch: {enum_name},\n}}\n\nimpl Object for {name} {{\n\
         fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {{\n{takes}\
         let branch = {enum_name}::take_branch(tag, from)?;\nOk(Self {{ {names}branch }})\n}}\n\n\
         fn put(&self, to: &mut Dict) {{\n{puts}self.branch.put_branch(to);\n}}\n}}\nobject_codec!({name});\n\n"
    ))
}

/// The tag's enumeration of a simple union: one value a branch.
fn implicit_kind(tag_type: &str, definition: &Definition, union: &Union) -> String {
    let (mut variants, mut table) = (String::new(), String::new());
    for Branch { name, .. } in &union.branches {
        variants.push_str(&format!("/// `{name}`.\n{},\n", camel(name)));
        table.push_str(&format!("(\"{name}\", Self::{}),\n", camel(name)));
    }
    format!(
        "/// The values of `type` in `{}`.\n#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]\n\
         pub enum {tag_type} {{\n{variants}}}\n\nimpl Enumeration for {tag_type} {{\n\
         const VALUES: &'static [(&'static str, Self)] = &[\n{table}];\n}}\nenumeration_codec!({tag_type});\n\n",
        definition.name
    )
}

fn branch_enum(
    schema: &Schema,
    definition: &Definition,
    union: &Union,
    enum_name: &str,
    tag: &str,
    tag_type: &str,
) -> Result<String, Error> {
    let (mut variants, mut tags) = (String::new(), String::new());
    let (mut takes, mut puts) = (String::new(), String::new());
    for value in tag_values(schema, union)? {
        let variant = camel(&value);
        let doc = definition.doc.member(&value).unwrap_or_default();
        variants.push_str(&outer_doc(doc, &format!("`{value}`.")));
        let Some(branch) = union.branches.iter().find(|b| b.name == value) else {
            variants.push_str(&format!("{variant},\n"));
            tags.push_str(&format!("Self::{variant} => {tag_type}::{variant},\n"));
            takes.push_str(&format!("{tag_type}::{variant} => Self::{variant},\n"));
            puts.push_str(&format!("Self::{variant} => {{}}\n"));
            continue;
        };
        let rust = rust_type(schema, &branch.ty)?;
        let rust = if needs_box(schema, definition, &branch.ty)? { format!("Box<{rust}>") } else { rust };
        variants.push_str(&format!("{variant}({rust}),\n"));
        tags.push_str(&format!("Self::{variant}(_) => {tag_type}::{variant},\n"));
        let (take, put) = match union.tag {
            Tag::Simple => ("from.required(\"data\")?", "to.put(\"data\", inner)"),
            Tag::Member(_) => ("Object::take(from)?", "inner.put(to)"),
        };
        takes.push_str(&format!("{tag_type}::{variant} => Self::{variant}({take}),\n"));
        puts.push_str(&format!("Self::{variant}(inner) => {put},\n"));
    }
    let doc = if enum_name == camel(&definition.name) {
        outer_doc(&definition.doc.overview, &format!("`{}`.", definition.name))
    } else {
        format!("/// The part of [`{}`] that depends on `{tag}`.\n", camel(&definition.name))
    };
    let (source, sink) = if union.branches.is_empty() { ("_", "_") } else { ("from", "to") };
    Ok(format!(
        "{doc}#[derive(Debug, Clone, PartialEq)]\npub enum {enum_name} {{\n{variants}}}\n\nimpl {enum_name} {{\n\
         /// The value of `{tag}` that goes with this branch.\npub fn {}(&self) -> {tag_type} {{\n\
         match self {{\n{tags}}}\n}}\n\n\
         fn take_branch(tag: {tag_type}, {source}: &mut Members<'_>) -> Result<Self, DecodeError> {{\n\
         Ok(match tag {{\n{takes}}})\n}}\n\n\
         fn put_branch(&self, {sink}: &mut Dict) {{\nmatch self {{\n{puts}}}\n}}\n}}\n\n",
        snake(tag)
    ))
}

/// Every value that the tag can have.
fn tag_values(schema: &Schema, union: &Union) -> Result<Vec<String>, Error> {
    let Tag::Member(tag) = &union.tag else {
        return Ok(union.branches.iter().map(|b| b.name.clone()).collect());
    };
    let base = schema.base_members(union)?;
    let enumeration = base.iter().find(|m| &m.name == tag).map(|m| schema.referent(&m.ty)).transpose()?;
    Ok(match enumeration {
        Some(Referent::Definition(Definition { kind: DefinitionKind::Enum(e), .. })) => {
            e.values.iter().map(|v| v.name.clone()).collect()
        }
        _ => Vec::new(),
    })
}
