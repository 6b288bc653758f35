//! The laws of a file, to be run on every implementation of [`RawFile`](crate::RawFile): the operating system's under
//! each engine, and the simulator's. Each function panics where a law is broken.
#![expect(clippy::expect_used, reason = "these functions are tests")]

use std::io;

use futures_util::future::join_all;

use crate::{Allocate, BufMut, File, Try};

/// Unit of these tests in bytes: a multiple of every alignment.
const UNIT: usize = 4096;

/// Runs all laws that need one file. `file` is empty, open for reading and writing.
pub async fn file_laws(file: &File) {
    data_is_read_as_it_was_written(file).await;
    durable_writes_are_writes(file).await;
    reads_are_short_only_at_the_end(file).await;
    growing_reads_zero(file).await;
    holes_and_zeroes_read_zero(file).await;
    extents_cover_the_file(file).await;
    operations_at_once_all_land(file).await;
    a_dropped_write_still_lands(file).await;
}

fn pattern(seed: usize, len: usize) -> BufMut {
    let mut buf = BufMut::with_len(len);
    for (at, byte) in buf.iter_mut().enumerate() {
        *byte = (seed.wrapping_mul(31) + at / 7 + at) as u8 | 1;
    }
    buf
}

async fn put(file: &File, off: usize, data: BufMut) {
    file.write(off as u64, data.freeze()).await.1.expect("write");
}

async fn get(file: &File, off: usize, len: usize) -> BufMut {
    file.read_exact(off as u64, len).await.expect("read")
}

async fn is_zero(file: &File, off: usize, len: usize) -> bool {
    get(file, off, len).await.iter().all(|&byte| byte == 0)
}

/// Whether the file can do it; a refusal must say so and nothing else.
async fn allocate(file: &File, mode: Allocate, off: usize, len: usize) -> bool {
    match file.allocate(mode, off as u64, len as u64).await {
        Ok(()) => true,
        Err(error) => {
            let said = matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput);
            assert!(said, "{mode:?} failed: {error}");
            false
        }
    }
}

/// What was written is read, by inline calls and by operations, whichever wrote it; and syncing loses nothing.
pub async fn data_is_read_as_it_was_written(file: &File) {
    for (at, len) in [(0, UNIT), (3 * UNIT, 64 * UNIT), (100 * UNIT, 700 * UNIT)] {
        put(file, at, pattern(at, len)).await;
        file.sync(true).await.expect("fdatasync");
        assert!(get(file, at, len).await[..] == pattern(at, len)[..], "{len} bytes at {at}");
    }
    file.sync(false).await.expect("fsync");
    let mut buf = BufMut::with_len(UNIT);
    if let Try::Done(got) = file.try_read(0, &mut buf) {
        let got = got.expect("inline read");
        assert!(got > 0 && buf[..got] == pattern(0, UNIT)[..got]);
    }
    if let Try::Done(done) = file.try_write(0, &pattern(9, UNIT)) {
        let done = done.expect("inline write");
        assert!(get(file, 0, UNIT).await[..done] == pattern(9, UNIT)[..done]);
    }
    if file.alignment() == 1 {
        file.write_all(5, b"unaligned").await.expect("write_all");
        assert_eq!(&get(file, 5, 9).await[..], b"unaligned");
    }
}

/// A durable write is read as any other and moves the end; where there is none, nothing was written.
pub async fn durable_writes_are_writes(file: &File) {
    file.set_len(0).await.expect("set_len");
    for (at, len) in [(0, UNIT), (UNIT, 300 * UNIT), (310 * UNIT, UNIT)] {
        let (data, result) = file.write_durably(at as u64, pattern(at, len).freeze()).await;
        match result {
            Ok(()) => assert!(get(file, at, len).await[..] == data[..], "{len} bytes at {at}"),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{error}");
                assert_eq!(file.len().expect("len"), 0);
            }
        }
    }
}

