//! Servers that fail, lie, or want to do harm: each has its error, in its time, and the next request is none the worse.

use super::server::{Came, answer, good};
use super::*;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A driver of which requests have little time.
async fn hasty(url: &str) -> Result<HttpDriver> {
    let objects = Objects::default();
    let mut settings = Settings::of(options(url), "http", &objects)?;
    settings.timeout = Duration::from_secs(1);
    HttpDriver::open(settings, objects, again).await
}

/// A server that is good, but for the reads that `odd` answers.
async fn odd(odd: impl Fn(&Came, &[u8]) -> Option<Served> + Send + Sync + 'static) -> Server {
    let file = content(SIZE);
    Server::start(move |came| {
        let special = if came.method == "GET" { odd(came, &file) } else { None };
        special.unwrap_or_else(|| Served::Bytes(good(came, &file)))
    })
    .await
}

/// What a read of all is refused with.
async fn failure(server: &Server, driver: HttpDriver) -> BlockError {
    let error = read(&driver, 0, SIZE).await.unwrap_err();
    assert!(error.to_string().contains(&server.place), "{error}");
    error
}

#[test]
fn a_server_that_closes_each_connection_is_asked_on_others() {
    run(async {
        let file = content(SIZE);
        let server = Server::start(move |came| Served::Last(good(came, &file))).await;
        let driver = open_at(&server.url).await.unwrap();
        check(&driver, 200_000).await;
        check(&driver, 4096).await;
    });
}

#[test]
fn a_connection_that_breaks_in_the_middle_is_gone_on_with_on_another() {
    run(async {
        let breaks = AtomicUsize::new(0);
        let server = odd(move |came, file| {
            let whole = good(came, file);
            let long = whole.len() > 300_000;
            (long && breaks.fetch_add(1, Ordering::Relaxed).is_multiple_of(2))
                .then(|| Served::Last(whole[..whole.len() - 100_000].to_vec()))
        })
        .await;
        let driver = open_at(&server.url).await.unwrap();
        check(&driver, SIZE).await;
        let ranges: Vec<_> = server.came().iter().filter_map(|came| came.range).collect();
        assert!(ranges.iter().any(|(first, _)| *first > 0), "{ranges:?}");
    });
}

#[test]
fn a_server_that_is_busy_for_a_while_is_waited_for() {
    for status in
        ["429 Too Many Requests", "502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout"]
    {
        run(async {
            let busy = AtomicUsize::new(3);
            let server = odd(move |_, _| {
                let left = busy.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
                left.is_ok().then(|| Served::Bytes(answer(status, "", b"busy")))
            })
            .await;
            let driver = open_at(&server.url).await.unwrap();
            check(&driver, SIZE).await;
        });
    }
}

#[test]
fn a_server_that_is_busy_for_longer_than_there_is_time_fails_the_request() {
    run(async {
        for wait in ["", "Retry-After: 3600\r\n"] {
            let server =
                odd(move |_, _| Some(Served::Bytes(answer("503 Service Unavailable", wait, b"busy")))).await;
            let error = failure(&server, hasty(&server.url).await.unwrap()).await;
            assert!(error.to_string().contains("503 (Service Unavailable)"), "{error}");
        }
    });
}

#[test]
fn a_server_that_says_nothing_or_stops_in_the_middle_fails_the_request_in_its_time() {
    run(async {
        for sent in [0, 10, 2_000_000] {
            let server = odd(move |came, file| {
                let whole = good(came, file);
                Some(Served::Stalls(whole[..sent.min(whole.len() - 1)].to_vec()))
            })
            .await;
            let error = failure(&server, hasty(&server.url).await.unwrap()).await;
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        }
    });
}

#[test]
fn the_next_request_after_a_failure_is_none_the_worse() {
    run(async {
        let bad = Arc::new(AtomicBool::new(true));
        let is_bad = bad.clone();
        let server =
            odd(move |_, _| is_bad.load(Ordering::Relaxed).then(|| Served::Stalls(Vec::new()))).await;
        let driver = hasty(&server.url).await.unwrap();
        assert!(read(&driver, 0, 4096).await.is_err());
        bad.store(false, Ordering::Relaxed);
        check(&driver, 200_000).await;
    });
}

