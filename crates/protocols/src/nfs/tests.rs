//! The driver against correct and faulty servers, all in this process.

use super::connection::Patience;
use super::connection::Peer;
use super::*;
use block::ExtentKind;
use nfs::{Call, Reader, Status, Xdr};
use rt::net::{Address, Listener, Stream};
use server::{Act, Disk, SIZE};
use std::time::Duration;

mod faults;
mod finding;
mod reconnect;
mod server;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

fn patient() -> Patience {
    Patience { connect: LONG, silence: LONG, longest: LONG }
}

/// Of servers that are meant to keep one waiting.
fn impatient() -> Patience {
    let short = Duration::from_millis(150);
    Patience { connect: short, silence: short, longest: short * 2 }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let config = rt::Config { workers: Some(1), ..rt::Config::default() };
    rt::Runtime::new(config).unwrap().block_on(test)
}

async fn bound() -> (Listener, u16) {
    let listener = Listener::bind_tcp("127.0.0.1", 0).await.unwrap().remove(0);
    let Some(Address::Tcp { port, .. }) = listener.local_addr().cloned() else { panic!("no TCP port") };
    (listener, port)
}

/// How the driver is opened here.
#[derive(Clone)]
struct Wanted {
    path: &'static str,
    parameters: String,
    patience: Patience,
    reconnect: Duration,
    portmapper: Option<u16>,
}

impl Wanted {
    fn at(port: u16) -> Self {
        let parameters = format!("?nfsport={port}&mountport={port}");
        Self {
            path: "/exp/disk",
            parameters,
            patience: patient(),
            reconnect: Duration::ZERO,
            portmapper: None,
        }
    }

    fn read(&self) -> (Location, Settings, Peer) {
        let name = format!("nfs://127.0.0.1{}{}", self.path, self.parameters);
        let options = location::parse_filename(&name).unwrap();
        let (location, settings) = Location::of(options.read().unwrap()).unwrap();
        let settings = Settings { reconnect: self.reconnect, ..settings };
        let peer = dialled(&location, &settings, self.patience);
        // Privileged ports are few, and tests many.
        let peer = Peer { dial: Dial::default(), portmapper: self.portmapper.unwrap_or(1), ..peer };
        (location, settings, peer)
    }

    async fn open(&self) -> Result<NfsDriver> {
        let (location, settings, peer) = self.read();
        NfsDriver::open(location, settings, peer).await
    }
}

/// A driver over a server that does everything right.
async fn over(disk: &Disk) -> NfsDriver {
    let (listener, port) = bound().await;
    rt::spawn(disk.clone().serve(listener, |_, _| Act::Answer)).detach();
    Wanted::at(port).open().await.unwrap()
}

/// Numbers that look random.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(0x9e37_79b9_7f4a_7c15 ^ seed)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

fn guest(random: &mut Random) -> block::Request {
    match random.below(4) {
        0 => block::Request::GUEST.with(Flags::FUA),
        _ => block::Request::GUEST,
    }
}

/// Random requests; what a read shows is what was written.
async fn converse(driver: &NfsDriver, random: &mut Random, steps: usize, longest: u64) {
    let mut expected = vec![0; SIZE];
    for step in 0..steps {
        let (at, len) = (random.below(SIZE as u64 - longest), random.below(longest) + 1);
        let range = at as usize..(at + len) as usize;
        match random.below(5) {
            0 => driver.flush().await.unwrap(),
            1 | 2 => {
                let byte = step as u8;
                let data = Buf::from_slice(&vec![byte; len as usize]);
                driver.write(at, data, guest(random)).await.unwrap();
                expected[range].fill(byte);
            }
            _ => {
                let (buf, result) = driver.read(at, BufMut::with_len(len as usize)).await;
                result.unwrap();
                assert!(buf[..] == expected[range], "step {step}: {len} bytes at {at}");
            }
        }
    }
    driver.flush().await.unwrap();
}

