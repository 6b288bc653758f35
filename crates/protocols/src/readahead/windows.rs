//! The windows of a file: pieces that are being fetched, or are here.
//!
//! They never overlap. Those that were not used for longest go first; what is being fetched stays.

use block::Result;
use event_listener::Event;
use rt::Buf;
use std::sync::{Arc, OnceLock};

/// Windows that there are at most.
const MOST: usize = 256;

/// A piece of a file.
pub(super) struct Window {
    /// Byte offset in the file.
    pub start: u64,
    /// Bytes, never 0.
    pub len: usize,
    content: OnceLock<Result<Buf>>,
    settled: Event,
}

impl Window {
    fn end(&self) -> u64 {
        self.start + self.len as u64
    }

    fn holds(&self, at: u64) -> bool {
        (self.start..self.end()).contains(&at)
    }

    /// Bytes from `at` to its end.
    pub fn left_from(&self, at: u64) -> usize {
        self.end().saturating_sub(at) as usize
    }

    /// It is here, or will never be.
    pub fn settle(&self, content: Result<Buf>) {
        // Once.
        let _ = self.content.set(content);
        self.settled.notify(usize::MAX);
    }

    /// Copies what it has from `at` on, as much as `to` has room for; nothing where it is not here.
    pub fn copy_ready(&self, at: u64, to: &mut [u8]) -> Option<usize> {
        let content = self.content.get()?.as_ref().ok()?;
        let from = content.get(at.saturating_sub(self.start) as usize..)?;
        let n = from.len().min(to.len());
        to.get_mut(..n)?.copy_from_slice(from.get(..n)?);
        Some(n)
    }

    /// Waits until it is here, and fills `to`, which it has all of.
    pub async fn copy(&self, at: u64, to: &mut [u8]) -> Result<()> {
        loop {
            let settled = self.settled.listen();
            match self.content.get() {
                Some(Err(error)) => return Err(error.clone()),
                Some(Ok(_)) => {
                    self.copy_ready(at, to);
                    return Ok(());
                }
                None => settled.await,
            }
        }
    }
}

/// The windows of a file.
pub(super) struct Windows {
    /// With the time of their last use; unordered, for they are few.
    all: Vec<(u64, Arc<Window>)>,
    clock: u64,
    bytes: u64,
    capacity: u64,
}

impl Windows {
    /// None yet, and never more than `capacity` bytes.
    pub fn new(capacity: u64) -> Self {
        Self { all: Vec::new(), clock: 0, bytes: 0, capacity }
    }

    /// That which has the byte at this offset.
    pub fn find(&mut self, at: u64) -> Option<&Arc<Window>> {
        self.clock += 1;
        let clock = self.clock;
        let (used, window) = self.all.iter_mut().find(|(_, window)| window.holds(at))?;
        *used = clock;
        Some(window)
    }

    /// Bytes from `at` on that are in no window, `most` at most.
    pub fn room_before_next(&self, at: u64, most: u64) -> u64 {
        let next = self.all.iter().map(|(_, window)| window.start).filter(|start| *start > at).min();
        next.map_or(most, |start| most.min(start - at))
    }

    /// The first piece from `at` on, and before `end`, that is in no window: where it begins, and how many bytes there are.
    pub fn gap(&self, mut at: u64, end: u64) -> Option<(u64, u64)> {
        while let Some((_, window)) = self.all.iter().find(|(_, window)| window.holds(at)) {
            at = window.end();
        }
        (at < end).then(|| (at, self.room_before_next(at, u64::MAX)))
    }

    /// A new one, to be fetched; nothing where there is no room.
    pub fn add(&mut self, start: u64, len: u64) -> Option<Arc<Window>> {
        if len > self.capacity {
            return None;
        }
        while self.bytes + len > self.capacity || self.all.len() >= MOST {
            let here = self.all.iter().enumerate().filter(|(_, (_, window))| window.content.get().is_some());
            let (oldest, _) = here.min_by_key(|(_, (used, _))| *used)?;
            let (_, gone) = self.all.swap_remove(oldest);
            self.bytes -= gone.len as u64;
        }
        self.clock += 1;
        let window = Window { start, len: len as usize, content: OnceLock::new(), settled: Event::new() };
        let window = Arc::new(window);
        self.all.push((self.clock, window.clone()));
        self.bytes += len;
        Some(window)
    }

    /// Gives one up.
    pub fn remove(&mut self, window: &Arc<Window>) {
        if let Some(at) = self.all.iter().position(|(_, other)| Arc::ptr_eq(other, window)) {
            self.all.swap_remove(at);
            self.bytes -= window.len as u64;
        }
    }

    /// Bytes that they hold, or will.
    #[cfg(test)]
    pub fn held(&self) -> u64 {
        self.bytes
    }

    /// Gives all up.
    pub fn clear(&mut self) {
        self.all.clear();
        self.bytes = 0;
    }
}
