//! The graph's laws, over two toy drivers: a disk in memory, and an overlay that allocates by the sector.
#![allow(clippy::unwrap_used, reason = "a test's helpers end it where they can't go on")]

use api::codec::{Members, NoArguments};
use api::{DecodeError, Dict, PreallocMode};
use block::*;
use parking_lot::Mutex;
use rt::{BoxFuture, Buf, BufMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::time::Duration;

const SECTOR: u64 = 512;

const fn driver(name: &'static str, kind: DriverKind, open: &'static dyn Opener) -> DriverType {
    let supports_backing = matches!(kind, DriverKind::Format);
    DriverType { name, kind, open, supports_backing, ..DriverType::FORMAT }
}

const DRIVERS: &[DriverType] = &[
    driver("mem", DriverKind::Protocol, &Open(open_memory)),
    driver("overlay", DriverKind::Format, &Open(open_overlay)),
    driver("starts", DriverKind::Filter, &Open(open_starts)),
];

struct Memory {
    bytes: Mutex<Vec<u8>>,
    slow: AtomicBool,
    fail_flush: bool,
    fua: bool,
    tells: bool,
}

/// What the memory that tells was last told to hold, and whether it refuses writers.
static TOLD: Mutex<Perms> = Mutex::new(Perms::IDLE);
static REFUSES: AtomicBool = AtomicBool::new(false);
/// How often overlays that count were asked what they need.
static ASKED: AtomicUsize = AtomicUsize::new(0);

/// What memory is opened with.
#[derive(Default)]
struct MemoryOptions {
    size: Option<u64>,
    slow: Option<bool>,
    fail_flush: Option<bool>,
    fua: Option<bool>,
    tells: Option<bool>,
}

impl api::codec::Object for MemoryOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            size: from.optional("size")?,
            slow: from.optional("slow")?,
            fail_flush: from.optional("fail-flush")?,
            fua: from.optional("fua")?,
            tells: from.optional("tells")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("size", &self.size);
        to.put_optional("slow", &self.slow);
        to.put_optional("fail-flush", &self.fail_flush);
        to.put_optional("fua", &self.fua);
        to.put_optional("tells", &self.tells);
    }
}

fn open_memory(_: &mut OpenContext, options: MemoryOptions) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let size = options.size.unwrap_or(1 << 20);
        let slow = AtomicBool::new(options.slow.unwrap_or(false));
        let fail_flush = options.fail_flush.unwrap_or(false);
        let fua = options.fua.unwrap_or(false);
        let tells = options.tells.unwrap_or(false);
        let driver = Memory { bytes: Mutex::new(vec![0; size as usize]), slow, fail_flush, fua, tells };
        Ok(Opened { driver: Arc::new(driver), filename: Some("mem:".to_owned()) })
    })
}

impl Memory {
    async fn pause(&self) {
        while self.slow.load(Acquire) {
            rt::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Driver for Memory {
    fn facts(&self) -> Facts {
        Facts { fua: self.fua, ..Facts::default() }
    }
    fn set_perms(&self, perms: Perms) -> Result<()> {
        if self.tells {
            let mut told = TOLD.lock();
            if REFUSES.load(Acquire) && perms.need.has(Share::WRITE) && !told.need.has(Share::WRITE) {
                return Err(BlockError::new(ErrorKind::Locked, "another process writes"));
            }
            *told = perms;
        }
        Ok(())
    }
    fn length(&self) -> u64 {
        self.bytes.lock().len() as u64
    }
    fn map(&self, _: u64, len: u64, _: Want) -> BoxFuture<'_, Result<Extent>> {
        Box::pin(async move { Ok(Extent { len, kind: ExtentKind::Stored }) })
    }
    /// A first sector comes without waiting.
    fn try_read(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let n = if self.slow.load(Acquire) { 0 } else { buf.len().min(SECTOR as usize) };
        let offset = offset as usize;
        buf[..n].copy_from_slice(&self.bytes.lock()[offset..offset + n]);
        Ok(n)
    }
    fn read(&self, offset: u64, buf: BufMut) -> BoxFuture<'_, (BufMut, Result<()>)> {
        Box::pin(async move {
            self.pause().await;
            let mut buf = buf;
            let end = offset as usize + buf.len();
            buf.copy_from_slice(&self.bytes.lock()[offset as usize..end]);
            (buf, Ok(()))
        })
    }
    fn write(&self, offset: u64, data: Buf, request: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.pause().await;
            self.bytes.lock()[offset as usize..offset as usize + data.len()].copy_from_slice(&data);
            if request.has(Flags::FUA) { self.flush().await } else { Ok(()) }
        })
    }
    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if self.fail_flush { Err(BlockError::new(ErrorKind::Io, "the disk broke")) } else { Ok(()) }
        })
    }
    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

