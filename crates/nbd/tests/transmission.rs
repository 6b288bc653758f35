//! Requests judged, replies written and read back.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

use nbd::client::{Body, Header, Outcome, Part, ProtocolError, Tracker};
use nbd::{
    ChunkType, Command, CommandFlags, ErrorCode, ExtentFlags, Headers, ReplyTo, Request, Rules,
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
    Rules { size: SIZE, flags, minimum_block: 1, headers: Headers::Structured, contexts: true }
}

/// The two kinds of headers that have replies in chunks.
const CHUNKED: [Headers; 2] = [Headers::Structured, Headers::Extended];

fn request(command: Command, offset: u64, length: u64) -> Request {
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
        for (offset, length) in [(SIZE, 1), (SIZE - 1, 2), (u64::MAX, 1), (u64::MAX - 1, 1 << 24)] {
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
    let plain = Rules { flags: T::HAS_FLAGS, headers: Headers::Simple, contexts: false, ..rules() };
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
    let over = u64::from(nbd::limits::PAYLOAD) + 1;
    assert_eq!(large.judge(&request(Command::READ, 0, over)), Err(ErrorCode::EOVERFLOW));
    assert_eq!(large.judge(&request(Command::WRITE, 0, over)), Err(ErrorCode::EINVAL));
    assert_eq!(large.judge(&request(Command::WRITE_ZEROES, 0, u32::MAX.into())), Ok(()));
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
    // A part of a snapshot that can't be had, and a write to what takes none.
    assert_eq!((ErrorCode::from_errno(13), ErrorCode::from_errno(30)), (ErrorCode::EINVAL, ErrorCode::EPERM));
}

#[test]
fn extended_requests_reach_64_bits_where_they_bring_no_data() {
    let flags = rules().flags | T::BLOCK_STATUS_PAYLOAD;
    let rules = Rules { size: i64::MAX as u64, flags, headers: Headers::Extended, ..rules() };
    for command in [Command::TRIM, Command::WRITE_ZEROES, Command::BLOCK_STATUS] {
        assert_eq!(rules.judge(&request(command, 1, rules.size - 1)), Ok(()), "{command}");
        assert!(rules.judge(&request(command, 1, rules.size)).is_err(), "{command}");
        assert!(rules.judge(&request(command, u64::MAX, u64::MAX)).is_err(), "{command}");
    }
    for command in [Command::READ, Command::CACHE] {
        assert_eq!(rules.judge(&request(command, 0, 1 << 32)), Err(ErrorCode::EOVERFLOW), "{command}");
    }
    assert_eq!(rules.judge(&request(Command::WRITE, 0, 1 << 32)), Err(ErrorCode::EINVAL));
    let payload = |command| Request { flags: CommandFlags::PAYLOAD_LEN, ..request(command, 0, 512) };
    assert_eq!(rules.judge(&payload(Command::WRITE)), Ok(()));
    for command in [Command::READ, Command::TRIM, Command::FLUSH, Command::WRITE_ZEROES, Command::CACHE] {
        assert_eq!(rules.judge(&payload(command)), Err(ErrorCode::EINVAL), "{command}");
        assert_eq!(payload(command).payload(Headers::Extended), 512, "{command}");
        assert_eq!(payload(command).payload(Headers::Structured), 0, "{command}");
    }
    let compact = Rules { headers: Headers::Structured, ..rules };
    assert_eq!(compact.judge(&payload(Command::WRITE)), Err(ErrorCode::EINVAL));
    assert_eq!(payload(Command::WRITE).payload(Headers::Structured), 512);
    assert_eq!(request(Command::WRITE, 0, 512).payload(Headers::Extended), 512);
    assert!(rules.filters(&payload(Command::BLOCK_STATUS)));
    assert!(!rules.filters(&request(Command::BLOCK_STATUS, 0, 12)));
}

#[test]
fn a_payload_limits_block_status_to_contexts_that_were_selected() {
    let flags = CommandFlags::PAYLOAD_LEN | CommandFlags::REQ_ONE;
    let filter = |payload: &[u8]| {
        let told = Request { flags, ..request(Command::BLOCK_STATUS, 4096, payload.len() as u64) };
        told.filtered(payload, &[0, 3])
    };
    let payload = |contexts: &[u32]| {
        let mut bytes = (1u64 << 40).to_be_bytes().to_vec();
        contexts.iter().for_each(|context| bytes.extend(context.to_be_bytes()));
        bytes
    };
    let query = Request { flags: CommandFlags::REQ_ONE, ..request(Command::BLOCK_STATUS, 4096, 1 << 40) };
    assert_eq!(filter(&payload(&[3])), Some((query, vec![3])));
    assert_eq!(filter(&payload(&[3, 0])), Some((query, vec![3, 0])));
    for contexts in [&[][..], &[1], &[3, 3], &[0, 3, 0], &[3, u32::MAX]] {
        assert_eq!(filter(&payload(contexts)), None, "{contexts:?}");
    }
    for len in 0..12 {
        assert_eq!(filter(&payload(&[3])[..len]), None, "cut to {len} bytes");
    }
}

/// Feeds a whole reply stream to one tracker; `buffer` receives the data.
fn read_back(
    bytes: &[u8],
    headers: Headers,
    tracker: &mut Tracker,
    buffer: &mut [u8],
) -> Result<usize, ProtocolError> {
    let mut rest = bytes;
    while !tracker.is_done() {
        let Some((header, taken)) = Header::parse(rest, headers)? else { break };
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
fn a_read_comes_together_from_chunks_in_any_order() {
    for headers in CHUNKED {
        let asked = request(Command::READ, 1000, 24);
        let (reply, mut tracker) = (ReplyTo::new(&asked, headers), Tracker::new(asked, headers, 0));
        let mut bytes = reply.data(1016, 8, false).to_vec();
        assert_eq!(bytes.len(), headers.data_len());
        bytes.extend([3; 8]);
        bytes.extend_from_slice(&reply.hole(1008, 8, false));
        bytes.extend_from_slice(&reply.data(1000, 8, false));
        bytes.extend([1; 8]);
        bytes.extend_from_slice(&reply.nothing_read());
        let mut buffer = [9; 24];
        assert_eq!(read_back(&bytes, headers, &mut tracker, &mut buffer), Ok(bytes.len()));
        assert_eq!(buffer, [[1; 8], [0; 8], [3; 8]].concat()[..]);
        assert_eq!(tracker.settle(), Ok(Outcome::Done(Vec::new())));
    }
}

#[test]
fn each_kind_of_headers_takes_no_other() {
    let all = [Headers::Simple, Headers::Structured, Headers::Extended];
    let asked = request(Command::WRITE, 1000, 24);
    for (written, read) in all.iter().flat_map(|&written| all.map(|read| (written, read))) {
        let reply = ReplyTo::new(&asked, written);
        let simple = Header::parse(&reply.success(), read);
        assert_eq!(simple.is_ok(), written.extended() == read.extended(), "{written:?} {read:?}");
        let chunk = Header::parse(&reply.nothing_read(), read);
        let fits = written == read || (written, read) == (Headers::Simple, Headers::Structured);
        assert_eq!(chunk.is_ok(), fits, "{written:?} {read:?}");
        let request = Request::parse(&asked.encode(written), read);
        assert_eq!(request.is_ok(), written.extended() == read.extended(), "{written:?} {read:?}");
    }
    let mut tracker = Tracker::new(asked, Headers::Extended, 0);
    let elsewhere = ReplyTo::new(&request(Command::WRITE, 1001, 24), Headers::Extended).success();
    let (header, _) = Header::parse(&elsewhere, Headers::Extended).unwrap().unwrap();
    assert_eq!(tracker.accept(header), Err(ProtocolError::WrongOffset(1001)));
}

fn header(done: bool, body: Body) -> Header {
    Header { cookie: 7, offset: None, done, body }
}

#[test]
fn data_outside_the_request_twice_or_missing_are_found() {
    let read = || Tracker::new(request(Command::READ, 1000, 16), Headers::Structured, 0);
    let data = |offset, length, done| header(done, Body::Data { offset, length });
    for (offset, length) in [(999, 2), (1008, 9), (0, 8), (u64::MAX, 8)] {
        assert!(matches!(read().accept(data(offset, length, true)), Err(ProtocolError::BadRange { .. })));
    }
    // The end of what is said to come is beyond all numbers.
    let mut from_the_start = Tracker::new(request(Command::READ, 0, 16), Headers::Structured, 0);
    let beyond = from_the_start.accept(data(u64::MAX - 3, 8, true));
    assert!(matches!(beyond, Err(ProtocolError::BadRange { .. })));
    let mut twice = read();
    twice.accept(data(1000, 8, false)).unwrap();
    assert!(matches!(twice.accept(data(1007, 9, true)), Err(ProtocolError::BadRange { .. })));
    let mut missing = read();
    missing.accept(data(1000, 8, true)).unwrap();
    assert_eq!(missing.settle(), Err(ProtocolError::Incomplete));
    let simple = header(true, Body::Simple(ErrorCode::EIO));
    assert_eq!(read().accept(simple), Err(ProtocolError::WrongKind));
    let mut write = Tracker::new(request(Command::WRITE, 0, 16), Headers::Structured, 0);
    assert!(write.accept(data(0, 16, true)).is_err());
}

#[test]
fn an_error_has_the_servers_message_and_a_reply_of_errors_ends() {
    let asked = request(Command::READ, 0, 512);
    for headers in CHUNKED {
        let mut tracker = Tracker::new(asked, headers, 0);
        let mut bytes = Vec::new();
        let words = "the disk\nis gone";
        ReplyTo::new(&asked, headers).put_error(&mut bytes, ErrorCode::EIO, words, Some(256));
        assert_eq!(read_back(&bytes, headers, &mut tracker, &mut [0; 512]), Ok(bytes.len()));
        assert_eq!(
            tracker.settle(),
            Ok(Outcome::Failed { code: ErrorCode::EIO, message: "the disk is gone".into() })
        );
    }

    let mut endless = Tracker::new(asked, Headers::Structured, 0);
    let error = header(false, Body::Error { kind: ChunkType::ERROR, length: 6 });
    let ended = (0..100).find_map(|_| match endless.accept(error) {
        Ok(_) => endless.payload(&[0, 0, 0, 5, 0, 0]).err(),
        Err(error) => Some(error),
    });
    assert_eq!(ended, Some(ProtocolError::TooManyErrors));
}

#[test]
fn a_long_error_message_is_cut_at_a_character() {
    for headers in CHUNKED {
        let asked = request(Command::FLUSH, 0, 0);
        let mut bytes = Vec::new();
        ReplyTo::new(&asked, headers).put_error(&mut bytes, ErrorCode::EIO, &"ü".repeat(4000), None);
        let mut tracker = Tracker::new(asked, headers, 0);
        read_back(&bytes, headers, &mut tracker, &mut []).unwrap();
        let Ok(Outcome::Failed { message: words, .. }) = tracker.settle() else { panic!() };
        assert_eq!(words, "ü".repeat(2048));
    }
}

#[test]
fn block_status_extents_come_back_and_wrong_ones_are_refused() {
    for headers in CHUNKED {
        let ask = |flags| Request { flags, ..request(Command::BLOCK_STATUS, 0, 8192) };
        let reply = ReplyTo::new(&ask(CommandFlags::NONE), headers);
        let chunk = |context, lengths: &[u64]| {
            let mut bytes = reply.status(context, lengths.len() as u32, true).to_vec();
            for &length in lengths {
                bytes.extend_from_slice(&reply.extent(length, ExtentFlags::HOLE));
            }
            bytes
        };
        let run = |flags, bytes: Vec<u8>| {
            let mut tracker = Tracker::new(ask(flags), headers, 3);
            read_back(&bytes, headers, &mut tracker, &mut []).map(|_| tracker.settle())
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
        let nothing = run(CommandFlags::NONE, reply.nothing_read().to_vec());
        assert_eq!(nothing, Ok(Err(ProtocolError::Incomplete)));
    }
}

#[test]
fn extended_extents_have_64_bits_a_true_count_and_a_status_of_32() {
    let asked = request(Command::BLOCK_STATUS, 0, 1 << 50);
    let reply = ReplyTo::new(&asked, Headers::Extended);
    let run = |bytes: &[u8]| {
        let mut tracker = Tracker::new(asked, Headers::Extended, 0);
        read_back(bytes, Headers::Extended, &mut tracker, &mut []).map(|_| tracker.settle())
    };
    let mut bytes = reply.status(0, 2, true).to_vec();
    bytes.extend_from_slice(&reply.extent(1 << 49, ExtentFlags::HOLE));
    bytes.extend_from_slice(&reply.extent(u64::MAX, ExtentFlags::NONE));
    let extents = vec![(1 << 49, ExtentFlags::HOLE), (u64::MAX, ExtentFlags::NONE)];
    assert_eq!(run(&bytes), Ok(Ok(Outcome::Done(extents))));
    let wrong = |at: usize, value: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = value;
        run(&bytes)
    };
    // The count of extents, the upper half of a status, the length of the payload, a type with compact extents.
    assert_eq!(wrong(39, 1), Err(ProtocolError::BadExtents));
    assert_eq!(wrong(51, 1), Err(ProtocolError::BadExtents));
    assert!(matches!(wrong(31, 41), Err(ProtocolError::BadLength { length: 41, .. })));
    assert!(matches!(wrong(24, 1), Err(ProtocolError::BadLength { .. })));
    assert_eq!(wrong(7, 5), Err(ProtocolError::UnexpectedChunk(ChunkType::BLOCK_STATUS)));
}

fn any_headers() -> impl Strategy<Value = Headers> {
    prop::sample::select(vec![Headers::Simple, Headers::Structured, Headers::Extended])
}

proptest! {
    #[test]
    fn a_request_survives_the_wire(
        flags in any::<u16>(), command in any::<u16>(), cookie in any::<u64>(), offset in any::<u64>(),
        length in any::<u64>(), extended in any::<bool>(), more in prop::collection::vec(any::<u8>(), 0..4),
    ) {
        let (headers, length) =
            if extended { (Headers::Extended, length) } else { (Headers::Simple, length & u64::from(u32::MAX)) };
        let request =
            Request { flags: CommandFlags(flags), command: Command(command), cookie, offset, length };
        let mut bytes = request.encode(headers).to_vec();
        prop_assert_eq!(bytes.len(), headers.request_len());
        prop_assert_eq!(Request::parse(&bytes[..bytes.len() - 1], headers), Ok(None));
        bytes.extend(more);
        prop_assert_eq!(Request::parse(&bytes, headers), Ok(Some(request)));
    }

    #[test]
    fn what_is_judged_good_lies_within_the_export(
        flags in any::<u16>(), allowed in any::<u16>(), command in 0u16..9, offset in any::<u64>(),
        length in any::<u64>(), bits in 0u32..64, size in 0u64..=i64::MAX as u64, shift in 0u32..=16,
        headers in any_headers(),
    ) {
        let rules = Rules { size, flags: T(allowed), minimum_block: 1 << shift, headers, contexts: true };
        let length = length >> bits;
        let offset = offset % size.saturating_mul(2).max(1);
        let request = Request { flags: CommandFlags(flags), command: Command(command), cookie: 0, offset, length };
        if rules.judge(&request).is_ok() && !matches!(request.command, Command::DISC | Command::FLUSH) {
            prop_assert!(offset.checked_add(length).is_some_and(|end| end <= size));
        }
    }

    #[test]
    fn any_reply_bytes_are_read_without_a_panic(
        noise in prop::collection::vec(any::<u8>(), 0..100),
        kind in prop::sample::select(vec![0u16, 1, 2, 5, 6, 0x8001, 0x8002, 0x8007]),
        flags in 0u16..2, length in 0u32..60, headers in any_headers(),
        command in prop::sample::select(vec![Command::READ, Command::WRITE, Command::BLOCK_STATUS]),
    ) {
        let extended = headers.extended();
        let magic = if extended { nbd::EXTENDED_REPLY_MAGIC } else { nbd::STRUCTURED_REPLY_MAGIC };
        let mut bytes = magic.to_be_bytes().to_vec();
        bytes.extend(flags.to_be_bytes());
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0; 8]);
        bytes.extend([0; 12].iter().take(if extended { 12 } else { 0 }));
        bytes.extend(length.to_be_bytes());
        bytes.extend(&noise);
        for stream in [&bytes, &noise] {
            let mut tracker = Tracker::new(request(command, 0, 64), headers, 0);
            if read_back(stream, headers, &mut tracker, &mut [0; 64]).is_ok() && tracker.is_done() {
                let _ = tracker.settle();
            }
        }
    }
}
