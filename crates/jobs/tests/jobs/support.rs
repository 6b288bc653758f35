//! A world for tests: images in memory whose every request yields to others at random, a copy-on-write format
//! over them, and a sink that remembers.
use api::codec::{Members, NoArguments};
use api::{DecodeError, Dict, Enumeration, Event, PreallocMode};
use block::*;
use jobs::{EventSink, Jobs};
use parking_lot::Mutex;
use rt::{BoxFuture, Buf, BufMut, JoinHandle};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::time::Duration;

/// Cluster size of the format, in bytes.
pub const CLUSTER: u64 = 4096;

/// The drivers.
pub const DRIVERS: &[DriverType] = &[
    DriverType { name: "mem", open: &Open(open_mem), ..DriverType::PROTOCOL },
    DriverType { name: "cow", open: &Open(open_cow), supports_backing: true, ..DriverType::FORMAT },
    DriverType { name: "through", open: &Open(open_through), ..DriverType::FILTER },
];

static SEED: AtomicU64 = AtomicU64::new(1);

/// Sets the seed of all that is random from here on.
pub fn seed(seed: u64) {
    SEED.store(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, Relaxed);
}

/// A random number below `n`.
pub fn random(n: u64) -> u64 {
    let mut x = SEED.load(Relaxed);
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    SEED.store(x, Relaxed);
    (x >> 11) % n
}

/// Yields a random number of times.
pub async fn give_way() {
    for _ in 0..random(4) {
        rt::yield_now().await;
    }
}

/// Requests that are to fail on `mem` nodes of this name: name, left to fail, error. Writes and flushes, or, with `read ` before
/// the name, reads.
pub static FAULTS: Mutex<Vec<(String, u64, i32)>> = Mutex::new(Vec::new());

/// A read of the `mem` node of this name that is to be held back until it is let go.
pub static HELD: Mutex<Option<(String, futures_channel::oneshot::Receiver<()>)>> = Mutex::new(None);

/// The request of `mem` nodes of this name that fails: name, how many come before it, error.
pub static FAULT_AT: Mutex<Option<(String, u64, i32)>> = Mutex::new(None);

struct Mem {
    name: String,
    bytes: Mutex<Vec<u8>>,
}

/// What memory is opened with.
#[derive(Default)]
struct MemOptions {
    size: Option<u64>,
    name: Option<String>,
}

impl api::codec::Object for MemOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { size: from.optional("size")?, name: from.optional("name")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("size", &self.size);
        to.put_optional("name", &self.name);
    }
}

fn open_mem(_: &mut OpenContext, options: MemOptions) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let (size, name) = (options.size.unwrap_or(0), options.name.unwrap_or_default());
        let mem = Mem { name: name.clone(), bytes: Mutex::new(vec![0; size as usize]) };
        Ok(Opened { driver: Arc::new(mem), filename: Some(name) })
    })
}

impl Mem {
    fn fault(&self, kind: &str) -> Result<()> {
        let mut at = FAULT_AT.lock();
        if let Some((_, before, errno)) = at.as_mut().filter(|(name, ..)| *name == self.name) {
            match before.checked_sub(1) {
                Some(less) => *before = less,
                None => {
                    let errno = *errno;
                    *at = None;
                    return Err(std::io::Error::from_raw_os_error(errno).into());
                }
            }
        }
        drop(at);
        let mut faults = FAULTS.lock();
        let mine = |name: &str| name.strip_prefix(kind) == Some(&self.name);
        match faults.iter_mut().find(|(name, left, _)| mine(name) && *left > 0) {
            Some((_, left, errno)) => {
                *left -= 1;
                Err(std::io::Error::from_raw_os_error(*errno).into())
            }
            None => Ok(()),
        }
    }
}

impl Driver for Mem {
    fn facts(&self) -> Facts {
        Facts::default()
    }
    fn length(&self) -> u64 {
        self.bytes.lock().len() as u64
    }
    fn map(&self, _: u64, len: u64, _: Want) -> BoxFuture<'_, Result<Extent>> {
        Box::pin(async move { Ok(Extent { len, kind: ExtentKind::Stored }) })
    }
    fn read(&self, offset: u64, mut buf: BufMut) -> BoxFuture<'_, (BufMut, Result<()>)> {
        Box::pin(async move {
            let held = HELD.lock().take_if(|(name, _)| *name == self.name);
            if let Some((_, let_go)) = held {
                let_go.await.unwrap();
            }
            if let Err(e) = self.fault("read ") {
                return (buf, Err(e));
            }
            for (i, piece) in buf.chunks_mut(512).enumerate() {
                give_way().await;
                let at = offset as usize + i * 512;
                piece.copy_from_slice(&self.bytes.lock()[at..at + piece.len()]);
            }
            (buf, Ok(()))
        })
    }
    fn write(&self, offset: u64, data: Buf, _: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.fault("")?;
            for (i, piece) in data.chunks(512).enumerate() {
                give_way().await;
                let at = offset as usize + i * 512;
                self.bytes.lock()[at..at + piece.len()].copy_from_slice(piece);
            }
            Ok(())
        })
    }
    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            give_way().await;
            self.fault("")
        })
    }
    fn resize(&self, size: u64, _: PreallocMode) -> BoxFuture<'_, Result<()>> {
        self.bytes.lock().resize(size as usize, 0);
        Box::pin(give_way_ok())
    }
    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(give_way_ok())
    }
}

