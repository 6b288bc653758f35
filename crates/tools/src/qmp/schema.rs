//! The server's schema as `query-qmp-schema` tells it: which commands there are, and what their arguments are made of.

use api::Value;
use std::collections::HashMap;

/// Longest way through types of the schema; a longer one is a circle.
const MAX_STEPS: usize = 64;

/// The entities of a schema by their names; without any where the server does not tell.
#[derive(Default)]
pub(super) struct Schema(HashMap<String, Value>);

/// What a type is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Type<'s> {
    /// A predefined one, by what it is in JSON: string, int, number, boolean, null, value, object, array.
    Builtin(&'s str),
    Enum(&'s Value),
    Array(&'s str),
    Object(&'s Value),
    Alternate(&'s Value),
    /// The schema does not tell.
    Unknown,
}

/// A member of an object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Member<'s> {
    pub(super) name: &'s str,
    pub(super) type_name: &'s str,
    pub(super) is_optional: bool,
}

impl Schema {
    /// Reads the answer of `query-qmp-schema`.
    pub(super) fn of(answer: &Value) -> Schema {
        let entities = answer.as_list().unwrap_or_default().iter();
        let named = entities.filter_map(|entity| Some((word(entity, "name")?.to_owned(), entity.clone())));
        Schema(named.collect())
    }

    fn entity(&self, name: &str, meta: &str) -> Option<&Value> {
        self.0.get(name).filter(|entity| word(entity, "meta-type") == Some(meta))
    }

    /// The names of all commands, sorted.
    pub(super) fn commands(&self) -> Vec<&str> {
        let commands = self.0.iter().filter(|(_, entity)| word(entity, "meta-type") == Some("command"));
        let mut names: Vec<_> = commands.map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names
    }

    /// The name of the type of a command's arguments.
    pub(super) fn arguments(&self, command: &str) -> Option<&str> {
        word(self.entity(command, "command")?, "arg-type")
    }

    /// The name of the type of a command's answer.
    pub(super) fn answer(&self, command: &str) -> Option<&str> {
        word(self.entity(command, "command")?, "ret-type")
    }

    /// What the type of this name is.
    pub(super) fn type_of(&self, name: &str) -> Type<'_> {
        let Some(entity) = self.0.get(name) else { return Type::Unknown };
        match word(entity, "meta-type") {
            Some("builtin") => word(entity, "json-type").map_or(Type::Unknown, Type::Builtin),
            Some("enum") => Type::Enum(entity),
            Some("array") => word(entity, "element-type").map_or(Type::Unknown, Type::Array),
            Some("object") => Type::Object(entity),
            Some("alternate") => Type::Alternate(entity),
            _ => Type::Unknown,
        }
    }

    /// The values of an enumeration.
    pub(super) fn values<'s>(&self, of: &'s Value) -> Vec<&'s str> {
        list(of, "values").iter().filter_map(Value::as_str).collect()
    }

    /// The types of an alternate.
    pub(super) fn choices<'s>(&self, of: &'s Value) -> Vec<&'s str> {
        list(of, "members").iter().filter_map(|member| word(member, "type")).collect()
    }

    /// The members of an object when `tag` tells the value of the member that picks a variant.
    pub(super) fn members<'s>(
        &'s self,
        of: &'s Value,
        tag: impl Fn(&str) -> Option<String>,
    ) -> Vec<Member<'s>> {
        let mut found: Vec<Member<'s>> = Vec::new();
        let mut todo = vec![of];
        // Variants are objects, which may have variants again.
        for _ in 0..MAX_STEPS {
            let Some(object) = todo.pop() else { break };
            for entry in list(object, "members") {
                let (Some(name), Some(type_name)) = (word(entry, "name"), word(entry, "type")) else {
                    continue;
                };
                if !found.iter().any(|member| member.name == name) {
                    found.push(Member { name, type_name, is_optional: entry.get("default").is_some() });
                }
            }
            let Some(chosen) = word(object, "tag").and_then(&tag) else { continue };
            let variant = list(object, "variants").iter().find(|it| word(it, "case") == Some(&*chosen));
            if let Some(Type::Object(more)) =
                variant.and_then(|it| word(it, "type")).map(|it| self.type_of(it))
            {
                todo.push(more);
            }
        }
        found
    }

    /// What people call a type: `string`, `int`, `a|b|c`, `[string]`, `object`.
    pub(super) fn shown(&self, name: &str) -> String {
        self.shown_within(name, 0)
    }

    fn shown_within(&self, name: &str, depth: usize) -> String {
        match self.type_of(name) {
            Type::Builtin(json) => json.to_owned(),
            Type::Enum(entity) => self.values(entity).join("|"),
            Type::Array(element) if depth < 4 => format!("[{}]", self.shown_within(element, depth + 1)),
            Type::Alternate(entity) if depth < 4 => {
                let choices = self.choices(entity).into_iter();
                choices.map(|choice| self.shown_within(choice, depth + 1)).collect::<Vec<_>>().join(" or ")
            }
            Type::Object(_) => "object".to_owned(),
            _ => "value".to_owned(),
        }
    }
}

fn word<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    value.get(name)?.as_str()
}

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value.get(name).and_then(Value::as_list).unwrap_or_default()
}
