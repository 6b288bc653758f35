//! The control connection: commands, their replies, and how a user is let in.
//!
//! ```text
//! 220 ◀─ greeting      AUTH TLS ─▶ 234, handshake      USER, PASS ─▶ 230      PBSZ 0, PROT P      TYPE I
//! ```
//!
//! Laws: a command is one line ([`super::location`] lets nothing else through). A reply comes as a whole within the time-out.
//! What was received before TLS began counts for nothing in it.
//!
//! Specifications: RFC 959, 2389 (FEAT), 2428 (EPSV), 2640 (UTF8), 4217 (TLS).

use super::failure::Failure;
use super::location::{Begin, Location};
use super::reply::{Replies, Reply};
use block::Secret;
use rt::net::Stream;
use std::net::SocketAddr;
use std::time::Duration;
use tls::{Channel, Trust};

/// Bytes that are received at a time.
const CHUNK: usize = 4 << 10;
/// Replies that only announce others, one after the other.
const MOST_PRELIMINARY: u32 = 8;

/// A connection on which commands are sent.
pub(super) struct Control {
    channel: Channel,
    /// Where it leads: so do data connections.
    server: SocketAddr,
    replies: Replies,
    timeout: Duration,
    /// The server knows EPSV, as far as is known.
    extended: bool,
}

impl Control {
    /// Connects, and has the user let in.
    pub async fn open(
        location: &Location,
        password: &Secret,
        trust: Option<&Trust>,
    ) -> Result<Self, Failure> {
        let connecting = Stream::connect_tcp(&location.host, location.port);
        let stream = match rt::timeout(location.timeout, connecting).await {
            Ok(stream) => stream.map_err(Failure::network("Failed to connect"))?,
            Err(_) => return Err(Failure::Silence { what: "to connect", timeout: location.timeout }),
        };
        let server = stream.peer_address().ok_or(Failure::Closed)?;
        let mut control = Self {
            channel: Channel::from(stream),
            server,
            replies: Replies::default(),
            timeout: location.timeout,
            extended: true,
        };
        let begin = location.tls.as_ref().map(|tls| tls.begin);
        if begin == Some(Begin::Implicit) {
            control.secure(location, trust).await?;
        }
        control.need("serve now", |reply| reply.code == 220).await?;
        if begin == Some(Begin::Explicit) {
            control.send("AUTH", b"TLS").await?;
            control.need("begin TLS", |reply| reply.code == 234).await?;
            control.secure(location, trust).await?;
        }
        control.log_in(location, password).await?;
        if begin.is_some() {
            control.send("PBSZ", b"0").await?;
            control.need("take PBSZ", Reply::is_done).await?;
            control.send("PROT", b"P").await?;
            control.need("protect data connections", Reply::is_done).await?;
        }
        if !location.path.is_ascii() {
            control.speak_utf8().await?;
        }
        control.send("TYPE", b"I").await?;
        control.need("take binary transfers", Reply::is_done).await?;
        Ok(control)
    }

    async fn secure(&mut self, location: &Location, trust: Option<&Trust>) -> Result<(), Failure> {
        if !self.replies.is_empty() {
            return Err(Failure::BeforeTls);
        }
        secure(&self.channel, location, trust, None).await
    }

    async fn log_in(&mut self, location: &Location, password: &Secret) -> Result<(), Failure> {
        self.send("USER", &location.user).await?;
        let mut reply = self.final_reply("when told the user").await?;
        if reply.code == 331 {
            self.send("PASS", password.bytes()).await?;
            reply = self.final_reply("when told the password").await?;
        }
        // A server that repeats the password does not have it told by us.
        let secret = std::str::from_utf8(password.bytes()).unwrap_or_default();
        if reply.is_done() { Ok(()) } else { Err(Failure::NotLetIn(reply.without(secret))) }
    }

    /// Servers that need to be told so are told that names are in UTF-8.
    async fn speak_utf8(&mut self) -> Result<(), Failure> {
        self.send("FEAT", b"").await?;
        let features = self.final_reply("when asked for its features").await?;
        if features.is_done() && features.lists("UTF8") {
            self.send("OPTS", b"UTF8 ON").await?;
            // Most need not be told, and some of those refuse.
            self.final_reply("when told of UTF-8").await?;
        }
        Ok(())
    }

    /// The file's size.
    pub async fn size(&mut self, path: &[u8]) -> Result<u64, Failure> {
        self.send("SIZE", path).await?;
        let reply = self.final_reply("when asked for the size").await?;
        match reply.size().filter(|_| reply.code == 213) {
            Some(size) => Ok(size),
            None if reply.code == 550 => Err(Failure::Refused { what: "have the file", reply }),
            None => Err(Failure::NoSize(reply)),
        }
    }

    /// When the file was changed, as the server has it; nothing where it does not tell.
    pub async fn modified(&mut self, path: &[u8]) -> Result<Option<String>, Failure> {
        self.send("MDTM", path).await?;
        let reply = self.final_reply("when asked for the time").await?;
        Ok((reply.code == 213).then(|| reply.text().to_owned()))
    }

