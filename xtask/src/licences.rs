//! `cargo xtask licences`: what the dependencies allow us, and whether one of them is there twice.
//!
//! `cargo deny` checks the same and more (advisories); `deny.toml` is for whoever has it. CI asks this instead: the
//! programs' own build takes two minutes, and building that tool first would take several more, for two lists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Licences compatible with ours, by their SPDX names.
const ALLOWED: [&str; 13] = [
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "CC0-1.0",
    "BSL-1.0",
    "bzip2-1.0.6",
    "Unlicense",
    "Unicode-3.0",
];

/// Packages that may be there in several versions, and why.
const SEVERAL: [(&str, &str); 7] = [
    ("syn", "derive macros move to version 3 one by one; none of it is in the product"),
    ("windows-core", "of another system; none of it is in the product"),
    ("windows-implement", "of another system; none of it is in the product"),
    ("windows-interface", "of another system; none of it is in the product"),
    ("windows-link", "of another system; none of it is in the product"),
    ("windows-result", "of another system; none of it is in the product"),
    ("windows-strings", "of another system; none of it is in the product"),
];

/// A package with the licence it states.
struct Package {
    name: String,
    version: String,
    licence: String,
}

/// Checks all packages of the workspace, on every platform.
pub(crate) fn check(root: &Path) -> Result<(), String> {
    let packages = packages(root)?;
    let mut faults = 0;
    let mut fault = |text: String| {
        println!("{text}");
        faults += 1;
    };
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in &packages {
        if !allows(&package.licence) {
            fault(format!(
                "{} {}: licence '{}' is not on the list",
                package.name, package.version, package.licence
            ));
        }
        versions.entry(&package.name).or_default().insert(&package.version);
    }
    for (name, versions) in versions.iter().filter(|(_, versions)| versions.len() > 1) {
        let versions = versions.iter().copied().collect::<Vec<_>>().join(", ");
        match SEVERAL.iter().find(|(several, _)| several == name) {
            Some((_, why)) => println!("note: {name} is there in versions {versions}: {why}"),
            None => fault(format!("{name} is there in versions {versions}; agree on one")),
        }
    }
    for (name, _) in SEVERAL.iter().filter(|(name, _)| versions.get(name).is_none_or(|v| v.len() < 2)) {
        fault(format!("{name} no longer needs its exception"));
    }
    if faults == 0 { Ok(()) } else { Err(format!("{faults} packages are not as they should be")) }
}

fn packages(root: &Path) -> Result<Vec<Package>, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["tree", "--workspace", "--locked", "--target", "all", "--edges", "normal,build,dev"])
        .args(["--prefix", "none", "--format", "{p}|{l}"])
        .current_dir(root)
        .output()
        .map_err(|e| format!("can't run cargo tree: {e}"))?;
    if !output.status.success() {
        return Err(format!("cargo tree: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    let lines: BTreeSet<String> =
        String::from_utf8_lossy(&output.stdout).lines().filter(|l| !l.is_empty()).map(String::from).collect();
    lines.iter().map(|line| package(line)).collect()
}

/// A package from `name v1.2.3 (remarks)|LICENCE (*)`.
fn package(line: &str) -> Result<Package, String> {
    let parts = line.split_once('|').and_then(|(package, licence)| {
        let mut words = package.split(' ');
        Some((words.next()?, words.next()?.strip_prefix('v')?, licence))
    });
    let (name, version, licence) = parts.ok_or_else(|| format!("can't read '{line}' of cargo tree"))?;
    let licence = licence.trim_end_matches(" (*)").trim();
    Ok(Package { name: name.into(), version: version.into(), licence: licence.into() })
}

/// Whether an SPDX expression can be met by allowed licences alone. `/` is an old spelling of OR.
fn allows(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Expression { words: &words, broken: false };
    let met = parser.or();
    met && !parser.broken && parser.words.is_empty()
}

struct Expression<'a> {
    words: &'a [&'a str],
    broken: bool,
}

impl Expression<'_> {
    fn take(&mut self, word: &str) -> bool {
        match self.words.split_first() {
            Some((first, rest)) if *first == word => {
                self.words = rest;
                true
            }
            _ => false,
        }
    }

    fn or(&mut self) -> bool {
        let mut met = self.and();
        while self.take("OR") {
            met |= self.and();
        }
        met
    }

    fn and(&mut self) -> bool {
        let mut met = self.licence();
        while self.take("AND") {
            met &= self.licence();
        }
        met
    }

    /// The next word; there must be one.
    fn word(&mut self) -> String {
        let Some((word, rest)) = self.words.split_first() else {
            self.broken = true;
            return String::new();
        };
        self.words = rest;
        word.to_string()
    }

    fn licence(&mut self) -> bool {
        if self.take("(") {
            let met = self.or();
            self.broken |= !self.take(")");
            return met;
        }
        let mut name = self.word();
        if self.take("WITH") {
            name = format!("{name} WITH {}", self.word());
        }
        ALLOWED.contains(&name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deny_toml_holds_the_same_lists() {
        let text = std::fs::read_to_string(crate::root().join("deny.toml")).unwrap();
        let between =
            |start: &str| text.split(start).nth(1).and_then(|rest| rest.split("\n]").next()).unwrap();
        let strings = |part: &str| part.split('"').skip(1).step_by(2).map(String::from).collect::<Vec<_>>();
        assert_eq!(strings(between("\nallow = [")), ALLOWED);
        let several = SEVERAL.iter().flat_map(|(name, why)| [*name, *why]).collect::<Vec<_>>();
        assert_eq!(strings(between("\nskip = [")), several);
    }

    #[test]
    fn an_expression_is_met_by_allowed_licences_alone() {
        for expression in [
            "MIT",
            "MIT/Apache-2.0",
            "MIT OR Apache-2.0 OR LGPL-2.1-or-later",
            "(MIT OR GPL-3.0-only) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0-only",
        ] {
            assert!(allows(expression), "{expression}");
        }
        for expression in [
            "",
            "GPL-2.0-only",
            "MIT AND GPL-2.0-only",
            "(MIT",
            "MIT)",
            "MIT WITH",
            "MIT OR",
            "GPL-2.0 WITH MIT",
            "MIT MIT",
        ] {
            assert!(!allows(expression), "{expression}");
        }
    }
}