#[test]
fn what_is_written_is_read_again_whatever_the_server_takes_at_a_time() {
    for (most, answers) in [(1 << 20, 1 << 20), (65_536, 65_536), (1000, 1000), (8192, 3001)] {
        run(async {
            let disk = Disk::new();
            disk.with(|content| (content.most, content.answers) = (most, answers));
            let driver = over(&disk).await;
            let longest = if answers < 8192 { 20_000 } else { 300_000 };
            converse(&driver, &mut Random::new(most.into()), 60, longest).await;
            disk.with(|content| assert!(content.durable == content.now));
        });
    }
}

#[test]
fn replies_in_any_fragments_and_order_are_the_same_replies() {
    for seed in 1..6 {
        run(async {
            let disk = Disk::new();
            let (listener, port) = bound().await;
            let mut random = Random::new(seed);
            // Each record in fragments of odd lengths.
            let cut = move |_: &server::Asked, reply: &[u8]| {
                let mut out = Vec::new();
                let mut rest = reply;
                while !rest.is_empty() {
                    let most = if random.below(2) == 0 { 9 } else { 100_000 };
                    let (now, later) = rest.split_at(1 + random.below(rest.len().min(most) as u64) as usize);
                    let mark = now.len() as u32 | if later.is_empty() { 1 << 31 } else { 0 };
                    out.extend_from_slice(&mark.to_be_bytes());
                    out.extend_from_slice(now);
                    rest = later;
                }
                Act::Send(out)
            };
            rt::spawn(disk.serve(listener, cut)).detach();
            let driver = Wanted::at(port).open().await.unwrap();
            converse(&driver, &mut Random::new(seed), 60, 200_000).await;
        });
    }
}

#[test]
fn many_calls_are_under_way_at_a_time_and_found_again_in_any_order() {
    run(async {
        let disk = Disk::new();
        disk.with(|content| {
            content.now.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at / 4096) as u8)
        });
        let (listener, port) = bound().await;
        // Reads are answered eight at a time, the last one first.
        let mut held: Vec<Vec<u8>> = Vec::new();
        let hold = move |asked: &server::Asked, reply: &[u8]| {
            if !asked.is::<v3::Read>() {
                return Act::Answer;
            }
            held.push(server::record(reply));
            match held.len() {
                8 => Act::Send(std::mem::take(&mut held).into_iter().rev().flatten().collect()),
                _ => Act::Nothing,
            }
        };
        rt::spawn(disk.serve(listener, hold)).detach();
        let driver = Wanted::at(port).open().await.unwrap();
        for round in 0..8 {
            let reads = (0..8).map(|n| driver.read((round * 8 + n) * 4096, BufMut::with_len(4096)));
            for (n, (buf, result)) in join_all(reads).await.into_iter().enumerate() {
                result.unwrap();
                assert!(buf.iter().all(|byte| u64::from(*byte) == round * 8 + n as u64));
            }
        }
    });
}

#[test]
fn behind_the_end_there_are_zeroes_also_where_others_have_cut_the_file() {
    run(async {
        let disk = Disk::new();
        disk.with(|content| content.now = vec![7; 10_000]);
        let driver = over(&disk).await;
        assert_eq!((driver.length(), driver.allocated_size()), (10_000, Some(10_000)));
        let (buf, result) = driver.read(9_000, BufMut::with_len(4096)).await;
        result.unwrap();
        assert!(buf[..1000].iter().all(|byte| *byte == 7) && buf[1000..].iter().all(|byte| *byte == 0));
        disk.with(|content| content.now.truncate(100));
        let (buf, result) = driver.read(0, BufMut::with_len(4096)).await;
        result.unwrap();
        assert!(buf[..100].iter().all(|byte| *byte == 7) && buf[100..].iter().all(|byte| *byte == 0));
        driver.write(20_000, Buf::from_slice(&[1]), block::Request::GUEST).await.unwrap();
        assert_eq!(driver.length(), 20_001);
        driver.resize(300, PreallocMode::Off).await.unwrap();
        assert_eq!((driver.length(), disk.with(|content| content.now.len())), (300, 300));
        let error = driver.resize(400, PreallocMode::Full).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(matches!(driver.map(0, 9, Want::Status).await.unwrap().kind, ExtentKind::Stored));
    });
}

