//! Which layer of a chain has a range: a long chain reads like one image.
//!
//! Without it a read of what lies far down asks every layer on the way. So a node that is read through remembers, for pieces of
//! its disk, how many of the layers below it hold nothing there ([`Layers`]), and goes on from the first that may. That one
//! is asked as ever: what it answers is true, whatever was remembered of it. The node itself is always asked first.
//!
//! Laws:
//! - what is remembered of a piece is only that layers hold nothing of it. So it must be forgotten when one of them begins to
//!   hold something: before the new mapping can be seen, and nothing is remembered of that range again before the change has
//!   ended ([`Chain::change`]). A mapping is published by [`crate::Token::commit`] alone: a write in place tells nobody.
//!   Changes of whole layers (edges, sizes, snapshots, repair) forget everything ([`Chain::forget`]): each edge that is set,
//!   and each change of the graph, while no request is inside;
//! - who tells is the layer that changes: it knows the chains that were read through it ([`Chain::watch`]). It is made known to
//!   a layer before that is asked for the first time, together with the changes that are under way there;
//! - what a walk found is remembered only if nothing was told since it began, and nothing is under way where it looked.
//!
//! Bounds: [`MOST`] pieces a node that is read through, of eight bytes each, or as many as its disk has. Pieces are as large
//! as the smallest clusters of the chain; what is not remembered of a piece is found by asking.
use crate::driver::Want;
use crate::edges::Edges;
use crate::node::{Node, Slow};
use arc_swap::{ArcSwapOption, Guard};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::sync::{Arc, OnceLock, Weak};

/// Most pieces that are remembered of a node.
const MOST: u64 = 1 << 17;

/// Pieces that are allocated together.
const PART: usize = 512;

/// Pieces that one walk asks for together, side by side: a layer tells of many at once that it holds none.
const TOGETHER: u64 = u64::BITS as u64;

/// Longer chains than there can be (see [`crate::graph`]).
const MOST_LAYERS: usize = (1 << DEPTH_BITS) - 2;
const DEPTH_BITS: u32 = 12;

/// Clusters of more bytes are remembered by pieces of so many.
const LARGEST: u64 = 2 << 20;

/// A range of bytes of a disk.
type Range = (u64, u64);

/// What a node knows of the chain below it, and who must hear of its changes.
#[derive(Default)]
pub(crate) struct Chain {
    layers: ArcSwapOption<Layers>,
    told: Mutex<Told>,
    below: Mutex<Below>,
}

/// What layers told of.
#[derive(Default)]
struct Told {
    /// Counts the changes told of, at their begin and end.
    changes: u64,
    /// Counts how often all was forgotten.
    forgotten: u64,
    /// Changes under way.
    under_way: Vec<Range>,
}

/// A node as a layer of chains.
#[derive(Default)]
struct Below {
    /// Those that are read through it.
    above: Vec<Weak<Chain>>,
    /// Its changes under way.
    under_way: Vec<Range>,
}

fn take_out(ranges: &mut Vec<Range>, range: Range) {
    if let Some(at) = ranges.iter().position(|other| *other == range) {
        ranges.swap_remove(at);
    }
}

fn touch(one: Range, other: Range) -> bool {
    one.0 < other.1 && other.0 < one.1
}

impl Chain {
    // ---- as a layer ----