/// A filter that is started when it is told how.
struct Starts(Filtered);

/// How it is to be started: not yet, well, or not at all.
static START: AtomicUsize = AtomicUsize::new(WAITS);
const WAITS: usize = 0;
const WELL: usize = 1;
const FAILS: usize = 2;

impl Driver for Starts {
    fn filtered(&self) -> Option<&Filtered> {
        Some(&self.0)
    }
    fn start<'a>(&'a self, _: &'a Common) -> BoxFuture<'a, Result<()>> {
        Box::pin(async {
            let _ = self.0.node()?.write(0, Buf::from_slice(b"started"), Request::DRIVER).await;
            while START.load(Acquire) == WAITS {
                rt::sleep(Duration::from_millis(1)).await;
            }
            match START.load(Acquire) {
                FAILS => Err(BlockError::invalid("it does not start")),
                _ => Ok(()),
            }
        })
    }
}

fn open_starts(context: &mut OpenContext, _: NoArguments) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async {
        let driver = Arc::new(Starts(context.filtered().await?));
        Ok(Opened { driver, filename: None })
    })
}

struct Overlay {
    edges: Arc<Edges>,
    child: ChildId,
    allocated: Arc<Mutex<Vec<bool>>>,
    /// What is needed of it, it needs of its children.
    lends: bool,
    counts: bool,
}

struct Publish {
    allocated: Arc<Mutex<Vec<bool>>>,
    sector: usize,
}

impl Token for Publish {
    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            self.allocated.lock()[self.sector] = true;
            Ok(())
        })
    }
}

/// What an overlay is opened with.
#[derive(Default)]
struct OverlayOptions {
    lends: Option<bool>,
    counts: Option<bool>,
}

impl api::codec::Object for OverlayOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { lends: from.optional("lends")?, counts: from.optional("counts")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("lends", &self.lends);
        to.put_optional("counts", &self.counts);
    }
}

fn open_overlay(context: &mut OpenContext, options: OverlayOptions) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let (child, file) = context.file().await?;
        context.backing(None).await?;
        let (lends, counts) = (options.lends.unwrap_or(false), options.counts.unwrap_or(false));
        let allocated = Arc::new(Mutex::new(vec![false; (file.length() / SECTOR) as usize]));
        Ok(Opened {
            driver: Arc::new(Overlay { edges: context.edges().clone(), child, allocated, lends, counts }),
            filename: None,
        })
    })
}

impl Driver for Overlay {
    fn facts(&self) -> Facts {
        Facts { mapping: true, ..Facts::default() }
    }
    fn length(&self) -> u64 {
        self.allocated.lock().len() as u64 * SECTOR
    }
    fn try_map(&self, offset: u64, len: u64, _: Want) -> Option<Extent> {
        let len = len.min(SECTOR - offset % SECTOR);
        let kind = match self.allocated.lock()[(offset / SECTOR) as usize] {
            true => ExtentKind::Data { child: self.child, offset, owned: true },
            false => ExtentKind::HOLE,
        };
        Some(Extent { len, kind })
    }
    fn map(&self, offset: u64, len: u64, want: Want) -> BoxFuture<'_, Result<Extent>> {
        let extent = self.try_map(offset, len, want);
        Box::pin(async move { extent.ok_or_else(|| BlockError::invalid("no extent")) })
    }
    fn prepare_write(
        &self,
        offset: u64,
        len: u64,
        _: MapChange,
        _: Request,
    ) -> BoxFuture<'_, Result<WritePlan>> {
        let head = offset % SECTOR;
        let len = len.min(SECTOR - head);
        let action =
            Action::Store { child: self.child, offset, head, tail: SECTOR - head - len, fresh: true };
        let token = Publish { allocated: self.allocated.clone(), sector: (offset / SECTOR) as usize };
        Box::pin(async move { Ok(WritePlan { len, action, token: Some(Box::new(token) as Box<dyn Token>) }) })
    }
    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { self.edges.need(self.child)?.flush().await })
    }
    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }
    fn child_perms(&self, child: &Edge, parents: Perms, read_only: bool) -> Perms {
        ASKED.fetch_add(usize::from(self.counts), Relaxed);
        if self.lends {
            return parents;
        }
        let share = Share::READ.union(Share::WRITE_UNCHANGED);
        match child.role().has(ChildRole::DATA) && !read_only {
            true => Perms { need: Share::READ.union(Share::WRITE).union(Share::RESIZE), share },
            _ => Perms { need: Share::READ, share },
        }
    }
}

