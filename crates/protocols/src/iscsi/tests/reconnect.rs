//! Sessions that are lost, and targets that come back.
use super::*;
use crate::way::Connection as _;
use iscsi::{Answer, AsyncEvent, Request as Pdu};
use std::sync::atomic::Ordering::Relaxed;

/// A driver that connects again, at a target that serves one session after the other.
async fn lasting(rules: Rules) -> (Arc<Disk>, IscsiDriver) {
    waiting(LONG, rules).await
}

/// The same; requests wait so long for another session.
async fn waiting(delay: Duration, rules: Rules) -> (Arc<Disk>, IscsiDriver) {
    let (listener, port) = bound().await;
    let disk = Disk::new(rules);
    rt::spawn(disk.clone().serve(listener)).detach();
    let driver = connect_with(port, patient(), delay).await.unwrap();
    (disk, driver)
}

#[test]
fn requests_in_flight_are_made_again_in_a_session_with_the_same_number() {
    run(async || {
        let (disk, driver) = lasting(Rules::default()).await;
        let driver = Arc::new(driver);
        disk.fuse.store(10, Relaxed);
        let tasks: Vec<_> = (0..40u64)
            .map(|n| {
                let driver = driver.clone();
                rt::spawn(async move {
                    let data = vec![n as u8 + 1; 4096];
                    write(&driver, n * 4096, &data).await?;
                    Ok::<_, BlockError>(read(&driver, n * 4096, 4096).await? == data)
                })
            })
            .collect();
        for task in tasks {
            assert!(task.await.unwrap().unwrap());
        }
        assert_eq!(disk.sessions.load(Relaxed), 2);
        assert_eq!(*disk.isids.lock(), [profile().isid; 2]);
    });
}

#[test]
fn what_was_not_flushed_is_written_again_when_the_target_has_lost_it() {
    for reset in [false, true] {
        run(async || {
            let (disk, driver) = lasting(Rules::default()).await;
            write(&driver, 0, &[1; 512]).await.unwrap();
            driver.flush().await.unwrap();
            write(&driver, 512, &[2; 1024]).await.unwrap();
            write(&driver, 1024, &[3; 512]).await.unwrap();
            driver.write_zeroes(0, 512, Request::GUEST).await.unwrap();
            disk.lose_power();
            assert_eq!(disk.bytes.lock()[512], 0);
            match reset {
                // A session that goes on is told of the reset.
                true => disk.rules.lock().refusals.push((0x88, (2, [6, 0x29, 0]))),
                false => disk.fuse.store(0, Relaxed),
            }
            let mut expected = vec![0; 512];
            expected.extend([[2; 512], [3; 512]].concat());
            assert_eq!(read(&driver, 0, 1536).await.unwrap(), expected);
            assert_eq!(disk.durable.lock()[..1536], expected);
            assert_eq!(disk.sessions.load(Relaxed), 2);
            driver.flush().await.unwrap();
        });
    }
}

#[test]
fn a_flush_fails_where_what_it_is_for_can_not_be_written_again() {
    run(async || {
        let (listener, port) = bound().await;
        let disk = Disk::new(Rules::default());
        rt::spawn(disk.clone().serve(listener)).detach();
        let driver = connect_with(port, patient(), PAUSE).await.unwrap();
        write(&driver, 512, &[2; 1024]).await.unwrap();
        disk.lose_power();
        disk.rules.lock().refusals.extend(vec![(0x8a, (2, [3, 0x0c, 0])); 50]);
        disk.fuse.store(0, Relaxed);
        let error = driver.flush().await.unwrap_err();
        assert!(error.to_string().contains("could not be written again"), "{error}");
    });
}

