//! `blklogwrites`: what is in the log makes the disk again.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use block::{BackendRequest, BlockError, Flags, Graph, Opt, Options, Perms, Registry, Request};
use rt::{Buf, BufMut};
use sim::{Rng, Sim};

const DRIVERS: [&[block::DriverType]; 3] = [protocols::DRIVERS, formats::DRIVERS, filters::DRIVERS];
const SIZE: u64 = 16384;

fn file(name: &str) -> Options {
    Options::new().with_str("driver", "file").with_str("filename", name)
}

fn word(log: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(log[at..at + 8].try_into().unwrap())
}

/// The disk that a log makes of zeroes, and how many flushes there are.
fn replayed(log: &[u8]) -> (Vec<u8>, usize) {
    assert_eq!((word(log, 0), word(log, 8)), (0x006a_7366_7773_6872, 1));
    let (entries, sector) = (word(log, 16), word(log, 24) as usize);
    let (mut disk, mut next, mut flushes) = (vec![0; SIZE as usize], sector, 0);
    for _ in 0..entries {
        let (at, bytes) = (word(log, next) as usize * sector, word(log, next + 8) as usize * sector);
        let flags = word(log, next + 16);
        next += sector;
        flushes += usize::from(flags & 1 != 0);
        // What was discarded is left as it is.
        if flags & 4 == 0 {
            disk[at..at + bytes].copy_from_slice(&log[next..next + bytes]);
            next += bytes;
        }
    }
    (disk, flushes)
}

/// Requests that meet, and then a flush; what the disk shows, and the log.
async fn change(seed: u64, append: bool) -> (BufMut, BufMut) {
    let graph = Graph::new(Registry::new(&DRIVERS), |_| Err(BlockError::invalid("no json")));
    let mut top = Options::new().with_str("driver", "blklogwrites").with_str("node-name", "top");
    top.set("file", Opt::Dict(file("/disk")));
    top.set("log", Opt::Dict(file("/log")));
    top.set("log-append", Opt::Bool(append));
    let node = graph.add(top).await.unwrap();
    let request = BackendRequest { label: "top".to_owned(), node, perms: Perms::WRITER, pinned: false };
    let disk = graph.attach(request).await.unwrap();
    let tasks = (1..=4u64).map(|task| {
        let disk = disk.clone();
        rt::spawn(async move {
            let mut rng = Rng::new(seed * 10 + task);
            for _ in 0..12 {
                let offset = rng.below(SIZE);
                let len = 1 + rng.below((SIZE - offset).min(3000));
                let request = Request::GUEST.with_if(rng.chance(1, 3), Flags::FUA);
                if rng.chance(1, 4) {
                    disk.write_zeroes(offset, len, request).await.unwrap();
                } else {
                    let data = Buf::from_slice(&vec![rng.below(255) as u8 + 1; len as usize]);
                    disk.write(offset, data, request).await.unwrap();
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    disk.flush().await.unwrap();
    let (shown, read) = disk.read(0, BufMut::with_len(SIZE as usize)).await;
    read.unwrap();
    graph.detach(&disk).await.unwrap();
    graph.close_all().await.unwrap();
    let log = rt::fs::open(std::path::Path::new("/log"), &rt::OpenOptions::read_only()).await.unwrap();
    let len = log.len().unwrap();
    (shown, log.read_exact(0, len as usize).await.unwrap())
}

#[test]
fn a_log_makes_the_disk_again_also_when_it_was_appended_to() {
    for seed in 1..=10 {
        let sim = Sim::new(seed);
        sim.world().put("/disk", &[0; SIZE as usize]);
        sim.world().put("/log", &[]);
        sim.run(async move {
            for append in [false, true] {
                let (shown, log) = change(seed, append).await;
                let (disk, flushes) = replayed(&log);
                assert!(disk == shown[..], "seed {seed}");
                assert!(flushes > usize::from(append));
            }
        });
    }
}

#[test]
fn what_is_no_log_is_not_appended_to() {
    let sim = Sim::new(1);
    sim.world().put("/disk", &[0; SIZE as usize]);
    let mut huge = vec![0; 1024];
    huge[..8].copy_from_slice(&0x006a_7366_7773_6872u64.to_le_bytes());
    huge[8] = 1;
    huge[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
    huge[25] = 2;
    sim.world().put("/log", &huge);
    sim.world().put("/other", &[7; 1024]);
    sim.run(async {
        let graph = Graph::new(Registry::new(&DRIVERS), |_| Err(BlockError::invalid("no json")));
        for (log, why) in [("/log", "ends before entry 1"), ("/other", "magic number")] {
            let mut top = Options::new().with_str("driver", "blklogwrites").with_str("node-name", "top");
            top.set("file", Opt::Dict(file("/disk")));
            top.set("log", Opt::Dict(file(log)));
            top.set("log-append", Opt::Bool(true));
            let error = graph.add(top).await.unwrap_err();
            assert!(error.message().contains(why), "{error}");
        }
    });
}
