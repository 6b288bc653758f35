//! A toy format: one table of clusters, one lock, and a list of ways to be wrong.
//!
//! ```text
//!  [size][table: one u64 a guest cluster, 0 or a host cluster] … [clusters]
//! ```
//!
//! Right is: data, then a sync, then the table, then a sync; a freed cluster waits for that; one lock around every request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use api::codec::{Members, NoArguments};
use api::{DecodeError, Dict};
use block::{
    BlockError, ChildId, Create, CreateRequest, Driver, DriverType, Edges, ErrorKind, Extent, ExtentKind,
    Facts, Flags, Node, Open, OpenContext, Opened, Request, Result, Want,
};
use futures_util::lock::Mutex as Lock;
use parking_lot::Mutex;
use rt::{BoxFuture, Buf, BufMut};

const CLUSTER: u64 = 1024;
const TABLE: u64 = 512;

/// The one way in which the driver is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    None,
    MapsBeforeData,
    FlushesNothing,
    ForgetsTables,
    ReusesEarly,
    NoLease,
    ZeroesNeighbours,
    BelievesFailedFlush,
    SwallowsErrors,
    KeepsLease,
    MapsDataAsZero,
}

impl Bug {
    const ALL: [Bug; 11] = [
        Bug::None,
        Bug::MapsBeforeData,
        Bug::FlushesNothing,
        Bug::ForgetsTables,
        Bug::ReusesEarly,
        Bug::NoLease,
        Bug::ZeroesNeighbours,
        Bug::BelievesFailedFlush,
        Bug::SwallowsErrors,
        Bug::KeepsLease,
        Bug::MapsDataAsZero,
    ];

    /// Its name, as an option's value.
    pub fn name(self) -> &'static str {
        match self {
            Bug::None => "none",
            Bug::MapsBeforeData => "maps-before-data",
            Bug::FlushesNothing => "flushes-nothing",
            Bug::ForgetsTables => "forgets-tables",
            Bug::ReusesEarly => "reuses-early",
            Bug::NoLease => "no-lease",
            Bug::ZeroesNeighbours => "zeroes-neighbours",
            Bug::BelievesFailedFlush => "believes-failed-flush",
            Bug::SwallowsErrors => "swallows-errors",
            Bug::KeepsLease => "keeps-lease",
            Bug::MapsDataAsZero => "maps-data-as-zero",
        }
    }
}

pub const DRIVERS: &[DriverType] =
    &[DriverType { name: "toy", open: &Open(open), create: Some(&CREATE), ..DriverType::FORMAT }];

const CREATE: Create<NoArguments> = Create { adapt: None, judge: |_, _| Ok(()), create, measure: None };

fn create(request: CreateRequest<'_, NoArguments>) -> BoxFuture<'_, Result<()>> {
    Box::pin(async move {
        let file = request.file;
        let mut head = vec![0; (TABLE + request.size.div_ceil(CLUSTER) * 8) as usize];
        head[..8].copy_from_slice(&request.size.to_le_bytes());
        file.write(0, Buf::from_slice(&head), Request::GUEST).await?;
        file.flush().await
    })
}

/// What a toy is opened with.
#[derive(Default)]
struct ToyOptions {
    bug: Option<String>,
}

impl api::codec::Object for ToyOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { bug: from.optional("bug")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("bug", &self.bug);
    }
}

fn open(context: &mut OpenContext, options: ToyOptions) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let (child, file) = context.file().await?;
        let name = options.bug.unwrap_or_default();
        let bug = Bug::ALL.into_iter().find(|bug| bug.name() == name).unwrap_or(Bug::None);
        let (head, result) = file.read(0, BufMut::with_len(file.length() as usize)).await;
        result?;
        let word = |at: u64| u64::from_le_bytes(head[at as usize..][..8].try_into().unwrap_or_default());
        let size = word(0);
        let table: Vec<u64> = (0..size.div_ceil(CLUSTER)).map(|n| word(TABLE + n * 8)).collect();
        let first = (TABLE + table.len() as u64 * 8).div_ceil(CLUSTER);
        let state = Mutex::new(State { saved: table.clone(), table, first, ..State::default() });
        let (edges, poisoned) = (context.edges().clone(), AtomicBool::new(false));
        let toy = Toy { edges, child, size, bug, lease: Lock::new(()), state, poisoned };
        Ok(Opened { driver: Arc::new(toy), filename: None })
    })
}

