//! Operations, their buffers and the image that they hold, on a stand-in for the libraries (`fake.c`, built with the system's C
//! compiler): what becomes of them when nobody waits any more, and that nothing is left in the end.
#![allow(clippy::unwrap_used)]

use ceph::{Cluster, Encryption, Format, Image, Library, LoadError, Pool, Status};
use parking_lot::Mutex;
use std::future::Future;
use std::io::ErrorKind;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::Command;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// One test at a time: the stand-in has one image, and counts what is open.
static TURN: Mutex<()> = Mutex::new(());

struct Fake {
    library: &'static Library,
    control: libloading::Library,
    _turn: parking_lot::MutexGuard<'static, ()>,
}

fn built(name: &str, flags: &[&str]) -> PathBuf {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fake.c");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-pthread", "-o"]).arg(&file).args(flags).arg(source);
    assert!(cc.status().unwrap().success(), "the C compiler failed");
    file
}

fn load(file: &Path) -> Library {
    let name = file.to_str().unwrap();
    // SAFETY: the stand-in declares its functions as the headers do.
    unsafe { Library::load(name, name) }.unwrap()
}

impl Fake {
    fn new() -> Self {
        static LIBRARY: OnceLock<(Library, PathBuf)> = OnceLock::new();
        let turn = TURN.lock();
        let (library, file) = LIBRARY.get_or_init(|| {
            let file = built("libfake.so", &[]);
            (load(&file), file)
        });
        // SAFETY: it is loaded already.
        let control = unsafe { libloading::Library::new(file) }.unwrap();
        Self { library, control, _turn: turn }
    }

    fn tell(&self, name: &str, number: i32) {
        // SAFETY: the stand-in has these functions of this type.
        let function = unsafe { self.control.get::<unsafe extern "C" fn(i32)>(name) }.unwrap();
        // SAFETY: they take any number.
        unsafe { function(number) };
    }

    fn ask(&self, name: &str) -> i32 {
        // SAFETY: the stand-in has these functions of this type.
        let function = unsafe { self.control.get::<unsafe extern "C" fn() -> i32>(name) }.unwrap();
        // SAFETY: they only look.
        unsafe { function() }
    }

    fn pool(&self) -> Pool {
        Cluster::new(self.library, Some("me")).unwrap().connect().unwrap().pool("pool", None).unwrap()
    }

    fn image(&self) -> Image {
        self.pool().open("image", None, false).map_err(|(_, e)| e).unwrap()
    }

