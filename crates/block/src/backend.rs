//! Entries: how exports, jobs, tools and guests reach a node.
//!
//! The gate, the statistics and the range check live here and only here. What a request holds while it is inside is
//! the gate's token; it covers I/O only and ends before the reply is sent.
//!
//! A change that finds storage full leaves the gate, has the nodes free what waits to be freed, and tries again: what
//! waits may wait for this very request to end. Only when nothing more comes free is ENOSPC told.
use crate::device::Device;
use crate::error::{BlockError, ErrorKind, Result};
use crate::gate::{Entered, Gate, Inside};
use crate::graph::BackendRequest;
use crate::guest::After;
use crate::io::Placed;
use crate::node::Node;
use crate::perm::{Perms, Share};
use crate::request::Request;
use crate::stats::{Account, BackendStats, IoKind};
use crate::status::{Status, Walked};
use crate::throttle::{IoDirection, ThrottleMember};
use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::RwLock;
use rt::{Buf, BufMut};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::sync::{Arc, OnceLock};
use tracing::Instrument;

/// An entry. Made by [`crate::Graph::attach`].
pub struct Backend {
    pub(crate) label: String,
    pub(crate) root: ArcSwap<Node>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) perms: RwLock<Perms>,
    /// Stays on its node when a graph change replaces that node under its other users (jobs do).
    pub(crate) pinned: bool,
    /// It copes with a node that becomes inactive although it writes.
    pub(crate) tolerant: AtomicBool,
    /// It shares everything for now: the guest that would write does not run yet.
    pub(crate) waits: AtomicBool,
    account: Arc<Account>,
    /// Where requests wait if they come too fast. They do so before the gate: nobody waits for them.
    throttle: ArcSwapOption<ThrottleMember>,
    /// There is a throttle.
    in_group: AtomicBool,
    /// The device whose guest comes through here. Its requests wait before the gate while the machine is stopped.
    guest: ArcSwapOption<Device>,
    /// There is a guest.
    has_guest: AtomicBool,
    /// Hears of each new size of the node, in bytes.
    resized: OnceLock<Box<dyn Fn(u64) + Send + Sync>>,
    /// How often space came free for requests that found none.
    reclaims: AtomicU64,
}

/// Most attempts of a request that finds storage full: others take what comes free for it.
const ATTEMPTS: usize = 8;

impl Backend {
    pub(crate) fn new(request: BackendRequest, gate: Arc<Gate>, account: Arc<Account>) -> Self {
        let BackendRequest { label, node, perms, pinned } = request;
        Self {
            label,
            root: ArcSwap::new(node),
            gate,
            perms: RwLock::new(perms),
            pinned,
            tolerant: AtomicBool::new(false),
            waits: AtomicBool::new(false),
            account,
            throttle: ArcSwapOption::empty(),
            in_group: AtomicBool::new(false),
            guest: ArcSwapOption::empty(),
            has_guest: AtomicBool::new(false),
            resized: OnceLock::new(),
            reclaims: AtomicU64::new(0),
        }
    }

    /// What the entry is for, for messages ("export 'e0'", "job 'j0'").
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The node the entry leads to now.
    pub fn node(&self) -> Arc<Node> {
        self.root.load_full()
    }

    /// Virtual size in bytes.
    pub fn length(&self) -> u64 {
        self.root.load().length()
    }

    /// What it needs and shares.
    pub fn perms(&self) -> Perms {
        *self.perms.read()
    }

    /// The same as others meet it: nothing of a node that is inactive.
    pub(crate) fn perms_now(&self) -> Perms {
        let perms = self.perms();
        match (self.root.load().is_active(), self.waits.load(Acquire)) {
            (false, _) => Perms::IDLE,
            (true, false) => perms,
            (true, true) => Perms { share: Share::ALL, ..perms },
        }
    }

