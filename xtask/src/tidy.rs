//! `cargo xtask tidy`: the rules of this code that no lint has.
//!
//! Here: words and names that no file has, and lengths. [`arrows`]: who may use whom. [`neutral`]: what core, tools and monitor name.

mod arrows;
mod neutral;

use std::fs;
use std::path::{Path, PathBuf};

/// A file longer than this is reported.
const LONG: usize = 800;
/// A file longer than this is refused.
const TOO_LONG: usize = 1000;

/// Folders of generated code.
const GENERATED: [&str; 2] = ["crates/api/src/generated", "crates/api/src/language"];
/// The crates that may have unsafe code: `crypto` and `tls` deny it but in the modules that call a library in C, `ceph` is what calls
/// one.
const UNSAFE: [&str; 4] = ["crates/ceph", "crates/crypto", "crates/rt", "crates/tls"];
/// What reaches past the runtime to the operating system: only `rt` may, so that there is one place to bring to another system. Paths of
/// code, and what says why.
const SYSTEM: [(&str, &str); 4] = [
    ("libc::", "a call of the C library"),
    ("rustix::", "a call of the system"),
    ("std::os::linux", "a call that only Linux has"),
    ("io_uring::", "a call that only Linux has"),
];
/// The crate that may.
const RUNTIME: &str = "crates/rt";
/// The numbers of errors are the same in all: a type, not a call.
const NUMBERS: &str = "rustix::io::Errno";

/// Names that say nothing of what is in a file.
const SHAPELESS: [&str; 5] = ["utils", "util", "helpers", "misc", "manager"];
/// Folders below which there is nothing of ours.
const SKIPPED: [&str; 3] = ["target", "build", ".git"];

/// Words that no text of ours has, and why; in two parts, so that this file has them neither.
const BANNED: [(&str, &str, &str); 11] = [
    ("crates", ".io", "names a package registry"),
    ("pypi", ".org", "names a package registry"),
    ("npmjs", ".com", "names a package registry"),
    ("proxy.golang", ".org", "names a package registry"),
    ("TO", "DO", "something is left to do"),
    ("FIX", "ME", "something is left to mend"),
    ("todo", "!(", "something is left to do"),
    ("allow(dead_", "code", "code that nothing uses"),
    ("#[ign", "ore", "a test that does not run"),
    ("db", "g!(", "debugging left behind"),
    ("<<<<", "<<<", "an unfinished merge"),
];

/// Folders of one machine, in two parts as well; a path of ours is relative.
const MACHINE_FOLDERS: [(&str, &str); 2] = [("/wo", "rk"), ("/ro", "ot")];

/// The file of the trait `Driver`, and the line before the methods that no filter passes on.
const DRIVER: &str = "crates/block/src/driver.rs";
const ITSELF: &str = "// ---- of the node itself";

/// Checks every file; prints what is wrong.
pub(crate) fn check(root: &Path) -> Result<(), String> {
    let mut files = Vec::new();
    collect(root, Path::new(""), &mut files)?;
    files.sort();
    let mut faults = 0;
    for path in files {
        let Ok(text) = fs::read_to_string(root.join(&path)) else { continue };
        for fault in faults_of(&path, &text) {
            println!("{}{fault}", path.display());
            faults += 1;
        }
        let lines = text.lines().count();
        if is_ours(&path) && (LONG + 1..=TOO_LONG).contains(&lines) {
            println!("{}: note: {lines} lines; does it hold a second idea?", path.display());
        }
    }
    for fault in arrows::check(root)?.into_iter().chain(neutral::check(root)?) {
        println!("{fault}");
        faults += 1;
    }
    if faults == 0 { Ok(()) } else { Err(format!("{faults} rules are broken")) }
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries =
        fs::read_dir(root.join(folder)).map_err(|e| format!("can't list {}: {e}", folder.display()))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let path = folder.join(&name);
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && !SKIPPED.iter().any(|s| name == *s) => collect(root, &path, files)?,
            Ok(kind) if kind.is_file() => files.push(path),
            _ => {}
        }
    }
    Ok(())
}

