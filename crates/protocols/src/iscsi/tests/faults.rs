//! Targets that break the protocol, or stop in the middle of it: the driver says so, and lives.
use super::*;
use iscsi::{Answer, AsyncEvent, HEADER, NO_TAG, Numbers, Residual};
use rt::net::Stream;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is wrong with the answer to the first read or write.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Silence,
    Closed,
    Garbage,
    LongSegment,
    LongDetails,
    Beyond,
    Gap,
    Again,
    HalfData,
    Short,
    Residual,
    ReadyBeyond,
    ReadyAgain,
    ReadyNothing,
    ReadyForRead,
    Untaken,
    UnknownTag,
    Number,
    Pings,
    Rejected,
    Dropped,
    LogoutWanted,
    HeaderDigest,
    DataDigest,
    TargetFailure,
    SecondLogin,
    ClosedWindow,
}

const READS: [Fault; 21] = [
    Fault::Silence,
    Fault::Closed,
    Fault::Garbage,
    Fault::LongSegment,
    Fault::LongDetails,
    Fault::Beyond,
    Fault::Gap,
    Fault::Again,
    Fault::HalfData,
    Fault::Short,
    Fault::Residual,
    Fault::ReadyForRead,
    Fault::UnknownTag,
    Fault::Number,
    Fault::Pings,
    Fault::Rejected,
    Fault::Dropped,
    Fault::LogoutWanted,
    Fault::HeaderDigest,
    Fault::TargetFailure,
    Fault::SecondLogin,
];
const WRITES: [Fault; 6] = [
    Fault::ReadyBeyond,
    Fault::ReadyAgain,
    Fault::ReadyNothing,
    Fault::Untaken,
    Fault::DataDigest,
    Fault::ClosedWindow,
];

const LEN: usize = 100 * 512;

async fn misbehave(guest: &mut Guest, tag: u32, fault: Fault) {
    let data = vec![1; 512];
    let part = |offset, status| Answer::DataIn {
        tag,
        number: 0,
        offset,
        last: false,
        status,
        residual: Residual::None,
    };
    let ready = |offset, len| {
        let lun = iscsi::Lun::default();
        Answer::Ready { lun, tag, target_tag: 1, number: 0, offset, len }
    };
    let good = Answer::Response { tag, response: 0, status: 0, residual: Residual::None };
    match fault {
        Fault::Silence => {}
        Fault::Closed => guest.stream.shutdown().unwrap(),
        Fault::Garbage => guest.send_raw(&[0xee; HEADER], &[]).await,
        Fault::LongSegment => {
            let header = part(0, None).encode(Numbers::default(), 0xff_ffff);
            guest.send_raw(&header, &[]).await;
        }
        Fault::LongDetails => guest.send(good, &vec![0; 16 << 10]).await,
        Fault::Beyond => guest.send(part(0, None), &vec![1; LEN + 512]).await,
        Fault::Gap => guest.send(part(512, None), &data).await,
        Fault::Again => {
            guest.send(part(0, None), &data).await;
            guest.send(part(0, None), &data).await;
        }
        Fault::HalfData => {
            let header = part(0, None).encode(Numbers::default(), 4096);
            guest.send_raw(&header, &data).await;
        }
        Fault::Short => guest.send(part(0, Some(0)), &data).await,
        Fault::Residual => {
            let residual = Residual::Under(512);
            let ends = Answer::DataIn { tag, number: 0, offset: 0, last: true, status: Some(0), residual };
            guest.send(ends, &vec![1; LEN]).await;
        }
        Fault::ReadyBeyond => guest.send(ready(0, LEN as u32 + 1), &[]).await,
        Fault::ReadyAgain => {
            guest.send(ready(4096, 4096), &[]).await;
            guest.send(ready(4096, 4096), &[]).await;
        }
        Fault::ReadyNothing => guest.send(ready(4096, 0), &[]).await,
        Fault::ReadyForRead => guest.send(ready(0, 512), &[]).await,
        Fault::Untaken => guest.send(good, &[]).await,
        Fault::UnknownTag => {
            let other =
                Answer::Response { tag: tag ^ 0x4000, response: 0, status: 0, residual: Residual::None };
            guest.send(other, &[]).await;
        }
        Fault::Number => {
            guest.stat = guest.stat.wrapping_add(1);
            guest.send(good, &[]).await;
        }
        // Without reading what comes back.
        Fault::Pings => {
            let ping = Answer::Nop { lun: iscsi::Lun::default(), tag: NO_TAG, target_tag: 9 };
            let header = ping.encode(Numbers { stat: guest.stat, ..Numbers::default() }, 0);
            let many = header.repeat(1000);
            while guest.stream.send_all(&many).await.is_ok() {}
        }
        Fault::Rejected => guest.send(Answer::Reject { reason: 9 }, &[0; HEADER]).await,
        Fault::Dropped => guest.send(Answer::Async(AsyncEvent::Dropped(1)), &[]).await,
        Fault::LogoutWanted => guest.send(Answer::Async(AsyncEvent::LogoutWanted(1)), &[]).await,
        Fault::HeaderDigest => {
            let header = part(0, None).encode(Numbers::default(), 0);
            let _ = guest.stream.send_all(&header).await;
            let _ = guest.stream.send_all(&[0; 4]).await;
        }
        Fault::DataDigest => {
            // The header with its digest as it should be; the data with another one.
            guest
                .send(Answer::Nop { lun: iscsi::Lun::default(), tag: NO_TAG, target_tag: NO_TAG }, &[])
                .await;
            let header = good.encode(Numbers { stat: guest.stat, ..Numbers::default() }, 4);
            let sum = iscsi::digest(codec::Crc32c::default().with(&header));
            let _ = guest.stream.send_all(&[&header[..], &sum, &[1, 2, 3, 4], &[0; 4]].concat()).await;
        }
        Fault::TargetFailure => {
            let failed = Answer::Response { tag, response: 1, status: 0, residual: Residual::None };
            guest.send(failed, &[]).await;
        }
        Fault::SecondLogin => {
            let login = Answer::Login {
                stage: iscsi::Stage::Security,
                next: None,
                continues: false,
                isid: [0; 6],
                tsih: 0,
                tag: 0,
                class: 0,
                detail: 0,
            };
            guest.send(login, &[]).await;
        }
        Fault::ClosedWindow => {}
    }
}

