//! What could stand where the cursor is.

use super::schema::{Schema, Type};
use api::Value;

/// Words of the shell itself.
pub(super) const OWN: [&str; 3] = ["help", "exit", "events"];

/// Deepest member that is completed.
const MAX_DEPTH: usize = 16;

/// Where the word under the cursor begins, and the words that could stand there. `line` ends at the cursor.
pub(super) fn complete(schema: &Schema, line: &str) -> (usize, Vec<String>) {
    let word = line.rsplit(char::is_whitespace).next().unwrap_or_default();
    let begin = line.len() - word.len();
    let before = line.get(..begin).unwrap_or_default();
    let mut words = before.split_whitespace();
    let Some(command) = words.next() else {
        let known = schema.commands().into_iter().chain(OWN);
        return (begin, starting_with(known.map(whole), word));
    };
    if command == "help" {
        return (begin, starting_with(schema.commands().into_iter().map(whole), word));
    }
    let written: Vec<(&str, &str)> = words.filter_map(|word| word.split_once('=')).collect();
    let of = schema.arguments(command).map_or(Type::Unknown, |name| schema.type_of(name));
    match word.split_once('=') {
        None => (begin, keys(schema, of, &written, word)),
        Some((key, value)) => {
            let values = member(schema, of, &written, key).map_or_else(Vec::new, |of| values(schema, of));
            (begin + key.len() + 1, starting_with(values.into_iter(), value))
        }
    }
}

/// The names of members that begin like `word` and are not written yet, each with what follows it.
fn keys(schema: &Schema, of: Type<'_>, written: &[(&str, &str)], word: &str) -> Vec<String> {
    let (way, _) = word.rsplit_once('.').map_or(("", word), |(way, last)| (way, last));
    let inside = if way.is_empty() { Some(of) } else { member(schema, of, written, way) };
    let Some(Type::Object(entity)) = inside.map(|of| object_in(schema, of)) else { return Vec::new() };
    let prefix = if way.is_empty() { String::new() } else { format!("{way}.") };
    let tag = |tag: &str| text_of(written, &format!("{prefix}{tag}"));
    let free = schema.members(entity, tag).into_iter().filter(|member| {
        let key = format!("{prefix}{}", member.name);
        !written.iter().any(|(known, _)| **known == key)
    });
    let keys = free.map(|member| {
        let end = match schema.type_of(member.type_name) {
            Type::Object(_) => '.',
            _ => '=',
        };
        format!("{prefix}{}{end}", member.name)
    });
    starting_with(keys, word)
}

/// The type of the member that a key with dots names.
fn member<'s>(schema: &'s Schema, of: Type<'s>, written: &[(&str, &str)], key: &str) -> Option<Type<'s>> {
    let (mut at, mut prefix) = (of, String::new());
    for name in key.split('.').take(MAX_DEPTH) {
        at = match object_in(schema, at) {
            Type::Object(entity) => {
                let tag = |tag: &str| text_of(written, &format!("{prefix}{tag}"));
                let members = schema.members(entity, tag);
                schema.type_of(members.iter().find(|member| member.name == name)?.type_name)
            }
            Type::Array(element) if name.parse::<usize>().is_ok() => schema.type_of(element),
            _ => return None,
        };
        prefix += name;
        prefix.push('.');
    }
    Some(at)
}

/// The object that a type is, or may be.
fn object_in<'s>(schema: &'s Schema, of: Type<'s>) -> Type<'s> {
    let Type::Alternate(entity) = of else { return of };
    let choices = schema.choices(entity).into_iter().map(|choice| schema.type_of(choice));
    choices.into_iter().find(|choice| matches!(choice, Type::Object(_))).unwrap_or(Type::Unknown)
}

fn values(schema: &Schema, of: Type<'_>) -> Vec<String> {
    match of {
        Type::Builtin("boolean") => ["on", "off"].map(whole).into(),
        Type::Enum(entity) => schema.values(entity).into_iter().map(whole).collect(),
        Type::Array(element) => values(schema, schema.type_of(element)),
        _ => Vec::new(),
    }
}

/// A word after which another one begins.
fn whole(word: &str) -> String {
    format!("{word} ")
}

fn text_of(written: &[(&str, &str)], key: &str) -> Option<String> {
    written.iter().find(|(known, _)| *known == key).map(|(_, value)| (*value).to_owned())
}

fn starting_with(words: impl Iterator<Item = String>, begin: &str) -> Vec<String> {
    let mut words: Vec<_> = words.filter(|word| word.starts_with(begin)).collect();
    words.sort_unstable();
    words
}

/// What a command takes and gives, a line for each argument.
pub(super) fn described(schema: &Schema, command: &str) -> Option<String> {
    let of = schema.type_of(schema.arguments(command)?);
    let mut text = format!("{command}\n");
    if let Type::Object(entity) = of {
        for member in schema.members(entity, |_| None) {
            let (open, close) = if member.is_optional { ("[", "]") } else { ("", "") };
            text += &format!("  {open}{}={}{close}\n", member.name, schema.shown(member.type_name));
        }
        if entity.get("tag").is_some() {
            text += "  and what the value of '";
            text += entity.get("tag").and_then(Value::as_str).unwrap_or_default();
            text += "' brings with it\n";
        }
    }
    let answer = schema.answer(command).map(|name| schema.shown(name)).unwrap_or_default();
    Some(text + &format!("gives: {answer}\n"))
}
