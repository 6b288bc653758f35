//! A format whose guest clusters are dealt out over five extents, over a backing file.
//!
//! ```text
//!  file:       [text: size, name of the extents, backing file and its format][a byte a cluster: 0 backing, 1 data, 2 zero]
//!  extents.N:  clusters N, N + 5, N + 10, … one behind the other
//! ```
//!
//! What one has to write: a [`DriverType`], whose `create` makes the files and whose `open` is given the options of its own type and asks for each child by name ([`OpenContext::child`]), and a
//! [`Driver`] that says where the bytes are (`map`), prepares changes (`prepare_write`, a [`Token`]), makes them durable
//! (`flush`), and says what it needs of each child (`child_perms`). The core moves the bytes.

use std::sync::{Arc, OnceLock, Weak};

use api::codec::{Members, NoArguments, Object};
use api::{DecodeError, Dict, PreallocMode};
use block::{
    Action, BlockError, ChildId, ChildName, ChildRole, ChildSpec, Create, CreateRequest, Driver, DriverType,
    Edge, Edges, ErrorKind, Extent, ExtentKind, Facts, Flags, Lease, Leases, Link, MapChange, Node, Open,
    OpenContext, Opened, Perms, Request, Result, Share, Token, Undo, Want, WritePlan,
};
use futures_util::lock::Mutex as Lock;
use parking_lot::Mutex;
use rt::{BoxFuture, Buf, BufMut};

/// Bytes of a cluster.
pub const CLUSTER: u64 = 1024;
/// How many extents there are.
pub const EXTENTS: u64 = 5;
/// Where the states of the clusters begin in the file.
pub const STATES: u64 = 512;
const MAGIC: &str = "spread";

const BACKING: u8 = 0;
/// The cluster is in its extent.
pub const DATA: u8 = 1;
/// The cluster reads as zeroes.
pub const ZERO: u8 = 2;

pub const DRIVERS: &[DriverType] = &[DriverType {
    name: "spread",
    open: &Open(open),
    create: Some(&CREATE),
    supports_backing: true,
    ..DriverType::FORMAT
}];

/// What the file says of the image.
pub struct Header {
    pub size: u64,
    /// Extent N is the file `extents.N`.
    pub extents: String,
    pub backing: Link,
}

impl Header {
    pub fn parse(head: &[u8]) -> Option<Header> {
        let text = std::str::from_utf8(head.get(..STATES as usize)?).ok()?;
        let mut lines = text.lines();
        if lines.next() != Some(MAGIC) {
            return None;
        }
        let size = lines.next()?.parse().ok()?;
        let extents = lines.next()?.to_owned();
        let mut name = || Some(lines.next()?.to_owned()).filter(|name| !name.is_empty());
        let backing = Link { filename: name(), format: name() };
        Some(Header { size, extents, backing })
    }
}

/// The extent that a cluster is in, and where it begins there.
pub fn place(cluster: u64) -> (usize, u64) {
    ((cluster % EXTENTS) as usize, cluster / EXTENTS * CLUSTER)
}

/// What is asked of an image; a format of ours has it from the schema.
struct CreateOptions {
    /// The extents are made under this name, with a number each.
    extents: String,
    backing_file: Option<String>,
    backing_fmt: Option<String>,
}

impl Object for CreateOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            extents: from.required("extents")?,
            backing_file: from.optional("backing-file")?,
            backing_fmt: from.optional("backing-fmt")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("extents", &self.extents);
        to.put_optional("backing-file", &self.backing_file);
        to.put_optional("backing-fmt", &self.backing_fmt);
    }
}

const CREATE: Create<CreateOptions> =
    Create { adapt: None, judge: |size, options| head(size, options).map(drop), create, measure: None };

/// The begin of the file.
fn head(size: u64, options: &CreateOptions) -> Result<Vec<u8>> {
    let mut text = format!("{MAGIC}\n{size}\n");
    for name in [Some(&options.extents), options.backing_file.as_ref(), options.backing_fmt.as_ref()] {
        text += name.map_or("", String::as_str);
        text.push('\n');
    }
    let mut head = text.into_bytes();
    if head.len() as u64 > STATES {
        return Err(BlockError::invalid("the names are too long"));
    }
    head.resize((STATES + size.div_ceil(CLUSTER)) as usize, BACKING);
    Ok(head)
}

