//! A confined process, seen from outside: runs itself in each role, as forking needs a process of one thread.
#![expect(clippy::expect_used, reason = "a test")]

use rt::confine::{self, Access, End, Enforced, Limits};
use std::io::{ErrorKind, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

const ROLE: &str = "RT_TEST_ROLE";
/// Names the file that the process may have.
const FILE: &str = "RT_TEST_FILE";

const LIMITS: Limits = Limits { time: Duration::from_secs(60), memory: 256 << 20, file_size: 1 << 20 };

fn main() {
    let Ok(role) = std::env::var(ROLE) else { return tests() };
    let file = std::env::var(FILE).expect("the file's name");
    let (access, limits) = match role.as_str() {
        "write" | "long" | "wait" => (Access::Make, LIMITS),
        "time" | "closed" => (Access::Read, Limits { time: Duration::from_millis(200), ..LIMITS }),
        _ => (Access::Read, LIMITS),
    };
    let mut inherited = std::fs::File::open("/etc/passwd").expect("a file that the child must not keep");
    let end = confine::run(&[(&file, access)], limits, |enforced| {
        let kept = inherited.read(&mut [0]);
        assert_eq!(kept.err().and_then(|error| error.raw_os_error()), Some(9), "it is closed in the child");
        work(&role, &file, enforced)
    });
    println!("{:?}", end.expect("a process"));
}

fn work(role: &str, file: &str, enforced: Enforced) -> u8 {
    match role {
        "reach" => reach(file, enforced),
        "write" => write(file, 1000),
        "long" => write(file, 2 << 20),
        // No memory that it may have is so large.
        "memory" => u8::from(vec![1u8; 1 << 30].iter().any(|byte| *byte == 0)),
        "wait" => {
            println!("working");
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        }
        "time" => loop {
            std::thread::sleep(Duration::from_secs(1));
        },
        "closed" => {
            for number in 0..256 {
                // SAFETY: nobody uses them any more.
                unsafe { libc::close(number) };
            }
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        }
        "ended" => {
            rt::signal::raise(libc::SIGTERM).expect("a signal");
            0
        }
        "killed" => {
            rt::signal::raise(8).expect("a signal");
            0
        }
        _ => 7,
    }
}

/// Tries what would lead elsewhere.
fn reach(file: &str, Enforced { landlock, seccomp }: Enforced) -> u8 {
    println!("landlock {landlock}, seccomp {seccomp}");
    // With either of them no file is opened, past the runtime's own look-up, too.
    if landlock || seccomp {
        assert!(std::fs::read("/etc/passwd").is_err() && std::fs::read_dir("/").is_err());
        assert!(std::fs::read(file).is_err(), "not even its own, by its name");
        assert!(std::fs::write(format!("{file}.new"), "x").is_err());
    }
    if seccomp {
        assert!(
            std::net::TcpStream::connect("127.0.0.1:1").is_err_and(|e| e.kind() == ErrorKind::Unsupported)
        );
        assert!(std::os::unix::net::UnixStream::pair().is_err());
        // The limit of memory does not count what is shared.
        let shared = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: it makes a mapping of its own, which nobody uses.
        let mapped = unsafe { libc::mmap(std::ptr::null_mut(), 1 << 20, libc::PROT_READ, shared, -1, 0) };
        assert_eq!(mapped, libc::MAP_FAILED);
        assert!(Command::new("/bin/true").status().is_err());
        assert!(std::fs::remove_file(file).is_err() && std::fs::rename(file, format!("{file}.new")).is_err());
        assert!(std::env::set_current_dir("/").is_err());
        let ring = rt::Config { engine: rt::Engine::Ring, ..rt::Config::default() };
        assert!(rt::Runtime::new(ring).is_err(), "a ring passes no filter");
    }
    let answer = rt::block_on_control(async {
        assert_eq!(rt::engine_name(), "threads");
        // Threads are started after the process was confined.
        let read = rt::spawn_on(rt::Target::Worker(0), {
            let file = file.to_owned();
            async move {
                let path = std::path::Path::new(&file);
                let open = rt::fs::open(path, &rt::OpenOptions::read_only()).await.expect("its file");
                let (bytes, count) = open.read(0, rt::BufMut::with_len(5)).await;
                assert_eq!((count.ok(), bytes.get(..)), (Some(5), Some(b"words".as_slice())));
                assert!(rt::fs::stat(path).await.is_ok_and(|stat| stat.len == 5));
                let write = rt::fs::open(path, &rt::OpenOptions::read_write()).await;
                assert_eq!(write.err().map(|e| e.kind()), Some(ErrorKind::PermissionDenied));
                assert!(rt::fs::unlink(path).await.is_err());
                rt::blocking(|| std::fs::read("/etc/passwd").is_err()).await
            }
        });
        let other = rt::fs::open(std::path::Path::new("/etc/passwd"), &rt::OpenOptions::read_only()).await;
        let refused = other.err().is_some_and(|e| e.to_string().contains("confined to the files"));
        (refused, read.await)
    });
    u8::from(!(answer == (true, Ok(landlock || seccomp))))
}

/// Makes its file, with so many bytes.
fn write(file: &str, len: usize) -> u8 {
    let written = rt::block_on_control(async {
        let path = std::path::Path::new(file);
        let new = rt::OpenOptions { create_new: true, ..rt::OpenOptions::read_write() };
        let open = rt::fs::open(path, &new).await?;
        let again = rt::fs::open(path, &new).await;
        assert_eq!(again.err().map(|e| e.kind()), Some(ErrorKind::AlreadyExists));
        open.write(0, rt::BufMut::zeroed(len).freeze()).await.1?;
        open.sync(false).await
    });
    // A write beyond the limit of a file's length is an error where the signal is ignored.
    written.map_or_else(|error| if error.raw_os_error() == Some(27) { 27 } else { 1 }, |()| 0)
}

fn run(role: &str, file: &std::path::Path) -> (String, Output) {
    let this = std::env::current_exe().expect("own name");
    let output = Command::new(this).env(ROLE, role).env(FILE, file).output().expect("run");
    (String::from_utf8_lossy(&output.stdout).into_owned(), output)
}

fn tests() {
    let folder = std::env::temp_dir().join(format!("rt-confined-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("file");
    std::fs::write(&file, "words").expect("a file");
    let ends = |role: &str, end: End| {
        let (said, output) = run(role, &file);
        assert!(said.ends_with(&format!("{end:?}\n")), "{role}: {output:?}");
        said
    };
    let said = ends("reach", End::Exited(0));
    println!(
        "a confined process reaches its file and nothing else ({}) ... ok",
        said.lines().next().unwrap_or("")
    );
    ends("memory", End::Aborted);
    ends("time", End::OutOfTime);
    ends("killed", End::Killed(8));
    // By itself: who waits for it goes on.
    ends("ended", End::Killed(libc::SIGTERM));
    ends("closed", End::Killed(libc::SIGKILL));
    ends("code", End::Exited(7));
    println!("what ended it is told ... ok");

    let new = folder.join("new");
    let (said, output) = run("write", &new);
    assert!(said.ends_with("Exited(0)\n"), "{output:?}");
    assert_eq!(std::fs::metadata(&new).expect("the new file").len(), 1000);
    std::fs::remove_file(&new).expect("remove");
    let (said, output) = run("long", &new);
    assert!(said.ends_with("Exited(27)\n") || said.ends_with("Killed(25)\n"), "{output:?}");
    assert!(!new.exists(), "the file of a work that failed is removed");
    println!("a file is made, and removed when the work fails ... ok");

    let this = std::env::current_exe().expect("own name");
    let mut command = Command::new(this);
    let mut waiting = command.env(ROLE, "wait").env(FILE, &new).stdout(Stdio::piped()).spawn().expect("run");
    let mut said = [0; 1];
    waiting.stdout.as_mut().expect("its output").read_exact(&mut said).expect("the child says that it works");
    let id = waiting.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().expect("kill").success());
    let status = waiting.wait().expect("its end");
    assert_eq!((status.signal(), new.exists()), (Some(15), false));
    println!("a signal ends both, and what was made is removed ... ok");

    let missing = confine::run(&[("/nowhere/file", Access::Read)], LIMITS, |_| 0);
    assert!(missing.is_err_and(|error| error.to_string().contains("'/nowhere/file'")));
    std::thread::scope(|scope| {
        let (send, wait) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || wait.recv());
        let path = file.to_str().expect("a name");
        assert!(confine::run(&[(path, Access::Read)], LIMITS, |_| 0).is_err());
        drop(send);
    });
    println!("what can't be confined is refused ... ok");
    std::fs::remove_dir_all(&folder).expect("remove");
}
