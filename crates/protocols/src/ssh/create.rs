//! The file for a new image: it is there, or is made, before anything is written to it.

use super::connection::{Connection, Patience};
use super::file::{self, RemoteFile};
use super::location::Location;
use super::login::Keys;
use block::{Claim, Claiming, ErrorKind, PlaceRequest, Result};
use rt::BoxFuture;
use std::sync::Arc;

/// Finds the file, or makes it. Servers have no locks: others are not kept away.
pub(super) fn claim(place: PlaceRequest<'_, ()>) -> Claiming<'_> {
    Box::pin(async move {
        let location = Location::take(&mut place.location.clone())?;
        let keys = Keys::find(place.objects, &location.proof)?;
        let name = location.filename(&place.location);
        let connection = file::connect(&location, &keys, &name, Patience::default()).await?;
        let made = match find_or_make(&connection, &location.path).await {
            Ok(made) => made,
            Err(error) => {
                connection.close().await;
                return Err(error);
            }
        };
        Ok(Box::new(RemoteClaim { connection, path: location.path, made }) as Box<dyn Claim>)
    })
}

/// Tells whether the file was made.
async fn find_or_make(connection: &Arc<Connection>, path: &str) -> Result<bool> {
    match RemoteFile::open(connection, path, true).await {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            RemoteFile::make(connection, path).await.map(|_| true)
        }
        Err(error) => Err(error),
    }
}

/// A file in which an image is being made.
struct RemoteClaim {
    connection: Arc<Connection>,
    path: String,
    /// It was not there.
    made: bool,
}

impl Claim for RemoteClaim {
    fn settle(&self) -> BoxFuture<'_, Result<()>> {
        // The protocol has nothing by which a name is made durable.
        Box::pin(async { Ok(()) })
    }

    fn keep(self: Box<Self>) {
        // The connection ends with it.
    }

    fn undo(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            let result = match self.made {
                true => file::remove(&self.connection, &self.path).await,
                false => Ok(()),
            };
            self.connection.close().await;
            result
        })
    }
}
