//! The monitor for people: its sessions. What its commands are and print, the program that serves it gives.
use crate::control::Control;
use api::ShutdownCause;
use block::{Graph, Options};
use rt::BoxFuture;
use rt::net::Stream;
use std::io;
use std::sync::Arc;

/// Longest line of a command, in bytes.
const MAX_LINE: usize = 4096;

/// What a session asks with.
const PROMPT: &str = "(qemu) ";

/// The command that ends the program.
const QUIT: [&str; 2] = ["quit", "q"];

/// An image that a command makes.
pub struct NewImage<'a> {
    /// Where the drivers are found.
    pub graph: &'a Graph,
    /// The driver of its format.
    pub format: &'static str,
    /// Its file.
    pub filename: &'a str,
    /// Its virtual size in bytes.
    pub size: u64,
    /// Its other options.
    pub options: &'a Options,
}

/// A monitor for people: commands by words, answers as text.
pub trait Human: Send + Sync {
    /// What a session begins with.
    fn banner(&self) -> String;

    /// An image is about to be made.
    fn tell_of_image(&self, image: &NewImage<'_>);

    /// Does a command; what it prints, its lines ended by `\r\n`. A mistake is told in the text.
    fn command<'a>(&'a self, control: &'a Control, line: &'a str) -> BoxFuture<'a, String>;
}

/// Serves one session until its client has left or has ended the program.
pub(crate) async fn serve(control: Control, input: Arc<Stream>, output: Arc<Stream>) {
    let control = control.for_session();
    if let Err(error) = talk(&control, &input, &output).await {
        tracing::debug!(%error, "the connection of a monitor for people failed");
    }
}

async fn talk(control: &Control, input: &Stream, output: &Stream) -> io::Result<()> {
    let Some(human) = control.human() else { return Ok(()) };
    output.send_all(format!("{}\r\n{PROMPT}", human.banner()).as_bytes()).await?;
    let (mut line, mut too_long, mut bytes) = (Vec::new(), false, [0; 512]);
    loop {
        let n = input.recv(&mut bytes).await?;
        if n == 0 {
            return Ok(());
        }
        for byte in bytes.iter().take(n) {
            match byte {
                b'\n' => {
                    let text = String::from_utf8_lossy(&std::mem::take(&mut line)).trim().to_owned();
                    // A terminal of the other side shows what is typed; a script sees it repeated.
                    output.send_all(format!("{text}\r\n").as_bytes()).await?;
                    if QUIT.contains(&text.as_str()) {
                        control.shut_down(ShutdownCause::HostQmpQuit);
                        if let Err(error) = control.end().await {
                            output.send_all(format!("Error: {error}\r\n").as_bytes()).await?;
                        }
                        control.leave();
                        return Ok(());
                    }
                    let answer = match control.admit() {
                        _ if text.is_empty() => String::new(),
                        _ if std::mem::take(&mut too_long) => {
                            format!("Error: a command has at most {MAX_LINE} bytes\r\n")
                        }
                        Ok(()) => human.command(control, &text).await,
                        Err(error) => format!("Error: {error}\r\n"),
                    };
                    let sent = output.send_all(format!("{answer}{PROMPT}").as_bytes()).await;
                    control.answered();
                    sent?;
                }
                byte if line.len() < MAX_LINE => line.push(*byte),
                // A part of a command may mean something else.
                _ => too_long = true,
            }
        }
    }
}