#[test]
fn a_server_that_is_gone_and_comes_back_is_gone_on_with() {
    run(async {
        let file = content(SIZE);
        let server = Server::start({
            let file = file.clone();
            move |came| Served::Last(good(came, &file))
        })
        .await;
        let driver = Arc::new(open_at(&server.url).await.unwrap());
        assert_eq!(read(&driver, 0, 512).await.unwrap(), file[..512]);
        let port: u16 = server.place.rsplit(':').next().unwrap().parse().unwrap();
        drop(server);
        rt::yield_now().await;
        let reader = {
            let driver = driver.clone();
            rt::spawn(async move { read(&driver, 2 << 20, 4096).await })
        };
        // Time for an attempt that fails; it is as well if there is none.
        rt::sleep(Duration::from_millis(60)).await;
        let again = Server::start_at(port, move |came| Served::Bytes(good(came, &file))).await;
        let got = reader.await.unwrap().unwrap();
        assert!(got.iter().zip(2u64 << 20..).all(|(got, at)| *got == byte(at)));
        drop(again);
    });
}

#[test]
fn a_file_that_has_changed_is_not_mixed_with_the_old_one() {
    let other_tag = |came: &Came, file: &[u8]| {
        let whole = good(came, file);
        let text = |n: &[u8]| String::from_utf8_lossy(n).replace("\"one\"", "\"two\"").into_bytes();
        let end = whole.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        [text(&whole[..end]), whole[end..].to_vec()].concat()
    };
    let shorter = |came: &Came, file: &[u8]| good(came, &file[..SIZE / 2]);
    let longer = |came: &Came, file: &[u8]| good(came, &[file, file].concat());
    let precondition = |_: &Came, _: &[u8]| answer("412 Precondition Failed", "", b"");
    let whole_of_other = |_: &Came, file: &[u8]| answer("200 OK", "ETag: \"two\"\r\n", file);
    type Make = fn(&Came, &[u8]) -> Vec<u8>;
    let makes: [Make; 5] = [other_tag, shorter, longer, precondition, whole_of_other];
    for (number, make) in makes.into_iter().enumerate() {
        run(async {
            let server = odd(move |came, file| Some(Served::Bytes(make(came, file)))).await;
            let error = failure(&server, open_at(&server.url).await.unwrap()).await;
            assert!(error.to_string().contains("has changed since it was opened"), "{number}: {error}");
        });
    }
}

#[test]
fn a_file_that_gets_shorter_between_requests_is_told_of_beyond_its_end_too() {
    run(async {
        let server = odd(|came, file| Some(Served::Bytes(good(came, &file[..SIZE / 2])))).await;
        let driver = open_at(&server.url).await.unwrap();
        let error = read(&driver, SIZE as u64 - 4096, 4096).await.unwrap_err();
        assert!(error.to_string().contains("it is shorter"), "{error}");
    });
}

#[test]
fn answers_that_are_not_what_was_asked_for_are_refused() {
    type Make = fn(&Came, &[u8]) -> Served;
    let cases: [(&str, Make); 8] = [
        ("whole file where a range", |_, file| Served::Bytes(answer("200 OK", "", file))),
        ("another range", |came, file| {
            let mut other = came.clone();
            other.range = came.range.map(|(first, last)| (first + 1, last));
            Served::Bytes(good(&other, file))
        }),
        ("another range", |came, file| {
            let (first, last) = came.range.unwrap_or_default();
            Served::Bytes(answer("206 Partial Content", "", &file[first..=last]))
        }),
        ("another range", |came, file| {
            let (first, last) = came.range.unwrap_or_default();
            let lie = format!("Content-Range: bytes {first}-{last}/{SIZE}\r\n");
            Served::Bytes(answer("206 Partial Content", &lie, &file[first..last]))
        }),
        ("another range", |_, _| {
            let type_ = "Content-Type: multipart/byteranges; boundary=x\r\n";
            Served::Bytes(answer("206 Partial Content", type_, b"--x\r\n"))
        }),
        ("the encoding 'gzip'", |came, file| {
            let whole = good(came, file);
            let (status, rest) = whole.split_at(whole.iter().position(|byte| *byte == b'\r').unwrap());
            Served::Bytes([status, b"\r\nContent-Encoding: gzip", rest].concat())
        }),
        ("more than a range has", |came, _| {
            let (first, last) = came.range.unwrap_or_default();
            let head = format!(
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {first}-{last}/{SIZE}\r\nTransfer-Encoding: \
                 chunked\r\n\r\n"
            );
            Served::Endless(
                head.into_bytes(),
                b"400\r\n".iter().copied().chain([7; 0x400]).chain(*b"\r\n").collect(),
            )
        }),
        ("no HTTP", |_, _| Served::Bytes(b"\x00\x01\x02 garbage\r\n\r\n".to_vec())),
    ];
    for (expected, make) in cases {
        run(async {
            let server = odd(move |came, file| Some(make(came, file))).await;
            let error = failure(&server, open_at(&server.url).await.unwrap()).await;
            assert!(error.to_string().contains(expected), "{expected}: {error}");
        });
    }
}

