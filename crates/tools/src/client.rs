//! A QMP client: of our daemon and machine, and of QEMU's programs. Public commands only.
//!
//! Bounds: at most [`MAX_EVENTS`] events wait to be taken; of more, the oldest are dropped and counted.

use crate::failure::Failure;
use api::ToolErrorCode::{Closed, Failed, Io, Timeout};
use api::json::{self, Stream};
use api::{Dict, Value};
use rt::net::{self, Address};
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// Most events that wait to be taken.
pub const MAX_EVENTS: usize = 4096;

/// How long the greeting may take.
const GREETING: Duration = Duration::from_secs(10);
/// How long an answer may take that a face waits for by itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// The help of the operand that names a monitor.
pub const SOCKET_HELP: &str = "where QMP is served: PATH, unix:PATH or tcp:HOST:PORT";

/// A connection whose negotiation is over.
pub struct Client {
    socket: net::Stream,
    parser: Stream,
    received: VecDeque<Value>,
    events: VecDeque<Value>,
    dropped: u64,
}

/// A command that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The error's class, by its name in QMP.
    pub class: String,
    /// What went wrong, for people.
    pub desc: String,
}

impl Refused {
    /// Whether the server does not know the command.
    pub fn is_unknown_command(&self) -> bool {
        self.class == "CommandNotFound"
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.desc)
    }
}

/// What an answer is: the value of `return`, or the error.
pub type Answer = Result<Value, Refused>;

/// Reads the address of a monitor.
///
/// # Errors
/// A port that is none.
pub fn address(text: &str) -> Result<Address, Failure> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok(Address::Unix(rt::fs::path(path)));
    }
    let Some(rest) = text.strip_prefix("tcp:") else { return Ok(Address::Unix(rt::fs::path(text))) };
    let parts = rest.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) = parts.ok_or_else(|| Failure::usage(format_args!("'{text}' is not tcp:HOST:PORT")))?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Ok(Address::Tcp { host: host.to_owned(), port })
}

/// A command as it is sent.
pub fn request(command: &str, arguments: Dict) -> Value {
    let mut request = Dict::new();
    request.insert("execute", command);
    if !arguments.is_empty() {
        request.insert("arguments", arguments);
    }
    Value::Dict(request)
}

impl Client {
    /// Connects and negotiates.
    ///
    /// # Errors
    /// When nobody listens there, or who does speaks no QMP.
    pub async fn connect(at: &Address) -> Result<Client, Failure> {
        let socket = net::Stream::connect(at).await;
        let socket = socket.map_err(|e| Failure::of(Io, format_args!("could not connect to '{at}': {e}")))?;
        Client::on(socket).await.map_err(|failure| failure.within(&at.to_string()))
    }

    /// Negotiates on a connection that is there.
    ///
    /// # Errors
    /// When the other side speaks no QMP.
    pub async fn on(socket: net::Stream) -> Result<Client, Failure> {
        let (received, events) = (VecDeque::new(), VecDeque::new());
        let mut client = Client { socket, parser: Stream::new(), received, events, dropped: 0 };
        let late =
            |_| Failure::of(Timeout, "the server does not greet; does another client have the monitor?");
        let greeting = rt::timeout(GREETING, client.message()).await.map_err(late)??;
        if greeting.get("QMP").is_none() {
            return Err(Failure::new("there is no QMP server: it did not greet"));
        }
        client.ask("qmp_capabilities", &[]).await?;
        Ok(client)
    }

    /// Sends a command and waits for its answer, however long that takes.
    ///
    /// # Errors
    /// Of the connection.
    pub async fn execute(&mut self, command: &str, arguments: Dict) -> Result<Answer, Failure> {
        self.carry_out(&request(command, arguments)).await
    }

    /// Sends a whole request and waits for its answer, however long that takes.
    ///
    /// # Errors
    /// Of the connection.
    pub async fn carry_out(&mut self, request: &Value) -> Result<Answer, Failure> {
        self.send(request).await?;
        self.answer().await
    }

    /// Sends a request without waiting for its answer.
    ///
    /// # Errors
    /// Of the connection.
    pub async fn send(&self, request: &Value) -> Result<(), Failure> {
        let line = json::to_line(request) + "\n";
        self.socket.send_all(line.as_bytes()).await.map_err(lost)
    }

    /// Waits for the answer of the request that was sent last. Dropped before it came, the answer is the next one's.
    async fn answer(&mut self) -> Result<Answer, Failure> {
        loop {
            let message = self.message().await?;
            match answer_in(&message) {
                Some(answer) => return Ok(answer),
                None => self.keep(message),
            }
        }
    }

