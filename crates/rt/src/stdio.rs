//! Standard input and output as streams, and lines of a stream.

use std::io;
use std::os::fd::AsFd;

use crate::net::Stream;

/// Longest line that [`Lines`] takes, in bytes.
pub const MAX_LINE: usize = 1 << 20;

/// Standard input; its status flags, which a terminal shares with the shell, stay as they are.
pub fn stdin() -> io::Result<Stream> {
    Stream::from_fd(io::stdin().as_fd().try_clone_to_owned()?)
}

/// Standard output.
pub fn stdout() -> io::Result<Stream> {
    Stream::from_fd(io::stdout().as_fd().try_clone_to_owned()?)
}

/// The lines of a stream.
pub struct Lines {
    stream: Stream,
    held: Vec<u8>,
    ended: bool,
}

impl Lines {
    /// Takes lines from `stream`.
    pub fn new(stream: Stream) -> Lines {
        Lines { stream, held: Vec::new(), ended: false }
    }

    /// The next line without its end; the last one may lack a newline. `None` at the end.
    ///
    /// # Errors
    /// The stream's, and `InvalidData` for a line longer than [`MAX_LINE`].
    pub async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut searched = 0;
        loop {
            let fresh = self.held.get(searched..).unwrap_or_default();
            if let Some(at) = fresh.iter().position(|&byte| byte == b'\n') {
                let rest = self.held.split_off(searched + at + 1);
                let mut line = std::mem::replace(&mut self.held, rest);
                line.pop();
                line.pop_if(|last| *last == b'\r');
                return Ok(Some(line));
            }
            if self.ended {
                let line = std::mem::take(&mut self.held);
                return Ok(if line.is_empty() { None } else { Some(line) });
            }
            searched = self.held.len();
            if searched > MAX_LINE {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line of more than 1 MiB"));
            }
            let mut chunk = [0; 4096];
            let n = self.stream.recv(&mut chunk).await?;
            self.ended = n == 0;
            self.held.extend_from_slice(chunk.get(..n).unwrap_or_default());
        }
    }
}