fn graph() -> Graph {
    Graph::new(Registry::new(&[DRIVERS]), |_| Err(BlockError::invalid("no json here")))
}

fn memory(name: &str) -> Options {
    Options::new().with_str("driver", "mem").with_str("node-name", name)
}

fn overlay(name: &str, file: &str) -> Options {
    Options::new().with_str("driver", "overlay").with_str("node-name", name).with_str("file", file)
}

async fn attach(graph: &Graph, node: &str, perms: Perms) -> Result<Arc<Backend>> {
    let node = graph.need_node(node)?;
    graph.attach(BackendRequest { label: "guest".to_owned(), node, perms, pinned: false }).await
}

async fn read(disk: &Backend, offset: u64, len: usize) -> Vec<u8> {
    let (data, result) = disk.read(offset, BufMut::with_len(len)).await;
    result.unwrap();
    data.to_vec()
}

#[test]
fn an_overlay_put_under_a_running_guest_takes_its_writes_and_shows_what_was_there() {
    rt::block_on_control(async {
        let graph = graph();
        graph.add(memory("base")).await.unwrap();
        let disk = attach(&graph, "base", Perms::WRITER).await.unwrap();
        disk.write(0, Buf::from_slice(&[1; 2048]), Request::GUEST).await.unwrap();
        graph.add(memory("f")).await.unwrap();
        let top = graph.add(overlay("top", "f")).await.unwrap();
        let base = graph.need_node("base").unwrap();
        graph.insert_overlay(&base, &top).await.unwrap();
        assert_eq!(disk.node().name(), "top");
        assert!(base.read_only());
        disk.write(700, Buf::from_slice(&[2; 10]), Request::GUEST).await.unwrap();
        for (at, byte) in read(&disk, 0, 2048).await.iter().enumerate() {
            assert_eq!(*byte, if (700..710).contains(&at) { 2 } else { 1 }, "byte {at}");
        }
        let (old, result) = base.read(700, BufMut::with_len(10)).await;
        result.unwrap();
        assert_eq!(&old[..], &[1; 10], "the base is as it was");
        assert_eq!(graph.remove("base").await.unwrap_err().kind(), ErrorKind::Busy);
    });
}

#[test]
fn a_user_that_needs_what_another_does_not_share_is_refused_and_nothing_changes() {
    rt::block_on_control(async {
        let graph = graph();
        graph.add(memory("f")).await.unwrap();
        let writer = attach(&graph, "f", Perms::WRITER).await.unwrap();
        let e = graph.add(overlay("o", "f")).await.unwrap_err();
        assert!(e.message().starts_with("Permission conflict on node 'f'"), "{e}");
        assert_eq!(graph.nodes().len(), 1);
        graph.detach(&writer).await.unwrap();
        graph.add(overlay("o", "f")).await.unwrap();
        assert_eq!(attach(&graph, "f", Perms::WRITER).await.unwrap_err().kind(), ErrorKind::Busy);
    });
}