/// Whether it is Rust that somebody writes.
fn is_ours(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "rs") && !GENERATED.iter().any(|folder| path.starts_with(folder))
}

/// What is wrong with a file, each as the end of a line that begins with its path.
fn faults_of(path: &Path, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        for (start, end, why) in BANNED {
            if path.extension().is_none_or(|e| e != "lock") && line.contains(&[start, end].concat()) {
                faults.push(format!(":{number}: '{start}{end}': {why}"));
            }
        }
        for (start, end) in MACHINE_FOLDERS {
            let folder = [start, end].concat();
            if names_folder(line, &folder) {
                faults.push(format!(":{number}: '{folder}' is a folder of one machine"));
            }
        }
    }
    if is_ours(path) {
        faults.extend(source_faults(path, text));
    }
    faults
}

fn source_faults(path: &Path, text: &str) -> Vec<String> {
    let mut faults = if path == Path::new(DRIVER) { faults_of_driver(text) } else { Vec::new() };
    let lines = text.lines().count();
    if lines > TOO_LONG {
        faults.push(format!(": {lines} lines, at most {TOO_LONG} are allowed"));
    }
    if path.file_stem().is_some_and(|stem| SHAPELESS.iter().any(|s| stem == *s)) {
        faults.push(": the name does not say what is in it".into());
    }
    if path.starts_with("crates")
        && !path.starts_with(RUNTIME)
        && path.components().any(|part| part.as_os_str() == "src")
    {
        faults.extend(faults_of_system(text));
    }
    let is_root = path.ends_with("src/lib.rs") || path.ends_with("src/main.rs");
    if is_root && !text.starts_with("//!") {
        faults.push(":1: a crate opens with '//!': what it is, its picture, its laws, its bounds".into());
    }
    let may_be_unsafe = UNSAFE.iter().any(|folder| path.starts_with(folder));
    if is_root && !may_be_unsafe && !text.contains("#![forbid(unsafe_code)]") {
        faults.push(": the crate lacks '#![forbid(unsafe_code)]'".into());
    }
    faults
}

/// What passes the runtime by. Tests of a crate stand at the end of a file, or in files that this does not see.
fn faults_of_system(text: &str) -> Vec<String> {
    let code = text.lines().zip(1..).take_while(|(line, _)| !line.starts_with("#[cfg(test)]"));
    let code = code.filter(|(line, _)| !line.trim_start().starts_with("//"));
    let faults = code.flat_map(|(line, number)| {
        let line = line.replace(NUMBERS, "");
        let names = move |path: &str| {
            line.match_indices(path).any(|(at, _)| {
                !line
                    .get(..at)
                    .is_some_and(|before| before.ends_with(|c: char| c.is_alphanumeric() || c == '_'))
            })
        };
        let found = SYSTEM.into_iter().filter(move |(path, _)| names(path));
        found.map(move |(path, what)| format!(":{number}: '{path}': {what}; only {RUNTIME} makes such"))
    });
    faults.collect()
}

/// Defaults of the trait `Driver` that a filter would not pass to its child: a method that is about content (it stands
/// before the part of the node itself) has its default by `through`.
fn faults_of_driver(text: &str) -> Vec<String> {
    let content = text.lines().zip(1..).skip_while(|(line, _)| !line.starts_with("pub trait Driver"));
    let content = content.take_while(|(line, _)| !line.contains(ITSELF));
    let (mut faults, mut method) = (Vec::new(), None);
    for (line, number) in content {
        if line.starts_with("    fn ") && !line.contains("fn filtered(") {
            method = Some((number, false));
        }
        let Some((start, passes)) = &mut method else { continue };
        // By itself, or by another method that does.
        *passes |= ["through(", "self.filtered()", "self.try_map("].iter().any(|way| line.contains(way));
        // A method without a default has to be written by each filter.
        let required = line.ends_with(';') && (line.starts_with("    fn ") || line.starts_with("    ) "));
        if line == "    }" || required {
            if !*passes && !required {
                faults.push(format!(
                    ":{start}: its default does not pass to what a filter filters (`through`)"
                ));
            }
            method = None;
        }
    }
    faults
}

