//! Sessions that are lost, and the next ones: nothing that was answered is lost with them, and no other file is taken for the old one.

use super::*;
use parking_lot::Mutex;
use sftp::{OpenFlags, Received, Reply, Request as Asked, StatusCode};
use std::collections::VecDeque;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

const SIZE: usize = 40_000;

/// What a server that can crash has seen, and is to do.
#[derive(Default)]
struct Crashing {
    content: OnceLock<Arc<Mutex<Vec<u8>>>>,
    /// What the file has after a crash: what was flushed.
    durable: Mutex<Vec<u8>>,
    /// Requests of a session before it ends in a crash, session by session; for ever after these.
    lives: Mutex<VecDeque<u32>>,
    /// The next flush fails, once.
    flush_fails: AtomicBool,
    writes: AtomicU32,
    opened: Mutex<Vec<OpenFlags>>,
}

impl Crashing {
    fn hook(&self, received: &Received<'_>) -> Act {
        let Some(content) = self.content.get() else { return Act::Proper };
        if let Received::Request(_, Asked::Open { flags, .. }, _) = received {
            self.opened.lock().push(*flags);
        }
        {
            let mut lives = self.lives.lock();
            match lives.front_mut() {
                Some(0) => {
                    lives.pop_front();
                    content.lock().clone_from(&self.durable.lock());
                    return Act::Close;
                }
                Some(left) => *left -= 1,
                None => {}
            }
        }
        match received {
            Received::Request(id, Asked::Fsync { .. }, _)
                if self.flush_fails.swap(false, Ordering::SeqCst) =>
            {
                let mut bytes = Vec::new();
                Reply::Status(StatusCode::FAILURE, b"Failure").encode(*id, &mut bytes);
                return Act::Send(bytes);
            }
            Received::Request(_, Asked::Fsync { .. }, _) => self.durable.lock().clone_from(&content.lock()),
            Received::Request(_, Asked::Write { .. }, _) => {
                self.writes.fetch_add(1, Ordering::SeqCst);
            }
            _ => {}
        }
        Act::Proper
    }
}

/// A server with a file of noise that crashes after these numbers of requests, and the file's driver.
async fn crashing(no_flush: bool, delay: Duration) -> (Server, Arc<Crashing>, SshDriver) {
    let crashing = Arc::new(Crashing::default());
    let hooked = crashing.clone();
    let behaviour =
        Behaviour { hook: Box::new(move |received| hooked.hook(received)), ..Behaviour::default() };
    let server = Server::new(noise(SIZE), behaviour);
    crashing.durable.lock().clone_from(&server.content.lock());
    let location = Location { reconnect: delay, ..location(server.address.port()) };
    let driver = open_at(location, LONG).await.unwrap();
    driver.link.set_no_flush(no_flush);
    crashing.content.set(server.content.clone()).unwrap();
    (server, crashing, driver)
}

fn crash_after(crashing: &Crashing, lives: &[u32]) {
    *crashing.lives.lock() = lives.iter().copied().collect();
}

#[test]
fn what_was_answered_and_not_flushed_is_written_again_in_its_order() {
    run(async {
        let (server, crashing, driver) = crashing(false, LONG).await;
        let mut expected = noise(SIZE);
        let mut write = async |at: usize, byte: u8, len: usize| {
            driver.write(at as u64, Buf::from_slice(&vec![byte; len]), Request::GUEST).await.unwrap();
            expected.resize(expected.len().max(at + len), 0);
            expected[at..at + len].fill(byte);
        };
        write(0, 1, 5000).await;
        driver.flush().await.unwrap();
        write(3000, 2, 5000).await;
        write(4000, 3, 2000).await;
        write(SIZE - 100, 4, 3000).await;
        // It crashes at the next request, and once more while it is being written to again.
        crash_after(&crashing, &[0, 5]);
        let (buf, result) = driver.read(0, BufMut::with_len(expected.len())).await;
        result.unwrap();
        assert!(buf[..] == expected[..]);
        assert!(*server.content.lock() == expected && *crashing.durable.lock() == expected);
        assert!(crashing.lives.lock().is_empty());
        driver.flush().await.unwrap();
        driver.close().await.unwrap();
    });
}

