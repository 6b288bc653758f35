//! The HTTP of a scrape: one request a connection, and nothing more than that.

use super::collect::collect;
use super::page::{Number, Page};
use crate::control::Control;
use api::QmpError;
use block::BlockError;
use futures_util::future::{Either, select};
use futures_util::lock::Mutex;
use rt::net::{Address, Listener, Stream};
use rt::{JoinHandle, Target};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::*};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Most scrapers at a time; more are turned away.
pub(super) const MAX_CONNECTIONS: usize = 16;
/// Most bytes of a request.
pub(super) const MAX_HEAD: usize = 8 << 10;
/// How long a request may take to come.
const REQUEST: Duration = Duration::from_secs(5);
/// How long an answer may take to go.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a listener waits after a connection could not be accepted (too few descriptors).
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// What all connections share.
#[derive(Default)]
struct Shared {
    connections: AtomicUsize,
    scrapes: AtomicU64,
    refused: AtomicU64,
    started: Duration,
    /// One answer is made at a time.
    turn: Mutex<()>,
}

/// Reads where metrics are served: `unix:PATH`, `tcp:HOST:PORT`, `HOST:PORT`.
///
/// # Errors
/// A text that is none of these.
pub(crate) fn address(text: &str) -> Result<Address, QmpError> {
    if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
        return Ok(Address::Unix(PathBuf::from(path)));
    }
    let place = text.strip_prefix("tcp:").unwrap_or(text);
    let parts = place.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) =
        parts.ok_or_else(|| QmpError::generic(format!("'{text}' is neither unix:PATH nor tcp:HOST:PORT")))?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Ok(Address::Tcp { host: host.to_owned(), port })
}

/// Serves metrics from now on. The returned tasks end when nobody can connect any more.
///
/// # Errors
/// When the address can't be listened on.
pub(crate) async fn serve(control: &Control, at: &Address) -> Result<Vec<JoinHandle<()>>, QmpError> {
    let listeners = match at {
        Address::Unix(path) => Listener::bind_unix(path).await.map(|listener| vec![listener]),
        Address::Tcp { host, port } => Listener::bind_tcp(host, *port).await,
        Address::Vsock { cid, port } => Listener::bind_vsock(*cid, *port).map(|listener| vec![listener]),
    };
    let failed = |e| QmpError::generic(BlockError::os(format!("Failed to listen on '{at}'"), &e).to_string());
    let listeners = listeners.map_err(failed)?;
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let shared = Arc::new(Shared { started, ..Shared::default() });
    let door = |listener| rt::spawn_on(Target::Control, accept(control.clone(), shared.clone(), listener));
    Ok(listeners.into_iter().map(door).collect())
}

async fn accept(control: Control, shared: Arc<Shared>, listener: Listener) {
    loop {
        let accepted = match select(pin!(listener.accept()), pin!(control.ending())).await {
            Either::Left((accepted, _)) => accepted,
            Either::Right(_) => return,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "a scraper could not be accepted");
                rt::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        if shared.connections.fetch_add(1, AcqRel) >= MAX_CONNECTIONS {
            shared.connections.fetch_sub(1, AcqRel);
            shared.refused.fetch_add(1, Relaxed);
            continue;
        }
        let (control, shared) = (control.clone(), shared.clone());
        rt::spawn_on(Target::Control, async move {
            if !answer(&control, &shared, &stream).await {
                shared.refused.fetch_add(1, Relaxed);
            }
            shared.connections.fetch_sub(1, AcqRel);
        })
        .detach();
    }
}

