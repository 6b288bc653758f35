//! What a driver is: one trait in five groups.
//!
//! - *Facts*: fixed at open, cached by the node.
//! - *Mapping*, for formats and filters: where the bytes of a guest range are. The core moves them.
//! - *Direct I/O*, for protocols, and for what has no 1:1 bytes (compressed clusters).
//! - *What holds the content*: size, emptying, space.
//! - *Of the node itself*: access, options, permissions, identity, close, and capability objects.
//!
//! A filter gives [`Driver::filtered`] and says what it changes; the rest passes through ([`crate::Filtered`]).
//!
//! What holds of all methods, where they say nothing else:
//! - all offsets and lengths are bytes in the node's own address space. The core has checked every range against
//!   [`Driver::length`] before it calls, except that a range may end beyond the length when an image's size is not a
//!   multiple of a child's alignment;
//! - they are called concurrently, from any worker. Those of mapping and direct I/O come from inside of a request: they
//!   must not wait for a gate, for the graph's turn, or for other requests to end;
//! - a future of a read that is dropped leaves the node usable. One of a change is driven to its end: what it has begun to
//!   write may come to be written after it is dropped, in space that its token has given back to others by then;
//! - "durable" means: there after a crash of the machine, as far as the storage below keeps its own word.
use crate::bitmaps::BitmapStore;
use crate::coding::Coding;
use crate::common::Common;
use crate::edges::{ChildId, ChildRole, Edge};
use crate::error::{BlockError, Result};
use crate::filter::{Filtered, ready, through};
use crate::identity::Identity;
use crate::node::Node;
use crate::objects::{Objects, Secret};
use crate::options::Options;
use crate::perm::Perms;
use crate::point_in_time::PointInTime;
use crate::request::Request;
use crate::request_limits::RequestLimits;
use crate::snapshot::Snapshots;
use crate::steps::{Breakpoints, Step};
use api::{BlockStatsSpecific, ImageInfoSpecific, PreallocMode, SnapshotInfo};
use rt::{BoxFuture, Buf, BufMut};
use std::sync::Arc;

/// Static facts of an opened driver. Re-read after resize and reopen.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The driver answers [`Driver::map`] and leaves moving bytes to the core.
    pub mapping: bool,
    /// Offsets and lengths of direct I/O must be multiples of this (a power of two, 1 for none).
    pub alignment: u32,
    /// Cluster size in bytes, where there is such a thing.
    pub cluster_size: Option<u64>,
    /// Bytes that are allocated at once, where that is less than a cluster.
    pub allocation_unit: Option<u64>,
    /// [`Driver::write`] makes durable what it is asked to ([`crate::Flags::FUA`]); other drivers are not asked, but flushed.
    /// Never while a flush, or another such request, is under way: it may be told of what others lost.
    pub fua: bool,
    /// So does [`Driver::write_zeroes`].
    pub fua_zeroes: bool,
    /// Data can be stored compressed ([`crate::Flags::COMPRESSED`]), by whole clusters; other drivers are not asked.
    pub can_compress: bool,
    /// Data can be stored in no other way: programs that copy to it compress.
    pub must_compress: bool,
    /// Data and zeroes can be stored only where nothing is ([`crate::Flags::IF_UNALLOCATED`]): [`Driver::prepare_write`] looks, under
    /// its lease, and answers [`Action::Nothing`] for what is allocated. Other drivers that map are not asked.
    pub can_fill: bool,
    /// Zeroes can be written faster than data without losing thinness.
    pub can_write_zeroes: bool,
    /// A freshly grown range reads as zeroes, and a new image without a backing file.
    pub grows_with_zeroes: bool,
    /// Block status of mapped data is that of the child (raw, filters).
    pub transparent: bool,
    /// The file holds much less than the mapping says (preallocated metadata, thin writes): what is mapped as data
    /// may be a hole of the file, and block status looks there too.
    pub thin_data: bool,
    /// It is told of steps ([`Driver::announced`]).
    pub steps: bool,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            mapping: false,
            alignment: 1,
            cluster_size: None,
            allocation_unit: None,
            fua: false,
            fua_zeroes: false,
            can_compress: false,
            must_compress: false,
            can_fill: false,
            can_write_zeroes: false,
            grows_with_zeroes: false,
            transparent: false,
            thin_data: false,
            steps: false,
        }
    }
}

