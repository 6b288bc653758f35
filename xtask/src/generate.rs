//! `cargo xtask generate`: schemas to Rust.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use qapi::generate::{File, Options};
use qapi::{Defines, Directory};

/// A schema and the folder of the code that comes from it.
struct Target {
    schema: &'static str,
    main: &'static str,
    folder: &'static str,
    /// What the schema and the session answer by themselves.
    answered_by_api: &'static [&'static str],
}

const TARGETS: [Target; 2] = [
    Target {
        schema: "schema",
        main: "cairn.json",
        folder: "crates/api/src/generated",
        answered_by_api: &["qmp_capabilities", "query-version", "query-commands", "query-qmp-schema"],
    },
    // Every construct of the language, for the tests of codec and dispatch.
    Target {
        schema: "crates/qapi/tests",
        main: "constructs.json",
        folder: "crates/api/src/language",
        answered_by_api: &[],
    },
];

/// Writes the generated files and removes those no longer generated.
pub(crate) fn write(root: &Path) -> Result<(), String> {
    let (wanted, found) = (wanted(root)?, found(root)?);
    for (path, text) in &wanted {
        if found.get(path) != Some(text) {
            let folder = path.parent().unwrap_or(root);
            fs::create_dir_all(root.join(folder))
                .map_err(|e| format!("can't make {}: {e}", folder.display()))?;
            fs::write(root.join(path), text).map_err(|e| format!("can't write {}: {e}", path.display()))?;
            println!("wrote {}", path.display());
        }
    }
    for path in found.keys().filter(|path| !wanted.contains_key(*path)) {
        fs::remove_file(root.join(path)).map_err(|e| format!("can't remove {}: {e}", path.display()))?;
        println!("removed {}", path.display());
    }
    Ok(())
}

/// Fails if `write` would change anything.
pub(crate) fn check(root: &Path) -> Result<(), String> {
    let (wanted, found) = (wanted(root)?, found(root)?);
    let paths = wanted.keys().chain(found.keys()).filter(|path| wanted.get(*path) != found.get(*path));
    let mut paths: Vec<String> = paths.map(|path| path.display().to_string()).collect();
    paths.sort_unstable();
    paths.dedup();
    if paths.is_empty() {
        return Ok(());
    }
    Err(format!("not what the schema says: {}; run 'cargo xtask generate'", paths.join(", ")))
}

fn wanted(root: &Path) -> Result<BTreeMap<PathBuf, String>, String> {
    let mut files = BTreeMap::new();
    for target in &TARGETS {
        let fail = |e: qapi::Error| format!("{}/{e}", target.schema);
        let schema = qapi::load(&Directory(root.join(target.schema)), target.main).map_err(fail)?;
        let schema = schema.configured(&Defines::new()).map_err(fail)?;
        let answered_by_api = target.answered_by_api.iter().map(|name| name.to_string()).collect();
        for file in qapi::generate::generate(&schema, &Options { answered_by_api }).map_err(fail)? {
            files.insert(Path::new(target.folder).join(&file.name), formatted(root, &file)?);
        }
    }
    Ok(files)
}

fn found(root: &Path) -> Result<BTreeMap<PathBuf, String>, String> {
    let mut files = BTreeMap::new();
    for target in &TARGETS {
        let Ok(entries) = fs::read_dir(root.join(target.folder)) else { continue };
        for entry in entries.flatten() {
            let path = Path::new(target.folder).join(entry.file_name());
            let text = fs::read_to_string(entry.path())
                .map_err(|e| format!("can't read {}: {e}", path.display()))?;
            files.insert(path, text);
        }
    }
    Ok(files)
}

/// The text as rustfmt leaves it.
fn formatted(root: &Path, file: &File) -> Result<String, String> {
    if !file.name.ends_with(".rs") {
        return Ok(file.text.clone());
    }
    let fail = |what: &str| format!("rustfmt of {}: {what}", file.name);
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024", "--config-path"])
        .arg(root.join("rustfmt.toml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| fail(&e.to_string()))?;
    let mut stdin = child.stdin.take().ok_or_else(|| fail("no input"))?;
    let text = file.text.clone();
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().map_err(|e| fail(&e.to_string()))?;
    if !matches!(writer.join(), Ok(Ok(()))) || !output.status.success() {
        return Err(fail("it refused the text"));
    }
    String::from_utf8(output.stdout).map_err(|e| fail(&e.to_string()))
}
