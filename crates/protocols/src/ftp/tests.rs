//! The driver against a server that can be told how to behave, all in this process.

use super::*;
use block::Options;
use parking_lot::Mutex;
use rt::net::{Address, Listener, Stream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

mod commands;

/// What a server does wrong, or differently. `""` stands for its greeting, a command's name for its reply to it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Manner {
    Good,
    /// It knows only PASV, and its answer leads elsewhere.
    Old,
    /// It says twice that a transfer has ended.
    Doubtful,
    /// It says what it should, slowly, in several lines, and announces it before.
    Wordy,
    /// It says nothing.
    Stalls(&'static str),
    /// It says something else than a reply should be.
    Says(&'static str, &'static str),
    /// It never ends what it says.
    Endless(&'static str),
    /// It closes the connection.
    Leaves(&'static str),
    /// Its port for data is one that nobody listens at.
    NoDataPort,
    /// It says that data come, and none do.
    NoData,
    /// A byte of the data comes now and then.
    Drips,
    /// It tells of another size.
    SizeOff(i64),
    /// It says so much of the file and no more, in each transfer, and whether that was all.
    Parts(usize, &'static str),
    /// It ends a transfer, and says why, each after such a pause.
    Late(Duration, &'static str),
    /// After a transfer that was ended before its time it takes no other data connection.
    Demanding,
    /// Only so many users are let in at a time.
    Few(u32),
    /// Each session ends after so many transfers.
    ShortSessions(u32),
}

struct Server {
    port: u16,
    shared: Arc<Knowledge>,
}

/// What the sessions of a server share.
struct Knowledge {
    manner: Manner,
    content: Mutex<Arc<Vec<u8>>>,
    sessions: AtomicU32,
    logins: AtomicU32,
    transfers: AtomicU32,
    commands: Mutex<Vec<String>>,
}

impl Server {
    fn transfers(&self) -> u32 {
        self.shared.transfers.load(Ordering::Relaxed)
    }

    fn logins(&self) -> u32 {
        self.shared.logins.load(Ordering::Relaxed)
    }
}

fn byte(at: u64) -> u8 {
    (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
}

fn content(size: u64) -> Arc<Vec<u8>> {
    Arc::new((0..size).map(byte).collect())
}

async fn listen() -> (Listener, u16) {
    let listener = Listener::bind_tcp("127.0.0.1", 0).await.unwrap().remove(0);
    let Some(Address::Tcp { port, .. }) = listener.local_addr().cloned() else { unreachable!() };
    (listener, port)
}

async fn serve(content: Arc<Vec<u8>>, manner: Manner) -> Server {
    let (listener, port) = listen().await;
    let shared = Arc::new(Knowledge {
        manner,
        content: Mutex::new(content),
        sessions: AtomicU32::new(0),
        logins: AtomicU32::new(0),
        transfers: AtomicU32::new(0),
        commands: Mutex::default(),
    });
    let all = shared.clone();
    rt::spawn(async move {
        loop {
            let stream = listener.accept().await.unwrap();
            let guest = Guest { stream, all: all.clone(), data: None, rest: 0, transfers: 0, demands: false };
            rt::spawn(async move {
                guest.all.sessions.fetch_add(1, Ordering::Relaxed);
                let all = guest.all.clone();
                guest.serve().await;
                all.sessions.fetch_sub(1, Ordering::Relaxed);
            })
            .detach();
        }
    })
    .detach();
    Server { port, shared }
}

/// A session, as the server sees it.
struct Guest {
    stream: Stream,
    all: Arc<Knowledge>,
    data: Option<Listener>,
    rest: usize,
    transfers: u32,
    demands: bool,
}

impl Guest {
    /// Answers a command, in the server's manner; nothing when the session has ended.
    async fn say(&self, to: &str, text: &str) -> Option<()> {
        let line = format!("{text}\r\n");
        match self.all.manner {
            Manner::Stalls(at) if at == to => {
                rt::sleep(LONG).await;
                None
            }
            Manner::Leaves(at) if at == to => None,
            Manner::Says(at, other) if at == to => self.send(&format!("{other}\r\n")).await,
            Manner::Endless(at) if at == to => {
                self.send(&format!("{}-and more\r\n", &text[..3])).await?;
                while self.send(&"and more\r\n".repeat(100)).await.is_some() {}
                None
            }
            Manner::Wordy => {
                let code = &text[..3];
                let announced = if to.is_empty() { "120 soon\r\n" } else { "" };
                for byte in format!("{announced}{code}-{}\r\n999 x\r\n{code}\r\n", &text[4..]).bytes() {
                    self.stream.send_all(&[byte]).await.ok()?;
                }
                Some(())
            }
            _ => self.send(&line).await,
        }
    }

    async fn send(&self, text: &str) -> Option<()> {
        self.stream.send_all(text.as_bytes()).await.ok()
    }

    async fn line(&self) -> Option<String> {
        let mut line = Vec::new();
        loop {
            let mut byte = [0];
            if self.stream.recv(&mut byte).await.ok()? == 0 {
                return None;
            }
            match byte[0] {
                b'\n' => return Some(String::from_utf8(line).unwrap().trim_end().to_owned()),
                byte => line.push(byte),
            }
        }
    }

    async fn serve(mut self) -> Option<()> {
        if let Manner::Few(most) = self.all.manner
            && self.all.sessions.load(Ordering::Relaxed) > most
        {
            return self.send("421 too many users\r\n").await;
        }
        self.say("", "220 ready").await?;
        loop {
            let line = self.line().await?;
            self.all.commands.lock().push(line.clone());
            let (verb, argument) = line.split_once(' ').unwrap_or((&line, ""));
            let size = self.all.content.lock().len() as i64;
            match (verb, self.all.manner) {
                ("USER", _) => self.say(verb, "331 password").await?,
                ("PASS", _) => {
                    self.all.logins.fetch_add(1, Ordering::Relaxed);
                    self.say(verb, if argument == "secret" { "230 in" } else { "530 not 'hunter2'" }).await?;
                }
                ("TYPE", _) => self.say(verb, "200 ok").await?,
                ("FEAT", _) => self.say(verb, "211-Features\r\n UTF8\r\n211 end").await?,
                ("OPTS", _) => self.say(verb, "202 always").await?,
                ("SIZE", _) if argument != "disk.img" => self.say(verb, "550 no such file").await?,
                ("SIZE", Manner::SizeOff(off)) => self.say(verb, &format!("213 {}", size + off)).await?,
                ("SIZE", _) => self.say(verb, &format!("213 {size}")).await?,
                ("MDTM", _) => self.say(verb, "213 20260102030405").await?,
                ("EPSV", Manner::Old) => self.say(verb, "500 what").await?,
                ("EPSV" | "PASV", _) => {
                    let (listener, mut port) = listen().await;
                    if self.all.manner == Manner::NoDataPort {
                        drop(listener);
                        port = 1;
                    } else {
                        self.data = Some(listener);
                    }
                    let text = match verb {
                        "EPSV" => format!("229 here (|||{port}|)"),
                        _ => format!("227 there (192,0,2,1,{},{})", port >> 8, port & 255),
                    };
                    self.say(verb, &text).await?;
                }
                ("REST", _) => {
                    self.rest = argument.parse().unwrap();
                    self.say(verb, "350 go on").await?;
                }
                ("RETR", _) => self.retrieve().await?,
                ("QUIT", _) => return self.say(verb, "221 bye").await,
                _ => self.send("502 no such command\r\n").await?,
            }
            if self.all.manner == Manner::ShortSessions(self.transfers) {
                return None;
            }
        }
    }

    async fn retrieve(&mut self) -> Option<()> {
        self.all.transfers.fetch_add(1, Ordering::Relaxed);
        self.transfers += 1;
        let from = std::mem::take(&mut self.rest);
        let data = self.data.take()?.accept().await.ok()?;
        self.say("RETR", "150 here it comes").await?;
        if self.all.manner == Manner::NoData {
            rt::sleep(LONG).await;
        }
        if self.demands {
            drop(data);
            return self.say("RETR'", "522 session reuse required").await;
        }
        let content = self.all.content.lock().clone();
        let (part, said) = match self.all.manner {
            Manner::Late(_, said) => (&[][..], said),
            Manner::Parts(len, said) => (&content[from..content.len().min(from + len)], said),
            _ => (&content[from..], "226 done"),
        };
        if self.all.manner == Manner::Drips {
            for byte in part {
                rt::sleep(DRIP).await;
                data.send_all(&[*byte]).await.ok()?;
            }
        }
        let sent = data.send_all(part).await;
        let pause = if let Manner::Late(pause, _) = self.all.manner { Some(pause) } else { None };
        if let Some(pause) = pause {
            rt::sleep(pause).await;
        }
        drop(data);
        if let Some(pause) = pause {
            rt::sleep(pause).await;
        }
        self.demands = self.all.manner == Manner::Demanding && sent.is_err();
        if self.all.manner == Manner::Doubtful && sent.is_err() {
            return self.send("426 you went away\r\n226 done\r\n").await;
        }
        self.say("RETR'", if sent.is_ok() { said } else { "426 you went away" }).await
    }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let config = rt::Config { workers: Some(1), ..rt::Config::default() };
    rt::Runtime::new(config).unwrap().block_on(test)
}

/// Long enough for any machine: only a test that hangs meets it.
const LONG: Duration = Duration::from_secs(120);
/// For servers that are to be given up.
const SHORT: Duration = Duration::from_millis(200);
/// Between two bytes of one that sends few: none of its pauses is too long.
const DRIP: Duration = Duration::from_millis(20);

fn options(text: &str) -> Options {
    text.split(',')
        .filter_map(|word| word.split_once('='))
        .fold(Options::new(), |options, (name, value)| options.with_str(name, value))
}

fn located(port: u16) -> (Location, Secret) {
    let given = options(&format!("url=ftp://me:secret@127.0.0.1:{port}/disk.img")).read().unwrap();
    Location::of(given, false, &Objects::default()).unwrap()
}

async fn connect_within(server: &Server, timeout: Duration) -> Result<Ftp> {
    let (location, password) = located(server.port);
    Ftp::open(Location { timeout, ..location }, password, Objects::default()).await
}

async fn connected(server: &Server) -> Ftp {
    connect_within(server, LONG).await.unwrap()
}

/// Reads a range and compares it with what the file holds.
async fn check(driver: &Ftp, offset: u64, len: usize) {
    let (buf, result) = driver.read(offset, BufMut::with_len(len)).await;
    result.unwrap();
    for (got, at) in buf.iter().zip(offset..) {
        let expected = if at < driver.length() { byte(at) } else { 0 };
        assert_eq!(*got, expected, "byte {at}");
    }
}

/// The error of opening a file, or of reading it.
async fn failure(server: &Server, timeout: Duration) -> BlockError {
    match connect_within(server, timeout).await {
        Err(error) => error,
        Ok(driver) => driver.read(4096, BufMut::with_len(4096)).await.1.unwrap_err(),
    }
}

const SIZE: u64 = 1 << 20;

#[test]
fn a_run_of_reads_is_one_transfer_and_other_places_are_found() {
    for manner in [Manner::Good, Manner::Old, Manner::Wordy, Manner::Doubtful] {
        run(async {
            let server = serve(content(SIZE + 100), manner).await;
            let (location, password) = located(server.port);
            let unaided = Location { readahead: 0, timeout: LONG, ..location };
            let driver = Ftp::open(unaided, password, Objects::default()).await.unwrap();
            assert_eq!(driver.length(), SIZE + 100);
            for at in (0..SIZE + 4096).step_by(64 << 10) {
                check(&driver, at, 64 << 10).await;
            }
            assert_eq!(server.transfers(), 1, "{manner:?}");
            check(&driver, 700_001, 4096).await;
            check(&driver, 3, 1).await;
            check(&driver, SIZE - 5, 200).await;
            assert_eq!((server.transfers(), server.logins()), (4, 2), "{manner:?}");
        });
    }
}

#[test]
fn many_readers_share_a_few_sessions() {
    for (manner, most) in [(Manner::Good, 4), (Manner::Few(1), 1), (Manner::Few(2), 2)] {
        run(async {
            let server = serve(content(8 << 20), manner).await;
            let driver = Arc::new(connected(&server).await);
            let readers: Vec<_> = (0..32u64)
                .map(|n| {
                    let driver = driver.clone();
                    rt::spawn(async move { check(&driver, n * 7 % 32 * (256 << 10) + 99, 4096).await })
                })
                .collect();
            for reader in readers {
                reader.await.unwrap();
            }
            assert_eq!(server.logins(), most, "{manner:?}");
        });
    }
}

#[test]
fn a_server_that_stops_at_any_step_is_given_up_in_time() {
    for at in ["", "USER", "PASS", "TYPE", "SIZE", "MDTM", "EPSV", "REST", "RETR"] {
        run(async {
            let server = serve(content(SIZE), Manner::Stalls(at)).await;
            let error = failure(&server, SHORT).await;
            assert_eq!(error.kind(), ErrorKind::Timeout, "{at}: {error}");
            let name = format!("ftp://me@127.0.0.1:{}/disk.img", server.port);
            assert!(error.to_string().contains(&name), "{error}");
        });
    }
    run(async {
        let server = serve(content(SIZE), Manner::NoData).await;
        let error = failure(&server, SHORT).await;
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    });
}

#[test]
fn a_server_that_sends_a_byte_now_and_then_is_given_up_in_time() {
    run(async {
        let server = serve(content(SIZE), Manner::Drips).await;
        let error = failure(&server, SHORT).await;
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(
            error.to_string().contains(&format!("ftp://me@127.0.0.1:{}/disk.img", server.port)),
            "{error}"
        );
    });
}

#[test]
fn a_server_that_says_something_else_anywhere_is_told_of() {
    for at in ["", "USER", "PASS", "TYPE", "SIZE", "EPSV", "REST", "RETR"] {
        for (says, words) in [
            ("SSH-2.0-OpenSSH", "does not speak FTP"),
            ("", "does not speak FTP"),
            ("559 no", "559 no"),
            ("199 wait", ""),
        ] {
            // One that has no EPSV may have PASV, and one that announces anything may send data.
            if matches!((at, says), ("EPSV", "559 no") | ("RETR", "199 wait")) {
                continue;
            }
            run(async {
                let server = serve(content(SIZE), Manner::Says(at, says)).await;
                let error = failure(&server, SHORT).await.to_string();
                assert!(error.contains(words), "{at} {says}: {error}");
            });
        }
        for manner in [Manner::Endless(at), Manner::Says(at, LONG_LINE)] {
            run(async {
                let server = serve(content(SIZE), manner).await;
                let error = failure(&server, LONG).await.to_string();
                assert!(error.contains("says more than"), "{manner:?}: {error}");
            });
        }
        run(async {
            let server = serve(content(SIZE), Manner::Leaves(at)).await;
            let error = failure(&server, SHORT).await.to_string();
            assert!(error.contains("closed the connection"), "{at}: {error}");
        });
    }
}

const LONG_LINE: &str = {
    const BYTES: [u8; 5000] = [b'2'; 5000];
    match std::str::from_utf8(&BYTES) {
        Ok(text) => text,
        Err(_) => "",
    }
};

#[test]
fn what_a_server_refuses_is_told_in_its_words() {
    let cases = [
        (Manner::Says("PASS", "530 away"), ErrorKind::Permission, "does not let the user in: 530 away"),
        (Manner::Says("PASS", "332 account"), ErrorKind::Permission, "332 account"),
        (Manner::Says("SIZE", "550 no such file"), ErrorKind::NotFound, "have the file: 550 no such file"),
        (
            Manner::Says("SIZE", "502 unknown"),
            ErrorKind::Unsupported,
            "size of the file (SIZE, RFC 3659): 502",
        ),
        (Manner::Says("SIZE", "213 many"), ErrorKind::Unsupported, "213 many"),
        (Manner::Says("SIZE", "213 9999999999999999999"), ErrorKind::Limit, "9999999999999999999 bytes"),
        (Manner::Says("EPSV", "229 (|||0|)"), ErrorKind::Io, "open a port for data (EPSV): 229"),
        (
            Manner::Says("REST", "502 no"),
            ErrorKind::Io,
            "begin in the middle of a file (REST, RFC 3659): 502 no",
        ),
        (Manner::Says("RETR", "550 gone"), ErrorKind::NotFound, "send the file: 550 gone"),
        (Manner::Says("", "421 too many users"), ErrorKind::Io, "421 too many users"),
        (Manner::NoDataPort, ErrorKind::Io, "Failed to connect for data: Connection refused"),
    ];
    for (manner, kind, words) in cases {
        run(async {
            let server = serve(content(SIZE), manner).await;
            let timeout = if manner == Manner::NoDataPort { SHORT } else { LONG };
            let error = failure(&server, timeout).await;
            assert_eq!(error.kind(), kind, "{manner:?}: {error}");
            assert!(error.to_string().contains(words), "{manner:?}: {error}");
        });
    }
}

#[test]
fn a_size_that_is_not_the_files_is_told_of() {
    run(async {
        let server = serve(content(SIZE), Manner::SizeOff(4096)).await;
        let driver = connect_within(&server, SHORT).await.unwrap();
        let error = driver.read(SIZE, BufMut::with_len(4096)).await.1.unwrap_err().to_string();
        assert!(error.contains("ended after 1048576 of 1052672 bytes"), "{error}");
        check(&driver, SIZE - 4096, 4096).await;
    });
    run(async {
        let server = serve(content(SIZE), Manner::SizeOff(-4096)).await;
        let driver = connected(&server).await;
        let error = driver.read(SIZE - 8192, BufMut::with_len(4096)).await.1.unwrap_err().to_string();
        assert!(error.contains("more than the 1044480 bytes"), "{error}");
        check(&driver, 0, 4096).await;
    });
}

#[test]
fn a_transfer_that_breaks_off_goes_on_on_another_connection() {
    for said in ["226 done", "426 broken", "451 read error"] {
        run(async {
            let server = serve(content(SIZE), Manner::Parts(300_000, said)).await;
            let driver = connected(&server).await;
            for at in (0..SIZE).step_by(64 << 10) {
                check(&driver, at, 64 << 10).await;
            }
            assert!(server.transfers() <= 8, "{}", server.transfers());
            // Also where no transfer brings as much as is asked for at a time.
            let driver = connected(&server).await;
            check(&driver, 0, SIZE as usize).await;
        });
    }
    run(async {
        let server = serve(content(SIZE), Manner::Parts(0, "451 read error")).await;
        let error = failure(&server, SHORT).await.to_string();
        assert!(error.contains("ended after 4096 of 1048576 bytes: 451 read error"), "{error}");
    });
    run(async {
        // Neither pause is longer than the time for it, both are.
        let manner = Manner::Late(Duration::from_secs(2), "451 disk on fire");
        let server = serve(content(SIZE), manner).await;
        let error = failure(&server, Duration::from_secs(3)).await.to_string();
        assert!(error.contains("ended after 4096 of 1048576 bytes: 451 disk on fire"), "{error}");
    });
    run(async {
        let server = serve(content(SIZE), Manner::ShortSessions(1)).await;
        let driver = connected(&server).await;
        for at in [0, 500_000, 100_000, 900_000] {
            check(&driver, at, 4096).await;
        }
    });
}

#[test]
fn a_server_that_wants_one_transfer_a_session_has_a_session_for_each_place() {
    run(async {
        // Longer than what the sockets take: a transfer that is ended was not sent as a whole.
        let server = serve(content(24 << 20), Manner::Demanding).await;
        let (location, password) = located(server.port);
        let unaided = Location { readahead: 0, timeout: LONG, ..location };
        let driver = Arc::new(Ftp::open(unaided, password, Objects::default()).await.unwrap());
        let readers: Vec<_> = (0..32u64)
            .map(|n| {
                let driver = driver.clone();
                rt::spawn(async move { check(&driver, n * 7 % 32 * (300 << 10) + 99, 4096).await })
            })
            .collect();
        for reader in readers {
            reader.await.unwrap();
        }
        assert!(server.logins() <= 32, "{}", server.logins());
        assert!(server.transfers() <= 32 + 4, "{}", server.transfers());
    });
}

#[test]
fn a_file_that_has_changed_is_not_taken_for_the_old_one() {
    run(async {
        let server = serve(content(SIZE), Manner::ShortSessions(1)).await;
        let driver = connected(&server).await;
        check(&driver, 0, 4096).await;
        *server.shared.content.lock() = content(SIZE / 2);
        let error = loop {
            // What was read ahead is as it was.
            if let Err(error) = driver.read(900_000, BufMut::with_len(4096)).await.1 {
                break error.to_string();
            }
        };
        assert!(error.contains("has changed since it was opened"), "{error}");
    });
}

#[test]
fn a_cut_or_closed_file_fails_those_who_wait_and_those_who_come() {
    run(async {
        let server = serve(content(SIZE), Manner::NoData).await;
        let driver = Arc::new(connected(&server).await);
        let waiting = {
            let driver = driver.clone();
            rt::spawn(async move { driver.read(0, BufMut::with_len(4096)).await })
        };
        while server.transfers() == 0 {
            rt::yield_now().await;
        }
        driver.cut().unwrap()();
        let (buf, result) = waiting.await.unwrap();
        assert_eq!(buf.len(), 4096);
        assert!(result.unwrap_err().to_string().contains("given up on request"));
        driver.close().await.unwrap();
        let (_, result) = driver.read(0, BufMut::with_len(4096)).await;
        assert!(result.unwrap_err().to_string().contains("given up on request"));
        assert!(driver.try_read(0, &mut [0; 512]).is_err());
    });
}

#[test]
fn reads_that_are_dropped_leave_the_file_usable() {
    run(async {
        let server = serve(content(SIZE), Manner::Good).await;
        let driver = Arc::new(connected(&server).await);
        for n in 0..40u64 {
            let read = {
                let driver = driver.clone();
                async move { driver.read(n * 25_000, BufMut::with_len(100_000)).await.1 }
            };
            // A few steps of it, and no more.
            let mut read = Box::pin(read);
            for _ in 0..n % 5 {
                std::future::poll_fn(|cx| {
                    let _ = read.as_mut().poll(cx);
                    std::task::Poll::Ready(())
                })
                .await;
                rt::yield_now().await;
            }
        }
        check(&driver, 1234, 500_000).await;
    });
}
