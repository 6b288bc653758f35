//! What passes through a channel arrives whole and in order, however it is cut, and however slow either end is.

use crate::authority::{Authority, CLIENT, SERVER};
use crate::{Met, meet, run, settings, x509};
use rt::net::Stream;
use std::io::{self, IoSlice};
use std::sync::Arc;
use tls::{Channel, Credentials, Endpoint, X509Credentials};

const TOTAL: usize = 6 << 20;

/// Numbers that look like chance, always the same.
fn chance(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*state >> 33) as usize
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 7;
    (0..len).map(|_| chance(&mut state) as u8).collect()
}

fn size(state: &mut u64) -> usize {
    let sizes = [1, 5, 100, 4096, (16 << 10) - 1, 16 << 10, (16 << 10) + 1, 70_000, 300_000];
    sizes[chance(state) % sizes.len()]
}

/// Sends all of it in parts of all sizes.
async fn send(channel: &Channel, mut data: &[u8], seed: u64) {
    let mut state = seed;
    while !data.is_empty() {
        let (a, b) = (size(&mut state), size(&mut state));
        let first = &data[..a.min(data.len())];
        let second = &data[first.len()..data.len().min(first.len() + b)];
        match channel.try_send_vectored(&[IoSlice::new(first), IoSlice::new(&[]), IoSlice::new(second)]) {
            Ok(n) => data = &data[n..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => channel.writable().await.unwrap(),
            Err(error) => panic!("{error}"),
        }
    }
    while let Err(error) = channel.try_flush() {
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        channel.writable().await.unwrap();
    }
}

/// Receives so much in buffers of all sizes.
async fn receive(channel: &Channel, len: usize, seed: u64) -> Vec<u8> {
    let (mut data, mut state) = (Vec::new(), seed);
    while data.len() < len {
        let mut buf = vec![0; size(&mut state)];
        let n = channel.recv(&mut buf).await.unwrap();
        assert!(n > 0, "the end after {} bytes", data.len());
        data.extend_from_slice(&buf[..n]);
    }
    data
}

async fn exchange(a: &Channel, b: &Channel) {
    let data = noise(TOTAL);
    let both = futures_util::future::join4(
        send(a, &data, 1),
        receive(b, TOTAL, 2),
        send(b, &data, 3),
        receive(a, TOTAL, 4),
    );
    let ((), at_b, (), at_a) = both.await;
    assert!(at_a == data && at_b == data);
}

#[test]
fn data_pass_in_both_directions_at_once_with_each_cipher_and_without() {
    let authority = Authority::new("good");
    let (at_server, at_client) = (authority.equip(SERVER), authority.equip(CLIENT));
    let client = x509(&at_client, Endpoint::Client);
    for cipher in ["AES-128-GCM", "AES-256-GCM", "CHACHA20-POLY1305"] {
        let priority = format!("NORMAL:-CIPHER-ALL:+{cipher}");
        let settings = settings(&at_server, Endpoint::Server, Some(&priority));
        let server = Credentials::X509(Arc::new(X509Credentials::load(&settings, true, None).unwrap()));
        run(async || {
            let Met { server, client, channels: (a, b) } = meet(&server, &client, Some("disk.example")).await;
            assert!(server.is_ok() && client.is_ok());
            exchange(&a, &b).await;
        });
    }
    run(async || {
        let (a, b) = Stream::pair().unwrap();
        exchange(&a.into(), &b.into()).await;
    });
}

#[test]
fn the_end_is_told_and_what_came_before_it_arrives() {
    let authority = Authority::new("good");
    let server = x509(&authority.equip(SERVER), Endpoint::Server);
    let client = x509(&authority.equip(CLIENT), Endpoint::Client);
    run(async || {
        let Met { channels: (a, b), .. } = meet(&server, &client, Some("disk.example")).await;
        a.send_all(b"last words").await.unwrap();
        a.shutdown_write().unwrap();
        let mut buf = [0; 100];
        assert_eq!(b.recv(&mut buf).await.unwrap(), 10);
        assert_eq!(b.recv(&mut buf).await.unwrap(), 0);
        assert_eq!(b.recv(&mut buf).await.unwrap(), 0);
        b.send_all(b"answer").await.unwrap();
        assert_eq!(a.recv(&mut buf).await.unwrap(), 6);
        b.shutdown().unwrap();
        assert_eq!(a.recv(&mut buf).await.unwrap(), 0);
    });
}
