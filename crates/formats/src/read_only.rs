//! Formats that are only read: how their images are opened, and what is kept of what was decoded.
//!
//! Bounds: [`Decoded`] holds [`KEPT`] bytes of the units that were decoded last, and has at most [`UNDER_WAY`] bytes of units under
//! way for all requests together, whatever they ask for; one unit, where that has more. A unit has at most [`MOST_UNIT`]
//! bytes, and its stream at most [`most_stream`].
use block::{BlockError, ErrorKind, Leases, OpenContext, Perms, Result, Share, Undo};
use event_listener::Event;
use futures_util::future::try_join_all;
use parking_lot::Mutex;
use rt::{BoxFuture, Buf, BufMut};
use std::collections::VecDeque;
use std::sync::Arc;

/// Most bytes of a unit.
pub const MOST_UNIT: u64 = 64 << 20;

/// Bytes of decoded units that are kept.
const KEPT: usize = 8 << 20;

/// Bytes of units that are decoded at once for one request; one unit, where that has more.
const AT_ONCE: u64 = 4 << 20;

/// Units that are decoded at once for one request.
const MOST_AT_ONCE: usize = 16;

/// Bytes of units that are decoded at once for all requests.
const UNDER_WAY: u64 = 32 << 20;

/// The longest stream that a unit of so many bytes may have.
pub fn most_stream(unit: u64) -> u64 {
    2 * unit.max(4096)
}

/// The error of an image that can't be written to.
pub fn refused() -> BlockError {
    BlockError::new(ErrorKind::ReadOnly, "Image is read-only")
}

/// The answer of an image that can't be written to, whether it is to be writable from now on.
pub fn set_writable(writable: bool) -> BoxFuture<'static, Result<Undo>> {
    let answer: Result<Undo> = if writable { Err(refused()) } else { Ok(Box::new(|| {})) };
    Box::pin(std::future::ready(answer))
}

/// What an image needs of its file, whose tables it holds in memory: nobody writes.
pub fn child_perms() -> Perms {
    Perms { need: Share::READ, share: Share::READ.union(Share::WRITE_UNCHANGED) }
}

/// Refuses to open an image for writing.
pub fn require(context: &mut OpenContext) -> Result<()> {
    let read_only = context.common().read_only || context.fall_back_to_read_only();
    if read_only { Ok(()) } else { Err(refused()) }
}

/// A piece of the disk that can be decoded only as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit {
    /// What it is known by: no other one has the same number.
    pub number: u64,
    /// Byte offset in the disk.
    pub start: u64,
    /// Bytes of it, at most [`MOST_UNIT`].
    pub len: u64,
}

impl Unit {
    fn end(self) -> u64 {
        self.start + self.len
    }
}

/// The units that were decoded last.
pub struct Decoded {
    units: Mutex<VecDeque<(u64, Buf)>>,
    /// Those that are being decoded.
    decoding: Arc<Leases>,
    room: Room,
}

impl Decoded {
    pub fn new() -> Self {
        Self { units: Mutex::default(), decoding: Leases::new(), room: Room::default() }
    }

    /// Forgets all.
    pub fn forget(&self) {
        self.units.lock().clear();
    }

    /// Reads `buf` from byte `offset` of the disk on, several units at a time. `unit_at` tells which one a byte lies in.
    pub async fn read<F: Future<Output = Result<Buf>>>(
        &self,
        offset: u64,
        mut buf: BufMut,
        unit_at: impl Fn(u64) -> Result<Unit>,
        decode: impl Fn(Unit) -> F,
    ) -> (BufMut, Result<()>) {
        let end = offset + buf.len() as u64;
        let mut at = offset;
        while at < end {
            let contents = match self.contents(at, end, &unit_at, &decode).await {
                Ok(contents) => contents,
                Err(e) => return (buf, Err(e)),
            };
            for (unit, content) in contents {
                let len = unit.end().min(end) - at;
                let (to, from) = ((at - offset) as usize, (at - unit.start) as usize);
                if let (Some(to), Some(from)) =
                    (buf.get_mut(to..to + len as usize), content.get(from..from + len as usize))
                {
                    to.copy_from_slice(from);
                }
                at += len;
            }
        }
        (buf, Ok(()))
    }

