//! What is told besides a command's result, in words or as JSON: errors, warnings, notes, progress, and what it took.
//!
//! The two flags that choose the form hold for every face and command, also where the rest of the command line makes no sense:
//! so they are taken out of it before anything else is read. As JSON each message is a line of its own on standard error,
//! a `ToolMessage` of `schema/tool-messages.json`.

use crate::failure::Failure;
use crate::usage::PageFlag;
use api::json;
use api::{Encode, ToolMessage, ToolMessageBranch, ToolNote};
use std::fmt;

/// The flags that every command has, as its help shows them.
pub const FLAGS: [PageFlag; 3] = [
    PageFlag { names: "--errors", value: Some("human|json"), help: "how to tell errors (human)" },
    PageFlag {
        names: "--progress",
        value: Some("human|json"),
        help: "how to tell how far it is: json each second, on standard error",
    },
    PageFlag { names: "--stats", value: None, help: "tell at the end what it took: time, processor, memory" },
];

/// How errors, warnings and notes are told, and progress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forms {
    /// Errors, warnings and notes are lines for programs.
    pub errors_as_json: bool,
    /// Progress is told, in lines for programs.
    pub progress_as_json: bool,
    /// What the command took is told at its end.
    pub stats: bool,
}

impl Forms {
    /// Takes the flags that choose the forms out of a command line.
    ///
    /// # Errors
    /// When a form is asked for that there is not.
    pub fn take(args: &mut Vec<String>) -> Result<Forms, Failure> {
        let mut forms = Forms::default();
        let end = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
        let behind = args.split_off(end);
        let mut left = Vec::with_capacity(args.len() + behind.len());
        let mut given = args.drain(..);
        while let Some(arg) = given.next() {
            if let Some(form) = arg.strip_prefix("--errors=") {
                forms.errors_as_json = is_json("--errors", form)?;
            } else if arg == "--errors" {
                let form =
                    given.next().ok_or_else(|| Failure::usage("option '--errors' requires an argument"))?;
                forms.errors_as_json = is_json("--errors", &form)?;
            } else if let Some(form) = arg.strip_prefix("--progress=") {
                forms.progress_as_json = is_json("--progress", form)?;
                if !forms.progress_as_json {
                    left.push("--progress".to_owned());
                }
            } else if arg == "--stats" {
                forms.stats = true;
            } else {
                left.push(arg);
            }
        }
        drop(given);
        left.extend(behind);
        *args = left;
        Ok(forms)
    }

    /// The line that tells a message: its words, or the message as JSON.
    pub fn line(
        self,
        program: &str,
        words: fmt::Arguments<'_>,
        branch: impl FnOnce() -> ToolMessageBranch,
    ) -> String {
        if self.errors_as_json { line(program, branch()) } else { words.to_string() }
    }
}

fn is_json(flag: &str, form: &str) -> Result<bool, Failure> {
    match form {
        "json" => Ok(true),
        "human" => Ok(false),
        other => Err(Failure::usage(format_args!("{flag} expects 'human' or 'json' not '{other}'"))),
    }
}

/// A message as a line of JSON.
pub fn line(program: &str, branch: ToolMessageBranch) -> String {
    json::to_line(&ToolMessage { program: program.to_owned(), branch }.encode())
}

/// The line of a warning.
pub fn warning(program: &str, forms: Forms, text: &str) -> String {
    let branch = || ToolMessageBranch::Warning(ToolNote { message: text.to_owned() });
    forms.line(program, format_args!("{program}: warning: {text}"), branch)
}

/// A note.
pub fn note(text: &impl fmt::Display) -> ToolMessageBranch {
    ToolMessageBranch::Note(ToolNote { message: text.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(line: &str) -> (Forms, String) {
        let mut args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let forms = Forms::take(&mut args).unwrap();
        (forms, args.join(" "))
    }

    #[test]
    fn the_forms_are_taken_out_of_the_command_line_wherever_they_stand() {
        let json = Forms { errors_as_json: true, progress_as_json: true, ..Forms::default() };
        for line in ["--errors=json convert --progress=json a b", "convert a --progress=json b --errors json"]
        {
            assert_eq!(taken(line), (json, "convert a b".to_owned()), "{line}");
        }
        assert_eq!(taken("-p --progress a"), (Forms::default(), "-p --progress a".to_owned()));
        assert_eq!(taken("--errors=json --errors=human a").0, Forms::default());
        assert_eq!(taken("--progress=human a"), (Forms::default(), "--progress a".to_owned()));
        let stats = Forms { stats: true, ..Forms::default() };
        assert_eq!(taken("convert a --stats b"), (stats, "convert a b".to_owned()));
        assert_eq!(taken("a -- --stats"), (Forms::default(), "a -- --stats".to_owned()));
        assert_eq!(taken("a -- --errors=json"), (Forms::default(), "a -- --errors=json".to_owned()));
        for line in ["--errors=xml", "--errors", "--progress="] {
            let mut args = vec![line.to_owned()];
            assert!(Forms::take(&mut args).is_err(), "{line}");
        }
    }
}
