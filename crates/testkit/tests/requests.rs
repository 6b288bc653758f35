//! What a request says of itself, through whole stacks: data that go only where nothing is, beside guests that write the
//! same clusters; rewrites that bitmaps don't count; and what is refused by name.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use block::{
    Backend, BackendRequest, BlockError, Common, DirtyBitmap, Discard, Driver, DriverType, ErrorKind, Facts,
    Filtered, Flags, Graph, Hook, Open, OpenContext, Opened, Opt, Options, Perms, Policy, Registry, Request,
    Result,
};
use rt::{BoxFuture, Buf, BufMut};
use sim::{Sim, World};
use std::sync::Arc;

const SECTOR: u64 = 512;
const SECTORS: u64 = 48;
const SIZE: u64 = SECTOR * SECTORS;
const GUESTS: u64 = 3;

/// What copy-on-read and `block-stream` write.
const FILL: Request = Request::JOB.with(Flags::IF_UNALLOCATED).with(Flags::UNCHANGED);

fn graph() -> Graph {
    let registry = Registry::new(&[protocols::DRIVERS, formats::DRIVERS]);
    Graph::new(registry, |_| Err(BlockError::invalid("no json")))
}

async fn attach(graph: &Graph, label: &str, file: &str) -> Arc<Backend> {
    let common = Common { discard: Discard::Unmap, ..Common::default() };
    let node = graph.open_image(file, Some("qcow2"), common, Policy::FOLLOW).await.unwrap();
    let request = BackendRequest { label: label.to_owned(), node, perms: Perms::WRITER, pinned: false };
    graph.attach(request).await.unwrap()
}

/// A base whose sectors hold their numbers, and an empty overlay on it.
async fn overlay(graph: &Graph, cluster: &str) -> Arc<Backend> {
    let options = |cluster: &str| Options::new().with_str("cluster_size", cluster);
    graph.create("qcow2", "/base", SIZE, options("512")).await.unwrap();
    let base = attach(graph, "maker", "/base").await;
    for sector in 0..SECTORS {
        let data = Buf::from_slice(&[sector as u8; SECTOR as usize]);
        base.write(sector * SECTOR, data, Request::GUEST).await.unwrap();
    }
    graph.detach(&base).await.unwrap();
    let over = options(cluster).with_str("backing_file", "/base").with_str("backing_fmt", "qcow2");
    graph.create("qcow2", "/top", SIZE, over).await.unwrap();
    attach(graph, "guest", "/top").await
}

async fn read(disk: &Backend, offset: u64, len: u64) -> BufMut {
    let (data, result) = disk.read(offset, BufMut::with_len(len as usize)).await;
    result.unwrap();
    data
}

/// Writes its own sectors at random; tells what they hold.
async fn guest(disk: Arc<Backend>, world: World, number: u64) -> Vec<(u64, u8)> {
    let mine = (0..SECTORS).filter(|sector| sector % GUESTS == number);
    let mut last: Vec<_> = mine.map(|sector| (sector, sector as u8)).collect();
    for _ in 0..12 {
        let at = world.choose(last.len() as u64) as usize;
        let byte = 100 + world.choose(100) as u8;
        let offset = last[at].0 * SECTOR;
        let byte = match world.choose(4) {
            0 => {
                let zeroes = Request::GUEST.with_if(byte & 1 == 0, Flags::MAY_UNMAP);
                disk.write_zeroes(offset, SECTOR, zeroes).await.unwrap();
                0
            }
            _ => {
                disk.write(offset, Buf::from_slice(&[byte; SECTOR as usize]), Request::GUEST).await.unwrap();
                byte
            }
        };
        last[at].1 = byte;
    }
    last
}

/// Copies all that the disk shows into its top layer, as `request` says.
async fn fill(disk: Arc<Backend>, world: World, request: Request) {
    let mut at = 0;
    while at < SIZE {
        let len = ((world.choose(8) + 1) * SECTOR).min(SIZE - at);
        let data = read(&disk, at, len).await;
        disk.write(at, data.freeze(), request).await.unwrap();
        at += len;
    }
}

/// Plays guests beside a copy; tells how many sectors are not what was written last, and whether all is in the top.
async fn play(world: World, request: Request) -> (usize, bool) {
    let graph = graph();
    let cluster = world.rng().pick(&["512", "1024", "4096"]).unwrap_or("512");
    let disk = overlay(&graph, cluster).await;
    let copy = rt::spawn(fill(disk.clone(), world.clone(), request));
    let guests: Vec<_> = (0..GUESTS).map(|n| rt::spawn(guest(disk.clone(), world.clone(), n))).collect();
    let mut wrong = 0;
    let mut last = Vec::new();
    for guest in guests {
        last.extend(guest.await.unwrap());
    }
    copy.await.unwrap();
    for (sector, byte) in last {
        wrong += usize::from(read(&disk, sector * SECTOR, SECTOR).await.iter().any(|b| *b != byte));
    }
    let (mut at, mut own) = (0, true);
    while at < SIZE {
        let status = disk.status(at, SIZE - at).await.unwrap();
        own &= status.depth == 0;
        at += status.len;
    }
    graph.detach(&disk).await.unwrap();
    graph.close_all().await.unwrap();
    (wrong, own)
}

