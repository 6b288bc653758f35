//! Scripts of commands on an image that is open, and who is told of the requests they make: when each begins, and when it
//! ends.

use super::arguments;
use super::command::{self, Outcome};
use super::{Session, aio};
use crate::console::Console;
use crate::image::Image;
use block::BlockError;
use parking_lot::Mutex;
use std::io::Write;
use std::sync::Arc;

/// Bytes that a request writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bytes {
    /// Nothing but this one.
    Same(u8),
    /// These, over and over from the request's start on.
    Repeat(Arc<[u8]>),
}

impl Bytes {
    /// The byte at this offset into the request.
    pub fn at(&self, offset: u64) -> u8 {
        match self {
            Bytes::Same(byte) => *byte,
            Bytes::Repeat(bytes) => {
                let at = offset.checked_rem(bytes.len() as u64).unwrap_or(0);
                usize::try_from(at).ok().and_then(|at| bytes.get(at)).copied().unwrap_or(0)
            }
        }
    }
}

/// A request that changes an image, or makes its changes durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// A write of bytes.
    Write {
        /// Where.
        offset: u64,
        /// How many.
        length: u64,
        /// What.
        bytes: Bytes,
        /// It is durable when it has ended.
        fua: bool,
    },
    /// A write of zeroes.
    Zeroes {
        /// Where.
        offset: u64,
        /// How many.
        length: u64,
        /// It is durable when it has ended.
        fua: bool,
    },
    /// A discard.
    Discard {
        /// Where.
        offset: u64,
        /// How many bytes.
        length: u64,
    },
    /// A flush.
    Flush,
    /// A change of the size to so many bytes.
    Resize(u64),
}

/// Who is told of requests.
pub trait Witness: Send + Sync {
    /// A command of this line (from 1) follows.
    fn line(&self, line: usize);

    /// A request begins; the answer is its number.
    fn begins(&self, deed: Deed) -> usize;

    /// The request of this number has ended.
    fn ends(&self, number: usize, ok: bool);
}

/// Does a request that a witness, if there is one, is told of.
pub(super) async fn told<T>(
    witness: Option<Arc<dyn Witness>>,
    deed: Deed,
    request: impl Future<Output = Result<T, BlockError>>,
) -> Result<T, BlockError> {
    let Some(witness) = witness else { return request.await };
    let number = witness.begins(deed);
    let result = request.await;
    witness.ends(number, result.is_ok());
    result
}

/// A line of a script that can't be, or could not be, done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptError {
    /// Its number, from 1.
    pub line: usize,
    /// Why.
    pub text: String,
}

/// Lines of commands, with their numbers: empty ones and those that begin with `#` are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script(Vec<(usize, String)>);

/// Commands that would leave the image that a script is about, or end the program.
const ELSEWHERE: [&str; 5] = ["abort", "close", "open", "reopen", "sigraise"];

impl Script {
    /// Reads a script. Every line must be a command that is there and can be part of one.
    pub fn read(text: &str) -> Result<Script, ScriptError> {
        let mut lines = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let words = arguments::split(line.trim());
            let Some((name, args)) = words.split_first().filter(|(name, _)| !name.starts_with('#')) else {
                continue;
            };
            let wrong = |text: String| ScriptError { line: number, text };
            let command = command::find(name);
            let command = command.ok_or_else(|| wrong(format!("command \"{name}\" not found")))?;
            if let Some(expected) = command.miscount(args.len()) {
                return Err(wrong(format!(
                    "bad argument count {} to {name}, expected {expected}",
                    args.len()
                )));
            }
            if ELSEWHERE.contains(&command.name) {
                return Err(wrong(format!("'{}' can't be part of a script for one image", command.name)));
            }
            lines.push((number, line.trim().to_owned()));
        }
        Ok(Script(lines))
    }

    /// The text of the line of this number.
    pub fn line(&self, number: usize) -> &str {
        self.0.iter().find(|(line, _)| *line == number).map_or("", |(_, text)| text)
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Runs it on an open image and closes that. It ends with the first command that fails.
    pub async fn run(&self, image: Image, witness: Arc<dyn Witness>) -> Result<(), ScriptError> {
        let said = Said::default();
        let errors = said.clone();
        let program = "io";
        let mut console = Console::on(
            program,
            Box::new(said.clone()),
            Arc::new(move |text| errors.0.lock().extend([text.as_bytes(), b"\n"].concat())),
        );
        let mut session = Session {
            console: &mut console,
            image: Some(image),
            image_opts: false,
            shift: 0,
            under_way: aio::UnderWay::default(),
            witness: Some(witness.clone()),
            scripted: false,
            failed: false,
        };
        let mut last = 0;
        for (number, text) in &self.0 {
            last = *number;
            witness.line(*number);
            let outcome = session.line(text).await;
            let quit = outcome == Ok(Outcome::Quit);
            session.judge_line(outcome.is_ok(), *number, &said)?;
            if quit {
                break;
            }
        }
        session.finish_requests().await;
        session.judge_line(true, last, &said)?;
        let closed = told(session.witness.clone(), Deed::Flush, session.close()).await;
        closed.map_err(|error| ScriptError { line: last, text: format!("closing the image: {error}") })
    }
}

impl Session<'_> {
    /// Whether a line went well: its command is `done`, and so are the requests that were reported with it.
    fn judge_line(&mut self, done: bool, line: usize, said: &Said) -> Result<(), ScriptError> {
        self.console.flush();
        let said = std::mem::take(&mut *said.0.lock());
        if done && !self.under_way.take_failed() {
            return Ok(());
        }
        Err(ScriptError { line, text: String::from_utf8_lossy(&said).trim().replace('\n', "; ") })
    }

    /// Closes the image.
    async fn close(&mut self) -> Result<(), BlockError> {
        match self.image.take() {
            Some(image) => image.close().await,
            None => Ok(()),
        }
    }
}

/// What commands say.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
