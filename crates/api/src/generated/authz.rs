// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Who is let in: rules about the names of clients.

use crate::Dict;
use crate::codec::*;

/// What becomes of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QAuthZListPolicy {
    /// They are turned away.
    Deny,
    /// They are let in.
    Allow,
}

impl Enumeration for QAuthZListPolicy {
    const VALUES: &'static [(&'static str, Self)] = &[("deny", Self::Deny), ("allow", Self::Allow)];
}
enumeration_codec!(QAuthZListPolicy);

/// How a rule is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QAuthZListFormat {
    /// As the name itself.
    Exact,
    /// As a pattern: "*" is any text, "?" any character.
    Glob,
}

impl Enumeration for QAuthZListFormat {
    const VALUES: &'static [(&'static str, Self)] = &[("exact", Self::Exact), ("glob", Self::Glob)];
}
enumeration_codec!(QAuthZListFormat);

/// A rule.
#[derive(Debug, Clone, PartialEq)]
pub struct QAuthZListRule {
    /// The name or the pattern.
    pub r#match: String,
    /// What becomes of those whom it matches.
    pub policy: QAuthZListPolicy,
    /// How it is written; exact if absent.
    pub format: Option<QAuthZListFormat>,
}

impl Object for QAuthZListRule {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            r#match: from.required("match")?,
            policy: from.required("policy")?,
            format: from.optional("format")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("match", &self.r#match);
        to.put("policy", &self.policy);
        to.put_optional("format", &self.format);
    }
}
object_codec!(QAuthZListRule);

/// Rules that say who is let in. The first that matches decides.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AuthZListProperties {
    /// What becomes of those whom no rule matches; deny if absent.
    pub policy: Option<QAuthZListPolicy>,
    /// The rules, in order.
    pub rules: Option<Vec<QAuthZListRule>>,
}

impl Object for AuthZListProperties {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { policy: from.optional("policy")?, rules: from.optional("rules")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("policy", &self.policy);
        to.put_optional("rules", &self.rules);
    }
}
object_codec!(AuthZListProperties);

/// Rules that say who is let in, in a file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AuthZListFileProperties {
    /// A file with a JSON object: the policy and the rules of an authz-list.
    pub filename: String,
    /// Whether it is read again when it has changed; it is if absent.
    pub refresh: Option<bool>,
}

impl Object for AuthZListFileProperties {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { filename: from.required("filename")?, refresh: from.optional("refresh")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("filename", &self.filename);
        to.put_optional("refresh", &self.refresh);
    }
}
object_codec!(AuthZListFileProperties);

/// One name that is let in.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AuthZSimpleProperties {
    /// The name: the distinguished name of a certificate, or the user of a shared key.
    pub identity: String,
}

impl Object for AuthZSimpleProperties {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { identity: from.required("identity")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("identity", &self.identity);
    }
}
object_codec!(AuthZSimpleProperties);
