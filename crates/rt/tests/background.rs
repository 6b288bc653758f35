//! Going to the background, seen from the shell: runs itself in each role, as forking needs a process of one thread.
#![expect(clippy::expect_used, reason = "a test")]

use std::process::{Command, Output};
use std::time::{Duration, Instant};

const ROLE: &str = "RT_TEST_ROLE";
/// Names the file that lets the child end.
const WORD: &str = "RT_TEST_WORD";
const LONG: Duration = Duration::from_secs(120);

fn main() {
    match std::env::var(ROLE).as_deref() {
        Ok("ready") => {
            let ready = rt::process::daemonize().expect("fork");
            let answer =
                rt::block_on_control(async { rt::spawn_on(rt::Target::Worker(0), async { 7 }).await });
            assert_eq!(answer, Ok(7), "threads start after the fork");
            ready.ready().expect("ready");
            // Runs until the test says that its parent has ended, or until the test has failed.
            let (word, start) = (std::env::var(WORD).expect("the file's name"), Instant::now());
            while !std::path::Path::new(&word).exists() && start.elapsed() < LONG {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok("fail") => rt::process::daemonize().expect("fork").fail("image.raw: no such file"),
        Ok("silent") => drop(rt::process::daemonize().expect("fork")),
        Ok("threads") => {
            std::thread::spawn(|| std::thread::sleep(Duration::from_secs(5)));
            assert!(rt::process::daemonize().is_err());
        }
        _ => tests(),
    }
}

fn run(role: &str) -> Output {
    let this = std::env::current_exe().expect("own name");
    Command::new(this).env(ROLE, role).env(WORD, word()).output().expect("run")
}

fn word() -> std::path::PathBuf {
    std::env::temp_dir().join(format!("rt-background-{}", std::process::id()))
}

fn tests() {
    let start = Instant::now();
    // `output` also waits until the child has let go of standard output and error.
    let ready = run("ready");
    assert!(ready.status.success() && start.elapsed() < LONG, "{ready:?}");
    std::fs::write(word(), "").expect("tell the child");
    println!("the parent ends with success once the child is ready ... ok");

    let fail = run("fail");
    assert_eq!(
        (fail.status.code(), fail.stderr.as_slice()),
        (Some(1), b"image.raw: no such file\n".as_slice())
    );
    println!("the parent says what the child failed with ... ok");

    let silent = run("silent");
    assert!(silent.status.code() == Some(1) && !silent.stderr.is_empty());
    println!("a child that ends without a report is a failure ... ok");

    assert!(run("threads").status.success());
    println!("a process with threads is not forked ... ok");
    // The first child has most likely seen it; otherwise it ends by itself.
    std::fs::remove_file(word()).expect("the file is there");
}
