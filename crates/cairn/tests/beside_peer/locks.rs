//! The image locks that a served or idle image holds, and who is let in beside it: ours and the peer's hold the same bytes,
//! and keep out the same commands of either.

use crate::pair::peer_is_here;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Whose program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Ours,
    Peer,
}

const BOTH: [Who; 2] = [Who::Ours, Who::Peer];

/// A folder with a raw image and a qcow2 image.
struct World {
    folder: PathBuf,
}

impl Drop for World {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.folder).ok();
    }
}

/// What holds an image.
struct Holder {
    who: Who,
    child: Child,
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It has written nothing: nothing is lost by a hard end.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl World {
    fn new(name: &str) -> World {
        let folder = std::env::temp_dir().join(format!("cairn-locks-{name}-{}", std::process::id()));
        fs::remove_dir_all(&folder).ok();
        fs::create_dir_all(&folder).unwrap();
        World { folder }
    }

    /// Fresh images: what a command has done to them is gone.
    fn make_images(&self) {
        for (format, file) in [("raw", "a.raw"), ("qcow2", "a.qcow2")] {
            fs::remove_file(self.folder.join(file)).ok();
            let made = self.command(Who::Peer, &format!("qemu-img create -q -f {format} {file} 1M")).output();
            assert!(made.unwrap().status.success());
        }
    }

    fn command(&self, who: Who, line: &str) -> Command {
        let mut words = crate::pair::words(line);
        let program = words.remove(0);
        let mut command = match who {
            Who::Peer => Command::new(program),
            Who::Ours => {
                let face = program.trim_start_matches("qemu-");
                let face = if face == "storage-daemon" { "daemon" } else { face };
                let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
                command.arg(face);
                command
            }
        };
        command.args(words).current_dir(&self.folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Starts what holds an image, and waits until it listens.
    fn hold(&self, who: Who, line: &str) -> Holder {
        let socket = self.folder.join("s");
        fs::remove_file(&socket).ok();
        fs::remove_file(self.folder.join("n")).ok();
        let line = line.replace("FOLDER", &self.folder.display().to_string());
        let mut holder = Holder { who, child: self.command(who, &line).spawn().unwrap() };
        while !socket.exists() {
            let ended = holder.child.try_wait().unwrap();
            assert!(ended.is_none(), "{who:?}: {line}: ended with {ended:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        holder
    }

    /// The bytes of a file that are locked.
    fn locked(&self, file: &str) -> BTreeSet<String> {
        use std::os::unix::fs::MetadataExt;
        let inode = format!(":{}", fs::metadata(self.folder.join(file)).unwrap().ino());
        let told = fs::read_to_string("/proc/locks").unwrap();
        let mut bytes = BTreeSet::new();
        for words in told.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()) {
            if let [_, "OFDLCK", _, kind, _, place, first, last] = words[..]
                && place.ends_with(&inode)
            {
                let (first, last): (u64, u64) = (first.parse().unwrap(), last.parse().unwrap());
                bytes.extend((first..=last).map(|byte| format!("{kind} {byte}")));
            }
        }
        bytes
    }

    /// The commands that are refused while an image is held.
    fn refused(&self, format: &str, file: &str, who: Who) -> Vec<String> {
        let lines = [
            format!("qemu-img resize -q -f {format} {file} 2M"),
            format!("qemu-img create -q -f {format} {file} 1M"),
            format!("qemu-io -f {format} -c 'write -q 0 512' {file}"),
            format!("qemu-io -r -f {format} -c 'read -q 0 512' {file}"),
            format!("qemu-img convert -f {format} -O raw {file} copy"),
            // Every external snapshot of a running disk is made so.
            format!("qemu-img create -q -f qcow2 -b {file} -F {format} over.qcow2"),
        ];
        let fails = |line: &String| !self.command(who, line).status().unwrap().success();
        lines.into_iter().filter(fails).collect()
    }
}

/// Holds `file` by each of the two programs: they lock the same bytes, and keep out the same commands.
fn same(name: &str, file: &str, holder: &str) {
    if !peer_is_here() {
        return;
    }
    let (world, format) = (World::new(name), Path::new(file).extension().unwrap().to_str().unwrap());
    let mut found = Vec::new();
    for who in BOTH {
        world.make_images();
        let holder = world.hold(who, holder);
        // An export may come after the socket.
        let mut locked = world.locked(file);
        for _ in 0..40 {
            std::thread::sleep(Duration::from_millis(5));
            let now = world.locked(file);
            if now == locked && !now.is_empty() {
                break;
            }
            locked = now;
        }
        let refused = BOTH.map(|by| world.refused(format, file, by));
        assert_eq!(refused[0], refused[1], "held by {:?}: kept out of ours, and of the peer's", holder.who);
        let [refused, _] = refused;
        found.push((locked, refused));
    }
    let peer = found.pop().unwrap();
    assert_eq!(found.pop().unwrap(), peer, "held by ours, and by the peer's");
}

#[test]
fn a_served_raw_image_is_locked_against_another_size() {
    same("nbd-raw", "a.raw", "qemu-nbd -t -k FOLDER/s -f raw a.raw");
    same("nbd-raw-r", "a.raw", "qemu-nbd -t -k FOLDER/s -r -f raw a.raw");
}

#[test]
fn a_served_qcow2_image_is_locked_against_all_other_writers() {
    same("nbd-qcow2", "a.qcow2", "qemu-nbd -t -k FOLDER/s -f qcow2 a.qcow2");
    same("nbd-qcow2-r", "a.qcow2", "qemu-nbd -t -k FOLDER/s -r -f qcow2 a.qcow2");
}

const DAEMON: &str =
    "qemu-storage-daemon --chardev socket,id=m,path=FOLDER/s,server=on,wait=off --monitor chardev=m";

#[test]
fn an_unused_node_holds_its_locks() {
    let raw = "driver=raw,node-name=d,file.driver=file,file.filename=a.raw";
    let qcow2 = "driver=qcow2,node-name=d,file.driver=file,file.filename=a.qcow2";
    same("idle-file", "a.raw", &format!("{DAEMON} --blockdev driver=file,node-name=d,filename=a.raw"));
    same("idle-raw", "a.raw", &format!("{DAEMON} --blockdev {raw}"));
    same("idle-qcow2", "a.qcow2", &format!("{DAEMON} --blockdev {qcow2}"));
    same("idle-qcow2-r", "a.qcow2", &format!("{DAEMON} --blockdev {qcow2},read-only=on"));
    let over = format!("{qcow2},backing.driver=raw,backing.file.driver=file,backing.file.filename=a.raw");
    same("idle-base", "a.raw", &format!("{DAEMON} --blockdev {over}"));
}

#[test]
fn a_daemons_export_is_locked_against_another_size() {
    let raw = "driver=raw,node-name=d,file.driver=file,file.filename=a.raw";
    let server = "--nbd-server addr.type=unix,addr.path=FOLDER/n";
    // The monitor's socket comes last: the export is there when it is.
    let daemon = |node: &str, export: &str| {
        format!(
            "qemu-storage-daemon --blockdev {node} {server} --export type=nbd,id=e,node-name=d{export} \
             --chardev socket,id=m,path=FOLDER/s,server=on,wait=off --monitor chardev=m"
        )
    };
    same("export-raw", "a.raw", &daemon(raw, ",writable=on"));
    same("export-raw-r", "a.raw", &daemon(&format!("{raw},read-only=on"), ""));
}