#[derive(Default)]
struct State {
    table: Vec<u64>,
    /// The table as it is on disk.
    saved: Vec<u64>,
    first: u64,
    /// Clusters taken for requests under way.
    reserved: Vec<u64>,
    /// Clusters that may not be used before the table is durable.
    freed: Vec<u64>,
}

impl State {
    fn reserve(&mut self) -> u64 {
        let used = |host: &u64| {
            self.table.contains(host) || self.freed.contains(host) || self.reserved.contains(host)
        };
        let host = (self.first..).find(|host| !used(host)).unwrap_or(self.first);
        self.reserved.push(host);
        host
    }

    fn map(&mut self, cluster: u64, host: u64, bug: Bug) {
        let old = std::mem::replace(&mut self.table[cluster as usize], host);
        self.reserved.retain(|reserved| *reserved != host);
        if old != 0 && bug != Bug::ReusesEarly {
            self.freed.push(old);
        }
    }
}

struct Toy {
    edges: Arc<Edges>,
    child: ChildId,
    size: u64,
    bug: Bug,
    lease: Lock<()>,
    state: Mutex<State>,
    poisoned: AtomicBool,
}

/// The range by cluster: cluster, offset inside, bytes.
fn pieces(offset: u64, len: u64) -> impl Iterator<Item = (u64, u64, u64)> {
    let end = offset + len;
    (offset / CLUSTER..end.div_ceil(CLUSTER)).map(move |cluster| {
        let (from, to) = (offset.max(cluster * CLUSTER), end.min((cluster + 1) * CLUSTER));
        (cluster, from - cluster * CLUSTER, to - from)
    })
}

impl Toy {
    fn file(&self) -> Result<Arc<Node>> {
        self.edges.need(self.child)
    }

    fn host(&self, cluster: u64) -> u64 {
        self.state.lock().table[cluster as usize]
    }

    /// Runs a request under the one lease.
    async fn leased(&self, request: impl Future<Output = Result<()>> + Send) -> Result<()> {
        if self.poisoned.load(SeqCst) {
            return Err(BlockError::new(ErrorKind::Poisoned, "a flush failed"));
        }
        let lease = if self.bug == Bug::NoLease { None } else { Some(self.lease.lock().await) };
        let result = request.await;
        match self.bug {
            Bug::KeepsLease if result.is_err() => std::mem::forget(lease),
            Bug::SwallowsErrors => return Ok(()),
            _ => {}
        }
        result
    }

    async fn write_piece(&self, cluster: u64, within: u64, data: Buf) -> Result<()> {
        let file = self.file()?;
        let (host, flags) = (self.host(cluster), Request::GUEST);
        let (from, to) = (within as usize, within as usize + data.len());
        if host != 0 && (self.bug != Bug::ZeroesNeighbours || data.len() as u64 == CLUSTER) {
            return file.write(host * CLUSTER + within, data, flags).await;
        }
        let mut whole = BufMut::zeroed(CLUSTER as usize);
        if host != 0 {
            let (old, result) = file.read(host * CLUSTER, BufMut::with_len(CLUSTER as usize)).await;
            result?;
            file.write(host * CLUSTER, whole.freeze(), flags).await?;
            whole = old;
            whole[from..to].copy_from_slice(&data);
            return file.write(host * CLUSTER, whole.freeze(), flags).await;
        }
        whole[from..to].copy_from_slice(&data);
        let new = self.state.lock().reserve();
        let stored = file.write(new * CLUSTER, whole.freeze(), flags).await;
        if stored.is_err() {
            self.state.lock().reserved.retain(|reserved| *reserved != new);
            return stored;
        }
        self.state.lock().map(cluster, new, self.bug);
        Ok(())
    }

    async fn zero_piece(&self, cluster: u64, within: u64, len: u64) -> Result<()> {
        let host = self.host(cluster);
        if host == 0 {
            return Ok(());
        }
        if len == CLUSTER {
            self.state.lock().map(cluster, 0, self.bug);
            return Ok(());
        }
        let zeroes = BufMut::zeroed(len as usize).freeze();
        self.file()?.write(host * CLUSTER + within, zeroes, Request::GUEST).await
    }

