//! Remote files that count what they are asked for.

use super::*;
use block::ErrorKind;
use event_listener::Event;
use std::sync::atomic::{AtomicBool, AtomicU64};

/// A file that holds what [`byte`] says, and answers when the gate is open.
#[derive(Default)]
pub(super) struct Fake {
    pub(super) asked: Mutex<Vec<(u64, usize)>>,
    under_way: AtomicU64,
    most_under_way: AtomicU64,
    shut: AtomicBool,
    opened: Event,
    broken: AtomicBool,
}

pub(super) fn byte(at: u64) -> u8 {
    (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
}

impl Remote for Fake {
    fn read_at(&self, offset: u64, mut buf: BufMut) -> BoxFuture<'_, (BufMut, Result<()>)> {
        self.asked.lock().push((offset, buf.len()));
        let now = self.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_under_way.fetch_max(now, Ordering::Relaxed);
        Box::pin(async move {
            loop {
                let opened = self.opened.listen();
                if !self.shut.load(Ordering::Relaxed) {
                    break;
                }
                opened.await;
            }
            rt::yield_now().await;
            self.under_way.fetch_sub(1, Ordering::Relaxed);
            if self.broken.load(Ordering::Relaxed) {
                return (buf, Err(BlockError::new(ErrorKind::Io, "broken")));
            }
            buf.iter_mut().zip(offset..).for_each(|(to, at)| *to = byte(at));
            (buf, Ok(()))
        })
    }
}

impl Fake {
    fn open(&self) {
        self.shut.store(false, Ordering::Relaxed);
        self.opened.notify(usize::MAX);
    }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let config = rt::Config { workers: Some(1), ..rt::Config::default() };
    rt::Runtime::new(config).unwrap().block_on(test)
}

const SIZE: u64 = 64 << 20;

fn file(readahead: u64) -> Arc<Readahead<Fake>> {
    Readahead::new(Fake::default(), SIZE, readahead)
}

async fn check(file: &Arc<Readahead<Fake>>, offset: u64, len: usize) {
    let mut buf = BufMut::zeroed(len);
    let here = file.try_read(offset, &mut buf);
    let (rest, result) = file.read(offset + here as u64, buf.split_to(len - here)).await;
    result.unwrap();
    assert_eq!(rest.len(), len - here);
    for (got, at) in rest.iter().zip(offset + here as u64..) {
        let expected = if at < file.size() { byte(at) } else { 0 };
        assert_eq!(*got, expected, "at {at}");
    }
}

fn asked(file: &Arc<Readahead<Fake>>) -> Vec<(u64, usize)> {
    std::mem::take(&mut *file.remote().asked.lock())
}

#[test]
fn small_reads_in_order_are_few_requests_that_cover_the_file_once() {
    run(async {
        let file = file(DEFAULT);
        let mut at = 0;
        while at < SIZE {
            check(&file, at, 4096).await;
            at += 4096;
        }
        let asked = asked(&file);
        assert_eq!(asked.iter().map(|(_, len)| *len as u64).sum::<u64>(), SIZE);
        assert!(asked.len() < 80, "{} requests", asked.len());
        assert!(asked.iter().all(|(_, len)| *len as u64 <= WINDOW));
        assert!(file.remote().most_under_way.load(Ordering::Relaxed) > 1);
    });
}

#[test]
fn small_reads_here_and_there_are_asked_for_as_they_are() {
    run(async {
        let file = file(DEFAULT);
        check(&file, 0, 512).await;
        asked(&file);
        for n in 1..20 {
            let at = n * 7_919 * 4096 % SIZE;
            check(&file, at, 4096).await;
            assert_eq!(asked(&file), [(at, 4096)]);
        }
    });
}

#[test]
fn nothing_is_read_ahead_where_that_is_switched_off() {
    run(async {
        let file = file(0);
        for n in 0..100 {
            check(&file, n * 4096, 4096).await;
        }
        assert!(asked(&file).iter().all(|(_, len)| *len == 4096));
    });
}

#[test]
fn requests_for_what_is_being_fetched_wait_for_it() {
    run(async {
        let file = file(DEFAULT);
        file.remote().shut.store(true, Ordering::Relaxed);
        let reads: Vec<_> = (0..32u64)
            .map(|n| {
                let file = file.clone();
                rt::spawn(async move { check(&file, n * 4096, 4096).await })
            })
            .collect();
        while file.remote().asked.lock().is_empty() {
            rt::yield_now().await;
        }
        file.remote().open();
        for read in reads {
            read.await.unwrap();
        }
        let asked = asked(&file);
        assert!(asked.iter().all(|(_, len)| *len as u64 >= DEFAULT), "{asked:?}");
        let mut ends: Vec<_> = asked.iter().map(|(at, len)| (*at, at + *len as u64)).collect();
        ends.sort_unstable();
        assert!(ends.windows(2).all(|two| two[0].1 <= two[1].0), "{ends:?}");
    });
}

