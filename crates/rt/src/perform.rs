//! Waiting for a file operation: the future that hands it to this worker's engine.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use crate::local;
use crate::op::{Action, FILES, Op};

/// Waits for an operation. The first poll submits it; from then on it runs whether or not this still exists.
pub(crate) struct Waiting {
    op: Arc<Op>,
    submitted: bool,
}

pub(crate) fn perform(op: Arc<Op>) -> Waiting {
    Waiting { op, submitted: false }
}

impl Future for Waiting {
    type Output = (Action, io::Result<usize>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.op.waker.register(cx.waker());
        if !self.submitted {
            self.submitted = true;
            if let Err(op) = local::submit(self.op.clone()) {
                FILES.push(op);
            }
        }
        if self.op.done.load(Ordering::Acquire) { Poll::Ready(self.op.take()) } else { Poll::Pending }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buf::BufMut;
    use futures_util::FutureExt;
    use std::os::fd::OwnedFd;

    #[test]
    fn an_operation_done_by_threads_ends_while_its_worker_is_busy() -> io::Result<()> {
        let file = Arc::new(OwnedFd::from(std::fs::File::open("/dev/zero")?));
        crate::block_on_control(async move {
            let op = |by_thread| {
                let action = Action::Read(BufMut::with_len(16));
                Arc::new(Op::new(file.clone(), 1, 0, 0, action).by_thread(by_thread))
            };
            let (mine, threads) = (op(false), op(true));
            let (mut waits, mut other) = (perform(mine.clone()), perform(threads.clone()));
            assert!((&mut waits).now_or_never().is_none());
            let quick = (&mut other).now_or_never();
            // This task never yields, so the worker submits nothing: neither to a ring, nor a batch to the pool.
            while !threads.done.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            assert!(!mine.done.load(Ordering::Acquire));
            let done = match quick {
                Some(done) => done,
                None => other.await,
            };
            assert_eq!((waits.await.1?, done.1?), (16, 16));
            Ok(())
        })
    }
}
