//! The core names no driver, job or export, so that they are added without touching it; and it calls no operating system,
//! so that all of it runs under the simulator: files, clock and tasks come from `rt`.
//!
//! The names are those of the schema's enumerations. A string of the core's sources that is one of them is refused, tests
//! apart. `file` is left out: it is the name of an image's child too, which the core does know.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use qapi::{Defines, DefinitionKind, Directory};

/// The sources that name nothing.
const CORE: &str = "crates/block/src";

/// Paths of the operating system's interfaces.
const SYSTEM: [&str; 7] =
    ["std::env", "std::fs", "std::net", "std::os", "std::process", "std::thread", "libc::"];

/// The schema's enumerations of what is added.
const ENUMERATIONS: [&str; 3] = ["BlockdevDriver", "JobType", "BlockExportType"];

/// Checks the core's sources; what is wrong.
pub(super) fn check(root: &Path) -> Result<Vec<String>, String> {
    let names = names(root)?;
    let mut faults = Vec::new();
    let mut folders = vec![root.join(CORE)];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(|e| format!("can't list {}: {e}", folder.display()))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text =
                fs::read_to_string(&path).map_err(|e| format!("can't read {}: {e}", path.display()))?;
            let file = path.strip_prefix(root.join(CORE)).unwrap_or(&path).display().to_string();
            for (line, path) in system(&text) {
                faults.push(format!(
                    "{CORE}/{file}:{line}: '{path}': the core calls no operating system; use rt"
                ));
            }
            for (line, name) in named(&text, &names) {
                faults
                    .push(format!("{CORE}/{file}:{line}: '{name}': the core names no driver, job or export"));
            }
        }
    }
    Ok(faults)
}

/// What the schema calls drivers, jobs and exports.
fn names(root: &Path) -> Result<BTreeSet<String>, String> {
    let fail = |e: qapi::Error| format!("schema/{e}");
    let schema = qapi::load(&Directory(root.join("schema")), "cairn.json").map_err(fail)?;
    let schema = schema.configured(&Defines::new()).map_err(fail)?;
    let mut names = BTreeSet::new();
    for name in ENUMERATIONS {
        match schema.definition(name).map(|definition| &definition.kind) {
            Some(DefinitionKind::Enum(values)) => {
                names.extend(values.values.iter().map(|value| value.name.clone()))
            }
            _ => return Err(format!("the schema has no enumeration '{name}'")),
        }
    }
    names.remove("file");
    Ok(names)
}

/// The lines of a source, by number; comments and tests left out.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let product = text.split("#[cfg(test)]").next().unwrap_or_default();
    (1..).zip(product.lines()).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// The paths of the operating system that a source names, with their lines.
fn system(text: &str) -> Vec<(usize, &'static str)> {
    let named = |(number, line): (usize, &str)| {
        let found = SYSTEM.into_iter().find(|path| line.contains(path));
        found.map(|path| (number, path))
    };
    code(text).filter_map(named).collect()
}

/// The strings of a source that are one of `names`, with their lines.
fn named(text: &str, names: &BTreeSet<String>) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, code) in code(text) {
        // Every second part is between quotes.
        let strings = code.split('"').skip(1).step_by(2);
        found.extend(strings.filter_map(|s| names.get(s)).map(|name| (number, name.clone())));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_counts_where_it_is_a_whole_string_of_the_product() {
        let names = ["qcow2".to_owned()].into();
        let found = |text: &str| named(text, &names).len();
        assert_eq!(named("\nlet f = find(\"qcow2\");", &names), [(2, "qcow2".to_owned())]);
        assert_eq!(found("(\"a\", \"qcow2\") => \"qcow2\""), 2);
        assert_eq!(found("let qcow2 = \"a qcow2 image\"; // \n/// \"qcow2\"\n // \"qcow2\""), 0);
        assert_eq!(found("#[cfg(test)]\nmod tests { const X: &str = \"qcow2\"; }"), 0);
    }

    #[test]
    fn a_call_of_the_operating_system_is_found() {
        assert_eq!(system("\nlet m = std::fs::metadata(p);"), [(2, "std::fs")]);
        assert!(
            system("// std::fs\nuse std::sync::Arc;\n#[cfg(test)]\nmod tests { use std::fs; }").is_empty()
        );
    }

    #[test]
    fn the_schema_has_the_names() {
        let names = names(&crate::root()).unwrap();
        assert!(["qcow2", "commit", "nbd"].iter().all(|name| names.contains(*name)), "{names:?}");
    }
}
