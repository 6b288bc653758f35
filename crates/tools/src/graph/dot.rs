//! The graph in DOT.

use super::picture::{Item, Kind, Picture};
use std::fmt::Write;

/// Draws it.
pub(super) fn draw(picture: &Picture) -> String {
    let mut text = String::from("digraph cairn {\n  node [fontname=\"monospace\", fontsize=10];\n");
    text += "  edge [fontname=\"monospace\", fontsize=9];\n";
    for (index, item) in picture.items.iter().enumerate() {
        let shape = match item.kind {
            Kind::Device => "box3d",
            Kind::Export => "cds",
            Kind::Job => "octagon",
            Kind::User => "ellipse",
            Kind::Node => "box",
        };
        // Writing to a string does not fail.
        writeln!(text, "  n{index} [shape={shape}, label={}];", quoted(&label(item))).ok();
    }
    for link in &picture.links {
        let words = [link.role.as_str(), link.perms.as_str()];
        let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
        writeln!(text, "  n{} -> n{} [label={}];", link.from, link.to, quoted(&words.join("\n"))).ok();
    }
    text + "}\n"
}

fn label(item: &Item) -> String {
    let name = match item.kind {
        Kind::Node => item.name.clone(),
        kind => format!("{kind} {}", item.name),
    };
    let facts = item.facts.join(", ");
    let lines = [Some(name), Some(facts), item.file.clone()];
    lines.into_iter().flatten().filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

/// A string of DOT: quotes and backslashes escaped, a line's end as `\n`, other control characters as `?`.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(letter);
            }
            '\n' => quoted += "\\n",
            control if control.is_control() => quoted.push('?'),
            letter => quoted.push(letter),
        }
    }
    quoted + "\""
}
