//! `tree`: which image of some folders stands on which, what each holds, who has it open, and what breaks without it.
//!
//! Each image is opened alone: what it names is looked up among those that were found, never opened because of its name.
//!
//! Exit codes: 0 all is well, 1 nothing could be done, 2 an image stands on what is not there or on itself, or can't be looked at.

mod look;
mod print;
mod scan;

use super::Call;
use crate::console::Console;
use crate::failure::Failure;
use crate::flags::{self, Output, has_parts};
use crate::getopt::{Flag, Table};
use crate::runtime;
use crate::usage::Manual;
use api::{Encode, ImageTreeEntry};

/// The exit code where something is wrong with an image.
const BROKEN: u8 = 2;

pub(super) const FLAGS: Table<Args> = &[&[
    Flag::help(),
    flags::output(),
    Flag::set("-a --all", "show files too that look like raw images and that no image stands on", |s| {
        s.all = true
    }),
    Flag::set("-s --skip-content", "do not look what each layer holds", |s| s.skip_content = true),
    flags::object(),
]];

#[derive(Debug, Default)]
pub(super) struct Args {
    output: Output,
    all: bool,
    skip_content: bool,
}

has_parts!(Args { output: Output });

const MANUAL: Manual = Manual {
    synopsis: "[--output human|json] [-a] [-s] DIR|FILE...",
    about: "Tells which image stands on which, what each layer holds, and who has it open. What is drawn below an image breaks \
            when that is changed or deleted.",
    operands: &[("DIR", "a folder, which is looked through with all below it"), ("FILE", "an image")],
    examples: &[
        ("/var/lib/libvirt/images", "a folder of images"),
        ("--output=json . | jq '.[] | select(.problem)'", "images that are broken"),
    ],
    notes: "Exit codes: 0 all is well, 1 nothing could be done, 2 an image stands on what is not there or on itself, or can't be \
            looked at.",
};

pub fn run(console: &mut Console, call: &Call) -> Result<u8, Failure> {
    let Some((args, operands)) = call.read(console, &MANUAL, FLAGS, Args::default())? else { return Ok(0) };
    if operands.is_empty() {
        return Err(Failure::usage("Expecting a folder or an image file name"));
    }
    let found = scan::files(console, &operands)?;
    let entries = runtime::run(look::entries(console, found, &args))?;
    match args.output {
        Output::Human => print::tree(console, &entries),
        Output::Json => console.json(&entries.encode()),
    }
    let broken = entries.iter().any(is_broken);
    Ok(if broken { BROKEN } else { 0 })
}

/// Whether something is wrong with an image.
fn is_broken(entry: &ImageTreeEntry) -> bool {
    entry.problem.is_some()
}
