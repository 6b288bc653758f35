//! The one program; argv[0] or the first word picks the face.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    tools::face::run(std::env::args_os())
}
