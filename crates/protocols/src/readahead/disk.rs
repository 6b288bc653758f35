//! What was read of a remote file, kept on a disk of this host: the pieces that were used last.
//!
//! ```text
//! remote file   │ piece 0 │ piece 1 │ piece 2 │ piece 3 │ …
//!                    └──────────┐        └──────┐
//! file here     │ slot 0 │ slot 1 │ … │ slot n │          as many as its bound has room for; each knows which sectors it has
//! ```
//!
//! Laws:
//! - The file has no name and ends with the node: nobody finds it, and nothing that it holds is trusted by another node, or after a
//!   restart. Whoever makes it sees to it that all that comes is of one version of the remote file.
//! - A slot that is read or written stays what it is meanwhile. A write goes on when nobody waits for it any more, so it holds its slot
//!   by itself.
//! - It is a help, never a reason to fail: what can't be read is fetched; after an error of the disk nothing is kept any more.
//!
//! Bounds: the file by its option; memory by the slots in use, some 64 bytes for each 64 KiB.

use super::Remote;
use block::Result;
use parking_lot::Mutex;
use rt::{BoxFuture, Buf, BufMut, File, Try};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Bytes of a slot.
pub(crate) const PIECE: u64 = 64 << 10;
/// Bytes of what is there or not.
const SECTOR: u64 = 4 << 10;
/// Writes that may wait for the disk at a time; what comes meanwhile is not kept.
const WAITING: usize = 64;

/// A remote file of which something may be kept.
pub(crate) struct Kept<R> {
    remote: R,
    disk: Option<Arc<Disk>>,
}

/// What is kept of a file.
pub(crate) struct Disk {
    file: File,
    /// Bytes of the remote file.
    size: u64,
    slots: Mutex<Slots>,
    waiting: AtomicUsize,
    /// The disk has failed.
    broken: AtomicBool,
}

struct Slots {
    of: HashMap<u64, usize>,
    all: Vec<Slot>,
    most: usize,
    /// The slot that is looked at next when one has to be given up.
    hand: usize,
}

struct Slot {
    piece: u64,
    /// A bit for each sector that is here.
    here: u16,
    /// Readers and writers just now.
    users: u32,
    /// Since the hand passed last.
    used: bool,
}

/// A slot that stays what it is.
struct Held {
    disk: Arc<Disk>,
    slot: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(slot) = self.disk.slots.lock().all.get_mut(self.slot) {
            slot.users -= 1;
        }
    }
}

/// What comes next of a range.
enum Run {
    /// So many bytes are in this slot.
    Here(usize, u64),
    /// So many are not here.
    Missing(u64),
}

impl Slots {
    /// The first part of a range of the file: within one piece where it is here.
    fn run(&self, at: u64, len: u64) -> Run {
        let has = |at: u64| {
            let slot = *self.of.get(&(at / PIECE))?;
            let here = self.all.get(slot)?.here;
            (here & sectors(at % PIECE, 1) != 0).then_some(slot)
        };
        let end = at + len;
        let first = has(at);
        let bound = if first.is_some() { end.min((at / PIECE + 1) * PIECE) } else { end };
        let mut next = (at / SECTOR + 1) * SECTOR;
        while next < bound && has(next).is_some() == first.is_some() {
            next += SECTOR;
        }
        let len = next.min(bound) - at;
        first.map_or(Run::Missing(len), |slot| Run::Here(slot, len))
    }

    /// The slot of a piece, its own or one that is given up for it; none where all are in use.
    fn claim(&mut self, piece: u64) -> Option<usize> {
        if let Some(slot) = self.of.get(&piece) {
            return Some(*slot);
        }
        let new = Slot { piece, here: 0, users: 0, used: true };
        let slot = if self.all.len() < self.most {
            self.all.push(new);
            self.all.len() - 1
        } else {
            let slot = self.give_up()?;
            let old = self.all.get_mut(slot)?;
            self.of.remove(&old.piece);
            *old = new;
            slot
        };
        self.of.insert(piece, slot);
        Some(slot)
    }