#[test]
fn each_operation_is_refused_by_every_blocker_that_names_it_and_by_no_other() {
    rt::block_on_control(async {
        let graph = graph();
        let node = graph.add(memory("f")).await.unwrap();
        let changes = node.block(Operations::CHANGE, "job 'a' works on it");
        let reads = node.block(Operations::READ, "job 'b' changes what it shows");
        assert_eq!(node.blocked_by(), ["job 'a' works on it", "job 'b' changes what it shows"]);
        for operation in [Operations::RESIZE, Operations::REOPEN, Operations::OVERLAY, Operations::JOB] {
            let refused = node.check_operation(operation).unwrap_err();
            assert_eq!(
                (refused.kind(), refused.message()),
                (ErrorKind::Busy, "Node 'f' is busy: job 'a' works on it".to_owned())
            );
        }
        let busy = |e: BlockError| e.message().to_owned();
        let (by_a, by_b) =
            ("Node 'f' is busy: job 'a' works on it", "Node 'f' is busy: job 'b' changes what it shows");
        assert_eq!(graph.resize(&node, 4096, PreallocMode::Off).await.map_err(busy), Err(by_a.to_owned()));
        assert_eq!(graph.remove("f").await.map_err(busy), Err(by_a.to_owned()));
        assert_eq!(attach(&graph, "f", Perms::READER).await.map(drop).map_err(busy), Err(by_b.to_owned()));
        assert_eq!(graph.add(overlay("o", "f")).await.map(drop).map_err(busy), Err(by_b.to_owned()));
        drop(reads);
        let reader = attach(&graph, "f", Perms::READER).await.unwrap();
        graph.detach(&reader).await.unwrap();
        assert!(graph.remove("f").await.is_err());
        drop(changes);
        graph.remove("f").await.unwrap();
    });
}

#[test]
fn names_are_unique_and_well_formed_and_a_failed_open_leaves_nothing() {
    rt::block_on_control(async {
        let graph = graph();
        graph.add(memory("a")).await.unwrap();
        let message = |e: BlockError| e.message().to_owned();
        assert_eq!(message(graph.add(memory("a")).await.unwrap_err()), "Duplicate nodes with node-name='a'");
        assert_eq!(message(graph.add(memory("1a")).await.unwrap_err()), "Invalid node-name: '1a'");
        assert_eq!(message(graph.add(memory(&"x".repeat(32))).await.unwrap_err()), "Node name too long");
        let nested = memory("inner");
        let broken = Options::new()
            .with_str("driver", "overlay")
            .with("file", Opt::Dict(nested))
            .with("what", Opt::Null);
        graph.add(broken).await.unwrap_err();
        assert_eq!(graph.nodes().len(), 1);
    });
}

#[test]
fn a_node_has_its_name_but_is_not_found_before_its_driver_is_started() {
    rt::block_on_control(async {
        for start in [FAILS, WELL] {
            let graph = graph();
            START.store(WAITS, Release);
            let options = Options::new().with_str("driver", "starts").with_str("node-name", "s");
            let options = options.with("file", Opt::Dict(memory("inner")));
            let opening = {
                let graph = graph.clone();
                rt::spawn(async move { graph.add(options).await })
            };
            let begun = |inner: Arc<Node>| async move {
                let (bytes, result) = inner.read(0, BufMut::with_len(7)).await;
                result.is_ok() && &bytes[..] == b"started"
            };
            while !matches!(graph.node("inner"), Some(inner) if begun(inner.clone()).await) {
                rt::sleep(Duration::from_millis(1)).await;
            }
            assert!(graph.node("s").is_none());
            assert_eq!(graph.nodes().len(), 1);
            let duplicate = "Duplicate nodes with node-name='s'";
            assert_eq!(graph.check_free("s").unwrap_err().message(), duplicate);
            assert_eq!(graph.add(memory("s")).await.unwrap_err().message(), duplicate);
            assert_eq!(graph.add(overlay("o", "s")).await.unwrap_err().kind(), ErrorKind::NotFound);
            assert_eq!(graph.remove("s").await.unwrap_err().kind(), ErrorKind::NotFound);
            let inner = graph.need_node("inner").unwrap();
            let [parent] = &graph.parents(&inner)[..] else { panic!("it uses its child") };
            let (label, node) = ("guest".to_owned(), parent.node.clone());
            let request = BackendRequest { label, node, perms: Perms::READER, pinned: false };
            assert_eq!(graph.attach(request).await.map(drop).unwrap_err().kind(), ErrorKind::Busy);

            START.store(start, Release);
            let opened = opening.await.unwrap();
            assert_eq!(opened.is_ok(), start == WELL);
            assert_eq!(graph.nodes().len(), if start == WELL { 2 } else { 0 });
            assert_eq!(graph.node("s").is_some(), start == WELL);
            assert_eq!(graph.check_free("s").is_ok(), start == FAILS);
        }
    });
}

