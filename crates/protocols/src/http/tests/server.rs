//! A small web server of which each answer can be another one.

use parking_lot::Mutex;
use rt::net::{Address, Listener, Stream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub struct Came {
    /// Its number, from 0.
    pub number: usize,
    pub method: String,
    pub target: String,
    /// Lines, as they are.
    pub head: String,
    /// The first and the last byte that it asks for.
    pub range: Option<(usize, usize)>,
}

impl Came {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let named = |line: &str| line.split_once(':').is_some_and(|(own, _)| own.eq_ignore_ascii_case(name));
        self.head.lines().find(|line| named(line))?.split_once(':').map(|(_, value)| value.trim())
    }
}

/// What is answered.
pub enum Served {
    /// These bytes; the connection goes on.
    Bytes(Vec<u8>),
    /// These bytes, and the end.
    Last(Vec<u8>),
    /// These bytes, and then nothing for ever.
    Stalls(Vec<u8>),
    /// These bytes, and then one of the others now and then.
    Drips(Vec<u8>, Vec<u8>),
    /// These bytes, so many of them at a time, fifty times a second.
    Flows(Vec<u8>, usize),
    /// Bytes without end.
    Endless(Vec<u8>, Vec<u8>),
}

type Answer = Arc<dyn Fn(&Came) -> Served + Send + Sync>;

/// A server; its port ends with it.
pub struct Server {
    pub url: String,
    pub place: String,
    came: Arc<Mutex<Vec<Came>>>,
    pub connections: Arc<AtomicUsize>,
    /// Connections that have ended.
    pub ended: Arc<AtomicUsize>,
    _end: futures_channel::oneshot::Sender<()>,
}

impl Server {
    pub async fn start(answer: impl Fn(&Came) -> Served + Send + Sync + 'static) -> Self {
        Self::start_at(0, answer).await
    }

    /// At this port.
    pub async fn start_at(port: u16, answer: impl Fn(&Came) -> Served + Send + Sync + 'static) -> Self {
        let listener = Listener::bind_tcp("127.0.0.1", port).await.unwrap().remove(0);
        let Some(Address::Tcp { host, port }) = listener.local_addr().cloned() else { panic!("no address") };
        let came = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let answer: Answer = Arc::new(answer);
        let (end, ended) = futures_channel::oneshot::channel();
        let gone = Arc::new(AtomicUsize::new(0));
        let (log, count, over) = (came.clone(), connections.clone(), gone.clone());
        let accept = async move {
            while let Ok(stream) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let (answer, log, over) = (answer.clone(), log.clone(), over.clone());
                rt::spawn(async move {
                    serve(stream, answer, log).await;
                    over.fetch_add(1, Ordering::Relaxed);
                })
                .detach();
            }
        };
        rt::spawn(async move {
            futures_util::future::select(Box::pin(accept), ended).await;
        })
        .detach();
        let place = format!("{host}:{port}");
        Self { url: format!("http://{place}/disk"), place, came, connections, ended: gone, _end: end }
    }

    /// The requests that have come.
    pub fn came(&self) -> Vec<Came> {
        self.came.lock().clone()
    }
}

async fn serve(stream: Stream, answer: Answer, log: Arc<Mutex<Vec<Came>>>) {
    let mut rest = Vec::new();
    while let Some(head) = head(&stream, &mut rest).await {
        let came = {
            let mut log = log.lock();
            let came = parsed(log.len(), head);
            log.push(came.clone());
            came
        };
        let sent = match answer(&came) {
            Served::Bytes(bytes) => stream.send_all(&bytes).await,
            Served::Last(bytes) => {
                let _ = stream.send_all(&bytes).await;
                return;
            }
            Served::Stalls(bytes) => {
                let _ = stream.send_all(&bytes).await;
                let mut gone = [0; 16];
                while stream.recv(&mut gone).await.is_ok_and(|n| n > 0) {}
                return;
            }
            Served::Drips(bytes, rest) => {
                let mut sent = stream.send_all(&bytes).await;
                for byte in rest {
                    if sent.is_ok() {
                        rt::sleep(std::time::Duration::from_millis(20)).await;
                        sent = stream.send_all(&[byte]).await;
                    }
                }
                sent
            }
            Served::Flows(bytes, piece) => {
                let mut sent = Ok(());
                for piece in bytes.chunks(piece) {
                    if sent.is_ok() {
                        sent = stream.send_all(piece).await;
                        rt::sleep(std::time::Duration::from_millis(20)).await;
                    }
                }
                sent
            }
            Served::Endless(bytes, again) => {
                let mut sent = stream.send_all(&bytes).await;
                while sent.is_ok() {
                    sent = stream.send_all(&again).await;
                    rt::yield_now().await;
                }
                sent
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

/// The next head; none at the end.
async fn head(stream: &Stream, rest: &mut Vec<u8>) -> Option<String> {
    let mut chunk = [0; 4096];
    loop {
        if let Some(end) = rest.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = rest.drain(..end + 4).collect::<Vec<u8>>();
            return String::from_utf8(head).ok();
        }
        match stream.recv(&mut chunk).await {
            Ok(n @ 1..) => rest.extend_from_slice(&chunk[..n]),
            _ => return None,
        }
    }
}

fn parsed(number: usize, head: String) -> Came {
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut came = Came {
        number,
        method: method.to_owned(),
        target: target.to_owned(),
        head: head.clone(),
        range: None,
    };
    came.range = came.header("range").and_then(|range| {
        let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()?))
    });
    came
}

/// An answer of a status with headers and a body.
pub fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// What a good server answers for this file.
pub fn good(came: &Came, file: &[u8]) -> Vec<u8> {
    const FACTS: &str = "Accept-Ranges: bytes\r\nETag: \"one\"\r\n";
    if came.method == "HEAD" {
        return format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{FACTS}\r\n", file.len()).into_bytes();
    }
    match came.range {
        Some((first, last)) if first < file.len() => {
            let last = last.min(file.len() - 1);
            let range = format!("Content-Range: bytes {first}-{last}/{}\r\n{FACTS}", file.len());
            answer("206 Partial Content", &range, &file[first..=last])
        }
        Some(_) => {
            answer("416 Range Not Satisfiable", &format!("Content-Range: bytes */{}\r\n", file.len()), b"")
        }
        None => answer("200 OK", FACTS, file),
    }
}