async fn give_way_ok() -> Result<()> {
    give_way().await;
    Ok(())
}

struct Cow {
    edges: Arc<Edges>,
    child: ChildId,
    allocated: Arc<Mutex<Vec<bool>>>,
    leases: Arc<Leases>,
    link: Mutex<Option<String>>,
}

/// What the format is opened with.
#[derive(Default)]
struct CowOptions {
    /// It holds nothing, also where it has no backing image yet.
    bare: Option<bool>,
}

impl api::codec::Object for CowOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { bare: from.optional("bare")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("bare", &self.bare);
    }
}

fn open_cow(context: &mut OpenContext, options: CowOptions) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let bare = options.bare.unwrap_or(false);
        let (child, file) = context.file().await?;
        let (_, backing) = context.backing(None).await?;
        let clusters = file.length().div_ceil(CLUSTER) as usize;
        let cow = Cow {
            edges: context.edges().clone(),
            child,
            allocated: Arc::new(Mutex::new(vec![backing.is_none() && !bare; clusters])),
            leases: Leases::new(),
            link: Mutex::new(backing.map(|b| b.filename())),
        };
        Ok(Opened { driver: Arc::new(cow), filename: None })
    })
}

/// A filter that does nothing.
struct Through(Filtered);

impl Driver for Through {
    fn filtered(&self) -> Option<&Filtered> {
        Some(&self.0)
    }
}

fn open_through(context: &mut OpenContext, _: NoArguments) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async {
        let driver = Arc::new(Through(context.filtered().await?));
        Ok(Opened { driver, filename: None })
    })
}

struct Claim {
    allocated: Arc<Mutex<Vec<bool>>>,
    cluster: usize,
    _lease: Lease,
}

impl Token for Claim {
    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            give_way().await;
            self.allocated.lock()[self.cluster] = true;
            Ok(())
        })
    }
}

impl Cow {
    fn extent(&self, offset: u64, len: u64) -> Extent {
        let allocated = self.allocated.lock();
        let is = |at: u64| allocated.get((at / CLUSTER) as usize).copied().unwrap_or(false);
        let first = is(offset);
        let mut end = (offset / CLUSTER + 1) * CLUSTER;
        while end < offset + len && is(end) == first {
            end += CLUSTER;
        }
        let kind = if first {
            ExtentKind::Data { child: self.child, offset, owned: true }
        } else {
            ExtentKind::HOLE
        };
        Extent { len: len.min(end - offset), kind }
    }
}