#[test]
fn heads_without_end_are_given_up_and_cost_no_memory() {
    run(async {
        let server = Server::start(|_| {
            Served::Endless(b"HTTP/1.1 200 OK\r\n".to_vec(), b"X-More: and more and more\r\n".to_vec())
        })
        .await;
        let error = refused(&server.url).await;
        assert!(error.to_string().contains("no HTTP"), "{error}");
        let server =
            Server::start(|_| Served::Endless(b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'y'; 5000])).await;
        let error = refused(&server.url).await;
        assert!(error.to_string().contains("no HTTP"), "{error}");
    });
}

#[test]
fn what_can_t_be_a_disk_is_refused_when_it_is_opened() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    for (served, expected, kind) in [
        (chunked.to_owned(), "does not tell its size", ErrorKind::Unsupported),
        (
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "404 (Not Found)",
            ErrorKind::NotFound,
        ),
        ("HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n".to_owned(), "410 (Gone)", ErrorKind::NotFound),
        (
            "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "401 (Unauthorized)",
            ErrorKind::Permission,
        ),
        ("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_owned(), "500", ErrorKind::Io),
        ("HTTP/1.1 204 No Content\r\n\r\n".to_owned(), "204", ErrorKind::Io),
        ("SSH-2.0-OpenSSH_9.2\r\n".to_owned(), "no HTTP", ErrorKind::Io),
        ("+OK".to_owned(), "no HTTP", ErrorKind::Io),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nContent-Encoding: br\r\n\r\n".to_owned(),
            "the encoding 'br'",
            ErrorKind::Unsupported,
        ),
        (
            format!("HTTP/1.1 200 OK\r\nAccept-Ranges: bytes\r\nContent-Length: {}\r\n\r\n", u64::MAX - 1),
            "does not tell its size",
            ErrorKind::Unsupported,
        ),
    ] {
        run(async {
            let answer = served.clone();
            let server = Server::start(move |_| Served::Last(answer.clone().into_bytes())).await;
            let error = refused(&server.url).await;
            assert!(error.to_string().contains(expected), "{expected}: {error}");
            assert_eq!(error.kind(), kind, "{error}");
        });
    }
}

#[test]
fn a_size_that_is_a_lie_takes_no_memory_and_is_found_out() {
    run(async {
        const LIE: u64 = 1 << 40;
        let server = Server::start(|came| {
            Served::Bytes(match came.method.as_str() {
                "HEAD" => format!("HTTP/1.1 200 OK\r\nAccept-Ranges: bytes\r\nContent-Length: {LIE}\r\n\r\n")
                    .into_bytes(),
                _ => good(came, &content(4096)),
            })
        })
        .await;
        let driver = open_at(&server.url).await.unwrap();
        assert_eq!(driver.length(), LIE);
        let error = read(&driver, LIE - 512, 512).await.unwrap_err();
        assert!(error.to_string().contains("has changed"), "{error}");
    });
}

#[test]
fn a_server_that_is_not_there_is_told_of_at_once() {
    run(async {
        let server = Server::start(|_| Served::Last(Vec::new())).await;
        let (url, place) = (server.url.clone(), server.place.clone());
        drop(server);
        rt::yield_now().await;
        let begun = rt::now_ns();
        let error = refused(&url).await;
        assert!(error.to_string().contains(&place) && error.to_string().contains("refused"), "{error}");
        assert!(rt::now_ns() - begun < 4_000_000_000);
        let error = refused("http://no-such-host.invalid/x").await;
        assert!(error.to_string().contains("no-such-host.invalid"), "{error}");
    });
}

#[test]
fn a_stream_that_breaks_is_asked_for_again_and_one_that_lies_is_refused() {
    run(async {
        let attempts = Arc::new(AtomicUsize::new(0));
        let (count, file) = (attempts.clone(), content(SIZE));
        let server = Server::start(move |came| {
            if came.method == "HEAD" {
                return Served::Bytes(
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").into_bytes(),
                );
            }
            let whole = answer("200 OK", "ETag: \"one\"\r\n", &file);
            match count.fetch_add(1, Ordering::Relaxed) {
                n @ 0..3 => Served::Last(whole[..whole.len() * (n + 1) / 5].to_vec()),
                _ => Served::Bytes(whole),
            }
        })
        .await;
        let driver = open_at(&server.url).await.unwrap();
        check(&driver, 100_000).await;
        assert_eq!(attempts.load(Ordering::Relaxed), 4);
    });
}

