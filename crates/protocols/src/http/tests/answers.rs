//! Answers in all the forms that HTTP/1.1 has for them, and connections that are used again where they can be.

use super::server::{Came, good};
use super::*;
use std::sync::atomic::Ordering;

/// A server that is good, but for what becomes of its answers to GET.
async fn told(tell: impl Fn(Vec<u8>) -> Served + Send + Sync + 'static) -> Server {
    let file = content(SIZE);
    Server::start(move |came: &Came| {
        let whole = good(came, &file);
        if came.method == "GET" { tell(whole) } else { Served::Bytes(whole) }
    })
    .await
}

/// How many connections it takes to read all in order, and here and there, by one at a time.
async fn connections(server: &Server) -> usize {
    let mut one = options(&server.url);
    one.connections = Some(1);
    let driver = open_with(one, &Objects::default()).await.unwrap();
    check(&driver, 300_000).await;
    for at in [7, 2_000_000, 1_000_001] {
        assert_eq!(read(&driver, at, 5000).await.unwrap(), content(SIZE)[at as usize..at as usize + 5000]);
    }
    server.connections.load(Ordering::Relaxed)
}

/// An answer's head, without its last empty line, and its content.
fn parts(whole: &[u8]) -> (String, &[u8]) {
    let end = whole.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 2;
    (String::from_utf8(whole[..end].to_vec()).unwrap(), &whole[end + 2..])
}

fn without_length(head: &str) -> String {
    head.split_inclusive('\n').filter(|line| !line.starts_with("Content-Length")).collect()
}

#[test]
fn one_connection_is_used_for_all_where_answers_have_an_end() {
    run(async {
        assert_eq!(connections(&told(Served::Bytes).await).await, 1);
        // What comes before the answer is none.
        let hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
        let early = told(|whole| Served::Bytes([hints.as_slice(), &whole].concat())).await;
        assert_eq!(connections(&early).await, 1);
        let chunked = told(|whole| {
            let (head, content) = parts(&whole);
            let mut out = format!("{}Transfer-Encoding: chunked\r\n\r\n", without_length(&head)).into_bytes();
            for (nth, chunk) in content.chunks(4999).enumerate() {
                out.extend_from_slice(format!("{:X};n={nth}\r\n", chunk.len()).as_bytes());
                out.extend_from_slice(chunk);
                out.extend_from_slice(b"\r\n");
            }
            out.extend_from_slice(b"0\r\nX-Sum: y\r\n\r\n");
            Served::Bytes(out)
        })
        .await;
        assert_eq!(connections(&chunked).await, 1);
        let old = told(|whole| {
            let text = [b"HTTP/1.0", &whole[8..]].concat();
            let (head, content) = parts(&text);
            Served::Bytes([format!("{head}Connection: keep-alive\r\n\r\n").as_bytes(), content].concat())
        })
        .await;
        assert_eq!(connections(&old).await, 1);
    });
}

#[test]
fn an_answer_that_ends_with_its_connection_is_followed_on_another_one() {
    run(async {
        let unbounded = told(|whole| {
            let (head, content) = parts(&whole);
            Served::Last([format!("{}\r\n", without_length(&head)).as_bytes(), content].concat())
        })
        .await;
        assert!(connections(&unbounded).await > 3);
        let closing = told(|whole| {
            let (head, content) = parts(&whole);
            Served::Last([format!("{head}Connection: close\r\n\r\n").as_bytes(), content].concat())
        })
        .await;
        assert!(connections(&closing).await > 3);
    });
}

#[test]
fn what_comes_behind_an_answer_is_not_the_next_one() {
    run(async {
        let forged =
            b"HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\nContent-Range: bytes 0-4/5\r\n\r\nWRONG";
        let server = told(|whole| Served::Bytes([&whole, forged.as_slice()].concat())).await;
        let mut one = options(&server.url);
        (one.connections, one.readahead) = (Some(1), Some(0));
        let driver = open_with(one, &Objects::default()).await.unwrap();
        // Short enough to be received with what is behind it.
        for at in 0..5 {
            let got = read(&driver, at * 500_000, 4096).await.unwrap();
            assert!(got.iter().zip(at * 500_000..).all(|(got, at)| *got == byte(at)));
        }
        assert!(server.connections.load(Ordering::Relaxed) >= 5);
    });
}

