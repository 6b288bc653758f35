//! The commands, one by one and in crowds.

use crate::world::{Client, SIZE, fill, pattern, run};
use nbd::client::Outcome;
use nbd::{Command, CommandFlags, ErrorCode, ExtentFlags, Request, TransmissionFlags};

fn done(answer: &(Outcome, Vec<u8>)) {
    assert_eq!(answer.0, Outcome::Done(Vec::new()));
}

fn failed(answer: (Outcome, Vec<u8>), expected: ErrorCode) {
    let Outcome::Failed { code, message } = answer.0 else { panic!("it succeeded") };
    assert_eq!(code, expected, "{message}");
    assert!(!message.is_empty(), "the error has no words");
}

#[test]
fn every_command_does_what_it_says() {
    run(async |world| {
        world.serve_disk().await;
        let mut client = world.client("disk").await;
        for (offset, len) in [(0, 1), (511, 4098), (5, 300_000), (1 << 20, 3 << 20), (SIZE - 7, 7)] {
            let data = pattern(offset, len);
            done(&client.ask(Command::WRITE, offset as u64, len as u32, &data).await);
            let (outcome, read) = client.ask(Command::READ, offset as u64, len as u32, &[]).await;
            assert_eq!(outcome, Outcome::Done(Vec::new()));
            assert!(read == data, "{len} bytes at {offset}");
        }
        done(&client.ask(Command::WRITE_ZEROES, 1 << 20, 1 << 20, &[]).await);
        let (_, zeroes) = client.ask(Command::READ, 1 << 20, 1 << 20, &[]).await;
        assert!(zeroes.iter().all(|byte| *byte == 0));
        done(&client.ask(Command::TRIM, 2 << 20, 65536, &[]).await);
        done(&client.ask(Command::CACHE, 0, SIZE as u32, &[]).await);
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
    fn request_one(&mut self, offset: u64, length: u32) -> Request {
        Request { flags: CommandFlags::REQ_ONE, ..self.request(Command::BLOCK_STATUS, offset, length) }
    }
}

#[test]
fn block_status_tells_data_from_holes() {
    run(async |world| {
        world.serve_disk().await;
        let mut client = world.client("disk").await;
        client.ask(Command::WRITE, 1 << 20, 65536, &[1; 65536]).await;
        let hole = ExtentFlags::HOLE | ExtentFlags::ZERO;
        let (outcome, _) = client.ask(Command::BLOCK_STATUS, 0, SIZE as u32, &[]).await;
        let whole = [(1 << 20, hole), (65536, ExtentFlags::NONE), (SIZE as u32 - (1 << 20) - 65536, hole)];
        assert_eq!(outcome, Outcome::Done(whole.to_vec()));
        let one = client.request_one((1 << 20) - 100, 300);
        client.send(&one, &[]).await;
        assert_eq!(client.receive(&one).await.0, Outcome::Done(vec![(100, hole)]));
    });
}

#[test]
fn what_makes_no_sense_is_refused_and_the_connection_lives() {
    run(async |world| {
        world.serve_disk().await;
        let mut client = world.client("disk").await;
        let end = SIZE as u64;
        failed(client.ask(Command::READ, end, 1, &[]).await, ErrorCode::EINVAL);
        failed(client.ask(Command::READ, u64::MAX, 512, &[]).await, ErrorCode::EINVAL);
        failed(client.ask(Command::WRITE, end - 1, 2, b"xy").await, ErrorCode::ENOSPC);
        failed(client.ask(Command::WRITE_ZEROES, 0, u32::MAX, &[]).await, ErrorCode::ENOSPC);
        failed(client.ask(Command::TRIM, end, 512, &[]).await, ErrorCode::EINVAL);
        failed(client.ask(Command(77), 0, 512, &[]).await, ErrorCode::EINVAL);
        let large = vec![5; nbd::limits::PAYLOAD as usize + 1];
        failed(client.ask(Command::WRITE, 0, large.len() as u32, &large).await, ErrorCode::EINVAL);
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
fn a_crowd_of_requests_that_come_in_pieces_of_any_size_is_answered_in_full() {
    run(async |world| {
        fill_and_serve(world).await;
        for piece in [1, 7, 28, 4096, 100_000] {
            let client = world.client("disk").await;
            let mut bytes = Vec::new();
            let count = 300u64;
            for n in 0..count {
                let (offset, length) = (n * 4096 % SIZE as u64, 512 + n as u32);
                // Every third one writes what is there already.
                let write = n % 3 == 0;
                let command = if write { Command::WRITE } else { Command::READ };
                let request = Request { flags: CommandFlags::NONE, command, cookie: n, offset, length };
                bytes.extend(request.encode());
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
    match client.header().await {
        nbd::client::Header::Simple { cookie, error } => {
            assert!(error.is_ok());
            (cookie, None)
        }
        nbd::client::Header::Data { cookie, offset, length, done } => {
            assert!(done);
            let mut data = vec![0; length as usize];
            client.stream.recv_exact(&mut data).await.unwrap();
            (cookie, Some((offset, data)))
        }
        nbd::client::Header::Hole { cookie, offset, length, done } => {
            assert!(done);
            (cookie, Some((offset, vec![0; length as usize])))
        }
        other => panic!("{other:?}"),
    }
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
            bytes.extend(client.request(Command::READ, 0, 4096).encode());
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
fn zeroes_leave_as_holes_unless_one_chunk_was_asked_for() {
    use nbd::client::Header;
    run(async |world| {
        world.serve_disk().await;
        let mut client = world.client("disk").await;
        client.ask(Command::WRITE, 1 << 16, 4, b"data").await;
        // Both ways of reading: inline, and in a task.
        for length in [3 << 16, 3 << 20] {
            let (outcome, data) = client.ask(Command::READ, 0, length, &[]).await;
            assert!(matches!(outcome, Outcome::Done(_)));
            assert_eq!(&data[1 << 16..][..4], b"data");
            assert_eq!(data.iter().filter(|&&byte| byte != 0).count(), 4);
            let request = client.request(Command::READ, 0, length);
            client.send(&request, &[]).await;
            assert!(matches!(
                client.header().await,
                Header::Hole { offset: 0, length: 65536, done: false, .. }
            ));
            let data = client.header().await;
            assert!(matches!(data, Header::Data { offset: 65536, length: 65536, done: false, .. }));
            client.stream.recv_exact(&mut vec![0; 65536]).await.unwrap();
            let left = length - 2 * 65536;
            let hole = client.header().await;
            assert!(
                matches!(hole, Header::Hole { offset: 131_072, length, done: true, .. } if length == left)
            );
            let whole =
                nbd::Request { flags: nbd::CommandFlags::DF, ..client.request(Command::READ, 0, length) };
            client.send(&whole, &[]).await;
            let data = client.header().await;
            assert!(matches!(data, Header::Data { offset: 0, done: true, length: all, .. } if all == length));
            client.stream.recv_exact(&mut vec![0; length as usize]).await.unwrap();
        }
        let request = client.request(Command::READ, 1 << 20, 512);
        client.send(&request, &[]).await;
        assert!(matches!(client.header().await, Header::Hole { length: 512, done: true, .. }));
    });
}
