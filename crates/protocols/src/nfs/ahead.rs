//! Reads in order are read ahead, where that is asked for.
//!
//! ```text
//! read ─▶ continues the last one? ─▶ window here: copied ─▶ near its end: the next window is fetched
//!                 └ no: the server is asked as ever
//! ```
//!
//! Laws: what is written, or given another size, makes every window worthless, also those that are being fetched.
//!
//! Bounds: two windows of at most the size that was asked for together.

use super::link::Link;
use super::read_piece;
use event_listener::Event;
use parking_lot::Mutex;
use rt::{Buf, BufMut};
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

/// Windows that there are at a time.
const WINDOWS: usize = 2;
/// Reads in order before anything is read ahead.
const PROVEN: u32 = 2;

/// What is read ahead of a file.
pub(super) struct Ahead {
    /// Bytes of a window.
    size: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Where the last read ended, and how many there were in order.
    next: u64,
    reads: u32,
    /// In order; each begins where the one before it ends.
    windows: VecDeque<Arc<Window>>,
}

/// A piece of the file that is here, or is being fetched.
struct Window {
    start: u64,
    len: usize,
    /// Nothing: it could not be read, and whoever wants it asks for himself.
    content: OnceLock<Option<Buf>>,
    settled: Event,
}

impl Window {
    fn end(&self) -> u64 {
        self.start + self.len as u64
    }

    async fn content(&self) -> Option<Buf> {
        loop {
            let settled = self.settled.listen();
            match self.content.get() {
                Some(content) => return content.clone(),
                None => settled.await,
            }
        }
    }
}

/// A window whose fetch may end in any way, also by being dropped.
struct Fetch(Arc<Window>);

impl Drop for Fetch {
    fn drop(&mut self) {
        // Once.
        let _ = self.0.content.set(None);
        self.0.settled.notify(usize::MAX);
    }
}

impl Ahead {
    /// With so many bytes read ahead at most.
    pub fn new(bytes: usize) -> Self {
        Self { size: (bytes / WINDOWS).max(1), state: Mutex::default() }
    }

    /// Gives up what was read.
    pub fn forget(&self) {
        self.state.lock().windows.clear();
    }

    /// Fills `buf` from what was read ahead, and reads on ahead; tells whether it could. `length` is the file's.
    pub async fn read(&self, link: &Arc<Link>, offset: u64, buf: &mut BufMut, length: u64) -> bool {
        let end = offset + buf.len() as u64;
        let windows = {
            let mut state = self.state.lock();
            let in_order = offset == state.next;
            state.reads = if in_order { state.reads.saturating_add(1) } else { 0 };
            state.next = end;
            // Large reads have the server at work by themselves.
            if state.reads < PROVEN || buf.len() > self.size || end > length {
                return false;
            }
            while state.windows.front().is_some_and(|window| window.end() <= offset || window.start > offset)
            {
                state.windows.pop_front();
            }
            let found = state.windows.iter().filter(|window| window.start < end).cloned().collect::<Vec<_>>();
            let from = state.windows.back().map_or(end, |window| window.end());
            let room = state.windows.len() < WINDOWS && from < length;
            if room {
                let len = (length - from).min(self.size as u64) as usize;
                let window = Window { start: from, len, content: OnceLock::new(), settled: Event::new() };
                let window = Arc::new(window);
                state.windows.push_back(window.clone());
                rt::spawn(fetch(link.clone(), window)).detach();
            }
            found
        };
        let mut at = offset;
        for window in windows {
            let Some(content) = window.content().await else { break };
            let from = content.get(at.saturating_sub(window.start) as usize..).unwrap_or_default();
            let to = buf.get_mut((at - offset) as usize..).unwrap_or_default();
            let n = from.len().min(to.len());
            to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            at += n as u64;
        }
        at == end
    }
}

async fn fetch(link: Arc<Link>, window: Arc<Window>) {
    let fetch = Fetch(window);
    let (buf, result) = read_piece(&link, fetch.0.start, BufMut::with_len(fetch.0.len)).await;
    // Once.
    let _ = fetch.0.content.set(result.ok().map(|()| buf.freeze()));
}