    /// One that was not used since the hand passed last.
    fn give_up(&mut self) -> Option<usize> {
        for _ in 0..2 * self.all.len() {
            let at = self.hand;
            self.hand = (self.hand + 1) % self.all.len();
            let slot = self.all.get_mut(at)?;
            if slot.users == 0 && !std::mem::take(&mut slot.used) {
                return Some(at);
            }
        }
        None
    }
}

/// The bits of the sectors that have these bytes of a piece.
fn sectors(within: u64, len: u64) -> u16 {
    let (first, last) = (within / SECTOR, (within + len - 1) / SECTOR);
    (u16::MAX >> (15 - (last - first))) << first
}

impl Disk {
    /// Over an empty file of which at most `bytes` are used, at least [`PIECE`]; of a remote file of `size` bytes.
    pub fn new(file: File, bytes: u64, size: u64) -> Arc<Self> {
        let most = usize::try_from(bytes / PIECE).unwrap_or(usize::MAX);
        let slots = Slots { of: HashMap::new(), all: Vec::new(), most, hand: 0 };
        let (waiting, broken) = (AtomicUsize::new(0), AtomicBool::new(false));
        Arc::new(Self { file, size, slots: Mutex::new(slots), waiting, broken })
    }

    /// What comes next of a range, and its slot, held.
    fn next(self: &Arc<Self>, at: u64, len: u64) -> (u64, Option<Held>) {
        if self.broken.load(Ordering::Relaxed) {
            return (len, None);
        }
        let mut slots = self.slots.lock();
        match slots.run(at, len) {
            Run::Missing(len) => (len, None),
            Run::Here(number, len) => {
                if let Some(slot) = slots.all.get_mut(number) {
                    (slot.used, slot.users) = (true, slot.users + 1);
                }
                (len, Some(Held { disk: self.clone(), slot: number }))
            }
        }
    }

    /// Reads from a slot; whether that succeeded.
    async fn read(self: &Arc<Self>, held: Held, at: u64, buf: BufMut) -> (BufMut, bool) {
        let wanted = buf.len();
        let (buf, result) = self.file.read(place(held.slot, at), buf).await;
        match result {
            // What was given up meanwhile may have been cut off, and be zeroes under a write that was under way.
            Ok(n) if n == wanted => return (buf, !self.broken.load(Ordering::Acquire)),
            Ok(_) => self.give_up("it is shorter than what was written"),
            Err(error) => self.give_up(&error.to_string()),
        }
        (buf, false)
    }

    /// Keeps what came.
    fn keep(self: &Arc<Self>, mut at: u64, mut data: &[u8]) {
        let skipped = (at.next_multiple_of(SECTOR) - at).min(data.len() as u64);
        (at, data) = (at + skipped, data.get(skipped as usize..).unwrap_or_default());
        while !data.is_empty() && !self.broken.load(Ordering::Relaxed) {
            let len = (PIECE - at % PIECE).min(data.len() as u64);
            // Of the last sector all has to be here, or all that the file has of it.
            let is_end = at + len == self.size;
            let whole = if is_end { len } else { len - len % SECTOR };
            if whole == 0 {
                return;
            }
            let (now, later) = data.split_at(len as usize);
            self.keep_piece(at, now.get(..whole as usize).unwrap_or_default());
            (at, data) = (at + len, later);
        }
    }

    fn keep_piece(self: &Arc<Self>, at: u64, data: &[u8]) {
        let bits = sectors(at % PIECE, data.len() as u64);
        let held = {
            let mut slots = self.slots.lock();
            let Some(number) = slots.claim(at / PIECE) else { return };
            let Some(slot) = slots.all.get_mut(number) else { return };
            if slot.here & bits == bits {
                return;
            }
            slot.users += 1;
            Held { disk: self.clone(), slot: number }
        };
        let (mut place, mut rest) = (place(held.slot, at), data);
        while !rest.is_empty() {
            match self.file.try_write(place, rest) {
                Try::Done(Ok(n)) if n > 0 => {
                    (place, rest) = (place + n as u64, rest.get(n..).unwrap_or_default());
                }
                Try::Done(Err(error)) => return self.give_up(&error.to_string()),
                Try::Done(Ok(_)) | Try::WouldBlock => return self.keep_later(held, bits, place, rest),
            }
        }
        self.kept(&held, bits);
    }

