//! Servers that break the protocol, keep one waiting, or refuse.

use super::server::Asked;
use super::*;
use nfs::mount::Mount;
use nfs::v3::{ReadDone, WriteDone};

/// One conversation with a server that answers some calls in its own way; its first error.
async fn converse_with(
    patience: Patience,
    reconnect: Duration,
    act: impl FnMut(&Asked, &[u8]) -> Act + Send + 'static,
) -> Result<()> {
    let (listener, port) = bound().await;
    rt::spawn(Disk::new().serve(listener, act)).detach();
    converse_at(port, patience, reconnect).await
}

async fn converse_at(port: u16, patience: Patience, reconnect: Duration) -> Result<()> {
    let driver = Wanted { patience, reconnect, ..Wanted::at(port) }.open().await?;
    driver.need_writable().await?;
    driver.read(5, BufMut::with_len(70_000)).await.1?;
    driver.write(0, Buf::from_slice(&[3; 21]), block::Request::GUEST).await?;
    driver.flush().await?;
    driver.resize(SIZE as u64 - 1, PreallocMode::Off).await?;
    driver.close().await
}

/// What a server sends instead of its reply, to which calls.
type Wrong = (fn(&Asked) -> bool, fn(&Asked, &[u8]) -> Vec<u8>);

fn read_done(asked: &Asked, count: u32, len: u32, data: usize, is_end: bool) -> Vec<u8> {
    let done = ReadDone { attributes: None, count, is_end, len };
    let reply = asked.reply::<v3::Read>(&Outcome(Ok(done)));
    server::record(&[&reply[4..], &vec![7; data]].concat())
}

fn write_done(asked: &Asked, count: u32) -> Vec<u8> {
    let done =
        WriteDone { change: server::UNCHANGED, count, stability: Stability::Unstable, verifier: [1; 8] };
    asked.reply::<v3::Write>(&Outcome(Ok(done)))
}

const WRONG: &[Wrong] = &[
    // Noise, also where it looks like a record; a number that nobody has; a call instead of a reply.
    (Asked::is::<v3::Read>, |_, _| vec![7; 4096]),
    (Asked::is::<v3::Write>, |_, _| server::record(&[7; 64])),
    (Asked::is::<v3::Read>, |asked, reply| {
        server::record(&[&(asked.head.xid.wrapping_add(9)).to_be_bytes()[..], &reply[4..]].concat())
    }),
    (Asked::is::<v3::Read>, |asked, reply| {
        server::record(&[&asked.head.xid.to_be_bytes()[..], &[0; 4], &reply[8..]].concat())
    }),
    // Records that end nowhere: without bytes, without a last fragment, of 2 GiB, of nothing.
    (Asked::is::<v3::Read>, |_, _| vec![0; 4096]),
    (Asked::is::<v3::Read>, |_, reply| {
        let part = [&(reply.len() as u32).to_be_bytes()[..], reply].concat();
        part.repeat(20)
    }),
    (Asked::is::<v3::Commit>, |_, reply| [&[0xff; 4], reply].concat()),
    (Asked::is::<v3::Commit>, |_, _| server::record(&[])),
    (Asked::is::<v3::Lookup>, |_, reply| server::record(&[reply, &[0; 10_000]].concat())),
    // Replies that end too early, in the head and in the data.
    (Asked::is::<v3::Lookup>, |_, reply| server::record(&reply[..reply.len() - 8])),
    (Asked::is::<v3::Write>, |_, reply| server::record(&reply[..reply.len() - 4])),
    (Asked::is::<v3::Read>, |_, reply| server::record(&reply[..reply.len() - 4])),
    (Asked::is::<v3::Read>, |_, reply| server::record(&reply[..100])),
    // More than was asked for, two different counts, nothing without the end.
    (Asked::is::<v3::Read>, |asked, _| read_done(asked, 70_004, 70_004, 70_004, false)),
    (Asked::is::<v3::Read>, |asked, _| read_done(asked, u32::MAX, u32::MAX, 64, false)),
    (Asked::is::<v3::Read>, |asked, _| read_done(asked, 8, 16, 16, false)),
    (Asked::is::<v3::Read>, |asked, _| read_done(asked, 0, 0, 0, false)),
    // Ever less than was asked for.
    (Asked::is::<v3::Read>, |asked, _| read_done(asked, 1, 1, 4, false)),
    (Asked::is::<v3::Write>, |asked, _| write_done(asked, 0)),
    (Asked::is::<v3::Write>, |asked, _| write_done(asked, 22)),
    (Asked::is::<v3::Write>, |asked, _| write_done(asked, u32::MAX)),
    (Asked::is::<v3::SetAttributes>, |asked, _| {
        let after = Attributes { size: 5, ..super::finding::sample() };
        let change = v3::Change { before: None, after: Some(after) };
        asked.reply::<v3::SetAttributes>(&Outcome(Ok(change)))
    }),
];

