//! The driver against correct and faulty servers, all in this process.

use super::connection::Patience;
use super::*;
use crate::inflight::Term;
use block::{ExtentKind, Flags};
use nbd::server::{Catalog, Handshake, Offer, Step};
use nbd::{BASE_ALLOCATION, ErrorCode, ExtentFlags, Headers, ReplyTo, Request};
use rt::net::{Address, Listener, Stream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

mod lengths;
mod reconnect;
mod space;

const SIZE: usize = 1 << 20;

/// A folder of one test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("cairn-nbd-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("s")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn run<T>(test: impl AsyncFnOnce(&Path) -> T) -> T {
    let folder = Folder::new();
    let config = rt::Config { workers: Some(1), ..rt::Config::default() };
    rt::Runtime::new(config).unwrap().block_on(test(&folder.socket()))
}

struct One(TransmissionFlags);

impl Catalog for One {
    type Export = ();
    fn list(&self, visit: &mut dyn FnMut(&str, &str)) {
        visit("disk", "");
    }
    fn find(&self, name: &str) -> Option<((), Offer)> {
        let offer = Offer {
            size: SIZE as u64,
            flags: self.0,
            description: String::new(),
            minimum_block: 1,
            preferred_block: 4096,
            contexts: vec![BASE_ALLOCATION.into()],
        };
        (name == "disk").then_some(((), offer))
    }
}

const ALL: TransmissionFlags = TransmissionFlags(0b1101_1110_1101 & !2);

/// A client that has come in, as the server sees it.
struct Guest {
    stream: Stream,
    headers: Headers,
}

/// Takes one client through the handshake.
async fn greet(listener: &Listener, flags: TransmissionFlags) -> Guest {
    greet_at_most(listener, flags, Headers::Extended).await
}

/// The same for a server that knows no better headers than `most`.
async fn greet_at_most(listener: &Listener, flags: TransmissionFlags, most: Headers) -> Guest {
    let stream = listener.accept().await.unwrap();
    let mut out = Vec::new();
    let mut handshake = Handshake::new(&mut out);
    stream.send_all(&out).await.unwrap();
    let mut client_flags = [0; 4];
    if stream.recv_exact(&mut client_flags).await.is_ok() {
        handshake.advance(&client_flags, &One(flags), &mut out).unwrap();
    }
    // The options a client asks for first, each of which has no data.
    let unknown = match most {
        Headers::Simple => 2,
        Headers::Structured => 1,
        Headers::Extended => 0,
    };
    for _ in 0..unknown {
        let mut option = [0; 16];
        if stream.recv_exact(&mut option).await.is_err() {
            return Guest { stream, headers: Headers::Simple };
        }
        let refusal = [&nbd::OPTION_REPLY_MAGIC.to_be_bytes()[..], &option[8..12], &[0x80, 0, 0, 1], &[0; 4]];
        let _ = stream.send_all(&refusal.concat()).await;
    }
    loop {
        let mut byte = [0];
        if stream.recv(&mut byte).await.unwrap() == 0 {
            return Guest { stream, headers: Headers::Simple };
        }
        out.clear();
        let (_, step) = handshake.advance(&byte, &One(flags), &mut out).unwrap();
        stream.send_all(&out).await.unwrap();
        if let Step::Ready(session) = step {
            return Guest { stream, headers: session.rules.headers };
        }
    }
}

impl Guest {
    async fn next_request(&self) -> Option<(Request, Vec<u8>)> {
        let mut header = vec![0; self.headers.request_len()];
        self.stream.recv_exact(&mut header).await.ok()?;
        let request = Request::parse(&header, self.headers).unwrap().unwrap();
        let mut payload = vec![0; request.payload(self.headers) as usize];
        self.stream.recv_exact(&mut payload).await.ok()?;
        Some((request, payload))
    }

    fn reply_to(&self, request: &Request) -> ReplyTo {
        ReplyTo::new(request, self.headers)
    }
}

/// A disk in memory, behind every command of the protocol.
async fn serve(listener: Listener, flags: TransmissionFlags) {
    serve_at_most(listener, flags, Headers::Extended).await;
}