    async fn save(&self) -> Result<()> {
        let file = self.file()?;
        let (table, saved, freed) = {
            let state = self.state.lock();
            (state.table.clone(), state.saved.clone(), state.freed.clone())
        };
        if !matches!(self.bug, Bug::MapsBeforeData | Bug::FlushesNothing) {
            let flushed = file.flush().await;
            if self.bug != Bug::BelievesFailedFlush {
                flushed?;
            }
        }
        if self.bug == Bug::ForgetsTables {
            return Ok(());
        }
        for (n, (word, _)) in table.iter().zip(saved).enumerate().filter(|(_, (new, old))| *new != old) {
            let word = Buf::from_slice(&word.to_le_bytes());
            file.write(TABLE + n as u64 * 8, word, Request::GUEST).await?;
        }
        if self.bug != Bug::FlushesNothing {
            file.flush().await?;
        }
        let mut state = self.state.lock();
        state.saved = table;
        state.freed.retain(|host| !freed.contains(host));
        Ok(())
    }

    async fn each(&self, offset: u64, len: u64, discard: bool) -> Result<()> {
        self.leased(async {
            for (cluster, within, len) in pieces(offset, len) {
                if !discard || len == CLUSTER {
                    self.zero_piece(cluster, within, len).await?;
                }
            }
            Ok(())
        })
        .await
    }
}

impl Driver for Toy {
    fn facts(&self) -> Facts {
        Facts {
            cluster_size: Some(CLUSTER),
            can_write_zeroes: true,
            fua: true,
            grows_with_zeroes: true,
            ..Facts::default()
        }
    }

    fn length(&self) -> u64 {
        self.size
    }

    fn map(&self, offset: u64, len: u64, _: Want) -> BoxFuture<'_, Result<Extent>> {
        Box::pin(async move {
            let zero = self.host(offset / CLUSTER) == 0 || self.bug == Bug::MapsDataAsZero;
            let kind = if zero { ExtentKind::Zero { reserved: None } } else { ExtentKind::Stored };
            Ok(Extent { len: len.min(CLUSTER - offset % CLUSTER), kind })
        })
    }

    fn read(&self, offset: u64, buf: BufMut) -> BoxFuture<'_, (BufMut, Result<()>)> {
        Box::pin(async move {
            let mut buf = buf;
            let lease = if self.bug == Bug::NoLease { None } else { Some(self.lease.lock().await) };
            for (cluster, within, len) in pieces(offset, buf.len() as u64) {
                let at = (cluster * CLUSTER + within - offset) as usize;
                let host = self.host(cluster);
                let mut part = BufMut::zeroed(len as usize);
                if let (Ok(file), true) = (self.file(), host != 0) {
                    let result;
                    (part, result) = file.read(host * CLUSTER + within, part).await;
                    if result.is_err() {
                        return (buf, result);
                    }
                }
                buf[at..at + len as usize].copy_from_slice(&part);
            }
            drop(lease);
            (buf, Ok(()))
        })
    }

    fn write(&self, offset: u64, data: Buf, request: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let written = self.leased(async {
                for (cluster, within, len) in pieces(offset, data.len() as u64) {
                    let at = (cluster * CLUSTER + within - offset) as usize;
                    self.write_piece(cluster, within, data.slice(at..at + len as usize)).await?;
                }
                Ok(())
            });
            written.await?;
            if request.has(Flags::FUA) { self.flush().await } else { Ok(()) }
        })
    }

    fn write_zeroes(&self, offset: u64, len: u64, request: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.each(offset, len, false).await?;
            if request.has(Flags::FUA) { self.flush().await } else { Ok(()) }
        })
    }

    fn discard(&self, offset: u64, len: u64, _: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.each(offset, len, true))
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.leased(async {
            let result = self.save().await;
            // Lack of space harms nothing: the next flush does it all again.
            if result.as_ref().is_err_and(|e| e.kind() != ErrorKind::NoSpace) {
                self.poisoned.store(true, SeqCst);
            }
            result
        }))
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        self.flush()
    }
}