#[test]
fn a_node_is_closed_with_its_last_user_unless_the_monitor_owns_it() {
    rt::block_on_control(async {
        let graph = graph();
        let nested = Options::new().with_str("driver", "mem");
        let options = Options::new().with_str("driver", "overlay").with("file", Opt::Dict(nested));
        let node = graph.open(options, Policy::ALONE).await.unwrap();
        assert_eq!(graph.nodes().len(), 2);
        let request = BackendRequest { label: "guest".to_owned(), node, perms: Perms::READER, pinned: false };
        let disk = graph.attach(request).await.unwrap();
        graph.detach(&disk).await.unwrap();
        assert!(graph.nodes().is_empty());
    });
}

#[test]
fn a_change_waits_for_requests_inside_and_holds_new_ones_and_giving_up_changes_nothing() {
    rt::block_on_control(async {
        let graph = graph();
        graph.add(memory("base").with("slow", Opt::Bool(true))).await.unwrap();
        let disk = attach(&graph, "base", Perms::WRITER).await.unwrap();
        let slow_write = {
            let disk = disk.clone();
            rt::spawn(async move { disk.write(0, Buf::from_slice(&[9; 512]), Request::GUEST).await })
        };
        rt::sleep(Duration::from_millis(5)).await;
        assert_eq!(disk.in_flight(), 1);
        let nodes = [graph.need_node("base").unwrap()];
        let mut change = graph.change().await;
        assert!(rt::timeout(Duration::from_millis(20), change.quiesce(&nodes)).await.is_err());
        drop(change);
        assert!(!slow_write.is_finished(), "giving up the wait leaves the request alone");
        let other = rt::timeout(Duration::from_secs(120), disk.flush()).await;
        assert!(other.is_ok(), "the gate is open again");
    });
}

#[test]
fn after_one_failed_flush_nothing_is_acknowledged_any_more_but_reads_go_on() {
    rt::block_on_control(async {
        let graph = graph();
        graph.add(memory("d").with("fail-flush", Opt::Bool(true))).await.unwrap();
        let disk = attach(&graph, "d", Perms::WRITER).await.unwrap();
        disk.write(0, Buf::from_slice(&[5; 512]), Request::GUEST).await.unwrap();
        assert_eq!(disk.flush().await.unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(disk.flush().await.unwrap_err().kind(), ErrorKind::Poisoned);
        let e = disk.write(0, Buf::from_slice(&[6; 512]), Request::GUEST).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Poisoned);
        assert_eq!(disk.try_write(0, &[6; 512], Request::GUEST).unwrap(), 0);
        assert_eq!(read(&disk, 0, 512).await, [5; 512]);
    });
}

#[test]
fn a_node_over_storage_that_broke_can_be_deleted() {
    rt::block_on_control(async {
        let graph = graph();
        graph.add(memory("d").with("fail-flush", Opt::Bool(true))).await.unwrap();
        graph.add(overlay("o", "d")).await.unwrap();
        let e = graph.remove("o").await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Io, "the lost data are reported once");
        graph.remove("o").await.unwrap();
        graph.remove("d").await.unwrap();
        assert!(graph.nodes().is_empty());
    });
}

#[test]
fn a_dirty_bitmap_covers_every_write_while_it_is_there() {
    rt::block_on_control(async {
        let graph = graph();
        graph.add(memory("d")).await.unwrap();
        let disk = attach(&graph, "d", Perms::WRITER).await.unwrap();
        let bitmap = Arc::new(DirtyBitmap::new(disk.length(), 65536));
        let mut change = graph.change().await;
        change.add_hook(&disk.node(), Hook::After(bitmap.clone()));
        change.end(Ok(())).await.unwrap();
        disk.write(65536, Buf::from_slice(&[1; 1]), Request::GUEST).await.unwrap();
        assert_eq!(bitmap.next_dirty(0), Some(65536));
        assert_eq!(bitmap.take_run(65536, 1 << 20), 131_072);
        let mut change = graph.change().await;
        change.remove_hook(&disk.node(), Hook::After(bitmap.clone()));
        change.end(Ok(())).await.unwrap();
        disk.write(0, Buf::from_slice(&[1; 1]), Request::GUEST).await.unwrap();
        assert!(bitmap.is_clean());
    });
}

#[test]
fn an_entry_attached_while_a_change_is_under_way_waits_for_its_end() {
    rt::block_on_control(async {
        let graph = graph();
        graph.add(memory("base")).await.unwrap();
        let nodes = [graph.need_node("base").unwrap()];
        let mut change = graph.change().await;
        change.quiesce(&nodes).await.unwrap();
        let late = {
            let graph = graph.clone();
            rt::spawn(async move { attach(&graph, "base", Perms::READER).await.unwrap().flush().await })
        };
        rt::sleep(Duration::from_millis(20)).await;
        assert!(!late.is_finished());
        change.end(Ok(())).await.unwrap();
        late.await.unwrap().unwrap();
    });
}

