//! `preallocate`: a filter that reserves space behind the end of a file in large steps, for file systems on which growing by
//! every write is slow.
//!
//! ```text
//!  0            end: what the filter shows     the file's own end
//!  ├─────────── data ────────────┼──── reserved, zeroes ────┤
//! ```
//!
//! A write that goes beyond the file's end first makes the file longer, to a multiple of `prealloc-align` that is at least
//! `prealloc-size` behind the write's end. What is reserved is no part of what is shown, and is given back when the filter is
//! closed or becomes read-only. A crash leaves it. Where nothing can be reserved, the file grows as it would without.
use api::{PreallocMode, PreallocateOptions};
use block::{
    BlockError, Common, Driver, DriverType, Edge, Extent, Filtered, MapChange, Node, Open, OpenContext,
    Opened, Options, Perms, Reopened, Request, Result, Share, Undo, Want, WritePlan, not_negative,
};
use futures_util::lock::Mutex;
use rt::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*, fence};

/// The `preallocate` driver.
pub const PREALLOCATE: DriverType =
    DriverType { name: "preallocate", open: &Open(open), ..DriverType::FILTER };

/// Nothing was reserved: the file's end is what is shown.
const NOTHING: u64 = u64::MAX;

/// Something is being reserved: how long the file is says nothing of what is shown.
const RESERVING: u64 = u64::MAX - 1;

struct Preallocate {
    below: Filtered,
    align: AtomicU64,
    size: AtomicU64,
    /// Where what is shown ends, as long as something is reserved behind it; else [`NOTHING`] or [`RESERVING`].
    end: AtomicU64,
    /// Where the last of the writes ends that were let through beyond what was shown: some may not be done yet.
    promised: AtomicU64,
    /// Held while the file's end is moved.
    growing: Mutex<()>,
}

fn open(context: &mut OpenContext, options: PreallocateOptions) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let (align, size) = settings(&options)?;
        let driver = Preallocate {
            below: context.filtered().await?,
            align: AtomicU64::new(align),
            size: AtomicU64::new(size),
            end: AtomicU64::new(NOTHING),
            promised: AtomicU64::new(0),
            growing: Mutex::new(()),
        };
        Ok(Opened { driver: Arc::new(driver), filename: None })
    })
}

/// What lengths are multiples of, and how much is reserved.
fn settings(options: &PreallocateOptions) -> Result<(u64, u64)> {
    let align = not_negative("prealloc-align", options.prealloc_align)?.unwrap_or(1 << 20);
    let size = not_negative("prealloc-size", options.prealloc_size)?.unwrap_or(128 << 20);
    if !align.is_multiple_of(512) {
        let text = "prealloc-align parameter of preallocate filter is not aligned to 512";
        return Err(BlockError::invalid(text));
    }
    Ok((align.max(1), size))
}

impl Preallocate {
    /// Where what is shown ends.
    fn end(&self) -> u64 {
        match self.end.load(Acquire) {
            NOTHING | RESERVING => self.below.length(),
            end => end,
        }
    }

    /// Whether what is shown reaches up to `end`, so that a write up to there changes nothing of it.
    fn shows(&self, end: u64) -> bool {
        match self.end.load(Acquire) {
            RESERVING => false,
            NOTHING => {
                let within = end <= self.below.length();
                fence(SeqCst);
                // Not the length of a file of which some is reserved meanwhile.
                within && self.end.load(Acquire) == NOTHING
            }
            shown => end <= shown,
        }
    }

    /// A write up to `end` comes: it is shown from now on, and there is space for it.
    async fn reach(&self, end: u64) -> Result<()> {
        if self.shows(end) {
            return Ok(());
        }
        let _growing = self.growing.lock().await;
        let child = self.below.node()?;
        let end = end.max(self.end()).max(self.promised.fetch_max(end, AcqRel));
        if end > child.length() {
            self.end.store(RESERVING, SeqCst);
            self.reserve(&child, end).await;
        }
        // Where nothing could be reserved, the write itself makes the file longer.
        self.end.store(if end < child.length() { end } else { NOTHING }, Release);
        Ok(())
    }

    /// Makes the file longer than to `end`.
    async fn reserve(&self, child: &Node, end: u64) {
        let align = self.align.load(Relaxed);
        let wanted = end.saturating_add(self.size.load(Relaxed)).checked_next_multiple_of(align);
        let Some(wanted) = wanted.filter(|wanted| (end + 1..=block::MAX_LENGTH).contains(wanted)) else {
            return;
        };
        if let Err(error) = child.set_length(wanted, PreallocMode::Falloc).await {
            tracing::debug!(file = child.name(), %error, "nothing could be reserved");
        }
    }

    /// Gives back what is reserved.
    async fn give_back(&self) -> Result<()> {
        let _growing = self.growing.lock().await;
        let end = self.end.load(Acquire);
        if end == NOTHING {
            return Ok(());
        }
        let child = self.below.node()?;
        if child.length() > end {
            child.set_length(end, PreallocMode::Off).await?;
        }
        self.end.store(NOTHING, Release);
        Ok(())
    }
}

impl Driver for Preallocate {
    fn filtered(&self) -> Option<&Filtered> {
        Some(&self.below)
    }

    fn length(&self) -> u64 {
        self.end()
    }

    fn try_map(&self, offset: u64, len: u64, want: Want) -> Option<Extent> {
        let inside = want != Want::Write || self.shows(offset.saturating_add(len));
        inside.then(|| self.below.place(offset, len))
    }

    fn map(&self, offset: u64, len: u64, want: Want) -> BoxFuture<'_, Result<Extent>> {
        Box::pin(async move {
            if want == Want::Write {
                self.reach(offset.saturating_add(len)).await?;
            }
            Ok(self.below.place(offset, len))
        })
    }

    fn prepare_write(
        &self,
        offset: u64,
        len: u64,
        change: MapChange,
        _: Request,
    ) -> BoxFuture<'_, Result<WritePlan>> {
        Box::pin(async move {
            if change != MapChange::Discard {
                self.reach(offset.saturating_add(len)).await?;
            }
            Ok(self.below.plan(offset, len))
        })
    }

    fn resize(&self, size: u64, preallocation: PreallocMode) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let _growing = self.growing.lock().await;
            let child = self.below.node()?;
            let reserved = self.end.load(Acquire) != NOTHING;
            // No write is under way.
            self.promised.store(0, Release);
            // What is reserved reads as zeroes: it becomes part of what is shown.
            if reserved && size >= self.end() && size < child.length() && preallocation == PreallocMode::Off {
                self.end.store(size, Release);
                return Ok(());
            }
            child.set_length(size, preallocation).await?;
            self.end.store(NOTHING, Release);
            Ok(())
        })
    }

    fn child_perms(&self, _: &Edge, parents: Perms, read_only: bool) -> Perms {
        match parents.need.has(Share::WRITE) && !read_only {
            true => Perms { need: parents.need.union(Share::RESIZE), ..parents },
            false => parents,
        }
    }

    fn set_writable(&self, writable: bool) -> BoxFuture<'_, Result<Undo>> {
        Box::pin(async move {
            if !writable {
                self.give_back().await?;
            }
            Ok(Box::new(|| {}) as Undo)
        })
    }

    fn reopen<'a>(&'a self, options: Options, _: &Common) -> BoxFuture<'a, Result<Reopened<'a>>> {
        Box::pin(async move {
            let (align, size) = settings(&options.read()?)?;
            Ok(Box::new(move || {
                self.align.store(align, Relaxed);
                self.size.store(size, Relaxed);
            }) as Reopened<'a>)
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.give_back())
    }
}