/// The same with no better headers than `most`.
async fn serve_at_most(listener: Listener, flags: TransmissionFlags, most: Headers) {
    let guest = greet_at_most(&listener, flags, most).await;
    assert!(guest.headers <= most);
    let mut disk = vec![0u8; SIZE];
    while let Some((request, payload)) = guest.next_request().await {
        let range = request.offset as usize..request.offset as usize + request.length as usize;
        let to = guest.reply_to(&request);
        let mut reply = Vec::new();
        match request.command {
            Command::DISC => return,
            Command::READ => {
                reply.extend_from_slice(&to.data(request.offset, request.length as u32, true));
                reply.extend(&disk[range]);
            }
            Command::BLOCK_STATUS => {
                let half = request.length / 2;
                reply.extend_from_slice(&to.status(0, 2, true));
                reply.extend_from_slice(&to.extent(half, ExtentFlags::NONE));
                reply.extend_from_slice(
                    &to.extent(request.length - half, ExtentFlags::HOLE | ExtentFlags::ZERO),
                );
            }
            command => {
                match command {
                    Command::WRITE => disk[range].copy_from_slice(&payload),
                    Command::WRITE_ZEROES => disk[range].fill(0),
                    _ => {}
                }
                reply.extend_from_slice(&to.success());
            }
        }
        guest.stream.send_all(&reply).await.unwrap();
    }
}

/// Long enough for any machine: only a test that hangs meets it.
const LONG: Duration = Duration::from_secs(120);

fn patient() -> Patience {
    Patience { connect: LONG, silence: LONG, longest: LONG }
}

/// For servers that are to be given up.
fn impatient() -> Patience {
    Patience { silence: Duration::from_millis(200), ..patient() }
}

async fn connect_with(socket: &Path, patience: Patience) -> Result<NbdDriver> {
    let location = Location {
        server: Server::At(Address::Unix(socket.to_owned())),
        export: "disk".into(),
        tls: None,
        context: None,
    };
    NbdDriver::connect(location, None, patience, Delays::default()).await
}

async fn connect(socket: &Path) -> Result<NbdDriver> {
    connect_with(socket, patient()).await
}

async fn bound(socket: &Path) -> Listener {
    Listener::bind_unix(socket).await.unwrap()
}

const EACH: [Headers; 3] = [Headers::Simple, Headers::Structured, Headers::Extended];

/// Runs a test with a server of each kind of headers.
fn run_with_each(test: impl AsyncFn(&Path, NbdDriver)) {
    for headers in EACH {
        run(async |socket: &Path| {
            rt::spawn(serve_at_most(bound(socket).await, ALL, headers)).detach();
            let driver = connect(socket).await.unwrap();
            assert_eq!(driver.link.export.headers, headers);
            test(socket, driver).await;
        });
    }
}

#[test]
fn what_is_written_is_read_back_and_zeroes_and_status_reach_the_server() {
    run_with_each(async |_, driver: NbdDriver| {
        assert_eq!(driver.length(), SIZE as u64);
        let data: Vec<u8> = (0..300_000).map(|n| n as u8).collect();
        driver.write(4097, Buf::from_slice(&data), block::Request::GUEST.with(Flags::FUA)).await.unwrap();
        driver.write_zeroes(5000, 10, block::Request::GUEST).await.unwrap();
        driver.discard(0, 512, block::Request::GUEST).await.unwrap();
        driver.flush().await.unwrap();
        let (buf, result) = driver.read(4097, BufMut::with_len(data.len())).await;
        result.unwrap();
        let mut expected = data.clone();
        expected[903..913].fill(0);
        assert_eq!(buf[..], expected);
        if driver.link.tells_status() {
            let extent = driver.map(0, 8192, Want::Status).await.unwrap();
            assert_eq!(extent, Extent { len: 4096, kind: ExtentKind::Stored });
            let extent = driver.map(4096, 8192, Want::Status).await.unwrap();
            assert_eq!(extent, Extent { len: 4096, kind: ExtentKind::Zero { reserved: None } });
        }
        driver.close().await.unwrap();
        let (_, result) = driver.read(0, BufMut::with_len(16)).await;
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Closed);
    });
}

#[test]
fn a_server_with_only_reads_and_writes_suffices() {
    run(async |socket: &Path| {
        rt::spawn(serve(bound(socket).await, TransmissionFlags::HAS_FLAGS)).detach();
        let driver = connect(socket).await.unwrap();
        driver.write(0, Buf::from_slice(b"abc"), block::Request::GUEST.with(Flags::FUA)).await.unwrap();
        driver.flush().await.unwrap();
        driver.discard(0, 512, block::Request::GUEST).await.unwrap();
        let refused = driver.write_zeroes(0, 512, block::Request::GUEST).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported);
    });
}

