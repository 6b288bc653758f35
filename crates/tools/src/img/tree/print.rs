//! The trees for people: an image, and below it those that stand on it.

use crate::console::Console;
use crate::{outln, size};
use api::ImageTreeEntry;

/// A line that is still to be written.
struct Line<'a> {
    entry: &'a ImageTreeEntry,
    indent: String,
    branch: &'static str,
}

/// Prints all trees.
pub(super) fn tree(console: &mut Console, entries: &[ImageTreeEntry]) {
    let is_root = |entry: &&ImageTreeEntry| entry.backing.is_none();
    for root in entries.iter().filter(is_root) {
        below(console, entries, root);
    }
    // Those that stand on themselves have no root.
    for entry in entries.iter().filter(|entry| !is_root(entry) && leads_nowhere(entries, entry)) {
        console.print(format_args!("{}\n", told(entry)));
    }
}

fn leads_nowhere(entries: &[ImageTreeEntry], from: &ImageTreeEntry) -> bool {
    let mut at = from;
    for _ in 0..entries.len() {
        let Some(name) = &at.backing else { return false };
        match entries.iter().find(|entry| entry.filename == *name) {
            Some(next) => at = next,
            None => return false,
        }
    }
    true
}

fn below(console: &mut Console, entries: &[ImageTreeEntry], root: &ImageTreeEntry) {
    let mut lines = vec![Line { entry: root, indent: String::new(), branch: "" }];
    while let Some(Line { entry, indent, branch }) = lines.pop() {
        outln!(console, "{indent}{branch}{}", told(entry));
        let indent = indent
            + match branch {
                "" => "",
                "└─ " => "   ",
                _ => "│  ",
            };
        for user in &entry.users {
            let what = if user.writes { "written" } else { "read" };
            outln!(console, "{indent}   {what} by {}: {}", user.pid, user.command);
        }
        for file in entry.files.iter().flatten() {
            outln!(console, "{indent}   data in {file}");
        }
        let above = |other: &&ImageTreeEntry| other.backing.as_ref() == Some(&entry.filename);
        let standing: Vec<_> = entries.iter().filter(above).collect();
        let last = standing.len().saturating_sub(1);
        lines.extend(standing.into_iter().enumerate().rev().map(|(at, entry)| Line {
            entry,
            indent: indent.clone(),
            branch: if at == last { "└─ " } else { "├─ " },
        }));
    }
}

/// An image on its line.
fn told(entry: &ImageTreeEntry) -> String {
    let mut parts = Vec::new();
    parts.extend(entry.format.clone());
    parts.extend(entry.virtual_size.map(size::human));
    parts.extend(entry.held.map(|held| format!("holds {}", size::human(held))));
    parts.extend(entry.actual_size.map(|bytes| format!("{} on disk", size::human(bytes))));
    parts.extend(entry.encrypted.map(|_| "encrypted".to_owned()));
    parts.extend(entry.snapshots.map(|count| format!("{count} snapshots")));
    parts.extend(entry.problem.as_ref().map(|problem| format!("BROKEN: {problem}")));
    format!("{}  {}", entry.filename, parts.join(", "))
}
