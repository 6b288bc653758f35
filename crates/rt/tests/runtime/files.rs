//! Files under both engines: the laws, refusals, full disks, locks.

use std::io;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::task::Poll;
use std::time::Duration;

use rt::{Allocate, BufMut, File, FileExtent, FileKind, OpenOptions, Target, fs, laws, locks};

use crate::support::{Folder, on_each_engine};

const NEW: OpenOptions = OpenOptions {
    read: true,
    write: true,
    create: true,
    create_new: false,
    truncate: true,
    direct: false,
    threads: false,
};

async fn create(path: &Path) -> File {
    fs::open(path, &NEW).await.unwrap()
}

#[test]
fn a_file_in_the_page_cache_keeps_the_laws() {
    on_each_engine(|| async {
        let folder = Folder::new();
        laws::file_laws(&create(&folder.path("file")).await).await;
    });
}

#[test]
fn a_file_in_memory_keeps_the_laws() {
    on_each_engine(|| async {
        let shm = Path::new("/dev/shm");
        if !shm.is_dir() {
            return println!("left out: no /dev/shm");
        }
        let path = shm.join(format!("rt-laws-{}", std::process::id()));
        let file = create(&path).await;
        fs::unlink(&path).await.unwrap();
        laws::file_laws(&file).await;
    });
}

#[test]
fn a_file_past_the_page_cache_keeps_the_laws() {
    on_each_engine(|| async {
        let folder = Folder::new();
        match fs::open(&folder.path("file"), &OpenOptions { direct: true, ..NEW }).await {
            Ok(file) => {
                assert!(file.alignment() > 1 || cfg!(not(target_os = "linux")), "O_DIRECT has an alignment");
                laws::file_laws(&file).await;
            }
            Err(error) => println!("left out: {error}"),
        }
    });
}

#[test]
fn a_direct_read_stops_at_an_unaligned_end() {
    on_each_engine(|| async {
        let folder = Folder::new();
        let path = folder.path("odd");
        std::fs::write(&path, vec![7; 5000]).unwrap();
        let Ok(file) = fs::open(&path, &OpenOptions { direct: true, ..OpenOptions::read_only() }).await
        else {
            return println!("left out: no O_DIRECT here");
        };
        let (buf, got) = file.read(0, BufMut::zeroed(16384)).await;
        assert_eq!(got.unwrap(), 5000);
        assert!(buf[..5000].iter().all(|&byte| byte == 7));
    });
}

#[test]
fn two_openings_of_a_file_lock_each_other_out() {
    on_each_engine(|| async {
        let folder = Folder::new();
        let path = folder.path("file");
        let (a, b) = (create(&path).await, fs::open(&path, &OpenOptions::read_write()).await.unwrap());
        laws::lock_laws(&a, &b);
        let stat = a.stat().unwrap();
        assert!(a.try_lock(201, 1, true).unwrap());
        let holder = locks::lock_holder(stat.dev, stat.ino, 201, 1);
        match holder {
            locks::LockHolder::Known(holder) => assert_eq!(holder.pid, std::process::id()),
            other => panic!("{other}"),
        }
        assert!(matches!(locks::lock_holder(stat.dev, stat.ino, 300, 1), locks::LockHolder::Unknown { .. }));
    });
}

#[test]
fn fifos_sockets_and_directories_are_refused_without_waiting() {
    on_each_engine(|| async {
        let folder = Folder::new();
        let fifo = folder.path("fifo");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let socket = folder.path("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        let cases = [
            (fifo, io::ErrorKind::InvalidInput, FileKind::Fifo),
            (socket, io::ErrorKind::InvalidInput, FileKind::Socket),
            (folder.as_ref().to_owned(), io::ErrorKind::IsADirectory, FileKind::Directory),
        ];
        for (path, error, kind) in cases {
            for options in [OpenOptions::read_only(), OpenOptions::read_write()] {
                let open = rt::timeout(Duration::from_secs(120), fs::open(&path, &options)).await.unwrap();
                assert_eq!(open.unwrap_err().kind(), error, "{}", path.display());
            }
            assert_eq!(fs::stat(&path).await.unwrap().kind, kind);
        }
        let missing = fs::open(&folder.path("missing"), &OpenOptions::read_only()).await;
        assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
    });
}

