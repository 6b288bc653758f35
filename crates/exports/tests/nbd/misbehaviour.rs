//! Clients that are slow, silent, greedy or gone.

use crate::world::{Client, run};
use exports::ServerOptions;
use nbd::client::Body;
use nbd::{Command, Headers, Request};
use std::time::Duration;

fn short() -> Duration {
    Duration::from_millis(150)
}

#[test]
fn a_silent_client_is_disconnected() {
    run(async |world| {
        let options = ServerOptions { handshake_deadline: Some(short()), ..ServerOptions::default() };
        world.start(options).await;
        world.disk(false).await;
        world.export("disk", true).await;
        let silent = world.connect().await;
        let mut buf = [0; 64];
        assert_eq!(silent.recv(&mut buf).await.unwrap(), 18);
        assert_eq!(silent.recv(&mut buf).await.unwrap(), 0);
        // The deadline is for the handshake only, which on a busy machine may take longer itself.
        let mut client = loop {
            if let Some(client) = Client::negotiate(world.connect().await, "disk", Headers::Extended).await {
                break client;
            }
        };
        rt::sleep(short() * 2).await;
        client.ask(Command::READ, 0, 512, &[]).await;
    });
}

#[test]
fn a_client_that_negotiates_without_end_is_disconnected_at_the_deadline_and_blocks_no_other() {
    run(async |world| {
        let options = ServerOptions { handshake_deadline: Some(short()), ..ServerOptions::default() };
        world.start(options).await;
        world.disk(false).await;
        world.export("disk", true).await;
        let flood = || async {
            let stream = std::sync::Arc::new(world.connect().await);
            let asking = stream.clone();
            let mut options = 3u32.to_be_bytes().to_vec();
            for _ in 0..1000 {
                options.extend(nbd::OPTION_MAGIC.to_be_bytes());
                options.extend([0, 0, 0, 99, 0, 0, 0, 0]);
            }
            let asking = rt::spawn(async move {
                while asking.send_all(&options).await.is_ok() {
                    options.drain(..options.len() % 16);
                }
            });
            let mut buf = vec![0; 1 << 16];
            while matches!(stream.recv(&mut buf).await, Ok(1..)) {}
            asking.await.unwrap();
        };
        let floods = futures_util::future::join(flood(), flood());
        let served = async {
            loop {
                if let Some(mut client) =
                    Client::negotiate(world.connect().await, "disk", Headers::Extended).await
                {
                    return client.ask(Command::READ, 0, 512, &[]).await;
                }
            }
        };
        let all = futures_util::future::join(floods, served);
        rt::timeout(Duration::from_secs(120), all).await.expect("all of them end");
    });
}

#[test]
fn a_client_that_takes_no_replies_is_not_read_from_for_ever_and_harms_no_other() {
    run(async |world| {
        world.serve_disk().await;
        let greedy = world.client("disk").await;
        let mut asked = 0u64;
        let mut idle = 0;
        // Asks until the server has not taken a byte for a while.
        while idle < 20 {
            let request = read(asked, 1 << 20).encode(Headers::Extended);
            match greedy.stream.try_send(&request) {
                Ok(n) => {
                    assert_eq!(n, request.len(), "a request is sent whole or not at all here");
                    (asked, idle) = (asked + 1, 0);
                }
                Err(_) => {
                    rt::sleep(Duration::from_millis(10)).await;
                    idle += 1;
                }
            }
            assert!(asked < 100_000, "the server takes requests without end");
        }
        let mut other = world.client("disk").await;
        other.ask(Command::WRITE, 0, 4, b"here").await;
        // The replies arrive when the client reads again.
        let mut data = vec![0; 1 << 20];
        for _ in 0..20 {
            assert!(matches!(greedy.header().await.body, Body::Data { length: 0x10_0000, .. }));
            greedy.stream.recv_exact(&mut data).await.unwrap();
        }
    });
}

fn read(cookie: u64, length: u64) -> Request {
    Request { flags: nbd::CommandFlags::DF, command: Command::READ, cookie, offset: 0, length }
}

#[test]
fn bytes_in_flight_are_bounded_and_one_large_request_is_served_all_the_same() {
    run(async |world| {
        let options = ServerOptions { bytes_in_flight: 256 << 10, ..ServerOptions::default() };
        world.start(options).await;
        world.slow(20_000_000, 1 << 30).await;
        world.export("slow", true).await;
        let mut client = world.client("slow").await;
        let started = std::time::Instant::now();
        // Ten reads of 100 KiB, at most two at a time: five rounds of 20 ms.
        for cookie in 0..10 {
            client.send(&read(cookie, 100 << 10), &[]).await;
        }
        for _ in 0..10 {
            assert!(matches!(client.header().await.body, Body::Data { .. }));
            client.stream.recv_exact(&mut vec![0; 100 << 10]).await.unwrap();
        }
        assert!(started.elapsed() >= Duration::from_millis(90), "{:?}", started.elapsed());
        let large = vec![1; 8 << 20];
        client.ask(Command::WRITE, 0, large.len() as u64, &large).await;
        assert_eq!(client.ask(Command::READ, 0, 8 << 20, &[]).await.1.len(), 8 << 20);
    });
}

