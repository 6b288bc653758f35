//! The core names no driver, job or export, and tools and monitor name no driver, so that they are added without touching
//! any of these; and the core calls no operating system, so that all of it runs under the simulator: files, clock and
//! tasks come from `rt`.
//!
//! The names are those of the schema's enumerations. A string of the sources that is one of them is refused, tests apart.
//! `file` is left out: it is the name of an image's child too, which all of these do know.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use qapi::{Defines, DefinitionKind, Directory};

/// Sources, what of the schema's they do not name, and whether they call the operating system.
struct Neutral {
    folder: &'static str,
    enumerations: &'static [&'static str],
    calls_system: bool,
}

const NEUTRAL: [Neutral; 3] = [
    Neutral {
        folder: "crates/block/src",
        enumerations: &["BlockdevDriver", "JobType", "BlockExportType"],
        calls_system: false,
    },
    Neutral { folder: "crates/monitor/src", enumerations: &["BlockdevDriver"], calls_system: true },
    Neutral { folder: "crates/tools/src", enumerations: &["BlockdevDriver"], calls_system: true },
];

/// Names that stand where they do for a reason: the file, or its folder, and the name.
const APART: [(&str, &str); 6] = [
    // The schema's default.
    ("crates/monitor/src/commands/block_snapshot.rs", "qcow2"),
    // An argument of backups.
    ("crates/tools/src/machine/human/commands.rs", "compress"),
    // An option of drives.
    ("crates/tools/src/machine/drive.rs", "copy-on-read"),
    // The face that is called so.
    ("crates/tools/src/face.rs", "nbd"),
    // The demonstration is a user, and says which images it wants.
    ("crates/tools/src/demo/", "qcow2"),
    ("crates/tools/src/demo/", "raw"),
];

/// Paths of the operating system's interfaces.
const SYSTEM: [&str; 7] =
    ["std::env", "std::fs", "std::net", "std::os", "std::process", "std::thread", "libc::"];

/// Checks all sources that are to be neutral; what is wrong.
pub(super) fn check(root: &Path) -> Result<Vec<String>, String> {
    let mut faults = Vec::new();
    let mut unused: BTreeSet<_> = APART.into_iter().collect();
    for Neutral { folder, enumerations, calls_system } in &NEUTRAL {
        let names = names(root, enumerations)?;
        for path in sources(&root.join(folder))? {
            let text =
                fs::read_to_string(&path).map_err(|e| format!("can't read {}: {e}", path.display()))?;
            let file = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            if !calls_system {
                faults.extend(system(&text).into_iter().map(|(line, path)| {
                    format!("{file}:{line}: '{path}': the core calls no operating system; use rt")
                }));
            }
            for (line, name) in named(&text, &names) {
                match APART.into_iter().find(|(at, apart)| file.starts_with(at) && *apart == name) {
                    Some(apart) => drop(unused.remove(&apart)),
                    None => faults.push(format!(
                        "{file}:{line}: '{name}': nothing is named here of {}",
                        enumerations.join(", ")
                    )),
                }
            }
        }
    }
    faults.extend(
        unused.into_iter().map(|(at, name)| format!("{at}: '{name}' is allowed here, but not there")),
    );
    Ok(faults)
}

/// The sources below a folder that are part of the product: modules that are declared for tests only are left out.
fn sources(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(|e| format!("can't list {}: {e}", folder.display()))?;
        let paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        let mut tests = BTreeSet::new();
        for root in paths.iter().filter(|path| path.ends_with("lib.rs") || path.ends_with("mod.rs")) {
            let text = fs::read_to_string(root).map_err(|e| format!("can't read {}: {e}", root.display()))?;
            tests.extend(test_modules(&text));
        }
        for path in paths {
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            if tests.contains(stem) {
                continue;
            }
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    Ok(found)
}

/// The modules, with files of their own, that a source declares for tests only.
fn test_modules(text: &str) -> Vec<String> {
    let declared = |after: &str| {
        let line = after.trim_start().lines().next()?.strip_suffix(';')?;
        Some(line.split_once("mod ")?.1.to_owned())
    };
    text.split("#[cfg(test)]").skip(1).filter_map(declared).collect()
}

/// What the schema has in these enumerations.
fn names(root: &Path, enumerations: &[&str]) -> Result<BTreeSet<String>, String> {
    let fail = |e: qapi::Error| format!("schema/{e}");
    let schema = qapi::load(&Directory(root.join("schema")), "cairn.json").map_err(fail)?;
    let schema = schema.configured(&Defines::new()).map_err(fail)?;
    let mut names = BTreeSet::new();
    for name in enumerations {
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
    fn modules_for_tests_are_known_by_how_they_are_declared() {
        let text = "mod a;\n#[cfg(test)]\npub mod b;\nmod c;\n#[cfg(test)]\nmod tests {\nuse d;\n}\n#[cfg(test)]\nmod e;\n";
        assert_eq!(test_modules(text), ["b", "e"]);
    }

    #[test]
    fn the_schema_has_the_names() {
        let names = names(&crate::root(), NEUTRAL[0].enumerations).unwrap();
        assert!(["qcow2", "commit", "nbd"].iter().all(|name| names.contains(*name)), "{names:?}");
    }
}
