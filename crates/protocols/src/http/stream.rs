//! A file that a server sends only from its start to its end: taken in once, by a task of its own.

use super::client::Reply;
use super::error::HttpError;
use super::file::{PROGRESS, RemoteFile};
use super::patience::Patience;
use crate::readahead::Filler;
use block::{BlockError, Result};

/// Takes in what comes; where the connection breaks, all of it is asked for again, and what is here already is left out. When that
/// has failed for too long, those who wait are told, and it goes on when somebody asks again.
pub(super) async fn take_in(file: RemoteFile, reply: Reply, mut filler: Filler) {
    let mut patience = Patience::new(file.client().timeout);
    let (mut next, mut mark) = (Some(reply), 0);
    let result = loop {
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
        if filler.came() - mark >= PROGRESS {
            mark = filler.came();
            patience.renew();
        }
        if let Err(error) = patience.again(error, false).await {
            filler.fail(error.about(&file.place())).await;
            patience.renew();
        }
    };
    filler.end(result);
}

/// Passes on what is not here yet. The inner error is one that nothing helps against.
async fn pass(reply: Reply, file: &RemoteFile, filler: &mut Filler) -> Result<Result<()>, HttpError> {
    let mut skip = filler.came();
    let passed = reply.pass(|data| {
        let known = skip.min(data.len() as u64);
        skip -= known;
        filler.push(data.get(known as usize..).unwrap_or_default())
    });
    if let Err(error) = passed.await? {
        return Ok(Err(error));
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