#[test]
fn a_server_that_breaks_the_protocol_causes_an_error_that_names_the_file() {
    for (nth, &(meant, wrong)) in WRONG.iter().enumerate() {
        for reconnect in [Duration::ZERO, Duration::from_millis(250)] {
            let act = move |asked: &Asked, reply: &[u8]| match meant(asked) {
                true => Act::Send(wrong(asked, reply)),
                false => Act::Answer,
            };
            let patience = Patience { silence: Duration::from_millis(500), ..patient() };
            let conversed = run(async { rt::timeout(LONG, converse_with(patience, reconnect, act)).await });
            let error = conversed.expect("it ends").expect_err(&format!("{nth}"));
            assert!(error.to_string().contains("/exp/disk"), "{nth}: {error}");
        }
    }
}

#[test]
fn a_server_that_stalls_at_any_call_is_given_up_in_time() {
    let stages = [
        Asked::is::<Mount>,
        Asked::is::<v3::Lookup>,
        Asked::is::<v3::GetAttributes>,
        Asked::is::<v3::FileSystemInfo>,
        Asked::is::<v3::Access>,
        Asked::is::<v3::Read>,
        Asked::is::<v3::Write>,
        Asked::is::<v3::Commit>,
        Asked::is::<v3::SetAttributes>,
    ];
    for (nth, stage) in stages.into_iter().enumerate() {
        for (half, reconnect) in
            [(false, Duration::ZERO), (true, Duration::ZERO), (false, Duration::from_millis(200))]
        {
            let act = move |asked: &Asked, reply: &[u8]| match (stage(asked), half) {
                (true, true) => Act::Send(server::record(reply)[..30].to_vec()),
                (true, false) => Act::Nothing,
                (false, _) => Act::Answer,
            };
            let error = run(converse_with(impatient(), reconnect, act)).expect_err(&format!("{nth}"));
            assert_eq!(error.kind(), ErrorKind::Timeout, "{nth}: {error}");
        }
    }
    run(async {
        // It is not even accepted.
        let (_listener, port) = bound().await;
        let error = converse_at(port, impatient(), Duration::ZERO).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    });
}

#[test]
fn a_server_that_takes_no_more_bytes_is_given_up_in_time() {
    run(async {
        let (listener, port) = bound().await;
        let disk = Disk::new();
        rt::spawn(async move {
            let (nfs, mount) = (listener.accept().await.unwrap(), listener.accept().await.unwrap());
            let few = async {
                let mut left = 3;
                let act = |_: &Asked, _: &[u8]| {
                    left -= 1;
                    Act::Answer
                };
                // The open takes three calls; then nobody reads any more.
                let served = disk.serve_one(&nfs, act);
                let _ = rt::timeout(Duration::from_millis(100), served).await;
                std::future::pending::<()>().await;
            };
            futures_util::future::join(few, disk.serve_one(&mount, |_, _| Act::Answer)).await;
        })
        .detach();
        let driver = Wanted { patience: impatient(), ..Wanted::at(port) }.open().await.unwrap();
        rt::sleep(Duration::from_millis(110)).await;
        let data = BufMut::zeroed(24 << 20).freeze();
        let error = driver.write(0, data, block::Request::GUEST).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    });
}