fn over_seeds(request: Request) -> usize {
    let mut lost = 0;
    for seed in 0..150 {
        let sim = Sim::new(seed);
        let (wrong, own) = sim.run(play(sim.world().clone(), request));
        assert!(own, "seed {seed}: a sector is not in the top");
        lost += wrong;
        assert!(wrong == 0 || !request.has(Flags::IF_UNALLOCATED), "seed {seed}: {wrong} sectors are lost");
    }
    lost
}

#[test]
fn what_is_written_only_where_nothing_is_never_takes_the_place_of_a_guests_data() {
    over_seeds(FILL);
}

#[test]
fn these_interleavings_show_a_copy_that_does_not_look() {
    assert!(over_seeds(Request::JOB) > 0);
}

#[test]
fn a_rewrite_of_what_is_there_is_in_no_bitmap_and_what_can_t_be_done_is_refused_by_name() {
    let sim = Sim::new(1);
    sim.run(async {
        let graph = graph();
        let disk = overlay(&graph, "4096").await;
        let bitmap = Arc::new(DirtyBitmap::new(SIZE, 4096));
        let mut change = graph.change().await;
        change.add_hook(&disk.node(), Hook::After(bitmap.clone()));
        change.end(Ok(())).await.unwrap();
        let sector = |n: u64| Buf::from_slice(&[n as u8; SECTOR as usize]);
        disk.write(SECTOR, sector(1), FILL).await.unwrap();
        disk.write(2 * SECTOR, sector(2), Request::JOB.with(Flags::UNCHANGED)).await.unwrap();
        assert!(bitmap.is_clean());
        assert_eq!(disk.node().highest_offset(), 3 * SECTOR);
        disk.write(4096, sector(8), Request::JOB).await.unwrap();
        assert_eq!(bitmap.dirty_bytes(), 4096);

        let refused = disk.write(0, sector(0), Request::GUEST.with(Flags::COMPRESSED)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
        assert!(refused.message().contains("by whole clusters of 4096 bytes only"), "{refused}");
        let file = disk.node().primary().unwrap();
        assert!(file.write(0, sector(0), Request::GUEST.with(Flags::COMPRESSED)).await.is_err());
        // Zeroes too go only where nothing is.
        disk.write_zeroes(0, 3 * 4096, FILL).await.unwrap();
        assert_eq!(read(&disk, SECTOR, 1).await[0], 1);
        assert_eq!(read(&disk, 4096, 1).await[0], 8);
        assert!(read(&disk, 2 * 4096, 4096).await.iter().all(|byte| *byte == 0));
        assert!(disk.discard(0, SECTOR, FILL).await.is_err());
        // A file holds everything itself: there is nothing to fill.
        file.write(0, sector(0), FILL).await.unwrap();
        assert_eq!(file.read(0, BufMut::with_len(4)).await.0[..], *b"QFI\xfb");
        graph.detach(&disk).await.unwrap();
    });
}

/// A filter through whose hands all bytes go, as one that looks at them.
struct Moves {
    below: Filtered,
}

impl Driver for Moves {
    fn filtered(&self) -> Option<&Filtered> {
        Some(&self.below)
    }

    fn facts(&self) -> Facts {
        Facts { mapping: false, ..self.below.facts() }
    }
}

fn open_moves(context: &mut OpenContext, _: api::codec::NoArguments) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let below = context.filtered().await?;
        Ok(Opened { driver: Arc::new(Moves { below }), filename: None })
    })
}

#[test]
fn what_is_written_only_where_nothing_is_goes_through_a_filter_that_moves_bytes() {
    const MOVES: &[DriverType] =
        &[DriverType { name: "moves", open: &Open(open_moves), ..DriverType::FILTER }];
    Sim::new(1).run(async {
        let graph = Graph::new(Registry::new(&[protocols::DRIVERS, formats::DRIVERS, MOVES]), |_| {
            Err(BlockError::invalid("no json"))
        });
        let disk = overlay(&graph, "512").await;
        let name = Opt::Str(disk.node().name().to_owned());
        let options = Options::new().with_str("driver", "moves").with("file", name);
        let node = graph.open(options, Policy::FOLLOW).await.unwrap();
        let sector = |byte: u8| Buf::from_slice(&[byte; SECTOR as usize]);
        node.write(0, sector(7), Request::JOB).await.unwrap();
        for n in 0..2 {
            node.write(n * SECTOR, sector(9), FILL).await.unwrap();
        }
        assert_eq!(read(&disk, 0, SECTOR).await[..], [7; SECTOR as usize], "something is there");
        assert_eq!(read(&disk, SECTOR, SECTOR).await[..], [9; SECTOR as usize], "nothing was there");
        graph.release(&node).await.unwrap();
        graph.detach(&disk).await.unwrap();
    });
}
