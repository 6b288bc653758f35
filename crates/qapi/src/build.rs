//! Expressions to definitions: the second layer of the grammar. Names are resolved later, by `check`.

use crate::condition::Condition;
use crate::expression::{Expression, ExpressionKind};
use crate::model::*;
use crate::names::check_name;
use crate::{Doc, Error, Location};

/// The members of one object expression, taken by name; what is left at the end is an error.
struct Keys<'a> {
    at: &'a Location,
    what: String,
    rest: Vec<(&'a str, &'a Expression)>,
}

impl<'a> Keys<'a> {
    fn of(expression: &'a Expression, what: impl Into<String>) -> Result<Self, Error> {
        let what = what.into();
        let ExpressionKind::Object(members) = &expression.kind else {
            let message = format!("{what} must be an object, not {}", expression.describe());
            return Err(Error::new(&expression.at, message));
        };
        let rest = members.iter().map(|(key, value)| (key.as_str(), value)).collect();
        Ok(Self { at: &expression.at, what, rest })
    }

    fn take(&mut self, key: &str) -> Option<&'a Expression> {
        let position = self.rest.iter().position(|(k, _)| *k == key)?;
        Some(self.rest.swap_remove(position).1)
    }

    fn require(&mut self, key: &str) -> Result<&'a Expression, Error> {
        self.take(key).ok_or_else(|| Error::new(self.at, format!("{} lacks '{key}'", self.what)))
    }

    fn string(&mut self, key: &str) -> Result<Option<&'a str>, Error> {
        self.take(key).map(|e| string(e, &format!("'{key}' of {}", self.what))).transpose()
    }

    fn flag(&mut self, key: &str, default: bool) -> Result<bool, Error> {
        match self.take(key) {
            None => Ok(default),
            Some(Expression { kind: ExpressionKind::Bool(value), .. }) if *value != default => Ok(*value),
            Some(e) => Err(Error::new(
                &e.at,
                format!("'{key}' of {} can only be given as '{}'", self.what, !default),
            )),
        }
    }

    fn condition(&mut self) -> Result<Option<Condition>, Error> {
        self.take("if").map(Condition::parse).transpose()
    }

    fn features(&mut self) -> Result<Vec<Feature>, Error> {
        let Some(expression) = self.take("features") else { return Ok(Vec::new()) };
        let mut features: Vec<Feature> = Vec::new();
        for element in list(expression, &format!("'features' of {}", self.what))? {
            let feature = match &element.kind {
                ExpressionKind::String(name) => Feature { name: name.clone(), condition: None },
                _ => {
                    let mut keys = Keys::of(element, "a feature")?;
                    let name = string(keys.require("name")?, "'name' of a feature")?.to_string();
                    let feature = Feature { name, condition: keys.condition()? };
                    keys.finish()?;
                    feature
                }
            };
            check_name(&element.at, "a feature", &feature.name, false)?;
            if features.iter().any(|f| f.name == feature.name) {
                return Err(Error::new(&element.at, format!("feature '{}' is listed twice", feature.name)));
            }
            features.push(feature);
        }
        Ok(features)
    }

    fn finish(self) -> Result<(), Error> {
        match self.rest.first() {
            None => Ok(()),
            Some((key, e)) => Err(Error::new(&e.at, format!("{} can't have a member '{key}'", self.what))),
        }
    }
}

fn string<'a>(expression: &'a Expression, what: &str) -> Result<&'a str, Error> {
    match &expression.kind {
        ExpressionKind::String(text) => Ok(text),
        _ => {
            Err(Error::new(&expression.at, format!("{what} must be a string, not {}", expression.describe())))
        }
    }
}

fn list<'a>(expression: &'a Expression, what: &str) -> Result<&'a [Expression], Error> {
    match &expression.kind {
        ExpressionKind::List(elements) => Ok(elements),
        _ => Err(Error::new(&expression.at, format!("{what} must be a list, not {}", expression.describe()))),
    }
}