    /// Has the rest written while nobody waits.
    fn keep_later(self: &Arc<Self>, held: Held, bits: u16, place: u64, rest: &[u8]) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let (disk, rest) = (self.clone(), Buf::from_slice(rest));
        rt::spawn(async move {
            let (_, result) = disk.file.write(place, rest).await;
            disk.waiting.fetch_sub(1, Ordering::Relaxed);
            match result {
                Ok(()) => disk.kept(&held, bits),
                Err(error) => disk.give_up(&error.to_string()),
            }
        })
        .detach();
    }

    fn kept(&self, held: &Held, bits: u16) {
        if let Some(slot) = self.slots.lock().all.get_mut(held.slot) {
            slot.here |= bits;
        }
    }

    /// Nothing is kept, or read from here, any more; others have the space.
    fn give_up(self: &Arc<Self>, why: &str) {
        if self.broken.swap(true, Ordering::AcqRel) {
            return;
        }
        tracing::warn!(why, "what is read of a server's file is not kept on disk any more");
        let disk = self.clone();
        rt::spawn(async move {
            if let Err(error) = disk.file.set_len(0).await {
                tracing::warn!(%error, "the space of what was kept on disk is not free before the node ends");
            }
        })
        .detach();
    }
}

/// Where a byte of a piece is in a slot.
fn place(slot: usize, at: u64) -> u64 {
    slot as u64 * PIECE + at % PIECE
}

impl<R> Kept<R> {
    /// With what is kept of it, if anything is to be.
    pub fn new(remote: R, disk: Option<Arc<Disk>>) -> Self {
        Self { remote, disk }
    }

    /// The file itself.
    pub fn remote(&self) -> &R {
        &self.remote
    }
}

impl<R: Remote> Kept<R> {
    async fn read(&self, disk: &Arc<Disk>, offset: u64, mut buf: BufMut) -> (BufMut, Result<()>) {
        let mut done = buf.split_to(0);
        while !buf.is_empty() {
            let at = offset + done.len() as u64;
            let (len, held) = disk.next(at, buf.len() as u64);
            let mut part = buf.split_to(len as usize);
            if let Some(held) = held {
                let (back, is_read) = disk.read(held, at, part).await;
                part = back;
                if is_read {
                    done.unsplit(part);
                    continue;
                }
            }
            let (part, result) = self.remote.read_at(at, part).await;
            if result.is_ok() {
                disk.keep(at, &part);
            }
            done.unsplit(part);
            if let Err(error) = result {
                done.unsplit(buf);
                return (done, Err(error));
            }
        }
        (done, Ok(()))
    }
}

