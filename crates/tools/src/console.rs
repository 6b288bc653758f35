//! Where a face prints: standard output, standard error, and the name before its errors.
//!
//! ```text
//! print ─▶ buffer (a line at a time on a terminal, else by blocks, 4096 bytes at first) ─▶ standard output
//! error ─▶ "NAME: text"                                                          ─▶ standard error, at once
//! ```
//!
//! With `--errors=json` what goes to standard error is a line for programs instead ([`crate::message`]).
//!
//! Laws:
//! - a closed or full standard output never panics: the first failure is kept, later output is dropped,
//!   and [`Console::finish`] turns a success into exit code 1. A broken pipe stays silent, anything else is named;
//! - errors do not flush what is buffered on standard output: scripts that join both streams see the order that
//!   they see with C programs.

use crate::failure::Failure;
use crate::message::{self, Forms};
use crate::usage::Page;
use api::ToolMessageBranch as Message;
use codec::filename;
use parking_lot::Mutex;
use std::borrow::Cow;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, OnceLock};

/// What is buffered before it is written when standard output is no terminal, in bytes.
const BLOCK: usize = 4096;

/// The same once much has been written: a long listing goes on in larger steps.
const LARGE_BLOCK: usize = 64 << 10;

/// Takes a line that is for standard error.
pub type Errors = Arc<dyn Fn(&str) + Send + Sync>;

/// The two output streams of one face.
pub struct Console {
    program: String,
    forms: Forms,
    sink: Box<dyn Write + Send>,
    errors: Errors,
    /// Where pages of help are kept instead of printed.
    pages: Option<Vec<Page>>,
    buffer: Vec<u8>,
    block: usize,
    by_line: bool,
    failure: Option<io::Error>,
}

/// What is printed, kept.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Console {
    /// A console on the process's own streams; `program` is the name before every error.
    pub fn new(program: &str) -> Console {
        Console::in_forms(program, Forms::default())
    }

    /// The same, which tells errors and progress in these forms.
    pub fn in_forms(program: &str, forms: Forms) -> Console {
        // One process has one face.
        FACE.get_or_init(|| (program.to_owned(), forms));
        let by_line = io::stdout().is_terminal();
        Console { by_line, forms, ..Console::on(program, Box::new(RawStdout), Arc::new(print_error)) }
    }

    /// A console on other streams.
    pub fn on(program: &str, sink: Box<dyn Write + Send>, errors: Errors) -> Console {
        Console {
            program: program.to_owned(),
            forms: Forms::default(),
            sink,
            errors,
            pages: None,
            buffer: Vec::new(),
            block: BLOCK,
            by_line: false,
            failure: None,
        }
    }

    /// What `print` prints, as text.
    pub fn kept(print: impl FnOnce(&mut Console)) -> String {
        let kept = Kept::default();
        let mut console = Console::on("", Box::new(kept.clone()), Arc::new(|_| {}));
        print(&mut console);
        console.flush();
        String::from_utf8_lossy(&kept.0.lock()).into_owned()
    }

    /// The pages of help that a program called so shows in `ask`; what it prints besides is dropped.
    pub fn pages(program: &str, ask: impl FnOnce(&mut Console)) -> Vec<Page> {
        let mut console = Console::on(program, Box::new(io::sink()), Arc::new(|_| {}));
        console.pages = Some(Vec::new());
        ask(&mut console);
        console.pages.unwrap_or_default()
    }

    /// Shows a page of help.
    pub fn page(&mut self, page: Page) {
        match &mut self.pages {
            Some(pages) => pages.push(page),
            None => page.print(self),
        }
    }

    /// The name that stands before every error.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// How errors and progress are told.
    pub fn forms(&self) -> Forms {
        self.forms
    }

    /// Whether standard output is a terminal.
    pub fn on_terminal(&self) -> bool {
        self.by_line
    }

    /// Prints to standard output; see [`outln!`](crate::outln) and [`out!`](crate::out).
    pub fn print(&mut self, text: fmt::Arguments<'_>) {
        // Writing to a Vec fails only when a Display implementation does; then there is nothing to print.
        let printed = self.buffer.len();
        self.buffer.write_fmt(text).ok();
        if let Cow::Owned(bytes) = filename::bytes(self.buffer.get(printed..).unwrap_or_default()) {
            self.buffer.truncate(printed);
            self.buffer.extend(bytes);
        }
        self.write_full();
    }

    /// Prints what has no names in it, or only bytes of names as they are: a long listing does without a look for those that
    /// are no text.
    pub fn print_plain(&mut self, text: &[u8]) {
        self.buffer.extend_from_slice(text);
        self.write_full();
    }

    /// Writes as much of what is buffered as is to be written by now.
    fn write_full(&mut self) {
        if self.by_line {
            if let Some(end) = self.buffer.iter().rposition(|&byte| byte == b'\n') {
                self.write_out(end + 1);
            }
        } else if self.buffer.len() > self.block {
            let whole = self.buffer.len() - self.buffer.len() % self.block;
            self.write_out(whole);
            self.block = (self.block * 2).min(LARGE_BLOCK);
        }
    }

    /// Prints a value as JSON over several lines, as it is written.
    pub fn json(&mut self, value: &api::Value) {
        // What can't be printed is told in the end.
        api::json::write_pretty(self, value).ok();
        self.print(format_args!("\n"));
    }

    /// Prints `NAME: text` to standard error.
    pub fn error(&mut self, text: impl fmt::Display) {
        self.fail(&Failure::reported(text));
    }

    /// Prints why something failed to standard error.
    pub fn fail(&mut self, failure: &Failure) {
        (self.errors)(&self.line_of(failure));
    }

    /// The line that says why something failed.
    pub fn line_of(&self, failure: &Failure) -> String {
        let words = format_args!("{}: {}", self.program, failure.message());
        self.forms.line(&self.program, words, || Message::Error(failure.for_programs()))
    }

    /// Prints `NAME: warning: text` to standard error.
    pub fn warning(&mut self, text: impl fmt::Display) {
        self.warner()(&text.to_string());
    }

    /// What prints warnings, from any thread.
    pub fn warner(&self) -> impl Fn(&str) + Send + Sync + 'static {
        let (program, forms, errors) = (self.program.clone(), self.forms, self.errors.clone());
        move |text| errors(&message::warning(&program, forms, text))
    }

    /// Prints a line to standard error as it is.
    pub fn note(&self, text: impl fmt::Display) {
        self.say(format_args!("{text}"), || message::note(&text));
    }

    /// Prints a line to standard error: these words, or a message of this kind.
    pub fn say(&self, words: fmt::Arguments<'_>, branch: impl FnOnce() -> Message) {
        (self.errors)(&self.forms.line(&self.program, words, branch));
    }

    /// Prints a line to standard error for programs, whatever the form of errors is.
    pub fn for_programs(&self, branch: Message) {
        (self.errors)(&message::line(&self.program, branch));
    }

    /// Writes what is buffered.
    pub fn flush(&mut self) {
        self.write_out(self.buffer.len());
    }

    /// True once standard output has failed: nobody reads what a long listing would still print.
    pub fn broken(&self) -> bool {
        self.failure.is_some()
    }

    /// Flushes, and gives the exit code: `code`, or 1 for a success whose output could not be written.
    pub fn finish(&mut self, code: u8) -> u8 {
        self.flush();
        let Some(failure) = self.failure.take() else { return code };
        if failure.kind() != io::ErrorKind::BrokenPipe {
            self.error(format_args!("standard output: {}", block::BlockError::from_io(&failure)));
        }
        if code == 0 { 1 } else { code }
    }

    fn write_out(&mut self, len: usize) {
        let len = len.min(self.buffer.len());
        if self.failure.is_none()
            && let Err(failure) = self.sink.write_all(self.buffer.get(..len).unwrap_or_default())
        {
            self.failure = Some(failure);
        }
        self.buffer.drain(..len);
    }
}

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.print(format_args!("{text}"));
        Ok(())
    }
}