    /// Sends a command and waits for its answer, a minute at most.
    ///
    /// # Errors
    /// Of the connection, and that of the command.
    pub async fn ask(&mut self, command: &str, arguments: &[(&str, Value)]) -> Result<Value, Failure> {
        let arguments = arguments.iter().map(|(name, value)| (*name, value.clone())).collect();
        let answer = patiently(self.execute(command, arguments)).await?;
        answer.map_err(|refused| Failure::of(Failed, format_args!("{command}: {refused}")))
    }

    /// The same where the server may not have the command: nothing then.
    ///
    /// # Errors
    /// Of the connection, and that of the command.
    pub async fn ask_if_known(
        &mut self,
        command: &str,
        arguments: &[(&str, Value)],
    ) -> Result<Option<Value>, Failure> {
        let arguments = arguments.iter().map(|(name, value)| (*name, value.clone())).collect();
        match patiently(self.execute(command, arguments)).await? {
            Ok(value) => Ok(Some(value)),
            Err(refused) if refused.is_unknown_command() => Ok(None),
            Err(refused) => Err(Failure::of(Failed, format_args!("{command}: {refused}"))),
        }
    }

    /// The events that have come, the oldest first.
    pub fn take_events(&mut self) -> impl Iterator<Item = Value> + '_ {
        self.events.drain(..)
    }

    /// How many events were dropped because nobody took them.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Waits for an event of this name and gives its data.
    ///
    /// # Errors
    /// Of the connection.
    pub async fn event(&mut self, name: &str) -> Result<Value, Failure> {
        loop {
            let at = self.events.iter().position(|e| e.get("event").and_then(Value::as_str) == Some(name));
            if let Some(event) = at.and_then(|at| self.events.remove(at)) {
                return Ok(event.get("data").cloned().unwrap_or_default());
            }
            let message = patiently(self.message()).await?;
            self.keep(message);
        }
    }

    /// Waits for the next message, of whatever kind. It may be dropped while it waits: nothing is lost.
    ///
    /// # Errors
    /// Of the connection, and text that is no JSON.
    pub async fn message(&mut self) -> Result<Value, Failure> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(message) = self.received.pop_front() {
                return Ok(message);
            }
            let got = self.socket.recv(&mut buffer).await.map_err(lost)?;
            let mut rest = buffer.get(..got).unwrap_or_default();
            if rest.is_empty() {
                return Err(Failure::of(Closed, "the server closed the connection"));
            }
            while let Some(message) = self.parser.next(&mut rest) {
                let message =
                    message.map_err(|e| Failure::new(format_args!("the server sent what is no QMP: {e}")))?;
                self.received.push_back(message);
            }
        }
    }

    fn keep(&mut self, message: Value) {
        if self.events.len() >= MAX_EVENTS {
            self.events.pop_front();
            self.dropped += 1;
        }
        self.events.push_back(message);
    }
}

/// The answer that a message is; nothing if it is an event.
pub fn answer_in(message: &Value) -> Option<Answer> {
    if let Some(error) = message.get("error") {
        let text = |name| error.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        return Some(Err(Refused { class: text("class"), desc: text("desc") }));
    }
    message.get("return").map(|value| Ok(value.clone()))
}

async fn patiently<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let late = |_| Failure::of(Timeout, "the server did not answer for a minute");
    rt::timeout(PATIENCE, work).await.map_err(late)?
}

fn lost(e: std::io::Error) -> Failure {
    Failure::of(Io, format_args!("the connection failed: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_path_or_says_its_kind() {
        let tcp = |host: &str, port| Address::Tcp { host: host.to_owned(), port };
        for (text, want) in [
            ("/run/q", Address::Unix("/run/q".into())),
            ("unix:q:1", Address::Unix("q:1".into())),
            ("tcp:localhost:4444", tcp("localhost", 4444)),
            ("tcp:[::1]:4444", tcp("::1", 4444)),
        ] {
            assert_eq!(address(text).ok(), Some(want), "{text}");
        }
        assert!(address("tcp:localhost").is_err() && address("tcp:h:99999").is_err());
    }

    #[test]
    fn an_answer_is_told_from_an_event_and_an_error_keeps_its_class() {
        let read = |text: &str| answer_in(&json::parse(text).unwrap());
        assert_eq!(read("{'event': 'STOP', 'data': {}}"), None);
        assert_eq!(read("{'return': 1, 'id': 7}"), Some(Ok(1.into())));
        let refused = read("{'error': {'class': 'CommandNotFound', 'desc': 'none'}}").unwrap().unwrap_err();
        assert!(refused.is_unknown_command());
        assert_eq!(refused.to_string(), "none");
    }
}
