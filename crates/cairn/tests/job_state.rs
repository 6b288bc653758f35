//! `--job-state`: a daemon is killed in the middle of a job, and another one goes on from there.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const UNIT: usize = 65536;
const UNITS: usize = 64;

/// A daemon that is spoken to over its standard input and output.
struct Daemon {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Daemon {
    fn start(folder: &Path) -> Daemon {
        let node =
            |name: &str| format!("driver=raw,node-name={name},file.driver=file,file.filename={name}.raw");
        let child = Command::new(env!("CARGO_BIN_EXE_cairn"))
            .current_dir(folder)
            .args(["daemon", "--job-state", "states", "--chardev", "stdio,id=q", "--monitor", "q"])
            .args(["--blockdev", &node("source"), "--blockdev", &node("target")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut daemon = Daemon { child, answers };
        daemon.say("qmp_capabilities", "{}");
        daemon.until("\"return\"");
        daemon
    }

    fn say(&mut self, command: &str, arguments: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        writeln!(stdin, "{{\"execute\": \"{command}\", \"arguments\": {arguments}}}").unwrap();
    }

    /// Reads until something is said that holds `what`.
    fn until(&mut self, what: &str) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.answers.read_line(&mut line).unwrap(), 0, "it ended before it said {what}");
            if line.contains(what) {
                return line;
            }
            assert!(!line.contains("\"error\": {"), "{line}");
        }
    }

    fn begin(&mut self, command: &str, speed: usize) {
        let arguments = format!(
            "{{\"job-id\": \"j\", \"device\": \"source\", \"target\": \"target\", \"sync\": \"full\", \"speed\": {speed}}}"
        );
        self.say(command, &arguments);
        self.until("\"return\"");
    }

    /// Lets a mirror end, waits for the end, and quits.
    fn finish(mut self, mirror: bool) -> String {
        if mirror {
            self.until("BLOCK_JOB_READY");
            self.say("block-job-cancel", "{\"device\": \"j\"}");
        }
        self.until("BLOCK_JOB_COMPLETED");
        self.until("\"null\"");
        self.say("quit", "{}");
        assert!(self.child.wait().unwrap().success());
        let mut told = String::new();
        std::io::Read::read_to_string(&mut self.child.stderr.take().unwrap(), &mut told).unwrap();
        told
    }
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Two images, of which the one is data of many kinds, and a directory for states.
fn folder(name: &str) -> Folder {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("states")).unwrap();
    let data: Vec<u8> = (0..UNIT * UNITS).map(|at| (at / UNIT + at % 251 + 1) as u8).collect();
    std::fs::write(folder.join("source.raw"), &data).unwrap();
    std::fs::write(folder.join("target.raw"), vec![0; data.len()]).unwrap();
    Folder(folder)
}

/// A job is killed when some of what it has copied is noted, but not all.
fn kill_on_the_way(folder: &Folder, command: &str) {
    let mut daemon = Daemon::start(&folder.0);
    daemon.begin(command, UNIT * UNITS / 8);
    while !folder.0.join("states/j.job").exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn content(folder: &Folder, name: &str) -> Vec<u8> {
    std::fs::read(folder.0.join(name)).unwrap()
}

fn states(folder: &Folder) -> usize {
    std::fs::read_dir(folder.0.join("states")).unwrap().count()
}

#[test]
fn a_job_goes_on_after_kill_9_and_leaves_nothing_behind() {
    for command in ["blockdev-mirror", "blockdev-backup"] {
        let folder = folder(command);
        kill_on_the_way(&folder, command);
        assert_eq!(states(&folder), 1);
        assert!(content(&folder, "source.raw") != content(&folder, "target.raw"));
        let mut daemon = Daemon::start(&folder.0);
        daemon.begin(command, 0);
        let told = daemon.finish(command == "blockdev-mirror");
        assert_eq!(told, "");
        assert!(content(&folder, "source.raw") == content(&folder, "target.raw"));
        assert_eq!(states(&folder), 0);
    }
}

#[test]
fn what_changed_on_either_side_in_between_is_copied_again_and_named() {
    for changed in ["source.raw", "target.raw"] {
        let folder = folder(changed);
        kill_on_the_way(&folder, "blockdev-mirror");
        let mut data = content(&folder, changed);
        data[100] ^= 255;
        std::fs::write(folder.0.join(changed), &data).unwrap();
        let mut daemon = Daemon::start(&folder.0);
        daemon.begin("blockdev-mirror", 0);
        let told = daemon.finish(true);
        assert!(
            told.contains("source.raw") && told.contains("target.raw") && told.contains("has changed"),
            "{told}"
        );
        assert!(content(&folder, "source.raw") == content(&folder, "target.raw"));
    }
}

#[test]
fn at_an_orderly_end_of_the_program_a_job_is_not_forgotten_but_one_that_is_cancelled_is() {
    let folder = folder("orderly");
    for (cancel, left) in [(false, 1), (true, 0)] {
        let mut daemon = Daemon::start(&folder.0);
        daemon.begin("blockdev-backup", UNIT * UNITS / 8);
        while states(&folder) == 0 {
            std::thread::sleep(Duration::from_millis(20));
        }
        if cancel {
            daemon.say("job-cancel", "{\"id\": \"j\"}");
            daemon.until("BLOCK_JOB_CANCELLED");
            daemon.until("\"null\"");
        }
        daemon.say("quit", "{}");
        assert!(daemon.child.wait().unwrap().success());
        assert_eq!(states(&folder), left);
    }
}
