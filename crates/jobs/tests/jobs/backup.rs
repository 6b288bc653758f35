//! Backups of images in memory, while guests keep writing.
use crate::support::*;
use api::{BitmapSyncMode, BlockdevBackup, BlockdevOnError, MirrorSyncMode, OnCbwError};
use block::*;
use jobs::*;
use rt::{Buf, BufMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::time::Duration;

/// What a backup copies together.
const UNIT: u64 = 65536;
const SIZE: u64 = 9 * UNIT + 3 * CLUSTER;
const BLOCK: u64 = 512;
const EIO: i32 = rt::Errno::IO.raw_os_error();

struct World {
    graph: Graph,
    jobs: Jobs,
    events: Arc<Memory>,
    source: Arc<Node>,
    target: Arc<Node>,
    stop: Arc<AtomicBool>,
}

type Guest = rt::JoinHandle<Vec<(u64, u8)>>;

impl World {
    /// A source over a base, both with random clusters, and an empty target.
    async fn new(round: u64) -> Self {
        seed(round + 1);
        FAULTS.lock().clear();
        let (events, graph) = (Arc::new(Memory::default()), graph());
        let base = layer(&graph, "base", SIZE, None, false).await;
        fill(&graph, &base, 1).await;
        graph.set_writable(&base, false).await.unwrap();
        let source = layer(&graph, "source", SIZE, Some("base"), false).await;
        fill(&graph, &source, 2).await;
        let target = layer(&graph, "target", SIZE, None, false).await;
        Self { graph, jobs: Jobs::new(events.clone()), events, source, target, stop: Arc::default() }
    }

    fn guests(&self, entry: &Arc<Backend>) -> Vec<Guest> {
        (0..3).map(|n| rt::spawn(guest(entry.clone(), n, 3, self.stop.clone()))).collect()
    }

    /// Begins a backup, and answers what the source showed at the moment.
    async fn begin(&self, request: BlockdevBackup) -> Vec<u8> {
        let mut change = self.graph.change().await;
        change.quiesce(std::slice::from_ref(&self.source)).await.unwrap();
        let before = content(&self.source).await;
        let nodes = (&self.source, &self.target);
        let prepared =
            prepare_backup(&self.graph, &self.jobs, &mut change, request, nodes, None).await.unwrap();
        change.end(Ok(())).await.unwrap();
        prepared.start();
        before
    }

    async fn ended(&self) -> String {
        if let Some(job) = self.jobs.find("j") {
            job.concluded().await;
        }
        let events = self.events.0.lock().clone();
        let end = events.into_iter().find(|e| e.starts_with("COMPLETED") || e.starts_with("CANCELLED"));
        end.unwrap()
    }

    async fn until_told(&self, what: &str) {
        while !self.events.0.lock().iter().any(|e| e.starts_with(what)) {
            rt::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Stops the guests; the last of what they wrote is there, and nothing of the job is.
    async fn check_end(&self, entry: &Arc<Backend>, guests: Vec<Guest>) {
        self.stop.store(true, Relaxed);
        let mut writes = Vec::new();
        for guest in guests {
            writes.extend(guest.await.unwrap());
        }
        assert!(Arc::ptr_eq(&entry.node(), &self.source), "the guest is at the source again");
        let after = content(&self.source).await;
        for (block, byte) in writes {
            let at = (block * BLOCK) as usize;
            assert!(
                after[at..at + BLOCK as usize].iter().all(|b| *b == byte),
                "block {block} lost its last write"
            );
        }
        assert!(self.source.blocked_by().is_empty() && self.target.blocked_by().is_empty());
        assert!(self.graph.nodes().iter().all(|node| node.filtered().is_none()), "the filter is gone");
        assert!(self.graph.users(&self.target).is_empty());
    }
}

fn request(sync: MirrorSyncMode) -> BlockdevBackup {
    BlockdevBackup {
        job_id: Some("j".to_owned()),
        device: "source".to_owned(),
        target: "target".to_owned(),
        sync,
        speed: None,
        bitmap: None,
        bitmap_mode: None,
        compress: None,
        on_source_error: None,
        on_target_error: None,
        on_cbw_error: None,
        auto_finalize: None,
        auto_dismiss: None,
        filter_node_name: None,
        discard_source: None,
        x_perf: None,
    }
}

async fn fill(graph: &Graph, node: &Arc<Node>, byte: u8) {
    let entry = writer(graph, node).await;
    for at in (0..node.length()).step_by(CLUSTER as usize) {
        if random(3) == 0 {
            write(&entry, at, &[byte; CLUSTER as usize]).await;
        }
    }
    graph.detach(&entry).await.unwrap();
}

/// A guest that writes until `stop`: it has blocks of its own, and returns what it wrote to them last.
async fn guest(entry: Arc<Backend>, number: u64, guests: u64, stop: Arc<AtomicBool>) -> Vec<(u64, u8)> {
    let mut last: Vec<(u64, u8)> = Vec::new();
    while !stop.load(Relaxed) {
        let block = random(SIZE / BLOCK / guests) * guests + number;
        let byte = 3 + random(250) as u8;
        write(&entry, block * BLOCK, &[byte; BLOCK as usize]).await;
        last.retain(|(b, _)| *b != block);
        last.push((block, byte));
        give_way().await;
    }
    last
}

#[test]
fn a_backup_under_writers_is_the_disk_of_the_moment_it_began() {
    on_control(async {
        for round in 0..25 {
            let world = World::new(round).await;
            let entry = writer(&world.graph, &world.source).await;
            let guests = world.guests(&entry);
            for _ in 0..random(50) {
                rt::yield_now().await;
            }
            let before = world.begin(request(MirrorSyncMode::Full)).await;
            assert!(world.ended().await.starts_with(&format!("COMPLETED {SIZE}/{SIZE}")));
            assert!(content(&world.target).await == before, "round {round}");
            world.check_end(&entry, guests).await;
        }
    });
}

#[test]
fn a_backup_goes_on_when_another_of_the_same_node_ends() {
    on_control(async {
        for round in 0..25 {
            let world = World::new(round).await;
            let second = layer(&world.graph, "second", SIZE, None, false).await;
            let entry = writer(&world.graph, &world.source).await;
            let guests = world.guests(&entry);
            let before = world.begin(request(MirrorSyncMode::Full)).await;
            let other = BlockdevBackup {
                job_id: Some("other".to_owned()),
                target: "second".to_owned(),
                ..request(MirrorSyncMode::None)
            };
            backup(&world.graph, &world.jobs, other, (&world.source, &second)).await.unwrap();
            for _ in 0..random(100) {
                rt::yield_now().await;
            }
            let other = world.jobs.find("other").unwrap();
            other.cancel(true).unwrap();
            other.concluded().await;
            if let Some(job) = world.jobs.find("j") {
                job.concluded().await;
            }
            let events = world.events.0.lock().clone();
            let whole = format!("COMPLETED {SIZE}/{SIZE}");
            assert!(events.iter().any(|e| e.starts_with(&whole)), "round {round}: {events:?}");
            assert!(content(&world.target).await == before, "round {round}");
            world.check_end(&entry, guests).await;
        }
    });
}

#[test]
fn a_backup_of_the_top_over_the_same_base_shows_the_disk_of_the_moment() {
    on_control(async {
        for round in 0..10 {
            let mut world = World::new(round).await;
            world.target = layer(&world.graph, "over", SIZE, Some("base"), false).await;
            let entry = writer(&world.graph, &world.source).await;
            let guests = world.guests(&entry);
            let before = world.begin(request(MirrorSyncMode::Top)).await;
            assert!(world.ended().await.starts_with("COMPLETED"));
            assert!(content(&world.target).await == before, "round {round}");
            world.check_end(&entry, guests).await;
        }
    });
}

#[test]
fn the_old_disk_is_read_beside_writers_while_it_is_copied_and_while_it_only_is_kept() {
    on_control(async {
        for (round, sync) in
            [MirrorSyncMode::None, MirrorSyncMode::Full].into_iter().cycle().take(16).enumerate()
        {
            let world = World::new(round as u64).await;
            let entry = writer(&world.graph, &world.source).await;
            let guests = world.guests(&entry);
            let filter_node_name = Some("filter".to_owned());
            let request = BlockdevBackup { filter_node_name, auto_finalize: Some(false), ..request(sync) };
            let before = world.begin(request).await;
            let options = Options::new()
                .with_str("driver", "snapshot-access")
                .with_str("node-name", "old")
                .with_str("file", "filter")
                .with("read-only", Opt::Bool(true));
            let old = world.graph.add(options).await.unwrap();
            let reader = reader(&world.graph, &old).await.unwrap();
            for _ in 0..60 {
                let at = random(SIZE / BLOCK) * BLOCK;
                let len = (1 + random(3 * UNIT)).min(SIZE - at);
                let (buf, result) = reader.read(at, BufMut::with_len(len as usize)).await;
                result.unwrap();
                assert!(
                    buf[..] == before[at as usize..(at + len) as usize],
                    "{len} bytes at {at}, round {round}"
                );
                let status = reader.status(at, len).await.unwrap();
                let told = &before[at as usize..(at + status.len) as usize];
                assert!(!status.zero || told.iter().all(|b| *b == 0), "{len} bytes at {at}, round {round}");
            }
            world.graph.detach(&reader).await.unwrap();
            world.graph.remove("old").await.unwrap();
            world.jobs.find("j").unwrap().cancel(true).unwrap();
            world.ended().await;
            world.check_end(&entry, guests).await;
        }
    });
}

#[test]
fn a_target_over_the_disk_shows_what_it_was_to_readers_beside_writers() {
    on_control(async {
        for round in 0..20 {
            let mut world = World::new(round).await;
            world.target = layer(&world.graph, "over", SIZE, Some("source"), false).await;
            // Some read through a layer more.
            let top = layer(&world.graph, "top", SIZE, Some("over"), false).await;
            let readers = [
                reader(&world.graph, &world.target).await.unwrap(),
                reader(&world.graph, &top).await.unwrap(),
            ];
            let entry = writer(&world.graph, &world.source).await;
            let guests = world.guests(&entry);
            let before = world.begin(request(MirrorSyncMode::None)).await;
            for n in 0..80 {
                let reader = &readers[n % 2];
                let at = random(SIZE / BLOCK) * BLOCK;
                let len = (1 + random(3 * UNIT)).min(SIZE - at);
                let status = reader.status(at, len).await.unwrap();
                let told = &before[at as usize..(at + status.len) as usize];
                assert!(!status.zero || told.iter().all(|b| *b == 0), "{len} bytes at {at}, round {round}");
                let mut buf = BufMut::with_len(len as usize);
                let done = reader.try_read(at, &mut buf).unwrap();
                let mut whole = buf.split_to(done).to_vec();
                let (rest, result) = reader.read(at + done as u64, buf).await;
                result.unwrap();
                whole.extend_from_slice(&rest);
                assert!(
                    whole[..] == before[at as usize..(at + len) as usize],
                    "{len} bytes at {at}, round {round}"
                );
            }
            for reader in readers {
                world.graph.detach(&reader).await.unwrap();
            }
            world.graph.remove("top").await.unwrap();
            world.jobs.find("j").unwrap().cancel(true).unwrap();
            world.ended().await;
            world.check_end(&entry, guests).await;
        }
    });
}

#[test]
fn a_reader_that_was_overtaken_by_a_write_sees_what_was_there_before() {
    on_control(async {
        for through_target in [true, false] {
            let mut world = World::new(4).await;
            world.target = layer(&world.graph, "over", SIZE, Some("source"), false).await;
            let entry = writer(&world.graph, &world.source).await;
            write(&entry, 0, &[7; 2 * CLUSTER as usize]).await;
            let filter_node_name = Some("filter".to_owned());
            world.begin(BlockdevBackup { filter_node_name, ..request(MirrorSyncMode::None) }).await;
            let options = Options::new()
                .with_str("driver", "snapshot-access")
                .with_str("node-name", "old")
                .with_str("file", "filter")
                .with("read-only", Opt::Bool(true));
            let old = world.graph.add(options).await.unwrap();
            let node = if through_target { &world.target } else { &old };
            let reader = reader(&world.graph, node).await.unwrap();
            let (let_go, held) = futures_channel::oneshot::channel();
            *HELD.lock() = Some(("source.img".to_owned(), held));
            let slow = reader.clone();
            let read = rt::spawn(async move { slow.read(512, BufMut::with_len(CLUSTER as usize)).await });
            while HELD.lock().is_some() {
                rt::yield_now().await;
            }
            // The write does not wait for the reader.
            write(&entry, 0, &[8; CLUSTER as usize]).await;
            let_go.send(()).unwrap();
            let (buf, result) = read.await.unwrap();
            result.unwrap();
            assert!(buf.iter().all(|b| *b == 7), "through the target: {through_target}");
            assert_eq!(content(&world.source).await[0], 8);
            world.graph.detach(&reader).await.unwrap();
            world.graph.remove("old").await.unwrap();
            world.jobs.find("j").unwrap().cancel(true).unwrap();
            world.ended().await;
            world.check_end(&entry, Vec::new()).await;
        }
    });
}

#[test]
fn a_write_waits_no_longer_than_is_allowed_and_a_change_of_the_graph_waits_for_the_copy() {
    on_control(async {
        let world = World::new(6).await;
        let options = Options::new()
            .with_str("driver", "copy-before-write")
            .with_str("node-name", "filter")
            .with_str("file", "source")
            .with_str("target", "target")
            .with("cbw-timeout", Opt::Uint(1));
        let filter = world.graph.add(options).await.unwrap();
        let entry = writer(&world.graph, &filter).await;
        write(&entry, 4 * UNIT, &[7; 512]).await;
        let (let_go, held) = futures_channel::oneshot::channel();
        *HELD.lock() = Some(("source.img".to_owned(), held));
        let before = content_beside(&world.source, 0).await;
        let refused = entry.write(0, Buf::from_slice(&[9; 512]), Request::GUEST).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Timeout, "{refused}");
        // The copy goes on, and who waits for the requests inside waits for it.
        let graph = world.graph.clone();
        let source = world.source.clone();
        let quiet = rt::spawn(async move {
            let mut change = graph.change().await;
            let quiet = change.quiesce(&[source]).await;
            change.end(quiet).await
        });
        for _ in 0..100 {
            rt::yield_now().await;
        }
        assert!(entry.try_write(4 * UNIT, &[1; 512], Request::GUEST).unwrap() == 0, "the gate is closed");
        let_go.send(()).unwrap();
        quiet.await.unwrap().unwrap();
        assert_eq!(content_beside(&world.target, 0).await, before);
        write(&entry, 0, &[9; 512]).await;
        assert_eq!(content_beside(&world.source, 0).await, 9);
        world.graph.detach(&entry).await.unwrap();
        world.graph.remove("filter").await.unwrap();
    });
}

/// A byte of a layer, read at its file, whatever requests are held back.
async fn content_beside(node: &Arc<Node>, offset: u64) -> u8 {
    let held = HELD.lock().take();
    let (buf, result) = node.read(offset, BufMut::with_len(1)).await;
    *HELD.lock() = held;
    result.unwrap();
    buf[0]
}

#[test]
fn a_backup_that_is_cancelled_at_any_time_leaves_everything_as_it_was() {
    on_control(async {
        for round in 0..40 {
            let world = World::new(round).await;
            let entry = writer(&world.graph, &world.source).await;
            let guests = world.guests(&entry);
            world.begin(request(MirrorSyncMode::Full)).await;
            for _ in 0..random(round * 60 + 1) {
                rt::yield_now().await;
            }
            if let Some(job) = world.jobs.find("j")
                && job.cancel(true).is_err()
            {
                assert!(round > 0, "a job that has just begun can be cancelled");
            }
            world.ended().await;
            world.check_end(&entry, guests).await;
        }
    });
}

/// The bitmap of the source, as a list of its dirty units.
fn dirty(world: &World) -> Vec<u64> {
    let bitmap = world.source.need_bitmap("b").unwrap();
    assert!(!bitmap.is_busy());
    (0..SIZE)
        .step_by(UNIT as usize)
        .filter(|at| bitmap.bits().run_at(*at, *at + 1).0)
        .map(|at| at / UNIT)
        .collect()
}

#[test]
fn a_bitmap_is_afterwards_what_its_mode_says() {
    use BitmapSyncMode::*;
    let cases = [
        // Whether it is cancelled, and what is dirty then. Before, it is 1, 4 and 8; 6 is written meanwhile.
        (OnSuccess, false, vec![6]),
        (OnSuccess, true, vec![1, 4, 6, 8]),
        (Never, false, vec![1, 4, 6, 8]),
        (Never, true, vec![1, 4, 6, 8]),
        (Always, false, vec![6]),
        // The limit lets 1 be copied; 4 was copied as it was overwritten, and is dirty since; 8 is left.
        (Always, true, vec![4, 6, 8]),
    ];
    on_control(async {
        for (mode, cancelled, expected) in cases {
            let world = World::new(3).await;
            let entry = writer(&world.graph, &world.source).await;
            world
                .source
                .add_bitmap(NewBitmap {
                    name: "b".to_owned(),
                    granularity: None,
                    persistent: false,
                    enabled: true,
                })
                .unwrap();
            let write_unit = async |unit: u64| write(&entry, unit * UNIT + 512, &[9; 512]).await;
            write_unit(1).await;
            write_unit(4).await;
            write_unit(8).await;
            let request = BlockdevBackup {
                bitmap: Some("b".to_owned()),
                bitmap_mode: Some(mode),
                auto_finalize: Some(false),
                ..request(MirrorSyncMode::Bitmap)
            };
            let paused = BlockdevBackup { speed: Some(1), ..request.clone() };
            let before = world.begin(if cancelled { paused } else { request }).await;
            let busy = world.source.need_bitmap("b").unwrap();
            assert!(busy.is_busy() && busy.hold().is_err());
            write_unit(6).await;
            if cancelled {
                write_unit(4).await;
                world.jobs.find("j").unwrap().cancel(true).unwrap();
            } else {
                world.until_told("PENDING").await;
                world.jobs.finalize("j").await.unwrap();
            }
            world.ended().await;
            assert_eq!(dirty(&world), expected, "{mode:?}, cancelled: {cancelled}");
            let copied = content(&world.target).await;
            let unit = |at: u64| (at * UNIT) as usize..((at + 1) * UNIT) as usize;
            if !cancelled {
                assert!(copied[unit(1)] == before[unit(1)] && copied[unit(4)] == before[unit(4)]);
                assert!(copied[unit(6)].iter().all(|b| *b == 0), "what is not dirty is not copied");
            }
            world.check_end(&entry, Vec::new()).await;
        }
    });
}

#[test]
fn an_error_of_either_side_is_judged_by_its_own_policy() {
    on_control(async {
        let cases = [
            (BlockdevOnError::Report, "ERROR write report", "COMPLETED Input/output error"),
            (BlockdevOnError::Ignore, "ERROR write ignore", "COMPLETED "),
            (BlockdevOnError::Stop, "ERROR write stop", "COMPLETED "),
            (BlockdevOnError::Enospc, "ERROR write report", "COMPLETED Input/output error"),
        ];
        for (on_error, error, end) in cases {
            let world = World::new(5).await;
            let entry = writer(&world.graph, &world.source).await;
            FAULTS.lock().push(("target.img".to_owned(), 1, EIO));
            let request = BlockdevBackup {
                on_source_error: Some(BlockdevOnError::Report),
                on_target_error: Some(on_error),
                ..request(MirrorSyncMode::Full)
            };
            let before = world.begin(request).await;
            if on_error == BlockdevOnError::Stop {
                world.until_told("paused").await;
                world.jobs.find("j").unwrap().resume().unwrap();
            }
            let told = world.ended().await;
            assert!(told.starts_with(end), "{on_error:?}: {told}");
            assert!(world.events.0.lock().contains(&error.to_owned()), "{on_error:?}");
            if !told.contains("error") {
                assert!(content(&world.target).await == before);
            }
            world.check_end(&entry, Vec::new()).await;
        }
    });
}

#[test]
fn a_write_whose_old_content_can_not_be_kept_fails_or_costs_the_backup() {
    on_control(async {
        for policy in [OnCbwError::BreakGuestWrite, OnCbwError::BreakSnapshot] {
            let world = World::new(8).await;
            let entry = writer(&world.graph, &world.source).await;
            write(&entry, 0, &[7; 1024]).await;
            let request = BlockdevBackup { on_cbw_error: Some(policy), ..request(MirrorSyncMode::None) };
            world.begin(request).await;
            FAULTS.lock().push(("target.img".to_owned(), 1, EIO));
            let written = entry.write(0, Buf::from_slice(&[8; 512]), Request::GUEST).await;
            let shown = content(&world.source).await[0];
            match policy {
                OnCbwError::BreakGuestWrite => {
                    assert!(written.is_err() && shown == 7, "it fails, and changes nothing");
                    write(&entry, 0, &[8; 512]).await;
                    assert_eq!(content(&world.target).await[0], 7, "the next one is kept");
                    world.jobs.find("j").unwrap().cancel(true).unwrap();
                    assert_eq!(world.ended().await, "CANCELLED");
                }
                OnCbwError::BreakSnapshot => {
                    assert!(written.is_ok() && shown == 8, "it goes on");
                    assert!(world.ended().await.starts_with("COMPLETED Input/output error"));
                }
            }
            world.check_end(&entry, Vec::new()).await;
        }
    });
}

#[test]
fn what_a_backup_without_an_end_has_kept_is_durable_before_its_end_is_told() {
    on_control(async {
        for (flushes_that_fail, told) in [(0, "CANCELLED"), (u64::MAX, "COMPLETED Input/output error")] {
            let world = World::new(9).await;
            let entry = writer(&world.graph, &world.source).await;
            world.begin(request(MirrorSyncMode::None)).await;
            write(&entry, 0, &[8; 512]).await;
            FAULTS.lock().push(("target.img".to_owned(), flushes_that_fail, EIO));
            world.jobs.find("j").unwrap().cancel(true).unwrap();
            assert_eq!(world.ended().await, told);
            world.check_end(&entry, Vec::new()).await;
        }
    });
}

#[test]
fn a_backup_that_is_refused_leaves_nothing_behind() {
    on_control(async {
        let world = World::new(2).await;
        let entry = writer(&world.graph, &world.source).await;
        let nodes = world.graph.nodes().len();
        type Mistake = fn(&mut BlockdevBackup);
        let cases: [(Mistake, &str); 5] = [
            (|r| r.job_id = None, "Invalid job ID ''"),
            (|r| r.speed = Some(-1), "Parameter 'speed' expects a non-negative value"),
            (
                |r| r.sync = MirrorSyncMode::Incremental,
                "must provide a valid bitmap name for 'incremental' sync mode",
            ),
            (|r| r.filter_node_name = Some("base".to_owned()), "Duplicate nodes with node-name='base'"),
            (
                |r| r.bitmap_mode = Some(BitmapSyncMode::Always),
                "Cannot specify bitmap sync mode without a bitmap",
            ),
        ];
        for (change, words) in cases {
            let mut request = request(MirrorSyncMode::Full);
            change(&mut request);
            let refused = backup(&world.graph, &world.jobs, request, (&world.source, &world.target)).await;
            let refused = refused.unwrap_err().to_string();
            assert!(refused.contains(words), "{refused}");
            assert_eq!(world.graph.nodes().len(), nodes);
        }
        // A writer at the target is in the way, which is known only when the filter is in place.
        let other = writer(&world.graph, &world.target).await;
        let request = request(MirrorSyncMode::Full);
        let refused = backup(&world.graph, &world.jobs, request, (&world.source, &world.target)).await;
        assert!(refused.unwrap_err().to_string().contains("Permission conflict"));
        while world.graph.nodes().len() > nodes {
            rt::yield_now().await;
        }
        world.graph.detach(&other).await.unwrap();
        world.check_end(&entry, Vec::new()).await;
    });
}
