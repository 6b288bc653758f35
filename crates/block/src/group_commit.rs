//! Group commit: syncs of one storage. Flushes that come while one is under way share the next.
//!
//! Laws:
//! - a flush ends with the result of one that began after it came;
//! - one sync is under way at a time, be it a flush or a durable write. A system tells of data that it could not store to one
//!   of several syncs only (Linux keeps one mark for each open file): another, that began before and ends first, would vouch
//!   for what is lost. A durable write is a sync like others: it may be told of data that others wrote, so it is done alone
//!   ([`GroupCommit::alone`]), or else as a write that a flush follows, which it then shares with others;
//! - what was begun is brought to its end, and its result taken note of, also when nobody waits for it any more
//!   ([`ToEnd`]): the report of an error is given once.
use crate::error::Result;
use rt::BoxFuture;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::task::{Context, Poll};

/// One sync at a time; all flushes that wait meanwhile are answered by the next one.
pub(crate) struct GroupCommit {
    came: AtomicU64,
    turn: Arc<futures_util::lock::Mutex<Ended>>,
}

struct Ended {
    /// Flushes with a smaller number came before the last one began.
    covered: u64,
    result: Result<()>,
}

impl Default for GroupCommit {
    fn default() -> Self {
        let none = Ended { covered: 0, result: Ok(()) };
        Self { came: AtomicU64::new(0), turn: Arc::new(futures_util::lock::Mutex::new(none)) }
    }
}

impl GroupCommit {
    /// Runs `flush`, or takes the result of one that began after this call did. Once begun it is brought to its end, whoever
    /// still waits for it.
    pub async fn run<F>(&self, flush: impl FnOnce() -> F) -> Result<()>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let number = self.came.fetch_add(1, SeqCst);
        let mut ended = self.turn.clone().lock_owned().await;
        if number < ended.covered {
            return ended.result.clone();
        }
        let covered = self.came.load(SeqCst);
        let flush = flush();
        ToEnd::new(async move {
            let result = flush.await;
            *ended = Ended { covered, result: result.clone() };
            result
        })
        .await
    }

    /// Runs `sync`, to its end, with no other beside it; not at all where one is under way or waits.
    pub async fn alone<F>(&self, sync: impl FnOnce() -> F) -> Option<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let turn = self.turn.try_lock_owned()?;
        if self.came.load(SeqCst) > turn.covered {
            return None;
        }
        let sync = sync();
        let work = async move {
            let output = sync.await;
            drop(turn);
            output
        };
        Some(ToEnd::new(work).await)
    }
}

/// Work that, once begun, goes on in a task of its own when whoever waits for it stops to.
struct ToEnd<T: Send + 'static> {
    work: Option<BoxFuture<'static, T>>,
    begun: bool,
}

impl<T: Send + 'static> ToEnd<T> {
    fn new(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self { work: Some(Box::pin(work)), begun: false }
    }
}

impl<T: Send + 'static> Future for ToEnd<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        self.begun = true;
        let Some(work) = self.work.as_mut() else { return Poll::Pending };
        let answer = work.as_mut().poll(cx);
        if answer.is_ready() {
            self.work = None;
        }
        answer
    }
}

impl<T: Send + 'static> Drop for ToEnd<T> {
    fn drop(&mut self) {
        // Outside of a runtime nothing goes on: the process ends.
        if self.begun
            && let Some(work) = self.work.take()
            && rt::current().is_some()
        {
            rt::spawn(async move { drop(work.await) }).detach();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn flushes_that_wait_share_the_next_one() {
        let (group, ran) = (GroupCommit::default(), Arc::new(AtomicU32::new(0)));
        let (open, gate) = futures_channel::oneshot::channel::<()>();
        let gate = gate.shared();
        let flush = || {
            let (gate, ran) = (gate.clone(), ran.clone());
            group.run(move || async move {
                ran.fetch_add(1, SeqCst);
                let _opened = gate.await;
                Ok(())
            })
        };
        let (mut a, mut b, mut c) = (Box::pin(flush()), Box::pin(flush()), Box::pin(flush()));
        assert!(a.as_mut().now_or_never().is_none());
        assert!(b.as_mut().now_or_never().is_none());
        assert!(c.as_mut().now_or_never().is_none());
        open.send(()).unwrap();
        assert!(a.now_or_never().is_some() && b.now_or_never().is_some() && c.now_or_never().is_some());
        assert_eq!(ran.load(SeqCst), 2);
    }

    /// A gate, and a future that waits for it.
    fn gated() -> (futures_channel::oneshot::Sender<()>, impl Future<Output = Result<()>> + Send + 'static) {
        let (open, gate) = futures_channel::oneshot::channel::<()>();
        (open, async move {
            let _opened = gate.await;
            Ok(())
        })
    }

    #[test]
    fn a_durable_write_is_done_alone_or_not_at_all() {
        let group = GroupCommit::default();
        let (open, gate) = gated();
        let mut flush = Box::pin(group.run(|| gate));
        assert!(flush.as_mut().now_or_never().is_none());
        assert!(group.alone(|| async {}).now_or_never().unwrap().is_none(), "a flush is under way");
        open.send(()).unwrap();
        assert!(flush.now_or_never().is_some());

        let (open, gate) = gated();
        let mut write = Box::pin(group.alone(|| gate));
        assert!(write.as_mut().now_or_never().is_none());
        assert!(group.alone(|| async {}).now_or_never().unwrap().is_none(), "a durable write is under way");
        let mut flush = Box::pin(group.run(|| async { Ok(()) }));
        assert!(flush.as_mut().now_or_never().is_none(), "and a flush waits for it");
        open.send(()).unwrap();
        assert!(write.now_or_never().is_some());
        assert!(group.alone(|| async {}).now_or_never().unwrap().is_none(), "whoever waits goes first");
        assert!(flush.now_or_never().is_some());
        assert!(group.alone(|| async {}).now_or_never().unwrap().is_some());
    }

    #[test]
    fn a_sync_that_nobody_waits_for_any_more_keeps_its_turn_to_its_end() {
        rt::block_on_control(async {
            let group = GroupCommit::default();
            let (open, gate) = gated();
            assert!(group.run(|| gate).now_or_never().is_none());
            let mut next = Box::pin(group.run(|| async { Ok(()) }));
            assert!(next.as_mut().now_or_never().is_none(), "the first one is under way still");
            open.send(()).unwrap();
            next.await.unwrap();
        });
    }
}
