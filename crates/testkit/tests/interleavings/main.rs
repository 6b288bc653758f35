//! Jobs of every kind, two at a time × snapshots × quiesce × exports that come and go × blockdev-del × reopen, interleaved by seed: at the end the
//! disk shows the last acknowledged writes, nothing is held any more, and the images alone show the same. And at whatever
//! moment the machine dies, the file that is the disk then shows what was flushed.
//! `INTERLEAVINGS_SEED` runs one seed, `INTERLEAVINGS_COUNT` so many, with `INTERLEAVINGS_CRASHES` crashes of each.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test may fail loudly")]

mod diary;

use api::{
    BlockCommitArguments, BlockStreamArguments, BlockdevBackup, BlockdevOnError, Event, JobStatus,
    MirrorCopyMode, MirrorSyncMode, OnCbwError,
};
use block::{
    Backend, BackendRequest, BlockError, Common, Graph, Node, Opt, Options, Perms, Policy, Registry, Repair,
    Result,
};
use crash::moments::{Moment, Moments};
use diary::Diary;
use jobs::{Backing, EventSink, Jobs, MirrorRequest};
use parking_lot::Mutex;
use rt::{Buf, BufMut, Target};
use sim::{Config, Disk, Rng, Sim, World};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::*};
use std::time::Duration;
use testkit::crash::seeds;
use testkit::long::{number, on_all_cores};

const SECTOR: u64 = 512;
const SECTORS: u64 = 64;
const GUESTS: u64 = 2;
const BOUND: Duration = Duration::from_secs(600);

/// What all actors share.
struct Stage {
    graph: Graph,
    jobs: Jobs,
    world: World,
    /// Follows the changes of the graph: what clients call the device.
    anchor: Arc<Backend>,
    /// Actors that are still at work.
    acting: AtomicUsize,
    diary: Diary,
}

/// Counts how jobs ended.
#[derive(Default)]
struct Ends(AtomicUsize);

impl EventSink for Ends {
    fn tell(&self, event: Event) {
        if matches!(event, Event::BlockJobCompleted(_) | Event::BlockJobCancelled(_)) {
            self.0.fetch_add(1, Relaxed);
        }
    }
}

fn qcow2(name: &str, below: Opt) -> Options {
    let file = Options::new().with_str("driver", "file").with_str("filename", &format!("/{name}"));
    Options::new()
        .with_str("driver", "qcow2")
        .with_str("node-name", name)
        .with("file", Opt::Dict(file))
        .with("backing", below)
        .with_str("discard", "unmap")
}

async fn create(graph: &Graph, name: &str, cluster: &str, below: Option<&str>) -> Result<()> {
    let mut options = Options::new().with_str("cluster_size", cluster);
    if let Some(below) = below {
        options = options.with_str("backing_file", below).with_str("backing_fmt", "qcow2");
    }
    graph.create("qcow2", &format!("/{name}"), SECTOR * SECTORS, options).await
}

fn new_graph() -> Graph {
    let drivers = [protocols::DRIVERS, formats::DRIVERS, filters::DRIVERS];
    Graph::new(Registry::new(&drivers), monitor::options::from_json)
}

impl Stage {
    async fn set(world: World, ends: Arc<Ends>) -> Result<Self> {
        let graph = new_graph();
        let mut below: Option<String> = None;
        for name in ["base", "mid", "top"] {
            let cluster = world.rng().pick(&["512", "1024", "4096"]).unwrap_or("512");
            create(&graph, name, cluster, below.as_deref()).await?;
            let link = below.as_ref().map_or(Opt::Null, |b| Opt::Str(b[1..].to_owned()));
            let node = graph.add(qcow2(name, link)).await?;
            if name != "top" {
                graph.set_writable(&node, false).await?;
            }
            below = Some(format!("/{name}"));
        }
        let node = graph.need_node("top")?;
        let anchor = BackendRequest { label: "anchor".to_owned(), node, perms: Perms::READER, pinned: false };
        let anchor = graph.attach(anchor).await?;
        let (jobs, acting, diary) = (Jobs::new(ends), AtomicUsize::new(0), Diary::default());
        let stage = Self { jobs, graph, world, anchor, acting, diary };
        stage.note_device();
        Ok(stage)
    }

