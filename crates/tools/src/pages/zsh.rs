//! Completions for zsh.

use super::values::Values;
use super::{PROGRAM, formats, words};
use crate::usage::{Page, PageFlag};
use std::fmt::Write;

/// The script that completes all that the pages name.
pub(super) fn script(pages: &[Page]) -> String {
    let mut script =
        format!("#compdef {PROGRAM}\n# Completions of cairn for zsh; made by 'cairn completions zsh'.\n");
    for page in pages {
        // Writing to a string does not fail.
        writeln!(script, "\n{}() {{", function(page)).ok();
        if page.commands.is_empty() {
            script += "    _arguments -s -S : \\\n";
            flags(&mut script, page);
            script += "        '*:file:_files'\n}\n";
            continue;
        }
        script += "    local context state state_descr line\n    typeset -A opt_args\n    _arguments -s -S -C : \\\n";
        flags(&mut script, page);
        script += "        '1:command:->command' \\\n        '*::argument:->argument'\n    case $state in\n    command)\n        local -a commands=(\n";
        for (command, about) in &page.commands {
            writeln!(script, "            {}", quoted(&format!("{command}:{}", about.replace(':', "\\:"))))
                .ok();
        }
        script +=
            "        )\n        _describe command commands ;;\n    argument)\n        case $line[1] in\n";
        for below in pages.iter().filter(|below| is_below(below, page)) {
            let word = words(below).last().copied().unwrap_or_default();
            writeln!(script, "        {word}) {} ;;", function(below)).ok();
        }
        script += "        esac ;;\n    esac\n}\n";
    }
    script + "\n_cairn \"$@\"\n"
}

fn is_below(page: &Page, above: &Page) -> bool {
    page.name.rsplit_once(' ').is_some_and(|(first, _)| first == above.name)
}

fn function(page: &Page) -> String {
    format!("_{}", page.name.replace([' ', '-'], "_"))
}

fn flags(script: &mut String, page: &Page) {
    for flag in &page.flags {
        let value = flag.value.map(|value| format!(":{}", action(value))).unwrap_or_default();
        for name in flag.names.split(' ') {
            let takes = match (flag.value.is_some(), name.starts_with("--")) {
                (false, _) => "",
                (true, true) => "=",
                (true, false) => "+",
            };
            writeln!(
                script,
                "        {} \\",
                quoted(&format!("{}{name}{takes}[{}]{value}", apart(flag), told(flag.help)))
            )
            .ok();
        }
    }
}

/// The spellings of a flag: one of them excludes the others, unless it may be given several times with other values.
fn apart(flag: &PageFlag) -> String {
    match flag.value {
        Some(_) => "*".to_owned(),
        None => format!("({})", flag.names),
    }
}

fn told(help: &str) -> String {
    help.replace('[', "(").replace(']', ")").replace(':', "\\:")
}

fn action(value: &'static str) -> String {
    match Values::of(value) {
        Values::Words(words) => format!("value:({})", words.replace('|', " ")),
        Values::Format => format!("format:({})", formats()),
        Values::File => "file:_files".to_owned(),
        Values::Directory => "directory:_files -/".to_owned(),
        Values::Other => "value: ".to_owned(),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