    /// Begins a change of a range of this node, which ends as what is returned is dropped.
    pub fn change(&self, range: Range) -> Changing<'_> {
        let mut below = self.below.lock();
        below.under_way.push(range);
        below.above.iter().filter_map(Weak::upgrade).for_each(|chain| chain.begin(range));
        Changing { chain: self, range }
    }

    /// Makes known who reads through this node.
    fn watch(&self, chain: &Arc<Chain>) {
        let mut below = self.below.lock();
        below.above.retain(|known| known.strong_count() > 0);
        if below.above.iter().any(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(chain))) {
            return;
        }
        below.above.push(Arc::downgrade(chain));
        below.under_way.iter().for_each(|range| chain.begin(*range));
    }

    /// This node is another one from now on, as a whole, or has other layers below it.
    pub fn forget(&self) {
        self.forget_own();
        let above: Vec<_> = self.below.lock().above.iter().filter_map(Weak::upgrade).collect();
        above.iter().for_each(|chain| chain.forget_own());
    }

    // ---- as what is read through ----

    /// Forgets what this node knows of the layers below it.
    pub fn forget_own(&self) {
        let mut told = self.told.lock();
        told.changes += 1;
        told.forgotten += 1;
        let layers = self.layers.swap(None);
        // With it nodes may go, whose end is told of.
        drop(told);
        drop(layers);
    }

    fn begin(&self, range: Range) {
        let mut told = self.told.lock();
        told.changes += 1;
        told.under_way.push(range);
        if let Some(layers) = &*self.layers.load() {
            layers.forget(range);
        }
    }

    fn end(&self, range: Range) {
        let mut told = self.told.lock();
        told.changes += 1;
        take_out(&mut told.under_way, range);
    }

    /// The layers below, if they are known.
    pub fn layers(&self) -> Guard<Option<Arc<Layers>>> {
        self.layers.load()
    }

    /// Gets to know the layers below the node that has these edges, if there are some to be passed over.
    pub fn explore(self: &Arc<Self>, edges: &Edges) {
        let forgotten = self.told.lock().forgotten;
        let mut layers = Vec::new();
        let mut next = edges.backing().and_then(|id| edges.get(id));
        while let Some(node) = next.take() {
            node.edges.chain().watch(self);
            next = if node.mapping { node.backing() } else { None };
            if node.looks_again() {
                return;
            }
            layers.push(node);
        }
        if layers.len() < 2 || layers.len() > MOST_LAYERS {
            return;
        }
        let layers = Arc::new(Layers::new(layers));
        let told = self.told.lock();
        if told.forgotten == forgotten {
            self.layers.store(Some(layers));
        }
    }

    /// The layer from which on a read of the start of `at..at + len` must look, as an index of `layers`, and for how many
    /// bytes that holds.
    pub fn first(&self, layers: &Layers, at: u64, len: u64) -> (usize, u64) {
        let (mut found, mut end) = (None, at);
        while end < at + len {
            let piece = end >> layers.piece_bits;
            let Some(first) = layers.known(piece).or_else(|| self.walk(layers, piece)) else { break };
            if found.is_some_and(|found| found != first) {
                break;
            }
            found = Some(first);
            end = (piece + 1) << layers.piece_bits;
        }
        match found {
            Some(found) => (found, (end - at).min(len)),
            None => (0, len),
        }
    }

    /// Asks the layers for a piece and those around it; `None` if one of them can't tell without waiting.
    fn walk(&self, layers: &Layers, piece: u64) -> Option<usize> {
        let changes = self.told.lock().changes;
        let from = piece - piece % TOGETHER;
        let mut answer = None;
        let mut found = [(0, 0); TOGETHER as usize];
        let mut count = 0;
        layers.ask(from, |pieces, depth| {
            if pieces >> (piece - from) & 1 == 1 {
                answer = Some(depth);
            }
            if let Some(next) = found.get_mut(count) {
                *next = (pieces, depth);
                count += 1;
            }
        });
        let told = self.told.lock();
        if told.changes == changes {
            let range = |piece: u64| (piece << layers.piece_bits, (piece + 1) << layers.piece_bits);
            for (pieces, depth) in found.iter().take(count) {
                let pieces = (0..TOGETHER).filter(|at| pieces >> at & 1 == 1).map(|at| from + at);
                let quiet = |piece: &u64| !told.under_way.iter().any(|other| touch(*other, range(*piece)));
                pieces.filter(quiet).for_each(|piece| layers.remember(piece, *depth));
            }
        }
        answer
    }
}

/// A change of a layer under way.
pub(crate) struct Changing<'a> {
    chain: &'a Chain,
    range: Range,
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        let mut below = self.chain.below.lock();
        take_out(&mut below.under_way, self.range);
        below.above.iter().filter_map(Weak::upgrade).for_each(|chain| chain.end(self.range));
    }
}

/// The layers below a node, the nearest first, and what is known of them.
pub(crate) struct Layers {
    nodes: Box<[Arc<Node>]>,
    piece_bits: u32,
    /// By piece, those that are so many apart in one place: the piece, and behind it one more than the layers that hold
    /// nothing of it; 0 for none.
    known: Box<[OnceLock<Box<[AtomicU64]>>]>,
}