/// Children that come and go: a list of them.
pub trait Membership: Send + Sync {
    /// The list's name, and what each of it is.
    fn list(&self) -> (&'static str, ChildRole);

    /// Refuses a node that can't become one of them.
    fn may_join(&self, child: &Node) -> Result<()>;

    /// Refuses that there is one less.
    fn may_leave(&self) -> Result<()>;
}

/// What a mapping is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Where to read from.
    Read,
    /// Where an overwrite in place may go.
    Write,
    /// What block status tells: precise zeroes, as long an extent as is known cheaply.
    Status,
}

/// Where a range's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtentKind {
    /// In a child, one to one from `offset` on. `owned`: an overwrite in place changes nobody else's bytes and no
    /// mapping.
    Data {
        /// The child that holds the bytes.
        child: ChildId,
        /// Byte offset in the child of the extent's first byte.
        offset: u64,
        /// May be overwritten in place.
        owned: bool,
    },
    /// Reads as zeroes, by this layer's own word.
    Zero {
        /// Space that is reserved for the bytes: the child, and the byte offset there.
        reserved: Option<(ChildId, u64)>,
    },
    /// Not in this layer: the backing node's bytes, or zeroes without one.
    Hole {
        /// As for zeroes; told to [`Want::Status`] only.
        reserved: Option<(ChildId, u64)>,
    },
    /// Stored in a form without 1:1 bytes: [`Driver::read`] decodes it.
    Encoded,
    /// Bytes of the node itself (protocols).
    Stored,
}

impl ExtentKind {
    /// A hole for which no space is reserved.
    pub const HOLE: Self = Self::Hole { reserved: None };

    /// Whether the bytes are not in this layer.
    pub fn is_hole(&self) -> bool {
        matches!(self, Self::Hole { .. })
    }
}

/// A mapped piece: `len` bytes from the asked offset on. May be shorter than what was asked; [`Want::Status`] may
/// answer more than was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Bytes, never 0.
    pub len: u64,
    /// Where they are.
    pub kind: ExtentKind,
}

/// What a change of a mapping is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapChange {
    /// New data follows.
    Data,
    /// The range shall read as zeroes.
    Zero,
    /// The content is no longer needed.
    Discard,
}

/// What the core does between [`Driver::prepare_write`] and [`Token::commit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Store the data at `offset` of `child`, with `head` bytes before it and `tail` bytes after it filled with the
    /// old content of the guest range around it. `fresh`: the host range reads as zeroes already, so that zero
    /// edges need no write.
    Store {
        /// The child to write to.
        child: ChildId,
        /// Byte offset in the child of the request's first byte.
        offset: u64,
        /// Bytes of old content to put in front.
        head: u64,
        /// Bytes of old content to put behind.
        tail: u64,
        /// The host range reads as zeroes.
        fresh: bool,
    },
    /// The child does the same thing at `offset` (filters and raw).
    Forward {
        /// The child.
        child: ChildId,
        /// Byte offset in the child of the request's first byte.
        offset: u64,
    },
    /// The driver stores the data itself, through [`Driver::write`], because it must look at it.
    Direct,
    /// The token stores the data, in a form of its own ([`Token::store`]).
    Encode,
    /// Nothing to move: the commit alone does it.
    Metadata,
    /// The change can't be done by metadata; zeroes must be written as data.
    AsData,
    /// Nothing to do at all.
    Nothing,
}

/// A prepared change of a mapping for the first `len` bytes of the asked range.
#[must_use]
pub struct WritePlan {
    /// Bytes from the asked offset on that the plan covers, never 0.
    pub len: u64,
    /// What the core does now.
    pub action: Action,
    /// Publishes the change afterwards; dropping it gives the reservation back.
    pub token: Option<Box<dyn Token>>,
}

