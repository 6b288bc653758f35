//! Zeroes in the data of a read leave as holes: the client gets their length, and they never pass the socket.
//!
//! Data are looked at in units of [`UNIT`]: a dense one is known by a few of its bytes.
//!
//! Specification: "Structured reply types", `NBD_REPLY_TYPE_OFFSET_HOLE`; `NBD_CMD_FLAG_DF` forbids several chunks.

use ::nbd::{CommandFlags, Headers, Request};

/// Bytes that are a hole or data as a whole.
const UNIT: usize = 64 << 10;

/// The reply to this read may consist of several chunks.
pub(super) fn allowed(request: &Request, headers: Headers) -> bool {
    headers.chunked() && !request.flags.contains(CommandFlags::DF)
}

/// All of the data are to be sent.
pub(super) fn is_dense(data: &[u8]) -> bool {
    codec::zero::data_run(data, UNIT) == data.len()
}

/// A run of units of one kind.
pub(super) struct Run {
    /// Index of its first byte.
    pub start: usize,
    /// Bytes.
    pub len: usize,
    /// All of them are zero.
    pub hole: bool,
    /// None follows.
    pub last: bool,
}

/// The runs of `data`.
pub(super) fn runs(data: &[u8]) -> impl Iterator<Item = Run> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = data.get(start..).filter(|rest| !rest.is_empty())?;
        let zeroes = codec::zero::zero_run(rest, UNIT);
        let (len, hole) =
            if zeroes > 0 { (zeroes, true) } else { (codec::zero::data_run(rest, UNIT), false) };
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
        assert!(!is_dense(&data) && is_dense(&[1; 3]));
        assert_eq!(runs(&[]).count(), 0);
    }
}