#[test]
fn another_unit_and_one_that_lacks_something_is_not_taken_for_the_old_one() {
    type Change = fn(&mut Rules);
    let changes: [(Change, &str); 4] = [
        (|rules| rules.capacity.0 -= 1, "less space"),
        (|rules| rules.serial = *b"dish", "another identity"),
        (|rules| rules.durable_writes = false, "fewer features"),
        (|rules| rules.capacity.1 = 1024, "another size of blocks"),
    ];
    for (change, words) in changes {
        run(async || {
            let (listener, port) = bound().await;
            let disk = Disk::new(Rules::default());
            rt::spawn(disk.clone().serve(listener)).detach();
            let driver = connect_with(port, patient(), PAUSE).await.unwrap();
            change(&mut disk.rules.lock());
            disk.fuse.store(0, Relaxed);
            let error = read(&driver, 0, 512).await.unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
            *disk.rules.lock() = Rules::default();
            // Nobody has given up for ever.
            let again = async {
                while read(&driver, 0, 512).await.is_err() {
                    rt::sleep(Duration::from_millis(5)).await;
                }
            };
            rt::timeout(LONG, again).await.unwrap();
        });
    }
}

#[test]
fn a_unit_that_has_grown_or_may_not_be_written_any_more_is_the_same_unit() {
    run(async || {
        let (disk, driver) = lasting(Rules::default()).await;
        let length = driver.length();
        {
            let mut rules = disk.rules.lock();
            rules.capacity.0 += 8;
            rules.protected = true;
        }
        disk.fuse.store(0, Relaxed);
        read(&driver, 0, 512).await.unwrap();
        assert_eq!((disk.sessions.load(Relaxed), driver.length()), (2, length));
    });
}

#[test]
fn a_cache_that_is_switched_on_later_is_noticed_and_what_it_may_lose_is_kept() {
    for told in [false, true] {
        run(async || {
            let (disk, driver) = lasting(Rules { cached: false, ..Rules::default() }).await;
            write(&driver, 0, &[1; 512]).await.unwrap();
            driver.flush().await.unwrap();
            assert_eq!(disk.count(0x91), 0);
            disk.rules.lock().cached = true;
            match told {
                true => disk.rules.lock().refusals.push((0x8a, (2, [6, 0x2a, 1]))),
                // It is asked again in a new session.
                false => disk.fuse.store(0, Relaxed),
            }
            write(&driver, 512, &[2; 512]).await.unwrap();
            assert_eq!(disk.sessions.load(Relaxed), 2);
            disk.lose_power();
            disk.fuse.store(0, Relaxed);
            assert_eq!(read(&driver, 512, 512).await.unwrap(), [2; 512]);
            write(&driver, 1024, &[3; 512]).await.unwrap();
            driver.flush().await.unwrap();
            assert_eq!(disk.durable.lock()[512..1536], [[2; 512], [3; 512]].concat());
        });
    }
}

#[test]
fn a_cache_that_can_not_be_emptied_is_noticed_later_and_stops_no_write() {
    for says_so in [false, true] {
        run(async || {
            let (disk, driver) = lasting(Rules { cached: false, ..Rules::default() }).await;
            {
                let mut rules = disk.rules.lock();
                (rules.cached, rules.flushes) = (true, false);
                let unknown = (2, [5, 0x20, 0]);
                if !says_so {
                    rules.refusals.extend([(0xa3, unknown); 4]);
                }
                rules.refusals.extend([(0x91, unknown); 4]);
            }
            disk.fuse.store(0, Relaxed);
            let data = noise(1 << 20);
            // More than is kept.
            for n in 0..80u64 {
                write(&driver, (n % 2) << 20, &data).await.unwrap();
            }
            let error = driver.flush().await.unwrap_err();
            assert!(error.to_string().contains("knows no command that empties it"), "{error}");
            // Another session is made all the same.
            disk.fuse.store(0, Relaxed);
            assert_eq!(read(&driver, 0, 1 << 20).await.unwrap(), data);
            assert!(driver.flush().await.is_err());
        });
    }
}

