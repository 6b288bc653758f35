//! Requests judged, replies written and read back.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

use nbd::client::{Header, Outcome, Part, ProtocolError, Tracker};
use nbd::{
    ChunkType, Command, CommandFlags, ErrorCode, ExtentFlags, REQUEST_HEADER, Request, Rules,
    TransmissionFlags as T,
};
use proptest::prelude::*;

const SIZE: u64 = 1 << 20;

fn rules() -> Rules {
    let flags = T::HAS_FLAGS
        | T::SEND_FLUSH
        | T::SEND_FUA
        | T::SEND_TRIM
        | T::SEND_WRITE_ZEROES
        | T::SEND_DF
        | T::SEND_CACHE
        | T::SEND_FAST_ZERO;
    Rules { size: SIZE, flags, minimum_block: 1, structured: true, contexts: true }
}

fn request(command: Command, offset: u64, length: u32) -> Request {
    Request { flags: CommandFlags::NONE, command, cookie: 7, offset, length }
}

#[test]
fn every_command_within_the_export_is_served() {
    for command in [
        Command::READ,
        Command::WRITE,
        Command::TRIM,
        Command::CACHE,
        Command::WRITE_ZEROES,
        Command::BLOCK_STATUS,
        Command::FLUSH,
    ] {
        assert_eq!(rules().judge(&request(command, SIZE - 512, 512)), Ok(()), "{command}");
        let fua = Request { flags: CommandFlags::FUA, ..request(command, 0, 512) };
        assert_eq!(rules().judge(&fua), Ok(()), "{command} with FUA");
    }
}

#[test]
fn requests_beyond_the_end_get_the_error_of_their_kind() {
    for (command, error) in [
        (Command::READ, ErrorCode::EINVAL),
        (Command::WRITE, ErrorCode::ENOSPC),
        (Command::WRITE_ZEROES, ErrorCode::ENOSPC),
        (Command::TRIM, ErrorCode::EINVAL),
        (Command::CACHE, ErrorCode::EINVAL),
        (Command::BLOCK_STATUS, ErrorCode::EINVAL),
    ] {
        for (offset, length) in [(SIZE, 1), (SIZE - 1, 2), (u64::MAX, 1), (u64::MAX - 1, u32::MAX >> 8)] {
            assert_eq!(rules().judge(&request(command, offset, length)), Err(error), "{command} {offset}");
        }
    }
}

#[test]
fn a_read_only_export_answers_eperm_to_whatever_would_change_it() {
    let flags = T::HAS_FLAGS | T::READ_ONLY | T::SEND_FLUSH;
    let rules = Rules { flags, ..rules() };
    for command in [Command::WRITE, Command::TRIM, Command::WRITE_ZEROES] {
        assert_eq!(rules.judge(&request(command, 0, 512)), Err(ErrorCode::EPERM));
    }
    assert_eq!(rules.judge(&request(Command::READ, 0, 512)), Ok(()));
}

#[test]
fn flags_commands_and_payloads_that_were_not_agreed_on_are_invalid() {
    let plain = Rules { flags: T::HAS_FLAGS, structured: false, contexts: false, ..rules() };
    for command in [Command::FLUSH, Command::TRIM, Command::WRITE_ZEROES, Command::BLOCK_STATUS, Command(99)]
    {
        assert_eq!(plain.judge(&request(command, 0, 512)), Err(ErrorCode::EINVAL), "{command}");
    }
    for (command, flags) in [
        (Command::READ, CommandFlags::DF),
        (Command::READ, CommandFlags::FUA),
        (Command::WRITE, CommandFlags::NO_HOLE),
        (Command::WRITE, CommandFlags(1 << 9)),
    ] {
        let request = Request { flags, ..request(command, 0, 512) };
        assert_eq!(plain.judge(&request), Err(ErrorCode::EINVAL), "{command} {flags:?}");
    }
    let large = Rules { size: 1 << 40, ..rules() };
    let over = nbd::limits::PAYLOAD + 1;
    assert_eq!(large.judge(&request(Command::READ, 0, over)), Err(ErrorCode::EOVERFLOW));
    assert_eq!(large.judge(&request(Command::WRITE, 0, over)), Err(ErrorCode::EINVAL));
    assert_eq!(large.judge(&request(Command::WRITE_ZEROES, 0, u32::MAX)), Ok(()));
    assert_eq!(rules().judge(&request(Command::BLOCK_STATUS, 0, 0)), Err(ErrorCode::EINVAL));
    let coarse = Rules { minimum_block: 4096, ..rules() };
    assert_eq!(coarse.judge(&request(Command::READ, 512, 4096)), Err(ErrorCode::EINVAL));
    assert_eq!(coarse.judge(&request(Command::READ, 4096, 4096)), Ok(()));
}

