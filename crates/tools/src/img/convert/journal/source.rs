//! By what a source is known again: the files that it is made of, and when they were last changed.
//!
//! What has no time of its last change (a device, an export of a server) is read again: what was copied of it must be what it
//! shows now.

use api::{Dict, Value};
use block::{Identity, Node};
use rt::FileKind;
use std::sync::Arc;

/// Members of a file's description that only a change of its content changes.
const CONTENT: [&str; 3] = ["size", "inode", "modified"];

/// The description of a source: its name, format and size, and its files.
pub(super) async fn describe(node: &Arc<Node>) -> Dict {
    let mut files = Vec::new();
    for file in files_of(node) {
        files.push(Value::Dict(describe_file(&file).await));
    }
    let mut about = Dict::new();
    about.insert("filename", node.exact_filename().as_str());
    about.insert("format", node.driver_name());
    about.insert("size", node.length());
    about.insert("files", Value::List(files));
    about
}

/// The nodes at the bottom of an image, each once.
fn files_of(node: &Arc<Node>) -> Vec<Arc<Node>> {
    let (mut open, mut files): (_, Vec<Arc<Node>>) = (vec![node.clone()], Vec::new());
    while let Some(node) = open.pop() {
        let children = node.edges().all();
        if children.is_empty() && !files.iter().any(|file| Arc::ptr_eq(file, &node)) {
            files.push(node);
            continue;
        }
        open.extend(children.iter().rev().map(|child| child.node.clone()));
    }
    files
}

async fn describe_file(file: &Arc<Node>) -> Dict {
    let (name, mut about) = (file.exact_filename(), Dict::new());
    about.insert("filename", name.as_str());
    about.insert("size", file.length());
    // The name may lead to another file by now.
    let stat = rt::fs::stat(&rt::fs::path(&name)).await;
    let same = |stat: &rt::FileStat| Some(Identity::of_file(stat)) == file.driver().identity();
    if let Ok(stat) = stat
        && stat.kind == FileKind::Regular
        && same(&stat)
    {
        about.insert("inode", stat.ino);
        about.insert("modified", stat.modified_ns);
        about.insert("changed", stat.changed_ns);
    }
    about
}

/// What became of a source.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Now {
    /// It is as it was.
    Same,
    /// Whether its content is the same, its files don't tell.
    Unknown,
    /// It is another one, or has changed: what, and how.
    Changed(String),
}

/// Compares what a source was with what it is.
pub(super) fn compare(was: &Dict, is: &Dict) -> Now {
    let name = is.get("filename").and_then(Value::as_str).unwrap_or_default();
    if let Some(changed) = ["filename", "format", "size"].iter().find_map(|member| differs(was, is, member)) {
        return Now::Changed(format!("source '{name}': {changed}"));
    }
    let list =
        |about: &Dict| about.get("files").and_then(Value::as_list).map(<[Value]>::to_vec).unwrap_or_default();
    let (before, now) = (list(was), list(is));
    if before.len() != now.len() {
        return Now::Changed(format!("source '{name}' has {} files, and had {}", now.len(), before.len()));
    }
    let mut found = Now::Same;
    for (was, is) in before.iter().zip(&now) {
        let (Some(was), Some(is)) = (was.as_dict(), is.as_dict()) else {
            return Now::Changed(format!("source '{name}': its files are not described"));
        };
        let file = is.get("filename").and_then(Value::as_str).unwrap_or_default();
        let all = ["filename"].iter().chain(&CONTENT);
        if let Some(changed) = all.into_iter().find_map(|member| differs(was, is, member)) {
            return Now::Changed(format!("'{file}', of source '{name}', has changed: {changed}"));
        }
        // Its owner, its links: or somebody has set its time back.
        if is.get("changed").is_none() || was.get("changed") != is.get("changed") {
            found = Now::Unknown;
        }
    }
    found
}

fn differs(was: &Dict, is: &Dict, member: &str) -> Option<String> {
    let (was, is) = (was.get(member), is.get(member));
    (was != is).then(|| super::differs(member, was, is))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(size: u64, inode: u64, modified: i64, changed: Option<i64>) -> Dict {
        let mut file = Dict::new();
        file.insert("filename", "/f");
        file.insert("size", size);
        file.insert("inode", inode);
        file.insert("modified", modified);
        if let Some(changed) = changed {
            file.insert("changed", changed);
        }
        let mut about = Dict::new();
        about.insert("filename", "/f");
        about.insert("format", "raw");
        about.insert("size", size);
        about.insert("files", Value::List(vec![Value::Dict(file)]));
        about
    }

    #[test]
    fn what_changed_is_named_and_what_may_have_changed_is_not_taken_for_the_same() {
        let was = file(512, 7, 100, Some(100));
        assert_eq!(compare(&was, &was), Now::Same);
        assert_eq!(compare(&was, &file(512, 7, 100, Some(101))), Now::Unknown);
        assert_eq!(compare(&file(512, 7, 100, None), &file(512, 7, 100, None)), Now::Unknown);
        for (is, what) in [
            (file(1024, 7, 100, Some(100)), "size"),
            (file(512, 8, 100, Some(100)), "inode"),
            (file(512, 7, 101, Some(101)), "modified"),
        ] {
            let Now::Changed(text) = compare(&was, &is) else { panic!("{what}") };
            assert!(text.contains(what) && text.contains("/f"), "{text}");
        }
    }
}
