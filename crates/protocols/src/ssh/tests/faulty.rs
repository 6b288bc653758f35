//! Servers that stall, lie, break off or send nonsense: each is an error in bounded time, and nothing else is disturbed.

use super::*;
use sftp::{Attributes, Kind, Received, Reply, Request as Asked, StatusCode, Version};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc;

const SIZE: usize = 100_000;

/// A server of bytes: sends some, and then is silent, or closes.
fn raw(bytes: &'static [u8], closes: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // The client may have gone.
        let _ = stream.write_all(bytes);
        if !closes {
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
        }
    });
    port
}

/// The error of a connection. Only a server that stalls is not waited for long.
async fn refused(port: u16, stalls: bool) -> BlockError {
    connect(port, if stalls { SHORT } else { LONG }).await.map(drop).unwrap_err()
}

/// The driver on a server that treats requests so, and the server.
async fn faulty(hook: impl Fn(&Received<'_>) -> Act + Send + Sync + 'static) -> (Server, Result<SshDriver>) {
    let server = Server::new(noise(SIZE), Behaviour { hook: Box::new(hook), ..Behaviour::default() });
    let driver = open(&server, LONG).await;
    (server, driver)
}

fn status(id: u32, code: StatusCode, message: &[u8]) -> Act {
    let mut bytes = Vec::new();
    Reply::Status(code, message).encode(id, &mut bytes);
    Act::Send(bytes)
}

#[test]
fn a_server_that_is_none_is_told_from_one_that_is_silent() {
    run(async {
        for (bytes, closes, kind, text) in [
            (&b""[..], false, ErrorKind::Timeout, "did not exchange keys within"),
            (b"SSH-2.0-x\r\n", false, ErrorKind::Timeout, "did not exchange keys within"),
            (b"", true, ErrorKind::Io, "no SSH session with"),
            (b"SSH-2.0-x\r\n", true, ErrorKind::Io, "no SSH session with"),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", true, ErrorKind::Io, "no SSH session with"),
            (
                b"SSH-2.0-x\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
                false,
                ErrorKind::Io,
                "no SSH session with",
            ),
        ] {
            let error = refused(raw(bytes, closes), kind == ErrorKind::Timeout).await;
            assert!(error.kind() == kind && error.to_string().contains(text), "{bytes:?}: {error:?}");
        }
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let error = refused(gone, false).await.to_string();
        assert_eq!(error, format!("Failed to connect to '127.0.0.1:{gone}': Connection refused"));
    });
}

#[test]
fn a_server_that_stalls_while_a_session_begins_is_given_up() {
    run(async {
        for (behaviour, text) in [
            (Behaviour { silent_login: true, ..Behaviour::default() }, "did not log the user in within"),
            (Behaviour { subsystem: None, ..Behaviour::default() }, "did not begin SFTP within"),
            (
                Behaviour { hook: Box::new(|_| Act::Silence), ..Behaviour::default() },
                "did not begin SFTP within",
            ),
            (Behaviour { subsystem: Some(false), ..Behaviour::default() }, "offers no SFTP"),
            (Behaviour { hook: Box::new(|_| Act::Close), ..Behaviour::default() }, "closed the connection"),
            (
                Behaviour { version: Version { version: 6, ..Version::default() }, ..Behaviour::default() },
                "speaks version 6 of SFTP",
            ),
        ] {
            let server = Server::new(noise(10), behaviour);
            let error = refused(server.address.port(), text.contains("within")).await;
            assert!(error.to_string().contains(text), "{error}");
        }
    });
}

#[test]
fn nonsense_in_place_of_an_answer_ends_the_connection() {
    run(async {
        for (bytes, text) in [
            (vec![0xff; 4096], "has no place here"),
            (vec![0, 0, 0, 0], "too short"),
            (vec![0, 1, 0, 6, Kind::NAME.0, 0, 0, 0, 0], "longer than any"),
            (vec![0, 0, 0, 9, Kind::STATUS.0, 0, 0, 0xff, 0xff, 0, 0, 0, 0], "never made"),
            (vec![0, 0, 0, 5, Kind::VERSION.0, 0, 0, 0, 3], "a second time"),
        ] {
            let answer = bytes.clone();
            let (_server, driver) = faulty(move |received| match received {
                Received::Request(_, Asked::Read { .. }, _) => Act::Send(answer.clone()),
                _ => Act::Proper,
            })
            .await;
            let driver = driver.unwrap();
            let (buf, result) = driver.read(0, BufMut::with_len(10_000)).await;
            let error = result.unwrap_err().to_string();
            assert!(buf.len() == 10_000 && error.contains(text), "{bytes:?}: {error}");
            // It is of no more use, also for a flush.
            assert!(driver.flush().await.unwrap_err().to_string().contains(text));
        }
    });
}

#[test]
fn answers_to_another_question_are_refused() {
    run(async {
        let (_server, driver) = faulty(|received| match received {
            Received::Request(id, Asked::Read { offset: 0, .. }, _) => {
                let mut bytes = Vec::new();
                Reply::Handle(b"x").encode(*id, &mut bytes);
                Act::Send(bytes)
            }
            // More than was asked for, and nothing at all.
            Received::Request(id, Asked::Read { offset: 1, length, .. }, _) => {
                let mut bytes = Vec::new();
                Reply::encode_data(*id, &vec![7; *length as usize + 1], &mut bytes);
                Act::Send(bytes)
            }
            _ => Act::Proper,
        })
        .await;
        let driver = driver.unwrap();
        let error = driver.read(0, BufMut::with_len(10)).await.1.unwrap_err().to_string();
        assert!(error.contains("answered a read") && error.contains("a handle"), "{error}");
        // Others are not disturbed by it.
        driver.read(50, BufMut::with_len(10)).await.1.unwrap();
        let error = driver.read(1, BufMut::with_len(10)).await.1.unwrap_err().to_string();
        assert!(error.contains("11 bytes, which nobody asked for"), "{error}");
        for (reply, text) in [
            (Attributes { size: Some(u64::MAX), ..Attributes::default() }, "tells no size"),
            (Attributes::default(), "tells no size"),
            (
                Attributes { size: Some(9), permissions: Some(0o040_755), ..Attributes::default() },
                "is a directory",
            ),
        ] {
            let (_server, driver) = faulty(move |received| match received {
                Received::Request(id, Asked::Fstat { .. }, _) => {
                    let mut bytes = Vec::new();
                    Reply::Attributes(reply).encode(*id, &mut bytes);
                    Act::Send(bytes)
                }
                _ => Act::Proper,
            })
            .await;
            let error = driver.map(drop).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    });
}

#[test]
fn a_server_that_leaves_a_request_unanswered_is_given_up() {
    run(async {
        let hook = |received: &Received<'_>| match received {
            Received::Request(_, Asked::Write { .. }, _) => Act::Silence,
            _ => Act::Proper,
        };
        let server = Server::new(noise(SIZE), Behaviour { hook: Box::new(hook), ..Behaviour::default() });
        let driver = open(&server, SHORT).await.unwrap();
        let error = driver.write(0, Buf::from_slice(&[1]), Request::GUEST).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Timeout && error.to_string().contains("unanswered"), "{error}");
        assert_eq!(driver.flush().await.unwrap_err().kind(), ErrorKind::Timeout);
    });
}