#[test]
fn a_failed_sync_poisons_also_when_a_single_write_asked_for_it() {
    rt::block_on_control(async {
        let graph = graph();
        // By a flush of the node, and by a write that is durable by itself.
        for (name, own) in [("flushed", false), ("own", true)] {
            let disk = memory(name).with("fail-flush", Opt::Bool(true)).with("fua", Opt::Bool(own));
            graph.add(disk).await.unwrap();
            let disk = attach(&graph, name, Perms::WRITER).await.unwrap();
            let fua = Request::GUEST.with(Flags::FUA);
            let failed = disk.write(0, Buf::from_slice(&[5; 512]), fua).await.unwrap_err();
            assert_eq!(failed.kind(), ErrorKind::Io);
            assert_eq!(disk.flush().await.unwrap_err().kind(), ErrorKind::Poisoned);
        }
    });
}

#[test]
fn a_change_whose_last_step_fails_leaves_everything_as_it_was() {
    rt::block_on_control(async {
        let graph = graph();
        let base = graph.add(memory("base")).await.unwrap();
        let spare = graph.add(memory("spare")).await.unwrap();
        graph.add(memory("f")).await.unwrap();
        let top = graph.add(overlay("top", "f")).await.unwrap();
        let disk = attach(&graph, "base", Perms::WRITER).await.unwrap();
        let state = || {
            let users = graph.nodes().iter().map(|n| (graph.users(n), n.read_only())).collect::<Vec<_>>();
            (users, disk.node().name().to_owned(), top.backing().is_none())
        };
        let before = state();
        let nothing: fn() -> Result<()> = || Ok(());
        let refused: fn() -> Result<()> = || Err(BlockError::invalid("refused"));
        // The second time the steps are good, but the permissions that come out do not agree.
        for last_step in [refused, nothing] {
            let mut change = graph.change().await;
            change.quiesce(std::slice::from_ref(&base)).await.unwrap();
            let label = "late".to_owned();
            let late = BackendRequest { label, node: spare.clone(), perms: Perms::READER, pinned: false };
            change.attach(late).unwrap();
            change.set_writable(&spare, false).await.unwrap();
            change.replace(&base, &top).unwrap();
            change.set_backing(&top, Some(base.clone())).unwrap();
            change.set_perms(&disk, Perms { need: Share::READ, share: Share::NONE });
            let strict = BackendRequest {
                label: "strict".to_owned(),
                node: top.clone(),
                perms: Perms { need: Share::WRITE, share: Share::ALL },
                pinned: false,
            };
            assert!(change.attach(strict).is_err(), "no other may write there");
            assert!(change.end(last_step()).await.is_err());
            assert_eq!(state(), before);
            disk.write(0, Buf::from_slice(&[1; 512]), Request::GUEST).await.unwrap();
        }
    });
}

#[test]
fn a_read_that_comes_in_parts_is_counted_once_with_all_its_bytes() {
    rt::block_on_control(async {
        let graph = graph();
        graph.add(memory("d")).await.unwrap();
        let disk = attach(&graph, "d", Perms::READER).await.unwrap();
        let mut buf = [0; 2048];
        let n = disk.try_read(0, &mut buf).unwrap();
        assert_eq!(n, 512);
        read(&disk, n as u64, buf.len() - n).await;
        let stats = disk.stats().read;
        assert_eq!((stats.ops, stats.bytes), (1, 2048));
    });
}

#[test]
fn detect_zeroes_looks_at_what_guests_write_and_not_at_the_nodes_below() {
    rt::block_on_control(async {
        let graph = graph();
        let file = Opt::Dict(Options::new().with_str("driver", "mem"));
        let options = Options::new().with_str("driver", "overlay").with("file", file);
        let top = graph.add(options.with_str("detect-zeroes", "on")).await.unwrap();
        assert!(top.common().detect_zeroes && !top.primary().unwrap().common().detect_zeroes);
    });
}

