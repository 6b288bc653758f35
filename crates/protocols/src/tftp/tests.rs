//! The driver against a server that can be told how to behave, all in this process.

use super::*;
use packet::Code;
use rt::net::Datagrams;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// What a server does wrong, or differently.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Good,
    /// It knows no options.
    Plain,
    /// It answers some of them only.
    WithoutSize,
    /// It tells of more, or of less, than there is.
    SizeOff(i64),
    /// It takes longer blocks, or more of them, than it was asked for.
    LongBlocks,
    WideWindow,
    /// Every packet is sent twice.
    Twice,
    /// Every so many packets one is lost.
    Lossy(u32),
    /// The first packets of each window change places.
    Swapped,
    /// Before each packet come others: of another port, of another kind, with another number, too long.
    Noisy,
    /// It answers nothing but rubbish.
    Rubbish,
    /// It says nothing any more behind so many blocks.
    Stalls(u64),
    /// It refuses.
    Refuses(Code),
    /// It breaks off behind so many blocks, once.
    BreaksOff(u64),
}

struct Server {
    address: SocketAddr,
    content: Arc<Mutex<Arc<Vec<u8>>>>,
    transfers: Arc<AtomicU32>,
    packets: Arc<AtomicU32>,
}

fn byte(at: u64) -> u8 {
    (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
}

fn content(size: u64) -> Arc<Vec<u8>> {
    Arc::new((0..size).map(byte).collect())
}

async fn serve(content: Arc<Vec<u8>>, manner: Manner) -> Server {
    let socket = Datagrams::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = socket.local_addr().unwrap();
    let (transfers, packets) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let content = Arc::new(Mutex::new(content));
    let server =
        Server { address, content: content.clone(), transfers: transfers.clone(), packets: packets.clone() };
    rt::spawn(async move {
        let mut request = [0; 600];
        loop {
            let (len, client) = socket.recv_from(&mut request).await.unwrap();
            let number = transfers.fetch_add(1, Ordering::Relaxed);
            if manner == Manner::Rubbish {
                for rubbish in [&b""[..], b"\0", b"\x00\x09abc", b"\x00\x06blksize\0", &[0xff; 900]] {
                    socket.send_to(rubbish, client).await.unwrap();
                }
                continue;
            }
            let request = request[..len].to_vec();
            let (content, packets) = (content.lock().clone(), packets.clone());
            rt::spawn(async move {
                let transfer = Sending {
                    socket: Datagrams::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap(),
                    other: Datagrams::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap(),
                    client,
                    content,
                    manner,
                    number,
                    packets,
                };
                transfer.run(&request).await;
            })
            .detach();
        }
    })
    .detach();
    server
}

/// One transfer, as the server sees it.
struct Sending {
    socket: Datagrams,
    other: Datagrams,
    client: SocketAddr,
    content: Arc<Vec<u8>>,
    manner: Manner,
    number: u32,
    packets: Arc<AtomicU32>,
}

impl Sending {
    async fn send(&self, packet: &[u8]) {
        let count = self.packets.fetch_add(1, Ordering::Relaxed);
        match self.manner {
            Manner::Lossy(every) if count % every == every - 1 => return,
            Manner::Twice => self.socket.send_to(packet, self.client).await.unwrap(),
            Manner::Noisy => {
                let wrong = [&[0, 3, packet[2], packet[3]][..], b"not what was sent"].concat();
                self.other.send_to(&wrong, self.client).await.unwrap();
                self.socket.send_to(b"\x00\x03\x77\x77rubbish", self.client).await.unwrap();
                self.socket.send_to(b"\x00\x04\x00\x01", self.client).await.unwrap();
                let long = [&[0, 3, packet[2], packet[3]][..], &[7; 3000]].concat();
                self.socket.send_to(&long, self.client).await.unwrap();
            }
            _ => {}
        }
        self.socket.send_to(packet, self.client).await.unwrap();
    }

    /// The next acknowledgement; nothing after a while, or when the client has ended it.
    async fn acknowledged(&self) -> Option<Option<u16>> {
        let mut packet = [0; 600];
        match rt::timeout(Duration::from_millis(700), self.socket.recv_from(&mut packet)).await {
            Err(_) => Some(None),
            Ok(received) => {
                let (_, sender) = received.unwrap();
                let is_acknowledgement = sender == self.client && packet[..2] == [0, 4];
                is_acknowledgement.then(|| Some(u16::from_be_bytes([packet[2], packet[3]])))
            }
        }
    }

    async fn run(self, request: &[u8]) {
        let words: Vec<&str> =
            request[2..].split(|byte| *byte == 0).map(|word| std::str::from_utf8(word).unwrap()).collect();
        let asked = |name: &str| {
            words.iter().position(|word| *word == name).map(|at| words[at + 1].parse::<u64>().unwrap())
        };
        let (mut block, mut window) = (asked("blksize").unwrap() as usize, asked("windowsize").unwrap());
        let size = self.content.len() as i64;
        let options = match self.manner {
            Manner::Refuses(code) => return self.send(&packet::error(code, "no such thing")).await,
            Manner::Plain => {
                (block, window) = (512, 1);
                String::new()
            }
            Manner::WithoutSize => format!("blksize\0{block}\0"),
            Manner::SizeOff(off) => {
                format!("tsize\0{}\0blksize\0{block}\0windowsize\0{window}\0", size + off)
            }
            Manner::LongBlocks => format!("tsize\0{size}\0blksize\0{}\0", block + 1),
            Manner::WideWindow => format!("tsize\0{size}\0windowsize\0{}\0", window + 1),
            Manner::Good if window == 1 => {
                // A server that knows of no windows.
                format!("tsize\0{size}\0blksize\0{block}\0")
            }
            _ => format!("tsize\0{size}\0blksize\0{block}\0windowsize\0{window}\0"),
        };
        let mut done = 0u64;
        let blocks = self.content.len() as u64 / block as u64 + 1;
        if !options.is_empty() {
            let packet = [b"\x00\x06", options.as_bytes()].concat();
            loop {
                self.send(&packet).await;
                match self.acknowledged().await {
                    Some(Some(0)) => break,
                    Some(_) => {}
                    None => return,
                }
            }
        }
        while done < blocks {
            if self.manner == Manner::Stalls(done)
                || self.manner == Manner::BreaksOff(done) && self.number == 0
            {
                return;
            }
            let mut batch: Vec<_> = (done..blocks.min(done + window)).collect();
            if self.manner == Manner::Swapped && batch.len() > 2 {
                batch.swap(0, 1);
            }
            for number in batch {
                let from = number as usize * block;
                let data = &self.content[from..self.content.len().min(from + block)];
                let head = [&[0, 3], &((number + 1) as u16).to_be_bytes()[..]].concat();
                self.send(&[&head, data].concat()).await;
            }
            match self.acknowledged().await {
                None => return,
                Some(None) => {}
                // The nearest number above what is known.
                Some(Some(number)) => {
                    let ahead = u64::from(number.wrapping_sub(done as u16));
                    // Repeated acknowledgements of what is known change nothing.
                    if ahead <= window {
                        done += ahead;
                    }
                }
            }
        }
    }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let config = rt::Config { workers: Some(1), ..rt::Config::default() };
    rt::Runtime::new(config).unwrap().block_on(test)
}

fn options(server: &Server) -> BlockdevOptionsTftp {
    BlockdevOptionsTftp {
        url: format!("tftp://{}/disk.img", server.address),
        readahead: None,
        timeout: Some(120),
        blksize: None,
        windowsize: None,
        cache_size: None,
    }
}

async fn connect(options: BlockdevOptionsTftp) -> Result<Tftp> {
    Tftp::open(Location::of(options)?).await
}

async fn connected(server: &Server) -> Tftp {
    connect(options(server)).await.unwrap()
}

/// Reads a range and compares it with what the file holds.
async fn check(driver: &Tftp, offset: u64, len: usize) {
    let (buf, result) = driver.read(offset, BufMut::with_len(len)).await;
    result.unwrap();
    for (got, at) in buf.iter().zip(offset..) {
        let expected = if at < driver.length() { byte(at) } else { 0 };
        assert_eq!(*got, expected, "byte {at}");
    }
}

async fn failed(driver: &Tftp, offset: u64) -> BlockError {
    driver.read(offset, BufMut::with_len(512)).await.1.unwrap_err()
}

const SIZE: u64 = 300_000;

#[test]
fn a_file_is_read_in_one_transfer_whatever_happens_to_the_packets() {
    let manners = [Manner::Good, Manner::Twice, Manner::Lossy(7), Manner::Swapped, Manner::Noisy];
    for (number, manner) in manners.into_iter().enumerate() {
        // Whole pieces, whole blocks, and neither.
        for size in [SIZE, 1428 * 60, PIECE * 2, 100, 0] {
            run(async {
                let server = serve(content(size), manner).await;
                let driver = connected(&server).await;
                assert_eq!(driver.length(), size, "{number}");
                check(&driver, 0, size as usize + 100).await;
                check(&driver, size / 2, 512).await;
                assert_eq!(server.transfers.load(Ordering::Relaxed), 1, "{number}");
            });
        }
    }
}

#[test]
fn repeated_packets_do_not_multiply() {
    run(async {
        let server = serve(content(1428 * 200), Manner::Twice).await;
        let driver = connect(BlockdevOptionsTftp { windowsize: Some(1), ..options(&server) }).await.unwrap();
        check(&driver, 0, 1428 * 200).await;
        // The options, 200 blocks and an empty one, each sent once, and again where an answer to a repetition came in between.
        let packets = server.packets.load(Ordering::Relaxed);
        assert!(packets <= 2 * 202, "{packets}");
    });
}

#[test]
fn the_numbers_of_blocks_begin_again() {
    run(async {
        let size = 8 * 66_000;
        let server = serve(content(size), Manner::Good).await;
        let driver = connect(BlockdevOptionsTftp { blksize: Some(8), ..options(&server) }).await.unwrap();
        check(&driver, 0, size as usize).await;
        assert_eq!(server.transfers.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn going_back_beyond_what_is_kept_costs_a_transfer_and_going_on_does_not() {
    run(async {
        let size = 3 << 20;
        let server = serve(content(size), Manner::Good).await;
        let small = BlockdevOptionsTftp { cache_size: Some(api::Size(1 << 20)), ..options(&server) };
        let driver = connect(small).await.unwrap();
        check(&driver, 2 << 20, 4096).await;
        check(&driver, 0, 4096).await;
        assert_eq!(server.transfers.load(Ordering::Relaxed), 1, "what came along is kept");
        check(&driver, 0, 3 << 20).await;
        let before = server.transfers.load(Ordering::Relaxed);
        check(&driver, 100_000, 4096).await;
        assert_eq!(server.transfers.load(Ordering::Relaxed), before + 1);
        // Several readers, here and there: one way through the file serves all who wait.
        let driver = Arc::new(driver);
        let places = [30u64, 3, 47, 22, 11, 40, 7, 1];
        let readers = places.map(|place| {
            let driver = driver.clone();
            rt::spawn(async move { check(&driver, place * PIECE, 4096).await })
        });
        for reader in readers {
            reader.await.unwrap();
        }
        let after = server.transfers.load(Ordering::Relaxed);
        assert!(after <= before + 4, "{before} {after}");
    });
}

#[test]
fn several_large_reads_side_by_side_cost_one_way_through_the_file() {
    run(async {
        let server = serve(content(8 << 20), Manner::Good).await;
        let small = BlockdevOptionsTftp { cache_size: Some(api::Size(1 << 20)), ..options(&server) };
        let driver = Arc::new(connect(small).await.unwrap());
        let readers = [3u64, 1, 0, 2].map(|place| {
            let driver = driver.clone();
            rt::spawn(async move { check(&driver, place * (2 << 20), 2 << 20).await })
        });
        for reader in readers {
            reader.await.unwrap();
        }
        assert!(server.transfers.load(Ordering::Relaxed) <= 2);
    });
}

#[test]
fn a_transfer_that_breaks_off_is_begun_once_more() {
    run(async {
        let server = serve(content(SIZE), Manner::BreaksOff(32)).await;
        let driver = connect(BlockdevOptionsTftp { timeout: Some(1), ..options(&server) }).await.unwrap();
        check(&driver, 0, SIZE as usize).await;
        assert_eq!(server.transfers.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn a_server_that_says_nothing_or_rubbish_is_given_up() {
    for manner in [Manner::Rubbish, Manner::Stalls(0), Manner::Stalls(32)] {
        run(async {
            let server = serve(content(SIZE), manner).await;
            let short = BlockdevOptionsTftp { timeout: Some(1), readahead: Some(0), ..options(&server) };
            let error = match connect(short).await {
                Err(error) => error,
                Ok(driver) => failed(&driver, 200_000).await,
            };
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
            assert!(error.to_string().contains("tftp://127.0.0.1"), "{error}");
        });
    }
}

#[test]
fn what_a_server_refuses_or_tells_wrongly_is_told() {
    let cases = [
        (Manner::Refuses(Code::NOT_FOUND), ErrorKind::NotFound, "file not found (no such thing)"),
        (Manner::Refuses(Code::ACCESS_VIOLATION), ErrorKind::Permission, "access violation"),
        (Manner::Refuses(Code::OPTIONS_REFUSED), ErrorKind::Io, "options refused"),
        (Manner::Plain, ErrorKind::Unsupported, "tsize"),
        (Manner::WithoutSize, ErrorKind::Unsupported, "tsize"),
        (Manner::LongBlocks, ErrorKind::Io, "blksize that it was not asked for"),
        (Manner::WideWindow, ErrorKind::Io, "windowsize that it was not asked for"),
        (Manner::SizeOff(1), ErrorKind::Io, "ended after 300000 of the 300001 bytes"),
        (Manner::SizeOff(1 << 40), ErrorKind::Io, "ended after 300000"),
        (Manner::SizeOff(-1), ErrorKind::Io, "longer than the 299999 bytes"),
        (Manner::SizeOff(-100_000), ErrorKind::Io, "longer than the 200000 bytes"),
        (Manner::SizeOff(i64::MIN / 2), ErrorKind::Timeout, "did not answer"),
    ];
    for (number, (manner, kind, words)) in cases.into_iter().enumerate() {
        run(async {
            let server = serve(content(SIZE), manner).await;
            let short = if kind == ErrorKind::Timeout { 1 } else { 120 };
            let error = match connect(BlockdevOptionsTftp { timeout: Some(short), ..options(&server) }).await
            {
                Err(error) => error,
                Ok(driver) => {
                    let end = driver.length().min(SIZE) - 512;
                    failed(&driver, end).await
                }
            };
            assert_eq!(error.kind(), kind, "{number}: {error}");
            assert!(error.to_string().contains(words), "{number}: {error}");
        });
    }
}

#[test]
fn a_file_with_another_size_is_not_taken_for_the_old_one() {
    run(async {
        let server = serve(content(3 << 20), Manner::Good).await;
        let small = BlockdevOptionsTftp { cache_size: Some(api::Size(1 << 20)), ..options(&server) };
        let driver = connect(small).await.unwrap();
        check(&driver, 0, 3 << 20).await;
        *server.content.lock() = content(2 << 20);
        let error = failed(&driver, 0).await;
        assert!(error.to_string().contains("has 2097152 now"), "{error}");
    });
}

#[test]
fn a_cut_or_closed_file_fails_those_who_wait_and_those_who_come() {
    run(async {
        let server = serve(content(SIZE), Manner::Stalls(0)).await;
        let driver = Arc::new(connected(&server).await);
        let waiting = {
            let driver = driver.clone();
            rt::spawn(async move { failed(&driver, 0).await })
        };
        rt::yield_now().await;
        driver.cut().unwrap()();
        assert!(waiting.await.unwrap().to_string().contains("given up on request"));
        assert!(driver.try_read(0, &mut [0; 512]).is_err());
        driver.close().await.unwrap();
        assert!(failed(&driver, 0).await.to_string().contains("given up on request"));
    });
}

#[test]
fn a_name_and_its_options_are_judged() {
    let read = |options: Options| -> Result<Location> {
        let mut options = options.nested();
        url::adapt(&mut options)?;
        Location::of(options.read()?)
    };
    let named = |name: &str| read(url::parse_filename(name).unwrap());
    let location = named("tftp://[::1]:6969//boot/a%20b;mode=octet").unwrap();
    assert_eq!((location.host.as_str(), location.port, &location.name[..]), ("::1", 6969, &b"/boot/a b"[..]));
    let plain = named("tftp://h/x").unwrap();
    assert_eq!((plain.port, plain.terms.block, plain.terms.window), (69, 1428, 16));
    let old = Options::new().with_str("filename", "tftp://h/x");
    assert_eq!(read(old.clone()).unwrap(), plain);
    assert!(read(old.with_str("url", "tftp://h/x")).is_err());
    let long = format!("tftp://h/{}", "x".repeat(401));
    for name in [
        "tftp://h/",
        "tftp://h",
        "ftp://h/x",
        "tftp://u:p@h/x",
        "tftp://h/x;mode=netascii",
        "tftp://h/%00",
        "tftp://h/%",
        &long,
    ] {
        assert!(named(name).is_err(), "{name}");
    }
    for (name, value) in [
        ("blksize", "7"),
        ("blksize", "65465"),
        ("windowsize", "0"),
        ("windowsize", "257"),
        ("cache-size", "512k"),
        ("timeout", "10001"),
        ("readahead", "100"),
        ("username", "x"),
    ] {
        assert!(read(Options::new().with_str("url", "tftp://h/x").with_str(name, value)).is_err(), "{name}");
    }
    let all =
        Options::new().with_str("url", "tftp://h/x").with_str("blksize", "512").with_str("windowsize", "4");
    let all = all.with_str("cache-size", "8M").with_str("timeout", "10000").with_str("readahead", "64k");
    assert_eq!(read(all).unwrap().terms.cache, 8 << 20);
}
