//! Servers that go and come back, and lose what was not committed.

use super::*;
use crate::nfs::tests::server::Asked;

/// Serves one connection after the other; `lives` tells how many calls each answers before it is lost, with everything that is not
/// durable. Connections to the mount service live.
async fn mortal(disk: Disk, listener: Listener, mut lives: impl FnMut() -> usize + Send + 'static) {
    while let Ok(stream) = listener.accept().await {
        let mut left = lives();
        let act = |asked: &Asked, _: &[u8]| {
            if asked.head.program != v3::PROGRAM {
                return Act::Answer;
            }
            if left == 0 {
                // Carried out or not, and not answered.
                return Act::HangUp;
            }
            left -= 1;
            Act::Answer
        };
        // The mount service is asked while a connection to NFS waits.
        let other = async {
            while let Ok(stream) = listener.accept().await {
                disk.serve_one(&stream, |_, _| Act::Answer).await;
            }
        };
        let served = disk.serve_one(&stream, act);
        futures_util::future::select(std::pin::pin!(served), std::pin::pin!(other)).await;
        disk.lose_power();
    }
}

#[test]
fn nothing_that_was_acknowledged_is_lost_with_servers_that_forget_what_was_not_committed() {
    for seed in 1..=10 {
        run(async {
            let disk = Disk::new();
            disk.with(|content| content.answers = 5000);
            let (listener, port) = bound().await;
            let mut lives = Random::new(seed);
            // More than what may have to be written again takes.
            rt::spawn(mortal(disk.clone(), listener, move || lives.below(60) as usize + 60)).detach();
            let wanted = Wanted { reconnect: LONG, ..Wanted::at(port) };
            let driver = wanted.open().await.unwrap();
            converse(&driver, &mut Random::new(seed), 300, 9000).await;
            disk.with(|content| assert!(content.durable == content.now));
        });
    }
}

#[test]
fn what_a_server_may_have_lost_without_a_word_is_written_again_by_a_flush() {
    for (seed, every) in [(1, 3), (2, 20), (3, 90)] {
        run(async {
            let disk = Disk::new();
            let (listener, port) = bound().await;
            let (forgetful, mut calls) = (disk.clone(), 0);
            let act = move |asked: &Asked, _: &[u8]| {
                calls += u32::from(asked.is::<v3::Write>());
                // Of a server that has another one take over: the connection stays.
                if asked.is::<v3::Write>() && calls % every == 0 {
                    forgetful.lose_power();
                }
                Act::Answer
            };
            rt::spawn(disk.clone().serve(listener, act)).detach();
            let driver = Wanted::at(port).open().await.unwrap();
            let mut expected = vec![0; SIZE];
            let mut random = Random::new(seed);
            for step in 0..100 {
                let writes = (0..4).map(|n| {
                    let (at, len) = (random.below(250_000 - 9000) + n * 250_000, random.below(9000) + 1);
                    let byte = (step * 4 + n) as u8;
                    expected[at as usize..(at + len) as usize].fill(byte);
                    let data = Buf::from_slice(&vec![byte; len as usize]);
                    driver.write(at, data, guest(&mut random))
                });
                for written in join_all(writes.collect::<Vec<_>>()).await {
                    written.unwrap();
                }
                if step % 7 == 0 {
                    match driver.flush().await {
                        Ok(()) => disk.with(|content| assert!(content.durable == expected, "step {step}")),
                        Err(error) => assert!(error.to_string().contains("again and again"), "{error}"),
                    }
                }
            }
        });
    }
}

#[test]
fn a_flush_fails_where_the_server_loses_what_it_is_sent_each_time() {
    run(async {
        let disk = Disk::new();
        let (listener, port) = bound().await;
        let restless = disk.clone();
        let act = move |_: &Asked, _: &[u8]| {
            restless.with(|content| content.verifier += 1);
            Act::Answer
        };
        rt::spawn(disk.serve(listener, act)).detach();
        let driver = Wanted::at(port).open().await.unwrap();
        driver.write(0, Buf::from_slice(&[1; 100]), block::Request::GUEST).await.unwrap();
        let error = driver.flush().await.unwrap_err();
        assert!(error.to_string().contains("verifier"), "{error}");
    });
}

#[test]
fn a_durable_write_that_the_server_did_not_make_durable_is_committed() {
    run(async {
        let disk = Disk::new();
        let (listener, port) = bound().await;
        let act = |asked: &Asked, _: &[u8]| {
            if !asked.is::<v3::Write>() {
                return Act::Answer;
            }
            let done = v3::WriteDone {
                change: server::UNCHANGED,
                count: asked.arguments::<v3::Write>().count,
                stability: Stability::Unstable,
                verifier: 1u64.to_be_bytes(),
            };
            Act::Send(asked.reply::<v3::Write>(&Outcome(Ok(done))))
        };
        rt::spawn(disk.clone().serve(listener, act)).detach();
        let driver = Wanted::at(port).open().await.unwrap();
        disk.with(|content| content.durable.clear());
        driver.write(0, Buf::from_slice(&[1; 100]), block::Request::GUEST.with(Flags::FUA)).await.unwrap();
        disk.with(|content| assert_eq!(content.durable.len(), SIZE, "a commit came"));
    });
}

