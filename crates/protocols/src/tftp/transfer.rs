//! One transfer of a file, from its first block on.
//!
//! ```text
//! request ─▶ options ◀─ · acknowledged 0 ─▶ │ data 1 … data w ◀─ · acknowledged w ─▶ │ … │ the last, a shorter one
//! ```
//!
//! Laws:
//! - The next window is acknowledged when its first block is asked for, and not before: a server sends no more than is wanted.
//! - A block that is missing or comes again has the last one in order acknowledged once, until another one has come: the answers
//!   to repeated packets never multiply (RFC 1123, 4.2.3.1). Silence has it acknowledged again, with a wait that doubles.
//! - Packets from anybody else, and what is none of the protocol, change nothing.
//!
//! Bounds: one packet is held.

use super::location::Location;
use super::packet::{self, Agreed, Code, HEAD, PLAIN_BLOCK, Packet};
use rt::net::Datagrams;
use std::net::SocketAddr;
use std::time::Duration;

/// Silence after which something is sent again; it doubles up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(300);
const LONGEST_WAIT: Duration = Duration::from_secs(3);
/// Strangers that are told so, in one transfer.
const STRANGERS: u32 = 8;

/// Why a transfer has ended.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Failure {
    /// The host's name leads nowhere, or the network refuses.
    #[error("{}", block::BlockError::from_io(.0))]
    Network(std::sync::Arc<std::io::Error>),
    /// Nothing came.
    #[error("the server did not answer within {0} s")]
    Silence(f32),
    /// The server says so.
    #[error("the server says: {}", words(*.0, .1))]
    Told(Code, String),
    /// The server has no option `tsize`.
    #[error("the server does not tell the size of the file (option tsize, RFC 2349): it can't be a disk")]
    NoSize,
    /// The server has taken something that it was not asked for.
    #[error("the server answers with a {0} that it was not asked for")]
    Terms(&'static str),
    /// The file ended before its size.
    #[error("the file ended after {came} of the {size} bytes that the server told of")]
    Short { came: u64, size: u64 },
    /// Another transfer shows another file.
    #[error("the file had {was} bytes when it was opened, and has {now} now: open it anew")]
    Changed { was: u64, now: u64 },
    /// There is no transfer any more.
    #[error("the transfer has ended")]
    Ended,
    /// The file goes on beyond its size.
    #[error("the file is longer than the {0} bytes that the server told of")]
    Long(u64),
}

impl Failure {
    /// Another attempt may come to another end: a server that was started anew knows nothing of a transfer.
    pub fn is_of_this_transfer(&self) -> bool {
        matches!(
            self,
            Self::Silence(_) | Self::Network(_) | Self::Told(Code::UNKNOWN_TRANSFER | Code::NOT_DEFINED, _)
        )
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Network(std::sync::Arc::new(error))
    }
}

fn words(code: Code, text: &str) -> String {
    let known = match code {
        Code::NOT_FOUND => "file not found",
        Code::ACCESS_VIOLATION => "access violation",
        Code::UNKNOWN_TRANSFER => "unknown transfer",
        Code::OPTIONS_REFUSED => "options refused",
        _ => "",
    };
    match (known, text) {
        ("", "") => format!("error {}", code.0),
        ("", text) => text.to_owned(),
        (known, text) if text.is_empty() || text.eq_ignore_ascii_case(known) => known.to_owned(),
        (known, text) => format!("{known} ({text})"),
    }
}

/// A transfer that goes on.
pub(super) struct Transfer {
    socket: Datagrams,
    /// The server, with the port that it has for this transfer.
    server: SocketAddr,
    timeout: Duration,
    size: u64,
    block: usize,
    window: u64,
    /// Blocks that have come in order, the number of the last one, and their bytes.
    blocks: u64,
    bytes: u64,
    /// The last block that was acknowledged in its turn; the options are acknowledged as a block of the number 0.
    acknowledged: Option<u64>,
    ended: bool,
    strangers: u32,
    packet: Vec<u8>,
}