    /// It copes with a node that is, or becomes, inactive: what it writes then is refused.
    pub fn tolerate_inactive(&self) {
        self.tolerant.store(true, Release);
    }

    /// Has `heard` told of each new size of the node, in bytes, with the gate closed. Only the first one asked for is
    /// told.
    pub fn on_resize(&self, heard: impl Fn(u64) + Send + Sync + 'static) {
        if self.resized.set(Box::new(heard)).is_err() {
            tracing::warn!(entry = self.label, "somebody hears of new sizes already");
        }
    }

    /// The node may have another size than before.
    pub(crate) fn tell_size(&self) {
        if let Some(heard) = self.resized.get() {
            heard(self.length());
        }
    }

    /// Requests inside now.
    pub fn in_flight(&self) -> i64 {
        self.gate.inside()
    }

    /// The counters.
    pub fn stats(&self) -> BackendStats {
        self.account.stats()
    }

    /// What it has done, with what was asked to be counted beside the usual.
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Puts the entry in a throttle group, or takes it out. Requests that wait in the old one go on at once.
    pub fn set_throttle(&self, member: Option<ThrottleMember>) {
        let member = member.map(Arc::new);
        self.in_group.store(member.is_some(), SeqCst);
        if let Some(old) = self.throttle.swap(member) {
            old.drain(true);
        }
    }

    /// What it is in its throttle group.
    pub fn throttle(&self) -> Option<Arc<ThrottleMember>> {
        self.throttle.load_full()
    }

    /// No request is admitted any more: those that wait, in a throttle group too, are refused.
    pub(crate) fn retire(&self) {
        self.gate.retire();
        self.set_throttle(None);
        self.let_guest_go();
    }

    /// The guest of a device comes through here.
    pub(crate) fn serve_guest_of(&self, device: Arc<Device>) {
        self.guest.store(Some(device));
        self.has_guest.store(true, SeqCst);
    }

    /// The guest has left: no request waits for the machine to go on any more, and errors are only reported.
    pub fn let_guest_go(&self) {
        if let Some(device) = self.guest.swap(None) {
            self.has_guest.store(false, SeqCst);
            device.guests().running.wake();
        }
    }

    /// Whether a guest comes through here.
    pub(crate) fn serves_guest(&self) -> bool {
        self.has_guest.load(Relaxed)
    }

    /// Whether requests wait for the machine to go on.
    fn stopped(&self) -> bool {
        self.has_guest.load(Relaxed)
            && self.guest.load().as_ref().is_some_and(|device| device.guests().running.is_stopped())
    }

    /// Waits as long as the machine is stopped; whether it was.
    async fn while_stopped(&self) -> bool {
        let mut waited = false;
        while self.stopped()
            && let Some(device) = self.guest.load_full()
        {
            let changed = device.guests().running.listen();
            if self.stopped() {
                waited = true;
                changed.await;
            }
        }
        waited
    }

    /// What follows a request that has ended.
    fn after(&self, op: IoKind, node: &Node, result: &Result<()>) -> After {
        let Err(error) = result else { return After::Told };
        self.guest.load_full().map_or(After::Told, |device| device.judge(node, op, error))
    }

    /// Whether requests may have to wait for their turn.
    fn throttled(&self) -> bool {
        self.in_group.load(Relaxed) && self.throttle.load().as_ref().is_some_and(|member| member.limited())
    }

    /// Waits until the limits let a request through. One that will be refused for its range does not count.
    async fn admit(&self, direction: IoDirection, offset: u64, len: u64) {
        if !self.throttled() || offset.checked_add(len).is_none_or(|end| end > self.length()) {
            return;
        }
        if let Some(member) = self.throttle() {
            member.admit(direction, len).await;
        }
    }