#[test]
fn what_the_server_refuses_is_told_by_its_kind() {
    for (status, kind) in [
        (Status::ACCES, ErrorKind::Permission),
        (Status::ROFS, ErrorKind::ReadOnly),
        (Status::NOSPC, ErrorKind::NoSpace),
        (Status::DQUOT, ErrorKind::NoSpace),
        (Status(27), ErrorKind::Limit),
        (Status::STALE, ErrorKind::Io),
        (Status(10_001), ErrorKind::Io),
        (Status(4711), ErrorKind::Io),
    ] {
        let act = move |asked: &Asked, _: &[u8]| match asked.is::<v3::Write>() {
            true => Act::Send(asked.reply::<v3::Write>(&Outcome(Err((status, server::UNCHANGED))))),
            false => Act::Answer,
        };
        let error = run(converse_with(patient(), Duration::ZERO, act)).unwrap_err();
        assert_eq!((error.kind(), error.errno()), (kind, status.errno()), "{error}");
        assert!(error.to_string().contains(&status.to_string()), "{error}");
        assert_eq!(error.to_string().contains("removed there"), error.errno() == Status::STALE.errno());
    }
}

#[test]
fn a_server_that_is_never_ready_is_not_asked_for_ever() {
    let act = |asked: &Asked, _: &[u8]| match asked.is::<v3::Read>() {
        true => Act::Send(asked.reply::<v3::Read>(&Outcome(Err((Status::JUKEBOX, None))))),
        false => Act::Answer,
    };
    let error = run(converse_with(patient(), Duration::from_millis(100), act)).unwrap_err();
    assert!(error.to_string().contains("JUKEBOX"), "{error}");
}

/// Passes the server's bytes to its clients, each as `pass` makes it, and hangs up where it makes none.
async fn relay(front: Listener, back: u16, pass: impl Fn(usize, u8) -> Option<u8>) {
    let mut passed = 0;
    loop {
        let client = std::sync::Arc::new(front.accept().await.unwrap());
        let server = std::sync::Arc::new(Stream::connect_tcp("127.0.0.1", back).await.unwrap());
        let (from, to) = (client.clone(), server.clone());
        rt::spawn(async move {
            let mut buf = vec![0; 4096];
            while let Ok(n @ 1..) = from.recv(&mut buf).await {
                if to.send_all(&buf[..n]).await.is_err() {
                    break;
                }
            }
            let _ = to.shutdown();
        })
        .detach();
        let mut byte = [0];
        while matches!(server.recv(&mut byte).await, Ok(1)) {
            let Some(byte) = pass(passed, byte[0]) else { break };
            if client.send_all(&[byte]).await.is_err() {
                break;
            }
            passed += 1;
        }
        let _ = (client.shutdown(), server.shutdown());
    }
}

/// A short talk, so that each of its bytes can be tried.
fn talk_over_a_relay(
    patience: Patience,
    pass: impl Fn(usize, u8) -> Option<u8> + Send + 'static,
) -> Result<()> {
    run(async {
        let ((back, at), (front, port)) = (bound().await, bound().await);
        rt::spawn(Disk::new().serve(back, |_, _| Act::Answer)).detach();
        // The NFS connection is relayed; the mount service is asked directly.
        rt::spawn(relay(front, at, pass)).detach();
        let mut wanted = Wanted { patience, ..Wanted::at(port) };
        wanted.parameters = format!("?nfsport={port}&mountport={at}");
        let talk = async {
            let driver = wanted.open().await?;
            driver.read(5, BufMut::with_len(9)).await.1?;
            driver.write(0, Buf::from_slice(&[3; 21]), block::Request::GUEST).await?;
            driver.flush().await
        };
        rt::timeout(LONG, talk).await.expect("the talk ends")
    })
}

#[test]
fn a_server_that_closes_after_any_byte_causes_an_error() {
    let mut most = 0;
    while talk_over_a_relay(patient(), move |at, byte| (at < most).then_some(byte)).is_err() {
        most += 1;
    }
    assert!(most > 300, "{most} bytes are all that was said");
}

#[test]
fn a_server_that_gets_any_byte_wrong_is_survived() {
    let short = Duration::from_millis(40);
    let patience = Patience { connect: short, silence: short, longest: short * 4 };
    // More than are sent.
    for wrong in 0..800 {
        for flip in [0x01, 0x80] {
            // Some bytes make no difference; with the others it fails or is given up.
            let _ = talk_over_a_relay(patience, move |at, byte| {
                Some(if at == wrong { byte ^ flip } else { byte })
            });
        }
    }
}
