//! Both ends in this process: what is agreed on, what is refused and why, and what passes through a channel.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

mod authority;
mod passes;
mod public;
mod refused;

use authority::Folder;
use block::BlockError;
use rt::net::Stream;
use std::sync::Arc;
use tls::{Channel, Credentials, Endpoint, Identity, PskCredentials, Settings, TlsError, X509Credentials};

/// Runs on a runtime of its own.
fn run<T>(test: impl AsyncFnOnce() -> T) -> T {
    let runtime = rt::Runtime::new(rt::Config { workers: Some(2), ..rt::Config::default() }).unwrap();
    runtime.block_on(async { test().await })
}

fn settings(folder: &Folder, endpoint: Endpoint, priority: Option<&str>) -> Settings {
    Settings {
        endpoint,
        dir: Some(folder.path().to_owned()),
        verify_peer: true,
        priority: priority.map(str::to_owned),
    }
}

/// Certificates of a folder, which are not judged when they are read.
fn x509(folder: &Folder, endpoint: Endpoint) -> Credentials {
    let settings = settings(folder, endpoint, None);
    Credentials::X509(Arc::new(X509Credentials::load(&settings, false, None).unwrap()))
}

/// Certificates of a folder as they are read by default.
fn judged(folder: &Folder, endpoint: Endpoint) -> Result<X509Credentials, BlockError> {
    X509Credentials::load(&settings(folder, endpoint, None), true, None)
}

fn psk(folder: &Folder, endpoint: Endpoint, user: Option<&str>) -> Credentials {
    let settings = settings(folder, endpoint, None);
    Credentials::Psk(Arc::new(PskCredentials::load(&settings, user.map(str::to_owned)).unwrap()))
}

/// What both ends say of a handshake, and the channels.
struct Met {
    server: Result<Option<Identity>, TlsError>,
    client: Result<(), TlsError>,
    channels: (Channel, Channel),
}

/// Lets a client and a server meet.
async fn meet(server: &Credentials, client: &Credentials, hostname: Option<&str>) -> Met {
    let (a, b) = Stream::pair().unwrap();
    let (a, b) = (Channel::from(a), Channel::from(b));
    let (server, client) = futures_util::future::join(
        async {
            let accepted = tls::accept(&a, server, None).await;
            if accepted.is_err() {
                a.shutdown().unwrap();
            }
            accepted
        },
        async {
            let connected = tls::connect(&b, client, hostname).await;
            if connected.is_err() {
                b.shutdown().unwrap();
            }
            connected
        },
    )
    .await;
    Met { server, client, channels: (a, b) }
}
