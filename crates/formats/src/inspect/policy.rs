//! Policies: which findings an image may not have, which formats are let in, how large the disk may be.
//!
//! The named ones follow the published rules of the programs they are called after; where those let a file that an image names
//! pass, all of ours refuse it. Own ones are JSON:
//!
//! ```json
//! {"base": "default", "formats": ["raw", "qcow2"], "refuse": ["encrypted"], "allow": ["dirty"], "max-virtual-size": 1099511627776}
//! ```
//!
//! Sources: oslo.utils `imageutils.format_inspector` and the options `vmdk_allowed_types` and `require_image_format_match` (Glance,
//! Nova); `pkg/image/qemu.go` (CDI); `pkg/imgutil` (Lima).

use crate::inspection::{Code, Seen};
use Code::*;
use api::{DecodeError, Enumeration, ImagePolicy, ImagePolicyName};

/// What is judged beside the findings.
#[derive(Debug, Clone, Copy)]
pub struct Measure<'a> {
    /// The format.
    pub format: &'a str,
    /// The size of the disk in bytes, if the image could be opened.
    pub virtual_size: Option<u64>,
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// The formats that are let in; `None`: all.
    formats: Option<Vec<String>>,
    /// The kinds of vmdk that are let in; `None`: all.
    vmdk_types: Option<Vec<String>>,
    /// The findings that are refused.
    refused: Vec<Code>,
    /// The largest disk, in bytes.
    max_virtual_size: Option<u64>,
}

/// A policy that the program has.
struct Named {
    name: &'static str,
    formats: Option<&'static [&'static str]>,
    vmdk_types: Option<&'static [&'static str]>,
    /// Refused beside [`ALWAYS`].
    refused: &'static [Code],
}

/// What every named policy refuses.
const ALWAYS: &[Code] = &[
    BackingFile,
    DataFile,
    Extent,
    AbsoluteName,
    EscapingName,
    ProtocolName,
    JsonName,
    SystemName,
    FormatMismatch,
    FormatAmbiguous,
    FormatNotAllowed,
    SubformatNotAllowed,
    UnknownFeatures,
    HeaderContradiction,
    MetadataOverlap,
    BeyondEnd,
    CorruptMark,
    EmptyFile,
    TooLarge,
    CannotOpen,
];

/// The kinds of vmdk that are one file.
const ONE_FILE: Option<&[&str]> = Some(&["monolithicSparse", "streamOptimized"]);

const NAMED: &[Named] = &[
    Named { name: "default", formats: None, vmdk_types: ONE_FILE, refused: &[NestedImage] },
    Named {
        name: "glance",
        formats: Some(&["raw", "qcow2", "vmdk", "vdi", "vpc", "vhdx", "parallels", "luks"]),
        vmdk_types: ONE_FILE,
        refused: &[Polyglot, Footer],
    },
    Named {
        name: "nova",
        formats: Some(&["raw", "qcow2", "vmdk", "vdi", "vpc", "vhdx", "parallels", "luks"]),
        vmdk_types: ONE_FILE,
        refused: &[Polyglot, Footer, NestedImage],
    },
    Named {
        name: "cdi",
        formats: Some(&["raw", "qcow2", "vmdk", "vdi", "vpc", "vhdx"]),
        vmdk_types: None,
        refused: &[],
    },
    Named { name: "lima", formats: Some(&["raw", "qcow2"]), vmdk_types: None, refused: &[] },
];

/// The names of the policies that the program has.
pub const POLICIES: [&str; 5] = ["default", "glance", "nova", "cdi", "lima"];

/// Why there is no such policy.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PolicyError {
    /// No policy has this name.
    #[error("there is no policy '{0}'; there are {list}, and files with a '/' or '.' in their names", list = POLICIES.join(", "))]
    Unknown(String),
    /// The text is no JSON.
    #[error("the policy is no JSON: {0}")]
    Json(String),
    /// It is JSON, and no policy.
    #[error("{0}; docs/untrusted.md tells what a policy has")]
    Wrong(#[from] DecodeError),
}

