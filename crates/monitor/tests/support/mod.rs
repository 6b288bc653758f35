//! What tests of the daemon need: its state, the text of a message, a folder that goes with its test.
use api::Value;
use block::Registry;
use monitor::Control;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::*};

/// The daemon's state, empty.
pub fn control() -> Control {
    Control::new(Registry::new(&[formats::DRIVERS, filters::DRIVERS, protocols::DRIVERS]))
}

/// The member of a message, as text.
pub fn text(value: &Value, path: &[&str]) -> String {
    let found = path.iter().try_fold(value, |v, name| v.get(name));
    found.and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A folder that is removed with the test.
pub struct Folder(PathBuf);

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Folder {
    /// An empty folder.
    pub fn new() -> Folder {
        let name = format!("cairn-monitor-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}
