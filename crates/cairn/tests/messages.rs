//! What the program tells other programs: with `--errors=json` and `--progress=json` each line of standard error is a message of
//! the schema, and its code says what went wrong.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]

use api::ToolErrorCode::{Corrupt, Invalid, NotFound, Unsupported, Usage};
use api::{ToolError, ToolMessage, ToolMessageBranch, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A folder to work in, with two images.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn place(name: &str) -> Place {
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("messages-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for args in ["img create -q -f qcow2 a.qcow2 64M", "img create -q -f raw a.raw 64M"] {
        assert_eq!(cairn(&folder, args).0, 0);
    }
    Place(folder)
}

/// Runs the program with these words; its exit code, what it printed, and its messages.
fn cairn(place: &Path, line: &str) -> (i32, String, Vec<ToolMessage>) {
    let output = Command::new(env!("CARGO_BIN_EXE_cairn"))
        .args(line.split_whitespace())
        .current_dir(place)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    let message = |line: &str| {
        let value = json::parse(line).unwrap_or_else(|e| panic!("no JSON ({e}): {line}"));
        api::decode::<ToolMessage>(value).unwrap_or_else(|e| panic!("no message ({e}): {line}"))
    };
    let messages = errors.lines().map(message).collect();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap(), messages)
}

/// The one error of a command that fails.
fn error(place: &Path, line: &str) -> ToolError {
    let (code, printed, messages) = cairn(place, line);
    assert_eq!(printed, "", "{line}");
    let [ToolMessage { branch: ToolMessageBranch::Error(error), .. }] = &messages[..] else {
        panic!("{line}: {messages:?}")
    };
    assert_eq!((i32::from(error.exit.unwrap()), code != 0), (code, true), "{line}");
    error.clone()
}

#[test]
fn each_failure_has_its_code_whatever_the_command() {
    let place = place("codes");
    let at = place.0.as_path();
    std::fs::write(at.join("broken.qcow2"), [b"QFI\xfb\x00\x00\x00\x03".as_slice(), &[0xff; 504]].concat())
        .unwrap();
    for (line, code) in [
        ("img info --errors=json none.qcow2", NotFound),
        ("img check -f qcow2 none.qcow2 --errors=json", NotFound),
        ("--errors=json img map none.raw", NotFound),
        ("img convert --errors=json -O qcow2 none.raw b", NotFound),
        ("img compare --errors=json a.raw none.raw", NotFound),
        ("img convert --errors=json -O qcow2 a.raw none/b", NotFound),
        ("img snapshot --errors=json -a none a.qcow2", NotFound),
        ("img info --errors=json --unknown a.raw", Usage),
        ("img unknown --errors=json", Usage),
        ("--errors=json unknown", Usage),
        ("img create --errors=json -f qcow2 b 1X", Invalid),
        ("img check --errors=json -f raw a.raw", Unsupported),
        ("img resize --errors=json -f raw a.raw -- -100G", Invalid),
        ("img info --errors=json -f qcow2 broken.qcow2", Corrupt),
        ("nbd --errors=json -k relative.sock a.raw", Invalid),
    ] {
        let error = error(at, line);
        assert_eq!(error.code, code, "{line}: {error:?}");
        assert!(!error.message.is_empty() && !error.message.contains('\n'), "{line}");
    }
    let missing = error(at, "img info --errors=json none.qcow2");
    assert_eq!(missing.errno, Some(2));
}

#[test]
fn progress_comes_in_lines_that_end_with_the_whole_and_leave_the_result_alone() {
    let place = place("progress");
    let at = place.0.as_path();
    std::fs::write(at.join("full.raw"), vec![7; 16 << 20]).unwrap();
    for (line, printed) in [
        ("img convert --progress=json -f raw -O qcow2 full.raw full.qcow2", ""),
        ("img compare --progress=json full.raw full.qcow2", "Images are identical.\n"),
        ("img convert -q --progress=json -f raw -O raw full.raw copy.raw", ""),
    ] {
        let (code, output, messages) = cairn(at, line);
        assert_eq!((code, output.as_str()), (0, printed), "{line}");
        let told: Vec<_> = messages
            .iter()
            .map(|message| match &message.branch {
                ToolMessageBranch::Progress(progress) => progress,
                other => panic!("{line}: {other:?}"),
            })
            .collect();
        let (first, last) = (told.first().unwrap(), told.last().unwrap());
        assert_eq!((first.done, last.done, last.percent), (0, last.total, 100), "{line}");
        assert!(told.is_sorted_by_key(|progress| progress.done), "{line}: {told:?}");
    }
    let (code, output, messages) = cairn(at, "img info --progress=json --output=json full.qcow2");
    assert_eq!((code, messages.len()), (0, 0));
    assert!(json::parse(&output).is_ok());
}

#[test]
fn what_a_command_took_is_the_last_that_it_tells() {
    let place = place("stats");
    let at = place.0.as_path();
    std::fs::write(at.join("full.raw"), vec![7; 16 << 20]).unwrap();
    for (line, code) in [
        ("img convert --stats --errors=json -f raw -O qcow2 full.raw b.qcow2", 0),
        ("img hash --errors=json --stats none.raw", 1),
        ("--stats --errors=json img convert --untrusted -f raw -O raw full.raw c.raw", 0),
    ] {
        let (exit, _, messages) = cairn(at, line);
        assert_eq!(exit, code, "{line}");
        let Some(ToolMessage { branch: ToolMessageBranch::Stats(stats), .. }) = messages.last() else {
            panic!("{line}: {messages:?}")
        };
        assert!(stats.peak_memory > 1 << 20 && stats.peak_memory < 1 << 30, "{line}: {stats:?}");
    }
}