/// Serves one connection. False if the scraper was too slow, or left.
async fn answer(control: &Control, shared: &Shared, stream: &Stream) -> bool {
    let Ok(Some(head)) = rt::timeout(REQUEST, read_head(stream)).await else { return false };
    let answer = match asked(&head) {
        Asked::Metrics { with_body } => {
            shared.scrapes.fetch_add(1, Relaxed);
            let page = {
                let _turn = shared.turn.lock().await;
                page(control, shared).await
            };
            response("200 OK", TYPE, &page, with_body)
        }
        Asked::Nothing => response("404 Not Found", TEXT, "metrics are at /metrics\n", true),
        Asked::Wrong => response("405 Method Not Allowed", TEXT, "only GET and HEAD are known\n", true),
        Asked::NoHttp => response("400 Bad Request", TEXT, "that was no HTTP request\n", true),
    };
    let sent = rt::timeout(ANSWER, stream.send_all(answer.as_bytes())).await;
    // The other side sees the end of the answer, and may have gone by now.
    stream.shutdown_write().ok();
    matches!(sent, Ok(Ok(())))
}

async fn page(control: &Control, shared: &Shared) -> String {
    let mut page = Page::default();
    page.add("cairn_start_time_seconds", &[], Number::Nanoseconds(nanoseconds(shared.started)));
    page.add("cairn_scrapes", &[], shared.scrapes.load(Relaxed));
    page.add("cairn_scrapes_refused", &[], shared.refused.load(Relaxed));
    collect(control, &mut page).await;
    page.finish()
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Reads to the end of the request's head; nothing if that never comes, or is too long.
async fn read_head(stream: &Stream) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        let got = stream.recv(&mut chunk).await.ok().filter(|got| *got > 0)?;
        head.extend_from_slice(chunk.get(..got)?);
        if head.windows(4).any(|end| end == b"\r\n\r\n") || head.windows(2).any(|end| end == b"\n\n") {
            return Some(head);
        }
        if head.len() > MAX_HEAD {
            return None;
        }
    }
}

/// What a request wants.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Metrics {
        with_body: bool,
    },
    /// Something that is not there.
    Nothing,
    /// Something that can't be done.
    Wrong,
    NoHttp,
}

fn asked(head: &[u8]) -> Asked {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let words: Vec<_> = line.split_whitespace().collect();
    let [method, target, version] = words.as_slice() else { return Asked::NoHttp };
    if !version.starts_with("HTTP/1.") {
        return Asked::NoHttp;
    }
    let path = target.split('?').next().unwrap_or_default();
    match (*method, path) {
        ("GET" | "HEAD", "/metrics" | "/") => Asked::Metrics { with_body: *method == "GET" },
        ("GET" | "HEAD", _) => Asked::Nothing,
        _ => Asked::Wrong,
    }
}

fn response(status: &str, content_type: &str, body: &str, with_body: bool) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
        body.len(),
        if with_body { body } else { "" }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_its_kind_or_is_a_host_and_a_port() {
        let tcp = |host: &str, port| Address::Tcp { host: host.to_owned(), port };
        for (text, want) in [
            ("unix:/run/m", Some(Address::Unix("/run/m".into()))),
            ("tcp:localhost:9100", Some(tcp("localhost", 9100))),
            ("127.0.0.1:0", Some(tcp("127.0.0.1", 0))),
            ("tcp:[::1]:1", Some(tcp("::1", 1))),
            ("tcp::9100", Some(tcp("", 9100))),
            ("unix:", None),
            ("/run/m", None),
            ("tcp:h:65536", None),
        ] {
            assert_eq!(address(text).ok(), want, "{text}");
        }
    }

    #[test]
    fn only_a_get_of_the_page_is_answered_with_it() {
        for (head, want) in [
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", Asked::Metrics { with_body: true }),
            ("GET /metrics?x=1 HTTP/1.0\r\n\r\n", Asked::Metrics { with_body: true }),
            ("HEAD / HTTP/1.1\r\n\r\n", Asked::Metrics { with_body: false }),
            ("GET /other HTTP/1.1\r\n\r\n", Asked::Nothing),
            ("POST /metrics HTTP/1.1\r\n\r\n", Asked::Wrong),
            ("{\"execute\": \"quit\"}\n\n", Asked::NoHttp),
            ("GET /metrics HTTP/2\r\n\r\n", Asked::NoHttp),
            ("\n\n", Asked::NoHttp),
        ] {
            assert_eq!(asked(head.as_bytes()), want, "{head:?}");
        }
    }
}
