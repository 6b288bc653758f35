//! A member of a group: where requests wait.
use super::group::{Answer, ThrottleGroup, Waiter};
use futures_util::future::select;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::time::Duration;

/// Which limits a request counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoDirection {
    /// Those of reads.
    Read,
    /// Those of writes: also of zeroes and, in a node, of discards.
    Write,
}

impl IoDirection {
    pub(super) const BOTH: [Self; 2] = [Self::Read, Self::Write];
}

/// A node or an entry that is in a group. It leaves the group when it is dropped.
pub struct ThrottleMember {
    group: Arc<ThrottleGroup>,
    id: u64,
    draining: AtomicBool,
}

impl ThrottleMember {
    /// A new member of the group.
    pub fn new(group: Arc<ThrottleGroup>) -> Self {
        Self { id: group.join(), group, draining: AtomicBool::new(false) }
    }

    /// Its group.
    pub fn group(&self) -> &Arc<ThrottleGroup> {
        &self.group
    }

    /// Whether there are limits: if not, nothing needs to be asked.
    pub fn limited(&self) -> bool {
        self.group.limited()
    }

    /// Waits until a request of so many bytes may go through. Dropping it takes the request back.
    pub async fn admit(&self, direction: IoDirection, bytes: u64) {
        if !self.limited() {
            return;
        }
        let hold = !self.draining.load(SeqCst);
        let Some(waiter) = self.group.come(self.id, direction, bytes, hold) else { return };
        let waiting = Waiting { member: self, direction, waiter };
        // A drain that began in between has found the queue without it.
        if self.draining.load(SeqCst) {
            self.group.let_all_through(self.id);
        }
        waiting.end().await;
    }

    /// While somebody waits for its requests to end, nothing is held back.
    pub fn drain(&self, begins: bool) {
        self.draining.store(begins, SeqCst);
        if begins {
            self.group.let_all_through(self.id);
        }
    }
}

impl Drop for ThrottleMember {
    fn drop(&mut self) {
        self.group.leave(self.id);
    }
}

/// A request in a queue.
struct Waiting<'a> {
    member: &'a ThrottleMember,
    direction: IoDirection,
    waiter: Arc<Waiter>,
}

impl Waiting<'_> {
    async fn end(&self) {
        let ThrottleMember { group, id, .. } = self.member;
        loop {
            let woken = self.waiter.woken.listen();
            match group.ask(*id, self.direction, &self.waiter) {
                Answer::Through => return,
                Answer::Later => woken.await,
                Answer::At(due_ns) => {
                    let wait = Duration::from_nanos(due_ns.saturating_sub(rt::now_ns()));
                    select(pin!(rt::sleep(wait)), woken).await;
                }
            }
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.member.group.gone(self.member.id, self.direction, &self.waiter);
    }
}