#[test]
fn nothing_that_was_flushed_is_lost_by_a_server_that_crashes_at_any_request() {
    run(async {
        for seed in 1..12_u64 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut next = |below: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % below
            };
            let (server, crashing, driver) = crashing(false, LONG).await;
            let lives: Vec<u32> = (0..6).map(|_| next(30) as u32).collect();
            crash_after(&crashing, &lives);
            let mut expected = noise(SIZE);
            for step in 0..40 {
                let (at, len) = (next(SIZE as u64 - 5000) as usize, 1 + next(5000) as usize);
                match next(8) {
                    0 => {
                        driver.flush().await.unwrap();
                        assert!(*crashing.durable.lock() == expected, "seed {seed}, step {step}");
                    }
                    1 | 2 => {
                        let (buf, result) = driver.read(at as u64, BufMut::with_len(len)).await;
                        result.unwrap();
                        assert!(buf[..] == expected[at..at + len], "seed {seed}, step {step}");
                    }
                    _ => {
                        let data = vec![step; len];
                        driver.write(at as u64, Buf::from_slice(&data), Request::GUEST).await.unwrap();
                        expected[at..at + len].fill(step);
                    }
                }
            }
            driver.flush().await.unwrap();
            assert!(*server.content.lock() == expected, "seed {seed}");
        }
    });
}

#[test]
fn another_file_is_not_taken_for_the_one_that_was_there() {
    run(async {
        let (server, crashing, driver) = crashing(false, Duration::from_millis(500)).await;
        crashing.durable.lock().push(7);
        crash_after(&crashing, &[0]);
        let error = driver.read(0, BufMut::with_len(10)).await.1.unwrap_err().to_string();
        assert!(error.contains("is another one than it was"), "{error}");
        assert!(driver.read(0, BufMut::with_len(10)).await.1.is_err());
        // One that is as it was may be it.
        server.content.lock().truncate(SIZE);
        while driver.read(0, BufMut::with_len(10)).await.1.is_err() {
            rt::yield_now().await;
        }
    });
}