#[test]
fn requests_wait_for_a_lost_server_only_as_long_as_they_are_told() {
    run(async {
        let (listener, port) = bound().await;
        let disk = Disk::new();
        let served = disk.clone();
        let server = rt::spawn(async move {
            // The NFS connection comes first, the mount service's second.
            let (nfs, mount) = (listener.accept().await.unwrap(), listener.accept().await.unwrap());
            let answer = |_: &Asked, _: &[u8]| Act::Answer;
            let first =
                |asked: &Asked, _: &[u8]| if asked.is::<v3::Read>() { Act::HangUp } else { Act::Answer };
            futures_util::future::join(served.serve_one(&nfs, first), served.serve_one(&mount, answer)).await;
            drop(listener);
        });
        let wanted = Wanted { reconnect: Duration::from_millis(300), ..Wanted::at(port) };
        let driver = wanted.open().await.unwrap();
        let (began, _) = (rt::now_ns(), driver.write(0, Buf::from_slice(&[1]), block::Request::GUEST).await);
        let (_, result) = driver.read(0, BufMut::with_len(10)).await;
        let error = result.unwrap_err().to_string();
        assert!(error.contains("is lost") && error.contains("/exp/disk"), "{error}");
        assert!(rt::now_ns() - began >= 300_000_000);
        driver.flush().await.unwrap_err();
        server.await.unwrap();
    });
}

#[test]
fn a_connection_that_somebody_cuts_is_not_made_again() {
    run(async {
        let disk = Disk::new();
        let (listener, port) = bound().await;
        rt::spawn(disk.serve(listener, |_, _| Act::Answer)).detach();
        let driver = Wanted { reconnect: LONG, ..Wanted::at(port) }.open().await.unwrap();
        driver.cut().unwrap()();
        let (_, result) = driver.read(0, BufMut::with_len(10)).await;
        let error = result.unwrap_err().to_string();
        assert!(error.contains("on request"), "{error}");
    });
}

#[test]
fn a_server_that_needs_time_is_asked_again() {
    run(async {
        let disk = Disk::new();
        let (listener, port) = bound().await;
        let mut asleep = 2;
        let act = move |asked: &Asked, _: &[u8]| {
            if !asked.is::<v3::Read>() || asleep == 0 {
                return Act::Answer;
            }
            asleep -= 1;
            Act::Send(asked.reply::<v3::Read>(&Outcome(Err((Status::JUKEBOX, None)))))
        };
        rt::spawn(disk.serve(listener, act)).detach();
        let driver = Wanted { reconnect: LONG, ..Wanted::at(port) }.open().await.unwrap();
        driver.read(0, BufMut::with_len(10)).await.1.unwrap();
    });
}

#[test]
fn what_was_not_received_over_a_connection_that_is_given_up_never_comes() {
    run(async {
        let disk = Disk::new();
        let (listener, port) = bound().await;
        let (told, heard) = futures_channel::oneshot::channel();
        let served = disk.clone();
        rt::spawn(async move {
            // The first connection to NFS is not read from once data are written.
            let first = listener.accept().await.unwrap();
            let other = served.clone();
            let rest = async move { other.serve(listener, |_, _| Act::Answer).await };
            rt::spawn(rest).detach();
            let stop =
                |asked: &Asked, _: &[u8]| if asked.is::<v3::Access>() { Act::HangUp } else { Act::Answer };
            served.serve_until(&first, stop).await;
            let _ = told.send(first);
        })
        .detach();
        let patience = Patience { silence: Duration::from_secs(1), ..patient() };
        let driver = Wanted { reconnect: LONG, patience, ..Wanted::at(port) }.open().await.unwrap();
        // More than the system takes without being read.
        let data = Buf::from_slice(&vec![7; SIZE]);
        let asks = driver.need_readable();
        let writes = join_all((0..8).map(|_| driver.write(0, data.clone(), block::Request::GUEST)));
        let (asked, written) = futures_util::future::join(asks, writes).await;
        asked.unwrap();
        for written in written {
            written.unwrap();
        }
        let (stream, mut buf) = (heard.await.unwrap(), vec![0; 1 << 16]);
        let end = loop {
            match stream.recv(&mut buf).await {
                Ok(1..) => {}
                end => break end,
            }
        };
        assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_server_that_needs_time_or_is_lost_while_it_is_written_to_again_is_asked_again() {
    for lost in [false, true] {
        run(async {
            let disk = Disk::new();
            let (listener, port) = bound().await;
            let (forgetful, mut writes) = (disk.clone(), 0);
            let act = move |asked: &Asked, _: &[u8]| {
                writes += u32::from(asked.is::<v3::Write>());
                match (asked.is::<v3::Write>(), writes) {
                    // Of a server that has another one take over: the connection stays.
                    (true, 2) => forgetful.lose_power(),
                    // What was lost is written again by the flush.
                    (true, 3..=7) if lost => return Act::HangUp,
                    (true, 3 | 4) => {
                        let no_change = Err((Status::JUKEBOX, server::UNCHANGED));
                        return Act::Send(asked.reply::<v3::Write>(&Outcome(no_change)));
                    }
                    _ => {}
                }
                Act::Answer
            };
            rt::spawn(disk.clone().serve(listener, act)).detach();
            let driver = Wanted { reconnect: LONG, ..Wanted::at(port) }.open().await.unwrap();
            for at in [0, 100] {
                driver.write(at, Buf::from_slice(&[7; 100]), block::Request::GUEST).await.unwrap();
            }
            driver.flush().await.unwrap();
            disk.with(|content| assert_eq!(content.durable[..200], [7; 200]));
        });
    }
}

#[test]
fn what_is_kept_of_writes_is_bounded_by_commits() {
    run(async {
        let disk = Disk::new();
        let driver = over(&disk).await;
        let data = Buf::from_slice(&vec![7; SIZE]);
        for _ in 0..66 {
            driver.write(0, data.clone(), block::Request::GUEST).await.unwrap();
        }
        // Nobody has asked for a flush.
        disk.with(|content| assert_eq!(content.durable[0], 7));
    });
}
