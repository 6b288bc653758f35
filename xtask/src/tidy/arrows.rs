//! Who may use whom: crates by the picture in ARCHITECTURE.md, modules by not going in circles.
//!
//! ```text
//! ARCHITECTURE.md, first picture: a line is a level; a crate may use crates of lower lines only
//! ```
//!
//! Crates for tests stand beside the levels: they may use anything, and others have them as dev-dependencies only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Crates that are there for tests and for building.
const BESIDE: [&str; 3] = ["fuzz", "testkit", "xtask"];

/// Crates that only these use, besides those for tests.
const ONLY_FOR: [(&str, &[&str]); 2] = [("crash", &["tools"]), ("sim", &["crash", "tools"])];

/// Crates whose modules refer down only. In the others a trait and the types in its signatures still refer to each other.
const WITHOUT_CIRCLES: [&str; 7] = ["codec", "filters", "formats", "nbd", "protocols", "rt", "sim"];

/// Checks all crates; what is wrong.
pub(super) fn check(root: &Path) -> Result<Vec<String>, String> {
    let read =
        |path: &Path| fs::read_to_string(path).map_err(|e| format!("can't read {}: {e}", path.display()));
    let crates = crates(root)?;
    let levels = levels(&read(&root.join("ARCHITECTURE.md"))?, &crates);
    let mut faults = Vec::new();
    for name in &crates {
        let folder = root.join("crates").join(name);
        let used = dependencies(&read(&folder.join("Cargo.toml"))?, &crates);
        faults.extend(upward(name, &used, &levels));
        if WITHOUT_CIRCLES.contains(&name.as_str()) {
            let circle = circle(&modules(&folder.join("src"))?);
            faults
                .extend(circle.map(|c| format!("crates/{name}/src: modules in a circle: {}", c.join(" → "))));
        }
    }
    Ok(faults)
}

/// Names of the crates of the workspace.
fn crates(root: &Path) -> Result<BTreeSet<String>, String> {
    let entries = fs::read_dir(root.join("crates")).map_err(|e| format!("can't list crates: {e}"))?;
    Ok(entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect())
}

/// The level of each crate in the first picture of a page; 0 is the highest.
fn levels(page: &str, crates: &BTreeSet<String>) -> BTreeMap<String, usize> {
    let picture = page.split("```").nth(1).unwrap_or_default();
    let mut levels = BTreeMap::new();
    for (level, line) in picture.lines().enumerate() {
        let words = line.split_whitespace().filter(|word| *word != "|");
        for name in words.take_while(|word| crates.contains(*word)) {
            levels.entry(name.to_owned()).or_insert(level);
        }
    }
    levels
}

/// The crates of the workspace that a manifest has as dependencies of what is built, not of tests.
fn dependencies(manifest: &str, crates: &BTreeSet<String>) -> Vec<String> {
    let mut section = "";
    let mut found = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section == "[dependencies]" {
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            found.extend(crates.get(name).cloned());
        }
    }
    found
}

/// What of `used` does not stand below the crate `name`.
fn upward(name: &str, used: &[String], levels: &BTreeMap<String, usize>) -> Vec<String> {
    if BESIDE.contains(&name) {
        return Vec::new();
    }
    let Some(level) = levels.get(name) else {
        return vec![format!("crates/{name}: ARCHITECTURE.md's picture does not show where it stands")];
    };
    let below = |used: &str| !BESIDE.contains(&used) && levels.get(used).is_some_and(|l| l > level);
    let meant = |used: &str| ONLY_FOR.iter().all(|(only, users)| *only != used || users.contains(&name));
    used.iter()
        .filter(|used| !below(used) || !meant(used))
        .map(|used| {
            format!(
                "crates/{name}/Cargo.toml: uses '{used}', which does not stand below it, or is not for it"
            )
        })
        .collect()
}