#[test]
fn long_chains_and_nodes_that_are_reached_in_many_ways_are_changed_in_no_time() {
    rt::block_on_control(async {
        let graph = graph();
        let started = std::time::Instant::now();
        graph.add(memory("n0")).await.unwrap();
        for i in 1..400 {
            let below = format!("n{}", i - 1);
            // Its file and its backing image at once: 2^60 ways from the top down to the first.
            let file = if i < 60 { below.clone() } else { "n0".to_owned() };
            let options = overlay(&format!("n{i}"), &file).with_str("backing", &below);
            graph.add(options.with("read-only", Opt::Bool(true))).await.unwrap();
        }
        let reader = attach(&graph, "n399", Perms::READER).await.unwrap();
        graph.set_perms(&reader, Perms::IDLE).await.unwrap();
        graph.detach(&reader).await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    });
}

#[test]
fn a_chain_is_opened_and_closed_with_a_few_looks_at_each_layer() {
    rt::block_on_control(async {
        const LAYERS: usize = 1000;
        let graph = graph();
        let mut chain = Options::new().with_str("driver", "mem");
        for _ in 0..LAYERS {
            let file = Options::new().with_str("driver", "mem");
            chain = Options::new()
                .with_str("driver", "overlay")
                .with("read-only", Opt::Bool(true))
                .with("counts", Opt::Bool(true))
                .with("file", Opt::Dict(file))
                .with("backing", Opt::Dict(chain));
        }
        let top = graph.open(chain, Policy::ALONE).await.unwrap();
        let reader = attach(&graph, top.name(), Perms::READER).await.unwrap();
        graph.detach(&reader).await.unwrap();
        assert!(graph.nodes().is_empty());
        let asked = ASKED.load(Relaxed);
        assert!(asked < 20 * LAYERS, "asked {asked} times");
    });
}

#[test]
fn a_driver_is_always_given_the_combined_permissions_of_all_users_above_it() {
    rt::block_on_control(async {
        let graph = graph();
        graph.add(memory("n0").with("tells", Opt::Bool(true))).await.unwrap();
        for i in 1..8 {
            let lends = overlay(&format!("n{i}"), &format!("n{}", i - 1)).with("lends", Opt::Bool(true));
            graph.add(lends).await.unwrap();
        }
        let (mut users, mut state, mut refused): (Vec<(Arc<Backend>, Perms)>, _, _) =
            (Vec::new(), 88_172_645u64, 0);
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        for _ in 0..2000 {
            let need = [Share::NONE, Share::READ, Share::READ.union(Share::WRITE)][random(3)];
            let share = [Share::ALL, Share::ALL, Share::ALL, Share::READ][random(4)];
            let (perms, mine) = (Perms { need, share }, random(users.len().max(1)));
            REFUSES.store(random(4) == 0, Release);
            let failed = match (random(3), users.get_mut(mine)) {
                (0, Some(_)) => graph.detach(&users.swap_remove(mine).0).await.is_err(),
                (1, Some(user)) => {
                    let changed = graph.set_perms(&user.0, perms).await;
                    user.1 = if changed.is_ok() { perms } else { user.1 };
                    changed.is_err()
                }
                _ => match attach(&graph, &format!("n{}", random(8)), perms).await {
                    Ok(user) => {
                        users.push((user, perms));
                        false
                    }
                    Err(_) => true,
                },
            };
            refused += u32::from(failed);
            assert_eq!(*TOLD.lock(), Perms::together(users.iter().map(|(_, perms)| *perms)));
        }
        assert!((100..1900).contains(&refused), "{refused} refused");
    });
}

#[test]
fn a_reopen_of_several_nodes_changes_all_of_them_or_none() {
    rt::block_on_control(async {
        let graph = graph();
        for name in ["a", "b", "c"] {
            graph.add(memory(name)).await.unwrap();
        }
        let state = || -> Vec<_> {
            graph.nodes().iter().map(|n| (n.read_only(), n.common().detect_zeroes)).collect()
        };
        let strict =
            |name: &str| memory(name).with("read-only", Opt::Bool(true)).with_str("detect-zeroes", "on");
        let before = state();
        let guest = attach(&graph, "c", Perms::WRITER).await.unwrap();
        // The last one is refused by its driver, does not exist, or is written to by somebody.
        for last in [strict("b").with("nonsense", Opt::Uint(1)), strict("x"), strict("c")] {
            let e = graph.reopen(vec![strict("a"), strict("b"), last]).await.unwrap_err();
            assert_eq!(state(), before, "{e}");
        }
        graph.detach(&guest).await.unwrap();
        graph.reopen(vec![strict("a"), strict("b"), strict("c")]).await.unwrap();
        assert_eq!(state(), [(true, true); 3]);
        graph.reopen(vec![memory("a"), memory("c")]).await.unwrap();
        assert_eq!(state(), [(false, false), (true, true), (false, false)]);
    });
}