#[test]
fn every_system_error_becomes_a_value_of_the_protocol_and_back() {
    for errno in 1..200 {
        let code = ErrorCode::from_errno(errno);
        assert!(!code.is_ok());
        assert_eq!(ErrorCode::from_errno(code.to_errno()), code);
    }
    assert_eq!(ErrorCode(4711).to_errno(), 22);
}

/// Feeds a whole reply stream to one tracker; `buffer` receives the data.
fn read_back(bytes: &[u8], tracker: &mut Tracker, buffer: &mut [u8]) -> Result<usize, ProtocolError> {
    let mut rest = bytes;
    while !tracker.is_done() {
        let Some((header, taken)) = Header::parse(rest)? else { break };
        rest = &rest[taken..];
        match tracker.accept(header)? {
            Part::Nothing => {}
            Part::Data { start, len } => {
                let Some((data, after)) = rest.split_at_checked(len) else { break };
                buffer[start..start + len].copy_from_slice(data);
                rest = after;
            }
            Part::Zeroes { start, len } => buffer[start..start + len].fill(0),
            Part::Payload(len) => {
                let Some((payload, after)) = rest.split_at_checked(len) else { break };
                tracker.payload(payload)?;
                rest = after;
            }
        }
    }
    Ok(bytes.len() - rest.len())
}

#[test]
fn a_structured_read_comes_together_from_chunks_in_any_order() {
    let mut tracker = Tracker::new(request(Command::READ, 1000, 24), true, 0);
    let mut bytes = nbd::data_header(7, 1016, 8, false).to_vec();
    bytes.extend([3; 8]);
    bytes.extend(nbd::hole_chunk(7, 1008, 8, false));
    bytes.extend(nbd::data_header(7, 1000, 8, false));
    bytes.extend([1; 8]);
    bytes.extend(nbd::none_chunk(7));
    let mut buffer = [9; 24];
    assert_eq!(read_back(&bytes, &mut tracker, &mut buffer), Ok(bytes.len()));
    assert_eq!(buffer, [[1; 8], [0; 8], [3; 8]].concat()[..]);
    assert_eq!(tracker.settle(), Ok(Outcome::Done(Vec::new())));
}

#[test]
fn data_outside_the_request_twice_or_missing_are_found() {
    let read = || Tracker::new(request(Command::READ, 1000, 16), true, 0);
    let data = |offset, length, done| Header::Data { cookie: 7, done, offset, length };
    for (offset, length) in [(999, 2), (1008, 9), (0, 8), (u64::MAX, 8)] {
        assert!(matches!(read().accept(data(offset, length, true)), Err(ProtocolError::BadRange { .. })));
    }
    let mut twice = read();
    twice.accept(data(1000, 8, false)).unwrap();
    assert!(matches!(twice.accept(data(1007, 9, true)), Err(ProtocolError::BadRange { .. })));
    let mut missing = read();
    missing.accept(data(1000, 8, true)).unwrap();
    assert_eq!(missing.settle(), Err(ProtocolError::Incomplete));
    assert_eq!(
        read().accept(Header::Simple { cookie: 7, error: ErrorCode::EIO }),
        Err(ProtocolError::WrongKind)
    );
    let mut write = Tracker::new(request(Command::WRITE, 0, 16), true, 0);
    assert!(write.accept(data(0, 16, true)).is_err());
}

#[test]
fn an_error_carries_the_servers_words_and_a_reply_of_errors_ends() {
    let mut tracker = Tracker::new(request(Command::READ, 0, 512), true, 0);
    let mut bytes = Vec::new();
    nbd::put_error_chunk(&mut bytes, 7, ErrorCode::EIO, "the disk\nis gone", Some(256));
    assert_eq!(read_back(&bytes, &mut tracker, &mut [0; 512]), Ok(bytes.len()));
    assert_eq!(
        tracker.settle(),
        Ok(Outcome::Failed { code: ErrorCode::EIO, message: "the disk is gone".into() })
    );

    let mut endless = Tracker::new(request(Command::READ, 0, 512), true, 0);
    let error = Header::Error { cookie: 7, done: false, kind: ChunkType::ERROR, length: 6 };
    let ended = (0..100).find_map(|_| match endless.accept(error) {
        Ok(_) => endless.payload(&[0, 0, 0, 5, 0, 0]).err(),
        Err(error) => Some(error),
    });
    assert_eq!(ended, Some(ProtocolError::TooManyErrors));
}

