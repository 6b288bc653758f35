//! Requests of one connection that could not be answered inline: tasks that put their replies here.
//!
//! ```text
//! connection ──begin(cost)──▶ task ──finish──▶ done ──wake──▶ connection ──▶ output
//! ```
//!
//! Law: every task ends with a reply, one that panics with `EIO`.
//!
//! Bounds: [`REQUESTS`] tasks; their buffers together at most the server's bytes in flight for one client, except
//! that one request is always admitted.

use super::reply::Reply;
use ::nbd::{ErrorCode, Headers, Request};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Context;
use tls::Channel;

/// Most tasks of one connection.
const REQUESTS: usize = 128;

/// What a connection and its tasks share.
pub(super) struct Background {
    stream: Arc<Channel>,
    done: Mutex<VecDeque<Reply>>,
    /// Replies in `done`, to look without the lock.
    ready: AtomicUsize,
    tasks: AtomicUsize,
    bytes: AtomicUsize,
    most_bytes: usize,
    waker: AtomicWaker,
}

impl Background {
    /// For the connection of this stream.
    pub fn new(stream: Arc<Channel>, most_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            stream,
            done: Mutex::default(),
            ready: AtomicUsize::new(0),
            tasks: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            most_bytes,
            waker: AtomicWaker::new(),
        })
    }

    /// Admits a request that will hold `cost` bytes, or not now. Called by the connection only.
    pub fn begin(self: &Arc<Self>, request: &Request, headers: Headers, cost: usize) -> Option<Task> {
        if !self.has_room(cost) {
            return None;
        }
        self.tasks.fetch_add(1, Ordering::AcqRel);
        self.bytes.fetch_add(cost, Ordering::AcqRel);
        Some(Task { background: self.clone(), request: *request, headers, cost, finished: false })
    }

    /// A request that will hold `cost` bytes would be admitted now.
    pub fn has_room(&self, cost: usize) -> bool {
        let (tasks, bytes) = (self.tasks.load(Ordering::Acquire), self.bytes.load(Ordering::Acquire));
        tasks < REQUESTS && (tasks == 0 || bytes.saturating_add(cost) <= self.most_bytes)
    }

    /// Takes a reply, if one is ready.
    pub fn next(&self) -> Option<Reply> {
        if self.ready.load(Ordering::Acquire) == 0 {
            return None;
        }
        let reply = self.done.lock().pop_front();
        if reply.is_some() {
            self.ready.fetch_sub(1, Ordering::AcqRel);
        }
        reply
    }

    /// A reply is ready; else `cx` is woken by the next one.
    pub fn poll_ready(&self, cx: &Context<'_>) -> bool {
        if self.ready.load(Ordering::Acquire) > 0 {
            return true;
        }
        self.waker.register(cx.waker());
        self.ready.load(Ordering::Acquire) > 0
    }

    /// No task is left, and no reply waits.
    pub fn is_idle(&self) -> bool {
        let _settled = self.done.lock();
        self.tasks.load(Ordering::Acquire) == 0 && self.ready.load(Ordering::Acquire) == 0
    }
}

/// The admission of a request that is served in the background.
pub(super) struct Task {
    background: Arc<Background>,
    pub request: Request,
    pub headers: Headers,
    cost: usize,
    finished: bool,
}

impl Task {
    /// The client waits for the reply.
    pub fn is_wanted(&self) -> bool {
        self.background.stream.is_open()
    }

    /// Puts the reply down. Its bytes count for the output from then on, which has a bound of its own.
    pub fn finish(mut self, reply: Reply) {
        self.leave(reply);
    }

    fn leave(&mut self, reply: Reply) {
        let background = &self.background;
        self.finished = true;
        // All of it under the lock: who takes the reply, or asks whether there are tasks, must see that this one has ended.
        let mut done = background.done.lock();
        done.push_back(reply);
        background.bytes.fetch_sub(self.cost, Ordering::AcqRel);
        background.tasks.fetch_sub(1, Ordering::AcqRel);
        background.ready.fetch_add(1, Ordering::AcqRel);
        drop(done);
        background.waker.wake();
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if !self.finished {
            let words = "the request failed without an answer";
            let reply = Reply::error(&self.request, self.headers, ErrorCode::EIO, words);
            self.leave(reply);
        }
    }
}
