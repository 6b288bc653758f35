//! Completions for bash, version 4.2 or later, without other scripts.

use super::values::Values;
use super::{formats, with_values, words};
use crate::usage::Page;
use std::fmt::Write;

const HEAD: &str = r#"# Completions of cairn for bash; made by 'cairn completions bash'.

_cairn() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command= at
    # A value behind '=' is a word of its own to bash.
    if [[ $word == = ]]; then
        word=
    elif [[ $before == = ]]; then
        before=${COMP_WORDS[COMP_CWORD-2]}
    fi
    for ((at = 1; at < COMP_CWORD; at++)); do
        case "$command ${COMP_WORDS[at]}" in
"#;

const TAIL: &str = r#"    esac
    case $kind in
        files) mapfile -t COMPREPLY < <(compgen -f -- "$word"); compopt -o filenames ;;
        folders) mapfile -t COMPREPLY < <(compgen -d -- "$word"); compopt -o filenames ;;
        none) COMPREPLY=() ;;
        *) mapfile -t COMPREPLY < <(compgen -W "$kind" -- "$word") ;;
    esac
    if [[ $kind == files && $word == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$flags" -- "$word")
    fi
}

complete -F _cairn cairn
"#;

/// The script that completes all that the pages name.
pub(super) fn script(pages: &[Page]) -> String {
    let mut script = HEAD.to_owned();
    let commands: Vec<String> =
        pages.iter().map(|page| words(page).join(" ")).filter(|c| !c.is_empty()).collect();
    for command in &commands {
        // Writing to a string does not fail.
        writeln!(script, "            '{}') command='{command}' ;;", spaced(command)).ok();
    }
    script += "        esac\n    done\n    local kind=files flags=\n    case $command in\n";
    for page in pages {
        let command = words(page).join(" ");
        let flags: Vec<_> = page.flags.iter().flat_map(|flag| flag.names.split(' ')).collect();
        writeln!(script, "        '{command}')\n            flags='{}'", flags.join(" ")).ok();
        if !page.commands.is_empty() {
            let below: Vec<_> = page.commands.iter().map(|(name, _)| *name).collect();
            writeln!(script, "            kind='{}'", below.join(" ")).ok();
            script += "            [[ $word == -* ]] && kind=$flags\n";
        }
        let values: Vec<_> = with_values(page).collect();
        if !values.is_empty() {
            script += "            case $before in\n";
            for (flag, value) in values {
                let kind = match Values::of(value) {
                    Values::Words(words) => words.replace('|', " "),
                    Values::Format => formats(),
                    Values::File => "files".to_owned(),
                    Values::Directory => "folders".to_owned(),
                    Values::Other => "none".to_owned(),
                };
                let names = flag.names.replace(' ', "|");
                writeln!(script, "                {names}) kind='{kind}' ;;").ok();
            }
            script += "            esac\n";
        }
        script += "            ;;\n";
    }
    script + TAIL
}

/// The command so far, and its next word.
fn spaced(command: &str) -> String {
    match command.rsplit_once(' ') {
        Some((first, last)) => format!("{first} {last}"),
        None => format!(" {command}"),
    }
}
