//! The task that moves a connection's bytes: what it is told to do, and on which worker. Of nbd, nfs and iscsi.
//!
//! ```text
//! one worker:    requests made in one turn ─▶ queue ─▶ task ─▶ one send
//! another one:   request ─▶ sent at once, unless others wait; after many of them in a row the task moves there
//! ```
//!
//! A wake-up of another thread costs more than a request does. So the task goes where requests are made, where it runs behind those
//! who make them, and sends what they have left together.

use crate::way;
use futures_util::task::AtomicWaker;
use rt::Target;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::task::Poll;

/// Requests that were made in a row on another worker before the task moves there.
const OTHERS: u32 = 32;
/// The numbers of the worker that is no data worker, and of none.
const CONTROL: usize = usize::MAX;
const NOWHERE: usize = usize::MAX - 1;

/// What others tell the task.
pub(crate) struct Signals {
    queued: AtomicBool,
    leaving: AtomicBool,
    closing: AtomicBool,
    waker: AtomicWaker,
    /// Where the task runs, or is to run.
    worker: AtomicUsize,
    /// Requests that were made elsewhere since one was made there.
    others: AtomicU32,
    moving: AtomicBool,
}

impl Default for Signals {
    fn default() -> Self {
        Self {
            queued: AtomicBool::default(),
            leaving: AtomicBool::default(),
            closing: AtomicBool::default(),
            waker: AtomicWaker::default(),
            worker: AtomicUsize::new(NOWHERE),
            others: AtomicU32::default(),
            moving: AtomicBool::default(),
        }
    }
}

/// What the task is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// There is something to receive.
    Receive,
    /// There is something to send, and room for it.
    Send,
    /// It is to end here and to begin there.
    Move(Target),
}

/// The number of this worker.
fn here() -> usize {
    rt::current_worker().unwrap_or(CONTROL)
}

impl Signals {
    /// The task runs on this worker.
    pub fn settle(&self) {
        self.worker.store(here(), Ordering::Release);
    }

    /// The number of that worker.
    #[cfg(test)]
    pub fn worker(&self) -> usize {
        self.worker.load(Ordering::Acquire)
    }

    /// A request is made here. Whether the task runs on this worker, so that it is enough to queue the request; from elsewhere it is
    /// better sent at once.
    pub fn is_near(&self) -> bool {
        let here = here();
        if self.worker.load(Ordering::Acquire) == here {
            self.others.store(0, Ordering::Relaxed);
            return !self.moving.load(Ordering::Acquire);
        }
        if self.others.fetch_add(1, Ordering::Relaxed) + 1 >= OTHERS {
            self.others.store(0, Ordering::Relaxed);
            self.worker.store(here, Ordering::Release);
            self.moving.store(true, Ordering::Release);
            self.waker.wake();
        }
        false
    }

    /// Whether something waits to be sent.
    pub fn queue(&self, waits: bool) {
        if self.queued.swap(waits, Ordering::AcqRel) != waits && waits {
            self.waker.wake();
        }
    }

    /// The connection is about to be ended from here, as the protocol has it: whatever ends it from now on is no loss. Whether nobody
    /// has said so before.
    pub fn leave(&self) -> bool {
        !self.leaving.swap(true, Ordering::AcqRel)
    }

    /// Whether it is.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// The connection has ended.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether it has.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Waits for something to do: to receive or to send, by the futures of the stream, or to move. `None` when the connection has ended.
    pub async fn wait(
        &self,
        readable: impl Future<Output = io::Result<()>>,
        writable: impl Future<Output = io::Result<()>>,
    ) -> Option<io::Result<Turn>> {
        // A peer that always has more must not starve other tasks of the worker.
        rt::cooperate().await;
        let mut readable = pin!(readable);
        let mut writable = pin!(writable);
        poll_fn(|cx| {
            self.waker.register(cx.waker());
            if self.is_closing() {
                return Poll::Ready(None);
            }
            if self.moving.swap(false, Ordering::AcqRel) {
                let target = match self.worker.load(Ordering::Acquire) {
                    CONTROL => Target::Control,
                    number => Target::Worker(number),
                };
                return Poll::Ready(Some(Ok(Turn::Move(target))));
            }
            if let Poll::Ready(result) = readable.as_mut().poll(cx) {
                return Poll::Ready(Some(result.map(|()| Turn::Receive)));
            }
            if self.queued.load(Ordering::Acquire)
                && let Poll::Ready(result) = writable.as_mut().poll(cx)
            {
                return Poll::Ready(Some(result.map(|()| Turn::Send)));
            }
            Poll::Pending
        })
        .await
    }
}

