//! A world for comparisons: two folders with the same images, and the same command lines run by ours and by the peer.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Two folders with the same images: ours, and the peer's.
pub struct Pair {
    pub root: PathBuf,
    /// What was not the same, told together at the end.
    differences: RefCell<Vec<String>>,
}

impl Drop for Pair {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.root).ok();
        let differences = self.differences.borrow();
        if !std::thread::panicking() {
            assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
        }
    }
}

const PROGRAMS: [&str; 5] = ["qemu-img", "qemu-io", "qemu-nbd", "qemu-storage-daemon", "qemu-system-x86_64"];

/// Whether the peer's programs are here; says so where they are not.
pub fn peer_is_here() -> bool {
    let here = Command::new("qemu-img").arg("--version").output().is_ok_and(|output| output.status.success());
    if !here {
        println!("skipped: qemu-img is not installed, so there is nothing to compare with");
    }
    here
}

impl Pair {
    pub fn new(name: &str) -> Pair {
        let root = std::env::temp_dir().join(format!("cairn-differential-{name}-{}", std::process::id()));
        fs::remove_dir_all(&root).ok();
        for folder in ["bin", "ours", "peer"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        for program in PROGRAMS {
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_cairn"), root.join("bin").join(program)).unwrap();
        }
        Pair { root, differences: RefCell::default() }
    }

    /// Runs the peer's programs in both folders: the worlds stay the same.
    pub fn given(&self, lines: &[&str]) {
        for line in lines {
            for folder in ["ours", "peer"] {
                let output = run(&self.root.join(folder), None, line);
                assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
            }
        }
    }

    /// Runs a line with ours here and with the peer there; both must end and print the same.
    pub fn same(&self, line: &str) {
        let bin = self.root.join("bin");
        let ours = run(&self.root.join("ours"), Some(&bin), line);
        let peer = run(&self.root.join("peer"), None, line);
        let (ours_text, peer_text) = (plain(&ours.stdout), plain(&peer.stdout));
        let told = format!(
            "{line}\nour errors: {}\npeer's errors: {}",
            String::from_utf8_lossy(&ours.stderr),
            String::from_utf8_lossy(&peer.stderr)
        );
        if (ours.status.code(), &ours_text) != (peer.status.code(), &peer_text) {
            let (ours, peer) = (ours.status.code(), peer.status.code());
            let text =
                format!("{told}\n--- ours ({ours:?})\n{ours_text}\n--- peer ({peer:?})\n{peer_text}\n");
            self.differences.borrow_mut().push(text);
        }
    }

    pub fn all_same(&self, lines: &[&str]) {
        lines.iter().for_each(|line| self.same(line));
    }
}

/// Runs a command line; its first word is looked up in `bin`, if given.
pub fn run(folder: &Path, bin: Option<&Path>, line: &str) -> Output {
    let words = words(line);
    let (program, args) = words.split_first().unwrap();
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let paths = bin.into_iter().map(Path::to_owned).chain(std::env::split_paths(&paths));
    let paths = std::env::join_paths(paths).unwrap();
    Command::new(program).args(args).current_dir(folder).env("PATH", paths).output().unwrap()
}

/// Splits at blanks, except inside single quotes.
pub fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// Text without what chance decides.
pub fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).replace('\r', "\n");
    // Rates differ from run to run, and what a usage line explains is everybody's own words.
    let cut =
        |line: &str| [" ops; ", " -- "].iter().find_map(|mark| Some(line.split_once(mark)?.0.to_owned()));
    let lines = text.lines().map(|line| cut(line).unwrap_or_else(|| line.to_owned()));
    lines.collect::<Vec<_>>().join("\n")
}