#[test]
fn a_connection_that_is_given_up_fails_what_waits_and_what_comes() {
    run(async {
        let server = odd(|_, _| Some(Served::Stalls(Vec::new()))).await;
        let driver = Arc::new(open_at(&server.url).await.unwrap());
        let waiting = {
            let driver = driver.clone();
            rt::spawn(async move { read(&driver, 0, 4096).await })
        };
        while server.came().len() < 2 {
            rt::sleep(Duration::from_millis(1)).await;
        }
        driver.cut().unwrap()();
        assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(read(&driver, 0, 512).await.unwrap_err().kind(), ErrorKind::Closed);
    });
}

#[test]
fn requests_that_nobody_waits_for_any_more_give_their_connections_back() {
    run(async {
        let stalls = Arc::new(Mutex::new(true));
        let is = stalls.clone();
        let server = odd(move |_, _| is.lock().then(|| Served::Stalls(Vec::new()))).await;
        let mut settings = options(&server.url);
        settings.connections = Some(2);
        settings.readahead = Some(0);
        let driver = open_with(settings, &Objects::default()).await.unwrap();
        for _ in 0..5 {
            let dropped = rt::timeout(Duration::from_millis(20), read(&driver, 0, 4096)).await;
            assert!(dropped.is_err());
        }
        *stalls.lock() = false;
        check(&driver, 500_000).await;
    });
}

