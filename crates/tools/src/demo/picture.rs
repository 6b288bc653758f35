//! Pictures in text: the graph as a tree, a job as a bar.

use api::Value;

/// Width of the bar in characters.
const BAR: u64 = 40;

/// A bar with the bytes behind it.
pub(super) fn bar(done: u64, all: u64) -> String {
    let filled = done.min(all).saturating_mul(BAR).checked_div(all).unwrap_or(BAR);
    let filled = usize::try_from(filled).unwrap_or(0);
    let rest = usize::try_from(BAR).unwrap_or(0).saturating_sub(filled);
    format!("[{}{}] {:>4} of {} MiB", "█".repeat(filled), "░".repeat(rest), done >> 20, all >> 20)
}

/// The nodes below each export, each with its children.
pub(super) fn graph(nodes: &Value, exports: &Value) -> String {
    let nodes = nodes.as_list().unwrap_or_default();
    let mut text = String::new();
    for export in exports.as_list().unwrap_or_default() {
        text += &format!("  export '{}' ({})\n", word(export, "id"), word(export, "type"));
        below(&mut text, nodes, word(export, "node-name"), "  ", "");
    }
    text
}

fn below(text: &mut String, nodes: &[Value], name: &str, indent: &str, role: &str) {
    let Some(node) = nodes.iter().find(|n| word(n, "node-name") == name) else { return };
    let access = if node.get("ro").and_then(Value::as_bool) == Some(true) { "ro" } else { "rw" };
    let file = word(node, "file").rsplit('/').next().unwrap_or_default();
    *text += &format!("{indent}└─ {role}{name} [{} {access}] {file}\n", word(node, "drv"));
    // A node that nests deeper than its name list is long is not one of ours; the tree is cut there.
    if indent.len() > 3 * nodes.len() + 3 {
        return;
    }
    for child in node.get("children").and_then(Value::as_list).unwrap_or_default() {
        let role = format!("{}: ", word(child, "child"));
        below(text, nodes, word(child, "node-name"), &format!("{indent}   "), &role);
    }
}

fn word<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_full_when_all_is_done_and_when_there_is_nothing_to_do() {
        assert!(!bar(7, 7).contains('░'));
        assert!(!bar(0, 0).contains('░'));
        assert!(!bar(0, 7).contains('█'));
    }
}
