//! The receiving side: from bytes to answers, and from answers to their commands.
//!
//! ```text
//! socket ─recv─▶ block ─▶ header ─▶ tag ─▶ Task ─▶ data to its buffer
//!           └────────── rest of large data ──────────▶ straight to its buffer
//! ```

use super::connection::Connection;
use super::tasks::{Reply, Task, Tasks, Term};
use block::{BlockError, ErrorKind};
use codec::Crc32c;
use iscsi::scsi::{Sense, Status};
use iscsi::{Answer, DIGEST, HEADER, Header, Lengths, Numbers, PduError, Residual, digest, limits, padding};
use rt::BufMut;
use rt::net::Stream;
use std::io;

/// Bytes of the block.
const BLOCK: usize = 256 << 10;
/// Data that still lack more than this many bytes are received where they belong.
const DIRECT: usize = 32 << 10;
/// Bytes that are received with the next header while data are large: others would only be copied.
const HEAD: usize = 4 << 10;
/// Most data of an answer that has no buffer of its own: sense data, and headers that were rejected.
const DETAILS: usize = 8 << 10;

/// An answer whose data are being received.
struct Current {
    answer: Answer,
    numbers: Numbers,
    to: To,
    /// Bytes of data that are to come.
    left: usize,
    /// What follows the data: padding, and a digest if there is one.
    behind: usize,
    sum: Crc32c,
}

/// Where the data go.
enum To {
    /// To a command's buffer.
    Task(u32, Task),
    /// To whoever looks at the answer.
    Details(Vec<u8>),
}

/// What went wrong with a connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the target sent a PDU that can't be understood: {0}")]
    Pdu(#[from] PduError),
    #[error("it was given up on request")]
    Cut,
    #[error("the target closed the connection")]
    Closed,
    #[error("the target sent a segment of {0} bytes, more than was agreed on")]
    TooLong(usize),
    #[error("the digest of a {0} is wrong")]
    Digest(&'static str),
    #[error("the target answered a command that was never made (tag {0:#x})")]
    Tag(u32),
    #[error("the target numbered an answer {got}, where {expected} comes next")]
    Number { got: u32, expected: u32 },
    #[error(
        "the target sent {len} bytes for place {offset} of a buffer, where {received} of {room} had come"
    )]
    Place { offset: u32, len: usize, received: usize, room: usize },
    #[error("the target asked for {len} bytes of data from {offset} on, which are not those that come next")]
    Ready { offset: u32, len: u32 },
    #[error(
        "the target asked for data of a command where {0} requests for its data wait already: the most that was agreed on"
    )]
    Readies(u32),
    #[error("the target sent data or asked for some where a command has none")]
    NoData,
    #[error("the target says that it has carried out a command without having had its data")]
    Untaken,
    #[error("the target does not stop asking whether anybody is there")]
    Pings,
    #[error("the target asked for the end of the session")]
    LogoutWanted,
    #[error("the target said that it ends the connection")]
    Dropped,
    #[error("the target rejected what it was sent (reason {0:#04x})")]
    Rejected(u8),
    #[error("the unit was reset")]
    Reset,
    #[error("how the unit works has changed, and it has to be asked anew")]
    Modes,
    #[error("the login is over")]
    Login,
    #[error("the target sent a text that nobody asked for")]
    Text,
}

/// Receives for one connection.
pub(super) struct Receiver {
    header_digest: bool,
    data_digest: bool,
    block: Option<BufMut>,
    start: usize,
    end: usize,
    current: Option<Current>,
    /// The last data were large; so may the next be.
    large: bool,
}

impl Receiver {
    /// Whether headers and data have digests.
    pub fn new(header_digest: bool, data_digest: bool) -> Self {
        Self { header_digest, data_digest, block: None, start: 0, end: 0, current: None, large: false }
    }

    /// The time limit of the command whose answer is being received.
    pub fn term(&self) -> Option<Term> {
        match &self.current {
            Some(Current { to: To::Task(_, task), .. }) => Some(task.term),
            _ => None,
        }
    }

