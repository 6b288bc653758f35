//! A place for a new image: the file is there when it is claimed, and is taken away again where it was made for nothing.
//!
//! NFS version 3 has no locks of its own: nothing keeps another program from making an image in the same file.

use super::connection::Patience;
use super::connection::{Connection, Peer};
use super::location::Location;
use super::mount::{Place, Server, lookup, need_regular};
use super::{dialled, reply};
use crate::way::Connection as _;
use block::{BlockError, Claim, Claiming, CreateOption, ErrorKind, PlaceRequest, Result};
use nfs::Status;
use nfs::v3::{Create, CreateHow, FileType, Name, NewAttributes, Remove};
use rt::BoxFuture;
use std::sync::Arc;

pub(super) const OPTIONS: &[CreateOption] = &[CreateOption::SIZE];

/// Permissions of a new file, as QEMU gives them.
const MODE: u32 = 0o600;

/// Finds the file, or makes it.
pub(super) fn claim(place: PlaceRequest<'_, ()>) -> Claiming<'_> {
    Box::pin(async move {
        let PlaceRequest { filename, location, .. } = place;
        let (location, settings) = Location::of(location.read()?)?;
        let peer = dialled(&location, &settings, Patience::default());
        let claimed = claim_at(location, peer).await;
        Ok(Box::new(claimed.map_err(|e| e.context_of_file("Could not create", filename))?) as Box<dyn Claim>)
    })
}

/// As [`claim`], at a place.
pub(super) async fn claim_at(location: Location, peer: Peer) -> Result<FileClaim> {
    let path = location.path.clone();
    let Place { connection, at } = Server::new(location, peer).place().await?;
    match open_or_make(&connection, &at, &path).await {
        Ok(made) => Ok(FileClaim { connection, at, made }),
        Err(error) => {
            connection.leave();
            Err(error)
        }
    }
}

/// Tells whether the file was made.
async fn open_or_make(connection: &Connection, at: &Name, path: &str) -> Result<bool> {
    let is = |error: &BlockError, status: Status| error.errno() == status.errno();
    match lookup(connection, at, path).await {
        Err(error) if is(&error, Status::NOENT) => {}
        // Where it leads is seen when it is opened.
        Ok((_, attributes)) if attributes.kind == FileType::Link => return Ok(false),
        found => return need_regular(found?.1.kind, path).map(|()| false),
    }
    let new = NewAttributes { mode: Some(MODE), size: None };
    match reply(connection.call(&Create { at: at.clone(), how: CreateHow::Guarded, new }).await) {
        Ok(_) => Ok(true),
        // Somebody else was faster.
        Err(error) if is(&error, Status::EXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A file in which an image is being made.
pub(super) struct FileClaim {
    connection: Arc<Connection>,
    at: Name,
    /// It was not there before.
    pub made: bool,
}

impl Claim for FileClaim {
    fn settle(&self) -> BoxFuture<'_, Result<()>> {
        // The name has been durable since the server answered; what was written is flushed when the image is closed.
        Box::pin(async { Ok(()) })
    }

    fn keep(self: Box<Self>) {
        self.connection.leave();
    }

    fn undo(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            let removed = match self.made {
                true => reply(self.connection.call(&Remove { of: self.at.clone() }).await).map(drop),
                false => Ok(()),
            };
            self.connection.leave();
            let what = format!("could not remove what was made at '{}'", self.at.name.0);
            removed.or_else(|e| if e.kind() == ErrorKind::NotFound { Ok(()) } else { Err(e.context(what)) })
        })
    }
}

impl Drop for FileClaim {
    fn drop(&mut self) {
        self.connection.leave();
    }
}
