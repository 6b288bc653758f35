//! The guard of a raw image whose format was guessed: the bytes that probes look at, the first of its file, must not become
//! those of another format, or a guest could have files of the host read for it at the next open.
//!
//! Changes of these bytes happen one after another, and each is checked for what the file becomes with it. All offsets
//! are the file's.
use block::{BlockError, ErrorKind, Glimpse, Node, PROBE_BYTES, Registry, Result, Token};
use futures_util::lock::{Mutex, OwnedMutexGuard};
use rt::{BoxFuture, BufMut};
use std::ops::Range;
use std::sync::Arc;

const SPAN: u64 = PROBE_BYTES as u64;

/// Guards the start of a file.
pub struct Guard {
    registry: Arc<Registry>,
    turn: Arc<Mutex<()>>,
}

/// A change of a file that is to be checked.
pub enum GuardedChange<'a> {
    /// Data from an offset on.
    Data(u64, &'a [u8]),
    /// Zeroes in place of this range.
    Zeroes(Range<u64>),
    /// A new length.
    Length(u64),
}

/// The right to change guarded bytes. Others wait until it is dropped.
pub struct ChangeTurn(#[expect(dead_code, reason = "held, not read")] OwnedMutexGuard<()>);

impl Token for ChangeTurn {
    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

impl Guard {
    /// A guard against all formats that the registry recognises.
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { registry, turn: Arc::default() }
    }

    /// How many bytes from the start of a range are guarded all, or not at all, and which of the two.
    pub fn split(at: u64, len: u64) -> (u64, bool) {
        if at < SPAN { (len.min(SPAN - at), true) } else { (len, false) }
    }

    /// Whether a range that begins here has any guarded byte.
    pub fn touches(at: u64) -> bool {
        at < SPAN
    }

    /// Waits for the right to change guarded bytes.
    pub async fn turn(&self) -> ChangeTurn {
        ChangeTurn(self.turn.clone().lock_owned().await)
    }

    /// Refuses a change after which the file would look like another format. To be called with the turn held.
    pub async fn judge(&self, file: &Node, change: GuardedChange<'_>) -> Result<()> {
        let length = match &change {
            GuardedChange::Data(at, data) => file.length().max(at.saturating_add(data.len() as u64)),
            GuardedChange::Zeroes(range) => file.length().max(range.end),
            GuardedChange::Length(length) => *length,
        };
        let head = look(file, length.min(SPAN), &change).await?;
        match self.registry.probe(&Glimpse { head: &head, filename: &file.filename() }) {
            Some(other) => Err(BlockError::new(
                ErrorKind::Permission,
                format!(
                    "this change would make the image look like the format '{}'; give format=raw to allow it",
                    other.name
                ),
            )),
            None => Ok(()),
        }
    }
}

/// The first `len` bytes of the file as they will be.
async fn look(file: &Node, len: u64, change: &GuardedChange<'_>) -> Result<BufMut> {
    let (mut bytes, result) = file.read_or_zero(0, BufMut::with_len(len as usize)).await;
    result?;
    let changed = match change {
        GuardedChange::Data(at, data) => *at..at.saturating_add(data.len() as u64),
        GuardedChange::Zeroes(range) => range.clone(),
        GuardedChange::Length(_) => 0..0,
    };
    let both = changed.start..changed.end.min(len);
    if both.is_empty() {
        return Ok(bytes);
    }
    let within = |start: u64| (both.start - start) as usize..(both.end - start) as usize;
    let Some(part) = bytes.get_mut(within(0)) else { return Ok(bytes) };
    match change {
        GuardedChange::Data(at, data) => {
            if let Some(new) = data.get(within(*at)) {
                part.copy_from_slice(new);
            }
        }
        GuardedChange::Zeroes(_) | GuardedChange::Length(_) => part.fill(0),
    }
    Ok(bytes)
}
