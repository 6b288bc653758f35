//! `alloc` and `map`: what of the image is allocated.

use super::Session;
use super::arguments::{self, Refused};
use super::command::Outcome;
use crate::{outln, size};
use block::{Backend, BlockError};

/// What `alloc` counts without a count.
const SECTOR: u64 = 512;

/// `alloc offset [count]`.
pub async fn alloc(session: &mut Session<'_>, args: &[String]) -> Result<Outcome, Refused> {
    let mut numbers = Vec::new();
    for arg in args {
        numbers.push(session.or_refuse(arguments::number(arg))?);
    }
    let (start, count) = match numbers.as_slice() {
        [start, count, ..] => (*start, *count),
        [start] => (*start, SECTOR),
        [] => (0, SECTOR),
    };
    let backend = session.backend()?;
    let count = count.min(backend.length().saturating_sub(start));
    match allocated_of(&backend, start, count).await {
        Ok(sum) => {
            outln!(session.console, "{sum}/{count} bytes allocated at offset {}", size::exact(start));
            Ok(Outcome::Done)
        }
        Err(error) => Err(session.refuse(format_args!("is_allocated failed: {}", error.strerror()))),
    }
}

async fn allocated_of(backend: &Backend, start: u64, count: u64) -> Result<u64, BlockError> {
    let (mut at, mut sum) = (0, 0);
    while at < count {
        let (allocated, len) = layer(backend, start + at, count - at).await?;
        if allocated {
            sum += len;
        }
        at += len;
    }
    Ok(sum)
}

/// `map`.
pub async fn map(session: &mut Session<'_>, _: &[String]) -> Result<Outcome, Refused> {
    let backend = session.backend()?;
    let total = backend.length();
    let mut at = 0;
    while at < total && !session.console.broken() {
        let (allocated, mut len) = match layer(&backend, at, total - at).await {
            Ok(piece) => piece,
            Err(error) => {
                session.console.error(format_args!("Failed to get allocation status: {}", error.strerror()));
                return Err(Refused);
            }
        };
        while at + len < total {
            match layer(&backend, at + len, total - at - len).await {
                Ok((same, more)) if same == allocated => len += more,
                _ => break,
            }
        }
        let word = if allocated { "    allocated" } else { "not allocated" };
        let (shown, place) = (size::exact(len), size::exact(at));
        outln!(session.console, "{shown} ({len:#x}) bytes {word} at offset {place} ({at:#x})");
        at += len;
    }
    Ok(Outcome::Done)
}

/// Whether the start of a range is allocated in the image itself, and for how long. What lies below does not count.
async fn layer(backend: &Backend, offset: u64, len: u64) -> Result<(bool, u64), BlockError> {
    let status = match backend.node().skip_filters().backing() {
        Some(below) => backend.status_above(offset, len, &below).await?,
        None => backend.status(offset, len).await?,
    };
    Ok((status.allocated, status.len))
}