/// One top-level expression that is no directive.
pub(crate) fn definition(
    module: usize,
    expression: &Expression,
    doc: Option<(String, Doc)>,
) -> Result<Definition, Error> {
    let mut keys = Keys::of(expression, "a definition")?;
    let sorts = ["enum", "struct", "type", "union", "alternate", "command", "event"];
    let Some((sort, name)) = sorts.iter().find_map(|sort| keys.take(sort).map(|e| (*sort, e))) else {
        return Err(Error::new(&expression.at, format!("a definition needs one of {}", sorts.join(", "))));
    };
    let name = string(name, &format!("the name of this {sort}"))?;
    check_name(&expression.at, &format!("this {sort}"), name, false)?;
    keys.what = format!("{sort} '{name}'");

    let condition = keys.condition()?;
    let features = keys.features()?;
    let kind = match sort {
        "enum" => enumeration(&mut keys)?,
        "struct" | "type" => structure(&mut keys)?,
        "union" => union(&mut keys)?,
        "alternate" => DefinitionKind::Alternate(Alternate { branches: branches(&mut keys)? }),
        "command" => command(&mut keys)?,
        _ => {
            let (data, boxed) = data(&mut keys)?;
            DefinitionKind::Event(Event { data, boxed })
        }
    };
    keys.finish()?;
    let doc = match doc {
        Some((symbol, _)) if symbol != name => {
            let message = format!("the documentation before '{name}' is about '{symbol}'");
            return Err(Error::new(&expression.at, message));
        }
        Some((_, doc)) => doc,
        None => Doc::default(),
    };
    Ok(Definition { name: name.into(), module, at: expression.at.clone(), doc, condition, features, kind })
}

fn enumeration(keys: &mut Keys<'_>) -> Result<DefinitionKind, Error> {
    keys.string("prefix")?;
    let data = keys.require("data")?;
    let mut values = Vec::new();
    for element in list(data, &format!("'data' of {}", keys.what))? {
        let (name, condition, features) = match &element.kind {
            ExpressionKind::String(name) => (name.as_str(), None, Vec::new()),
            _ => {
                let mut value = Keys::of(element, format!("a value of {}", keys.what))?;
                let name = string(value.require("name")?, "'name' of a value")?;
                let parts = (name, value.condition()?, value.features()?);
                value.finish()?;
                parts
            }
        };
        check_name(&element.at, &format!("a value of {}", keys.what), name, true)?;
        values.push(EnumValue { name: name.into(), condition, features, at: element.at.clone() });
    }
    Ok(DefinitionKind::Enum(Enum { values }))
}

fn structure(keys: &mut Keys<'_>) -> Result<DefinitionKind, Error> {
    let base = keys.take("base").map(|e| type_name(e, "a base")).transpose()?;
    let members = members(keys.require("data")?, &keys.what)?;
    Ok(DefinitionKind::Struct(Struct { base, members }))
}

fn union(keys: &mut Keys<'_>) -> Result<DefinitionKind, Error> {
    let base = match keys.take("base") {
        None => Base::None,
        Some(e @ Expression { kind: ExpressionKind::Object(_), .. }) => {
            Base::Members(members(e, &format!("the base of {}", keys.what))?)
        }
        Some(e) => Base::Named(type_name(e, "a base")?),
    };
    let tag = match keys.take("discriminator") {
        None => Tag::Simple,
        Some(Expression { kind: ExpressionKind::Object(empty), .. }) if empty.is_empty() => {
            return match base {
                Base::None => Ok(DefinitionKind::Alternate(Alternate { branches: branches(keys)? })),
                _ => Err(Error::new(keys.at, format!("{} has no tag and so can have no base", keys.what))),
            };
        }
        Some(e) => Tag::Member(string(e, &format!("'discriminator' of {}", keys.what))?.to_string()),
    };
    let branches = branches(keys)?;
    Ok(DefinitionKind::Union(Union { base, tag, branches }))
}