#[test]
fn what_was_noted_before_a_unit_was_seen_not_to_flush_is_not_written_over_later_changes() {
    run(async || {
        let (listener, port) = bound().await;
        let disk = Disk::new(Rules::default());
        let serving = disk.clone();
        let (tell, heard) = futures_channel::oneshot::channel();
        let served = rt::spawn(async move {
            let mut guest = Guest::greet(&listener, &serving).await;
            let write = loop {
                match guest.next().await.unwrap() {
                    (Pdu::Command { tag, block, .. }, _) if block[0] == 0x8a => break tag,
                    (request, data) => serving.carry_out(&mut guest, request, data).await.unwrap(),
                }
            };
            tell.send(()).unwrap();
            // It is answered when both forms of a flush have been refused.
            for code in [0x35, 0x91] {
                let (Pdu::Command { tag, block, .. }, _) = guest.next().await.unwrap() else { panic!() };
                assert_eq!(block[0], code);
                guest.refuse(tag, 2, [5, 0x20, 0]).await;
            }
            guest.give(write, &[], 512, 512).await;
            while serving.one(&mut guest).await.is_some() {}
            drop(guest);
            serving.serve(listener).await;
        });
        let driver = Arc::new(connect_with(port, patient(), LONG).await.unwrap());
        let writer = driver.clone();
        let first = rt::spawn(async move { write(&writer, 0, &[1; 512]).await });
        heard.await.unwrap();
        assert!(driver.flush().await.is_err());
        first.await.unwrap().unwrap();
        write(&driver, 0, &[2; 512]).await.unwrap();
        disk.fuse.store(0, Relaxed);
        assert_eq!(read(&driver, 0, 512).await.unwrap(), [2; 512]);
        assert_eq!((disk.sessions.load(Relaxed), disk.count(0x8a)), (2, 1));
        drop(served);
    });
}

#[test]
fn a_unit_that_can_not_be_used_again_has_not_refused_a_flush() {
    for says_cached in [true, false] {
        run(async || {
            let unknown = (2, [5, 0x20, 0]);
            let refusals = if says_cached { Vec::new() } else { vec![(0x1a, unknown)] };
            let (disk, driver) = waiting(SHORT, Rules { refusals, ..Rules::default() }).await;
            write(&driver, 0, &[1; 512]).await.unwrap();
            // Its size is not told, by either command.
            disk.rules.lock().refusals.extend([(0x9e, unknown); 1000]);
            disk.fuse.store(0, Relaxed);
            assert!(driver.flush().await.is_err());
            // It comes back without what it had not made durable: that is there again before it is read.
            disk.lose_power();
            disk.rules.lock().refusals.clear();
            let again = async {
                loop {
                    match read(&driver, 0, 512).await {
                        Ok(data) => return data,
                        Err(_) => rt::sleep(Duration::from_millis(5)).await,
                    }
                }
            };
            assert_eq!(rt::timeout(LONG, again).await.unwrap(), [1; 512]);
            driver.flush().await.unwrap();
            assert_eq!(disk.durable.lock()[..512], [1; 512]);
        });
    }
}

#[test]
fn a_logout_that_is_not_answered_holds_nobody_for_long() {
    run(async || {
        let (listener, port) = bound().await;
        let disk = Disk::new(Rules::default());
        let serving = disk.clone();
        let served = rt::spawn(async move {
            let mut guest = Guest::greet(&listener, &serving).await;
            let tag = loop {
                match guest.next().await.unwrap() {
                    (Pdu::Command { tag, block, .. }, _) if block[0] == 0x88 => break tag,
                    (request, data) => serving.carry_out(&mut guest, request, data).await.unwrap(),
                }
            };
            guest.send(Answer::Async(AsyncEvent::LogoutWanted(u16::MAX)), &[]).await;
            guest.give(tag, &[7; 512], 512, 512).await;
            assert!(matches!(guest.next().await.unwrap().0, Pdu::Logout { .. }));
            // Only the initiator ends it.
            assert!(guest.next().await.is_none());
            serving.serve(listener).await;
        });
        let driver = connect_with(port, patient(), LONG).await.unwrap();
        assert_eq!(read(&driver, 0, 512).await.unwrap(), [7; 512]);
        assert_eq!(read(&driver, 0, 512).await.unwrap(), [0; 512]);
        assert_eq!(disk.sessions.load(Relaxed), 2);
        drop(served);
    });
}

