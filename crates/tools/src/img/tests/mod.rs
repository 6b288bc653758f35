//! Each command of `img` with each of its flags, on files of a folder of its own: no other program is needed.
//!
//! A command has a scenario here, or [`every_command_has_a_scenario`] fails; a scenario gives each flag of its command's table at
//! least once and looks at what came of it, or its own test fails.

mod changing;
mod copying;
mod looking;

use super::*;
use crate::getopt::tests::{each_flag_changes_the_settings, names_are_unique};
use crate::testing::Faces;

/// Values of flags that no settings begin with.
const VALUES: &[(&str, &str)] = &[
    ("-f", "qcow2"),
    ("-F", "qcow2"),
    ("-O", "qcow2"),
    ("-o", "size=1M"),
    ("-b", "base"),
    ("-B", "base"),
    ("-t", "none"),
    ("-T", "none"),
    ("-r", "1M"),
    ("-m", "3"),
    ("-S", "64k"),
    ("-s", "64k"),
    ("-l", "64k"),
    ("--output", "json"),
    ("--limit-time", "7"),
    ("--limit-memory", "64M"),
    ("--limit-output", "64M"),
    ("--object", "secret,id=s,data=x"),
    ("--preallocation", "full"),
];

/// The arguments of a line, if it is one of `img` and this command.
fn of(command: &'static str) -> impl Fn(&[String]) -> Option<Vec<String>> {
    move |line| match line {
        [face, word, args @ ..] if face == "img" && word == command => Some(args.to_vec()),
        _ => None,
    }
}

macro_rules! scenarios {
    ($($name:ident: $scenario:path, $begin:path $(, $flag:literal $value:literal)*;)+) => {
        $(#[test]
        fn $name() {
            names_are_unique($name::FLAGS);
            let here: &[(&str, &str)] = &[$(($flag, $value)),*];
            let known = VALUES.iter().filter(|(flag, _)| here.iter().all(|(other, _)| other != flag));
            let values: Vec<_> = here.iter().chain(known).copied().collect();
            each_flag_changes_the_settings($name::FLAGS, $begin, &values, &["--object"]);
            let faces = Faces::new();
            $scenario(&faces);
            let help = faces.ok(&format!("img {} --help", stringify!($name)));
            for flag in getopt::rows($name::FLAGS).filter(|flag| !flag.help.is_empty()) {
                assert!(help.contains(flag.help), "{}: {}", flag.names, flag.help);
            }
            faces.gave_every_flag($name::FLAGS, of(stringify!($name)));
        })+

        #[test]
        fn every_command_has_a_scenario() {
            let scenarios: &[&str] = &[$(stringify!($name)),+];
            let commands: Vec<_> = COMMANDS.iter().map(|command| command.name).collect();
            assert_eq!(commands, scenarios);
        }
    };
}

scenarios! {
    amend: changing::amend, amend::Args::new, "-o" "state=inactive";
    bench: looking::bench, bench::Args::new,
        "-c" "10", "-s" "512", "-d" "2", "-o" "512", "-S" "512", "-i" "threads", "--pattern" "7", "--flush-interval" "9";
    bitmap: changing::bitmap, bitmap::Args::new, "-g" "64k", "--merge" "two", "-b" "other", "-F" "qcow2";
    check: looking::check, check::Args::new, "-r" "all";
    commit: changing::commit, commit::Args::new;
    compare: looking::compare, compare::Args::new;
    convert: copying::convert, convert::Args::new, "--journal" "notes";
    crashtest: looking::crashtest, crashtest::Args::new,
        "-c" "flush", "--points" "7", "--runs" "2", "--seed" "3", "--crash" "kill", "--point" "1:2:kill-3", "--keep" "x",
        "--compare" "2M", "--memory" "2M";
    create: changing::create, create::Args::default;
    dd: copying::dd, dd::Args::new;
    hash: looking::hash, hash::Args::new;
    info: looking::info, info::Args::new;
    inspect: looking::inspect, inspect::Args::new, "--policy" "cdi", "--max-virtual-size" "1M";
    map: looking::map, map::Args::new, "--picture" "svg";
    measure: looking::measure, measure::Args::new;
    rebase: changing::rebase, rebase::Args::new;
    resize: changing::resize, resize::Args::new;
    snapshot: changing::snapshot, snapshot::Args::new, "-c" "one", "-a" "one", "-d" "one";
    tree: looking::tree, tree::Args::default;
}

#[test]
fn the_face_itself_tells_help_and_version_and_refuses_what_is_no_command() {
    let faces = Faces::new();
    let help = faces.ok("img --help");
    for command in COMMANDS {
        let line = help.lines().find(|line| line.split_whitespace().next() == Some(command.name));
        assert!(line.is_some_and(|line| line.ends_with(command.about)), "{}", command.name);
    }
    assert!(faces.ok("img -V").starts_with("qemu-img version "));
    assert!(faces.ok("img --trace off info --help").contains("Usage: "));
    assert_eq!(
        faces.fails(1, "img frobnicate"),
        "img: Command not found: frobnicate\nTry 'img --help' for more info\n"
    );
    assert!(faces.fails(1, "img").starts_with("img: Not enough arguments\n"));
    assert_eq!(
        faces.fails(1, "img info --frob x"),
        "img: unrecognized option '--frob'\nTry 'img info --help' for more info\n"
    );
}

/// The image must show `byte` in a range: offset and length as `io` takes them.
fn shows(faces: &Faces, file: &str, byte: u8, range: &str) {
    faces.ok(&format!("io -r -c 'read -P {byte} {range}' {file}"));
}

/// Writes `byte` to a range.
fn write(faces: &Faces, file: &str, byte: u8, range: &str) {
    faces.ok(&format!("io -c 'write -q -P {byte} {range}' {file}"));
}

/// Makes a qcow2 image of 1 MiB with `byte` in its first 128 KiB.
fn image(faces: &Faces, file: &str, byte: u8) {
    faces.ok(&format!("img create -q -f qcow2 {file} 1M"));
    write(faces, file, byte, "0 128k");
}

/// Makes an overlay over `base` with `byte` in the 64 KiB behind its first 64.
fn overlay(faces: &Faces, file: &str, base: &str, byte: u8) {
    faces.ok(&format!("img create -q -f qcow2 -b {base} -F qcow2 {file}"));
    write(faces, file, byte, "64k 64k");
}