fn branches(keys: &mut Keys<'_>) -> Result<Vec<Branch>, Error> {
    let data = keys.require("data")?;
    let what = format!("a branch of {}", keys.what);
    let mut branches = Vec::new();
    for (name, value) in Keys::of(data, format!("'data' of {}", keys.what))?.rest {
        check_name(&value.at, &what, name, true)?;
        let (ty, condition) = match &value.kind {
            ExpressionKind::Object(_) => {
                let mut branch = Keys::of(value, format!("branch '{name}' of {}", keys.what))?;
                let parts = (type_ref(branch.require("type")?, &branch.what)?, branch.condition()?);
                branch.finish()?;
                parts
            }
            _ => (type_ref(value, &what)?, None),
        };
        branches.push(Branch { name: name.into(), ty, condition, at: value.at.clone() });
    }
    if branches.is_empty() {
        return Err(Error::new(&data.at, format!("{} needs at least one branch", keys.what)));
    }
    Ok(branches)
}

fn command(keys: &mut Keys<'_>) -> Result<DefinitionKind, Error> {
    let (data, boxed) = data(keys)?;
    let returns = keys.take("returns").map(|e| type_ref(e, "'returns'")).transpose()?;
    let command = Command {
        data,
        boxed,
        returns,
        success_response: keys.flag("success-response", true)?,
        generate: keys.flag("gen", true)?,
        allow_oob: keys.flag("allow-oob", false)?,
        allow_preconfig: keys.flag("allow-preconfig", false)?,
        coroutine: keys.flag("coroutine", false)?,
    };
    if command.allow_oob && command.coroutine {
        return Err(Error::new(keys.at, format!("{} can't be both 'allow-oob' and 'coroutine'", keys.what)));
    }
    Ok(DefinitionKind::Command(command))
}

fn data(keys: &mut Keys<'_>) -> Result<(Data, bool), Error> {
    let data = match keys.take("data") {
        None => Data::Empty,
        Some(e @ Expression { kind: ExpressionKind::Object(_), .. }) => {
            Data::Members(members(e, &keys.what)?)
        }
        Some(e) => Data::Named(type_name(e, "'data'")?),
    };
    let boxed = keys.flag("boxed", false)?;
    if boxed && !matches!(data, Data::Named(_)) {
        return Err(Error::new(keys.at, format!("'boxed' of {} needs a named type as 'data'", keys.what)));
    }
    Ok((data, boxed))
}

fn members(expression: &Expression, what: &str) -> Result<Vec<Member>, Error> {
    let mut members: Vec<Member> = Vec::new();
    for (key, value) in Keys::of(expression, format!("'data' of {what}"))?.rest {
        let name = key.strip_prefix('*').unwrap_or(key);
        check_name(&value.at, &format!("a member of {what}"), name, false)?;
        let (ty, condition, features) = match &value.kind {
            ExpressionKind::Object(_) => {
                let mut member = Keys::of(value, format!("member '{name}' of {what}"))?;
                let ty = type_ref(member.require("type")?, &member.what)?;
                let parts = (ty, member.condition()?, member.features()?);
                member.finish()?;
                parts
            }
            _ => (type_ref(value, &format!("member '{name}' of {what}"))?, None, Vec::new()),
        };
        let optional = key.starts_with('*');
        members.push(Member { name: name.into(), optional, ty, condition, features, at: value.at.clone() });
    }
    Ok(members)
}

fn type_ref(expression: &Expression, what: &str) -> Result<TypeRef, Error> {
    match &expression.kind {
        ExpressionKind::List(elements) => {
            let [element] = elements.as_slice() else {
                return Err(Error::new(
                    &expression.at,
                    format!("{what}: a list type names exactly one type"),
                ));
            };
            Ok(TypeRef { array: true, ..type_name(element, what)? })
        }
        _ => type_name(expression, what),
    }
}

fn type_name(expression: &Expression, what: &str) -> Result<TypeRef, Error> {
    let name = string(expression, &format!("the type of {what}"))?.to_string();
    Ok(TypeRef { name, array: false, at: expression.at.clone() })
}