    fn in_range(&self, node: &Node, op: IoKind, offset: u64, len: u64) -> Result<()> {
        if offset.checked_add(len).is_some_and(|end| end <= node.length()) {
            return Ok(());
        }
        self.account.invalid(op);
        Err(BlockError::invalid(format!(
            "request of {len} bytes at {offset:#x} ends beyond the end of '{}' ({:#x} bytes)",
            node.name(),
            node.length()
        ))
        .at(offset))
    }

    /// Reads inline what can be had without waiting; `Ok(n)` with `n < buf.len()` asks to go on with
    /// [`Backend::read`] from there.
    pub fn try_read(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        if traced() || self.throttled() || self.stopped() {
            return Ok(0);
        }
        let Some(_inside) = self.gate.try_enter() else { return Ok(0) };
        let node = self.root.load();
        self.in_range(&node, IoKind::Read, offset, buf.len() as u64)?;
        let started = rt::now_ns();
        let got = match node.try_read(offset, buf) {
            // The waiting path sees to it.
            Err(_) if self.has_guest.load(Relaxed) => return Ok(0),
            tried => tried.inspect_err(|_| self.account.failed(IoKind::Read, started))?,
        };
        match got == buf.len() {
            true => self.account.done(IoKind::Read, got as u64, started),
            false => self.account.part(IoKind::Read, got as u64),
        }
        Ok(got)
    }

    /// Writes inline what goes to bytes of the image's own; `Ok(n)` with `n < data.len()` asks to go on with
    /// [`Backend::write`] from there.
    pub fn try_write(&self, offset: u64, data: &[u8], request: Request) -> Result<usize> {
        if traced() || self.throttled() || self.stopped() {
            return Ok(0);
        }
        let Some(_inside) = self.gate.try_enter() else { return Ok(0) };
        let node = self.root.load();
        self.in_range(&node, IoKind::Write, offset, data.len() as u64)?;
        let started = rt::now_ns();
        let got = match node.try_write(offset, data, request) {
            // The waiting path sees to it.
            Err(e) if e.kind() == ErrorKind::NoSpace || self.has_guest.load(Relaxed) => return Ok(0),
            tried => tried.inspect_err(|_| self.account.failed(IoKind::Write, started))?,
        };
        match got == data.len() {
            true => self.account.done(IoKind::Write, got as u64, started),
            false => self.account.part(IoKind::Write, got as u64),
        }
        Ok(got)
    }

    /// A request's span; it costs a look at a flag where nobody listens.
    fn span(&self, op: &'static str, offset: u64, len: u64) -> tracing::Span {
        tracing::debug_span!("request", op, entry = %self.label, offset, len)
    }

    fn ended(&self, op: IoKind, bytes: u64, started: u64, result: &Result<()>) {
        match result {
            Ok(()) => self.account.done(op, bytes, started),
            Err(_) => self.account.failed(op, started),
        }
    }

    /// Enters the gate without waiting, for requests sent to the node itself as long as what is returned is kept; `None`
    /// while the gate is closed. For who must not wait here: a request inside that waited at a gate would keep the change
    /// that closed it from going on.
    pub fn try_enter(&self) -> Option<(Entered<'_>, Arc<Node>)> {
        let inside = self.gate.try_enter()?;
        Some((inside, self.node()))
    }