    async fn wait(&self, most_us: u64) {
        rt::sleep(Duration::from_micros(self.world.choose(most_us) + 1)).await;
    }

    /// An export on the node that is the device now, unless that has changed before the export was there.
    async fn export(&self, label: String) -> Option<Arc<Backend>> {
        let node = self.anchor.node();
        let request = BackendRequest { label, node, perms: Perms::WRITER, pinned: false };
        let entry = self.graph.attach(request).await.ok()?;
        if Arc::ptr_eq(&entry.node(), &self.anchor.node()) {
            return Some(entry);
        }
        self.graph.detach(&entry).await.unwrap_or_else(|e| panic!("{e}"));
        None
    }

    /// Notes which file is the device now.
    fn note_device(&self) {
        self.diary.device(self.world.stamp(), self.anchor.node().skip_filters().filename());
    }

    async fn flush(&self, entry: &Backend, guest: u64, round: u64) {
        let begun = self.world.stamp();
        entry.flush().await.unwrap_or_else(|e| panic!("flush in round {round}: {e}"));
        self.diary.flushed(guest, begun, self.world.stamp());
    }

    /// A client that comes and goes. It returns what it wrote last to each of its sectors.
    async fn guest(self: Arc<Self>, number: u64, rounds: u64) -> Vec<(u64, u8)> {
        let mut last: Vec<(u64, u8)> = Vec::new();
        for round in 0..rounds {
            let Some(entry) = self.export(format!("export 'e{number}'")).await else {
                self.wait(500).await;
                continue;
            };
            for _ in 0..self.world.choose(12) {
                let sector = self.world.choose(SECTORS / GUESTS) * GUESTS + number;
                let byte = (self.world.choose(255) + 1) as u8;
                let at = sector * SECTOR;
                match self.world.choose(8) {
                    0 => self.flush(&entry, number, round).await,
                    1 | 2 => {
                        let (data, read) = entry.read(at, BufMut::with_len(SECTOR as usize)).await;
                        read.unwrap_or_else(|e| panic!("read in round {round}: {e}"));
                        expect(&last, sector, &data, "a read");
                    }
                    _ => {
                        let noted = self.diary.begins(sector, byte, self.world.stamp());
                        write(&entry, at, &[byte; SECTOR as usize]).await;
                        self.diary.ended(noted, self.world.stamp());
                        last.retain(|(s, _)| *s != sector);
                        last.push((sector, byte));
                    }
                }
                self.note_device();
            }
            // As exports end: a last flush, then the node is released.
            self.flush(&entry, number, round).await;
            self.graph.detach(&entry).await.unwrap_or_else(|e| panic!("detach: {e}"));
            self.wait(300).await;
        }
        last
    }

    /// Jobs of every kind, with every verb, one after the other.
    async fn worker(self: Arc<Self>, name: &'static str, rounds: u64) {
        for round in 0..rounds {
            let id = format!("{name}{round}");
            let begun = match self.world.choose(5) {
                0 => self.mirror(&id).await,
                1 => self.backup(&id).await,
                2 => self.stream(&id).await,
                _ => self.commit(&id).await,
            };
            if begun {
                self.steer(&id).await;
            }
            self.wait(2000).await;
        }
    }

    fn speed(&self) -> i64 {
        (self.world.choose(2) as i64) << 20
    }

    async fn commit(&self, id: &str) -> bool {
        let device = self.anchor.node();
        let middle = device.backing().filter(|_| self.world.choose(2) == 0);
        let request = BlockCommitArguments {
            job_id: Some(id.to_owned()),
            device: device.name().to_owned(),
            top_node: middle.map(|m| m.name().to_owned()),
            auto_finalize: Some(self.world.choose(4) > 0),
            auto_dismiss: Some(self.world.choose(4) > 0),
            speed: Some(self.speed()),
            ..BlockCommitArguments::default()
        };
        jobs::commit(&self.graph, &self.jobs, request).await.is_ok()
    }

