//! Commands to a server, and what it answers, as text.

use super::arguments;
use super::schema::Schema;
use super::words::{self, Unfinished};
use crate::client::{self, Answer, Client};
use crate::console::Console;
use crate::failure::Failure;
use crate::outln;
use api::{Value, json};
use futures_util::future::{Either, select};
use rt::signal::{self, HANGUP, INTERRUPT, TERMINATE};
use rt::stdio::{self, Lines};
use std::pin::pin;
use std::sync::Arc;

/// A connection, with how it is shown.
pub(super) struct Session<'c> {
    pub(super) client: Client,
    pub(super) console: &'c mut Console,
    pub(super) schema: Arc<Schema>,
    compact: bool,
    events: bool,
}

impl<'c> Session<'c> {
    /// Asks for the schema. `compact`: each answer on one line. `events`: they are shown.
    pub(super) async fn begin(
        mut client: Client,
        console: &'c mut Console,
        compact: bool,
        events: bool,
    ) -> Result<Session<'c>, Failure> {
        let schema = client.ask_if_known("query-qmp-schema", &[]).await?.unwrap_or_default();
        Ok(Session { client, console, schema: Arc::new(Schema::of(&schema)), compact, events })
    }

    /// Carries out one command and prints what it gives. False if it was refused.
    pub(super) async fn carry_out(&mut self, words: &[String]) -> Result<bool, Failure> {
        let request = arguments::request(&self.schema, words)?;
        self.client.send(&request).await?;
        loop {
            let message = self.client.message().await?;
            match client::answer_in(&message) {
                None => self.show_event(&message),
                Some(answer) => return Ok(self.show(&request, &answer)),
            }
        }
    }

    /// Whether events are shown that come while a command is carried out.
    pub(super) fn show_events(&mut self, shown: bool) {
        self.events = shown;
    }

    fn show_event(&mut self, event: &Value) {
        if self.events {
            outln!(self.console, "{}", event_line(event));
            self.console.flush();
        }
    }

    /// Prints an answer. False if it is a refusal.
    fn show(&mut self, request: &Value, answer: &Answer) -> bool {
        match answer {
            Ok(value) if self.compact => outln!(self.console, "{}", json::to_line(value)),
            Ok(value) => self.console.json(value),
            Err(refused) => {
                let command = request.get("execute").or_else(|| request.get("exec-oob"));
                let command = command.and_then(Value::as_str).unwrap_or_default();
                let class = match refused.class.as_str() {
                    "GenericError" => String::new(),
                    class => format!(" ({class})"),
                };
                self.console.flush();
                self.console.error(format_args!("{command}: {refused}{class}"));
            }
        }
        self.console.flush();
        answer.is_ok()
    }

    /// Carries out the commands of standard input, one a line. Empty lines and those that begin with `#` are passed over; what
    /// is not closed goes on in the next line. False if one was refused or could not be read: the others are carried out.
    pub(super) async fn read_commands(&mut self) -> Result<bool, Failure> {
        let wrong = |e| Failure::new(format_args!("standard input: {e}"));
        let mut lines = Lines::new(stdio::stdin().map_err(wrong)?);
        let (mut text, mut all_went, mut open) = (String::new(), true, None);
        while let Some(line) = lines.next().await.map_err(wrong)? {
            if text.is_empty() && line.trim_ascii_start().starts_with(b"#") {
                continue;
            }
            text += &codec::filename::text(&line);
            if text.len() > stdio::MAX_LINE {
                return Err(Failure::new("a command of more than 1 MiB"));
            }
            open = match words::split(&text) {
                Ok(words) => {
                    all_went &= words.is_empty() || self.try_carry_out(&words).await?;
                    text.clear();
                    None
                }
                Err(unfinished) => {
                    text.push('\n');
                    Some(unfinished)
                }
            };
        }
        open.map_or(Ok(all_went), |open: Unfinished| Err(Failure::new(open)))
    }

    /// The same as [`Session::carry_out`], and words that are no command count as refused.
    pub(super) async fn try_carry_out(&mut self, words: &[String]) -> Result<bool, Failure> {
        match arguments::request(&self.schema, words) {
            Ok(_) => self.carry_out(words).await,
            Err(failure) => {
                self.console.flush();
                self.console.fail(&failure);
                Ok(false)
            }
        }
    }

    /// Prints events until it is interrupted, or the server ends.
    pub(super) async fn listen(&mut self) -> Result<(), Failure> {
        let waiting: Vec<_> = self.client.take_events().collect();
        waiting.iter().for_each(|event| self.show_event(event));
        let mut interrupted = pin!(signal::next_signal(&[INTERRUPT, TERMINATE, HANGUP]));
        while !self.console.broken() {
            let message = {
                let message = pin!(self.client.message());
                match select(message, &mut interrupted).await {
                    Either::Left((message, _)) => message?,
                    Either::Right(_) => return Ok(()),
                }
            };
            self.show_event(&message);
        }
        Ok(())
    }
}

/// An event on a line: its time, its name, its data.
pub(super) fn event_line(event: &Value) -> String {
    let part = |name| {
        let stamp = event.get("timestamp").and_then(|stamp| stamp.get(name));
        stamp.and_then(Value::as_i64).unwrap_or(0)
    };
    let (seconds, micros) = (part("seconds"), part("microseconds"));
    let of_day = seconds.rem_euclid(86_400);
    let name = event.get("event").and_then(Value::as_str).unwrap_or_default();
    let data = event.get("data").map(|data| format!(" {}", json::to_line(data))).unwrap_or_default();
    format!("{:02}:{:02}:{:02}.{micros:06}Z {name}{data}", of_day / 3600, of_day / 60 % 60, of_day % 60)
}
