//! Buffers: ranges of reference-counted, 4 KiB-aligned blocks that are used again.
//!
//! ```text
//!   BufMut [a, b) ─┐
//!   BufMut [b, c) ─┼─▶ block (refs, size class) ──last drop──▶ this thread's slab ──full──▶ depot ──full──▶ freed
//!   Buf    [d, e) ─┘
//! ```
//!
//! Laws:
//! - a [`BufMut`] is the only view of its range: ranges of one block are split and joined, never shared;
//! - a [`Buf`] is read-only, and may overlap other [`Buf`]s;
//! - memory is zeroed when a block is first allocated and holds old data when it is used again: always initialised.
//!
//! Bounds: size classes are powers of two from 4 KiB to 4 MiB; a thread retains at most [`SLAB_BYTES`], the depot that
//! threads share at most [`DEPOT_BYTES`]; larger blocks are given back to the system at once. Where there is no room for a
//! block, those of sizes that were last asked for before its own go first.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::fmt;
use std::ops::{Bound, Deref, DerefMut, RangeBounds};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering, fence};

use parking_lot::Mutex;

/// Alignment of every block, in bytes.
pub const ALIGNMENT: usize = 4096;
/// Most bytes a thread keeps for use again.
pub const SLAB_BYTES: usize = 4 << 20;
/// Most bytes that are kept for all threads together, beside their slabs.
pub const DEPOT_BYTES: usize = 8 << 20;

const SMALLEST: u32 = ALIGNMENT.trailing_zeros();
const CLASSES: usize = 11;
const LARGEST: usize = ALIGNMENT << (CLASSES - 1);
/// From here on blocks are mappings: zero pages that cost nothing until they are touched.
const MAPPED: usize = 128 << 10;

/// A block's head. Its memory lives apart, so that data stays aligned.
struct Block {
    refs: AtomicUsize,
    memory: NonNull<u8>,
    capacity: usize,
    /// Index into the slab; `CLASSES` for a size that is not retained.
    class: usize,
}

/// Free blocks by class, never more than `limit` bytes.
struct Slab {
    free: [Vec<BlockRef>; CLASSES],
    bytes: usize,
    limit: usize,
    /// Counts the blocks that were asked for.
    asked: u64,
    /// What it was when one of the class was asked for last.
    last: [u64; CLASSES],
}

/// An owned free block.
struct BlockRef(NonNull<Block>);

// SAFETY: a `BlockRef` in a slab is the only pointer to its block.
unsafe impl Send for BlockRef {}

impl Slab {
    const fn new(limit: usize) -> Slab {
        Slab { free: [const { Vec::new() }; CLASSES], bytes: 0, limit, asked: 0, last: [0; CLASSES] }
    }

    fn take(&mut self, class: usize) -> Option<BlockRef> {
        self.asked += 1;
        *self.last.get_mut(class)? = self.asked;
        let block = self.free.get_mut(class)?.pop()?;
        self.bytes -= ALIGNMENT << class;
        Some(block)
    }

    /// Keeps the block, or gives it back where that would be too much.
    fn put(&mut self, class: usize, block: BlockRef) -> Result<(), BlockRef> {
        let size = ALIGNMENT << class;
        if class >= CLASSES || !self.make_room(size, self.last[class]) {
            return Err(block);
        }
        self.bytes += size;
        self.free[class].push(block);
        Ok(())
    }

    /// Makes room for `size` bytes, if those suffice that are free in classes last asked for before `since`.
    fn make_room(&mut self, size: usize, since: u64) -> bool {
        let need = (self.bytes + size).saturating_sub(self.limit);
        if need == 0 {
            return true;
        }
        let mut idle: Vec<usize> = (0..CLASSES).filter(|class| self.last[*class] < since).collect();
        if idle.iter().map(|class| self.free[*class].len() * (ALIGNMENT << class)).sum::<usize>() < need {
            return false;
        }
        idle.sort_unstable_by_key(|class| self.last[*class]);
        for class in idle {
            while self.bytes + size > self.limit
                && let Some(block) = self.free[class].pop()
            {
                self.bytes -= ALIGNMENT << class;
                release(block);
            }
        }
        true
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        for block in self.free.iter_mut().flat_map(std::mem::take) {
            release(block);
        }
    }
}

