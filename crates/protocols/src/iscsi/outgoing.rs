//! What waits to be sent: headers with their digests, data as they lie in their buffers, padding and digests behind them.

use codec::Crc32c;
use iscsi::{Agreed, DIGEST, HEADER, Lun, NO_TAG, Request, digest, padding};
use rt::Buf;
use rt::net::Stream;
use std::collections::VecDeque;
use std::io::{self, IoSlice};

/// PDUs of one vectored send.
const AT_ONCE: usize = 64;
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

/// Data of a command that lie in one piece: those that a target asked for at once, or those that come unasked.
pub(super) struct Burst {
    pub lun: Lun,
    pub tag: u32,
    /// Of the request for them; [`NO_TAG`]: nobody asked.
    pub target_tag: u32,
    /// Where they begin, among all of the command's.
    pub offset: u32,
    pub data: Buf,
}

/// What waits to be sent.
enum Item {
    Pdu(Piece),
    /// An answer to a question of the target's.
    Pong(Piece),
    /// It is cut when it is its turn, so that the least segments cost no more memory than the largest. The number of the next PDU.
    Burst(Burst, u32),
}

/// What was not sent yet, in order.
pub(super) struct Outgoing {
    header_digest: bool,
    data_digest: bool,
    /// Longest data of a PDU, in bytes.
    segment: usize,
    items: VecDeque<Item>,
    /// The first of them as they are sent, at most [`AT_ONCE`].
    pieces: VecDeque<Piece>,
    /// Bytes of the first piece that were sent.
    sent: usize,
}

impl Outgoing {
    /// Nothing yet, in a session with these rules.
    pub fn new(agreed: &Agreed) -> Self {
        Self {
            header_digest: agreed.header_digest,
            data_digest: agreed.data_digest,
            segment: agreed.segment as usize,
            items: VecDeque::new(),
            pieces: VecDeque::new(),
            sent: 0,
        }
    }

    /// Adds a PDU.
    pub fn push(&mut self, request: &Request, data: Option<Buf>) {
        let piece = self.piece(request, data);
        self.items.push_back(Item::Pdu(piece));
    }

    /// Adds an answer to a question of the target's.
    pub fn push_pong(&mut self, request: &Request) {
        let piece = self.piece(request, None);
        self.items.push_back(Item::Pong(piece));
    }

    /// Adds data.
    pub fn push_burst(&mut self, burst: Burst) {
        self.items.push_back(Item::Burst(burst, 0));
    }

    /// Requests for data of a command that wait to be answered.
    pub fn open_requests(&self, command: u32) -> usize {
        let is_open = |item: &&Item| matches!(item, Item::Burst(Burst { tag, target_tag, .. }, _) if *tag == command && *target_tag != NO_TAG);
        self.items.iter().filter(is_open).count()
    }

    /// Answers to questions of the target's that wait.
    pub fn pongs(&self) -> usize {
        self.items.iter().filter(|item| matches!(item, Item::Pong(_))).count()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty() && self.pieces.is_empty()
    }

