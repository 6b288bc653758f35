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

/// Whose programs run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Ours,
    Peer,
}

pub use Side::*;

pub const BOTH: [Side; 2] = [Ours, Peer];

impl Side {
    pub fn other(self) -> Side {
        if self == Ours { Peer } else { Ours }
    }
}

/// A run of writes to a disk of 7001 KiB.
pub const WRITES: &str = "-c 'write -P 1 1000k 64k' -c 'write -z 3M 64k' -c 'write -P 2 7000k 1k' \
                          -c 'write -P 3 2M 3M' -c 'write -z -u 3M 1M' -c 'discard 2M 4k' -c 'write -P 4 2M 4k'";

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

    /// Both made the same file, and tell the same of it.
    pub fn same_image(&self, file: &str) {
        self.all_same(&[&format!("qemu-img info {file}"), &format!("qemu-img info --output=json {file}")]);
        let read = |folder: &str| fs::read(self.root.join(folder).join(file)).unwrap();
        assert!(read("ours") == read("peer"), "{file}: other bytes");
    }

    /// All that `qemu-img` tells of an image without changing it.
    pub fn same_told(&self, file: &str) {
        for told in ["info", "info --output=json", "check", "check --output=json", "map --output=json", "map"]
        {
            self.same(&format!("qemu-img {told} {file}"));
        }
    }

    /// Runs a line with the programs of one side, in the folder that has both folders.
    pub fn by(&self, side: Side, line: &str) -> Output {
        run(&self.root, (side == Ours).then_some(&*self.root.join("bin")), line)
    }

    /// The same; it must succeed.
    pub fn must(&self, side: Side, line: &str) {
        let output = self.by(side, line);
        let told = plain(&output.stdout) + &plain(&output.stderr);
        assert!(output.status.success() && !told.contains("verification failed"), "{side:?}: {line}: {told}");
    }

    /// Whoever makes an image of a format, with any of these options, and whoever writes to it: both find it sound, and what it
    /// shows is what a raw image does. Leaves that raw image, `raw`, to be compared with.
    pub fn written_both_ways(&self, format: &str, options: &[&str]) {
        let is_raw = |side| {
            self.must(side, &format!("qemu-img check -f {format} v"));
            self.must(side, &format!("qemu-img compare -f raw -F {format} raw v"));
        };
        self.must(Peer, "qemu-img create -q -f raw raw 7001k");
        self.must(Peer, &format!("qemu-io -f raw {WRITES} raw"));
        for options in options {
            for (maker, writer) in BOTH.into_iter().flat_map(|maker| BOTH.map(|writer| (maker, writer))) {
                self.must(maker, &format!("qemu-img create -q -f {format} -o {options} v 7001k"));
                self.must(writer, &format!("qemu-io -f {format} {WRITES} v"));
                self.must(writer.other(), &format!("qemu-io -f {format} {WRITES} v"));
                BOTH.into_iter().for_each(is_raw);
            }
        }
        for side in BOTH {
            self.must(side, &format!("qemu-img convert -f raw -O {format} raw v"));
            is_raw(side.other());
            self.must(side.other(), &format!("qemu-img convert -f {format} -O raw v back"));
            self.must(side, "qemu-img compare -f raw -F raw raw back");
        }
    }

    /// Each side writes on in the image that the other has written the same to; the disks stay the same for both.
    pub fn written_on(&self, format: &str, image: &str, writes: &str) {
        for (side, folder) in [(Ours, "peer"), (Peer, "ours")] {
            self.must(side, &format!("qemu-io -f {format} {writes} {folder}/{image}"));
        }
        for side in BOTH {
            self.must(side, &format!("qemu-img compare -f {format} -F {format} ours/{image} peer/{image}"));
        }
    }

    /// Leaves the peer's image `v`, damaged, in both folders as `d`.
    pub fn damaged(&self, damage: impl Fn(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.root.join("peer/v")).unwrap();
        damage(&mut bytes);
        ["ours/d", "peer/d"].iter().for_each(|file| fs::write(self.root.join(file), &bytes).unwrap());
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

/// Puts a little-endian word into an image.
pub fn put(bytes: &mut [u8], at: usize, word: u32) {
    bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
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