#[test]
fn answers_find_their_requests_in_whatever_order_they_come() {
    run(async |socket: &Path| {
        let listener = bound(socket).await;
        let server = async move {
            let guest = greet(&listener, ALL).await;
            let mut requests = Vec::new();
            for _ in 0..20 {
                requests.push(guest.next_request().await.unwrap().0);
            }
            for request in requests.into_iter().rev() {
                let mut reply =
                    guest.reply_to(&request).data(request.offset, request.length as u32, true).to_vec();
                reply.extend(vec![request.offset as u8; request.length as usize]);
                guest.stream.send_all(&reply).await.unwrap();
            }
        };
        rt::spawn(server).detach();
        let driver = Arc::new(connect(socket).await.unwrap());
        let readers: Vec<_> = (0..20u8)
            .map(|n| {
                let driver = driver.clone();
                rt::spawn(async move {
                    let (buf, result) = driver.read(u64::from(n), BufMut::with_len(40_000)).await;
                    result.map(|()| buf.iter().all(|byte| *byte == n))
                })
            })
            .collect();
        for reader in readers {
            assert!(reader.await.unwrap().unwrap());
        }
    });
}

#[test]
fn a_server_that_vanishes_ends_requests_in_flight_and_all_later_ones() {
    run(async |socket: &Path| {
        let listener = bound(socket).await;
        rt::spawn(async move {
            let guest = greet(&listener, ALL).await;
            let (request, _) = guest.next_request().await.unwrap();
            let header = guest.reply_to(&request).data(request.offset, request.length as u32, true);
            guest.stream.send_all(&header).await.unwrap();
            guest.stream.send_all(&[0; 100]).await.unwrap();
        })
        .detach();
        let driver = connect(socket).await.unwrap();
        for _ in 0..2 {
            let (_, result) = driver.read(0, BufMut::with_len(100_000)).await;
            let error = result.unwrap_err();
            assert_eq!((error.kind(), error.errno()), (ErrorKind::Io, 5), "{error}");
            assert!(error.to_string().contains("closed the connection"), "{error}");
        }
        assert_eq!(driver.flush().await.unwrap_err().kind(), ErrorKind::Io);
    });
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    run(async |socket: &Path| {
        let listener = bound(socket).await;
        rt::spawn(async move {
            let guest = greet(&listener, ALL).await;
            while guest.next_request().await.is_some() {}
        })
        .detach();
        let driver = connect_with(socket, impatient()).await.unwrap();
        let (_, result) = driver.read(0, BufMut::with_len(512)).await;
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        let (_, result) = driver.read(0, BufMut::with_len(512)).await;
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Timeout);
    });
}

#[test]
fn a_reply_that_stalls_in_the_middle_is_given_up() {
    run(async |socket: &Path| {
        let listener = bound(socket).await;
        rt::spawn(async move {
            let guest = greet(&listener, ALL).await;
            let (request, _) = guest.next_request().await.unwrap();
            let header = guest.reply_to(&request).data(request.offset, request.length as u32, true);
            guest.stream.send_all(&header).await.unwrap();
            guest.stream.send_all(&[0; 10]).await.unwrap();
            while guest.next_request().await.is_some() {}
        })
        .detach();
        let driver = connect_with(socket, impatient()).await.unwrap();
        let (_, result) = driver.read(0, BufMut::with_len(100_000)).await;
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Timeout);
    });
}

#[test]
fn a_server_that_never_greets_is_given_up() {
    run(async |socket: &Path| {
        let _listener = bound(socket).await;
        let patience = Patience { connect: Duration::from_millis(200), ..patient() };
        let error = connect_with(socket, patience).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    });
}

/// What a server answers to a request, and the error that the client makes of it.
type Wrong = (fn(&Request, ReplyTo) -> Vec<u8>, ErrorKind);