#[test]
fn a_node_that_was_deleted_can_neither_be_attached_nor_read() {
    rt::block_on_control(async {
        let graph = graph();
        graph.add(memory("f")).await.unwrap();
        let top = graph.add(overlay("top", "f")).await.unwrap();
        graph.remove("top").await.unwrap();
        let request = BackendRequest {
            label: "late".to_owned(),
            node: top.clone(),
            perms: Perms::READER,
            pinned: false,
        };
        assert_eq!(graph.attach(request).await.unwrap_err().kind(), ErrorKind::NotFound);
        let (_, result) = top.read(0, BufMut::with_len(512)).await;
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Closed);
    });
}

/// Runs on a stack of so many bytes.
fn on_a_stack(bytes: usize, work: impl Future<Output = ()> + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(bytes);
    thread.spawn(|| rt::block_on_control(work)).unwrap().join().unwrap();
}

#[test]
fn a_chain_of_1024_backing_images_is_read_changed_and_closed_and_a_longer_one_is_refused_soon() {
    // A call for each layer would overflow it.
    on_a_stack(256 << 10, async {
        let graph = graph();
        let small = |name: &str| memory(name).with("size", Opt::Uint(4096));
        graph.add(small("base")).await.unwrap();
        let disk = attach(&graph, "base", Perms::WRITER).await.unwrap();
        disk.write(0, Buf::from_slice(&[1; 4096]), Request::GUEST).await.unwrap();
        let mut last = Ok(());
        for layer in 0..=1024 {
            graph.add(small(&format!("f{layer}"))).await.unwrap();
            let top = graph.add(overlay(&format!("o{layer}"), &format!("f{layer}"))).await.unwrap();
            last = graph.insert_overlay(&disk.node(), &top).await;
            assert_eq!(last.is_ok(), layer < 1024, "layer {layer}: {last:?}");
        }
        assert_eq!(last.unwrap_err().kind(), ErrorKind::Limit);
        disk.write(512, Buf::from_slice(&[2; 512]), Request::GUEST).await.unwrap();
        let seen = read(&disk, 0, 4096).await;
        assert!(seen.iter().enumerate().all(|(i, b)| *b == if (512..1024).contains(&i) { 2 } else { 1 }));
        let mut first = [0; 512];
        assert_eq!((disk.try_read(0, &mut first).unwrap(), first), (512, [1; 512]), "without waiting too");
        assert_eq!(disk.status(0, 512).await.unwrap().depth, 1024);
        graph.set_writable(&disk.node(), false).await.unwrap_err();
        graph.detach(&disk).await.unwrap();
        // Dropping the last handle drops all nodes at once.
        drop(disk);
        drop(graph);
    });
}

#[test]
fn nodes_that_are_each_the_file_of_another_are_refused_long_before_the_stack_ends() {
    // A thread has four times as much.
    on_a_stack(512 << 10, async {
        let graph = graph();
        graph.add(memory("n0")).await.unwrap();
        let mut stacked = 0;
        let refused = loop {
            match graph.add(overlay(&format!("n{}", stacked + 1), &format!("n{stacked}"))).await {
                Ok(_) => stacked += 1,
                Err(e) => break e,
            }
        };
        assert_eq!((refused.kind(), stacked), (ErrorKind::Limit, 64));
        let disk = attach(&graph, "n64", Perms::WRITER).await.unwrap();
        disk.write(0, Buf::from_slice(&[1; 512]), Request::GUEST).await.unwrap();
        assert_eq!(read(&disk, 0, 1024).await, [[1; 512], [0; 512]].concat());
        graph.detach(&disk).await.unwrap();
        graph.close_all().await.unwrap();
        let deep = (0..2000).fold(Options::new().with_str("driver", "mem"), |file, _| {
            Options::new().with_str("driver", "overlay").with("file", Opt::Dict(file))
        });
        assert_eq!(graph.open(deep, Policy::ALONE).await.unwrap_err().kind(), ErrorKind::Limit);
        assert!(graph.nodes().is_empty());
    });
}
