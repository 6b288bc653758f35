//! Group commit: flushes that come while one is under way share the next.
//!
//! Laws:
//! - a flush ends with the result of one that began after it came;
//! - one is under way at a time. A system tells of data that it could not store to one of several syncs only: another, that
//!   began before and ends first, would vouch for what is lost;
//! - one that was begun is carried through: where nobody waits for it any more, by the next that comes, which fails as it did.
use crate::error::Result;
use rt::BoxFuture;
use std::sync::atomic::{AtomicU64, Ordering::*};

/// One flush at a time; all that wait meanwhile are answered by the next one.
pub(crate) struct GroupCommit {
    came: AtomicU64,
    turn: futures_util::lock::Mutex<Turn>,
}

struct Turn {
    /// Flushes with a smaller number came before the last one began.
    covered: u64,
    /// Of the last one that ended.
    result: Result<()>,
    /// One that was begun. It stays here when the future that waits for it is dropped: storage goes on with it, and tells
    /// nobody else what came of it.
    under_way: Option<BoxFuture<'static, Result<()>>>,
}

impl Default for GroupCommit {
    fn default() -> Self {
        let turn = Turn { covered: 0, result: Ok(()), under_way: None };
        Self { came: AtomicU64::new(0), turn: futures_util::lock::Mutex::new(turn) }
    }
}

impl GroupCommit {
    /// Runs `flush`, or takes the result of one that began after this call did. `judge` sees each result before another one
    /// begins.
    pub async fn run<F>(&self, judge: impl Fn(&Result<()>), flush: impl FnOnce() -> F) -> Result<()>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let number = self.came.fetch_add(1, SeqCst);
        let mut turn = self.turn.lock().await;
        if number < turn.covered {
            return turn.result.clone();
        }
        turn.ended(&judge).await?;
        let covered = self.came.load(SeqCst);
        turn.under_way = Some(Box::pin(flush()));
        let result = turn.ended(&judge).await;
        (turn.covered, turn.result) = (covered, result.clone());
        result
    }
}

impl Turn {
    /// Waits for the flush under way, if there is one.
    async fn ended(&mut self, judge: &impl Fn(&Result<()>)) -> Result<()> {
        let Some(flush) = &mut self.under_way else { return Ok(()) };
        let result = flush.await;
        self.under_way = None;
        judge(&result);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{BlockError, ErrorKind};
    use futures_util::FutureExt;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn flushes_that_wait_share_the_next_one() {
        let (group, ran) = (GroupCommit::default(), Arc::new(AtomicU32::new(0)));
        let (open, gate) = futures_channel::oneshot::channel::<()>();
        let gate = gate.shared();
        let flush = || {
            let (gate, ran) = (gate.clone(), ran.clone());
            let flush = move || async move {
                ran.fetch_add(1, SeqCst);
                let _opened = gate.await;
                Ok(())
            };
            group.run(|_| (), flush)
        };
        let (mut a, mut b, mut c) = (Box::pin(flush()), Box::pin(flush()), Box::pin(flush()));
        assert!(a.as_mut().now_or_never().is_none());
        assert!(b.as_mut().now_or_never().is_none());
        assert!(c.as_mut().now_or_never().is_none());
        open.send(()).unwrap();
        assert!(a.now_or_never().is_some() && b.now_or_never().is_some() && c.now_or_never().is_some());
        assert_eq!(ran.load(SeqCst), 2);
    }

    #[test]
    fn a_flush_that_nobody_waits_for_any_more_is_carried_through_before_the_next() {
        let (group, failures) = (GroupCommit::default(), AtomicU32::new(0));
        let judge = |result: &Result<()>| {
            failures.fetch_add(u32::from(result.is_err()), SeqCst);
        };
        let (end, ended) = futures_channel::oneshot::channel::<()>();
        let lost = move || async move {
            let _ended = ended.await;
            Err(BlockError::new(ErrorKind::Io, "what was written is lost"))
        };
        assert!(group.run(judge, lost).now_or_never().is_none(), "it is under way, and its future is gone");
        let mut next = Box::pin(group.run(judge, || async { Ok(()) }));
        assert!(next.as_mut().now_or_never().is_none(), "it does not begin beside the other");
        end.send(()).unwrap();
        assert_eq!(next.now_or_never().unwrap().unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(failures.load(SeqCst), 1);
        assert!(group.run(judge, || async { Ok(()) }).now_or_never().unwrap().is_ok());
    }
}