    /// Into the device, or into a layer below it; to its base, or whole.
    async fn stream(&self, id: &str) -> bool {
        let device = self.anchor.node();
        let top = device.backing().filter(|_| self.world.choose(3) == 0).unwrap_or(device);
        let base = top.backing().and_then(|below| below.backing()).filter(|_| self.world.choose(2) == 0);
        let request = BlockStreamArguments {
            job_id: Some(id.to_owned()),
            device: top.name().to_owned(),
            base_node: base.map(|base| base.name().to_owned()),
            auto_finalize: Some(self.world.choose(4) > 0),
            auto_dismiss: Some(self.world.choose(4) > 0),
            speed: Some(self.speed()),
            ..BlockStreamArguments::default()
        };
        jobs::stream(&self.graph, &self.jobs, &top, request).await.is_ok()
    }

    /// A new image for a job.
    async fn target(&self, id: &str) -> Option<Arc<Node>> {
        let cluster = self.world.rng().pick(&["512", "1024", "4096"]).unwrap_or("512");
        create(&self.graph, id, cluster, None).await.ok()?;
        Some(
            self.graph
                .add(qcow2(id, Opt::Null))
                .await
                .unwrap_or_else(|e| panic!("a target does not open: {e}")),
        )
    }

    /// Of all that the device shows, to an image that it moves to.
    async fn mirror(&self, id: &str) -> bool {
        let (Some(target), source) = (self.target(id).await, self.anchor.node()) else { return false };
        let copy_mode = match self.world.choose(2) {
            0 => MirrorCopyMode::Background,
            _ => MirrorCopyMode::WriteBlocking,
        };
        let request = MirrorRequest {
            id: id.to_owned(),
            source,
            replaces: None,
            sync: MirrorSyncMode::Full,
            speed: self.speed(),
            granularity: 512 << self.world.choose(4),
            buf_size: 0,
            on_source_error: BlockdevOnError::Report,
            on_target_error: BlockdevOnError::Report,
            unmap: true,
            copy_mode,
            auto_finalize: self.world.choose(4) > 0,
            auto_dismiss: self.world.choose(4) > 0,
            target_is_zero: false,
            filter_node_name: None,
            backing: Backing::Kept,
        };
        jobs::mirror(&self.graph, &self.jobs, request, &target).await.is_ok()
    }

    async fn backup(&self, id: &str) -> bool {
        let (Some(target), source) = (self.target(id).await, self.anchor.node()) else { return false };
        let sync = if self.world.choose(4) == 0 { MirrorSyncMode::None } else { MirrorSyncMode::Full };
        let request = BlockdevBackup {
            job_id: Some(id.to_owned()),
            device: source.name().to_owned(),
            target: id.to_owned(),
            sync,
            speed: Some(self.speed()),
            on_cbw_error: Some(OnCbwError::BreakGuestWrite),
            auto_finalize: Some(self.world.choose(4) > 0),
            auto_dismiss: Some(self.world.choose(4) > 0),
            bitmap: None,
            bitmap_mode: None,
            compress: None,
            on_source_error: None,
            on_target_error: None,
            filter_node_name: None,
            discard_source: None,
            x_perf: None,
        };
        jobs::backup(&self.graph, &self.jobs, request, (&source, &target)).await.is_ok()
    }

    /// Verbs at random until the job has ended.
    async fn steer(&self, id: &str) {
        while let Some(job) = self.jobs.find(id) {
            // Some are refused: that is expected.
            let _ = match self.world.choose(10) {
                0 => job.pause(),
                1..=3 => job.resume(),
                4 => job.set_speed(0),
                // One without an end of its own ends so.
                5 if self.world.choose(8) == 0 => job.cancel(self.world.choose(2) == 0),
                6 if job.status() == JobStatus::Pending => self.jobs.finalize(id).await,
                7 => self.jobs.dismiss(id),
                _ => job.complete(),
            };
            self.note_device();
            self.wait(400).await;
        }
    }

