//! Reading remote files ahead: what protocols share whose files are only read, over links that may be slow.
//!
//! ```text
//!            small, in order ─▶ windows, fetched ahead by tasks of their own ─┐
//! read ──▶ ┤ small, here and there ───────────────────────────────────────────┼─▶ Remote::read_at
//!            large, several at a time ─ into the reader's buffer ─────────────┘
//! ```
//!
//! Reads that follow each other, more or less, are a run; the first one may be taken for one that has begun ([`runs`]). What comes
//! next in a run is fetched ahead, the more the longer it lasts, and requests for what is being fetched wait for it: nothing is
//! asked for twice at a time. All other reads go to the server just as they are, without a copy, and are not kept.
//!
//! What was read of a file can be kept on disk as well ([`Kept`]), below all of this.
//!
//! A file that can be had only from its start to its end, as a stream, is kept as a whole where it is small enough ([`Whole`]).
//!
//! Bounds: the memory of a file is at most [`Readahead::capacity`], whatever the server says.

#[cfg(feature = "http")]
mod disk;
mod runs;
#[cfg(test)]
mod tests;
#[cfg(feature = "http")]
mod whole;
mod windows;

#[cfg(feature = "http")]
pub(crate) use disk::{Disk, Kept, PIECE};
#[cfg(feature = "http")]
pub(crate) use whole::{Filler, Whole};

use block::{BlockError, Result};
use parking_lot::Mutex;
use rt::{BoxFuture, BufMut};
use runs::Runs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use windows::{Window, Windows};

/// Bytes that are read ahead at the start of a run, where nothing else is said; as QEMU does.
pub(crate) const DEFAULT: u64 = 256 << 10;
/// Most bytes that can be asked to be read ahead at the start of a run.
pub(crate) const MOST: u64 = 64 << 20;
/// Bytes that a long run is read ahead, unless it began with more.
const REACH: u64 = 4 << 20;
/// Largest request that is made ahead, in bytes: several of them are under way at a time.
const WINDOW: u64 = 1 << 20;

/// A remote file that can be read at any offset, by several requests at a time.
pub(crate) trait Remote: Send + Sync + 'static {
    /// Reads all of `buf`, which ends within the file. It comes back, also after an error. Each call has its own deadline:
    /// nobody else ends one that takes for ever.
    fn read_at(&self, offset: u64, buf: BufMut) -> BoxFuture<'_, (BufMut, Result<()>)>;
}

/// Checks the option `readahead`: bytes, a multiple of 512.
///
/// # Errors
/// It is none, or more than [`MOST`].
pub(crate) fn checked(readahead: Option<u64>) -> Result<u64> {
    match readahead.unwrap_or(DEFAULT) {
        bytes if bytes % 512 != 0 => Err(BlockError::invalid("readahead must be a multiple of 512 bytes")),
        bytes if bytes > MOST => Err(BlockError::invalid(format!("readahead is at most {MOST} bytes"))),
        bytes => Ok(bytes),
    }
}

/// A remote file, read ahead.
pub(crate) struct Readahead<R> {
    remote: R,
    size: u64,
    /// Bytes at the start of a run.
    readahead: u64,
    state: Mutex<State>,
    /// Large reads that go to the server just now.
    large: AtomicUsize,
}

struct State {
    runs: Runs,
    windows: Windows,
}

impl<R: Remote> Readahead<R> {
    /// Over a file of `size` bytes, with as many bytes to be read ahead at first; none: nothing ever is.
    pub fn new(remote: R, size: u64, readahead: u64) -> Arc<Self> {
        let state = State { runs: Runs::default(), windows: Windows::new(Self::capacity(readahead)) };
        Arc::new(Self { remote, size, readahead, state: Mutex::new(state), large: AtomicUsize::new(0) })
    }

    /// Bytes that are held at most, with so many to be read ahead at first.
    pub fn capacity(readahead: u64) -> u64 {
        4 * REACH.max(readahead)
    }

