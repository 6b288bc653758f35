//! A QMP client, as small as the demonstration needs.

use super::stage::Daemon;
use crate::console::Console;
use crate::failure::Failure;
use crate::outln;
use api::json::{self, Stream};
use api::{Dict, Value};
use rt::net;
use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Qmp {
    socket: net::Stream,
    parser: Stream,
    received: VecDeque<Value>,
    events: Vec<Value>,
}

impl Qmp {
    /// Connects to a daemon that was just started, and negotiates.
    pub(super) async fn connect(path: &str, daemon: &mut Daemon) -> Result<Qmp, Failure> {
        let socket = loop {
            match net::Stream::connect_unix(Path::new(path)).await {
                Ok(socket) => break socket,
                Err(_) if daemon.runs() => rt::sleep(Duration::from_millis(5)).await,
                Err(e) => {
                    return Err(Failure::new(format_args!(
                        "the daemon ended, and '{path}' does not answer: {e}"
                    )));
                }
            }
        };
        let mut qmp = Qmp { socket, parser: Stream::new(), received: VecDeque::new(), events: Vec::new() };
        let greeting = qmp.receive().await?;
        if greeting.get("QMP").is_none() {
            return Err(Failure::new("the daemon did not greet"));
        }
        qmp.ask("qmp_capabilities", &[]).await?;
        Ok(qmp)
    }

    /// Sends a command, shows it, and waits for its answer.
    pub(super) async fn show(
        &mut self,
        console: &mut Console,
        command: &str,
        args: &[(&str, Value)],
    ) -> Result<Value, Failure> {
        outln!(console, "QMP> {}", json::to_line(&request(command, args)));
        console.flush();
        self.ask(command, args).await
    }

    /// Sends a command and waits for its answer.
    pub(super) async fn ask(&mut self, command: &str, args: &[(&str, Value)]) -> Result<Value, Failure> {
        let line = json::to_line(&request(command, args)) + "\n";
        self.socket.send_all(line.as_bytes()).await.map_err(lost)?;
        loop {
            let answer = self.receive().await?;
            if answer.get("event").is_some() {
                self.events.push(answer);
            } else if let Some(error) = answer.get("error") {
                let text = error.get("desc").and_then(Value::as_str).unwrap_or("an error without words");
                return Err(Failure::new(format_args!("{command}: {text}")));
            } else {
                return Ok(answer.get("return").cloned().unwrap_or_default());
            }
        }
    }

    /// Waits for an event of this name and gives its data.
    pub(super) async fn event(&mut self, name: &str) -> Result<Value, Failure> {
        loop {
            let at = self.events.iter().position(|e| e.get("event").and_then(Value::as_str) == Some(name));
            if let Some(at) = at {
                return Ok(self.events.remove(at).get("data").cloned().unwrap_or_default());
            }
            let message = self.receive().await?;
            self.events.push(message);
        }
    }

    async fn receive(&mut self) -> Result<Value, Failure> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(message) = self.received.pop_front() {
                return Ok(message);
            }
            let got = rt::timeout(PATIENCE, self.socket.recv(&mut buffer)).await;
            let got =
                got.map_err(|_| Failure::new("the daemon did not answer for a minute"))?.map_err(lost)?;
            let mut rest = buffer.get(..got).unwrap_or_default();
            if rest.is_empty() {
                return Err(Failure::new("the daemon closed its QMP socket"));
            }
            while let Some(message) = self.parser.next(&mut rest) {
                let message =
                    message.map_err(|e| Failure::new(format_args!("the daemon's QMP is not JSON: {e}")))?;
                self.received.push_back(message);
            }
        }
    }
}

fn lost(e: std::io::Error) -> Failure {
    Failure::new(format_args!("the QMP connection failed: {e}"))
}

fn request(command: &str, args: &[(&str, Value)]) -> Value {
    let mut request = Dict::new();
    request.insert("execute", command.to_owned());
    if !args.is_empty() {
        let mut dict = Dict::new();
        args.iter().for_each(|(name, value)| dict.insert(*name, value.clone()));
        request.insert("arguments", Value::Dict(dict));
    }
    Value::Dict(request)
}