#[test]
fn a_session_whose_end_the_target_asks_for_ends_in_order_and_another_one_follows() {
    run(async || {
        let (listener, port) = bound().await;
        let disk = Disk::new(Rules::default());
        let serving = disk.clone();
        let (tell, heard) = futures_channel::oneshot::channel();
        let served = rt::spawn(async move {
            let mut guest = Guest::greet(&listener, &serving).await;
            let tag = loop {
                let (request, data) = guest.next().await.unwrap();
                match request {
                    Pdu::Command { tag, block, .. } if block[0] == 0x88 => break tag,
                    other => serving.carry_out(&mut guest, other, data).await.unwrap(),
                }
            };
            guest.send(Answer::Async(AsyncEvent::LogoutWanted(60)), &[]).await;
            heard.await.unwrap();
            guest.give(tag, &[7; 512], 512, 512).await;
            let (request, _) = guest.next().await.unwrap();
            let Pdu::Logout { tag, .. } = request else { panic!("{request:?}") };
            guest.send(Answer::Logout { tag, response: 0 }, &[]).await;
            assert!(guest.next().await.is_none());
            serving.serve(listener).await;
        });
        let driver = Arc::new(connect_with(port, patient(), LONG).await.unwrap());
        let reader = driver.clone();
        let first = rt::spawn(async move { read(&reader, 0, 512).await.unwrap() });
        while driver.link.way.connection().dead().is_none() {
            rt::sleep(Duration::from_millis(1)).await;
        }
        tell.send(()).unwrap();
        let second = read(&driver, 512, 512).await.unwrap();
        // The second one is of the disk, by the second session.
        assert_eq!((first.await.unwrap(), second), (vec![7; 512], vec![0; 512]));
        assert_eq!((disk.sessions.load(Relaxed), disk.count(0x88)), (2, 1));
        drop(served);
    });
}

#[test]
fn requests_wait_for_a_target_no_longer_than_they_may() {
    run(async || {
        let (listener, port) = bound().await;
        let disk = Disk::new(Rules::default());
        let serving = disk.clone();
        rt::spawn(async move {
            let mut guest = Guest::greet(&listener, &serving).await;
            while serving.one(&mut guest).await.is_some() {}
            drop(listener);
        })
        .detach();
        let driver = connect_with(port, patient(), SHORT).await.unwrap();
        disk.fuse.store(0, Relaxed);
        let error = read(&driver, 0, 512).await.unwrap_err();
        assert!(error.to_string().contains(&port.to_string()), "{error}");
        // A flush with nothing to lose is a flush.
        driver.flush().await.unwrap();
        driver.close().await.unwrap();
        let error = read(&driver, 0, 512).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
    });
}

#[test]
fn a_cut_ends_requests_that_wait() {
    run(async || {
        let (listener, port) = bound().await;
        let disk = Disk::new(Rules::default());
        let serving = disk.clone();
        rt::spawn(async move {
            let mut guest = Guest::greet(&listener, &serving).await;
            while serving.one(&mut guest).await.is_some() {}
            drop(listener);
        })
        .detach();
        let driver = Arc::new(connect_with(port, patient(), LONG).await.unwrap());
        disk.fuse.store(0, Relaxed);
        let reader = driver.clone();
        let waiting = rt::spawn(async move { read(&reader, 0, 512).await });
        while !driver.link.way.is_lost() {
            rt::sleep(Duration::from_millis(1)).await;
        }
        driver.cut().unwrap()();
        let error = waiting.await.unwrap().unwrap_err();
        assert!(error.to_string().contains("given up on request"), "{error}");
    });
}