/// A text that others gave, for a terminal, which would carry out what control characters tell it.
pub fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

/// The name of the face that this process shows, and how it tells errors.
static FACE: OnceLock<(String, Forms)> = OnceLock::new();

fn face() -> (&'static str, Forms) {
    FACE.get().map_or(("cairn", Forms::default()), |(program, forms)| (program, *forms))
}

/// Prints `NAME: warning: text` to standard error, from any thread.
pub fn warn(text: impl fmt::Display) {
    let (program, forms) = face();
    print_error(&message::warning(program, forms, &text.to_string()));
}

/// Prints `NAME: text` to standard error, from any thread.
pub fn tell(text: impl fmt::Display) {
    let (program, forms) = face();
    let error = || Message::Error(Failure::reported(&text).for_programs());
    print_error(&forms.line(program, format_args!("{program}: {text}"), error));
}

/// Prints a line to standard error as it is, from any thread.
pub fn note(text: impl fmt::Display) {
    let (program, forms) = face();
    print_error(&forms.line(program, format_args!("{text}"), || message::note(&text)));
}

fn print_error(line: &str) {
    if cfg!(test) {
        // Shown with the test that fails.
        return eprintln!("{line}");
    }
    // One write a line, so that lines of several processes do not mix. A failure could be reported nowhere.
    io::stderr().lock().write_all(&filename::bytes(format!("{line}\n").as_bytes())).ok();
}

/// Standard output without the line buffer that the standard library puts before it: what `Console` holds back,
/// it holds back once.
struct RawStdout;

impl Write for RawStdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut lock = io::stdout().lock();
        let taken = lock.write(bytes)?;
        lock.flush()?;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().lock().flush()
    }
}

/// Prints to a [`Console`] as `print!` does.
#[macro_export]
macro_rules! out {
    ($console:expr, $($text:tt)*) => { $console.print(format_args!($($text)*)) };
}

/// Prints a line to a [`Console`] as `println!` does.
#[macro_export]
macro_rules! outln {
    ($console:expr) => { $console.print(format_args!("\n")) };
    ($console:expr, $($text:tt)*) => { $console.print(format_args!("{}\n", format_args!($($text)*))) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Clone, Default)]
    struct Spy(Arc<Mutex<Vec<usize>>>);

    impl Write for Spy {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().push(bytes.len());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn console(sink: impl Write + Send + 'static, by_line: bool) -> Console {
        Console { by_line, ..Console::on("t", Box::new(sink), Arc::new(|text| note(text))) }
    }

    #[test]
    fn a_pipe_gets_whole_blocks_and_the_rest_at_the_end() {
        let spy = Spy::default();
        let mut out = console(spy.clone(), false);
        for _ in 0..1500 {
            outln!(out, "123456789");
        }
        assert_eq!(out.finish(0), 0);
        assert_eq!(*spy.0.lock().unwrap(), vec![4096, 8192, 15000 - 12288]);
    }

    #[test]
    fn a_terminal_gets_lines() {
        let spy = Spy::default();
        let mut out = console(spy.clone(), true);
        out!(out, "ab");
        outln!(out, "c");
        assert_eq!(*spy.0.lock().unwrap(), vec![4]);
    }

    #[test]
    fn a_closed_output_turns_success_into_one_and_keeps_other_codes() {
        let mut out = console(Closed, false);
        outln!(out, "x");
        assert_eq!(out.finish(0), 1);
        let mut out = console(Closed, false);
        outln!(out, "x");
        assert_eq!(out.finish(3), 3);
    }
}