    async fn snapshots(self: Arc<Self>, rounds: u64) {
        for round in 0..rounds {
            self.wait(4000).await;
            let (name, node) = (format!("s{round}"), self.anchor.node());
            if create(&self.graph, &name, "1024", Some(&node.filename())).await.is_err() {
                continue;
            }
            let overlay = self.graph.add(qcow2(&name, Opt::Null)).await;
            let overlay = overlay.unwrap_or_else(|e| panic!("the overlay does not open: {e}"));
            if self.anchor.node().name() != node.name()
                || self.graph.insert_overlay(&node, &overlay).await.is_err()
            {
                // The deleter may have been first.
                let _ = self.graph.remove(&name).await;
                assert!(self.graph.node(&name).is_none(), "an unused overlay stays");
            }
            self.note_device();
        }
    }

    fn any_node(&self) -> Option<Arc<Node>> {
        let nodes = self.graph.nodes();
        let at = self.world.choose(nodes.len() as u64) as usize;
        nodes.get(at).cloned()
    }

    /// Deletes every node that can be deleted.
    async fn deleter(self: Arc<Self>, rounds: u64) {
        for _ in 0..rounds {
            self.wait(1500).await;
            if let Some(node) = self.any_node() {
                let _ = self.graph.remove(node.name()).await;
            }
        }
    }

    /// Changes that change nothing: some end well, some are undone.
    async fn quiescer(self: Arc<Self>, rounds: u64) {
        for _ in 0..rounds {
            self.wait(1500).await;
            let Some(node) = self.any_node() else { continue };
            let mut change = self.graph.change().await;
            let quiet = change.quiesce(std::slice::from_ref(&node)).await;
            quiet.unwrap_or_else(|e| panic!("{e}"));
            let reaches = |e: &Arc<Backend>| reaches(&e.node(), &node);
            let inside =
                || self.graph.entries().iter().filter(|e| reaches(e)).map(|e| e.in_flight()).sum::<i64>();
            assert_eq!(inside(), 0, "requests run with the gates closed");
            self.wait(300).await;
            assert_eq!(inside(), 0, "requests run with the gates closed");
            let result = if self.world.choose(2) == 0 { Ok(()) } else { Err(BlockError::invalid("undo")) };
            let undone = result.is_err();
            assert_eq!(change.end(result).await.is_err(), undone);
        }
    }

    /// Other options for the device, all valid, some refused by the state of things.
    async fn reopener(self: Arc<Self>, rounds: u64) {
        for _ in 0..rounds {
            self.wait(3000).await;
            let node = self.anchor.node();
            let (Some(file), below) = (node.primary(), node.backing()) else {
                continue;
            };
            let options = Options::new()
                .with_str("driver", "qcow2")
                .with_str("node-name", node.name())
                .with_str("file", file.name())
                .with("backing", below.map_or(Opt::Null, |b| Opt::Str(b.name().to_owned())))
                .with("read-only", Opt::Bool(node.read_only()))
                .with_str("discard", if self.world.choose(2) == 0 { "unmap" } else { "ignore" });
            let _ = self.graph.reopen(vec![options]).await;
        }
    }
}

fn reaches(from: &Arc<Node>, node: &Arc<Node>) -> bool {
    Arc::ptr_eq(from, node) || from.edges().all().iter().any(|child| reaches(&child.node, node))
}

async fn write(entry: &Backend, at: u64, data: &[u8]) {
    let done =
        entry.try_write(at, data, block::Request::GUEST).unwrap_or_else(|e| panic!("write at {at}: {e}"));
    let rest = &data[done..];
    if !rest.is_empty() {
        let wrote = entry.write(at + done as u64, Buf::from_slice(rest), block::Request::GUEST).await;
        wrote.unwrap_or_else(|e| panic!("write at {at}: {e}"));
    }
}

