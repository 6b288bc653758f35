//! The commands, one by one and many at once.

use crate::world::{Client, SIZE, World, fill, pattern, run};
use nbd::client::{Body, Outcome};
use nbd::{Command, CommandFlags, ErrorCode, ExtentFlags, Headers, Request, TransmissionFlags};

const CHUNKED: [Headers; 2] = [Headers::Structured, Headers::Extended];
const ALL: [Headers; 3] = [Headers::Simple, Headers::Structured, Headers::Extended];

fn done(answer: &(Outcome, Vec<u8>)) {
    assert_eq!(answer.0, Outcome::Done(Vec::new()));
}

fn failed(answer: (Outcome, Vec<u8>), expected: ErrorCode) {
    let Outcome::Failed { code, message } = answer.0 else { panic!("it succeeded") };
    assert_eq!(code, expected, "{message}");
    assert!(!message.is_empty(), "the error has no message");
}

/// Runs a test with a client of each kind.
fn run_with_each(chunked: bool, test: impl AsyncFn(&World, Client)) {
    for headers in ALL.into_iter().filter(|headers| headers.chunked() || !chunked) {
        run(async |world| {
            world.serve_disk().await;
            let client = world.client_with("disk", headers).await;
            test(world, client).await;
        });
    }
}

#[test]
fn every_command_does_what_it_says() {
    run_with_each(false, async |world, mut client| {
        for (offset, len) in [(0, 1), (511, 4098), (5, 300_000), (1 << 20, 3 << 20), (SIZE - 7, 7)] {
            let data = pattern(offset, len);
            done(&client.ask(Command::WRITE, offset as u64, len as u64, &data).await);
            let (outcome, read) = client.ask(Command::READ, offset as u64, len as u64, &[]).await;
            assert_eq!(outcome, Outcome::Done(Vec::new()));
            assert!(read == data, "{len} bytes at {offset}");
        }
        done(&client.ask(Command::WRITE_ZEROES, 1 << 20, 1 << 20, &[]).await);
        let (_, zeroes) = client.ask(Command::READ, 1 << 20, 1 << 20, &[]).await;
        assert!(zeroes.iter().all(|byte| *byte == 0));
        done(&client.ask(Command::TRIM, 2 << 20, 65536, &[]).await);
        done(&client.ask(Command::CACHE, 0, SIZE as u64, &[]).await);
        done(&client.ask(Command::FLUSH, 0, 0, &[]).await);
        done(&client.ask(Command::READ, 0, 0, &[]).await);
        done(&client.ask(Command::WRITE, 0, 0, &[]).await);
        let mut durable = client.request(Command::WRITE, 100, 5);
        durable.flags = CommandFlags::FUA;
        client.send(&durable, b"hello").await;
        done(&client.receive(&durable).await);
        assert_eq!(client.ask(Command::READ, 100, 5, &[]).await.1, b"hello");
        let goodbye = client.request(Command::DISC, 0, 0);
        client.send(&goodbye, &[]).await;
        assert!(client.is_closed().await);
        let file = std::fs::read(world.image()).unwrap();
        assert_eq!(file[100..105], *b"hello");
    });
}

impl Client {
    fn request_one(&mut self, offset: u64, length: u64) -> Request {
        Request { flags: CommandFlags::REQ_ONE, ..self.request(Command::BLOCK_STATUS, offset, length) }
    }
}

#[test]
fn block_status_tells_data_from_holes() {
    run_with_each(true, async |_, mut client| {
        client.ask(Command::WRITE, 1 << 20, 65536, &[1; 65536]).await;
        let hole = ExtentFlags::HOLE | ExtentFlags::ZERO;
        let (outcome, _) = client.ask(Command::BLOCK_STATUS, 0, SIZE as u64, &[]).await;
        let whole = [(1 << 20, hole), (65536, ExtentFlags::NONE), (SIZE as u64 - (1 << 20) - 65536, hole)];
        assert_eq!(outcome, Outcome::Done(whole.to_vec()));
        let one = client.request_one((1 << 20) - 100, 300);
        client.send(&one, &[]).await;
        assert_eq!(client.receive(&one).await.0, Outcome::Done(vec![(100, hole)]));
    });
}

