//! The graph as text: below each user, and each node that nobody uses, a tree. A node is described where it is met first.

use super::picture::{Item, Kind, Link, Picture};
use crate::console::printable;
use std::fmt::Write;

/// A line that is still to be written.
struct Line<'a> {
    item: usize,
    /// The edge by which it is reached; none for a root.
    link: Option<&'a Link>,
    /// What stands before the line's own branch.
    indent: String,
    is_last: bool,
}

/// Draws it.
pub(super) fn draw(picture: &Picture) -> String {
    let mut text = String::new();
    let mut shown = vec![false; picture.items.len()];
    for root in picture.roots() {
        below(&mut text, picture, root, &mut shown);
    }
    // What is used, but by nothing that leads to a root.
    for item in 0..picture.items.len() {
        if shown.get(item) == Some(&false) {
            below(&mut text, picture, item, &mut shown);
        }
    }
    text
}

fn below(text: &mut String, picture: &Picture, root: usize, shown: &mut [bool]) {
    let mut lines = vec![Line { item: root, link: None, indent: String::new(), is_last: true }];
    while let Some(Line { item: index, link, indent, is_last }) = lines.pop() {
        let Some(item) = picture.items.get(index) else { continue };
        let again = shown.get_mut(index).is_none_or(|shown| std::mem::replace(shown, true));
        let branch = match (link, is_last) {
            (None, _) => "",
            (Some(_), true) => "└─ ",
            (Some(_), false) => "├─ ",
        };
        let edge = link.map(edge).unwrap_or_default();
        // Writing to a string does not fail.
        writeln!(text, "{indent}{branch}{edge}{}", described(item, again)).ok();
        if again {
            continue;
        }
        let indent = match link {
            None => String::new(),
            Some(_) => indent + if is_last { "   " } else { "│  " },
        };
        let children = picture.links_of(index);
        let lines_below = children.iter().enumerate().map(|(at, link)| Line {
            item: link.to,
            link: Some(link),
            indent: indent.clone(),
            is_last: at + 1 == children.len(),
        });
        lines.extend(lines_below.rev());
    }
}

/// The edge's name and permissions, each with a blank behind it.
fn edge(link: &Link) -> String {
    let words = [link.role.as_str(), link.perms.as_str()];
    words.iter().filter(|word| !word.is_empty()).map(|word| format!("{word} ")).collect()
}

fn described(item: &Item, again: bool) -> String {
    let mut text = match item.kind {
        Kind::Node => item.name.clone(),
        kind if item.name.is_empty() => kind.to_string(),
        kind => format!("{kind} {}", item.name),
    };
    if again {
        return text + " (above)";
    }
    let facts: Vec<_> = item.facts.iter().map(String::as_str).collect();
    if !facts.is_empty() {
        text += &format!(" [{}]", facts.join(", "));
    }
    if let Some(file) = &item.file {
        text += &format!(" {file}");
    }
    // A name with a line's end or an escape sequence in it must not become one here.
    printable(&text)
}