    /// The unit at `at`, and some of those that follow before `end`.
    async fn contents<F: Future<Output = Result<Buf>>>(
        &self,
        at: u64,
        end: u64,
        unit_at: &impl Fn(u64) -> Result<Unit>,
        decode: &impl Fn(Unit) -> F,
    ) -> Result<Vec<(Unit, Buf)>> {
        let first = unit_at(at)?;
        if let Some(content) = self.find(first.number) {
            return Ok(vec![(first, content)]);
        }
        let (mut units, mut bytes, mut next) = (vec![first], first.len, first.end());
        while next < end && units.len() < MOST_AT_ONCE {
            let unit = unit_at(next)?;
            bytes += unit.len;
            if bytes > AT_ONCE {
                bytes -= unit.len;
                break;
            }
            units.push(unit);
            next = unit.end();
        }
        // Room for all of them comes before the first of them is leased: who decodes a unit that others wait for has its room.
        let _room = self.room.take(bytes).await;
        let contents = try_join_all(units.iter().map(|unit| self.content(*unit, decode))).await?;
        Ok(units.into_iter().zip(contents).collect())
    }

    /// A unit's content.
    async fn content<F: Future<Output = Result<Buf>>>(
        &self,
        unit: Unit,
        decode: &impl Fn(Unit) -> F,
    ) -> Result<Buf> {
        // Those that come for the same unit find it decoded.
        let _lease = self.decoding.lease(unit.number, unit.number + 1, true).await;
        if let Some(content) = self.find(unit.number) {
            return Ok(content);
        }
        let content = decode(unit).await?;
        let mut units = self.units.lock();
        units.push_front((unit.number, content.clone()));
        let mut kept = 0;
        let fit = units.iter().take_while(|(_, content)| {
            kept += content.len();
            kept <= KEPT
        });
        let fit = fit.count();
        units.truncate(fit.max(1));
        Ok(content)
    }

    fn find(&self, number: u64) -> Option<Buf> {
        self.units.lock().iter().find(|(known, _)| *known == number).map(|(_, content)| content.clone())
    }
}

/// Room for what is being decoded.
#[derive(Default)]
struct Room {
    taken: Mutex<u64>,
    given_back: Event,
    /// Held by the one who waits for room: nobody who wants less comes before.
    turn: futures_util::lock::Mutex<()>,
}

impl Room {
    /// Takes room for so many bytes, or all of it where that is not enough. It is given back with what comes.
    async fn take(&self, bytes: u64) -> Taken<'_> {
        let _turn = self.turn.lock().await;
        loop {
            let given_back = self.given_back.listen();
            if let Some(taken) = self.try_take(bytes) {
                return taken;
            }
            given_back.await;
        }
    }

    fn try_take(&self, bytes: u64) -> Option<Taken<'_>> {
        let mut taken = self.taken.lock();
        let fits = *taken == 0 || *taken + bytes <= UNDER_WAY;
        fits.then(|| {
            *taken += bytes;
            Taken { room: self, bytes }
        })
    }
}

/// Room that is given back when this is dropped.
struct Taken<'a> {
    room: &'a Room,
    bytes: u64,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.room.taken.lock() -= self.bytes;
        self.room.given_back.notify(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Units of these lengths, one behind the other.
    fn unit_at(lens: &[u64], at: u64) -> Result<Unit> {
        let mut start = 0;
        for (number, len) in lens.iter().enumerate() {
            if at < start + len {
                return Ok(Unit { number: number as u64, start, len: *len });
            }
            start += len;
        }
        Err(BlockError::invalid("behind the end"))
    }

    #[test]
    fn units_of_any_length_give_what_they_hold_and_room_is_never_exceeded() {
        const LENS: [u64; 40] = {
            let mut lens = [700 << 10; 40];
            (lens[3], lens[10], lens[20]) = (1, 40 << 20, 5 << 20);
            lens
        };
        sim::Sim::new(1).run(async {
            let (decoded, under_way) = (Decoded::new(), AtomicU64::new(0));
            let decode = async |unit: Unit| {
                let now = under_way.fetch_add(unit.len, Ordering::Relaxed) + unit.len;
                assert!(now <= UNDER_WAY.max(unit.len), "{now}");
                rt::yield_now().await;
                under_way.fetch_sub(unit.len, Ordering::Relaxed);
                let mut content = BufMut::with_len(unit.len as usize);
                content.fill(unit.number as u8);
                Ok(content.freeze())
            };
            let total: u64 = LENS.iter().sum();
            let reads = (0..total).step_by(3 << 20).map(|start| {
                let buf = BufMut::with_len((total - start).min(7 << 20) as usize);
                let decoded = &decoded;
                async move {
                    let (buf, result) = decoded.read(start, buf, |at| unit_at(&LENS, at), decode).await;
                    result?;
                    for (at, byte) in (start..).zip(&*buf).step_by(4099) {
                        assert_eq!(u64::from(*byte), unit_at(&LENS, at)?.number);
                    }
                    Ok::<_, BlockError>(())
                }
            });
            try_join_all(reads).await.unwrap();
            let kept: usize = decoded.units.lock().iter().map(|(_, content)| content.len()).sum();
            assert!(kept <= KEPT || decoded.units.lock().len() == 1);
        });
    }
}