impl Layers {
    fn new(nodes: Vec<Arc<Node>>) -> Self {
        let clusters = nodes.iter().filter_map(|node| node.facts().cluster_size);
        let longest = nodes.iter().map(|node| node.length()).max().unwrap_or(0);
        // The number of a piece must leave room for that of a layer.
        let smallest = longest >> (u64::BITS - DEPTH_BITS - 1);
        let piece = clusters.min().unwrap_or(LARGEST).min(LARGEST).max(smallest).max(1);
        let piece_bits = piece.next_power_of_two().ilog2();
        let pieces = (longest >> piece_bits).clamp(1, MOST).next_power_of_two() as usize;
        let known = (0..pieces.div_ceil(PART)).map(|_| OnceLock::new()).collect();
        Self { nodes: nodes.into(), piece_bits, known }
    }

    /// The layers, from one on.
    pub fn from(&self, first: usize) -> &[Arc<Node>] {
        self.nodes.get(first..).unwrap_or_default()
    }

    fn place(&self, piece: u64) -> (&OnceLock<Box<[AtomicU64]>>, usize) {
        let place = piece as usize % (self.known.len() * PART);
        (&self.known[place / PART], place % PART)
    }

    /// How many layers are known to hold nothing of a piece.
    fn known(&self, piece: u64) -> Option<usize> {
        let (part, at) = self.place(piece);
        let known = part.get()?[at].load(Acquire);
        let depth = (known & ((1 << DEPTH_BITS) - 1)) as usize;
        (known >> DEPTH_BITS == piece).then_some(depth)?.checked_sub(1)
    }

    /// Remembers how many layers hold nothing of a piece. Only with [`Chain::told`] locked.
    fn remember(&self, piece: u64, depth: usize) {
        let (part, at) = self.place(piece);
        let part = part.get_or_init(|| (0..PART).map(|_| AtomicU64::new(0)).collect());
        part[at].store(piece << DEPTH_BITS | (depth as u64 + 1), Release);
    }

    /// Forgets the pieces that a range touches. Only with [`Chain::told`] locked.
    fn forget(&self, range: Range) {
        let (first, end) = (range.0 >> self.piece_bits, range.1.div_ceil(1 << self.piece_bits));
        if end - first >= (self.known.len() * PART) as u64 {
            self.known.iter().filter_map(OnceLock::get).flatten().for_each(|known| known.store(0, Release));
            return;
        }
        for piece in first..end {
            let (part, at) = self.place(piece);
            if let Some(part) = part.get()
                && part[at].load(Relaxed) >> DEPTH_BITS == piece
            {
                part[at].store(0, Release);
            }
        }
    }

    /// Asks the layers, from the nearest on, for the pieces from `from` on; tells of which of them, as bits, which layer is
    /// the first that may hold something. It ends where a layer can't tell of a piece without waiting.
    fn ask(&self, from: u64, mut found: impl FnMut(u64, usize)) {
        let mut open = u64::MAX;
        for (depth, node) in self.nodes.iter().enumerate() {
            let (held, all) = self.held_by(node, from, open);
            if held != 0 {
                found(held, depth);
                open &= !held;
            }
            if !all || open == 0 {
                return;
            }
        }
        found(open, self.nodes.len());
    }

