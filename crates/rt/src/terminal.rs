//! A terminal that a program draws on: entered, and given back as it was however the program ends.
//!
//! Keys come as they are pressed and are not shown; signals of the keyboard (Ctrl-C, Ctrl-Z) stay signals. What was on
//! the screen before comes back, for the drawing is made on the terminal's second screen.

use std::io::{self, IsTerminal, Write};

use rustix::termios::{self, LocalModes, OptionalActions, SpecialCodeIndex, Termios};

/// To the second screen, cursor hidden.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l";
/// Colours off, cursor shown, back to the first screen.
const LEAVE: &[u8] = b"\x1b[0m\x1b[?25h\x1b[?1049l";

/// A change of the terminal's size.
pub const RESIZED: i32 = libc::SIGWINCH;
/// The user wants to have the terminal for something else meanwhile.
pub const SUSPEND: i32 = libc::SIGTSTP;

/// How the terminal was; set again when this is dropped.
pub struct Kept(Option<Termios>);

impl Kept {
    /// Keeps how the terminal of standard input is now; nothing if it is none.
    pub fn now() -> Kept {
        Kept(termios::tcgetattr(io::stdin()).ok())
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(kept) = &self.0 {
            // It fails where the terminal has gone.
            termios::tcsetattr(io::stdin(), OptionalActions::Now, kept).ok();
        }
    }
}

/// The terminal while it is drawn on.
pub struct Screen {
    _kept: Kept,
}

impl Screen {
    /// Enters the second screen.
    ///
    /// # Errors
    /// When standard input or output is no terminal.
    pub fn enter() -> io::Result<Screen> {
        let kept = termios::tcgetattr(io::stdin())?;
        let mut drawn_on = kept.clone();
        drawn_on.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        drawn_on.special_codes[SpecialCodeIndex::VMIN] = 1;
        drawn_on.special_codes[SpecialCodeIndex::VTIME] = 0;
        let screen = Screen { _kept: Kept(Some(kept)) };
        termios::tcsetattr(io::stdin(), OptionalActions::Now, &drawn_on)?;
        write(ENTER)?;
        Ok(screen)
    }

    /// Gives the terminal back, stops the program as the user asked, and enters again when it is continued.
    ///
    /// # Errors
    /// The terminal's.
    pub fn suspend(self) -> io::Result<Screen> {
        drop(self);
        crate::signal::raise(libc::SIGSTOP)?;
        Screen::enter()
    }

    /// Shows lines from the top left corner on; what was there before goes.
    ///
    /// # Errors
    /// The terminal's.
    pub fn show(&self, lines: &[String]) -> io::Result<()> {
        let mut text = String::from("\x1b[H");
        for (at, line) in lines.iter().enumerate() {
            let end = if at == 0 { "" } else { "\r\n" };
            text += end;
            text += line;
            text += "\x1b[0m\x1b[K";
        }
        write((text + "\x1b[J").as_bytes())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // It fails where the terminal has gone.
        write(LEAVE).ok();
    }
}

fn write(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

/// Columns and rows of the terminal of standard output; nothing if it is none.
pub fn size() -> Option<(usize, usize)> {
    let size = termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col.into(), size.ws_row.into()))
}

/// Whether somebody looks at the output and has keys to press.
pub fn is_there() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}
