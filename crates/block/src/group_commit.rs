//! Group commit: flushes that come while one is under way share the next.
//!
//! Laws:
//! - a flush ends with the result of one that began after it came;
//! - one is under way at a time. A system tells of data that it could not store to one of several syncs only: another, that
//!   began before and ends first, would vouch for what is lost.
use crate::error::Result;
use std::sync::atomic::{AtomicU64, Ordering::*};

/// One flush at a time; all that wait meanwhile are answered by the next one.
pub(crate) struct GroupCommit {
    came: AtomicU64,
    turn: futures_util::lock::Mutex<Ended>,
}

struct Ended {
    /// Flushes with a smaller number came before the last one began.
    covered: u64,
    result: Result<()>,
}

impl Default for GroupCommit {
    fn default() -> Self {
        Self {
            came: AtomicU64::new(0),
            turn: futures_util::lock::Mutex::new(Ended { covered: 0, result: Ok(()) }),
        }
    }
}

impl GroupCommit {
    /// Runs `flush`, or takes the result of one that began after this call did.
    pub async fn run<F: Future<Output = Result<()>>>(&self, flush: impl FnOnce() -> F) -> Result<()> {
        let number = self.came.fetch_add(1, SeqCst);
        let mut ended = self.turn.lock().await;
        if number < ended.covered {
            return ended.result.clone();
        }
        let covered = self.came.load(SeqCst);
        let result = flush().await;
        *ended = Ended { covered, result: result.clone() };
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn flushes_that_wait_share_the_next_one() {
        let (group, ran) = (GroupCommit::default(), AtomicU32::new(0));
        let (open, gate) = futures_channel::oneshot::channel::<()>();
        let gate = gate.shared();
        let flush = || {
            let gate = gate.clone();
            let ran = &ran;
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
}
