//! The demonstration's folder, and the programs it runs there.

use crate::console::Console;
use crate::failure::Failure;
use crate::outln;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A text that the file system carries through the whole demonstration.
const TEXT: &str = "A cairn marks a way that others have gone before.\n";
const TEXT_FILE: &str = "cairn.txt";

/// The folder; removed at the end unless the user named it.
pub(super) struct Stage {
    folder: PathBuf,
    keep: bool,
    program: PathBuf,
}

/// The daemon; ended when dropped.
pub(super) struct Daemon(Child);

impl Stage {
    pub(super) fn new(named: Option<String>) -> Result<Stage, Failure> {
        let keep = named.is_some();
        let (folder, made) = match named {
            Some(name) => (PathBuf::from(&name), fs::create_dir_all(name)),
            None => {
                // Its own, and nobody else's to look into: it is no folder that was there.
                let folder = std::env::temp_dir().join(format!("cairn-demo-{:016x}", rt::random_u64()));
                let made = fs::DirBuilder::new().mode(0o700).create(&folder);
                (folder, made)
            }
        };
        let program = std::env::current_exe()
            .map_err(|e| Failure::new(format_args!("this program can't find itself: {e}")))?;
        made.map_err(|e| Failure::new(format_args!("could not make '{}': {e}", folder.display())))?;
        let folder = folder.canonicalize().unwrap_or(folder);
        Ok(Stage { folder, keep, program })
    }

    pub(super) fn kept(&self) -> bool {
        self.keep
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.folder.join(name).to_string_lossy().into_owned()
    }

    /// The address of the export.
    pub(super) fn url(&self) -> String {
        format!("nbd+unix:///disk?socket={}", self.path("nbd.sock"))
    }

    /// Runs one of our own commands and shows it.
    pub(super) fn cairn(&self, console: &mut Console, args: &[&str]) -> Result<(), Failure> {
        outln!(console, "$ cairn {}", args.join(" "));
        console.flush();
        run(Command::new(&self.program).args(args), &format!("cairn {}", args.join(" ")))
    }

    pub(super) fn make_file_system(
        &self,
        console: &mut Console,
        file: &str,
        size: u64,
    ) -> Result<(), Failure> {
        let content = self.folder.join("content");
        let made = fs::create_dir_all(&content).and_then(|()| fs::write(content.join(TEXT_FILE), TEXT));
        made.map_err(|e| Failure::new(format_args!("could not write '{}': {e}", content.display())))?;
        let (content, blocks) = (content.to_string_lossy().into_owned(), format!("{}k", size >> 10));
        let args = ["-q", "-F", "-d", &content, file, &blocks];
        outln!(console, "$ mkfs.ext4 {}", args.join(" "));
        run(tool("mkfs.ext4").args(args), "mkfs.ext4 (Debian: e2fsprogs)")
    }

    pub(super) fn check_file_system(&self, console: &mut Console, file: &str) -> Result<(), Failure> {
        outln!(console, "$ e2fsck -fn {file}");
        run(tool("e2fsck").args(["-fn", file]).stdout(Stdio::null()).stderr(Stdio::null()), "e2fsck")?;
        let request = format!("cat /{TEXT_FILE}");
        let text = tool("debugfs").args(["-R", &request, file]).stderr(Stdio::null()).output();
        let text = text.map_err(|e| Failure::new(format_args!("could not run debugfs: {e}")))?;
        if text.stdout != TEXT.as_bytes() {
            return Err(Failure::new(format_args!(
                "the file {TEXT_FILE} in the file system is not what was put there"
            )));
        }
        outln!(console, "  the file system is clean, and {TEXT_FILE} in it still says: {}", TEXT.trim_end());
        Ok(())
    }

    pub(super) fn daemon(&self, console: &mut Console) -> Result<Daemon, Failure> {
        let options = [
            format!("--blockdev driver=file,node-name=file,filename={}", self.path("overlay.qcow2")),
            "--blockdev driver=qcow2,node-name=disk,file=file".to_owned(),
            format!("--chardev socket,id=c,path={},server=on,wait=off", self.path("qmp.sock")),
            "--monitor chardev=c".to_owned(),
            format!("--nbd-server addr.type=unix,addr.path={}", self.path("nbd.sock")),
            "--export type=nbd,id=export,node-name=disk,name=disk,writable=on".to_owned(),
        ];
        outln!(console, "$ cairn daemon \\\n    {} &", options.join(" \\\n    "));
        let words = options.iter().flat_map(|option| option.splitn(2, ' '));
        let child = Command::new(&self.program)
            .arg("daemon")
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        child.map(Daemon).map_err(|e| Failure::new(format_args!("the daemon could not be started: {e}")))
    }
}

impl Daemon {
    /// Whether it still runs.
    pub(super) fn runs(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    /// Waits for its end, which must be a good one.
    pub(super) fn ended(mut self) -> Result<(), Failure> {
        match self.0.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Failure::new(format_args!("the daemon ended with {status}"))),
            Err(e) => Err(Failure::new(format_args!("the daemon's end was not seen: {e}"))),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.keep {
            fs::remove_dir_all(&self.folder).ok();
        }
    }
}

/// A program of the system's administrator, which may lie outside a user's PATH.
fn tool(name: &str) -> Command {
    let mut command = Command::new(name);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
}

fn run(command: &mut Command, what: &str) -> Result<(), Failure> {
    match command.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::new(format_args!("{what} ended with {status}"))),
        Err(e) => Err(Failure::new(format_args!("could not run {what}: {e}"))),
    }
}