#[test]
fn an_answer_of_which_the_end_can_be_read_in_two_ways_is_refused() {
    run(async {
        for lines in
            ["Content-Length: 1\r\n", "Transfer-Encoding: gzip\r\n", "Transfer-Encoding: chunked, gzip\r\n"]
        {
            let server = told(move |whole| {
                let (head, content) = parts(&whole);
                Served::Bytes([format!("{head}{lines}\r\n").as_bytes(), content].concat())
            })
            .await;
            let driver = open_at(&server.url).await.unwrap();
            let error = read(&driver, 0, 4096).await.unwrap_err();
            assert!(error.to_string().contains("no HTTP"), "{lines}: {error}");
        }
    });
}

#[test]
fn an_answer_that_tells_a_length_and_comes_in_chunks_is_refused() {
    run(async {
        let both = told(|whole| {
            let (head, content) = parts(&whole);
            let mut out =
                format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", content.len()).into_bytes();
            out.extend_from_slice(content);
            out.extend_from_slice(b"\r\n0\r\n\r\n");
            Served::Bytes(out)
        })
        .await;
        let driver = open_at(&both.url).await.unwrap();
        let error = read(&driver, 0, 4096).await.unwrap_err();
        assert!(error.to_string().contains("a length, and comes in chunks"), "{error}");
    });
}

#[test]
fn what_comes_before_an_answer_has_an_end_and_no_other_protocol_is_gone_over_to() {
    run(async {
        let hints = b"HTTP/1.1 103 Early Hints\r\n\r\n";
        let some = told(|whole| Served::Bytes([hints.repeat(16), whole].concat())).await;
        assert_eq!(connections(&some).await, 1);
        let many = told(|whole| Served::Bytes([hints.repeat(17), whole].concat())).await;
        let endless = told(|_| Served::Endless(Vec::new(), hints.to_vec())).await;
        let other = told(|whole| {
            let other = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n";
            Served::Bytes([other.as_slice(), &whole].concat())
        })
        .await;
        for (server, expected) in
            [(many, "heads come before"), (endless, "heads come before"), (other, "another protocol")]
        {
            let driver = open_at(&server.url).await.unwrap();
            let error = read(&driver, 0, 4096).await.unwrap_err();
            assert!(error.to_string().contains(expected), "{expected}: {error}");
        }
    });
}

#[test]
fn an_answer_that_ends_with_its_connection_and_too_early_is_gone_on_with_from_there() {
    run(async {
        let breaks = std::sync::atomic::AtomicUsize::new(0);
        let server = told(move |whole| {
            let (head, content) = parts(&whole);
            let whole_or_half = match breaks.fetch_add(1, Ordering::Relaxed) % 2 {
                0 => content.len() / 2,
                _ => content.len(),
            };
            let head = without_length(&head);
            Served::Last([format!("{head}\r\n").as_bytes(), &content[..whole_or_half]].concat())
        })
        .await;
        let driver = open_at(&server.url).await.unwrap();
        check(&driver, SIZE).await;
        check(&driver, 4096).await;
    });
}

#[test]
fn requests_that_follow_each_other_are_the_same_but_for_their_range() {
    run(async {
        let server = told(Served::Bytes).await;
        connections(&server).await;
        let came = server.came();
        let lines = |came: &Came| -> Vec<String> {
            came.head.lines().filter(|line| !line.starts_with("range")).map(str::to_owned).collect()
        };
        let reads: Vec<_> = came.iter().filter(|came| came.method == "GET").collect();
        assert!(reads.len() > 3 && reads.iter().all(|came| lines(came) == lines(reads[0])));
        assert!(reads.iter().all(|came| came.head.matches("range:").count() == 1));
    });
}
