//! Reading from servers that are right, in all that they may be different in.

use super::server::{answer, good};
use super::*;
use std::sync::atomic::Ordering;

#[test]
fn a_file_is_read_in_pieces_of_any_size() {
    run(async {
        let file = content(SIZE);
        let server = Server::start(move |came| Served::Bytes(good(came, &file))).await;
        for piece in [512, 4096, 100_000, 1 << 20, SIZE] {
            let driver = open_at(&server.url).await.unwrap();
            assert_eq!(driver.length(), SIZE as u64);
            check(&driver, piece).await;
        }
        assert_eq!(server.came()[0].method, "HEAD");
        assert!(server.came().iter().all(|came| came.header("accept-encoding") == Some("identity")));
        assert!(server.came()[1..].iter().any(|came| came.header("if-match") == Some("\"one\"")));
    });
}

#[test]
fn requests_at_a_time_go_over_several_connections_but_no_more_than_are_allowed() {
    run(async {
        let file = content(SIZE);
        let server = Server::start(move |came| Served::Bytes(good(came, &file))).await;
        let mut settings = options(&server.url);
        settings.connections = Some(3);
        let driver = Arc::new(open_with(settings, &Objects::default()).await.unwrap());
        let reads: Vec<_> = (0..40u64)
            .map(|n| {
                let driver = driver.clone();
                let at = (n * 7_919 * 4096) % (SIZE as u64 - 4096);
                rt::spawn(async move {
                    let got = read(&driver, at, 4096).await.unwrap();
                    assert!(got.iter().zip(at..).all(|(got, at)| *got == byte(at)));
                })
            })
            .collect();
        for read in reads {
            read.await.unwrap();
        }
        let connections = server.connections.load(Ordering::Relaxed);
        assert!((2..=3).contains(&connections), "{connections}");
    });
}

#[test]
fn a_server_that_refuses_head_is_asked_for_the_first_byte() {
    for status in ["403 Forbidden", "405 Method Not Allowed", "501 Not Implemented", "400 Bad Request"] {
        run(async {
            let file = content(SIZE);
            let server = Server::start(move |came| {
                Served::Bytes(match came.method.as_str() {
                    "HEAD" => format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes(),
                    _ => good(came, &file),
                })
            })
            .await;
            let driver = open_at(&server.url).await.unwrap();
            assert_eq!(driver.length(), SIZE as u64);
            assert_eq!(server.came()[1].range, Some((0, 0)));
            check(&driver, 300_000).await;
        });
    }
}

#[test]
fn a_server_that_does_not_tell_of_ranges_but_has_them_is_read_in_ranges() {
    run(async {
        let file = content(SIZE);
        let server = Server::start(move |came| {
            Served::Bytes(match came.method.as_str() {
                "HEAD" => format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").into_bytes(),
                _ => good(came, &file),
            })
        })
        .await;
        let driver = open_at(&server.url).await.unwrap();
        check(&driver, 300_000).await;
        assert!(server.came().iter().all(|came| came.method == "HEAD" || came.range.is_some()));
    });
}

#[test]
fn a_server_without_ranges_is_read_once_as_a_stream_where_that_is_little_enough() {
    run(async {
        let file = content(SIZE);
        let server = Server::start(move |came| {
            Served::Bytes(match came.method.as_str() {
                "HEAD" => format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").into_bytes(),
                _ => answer("200 OK", "", &file),
            })
        })
        .await;
        let driver = open_at(&server.url).await.unwrap();
        check(&driver, 4096).await;
        assert_eq!(read(&driver, SIZE as u64 - 10, 20).await.unwrap()[10..], [0; 10]);
        assert_eq!(server.came().len(), 2);
        let mut little = options(&server.url);
        little.cache_size = Some(api::Size(SIZE as u64 - 1));
        let error = open_with(little, &Objects::default()).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
        assert!(
            error.to_string().contains("no ranges") && error.to_string().contains("cache-size"),
            "{error}"
        );
    });
}

#[test]
fn an_empty_file_is_an_empty_disk() {
    run(async {
        let server = Server::start(|came| Served::Bytes(good(came, &[]))).await;
        let driver = open_at(&server.url).await.unwrap();
        assert_eq!(driver.length(), 0);
        assert_eq!(read(&driver, 0, 512).await.unwrap(), [0; 512]);
    });
}

#[test]
fn a_server_that_sends_less_than_a_range_is_asked_for_the_rest() {
    run(async {
        let file = content(SIZE);
        let server = Server::start(move |came| {
            let mut less = came.clone();
            less.range = came.range.map(|(first, last)| (first, last.min(first + 9_999)));
            Served::Bytes(good(&less, &file))
        })
        .await;
        let driver = open_at(&server.url).await.unwrap();
        check(&driver, 1 << 20).await;
    });
}

#[test]
fn an_answer_in_chunks_is_read_as_any_other() {
    run(async {
        let file = content(SIZE);
        let server = Server::start(move |came| {
            let whole = good(came, &file);
            if came.method == "HEAD" {
                return Served::Bytes(whole);
            }
            let end = whole.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
            let head = String::from_utf8_lossy(&whole[..end]);
            let head: Vec<_> = head.lines().filter(|line| !line.starts_with("Content-Length")).collect();
            let mut sent =
                format!("{}\r\nTransfer-Encoding: chunked\r\n\r\n", head.join("\r\n")).into_bytes();
            for chunk in whole[end + 4..].chunks(70_000) {
                sent.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                sent.extend_from_slice(chunk);
                sent.extend_from_slice(b"\r\n");
            }
            sent.extend_from_slice(b"0\r\n\r\n");
            Served::Bytes(sent)
        })
        .await;
        let driver = open_at(&server.url).await.unwrap();
        check(&driver, 200_000).await;
    });
}
