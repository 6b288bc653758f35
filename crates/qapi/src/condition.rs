//! Conditions: which parts of a schema a build has.

use std::collections::BTreeSet;

use crate::Error;
use crate::expression::{Expression, ExpressionKind};

/// The symbols a build defines.
pub type Defines = BTreeSet<String>;

/// The value of an `if`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Holds when the symbol is defined.
    Defined(String),
    /// Holds when all hold.
    All(Vec<Condition>),
    /// Holds when one holds.
    Any(Vec<Condition>),
    /// Holds when the other does not.
    Not(Box<Condition>),
}

impl Condition {
    /// Whether it holds in a build with these symbols.
    pub fn holds(&self, defines: &Defines) -> bool {
        match self {
            Self::Defined(symbol) => defines.contains(symbol),
            Self::All(parts) => parts.iter().all(|c| c.holds(defines)),
            Self::Any(parts) => parts.iter().any(|c| c.holds(defines)),
            Self::Not(inner) => !inner.holds(defines),
        }
    }

    pub(crate) fn parse(expression: &Expression) -> Result<Self, Error> {
        let fault = |message: String| Err(Error::new(&expression.at, message));
        let members = match &expression.kind {
            ExpressionKind::String(symbol) if !symbol.is_empty() => return Ok(Self::Defined(symbol.clone())),
            ExpressionKind::Object(members) => members,
            _ => return fault("a condition is a symbol or an object with 'all', 'any' or 'not'".into()),
        };
        let [(key, value)] = members.as_slice() else {
            return fault("a condition object has exactly one member: 'all', 'any' or 'not'".into());
        };
        match (key.as_str(), &value.kind) {
            ("not", _) => Ok(Self::Not(Box::new(Self::parse(value)?))),
            ("all" | "any", ExpressionKind::List(parts)) if !parts.is_empty() => {
                let parts = parts.iter().map(Self::parse).collect::<Result<_, _>>()?;
                Ok(if key == "all" { Self::All(parts) } else { Self::Any(parts) })
            }
            ("all" | "any", _) => fault(format!("'{key}' takes a list of at least one condition")),
            _ => fault(format!("'{key}' is none of 'all', 'any', 'not'")),
        }
    }
}