/// A reservation that waits for its data. Dropping it gives everything back.
pub trait Token: Send {
    /// Stores the data of the plan ([`Action::Encode`]), of all of its `len` bytes, before the change is published: it
    /// publishes nothing itself.
    fn store(&mut self, data: Buf) -> BoxFuture<'_, Result<()>> {
        let _ = data;
        ready(Err(BlockError::unsupported("this change stores no data itself")))
    }

    /// Publishes the change. Called after the data is written. Nothing else does.
    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>>;
}

/// What `info` tells beyond size and name.
#[derive(Debug, Clone, Default)]
pub struct DriverInfo {
    /// Cluster size in bytes.
    pub cluster_size: Option<u64>,
    /// The image was not closed cleanly.
    pub dirty: Option<bool>,
    /// The image is encrypted.
    pub encrypted: bool,
    /// Compressed clusters are possible (vmdk streamOptimized and the like).
    pub compressed: Option<bool>,
    /// Where saved machine states begin, in bytes behind the disk, where the format has them.
    pub vm_state_offset: Option<u64>,
    /// Backing name as stored in the image.
    pub backing_filename: Option<String>,
    /// Backing format as stored in the image.
    pub backing_format: Option<String>,
    /// What only images of its format have. It is told in the order of the schema.
    pub specific: Option<ImageInfoSpecific>,
    /// Bitmaps can be kept in the image.
    pub bitmaps: bool,
    /// Internal snapshots.
    pub snapshots: Vec<SnapshotInfo>,
    /// What it says of requests.
    pub limits: RequestLimits,
}

/// What a check found; the names are those of the schema's ImageCheck.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Errors that kept the check from being complete.
    pub check_errors: u64,
    /// End of the last used cluster in bytes.
    pub image_end_offset: Option<u64>,
    /// Contradictions that may lose data.
    pub corruptions: u64,
    /// Clusters counted but not used.
    pub leaks: u64,
    /// Contradictions mended.
    pub corruptions_fixed: u64,
    /// Leaks mended.
    pub leaks_fixed: u64,
    /// Guest clusters.
    pub total_clusters: Option<u64>,
    /// Allocated guest clusters.
    pub allocated_clusters: Option<u64>,
    /// Clusters that do not follow their predecessor.
    pub fragmented_clusters: Option<u64>,
    /// Compressed clusters.
    pub compressed_clusters: Option<u64>,
    /// Findings in words, in the order found; bounded by the driver.
    pub messages: Vec<String>,
}

/// How much a check may mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// Look only.
    No,
    /// Free leaked clusters.
    Leaks,
    /// Everything that can be.
    All,
}

/// The check of a format.
pub trait Checker: Send + Sync {
    /// Checks the whole image and mends what `repair` allows. The node is not in use otherwise.
    fn check(&self, repair: Repair) -> BoxFuture<'_, Result<CheckReport>>;
}

/// The change of a child's link in an image's own header (backing name and format).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The name to store; `None` removes it.
    pub filename: Option<String>,
    /// The format to store beside it.
    pub format: Option<String>,
}

/// What is asked of an image by `amend`.
pub struct Amendment<'a> {
    /// The options: dashes in their names, and nested.
    pub options: Options,
    /// What can't be undone, and takes something away, is done all the same.
    pub force: bool,
    /// The objects that options may refer to by id.
    pub objects: &'a Objects,
    /// Is told how much of how much is done.
    pub progress: &'a (dyn Fn(u64, u64) + Send + Sync),
}

/// Puts back the access that a driver had before it was switched. It can't fail.
pub type Undo = Box<dyn FnOnce() + Send>;

/// Lets prepared options of a reopen take effect. It can't fail.
pub type Reopened<'a> = Box<dyn FnOnce() + Send + 'a>;

/// Gives up a connection ([`Driver::cut`]). Does not wait.
pub type Cut<'a> = Box<dyn FnOnce() + Send + 'a>;

