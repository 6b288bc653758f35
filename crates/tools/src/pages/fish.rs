//! Completions for fish.

use super::values::Values;
use super::{PROGRAM, formats, words};
use crate::usage::{Page, PageFlag};
use std::fmt::Write;

const HEAD: &str = r#"# Completions of cairn for fish; made by 'cairn completions fish'.

# Whether the words of the command line that are no flags begin with these, and are no more than these if -e is given.
function __cairn_at
    set -l words (string match -v -- '-*' (commandline -opc))[2..]
    if test "$argv[1]" = -e
        set -e argv[1]
        test "$words" = "$argv"
    else
        test "$words[1..$(count $argv)]" = "$argv"
    end
end

"#;

/// The script that completes all that the pages name.
pub(super) fn script(pages: &[Page]) -> String {
    let mut script = HEAD.to_owned();
    for page in pages {
        let words = words(page).join(" ");
        // Writing to a string does not fail.
        for (command, about) in &page.commands {
            let line = format!("complete -c {PROGRAM} -f -n '__cairn_at -e {words}' -a {command}");
            writeln!(script, "{line} -d {}", quoted(about)).ok();
        }
        let here = match (page.commands.is_empty(), words.is_empty()) {
            (true, false) => format!("__cairn_at {words}"),
            _ => format!("__cairn_at -e {words}"),
        };
        for flag in &page.flags {
            writeln!(script, "complete -c {PROGRAM} -n '{here}'{} -d {}", names(flag), quoted(flag.help))
                .ok();
        }
    }
    script
}

fn names(flag: &PageFlag) -> String {
    let mut line = String::new();
    for name in flag.names.split(' ') {
        match name.strip_prefix("--") {
            Some(long) => line += &format!(" -l {long}"),
            None => line += &format!(" -s {}", name.trim_start_matches('-')),
        }
    }
    let Some(value) = flag.value else { return line };
    line + &match Values::of(value) {
        Values::Words(words) => format!(" -x -a '{}'", words.replace('|', " ")),
        Values::Format => format!(" -x -a '{}'", formats()),
        Values::File => " -r -F".to_owned(),
        Values::Directory => " -x -a '(__fish_complete_directories)'".to_owned(),
        Values::Other => " -x".to_owned(),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
