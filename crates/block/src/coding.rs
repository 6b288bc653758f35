//! Data that is stored in another form than it is shown in, unit by unit, at its own place: encrypted.
//!
//! ```text
//! read:  stored bytes ─▶ the request's buffer, decoded in place
//! write: the request's bytes ─▶ encoded into a buffer of its own ─▶ stored
//! ```
//!
//! A driver with such data ([`crate::Driver::coding`]) answers where it is, as any other; the core moves and codes it. So
//! copy-on-write, filling around a short write, and zeroes written as data need nothing of their own.
//!
//! Laws:
//! - what a caller hands in to be written is never changed: it may be in use elsewhere;
//! - what is not made of whole units is read, filled in and written while nobody else writes those units;
//! - stored bytes say nothing of what is shown: a hole of the file is no zeroes.
//!
//! Bounds: a worker codes at most [`Coding::at_once`] bytes of a request in line; more goes in parts of [`PART`] bytes to
//! the threads that compute.
use crate::edges::ChildId;
use crate::error::Result;
use crate::lease::Lease;
use crate::node::Node;
use crate::request::Request;
use crate::steps::Step;
use futures_util::future::join_all;
use rt::{Buf, BufMut};
use std::sync::Arc;

/// Bytes that one thread codes in one go.
pub(crate) const PART: usize = 256 << 10;

/// Where a piece of data is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodedAt {
    /// Its offset in the node, in bytes.
    pub guest: u64,
    /// Its offset in the child, in bytes.
    pub stored: u64,
}

impl CodedAt {
    fn plus(self, bytes: usize) -> Self {
        Self { guest: self.guest + bytes as u64, stored: self.stored + bytes as u64 }
    }
}

/// The form in which a driver's data is stored. Offsets and lengths are multiples of [`Coding::unit`].
pub trait Coding: Send + Sync {
    /// Bytes that are coded together and apart from others: a power of two.
    fn unit(&self) -> u64;

    /// Bytes that take so little time that a worker codes them itself.
    fn at_once(&self) -> usize;

    /// Turns what is stored into what is shown.
    fn decode(&self, at: CodedAt, data: &mut [u8]) -> Result<()>;

    /// Turns what is shown into what is stored. `stored` is as long as `data`.
    fn encode(&self, at: CodedAt, data: &[u8], stored: &mut [u8]) -> Result<()>;
}

/// Whether a range is made of whole units.
pub(crate) fn is_whole(coding: &dyn Coding, offset: u64, len: usize) -> bool {
    (offset | len as u64) & (coding.unit() - 1) == 0
}

impl Node {
    /// Reads coded data inline: how many bytes from the start, in whole units.
    pub(crate) fn try_read_coded(
        coding: &dyn Coding,
        child: Option<&Arc<Node>>,
        at: CodedAt,
        buf: &mut [u8],
    ) -> Result<usize> {
        let Some(child) = child.filter(|_| is_whole(coding, at.guest, buf.len())) else { return Ok(0) };
        let most = buf.len().min(coding.at_once());
        let Some(buf) = buf.get_mut(..most) else { return Ok(0) };
        let got = child.try_read(at.stored, buf)?;
        let whole = got - got % coding.unit() as usize;
        if let Some(got) = buf.get_mut(..whole) {
            coding.decode(at, got)?;
        }
        Ok(whole)
    }

    /// Writes coded data inline: how many bytes from the start, in whole units.
    pub(crate) fn try_write_coded(
        &self,
        coding: &dyn Coding,
        child: Option<&Arc<Node>>,
        at: CodedAt,
        data: &[u8],
        request: Request,
    ) -> Result<usize> {
        let Some(child) = child.filter(|_| is_whole(coding, at.guest, data.len())) else { return Ok(0) };
        let data = data.get(..coding.at_once()).unwrap_or(data);
        let end = at.guest + data.len() as u64;
        let Some(_lease) = self.padding.try_lease(at.guest, end, false) else { return Ok(0) };
        let mut stored = BufMut::with_len(data.len());
        coding.encode(at, data, &mut stored)?;
        let got = child.try_write(at.stored, &stored, request)?;
        // A unit that was written in part is written again.
        Ok(got - got % coding.unit() as usize)
    }