/// What a relay sees of the end of what the client sends.
type End = std::thread::JoinHandle<std::io::Result<u64>>;

/// A way to a server that takes nothing any more once it `stalls`, until it is told to take the rest.
fn relay(server: std::net::SocketAddr, stalls: Arc<AtomicBool>) -> (u16, mpsc::Sender<()>, End) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = mpsc::channel();
    let relaying = std::thread::spawn(move || {
        let (mut client, _) = listener.accept()?;
        let mut server = TcpStream::connect(server)?;
        let (mut answers, mut to) = (server.try_clone()?, client.try_clone()?);
        std::thread::spawn(move || std::io::copy(&mut answers, &mut to));
        let mut buf = [0; 4096];
        while !stalls.load(Ordering::Acquire) {
            let n = client.read(&mut buf)?;
            server.write_all(&buf[..n])?;
        }
        // Whoever tells may have failed.
        let _ = told.recv();
        std::io::copy(&mut client, &mut std::io::sink())
    });
    (port, tell, relaying)
}

#[test]
fn what_waits_to_be_sent_when_a_connection_is_given_up_is_taken_back() {
    run(async {
        let server = Server::new(noise(SIZE), Behaviour::default());
        let stalls = Arc::new(AtomicBool::new(false));
        let (port, tell, relaying) = relay(server.address, stalls.clone());
        let driver = open_at(location(port), SHORT).await.unwrap();
        driver.read(0, BufMut::with_len(10)).await.1.unwrap();
        stalls.store(true, Ordering::Release);
        // More than the sockets on the way hold.
        let data = Buf::from_slice(&vec![1; 64 << 20]);
        let error = driver.write(0, data, Request::GUEST).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        tell.send(()).unwrap();
        let end = relaying.join().unwrap();
        assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_server_that_closes_fails_what_is_in_flight_and_every_flush_after() {
    run(async {
        let (_server, driver) = faulty(|received| match received {
            Received::Request(_, Asked::Read { .. }, _) => Act::Close,
            _ => Act::Proper,
        })
        .await;
        let driver = driver.unwrap();
        driver.write(0, Buf::from_slice(&[1]), Request::GUEST).await.unwrap();
        let error = driver.read(0, BufMut::with_len(50_000)).await.1.unwrap_err();
        assert!(error.to_string().contains("the server closed the connection"), "{error}");
        // What was written may not be durable.
        assert!(driver.flush().await.is_err());
        driver.close().await.unwrap();
    });
}

#[test]
fn short_answers_are_completed_and_a_file_that_was_cut_ends_in_zeroes() {
    run(async {
        let (server, driver) = faulty(|received| match received {
            Received::Request(id, Asked::Read { offset, length, .. }, _) if *offset < 9000 && *length > 3 => {
                let at = *offset as usize;
                let mut bytes = Vec::new();
                Reply::encode_data(*id, &noise(SIZE)[at..at + 3 + at % 1000], &mut bytes);
                if *length as usize > 3 + at % 1000 { Act::Send(bytes) } else { Act::Proper }
            }
            _ => Act::Proper,
        })
        .await;
        let driver = driver.unwrap();
        let (buf, result) = driver.read(5, BufMut::with_len(20_000)).await;
        result.unwrap();
        assert!(buf[..] == noise(SIZE)[5..20_005]);
        server.content.lock().truncate(15_000);
        let (buf, result) = driver.read(10_000, BufMut::with_len(20_000)).await;
        result.unwrap();
        assert!(buf[..5000] == noise(SIZE)[10_000..15_000] && buf[5000..].iter().all(|byte| *byte == 0));
    });
}

#[test]
fn what_a_server_refuses_is_told_with_the_request_and_the_place() {
    run(async {
        let full = AtomicBool::new(true);
        let (_server, driver) = faulty(move |received| match received {
            Received::Request(id, Asked::Write { .. }, _) if full.load(Ordering::Relaxed) => {
                status(*id, StatusCode::FAILURE, b"no \x1b[31mspace")
            }
            Received::Request(id, Asked::Fsync { .. }, _) => status(*id, StatusCode::FAILURE, b"Failure"),
            Received::Request(id, Asked::SetSize { .. }, _) => status(*id, StatusCode::OP_UNSUPPORTED, b""),
            _ => Act::Proper,
        })
        .await;
        let driver = driver.unwrap();
        let error = driver.write(4096, Buf::from_slice(&[1; 9000]), Request::GUEST).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("refused a write of 'ssh://somebody@127.0.0.1"), "{text}");
        assert!(text.contains("Failure (sftp error code: 4), 'no \\u{1b}[31mspace'"), "{text}");
        assert_eq!(error.offset(), Some(4096));
        assert!(driver.flush().await.is_err());
        assert_eq!(driver.resize(5, PreallocMode::Off).await.unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(driver.length(), SIZE as u64);
        // The connection lives.
        driver.read(0, BufMut::with_len(10)).await.1.unwrap();
    });
}

#[test]
fn a_server_that_can_t_make_durable_fails_a_flush_with_what_to_do() {
    run(async {
        let version = Version { version: 3, fsync: false, limits: false };
        let server = Server::new(noise(SIZE), Behaviour { version, ..Behaviour::default() });
        let driver = open(&server, LONG).await.unwrap();
        // Messages are as long as all servers take them.
        driver.read(0, BufMut::with_len(SIZE)).await.1.unwrap();
        let error = driver.flush().await.unwrap_err();
        assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("cache.no-flush=on"));
    });
}

#[test]
fn a_connection_that_is_cut_fails_at_once() {
    run(async {
        let (_server, driver) = faulty(|received| match received {
            Received::Request(_, Asked::Read { .. }, _) => Act::Silence,
            _ => Act::Proper,
        })
        .await;
        let driver = driver.unwrap();
        let cut = driver.cut().unwrap();
        let (result, ()) = futures_util::join!(driver.read(0, BufMut::with_len(10)), async move {
            rt::yield_now().await;
            cut();
        });
        assert!(result.1.unwrap_err().to_string().contains("given up on request"));
    });
}

#[test]
fn a_file_that_was_exchanged_for_one_of_the_same_size_is_not_taken_for_the_old_one() {
    run(async {
        for differs in 0..3 {
            let exchanged = Arc::new(AtomicBool::new(false));
            let (is, looks) = (exchanged.clone(), AtomicU32::new(0));
            let (_server, driver) = faulty(move |received| match received {
                // The file that is open is asked for first, each time.
                Received::Request(id, Asked::Fstat { .. }, _) => {
                    let nth = looks.fetch_add(1, Ordering::Relaxed) % 2;
                    let other = if is.load(Ordering::Relaxed) { nth } else { 0 };
                    let mut attributes = Attributes {
                        size: Some(100),
                        owner: Some([1, 2]),
                        permissions: Some(0o100_644),
                        modified: Some(3),
                    };
                    match differs {
                        0 => attributes.owner = Some([1, 2 + other]),
                        1 => attributes.permissions = Some(0o100_644 + other),
                        _ => attributes.modified = Some(3 + other),
                    }
                    let mut bytes = Vec::new();
                    Reply::Attributes(attributes).encode(*id, &mut bytes);
                    Act::Send(bytes)
                }
                _ => Act::Proper,
            })
            .await;
            let driver = driver.unwrap();
            let _same = driver.set_writable(false).await.unwrap();
            exchanged.store(true, Ordering::Relaxed);
            let error = driver.set_writable(true).await.map(drop).unwrap_err().to_string();
            assert!(error.contains("another one than it was"), "{error}");
        }
    });
}
