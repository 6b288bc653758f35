//! Machines that are killed while they are handed over: the image is somebody's, or nobody's and whole; never two programs'.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

struct World(PathBuf);

impl World {
    fn new(name: &str) -> World {
        let folder = std::env::temp_dir().join(format!("cairn-migration-{name}-{}", std::process::id()));
        fs::remove_dir_all(&folder).ok();
        fs::create_dir_all(&folder).unwrap();
        let world = World(folder);
        assert!(world.tool(&["img", "create", "-q", "-f", "qcow2", "disk", "8M"]).0);
        world
    }

    fn tool(&self, args: &[&str]) -> (bool, String) {
        let output =
            Command::new(env!("CARGO_BIN_EXE_cairn")).args(args).current_dir(&self.0).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    /// Nothing is wrong with the image, and it reads as the pattern says.
    fn image_has(&self, pattern: &str) {
        let (good, text) = self.tool(&["img", "check", "disk"]);
        assert!(good && text.contains("No errors"), "{text}");
        let (good, text) = self.tool(&["io", "-r", "-c", &format!("read -P {pattern} 0 64k"), "disk"]);
        assert!(good && !text.contains("failed"), "{text}");
    }

    fn machine(&self, more: &[&str]) -> Machine {
        let mut child = Command::new(env!("CARGO_BIN_EXE_cairn"))
            .args(["machine", "-nodefaults", "-display", "none", "-qmp", "stdio"])
            .args(["-drive", "file=disk,format=qcow2,if=none,id=d", "-device", "virtio-blk,drive=d"])
            .args(more)
            .current_dir(&self.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut machine = Machine { child, to, from, events: Vec::new() };
        machine.line();
        machine.ask("qmp_capabilities", "");
        machine.ask(
            "migrate-set-capabilities",
            "\"capabilities\":[{\"capability\":\"events\",\"state\":true},\
             {\"capability\":\"dirty-bitmaps\",\"state\":true}]",
        );
        machine
    }
}

impl Drop for World {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

struct Machine {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    events: Vec<String>,
}

impl Machine {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the machine has ended");
        // What the monitor for people prints comes in between.
        if line.starts_with('{') { line } else { self.line() }
    }

    fn ask(&mut self, command: &str, arguments: &str) -> String {
        writeln!(self.to, "{{\"execute\":\"{command}\",\"arguments\":{{{arguments}}}}}").unwrap();
        loop {
            let line = self.line();
            if !line.contains("\"event\"") {
                return line;
            }
            self.events.push(line);
        }
    }

    fn ok(&mut self, command: &str, arguments: &str) -> String {
        let answer = self.ask(command, arguments);
        assert!(answer.contains("\"return\""), "{command}: {answer}");
        answer
    }

    fn io(&mut self, command: &str) {
        let line = format!("\"command-line\":\"qemu-io d \\\"{command}\\\"\"");
        let answer = self.ok("human-monitor-command", &line);
        assert!(answer.contains("\"return\": \"\""), "{answer}");
    }

    fn reaches(&mut self, status: &str) {
        let wanted = format!("\"status\": \"{status}\"");
        let is = |line: &String| line.contains("\"MIGRATION\"") && line.contains(&wanted);
        while !self.events.iter().any(is) {
            let line = self.line();
            self.events.push(line);
        }
    }

    /// `kill -9`.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn quit(mut self) {
        self.ok("quit", "");
        assert!(self.child.wait().unwrap().success());
    }
}

fn bitmap(machine: &mut Machine) {
    machine.ok("block-dirty-bitmap-add", "\"node\":\"d\",\"name\":\"b\",\"persistent\":true");
}

#[test]
fn a_source_that_is_killed_before_it_has_let_go_hands_nothing_over() {
    let world = World::new("source");
    let mut a = world.machine(&[]);
    let mut b = world.machine(&["-incoming", "unix:socket"]);
    bitmap(&mut a);
    a.io("write -P 7 0 64k");
    a.io("flush");
    a.ok(
        "migrate-set-capabilities",
        "\"capabilities\":[{\"capability\":\"pause-before-switchover\",\"state\":true}]",
    );
    a.ok("migrate", "\"uri\":\"unix:socket\"");
    a.reaches("pre-switchover");
    b.reaches("active");
    a.kill();
    b.reaches("failed");
    assert!(!b.child.wait().unwrap().success(), "it tells that it has no machine");
    world.image_has("7");
    // Whoever comes next has it.
    let mut next = world.machine(&[]);
    next.io("write -P 8 0 64k");
    next.quit();
    world.image_has("8");
}

#[test]
fn a_source_that_is_killed_after_it_has_let_go_takes_nothing_along() {
    let world = World::new("after");
    let mut a = world.machine(&[]);
    let mut b = world.machine(&["-incoming", "unix:socket"]);
    bitmap(&mut a);
    a.io("write -P 7 0 64k");
    a.ok("migrate", "\"uri\":\"unix:socket\"");
    a.reaches("completed");
    a.kill();
    b.reaches("completed");
    b.io("read -P 7 0 64k");
    b.io("write -P 9 0 64k");
    let list = b.ok("query-block", "");
    assert!(list.contains("\"name\": \"b\""), "{list}");
    b.quit();
    world.image_has("9");
}

#[test]
fn a_target_that_is_killed_leaves_the_image_to_the_source() {
    let world = World::new("target");
    let mut a = world.machine(&[]);
    // Before it has the machine: the source fails, or has sent all, and takes the image back when it is told to run.
    let b = world.machine(&["-incoming", "unix:socket"]);
    a.io("write -P 7 0 64k");
    a.ok(
        "migrate-set-capabilities",
        "\"capabilities\":[{\"capability\":\"pause-before-switchover\",\"state\":true}]",
    );
    a.ok("migrate", "\"uri\":\"unix:socket\"");
    a.reaches("pre-switchover");
    b.kill();
    std::thread::sleep(Duration::from_millis(50));
    a.ok("migrate-continue", "\"state\":\"pre-switchover\"");
    loop {
        let info = a.ok("query-migrate", "");
        if info.contains("completed") {
            a.ok("cont", "");
        }
        if info.contains("completed") || info.contains("failed") {
            break;
        }
    }
    assert!(a.ok("query-status", "").contains("running"));
    a.io("write -P 8 0 64k");
    a.events.clear();

    // After: the image is nobody's until the source is told to run.
    let mut b = world.machine(&["-incoming", "unix:socket2"]);
    a.ok(
        "migrate-set-capabilities",
        "\"capabilities\":[{\"capability\":\"pause-before-switchover\",\"state\":false}]",
    );
    a.ok("migrate", "\"uri\":\"unix:socket2\"");
    a.reaches("completed");
    b.reaches("completed");
    assert!(a.ask("cont", "").contains("lock"), "the other machine has it");
    b.io("write -P 5 0 64k");
    b.io("flush");
    b.kill();
    a.ok("cont", "");
    a.io("read -P 5 0 64k");
    a.io("write -P 6 0 64k");
    a.quit();
    world.image_has("6");
}

#[test]
fn people_wait_for_the_end_of_a_hand_over() {
    let world = World::new("people");
    let mut source = world.machine(&[]);
    source.ok("human-monitor-command", "\"command-line\":\"migrate exec:cat>state\"");
    let told = source.ok("query-migrate", "");
    assert!(told.contains("\"status\": \"completed\""), "{told}");
    assert!(fs::metadata(world.0.join("state")).unwrap().len() > 0);
}
