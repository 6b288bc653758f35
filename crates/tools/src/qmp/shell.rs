//! The shell: lines with history and completion, answers, and events as they come.
//!
//! ```text
//! editor (a thread: it reads the terminal by itself) ── line ──▶ this task ──▶ server
//!        ▲──────────────── answered ─────────────────────┘  ◀── events: printed above the line that is edited
//! ```
//!
//! The history is kept in memory only: commands may hold secrets.

use super::complete;
use super::schema::Schema;
use super::session::{Session, event_line};
use super::words;
use crate::failure::Failure;
use crate::{out, outln};
use api::Value;
use futures_channel::mpsc;
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use rt::terminal::Kept;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Context, Editor, ExternalPrinter, Helper};
use std::sync::{Arc, mpsc as std_mpsc};

/// Completes from the schema, and lets a line go on that is not closed.
struct Guide(Arc<Schema>);

impl Completer for Guide {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(complete::complete(&self.0, line.get(..at).unwrap_or(line)))
    }
}

impl Validator for Guide {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(match words::split(context.input()) {
            Ok(_) => ValidationResult::Valid(None),
            Err(_) => ValidationResult::Incomplete,
        })
    }
}

impl Hinter for Guide {
    type Hint = String;
}

impl Highlighter for Guide {}

impl Helper for Guide {}

/// What the editor's thread gives.
enum Edited {
    /// What prints above the line that is edited.
    Printer(Box<dyn ExternalPrinter + Send>),
    Line(String),
    /// The end of the input; an error, if it was none.
    End(Option<String>),
}

/// What a line leads to.
enum Next {
    GoOn,
    Leave,
}

/// Runs the shell; its exit code.
pub(super) async fn run(mut session: Session<'_>, socket: &str) -> Result<u8, Failure> {
    // The editor's thread may be in the middle of a line when the server ends.
    let _kept = Kept::now();
    outln!(
        session.console,
        "Connected to {socket}. The tab key completes, 'help COMMAND' explains, 'exit' leaves."
    );
    session.console.flush();
    let (edited, mut lines) = mpsc::unbounded();
    let (answered, wait) = std_mpsc::channel();
    let guide = Guide(session.schema.clone());
    std::thread::spawn(move || edit(guide, &edited, &wait));
    let mut printer = None;
    let mut events = true;
    loop {
        let got = {
            let message = std::pin::pin!(session.client.message());
            match select(message, lines.next()).await {
                Either::Left((message, _)) => Either::Left(message?),
                Either::Right((edited, _)) => Either::Right(edited),
            }
        };
        match got {
            Either::Left(event) if events => show_event(&mut session, &mut printer, &event),
            Either::Left(_) => {}
            Either::Right(Some(Edited::Printer(made))) => printer = Some(made),
            Either::Right(Some(Edited::Line(line))) => {
                match carry_out(&mut session, &line, &mut events).await? {
                    Next::GoOn => answered.send(()).ok(),
                    Next::Leave => return Ok(0),
                };
            }
            Either::Right(Some(Edited::End(Some(error)))) => {
                return Err(Failure::new(format_args!("the terminal: {error}")));
            }
            Either::Right(Some(Edited::End(None)) | None) => return Ok(0),
        }
    }
}

/// Reads lines until the input ends; after each it waits until it was answered.
fn edit(guide: Guide, edited: &mpsc::UnboundedSender<Edited>, answered: &std_mpsc::Receiver<()>) {
    let ended = |error: Option<ReadlineError>| {
        // Nobody listens where the shell has ended.
        edited.unbounded_send(Edited::End(error.map(|error| error.to_string()))).ok();
    };
    let config = Config::builder().completion_type(CompletionType::List).auto_add_history(true).build();
    let mut editor = match Editor::<Guide, DefaultHistory>::with_config(config) {
        Ok(editor) => editor,
        Err(error) => return ended(Some(error)),
    };
    editor.set_helper(Some(guide));
    if let Ok(printer) = editor.create_external_printer() {
        edited.unbounded_send(Edited::Printer(Box::new(printer))).ok();
    }
    loop {
        match editor.readline("qmp> ") {
            Ok(line) => {
                if edited.unbounded_send(Edited::Line(line)).is_err() || answered.recv().is_err() {
                    return;
                }
            }
            Err(ReadlineError::Interrupted | ReadlineError::Signal(_)) => {}
            Err(ReadlineError::Eof) => return ended(None),
            Err(error) => return ended(Some(error)),
        }
    }
}

fn show_event(
    session: &mut Session<'_>,
    printer: &mut Option<Box<dyn ExternalPrinter + Send>>,
    event: &Value,
) {
    let line = event_line(event);
    let printed = printer.as_mut().map(|printer| printer.print(format!("{line}\n")));
    if !matches!(printed, Some(Ok(()))) {
        outln!(session.console, "{line}");
        session.console.flush();
    }
}

async fn carry_out(session: &mut Session<'_>, line: &str, events: &mut bool) -> Result<Next, Failure> {
    let words = match words::split(line) {
        Ok(words) => words,
        Err(unfinished) => {
            session.console.error(unfinished);
            return Ok(Next::GoOn);
        }
    };
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => {}
        ["exit"] => return Ok(Next::Leave),
        ["events", word @ ("on" | "off")] => *events = *word == "on",
        ["help"] => {
            let names = session.schema.commands().join("  ");
            outln!(
                session.console,
                "{names}\n\nAlso: help COMMAND, events on|off, exit. 'quit' ends the server."
            );
        }
        ["help", command] => match complete::described(&session.schema, command) {
            Some(text) => out!(session.console, "{text}"),
            None => session.console.error(format_args!("there is no command '{command}'")),
        },
        _ => {
            let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
            session.show_events(*events);
            session.try_carry_out(&words).await?;
        }
    }
    session.console.flush();
    Ok(Next::GoOn)
}