impl Policy {
    /// The policy of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn named(name: &str) -> Result<Policy, PolicyError> {
        let named = NAMED.iter().find(|named| named.name == name);
        let named = named.ok_or_else(|| PolicyError::Unknown(name.to_owned()))?;
        let owned = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
        Ok(Policy {
            name: name.to_owned(),
            formats: named.formats.map(owned),
            vmdk_types: named.vmdk_types.map(owned),
            refused: ALWAYS.iter().chain(named.refused).copied().collect(),
            max_virtual_size: None,
        })
    }

    /// Reads an own policy. `name` is what reports call it.
    ///
    /// # Errors
    /// When the text is no policy.
    pub fn parse(name: &str, text: &str) -> Result<Policy, PolicyError> {
        let value = api::json::parse(text).map_err(|error| PolicyError::Json(error.to_string()))?;
        let own: ImagePolicy = api::decode(value)?;
        let mut policy = Policy::named(own.base.unwrap_or(ImagePolicyName::Default).name())?;
        policy.name = name.to_owned();
        policy.refused.extend(own.refuse.unwrap_or_default());
        let allowed = own.allow.unwrap_or_default();
        policy.refused.retain(|code| !allowed.contains(code));
        policy.formats = own.formats.or(policy.formats);
        policy.vmdk_types = own.vmdk_types.or(policy.vmdk_types);
        policy.max_virtual_size = own.max_virtual_size;
        Ok(policy)
    }

    /// The same for disks up to this size.
    #[must_use]
    pub fn with_max_virtual_size(self, size: u64) -> Policy {
        Policy { max_virtual_size: Some(size), ..self }
    }

    /// Adds to the findings what only a policy finds, and gives the codes that it refuses, each once.
    pub fn judge(&self, seen: &mut Seen, measure: Measure<'_>) -> Vec<Code> {
        let Measure { format, virtual_size } = measure;
        let lacks = |list: &Option<Vec<String>>, name: &str| {
            list.as_ref().filter(|list| !list.iter().any(|known| known == name)).map(|list| list.join(", "))
        };
        if let Some(list) = lacks(&self.formats, format) {
            let text = format!("the policy '{}' has the formats {list}, not '{format}'", self.name);
            seen.find(FormatNotAllowed, text);
        }
        if format == crate::vmdk::VMDK.name
            && let subformat = seen.subformat.clone().unwrap_or_default()
            && let Some(list) = lacks(&self.vmdk_types, &subformat)
        {
            let text = format!("the policy '{}' has the kinds {list}, not '{subformat}'", self.name);
            seen.find(SubformatNotAllowed, text);
        }
        if let (Some(size), Some(most)) = (virtual_size, self.max_virtual_size)
            && size > most
        {
            seen.find(TooLarge, format!("the disk has {size} bytes; {most} are allowed"));
        }
        let mut refused: Vec<_> = seen.findings.iter().map(|finding| finding.code).collect();
        refused.retain(|code| self.refused.contains(code));
        refused.sort_unstable();
        refused.dedup();
        refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_named_policies_are_those_that_are_told() {
        assert!(NAMED.iter().map(|named| named.name).eq(POLICIES));
        assert!(ImagePolicyName::VALUES.iter().map(|(name, _)| *name).eq(POLICIES));
        assert_eq!(Policy::named("none").unwrap_err(), PolicyError::Unknown("none".to_owned()));
    }

    #[test]
    fn an_own_policy_changes_the_one_that_it_is_based_on() {
        let text = r#"{"base": "cdi", "formats": ["raw"], "refuse": ["encrypted"], "allow": ["backing-file"], "max-virtual-size": 512}"#;
        let policy = Policy::parse("mine", text).unwrap();
        let mut seen = Seen::default();
        seen.find(Encrypted, "");
        seen.find(BackingFile, "");
        seen.find(CorruptMark, "");
        let refused = policy.judge(&mut seen, Measure { format: "qcow2", virtual_size: Some(513) });
        assert_eq!(refused, [FormatNotAllowed, CorruptMark, Encrypted, TooLarge]);
    }

    #[test]
    fn what_is_no_policy_is_refused_by_name() {
        let refusal = |text: &str| Policy::parse("mine", text).unwrap_err();
        assert!(matches!(refusal("["), PolicyError::Json(_)));
        for (text, says) in [
            ("[]", "expected: object"),
            (r#"{"base": "x"}"#, "'base' does not accept value 'x'"),
            (r#"{"allow": ["x"]}"#, "does not accept value 'x'"),
            (r#"{"deny": []}"#, "'deny' is unexpected"),
            (r#"{"formats": "raw"}"#, "'formats'"),
            (r#"{"max-virtual-size": -1}"#, "'max-virtual-size'"),
        ] {
            let error = refusal(text).to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
