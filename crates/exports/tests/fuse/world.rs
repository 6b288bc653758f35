//! A disk that is exported as a file, and its users: threads that make system calls, off the workers.

use block::{BlockError, Graph, Node, Opt, Options, Registry};
use exports::{AllowOther, ExportError, ExportSpec, Exports, FuseKind};
use parking_lot::Mutex;
use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::{Duration, Instant};

pub const SIZE: u64 = 1 << 20;

/// What a test works with.
pub struct World {
    pub folder: PathBuf,
    pub graph: Graph,
    pub node: Arc<Node>,
    pub exports: Exports,
    /// Ids of exports whose end was reported.
    pub told: Arc<Mutex<Vec<String>>>,
}

/// Runs a test on a disk of its own; says so where nothing can be mounted here.
pub fn run(format: &'static str, test: impl AsyncFnOnce(&World)) {
    let may_mount = rt::fs::user() == 0 && File::options().read(true).write(true).open("/dev/fuse").is_ok();
    if !may_mount {
        println!("skipped: /dev/fuse can't be used here (no such device, or not root)");
        return;
    }
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let n = COUNT.fetch_add(1, Relaxed);
    let folder = std::env::temp_dir().join(format!("cairn-fuse-{}-{n}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let runtime = rt::Runtime::new(rt::Config { workers: Some(2), ..rt::Config::default() }).unwrap();
    runtime.block_on(async {
        let registry = Registry::new(&[protocols::DRIVERS, formats::DRIVERS]);
        let graph = Graph::new(registry, |_| Err(BlockError::invalid("no JSON here")));
        let path = folder.join("disk").display().to_string();
        graph.create(format, &path, SIZE, Options::new()).await.unwrap();
        let file = Options::new().with_str("driver", "file").with_str("filename", &path);
        let options = Options::new().with_str("driver", format).with_str("node-name", "disk");
        let node = graph.add(options.with("file", Opt::Dict(file))).await.unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let ear = told.clone();
        let exports = Exports::new(graph.clone(), move |id| ear.lock().push(id.to_owned()));
        let world = World { folder: folder.clone(), graph, node, exports, told };
        test(&world).await;
        world.exports.close_all().await;
        assert!(world.graph.entries().is_empty(), "every export lets go of its node");
        world.graph.close_all().await.unwrap();
    });
    std::fs::remove_dir_all(folder).unwrap();
}

/// The usual export, to be changed.
pub fn writable(id: &str) -> ExportSpec {
    ExportSpec { id: id.to_owned(), node_name: "disk".to_owned(), writable: true, ..ExportSpec::default() }
}

impl World {
    /// A file of this name, as one to mount over.
    pub fn mountpoint(&self, name: &str) -> PathBuf {
        let path = self.folder.join(name);
        File::options().append(true).create(true).open(&path).unwrap();
        path
    }

    pub fn kind(&self, name: &str) -> FuseKind {
        FuseKind { mountpoint: self.mountpoint(name), growable: false, allow_other: AllowOther::Auto }
    }

    pub async fn export(&self, spec: ExportSpec, kind: FuseKind) -> PathBuf {
        let path = kind.mountpoint.clone();
        self.exports.add(spec, kind).await.unwrap();
        path
    }

    pub async fn refused(&self, spec: ExportSpec, kind: FuseKind) -> ExportError {
        self.exports.add(spec, kind).await.unwrap_err()
    }

    /// Returns when the end of so many exports has been reported.
    pub async fn ended(&self, count: usize) {
        let until = Instant::now() + Duration::from_secs(10);
        while self.told.lock().len() < count {
            assert!(Instant::now() < until, "an export has not ended");
            rt::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// System calls of a user of the file. They wait for the export, so they are not made on a worker.
pub async fn user<T: Send + 'static>(calls: impl FnOnce() -> T + Send + 'static) -> T {
    rt::blocking(calls).await
}

/// The error number of a call that fails.
pub fn errno<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

pub fn program(name: &str, args: &[&str]) -> bool {
    Command::new(name).args(args).status().unwrap().success()
}