const WRONG: &[Wrong] = &[
    // Refused: the connection lives.
    (
        |_, to| {
            let mut reply = Vec::new();
            to.put_error(&mut reply, ErrorCode::ENOSPC, "all full", None);
            reply
        },
        ErrorKind::NoSpace,
    ),
    // Data that were not asked for, an unknown cookie, no data, noise.
    (|r, to| to.hole(r.offset + 1, r.length as u32, true).to_vec(), ErrorKind::Io),
    (
        |r, _| {
            let other = Request { cookie: r.cookie + 1, ..*r };
            ReplyTo::new(&other, Headers::Extended).success().to_vec()
        },
        ErrorKind::Io,
    ),
    (|_, to| to.nothing_read().to_vec(), ErrorKind::Io),
    (|_, _| vec![7; 64], ErrorKind::Io),
    // Headers that were not agreed on; the offset of another request.
    (|r, _| [&ReplyTo::new(r, Headers::Simple).success()[..], &[0; 512]].concat(), ErrorKind::Io),
    (|r, _| ReplyTo::new(r, Headers::Structured).hole(r.offset, 512, true).to_vec(), ErrorKind::Io),
    (
        |r, _| {
            let other = Request { offset: r.offset + 1, ..*r };
            ReplyTo::new(&other, Headers::Extended).hole(r.offset, 512, true).to_vec()
        },
        ErrorKind::Io,
    ),
    // Data twice, too few, of no length, of too much, too long an error, extents.
    (
        |r, to| [to.hole(r.offset, 512, false).to_vec(), to.hole(r.offset, 512, true).to_vec()].concat(),
        ErrorKind::Io,
    ),
    (|r, to| to.hole(r.offset, 511, true).to_vec(), ErrorKind::Io),
    (|r, to| to.data(r.offset, 0, true).to_vec(), ErrorKind::Io),
    (|r, to| to.data(r.offset, u32::MAX, true).to_vec(), ErrorKind::Io),
    (
        |r, to| {
            let mut reply = to.data(r.offset, 512, true).to_vec();
            reply[24] = 1; // a payload of more than 2^56 bytes
            reply
        },
        ErrorKind::Io,
    ),
    (
        |_, to| {
            let mut reply = Vec::new();
            to.put_error(&mut reply, ErrorCode::EIO, "", None);
            reply[28..32].copy_from_slice(&[255; 4]);
            reply
        },
        ErrorKind::Io,
    ),
    (
        |r, to| [to.status(0, 1, true).to_vec(), to.extent(r.length, ExtentFlags::NONE).to_vec()].concat(),
        ErrorKind::Io,
    ),
];

#[test]
fn a_server_that_breaks_the_protocol_is_told_apart_from_one_that_refuses() {
    for &(reply, kind) in WRONG {
        run(async |socket: &Path| {
            let listener = bound(socket).await;
            rt::spawn(async move {
                let guest = greet(&listener, ALL).await;
                while let Some((request, _)) = guest.next_request().await {
                    let reply = reply(&request, guest.reply_to(&request));
                    if guest.stream.send_all(&reply).await.is_err() {
                        return;
                    }
                }
            })
            .detach();
            let driver = connect(socket).await.unwrap();
            for _ in 0..2 {
                let (_, result) = driver.read(0, BufMut::with_len(512)).await;
                let error = result.unwrap_err();
                assert_eq!(error.kind(), kind);
                assert!(error.to_string().contains(&socket.display().to_string()), "{error}");
            }
        });
    }
}

/// Passes the server's bytes to one client, each as `pass` makes it, and hangs up where it makes none; how many there
/// were.
async fn relay(front: Listener, back: PathBuf, pass: impl Fn(usize, u8) -> Option<u8>) -> usize {
    let client = Arc::new(front.accept().await.unwrap());
    let server = Arc::new(Stream::connect_unix(&back).await.unwrap());
    let (from, to) = (client.clone(), server.clone());
    let up = rt::spawn(async move {
        let mut buf = vec![0; 4096];
        while let Ok(n @ 1..) = from.recv(&mut buf).await {
            if to.send_all(&buf[..n]).await.is_err() {
                break;
            }
        }
        let _ = to.shutdown();
    });
    let (mut passed, mut byte) = (0, [0]);
    while matches!(server.recv(&mut byte).await, Ok(1)) {
        let Some(byte) = pass(passed, byte[0]) else { break };
        if client.send_all(&[byte]).await.is_err() {
            break;
        }
        passed += 1;
    }
    let _ = (client.shutdown(), server.shutdown());
    up.await.unwrap();
    passed
}

/// One conversation; its first error.
async fn converse(socket: &Path, patience: Patience) -> Result<()> {
    let driver = connect_with(socket, patience).await?;
    let read = driver.read(5, BufMut::with_len(9)).await.1;
    let written = driver.write(0, Buf::from_slice(&[3; 20]), block::Request::GUEST.with(Flags::FUA)).await;
    let told = driver.map(0, 4096, Want::Status).await.map(drop);
    let flushed = driver.flush().await;
    // A status that the server does not tell needs no connection.
    let results = [read, written, flushed];
    let is_lost = |result: &Result<()>| matches!(result, Err(e) if e.to_string().contains("is lost"));
    let first = results.iter().position(is_lost).unwrap_or(results.len());
    assert!(results[first..].iter().all(Result::is_err), "what is lost stays lost: {results:?}");
    results.into_iter().chain([told]).collect()
}

