//! Tests of what needs no open image: header, create, check. Peers are asked where they are installed.
mod check;
mod crash;
mod create;
mod damage;
mod live;
mod mangle;
mod memory;
mod repair;
mod snapshots;

use super::header::Header;
use block::{Graph, Node, Options, Policy, Registry};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder that goes away with its value.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        // Memory where there is such a folder: these tests flush often.
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let dir = base.join(format!("cairn-qcow2-{}-{next}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A file opened as a node, in a graph of its own.
pub(super) struct Opened {
    graph: Graph,
    pub file: Arc<Node>,
}

impl Opened {
    pub async fn new(path: &Path) -> Self {
        let graph = Graph::new(Registry::new(&[protocols::DRIVERS]), |_| Ok(Options::new()));
        let options = Options::new().with_str("driver", "file").with_str("filename", path.to_str().unwrap());
        let file = graph.open(options, Policy::ALONE).await.unwrap();
        Self { graph, file }
    }

    pub async fn close(self) {
        self.graph.release(&self.file).await.unwrap();
    }
}

/// Makes an image with options given as text.
pub(super) fn create(path: &Path, size: u64, options: &[(&str, &str)]) -> block::Result<()> {
    std::fs::File::create(path).unwrap();
    let options = options.iter().fold(Options::new(), |all, (name, value)| all.with_str(name, value));
    rt::block_on_control(make(path, size, options))
}

/// Makes an image.
async fn make(path: &Path, size: u64, options: Options) -> block::Result<()> {
    let graph = Graph::new(Registry::new(&[protocols::DRIVERS, crate::DRIVERS]), |_| Ok(Options::new()));
    graph.create("qcow2", path.to_str().unwrap(), size, options).await
}

/// Reads an image's header.
pub(super) fn header(path: &Path) -> block::Result<Header> {
    rt::block_on_control(async {
        let opened = Opened::new(path).await;
        let result = Header::read(&opened.file).await;
        opened.close().await;
        result
    })
}

/// What a peer's program answers: exit code and output. `None`, said aloud, where it is not installed.
pub(super) fn peer(program: &str, args: &[&str]) -> Option<(i32, String)> {
    match Command::new(program).args(args).output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            Some((output.status.code().unwrap_or(-1), text))
        }
        Err(_) => {
            println!("left out: {program} is not installed");
            None
        }
    }
}

/// The number of a member in a flat JSON text; 0 where it is missing.
pub(super) fn member(json: &str, name: &str) -> u64 {
    let Some((_, rest)) = json.split_once(&format!("\"{name}\":")) else { return 0 };
    rest.trim_start().chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0)
}
