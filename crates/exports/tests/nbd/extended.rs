//! What only extended headers can say: 64-bit lengths, and payloads where none belong.

use crate::world::{Client, SIZE, World, run};
use nbd::client::{Body, Outcome};
use nbd::{Command, CommandFlags, ErrorCode, ExtentFlags, Headers, Request, TransmissionFlags, limits};
use std::time::Duration;

const PAYLOAD: CommandFlags = CommandFlags::PAYLOAD_LEN;

/// Sends a request as it stands and receives its reply; `None` when the server has hung up instead.
async fn answer(client: &Client, request: Request, payload: &[u8]) -> Option<Outcome> {
    client.send(&request, payload).await;
    // What a filter asks about stands in its payload.
    let filters = request.command == Command::BLOCK_STATUS && request.flags.contains(PAYLOAD);
    let length = payload.first_chunk().filter(|_| filters).map(|length| u64::from_be_bytes(*length));
    let meant = Request { length: length.unwrap_or(request.length), ..request };
    let mut first = [0];
    match client.stream.recv(&mut first).await {
        Ok(1) => Some(client.receive_behind(&meant, &first).await.0),
        _ => None,
    }
}

fn code(outcome: Option<Outcome>) -> Option<ErrorCode> {
    match outcome? {
        Outcome::Done(_) => Some(ErrorCode::OK),
        Outcome::Failed { code, .. } => Some(code),
    }
}

async fn lives(client: &mut Client) {
    let read = client.request(Command::READ, 0, 512);
    assert_eq!(
        code(answer(client, read, &[]).await),
        Some(ErrorCode::OK),
        "requests and replies are out of step"
    );
}

#[test]
fn a_payload_where_none_belongs_is_skipped_and_one_that_is_too_long_ends_the_connection() {
    run(async |world| {
        world.serve_disk().await;
        for command in (0..10).map(Command).filter(|command| *command != Command::DISC) {
            for len in [1, 4096, 300_000] {
                let mut client = world.client("disk").await;
                let request = Request { flags: PAYLOAD, ..client.request(command, 0, len) };
                let expected = if command == Command::WRITE { ErrorCode::OK } else { ErrorCode::EINVAL };
                let outcome = answer(&client, request, &vec![7; len as usize]).await;
                assert_eq!(code(outcome), Some(expected), "{command} with {len} bytes");
                lives(&mut client).await;
            }
            for len in [u64::from(limits::PAYLOAD) + 1, u64::MAX] {
                let mut client = world.client("disk").await;
                let request = Request { flags: PAYLOAD, ..client.request(command, 0, len) };
                assert_eq!(code(answer(&client, request, &[]).await), None, "{command} with {len} bytes");
            }
        }
        // The flag means nothing where headers are compact, but a write's data are there all the same.
        let mut client = world.client_with("disk", Headers::Structured).await;
        let request = Request { flags: PAYLOAD, ..client.request(Command::WRITE, 0, 16) };
        assert_eq!(code(answer(&client, request, &[7; 16]).await), Some(ErrorCode::EINVAL));
        let request = Request { flags: PAYLOAD, ..client.request(Command::READ, 0, 16) };
        assert_eq!(code(answer(&client, request, &[]).await), Some(ErrorCode::EINVAL));
        lives(&mut client).await;
    });
}

#[test]
fn a_write_without_the_payload_flag_is_served() {
    run(async |world| {
        world.serve_disk().await;
        let mut client = world.client("disk").await;
        let request = client.request(Command::WRITE, 100, 5);
        assert_eq!(code(answer(&client, request, b"hello").await), Some(ErrorCode::OK));
        assert_eq!(client.ask(Command::READ, 100, 5, &[]).await.1, b"hello");
    });
}

#[test]
fn block_status_can_be_limited_to_contexts_that_were_selected() {
    run(async |world| {
        world.serve_disk().await;
        let mut client = world.client("disk").await;
        assert!(client.export.flags.contains(TransmissionFlags::BLOCK_STATUS_PAYLOAD));
        client.ask(Command::WRITE, 1 << 20, 65536, &[1; 65536]).await;
        let hole = ExtentFlags::HOLE | ExtentFlags::ZERO;
        let filter = |length: u64, contexts: &[u32]| {
            let mut payload = length.to_be_bytes().to_vec();
            contexts.iter().for_each(|context| payload.extend(context.to_be_bytes()));
            payload
        };
        let mut ask = async |flags, payload: Vec<u8>| {
            let request = client.request(Command::BLOCK_STATUS, 4096, payload.len() as u64);
            let outcome = answer(&client, Request { flags: PAYLOAD | flags, ..request }, &payload).await;
            lives(&mut client).await;
            outcome
        };
        let first = ((1 << 20) - 4096, hole);
        for (flags, expected) in [
            (CommandFlags::REQ_ONE, vec![first]),
            (CommandFlags::NONE, vec![first, (65536, ExtentFlags::NONE), (4096, hole)]),
        ] {
            let outcome = ask(flags, filter((1 << 20) + 65536, &[0])).await;
            assert_eq!(outcome, Some(Outcome::Done(expected)));
        }
        for payload in [
            filter(4096, &[]),
            filter(4096, &[0, 0]),
            filter(4096, &[1]),
            filter(4096, &[0; 1000]),
            filter(0, &[0]),
            filter(SIZE as u64, &[0]),
            filter(u64::MAX, &[0]),
            filter(4096, &[0])[..11].to_vec(),
            vec![0; 3],
            Vec::new(),
        ] {
            let outcome = ask(CommandFlags::NONE, payload.clone()).await;
            assert_eq!(code(outcome), Some(ErrorCode::EINVAL), "{payload:?}");
        }
    });
}

