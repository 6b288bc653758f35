//! A file of a server, opened: reads and writes of any length, in pieces that the server takes, side by side.

use super::connection::{Connection, Patience};
use super::host_key::Judge;
use super::location::Location;
use super::login::Keys;
use super::requests::Answered;
use super::thread;
use super::transport::{establish, reach};
use block::{BlockError, ErrorKind, Result};
use futures_util::future::{join_all, try_join_all};
use rt::{Buf, BufMut};
use sftp::{Attributes, OpenFlags, Request};
use std::sync::Arc;

/// Permissions of a file that is made, less those that the server's umask takes.
const NEW_MODE: u32 = 0o644;

/// Connects to the server of a file, whose name is for messages.
pub(super) async fn connect(
    location: &Location,
    keys: &Keys,
    name: &str,
    patience: Patience,
) -> Result<Arc<Connection>> {
    let (location, keys, name) = (location.clone(), keys.clone(), name.to_owned());
    let known = location.clone();
    let judge = rt::blocking(move || Judge::new(&known)).await?;
    let reached = reach(&location, patience).await?;
    thread::run(async move {
        let established = establish(&name, reached, &location, &keys, judge, patience).await?;
        let begun = tokio::time::timeout(patience.connect, Connection::begin(&name, established, patience));
        begun.await.map_err(|_| {
            let seconds = patience.connect.as_secs_f32();
            let text = format!("the SSH server of '{name}' did not begin SFTP within {seconds} s");
            BlockError::new(ErrorKind::Timeout, text)
        })?
    })
    .await?
}

/// An opened file. It is closed when nobody uses it any more.
pub(super) struct RemoteFile {
    connection: Arc<Connection>,
    handle: Vec<u8>,
}

impl Drop for RemoteFile {
    fn drop(&mut self) {
        self.connection.forget(&self.handle);
    }
}

impl RemoteFile {
    /// Opens a file that is there.
    pub async fn open(connection: &Arc<Connection>, path: &str, writable: bool) -> Result<Self> {
        let flags = if writable { OpenFlags::READ | OpenFlags::WRITE } else { OpenFlags::READ };
        Self::open_with(connection, path, flags, None).await
    }

    /// Makes a file that must not be there yet.
    pub async fn make(connection: &Arc<Connection>, path: &str) -> Result<Self> {
        let flags = OpenFlags::READ | OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
        Self::open_with(connection, path, flags, Some(NEW_MODE)).await
    }

    async fn open_with(
        connection: &Arc<Connection>,
        path: &str,
        flags: OpenFlags,
        mode: Option<u32>,
    ) -> Result<Self> {
        let request = Request::Open { path: path.as_bytes(), flags, mode };
        let failed = |error: BlockError| error.context(format!("failed to open remote file '{path}'"));
        match connection.call(request, None, None).await.1.map_err(failed)? {
            Answered::Handle(handle) => Ok(Self { connection: connection.clone(), handle }),
            other => Err(unexpected(connection, &request, &other)),
        }
    }

    /// What the server knows of it.
    pub async fn attributes(&self) -> Result<Attributes> {
        let request = Request::Fstat { handle: &self.handle };
        match self.connection.call(request, None, None).await.1? {
            Answered::Attributes(attributes) => Ok(attributes),
            other => Err(unexpected(&self.connection, &request, &other)),
        }
    }

    /// Reads, and fills with zeroes what the file does not have.
    pub async fn read(&self, offset: u64, mut buf: BufMut) -> (BufMut, Result<()>) {
        let longest = self.connection.limits().longest_read() as usize;
        if buf.len() <= longest {
            return self.read_piece(offset, buf).await;
        }
        let mut pieces = Vec::with_capacity(buf.len().div_ceil(longest));
        let mut at = offset;
        while !buf.is_empty() {
            let piece = buf.split_to(longest);
            let len = piece.len() as u64;
            pieces.push(self.read_piece(at, piece));
            at += len;
        }
        let (mut whole, mut result) = (buf, Ok(()));
        for (piece, read) in join_all(pieces).await {
            whole.unsplit(piece);
            result = result.and(read);
        }
        (whole, result)
    }

    async fn read_piece(&self, mut offset: u64, mut rest: BufMut) -> (BufMut, Result<()>) {
        let mut front: Option<BufMut> = None;
        loop {
            let length = rest.len();
            // A piece is never longer than what a message may be.
            let request = Request::Read { handle: &self.handle, offset, length: length as u32 };
            let (back, answered) = self.connection.call(request, None, Some(rest)).await;
            let mut back = back.unwrap_or_else(|| BufMut::zeroed(length));
            let result = match answered {
                Ok(Answered::Data(read)) if read < length => {
                    // Servers may answer less than they were asked for.
                    let here = back.split_to(read);
                    front = Some(joined(front, here));
                    offset += read as u64;
                    rest = back;
                    continue;
                }
                Ok(Answered::Data(_)) => Ok(()),
                // It has become shorter since it was opened: as of a file of this host, what is not there is zero.
                Ok(Answered::End) => {
                    back.fill(0);
                    Ok(())
                }
                Ok(other) => Err(unexpected(&self.connection, &request, &other)),
                Err(error) => Err(error),
            };
            return (joined(front, back), result);
        }
    }

    /// Writes all of it. After an error any part of it may be written.
    pub async fn write(&self, offset: u64, data: Buf) -> Result<()> {
        let longest = self.connection.limits().longest_write() as usize;
        if data.len() <= longest {
            return self.write_piece(offset, data).await;
        }
        let pieces = (0..data.len()).step_by(longest).map(|start| {
            let piece = data.slice(start..start.saturating_add(longest));
            self.write_piece(offset + start as u64, piece)
        });
        try_join_all(pieces).await.map(drop)
    }

    async fn write_piece(&self, offset: u64, data: Buf) -> Result<()> {
        let length = data.len() as u32;
        let request = Request::Write { handle: &self.handle, offset, length };
        self.done(request, Some(data)).await
    }

    /// Gives it another size, in bytes.
    pub async fn set_size(&self, size: u64) -> Result<()> {
        self.done(Request::SetSize { handle: &self.handle, size }, None).await
    }

    /// Has the server make durable what it has answered.
    pub async fn sync(&self) -> Result<()> {
        self.done(Request::Fsync { handle: &self.handle }, None).await
    }

    async fn done(&self, request: Request<'_>, data: Option<Buf>) -> Result<()> {
        match self.connection.call(request, data, None).await.1? {
            Answered::Done => Ok(()),
            other => Err(unexpected(&self.connection, &request, &other)),
        }
    }
}

/// Removes a file.
pub(super) async fn remove(connection: &Connection, path: &str) -> Result<()> {
    let request = Request::Remove { path: path.as_bytes() };
    match connection.call(request, None, None).await.1? {
        Answered::Done => Ok(()),
        other => Err(unexpected(connection, &request, &other)),
    }
}

fn unexpected(connection: &Connection, request: &Request<'_>, answered: &Answered) -> BlockError {
    let what = match answered {
        Answered::Done => "success",
        Answered::End => "the end of the file",
        Answered::Data(_) => "data",
        Answered::Handle(_) => "a handle",
        Answered::Attributes(_) => "attributes",
        Answered::Extended(_) => "what an extension says",
    };
    let text = format!("the SSH server answered a {} of '{}' with {what}", request.name(), connection.name());
    BlockError::new(ErrorKind::Io, text)
}

fn joined(front: Option<BufMut>, back: BufMut) -> BufMut {
    match front {
        Some(mut front) => {
            front.unsplit(back);
            front
        }
        None => back,
    }
}
