//! The driver against targets that play by the rules and others that do not, all in this process.

use super::connection::Patience;
use super::location::{Delays, Location};
use super::*;
use rt::net::{Address, Listener};
use std::time::Duration;
use target::{Disk, Guest, Rules};

mod bytes;
mod changes;
mod discover;
mod faults;
mod quiet;
mod reconnect;
mod target;

/// Long enough for any machine: only a test that hangs meets it.
const LONG: Duration = Duration::from_secs(120);
/// Long enough for a target in the same process, for one that is to be given up.
const SHORT: Duration = Duration::from_millis(500);
/// Long enough for a session to be made in the same process, on a busy machine.
const PAUSE: Duration = Duration::from_secs(3);

fn run<T>(test: impl AsyncFnOnce() -> T) -> T {
    let config = rt::Config { workers: Some(1), ..rt::Config::default() };
    rt::Runtime::new(config).unwrap().block_on(test())
}

fn patient() -> Patience {
    Patience { connect: LONG, silence: LONG, answer: LONG, logout: SHORT }
}

fn impatient() -> Patience {
    Patience { connect: SHORT, silence: SHORT, answer: SHORT, ..patient() }
}

fn profile() -> iscsi::Profile {
    iscsi::Profile {
        initiator: "iqn.test".into(),
        target: "iqn.disk".into(),
        isid: [0x80, 1, 2, 3, 4, 5],
        own: None,
        peer: None,
        algorithms: iscsi::chap::OFFER,
        header_digest: iscsi::DigestOffer::NoneCrc32c,
        data_digest: iscsi::DigestOffer::NoneCrc32c,
    }
}

fn location(port: u16, reconnect: Duration) -> Location {
    Location {
        portal: Address::Tcp { host: "127.0.0.1".into(), port },
        lun: iscsi::Lun::of(1).unwrap(),
        delays: Delays { answer: LONG, reconnect },
        naming: Options::new(),
        name: format!("iscsi://127.0.0.1:{port}/iqn.disk/1"),
    }
}

/// A listener on a port of its own.
async fn bound() -> (Listener, u16) {
    let listener = Listener::bind_tcp("127.0.0.1", 0).await.unwrap().remove(0);
    let Some(Address::Tcp { port, .. }) = listener.local_addr().cloned() else { unreachable!() };
    (listener, port)
}

async fn connect_with(port: u16, patience: Patience, reconnect: Duration) -> Result<IscsiDriver> {
    IscsiDriver::connect(location(port, reconnect), profile(), patience).await
}

/// A driver that does not connect again.
async fn connect(port: u16, patience: Patience) -> Result<IscsiDriver> {
    connect_with(port, patience, Duration::ZERO).await
}

/// A driver at a target with these rules.
async fn at(rules: Rules) -> (Arc<Disk>, IscsiDriver) {
    let (listener, port) = bound().await;
    let disk = Disk::new(rules);
    rt::spawn(disk.clone().serve(listener)).detach();
    let driver = connect(port, patient()).await.unwrap();
    (disk, driver)
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

async fn read(driver: &IscsiDriver, offset: u64, len: usize) -> Result<Vec<u8>> {
    let (buf, result) = driver.read(offset, BufMut::with_len(len)).await;
    result.map(|()| buf.to_vec())
}

async fn write(driver: &IscsiDriver, offset: u64, data: &[u8]) -> Result<()> {
    driver.write(offset, Buf::from_slice(data), Request::GUEST).await
}