/// A server that has no ranges, and sends the file as `serve` says.
async fn streaming(serve: impl Fn(Vec<u8>) -> Served + Send + Sync + 'static) -> Server {
    Server::start(move |came| match came.method.as_str() {
        "HEAD" => Served::Bytes(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").into_bytes()),
        _ => serve(answer("200 OK", "ETag: \"one\"\r\n", &content(SIZE))),
    })
    .await
}

#[test]
fn a_byte_now_and_then_is_not_enough_for_ranges_or_streams() {
    run(async {
        let dripping = |mut whole: Vec<u8>| {
            let rest = whole.split_off(5000.min(whole.len()));
            Served::Drips(whole, rest)
        };
        let ranges = odd(move |came, file| Some(dripping(good(came, file)))).await;
        for server in [ranges, streaming(dripping).await] {
            let error = failure(&server, hasty(&server.url).await.unwrap()).await;
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        }
    });
}

#[test]
fn a_stream_that_ends_after_each_byte_is_given_up_in_its_time() {
    run(async {
        let served = std::sync::atomic::AtomicUsize::new(0);
        let server = streaming(move |mut whole| {
            let head = whole.len() - SIZE;
            whole.truncate(head + served.fetch_add(1, Ordering::Relaxed));
            Served::Last(whole)
        })
        .await;
        let error = failure(&server, hasty(&server.url).await.unwrap()).await;
        assert!(error.to_string().contains("broke"), "{error}");
    });
}

#[test]
fn a_stream_is_not_taken_in_any_more_when_its_node_is_closed_or_given_up() {
    run(async {
        for closes in [true, false] {
            let server = streaming(|mut whole| {
                whole.truncate(whole.len() / 2);
                Served::Stalls(whole)
            })
            .await;
            let driver = open_at(&server.url).await.unwrap();
            read(&driver, 0, 512).await.unwrap();
            match closes {
                true => driver.close().await.unwrap(),
                false => driver.cut().unwrap()(),
            }
            all_ended(&server).await;
            assert_eq!(read(&driver, 0, 512).await.unwrap_err().kind(), ErrorKind::Closed);
        }
    });
}

/// Waits until the server has no connection any more.
async fn all_ended(server: &Server) {
    let ended = async {
        while server.ended.load(Ordering::Relaxed) < server.connections.load(Ordering::Relaxed) {
            rt::sleep(Duration::from_millis(1)).await;
        }
    };
    rt::timeout(Duration::from_secs(60), ended).await.unwrap();
}

#[test]
fn nothing_is_read_ahead_or_kept_of_connections_when_the_node_is_closed_or_given_up() {
    for closes in [true, false] {
        run(async {
            // The first window comes, others come slowly: their answers are to end after the node has.
            let server = odd(|came, file| {
                let (first, _) = came.range?;
                let mut whole = good(came, file);
                let rest = whole.split_off(whole.len() - 20);
                (first > 0).then_some(Served::Drips(whole, rest))
            })
            .await;
            let mut patient = options(&server.url);
            patient.timeout = Some(0);
            let driver = open_with(patient, &Objects::default()).await.unwrap();
            read(&driver, 0, 4096).await.unwrap();
            while server.came().len() < 3 {
                rt::sleep(Duration::from_millis(1)).await;
            }
            match closes {
                true => driver.close().await.unwrap(),
                false => driver.cut().unwrap()(),
            }
            all_ended(&server).await;
            let asked = server.came().len();
            assert_eq!(read(&driver, 0, 512).await.unwrap_err().kind(), ErrorKind::Closed);
            assert_eq!(server.came().len(), asked);
        });
    }
}

#[test]
fn a_stream_that_was_too_slow_once_is_taken_in_when_somebody_asks_again() {
    run(async {
        let slow = Arc::new(AtomicBool::new(true));
        let is_slow = slow.clone();
        let server = streaming(move |mut whole| {
            if is_slow.load(Ordering::Relaxed) {
                whole.truncate(whole.len() / 2);
                return Served::Stalls(whole);
            }
            Served::Bytes(whole)
        })
        .await;
        let driver = hasty(&server.url).await.unwrap();
        for _ in 0..2 {
            let error = read(&driver, SIZE as u64 - 4096, 4096).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        }
        // What has come is there, whatever became of the rest.
        assert!(read(&driver, 0, SIZE / 4).await.is_ok());
        slow.store(false, Ordering::Relaxed);
        check(&driver, 300_000).await;
    });
}

#[test]
fn a_server_that_is_slow_is_told_from_one_that_is_silent() {
    run(async {
        let nothing = odd(|came, file| {
            let mut whole = good(came, file);
            whole.truncate(whole.len() - came.range.map_or(0, |(first, last)| last - first + 1));
            Some(Served::Stalls(whole))
        })
        .await;
        let error = failure(&nothing, hasty(&nothing.url).await.unwrap()).await;
        assert!(error.to_string().contains("silent for 1 s"), "{error}");
        let little = odd(|came, file| {
            let mut whole = good(came, file);
            whole.truncate(whole.len() - came.range.map_or(0, |(first, last)| last - first + 1) + 1000);
            Some(Served::Stalls(whole))
        })
        .await;
        let mut settings = Settings::of(options(&little.url), "http", &Objects::default()).unwrap();
        (settings.timeout, settings.readahead) = (Duration::from_secs(1), 0);
        let driver = HttpDriver::open(settings, Objects::default(), again).await.unwrap();
        let error = failure(&little, driver).await;
        let text = error.to_string();
        assert!(text.contains("sent 1000 bytes in 1 s, of which 65536 are the least"), "{text}");
    });
}

#[test]
fn a_slow_link_that_several_requests_share_brings_each_its_part_of_the_least() {
    run(async {
        // 32 requests of 48 KiB, at 20 KiB a second each: none has 64 KiB in its second, together they have ten times that.
        let server = odd(|came, file| Some(Served::Flows(good(came, file), 400))).await;
        let mut settings = Settings::of(options(&server.url), "http", &Objects::default()).unwrap();
        (settings.timeout, settings.readahead, settings.connections) = (Duration::from_secs(1), 0, 32);
        let driver = Arc::new(HttpDriver::open(settings, Objects::default(), again).await.unwrap());
        let reads: Vec<_> = (0..32u64)
            .map(|n| {
                let driver = driver.clone();
                rt::spawn(async move { read(&driver, n * 49_152, 49_152).await })
            })
            .collect();
        for read in reads {
            read.await.unwrap().unwrap();
        }
    });
}

#[test]
fn the_time_that_a_request_waits_for_its_turn_is_not_the_server_s() {
    run(async {
        // One connection, and answers that take a good part of the time each.
        let broken = AtomicUsize::new(0);
        let server = odd(move |came, file| {
            let mut whole = good(came, file);
            let rest = whole.split_off(whole.len() - 20);
            // The last one is to be made again, which it has time for.
            let breaks = came.range?.0 == 5 * 65536 && broken.fetch_add(1, Ordering::Relaxed) < 2;
            Some(if breaks { Served::Last(Vec::new()) } else { Served::Drips(whole, rest) })
        })
        .await;
        let mut settings = Settings::of(options(&server.url), "http", &Objects::default()).unwrap();
        (settings.timeout, settings.readahead, settings.connections) = (Duration::from_secs(1), 0, 1);
        let driver = Arc::new(HttpDriver::open(settings, Objects::default(), again).await.unwrap());
        let mut reads = Vec::new();
        for n in 0..6u64 {
            let driver = driver.clone();
            reads.push(rt::spawn(async move { read(&driver, n * 65536, 4096).await }));
            rt::yield_now().await;
        }
        for read in reads {
            read.await.unwrap().unwrap();
        }
    });
}
