//! Copies in the order of the disk: whichever worker is first, the copy lies in the target's file in that order, and the
//! data of several pieces are written at the same time.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use block::{AfterError, CopyControl, CopyPlan, CopyZeroes, Endpoint, PieceWitness, RangePieces, Witness};
use rt::BoxFuture;
use sim::{Config, Disk, EIO, OpKind, Plant, Sim};
use testkit::crash::inspect_qcow2;
use testkit::stack::{Stack, TestImage};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 6 * MIB;
const CLUSTER: usize = 65536;

struct AtOnce;

impl CopyControl for AtOnce {
    fn on_hold(&self) -> bool {
        false
    }

    fn wait_to_start(&self) -> BoxFuture<'_, block::Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn started(&self, _: u64) {}

    fn progressed(&self, _: u64) {}

    fn on_error<'a>(&'a self, error: &'a block::CopyError) -> BoxFuture<'a, AfterError> {
        panic!("{error:?}")
    }
}

fn stack(format: &'static str, file: &'static str) -> Stack {
    Stack::of(format, &[protocols::DRIVERS, formats::DRIVERS], vec![TestImage::new(format, file, SIZE)])
}

/// A disk with some clusters of zeroes, each of the others with a number of its own.
fn content() -> Vec<u8> {
    let mut bytes = vec![0; SIZE as usize];
    for (number, cluster) in bytes.chunks_mut(CLUSTER).enumerate().filter(|(number, _)| number % 11 != 5) {
        cluster.fill(number as u8 + 1);
    }
    bytes
}

/// Copies to a new image; most changes of the file that were under way at a time.
fn copy(seed: u64) -> usize {
    let mut disk = Disk::default();
    disk.put("/source", &content());
    let config = Config { workers: 1 + seed as usize % 3, inline: false, ..Config::seeded(seed) };
    let sim = Sim::boot(config, disk);
    let world = sim.world().clone();
    let most = Arc::new(AtomicUsize::new(0));
    let seen = most.clone();
    sim.run(async move {
        stack("qcow2", "/target").create().await.unwrap();
        let source = stack("raw", "/source").open_read_only().await.unwrap();
        let target = stack("qcow2", "/target").open().await.unwrap();
        world.watch(Some(Box::new(move |_, disk| {
            seen.fetch_max(disk.under_way(), Relaxed);
        })));
        let plan = CopyPlan {
            zeroes: CopyZeroes::Skip,
            sparse: 4096,
            ..CopyPlan::new(Endpoint::Entry(source.backend.clone()), Endpoint::Entry(target.backend.clone()))
        };
        block::copy(&Arc::new(plan), &RangePieces::new(0..SIZE), 8, &AtOnce).await.unwrap();
        world.watch(None);
        assert!(target.read(0, SIZE).await.unwrap() == content(), "seed {seed}: another content");
        let (mut at, mut expected) = (0, None);
        while at < SIZE {
            let status = target.node.status(at, SIZE - at, None).await.unwrap();
            if let Some((_, host)) = status.host {
                assert!(expected.is_none_or(|next| next == host), "seed {seed}: {at:#x} lies at {host:#x}");
                expected = Some(host + status.len);
            }
            at += status.len;
        }
        source.close().await.unwrap();
        target.close().await.unwrap();
    });
    sim.settle();
    inspect_qcow2(&stack("qcow2", "/target"), &sim.world().disk(), true)
        .unwrap_or_else(|text| panic!("seed {seed}: {text}"));
    most.load(Relaxed)
}

#[test]
fn a_copy_lies_in_the_order_of_the_disk_and_stores_several_pieces_at_a_time() {
    let most: Vec<usize> = (0..16).map(copy).collect();
    // One write at a time would make two changes: the data, and the one that makes the file longer.
    assert!(
        most.iter().filter(|most| **most > 2).count() > 8,
        "changes under way at a time, by seed: {most:?}"
    );
}

/// What a witness has seen: bytes by their places, and which of them.
#[derive(Default)]
struct Seen {
    bytes: Vec<u8>,
    known: Vec<bool>,
}

struct Scribe(Arc<Mutex<Seen>>);

struct Piece {
    seen: Arc<Mutex<Seen>>,
    at: u64,
    bytes: Vec<u8>,
}

impl Seen {
    fn note(&mut self, at: u64, bytes: &[u8]) {
        let range = at as usize..at as usize + bytes.len();
        self.known[range.clone()].fill(true);
        self.bytes[range].copy_from_slice(bytes);
    }
}

impl Witness for Scribe {
    fn piece(&self, at: u64) -> Box<dyn PieceWitness> {
        Box::new(Piece { seen: self.0.clone(), at, bytes: Vec::new() })
    }
}

impl PieceWitness for Piece {
    fn data(&mut self, data: &[u8]) {
        self.bytes.extend_from_slice(data);
    }

    fn zeroes(&mut self, len: u64) {
        self.bytes.resize(self.bytes.len() + len as usize, 0);
    }

    fn unseen(&mut self, _: u64) {
        panic!("all of this copy is looked at");
    }

    fn copied(self: Box<Self>) {
        self.seen.lock().unwrap().note(self.at, &self.bytes);
    }
}

#[test]
fn a_witness_sees_each_byte_that_is_copied_and_what_failed_not_at_all() {
    for seed in 0..12 {
        let mut disk = Disk::default();
        disk.put("/source", &content());
        disk.make_sparse("/source");
        let sim = Sim::boot(Config { inline: seed % 2 == 0, ..Config::seeded(seed) }, disk);
        let world = sim.world().clone();
        sim.run(async move {
            stack("qcow2", "/target").create().await.unwrap();
            let source = stack("raw", "/source").open_read_only().await.unwrap();
            let target = stack("qcow2", "/target").open().await.unwrap();
            let seen = Seen { bytes: vec![0xff; SIZE as usize], known: vec![false; SIZE as usize] };
            let seen = Arc::new(Mutex::new(seen));
            let plan = CopyPlan {
                zeroes: if seed % 3 == 0 { CopyZeroes::Write } else { CopyZeroes::Skip },
                sparse: 4096,
                out_of_order: seed % 4 == 1,
                compress: (seed % 5 == 4).then_some(CLUSTER as u64),
                witness: Some(Arc::new(Scribe(seen.clone()))),
                ..CopyPlan::new(
                    Endpoint::Entry(source.backend.clone()),
                    Endpoint::Entry(target.backend.clone()),
                )
            };
            let plan = Arc::new(plan);
            world.plant(Plant::nth_of(OpKind::Write, seed, EIO));
            let pieces = RangePieces::new(0..SIZE);
            let failed = block::copy(&plan, &pieces, 8, &block::AtOnce).await.is_err();
            world.unplant();
            if failed {
                let missed = |(byte, known): (u8, &bool)| byte != 0 && !known;
                assert!(content().into_iter().zip(&seen.lock().unwrap().known).any(missed), "seed {seed}");
                block::copy(&plan, &pieces, 8, &block::AtOnce).await.unwrap();
            }
            let seen = seen.lock().unwrap();
            // What it did not hear of needed no copying: the target shows zeroes there, as the source does.
            let shown =
                seen.bytes.iter().zip(&seen.known).map(|(byte, known)| if *known { *byte } else { 0 });
            assert!(shown.eq(content()), "seed {seed}");
        });
    }
}