/// The error of the first read or write, and of the next one.
async fn meet(fault: Fault, is_read: bool) -> [BlockError; 2] {
    let (listener, port) = bound().await;
    let keys = match fault {
        Fault::HeaderDigest | Fault::DataDigest => "HeaderDigest=CRC32C\0DataDigest=CRC32C\0",
        _ => "",
    };
    let window = if fault == Fault::ClosedWindow { 1 } else { 64 };
    let disk = Disk::new(Rules { keys, window, ..Rules::default() });
    rt::spawn(async move {
        let mut guest = Guest::greet(&listener, &disk).await;
        while let Some((request, data)) = guest.next().await {
            match request {
                iscsi::Request::Command { tag, block: [0x88 | 0x8a, ..], .. } => {
                    misbehave(&mut guest, tag, fault).await;
                    break;
                }
                _ => disk.carry_out(&mut guest, request, data).await.unwrap(),
            }
        }
        // Whatever comes is not answered.
        while guest.next().await.is_some() {}
        let _ = rt::timeout(LONG, std::future::pending::<()>()).await;
    })
    .detach();
    let driver = Arc::new(connect(port, Patience { connect: LONG, ..impatient() }).await.unwrap());
    let attempt = async || match is_read {
        true => read(&driver, 0, LEN).await.map(drop),
        false => write(&driver, 0, &vec![3; LEN]).await,
    };
    if fault == Fault::ClosedWindow {
        // The first is never answered, and there is room for no other.
        let (one, other) = futures_util::future::join(attempt(), attempt()).await;
        return [one.unwrap_err(), other.unwrap_err()];
    }
    [attempt().await.unwrap_err(), attempt().await.unwrap_err()]
}

#[test]
fn a_target_that_breaks_the_protocol_is_given_up_and_named() {
    let each = READS.iter().map(|fault| (*fault, true)).chain(WRITES.iter().map(|fault| (*fault, false)));
    for (fault, is_read) in each {
        run(async || {
            let errors = rt::timeout(LONG, meet(fault, is_read)).await.expect("it ends");
            for error in errors {
                let kinds = [ErrorKind::Io, ErrorKind::Timeout];
                assert!(kinds.contains(&error.kind()), "{fault:?}: {error:?}");
                let named = error.to_string().contains("iscsi://127.0.0.1:");
                assert!(named || fault == Fault::TargetFailure, "{fault:?}: {error}");
            }
        });
    }
}

/// Accepts, lets so many PDUs of the login and of the first questions pass, and stops.
async fn stall(listener: rt::net::Listener, answers: usize) {
    let disk = Disk::new(Rules::default());
    let (front, port) = (listener, bound().await);
    rt::spawn(disk.serve(port.0)).detach();
    let client = front.accept().await.unwrap();
    let server = Stream::connect_tcp("127.0.0.1", port.1).await.unwrap();
    let mut header = [0; HEADER];
    for _ in 0..answers {
        for (from, to) in [(&client, &server), (&server, &client)] {
            if from.recv_exact(&mut header).await.is_err() {
                return;
            }
            let len = iscsi::Lengths::of(&header).data;
            let mut data = vec![0; len + iscsi::padding(len)];
            from.recv_exact(&mut data).await.unwrap();
            to.send_all(&[&header[..], &data].concat()).await.unwrap();
        }
    }
    let _ = rt::timeout(LONG, std::future::pending::<()>()).await;
}

