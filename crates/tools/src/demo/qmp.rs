//! The demonstration's QMP client: it waits for a daemon that was just started, and shows what it sends.

use super::stage::Daemon;
use crate::client::{self, Client};
use crate::console::Console;
use crate::failure::Failure;
use crate::outln;
use api::{Value, json};
use rt::net;
use std::path::Path;
use std::time::Duration;

/// Connects to a daemon that was just started, and negotiates.
pub(super) async fn connect(path: &str, daemon: &mut Daemon) -> Result<Client, Failure> {
    loop {
        match net::Stream::connect_unix(Path::new(path)).await {
            Ok(socket) => return Client::on(socket).await,
            Err(_) if daemon.runs() => rt::sleep(Duration::from_millis(5)).await,
            Err(e) => {
                return Err(Failure::new(format_args!(
                    "the daemon ended, and '{path}' does not answer: {e}"
                )));
            }
        }
    }
}

/// Sends a command, shows it, and waits for its answer.
pub(super) async fn show(
    client: &mut Client,
    console: &mut Console,
    command: &str,
    arguments: &[(&str, Value)],
) -> Result<Value, Failure> {
    let shown = arguments.iter().map(|(name, value)| (*name, value.clone())).collect();
    outln!(console, "QMP> {}", json::to_line(&client::request(command, shown)));
    console.flush();
    client.ask(command, arguments).await
}