impl Driver for Cow {
    fn facts(&self) -> Facts {
        Facts { mapping: true, cluster_size: Some(CLUSTER), can_fill: true, ..Facts::default() }
    }
    fn length(&self) -> u64 {
        self.edges.get(self.child).map_or(0, |f| f.length())
    }
    fn try_map(&self, offset: u64, len: u64, _: Want) -> Option<Extent> {
        (random(2) == 0).then(|| self.extent(offset, len))
    }
    fn map(&self, offset: u64, len: u64, _: Want) -> BoxFuture<'_, Result<Extent>> {
        Box::pin(async move {
            give_way().await;
            Ok(self.extent(offset, len))
        })
    }
    fn prepare_write(
        &self,
        offset: u64,
        len: u64,
        change: MapChange,
        request: Request,
    ) -> BoxFuture<'_, Result<WritePlan>> {
        Box::pin(async move {
            if change != MapChange::Data {
                return Ok(WritePlan { len, action: Action::AsData, token: None });
            }
            let start = offset / CLUSTER * CLUSTER;
            let end = start + CLUSTER;
            let lease = self.leases.lease(start, end, true).await;
            give_way().await;
            let len = len.min(end - offset);
            let cluster = (start / CLUSTER) as usize;
            let fresh = !self.allocated.lock()[cluster];
            if !fresh && request.has(Flags::IF_UNALLOCATED) {
                return Ok(WritePlan { len, action: Action::Nothing, token: None });
            }
            let (head, tail) =
                if fresh { (offset - start, end.min(self.length()) - offset - len) } else { (0, 0) };
            let action = Action::Store { child: self.child, offset, head, tail, fresh: false };
            let token = Claim { allocated: self.allocated.clone(), cluster, _lease: lease };
            Ok(WritePlan { len, action, token: Some(Box::new(token)) })
        })
    }
    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { self.edges.need(self.child)?.flush().await })
    }
    fn resize(&self, size: u64, preallocation: PreallocMode) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.edges.need(self.child)?.driver().resize(size, preallocation).await?;
            let bottom = self.edges.backing().and_then(|id| self.edges.get(id)).is_none();
            self.allocated.lock().resize(size.div_ceil(CLUSTER) as usize, bottom);
            Ok(())
        })
    }
    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(give_way_ok())
    }
    fn child_perms(&self, child: &Edge, parents: Perms, read_only: bool) -> Perms {
        match child.role().has(ChildRole::BACKING) {
            true if parents.share.has(Share::WRITE) => {
                Perms { need: Share(parents.need.0 & Share::READ.0), share: Share::ALL }
            }
            true => Perms {
                need: Share(parents.need.0 & Share::READ.0),
                share: Share::READ.union(Share::WRITE_UNCHANGED),
            },
            _ if read_only => Perms { need: Share(parents.need.0 & Share::READ.0), share: parents.share },
            _ => parents,
        }
    }
    fn set_backing_link(&self, link: Link) -> BoxFuture<'_, Result<()>> {
        *self.link.lock() = link.filename;
        Box::pin(give_way_ok())
    }
    fn info(&self) -> DriverInfo {
        DriverInfo { backing_filename: self.link.lock().clone(), ..DriverInfo::default() }
    }
}

/// Remembers events as short lines.
#[derive(Default)]
pub struct Memory(pub Mutex<Vec<String>>);

impl EventSink for Memory {
    fn tell(&self, event: Event) {
        let line = match event {
            Event::JobStatusChange(e) => e.status.name().to_owned(),
            Event::BlockJobReady(e) => format!("READY {}/{}", e.offset, e.len),
            Event::BlockJobPending(_) => "PENDING".to_owned(),
            Event::BlockJobCompleted(e) => match e.error {
                None => format!("COMPLETED {}/{}", e.offset, e.len),
                Some(error) => format!("COMPLETED {error}"),
            },
            Event::BlockJobCancelled(_) => "CANCELLED".to_owned(),
            Event::BlockJobError(e) => format!("ERROR {} {}", e.operation.name(), e.action.name()),
            other => other.name().to_owned(),
        };
        self.0.lock().push(line);
    }
}

/// Opens a layer of `size` bytes over `backing`.
pub async fn layer(
    graph: &Graph,
    name: &str,
    size: u64,
    backing: Option<&str>,
    read_only: bool,
) -> Arc<Node> {
    graph.add(layer_options(name, size, backing, read_only)).await.unwrap()
}

/// The options of a layer.
pub fn layer_options(name: &str, size: u64, backing: Option<&str>, read_only: bool) -> Options {
    let file = Options::new()
        .with_str("driver", "mem")
        .with("size", Opt::Uint(size))
        .with_str("name", &format!("{name}.img"));
    let backing = backing.map_or(Opt::Null, |b| Opt::Str(b.to_owned()));
    Options::new()
        .with_str("driver", "cow")
        .with_str("node-name", name)
        .with("file", Opt::Dict(file))
        .with("backing", backing)
        .with("read-only", Opt::Bool(read_only))
}

/// Puts a filter on a node.
pub async fn filter(graph: &Graph, name: &str, file: &str, read_only: bool) -> Arc<Node> {
    let options = Options::new().with_str("driver", "through").with_str("node-name", name);
    let options = options.with_str("file", file).with("read-only", Opt::Bool(read_only));
    graph.add(options).await.unwrap()
}

/// The options of a layer that holds nothing and has no backing image yet.
pub fn bare_layer_options(name: &str, size: u64) -> Options {
    layer_options(name, size, None, false).with("bare", Opt::Bool(true))
}

/// A graph of these drivers.
pub fn graph() -> Graph {
    Graph::new(Registry::new(&[DRIVERS, filters::DRIVERS]), |_| Err(BlockError::invalid("no json: here")))
}

/// An entry that reads and writes, as an export has.
pub async fn writer(graph: &Graph, node: &Arc<Node>) -> Arc<Backend> {
    let request =
        BackendRequest { label: "guest".to_owned(), node: node.clone(), perms: Perms::WRITER, pinned: false };
    graph.attach(request).await.unwrap()
}

/// An entry that reads, where the graph lets it.
pub async fn reader(graph: &Graph, node: &Arc<Node>) -> Result<Arc<Backend>> {
    let perms = Perms { need: Share::READ, share: Share::ALL };
    graph
        .attach(BackendRequest { label: "reader".to_owned(), node: node.clone(), perms, pinned: false })
        .await
}

