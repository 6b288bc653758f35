//! The daemon as a process: its options, its signals, its end, and what a kill leaves behind.
#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]
mod support;

use api::Value;
use block::{BackendRequest, Common, Options, Perms, Policy, Request};
use rt::{Buf, BufMut};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use support::*;

/// The daemon's program, which stands beside the tests.
fn program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    tests.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join("daemon")
}

fn start(folder: &Folder, options: &[&str]) -> Child {
    Command::new(program())
        .current_dir(folder.path("."))
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn run(folder: &Folder, options: &[&str]) -> Output {
    start(folder, options).wait_with_output().unwrap()
}

fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(started.elapsed() < Duration::from_secs(120), "{what}: not within 120 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal by the command that every shell has built in: a bare system has no `kill` program.
fn signal(child: &Child, name: &str) {
    let command = format!("kill {name} {}", child.id());
    assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success());
}

/// A QMP session with a daemon.
struct Qmp(BufReader<UnixStream>);

impl Qmp {
    fn connect(folder: &Folder) -> Qmp {
        let stream = until("the QMP socket", || UnixStream::connect(folder.path("qmp.sock")).ok());
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        let mut qmp = Qmp(BufReader::new(stream));
        assert!(qmp.receive().get("QMP").is_some());
        qmp.ok("{'execute': 'qmp_capabilities'}");
        qmp
    }

    fn receive(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        api::json::parse(&line).unwrap()
    }

    fn ok(&mut self, command: &str) -> Value {
        self.0.get_mut().write_all(command.as_bytes()).unwrap();
        loop {
            let message = self.receive();
            if message.get("event").is_none() {
                assert!(message.get("return").is_some(), "{command}: {message}");
                return message;
            }
        }
    }

    fn event(&mut self, name: &str) -> Value {
        loop {
            let message = self.receive();
            if text(&message, &["event"]) == name {
                return message;
            }
        }
    }
}

const CHARDEV: [&str; 4] =
    ["--chardev", "socket,id=c,path=qmp.sock,server=on,wait=off", "--monitor", "chardev=c"];

#[test]
fn a_signal_ends_it_in_order_and_removes_its_pid_file() {
    for name in ["-TERM", "-INT", "-HUP"] {
        let folder = Folder::new();
        let options = [&CHARDEV[..], &["--blockdev", "null-co,node-name=n", "--pidfile", "pid"]].concat();
        let child = start(&folder, &options);
        let pid = until("the pid file", || {
            std::fs::read_to_string(folder.path("pid")).ok().filter(|text| text.ends_with('\n'))
        });
        assert_eq!(pid.trim(), child.id().to_string());
        let _session = Qmp::connect(&folder);
        signal(&child, name);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{name}: {output:?}");
        assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
        assert!(!Path::new(&folder.path("pid")).exists() && !Path::new(&folder.path("qmp.sock")).exists());
    }
}

#[test]
fn a_live_socket_is_not_taken_over_and_a_stale_one_is_replaced() {
    let folder = Folder::new();
    let mut first = start(&folder, &CHARDEV);
    let mut session = Qmp::connect(&folder);
    let second = run(&folder, &CHARDEV);
    assert_eq!(second.status.code(), Some(1));
    let words = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(words.contains("Failed to bind socket to qmp.sock") && words.contains("listens"), "{words}");
    session.ok("{'execute': 'query-block'}");
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(Path::new(&folder.path("qmp.sock")).exists(), "a stale file");
    let mut third = start(&folder, &CHARDEV);
    let mut session = until("the third daemon", || {
        UnixStream::connect(folder.path("qmp.sock")).ok().map(|_| Qmp::connect(&folder))
    });
    session.ok("{'execute': 'quit'}");
    assert!(third.wait().unwrap().success());
}

#[test]
fn in_the_background_it_is_ready_when_its_parent_exits_which_also_reports_its_errors() {
    let folder = Folder::new();
    std::fs::write(folder.path("disk"), [0; 4096]).unwrap();
    let disk = ["--blockdev", "file,node-name=disk,filename=disk,read-only=on"];
    let options = [&["--daemonize", "--pidfile", "pid"][..], &disk, &CHARDEV].concat();
    assert!(run(&folder, &options).status.success());
    let pid = std::fs::read_to_string(folder.path("pid")).unwrap();
    let mut session = Qmp::connect(&folder);
    // Its working directory is another one now; relative names still mean the same files.
    let options = "{'driver': 'file', 'node-name': 'disk', 'filename': 'disk'}";
    session.ok(&format!("{{'execute': 'blockdev-reopen', 'arguments': {{'options': [{options}]}}}}"));
    session.ok("{'execute': 'quit'}");
    let process = PathBuf::from(format!("/proc/{}", pid.trim()));
    until("the end of the daemon", || (!process.exists()).then_some(()));
    assert!(!Path::new(&folder.path("pid")).exists() && !Path::new(&folder.path("qmp.sock")).exists());

    let failed = run(&folder, &["--daemonize", "--blockdev", "nope"]);
    assert_eq!(failed.status.code(), Some(1));
    let words = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert_eq!(words, "daemon: --blockdev nope: Parameter 'driver' does not accept value 'nope'\n");
}

#[test]
fn options_are_applied_in_order_in_either_form_and_the_first_wrong_one_ends_it() {
    let folder = Folder::new();
    let null = r#"{"driver": "null-co", "node-name": "n"}"#;
    let cases: [(&[&str], &str); 8] = [
        (&["--blockdev", "raw,node-name=r,file=n"], "Cannot find device='n' nor node-name='n'"),
        (&["--blockdev", null, "--blockdev", "null-co,node-name=n"], "Duplicate nodes with node-name='n'"),
        (&["--monitor", "c"], "chardev \"c\" not found"),
        (&["--chardev", "stdio,id=c", "--monitor", "c,mode=readline"], "Only QMP is supported"),
        (&["--blockdev", null, "--export", "nbd,id=e,node-name=n"], "NBD server not running"),
        (&["--object", "secret,id=s"], "Either 'file' or 'data' must be provided"),
        (&["--object", "secret,id=s,data=a,file=b"], "'file' and 'data' are mutually exclusive"),
        (&["--object", "tls-creds-anon,id=t"], "Parameter 'qom-type' does not accept value 'tls-creds-anon'"),
    ];
    for (options, expected) in cases {
        let output = run(&folder, options);
        assert_eq!(output.status.code(), Some(1), "{options:?}");
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = &options[options.len() - 2..];
        assert_eq!(words, format!("daemon: {} {}: {expected}\n", last[0], last[1]));
    }
}

const SIZE: u64 = 2 << 20;
const CLUSTER: u64 = 65536;

/// Makes an image over `backing` and fills every cluster that `fills` picks with `byte`.
async fn layer(folder: &Folder, name: &str, backing: Option<&str>, byte: u8, fills: impl Fn(u64) -> bool) {
    let control = control();
    let mut options = Options::new();
    if let Some(backing) = backing {
        options = options.with_str("backing_file", backing).with_str("backing_fmt", "qcow2");
    }
    let path = folder.path(name);
    control.graph().create("qcow2", &path, SIZE, options).await.unwrap();
    let node =
        control.graph().open_image(&path, Some("qcow2"), Common::default(), Policy::FOLLOW).await.unwrap();
    let request = BackendRequest { label: "test".to_owned(), node, perms: Perms::WRITER, pinned: false };
    let entry = control.graph().attach(request).await.unwrap();
    for cluster in (0..SIZE / CLUSTER).filter(|c| fills(*c)) {
        let data = Buf::from_slice(&vec![byte; CLUSTER as usize]);
        entry.write(cluster * CLUSTER, data, Request::GUEST).await.unwrap();
    }
    control.graph().detach(&entry).await.unwrap();
}

/// The content of an image with all below it.
async fn content(folder: &Folder, name: &str) -> Vec<u8> {
    let control = control();
    let common = Common { read_only: true, ..Common::default() };
    let opened = control.graph().open_image(&folder.path(name), Some("qcow2"), common, Policy::FOLLOW).await;
    let node = opened.unwrap();
    let (data, result) = node.read(0, BufMut::with_len(SIZE as usize)).await;
    result.unwrap();
    control.end().await.unwrap();
    data.to_vec()
}

async fn kill_after_commit(round: u64) {
    let folder = Folder::new();
    layer(&folder, "base", None, 1, |c| (c + round).is_multiple_of(2)).await;
    layer(&folder, "mid", Some("base"), 2, |c| (c + round).is_multiple_of(3)).await;
    layer(&folder, "top", Some("mid"), 3, |c| (c + round).is_multiple_of(5)).await;
    let before = content(&folder, "top").await;
    let options =
        [&CHARDEV[..], &["--blockdev", "qcow2,node-name=d,file.driver=file,file.filename=top"]].concat();
    let mut child = start(&folder, &options);
    let mut session = Qmp::connect(&folder);
    let intermediate = round.is_multiple_of(2);
    let top = if intermediate { ", 'top': 'mid'" } else { "" };
    session.ok(&format!("{{'execute': 'block-commit', 'arguments': {{'device': 'd', 'job-id': 'j'{top}}}}}"));
    if !intermediate {
        session.event("BLOCK_JOB_READY");
        session.ok("{'execute': 'job-complete', 'arguments': {'id': 'j'}}");
    }
    let done = session.event("BLOCK_JOB_COMPLETED");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(done.get("data").unwrap().get("error").is_none(), "{done}");
    assert!(content(&folder, "top").await == before, "round {round}: the chain shows something else");
    let below = if intermediate { "mid" } else { "base" };
    std::fs::remove_file(folder.path(if intermediate { "mid" } else { "top" })).unwrap();
    let survivor = if intermediate { "top" } else { "base" };
    assert!(content(&folder, survivor).await == before, "round {round}: {survivor} needs {below}");
}

#[test]
fn a_kill_right_after_the_event_of_a_completed_commit_loses_nothing() {
    rt::block_on_control(async {
        for round in 0..20 {
            kill_after_commit(round).await;
        }
    });
}

async fn kill_after_mirror(round: u64) {
    let folder = Folder::new();
    layer(&folder, "base", None, 1, |c| (c + round).is_multiple_of(2)).await;
    layer(&folder, "top", Some("base"), 2, |c| (c + round).is_multiple_of(3)).await;
    let before = content(&folder, "top").await;
    let options =
        [&CHARDEV[..], &["--blockdev", "qcow2,node-name=d,file.driver=file,file.filename=top"]].concat();
    let mut child = start(&folder, &options);
    let mut session = Qmp::connect(&folder);
    let sync = ["full", "top", "none"][(round % 3) as usize];
    let mode = if round.is_multiple_of(2) { "background" } else { "write-blocking" };
    session.ok(&format!(
        "{{'execute': 'drive-mirror', 'arguments': {{'device': 'd', 'job-id': 'j', 'target': 'copy', 'sync': '{sync}', \
         'copy-mode': '{mode}', 'node-name': 'copy'}}}}"
    ));
    session.event("BLOCK_JOB_READY");
    session.ok("{'execute': 'job-complete', 'arguments': {'id': 'j'}}");
    let done = session.event("BLOCK_JOB_COMPLETED");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(done.get("data").unwrap().get("error").is_none(), "{done}");
    if sync != "none" {
        std::fs::remove_file(folder.path("top")).unwrap();
    }
    if sync == "full" {
        std::fs::remove_file(folder.path("base")).unwrap();
    }
    assert!(content(&folder, "copy").await == before, "round {round}: the copy shows something else");
}

#[test]
fn a_kill_right_after_the_event_of_a_completed_mirror_loses_nothing() {
    rt::block_on_control(async {
        for round in 0..12 {
            kill_after_mirror(round).await;
        }
    });
}

async fn kill_after_stream(round: u64) {
    let folder = Folder::new();
    layer(&folder, "base", None, 1, |c| (c + round).is_multiple_of(2)).await;
    layer(&folder, "mid", Some("base"), 2, |c| (c + round).is_multiple_of(3)).await;
    layer(&folder, "top", Some("mid"), 3, |c| (c + round).is_multiple_of(5)).await;
    let before = content(&folder, "top").await;
    let options =
        [&CHARDEV[..], &["--blockdev", "qcow2,node-name=d,file.driver=file,file.filename=top"]].concat();
    let mut child = start(&folder, &options);
    let mut session = Qmp::connect(&folder);
    let whole = round.is_multiple_of(2);
    let base = if whole { "" } else { ", 'base': 'base'" };
    session
        .ok(&format!("{{'execute': 'block-stream', 'arguments': {{'device': 'd', 'job-id': 'j'{base}}}}}"));
    let done = session.event("BLOCK_JOB_COMPLETED");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(done.get("data").unwrap().get("error").is_none(), "{done}");
    std::fs::remove_file(folder.path("mid")).unwrap();
    if whole {
        std::fs::remove_file(folder.path("base")).unwrap();
    }
    assert!(content(&folder, "top").await == before, "round {round}: the image shows something else");
}

#[test]
fn a_kill_right_after_the_event_of_a_completed_stream_loses_nothing() {
    rt::block_on_control(async {
        for round in 0..10 {
            kill_after_stream(round).await;
        }
    });
}