    /// Reads coded data from a child.
    pub(crate) async fn read_coded(
        &self,
        coding: &Arc<dyn Coding>,
        child: &Arc<Node>,
        at: CodedAt,
        buf: BufMut,
    ) -> (BufMut, Result<()>) {
        if is_whole(&**coding, at.guest, buf.len()) {
            let (buf, result) = child.read(at.stored, buf).await;
            return match result {
                Ok(()) => decode(coding, at, buf).await,
                Err(e) => (buf, Err(e)),
            };
        }
        let mut buf = buf;
        let unit = coding.unit();
        let before = at.guest % unit;
        let whole = (before + buf.len() as u64).next_multiple_of(unit);
        let start = CodedAt { guest: at.guest - before, stored: at.stored - before };
        let (around, result) = child.read(start.stored, BufMut::with_len(whole as usize)).await;
        if result.is_err() {
            return (buf, result);
        }
        let (around, result) = decode(coding, start, around).await;
        let wanted = around.get(before as usize..before as usize + buf.len()).unwrap_or_default();
        if wanted.len() == buf.len() {
            buf.copy_from_slice(wanted);
        }
        (buf, result)
    }

    /// Stores data of whole units in a child: coded, where the node's data is.
    pub(crate) async fn put(&self, child: ChildId, at: CodedAt, data: Buf, request: Request) -> Result<()> {
        let data = match &self.coding {
            Some(coding) => encode(coding, at, data).await?,
            None => data,
        };
        self.announce_to(child, Step::WriteAio).await;
        self.edges.need(child)?.write(at.stored, data, request).await
    }

    /// Keeps writes of parts of units away from a range that is about to change; nothing where data is not coded.
    pub(crate) async fn hold_units(&self, offset: u64, len: u64) -> Option<Lease> {
        let coding = self.coding.as_ref()?;
        let (start, end) = units_around(&**coding, offset, len);
        Some(self.padding.lease(start, end, false).await)
    }

    /// Makes a write consist of whole units, with what is shown around it. The lease must be held until it is written.
    pub(crate) async fn fill_units(&self, offset: u64, data: Buf) -> Result<(u64, Buf, Option<Lease>)> {
        let Some(coding) = &self.coding else { return Ok((offset, data, None)) };
        if is_whole(&**coding, offset, data.len()) {
            let lease = self.hold_units(offset, data.len() as u64).await;
            return Ok((offset, data, lease));
        }
        let (start, end) = units_around(&**coding, offset, data.len() as u64);
        let lease = self.padding.lease(start, end, true).await;
        let (mut whole, result) = self.read_or_zero(start, BufMut::with_len((end - start) as usize)).await;
        result?;
        let before = (offset - start) as usize;
        if let Some(part) = whole.get_mut(before..before + data.len()) {
            part.copy_from_slice(&data);
        }
        Ok((start, whole.freeze(), Some(lease)))
    }
}

fn units_around(coding: &dyn Coding, offset: u64, len: u64) -> (u64, u64) {
    (offset - offset % coding.unit(), (offset + len).next_multiple_of(coding.unit()))
}

/// Decodes all of a buffer, which is the caller's alone.
async fn decode(coding: &Arc<dyn Coding>, at: CodedAt, mut buf: BufMut) -> (BufMut, Result<()>) {
    if buf.len() <= coding.at_once() {
        let result = coding.decode(at, &mut buf);
        return (buf, result);
    }
    let mut parts = Vec::new();
    let mut start = at;
    while !buf.is_empty() {
        let (mut part, coding, at) = (buf.split_to(PART), coding.clone(), start);
        start = start.plus(part.len());
        parts.push(rt::compute(move || {
            let result = coding.decode(at, &mut part);
            (part, result)
        }));
    }
    let mut result = Ok(());
    for (part, decoded) in join_all(parts).await {
        buf.unsplit(part);
        result = result.and(decoded);
    }
    (buf, result)
}

/// The form in which `data` is stored.
async fn encode(coding: &Arc<dyn Coding>, at: CodedAt, data: Buf) -> Result<Buf> {
    let mut stored = BufMut::with_len(data.len());
    if data.len() <= coding.at_once() {
        coding.encode(at, &data, &mut stored)?;
        return Ok(stored.freeze());
    }
    let (mut parts, mut done) = (Vec::new(), 0);
    while !stored.is_empty() {
        let (mut part, coding, at) = (stored.split_to(PART), coding.clone(), at.plus(done));
        let data = data.slice(done..done + part.len());
        done += part.len();
        parts.push(rt::compute(move || {
            let result = coding.encode(at, &data, &mut part);
            (part, result)
        }));
    }
    let mut result = Ok(());
    for (part, encoded) in join_all(parts).await {
        stored.unsplit(part);
        result = result.and(encoded);
    }
    result.map(|()| stored.freeze())
}