/// Whether `line` has `folder` as an absolute path, alone or with more behind it.
fn names_folder(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line.get(..at).and_then(|s| s.chars().next_back());
        let after = line.get(at + folder.len()..).and_then(|s| s.chars().next());
        let starts = !before.is_some_and(|c| c.is_alphanumeric() || "._-/}$*)".contains(c));
        let ends = !after.is_some_and(|c| c.is_alphanumeric() || "_-.".contains(c));
        starts && ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_one_machine_is_distinguished_from_its_namesakes() {
        let (start, end) = MACHINE_FOLDERS[1];
        let folder = &[start, end].concat();
        for line in [format!("cd {folder}"), format!("\"{folder}/x\""), format!("HOME={folder}/")] {
            assert!(names_folder(&line, folder), "{line}");
        }
        for line in
            [format!("a{folder}"), format!("{folder}fs"), format!("..{folder}/x"), format!("$DIR{folder}")]
        {
            assert!(!names_folder(&line, folder), "{line}");
        }
    }

    #[test]
    fn a_default_that_filters_would_not_pass_on_is_found() {
        let text = include_str!("../../crates/block/src/driver.rs");
        assert_eq!(faults_of_driver(text), Vec::<String>::new());
        let marker = format!("    {ITSELF}");
        let (before, after) = text.split_once(&marker).unwrap();
        let forgotten = "    fn added_later(\n        &self,\n    ) -> u64 {\n        0\n    }\n\n";
        let added = [before, forgotten, &marker, after].concat();
        assert_eq!(faults_of_driver(&added).len(), 1);
        let passed = forgotten.replace("        0", "        through(self, |below| below.length(), || 0)");
        assert!(faults_of_driver(&[before, &passed, &marker, after].concat()).is_empty());
        let required = "    fn added_later(\n        &self,\n    ) -> u64;\n\n    fn other(&self) {\n    }\n";
        assert_eq!(faults_of_driver(&[before, required, &marker, after].concat()).len(), 1);
    }

    #[test]
    fn each_rule_finds_its_fault() {
        let lib = Path::new("crates/x/src/lib.rs");
        let good = "//! X.\n#![forbid(unsafe_code)]\n";
        assert!(faults_of(lib, good).is_empty());
        assert!(faults_of(Path::new("crates/rt/src/lib.rs"), "//! X.\n").is_empty());
        for (start, end, _) in BANNED {
            assert_eq!(faults_of(lib, &format!("{good}// {start}{end}\n")).len(), 1, "{start}{end}");
        }
        assert_eq!(faults_of(lib, "#![forbid(unsafe_code)]\n").len(), 1);
        assert_eq!(faults_of(lib, "//! X.\n").len(), 1);
        assert_eq!(faults_of(lib, &format!("{good}{}", "\n".repeat(TOO_LONG))).len(), 1);
        assert_eq!(faults_of(Path::new("crates/x/src/utils.rs"), "").len(), 1);
        let source = Path::new("crates/x/src/a.rs");
        for (path, _) in SYSTEM {
            assert_eq!(faults_of(source, &format!("use {path}x;\n")).len(), 1, "{path}");
            assert!(faults_of(Path::new("crates/rt/src/a.rs"), &format!("use {path}x;\n")).is_empty());
        }
        assert!(faults_of(source, "use rustix::io::Errno;\n// libc::x\nmylibc::x();\n").is_empty());
        assert!(faults_of(source, "#[cfg(test)]\nmod tests {\n    use libc::c_int;\n}\n").is_empty());
        assert!(faults_of(Path::new("crates/api/src/generated/x.rs"), &"\n".repeat(5000)).is_empty());
    }
}