/// A read across the end gives what there is, one behind it nothing; `read_exact` calls that an error.
pub async fn reads_are_short_only_at_the_end(file: &File) {
    file.set_len(0).await.expect("set_len");
    put(file, 0, pattern(1, 3 * UNIT)).await;
    assert_eq!(file.len().expect("len"), 3 * UNIT as u64);
    let (buf, got) = file.read(2 * UNIT as u64, BufMut::zeroed(4 * UNIT)).await;
    assert_eq!((got.expect("read"), buf.len()), (UNIT, 4 * UNIT));
    assert!(buf[..UNIT] == pattern(1, 3 * UNIT)[2 * UNIT..]);
    let (_, got) = file.read(3 * UNIT as u64, BufMut::zeroed(UNIT)).await;
    assert_eq!(got.expect("read at the end"), 0);
    let error = file.read_exact(2 * UNIT as u64, 2 * UNIT).await.expect_err("beyond the end");
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

/// What was cut off is gone: growing again reads zero.
pub async fn growing_reads_zero(file: &File) {
    put(file, 0, pattern(2, 4 * UNIT)).await;
    file.set_len(UNIT as u64).await.expect("cut");
    file.set_len(8 * UNIT as u64).await.expect("grow");
    assert_eq!(file.len().expect("len"), 8 * UNIT as u64);
    assert!(get(file, 0, UNIT).await[..] == pattern(2, 4 * UNIT)[..UNIT]);
    assert!(is_zero(file, UNIT, 7 * UNIT).await);
}

/// Punched and zeroed ranges read zero and their neighbours are untouched; only `Reserve` moves the end.
pub async fn holes_and_zeroes_read_zero(file: &File) {
    file.set_len(0).await.expect("set_len");
    for mode in [Allocate::PunchHole, Allocate::ZeroRange] {
        put(file, 0, pattern(3, 8 * UNIT)).await;
        if allocate(file, mode, 2 * UNIT, 3 * UNIT).await {
            assert!(is_zero(file, 2 * UNIT, 3 * UNIT).await, "{mode:?}");
            assert!(get(file, UNIT, UNIT).await[..] == pattern(3, 8 * UNIT)[UNIT..2 * UNIT]);
            assert!(get(file, 5 * UNIT, UNIT).await[..] == pattern(3, 8 * UNIT)[5 * UNIT..6 * UNIT]);
        }
        assert_eq!(file.len().expect("len"), 8 * UNIT as u64);
    }
    if allocate(file, Allocate::ReserveKeepSize, 8 * UNIT, 8 * UNIT).await {
        assert_eq!(file.len().expect("len"), 8 * UNIT as u64);
    }
    if allocate(file, Allocate::Reserve, 8 * UNIT, 8 * UNIT).await {
        assert_eq!(file.len().expect("len"), 16 * UNIT as u64);
        assert!(is_zero(file, 8 * UNIT, 8 * UNIT).await);
    }
}

/// Extents follow each other from start to end; what they call a hole reads zero; written bytes lie in data.
pub async fn extents_cover_the_file(file: &File) {
    file.set_len(0).await.expect("set_len");
    file.set_len(64 * UNIT as u64).await.expect("set_len");
    let written = [16 * UNIT, 48 * UNIT];
    for at in written {
        put(file, at, pattern(at, UNIT)).await;
    }
    let (mut at, len) = (0, file.len().expect("len"));
    while at < len {
        let extent = file.extent(at).await.expect("extent");
        assert!(extent.end > at && extent.end <= len, "{extent:?} at {at}");
        let holds_data = written.iter().any(|&w| (at..extent.end).contains(&(w as u64)));
        assert!(extent.data || !holds_data, "{extent:?} at {at} holds written bytes");
        if !extent.data {
            assert!(is_zero(file, at as usize, (extent.end - at) as usize).await);
        }
        at = extent.end;
    }
    assert!(file.extent(len).await.is_err(), "there is no extent behind the end");
}

/// Hundreds of writes and reads in flight at once, each with its own data.
pub async fn operations_at_once_all_land(file: &File) {
    const COUNT: usize = 600;
    file.set_len((COUNT * UNIT) as u64).await.expect("set_len");
    let writes = (0..COUNT).map(|n| file.write((n * UNIT) as u64, pattern(n, UNIT).freeze()));
    for (n, (buf, result)) in join_all(writes).await.into_iter().enumerate() {
        result.expect("write");
        assert!(buf[..] == pattern(n, UNIT)[..], "the buffer comes back as it was");
    }
    let reads = (0..COUNT).map(|n| file.read((n * UNIT) as u64, BufMut::with_len(UNIT)));
    for (n, (buf, got)) in join_all(reads).await.into_iter().enumerate() {
        assert_eq!(got.expect("read"), UNIT);
        assert!(buf[..] == pattern(n, UNIT)[..], "block {n}");
    }
}

/// A write that was begun is done, though its future is dropped: the answer is abandoned, never the work.
pub async fn a_dropped_write_still_lands(file: &File) {
    file.set_len(0).await.expect("set_len");
    let len = 1024 * UNIT;
    let mut write = file.write(0, pattern(5, len).freeze());
    let begun = std::future::poll_fn(|cx| std::task::Poll::Ready(write.as_mut().poll(cx))).await;
    drop(write);
    drop(begun);
    for _ in 0..20_000 {
        let (buf, got) = file.read(0, BufMut::zeroed(len)).await;
        if got.is_ok_and(|n| n == len) && buf[..] == pattern(5, len)[..] {
            return;
        }
        crate::sleep(std::time::Duration::from_millis(1)).await;
    }
    unreachable!("the write was lost");
}

/// Two openings of one file exclude each other, byte by byte, as soon as one locks for itself alone.
pub fn lock_laws(a: &File, b: &File) {
    assert!(a.try_lock(100, 1, false).expect("lock") && b.try_lock(100, 1, false).expect("lock"));
    assert!(!a.try_lock(100, 1, true).expect("lock"), "another one reads");
    assert!(!a.test_lock(100, 1, true).expect("test"));
    b.unlock(100, 1).expect("unlock");
    assert!(a.test_lock(100, 1, true).expect("test"));
    assert!(a.try_lock(100, 1, true).expect("lock"));
    assert!(!b.test_lock(100, 1, false).expect("test") && !b.try_lock(90, 20, false).expect("lock"));
    assert!(b.try_lock(101, 1, true).expect("lock"), "another byte");
    a.unlock(0, 0).expect("unlock");
    b.unlock(0, 0).expect("unlock");
    assert!(b.test_lock(0, 0, true).expect("test"));
}
