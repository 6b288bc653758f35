//! A file that comes as a stream only, from its start to its end: kept as a whole, where it is small enough.
//!
//! Memory is taken as bytes come, never because somebody says how many there will be. Readers wait for the bytes that they need. When no
//! more can be had, they are told, and whoever asks later has it tried anew.

use block::{BlockError, ErrorKind, Result};
use event_listener::Event;
use parking_lot::{Mutex, RwLock};
use rt::BufMut;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a block.
const BLOCK: usize = 1 << 20;

/// What has come of a file, and what will.
pub(crate) struct Whole {
    blocks: RwLock<Vec<BufMut>>,
    /// Bytes that have come.
    came: AtomicU64,
    state: Mutex<State>,
    /// Something has come, or the state changed.
    changed: Event,
    /// Somebody waits for more.
    asked: Event,
}

#[derive(Default)]
struct State {
    /// No more will come, and why.
    end: Option<Result<()>>,
    /// How often no more could be had, and why the last time.
    failures: u64,
    failure: Option<BlockError>,
    /// Somebody has waited for more since then.
    is_wanted: bool,
}

/// Takes what comes. Dropped before [`Filler::end`], it fails whoever waits.
pub(crate) struct Filler {
    whole: Arc<Whole>,
    limit: u64,
}

impl Whole {
    /// For a file of at most `limit` bytes: the file, and what takes it in.
    pub fn new(limit: u64) -> (Arc<Self>, Filler) {
        let whole = Arc::new(Self {
            blocks: RwLock::default(),
            came: AtomicU64::new(0),
            state: Mutex::default(),
            changed: Event::new(),
            asked: Event::new(),
        });
        (whole.clone(), Filler { whole, limit })
    }

    /// Reads what is here already: how many bytes from the start.
    pub fn try_read(&self, offset: u64, buf: &mut [u8]) -> usize {
        let here = self.came.load(Ordering::Acquire).saturating_sub(offset).min(buf.len() as u64) as usize;
        let blocks = self.blocks.read();
        let mut done = 0;
        while done < here {
            let at = offset + done as u64;
            let (block, within) = ((at / BLOCK as u64) as usize, (at % BLOCK as u64) as usize);
            let n = (BLOCK - within).min(here - done);
            let from = blocks.get(block).and_then(|block| block.get(within..within + n));
            let (Some(from), Some(to)) = (from, buf.get_mut(done..done + n)) else { break };
            to.copy_from_slice(from);
            done += n;
        }
        done
    }

    /// Reads all of `buf`, when it has come; what is beyond the end reads as zeroes.
    pub async fn read(&self, offset: u64, mut buf: BufMut) -> (BufMut, Result<()>) {
        let end = offset.saturating_add(buf.len() as u64);
        if let Err(error) = self.come(end).await {
            return (buf, Err(error));
        }
        let done = self.try_read(offset, &mut buf);
        if let Some(rest) = buf.get_mut(done..) {
            rest.fill(0);
        }
        (buf, Ok(()))
    }

    /// Waits until so many bytes have come, or the end, or until no more can be had.
    async fn come(&self, bytes: u64) -> Result<()> {
        let mut begun = None;
        loop {
            let changed = self.changed.listen();
            if self.came.load(Ordering::Acquire) >= bytes {
                return Ok(());
            }
            {
                let mut state = self.state.lock();
                if let Some(end) = &state.end {
                    return end.clone();
                }
                match (&state.failure, *begun.get_or_insert(state.failures)) {
                    (Some(failure), begun) if begun != state.failures => return Err(failure.clone()),
                    _ => {}
                }
                state.is_wanted = true;
            }
            self.asked.notify(usize::MAX);
            changed.await;
        }
    }
}

impl Filler {
    /// The next bytes.
    ///
    /// # Errors
    /// They are more than may be kept, or nobody wants them any more.
    pub fn push(&mut self, mut data: &[u8]) -> Result<()> {
        if Arc::strong_count(&self.whole) == 1 {
            return Err(BlockError::new(ErrorKind::Closed, "nobody reads the file any more"));
        }
        let came = self.whole.came.load(Ordering::Relaxed);
        if data.len() as u64 > self.limit.saturating_sub(came) {
            let text = format!("it is larger than the {} bytes that are kept of a stream", self.limit);
            return Err(BlockError::new(ErrorKind::Limit, text));
        }
        let mut at = came;
        while !data.is_empty() {
            let within = (at % BLOCK as u64) as usize;
            let n = data.len().min(BLOCK - within);
            let (now, rest) = data.split_at(n);
            let mut blocks = self.whole.blocks.write();
            if within == 0 {
                blocks.push(BufMut::with_len(BLOCK));
            }
            if let Some(to) = blocks.last_mut().and_then(|block| block.get_mut(within..within + n)) {
                to.copy_from_slice(now);
            }
            (data, at) = (rest, at + n as u64);
        }
        self.whole.came.store(at, Ordering::Release);
        self.whole.changed.notify(usize::MAX);
        Ok(())
    }

    /// Bytes that have come.
    pub fn came(&self) -> u64 {
        self.whole.came.load(Ordering::Relaxed)
    }

    /// That was all, or why there is no more.
    pub fn end(self, result: Result<()>) {
        self.settle(result);
    }

    fn settle(&self, result: Result<()>) {
        self.whole.state.lock().end.get_or_insert(result);
        self.whole.changed.notify(usize::MAX);
    }

    /// No more can be had just now: tells those who wait, and waits for somebody who asks again.
    pub async fn fail(&self, error: BlockError) {
        {
            let mut state = self.whole.state.lock();
            (state.failures, state.failure, state.is_wanted) = (state.failures + 1, Some(error), false);
        }
        self.whole.changed.notify(usize::MAX);
        loop {
            let asked = self.whole.asked.listen();
            if self.whole.state.lock().is_wanted {
                return;
            }
            asked.await;
        }
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        self.settle(Err(BlockError::new(ErrorKind::Io, "the file did not come to its end")));
    }
}