#[test]
fn nothing_is_written_again_into_a_file_that_has_become_shorter() {
    run(async {
        let (_server, crashing, driver) = crashing(false, Duration::from_millis(500)).await;
        driver.write(0, Buf::from_slice(&[1]), Request::GUEST).await.unwrap();
        crashing.durable.lock().truncate(SIZE - 1);
        crash_after(&crashing, &[0]);
        let error = driver.read(0, BufMut::with_len(10)).await.1.unwrap_err().to_string();
        assert!(error.contains("has 39999 bytes, not 40000 to 40000"), "{error}");
        assert_eq!(crashing.writes.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_file_that_others_made_longer_is_the_same_after_it_was_asked_for_its_size() {
    run(async {
        let (server, crashing, driver) = crashing(false, LONG).await;
        server.content.lock().extend_from_slice(&[7; 1000]);
        crashing.durable.lock().clone_from(&server.content.lock());
        driver.reload(&Common::default()).await.unwrap();
        crash_after(&crashing, &[0]);
        let (buf, result) = driver.read(SIZE as u64, BufMut::with_len(1000)).await;
        result.unwrap();
        assert!(buf[..] == [7; 1000]);
    });
}

#[test]
fn a_new_size_is_durable_before_anything_else_is_done_in_another_session() {
    run(async {
        for (size, is_lost) in [(SIZE / 2, false), (SIZE * 2, false), (SIZE / 2, true), (SIZE * 2, true)] {
            let (server, crashing, driver) = crashing(false, LONG).await;
            if is_lost {
                driver.link.lose();
            }
            driver.resize(size as u64, PreallocMode::Off).await.unwrap();
            assert_eq!(crashing.durable.lock().len(), size);
            crash_after(&crashing, &[0]);
            driver.read(0, BufMut::with_len(10)).await.1.unwrap();
            assert_eq!(server.content.lock().len(), size);
        }
        // One whose answer was lost may be lost itself: nobody is to believe in either size.
        let (_server, crashing, driver) = crashing(false, LONG).await;
        crash_after(&crashing, &[1]);
        assert!(driver.resize(SIZE as u64 * 2, PreallocMode::Off).await.is_err());
        assert!(driver.read(0, BufMut::with_len(10)).await.1.is_err());
    });
}

#[test]
fn a_flush_that_failed_for_another_request_fails_for_whoever_flushes_next() {
    run(async {
        let (_server, crashing, driver) = crashing(false, LONG).await;
        driver.write(0, Buf::from_slice(&[1]), Request::GUEST).await.unwrap();
        crashing.flush_fails.store(true, Ordering::SeqCst);
        assert!(driver.resize(SIZE as u64 * 2, PreallocMode::Off).await.is_err());
        assert!(driver.flush().await.is_err());
    });
}

#[test]
fn access_is_switched_in_the_next_session_where_one_is_lost() {
    run(async {
        let (_server, crashing, driver) = crashing(false, LONG).await;
        driver.link.lose();
        let _switched = driver.set_writable(false).await.unwrap();
        assert!(*crashing.opened.lock().last().unwrap() == OpenFlags::READ);
        driver.read(0, BufMut::with_len(10)).await.1.unwrap();
    });
}

#[test]
fn writes_that_are_under_way_when_the_server_crashes_are_carried_out() {
    run(async {
        let (server, crashing, driver) = crashing(false, LONG).await;
        let driver = Arc::new(driver);
        crash_after(&crashing, &[10, 7, 30]);
        let tasks = (0..40_usize).map(|n| {
            let driver = driver.clone();
            let data = Buf::from_slice(&vec![n as u8; 1000]);
            rt::spawn(async move { driver.write(n as u64 * 1000, data, Request::GUEST).await })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap().unwrap();
        }
        driver.flush().await.unwrap();
        let content = server.content.lock();
        assert!((0..40_usize).all(|n| content[n * 1000..][..1000].iter().all(|byte| *byte == n as u8)));
    });
}

#[test]
fn no_session_takes_the_place_of_one_with_changes_that_nobody_keeps() {
    run(async {
        let (_server, crashing, driver) = crashing(true, LONG).await;
        // What was only read can't be lost.
        crash_after(&crashing, &[0]);
        driver.read(0, BufMut::with_len(10)).await.1.unwrap();
        driver.write(0, Buf::from_slice(&[1]), Request::GUEST).await.unwrap();
        crash_after(&crashing, &[0]);
        assert!(driver.read(0, BufMut::with_len(10)).await.1.is_err());
        assert!(driver.flush().await.is_err());
        assert!(driver.write(0, Buf::from_slice(&[1]), Request::GUEST).await.is_err());
    });
}

#[test]
fn a_new_session_opens_the_file_for_what_it_was_switched_to() {
    run(async {
        let (_server, crashing, driver) = crashing(false, LONG).await;
        let last = || *crashing.opened.lock().last().unwrap();
        let undo = driver.set_writable(false).await.unwrap();
        assert!(last() == OpenFlags::READ);
        crash_after(&crashing, &[0]);
        driver.read(0, BufMut::with_len(10)).await.1.unwrap();
        assert!(last() == OpenFlags::READ && crashing.opened.lock().len() == 2);
        // What was switched before the session was lost is undone in the new one as well.
        undo();
        driver.write(0, Buf::from_slice(&[1]), Request::GUEST).await.unwrap();
        assert!(last() == OpenFlags::READ | OpenFlags::WRITE);
    });
}

#[test]
fn a_flush_does_not_wait_for_a_server_that_owes_nothing() {
    run(async {
        let (server, crashing, driver) = crashing(false, LONG).await;
        driver.write(0, Buf::from_slice(&[1]), Request::GUEST).await.unwrap();
        driver.flush().await.unwrap();
        drop((server, crashing));
        driver.link.lose();
        driver.flush().await.unwrap();
        driver.close().await.unwrap();
    });
}