impl<R: Remote> Remote for Kept<R> {
    fn read_at(&self, offset: u64, buf: BufMut) -> BoxFuture<'_, (BufMut, Result<()>)> {
        match &self.disk {
            None => self.remote.read_at(offset, buf),
            Some(disk) => Box::pin(self.read(disk, offset, buf)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Fake, byte};
    use super::*;

    const SIZE: u64 = (8 << 20) + 1000;

    fn run<T>(workers: usize, test: impl Future<Output = T>) -> T {
        let config = rt::Config { workers: Some(workers), ..rt::Config::default() };
        rt::Runtime::new(config).unwrap().block_on(test)
    }

    fn kept(bytes: u64) -> Kept<Fake> {
        let file = rt::fs::make_unnamed(&std::env::temp_dir()).unwrap();
        Kept::new(Fake::default(), Some(Disk::new(file, bytes, SIZE)))
    }

    async fn check(kept: &Kept<Fake>, offset: u64, len: usize) {
        let (buf, result) = kept.read_at(offset, BufMut::zeroed(len)).await;
        result.unwrap();
        assert_eq!(buf.len(), len);
        assert!(buf.iter().zip(offset..).all(|(got, at)| *got == byte(at)), "{len} at {offset}");
    }

    /// Waits until what came is kept.
    async fn settled(kept: &Kept<Fake>) {
        let disk = kept.disk.as_ref().unwrap();
        while disk.waiting.load(Ordering::Relaxed) > 0 {
            rt::yield_now().await;
        }
    }

    #[test]
    fn what_was_read_is_not_asked_for_again_if_it_has_room() {
        run(1, async {
            let kept = kept(16 << 20);
            for (at, len) in [(0, 4096), (4096, 200_000), (SIZE - 1000, 1000), (1 << 20, 3 << 20)] {
                check(&kept, at, len).await;
                settled(&kept).await;
            }
            kept.remote().asked.lock().clear();
            for (at, len) in [(100, 50), (5000, 190_000), (SIZE - 10, 10), (2 << 20, 1 << 20), (0, 200_000)] {
                check(&kept, at, len).await;
            }
            assert_eq!(*kept.remote().asked.lock(), []);
            // What lies between is asked for alone, and not what is here around it.
            check(&kept, 0, 2 << 20).await;
            let asked = std::mem::take(&mut *kept.remote().asked.lock());
            assert_eq!(asked, [(196 << 10, (1 << 20) - (196 << 10))]);
        });
    }

    #[test]
    fn any_mix_of_reads_at_a_time_gives_the_file_and_takes_no_more_disk_than_it_may() {
        for pieces in [1, 3, 20] {
            run(2, async {
                let kept = Arc::new(kept(pieces * PIECE));
                let readers: Vec<_> = (0..8u64)
                    .map(|reader| {
                        let kept = kept.clone();
                        rt::spawn(async move {
                            let mut seed = reader;
                            let mut next = |most: u64| {
                                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(reader + 1);
                                (seed >> 33) % most
                            };
                            for _ in 0..200 {
                                let most = if next(4) == 0 { 300_000 } else { 9000 };
                                let len = 1 + next(most);
                                // Near to each other, so that some is here.
                                let at = if next(8) == 0 { SIZE - len } else { next(40 * PIECE) };
                                check(&kept, at, len as usize).await;
                            }
                        })
                    })
                    .collect();
                for reader in readers {
                    reader.await.unwrap();
                }
                settled(&kept).await;
                let disk = kept.disk.as_ref().unwrap();
                assert!(disk.file.len().unwrap() <= pieces * PIECE);
                assert!(disk.slots.lock().all.iter().all(|slot| slot.users == 0));
                assert!(!disk.broken.load(Ordering::Relaxed));
            });
        }
    }

    #[test]
    fn a_disk_that_fails_has_its_space_back_and_nobody_reads_what_was_cut_off() {
        run(2, async {
            let kept = Arc::new(kept(1 << 20));
            check(&kept, 0, 1 << 20).await;
            settled(&kept).await;
            let disk = kept.disk.clone().unwrap();
            assert_eq!(disk.file.len().unwrap(), 1 << 20);
            let readers: Vec<_> = (0..4)
                .map(|_| {
                    let kept = kept.clone();
                    rt::spawn(async move {
                        for at in 0..200 {
                            check(&kept, at * 4096, 100_000).await;
                        }
                    })
                })
                .collect();
            disk.give_up("a test says so");
            while disk.file.len().unwrap() > 0 {
                rt::yield_now().await;
            }
            for reader in readers {
                reader.await.unwrap();
            }
            check(&kept, 0, 1 << 20).await;
            assert_eq!(disk.file.len().unwrap(), 0);
        });
    }

    #[test]
    fn a_disk_that_fails_fails_no_read() {
        run(1, async {
            let options = rt::OpenOptions::read_only();
            let file = rt::fs::open(std::path::Path::new("/proc/self/exe"), &options).await.unwrap();
            let kept = Kept::new(Fake::default(), Some(Disk::new(file, 1 << 20, SIZE)));
            for _ in 0..3 {
                check(&kept, 0, 100_000).await;
                settled(&kept).await;
            }
            assert_eq!(kept.remote().asked.lock().len(), 3);
        });
    }
}
