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
