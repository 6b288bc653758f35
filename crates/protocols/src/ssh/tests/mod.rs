//! The driver against correct and faulty servers, all in this process.

use super::connection::{Connection, Patience};
use super::file::{RemoteFile, connect_patiently};
use super::host_key::Check;
use super::location::Proof;
use super::login::Keys;
use super::*;
use api::SshHostKeyCheckHashType;
use block::{Objects, Secret};
use server::{Act, Behaviour, PATH, Server};
use std::time::Duration;

mod faulty;
mod names;
mod proper;
mod server;

/// Patience of tests in which nothing is to go wrong; nobody waits for it.
const LONG: Duration = Duration::from_secs(30);
/// Of tests in which it is to be exhausted: by then a busy machine has done what comes before.
const SHORT: Duration = Duration::from_secs(3);

fn patience(wait: Duration) -> Patience {
    Patience { connect: wait, silence: wait, longest: wait * 10, goodbye: wait }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let config = rt::Config { workers: Some(1), ..rt::Config::default() };
    rt::Runtime::new(config).unwrap().block_on(test)
}

fn location(port: u16) -> Location {
    Location {
        host: "127.0.0.1".to_owned(),
        port,
        user: "somebody".to_owned(),
        path: PATH.to_owned(),
        check: Check::None,
        proof: Proof::default(),
    }
}

/// A connection to the server.
async fn connect(port: u16, wait: Duration) -> Result<Arc<Connection>> {
    let location = location(port);
    let name = location.filename(&Options::new());
    connect_patiently(&location, &Keys::default(), &name, patience(wait)).await
}

/// The driver on the server's file.
async fn open(server: &Server, wait: Duration) -> Result<SshDriver> {
    let location = location(server.address.port());
    let connection = connect(location.port, wait).await?;
    let file = RemoteFile::open(&connection, &location.path, true).await?;
    SshDriver::new(location, Keys::default(), connection, file, false).await
}

/// Bytes that differ from their neighbours.
fn noise(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 251) as u8).collect()
}