#[test]
fn names_can_be_renamed_removed_and_made_durable() {
    on_each_engine(|| async {
        let folder = Folder::new();
        let (a, b) = (folder.path("a"), folder.path("b"));
        create(&a).await.write_all(0, b"content").await.unwrap();
        let exclusive = fs::open(&a, &OpenOptions { create_new: true, ..OpenOptions::read_write() }).await;
        assert_eq!(exclusive.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        fs::rename(&a, &b).await.unwrap();
        fs::sync_dir(folder.as_ref()).await.unwrap();
        assert_eq!((fs::stat(&b).await.unwrap().len, fs::stat(&a).await.is_err()), (7, true));
        fs::unlink(&b).await.unwrap();
        assert_eq!(fs::unlink(&b).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    });
}

#[test]
fn a_handle_dropped_while_writing_keeps_the_file_open_until_it_is_written() {
    on_each_engine(|| async {
        let folder = Folder::new();
        let path = folder.path("file");
        let file = create(&path).await;
        let handle = rt::spawn(async move { file.write(0, BufMut::zeroed(8 << 20).freeze()).await.1 });
        rt::yield_now().await;
        drop(handle);
        for _ in 0..60_000 {
            if fs::stat(&path).await.unwrap().len == 8 << 20 {
                return;
            }
            rt::sleep(Duration::from_millis(1)).await;
        }
        panic!("the write was lost");
    });
}

#[test]
fn a_full_disk_is_an_error_until_there_is_room_again() {
    let folder = Folder::new();
    let mount = folder.path("small");
    std::fs::create_dir(&mount).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&mount).output();
    if !mounted.is_ok_and(|out| out.status.success()) {
        return println!("left out: no right to mount a small tmpfs");
    }
    on_each_engine(|| async {
        let (ballast, path) = (mount.join("ballast"), mount.join("file"));
        std::fs::write(&ballast, vec![1; 768 << 10]).unwrap();
        let file = create(&path).await;
        // Larger than what is written inline, so that the engine meets the full disk; and inline.
        for len in [4 << 20, 512 << 10] {
            let (_, result) = file.write(0, BufMut::zeroed(len).freeze()).await;
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull);
        }
        fs::unlink(&ballast).await.unwrap();
        file.write(0, BufMut::zeroed(512 << 10).freeze()).await.1.unwrap();
        fs::unlink(&path).await.unwrap();
    });
    assert!(Command::new("umount").arg(&mount).status().unwrap().success());
}

#[test]
fn a_write_to_a_read_only_file_is_an_error() {
    on_each_engine(|| async {
        let folder = Folder::new();
        let path = folder.path("file");
        std::fs::write(&path, b"abc").unwrap();
        let file = fs::open(&path, &OpenOptions::read_only()).await.unwrap();
        assert!(file.write_all(0, b"x").await.is_err());
        assert_eq!(&file.read_exact(0, 3).await.unwrap()[..], b"abc");
    });
}

#[test]
fn an_operation_begun_on_one_worker_may_be_awaited_on_another() {
    on_each_engine(|| async {
        let folder = Folder::new();
        let file = create(&folder.path("file")).await;
        for round in 0..50u8 {
            let file = file.clone();
            let mut write = Box::pin(async move {
                let data = BufMut::from_slice(&vec![round; 1 << 20]).freeze();
                file.write(0, data).await.1.unwrap();
                file.read_exact(0, 1 << 20).await.unwrap()
            });
            let begun = std::future::poll_fn(|cx| Poll::Ready(write.as_mut().poll(cx))).await;
            let buf = match begun {
                Poll::Ready(buf) => buf,
                Poll::Pending => rt::spawn_on(Target::Worker(1), write).await.unwrap(),
            };
            assert!(buf.iter().all(|&byte| byte == round));
        }
    });
}

/// A loop device, if this process may make one.
struct Loop(String);

impl Loop {
    fn new(file: &Path) -> Option<Loop> {
        let made = Command::new("losetup").args(["--show", "-f"]).arg(file).output().ok()?;
        let name = String::from_utf8(made.stdout).ok()?;
        made.status.success().then(|| Loop(name.trim().to_owned()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.0]).status();
    }
}

#[test]
fn a_block_device_has_its_size_and_can_be_zeroed_and_discarded() {
    on_each_engine(|| async {
        let folder = Folder::new();
        let backing = folder.path("backing");
        create(&backing).await.set_len(4 << 20).await.unwrap();
        let Some(device) = Loop::new(&backing) else { return println!("left out: no loop devices") };
        for direct in [false, true] {
            let options = OpenOptions { direct, ..OpenOptions::read_write() };
            let file = fs::open(Path::new(&device.0), &options).await.unwrap();
            let stat = file.stat().unwrap();
            assert_eq!((stat.kind, stat.len, file.len().unwrap()), (FileKind::Block, 4 << 20, 4 << 20));
            assert_eq!(file.extent(4096).await.unwrap(), FileExtent { data: true, end: 4 << 20 });
            assert_eq!(file.alignment() > 1, direct);
            let mut data = BufMut::with_len(1 << 20);
            data.fill(7);
            file.write(1 << 20, data.freeze()).await.1.unwrap();
            file.sync(true).await.unwrap();
            assert_eq!(file.read_exact((2 << 20) - 4096, 8192).await.unwrap()[4095..4097], [7, 0]);
            file.allocate(Allocate::ZeroRange, 1 << 20, 1 << 20).await.unwrap();
            assert!(file.read_exact(1 << 20, 1 << 20).await.unwrap().iter().all(|&byte| byte == 0));
            file.allocate(Allocate::Discard, 0, 4 << 20).await.unwrap();
            assert!(file.set_len(0).await.is_err(), "a device has the size it has");
            let (_, beyond) = file.write(4 << 20, BufMut::zeroed(4096).freeze()).await;
            assert!(beyond.is_err());
        }
    });
}
