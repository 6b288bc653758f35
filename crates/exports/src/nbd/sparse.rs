//! Zeroes in the data of a read are sent as holes: the client gets their length, not the bytes.
//!
//! Data are scanned once, in units of [`UNIT`]; a few bytes mostly show that a unit is not zero.
//!
//! Specification: "Structured reply types", `NBD_REPLY_TYPE_OFFSET_HOLE`; `NBD_CMD_FLAG_DF` forbids several chunks.

use ::nbd::{CommandFlags, Headers, ReplyTo, Request};

/// Bytes that are a hole or data as a whole.
const UNIT: usize = 64 << 10;

/// The reply to this read may consist of several chunks.
pub(super) fn allowed(request: &Request, headers: Headers) -> bool {
    headers.chunked() && !request.flags.contains(CommandFlags::DF)
}

/// Bytes that [`arrange`] needs behind the data: a hole may be shorter than its chunk.
/// The longest is that of extended headers.
pub(super) const ROOM: usize = 44;

/// Builds the reply of a read in place around its `length` bytes of data: in front of them is room for a header, behind
/// them for [`ROOM`] bytes. Returns the length of the reply. What follows a hole moves forward, for a chunk is shorter than
/// a unit.
pub(super) fn arrange(request: &Request, headers: Headers, space: &mut [u8], length: usize) -> usize {
    let (reply, header) = (ReplyTo::new(request, headers), headers.data_len());
    let end = header + length;
    let (mut from, mut to) = (header, 0);
    let put = |space: &mut [u8], at: usize, bytes: &[u8]| {
        if let Some(place) = space.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
        at + bytes.len()
    };
    while let Some(rest) = space.get(from..end).filter(|rest| !rest.is_empty()) {
        let (hole, len) = codec::zero::run(rest, UNIT);
        let (offset, last) = (request.offset + (from - header) as u64, from + len == end);
        // At most what a read may ask for.
        let bytes = len as u32;
        if hole {
            to = put(space, to, &reply.hole(offset, bytes, last));
        } else {
            to = put(space, to, &reply.data(offset, bytes, last));
            if to < from {
                space.copy_within(from..from + len, to);
            }
            to += len;
        }
        from += len;
    }
    to
}

/// A run of units of one kind.
pub(super) struct Run {
    /// Index of its first byte.
    pub start: usize,
    /// Bytes.
    pub len: usize,
    /// All of them are zero.
    pub hole: bool,
    /// It is the last one.
    pub last: bool,
}

/// The runs of `data`.
pub(super) fn runs(data: &[u8]) -> impl Iterator<Item = Run> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = data.get(start..).filter(|rest| !rest.is_empty())?;
        let (hole, len) = codec::zero::run(rest, UNIT);
        let run = Run { start, len, hole, last: len == rest.len() };
        start += len;
        Some(run)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_cover_the_data_and_their_kinds_alternate() {
        let mut data = vec![0; 5 * UNIT + 7];
        data[2 * UNIT + 1] = 1;
        data[5 * UNIT + 6] = 1;
        let found: Vec<_> = runs(&data).map(|run| (run.start, run.len, run.hole, run.last)).collect();
        let expected = [
            (0, 2 * UNIT, true, false),
            (2 * UNIT, UNIT, false, false),
            (3 * UNIT, 2 * UNIT, true, false),
            (5 * UNIT, 7, false, true),
        ];
        assert_eq!(found, expected);
        assert_eq!(runs(&[]).count(), 0);
    }

    #[test]
    fn a_reply_is_arranged_where_the_data_lie() {
        for headers in [Headers::Structured, Headers::Extended] {
            arranged_with(headers);
        }
    }

    fn arranged_with(headers: Headers) {
        let request = |length: usize| Request {
            command: ::nbd::Command::READ,
            flags: CommandFlags::NONE,
            cookie: 7,
            offset: 512,
            length: length as u64,
        };
        let (head, to) = (headers.data_len(), ReplyTo::new(&request(1), headers));
        let reply = |data: &[u8]| {
            let mut space = vec![0xee; head];
            space.extend_from_slice(data);
            space.resize(space.len() + ROOM, 0xee);
            let len = arrange(&request(data.len()), headers, &mut space, data.len());
            space.truncate(len);
            space
        };
        for len in [1, 5, UNIT, UNIT + 1] {
            assert_eq!(reply(&vec![0; len]), to.hole(512, len as u32, true)[..], "{len} zeroes");
            let dense = reply(&vec![1; len]);
            assert_eq!(dense[..head], to.data(512, len as u32, true)[..]);
            assert_eq!(dense[head..], vec![1; len]);
        }
        let mut mixed: Vec<_> = (0..4 * UNIT + 7).map(|at| (at % 251) as u8 + 1).collect();
        mixed[UNIT..2 * UNIT].fill(0);
        mixed[4 * UNIT..].fill(0);
        let unit = UNIT as u32;
        let expected = [
            &to.data(512, unit, false)[..],
            &mixed[..UNIT],
            &to.hole(512 + u64::from(unit), unit, false),
            &to.data(512 + 2 * u64::from(unit), 2 * unit, false),
            &mixed[2 * UNIT..4 * UNIT],
            &to.hole(512 + 4 * u64::from(unit), 7, true),
        ];
        assert!(reply(&mixed) == expected.concat());
    }
}
