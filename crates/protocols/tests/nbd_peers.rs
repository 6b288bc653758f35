//! The `nbd` driver against servers that others wrote, in many configurations.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

use block::{Backend, BackendRequest, BlockError, Common, Flags, Graph, Perms, Policy, Registry, Request};
use rt::{Buf, BufMut};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const SIZE: usize = 4 << 20;

/// A server's process and its folder; both end with it.
struct Server {
    child: Child,
    folder: PathBuf,
}

impl Server {
    /// Starts a program with `%s` for its socket and `%i` for an image; `None` where it is not installed.
    fn start(program: &str, arguments: &str) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("cairn-nbd-peer-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("image"), vec![0; SIZE]).unwrap();
        let Some(child) = Self::child(program, arguments, &folder) else {
            println!("skipped: {program} is not installed");
            std::fs::remove_dir_all(&folder).unwrap();
            return None;
        };
        let server = Self { child, folder };
        for _ in 0..12_000 {
            // A file is there before anybody listens behind it.
            if std::os::unix::net::UnixStream::connect(server.socket()).is_ok() {
                return Some(server);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{program} {arguments} does not listen");
    }

    fn child(program: &str, arguments: &str, folder: &Path) -> Option<Child> {
        let (socket, image) = (folder.join("socket"), folder.join("image"));
        let place = |argument: &str| match argument {
            "%s" => socket.display().to_string(),
            "%i" => image.display().to_string(),
            other => other.to_owned(),
        };
        Command::new(program).args(arguments.split(' ').map(place)).spawn().ok()
    }

    /// Kills the program, and starts it for the same image.
    fn start_again(&mut self, program: &str, arguments: &str) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let _ = std::fs::remove_file(self.socket());
        self.child = Self::child(program, arguments, &self.folder).unwrap();
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn run<T>(test: impl AsyncFnOnce() -> T) -> T {
    rt::Runtime::new(rt::Config { workers: Some(1), ..rt::Config::default() }).unwrap().block_on(test())
}

async fn open(socket: &Path, read_only: bool) -> Result<(Graph, Arc<Backend>), BlockError> {
    let graph = Graph::new(Registry::new(&[protocols::DRIVERS]), |_| Err(BlockError::invalid("no JSON")));
    let uri = format!("nbd+unix:///?socket={}", socket.display());
    let common = Common { read_only, discard: block::Discard::Unmap, ..Common::default() };
    let node = graph.open_image(&uri, Some("nbd"), common, Policy::FOLLOW).await?;
    let perms = if read_only { Perms::READER } else { Perms::WRITER };
    let backend = graph.attach(BackendRequest { label: "test".into(), node, perms, pinned: false }).await?;
    Ok((graph, backend))
}

/// Writes, zeroes, discards, flushes and reads it all back.
async fn exercise(socket: &Path) {
    let (graph, backend) = open(socket, false).await.unwrap();
    assert_eq!(backend.length(), SIZE as u64);
    let mut expected = vec![0u8; SIZE];
    for (n, (offset, len)) in
        [(0, 1), (511, 4098), (70_000, 1_300_000), (SIZE - 4096, 4096)].into_iter().enumerate()
    {
        let data = vec![n as u8 + 1; len];
        expected[offset..offset + len].copy_from_slice(&data);
        backend
            .write(offset as u64, Buf::from_slice(&data), Request::GUEST.with_if(n % 2 == 0, Flags::FUA))
            .await
            .unwrap();
    }
    expected[100_000..300_000].fill(0);
    backend.write_zeroes(100_000, 200_000, Request::GUEST.with(Flags::MAY_UNMAP)).await.unwrap();
    backend.discard(3 << 20, 65536, Request::GUEST).await.unwrap();
    backend.flush().await.unwrap();
    let (data, result) = backend.read(0, BufMut::with_len(SIZE)).await;
    result.unwrap();
    assert!(data[..3 << 20] == expected[..3 << 20] && data[SIZE - 4096..] == expected[SIZE - 4096..]);
    let mut at = 0;
    while at < SIZE as u64 {
        let status = backend.status(at, SIZE as u64 - at).await.unwrap();
        let range = at as usize..(at + status.len) as usize;
        assert!(!status.zero || data[range].iter().all(|byte| *byte == 0), "{status:?} at {at}");
        at += status.len;
    }
    graph.detach(&backend).await.unwrap();
}

#[test]
fn servers_of_every_kind_store_what_is_written() {
    for (program, arguments) in [
        ("qemu-nbd", "-t -f raw -k %s %i"),
        ("nbdkit", "-f -U %s file %i"),
        ("nbdkit", "-f -U %s memory 4M"),
        // Without structured replies, and with neither options nor their errors.
        ("nbdkit", "-f -U %s --no-sr file %i"),
        ("nbdkit", "-f -U %s --mask-handshake=0 file %i"),
        // Without fast zeroes and FUA.
        ("nbdkit", "-f -U %s --filter=nozero --filter=fua memory 4M"),
        // Blocks of 4 KiB at least, 64 KiB at most.
        (
            "nbdkit",
            "-f -U %s --filter=blocksize-policy memory 4M blocksize-minimum=4K blocksize-preferred=4K blocksize-maximum=64K blocksize-error-policy=error",
        ),
        // Replies in any order.
        ("nbdkit", "-f -U %s --filter=delay memory 4M rdelay=2ms wdelay=1ms"),
    ] {
        if let Some(server) = Server::start(program, arguments) {
            println!("{program} {arguments}");
            run(async || exercise(&server.socket()).await);
        }
    }
}

#[test]
fn an_error_of_the_server_is_the_request_s_and_the_connection_lives() {
    let arguments = "-f -U %s --filter=error memory 4M error-pread=ENOSPC error-pread-rate=1";
    let Some(server) = Server::start("nbdkit", arguments) else { return };
    run(async || {
        let (graph, backend) = open(&server.socket(), false).await.unwrap();
        for _ in 0..3 {
            let (_, result) = backend.read(0, BufMut::with_len(512)).await;
            assert_eq!(result.unwrap_err().errno(), 28);
            backend.write(0, Buf::from_slice(b"fine"), Request::GUEST).await.unwrap();
        }
        graph.detach(&backend).await.unwrap();
    });
}

#[test]
fn a_read_only_export_opens_only_for_reading_and_an_oldstyle_one_as_any() {
    if let Some(server) = Server::start("nbdkit", "-f -r -U %s file %i") {
        run(async || {
            let error = open(&server.socket(), false).await.err().unwrap();
            assert!(error.to_string().contains("read-only"), "{error}");
            let (graph, backend) = open(&server.socket(), true).await.unwrap();
            assert!(backend.write(0, Buf::from_slice(b"no"), Request::GUEST).await.is_err());
            graph.detach(&backend).await.unwrap();
        });
    }
    if let Some(server) = Server::start("nbdkit", "-f -o -U %s file %i") {
        run(async || {
            let (graph, backend) = open(&server.socket(), false).await.unwrap();
            backend.write(70_000, Buf::from_slice(&[7; 9000]), Request::GUEST).await.unwrap();
            let (buf, result) = backend.read(69_000, BufMut::with_len(11_000)).await;
            result.unwrap();
            assert!(buf[..1000].iter().chain(&buf[10_000..]).all(|byte| *byte == 0));
            assert!(buf[1000..10_000].iter().all(|byte| *byte == 7));
            // This server says to such clients that it flushes, and refuses to.
            assert!(graph.detach(&backend).await.is_err());
        });
    }
}

#[test]
fn a_server_that_is_killed_ends_what_is_in_flight_and_all_that_follows() {
    let Some(mut server) = Server::start("nbdkit", "-f -U %s --filter=delay memory 4M rdelay=10") else {
        return;
    };
    run(async || {
        let (graph, backend) = open(&server.socket(), false).await.unwrap();
        backend.write(8192, Buf::from_slice(b"before"), Request::GUEST).await.unwrap();
        let reader = backend.clone();
        let waiting = rt::spawn(async move { reader.read(0, BufMut::with_len(4096)).await.1 });
        rt::sleep(Duration::from_millis(100)).await;
        server.child.kill().unwrap();
        assert_eq!(waiting.await.unwrap().unwrap_err().errno(), 5);
        let later = backend.write(0, Buf::from_slice(b"late"), Request::GUEST).await.unwrap_err();
        assert!(later.to_string().contains("is lost"), "{later}");
        // The final flush can't make anything durable either, and fails.
        assert!(graph.detach(&backend).await.is_err());
    });
}

#[test]
fn a_disk_is_written_through_servers_that_are_killed_and_started_again() {
    for (program, arguments) in [
        ("qemu-nbd", "-t -k %s -f raw %i"),
        ("nbdkit", "-f -U %s file %i"),
        ("qemu-nbd", "-t -e 8 -k %s -f raw %i"),
    ] {
        let Some(mut server) = Server::start(program, arguments) else { continue };
        let socket = server.socket();
        let killed = std::thread::spawn(move || {
            for _ in 0..8 {
                std::thread::sleep(Duration::from_millis(150));
                server.start_again(program, arguments);
            }
            server
        });
        run(async || {
            let graph = Graph::new(Registry::new(&[protocols::DRIVERS]), |_| Err(BlockError::invalid("no")));
            let options = graph
                .image_options(&format!("nbd+unix:///?socket={}", socket.display()), Some("nbd"))
                .unwrap()
                .with_str("reconnect-delay", "120");
            let node = graph.open_with(options, Common::default(), Policy::FOLLOW).await.unwrap();
            let request = BackendRequest { label: "test".into(), node, perms: Perms::WRITER, pinned: false };
            let backend = graph.attach(request).await.unwrap();
            let mut expected = vec![0u8; SIZE];
            let mut round = 0u64;
            while !killed.is_finished() {
                round += 1;
                let offset = (round.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (SIZE as u64 - 70_000)) as usize;
                let len = (round % 64_000) as usize + 1;
                let data = vec![round as u8; len];
                backend.write(offset as u64, Buf::from_slice(&data), Request::GUEST).await.unwrap();
                expected[offset..offset + len].copy_from_slice(&data);
                if round.is_multiple_of(50) {
                    backend.flush().await.unwrap();
                }
                let (buf, result) = backend.read(offset as u64, BufMut::with_len(len)).await;
                result.unwrap();
                assert_eq!(buf[..], data, "{program}, round {round}");
            }
            let server = killed.join().unwrap();
            let (buf, result) = backend.read(0, BufMut::with_len(SIZE)).await;
            result.unwrap();
            assert!(buf[..] == expected, "{program}");
            graph.detach(&backend).await.unwrap();
            assert!(std::fs::read(server.folder.join("image")).unwrap() == expected, "{program}");
        });
    }
}