#[test]
fn garbage_ends_its_own_connection_only() {
    run(async |world| {
        world.serve_disk().await;
        let mut good = world.client("disk").await;
        let bad = world.client("disk").await;
        bad.stream.send_all(&[0x5a; 64]).await.unwrap();
        assert!(bad.is_closed().await);
        for (headers, length) in [
            (Headers::Structured, u64::from(u32::MAX)),
            (Headers::Extended, u64::MAX),
            (Headers::Extended, u64::from(nbd::limits::PAYLOAD) + 1),
        ] {
            let endless = world.client_with("disk", headers).await;
            endless.send(&Request { command: Command::WRITE, ..read(1, length) }, &[]).await;
            assert!(endless.is_closed().await, "{headers:?} {length}");
        }
        let stranger = world.connect().await;
        stranger.send_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let mut buf = [0; 64];
        while matches!(stranger.recv(&mut buf).await, Ok(1..)) {}
        good.ask(Command::READ, 0, 512, &[]).await;
    });
}

#[test]
fn a_client_that_vanishes_in_the_middle_of_a_write_leaves_nothing_half_done_behind() {
    run(async |world| {
        let server = world.serve_disk().await;
        for length in [4096, 2 << 20] {
            let mut client = world.client("disk").await;
            let request = client.request(Command::WRITE, 0, length);
            client.send(&request, &vec![7; length as usize - 1]).await;
            drop(client);
        }
        while server.client_count("disk") > 0 {
            rt::sleep(Duration::from_millis(5)).await;
        }
        let mut other = world.client("disk").await;
        assert!(other.ask(Command::READ, 0, 4096, &[]).await.1.iter().all(|byte| *byte == 0));
    });
}

#[test]
fn a_client_above_the_limit_waits_until_another_leaves() {
    run(async |world| {
        let options = ServerOptions { max_connections: 2, ..ServerOptions::default() };
        world.start(options).await;
        world.disk(false).await;
        world.export("disk", true).await;
        let first = world.client("disk").await;
        let _second = world.client("disk").await;
        let third = world.connect().await;
        let greeted = rt::timeout(short(), third.recv(&mut [0; 18])).await;
        assert!(greeted.is_err(), "the third client was let in");
        drop(first);
        let third = Client::negotiate(third, "disk", Headers::Extended).await.expect("there is room now");
        drop(third);
    });
}

#[test]
fn a_client_that_connects_while_the_server_holds_is_let_in_afterwards() {
    run(async |world| {
        let server = world.start(ServerOptions::default()).await;
        server.hold();
        let early = world.connect().await;
        assert!(rt::timeout(short(), early.recv(&mut [0; 18])).await.is_err());
        world.disk(false).await;
        world.export("disk", true).await;
        server.let_in();
        Client::negotiate(early, "disk", Headers::Extended).await.expect("the export is there by now");
    });
}

#[test]
fn the_last_client_is_noticed_only_if_it_used_an_export() {
    run(async |world| {
        let server = world.serve_disk().await;
        drop(world.connect().await);
        assert!(rt::timeout(short(), server.last_client_left()).await.is_err());
        let (a, b) = (world.client("disk").await, world.client("disk").await);
        drop(a);
        assert!(rt::timeout(short(), server.last_client_left()).await.is_err());
        drop(b);
        server.last_client_left().await;
    });
}

/// All bytes of a client that connects, uses every option and command, and disconnects.
fn conversation(headers: Headers) -> Vec<u8> {
    let option = |code: u32, data: &[u8]| {
        let parts: [&[u8]; 4] =
            [&nbd::OPTION_MAGIC.to_be_bytes(), &code.to_be_bytes(), &(data.len() as u32).to_be_bytes(), data];
        parts.concat()
    };
    let mut said = 3u32.to_be_bytes().to_vec();
    said.extend(option(nbd::OptionCode::LIST.0, &[]));
    said.extend(option(nbd::OptionCode::STRUCTURED_REPLY.0, &[]));
    if headers.extended() {
        said.extend(option(nbd::OptionCode::EXTENDED_HEADERS.0, &[]));
    }
    let query = b"\0\0\0\x04disk\0\0\0\x01\0\0\0\x0fbase:allocation";
    said.extend(option(nbd::OptionCode::SET_META_CONTEXT.0, query));
    said.extend(option(nbd::OptionCode::GO.0, b"\0\0\0\x04disk\0\x01\0\x03"));
    for (command, length) in [
        (Command::READ, 512),
        (Command::WRITE, 16),
        (Command::WRITE_ZEROES, 4096),
        (Command::TRIM, 4096),
        (Command::CACHE, 512),
        (Command::BLOCK_STATUS, 8192),
        (Command::FLUSH, 0),
        (Command(99), 0),
        (Command::DISC, 0),
    ] {
        let request = Request { command, ..read(7, length) };
        said.extend_from_slice(&request.encode(headers));
        said.extend(vec![9; request.payload(headers) as usize]);
    }
    said
}

#[test]
fn a_client_that_gets_any_byte_wrong_or_leaves_after_any_byte_is_survived() {
    run(async |world| {
        let server = world.serve_disk().await;
        let whole = [Headers::Structured, Headers::Extended].map(conversation);
        for (said, at) in whole.iter().flat_map(|said| (0..said.len()).map(move |at| (said, at))) {
            let mut variants = vec![said[..at].to_vec()];
            for flip in [0x01, 0x80] {
                let mut wrong = said.clone();
                wrong[at] ^= flip;
                variants.push(wrong);
            }
            for said in variants {
                let client = world.connect().await;
                // The server may close the connection before it has received everything.
                let _ = client.send_all(&said).await;
                let _ = client.shutdown_write();
                let mut buf = vec![0; 1 << 16];
                let hears = async { while matches!(client.recv(&mut buf).await, Ok(1..)) {} };
                rt::timeout(Duration::from_secs(120), hears).await.expect("the server ends the connection");
            }
        }
        while server.client_count("disk") > 0 {
            rt::sleep(Duration::from_millis(1)).await;
        }
        world.client("disk").await.ask(Command::READ, 0, 512, &[]).await;
    });
}