static DEPOT: Mutex<Slab> = Mutex::new(Slab::new(DEPOT_BYTES));

thread_local! {
    static SLAB: RefCell<Slab> = const { RefCell::new(Slab::new(SLAB_BYTES)) };
}

fn layout(capacity: usize) -> Layout {
    // SAFETY: the alignment is a power of two, and `capacity` is a multiple of it no greater than isize::MAX, as
    // `allocate` made sure.
    unsafe { Layout::from_size_align_unchecked(capacity, ALIGNMENT) }
}

/// A fresh block of at least `len` bytes, zeroed.
fn allocate(len: usize, class: usize) -> NonNull<Block> {
    let capacity = if class < CLASSES { ALIGNMENT << class } else { len.next_multiple_of(ALIGNMENT) };
    assert!(capacity <= isize::MAX as usize, "a buffer of {len} bytes");
    let memory = if capacity >= MAPPED { map(capacity) } else { heap(capacity) };
    let Some(memory) = memory else { handle_alloc_error(layout(capacity)) };
    let block = Box::new(Block { refs: AtomicUsize::new(1), memory, capacity, class });
    NonNull::from(Box::leak(block))
}

fn heap(capacity: usize) -> Option<NonNull<u8>> {
    // SAFETY: the size is not zero.
    NonNull::new(unsafe { alloc_zeroed(layout(capacity)) })
}

fn map(capacity: usize) -> Option<NonNull<u8>> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches nothing that exists.
    let memory = unsafe { libc::mmap(std::ptr::null_mut(), capacity, protection, flags, -1, 0) };
    if memory == libc::MAP_FAILED { None } else { NonNull::new(memory.cast()) }
}

/// Gives a block that nobody refers to back to the system.
fn release(block: BlockRef) {
    // SAFETY: the head came from `Box::leak` in `allocate`, and this is its last pointer.
    let head = unsafe { Box::from_raw(block.0.as_ptr()) };
    if head.capacity >= MAPPED {
        // SAFETY: the memory is a mapping of exactly this size, made by `map`, with no views left.
        unsafe { libc::munmap(head.memory.as_ptr().cast(), head.capacity) };
    } else {
        // SAFETY: the memory came from `heap` with this layout, with no views left.
        unsafe { dealloc(head.memory.as_ptr(), layout(head.capacity)) };
    }
}

fn class_of(len: usize) -> usize {
    if len > LARGEST {
        return CLASSES;
    }
    (len.max(1).next_power_of_two().trailing_zeros().max(SMALLEST) - SMALLEST) as usize
}

/// A counted reference to a block.
struct Shared(NonNull<Block>);

// SAFETY: the head's count is atomic, its other fields never change, and access to the memory is governed by the
// views (`BufMut` unique, `Buf` read-only).
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn new(len: usize) -> Shared {
        let class = class_of(len);
        let kept = SLAB.try_with(|slab| slab.borrow_mut().take(class)).ok().flatten();
        let block =
            kept.or_else(|| DEPOT.lock().take(class)).map_or_else(|| allocate(len, class), |kept| kept.0);
        // SAFETY: the block is alive, and only this function knows it: nobody reads the count meanwhile.
        unsafe { block.as_ref() }.refs.store(1, Ordering::Relaxed);
        Shared(block)
    }

    fn head(&self) -> &Block {
        // SAFETY: the block lives as long as a reference to it.
        unsafe { self.0.as_ref() }
    }

    fn is_unique(&self) -> bool {
        // Acquire pairs with the release of a dropped view: its accesses are over.
        self.head().refs.load(Ordering::Acquire) == 1
    }
}