fn expect(last: &[(u64, u8)], sector: u64, data: &[u8], what: &str) {
    let byte = last.iter().find(|(s, _)| *s == sector).map_or(0, |(_, byte)| *byte);
    assert!(data.iter().all(|b| *b == byte), "{what} of sector {sector} shows {}, not {byte}", data[0]);
}

async fn content(node: &Arc<Node>) -> Vec<u8> {
    let (data, read) = node.read(0, BufMut::with_len(node.length() as usize)).await;
    read.unwrap_or_else(|e| panic!("reading '{}': {e}", node.name()));
    data.to_vec()
}

/// Plays one seed, and keeps some moments of it. Returns the name of the image that is the disk at the end, what it shows, and
/// how many jobs ended.
async fn play(world: World, moments: Arc<Mutex<Moments>>) -> (Arc<Stage>, String, Vec<u8>, usize) {
    let ends = Arc::new(Ends::default());
    let stage = Stage::set(world.clone(), ends.clone()).await.unwrap_or_else(|e| panic!("{e}"));
    let stage = Arc::new(stage);
    world.watch(Some(Box::new(move |moment, disk| moments.lock().offer(moment, disk))));
    let act = |actor: futures_util::future::BoxFuture<'static, ()>| {
        let stage = stage.clone();
        stage.acting.fetch_add(1, Relaxed);
        rt::spawn_on(Target::Control, async move {
            actor.await;
            stage.acting.fetch_sub(1, Relaxed);
        })
    };
    let guests: Vec<_> =
        (0..GUESTS).map(|n| rt::spawn_on(Target::Worker(n as usize), stage.clone().guest(n, 8))).collect();
    let actors = [
        act(Box::pin(stage.clone().worker("j", 4))),
        act(Box::pin(stage.clone().worker("k", 3))),
        act(Box::pin(stage.clone().snapshots(3))),
        act(Box::pin(stage.clone().deleter(8))),
        act(Box::pin(stage.clone().quiescer(6))),
        act(Box::pin(stage.clone().reopener(4))),
    ];
    let mut last = Vec::new();
    for guest in guests {
        let wrote = rt::timeout(BOUND, guest).await.unwrap_or_else(|_| panic!("a guest hangs"));
        last.extend(wrote.unwrap_or_else(|e| panic!("{e}")));
    }
    for actor in actors {
        let ended = rt::timeout(BOUND, actor).await;
        let ended = ended.unwrap_or_else(|_| panic!("{} actors hang", stage.acting.load(Relaxed)));
        ended.unwrap_or_else(|e| panic!("{e}"));
    }
    stage.jobs.cancel_all().await;
    let node = stage.anchor.node();
    let shown = content(&node).await;
    for sector in 0..SECTORS {
        let at = (sector * SECTOR) as usize;
        expect(&last, sector, &shown[at..at + SECTOR as usize], "the end");
    }
    assert!(
        stage.graph.nodes().iter().all(|n| n.blocked_by().is_empty()),
        "a job has ended and its blockers are left"
    );
    let labels: Vec<_> = stage.graph.entries().iter().map(|e| e.label().to_owned()).collect();
    assert_eq!(labels, ["anchor"], "an entry is left");
    let filename = node.filename();
    stage.graph.detach(&stage.anchor).await.unwrap_or_else(|e| panic!("{e}"));
    stage.graph.close_all().await.unwrap_or_else(|e| panic!("{e}"));
    assert!(stage.graph.nodes().is_empty());
    (stage, filename, shown, ends.0.load(Relaxed))
}

