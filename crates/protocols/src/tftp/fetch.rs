//! The task that has the transfer of a file: it brings the pieces that are asked for, and those behind them.
//!
//! ```text
//! asked ─▶ here? ─▶ the transfer is before it ─▶ goes on, and keeps what comes along where there is room
//!                └▶ it is behind it, or ended ─▶ another transfer, from the first block on
//! ```
//!
//! Laws: a transfer that breaks off is begun once more before anybody is told. A file that has another size by then is not
//! taken for the old one. A transfer that nobody needs for a while is ended, so that the server does not wait for us.

use super::cache::{Cache, PIECE};
use super::location::Location;
use super::packet::Code;
use super::pieces::Pieces;
use super::transfer::{Failure, Transfer};
use block::{BlockError, ErrorKind, Result};
use futures_channel::{mpsc, oneshot};
use futures_util::StreamExt;
use parking_lot::Mutex;
use rt::Buf;
use std::sync::Arc;
use std::time::Duration;

/// How long a transfer stays open when nothing is asked for. Servers wait not much longer.
const IDLE: Duration = Duration::from_secs(3);

/// A piece that somebody waits for.
pub(super) struct Asked {
    pub number: u64,
    pub answer: oneshot::Sender<Result<Buf>>,
}

/// The task's own.
pub(super) struct Fetch {
    location: Arc<Location>,
    cache: Arc<Mutex<Cache>>,
    size: u64,
    transfer: Option<Pieces>,
    /// Up to where is fetched without being asked for, in bytes.
    ahead: u64,
}

impl Fetch {
    /// Begins a transfer, which tells the size of the file.
    pub async fn begin(location: Arc<Location>, cache: Arc<Mutex<Cache>>) -> Result<Self> {
        let transfer = Transfer::begin(&location).await.map_err(|failure| told(&location, &failure))?;
        let size = transfer.size();
        if i64::try_from(size).is_err() {
            transfer.end().await;
            let text = format!("'{}' has {size} bytes, by the server's word", location.url);
            return Err(BlockError::new(ErrorKind::Limit, text));
        }
        Ok(Self { location, cache, size, transfer: Some(Pieces::of(transfer)), ahead: 0 })
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Serves until nobody can ask any more.
    pub async fn serve(mut self, mut asked: mpsc::UnboundedReceiver<Asked>) {
        let mut waiting = Vec::new();
        loop {
            let closed = loop {
                match asked.try_recv() {
                    Ok(next) => waiting.push(next),
                    Err(error) => break error.is_closed(),
                }
            };
            if let Some(Asked { number, answer }) = self.choose(&mut waiting) {
                self.ahead = ((number + 1) * PIECE).saturating_add(self.location.terms.readahead);
                // Whoever asked may have left.
                let _ = answer.send(self.piece(number).await);
            } else if closed {
                break;
            } else if self.wants_more() {
                // Whoever asks for it later is told of errors.
                if let Err(failure) = self.fetch(0).await {
                    tracing::debug!(file = self.location.url, %failure, "reading ahead has ended");
                    self.transfer = None;
                }
            } else if self.transfer.is_none() {
                waiting.extend(asked.next().await);
            } else {
                match rt::timeout(IDLE, asked.next()).await {
                    Ok(next) => waiting.extend(next),
                    Err(_) => self.give_up().await,
                }
            }
        }
        self.give_up().await;
    }

    /// The piece that comes next on the way to the end, else the first one: several readers cost one transfer.
    fn choose(&self, waiting: &mut Vec<Asked>) -> Option<Asked> {
        waiting.retain(|asked| !asked.answer.is_canceled());
        let came = self.transfer.as_ref().map_or(0, |transfer| transfer.came() / PIECE);
        let at = (0..waiting.len()).min_by_key(|at| {
            let number = waiting.get(*at).map_or(0, |asked| asked.number);
            (number < came, number)
        })?;
        Some(waiting.swap_remove(at))
    }

    fn wants_more(&self) -> bool {
        self.transfer.as_ref().is_some_and(|transfer| transfer.came() < self.ahead.min(self.size))
    }

    async fn give_up(&mut self) {
        if let Some(transfer) = self.transfer.take() {
            transfer.end().await;
        }
    }

    async fn piece(&mut self, number: u64) -> Result<Buf> {
        if let Some(piece) = self.cache.lock().get(number) {
            return Ok(piece);
        }
        let goes_on = self.transfer.is_some();
        let mut result = self.bring(number).await;
        if goes_on && result.as_ref().is_err_and(Failure::is_of_this_transfer) {
            self.transfer = None;
            result = self.bring(number).await;
        }
        result.map_err(|failure| {
            self.transfer = None;
            told(&self.location, &failure).at(number * PIECE)
        })
    }

    /// Brings a piece by the transfer, or by another one.
    async fn bring(&mut self, number: u64) -> Result<Buf, Failure> {
        if self.transfer.as_ref().is_some_and(|transfer| transfer.came() > number * PIECE) {
            self.give_up().await;
        }
        if self.transfer.is_none() {
            let transfer = Transfer::begin(&self.location).await?;
            if transfer.size() != self.size {
                let (was, now) = (self.size, transfer.size());
                transfer.end().await;
                return Err(Failure::Changed { was, now });
            }
            self.transfer = Some(Pieces::of(transfer));
        }
        loop {
            let (came, piece) = self.fetch(number).await?;
            if came == number {
                return Ok(piece);
            }
        }
    }

    /// Fetches the next piece, and keeps it: those before `wanted` only where there is room.
    async fn fetch(&mut self, wanted: u64) -> Result<(u64, Buf), Failure> {
        let transfer = self.transfer.as_mut().ok_or(Failure::Ended)?;
        let (number, piece) = transfer.next().await?;
        let mut cache = self.cache.lock();
        match number < wanted {
            true => cache.keep_if_room(number, piece.clone()),
            false => cache.keep(number, piece.clone()),
        }
        Ok((number, piece))
    }
}

/// A failure in the words of the block layer.
fn told(location: &Location, failure: &Failure) -> BlockError {
    let kind = match failure {
        Failure::Silence(_) => ErrorKind::Timeout,
        Failure::Told(Code::NOT_FOUND, _) => ErrorKind::NotFound,
        Failure::Told(Code::ACCESS_VIOLATION, _) => ErrorKind::Permission,
        Failure::NoSize => ErrorKind::Unsupported,
        _ => ErrorKind::Io,
    };
    BlockError::new(kind, format!("'{}': {failure}", location.url))
}