    /// Connects for data. The channel is plain as yet.
    pub async fn data_connection(&mut self) -> Result<Channel, Failure> {
        // The address is that of the control connection, whatever the server says.
        let server = SocketAddr::new(self.server.ip(), self.passive_port().await?);
        match rt::timeout(self.timeout, Stream::connect_to(server)).await {
            Ok(stream) => Ok(Channel::from(stream.map_err(Failure::network("Failed to connect for data"))?)),
            Err(_) => Err(Failure::Silence { what: "to connect for data", timeout: self.timeout }),
        }
    }

    async fn passive_port(&mut self) -> Result<u16, Failure> {
        if self.extended {
            self.send("EPSV", b"").await?;
            let reply = self.reply_to_port().await?;
            match reply.extended_port().filter(|_| reply.code == 229) {
                Some(port) => return Ok(port),
                None if reply.code >= 500 && self.server.is_ipv4() => self.extended = false,
                None => return Err(Failure::Refused { what: "open a port for data (EPSV)", reply }),
            }
        }
        self.send("PASV", b"").await?;
        let reply = self.reply_to_port().await?;
        match reply.passive_port().filter(|_| reply.code == 227) {
            Some(port) => Ok(port),
            None => Err(Failure::Refused { what: "open a port for data (PASV)", reply }),
        }
    }

    /// The reply to a command for a port. Some servers say twice that a transfer was ended.
    async fn reply_to_port(&mut self) -> Result<Reply, Failure> {
        let what = "when asked for a port";
        let reply = self.final_reply(what).await?;
        if matches!(reply.code, 225 | 226 | 250 | 426) { self.final_reply(what).await } else { Ok(reply) }
    }

    /// Begins to send the file from this byte on; data come on the channel then.
    pub async fn retrieve(&mut self, path: &[u8], from: u64) -> Result<(), Failure> {
        if from > 0 {
            self.send("REST", from.to_string().as_bytes()).await?;
            let what = "begin in the middle of a file (REST, RFC 3659)";
            self.need(what, |reply| reply.code == 350).await?;
        }
        self.send("RETR", path).await?;
        match self.reply("when asked for the file").await? {
            reply if reply.is_preliminary() => Ok(()),
            reply => Err(Failure::Refused { what: "send the file", reply }),
        }
    }

    /// Puts a data connection into TLS, with what was agreed on here.
    pub async fn secure_data(
        &self,
        data: &Channel,
        location: &Location,
        trust: Option<&Trust>,
    ) -> Result<(), Failure> {
        secure(data, location, trust, Some(&self.channel)).await
    }

    /// Takes leave, without waiting for an answer.
    pub async fn quit(mut self) {
        // The server may be gone.
        let _ = self.send("QUIT", b"").await;
        let _ = self.channel.shutdown_write();
    }

    async fn send(&mut self, verb: &str, argument: &[u8]) -> Result<(), Failure> {
        let mut line = verb.as_bytes().to_vec();
        if !argument.is_empty() {
            line.push(b' ');
            line.extend_from_slice(argument);
        }
        line.extend_from_slice(b"\r\n");
        let sent = rt::timeout(self.timeout, self.channel.send_all(&line)).await;
        line.fill(0);
        match sent {
            Ok(sent) => sent.map_err(Failure::network("Failed to send a command")),
            Err(_) => Err(Failure::Silence { what: "to take a command", timeout: self.timeout }),
        }
    }

    /// A final reply that is one of those that are good.
    async fn need(&mut self, what: &'static str, is_good: impl Fn(&Reply) -> bool) -> Result<(), Failure> {
        match self.final_reply("to reply").await? {
            reply if is_good(&reply) => Ok(()),
            reply => Err(Failure::Refused { what, reply }),
        }
    }

    /// The next reply that does not only announce another.
    pub async fn final_reply(&mut self, what: &'static str) -> Result<Reply, Failure> {
        for _ in 0..MOST_PRELIMINARY {
            let reply = self.reply(what).await?;
            if !reply.is_preliminary() {
                return Ok(reply);
            }
        }
        Err(Failure::Unreadable(super::reply::Unreadable::TooLong))
    }

    async fn reply(&mut self, what: &'static str) -> Result<Reply, Failure> {
        let (channel, replies) = (&self.channel, &mut self.replies);
        let reply = async {
            let mut chunk = [0; CHUNK];
            loop {
                if let Some(reply) = replies.next()? {
                    return Ok(reply);
                }
                let n = channel.recv(&mut chunk).await.map_err(Failure::network("the connection broke"))?;
                if n == 0 {
                    return Err(Failure::Closed);
                }
                replies.push(chunk.get(..n).unwrap_or_default());
            }
        };
        let timeout = self.timeout;
        match rt::timeout(timeout, reply).await {
            // The server takes leave by itself, whatever it was asked for.
            Ok(Ok(reply)) if reply.code == 421 => Err(Failure::Refused { what: "serve any longer", reply }),
            Ok(result) => result,
            Err(_) => Err(Failure::Silence { what, timeout }),
        }
    }
}

async fn secure(
    channel: &Channel,
    location: &Location,
    trust: Option<&Trust>,
    earlier: Option<&Channel>,
) -> Result<(), Failure> {
    let Some(trust) = trust else { return Ok(()) };
    match rt::timeout(location.timeout, tls::reach(channel, trust, &location.host, earlier)).await {
        Ok(reached) => reached.map_err(|error| Failure::Tls(error.into())),
        Err(_) => Err(Failure::Silence { what: "to agree on TLS", timeout: location.timeout }),
    }
}
