//! A range that a server serves in as many answers as it likes, within reason.

/// Answers to any range.
const ANSWERS: usize = 16;
/// Bytes for each of which a range has one answer more.
const WORTH: usize = 512;

/// How far a range has come.
pub(super) struct Progress {
    /// Bytes that are done.
    pub done: usize,
    len: usize,
    answers: usize,
}

impl Progress {
    /// Of a range of so many bytes.
    pub fn new(len: usize) -> Self {
        Self { done: 0, len, answers: ANSWERS + len / WORTH }
    }

    /// Bytes that are still to be done.
    pub fn left(&self) -> usize {
        self.len - self.done
    }

    /// The server says that it has done so many bytes more.
    ///
    /// # Errors
    /// What is wrong with that.
    pub fn took(&mut self, count: u32) -> Result<(), &'static str> {
        self.answers = self.answers.saturating_sub(1);
        match count as usize {
            count if count > self.left() => Err("more than it was asked for"),
            0 if self.left() > 0 => Err("nothing"),
            // It would take for ever.
            count if self.answers == 0 && count < self.left() => Err("too little, time and again"),
            count => {
                self.done += count;
                Ok(())
            }
        }
    }
}