/// Makes the extents, each in a place that it claims, then the file.
fn create(request: CreateRequest<'_, CreateOptions>) -> BoxFuture<'_, Result<()>> {
    Box::pin(async move {
        let CreateRequest { file, size, options, places } = request;
        for index in 0..EXTENTS {
            let extent = places.further(&format!("{}.{index}", options.extents)).await?;
            extent.driver().resize(0, PreallocMode::Off).await?;
            extent
                .driver()
                .resize(size.div_ceil(CLUSTER).div_ceil(EXTENTS) * CLUSTER, PreallocMode::Off)
                .await?;
            extent.flush().await?;
        }
        file.driver().resize(0, PreallocMode::Off).await?;
        file.write(0, Buf::from_slice(&head(size, &options)?), Request::GUEST).await?;
        file.flush().await
    })
}

/// Opens an image. It has no options but those of its children.
fn open(context: &mut OpenContext, _: NoArguments) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let role = ChildRole::METADATA.union(ChildRole::PRIMARY);
        let (file, node) = context.needed(ChildSpec { name: "file".into(), role, stored: None }).await?;
        let (head, result) = node.read(0, BufMut::with_len(node.length() as usize)).await;
        result?;
        let header = Header::parse(&head).ok_or_else(|| BlockError::corrupt("this is no spread image"))?;
        let clusters = header.size.div_ceil(CLUSTER);
        let states = head.get(STATES as usize..(STATES + clusters) as usize);
        let states = states.ok_or_else(|| BlockError::corrupt("the file ends inside of the table"))?.to_vec();

        let mut extents = Vec::new();
        for index in 0..EXTENTS as u32 {
            let name = ChildName { name: "extents", index: Some(index) };
            let stored = (!header.extents.is_empty()).then(|| format!("{}.{index}", header.extents));
            let link = Link { filename: stored, format: None };
            let spec = ChildSpec { name, role: ChildRole::DATA, stored: Some(&link) };
            let (id, extent) = context.needed(spec).await?;
            if extent.length() < clusters.div_ceil(EXTENTS) * CLUSTER {
                return Err(BlockError::invalid(format!("'{name}' is too short")));
            }
            extents.push(id);
        }
        context.backing(Some(&header.backing)).await?;
        let saved = Mutex::new(states.iter().copied().map(Some).collect());
        let map = Arc::new(Map { now: Mutex::new(states), saved, turn: Lock::new(()) });
        let (edges, leases, node) = (context.edges().clone(), Leases::new(), OnceLock::new());
        let spread = Spread { edges, file, extents, size: header.size, map, leases, node };
        Ok(Opened { driver: Arc::new(spread), filename: None })
    })
}

/// The states of the clusters.
struct Map {
    now: Mutex<Vec<u8>>,
    /// As they are on disk; nothing where a write of one has failed.
    saved: Mutex<Vec<Option<u8>>>,
    /// One flush after the other.
    turn: Lock<()>,
}

struct Spread {
    edges: Arc<Edges>,
    file: ChildId,
    extents: Vec<ChildId>,
    size: u64,
    map: Arc<Map>,
    leases: Arc<Leases>,
    node: OnceLock<Weak<Node>>,
}

/// A cluster's new state, taken over when its data are stored. Others wait for the cluster meanwhile.
struct Turned {
    map: Arc<Map>,
    cluster: u64,
    state: u8,
    lease: Lease,
}

impl Token for Turned {
    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            if let Some(state) = self.map.now.lock().get_mut(self.cluster as usize) {
                *state = self.state;
            }
            drop(self.lease);
            Ok(())
        })
    }
}

impl Spread {
    fn state(&self, cluster: u64) -> u8 {
        self.map.now.lock().get(cluster as usize).copied().unwrap_or(ZERO)
    }

    /// The child and the offset there of a guest offset.
    fn place(&self, offset: u64) -> Result<(ChildId, u64)> {
        let (extent, at) = place(offset / CLUSTER);
        let child = self.extents.get(extent).ok_or_else(|| BlockError::invalid("no such extent"))?;
        Ok((*child, at + offset % CLUSTER))
    }

    /// The extents first, then the states that say what is in them.
    async fn save(&self) -> Result<()> {
        let _turn = self.map.turn.lock().await;
        let changed = self.begin_saving();
        for extent in &self.extents {
            self.edges.need(*extent)?.flush().await?;
        }
        let file = self.edges.need(self.file)?;
        for (n, state) in &changed {
            file.write(STATES + n, Buf::from_slice(&[*state]), Request::GUEST).await?;
        }
        file.flush().await?;
        self.set_saved(&changed, Some);
        Ok(())
    }

    /// Which clusters' states are to be saved, and what they are. From now on nobody takes one for saved that may become
    /// another on disk.
    fn begin_saving(&self) -> Vec<(u64, u8)> {
        let mut saved = self.map.saved.lock();
        let (now, mut changed) = (self.map.now.lock(), Vec::new());
        for (n, (now, saved)) in (0..).zip(now.iter().zip(saved.iter_mut())) {
            if *saved != Some(*now) {
                *saved = None;
                changed.push((n, *now));
            }
        }
        changed
    }

    fn set_saved(&self, changed: &[(u64, u8)], what: impl Fn(u8) -> Option<u8>) {
        let mut saved = self.map.saved.lock();
        for (n, state) in changed {
            if let Some(slot) = saved.get_mut(*n as usize) {
                *slot = what(*state);
            }
        }
    }