#[test]
fn large_reads_go_into_the_readers_own_buffer() {
    run(async {
        let file = file(DEFAULT);
        file.remote().shut.store(true, Ordering::Relaxed);
        let reads: Vec<_> = (1..5u64)
            .map(|n| {
                let file = file.clone();
                rt::spawn(async move { check(&file, n << 22, 2 << 20).await })
            })
            .collect();
        rt::yield_now().await;
        rt::yield_now().await;
        file.remote().open();
        for read in reads {
            read.await.unwrap();
        }
        let large = asked(&file).into_iter().filter(|(_, len)| *len == 2 << 20).count();
        assert!(large >= 3, "{large}");
    });
}

#[test]
fn a_failed_fetch_fails_those_who_wait_and_is_made_again_for_others() {
    run(async {
        let file = file(DEFAULT);
        file.remote().broken.store(true, Ordering::Relaxed);
        let (buf, result) = file.read(0, BufMut::zeroed(4096)).await;
        assert_eq!((buf.len(), result.unwrap_err().message()), (4096, "broken".to_owned()));
        file.remote().broken.store(false, Ordering::Relaxed);
        check(&file, 0, 4096).await;
    });
}

#[test]
fn what_is_beyond_the_end_reads_as_zeroes() {
    run(async {
        let file = Readahead::new(Fake::default(), 1000, DEFAULT);
        check(&file, 0, 1024).await;
        check(&file, 512, 8192).await;
        check(&file, 4096, 512).await;
    });
}

#[test]
fn any_mix_of_reads_gives_the_file_and_holds_no_more_than_it_may() {
    run(async {
        for readahead in [0, 512, 4096, DEFAULT, 8 << 20] {
            let file = file(readahead);
            let mut seed = 1u64;
            let mut next = |most: u64| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 33) % most
            };
            let mut at = 0;
            for _ in 0..300 {
                let most = if next(8) == 0 { 1 << 20 } else { 8192 };
                let len = 1 + next(most);
                check(&file, at, len as usize).await;
                at = if next(5) == 0 { next(SIZE) } else { (at + len) % SIZE };
                let held = file.state.lock().windows.held();
                assert!(held <= Readahead::<Fake>::capacity(readahead), "{held}");
            }
        }
    });
}

#[cfg(feature = "http")]
#[test]
fn a_stream_is_kept_as_a_whole_and_readers_wait_for_what_they_need() {
    run(async {
        let (whole, mut filler) = Whole::new(4 << 20);
        let content: Vec<u8> = (0..3_000_000).map(byte).collect();
        let reader = {
            let whole = whole.clone();
            rt::spawn(async move { whole.read(2_000_000, BufMut::zeroed(4096)).await })
        };
        let mut pieces = content.chunks(1_400_000);
        filler.push(pieces.next().unwrap()).unwrap();
        rt::yield_now().await;
        assert!(!reader.is_finished());
        pieces.for_each(|piece| filler.push(piece).unwrap());
        let (buf, result) = reader.await.unwrap();
        result.unwrap();
        assert_eq!(buf[..], content[2_000_000..2_004_096]);
        filler.end(Ok(()));
        let (buf, result) = whole.read(2_999_990, BufMut::zeroed(20)).await;
        result.unwrap();
        assert_eq!((&buf[..10], &buf[10..]), (&content[2_999_990..], &[0; 10][..]));
    });
}

#[cfg(feature = "http")]
#[test]
fn a_stream_that_is_too_long_or_breaks_off_fails_its_readers() {
    run(async {
        let (whole, mut filler) = Whole::new(1000);
        filler.push(&[1; 600]).unwrap();
        let error = filler.push(&[1; 600]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
        assert_eq!(filler.came(), 600);
        drop(filler);
        assert!(whole.read(590, BufMut::zeroed(20)).await.1.is_err());
        assert!(whole.read(0, BufMut::zeroed(600)).await.1.is_ok());
        let (_, mut filler) = Whole::new(1000);
        assert_eq!(filler.push(&[1]).unwrap_err().kind(), ErrorKind::Closed);
    });
}