/// Which modules each top module of a crate refers to.
fn modules(folder: &Path) -> Result<BTreeMap<String, BTreeSet<String>>, String> {
    let (mut texts, mut folders) = (Vec::new(), vec![(folder.to_owned(), None::<String>)]);
    while let Some((at, top)) = folders.pop() {
        let entries = fs::read_dir(&at).map_err(|e| format!("can't list {}: {e}", at.display()))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default().to_owned();
            let top = top.clone().unwrap_or(stem);
            if path.is_dir() {
                folders.push((path, Some(top)));
            } else if path.extension().is_some_and(|e| e == "rs") && top != "lib" {
                let text =
                    fs::read_to_string(&path).map_err(|e| format!("can't read {}: {e}", path.display()))?;
                texts.push((top, text));
            }
        }
    }
    let names: BTreeSet<String> = texts.iter().map(|(name, _)| name.clone()).collect();
    let mut modules: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, text) in texts {
        let used = referred(&text, &names).into_iter().filter(|used| *used != name);
        modules.entry(name.clone()).or_default().extend(used);
    }
    Ok(modules)
}

/// The modules of the own crate that a source names by `crate::`, tests and comments left out.
fn referred(text: &str, names: &BTreeSet<String>) -> BTreeSet<String> {
    let product = text.split("#[cfg(test)]").next().unwrap_or_default();
    let code: String = product.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let list = match rest.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap_or_default().split(',').collect(),
            None => vec![rest],
        };
        for path in list {
            let end = path.trim().find(|c: char| !c.is_alphanumeric() && c != '_');
            let name = path.trim().get(..end.unwrap_or(path.trim().len())).unwrap_or_default();
            found.extend(names.get(name).cloned());
        }
    }
    found
}

/// A way from a module back to itself, if there is one.
fn circle(modules: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    modules.keys().find_map(|start| {
        let (mut seen, mut ways) = (BTreeSet::new(), vec![vec![start.clone()]]);
        while let Some(way) = ways.pop() {
            for next in way.last().and_then(|last| modules.get(last)).into_iter().flatten() {
                let longer = [way.as_slice(), std::slice::from_ref(next)].concat();
                if next == start {
                    return Some(longer);
                }
                if seen.insert(next.clone()) {
                    ways.push(longer);
                }
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn a_crate_uses_only_what_stands_below_it() {
        let crates = names(&["top", "left", "right", "base", "sim", "testkit"]);
        let page = "```text\ntop    the program\n  left | right   two\n    base  of all\n      sim\n```\n```text\nbase top\n```";
        let levels = levels(page, &crates);
        let manifest = |used: &str| {
            format!("[dependencies]\nlibc.workspace = true\n{used}\n[dev-dependencies]\ntop = {{}}\n")
        };
        let faults =
            |name: &str, used: &str| upward(name, &dependencies(&manifest(used), &crates), &levels).len();
        assert_eq!(faults("top", "left.workspace = true\nbase = { path = \"x\" }"), 0);
        assert_eq!(faults("left", "base.workspace = true"), 0);
        assert_eq!(faults("left", "right.workspace = true"), 1, "a wing knows no other");
        assert_eq!(faults("base", "top.workspace = true\nleft.workspace = true"), 2);
        assert_eq!(
            faults("top", "testkit.workspace = true"),
            1,
            "what is for tests is no part of the product"
        );
        assert_eq!(faults("testkit", "top.workspace = true"), 0);
        assert_eq!(faults("left", "sim.workspace = true"), 1, "it stands below, and is for others");
        assert_eq!(upward("new", &[], &levels).len(), 1, "it is not in the picture");
    }

    #[test]
    fn modules_in_a_circle_are_found_and_tests_and_comments_are_no_part_of_it() {
        let all = names(&["a", "b", "c"]);
        let of = |text: &str| referred(text, &all);
        assert_eq!(of("use crate::a::X;\nuse crate::{b, c::Y};\nfn f() { crate::d::g() }"), all);
        assert!(of("// crate::a\n/// [`crate::b`]\n#[cfg(test)]\nmod tests { use crate::c; }").is_empty());
        let graph = |edges: &[(&str, &[&str])]| {
            edges.iter().map(|(name, used)| (name.to_string(), names(used))).collect::<BTreeMap<_, _>>()
        };
        assert_eq!(circle(&graph(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[])])), None);
        let found = circle(&graph(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"])]));
        assert_eq!(found, Some(["b", "c", "b"].map(String::from).to_vec()));
    }
}