    /// Receives what is there and hands out what is complete.
    pub fn receive(&mut self, stream: &Stream, connection: &Connection) -> Result<(), Broken> {
        let (room, direct) = self.room()?;
        let n = match stream.try_recv(room) {
            Ok(0) => return Err(Broken::Closed),
            Ok(n) => n,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        connection.tasks.alive();
        match &mut self.current {
            Some(Current { to: To::Task(_, task), left, sum, .. }) if direct => {
                if self.data_digest {
                    let came = task.buf.as_ref().and_then(|buf| buf.get(task.received..task.received + n));
                    *sum = sum.with(came.unwrap_or_default());
                }
                (task.received, *left) = (task.received + n, *left - n);
            }
            _ => self.end += n,
        }
        self.work_off(connection)
    }

    /// Where the next bytes go: behind the window, or (true) where large data belong.
    fn room(&mut self) -> Result<(&mut [u8], bool), Broken> {
        if let Some(Current { to: To::Task(_, task), left, .. }) = &mut self.current
            && *left > DIRECT
        {
            let range = task.received..task.received + *left;
            let room = task.buf.as_mut().and_then(|buf| buf.get_mut(range)).ok_or(Broken::NoData)?;
            return Ok((room, true));
        }
        let block = self.block.get_or_insert_with(|| BufMut::with_len(BLOCK));
        if self.start > 0 {
            // What is left is less than a header, or nothing.
            block.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let end = if self.large && self.end < HEAD { HEAD } else { BLOCK };
        Ok((block.get_mut(self.end..end).unwrap_or_default(), false))
    }

    /// Hands out what is complete in the window.
    fn work_off(&mut self, connection: &Connection) -> Result<(), Broken> {
        loop {
            match self.current.take() {
                Some(current) => match self.go_on(current, connection)? {
                    None => {}
                    incomplete => {
                        self.current = incomplete;
                        return Ok(());
                    }
                },
                None => match self.next_header()? {
                    None => return Ok(()),
                    Some((header, lengths)) => self.current = Some(self.begin(&header, lengths, connection)?),
                },
            }
        }
    }

    /// The header at the begin of the window, if it is there with all that belongs to it.
    fn next_header(&mut self) -> Result<Option<(Header, Lengths)>, Broken> {
        let block = self.block.as_ref();
        let window = block.and_then(|block| block.get(self.start..self.end)).unwrap_or_default();
        let Some(header) = window.first_chunk::<HEADER>() else { return Ok(None) };
        let lengths = Lengths::of(header);
        let covered = HEADER + lengths.further;
        let whole = covered + if self.header_digest { DIGEST } else { 0 };
        let Some(all) = window.get(..whole) else { return Ok(None) };
        let (bytes, told) = all.split_at(covered);
        if self.header_digest && told != digest(Crc32c::default().with(bytes)) {
            return Err(Broken::Digest("header"));
        }
        if lengths.data > limits::SEGMENT as usize {
            return Err(Broken::TooLong(lengths.data));
        }
        let header = *header;
        self.start += whole;
        Ok(Some((header, lengths)))
    }

    /// Finds where the data of an answer go.
    fn begin(
        &mut self,
        header: &Header,
        lengths: Lengths,
        connection: &Connection,
    ) -> Result<Current, Broken> {
        let (answer, numbers) = Answer::parse(header)?;
        let len = lengths.data;
        let digest = if self.data_digest && len > 0 { DIGEST } else { 0 };
        let to = match answer {
            Answer::DataIn { tag, offset, .. } => {
                let task = connection.tasks.take(tag).ok_or(Broken::Tag(tag))?;
                let room = task.buf.as_ref().map_or(0, |buf| buf.len());
                let (received, fits) = (task.received, room.saturating_sub(task.received) >= len);
                if offset as usize != received || !fits {
                    connection.tasks.put_back(tag, task);
                    return Err(Broken::Place { offset, len, received, room });
                }
                self.large = len > DIRECT;
                To::Task(tag, task)
            }
            _ if len > DETAILS => return Err(Broken::TooLong(len)),
            _ => To::Details(Vec::with_capacity(len)),
        };
        let sum = Crc32c::default();
        Ok(Current { answer, numbers, to, left: len, behind: padding(len) + digest, sum })
    }

    /// Feeds the window to an answer; gives it back if it needs more.
    fn go_on(&mut self, mut current: Current, connection: &Connection) -> Result<Option<Current>, Broken> {
        let block = self.block.as_ref();
        let window = block.and_then(|block| block.get(self.start..self.end)).unwrap_or_default();
        let here = current.left.min(window.len());
        if here > 0 {
            let from = window.get(..here).unwrap_or_default();
            match &mut current.to {
                To::Task(_, task) => {
                    let range = task.received..task.received + here;
                    let to = task.buf.as_mut().and_then(|buf| buf.get_mut(range));
                    to.ok_or(Broken::NoData)?.copy_from_slice(from);
                    task.received += here;
                }
                To::Details(bytes) => bytes.extend_from_slice(from),
            }
            if self.data_digest {
                current.sum = current.sum.with(from);
            }
            current.left -= here;
            self.start += here;
        }
        let window = window.get(here..).unwrap_or_default();
        let Some(behind) = window.get(..current.behind).filter(|_| current.left == 0) else {
            return Ok(Some(current));
        };
        self.start += behind.len();
        if let Some((padding, told)) = behind.split_last_chunk::<DIGEST>()
            && *told != digest(current.sum.with(padding))
        {
            if let To::Task(tag, task) = current.to {
                connection.tasks.put_back(tag, task);
            }
            return Err(Broken::Digest("data segment"));
        }
        self.finish(current, connection)?;
        Ok(None)
    }

    /// An answer is complete.
    fn finish(&mut self, current: Current, connection: &Connection) -> Result<(), Broken> {
        let Current { answer, numbers, to, .. } = current;
        match to {
            To::Task(tag, task) => {
                let counted = connection.count(&answer, numbers);
                let Answer::DataIn { status: Some(status), residual, .. } = answer else {
                    connection.tasks.put_back(tag, task);
                    return counted;
                };
                if let Err(error) = counted {
                    connection.tasks.put_back(tag, task);
                    return Err(error);
                }
                end(&connection.tasks, (tag, task), status, residual, None)
            }
            To::Details(details) => {
                connection.count(&answer, numbers)?;
                match answer {
                    Answer::Response { tag, response, status, residual } => {
                        let task = connection.tasks.take(tag).ok_or(Broken::Tag(tag))?;
                        if response != 0 {
                            connection.tasks.release(tag);
                            let text = format!(
                                "the target could not carry out a command (response {response:#04x})"
                            );
                            task.end(Err(BlockError::new(ErrorKind::Io, text)));
                            return Ok(());
                        }
                        let sense = Sense::of_response(&details);
                        // Before any answer behind it is heard: a flush that ended well after this says nothing of what was
                        // lost, and a write that did nothing of whether it is durable. All that is under way is made again in
                        // another session.
                        let ends = match sense.filter(|_| connection.is_in_use()) {
                            Some(sense) if sense.is_loss() => Some(Broken::Reset),
                            Some(sense) if sense.is_mode_change() => Some(Broken::Modes),
                            _ => None,
                        };
                        if let Some(cause) = ends {
                            connection.tasks.put_back(tag, task);
                            return Err(cause);
                        }
                        end(&connection.tasks, (tag, task), status, residual, sense)
                    }
                    answer => connection.take_in(answer),
                }
            }
        }
    }

    /// The connection is lost: so is the answer that was being received.
    pub fn abandon(&mut self, error: &BlockError) {
        if let Some(Current { to: To::Task(_, task), .. }) = self.current.take() {
            task.end(Err(error.clone()));
        }
    }

    /// Gives the block back if there is nothing in it.
    pub fn rest(&mut self) {
        if self.start == self.end {
            (self.block, self.start, self.end) = (None, 0, 0);
        }
    }
}

/// Ends a command.
fn end(
    tasks: &Tasks,
    (tag, task): (u32, Task),
    status: u8,
    residual: Residual,
    sense: Option<Sense>,
) -> Result<(), Broken> {
    let status = Status::of(status);
    if status == Status::Good && task.data.as_ref().is_some_and(|data| task.sent < data.len()) {
        tasks.put_back(tag, task);
        return Err(Broken::Untaken);
    }
    tasks.release(tag);
    let received = task.received;
    task.end(Ok(Reply { status, sense, received, residual }));
    Ok(())
}
