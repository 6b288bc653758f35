//! Man pages, in the macros of man(7).

use super::file_name;
use crate::usage::{Page, PageFlag};
use std::fmt::Write;

/// A page, which refers to those it belongs with among `all`.
pub(super) fn page(page: &Page, all: &[Page]) -> String {
    let (name, manual) = (file_name(page), &page.manual);
    let mut text = String::new();
    // Writing to a string does not fail.
    writeln!(text, ".TH {} 1 \"\" \"cairn {}\" \"Cairn\"", name.to_uppercase(), env!("CARGO_PKG_VERSION"))
        .ok();
    let about = manual.about.split(". ").next().unwrap_or_default().trim_end_matches('.');
    writeln!(text, ".SH NAME\n{} \\- {}", plain(&name), plain(about)).ok();
    writeln!(text, ".SH SYNOPSIS\n.B {}\n{}", plain(&page.name), line(manual.synopsis)).ok();
    writeln!(text, ".SH DESCRIPTION\n{}", line(manual.about)).ok();
    for paragraph in manual.notes.split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
        writeln!(text, ".PP\n{}", lines(paragraph)).ok();
    }
    if !page.commands.is_empty() {
        text += ".SH COMMANDS\n";
        for (command, about) in &page.commands {
            writeln!(text, ".TP\n.BR {}\\-{} (1)\n{}", plain(&name), plain(command), line(about)).ok();
        }
    }
    text += ".SH OPTIONS\n";
    for flag in &page.flags {
        writeln!(text, ".TP\n{}\n{}", spelling(flag), line(flag.help)).ok();
    }
    for (operand, meaning) in manual.operands {
        writeln!(text, ".TP\n.I {}\n{}", plain(operand), line(meaning)).ok();
    }
    if !manual.examples.is_empty() {
        text += ".SH EXAMPLES\n";
        for (arguments, meaning) in manual.examples {
            writeln!(text, ".TP\n.B {} {}\n{}", plain(&page.name), plain(arguments), line(meaning)).ok();
        }
    }
    let others = all.iter().filter(|other| other.name != page.name && is_near(page, other));
    let others: Vec<_> = others.map(|other| format!(".BR {} (1)", plain(&file_name(other)))).collect();
    if !others.is_empty() {
        writeln!(text, ".SH SEE ALSO\n{}", others.join(",\n")).ok();
    }
    text
}

/// Whether the other one is above, or beside with the same one above.
fn is_near(page: &Page, other: &Page) -> bool {
    let above = |page: &Page| page.name.rsplit_once(' ').map(|(first, _)| first.to_owned());
    above(page).is_some_and(|first| first == other.name) || above(page) == above(other)
}

fn spelling(flag: &PageFlag) -> String {
    let names: Vec<_> = flag.names.split(' ').map(|name| format!("\\fB{}\\fR", plain(name))).collect();
    let value = flag.value.map(|value| format!(" \\fI{}\\fR", plain(value))).unwrap_or_default();
    names.join(", ") + &value
}

/// Text inside of a line.
fn plain(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('"', "\\(dq")
}

/// Text that may begin a line, where a dot or an apostrophe would be a request.
fn line(text: &str) -> String {
    let plain = plain(text);
    if plain.starts_with(['.', '\'']) { format!("\\&{plain}") } else { plain }
}

fn lines(text: &str) -> String {
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}