impl Transfer {
    /// Asks for the file, and hears on what terms it comes.
    pub async fn begin(location: &Location) -> Result<Self, Failure> {
        let timeout = location.terms.timeout;
        let resolved = rt::timeout(timeout, rt::net::resolve(&location.host, location.port)).await;
        let addresses = resolved.map_err(|_| Failure::Silence(timeout.as_secs_f32()))??;
        let mut last = Failure::from(std::io::Error::from(std::io::ErrorKind::NotFound));
        for server in addresses {
            match Self::ask(location, server).await {
                Err(failure @ (Failure::Network(_) | Failure::Silence(_))) => last = failure,
                answer => return answer,
            }
        }
        Err(last)
    }

    async fn ask(location: &Location, server: SocketAddr) -> Result<Self, Failure> {
        let terms = location.terms;
        let mut transfer = Self {
            socket: Datagrams::towards(server)?,
            server,
            timeout: terms.timeout,
            size: 0,
            block: terms.block.max(PLAIN_BLOCK).into(),
            window: 1,
            blocks: 0,
            bytes: 0,
            acknowledged: None,
            ended: false,
            strangers: 0,
            packet: vec![0; HEAD + usize::from(terms.block.max(PLAIN_BLOCK)) + 1],
        };
        let request = packet::read_request(&location.name, terms.block, terms.window)
            .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::InvalidInput))?;
        let agreed = transfer.hear(&request).await?;
        let block = agreed.block.unwrap_or(PLAIN_BLOCK);
        let window = agreed.window.unwrap_or(1);
        let asked_for = if !(8..=terms.block.max(PLAIN_BLOCK)).contains(&block) {
            Err(Failure::Terms("blksize"))
        } else if !(1..=terms.window).contains(&window) {
            Err(Failure::Terms("windowsize"))
        } else {
            agreed.size.ok_or(Failure::NoSize)
        };
        match asked_for {
            Ok(size) => {
                (transfer.size, transfer.block, transfer.window) = (size, block.into(), window.into());
                Ok(transfer)
            }
            Err(failure) => {
                transfer.tell(Code::OPTIONS_REFUSED, "these options were not asked for").await;
                Err(failure)
            }
        }
    }

    /// Sends the request until it is answered. From then on only the port that answered is heard.
    async fn hear(&mut self, request: &[u8]) -> Result<Agreed, Failure> {
        let mut silence = Silence::new(self.timeout);
        self.socket.send_to(request, self.server).await?;
        loop {
            let Some((len, sender)) = self.receive(&silence).await? else {
                silence.passed()?;
                self.socket.send_to(request, self.server).await?;
                continue;
            };
            if sender.ip() != self.server.ip() {
                continue;
            }
            match self.packet.get(..len).and_then(Packet::parse) {
                Some(Packet::Options(agreed)) => {
                    self.server = sender;
                    return Ok(agreed);
                }
                Some(Packet::Error { code, text }) => return Err(Failure::Told(code, text)),
                // A server that knows no options begins at once.
                Some(Packet::Data { number: 1, .. }) => {
                    self.server = sender;
                    return Ok(Agreed::default());
                }
                _ => {}
            }
        }
    }

    /// The next packet, from whomever; nothing when it is time to say something again.
    async fn receive(&mut self, silence: &Silence) -> Result<Option<(usize, SocketAddr)>, Failure> {
        // Also somebody who sends rubbish all the time comes to an end.
        let left = silence.left();
        if left.is_zero() {
            return Ok(None);
        }
        rt::timeout(left, self.socket.recv_from(&mut self.packet))
            .await
            .ok()
            .transpose()
            .map_err(Failure::from)
    }

    /// Bytes of the file, by the server's word.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that have come.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The last block has come.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// The bytes that come next: those of a block; none at the end.
    pub async fn next(&mut self) -> Result<&[u8], Failure> {
        if self.ended {
            return Ok(&[]);
        }
        if self.acknowledged.is_none_or(|last| self.blocks - last >= self.window) {
            self.acknowledge().await?;
        }
        let mut silence = Silence::new(self.timeout);
        let mut said_again = false;
        let len = loop {
            let Some((len, sender)) = self.receive(&silence).await? else {
                silence.passed()?;
                self.acknowledge().await?;
                continue;
            };
            if sender != self.server {
                self.turn_away(sender).await;
                continue;
            }
            match self.packet.get(..len).and_then(Packet::parse) {
                Some(Packet::Data { number, bytes }) => {
                    let len = bytes.len();
                    // The numbers begin again at 0 behind 65535.
                    let is_next = number == (self.blocks as u16).wrapping_add(1);
                    if is_next && len <= self.block {
                        break len;
                    }
                    if !is_next && !said_again {
                        said_again = true;
                        self.acknowledge().await?;
                    }
                }
                Some(Packet::Options(_)) if self.blocks == 0 && !said_again => {
                    said_again = true;
                    self.acknowledge().await?;
                }
                Some(Packet::Error { code, text }) => return Err(Failure::Told(code, text)),
                _ => {}
            }
        };
        self.take(len).await
    }

    /// Takes the block that was received.
    async fn take(&mut self, len: usize) -> Result<&[u8], Failure> {
        self.blocks += 1;
        self.bytes += len as u64;
        self.ended = len < self.block;
        if self.bytes > self.size {
            let size = self.size;
            self.tell(Code::NOT_DEFINED, "this is more than was told of").await;
            return Err(Failure::Long(size));
        }
        if self.ended {
            self.acknowledge().await?;
            if self.bytes < self.size {
                return Err(Failure::Short { came: self.bytes, size: self.size });
            }
        }
        Ok(self.packet.get(HEAD..HEAD + len).unwrap_or_default())
    }

    async fn acknowledge(&mut self) -> Result<(), Failure> {
        self.acknowledged = Some(self.blocks);
        Ok(self.socket.send_to(&packet::acknowledgement(self.blocks as u16), self.server).await?)
    }

    /// Tells the server's other ports that what they send is not wanted: an old request may have begun a transfer there.
    async fn turn_away(&mut self, sender: SocketAddr) {
        if sender.ip() == self.server.ip() && self.strangers < STRANGERS {
            self.strangers += 1;
            let refusal = packet::error(Code::UNKNOWN_TRANSFER, "unknown transfer");
            // Nothing depends on it.
            let _ = self.socket.send_to(&refusal, sender).await;
        }
    }

    /// Ends it before its time, so that the server does not wait.
    pub async fn end(mut self) {
        if !self.ended {
            self.tell(Code::NOT_DEFINED, "no more is wanted").await;
        }
    }

    async fn tell(&mut self, code: Code, text: &str) {
        self.ended = true;
        // The server may be gone.
        let _ = self.socket.send_to(&packet::error(code, text), self.server).await;
    }
}

/// How long nothing has come, and when something is to be said again.
struct Silence {
    timeout: Duration,
    ends_ns: u64,
    wait: Duration,
    again_ns: u64,
}

impl Silence {
    fn new(timeout: Duration) -> Self {
        let (now, wait) = (rt::now_ns(), FIRST_WAIT);
        Self { timeout, ends_ns: after(now, timeout), wait, again_ns: after(now, wait) }
    }

    fn left(&self) -> Duration {
        Duration::from_nanos(self.again_ns.min(self.ends_ns).saturating_sub(rt::now_ns()))
    }

    /// A wait was in vain: something is said again, or it has lasted too long.
    fn passed(&mut self) -> Result<(), Failure> {
        let now = rt::now_ns();
        if now >= self.ends_ns {
            return Err(Failure::Silence(self.timeout.as_secs_f32()));
        }
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        self.again_ns = after(now, self.wait);
        Ok(())
    }
}

fn after(now_ns: u64, wait: Duration) -> u64 {
    now_ns.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX))
}