/// An opened driver. See the module's page for the groups, and for what holds of all methods.
pub trait Driver: Send + Sync + 'static {
    /// What this driver filters: then every method that says nothing else passes to that child. `None`, but for filters,
    /// and for those only as long as they show the child as it is, byte for byte.
    fn filtered(&self) -> Option<&Filtered> {
        None
    }

    /// Static facts. May be asked at any time; must not wait.
    fn facts(&self) -> Facts {
        through(self, Filtered::facts, Facts::default)
    }

    /// Virtual size in bytes, at most `i64::MAX`. It changes only in [`Driver::resize`], and, of protocols that grow, in a
    /// write beyond the end.
    fn length(&self) -> u64 {
        through(self, Filtered::length, || 0)
    }

    // ---- mapping ----

    /// The mapping of the start of `offset..offset + len`, from memory alone; `None` when it takes I/O, or a wait.
    ///
    /// On the inline path: no lock that is held across I/O, no allocation. What it answers stays true for the caller's
    /// request: space that it names is not used for anything else before all requests that were admitted by then have
    /// ended ([`crate::Domain::grace`]). The next request may be told something else.
    fn try_map(&self, offset: u64, len: u64, want: Want) -> Option<Extent> {
        through(
            self,
            |below| Some(below.place(offset, len)),
            || {
                let _ = want;
                Some(Extent { len, kind: ExtentKind::Stored })
            },
        )
    }

    /// As [`Driver::try_map`] for [`Want::Status`], of one extent after the other until `len` bytes are told, `each` answers
    /// `false`, or as many as one look at its tables gives: a format looks a piece of a table up for all extents in it, and may keep
    /// it locked meanwhile. `each` does little, takes no lock and asks no node.
    fn try_extents(&self, offset: u64, len: u64, each: &mut dyn FnMut(Extent) -> bool) {
        if let Some(extent) = self.try_map(offset, len, Want::Status) {
            each(extent);
        }
    }

    /// As [`Driver::try_map`], where it may wait. With [`Want::Write`] an extent is `owned` only if nothing has to be done before the
    /// bytes there are overwritten, whoever else writes at the time.
    fn map(&self, offset: u64, len: u64, want: Want) -> BoxFuture<'_, Result<Extent>> {
        through(
            self,
            |below| ready(Ok(below.place(offset, len))),
            || {
                let _ = want;
                ready(Err(BlockError::unsupported("this driver can't tell where its data are")))
            },
        )
    }

    /// Prepares a change of the mapping of the start of `offset..offset + len`. Called concurrently, for ranges that may
    /// overlap: those that would change the same mapping wait here for each other's token.
    ///
    /// No mapping has changed when it returns, and nothing that a read shows. [`Token::commit`] makes the change visible, and
    /// durable no sooner than the next [`Driver::flush`]; a token that is dropped, or that was never asked for, leaves
    /// everything as it was, save for space that may be lost until a check frees it.
    ///
    /// The commit alone may give a place to what was a hole, in no other clusters than the plan's `len` bytes touch: only
    /// around it are those told who read through this node as a layer. A plan without a token leaves all mappings as they
    /// are, also where the driver stores the data itself.
    fn prepare_write(
        &self,
        offset: u64,
        len: u64,
        change: MapChange,
        request: Request,
    ) -> BoxFuture<'_, Result<WritePlan>> {
        let _ = (change, request);
        through(
            self,
            |below| ready(Ok(below.plan(offset, len))),
            || ready(Err(BlockError::unsupported("this driver changes no mappings"))),
        )
    }

    /// Whether the mapping of the range, as it is now, is durable already: then what is stored durably where it leads can
    /// be read there after a crash. `false` costs a flush, and is never wrong.
    fn is_settled(&self, offset: u64, len: u64) -> bool {
        let _ = (offset, len);
        through(self, |_| true, || false)
    }

    // ---- direct I/O ----

    /// Reads inline what can be had without waiting: how many bytes from the start. What is behind them in `buf` is
    /// undefined afterwards.
    fn try_read(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        through(self, |below| below.with(0, |child| child.try_read(offset, buf)), || Ok(0))
    }

    /// Writes inline what can be written without waiting: how many bytes from the start. The others are as they were;
    /// after an error any of them may be new. Durable by the next flush.
    fn try_write(&self, offset: u64, data: &[u8]) -> Result<usize> {
        through(self, |below| below.with(0, |child| child.try_write(offset, data, Request::DRIVER)), || Ok(0))
    }

    /// Reads all of `buf`, or decodes an encoded extent. Each byte is one that the range held at some time during the
    /// call; after an error `buf` is undefined. It comes back, as long as it was.
    fn read(&self, offset: u64, buf: BufMut) -> BoxFuture<'_, (BufMut, Result<()>)> {
        match self.filtered() {
            Some(below) => below.read(offset, buf),
            None => ready((buf, Err(BlockError::unsupported("this driver reads through its mapping")))),
        }
    }

    /// Writes all of `data`: a read that begins when it has returned shows them. After an error any sector of the range may
    /// be old or new, and nothing else has changed. Concurrent writes of one sector leave one of them.
    ///
    /// Durable by the next flush; with [`crate::Flags::FUA`], when it returns: asked for only of a protocol that has
    /// [`Facts::fua`], and of a driver that stores data itself ([`Action::Direct`]) where its mapping is settled. The core
    /// poisons a protocol whose durable write has failed, but not for lack of space: that is the answer only where it was met
    /// before anything was synced.
    fn write(&self, offset: u64, data: Buf, request: Request) -> BoxFuture<'_, Result<()>> {
        through(
            self,
            |below| below.run(move |child| async move { child.write(offset, data, request).await }),
            || ready(Err(BlockError::unsupported("this driver writes through its mapping"))),
        )
    }

    /// Makes the range read as zeroes faster than writing them would; as [`Driver::write`] else. `Unsupported` lets the
    /// core write zeroes, and must come before anything has changed.
    fn write_zeroes(&self, offset: u64, len: u64, request: Request) -> BoxFuture<'_, Result<()>> {
        through(
            self,
            |below| below.run(move |child| async move { child.write_zeroes(offset, len, request).await }),
            || ready(Err(BlockError::unsupported("no fast zeroes here"))),
        )
    }

    /// Gives the range's space back; its content is undefined afterwards. Advisory: one that can't does nothing.
    fn discard(&self, offset: u64, len: u64, request: Request) -> BoxFuture<'_, Result<()>> {
        through(
            self,
            |below| below.run(move |child| async move { child.discard(offset, len, request).await }),
            || ready(Ok(())),
        )
    }

    /// Everything acknowledged before the call is durable when it returns, in this node and what is below it. After an
    /// error none of it need be, now or later: the core poisons a protocol then, and a format poisons itself
    /// ([`Node::poison`]) unless it holds what it could not write and will do it all again. Called concurrently with everything.
    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        through(
            self,
            |below| below.run(|child| async move { child.flush().await }),
            || ready(Err(BlockError::unsupported("this driver can't flush"))),
        )
    }

    /// Told of what a driver above, or the core, is about to do, where [`Facts::steps`] says so; it goes on when this returns.
    fn announced(&self, step: Step) -> BoxFuture<'_, ()> {
        through(
            self,
            |below| {
                Box::pin(async move {
                    if let Ok(child) = below.node() {
                        child.announce(step).await;
                    }
                }) as BoxFuture<'_, ()>
            },
            || ready(()),
        )
    }

    // ---- what holds the content ----

    /// Changes the virtual size, durably by the next flush. `preallocation`: what is reserved for new bytes. New
    /// bytes read as zeroes, where [`Facts::grows_with_zeroes`]. No request of an entry is inside; after an error the size
    /// is what [`Driver::length`] says.
    fn resize(&self, size: u64, preallocation: PreallocMode) -> BoxFuture<'_, Result<()>> {
        through(
            self,
            |below| below.run(move |child| async move { child.set_length(size, preallocation).await }),
            || ready(Err(BlockError::unsupported("Image format driver does not support resize"))),
        )
    }

    /// Gives up everything this layer holds itself, so that its backing node shows through everywhere. Durable when
    /// it returns. No request of an entry is inside.
    fn make_empty(&self) -> BoxFuture<'_, Result<()>> {
        through(
            self,
            |below| below.run(|child| async move { child.driver().make_empty().await }),
            || ready(Err(BlockError::unsupported("this format can't be emptied"))),
        )
    }

    /// Bytes the storage occupies, for protocols that know.
    fn allocated_size(&self) -> Option<u64> {
        through(self, |below| below.node().ok()?.allocated_size(), || None)
    }

    // ---- of the node itself: the core asks or tells each node of a graph by itself ----

    /// Frees what waits to be freed, because storage is full; tells whether there was anything, so that it is worth
    /// while to try again. Called by nobody inside a gate: it may wait for requests to end.
    fn reclaim(&self) -> BoxFuture<'_, bool> {
        ready(false)
    }

    /// Told when a change of the graph, or the end of an entry, begins to wait for the requests that can be inside this
    /// node (`true`), and when it does so no more. In between, what the driver holds back on purpose (a throttle's queue,
    /// requests that wait for a server to come back) goes on, or fails: nothing else comes until it has. Must not wait.
    fn drain(&self, begins: bool) {
        let _ = begins;
    }

    /// Called once, when the node is in the graph but nobody finds it yet: what it needs of its children is granted, and the locks that this means are
    /// held. What opening writes (a repair of what was not closed, a mark), it writes here and not before: another program may
    /// have had the file open for writing until then, and the open may have been refused. Until it has returned, nothing is
    /// written to the node. After a failure the node is closed.
    fn start<'a>(&'a self, common: &'a Common) -> BoxFuture<'a, Result<()>> {
        let _ = common;
        ready(Ok(()))
    }

    /// Makes the driver writable or read-only in place (children are switched by the core, before this when it
    /// becomes writable, after this when it becomes read-only). When it becomes read-only, what was written is durable, and
    /// nothing is written any more by itself. After a failure nothing has changed. What is returned undoes it, for a
    /// change of the graph that fails at a later step, before anybody could write.
    fn set_writable(&self, writable: bool) -> BoxFuture<'_, Result<Undo>> {
        let _ = writable;
        ready(Ok(Box::new(|| {}) as Undo))
    }

    /// Reads again what it knows of its storage, which was inactive: another program may have changed it. The locks are held
    /// again, children have read again before, and nobody is inside. The driver is read-only as yet; it is switched afterwards if
    /// the node is writable. After a failure the node stays inactive.
    fn reload<'a>(&'a self, common: &'a Common) -> BoxFuture<'a, Result<()>> {
        let _ = common;
        ready(Ok(()))
    }

    /// Prepares changed options at a reopen: all that can fail is done here, and nothing has changed before what is
    /// returned is called. `common` are the options that every driver has, as they will be.
    fn reopen<'a>(&'a self, options: Options, common: &Common) -> BoxFuture<'a, Result<Reopened<'a>>> {
        let _ = common;
        ready(options.finish().map(|()| Box::new(|| {}) as Reopened<'a>))
    }

    /// Prepares the change of `cache.direct`, as [`Driver::reopen`] does, with the gates above closed: `writable` is what
    /// the node is by then. Drivers without a file of the host have nothing to do.
    fn reopen_direct(&self, direct: bool, writable: bool) -> BoxFuture<'_, Result<Reopened<'_>>> {
        let _ = (direct, writable);
        ready(Ok(Box::new(|| {}) as Reopened<'_>))
    }

    /// What gives up the connection to a server; `None` where there is none. After it every request fails, those under way
    /// and later ones. It may be asked for and called at any time.
    fn cut(&self) -> Option<Cut<'_>> {
        None
    }

    /// Writes back, releases locks and reservations. The node is not used any more afterwards. Called once, with no
    /// request inside, and after a flush, unless the node is poisoned: then it fails too.
    fn close(&self) -> BoxFuture<'_, Result<()>> {
        ready(Ok(()))
    }

    /// The form in which data is stored in the children that mappings lead to, where it is not stored as it is shown. The
    /// same as long as the driver is open. Filters leave it to their child.
    fn coding(&self) -> Option<Arc<dyn Coding>> {
        None
    }

    /// What this driver needs of a child, given what its own parents need of it.
    fn child_perms(&self, child: &Edge, parents: Perms, read_only: bool) -> Perms {
        let _ = (child, read_only);
        parents
    }

    /// Takes the file locks that these permissions mean (protocols on files). Called on the plan, before a change.
    fn set_perms(&self, perms: Perms) -> Result<()> {
        let _ = perms;
        Ok(())
    }

    /// Stores a new backing link in the image's header, durable when it returns.
    fn set_backing_link(&self, link: Link) -> BoxFuture<'_, Result<()>> {
        let _ = link;
        ready(Err(BlockError::unsupported("this format stores no backing file name")))
    }

    /// Judges a passphrase: refused as unsupported where the image is not encrypted, as not permitted if it is another one.
    fn judge_passphrase<'a>(&'a self, passphrase: &'a Secret) -> BoxFuture<'a, Result<()>> {
        through(
            self,
            |below| below.run(move |child| async move { child.driver().judge_passphrase(passphrase).await }),
            || ready(Err(BlockError::unsupported("the image is not encrypted"))),
        )
    }

    /// Changes what the image is, by options of the driver's own ([`crate::DriverType::amend_options`]): all that can be
    /// refused is refused before anything has changed, and after a crash the image is as it was, or as it will be, or on
    /// its way between the two. Durable when it returns. No request of an entry is inside, but where the driver allows it.
    fn amend<'a>(&'a self, amendment: Amendment<'a>) -> BoxFuture<'a, Result<()>> {
        let _ = amendment;
        ready(Err(BlockError::unsupported("images of this format can't be amended")))
    }

    /// Whether [`Driver::amend`] with these options may go on beside requests: it changes nothing that they use.
    fn amends_beside_requests(&self, options: &Options) -> bool {
        let _ = options;
        true
    }

    /// The name of the image, where it follows from the name of its file; `None`: it takes options to name it.
    fn name_over(&self, file: String) -> Option<String> {
        self.naming_options().is_empty().then_some(file)
    }

    /// Options without which the file's name alone would mean another disk (a window of a file), or could not be opened.
    fn naming_options(&self) -> Options {
        Options::new()
    }

    /// What the storage is, whatever its name (protocols).
    fn identity(&self) -> Option<Identity> {
        None
    }

    /// What `info` tells.
    fn info(&self) -> DriverInfo {
        DriverInfo::default()
    }

    /// The check of this format, if it has one.
    fn checker(&self) -> Option<&dyn Checker> {
        None
    }

    /// The children that come and go, if there are any.
    fn membership(&self) -> Option<&dyn Membership> {
        None
    }

    /// Where requests can be held back at steps, in drivers for tests.
    fn breakpoints(&self) -> Option<&dyn Breakpoints> {
        None
    }

    /// The internal snapshots of this format, if it keeps any.
    fn snapshots(&self) -> Option<&dyn Snapshots> {
        None
    }

    /// The disk as it was at the moment when what is above this node began to keep it.
    fn point_in_time(&self) -> Option<&Arc<PointInTime>> {
        None
    }

    /// Where this format keeps dirty bitmaps in the image, if it can.
    fn bitmap_store(&self) -> Option<&dyn BitmapStore> {
        None
    }

    /// What only nodes of this driver have done.
    fn statistics(&self) -> Option<BlockStatsSpecific> {
        None
    }

    /// Told once, after the node exists (for background work that needs it).
    fn attached(&self, node: &Arc<Node>) {
        let _ = node;
    }
}