#[test]
fn a_server_that_closes_after_any_byte_causes_an_error_that_names_it() {
    for headers in EACH {
        let hang_up =
            |most| converse_over_a_relay(headers, move |at, byte| (at < most).then_some(byte), patient());
        let (passed, result) = hang_up(usize::MAX);
        result.unwrap();
        for most in 0..passed {
            let (_, result) = hang_up(most);
            result.expect_err(&format!("only {most} bytes came"));
        }
    }
}

#[test]
fn a_server_that_gets_any_byte_wrong_is_survived() {
    let short = Duration::from_millis(50);
    let patience = Patience { connect: short, silence: short, longest: LONG };
    for headers in [Headers::Structured, Headers::Extended] {
        let (passed, _) = converse_over_a_relay(headers, |_, byte| Some(byte), patient());
        for wrong in 0..passed {
            for flip in [0x01, 0x80] {
                let pass = move |at, byte| Some(if at == wrong { byte ^ flip } else { byte });
                // Some bytes make no difference (a status, data, a message); with the others it fails or is given up.
                let _ = converse_over_a_relay(headers, pass, patience);
            }
        }
    }
}

/// How many bytes the relay passed, and what became of the conversation; an error names the server.
fn converse_over_a_relay(
    headers: Headers,
    pass: impl Fn(usize, u8) -> Option<u8> + Send + 'static,
    patience: Patience,
) -> (usize, Result<()>) {
    run(async |socket: &Path| {
        let back = socket.with_extension("back");
        let front = bound(socket).await;
        // It may fail, as the bytes may be wrong.
        rt::spawn(serve_at_most(bound(&back).await, ALL, headers)).detach();
        let relay = rt::spawn(relay(front, back, pass));
        let result = rt::timeout(LONG, converse(socket, patience)).await.expect("the conversation ends");
        if let Err(error) = &result {
            let named = error.to_string().contains(&socket.display().to_string());
            assert!(named || error.to_string().starts_with("Requested export not available"), "{error}");
        }
        (relay.await.unwrap(), result)
    })
}

#[test]
fn a_server_is_given_up_for_its_silence_and_for_one_request_without_end_but_not_for_a_slow_line() {
    let term = Term { began: 1000, silence: 100, longest: 1000 };
    assert_eq!(term.overdue(1099, 0), None);
    assert_eq!(term.overdue(1100, 0), Some(100));
    // Others are answered meanwhile.
    assert_eq!(term.overdue(1999, 1950), None);
    assert_eq!(term.overdue(1999, 1899), Some(999));
    assert_eq!(term.overdue(2000, 1999), Some(1000));
}

#[test]
fn chunks_without_end_end() {
    run(async |socket: &Path| {
        let listener = bound(socket).await;
        rt::spawn(async move {
            let guest = greet(&listener, ALL).await;
            let (request, _) = guest.next_request().await.unwrap();
            let mut chunk = Vec::new();
            guest.reply_to(&request).put_error(&mut chunk, ErrorCode::EIO, "again", None);
            chunk[5] = 0; // not the last one
            while guest.stream.send_all(&chunk).await.is_ok() {}
        })
        .detach();
        let driver = connect(socket).await.unwrap();
        let (_, result) = driver.read(0, BufMut::with_len(512)).await;
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Io);
    });
}

#[test]
fn a_dropped_request_is_carried_out_and_its_answer_disturbs_no_other() {
    run(async |socket: &Path| {
        rt::spawn(serve(bound(socket).await, ALL)).detach();
        let driver = connect(socket).await.unwrap();
        let data = Buf::from_slice(&[8; 200_000]);
        let dropped = driver.write(0, data, block::Request::GUEST);
        let _ = rt::timeout(Duration::ZERO, dropped).await;
        let (buf, result) = driver.read(0, BufMut::with_len(200_000)).await;
        result.unwrap();
        assert!(buf.iter().all(|byte| *byte == 8));
    });
}

#[test]
fn an_unknown_export_and_a_missing_server_are_reported() {
    run(async |socket: &Path| {
        let location = |export: &str| Location {
            server: Server::At(Address::Unix(socket.to_owned())),
            export: export.into(),
            tls: None,
            context: None,
        };
        let nobody =
            NbdDriver::connect(location("disk"), None, patient(), Delays::default()).await.err().unwrap();
        assert!(nobody.to_string().starts_with("Failed to connect to '"), "{nobody}");
        rt::spawn(serve(bound(socket).await, ALL)).detach();
        let unknown =
            NbdDriver::connect(location("disc"), None, patient(), Delays::default()).await.err().unwrap();
        assert!(unknown.to_string().starts_with("Requested export not available"), "{unknown}");
    });
}