#[test]
fn a_target_that_stops_at_any_step_of_the_opening_is_given_up() {
    for answers in 0..12 {
        run(async || {
            let (listener, port) = bound().await;
            rt::spawn(stall(listener, answers)).detach();
            let error = rt::timeout(LONG, connect(port, impatient())).await.expect("it ends").err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Timeout, "{answers}: {error}");
            assert!(error.to_string().contains(&format!("iscsi://127.0.0.1:{port}")), "{error}");
        });
    }
}

#[test]
fn a_target_that_sends_one_elsewhere_for_ever_is_given_up_and_one_that_does_so_once_is_followed() {
    async fn redirect(listener: rt::net::Listener, to: u16) {
        loop {
            let stream = listener.accept().await.unwrap();
            let mut header = [0; HEADER];
            stream.recv_exact(&mut header).await.unwrap();
            let len = iscsi::Lengths::of(&header).data;
            stream.recv_exact(&mut vec![0; len + iscsi::padding(len)]).await.unwrap();
            let text = format!("TargetAddress=127.0.0.1:{to},1\0");
            let moved = Answer::Login {
                stage: iscsi::Stage::Security,
                next: None,
                continues: false,
                isid: profile().isid,
                tsih: 0,
                tag: 0,
                class: 1,
                detail: 1,
            };
            let mut bytes = moved.encode(Numbers::default(), text.len()).to_vec();
            bytes.extend(text.as_bytes());
            bytes.resize(bytes.len() + iscsi::padding(text.len()), 0);
            stream.send_all(&bytes).await.unwrap();
        }
    }
    run(async || {
        let (listener, port) = bound().await;
        rt::spawn(redirect(listener, port)).detach();
        let error = connect(port, patient()).await.err().unwrap();
        assert!(error.to_string().contains("sent one elsewhere 4 times"), "{error}");
        let ((first, first_port), (second, second_port)) = (bound().await, bound().await);
        rt::spawn(redirect(first, second_port)).detach();
        rt::spawn(Disk::new(Rules::default()).serve(second)).detach();
        let driver = connect(first_port, patient()).await.unwrap();
        assert_eq!(read(&driver, 0, 512).await.unwrap(), [0; 512]);
    });
}

#[test]
fn questions_of_the_target_are_answered_and_a_silent_one_is_asked() {
    run(async || {
        let (listener, port) = bound().await;
        let disk = Disk::new(Rules::default());
        let (told, asked) = futures_channel::oneshot::channel();
        rt::spawn(async move {
            let mut guest = Guest::greet(&listener, &disk).await;
            // All questions at the login are answered before ours.
            while disk.count(0xa3) < 2 {
                disk.one(&mut guest).await.unwrap();
            }
            guest.send(Answer::Nop { lun: iscsi::Lun::default(), tag: NO_TAG, target_tag: 5 }, &[]).await;
            let (answer, _) = guest.next().await.unwrap();
            let is_ours = matches!(answer, iscsi::Request::Nop { tag: NO_TAG, target_tag: 5, .. });
            let (question, data) = guest.next().await.unwrap();
            let is_theirs = matches!(question, iscsi::Request::Nop { target_tag: NO_TAG, .. });
            disk.carry_out(&mut guest, question, data).await.unwrap();
            told.send((is_ours, is_theirs)).unwrap();
            while disk.one(&mut guest).await.is_some() {}
        })
        .detach();
        let driver = connect(port, Patience { silence: PAUSE, ..patient() }).await.unwrap();
        assert_eq!(asked.await.unwrap(), (true, true));
        assert_eq!(read(&driver, 0, 512).await.unwrap(), [0; 512]);
    });
}

#[test]
fn a_target_that_gets_any_byte_wrong_is_survived() {
    let (passed, result) = converse_over_a_relay(|_, byte| byte, patient());
    result.unwrap();
    let quick = SHORT / 8;
    let quick = Patience { connect: quick, silence: quick, answer: quick, logout: quick };
    // Bytes of data make no difference: every header is among these.
    for wrong in (0..passed).step_by(3) {
        let flip = if wrong % 2 == 0 { 0x01 } else { 0x80 };
        let (_, result) =
            converse_over_a_relay(move |at, byte| if at == wrong { byte ^ flip } else { byte }, quick);
        if let Err(error) = result {
            assert!(!error.to_string().is_empty());
        }
    }
}