    /// The file itself.
    pub fn remote(&self) -> &R {
        &self.remote
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads what is here already: how many bytes from the start. For [`block::Driver::try_read`].
    pub fn try_read(self: &Arc<Self>, offset: u64, buf: &mut [u8]) -> usize {
        let wanted = self.inside(offset, buf.len());
        let mut done = 0;
        while done < wanted {
            let at = offset + done as u64;
            let Some(window) = self.state.lock().windows.find(at).cloned() else { break };
            let Some(n) = buf.get_mut(done..wanted).and_then(|to| window.copy_ready(at, to)) else { break };
            done += n;
        }
        if done > 0 && done == wanted {
            self.look_ahead(offset, done);
        }
        done
    }

    /// Reads all of `buf`; what is beyond the end reads as zeroes. For [`block::Driver::read`].
    pub async fn read(self: &Arc<Self>, offset: u64, mut buf: BufMut) -> (BufMut, Result<()>) {
        let wanted = self.inside(offset, buf.len());
        let _large = self.look_ahead(offset, wanted);
        let mut done = buf.split_to(0);
        while done.len() < wanted {
            let at = offset + done.len() as u64;
            let left = wanted - done.len();
            let (window, direct) = {
                let mut state = self.state.lock();
                let window = state.windows.find(at).cloned();
                (window, state.windows.room_before_next(at, left as u64) as usize)
            };
            let (part, result) = match window {
                Some(window) => {
                    let mut part = buf.split_to(window.left_from(at).min(left));
                    let result = window.copy(at, &mut part).await;
                    (part, result)
                }
                None => self.remote.read_at(at, buf.split_to(direct)).await,
            };
            done.unsplit(part);
            if let Err(error) = result {
                done.unsplit(buf);
                return (done, Err(error));
            }
        }
        buf.fill(0);
        done.unsplit(buf);
        (done, Ok(()))
    }

    /// Gives up what is held: it is not what the file holds any more, or nobody will read it.
    pub fn forget(&self) {
        self.state.lock().windows.clear();
    }

    fn inside(&self, offset: u64, len: usize) -> usize {
        self.size.saturating_sub(offset).min(len as u64) as usize
    }

    /// Notes a read, and has fetched ahead what its run will come to. What is answered is kept while a large read goes on.
    fn look_ahead(self: &Arc<Self>, offset: u64, len: usize) -> Option<Large<'_>> {
        if self.readahead == 0 || len == 0 {
            return None;
        }
        let large = (len as u64 >= self.readahead).then(|| Large::new(&self.large));
        // Whoever asks for much at several places at a time looks ahead himself.
        let alone = large.as_ref().is_none_or(|large| large.is_only);
        let mut state = self.state.lock();
        let State { runs, windows } = &mut *state;
        let Some(run) = runs.note(offset, len as u64, self.readahead).filter(|_| alone) else { return large };
        let end = (offset + len as u64).saturating_add(run.reach).min(self.size);
        while run.ahead < end {
            let Some(gap) = windows.gap(run.ahead, end) else {
                run.ahead = end;
                break;
            };
            let span = self.readahead.max(run.reach / 4).min(WINDOW).min(self.size - gap.0).min(gap.1);
            let Some(window) = windows.add(gap.0, span) else { break };
            run.ahead = gap.0 + span;
            run.reach = (run.reach * 2).min(REACH.max(self.readahead));
            rt::spawn(self.clone().fetch(window)).detach();
        }
        large
    }

    async fn fetch(self: Arc<Self>, window: Arc<Window>) {
        let unfetched = Unfetched { of: &self, window: &window, done: false };
        let (buf, result) = self.remote.read_at(window.start, BufMut::with_len(window.len)).await;
        unfetched.end(result.map(|()| buf.freeze()));
    }
}

/// A window whose fetch may end in any way, also by being dropped.
struct Unfetched<'a, R: Remote> {
    of: &'a Readahead<R>,
    window: &'a Arc<Window>,
    done: bool,
}

impl<R: Remote> Unfetched<'_, R> {
    fn end(mut self, result: Result<rt::Buf>) {
        self.done = true;
        self.settle(result);
    }

    fn settle(&self, result: Result<rt::Buf>) {
        if result.is_err() {
            // Those who wait for it are told; others ask again.
            self.of.state.lock().windows.remove(self.window);
        }
        self.window.settle(result);
    }
}

impl<R: Remote> Drop for Unfetched<'_, R> {
    fn drop(&mut self) {
        if !self.done {
            self.settle(Err(BlockError::new(block::ErrorKind::Io, "reading ahead has ended")));
        }
    }
}

/// A large read that goes on.
struct Large<'a> {
    count: &'a AtomicUsize,
    is_only: bool,
}

impl<'a> Large<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        Self { count, is_only: count.fetch_add(1, Ordering::Relaxed) == 0 }
    }
}

impl Drop for Large<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}
