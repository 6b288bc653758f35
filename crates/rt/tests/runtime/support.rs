//! What the suites share: a runtime of each engine, and a folder that goes away.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rt::{Config, Engine, Runtime};

/// Runs `test` under each engine that this machine has.
pub fn on_each_engine<F: Future>(test: impl Fn() -> F) {
    for engine in [Engine::Ring, Engine::Threads] {
        match Runtime::new(Config { engine, workers: Some(2), ..Config::default() }) {
            Ok(runtime) => drop(runtime.block_on(test())),
            Err(error) => println!("left out: {error}"),
        }
    }
}

/// A folder of this test's own.
pub struct Folder(PathBuf);

impl Folder {
    /// In `CAIRN_TEST_DIR` if that is set, else among the temporary files.
    pub fn new() -> Folder {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let base = std::env::var_os("CAIRN_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let name = format!("rt-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = base.join(name);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl AsRef<Path> for Folder {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}