/// A short conversation, with the target's bytes passed through `pass`: how many there were, and what became of it.
fn converse_over_a_relay(
    pass: impl Fn(usize, u8) -> u8 + Send + 'static,
    patience: Patience,
) -> (usize, Result<()>) {
    run(async || {
        let ((front, port), (back, back_port)) = (bound().await, bound().await);
        rt::spawn(Disk::new(Rules { thin: false, ..Rules::default() }).serve(back)).detach();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        rt::spawn(async move {
            let client = Arc::new(front.accept().await.unwrap());
            let server = Arc::new(Stream::connect_tcp("127.0.0.1", back_port).await.unwrap());
            let (to, from) = (server.clone(), client.clone());
            rt::spawn(async move {
                let mut buf = vec![0; 4096];
                while let Ok(n @ 1..) = from.recv(&mut buf).await {
                    if to.send_all(&buf[..n]).await.is_err() {
                        break;
                    }
                }
                let _ = to.shutdown_write();
            })
            .detach();
            let mut buf = vec![0; 4096];
            while let Ok(n @ 1..) = server.recv(&mut buf).await {
                for byte in &mut buf[..n] {
                    *byte = pass(counted.fetch_add(1, Ordering::Relaxed), *byte);
                }
                if client.send_all(&buf[..n]).await.is_err() {
                    break;
                }
            }
            let _ = client.shutdown();
        })
        .detach();
        let conversation = async {
            let driver = connect(port, patience).await?;
            write(&driver, 0, &[1; 512]).await?;
            read(&driver, 0, 512).await?;
            driver.flush().await?;
            driver.close().await
        };
        let result = rt::timeout(LONG, conversation).await.expect("the conversation ends");
        (count.load(Ordering::Relaxed), result)
    })
}

#[test]
fn a_target_that_asks_for_more_data_at_a_time_than_was_agreed_on_is_given_up() {
    run(async || {
        let (listener, port) = bound().await;
        let rules = Rules { capacity: (1 << 20, 512), keys: "MaxOutstandingR2T=2\0", ..Rules::default() };
        let disk = Disk::new(rules);
        rt::spawn(async move {
            let mut guest = Guest::greet(&listener, &disk).await;
            while let Some((request, data)) = guest.next().await {
                let iscsi::Request::Command { tag, block: [0x8a, ..], expected, .. } = request else {
                    disk.carry_out(&mut guest, request, data).await.unwrap();
                    continue;
                };
                // All of it in small parts, of which none is taken.
                for (number, offset) in (data.len() as u32..expected).step_by(4096).enumerate() {
                    let (lun, number) = (iscsi::Lun::default(), number as u32);
                    let ready = Answer::Ready { lun, tag, target_tag: number, number, offset, len: 4096 };
                    guest.send(ready, &[]).await;
                }
                let _ = rt::timeout(LONG, std::future::pending::<()>()).await;
            }
        })
        .detach();
        let driver = connect(port, patient()).await.unwrap();
        // More than the system takes without being read.
        let error = write(&driver, 0, &vec![3; 8 << 20]).await.unwrap_err();
        assert!(error.to_string().contains("2 requests for its data wait already"), "{error}");
    });
}

#[test]
fn time_that_is_spent_waiting_for_others_of_our_own_is_not_the_targets() {
    run(async || {
        let (listener, port) = bound().await;
        let disk = Disk::new(Rules::default());
        let (told, asked) = futures_channel::oneshot::channel();
        rt::spawn(async move {
            let mut guest = Guest::greet(&listener, &disk).await;
            while let Some((request, data)) = guest.next().await {
                if matches!(request, iscsi::Request::Command { block: [0x88, ..], .. }) {
                    break;
                }
                disk.carry_out(&mut guest, request, data).await.unwrap();
            }
            told.send(()).unwrap();
            let _ = rt::timeout(LONG, std::future::pending::<()>()).await;
        })
        .detach();
        let answer = Duration::from_secs(2);
        let driver = Arc::new(connect(port, Patience { answer, ..patient() }).await.unwrap());
        let connection = driver.link.way.connection();
        let mut places = Vec::new();
        while let Ok(place) = rt::timeout(Duration::ZERO, connection.tasks.place()).await {
            places.push(place);
        }
        let reader = driver.clone();
        let waiting = rt::spawn(async move { read(&reader, 0, 512).await });
        rt::sleep(answer + Duration::from_millis(100)).await;
        drop(places);
        asked.await.unwrap();
        assert_eq!(connection.tasks.overdue(None), None);
        connection.cut();
        waiting.await.unwrap().unwrap_err();
    });
}
