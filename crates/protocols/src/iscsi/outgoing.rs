//! What waits to be sent: headers with their digests, data as they lie in their buffers, padding and digests behind them.

use codec::Crc32c;
use iscsi::{DIGEST, HEADER, Header, digest, padding};
use rt::Buf;
use rt::net::Stream;
use std::collections::VecDeque;
use std::io::{self, IoSlice};

/// PDUs of one vectored send.
const AT_ONCE: usize = 16;
const ZEROES: [u8; 3] = [0; 3];

/// A PDU.
struct Piece {
    head: [u8; HEADER + DIGEST],
    head_len: usize,
    data: Option<Buf>,
    tail: [u8; ZEROES.len() + DIGEST],
    tail_len: usize,
}

impl Piece {
    fn data(&self) -> &[u8] {
        self.data.as_deref().unwrap_or_default()
    }

    fn parts(&self) -> [&[u8]; 3] {
        let head = self.head.get(..self.head_len).unwrap_or_default();
        [head, self.data(), self.tail.get(..self.tail_len).unwrap_or_default()]
    }

    fn len(&self) -> usize {
        self.head_len + self.data().len() + self.tail_len
    }
}

/// The PDUs that were not sent yet, in order.
#[derive(Default)]
pub(super) struct Outgoing {
    queue: VecDeque<Piece>,
    /// Bytes of the first one that were sent.
    sent: usize,
}

impl Outgoing {
    /// Adds a PDU; which digests it has.
    pub fn push(&mut self, header: Header, data: Option<Buf>, header_digest: bool, data_digest: bool) {
        let bytes = data.as_deref().unwrap_or_default();
        let mut head = [0; HEADER + DIGEST];
        head[..HEADER].copy_from_slice(&header);
        let mut head_len = HEADER;
        if header_digest {
            head[HEADER..].copy_from_slice(&digest(Crc32c::default().with(&header)));
            head_len += DIGEST;
        }
        let mut tail = [0; ZEROES.len() + DIGEST];
        let mut tail_len = padding(bytes.len());
        if data_digest && !bytes.is_empty() {
            let sum = Crc32c::default().with(bytes).with(ZEROES.get(..tail_len).unwrap_or_default());
            tail[tail_len..tail_len + DIGEST].copy_from_slice(&digest(sum));
            tail_len += DIGEST;
        }
        self.queue.push_back(Piece { head, head_len, data, tail, tail_len });
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Sends what there is room for.
    pub fn send(&mut self, stream: &Stream) -> io::Result<()> {
        while !self.queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); 3 * AT_ONCE];
            let (mut count, mut skip) = (0, self.sent);
            let parts = self.queue.iter().take(AT_ONCE).flat_map(Piece::parts);
            for (slice, part) in slices.iter_mut().zip(parts) {
                let skipped = skip.min(part.len());
                *slice = IoSlice::new(part.get(skipped..).unwrap_or_default());
                (skip, count) = (skip - skipped, count + 1);
            }
            match stream.try_send_vectored(slices.get(..count).unwrap_or_default()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.took(n),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn took(&mut self, bytes: usize) {
        self.sent += bytes;
        while let Some(front) = self.queue.front().map(Piece::len).filter(|len| *len <= self.sent) {
            self.queue.pop_front();
            self.sent -= front;
        }
    }
}
