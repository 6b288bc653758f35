//! An asynchronous operation on an image, as a future.
//!
//! ```text
//! Operation (future) ──┐
//!                      ├─▶ State: image · buffer · result · waker
//! completion (librbd) ─┘   the completion's part is given up when librbd calls it
//! ```
use crate::functions::{Handle, Rbd};
use crate::image::Open;
use futures_util::task::AtomicWaker;
use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::task::{Context, Poll};

struct State<B> {
    /// The starter's until the operation is begun, then nobody's until `done` is set, then the future's: only librbd is at its bytes
    /// in between.
    buffer: UnsafeCell<Option<B>>,
    /// The completion's until it sets `done`, then the future's.
    end: UnsafeCell<End>,
    done: AtomicBool,
    waker: AtomicWaker,
}

struct End {
    image: Option<Arc<Open>>,
    result: i64,
}

// SAFETY: each cell is used by one thread at a time, as said at it, and `done` hands them on. They hold nothing that is bound to a
// thread.
unsafe impl<B: Send> Sync for State<B> {}
// SAFETY: as above.
unsafe impl<B: Send> Send for State<B> {}

/// An operation under way. Gives its buffer back, with the bytes that were read, 0 for what reads nothing, or the error.
///
/// It goes on when this is dropped, with the buffer in its keep.
#[must_use]
pub struct Operation<B>(Arc<State<B>>);

impl<B: Send + 'static> Operation<B> {
    /// Begins an operation: `begin` calls the function of librbd with the image, the buffer and a completion, and returns what that
    /// returned.
    ///
    /// # Safety
    /// `begin` passes the completion on to one function of librbd that calls it exactly once if it returns no error, and not at all
    /// otherwise; and of what it is given no other pointers than such that this function uses, until the completion is called.
    pub(crate) unsafe fn begin(
        image: &Arc<Open>,
        buffer: B,
        begin: impl FnOnce(&Rbd, Handle, &mut B, Handle) -> c_int,
    ) -> Self {
        let functions = &image.library().rbd;
        let state = Arc::new(State {
            buffer: UnsafeCell::new(Some(buffer)),
            end: UnsafeCell::new(End { image: Some(image.clone()), result: 0 }),
            done: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        let theirs = Arc::into_raw(state.clone());
        let mut completion = null_mut();
        // SAFETY: the function stores a completion that carries the pointer; `completed` takes it for what it is.
        let made = unsafe {
            let argument = theirs.cast_mut().cast::<c_void>();
            (functions.rbd_aio_create_completion)(argument, completed::<B>, &mut completion)
        };
        let mut begun = made;
        if made >= 0 {
            // SAFETY: this thread is the starter, and the future is not there yet. The buffer lies in the state, on the heap.
            if let Some(buffer) = unsafe { &mut *state.buffer.get() } {
                begun = begin(functions, image.handle(), buffer, completion);
            }
            if begun < 0 {
                // SAFETY: the completion was made above, and the function that refused it does not call it.
                unsafe { (functions.rbd_aio_release)(completion) };
            }
        }
        if begun < 0 {
            // SAFETY: `theirs` is what `into_raw` gave, and the completion will not be called: this is its part.
            let theirs = unsafe { Arc::from_raw(theirs) };
            // SAFETY: there is no completion: this thread alone has the state.
            unsafe { *theirs.end.get() = End { image: None, result: i64::from(begun) } };
            theirs.done.store(true, Release);
        }
        Self(state)
    }
}

/// What librbd calls, once, from a thread of its own.
///
/// # Safety
/// `argument` is a part of a `State<B>`, given up here.
unsafe extern "C" fn completed<B>(completion: Handle, argument: *mut c_void) {
    // SAFETY: by the caller's word.
    let state = unsafe { Arc::from_raw(argument.cast_const().cast::<State<B>>()) };
    // SAFETY: `done` is not set, so the end is this function's.
    let end = unsafe { &mut *state.end.get() };
    if let Some(image) = end.image.take() {
        let functions = &image.library().rbd;
        // SAFETY: the completion is this operation's and has ended; it is given back once.
        unsafe {
            end.result = (functions.rbd_aio_get_return_value)(completion) as i64;
            (functions.rbd_aio_release)(completion);
        }
        // Before the future learns of it: whoever closes the image then finds nobody else at it.
        drop(image);
    }
    state.done.store(true, Release);
    state.waker.wake();
}

impl<B> Future for Operation<B> {
    type Output = (B, io::Result<u64>);

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let state = &self.0;
        if !state.done.load(Acquire) {
            state.waker.register(context.waker());
            if !state.done.load(Acquire) {
                return Poll::Pending;
            }
        }
        // SAFETY: `done` is set, so librbd is through with the buffer and the end, and `self` is the one future.
        let (buffer, result) = unsafe { ((*state.buffer.get()).take(), (*state.end.get()).result) };
        match buffer {
            Some(buffer) => Poll::Ready((buffer, answer(result))),
            // It was asked again after it had answered.
            None => Poll::Pending,
        }
    }
}

fn answer(result: i64) -> io::Result<u64> {
    u64::try_from(result).map_err(|_| {
        let errno = i32::try_from(result.saturating_neg()).unwrap_or(i32::MAX);
        io::Error::from_raw_os_error(errno)
    })
}