    /// Sends what there is room for. `status` is the number of the answer that is expected next.
    pub fn send(&mut self, stream: &Stream, status: u32) -> io::Result<()> {
        loop {
            self.prepare(status);
            if self.pieces.is_empty() {
                return Ok(());
            }
            let mut slices = [IoSlice::new(&[]); 3 * AT_ONCE];
            let (mut count, mut skip) = (0, self.sent);
            let parts = self.pieces.iter().flat_map(Piece::parts).filter(|part| !part.is_empty());
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
    }

    /// Makes pieces of the first items.
    fn prepare(&mut self, status: u32) {
        while self.pieces.len() < AT_ONCE {
            let piece = match self.items.pop_front() {
                None => return,
                Some(Item::Pdu(piece) | Item::Pong(piece)) => piece,
                Some(Item::Burst(burst, number)) => {
                    let Burst { lun, tag, target_tag, offset, data } = burst;
                    let cut = self.segment.min(data.len());
                    let (part, data) = (data.slice(..cut), data.slice(cut..));
                    let last = data.is_empty();
                    if !last {
                        // All of a command has less than 4 GiB.
                        let offset = offset.saturating_add(part.len() as u32);
                        let rest = Burst { lun, tag, target_tag, offset, data };
                        self.items.push_front(Item::Burst(rest, number + 1));
                    }
                    let request = Request::DataOut { lun, tag, target_tag, status, number, offset, last };
                    self.piece(&request, Some(part))
                }
            };
            self.pieces.push_back(piece);
        }
    }

    fn piece(&self, request: &Request, data: Option<Buf>) -> Piece {
        let bytes = data.as_deref().unwrap_or_default();
        let header = request.encode(bytes.len());
        let mut head = [0; HEADER + DIGEST];
        head[..HEADER].copy_from_slice(&header);
        let mut head_len = HEADER;
        if self.header_digest {
            head[HEADER..].copy_from_slice(&digest(Crc32c::default().with(&header)));
            head_len += DIGEST;
        }
        let mut tail = [0; ZEROES.len() + DIGEST];
        let mut tail_len = padding(bytes.len());
        if self.data_digest && !bytes.is_empty() {
            let sum = Crc32c::default().with(bytes).with(ZEROES.get(..tail_len).unwrap_or_default());
            tail[tail_len..tail_len + DIGEST].copy_from_slice(&digest(sum));
            tail_len += DIGEST;
        }
        Piece { head, head_len, data, tail, tail_len }
    }

    fn took(&mut self, bytes: usize) {
        self.sent += bytes;
        while let Some(front) = self.pieces.front().map(Piece::len).filter(|len| *len <= self.sent) {
            self.pieces.pop_front();
            self.sent -= front;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_counted_as_long_as_it_waits_and_data_are_cut_in_order() {
        let runtime = rt::Runtime::new(rt::Config { workers: Some(1), ..rt::Config::default() }).unwrap();
        runtime.block_on(async {
            let (here, there) = Stream::pair().unwrap();
            let mut filling = 0;
            while let Ok(n) = here.try_send(&[0; 4096]) {
                filling += n;
            }
            let mut outgoing = Outgoing::new(&Agreed { segment: 512, ..Agreed::default() });
            let lun = Lun::default();
            let burst =
                |target_tag| Burst { lun, tag: 7, target_tag, offset: 100, data: Buf::from_slice(&[1; 700]) };
            let pong = Request::Nop { lun, tag: NO_TAG, target_tag: 3, command: 0, status: 0 };
            // As many as are made ready in front of them.
            for _ in 0..AT_ONCE {
                outgoing.push(&pong, None);
            }
            for target_tag in [NO_TAG, 1, 2] {
                outgoing.push_burst(burst(target_tag));
            }
            outgoing.push_pong(&pong);
            outgoing.send(&here, 9).unwrap();
            assert_eq!((outgoing.open_requests(7), outgoing.open_requests(8), outgoing.pongs()), (2, 0, 1));
            let whole = filling + HEADER * (AT_ONCE + 7) + 3 * 700;
            let mut came = Vec::new();
            while came.len() < whole {
                let mut buf = vec![0; whole - came.len()];
                let n = there.recv(&mut buf).await.unwrap();
                came.extend_from_slice(&buf[..n]);
                outgoing.send(&here, 9).unwrap();
            }
            assert_eq!((outgoing.open_requests(7), outgoing.pongs(), outgoing.is_empty()), (0, 0, true));
            let mut rest = &came[filling + HEADER * AT_ONCE..];
            for asked in [NO_TAG, 1, 2] {
                for (at, count, len, end) in [(100, 0, 512, false), (612, 1, 188, true)] {
                    let parsed = Request::parse(rest.first_chunk().unwrap()).unwrap();
                    let expected = Request::DataOut {
                        lun,
                        tag: 7,
                        target_tag: asked,
                        status: 9,
                        number: count,
                        offset: at,
                        last: end,
                    };
                    assert_eq!(parsed, expected);
                    rest = &rest[HEADER + len..];
                }
            }
            assert_eq!(Request::parse(rest.first_chunk().unwrap()), Ok(pong));
        });
    }
}