    /// Which of the `open` pieces from `from` on a layer holds something of, or is not there for; and whether it could tell
    /// of all.
    fn held_by(&self, node: &Node, from: u64, open: u64) -> (u64, bool) {
        let piece_size = 1 << self.piece_bits;
        let inside = node.length() >> self.piece_bits;
        if !node.mapping || node.slow.load(Acquire) & Slow::CLOSED != 0 {
            return (open, true);
        }
        let (mut held, mut rest) = (0, open);
        while rest != 0 {
            let at = u64::from(rest.trailing_zeros());
            if from + at >= inside {
                // Where a layer ends, and with it what the chain shows, the reader looks for itself.
                return (held | rest, true);
            }
            let end = (from + TOGETHER - u64::from(rest.leading_zeros())).min(inside);
            let bytes = (end - from - at) << self.piece_bits;
            let start = (from + at) << self.piece_bits;
            let Some(extent) = node.driver.try_map(start, bytes, Want::Read) else { return (held, false) };
            let len = extent.len.min(bytes);
            let hole = extent.kind.is_hole() && len >= piece_size;
            let pieces = if hole { len >> self.piece_bits } else { len.div_ceil(piece_size) };
            let these = u64::MAX >> (TOGETHER - pieces) << at;
            if !hole {
                held |= rest & these;
            }
            rest &= !these;
        }
        (held, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::*;
    use api::codec::NoArguments;
    use rt::{BoxFuture, Buf};

    fn top() -> (Arc<Chain>, Arc<Layers>) {
        let (chain, layers) = (Arc::new(Chain::default()), Arc::new(Layers::new(Vec::new())));
        chain.layers.store(Some(layers.clone()));
        (chain, layers)
    }

    #[test]
    fn nothing_is_remembered_of_a_range_while_a_layer_changes_it() {
        let ((top, layers), layer) = (top(), Chain::default());
        let bytes = |piece: u64| (piece << layers.piece_bits, (piece + 1) << layers.piece_bits);
        let known = || (layers.known(2), layers.known(3));
        // One that is under way when the layer hears who reads through it.
        let change = layer.change(bytes(3));
        layer.watch(&top);
        assert_eq!(top.walk(&layers, 3), Some(0));
        assert_eq!(known(), (Some(0), None));
        drop(change);
        top.walk(&layers, 3);
        assert_eq!(known(), (Some(0), Some(0)));
        // Two of one range, one of which ends.
        let (change, other) = (layer.change(bytes(3)), layer.change(bytes(3)));
        assert_eq!(known(), (Some(0), None));
        drop(other);
        top.walk(&layers, 3);
        assert_eq!(known(), (Some(0), None));
        drop(change);
        top.walk(&layers, 3);
        assert_eq!(known(), (Some(0), Some(0)));
        layer.forget();
        assert!(top.layers().is_none());
    }

    #[test]
    fn pieces_that_share_a_place_are_told_apart() {
        let (_, layers) = top();
        let far = 7 + 3 * PART as u64;
        layers.remember(7, 5);
        assert_eq!((layers.known(7), layers.known(far)), (Some(5), None));
        layers.remember(far, 0);
        assert_eq!((layers.known(7), layers.known(far)), (None, Some(0)));
        layers.forget((7 << layers.piece_bits, 8 << layers.piece_bits));
        assert_eq!(layers.known(far), Some(0));
        layers.forget((0, u64::MAX));
        assert_eq!(layers.known(far), None);
    }

    // ---- what a write tells ----

    const CLUSTER: u64 = 4096;
    const LEN: u64 = 4 * CLUSTER;

    /// A file that takes all writes and keeps nothing.
    struct Sink;

    impl Driver for Sink {
        fn length(&self) -> u64 {
            LEN
        }

        fn write(&self, _: u64, _: Buf, _: Request) -> BoxFuture<'_, Result<()>> {
            Box::pin(async { Ok(()) })
        }

        fn flush(&self) -> BoxFuture<'_, Result<()>> {
            Box::pin(async { Ok(()) })
        }
    }

    /// A layer that holds the clusters that were written.
    struct Layer {
        file: ChildId,
        held: Arc<Mutex<[bool; 4]>>,
    }

    struct Hold(Arc<Mutex<[bool; 4]>>, usize);