impl Clone for Shared {
    fn clone(&self) -> Shared {
        self.head().refs.fetch_add(1, Ordering::Relaxed);
        Shared(self.0)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.head().refs.fetch_sub(1, Ordering::Release) != 1 {
            return;
        }
        fence(Ordering::Acquire);
        let class = self.head().class;
        let mut block = Some(BlockRef(self.0));
        if class < CLASSES {
            let _ = SLAB.try_with(|slab| {
                block = block.take().and_then(|block| slab.borrow_mut().put(class, block).err());
            });
            block = block.and_then(|block| DEPOT.lock().put(class, block).err());
        }
        if let Some(block) = block {
            release(block);
        }
    }
}

/// The only view of a range of a block: readable, writable, sendable.
pub struct BufMut {
    block: Shared,
    start: usize,
    len: usize,
}

impl BufMut {
    /// A buffer of `len` bytes, 4 KiB-aligned. What it holds is unspecified, but initialised: zeros or old data.
    pub fn with_len(len: usize) -> BufMut {
        BufMut { block: Shared::new(len), start: 0, len }
    }

    /// A buffer of `len` zero bytes.
    pub fn zeroed(len: usize) -> BufMut {
        if len > LARGEST {
            // Never retained, hence fresh, hence zero.
            return BufMut::with_len(len);
        }
        let mut buf = BufMut::with_len(len);
        buf.fill(0);
        buf
    }

    /// A copy of `data`.
    pub fn from_slice(data: &[u8]) -> BufMut {
        let mut buf = BufMut::with_len(data.len());
        buf.copy_from_slice(data);
        buf
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Splits off the first `n` bytes (all, where there are fewer); the rest stays.
    pub fn split_to(&mut self, n: usize) -> BufMut {
        let n = n.min(self.len);
        let front = BufMut { block: self.block.clone(), start: self.start, len: n };
        self.start += n;
        self.len -= n;
        front
    }

    /// Appends `other`: at once where it lies just behind in the same block, else by copying both.
    pub fn unsplit(&mut self, other: BufMut) {
        let adjacent = self.block.0 == other.block.0 && self.start + self.len == other.start;
        if adjacent || other.is_empty() {
            self.len += other.len;
            return;
        }
        if self.is_empty() {
            *self = other;
            return;
        }
        let mut joined = BufMut::with_len(self.len + other.len);
        let (front, back) = joined.split_at_mut(self.len);
        front.copy_from_slice(self);
        back.copy_from_slice(&other);
        *self = joined;
    }

    /// Keeps the first `len` bytes; no effect where there are fewer.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Makes it a shared, read-only view.
    pub fn freeze(self) -> Buf {
        Buf { block: self.block, start: self.start, len: self.len }
    }
}

impl Deref for BufMut {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the range lies in the block's initialised memory, which lives as long as `self.block`, and nobody
        // else has a view of it.
        unsafe { std::slice::from_raw_parts(self.block.head().memory.as_ptr().add(self.start), self.len) }
    }
}

impl DerefMut for BufMut {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `deref`, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.block.head().memory.as_ptr().add(self.start), self.len) }
    }
}

impl fmt::Debug for BufMut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BufMut({} bytes)", self.len)
    }
}

/// A shared, read-only view of a range of a block.
#[derive(Clone)]
pub struct Buf {
    block: Shared,
    start: usize,
    len: usize,
}

impl Buf {
    /// A copy of `data`.
    pub fn from_slice(data: &[u8]) -> Buf {
        BufMut::from_slice(data).freeze()
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A view of a part, nothing copied. A range that reaches beyond the end is cut off there.
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Buf {
        let start = match range.start_bound() {
            Bound::Included(&n) => n,
            Bound::Excluded(&n) => n.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&n) => n.saturating_add(1),
            Bound::Excluded(&n) => n,
            Bound::Unbounded => self.len,
        };
        let end = end.min(self.len);
        let start = start.min(end);
        Buf { block: self.block.clone(), start: self.start + start, len: end - start }
    }