#[test]
fn reads_in_order_are_read_ahead_and_never_show_what_was_there_before() {
    run(async {
        let disk = Disk::new();
        let (listener, port) = bound().await;
        rt::spawn(disk.clone().serve(listener, |_, _| Act::Answer)).detach();
        let mut wanted = Wanted::at(port);
        wanted.parameters += "&readahead=65536";
        let driver = wanted.open().await.unwrap();
        let mut random = Random::new(3);
        converse(&driver, &mut random, 200, 3000).await;
        let before = disk.with(|content| content.calls);
        let mut expected = disk.with(|content| content.now.clone());
        for (step, at) in (0..SIZE).step_by(1024).enumerate() {
            if step % 50 == 49 {
                let place = at + random.below(3000) as usize;
                driver.write(place as u64, Buf::from_slice(&[9]), block::Request::GUEST).await.unwrap();
                expected[place] = 9;
            }
            let (buf, result) = driver.read(at as u64, BufMut::with_len(1024)).await;
            result.unwrap();
            assert!(buf[..] == expected[at..at + 1024], "at {at}");
        }
        let calls = disk.with(|content| content.calls) - before;
        assert!(calls < SIZE / 1024 / 4, "{calls} calls for {} reads", SIZE / 1024);
    });
}

#[test]
fn the_server_is_told_who_calls() {
    run(async {
        let disk = Disk::new();
        let (listener, port) = bound().await;
        rt::spawn(disk.clone().serve(listener, |_, _| Act::Answer)).detach();
        let mut wanted = Wanted::at(port);
        wanted.parameters += "&uid=77&gid=88";
        let driver = wanted.open().await.unwrap();
        assert!(driver.link.name().contains("uid=77&gid=88"));
        let credential = disk.with(|content| content.credential);
        assert_eq!(credential, Some(nfs::Credential { user: 77, group: 88 }));
    });
}

#[test]
fn a_dropped_request_is_carried_out_and_its_answer_disturbs_no_other() {
    run(async {
        let driver = over(&Disk::new()).await;
        let data = Buf::from_slice(&[8; 200_000]);
        let _ = rt::timeout(Duration::ZERO, driver.write(0, data, block::Request::GUEST)).await;
        let (buf, result) = driver.read(0, BufMut::with_len(200_000)).await;
        result.unwrap();
        assert!(buf.iter().all(|byte| *byte == 8));
    });
}

#[test]
fn a_place_is_made_and_taken_away_again_where_it_was_made_for_nothing() {
    run(async {
        let disk = Disk::new();
        let (listener, port) = bound().await;
        rt::spawn(disk.clone().serve(listener, |_, _| Act::Answer)).detach();
        let claim = async |path: &'static str| {
            let (location, _, peer) = Wanted { path, ..Wanted::at(port) }.read();
            create::claim_at(location, peer).await
        };
        let old = claim("/exp/disk").await.unwrap();
        assert!(!old.made);
        block::Claim::undo(Box::new(old)).await.unwrap();
        assert!(disk.with(|content| content.names.contains_key("disk")));
        let new = claim("/exp/new").await.unwrap();
        assert!(new.made && disk.with(|content| content.names.contains_key("new")));
        block::Claim::undo(Box::new(new)).await.unwrap();
        assert!(!disk.with(|content| content.names.contains_key("new")));
        let kept = claim("/exp/new").await.unwrap();
        block::Claim::keep(Box::new(kept));
        assert!(disk.with(|content| content.names.contains_key("new")));
        assert!(claim("/exp/folder").await.is_err());
    });
}