    impl Token for Hold {
        fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
            Box::pin(async move {
                self.0.lock()[self.1] = true;
                Ok(())
            })
        }
    }

    impl Driver for Layer {
        fn facts(&self) -> Facts {
            Facts { mapping: true, cluster_size: Some(CLUSTER), can_write_zeroes: true, ..Facts::default() }
        }

        fn length(&self) -> u64 {
            LEN
        }

        fn try_map(&self, offset: u64, len: u64, _: Want) -> Option<Extent> {
            let kind = match self.held.lock()[(offset / CLUSTER) as usize] {
                true => ExtentKind::Data { child: self.file, offset, owned: true },
                false => ExtentKind::HOLE,
            };
            Some(Extent { len: len.min(CLUSTER - offset % CLUSTER), kind })
        }

        fn map(&self, offset: u64, len: u64, want: Want) -> BoxFuture<'_, Result<Extent>> {
            let extent = self.try_map(offset, len, want);
            Box::pin(async move { extent.ok_or_else(|| BlockError::invalid("no extent")) })
        }

        fn prepare_write(
            &self,
            at: u64,
            len: u64,
            change: MapChange,
            _: Request,
        ) -> BoxFuture<'_, Result<WritePlan>> {
            let without = |action| WritePlan { len, action, token: None };
            let plan = match change {
                MapChange::Data => {
                    let head = at % CLUSTER;
                    let len = len.min(CLUSTER - head);
                    let tail = CLUSTER - head - len;
                    let action = Action::Store { child: self.file, offset: at, head, tail, fresh: true };
                    let token = Box::new(Hold(self.held.clone(), (at / CLUSTER) as usize));
                    WritePlan { len, action, token: Some(token) }
                }
                MapChange::Zero => without(Action::AsData),
                MapChange::Discard => without(Action::Nothing),
            };
            Box::pin(async move { Ok(plan) })
        }

        fn flush(&self) -> BoxFuture<'_, Result<()>> {
            Box::pin(async { Ok(()) })
        }
    }

    fn open_sink(_: &mut OpenContext, _: NoArguments) -> BoxFuture<'_, Result<Opened>> {
        Box::pin(async { Ok(Opened { driver: Arc::new(Sink), filename: None }) })
    }

    fn open_layer(context: &mut OpenContext, _: NoArguments) -> BoxFuture<'_, Result<Opened>> {
        Box::pin(async {
            let (file, _) = context.file().await?;
            Ok(Opened { driver: Arc::new(Layer { file, held: Arc::default() }), filename: None })
        })
    }

    const DRIVERS: &[DriverType] = &[
        DriverType { name: "sink", kind: DriverKind::Protocol, open: &Open(open_sink), ..DriverType::FORMAT },
        DriverType { name: "layer", open: &Open(open_layer), ..DriverType::FORMAT },
    ];

    #[test]
    fn what_gives_something_a_place_is_told_of_and_a_write_in_place_is_not() {
        rt::block_on_control(async {
            let graph = Graph::new(Registry::new(&[DRIVERS]), |_| Err(BlockError::invalid("no json here")));
            let options = Options::new()
                .with_str("driver", "layer")
                .with_str("discard", "unmap")
                .with("file", Opt::Dict(Options::new().with_str("driver", "sink")));
            let node = graph.open(options, Policy::FOLLOW).await.unwrap();
            let (top, layers) = top();
            node.edges.chain().watch(&top);
            let told = || top.told.lock().changes;
            let data = |len: u64| Buf::from_slice(&vec![1; len as usize]);
            let pieces = || {
                let pieces = (CLUSTER >> layers.piece_bits).max(1);
                (0..4 * pieces).for_each(|piece| layers.remember(piece, 0));
            };
            pieces();
            // Each of two clusters: the begin and the end.
            node.write(CLUSTER + 512, data(CLUSTER), Request::GUEST).await.unwrap();
            assert_eq!(told(), 4);
            assert_eq!(layers.known(CLUSTER >> layers.piece_bits), None);
            pieces();
            let before = told();
            node.write(CLUSTER, data(2 * CLUSTER), Request::GUEST).await.unwrap();
            node.write(CLUSTER + 512, data(512), Request::GUEST.with(Flags::FUA)).await.unwrap();
            node.write_zeroes(CLUSTER, CLUSTER, Request::GUEST).await.unwrap();
            node.discard(0, LEN, Request::GUEST).await.unwrap();
            assert_eq!(told(), before, "nothing was given a place");
            assert_eq!(layers.known(CLUSTER >> layers.piece_bits), Some(0));
            // Zeroes that are stored where there was nothing.
            node.write_zeroes(3 * CLUSTER, CLUSTER, Request::GUEST).await.unwrap();
            assert_eq!(told(), before + 2);
            assert!(top.told.lock().under_way.is_empty());
            graph.release(&node).await.unwrap();
        });
    }
}
