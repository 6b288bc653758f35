//! The driver against correct and faulty servers, all in this process.

use super::connection::Connection;
use super::file::connect as connect_patiently;
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
mod reconnect;
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
        reconnect: Duration::ZERO,
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
    open_at(location(server.address.port()), wait).await
}

/// The driver on the file of a location.
async fn open_at(location: Location, wait: Duration) -> Result<SshDriver> {
    let connection = connect(location.port, wait).await?;
    let file = RemoteFile::open(&connection, &location.path, true).await?;
    let login = Login { location, keys: Keys::default(), patience: patience(wait) };
    let link = Link::new(login, connection, file, true, false).await?;
    Ok(SshDriver { link })
}

/// Bytes that differ from their neighbours.
fn noise(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 251) as u8).collect()
}
