//! `nbd --fork`: it returns when clients can connect, and serves on in the background.
//!
//! Without the test harness: a process that goes to the background must have one thread. The same program is the test
//! and, when it finds words in its environment, the face that is tested.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};
use std::time::{Duration, Instant};

/// The words of the face that a process is to be.
const WORDS: &str = "CAIRN_TEST_FACE";

fn main() -> ExitCode {
    if let Ok(words) = std::env::var(WORDS) {
        return tools::face::run(["cairn"].into_iter().chain(words.split(' ')).map(Into::into));
    }
    let folder = std::env::temp_dir().join(format!("cairn-fork-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let told = std::panic::catch_unwind(|| it_returns_when_clients_can_connect(&folder));
    std::fs::remove_dir_all(&folder).ok();
    if told.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn face(words: &str) -> Output {
    Command::new(std::env::current_exe().unwrap()).env(WORDS, words).output().unwrap()
}

fn it_returns_when_clients_can_connect(folder: &Path) {
    let path = |name: &str| folder.join(name).display().to_string();
    let (image, socket, nowhere) = (path("image"), path("socket"), path("nowhere"));
    assert!(face(&format!("img create -q -f qcow2 {image} 1M")).status.success());

    let served = face(&format!("nbd --fork -k {socket} -f qcow2 {image}"));
    assert!(served.status.success() && served.stderr.is_empty(), "{served:?}");
    assert!(PathBuf::from(&socket).exists(), "clients can connect when it returns");
    let client = face(&format!("img info nbd+unix://?socket={socket}"));
    assert!(client.status.success(), "{client:?}");
    let begun = Instant::now();
    while PathBuf::from(&socket).exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the server stays when its last client has left");
        std::thread::sleep(Duration::from_millis(5));
    }

    let failed = face(&format!("nbd --fork -k {socket} {nowhere}"));
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(
        !failed.status.success() && said.contains("nowhere"),
        "what fails in the background is told: {said}"
    );
}