    /// Waits at the gate. A request may be answered without waiting for anything: whoever sends one after the other
    /// lets others run in between. The machine may have been stopped meanwhile, and the image be another program's: whoever has
    /// entered looks again, and leaves to wait for the machine.
    async fn enter(&self) -> Result<Entered<'_>> {
        rt::cooperate().await;
        let detached = || BlockError::new(ErrorKind::Closed, format!("{} is closed", self.label));
        self.gate.enter().await.ok_or_else(detached)
    }

    /// Waits at the gate, and is a request inside until what is returned is dropped: for work that goes on directly at nodes.
    pub async fn stay(&self) -> Result<Inside> {
        let detached = || BlockError::new(ErrorKind::Closed, format!("{} is closed", self.label));
        self.gate.stay().await.ok_or_else(detached)
    }

    /// The same without waiting; `None` while the gate is closed.
    pub(crate) fn try_stay(&self) -> Option<Inside> {
        Some(self.gate.try_enter()?.keep(&self.gate))
    }

    /// Reads all of `buf`.
    pub async fn read(&self, offset: u64, mut buf: BufMut) -> (BufMut, Result<()>) {
        let mut started = rt::now_ns();
        let len = buf.len() as u64;
        self.admit(IoDirection::Read, offset, len).await;
        loop {
            if self.while_stopped().await {
                started = rt::now_ns();
            }
            let inside = match self.enter().await {
                Ok(inside) => inside,
                Err(e) => return (buf, Err(e)),
            };
            if self.stopped() {
                continue;
            }
            let node = self.root.load_full();
            if let Err(e) = self.in_range(&node, IoKind::Read, offset, len) {
                return (buf, Err(e));
            }
            if !node.is_active() {
                node.look_at_files().await;
            }
            let mut result;
            (buf, result) = node.read(offset, buf).instrument(self.span("read", offset, len)).await;
            drop(inside);
            match self.after(IoKind::Read, &node, &result) {
                After::Again => continue,
                After::Ignored => {
                    // Nothing is known of the data: they must not be what was in memory.
                    buf.fill(0);
                    result = Ok(());
                }
                After::Told => {}
            }
            self.ended(IoKind::Read, len, started, &result);
            return (buf, result);
        }
    }

    /// Carries out a change, inside the gate, and again as long as it finds storage full and space comes free.
    async fn change<F: Future<Output = Result<()>>>(
        &self,
        (op, name): (IoKind, &'static str),
        (offset, len): (u64, u64),
        attempt: impl Fn(Arc<Node>) -> F,
    ) -> Result<()> {
        let mut started = rt::now_ns();
        if op == IoKind::Write {
            self.admit(IoDirection::Write, offset, len).await;
        }
        let mut attempts = 0;
        loop {
            if self.while_stopped().await {
                (started, attempts) = (rt::now_ns(), 0);
            }
            let seen = self.reclaims.load(Acquire);
            let inside = self.enter().await?;
            if self.stopped() {
                continue;
            }
            let node = self.root.load_full();
            self.in_range(&node, op, offset, len)?;
            let mut result = attempt(node.clone()).instrument(self.span(name, offset, len)).await;
            drop(inside);
            attempts += 1;
            let full = result.as_ref().is_err_and(|e| e.kind() == ErrorKind::NoSpace);
            if full
                && attempts < ATTEMPTS
                && (self.reclaims.load(Acquire) != seen || self.reclaim(&node).await)
            {
                continue;
            }
            match self.after(op, &node, &result) {
                After::Again => continue,
                After::Ignored => result = Ok(()),
                After::Told => {}
            }
            self.ended(op, len, started, &result);
            return result;
        }
    }

    /// Has the nodes that store what is written free what waits for it; tells whether there was anything. Called by nobody
    /// inside.
    pub async fn make_space(&self) -> bool {
        self.reclaim(&self.node()).await
    }

    async fn reclaim(&self, node: &Arc<Node>) -> bool {
        let mut freed = false;
        for node in node.storage() {
            freed |= !node.poisoned() && node.driver().reclaim().await;
        }
        self.reclaims.fetch_add(u64::from(freed), AcqRel);
        freed
    }

    /// Writes all of `data`.
    pub async fn write(&self, offset: u64, data: Buf, request: Request) -> Result<()> {
        self.write_placed(offset, data, request, &|| {}).await
    }

    /// As [`Backend::write`], and tells when it has its place.
    pub async fn write_placed(
        &self,
        offset: u64,
        data: Buf,
        request: Request,
        placed: Placed<'_>,
    ) -> Result<()> {
        let range = (offset, data.len() as u64);
        self.change((IoKind::Write, "write"), range, |node| {
            let data = data.clone();
            async move { node.write_placed(offset, data, request, placed).await }
        })
        .await
    }

    /// Makes the range read as zeroes.
    pub async fn write_zeroes(&self, offset: u64, len: u64, request: Request) -> Result<()> {
        self.change((IoKind::Write, "write-zeroes"), (offset, len), |node| async move {
            node.write_zeroes(offset, len, request).await
        })
        .await
    }

    /// Gives the range's space back.
    pub async fn discard(&self, offset: u64, len: u64, request: Request) -> Result<()> {
        self.change((IoKind::Unmap, "discard"), (offset, len), |node| async move {
            node.discard(offset, len, request).await
        })
        .await
    }

    /// Everything acknowledged before the call is durable when it returns.
    pub async fn flush(&self) -> Result<()> {
        let mut started = rt::now_ns();
        loop {
            if self.while_stopped().await {
                started = rt::now_ns();
            }
            let inside = self.enter().await?;
            if self.stopped() {
                continue;
            }
            let node = self.root.load_full();
            let mut result = node.flush().instrument(self.span("flush", 0, 0)).await;
            drop(inside);
            match self.after(IoKind::Flush, &node, &result) {
                After::Again => continue,
                After::Ignored => result = Ok(()),
                After::Told => {}
            }
            self.ended(IoKind::Flush, 0, started, &result);
            return result;
        }
    }

    /// Block status of the start of the range; the answer may be shorter, never longer.
    pub async fn status(&self, offset: u64, len: u64) -> Result<Status> {
        let _inside = self.enter().await?;
        let node = self.root.load();
        if !node.is_active() {
            // What it maps may be out of date: holes that are none any more would be passed over.
            return Err(node.inactive_error());
        }
        self.in_range(&node, IoKind::Read, offset, len)?;
        node.status(offset, len, None).await
    }

    /// As [`Backend::status`], of one range after the other from the start of `range` on until it ends or `each` has enough:
    /// images of many small extents are asked for many of them at once. `each` is called while a part of a driver's tables is
    /// locked: it does little, takes no lock and asks no node. Tells where it ended, which may be earlier.
    pub async fn statuses(
        &self,
        range: Range<u64>,
        mut each: impl FnMut(Status<&Arc<Node>>) -> bool,
    ) -> Result<u64> {
        let _inside = self.enter().await?;
        let node = self.root.load();
        if !node.is_active() {
            return Err(node.inactive_error());
        }
        let (mut at, end, mut count) = (range.start, range.end, 0);
        self.in_range(&node, IoKind::Read, at, end.saturating_sub(at))?;
        while at < end && count < TOGETHER {
            let (next, walked) = node.statuses_here(at..end, &mut |status| {
                count += 1;
                each(status)
            });
            at = next;
            match walked {
                Walked::Enough => break,
                Walked::Looks => {}
                // Who wants all requests to have ended does not wait for several that take their time.
                Walked::Asks => match node.status_through(at, end - at, None).await {
                    Ok(status) => {
                        at += status.len;
                        each(status.borrowed());
                        break;
                    }
                    Err(error) if at == range.start => return Err(error),
                    // Whoever asks for it next is told.
                    Err(_) => break,
                },
            }
        }
        Ok(at)
    }

    /// As [`Backend::status`], looking only at the layers above `base`.
    pub async fn status_above(&self, offset: u64, len: u64, base: &Arc<Node>) -> Result<Status> {
        let _inside = self.enter().await?;
        self.node().status(offset, len, Some(base)).await
    }
}

/// A request whose answers came to so many is over: one look at a table may have added many at once.
const TOGETHER: usize = 256;

/// Whether somebody listens to requests: then each takes the waiting path, which has a span.
fn traced() -> bool {
    tracing::enabled!(tracing::Level::DEBUG)
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Backend({} on {})", self.label, self.root.load().name())
    }
}
