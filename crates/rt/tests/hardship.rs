//! What needs a process of its own: interrupted system calls, and too few descriptors.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rt::net::{Listener, Stream};
use rt::{Config, Engine, OpenOptions, Runtime};

extern "C" fn nothing(_: libc::c_int) {}

/// Interrupts this process all the time, while `f` runs.
fn interrupted(f: impl FnOnce()) {
    // SAFETY: all-zero is a valid `sigaction`; without SA_RESTART calls fail with EINTR. The handler does nothing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let seen = stop.clone();
    let pester = std::thread::spawn(move || {
        while !seen.load(Ordering::Relaxed) {
            for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
                let Some(id) = task.file_name().to_str().and_then(|id| id.parse::<i32>().ok()) else {
                    continue;
                };
                // SAFETY: the signal is handled.
                unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), id, libc::SIGUSR1) };
            }
        }
    });
    f();
    stop.store(true, Ordering::Relaxed);
    pester.join().unwrap();
}

#[test]
fn interrupted_calls_and_missing_descriptors_are_survived() {
    let path = std::env::temp_dir().join(format!("rt-hardship-{}", std::process::id()));
    for engine in [Engine::Ring, Engine::Threads] {
        let Ok(runtime) = Runtime::new(Config { engine, ..Config::default() }) else {
            println!("left out: no io_uring here");
            continue;
        };
        let options = OpenOptions { create: true, truncate: true, ..OpenOptions::read_write() };
        interrupted(|| {
            runtime.block_on(async {
                for direct in [false, true] {
                    let Ok(file) = rt::fs::open(&path, &OpenOptions { direct, ..options }).await else {
                        continue;
                    };
                    rt::laws::file_laws(&file).await;
                }
            });
        });
        runtime.block_on(a_listener_waits_for_descriptors());
    }
    std::fs::remove_file(&path).unwrap();
}

fn limit_files(limit: u64) {
    let limit = libc::rlimit { rlim_cur: limit, rlim_max: 4096 };
    // SAFETY: `limit` lives during the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
}

async fn a_listener_waits_for_descriptors() {
    let path = std::env::temp_dir().join(format!("rt-hardship-{}.sock", std::process::id()));
    let listener = Listener::bind_unix(&path).await.unwrap();
    let client = Stream::connect_unix(&path).await.unwrap();
    let next = std::fs::File::open("/dev/null").unwrap().as_raw_fd();
    limit_files(next as u64);
    let early = rt::timeout(Duration::from_millis(300), listener.accept()).await;
    assert!(early.is_err(), "no descriptor is left");
    limit_files(1024);
    let server = listener.accept().await.unwrap();
    client.send_all(b"late").await.unwrap();
    let mut buf = [0; 4];
    server.recv_exact(&mut buf).await.unwrap();
}