/// A connection whose bytes a task moves.
pub(crate) trait Pumped: way::Connection {
    /// What takes in what comes.
    type Receiver: Send + 'static;
    /// Why it is lost.
    type Broken: From<io::Error> + Send;

    /// What the task is told.
    fn signals(&self) -> &Signals;

    /// The worker where its stream was waited for lets it go.
    fn let_go(&self);

    /// Waits for something to do, by [`Signals::wait`] with the futures of its stream.
    fn turn(&self) -> impl Future<Output = Option<io::Result<Turn>>> + Send;

    /// Before that: nothing has come.
    fn rest(&self, receiver: &mut Self::Receiver);

    /// Takes in what has come.
    fn receive(self: &Arc<Self>, receiver: &mut Self::Receiver) -> Result<(), Self::Broken>;

    /// Sends what there is room for.
    fn send(&self) -> io::Result<()>;

    /// It broke.
    fn broke(&self, cause: &Self::Broken);

    /// It has ended, and `receiver` with it. What was sent arrives, where the end is [in order](Signals::leave).
    fn ended(&self, receiver: Self::Receiver);
}

/// Has the bytes of a connection moved on a worker, until it ends.
pub(crate) fn start<C: Pumped>(target: Target, connection: Arc<C>, receiver: C::Receiver) {
    rt::spawn_on(target, pump(connection, receiver)).detach();
}

async fn pump<C: Pumped>(connection: Arc<C>, mut receiver: C::Receiver) {
    connection.let_go();
    connection.signals().settle();
    loop {
        connection.rest(&mut receiver);
        let done = match connection.turn().await {
            None => break,
            Some(Ok(Turn::Move(target))) => return start(target, connection, receiver),
            Some(Ok(Turn::Receive)) => connection.receive(&mut receiver),
            Some(Ok(Turn::Send)) => connection.send().map_err(C::Broken::from),
            Some(Err(error)) => Err(error.into()),
        };
        if let Err(cause) = done {
            connection.broke(&cause);
            break;
        }
    }
    connection.ended(receiver);
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::future::pending;

    fn turn(signals: &Signals) -> Option<Turn> {
        signals.wait(pending(), pending()).now_or_never().map(|turn| turn.unwrap().unwrap())
    }

    #[test]
    fn the_task_goes_where_many_requests_in_a_row_are_made_and_sends_for_those_beside_it() {
        let runtime = rt::Runtime::new(rt::Config { workers: Some(2), ..rt::Config::default() }).unwrap();
        runtime.block_on(async {
            let signals = Arc::new(Signals::default());
            signals.settle();
            assert!(signals.is_near());
            let ask = |times: u32| {
                let signals = signals.clone();
                rt::spawn_on(Target::Worker(1), async move { (0..times).any(|_| signals.is_near()) })
            };
            assert!(!ask(OTHERS - 1).await.unwrap());
            // One that is made beside it begins the row anew.
            assert!(signals.is_near());
            assert!(!ask(OTHERS - 1).await.unwrap());
            assert_eq!(turn(&signals), None);
            assert!(!ask(1).await.unwrap());
            assert!(!signals.is_near(), "what is on its way elsewhere is not beside anybody");
            assert_eq!(turn(&signals), Some(Turn::Move(Target::Worker(1))));
            let there = signals.clone();
            let settled = rt::spawn_on(Target::Worker(1), async move {
                there.settle();
                there.is_near()
            });
            assert!(settled.await.unwrap() && turn(&signals).is_none());
            // And back.
            assert!((0..OTHERS).all(|_| !signals.is_near()));
            assert_eq!(turn(&signals), Some(Turn::Move(Target::Control)));
        });
    }
}
