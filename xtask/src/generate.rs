//! `cargo xtask generate`: `schema/*.json` to `crates/api/src/generated`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use qapi::generate::Options;
use qapi::{Defines, Directory};

/// The file that includes all sections.
const MAIN: &str = "cairn.json";

/// What the schema and the session answer by themselves.
const ANSWERED_BY_API: [&str; 4] = ["qmp_capabilities", "query-version", "query-commands", "query-qmp-schema"];

/// Writes the generated files and removes those no longer generated.
pub(crate) fn write(root: &Path) -> Result<(), String> {
    let (wanted, found) = (wanted(root)?, found(root)?);
    let folder = folder(root);
    fs::create_dir_all(&folder).map_err(|e| format!("can't make {}: {e}", folder.display()))?;
    for (name, text) in &wanted {
        if found.get(name) != Some(text) {
            fs::write(folder.join(name), text).map_err(|e| format!("can't write {name}: {e}"))?;
            println!("wrote {name}");
        }
    }
    for name in found.keys().filter(|name| !wanted.contains_key(*name)) {
        fs::remove_file(folder.join(name)).map_err(|e| format!("can't remove {name}: {e}"))?;
        println!("removed {name}");
    }
    Ok(())
}

/// Fails if `write` would change anything.
pub(crate) fn check(root: &Path) -> Result<(), String> {
    let (wanted, found) = (wanted(root)?, found(root)?);
    if wanted == found {
        return Ok(());
    }
    let names = wanted.keys().chain(found.keys()).filter(|n| wanted.get(*n) != found.get(*n));
    let mut names: Vec<&str> = names.map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    Err(format!("{} differ from the schema; run 'cargo xtask generate'", names.join(", ")))
}

fn folder(root: &Path) -> PathBuf {
    root.join("crates/api/src/generated")
}

fn wanted(root: &Path) -> Result<BTreeMap<String, String>, String> {
    let schema = qapi::load(&Directory(root.join("schema")), MAIN).map_err(|e| format!("schema/{e}"))?;
    let schema = schema.configured(&Defines::new()).map_err(|e| format!("schema/{e}"))?;
    let options = Options { answered_by_api: ANSWERED_BY_API.map(String::from).to_vec() };
    let files = qapi::generate::generate(&schema, &options).map_err(|e| format!("schema/{e}"))?;
    files.into_iter().map(|f| Ok((f.name.clone(), formatted(root, &f)?))).collect()
}

fn found(root: &Path) -> Result<BTreeMap<String, String>, String> {
    let mut files = BTreeMap::new();
    let Ok(entries) = fs::read_dir(folder(root)) else { return Ok(files) };
    for entry in entries.flatten() {
        let text = fs::read_to_string(entry.path()).map_err(|e| format!("can't read a generated file: {e}"))?;
        files.insert(entry.file_name().to_string_lossy().into_owned(), text);
    }
    Ok(files)
}

/// The text as rustfmt leaves it.
fn formatted(root: &Path, file: &qapi::generate::File) -> Result<String, String> {
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
