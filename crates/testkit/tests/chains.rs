//! Reads through long chains: they find what was written, whatever happens to the chain meanwhile, and ask no more layers than
//! they must.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};

use api::codec::NoArguments;
use block::{
    BackendRequest, Common, Driver, DriverType, Extent, ExtentKind, Facts, Flags, Graph, Node, Open,
    OpenContext, Opened, Options, Perms, Policy, Registry, Request, Result, Share, Want,
};
use parking_lot::Mutex;
use rt::BoxFuture;
use sim::{Config, Disk, Rng, Sim};
use testkit::stack::{Session, Stack, TestImage};
use testkit::stamp::stamped;

const DRIVERS: &[&[DriverType]] = &[protocols::DRIVERS, formats::DRIVERS];
const FILES: [&str; 8] = ["/0", "/1", "/2", "/3", "/4", "/5", "/6", "/7"];
const OVERLAYS: [&str; 4] = ["/a", "/b", "/c", "/d"];
const SECTOR: u64 = 512;
const SECTORS: u64 = 96;

fn image(rng: &mut Rng, file: &'static str, size: u64) -> TestImage {
    let image = TestImage::new("qcow2", file, size);
    image.with("cluster_size", rng.pick(&["512", "1024", "4096"]).unwrap())
}

/// Layers of random sizes and clusters, each with some data, seen through what is below.
async fn make(rng: &mut Rng) -> Stack {
    let mut images: Vec<TestImage> = Vec::new();
    let count = 4 + rng.index(FILES.len() - 3);
    for (at, file) in FILES.into_iter().take(count).enumerate() {
        let size = if at + 1 == count { SECTORS } else { SECTORS / 2 + rng.below(SECTORS) } * SECTOR;
        let image = image(rng, file, size);
        images.push(match images.last() {
            None => image,
            Some(below) => image.with("backing_file", below.file).with("backing_fmt", "qcow2"),
        });
    }
    let stack = Stack::of("chain", DRIVERS, images);
    stack.create().await.unwrap();
    for (image, layer) in stack.images.iter().zip(1..) {
        let session = stack.open_image(image).await.unwrap();
        for _ in 0..rng.below(4) {
            let first = rng.below(image.size / SECTOR);
            let count = (1 + rng.below(12)).min(image.size / SECTOR - first);
            let data = stamped(first, count * SECTOR, layer);
            session.write(first * SECTOR, &data, false).await.unwrap();
        }
        session.close().await.unwrap();
    }
    stack
}

type Book = Arc<Mutex<Vec<u8>>>;

/// Changes every `of`-th piece of the disk, and reads some of what it changes.
async fn guest(session: Session, book: Book, mut rng: Rng, (number, of): (u64, u64), stop: Arc<AtomicBool>) {
    let (from, to) = (SECTORS * number / of, SECTORS * (number + 1) / of);
    let mut write = 100;
    while !stop.load(Relaxed) {
        let first = from + rng.below(to - from);
        let count = (1 + rng.below(8)).min(to - first);
        let (at, len) = (first * SECTOR, count * SECTOR);
        let range = at as usize..(at + len) as usize;
        write += of;
        if rng.chance(1, 4) {
            let data = stamped(first, len, write + number);
            session.write(at, &data, false).await.unwrap();
            book.lock()[range].copy_from_slice(&data);
        } else if rng.chance(1, 8) {
            let flags = Request::GUEST.with_if(rng.chance(1, 2), Flags::MAY_UNMAP);
            session.backend.write_zeroes(at, len, flags).await.unwrap();
            book.lock()[range].fill(0);
        } else {
            let found = session.read(at, len).await.unwrap();
            assert!(found == book.lock()[range], "sectors {first} to {} are wrong", first + count);
        }
        rt::sleep(std::time::Duration::from_micros(20)).await;
    }
}

/// Gives what is seen through a layer a place in it, and then makes something else of what is below there: whoever still
/// passes over the layer finds that.
async fn fill_below(session: &Session, rng: &mut Rng) {
    let mut layers = vec![session.backend.node()];
    while let Some(below) = layers.last().and_then(|node| node.backing()) {
        layers.push(below);
    }
    let at = 1 + rng.index(layers.len() - 2);
    let (layer, below) = (&layers[at], &layers[at + 1 + rng.index(layers.len() - at - 1)]);
    for node in [layer, below] {
        session.graph.set_writable(node, true).await.unwrap();
    }
    for round in 0..6 {
        rt::sleep(std::time::Duration::from_micros(30 + rng.below(60))).await;
        let end = layer.length().min(below.length()) / SECTOR;
        let first = rng.below(end);
        let len = (1 + rng.below(8)).min(end - first) * SECTOR;
        let (shown, read) = layer.read(first * SECTOR, rt::BufMut::with_len(len as usize)).await;
        read.unwrap();
        let job = Request::of(block::Source::Job);
        layer.write(first * SECTOR, shown.freeze(), job).await.unwrap();
        let other = stamped(first, len, 1_000_000 + round);
        below.write(first * SECTOR, rt::Buf::from_slice(&other), job).await.unwrap();
    }
    for node in [layer, below] {
        session.graph.set_writable(node, false).await.unwrap();
    }
}

async fn overlay(session: &Session, rng: &mut Rng, file: &'static str) {
    let image = image(rng, file, SECTORS * SECTOR);
    session.graph.create(image.format, image.file, image.size, image.options.clone()).await.unwrap();
    let options = Stack::of("overlay", DRIVERS, vec![image]).top;
    let node = session.graph.open_with(options, Common::default(), Policy::FOLLOW).await.unwrap();
    session.graph.insert_overlay(&session.backend.node(), &node).await.unwrap();
}