/// What an image shows to whoever opens it by its name; nothing in it, or in what it stands on, is out of order.
/// After a crash there may be clusters that nobody refers to, but nothing worse.
async fn opened_alone(filename: String, closed: bool) -> Result<Vec<u8>, String> {
    let graph = new_graph();
    let common = Common { read_only: true, ..Common::default() };
    let opened = graph.open_image(&filename, Some("qcow2"), common, Policy::FOLLOW).await;
    let node = opened.map_err(|e| format!("'{filename}': {e}"))?;
    for layer in std::iter::successors(Some(node.clone()), |n| n.backing()) {
        if let Some(checker) = layer.driver().checker() {
            let report =
                checker.check(Repair::No).await.map_err(|e| format!("'{}': {e}", layer.filename()))?;
            if report.corruptions > 0 || closed && report.leaks > 0 {
                return Err(format!("'{}': {report:?}", layer.filename()));
            }
        }
    }
    Ok(content(&node).await)
}

/// From some moments of a run the machine dies, by a power cut or a kill: what was flushed is there, in the file that clients
/// know as the disk.
fn look_at_crashes(stage: &Stage, moments: Vec<Moment>, rng: &mut Rng) -> Result<u64, String> {
    let count = moments.len() as u64;
    for Moment { stamp, disk, .. } in moments {
        let dead = if rng.chance(1, 3) { disk.kill(rng) } else { disk.power_cut(rng) };
        let mut lost = Vec::new();
        for file in stage.diary.candidates(stamp) {
            let sim = Sim::boot(Config::seeded(rng.next_u64()), dead.clone());
            let opened = sim.try_run(opened_alone(file.clone(), false));
            let opened =
                opened.map_err(|stuck| format!("'{file}' after a crash at moment {stamp}: {stuck}"))?;
            // One that became the device later may not be there yet.
            match opened.and_then(|shown| stage.diary.allows(&shown, GUESTS, stamp)) {
                Ok(()) => {
                    lost.clear();
                    break;
                }
                Err(text) => lost.push(format!("'{file}': {text}")),
            }
        }
        if !lost.is_empty() {
            return Err(format!("after a crash at moment {stamp}: {}", lost.join("; ")));
        }
    }
    Ok(count)
}

/// One schedule; how many jobs ended in it, and how many crashes of it were looked at.
fn schedule(seed: u64, crashes: usize) -> Result<(u64, u64), String> {
    let mut rng = Rng::new(seed);
    let config = Config { workers: 1 + rng.index(3), latency_ns: 20_000, ..Config::seeded(seed) };
    let sim = Sim::boot(config, Disk::default());
    let moments = Arc::new(Mutex::new(Moments::new(crashes, rng.fork())));
    let (stage, filename, shown, jobs) = sim.run(play(sim.world().clone(), moments.clone()));
    sim.world().watch(None);
    let alone = sim.run(opened_alone(filename, true))?;
    if alone != shown {
        return Err("the images alone show something else".to_owned());
    }
    let moments = moments.lock().take();
    Ok((jobs as u64, look_at_crashes(&stage, moments, &mut rng)?))
}

#[test]
fn no_write_is_lost_and_nothing_stays_held_under_any_interleaving_and_any_crash() {
    const NAME: &str = "INTERLEAVINGS";
    let crashes = number(NAME, "CRASHES").unwrap_or(4) as usize;
    let seen = AtomicU64::new(0);
    let done = on_all_cores(NAME, seeds(NAME, 200), u64::MAX, |seed| {
        let (jobs, crashes) = schedule(seed, crashes)?;
        seen.fetch_add(crashes, Relaxed);
        Ok(jobs)
    });
    println!("{} jobs ended; {} crashes looked at", done.count, seen.load(Relaxed));
    if let Some((seed, text)) = done.failures.first() {
        let seeds: Vec<_> = done.failures.iter().map(|(seed, _)| seed).collect();
        panic!("{text}\nseeds {seeds:?} fail; {NAME}_SEED={seed} runs the first alone");
    }
    assert!(done.pieces < 100 || done.count > done.pieces, "only {} jobs ran to their ends", done.count);
}