    /// The range as a unique view, if nobody else has one of any part of the block; else the view back.
    pub fn try_into_mut(self) -> Result<BufMut, Buf> {
        if self.block.is_unique() {
            Ok(BufMut { block: self.block, start: self.start, len: self.len })
        } else {
            Err(self)
        }
    }
}

impl Deref for Buf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the range lies in the block's initialised memory, which lives as long as `self.block`; a block with
        // a `Buf` of a range has no `BufMut` of that range.
        unsafe { std::slice::from_raw_parts(self.block.head().memory.as_ptr().add(self.start), self.len) }
    }
}

impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buf({} bytes)", self.len)
    }
}

impl From<BufMut> for Buf {
    fn from(buf: BufMut) -> Buf {
        buf.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_aligned_and_as_long_as_asked() {
        for len in [0, 1, 4096, 4097, 100_000, 1 << 20, (4 << 20) + 1] {
            let buf = BufMut::with_len(len);
            assert_eq!((buf.len(), buf.as_ptr() as usize % ALIGNMENT), (len, 0));
        }
    }

    #[test]
    fn zeroed_is_zero_also_in_memory_that_is_used_again() {
        BufMut::with_len(8192).fill(7);
        assert!(BufMut::zeroed(8192).iter().all(|&b| b == 0));
    }

    #[test]
    fn parts_of_a_block_join_without_a_copy_and_others_with_one() {
        let mut a = BufMut::from_slice(b"hello world");
        let at = a.as_ptr();
        let mut front = a.split_to(5);
        assert_eq!((&front[..], &a[..]), (&b"hello"[..], &b" world"[..]));
        front.unsplit(a);
        assert_eq!((front.as_ptr(), &front[..]), (at, &b"hello world"[..]));
        front.unsplit(BufMut::from_slice(b"!"));
        assert_eq!(&front[..], b"hello world!");
        assert_eq!(front.split_to(100).len(), 12);
        assert!(front.is_empty());
    }

    #[test]
    fn a_shared_view_becomes_unique_only_when_the_others_are_gone() {
        let buf = Buf::from_slice(b"0123456789");
        let part = buf.slice(2..=4);
        assert_eq!(&part[..], b"234");
        assert_eq!(buf.slice(8..100).len(), 2);
        let buf = buf.try_into_mut().unwrap_err();
        drop(part);
        assert_eq!(buf.try_into_mut().unwrap().len(), 10);
    }

    #[test]
    fn blocks_of_sizes_no_longer_asked_for_make_room_for_others() {
        std::thread::spawn(|| {
            drop((0..SLAB_BYTES >> 12).map(|_| BufMut::with_len(4096)).collect::<Vec<_>>());
            let full = |slab: &RefCell<Slab>| slab.borrow().bytes;
            assert_eq!(SLAB.with(full), SLAB_BYTES);
            drop(BufMut::with_len(1 << 18));
            let kept = |slab: &RefCell<Slab>| slab.borrow().free[class_of(1 << 18)].len();
            assert_eq!((SLAB.with(full), SLAB.with(kept)), (SLAB_BYTES, 1));
            // What was asked for since stays.
            let long_ago = BufMut::with_len(1 << 20);
            drop((0..SLAB_BYTES >> 12).map(|_| BufMut::with_len(4096)).collect::<Vec<_>>());
            drop(long_ago);
            assert_eq!(SLAB.with(|slab| slab.borrow().free[class_of(1 << 20)].len()), 0);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_thread_that_frees_what_another_allocates_keeps_a_bounded_amount() {
        let bufs: Vec<_> = (0..64).map(|_| BufMut::with_len(1 << 20)).collect();
        std::thread::spawn(move || {
            drop(bufs);
            assert!(SLAB.with(|slab| slab.borrow().bytes) <= SLAB_BYTES);
        })
        .join()
        .unwrap();
        assert!(DEPOT.lock().bytes <= DEPOT_BYTES);
    }
}