/// Writes through the inline path first, as exports do.
pub async fn write(entry: &Backend, offset: u64, data: &[u8]) {
    let n = entry.try_write(offset, data, Request::GUEST).unwrap();
    if n < data.len() {
        entry.write(offset + n as u64, Buf::from_slice(&data[n..]), Request::GUEST).await.unwrap();
    }
}

/// The whole content of a node.
pub async fn content(node: &Arc<Node>) -> Vec<u8> {
    let (buf, result) = node.read(0, BufMut::with_len(node.length() as usize)).await;
    result.unwrap();
    buf.to_vec()
}

/// Tests share the seed and the faults, so they take turns.
pub static TURN: Mutex<()> = Mutex::new(());

/// Runs a test on a worker, when no other one runs.
pub fn on_control(test: impl Future<Output = ()>) {
    let _turn = TURN.lock();
    seed(7);
    rt::block_on_control(test);
}

pub const SIZE: u64 = 24 * CLUSTER;
pub const BLOCK: u64 = 512;

pub struct World {
    pub graph: Graph,
    pub jobs: Jobs,
    pub events: Arc<Memory>,
}

impl World {
    pub fn new() -> Self {
        let events = Arc::new(Memory::default());
        FAULTS.lock().clear();
        Self { graph: graph(), jobs: Jobs::new(events.clone()), events }
    }

    /// active → mid → base, each filled by random clusters of its own.
    pub async fn chain(&self) -> [Arc<Node>; 3] {
        let base = layer(&self.graph, "base", SIZE - 2 * CLUSTER, None, false).await;
        fill(&self.graph, &base, 1).await;
        self.graph.set_writable(&base, false).await.unwrap();
        let mid = layer(&self.graph, "mid", SIZE, Some("base"), false).await;
        fill(&self.graph, &mid, 2).await;
        self.graph.set_writable(&mid, false).await.unwrap();
        let active = layer(&self.graph, "active", SIZE, Some("mid"), false).await;
        [active, mid, base]
    }

    pub async fn ended(&self, id: &str) {
        if let Some(job) = self.jobs.find(id) {
            job.concluded().await;
        }
    }

    pub fn events(&self) -> Vec<String> {
        self.events.0.lock().clone()
    }

    pub async fn until_told(&self, what: &str) {
        while !self.events().iter().any(|e| e.starts_with(what)) {
            rt::sleep(Duration::from_millis(1)).await;
        }
    }
}

pub async fn fill(graph: &Graph, node: &Arc<Node>, byte: u8) {
    let entry = writer(graph, node).await;
    for at in (0..node.length()).step_by(CLUSTER as usize) {
        if random(3) == 0 {
            write(&entry, at, &[byte; CLUSTER as usize]).await;
        }
    }
    graph.detach(&entry).await.unwrap();
}

/// Guests that write until `stop`: each has blocks of its own, and returns what it wrote to them last.
pub async fn guest(entry: Arc<Backend>, number: u64, guests: u64, stop: Arc<AtomicBool>) -> Vec<(u64, u8)> {
    let mut last: Vec<(u64, u8)> = Vec::new();
    while !stop.load(Relaxed) {
        let block = random(SIZE / BLOCK / guests) * guests + number;
        let byte = random(255) as u8;
        write(&entry, block * BLOCK, &[byte; BLOCK as usize]).await;
        last.retain(|(b, _)| *b != block);
        last.push((block, byte));
        give_way().await;
    }
    last
}

pub fn check(content: &[u8], writes: &[(u64, u8)]) {
    for (block, byte) in writes {
        let at = (block * BLOCK) as usize;
        assert!(
            content[at..at + BLOCK as usize].iter().all(|b| b == byte),
            "block {block} lost its last write"
        );
    }
}

/// Lets the guests write for a while yet, and returns what all of them wrote last.
pub async fn writes_of(guests: Vec<JoinHandle<Vec<(u64, u8)>>>, stop: &AtomicBool) -> Vec<(u64, u8)> {
    for _ in 0..random(200) {
        rt::yield_now().await;
    }
    stop.store(true, Relaxed);
    let mut writes = Vec::new();
    for guest in guests {
        writes.extend(guest.await.unwrap());
    }
    writes
}

/// What guests wrote last is there, and what nobody wrote is as before.
pub fn check_rest(after: &[u8], before: &[u8], writes: &[(u64, u8)]) {
    check(after, writes);
    let untouched = |i: usize| !writes.iter().any(|(block, _)| *block == i as u64 / BLOCK);
    assert!((0..after.len()).all(|i| after[i] == before[i] || !untouched(i)));
}