fn try_seed(seed: u64) {
    let mut rng = Rng::new(seed);
    let sim = Sim::boot(Config { workers: 1 + rng.index(2), ..Config::seeded(seed) }, Disk::default());
    sim.run(async move {
        let stack = make(&mut rng).await;
        let session = stack.open().await.unwrap();
        let book: Book = Arc::new(Mutex::new(session.read(0, SECTORS * SECTOR).await.unwrap()));
        let stop = Arc::new(AtomicBool::new(false));
        let guests: Vec<_> = (0..3)
            .map(|number| {
                let all = (session.clone(), book.clone(), rng.fork(), (number, 3), stop.clone());
                rt::spawn(guest(all.0, all.1, all.2, all.3, all.4))
            })
            .collect();
        for file in OVERLAYS {
            for _ in 0..rng.below(3) {
                rt::sleep(std::time::Duration::from_micros(rng.below(400))).await;
                fill_below(&session, &mut rng).await;
            }
            rt::sleep(std::time::Duration::from_micros(rng.below(400))).await;
            if rng.chance(1, 2) {
                overlay(&session, &mut rng, file).await;
            }
        }
        rt::sleep(std::time::Duration::from_micros(400)).await;
        stop.store(true, Relaxed);
        for guest in guests {
            guest.await.unwrap();
        }
        assert!(session.read(0, SECTORS * SECTOR).await.unwrap() == *book.lock());
        session.close().await.unwrap();
    });
}

#[test]
fn reads_find_what_was_written_while_layers_come_and_are_filled_below() {
    let number = |what| std::env::var(what).ok().and_then(|text: String| text.parse().ok());
    let (first, count) = match number("CHAINS_SEED") {
        Some(seed) => (seed, 1),
        None => (1, number("CHAINS_COUNT").unwrap_or(40)),
    };
    let failed = |seed: &u64| std::panic::catch_unwind(|| try_seed(*seed)).is_err();
    let failed: Vec<_> = (first..first + count).filter(failed).collect();
    assert!(failed.is_empty(), "seeds {failed:?} fail; CHAINS_SEED=N runs one alone");
}

// ---- how many layers are asked ----

const CLUSTER: u64 = 64 << 10;
const CLUSTERS: u64 = 160;
const LAYERS: u64 = 100;

static ASKED: AtomicU64 = AtomicU64::new(0);

/// A layer that holds one cluster of zeroes: the layer N from below has the cluster N.
struct Layer(u64);

impl Layer {
    fn extent(&self, offset: u64, len: u64) -> Extent {
        ASKED.fetch_add(1, Relaxed);
        let (start, end) = (self.0 * CLUSTER, (self.0 + 1) * CLUSTER);
        let (until, kind) = match offset {
            _ if offset < start => (start, ExtentKind::HOLE),
            _ if offset < end => (end, ExtentKind::Zero { reserved: None }),
            _ => (u64::MAX, ExtentKind::HOLE),
        };
        Extent { len: len.min(until - offset), kind }
    }
}

impl Driver for Layer {
    fn facts(&self) -> Facts {
        Facts { mapping: true, cluster_size: Some(CLUSTER), ..Facts::default() }
    }

    fn length(&self) -> u64 {
        CLUSTERS * CLUSTER
    }

    fn try_map(&self, offset: u64, len: u64, _: Want) -> Option<Extent> {
        Some(self.extent(offset, len))
    }

    fn map(&self, offset: u64, len: u64, _: Want) -> BoxFuture<'_, Result<Extent>> {
        let extent = self.extent(offset, len);
        Box::pin(async move { Ok(extent) })
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

static NUMBER: AtomicU64 = AtomicU64::new(0);

fn open(context: &mut OpenContext, _: NoArguments) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        context.backing(None).await?;
        Ok(Opened { driver: Arc::new(Layer(NUMBER.fetch_add(1, Relaxed))), filename: None })
    })
}

const LAYER: &[DriverType] =
    &[DriverType { name: "layer", open: &Open(open), supports_backing: true, ..DriverType::FORMAT }];

#[test]
fn a_read_of_a_long_chain_asks_the_top_and_the_layer_that_has_it() {
    let sim = Sim::boot(Config::seeded(1), Disk::default());
    sim.run(async {
        let graph = Graph::new(Registry::new(&[LAYER]), |_| unreachable!());
        let mut top: Option<Arc<Node>> = None;
        for number in 0..LAYERS {
            let mut options = Options::new().with_str("driver", "layer");
            options.set("node-name", block::Opt::Str(format!("n{number}")));
            if let Some(below) = &top {
                options.set("backing", block::Opt::Str(below.name().to_owned()));
            }
            top = Some(graph.open_with(options, Common::default(), Policy::FOLLOW).await.unwrap());
        }
        let perms = Perms { need: Share::READ, share: Share::ALL };
        let node = top.unwrap();
        let request = BackendRequest { label: "guest".to_owned(), node, perms, pinned: false };
        let backend = graph.attach(request).await.unwrap();
        let read_all = || {
            let before = ASKED.load(Relaxed);
            for cluster in 0..CLUSTERS {
                let mut bytes = [1; 512];
                assert_eq!(backend.try_read(cluster * CLUSTER + 1024, &mut bytes).unwrap(), 512);
                assert_eq!(bytes, [0; 512]);
            }
            ASKED.load(Relaxed) - before
        };
        // Many clusters are asked for at once, and each layer that has one of them a few times.
        let first = read_all();
        assert!(first < LAYERS * 3 + CLUSTERS * 6, "{first} questions to find out");
        let later = read_all();
        assert!(later <= 2 * CLUSTERS, "{later} questions for {CLUSTERS} reads");
        graph.detach(&backend).await.unwrap();
    });
}