#[test]
fn extents_are_multiples_of_the_block_that_the_client_was_told() {
    run(async |world| {
        std::fs::write(world.image(), vec![1; 70_000 + 100]).unwrap();
        world.disk(false).await;
        let server = world.start(exports::ServerOptions::default()).await;
        let node = world.graph.node("disk").unwrap();
        let request =
            block::BackendRequest { label: "test".into(), node, perms: block::Perms::READER, pinned: false };
        let backend = world.graph.attach(request).await.unwrap();
        let size = backend.length();
        assert_eq!(size, 70_144);
        for (name, minimum_block) in [("bytes", 1), ("sectors", 512), ("pages", 4096)] {
            let offered = server.add(exports::NbdExportSpec {
                allocation_depth: false,
                name: name.to_owned(),
                description: String::new(),
                backend: backend.clone(),
                writable: false,
                writethrough: false,
                minimum_block,
                multi_conn: true,
                bitmaps: Vec::new(),
            });
            let mut client = world.client(name).await;
            let asked = size - size % u64::from(minimum_block);
            let (outcome, _) = client.ask(Command::BLOCK_STATUS, 0, asked, &[]).await;
            let hole = ExtentFlags::HOLE | ExtentFlags::ZERO;
            let expected = match minimum_block {
                1 => vec![(70_100, ExtentFlags::NONE), (44, hole)],
                _ => vec![(asked, ExtentFlags::NONE)],
            };
            assert_eq!(outcome, Outcome::Done(expected), "{name}");
            drop(client);
            offered.unwrap().withdraw().await;
        }
        world.graph.detach(&backend).await.unwrap();
    });
}

#[test]
fn invalid_requests_are_refused_and_the_connection_goes_on() {
    run_with_each(true, async |_, mut client| {
        let end = SIZE as u64;
        failed(client.ask(Command::READ, end, 1, &[]).await, ErrorCode::EINVAL);
        failed(client.ask(Command::READ, u64::MAX, 512, &[]).await, ErrorCode::EINVAL);
        failed(client.ask(Command::WRITE, end - 1, 2, b"xy").await, ErrorCode::ENOSPC);
        failed(client.ask(Command::WRITE_ZEROES, 0, u32::MAX.into(), &[]).await, ErrorCode::ENOSPC);
        failed(client.ask(Command::TRIM, end, 512, &[]).await, ErrorCode::EINVAL);
        failed(client.ask(Command(77), 0, 512, &[]).await, ErrorCode::EINVAL);
        // A compact client can't know the bound of payloads from its headers; an extended one is disconnected.
        if !client.export.headers.extended() {
            let large = vec![5; nbd::limits::PAYLOAD as usize + 1];
            failed(client.ask(Command::WRITE, 0, large.len() as u64, &large).await, ErrorCode::EINVAL);
        }
        let mut odd = client.request(Command::READ, 0, 512);
        odd.flags = CommandFlags::NO_HOLE;
        client.send(&odd, &[]).await;
        failed(client.receive(&odd).await, ErrorCode::EINVAL);
        done(&client.ask(Command::WRITE, 0, 4, b"fine").await);
        assert_eq!(client.ask(Command::READ, 0, 4, &[]).await.1, b"fine");
    });
}

#[test]
fn a_read_only_export_refuses_to_be_changed() {
    run(async |world| {
        world.start(exports::ServerOptions::default()).await;
        world.disk(true).await;
        world.export("disk", false).await;
        let mut client = world.client("disk").await;
        assert!(client.export.flags.contains(TransmissionFlags::READ_ONLY));
        failed(client.ask(Command::WRITE, 0, 4, b"nope").await, ErrorCode::EPERM);
        failed(client.ask(Command::WRITE, 0, 500_000, &[1; 500_000]).await, ErrorCode::EPERM);
        failed(client.ask(Command::TRIM, 0, 512, &[]).await, ErrorCode::EPERM);
        failed(client.ask(Command::WRITE_ZEROES, 0, 512, &[]).await, ErrorCode::EPERM);
        done(&client.ask(Command::FLUSH, 0, 0, &[]).await);
        done(&client.ask(Command::READ, 0, 512, &[]).await);
    });
}

