//! A file that a server sends only from its start to its end: taken in once, by a task of its own.

use super::client::Reply;
use super::error::HttpError;
use super::file::RemoteFile;
use super::patience::Patience;
use crate::readahead::Filler;
use block::{BlockError, Result};

/// Takes in what comes; where the connection breaks, all of it is asked for again, and what is here already is left out.
pub(super) async fn take_in(file: RemoteFile, reply: Reply, mut filler: Filler) {
    let mut patience = Patience::new(file.client().timeout);
    let mut next = Some(reply);
    let result = loop {
        let came = filler.came();
        let attempt = async {
            let reply = match next.take() {
                Some(reply) => reply,
                None => file.stream(&mut patience).await?,
            };
            pass(reply, &file, &mut filler).await
        };
        let error = match attempt.await {
            Ok(done) => break done,
            Err(error) => error,
        };
        if filler.came() > came {
            patience.renew();
        }
        if let Err(error) = patience.again(error, false).await {
            break Err(error.about(&file.place()));
        }
    };
    filler.end(result);
}

/// Passes on what is not here yet. The inner error is one that nothing helps against.
async fn pass(mut reply: Reply, file: &RemoteFile, filler: &mut Filler) -> Result<Result<()>, HttpError> {
    let mut skip = filler.came();
    while let Some(data) = reply.next().await? {
        let known = skip.min(data.len() as u64);
        skip -= known;
        if filler.came() + (data.len() as u64 - known) > file.size {
            return Err(HttpError::TooMuch);
        }
        if let Err(error) = filler.push(data.get(known as usize..).unwrap_or_default()) {
            return Ok(Err(error));
        }
    }
    match filler.came() == file.size {
        true => Ok(Ok(())),
        false => Err(HttpError::Broken("the file ended too early".to_owned())),
    }
}

/// What a file that was given up tells whoever still waits.
pub(super) fn given_up(place: &str) -> BlockError {
    BlockError::new(block::ErrorKind::Closed, format!("'{place}': the connection was given up"))
}