#[test]
fn a_long_error_message_is_cut_at_a_character() {
    let mut bytes = Vec::new();
    nbd::put_error_chunk(&mut bytes, 7, ErrorCode::EIO, &"ü".repeat(4000), None);
    let mut tracker = Tracker::new(request(Command::FLUSH, 0, 0), true, 0);
    read_back(&bytes, &mut tracker, &mut []).unwrap();
    let Ok(Outcome::Failed { message: words, .. }) = tracker.settle() else { panic!() };
    assert_eq!(words, "ü".repeat(2048));
}

#[test]
fn block_status_extents_come_back_and_wrong_ones_are_refused() {
    let ask = |flags| Tracker::new(Request { flags, ..request(Command::BLOCK_STATUS, 0, 8192) }, true, 3);
    let chunk = |context, lengths: &[u32]| {
        let mut bytes = nbd::status_header(7, context, lengths.len() as u32, true).to_vec();
        lengths.iter().for_each(|&length| bytes.extend(nbd::status_extent(length, ExtentFlags::HOLE)));
        bytes
    };
    let run = |flags, bytes: Vec<u8>| {
        let mut tracker = ask(flags);
        read_back(&bytes, &mut tracker, &mut []).map(|_| tracker.settle())
    };
    let good = run(CommandFlags::NONE, chunk(3, &[4096, 8192]));
    assert_eq!(good, Ok(Ok(Outcome::Done(vec![(4096, ExtentFlags::HOLE), (8192, ExtentFlags::HOLE)]))));
    for (flags, bytes) in [
        (CommandFlags::NONE, chunk(4, &[4096])),
        (CommandFlags::NONE, chunk(3, &[0])),
        (CommandFlags::NONE, chunk(3, &[8192, 1])),
        (CommandFlags::REQ_ONE, chunk(3, &[4096, 1])),
        (CommandFlags::REQ_ONE, chunk(3, &[8193])),
    ] {
        assert_eq!(run(flags, bytes), Err(ProtocolError::BadExtents));
    }
    let nothing = run(CommandFlags::NONE, nbd::none_chunk(7).to_vec());
    assert_eq!(nothing, Ok(Err(ProtocolError::Incomplete)));
}

proptest! {
    #[test]
    fn a_request_survives_the_wire(
        flags in any::<u16>(), command in any::<u16>(), cookie in any::<u64>(), offset in any::<u64>(),
        length in any::<u32>(), more in prop::collection::vec(any::<u8>(), 0..4),
    ) {
        let request =
            Request { flags: CommandFlags(flags), command: Command(command), cookie, offset, length };
        let mut bytes = request.encode().to_vec();
        prop_assert_eq!(Request::parse(&bytes[..REQUEST_HEADER - 1]), Ok(None));
        bytes.extend(more);
        prop_assert_eq!(Request::parse(&bytes), Ok(Some(request)));
    }

    #[test]
    fn what_is_judged_good_lies_within_the_export(
        flags in any::<u16>(), allowed in any::<u16>(), command in 0u16..9, offset in any::<u64>(),
        length in any::<u32>(), size in 0u64..=i64::MAX as u64, shift in 0u32..=16,
    ) {
        let rules = Rules { size, flags: T(allowed), minimum_block: 1 << shift, structured: true, contexts: true };
        let offset = offset % size.saturating_mul(2).max(1);
        let request = Request { flags: CommandFlags(flags), command: Command(command), cookie: 0, offset, length };
        if rules.judge(&request).is_ok() && !matches!(request.command, Command::DISC | Command::FLUSH) {
            prop_assert!(offset.checked_add(length.into()).is_some_and(|end| end <= size));
        }
    }

    #[test]
    fn any_reply_bytes_are_read_without_a_panic(
        noise in prop::collection::vec(any::<u8>(), 0..100),
        kind in prop::sample::select(vec![0u16, 1, 2, 5, 6, 0x8001, 0x8002, 0x8007]),
        flags in 0u16..2, length in 0u32..60, structured in any::<bool>(),
        command in prop::sample::select(vec![Command::READ, Command::WRITE, Command::BLOCK_STATUS]),
    ) {
        let mut bytes = nbd::STRUCTURED_REPLY_MAGIC.to_be_bytes().to_vec();
        bytes.extend(flags.to_be_bytes());
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0; 8]);
        bytes.extend(length.to_be_bytes());
        bytes.extend(&noise);
        for stream in [&bytes, &noise] {
            let mut tracker = Tracker::new(request(command, 0, 64), structured, 0);
            if read_back(stream, &mut tracker, &mut [0; 64]).is_ok() && tracker.is_done() {
                let _ = tracker.settle();
            }
        }
    }
}
