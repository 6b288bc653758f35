//! A QMP client on a session inside this process.
use api::Value;
use monitor::{Control, serve, wire::MessageLayout};
use rt::net::Stream;
use std::sync::Arc;
use std::time::Duration;

/// A client.
pub struct Client {
    pub stream: Arc<Stream>,
    held: Vec<u8>,
    /// Events that came while an answer was waited for.
    pub events: Vec<Value>,
}

impl Client {
    /// Connects; the greeting is not received yet.
    pub fn connect(control: &Control) -> Client {
        let (ours, theirs) = Stream::pair().unwrap();
        let theirs = Arc::new(theirs);
        rt::spawn(serve(control.clone(), theirs.clone(), theirs, MessageLayout::Line)).detach();
        Client { stream: Arc::new(ours), held: Vec::new(), events: Vec::new() }
    }

    /// Connects, and ends the negotiation.
    pub async fn new(control: &Control) -> Client {
        let mut client = Self::connect(control);
        assert!(client.receive().await.get("QMP").is_some());
        client.ok("{'execute': 'qmp_capabilities'}").await;
        client
    }

    /// Sends text as it is.
    pub async fn send(&self, text: &str) {
        self.stream.send_all(text.as_bytes()).await.unwrap();
    }

    /// The next message.
    pub async fn receive(&mut self) -> Value {
        self.try_receive().await.unwrap_or_else(|| panic!("the session has ended"))
    }

    /// The next message; `None` when the session has ended.
    pub async fn try_receive(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.held.iter().position(|b| *b == b'\n') {
                let line: Vec<_> = self.held.drain(..=end).collect();
                return Some(api::json::parse(std::str::from_utf8(&line).unwrap()).unwrap());
            }
            let mut buffer = [0; 4096];
            let got = rt::timeout(Duration::from_secs(120), self.stream.recv(&mut buffer)).await;
            match got.unwrap_or_else(|_| panic!("no message in 120 s")) {
                Ok(n @ 1..) => self.held.extend_from_slice(&buffer[..n]),
                Ok(0) | Err(_) => return None,
            }
        }
    }

    /// Sends a command and takes its answer; events are kept.
    pub async fn ask(&mut self, command: &str) -> Value {
        self.send(command).await;
        loop {
            let message = self.receive().await;
            if message.get("event").is_none() {
                return message;
            }
            self.events.push(message);
        }
    }

    /// Sends a command that must succeed.
    pub async fn ok(&mut self, command: &str) -> Value {
        let answer = self.ask(command).await;
        answer.get("return").cloned().unwrap_or_else(|| panic!("{command}: {answer}"))
    }

    /// Sends a command that must fail: the class and text of its error.
    pub async fn refused(&mut self, command: &str) -> (String, String) {
        let answer = self.ask(command).await;
        let error = answer.get("error").unwrap_or_else(|| panic!("{command}: {answer}"));
        let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap().to_owned();
        (text("class"), text("desc"))
    }

    /// Waits for an event of this name.
    pub async fn event(&mut self, name: &str) -> Value {
        let is = |e: &Value| e.get("event").and_then(Value::as_str) == Some(name);
        if let Some(at) = self.events.iter().position(is) {
            return self.events.drain(..=at).next_back().unwrap();
        }
        self.events.clear();
        loop {
            let message = self.receive().await;
            if is(&message) {
                return message;
            }
        }
    }
}
