//! Tasks of this workspace: generate code from the schema, tidy, licence check.
#![forbid(unsafe_code)]

mod generate;
mod licences;
mod schedules;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "\
usage: cargo xtask TASK

  generate           write the code that comes from schema/*.json
  generate --check   fail if that code is not what the schema says
  tidy               check the rules of this code that no lint has
  schedules          play simulated schedules of jobs, changes of the graph and crashes for two minutes
  schedules NUMBER   play so many of them: 1000000 is a long run
  licences           check the licences of all dependencies, and that none is there twice
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["generate"] => generate::write(&root()),
        ["generate", "--check"] => generate::check(&root()),
        ["tidy"] => tidy::check(&root()),
        ["schedules"] => schedules::play(&root(), None),
        ["schedules", number] => schedules::play(&root(), Some(number)),
        ["licences"] => licences::check(&root()),
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's folder.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().map(PathBuf::from).unwrap_or_default()
}