/// Serves a disk of 2^62 bytes, each request to which takes a while.
async fn serve_vast(world: &World, latency_ns: u64) -> std::sync::Arc<exports::NbdServer> {
    let server = world.start(exports::ServerOptions::default()).await;
    world.slow(latency_ns, 1 << 62).await;
    world.export("slow", true).await;
    server
}

#[test]
fn requests_without_data_can_be_as_long_as_the_disk() {
    run(async |world| {
        serve_vast(world, 0).await;
        let mut client = world.client("slow").await;
        let tebibytes = 1 << 45;
        for command in [Command::WRITE_ZEROES, Command::TRIM] {
            let (outcome, _) = client.ask(command, 1 << 50, tebibytes, &[]).await;
            assert_eq!(outcome, Outcome::Done(Vec::new()), "{command}");
            let (outcome, _) = client.ask(command, 1, 1 << 62, &[]).await;
            assert!(matches!(outcome, Outcome::Failed { .. }), "{command}");
        }
        let (outcome, _) = client.ask(Command::BLOCK_STATUS, 0, 1 << 62, &[]).await;
        let Outcome::Done(extents) = outcome else { panic!("{outcome:?}") };
        assert_eq!(extents.iter().map(|(len, _)| len).sum::<u64>(), 1 << 62);
        for command in [Command::READ, Command::CACHE] {
            let (outcome, _) = client.ask(command, 0, 1 << 40, &[]).await;
            assert_eq!(code(Some(outcome)), Some(ErrorCode::EOVERFLOW), "{command}");
        }
    });
}

#[test]
fn a_server_stops_although_a_request_would_take_for_ever() {
    for command in [Command::WRITE_ZEROES, Command::TRIM, Command::CACHE] {
        run(async |world| {
            let server = serve_vast(world, 10_000_000).await;
            let mut client = world.client("slow").await;
            let length = if command == Command::CACHE { u64::from(u32::MAX) } else { 1 << 62 };
            let request = client.request(command, 0, length);
            client.send(&request, &[]).await;
            rt::sleep(Duration::from_millis(50)).await;
            let stopped = rt::timeout(Duration::from_secs(120), server.stop()).await;
            assert!(stopped.is_ok(), "{command} goes on although its client has left");
        });
    }
}

/// Numbers that look random, the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    /// As likely small as large.
    fn any(&mut self) -> u64 {
        let low = self.below(1 << 31) << 33 | self.below(1 << 31) << 2 | self.below(4);
        low >> self.below(64)
    }
}

#[test]
fn every_request_is_answered_under_its_cookie_and_the_stream_stays_in_step() {
    run(async |world| {
        world.serve_disk().await;
        let mut dice = Dice(22);
        let mut client = world.client("disk").await;
        for _ in 0..1000 {
            let flags = CommandFlags((dice.below(64) & dice.below(64)) as u16);
            let command = Command(dice.below(9) as u16);
            let offset = if dice.below(2) == 0 { dice.any() } else { dice.below(SIZE as u64) };
            let length = dice.any();
            if command == Command::DISC {
                continue;
            }
            let request = Request { flags, offset, ..client.request(command, offset, length) };
            let payload = request.payload(Headers::Extended);
            let told = payload.min(u64::from(limits::PAYLOAD)) as usize;
            if payload > u64::from(limits::PAYLOAD) {
                assert_eq!(code(answer(&client, request, &[]).await), None, "{request:?}");
                client = world.client("disk").await;
                continue;
            }
            if told > 1 << 20 {
                continue; // long ones have a test of their own
            }
            assert!(
                answer(&client, request, &vec![dice.below(256) as u8; told]).await.is_some(),
                "{request:?}"
            );
        }
        lives(&mut client).await;
        let header = client.request(Command::READ, 0, 512).encode(Headers::Structured);
        client.stream.send_all(&header).await.unwrap();
        assert!(client.is_closed().await, "a compact request on an extended connection");
        let mut client = world.client("disk").await;
        let request = client.request(Command::TRIM, 4096, 512);
        client.send(&request, &[]).await;
        let header = client.header().await;
        assert_eq!((header.offset, header.body, header.done), (Some(4096), Body::None, true));
    });
}
