//! A folder with images, and the program run there: plainly, or under `strace`, which tells every file that is opened.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the file holds that no image may have read.
pub const SECRET: &[u8] = b"the host's own words, which no image may show";

/// A folder of images, and beside it a file of the host's.
pub struct World {
    root: PathBuf,
}

impl Drop for World {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.root).ok();
    }
}

/// How a run ended.
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    fn of(output: Output) -> Ended {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ended { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

/// What a run opened and asked of the system, as `strace` tells.
pub struct Trace {
    pub ended: Ended,
    calls: Vec<String>,
}

impl Trace {
    /// Whether a file of this name was opened, or a link or server of this name reached.
    pub fn reached(&self, name: &str) -> bool {
        self.calls
            .iter()
            .any(|call| call.contains(name) && !call.contains("execve(") && !call.contains(" = -1 "))
    }

    /// The calls that succeeded behind the filter of system calls, and would lead somewhere.
    pub fn behind_the_filter(&self) -> Vec<&String> {
        let Some(filter) =
            self.calls.iter().position(|call| call.contains("seccomp(SECCOMP_SET_MODE_FILTER"))
        else {
            return self.calls.iter().collect();
        };
        let pid = |call: &str| call.split(' ').next().unwrap_or_default().to_owned();
        let parent = pid(&self.calls[0]);
        let rest = self.calls[filter + 1..].iter();
        rest.filter(|call| pid(call) != parent && !call.contains(" = -1 ")).collect()
    }

    /// Whether the process was confined by Landlock and by a filter.
    pub fn was_confined(&self) -> bool {
        let did = |name: &str| self.calls.iter().any(|call| call.contains(name) && call.contains(" = 0"));
        did("landlock_restrict_self(") && did("seccomp(SECCOMP_SET_MODE_FILTER")
    }
}

impl World {
    pub fn new() -> World {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("cairn-untrusted-{}-{number}", std::process::id()));
        fs::remove_dir_all(&root).ok();
        fs::create_dir_all(root.join("images")).unwrap();
        let world = World { root };
        let mut secret = vec![0; 1 << 20];
        secret[..SECRET.len()].copy_from_slice(SECRET);
        fs::write(world.secret(), secret).unwrap();
        world
    }

    /// The absolute name of a file that is the host's.
    pub fn secret(&self) -> String {
        self.root.join("secret").to_str().unwrap().to_owned()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join("images").join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    fn command(&self, program: &str, line: &str) -> Command {
        let mut command = Command::new(program);
        command.args(line.split(' ').filter(|word| !word.is_empty())).current_dir(self.root.join("images"));
        command
    }

    /// Runs the program with this command line.
    pub fn run(&self, line: &str) -> Ended {
        Ended::of(self.command(env!("CARGO_BIN_EXE_cairn"), line).output().unwrap())
    }

    /// The same, which succeeds.
    pub fn done(&self, line: &str) -> String {
        let ended = self.run(line);
        assert_eq!(ended.code, Some(0), "{line}: {}{}", ended.out, ended.err);
        ended.out
    }

    /// The same under `strace`, if there is one.
    pub fn traced(&self, line: &str) -> Option<Trace> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let log = self.root.join(format!("trace-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let calls = "open,openat,openat2,creat,connect,socket,bind,execve,io_uring_setup,landlock_restrict_self,seccomp";
        let mut command = self.command("strace", &format!("-f -qq -s 4096 -e trace={calls}"));
        command
            .arg("-o")
            .arg(&log)
            .arg(env!("CARGO_BIN_EXE_cairn"))
            .args(line.split(' ').filter(|w| !w.is_empty()));
        let Ok(output) = command.output() else {
            println!("left out: there is no strace here ({line})");
            return None;
        };
        let calls: Vec<_> = fs::read_to_string(&log).unwrap().lines().map(str::to_owned).collect();
        if calls.is_empty() {
            println!("left out: strace may trace nothing here ({line})");
            return None;
        }
        Some(Trace { ended: Ended::of(output), calls })
    }

    /// Whether the kernel has all that confines a process. Where it has not, a test prints that.
    pub fn is_confining(&self) -> bool {
        self.write("plain", &[0; 512]);
        let ended = self.run("img info --require-confinement -f raw plain");
        assert!(matches!(ended.code, Some(0 | 113)), "{}", ended.err);
        if ended.code == Some(113) {
            println!("left out: {}", ended.err);
        }
        ended.code == Some(0)
    }

    /// Runs the program that ours stands for, if it is here.
    pub fn peer(&self, line: &str) -> Option<Ended> {
        self.command("qemu-img", line).output().ok().map(Ended::of)
    }
}