    /// A plan that sets a state, with the lease on its cluster.
    fn plan(&self, cluster: u64, len: u64, action: Action, state: u8, lease: Lease) -> WritePlan {
        let token = Turned { map: self.map.clone(), cluster, state, lease };
        WritePlan { len, action, token: Some(Box::new(token)) }
    }

    async fn prepare(&self, offset: u64, len: u64, change: MapChange, request: Request) -> Result<WritePlan> {
        let (cluster, head) = (offset / CLUSTER, offset % CLUSTER);
        let whole = CLUSTER.min(self.size - cluster * CLUSTER);
        let len = len.min(whole - head);
        let lease = self.leases.lease(cluster, cluster + 1, true).await;
        let state = self.state(cluster);
        let without = |action| WritePlan { len, action, token: None };
        if request.has(Flags::IF_UNALLOCATED) && state != BACKING {
            return Ok(without(Action::Nothing));
        }
        if change == MapChange::Data {
            let (child, offset) = self.place(offset)?;
            return Ok(match state {
                DATA => without(Action::Forward { child, offset }),
                _ => {
                    let store = Action::Store { child, offset, head, tail: whole - head - len, fresh: false };
                    self.plan(cluster, len, store, DATA, lease)
                }
            });
        }
        Ok(match (state, len == whole, change) {
            (ZERO, ..) => without(Action::Nothing),
            (_, true, _) => self.plan(cluster, len, Action::Metadata, ZERO, lease),
            (_, false, MapChange::Discard) => without(Action::Nothing),
            (_, false, _) => without(Action::AsData),
        })
    }
}

impl Driver for Spread {
    fn facts(&self) -> Facts {
        Facts {
            mapping: true,
            cluster_size: Some(CLUSTER),
            can_write_zeroes: true,
            can_fill: true,
            grows_with_zeroes: true,
            ..Facts::default()
        }
    }

    fn length(&self) -> u64 {
        self.size
    }

    fn try_map(&self, offset: u64, len: u64, _: Want) -> Option<Extent> {
        let kind = match self.state(offset / CLUSTER) {
            DATA => {
                let (child, offset) = self.place(offset).ok()?;
                ExtentKind::Data { child, offset, owned: true }
            }
            BACKING => ExtentKind::HOLE,
            _ => ExtentKind::Zero { reserved: None },
        };
        Some(Extent { len: len.min(CLUSTER - offset % CLUSTER), kind })
    }

    fn map(&self, offset: u64, len: u64, want: Want) -> BoxFuture<'_, Result<Extent>> {
        let extent = self.try_map(offset, len, want).ok_or_else(|| BlockError::invalid("no such extent"));
        Box::pin(std::future::ready(extent))
    }

    fn prepare_write(
        &self,
        offset: u64,
        len: u64,
        change: MapChange,
        request: Request,
    ) -> BoxFuture<'_, Result<WritePlan>> {
        Box::pin(self.prepare(offset, len, change, request))
    }

    fn is_settled(&self, offset: u64, len: u64) -> bool {
        let clusters = (offset / CLUSTER) as usize..((offset + len).div_ceil(CLUSTER)) as usize;
        let (saved, now) = (self.map.saved.lock(), self.map.now.lock());
        clusters.into_iter().all(|n| now.get(n).copied() == saved.get(n).copied().flatten())
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let saved = self.save().await;
            // Lack of space harms nothing: the next flush does it all again.
            if let Err(e) = &saved
                && e.kind() != ErrorKind::NoSpace
                && let Some(node) = self.node.get().and_then(Weak::upgrade)
            {
                node.poison(e);
            }
            saved
        })
    }

    /// The core has flushed before, unless a flush failed: then what was written is not durable, and this tells it.
    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            match self.node.get().and_then(Weak::upgrade) {
                Some(node) if node.poisoned() => Err(node.poison_error()),
                _ => Ok(()),
            }
        })
    }

    fn set_writable(&self, writable: bool) -> BoxFuture<'_, Result<Undo>> {
        Box::pin(async move {
            if !writable {
                self.save().await?;
            }
            Ok(Box::new(|| {}) as Undo)
        })
    }

    fn child_perms(&self, child: &Edge, parents: Perms, read_only: bool) -> Perms {
        let share = Share::READ.union(Share::WRITE_UNCHANGED);
        if child.role().has(ChildRole::BACKING) {
            return Perms { need: Share(parents.need.0 & Share::READ.0), share };
        }
        // The states are held in memory: nobody else writes.
        Perms { need: if read_only { Share::READ } else { Share::READ.union(Share::WRITE) }, share }
    }

    fn attached(&self, node: &Arc<Node>) {
        self.node.get_or_init(|| Arc::downgrade(node));
    }
}