#[test]
fn many_requests_that_arrive_in_pieces_of_any_size_are_all_answered() {
    run(async |world| {
        fill_and_serve(world).await;
        let pieces = [1, 7, 28, 32, 4096, 100_000];
        for (piece, headers) in pieces.into_iter().flat_map(|piece| CHUNKED.map(|headers| (piece, headers))) {
            let client = world.client_with("disk", headers).await;
            let mut bytes = Vec::new();
            let count = 300u64;
            for n in 0..count {
                let (offset, length) = (n * 4096 % SIZE as u64, 512 + n);
                // Every third one writes what is there already.
                let write = n % 3 == 0;
                let command = if write { Command::WRITE } else { Command::READ };
                let request = Request { flags: CommandFlags::NONE, command, cookie: n, offset, length };
                bytes.extend_from_slice(&request.encode(headers));
                if write {
                    bytes.extend(pattern(offset as usize, length as usize));
                }
            }
            let sending = async {
                for piece in bytes.chunks(piece) {
                    client.stream.send_all(piece).await.unwrap();
                }
            };
            let receiving = async {
                let mut seen = vec![false; count as usize];
                for _ in 0..count {
                    let (cookie, data) = next_reply(&client).await;
                    assert!(!std::mem::replace(&mut seen[cookie as usize], true), "one reply each");
                    if let Some((offset, data)) = data {
                        assert!(data == pattern(offset as usize, data.len()));
                    }
                }
            };
            futures_util::future::join(sending, receiving).await;
        }
        assert!(std::fs::read(world.image()).unwrap() == pattern(0, SIZE));
    });
}

async fn fill_and_serve(world: &crate::world::World) {
    fill(&world.image());
    world.serve_disk().await;
}

/// The next reply: its cookie, and offset and data of a read.
async fn next_reply(client: &Client) -> (u64, Option<(u64, Vec<u8>)>) {
    let header = client.header().await;
    assert!(header.done);
    let data = match header.body {
        Body::Simple(error) => {
            assert!(error.is_ok());
            None
        }
        Body::None => None,
        Body::Data { offset, length } => {
            let mut data = vec![0; length as usize];
            client.stream.recv_exact(&mut data).await.unwrap();
            Some((offset, data))
        }
        Body::Hole { offset, length } => Some((offset, vec![0; length as usize])),
        other => panic!("{other:?}"),
    };
    (header.cookie, data)
}

#[test]
fn requests_that_wait_overtake_each_other_and_all_are_answered() {
    run(async |world| {
        world.start(exports::ServerOptions::default()).await;
        world.slow(20_000_000, 1 << 30).await;
        world.export("slow", true).await;
        let mut client = world.client("slow").await;
        let mut bytes = Vec::new();
        for _ in 0..500 {
            let request = client.request(Command::READ, 0, 4096);
            bytes.extend_from_slice(&request.encode(client.export.headers));
        }
        let started = std::time::Instant::now();
        client.stream.send_all(&bytes).await.unwrap();
        for _ in 0..500 {
            next_reply(&client).await;
        }
        // One after the other they would take ten seconds.
        assert!(started.elapsed() < std::time::Duration::from_secs(8), "{:?}", started.elapsed());
    });
}

#[test]
fn zeroes_are_sent_as_holes_unless_one_chunk_was_asked_for() {
    run_with_each(true, async |_, mut client| {
        client.ask(Command::WRITE, 1 << 16, 4, b"data").await;
        // Both ways of reading: inline, and in a task.
        for length in [3u32 << 16, 3 << 20] {
            let (outcome, data) = client.ask(Command::READ, 0, length.into(), &[]).await;
            assert!(matches!(outcome, Outcome::Done(_)));
            assert_eq!(&data[1 << 16..][..4], b"data");
            assert_eq!(data.iter().filter(|&&byte| byte != 0).count(), 4);
            let request = client.request(Command::READ, 0, length.into());
            client.send(&request, &[]).await;
            let next = async |done| {
                let header = client.header().await;
                assert_eq!(header.done, done);
                header.body
            };
            assert_eq!(next(false).await, Body::Hole { offset: 0, length: 65536 });
            assert_eq!(next(false).await, Body::Data { offset: 65536, length: 65536 });
            client.stream.recv_exact(&mut vec![0; 65536]).await.unwrap();
            assert_eq!(next(true).await, Body::Hole { offset: 131_072, length: length - 2 * 65536 });
            let whole =
                Request { flags: CommandFlags::DF, ..client.request(Command::READ, 0, length.into()) };
            client.send(&whole, &[]).await;
            assert_eq!(client.header().await.body, Body::Data { offset: 0, length });
            client.stream.recv_exact(&mut vec![0; length as usize]).await.unwrap();
        }
        let request = client.request(Command::READ, 1 << 20, 512);
        client.send(&request, &[]).await;
        assert_eq!(client.header().await.body, Body::Hole { offset: 1 << 20, length: 512 });
    });
}
