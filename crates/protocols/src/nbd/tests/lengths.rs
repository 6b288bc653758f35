//! Long ranges: how many requests they are, and how long they may take.

use super::*;

const LARGE: u64 = 8 << 30;

/// What zeroes, a trim and a status of a whole disk come to: the requests that a server with these headers gets.
async fn lengths_asked(socket: &Path, most: Headers) -> Vec<(Command, u64)> {
    let listener = bound(socket).await;
    let server = rt::spawn(async move {
        let guest = greet_at_most(&listener, ALL, most).await;
        let mut asked = Vec::new();
        while let Some((request, _)) = guest.next_request().await {
            if request.command == Command::DISC {
                break;
            }
            let to = guest.reply_to(&request);
            let mut reply = to.success().to_vec();
            if request.command == Command::BLOCK_STATUS {
                reply = to.status(0, 1, true).to_vec();
                reply.extend_from_slice(&to.extent(request.length, ExtentFlags::HOLE | ExtentFlags::ZERO));
            }
            asked.push((request.command, request.length));
            guest.stream.send_all(&reply).await.unwrap();
        }
        asked
    });
    let mut driver = connect(socket).await.unwrap();
    // As if the disk were larger: this server does not look.
    Arc::get_mut(&mut driver.link).unwrap().export.size = LARGE;
    driver.write_zeroes(0, LARGE, block::Request::GUEST).await.unwrap();
    driver.discard(0, LARGE, block::Request::GUEST).await.unwrap();
    let extent = driver.map(0, LARGE, Want::Status).await.unwrap();
    assert!(matches!(extent.kind, ExtentKind::Zero { .. }));
    driver.close().await.unwrap();
    server.await.unwrap()
}

#[test]
fn a_range_of_any_length_is_one_request_where_headers_are_extended() {
    run(async |socket: &Path| {
        let whole = [Command::WRITE_ZEROES, Command::TRIM, Command::BLOCK_STATUS].map(|c| (c, LARGE));
        assert_eq!(lengths_asked(socket, Headers::Extended).await, whole);
    });
    run(async |socket: &Path| {
        let asked = lengths_asked(socket, Headers::Structured).await;
        let sum =
            |command| asked.iter().filter(|(c, _)| *c == command).map(|(_, length)| length).sum::<u64>();
        assert_eq!((sum(Command::WRITE_ZEROES), sum(Command::TRIM)), (LARGE, LARGE));
        assert!(asked.iter().all(|(_, length)| *length <= u64::from(u32::MAX)));
    });
}

#[test]
fn a_server_may_take_as_long_for_zeroes_as_writing_them_takes_and_longer_for_what_is_to_be_durable() {
    run(async |_: &Path| {
        let patience = Patience::default();
        let waits = |command, length| {
            let term = patience.term(command, CommandFlags::NONE, length);
            (term.silence / 1_000_000_000, term.longest / 1_000_000_000)
        };
        assert_eq!(waits(Command::READ, 1 << 25), (30, 300));
        assert_eq!(waits(Command::FLUSH, 0), (300, 300));
        assert_eq!(waits(Command::WRITE_ZEROES, 4096), (30, 300));
        assert_eq!(waits(Command::TRIM, 1 << 40), (30 + (1 << 20), 300 + (1 << 20)));
        assert_eq!(waits(Command::BLOCK_STATUS, 1 << 40), (30, 300));
        let durable = patience.term(Command::WRITE, CommandFlags::FUA, 4096);
        assert_eq!((durable.silence, durable.longest), (300_000_000_000, 300_000_000_000));
        let forever = patience.term(Command::WRITE_ZEROES, CommandFlags::NONE, u64::MAX);
        assert!(forever.silence > u64::MAX / 2000);
    });
}

#[test]
fn a_range_that_the_server_finds_too_long_is_cut_and_what_it_refuses_in_any_length_is_an_error() {
    for (code, bound, succeeds) in [
        (ErrorCode::EOVERFLOW, u64::from(nbd::limits::PAYLOAD), true),
        (ErrorCode::EINVAL, u64::from(nbd::limits::PAYLOAD), true),
        (ErrorCode::EINVAL, 0, false),
        (ErrorCode::ENOSPC, u64::from(nbd::limits::PAYLOAD), false),
    ] {
        run(async |socket: &Path| {
            let listener = super::bound(socket).await;
            let server = rt::spawn(async move {
                let guest = greet(&listener, ALL).await;
                let mut served = 0;
                while let Some((request, _)) = guest.next_request().await {
                    let to = guest.reply_to(&request);
                    let mut reply = to.success().to_vec();
                    match request.command {
                        Command::DISC => break,
                        _ if request.length <= bound => served += request.length,
                        _ => {
                            reply.clear();
                            to.put_error(&mut reply, code, "not in one piece", None);
                        }
                    }
                    guest.stream.send_all(&reply).await.unwrap();
                }
                served
            });
            let mut driver = connect(socket).await.unwrap();
            Arc::get_mut(&mut driver.link).unwrap().export.size = LARGE;
            let result = driver.write_zeroes(0, LARGE, block::Request::GUEST).await;
            assert_eq!(result.is_ok(), succeeds, "{code}: {result:?}");
            driver.close().await.unwrap();
            assert_eq!(server.await.unwrap(), if succeeds { LARGE } else { 0 }, "{code}");
        });
    }
}