    /// Waits until so many images are open: closing may be a thread's work.
    fn wait_for_images(&self, number: i32) {
        let until = Instant::now() + Duration::from_secs(60);
        while self.ask("fake_images") != number {
            assert!(Instant::now() < until, "the number of open images did not come to be {number}");
            std::thread::yield_now();
        }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.tell("fake_hold", 0);
        self.tell("fake_refuse", 0);
        self.tell("fake_at_once", 0);
        self.tell("fake_snapshots", 0);
        if std::thread::panicking() {
            return;
        }
        let until = Instant::now() + Duration::from_secs(60);
        while self.ask("fake_open") != 0 {
            assert!(Instant::now() < until, "something was left open");
            std::thread::yield_now();
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn wait<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// A buffer that tells when it is dropped.
struct Watched(Vec<u8>, Arc<AtomicBool>);

impl Watched {
    fn new(len: usize) -> (Self, Arc<AtomicBool>) {
        let dropped = Arc::new(AtomicBool::new(false));
        (Self(vec![0; len], dropped.clone()), dropped)
    }
}

impl Deref for Watched {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Watched {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.1.store(true, SeqCst);
    }
}

#[test]
fn what_is_written_is_read() {
    let fake = Fake::new();
    for at_once in [0, 1] {
        fake.tell("fake_at_once", at_once);
        let image = fake.image();
        assert_eq!((image.size().unwrap(), image.object_size().unwrap()), (64 << 10, 4096));
        let text = vec![b'x'; 5000];
        assert_eq!(wait(image.write(100, text.clone())).1.unwrap(), 0);
        let (read, got) = wait(image.read(100, vec![0; 5000]));
        assert_eq!((got.unwrap(), read), (5000, text));
        wait(image.write_zeroes(100, 50, false).unwrap()).1.unwrap();
        wait(image.flush()).1.unwrap();
        let (read, _) = wait(image.read(100, vec![1; 60]));
        assert_eq!((&read[..50], read[50]), (&[0; 50][..], b'x'));
        wait(image.discard(0, 64 << 10)).1.unwrap();
        image.close().unwrap();
        assert_eq!(fake.ask("fake_images"), 0, "closing waited for nothing");
    }
}

#[test]
fn many_operations_end_in_any_order_of_waiting() {
    let fake = Fake::new();
    let image = fake.image();
    fake.tell("fake_hold", 1);
    let writes: Vec<_> = (0..64u8).map(|n| image.write(u64::from(n) * 1024, vec![n; 1024])).collect();
    let reads: Vec<_> = (0..64u8).map(|n| image.read(u64::from(n) * 1024, vec![0; 1024])).collect();
    fake.tell("fake_hold", 0);
    for (n, read) in reads.into_iter().enumerate().rev() {
        let (bytes, got) = wait(read);
        assert_eq!((got.unwrap(), bytes), (1024, vec![n as u8; 1024]));
    }
    for write in writes {
        wait(write).1.unwrap();
    }
}

#[test]
fn an_abandoned_operation_keeps_its_buffer_and_the_image_until_it_has_ended() {
    let fake = Fake::new();
    let image = fake.image();
    fake.tell("fake_hold", 1);
    let (buffer, dropped) = Watched::new(4096);
    let mut read = Box::pin(image.read(0, buffer));
    let nobody = Waker::noop();
    assert!(read.as_mut().poll(&mut Context::from_waker(nobody)).is_pending());
    drop(read);
    // Closing does not wait for what nobody waits for.
    image.close().unwrap();
    assert!(!dropped.load(SeqCst), "librbd still writes to the buffer");
    assert_eq!(fake.ask("fake_images"), 1);
    fake.tell("fake_hold", 0);
    // The completion may not close the image itself: it would wait for itself.
    fake.wait_for_images(0);
    assert!(dropped.load(SeqCst));
}

#[test]
fn an_image_that_is_dropped_is_closed() {
    let fake = Fake::new();
    let image = fake.image();
    let second = image.clone();
    drop(image);
    assert_eq!(fake.ask("fake_images"), 1);
    drop(second);
    fake.wait_for_images(0);
}

#[test]
fn an_operation_that_is_refused_gives_its_buffer_back() {
    let fake = Fake::new();
    let image = fake.image();
    fake.tell("fake_refuse", 5);
    let (buffer, dropped) = Watched::new(10);
    let (buffer, result) = wait(image.read(0, buffer));
    assert_eq!(result.unwrap_err().raw_os_error(), Some(5));
    assert!(!dropped.load(SeqCst));
    drop(buffer);
    assert!(dropped.load(SeqCst));
}

#[test]
fn errors_are_the_numbers_of_the_library() {
    let fake = Fake::new();
    let image = fake.image();
    assert_eq!(wait(image.read(64 << 10, vec![0; 1])).1.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(image.resize(1 << 40).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(image.create_snapshot("old").unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(image.create_snapshot("a\0b").unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(image.remove_snapshot("s").unwrap_err().kind(), ErrorKind::ResourceBusy);
    let (pool, error) = fake.pool().open("nothing", None, false).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(pool.create("image", 1, Some(12)).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert!(pool.has_namespace("space").unwrap() && !pool.has_namespace("other").unwrap());
    let mut cluster = Cluster::new(fake.library, None).unwrap();
    assert_eq!(cluster.read_configuration(Some("not")).unwrap_err().kind(), ErrorKind::NotFound);
    cluster.read_configuration(None).unwrap();
    assert!(cluster.set("unknown", "1").is_err() && cluster.number("unknown").is_none());
    cluster.set("known", "12.5").unwrap();
    assert_eq!(cluster.number("known"), Some(12.5));
    assert!(cluster.connect().unwrap().pool("other", None).is_err());
}

#[test]
fn status_goes_by_objects() {
    let fake = Fake::new();
    let image = fake.image();
    wait(image.discard(0, 64 << 10)).1.unwrap();
    wait(image.write(8192, vec![1; 4097])).1.unwrap();
    let status = |offset, len| image.status(offset, len).unwrap().unwrap();
    assert_eq!(status(0, 65536), Status { len: 8192, data: false });
    assert_eq!(status(100, 65436), Status { len: 8092, data: false });
    assert_eq!(status(8192, 57344), Status { len: 8192, data: true });
    assert_eq!(status(9000, 100), Status { len: 100, data: true });
    assert_eq!(status(12000, 53536), Status { len: 4384, data: true });
    assert_eq!(status(16384, 49152), Status { len: 49152, data: false });
    assert_eq!(status(0, 4096), Status { len: 4096, data: false });
}

#[test]
fn all_snapshots_are_listed_however_many_there_are() {
    let fake = Fake::new();
    let image = fake.image();
    for count in [0, 1, 15, 16, 17, 200] {
        fake.tell("fake_snapshots", count);
        let all = image.snapshots().unwrap();
        assert_eq!(all.len(), count as usize);
        assert!(all.iter().enumerate().all(|(n, s)| s.name == format!("s{n:03}") && s.size == 64 << 10));
    }
}

#[test]
fn what_a_library_is_too_old_for_is_told() {
    let _turn = TURN.lock();
    let library: &'static Library = Box::leak(Box::new(load(&built("libold.so", &["-DOLD"]))));
    let pool = Cluster::new(library, None).unwrap().connect().unwrap().pool("pool", None).unwrap();
    assert!(!library.writes_zeroes());
    assert_eq!(pool.has_namespace("space").unwrap_err().kind(), ErrorKind::Unsupported);
    let image = pool.open("image", None, true).map_err(|(_, e)| e).unwrap();
    assert_eq!(image.write_zeroes(0, 1, true).map(drop).unwrap_err().kind(), ErrorKind::Unsupported);
    let layer = Encryption { format: Format::Luks2, passphrase: b"secret" };
    assert_eq!(image.load(&[layer]).unwrap_err().kind(), ErrorKind::Unsupported);
    image.close().unwrap();
}

#[test]
fn a_library_that_is_not_there_or_another_one_is_named_with_its_package() {
    // SAFETY: there is no such library.
    let missing = unsafe { Library::load("libnone-of-that-name.so.2", "librbd.so.1") }.map(drop).unwrap_err();
    assert!(matches!(missing, LoadError::Missing { .. }));
    assert!(
        missing.to_string().contains("libnone-of-that-name.so.2") && missing.to_string().contains("librbd1")
    );
    // SAFETY: it has none of the functions, so none is found.
    let other = unsafe { Library::load("libc.so.6", "libc.so.6") }.map(drop).unwrap_err();
    assert!(matches!(other, LoadError::Incomplete { .. }));
    assert!(other.to_string().contains("librbd1"));
}
