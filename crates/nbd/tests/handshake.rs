//! The two halves of the handshake against each other and against faulty peers, fed byte by byte.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

use nbd::client::{self, HandshakeError as ClientError};
use nbd::server::{self, Catalog, HandshakeError as ServerError, Offer, Session};
use nbd::{BASE_ALLOCATION, Headers, OPTION_MAGIC, OptionCode, ReplyType, TransmissionFlags};

struct FixedCatalog(Vec<(&'static str, Offer)>);

impl Catalog for FixedCatalog {
    type Export = usize;
    fn list(&self, visit: &mut dyn FnMut(&str, &str)) {
        self.0.iter().for_each(|(name, offer)| visit(name, &offer.description));
    }
    fn find(&self, name: &str) -> Option<(usize, Offer)> {
        let at = self.0.iter().position(|(known, _)| *known == name)?;
        Some((at, self.0[at].1.clone()))
    }
}

fn offer(size: u64) -> Offer {
    Offer {
        size,
        flags: TransmissionFlags::HAS_FLAGS | TransmissionFlags::SEND_FLUSH,
        description: "a disk".into(),
        minimum_block: 512,
        preferred_block: 4096,
        contexts: vec![BASE_ALLOCATION.into()],
    }
}

fn catalog() -> FixedCatalog {
    FixedCatalog(vec![("", offer(1 << 20)), ("disk", offer(3 << 20)), ("huge", offer(1 << 63))])
}

struct Meeting {
    client: Result<client::Step, ClientError>,
    server: Result<Option<Session<usize>>, ServerError>,
}

/// Runs both ends until the client is done, handing over one byte at a time.
fn meet(mut client: client::Handshake) -> Meeting {
    let catalog = catalog();
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    let mut server = server::Handshake::new(&mut to_client);
    let mut session = None;
    loop {
        let mut idle = true;
        for byte in std::mem::take(&mut to_client) {
            idle = false;
            match client.advance(&[byte], &mut to_server) {
                Ok((1, client::Step::More)) => {}
                Ok((_, client::Step::More)) => panic!("the client left a byte it needs"),
                done => {
                    return Meeting { client: done.map(|(_, step)| step), server: Ok(session) };
                }
            }
        }
        for byte in std::mem::take(&mut to_server) {
            idle = false;
            match server.advance(&[byte], &catalog, &mut to_client) {
                Ok((_, server::Step::Ready(ready))) => session = Some(ready),
                Ok(_) => {}
                Err(error) => return Meeting { client: Ok(client::Step::More), server: Err(error) },
            }
        }
        assert!(!idle, "both ends wait for each other");
    }
}

#[test]
fn a_client_gets_the_export_it_names_with_extended_headers_and_block_status() {
    let outcome = meet(client::Handshake::connect("disk", &[BASE_ALLOCATION]).unwrap());
    let session = outcome.server.unwrap().expect("the server is ready");
    let Ok(client::Step::Ready(export)) = outcome.client else { panic!("{:?}", outcome.client) };
    assert_eq!((session.export, session.name.as_str()), (1, "disk"));
    assert_eq!((session.rules.headers, export.headers), (Headers::Extended, Headers::Extended));
    assert!(session.rules.contexts);
    assert_eq!(session.rules.size, 3 << 20);
    assert_eq!(session.rules.minimum_block, 512);
    assert_eq!(export.size, 3 << 20);
    assert_eq!(export.flags, session.rules.flags);
    assert!(export.flags.contains(TransmissionFlags::SEND_DF | TransmissionFlags::BLOCK_STATUS_PAYLOAD));
    assert_eq!(export.contexts, [(0, BASE_ALLOCATION.to_owned())]);
    assert_eq!((export.minimum_block, export.preferred_block), (512, 4096));
    assert_eq!(export.description, "a disk");
}

#[test]
fn an_unknown_export_is_refused_by_name_and_the_default_export_is_the_empty_name() {
    let outcome = meet(client::Handshake::connect("disc", &[]).unwrap());
    let Err(ClientError::Refused { option, code, message, .. }) = outcome.client else { panic!() };
    assert_eq!((option, code), (OptionCode::GO, ReplyType::ERR_UNKNOWN));
    assert!(message.contains("'disc'"));
    assert!(matches!(
        meet(client::Handshake::connect("", &[]).unwrap()).client,
        Ok(client::Step::Ready(export)) if export.size == 1 << 20
    ));
}

#[test]
fn an_export_of_two_to_the_63_bytes_is_refused_by_the_server() {
    let outcome = meet(client::Handshake::connect("huge", &[]).unwrap());
    assert!(matches!(outcome.client, Err(ClientError::Refused { code: ReplyType::ERR_POLICY, .. })));
}

#[test]
fn a_list_has_every_export_and_the_details_of_those_that_have_any() {
    let Ok(client::Step::Listed(list)) = meet(client::Handshake::list()).client else { panic!() };
    let names: Vec<_> = list.iter().map(|listed| listed.name.as_str()).collect();
    assert_eq!(names, ["", "disk", "huge"]);
    let disk = list[1].export.as_ref().expect("details");
    assert_eq!((disk.size, disk.contexts.len()), (3 << 20, 1));
    assert_eq!(list[2].export, None);
}

/// A server that has been greeted by a client with both flags.
fn greeted() -> server::Handshake {
    let mut server = server::Handshake::new(&mut Vec::new());
    server.advance(&3u32.to_be_bytes(), &catalog(), &mut Vec::new()).unwrap();
    server
}

fn option(code: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = OPTION_MAGIC.to_be_bytes().to_vec();
    bytes.extend(code.to_be_bytes());
    bytes.extend((data.len() as u32).to_be_bytes());
    bytes.extend(data);
    bytes
}

/// Sends one option; the type of the last reply.
fn ask(server: &mut server::Handshake, code: u32, data: &[u8]) -> u32 {
    let (bytes, mut out) = (option(code, data), Vec::new());
    let (taken, step) = server.advance(&bytes, &catalog(), &mut out).unwrap();
    assert_eq!(taken, bytes.len());
    assert!(matches!(step, server::Step::Answered | server::Step::Closed));
    let mut last = 0;
    let mut rest = out.as_slice();
    while !rest.is_empty() {
        assert_eq!(rest[8..12], code.to_be_bytes(), "the reply names its option");
        last = u32::from_be_bytes(rest[12..16].try_into().unwrap());
        let length = u32::from_be_bytes(rest[16..20].try_into().unwrap());
        rest = &rest[20 + length as usize..];
    }
    last
}

#[test]
fn an_option_the_server_does_not_know_is_refused_and_the_connection_lives() {
    let mut server = greeted();
    assert_eq!(ask(&mut server, 4242, &[7; 100_000]), ReplyType::ERR_UNSUP.0);
    assert_eq!(ask(&mut server, OptionCode::STARTTLS.0, &[]), ReplyType::ERR_POLICY.0);
    assert_eq!(ask(&mut server, OptionCode::LIST.0, &[]), ReplyType::ACK.0);
}

#[test]
fn malformed_options_are_refused_and_the_connection_lives() {
    let mut server = greeted();
    for (code, data) in [
        (OptionCode::LIST, &b"x"[..]),
        (OptionCode::STRUCTURED_REPLY, b"x"),
        (OptionCode::EXTENDED_HEADERS, b"x"),
        (OptionCode::STARTTLS, b"x"),
        (OptionCode::GO, b""),
        (OptionCode::GO, b"\xff\xff\xff\xffdisk\0\0"),
        (OptionCode::GO, b"\0\0\0\x04disk\0\x01"),
        (OptionCode::INFO, b"\0\0\0\x04di\0k\0\0"),
        (OptionCode::INFO, b"\0\0\0\x01\xff\0\0"),
        (OptionCode::SET_META_CONTEXT, b"\0\0\0\x04disk\0\0\0\0"),
    ] {
        assert_eq!(ask(&mut server, code.0, data), ReplyType::ERR_INVALID.0, "{code} {data:?}");
    }
    assert_eq!(ask(&mut server, OptionCode::GO.0, &[0; 70_000]), ReplyType::ERR_TOO_BIG.0);
    let name = [&4097u32.to_be_bytes()[..], &[b'a'; 4097], &[0, 0]].concat();
    assert_eq!(ask(&mut server, OptionCode::INFO.0, &name), ReplyType::ERR_INVALID.0);
    assert_eq!(ask(&mut server, OptionCode::STRUCTURED_REPLY.0, &[]), ReplyType::ACK.0);
    assert_eq!(ask(&mut server, OptionCode::STRUCTURED_REPLY.0, &[]), ReplyType::ERR_INVALID.0);
    assert_eq!(ask(&mut server, OptionCode::ABORT.0, b"ignored"), ReplyType::ACK.0);
}

#[test]
fn headers_get_better_and_never_worse() {
    let (structured, extended) = (OptionCode::STRUCTURED_REPLY.0, OptionCode::EXTENDED_HEADERS.0);
    for first in [None, Some(structured)] {
        let mut server = greeted();
        if let Some(option) = first {
            assert_eq!(ask(&mut server, option, &[]), ReplyType::ACK.0);
        }
        assert_eq!(ask(&mut server, extended, &[]), ReplyType::ACK.0);
        assert_eq!(ask(&mut server, extended, &[]), ReplyType::ERR_INVALID.0);
        assert_eq!(ask(&mut server, structured, &[]), ReplyType::ERR_EXT_HEADER_REQD.0);
        let set = OptionCode::SET_META_CONTEXT.0;
        assert_eq!(ask(&mut server, set, &queries(&[BASE_ALLOCATION])), ReplyType::ACK.0);
        // This option has no room for what extended headers need, and no way to say so.
        let name = option(OptionCode::EXPORT_NAME.0, b"disk");
        let error = server.advance(&name, &catalog(), &mut Vec::new()).unwrap_err();
        assert_eq!(error, ServerError::NeedsGo("disk".into()));
    }
}

#[test]
fn a_filter_of_block_status_is_offered_with_extended_headers_and_a_context() {
    let offered = |code: OptionCode, before: &[(OptionCode, Vec<u8>)]| {
        let mut server = greeted();
        before.iter().for_each(|(code, data)| assert_eq!(ask(&mut server, code.0, data), ReplyType::ACK.0));
        let mut out = Vec::new();
        server.advance(&option(code.0, b"\0\0\0\x04disk\0\0"), &catalog(), &mut out).unwrap();
        let flags = u16::from_be_bytes([out[30], out[31]]);
        TransmissionFlags(flags).contains(TransmissionFlags::BLOCK_STATUS_PAYLOAD)
    };
    let headers = |code: OptionCode| (code, Vec::new());
    let context = (OptionCode::SET_META_CONTEXT, queries(&[BASE_ALLOCATION]));
    let structured = [headers(OptionCode::STRUCTURED_REPLY), context.clone()];
    let extended = [headers(OptionCode::EXTENDED_HEADERS), context];
    assert!(!offered(OptionCode::GO, &structured) && !offered(OptionCode::INFO, &structured));
    assert!(!offered(OptionCode::GO, &extended[..1]) && offered(OptionCode::INFO, &extended[..1]));
    assert!(offered(OptionCode::GO, &extended));
}

/// Answers every option as `refuse` says; the options a client asks for, and where it ends.
fn options_asked(
    mut client: client::Handshake,
    refuse: impl Fn(OptionCode) -> Option<ReplyType>,
) -> (Vec<OptionCode>, Result<client::Step, ClientError>) {
    let (mut asked, mut sent) = (Vec::new(), Vec::new());
    let mut step = client.advance(&greeting(OPTION_MAGIC, 3), &mut sent).map(|(_, step)| step);
    while step == Ok(client::Step::More) {
        let at = sent.windows(8).rposition(|window| window == OPTION_MAGIC.to_be_bytes()).unwrap();
        let code: [u8; 4] = sent[at + 8..at + 12].try_into().unwrap();
        let option = OptionCode(u32::from_be_bytes(code));
        asked.push(option);
        let answer = refuse(option);
        let mut reply = Vec::new();
        let mut put = |kind: ReplyType, data: &[u8]| {
            reply.extend(nbd::OPTION_REPLY_MAGIC.to_be_bytes());
            reply.extend(code);
            reply.extend(kind.0.to_be_bytes());
            reply.extend((data.len() as u32).to_be_bytes());
            reply.extend(data);
        };
        if option == OptionCode::GO && answer.is_none() {
            put(ReplyType::INFO, &[&[0, 0][..], &4096u64.to_be_bytes(), &[0, 1]].concat());
        }
        put(answer.unwrap_or(ReplyType::ACK), &[]);
        if option == OptionCode::EXPORT_NAME {
            reply = [&4096u64.to_be_bytes()[..], &[0, 1]].concat();
        }
        step = client.advance(&reply, &mut sent).map(|(_, step)| step);
    }
    (asked, step)
}

#[test]
fn a_client_takes_the_best_headers_that_the_server_grants() {
    use OptionCode as O;
    let connect = || client::Handshake::connect("disk", &[BASE_ALLOCATION]).unwrap();
    let errors =
        [ReplyType::ERR_UNSUP, ReplyType::ERR_POLICY, ReplyType::ERR_INVALID, ReplyType(0x8000_0063)];
    for error in errors {
        for (refused, expected, headers) in [
            (&[][..], vec![O::EXTENDED_HEADERS, O::SET_META_CONTEXT, O::GO], Headers::Extended),
            (
                &[O::EXTENDED_HEADERS],
                vec![O::EXTENDED_HEADERS, O::STRUCTURED_REPLY, O::SET_META_CONTEXT, O::GO],
                Headers::Structured,
            ),
            (
                &[O::EXTENDED_HEADERS, O::STRUCTURED_REPLY],
                vec![O::EXTENDED_HEADERS, O::STRUCTURED_REPLY, O::GO],
                Headers::Simple,
            ),
        ] {
            let refuse = |option| refused.contains(&option).then_some(error);
            let (asked, step) = options_asked(connect(), refuse);
            assert_eq!(asked, expected, "{error}");
            assert!(matches!(step, Ok(client::Step::Ready(export)) if export.headers == headers));
        }
    }
    for (most, first) in [(Headers::Structured, O::STRUCTURED_REPLY), (Headers::Simple, O::GO)] {
        assert_eq!(options_asked(connect().at_most(most), |_| None).0[0], first);
    }
    // Extended headers come with GO; what does not know it is no server to talk to.
    let no_go = |option| (option == O::GO).then_some(ReplyType::ERR_UNSUP);
    assert!(matches!(options_asked(connect(), no_go).1, Err(ClientError::Refused { option: O::GO, .. })));
    let old = |_| Some(ReplyType::ERR_UNSUP);
    let (asked, step) = options_asked(connect(), old);
    assert_eq!(asked.last(), Some(&O::EXPORT_NAME));
    assert!(matches!(step, Ok(client::Step::Ready(_))));
}

#[test]
fn contexts_selected_for_another_export_do_not_count() {
    let mut server = greeted();
    ask(&mut server, OptionCode::STRUCTURED_REPLY.0, &[]);
    let query = [&b"\0\0\0\0\0\0\0\x01\0\0\0\x0f"[..], BASE_ALLOCATION.as_bytes()].concat();
    assert_eq!(ask(&mut server, OptionCode::SET_META_CONTEXT.0, &query), ReplyType::ACK.0);
    let go = option(OptionCode::GO.0, b"\0\0\0\x04disk\0\0");
    let Ok((_, server::Step::Ready(session))) = server.advance(&go, &catalog(), &mut Vec::new()) else {
        panic!()
    };
    assert!(!session.rules.contexts);
    assert_eq!(session.rules.minimum_block, 1, "block sizes bind only a client that asked for them");
}

/// A count of queries and the queries themselves.
fn queries(queries: &[&str]) -> Vec<u8> {
    let mut data = b"\0\0\0\x04disk".to_vec();
    data.extend((queries.len() as u32).to_be_bytes());
    for query in queries {
        data.extend((query.len() as u32).to_be_bytes());
        data.extend(query.as_bytes());
    }
    data
}

#[test]
fn as_many_queries_as_fit_are_answered_each_context_once_and_unknown_names_count_for_nothing() {
    let contexts = |code: OptionCode, data: &[u8]| {
        let mut server = greeted();
        ask(&mut server, OptionCode::STRUCTURED_REPLY.0, &[]);
        let mut out = Vec::new();
        server.advance(&option(code.0, data), &catalog(), &mut out).unwrap();
        let needle = BASE_ALLOCATION.as_bytes();
        out.windows(needle.len()).filter(|window| *window == needle).count()
    };
    let (list, set) = (OptionCode::LIST_META_CONTEXT, OptionCode::SET_META_CONTEXT);
    let mut many = vec!["foo:bar"; 1000];
    assert_eq!(contexts(set, &queries(&many)), 0);
    many.extend(vec![BASE_ALLOCATION; 1000]);
    for option in [list, set] {
        assert_eq!(contexts(option, &queries(&many)), 1, "{option}");
        assert_eq!(contexts(option, &queries(&["base", ""])), 0, "{option}");
    }
    assert_eq!((contexts(list, &queries(&["base:"])), contexts(set, &queries(&["base:"]))), (1, 0));
    assert_eq!((contexts(list, &queries(&[])), contexts(set, &queries(&[]))), (1, 0));
    // More queries than are there, and fewer.
    for count in [[0, 0, 0, 5], [0, 0, 0, 1], [255; 4]] {
        let mut data = queries(&["base:", "base:"]);
        data[8..12].copy_from_slice(&count);
        let mut server = greeted();
        ask(&mut server, OptionCode::STRUCTURED_REPLY.0, &[]);
        assert_eq!(ask(&mut server, set.0, &data), ReplyType::ERR_INVALID.0);
    }
}

#[test]
fn export_name_works_with_and_without_the_zeroes_and_leaves_the_first_requests_alone() {
    for (flags, reply) in [(3u32, 10), (1, 134), (0, 134)] {
        let (mut out, mut bytes) = (Vec::new(), flags.to_be_bytes().to_vec());
        bytes.extend(option(OptionCode::EXPORT_NAME.0, b"disk"));
        let end = bytes.len();
        bytes.extend(b"first request");
        let mut server = server::Handshake::new(&mut Vec::new());
        let (taken, step) = server.advance(&bytes, &catalog(), &mut out).unwrap();
        assert!(matches!(step, server::Step::Ready(_)));
        assert_eq!((taken, out.len()), (end, reply));
    }
}

#[test]
fn what_has_no_error_reply_ends_the_connection() {
    let mut server = server::Handshake::new(&mut Vec::new());
    let error = server.advance(&4u32.to_be_bytes(), &catalog(), &mut Vec::new()).unwrap_err();
    assert_eq!(error, ServerError::UnknownFlags(4));
    assert_eq!(server.advance(b"x", &catalog(), &mut Vec::new()).unwrap_err(), ServerError::Ended);
    let garbage = greeted().advance(&[9; 16], &catalog(), &mut Vec::new()).unwrap_err();
    assert!(matches!(garbage, ServerError::NotAnOption(_)));
    let nowhere = option(OptionCode::EXPORT_NAME.0, b"nowhere");
    let error = greeted().advance(&nowhere, &catalog(), &mut Vec::new()).unwrap_err();
    assert_eq!(error, ServerError::NoSuchExport("nowhere".into()));
    let mut long = OPTION_MAGIC.to_be_bytes().to_vec();
    long.extend([0, 0, 0, 7, 0xff, 0xff, 0xff, 0xff]);
    let error = greeted().advance(&long, &catalog(), &mut Vec::new()).unwrap_err();
    assert!(matches!(error, ServerError::TooLong { .. }));
}

fn greeting(style: u64, flags: u16) -> Vec<u8> {
    [&nbd::INIT_MAGIC.to_be_bytes()[..], &style.to_be_bytes(), &flags.to_be_bytes()].concat()
}

#[test]
fn a_client_falls_back_to_export_name_where_go_is_unknown_or_options_are_not_fixed() {
    let mut client = client::Handshake::connect("disk", &[BASE_ALLOCATION]).unwrap();
    let mut out = Vec::new();
    client.advance(&greeting(OPTION_MAGIC, 0), &mut out).unwrap();
    assert_eq!(out, [&0u32.to_be_bytes()[..], &option(1, b"disk")].concat());
    let answer = [&4096u64.to_be_bytes()[..], &1u16.to_be_bytes(), &[0; 124], b"more"].concat();
    let (taken, step) = client.advance(&answer, &mut out).unwrap();
    let client::Step::Ready(export) = step else { panic!() };
    assert_eq!((taken, export.size, export.headers), (134, 4096, Headers::Simple));

    let mut client = client::Handshake::connect("disk", &[]).unwrap();
    let unsup = |code: u32| {
        let fields = [code, ReplyType::ERR_UNSUP.0, 0].map(u32::to_be_bytes);
        [&nbd::OPTION_REPLY_MAGIC.to_be_bytes()[..], fields.as_flattened()].concat()
    };
    client.advance(&greeting(OPTION_MAGIC, 3), &mut out).unwrap();
    client.advance(&unsup(11), &mut out).unwrap();
    client.advance(&unsup(8), &mut out).unwrap();
    out.clear();
    client.advance(&unsup(7), &mut out).unwrap();
    assert_eq!(out, option(1, b"disk"));
    assert!(matches!(client.advance(&answer[..10], &mut out), Ok((10, client::Step::Ready(_)))));
}

#[test]
fn a_client_takes_the_one_export_of_an_oldstyle_server() {
    let size = 0x0001_0203_0405_0607u64;
    let whole = [
        &nbd::INIT_MAGIC.to_be_bytes()[..],
        &nbd::OLDSTYLE_MAGIC.to_be_bytes(),
        &size.to_be_bytes(),
        &[0, 3, 0, 5],
        &[0; 124],
        b"replies",
    ]
    .concat();
    for cut in 0..whole.len() {
        let (mut client, mut out) =
            (client::Handshake::connect("", &["base:allocation"]).unwrap(), Vec::new());
        let mut taken = 0;
        let mut export = None;
        for part in [&whole[..cut], &whole[cut..]] {
            if export.is_none() {
                let (n, step) = client.advance(part, &mut out).unwrap();
                taken += n;
                if let client::Step::Ready(ready) = step {
                    export = Some(ready);
                }
            }
        }
        let export = export.unwrap();
        assert_eq!((export.size, export.flags.0, taken), (size, 5, whole.len() - 7));
        assert_eq!((export.headers, export.contexts, out), (nbd::Headers::Simple, vec![], vec![]));
    }
}

#[test]
fn a_client_names_the_kind_of_peer_that_it_does_not_support() {
    let connect = || client::Handshake::connect("disk", &[]).unwrap();
    let mut out = Vec::new();
    let oldstyle = connect().advance(&greeting(nbd::OLDSTYLE_MAGIC, 0), &mut out).unwrap_err();
    assert_eq!(oldstyle, ClientError::OldstyleName("disk".into()));
    let list = client::Handshake::list().advance(&greeting(nbd::OLDSTYLE_MAGIC, 0), &mut out).unwrap_err();
    assert_eq!(list, ClientError::CannotList);
    let web = connect().advance(b"HTTP/1.1 400 Bad Request", &mut out).unwrap_err();
    assert!(matches!(web, ClientError::NotNbd(_)));
    assert!(out.is_empty());
    assert!(matches!(
        client::Handshake::connect(&"x".repeat(4097), &[]),
        Err(ClientError::NameTooLong(4097))
    ));
    let mut client = connect();
    client.advance(&greeting(OPTION_MAGIC, 2), &mut out).unwrap();
    let size = [&(1u64 << 63).to_be_bytes()[..], &[0, 1]].concat();
    assert!(matches!(client.advance(&size, &mut out), Err(ClientError::TooLarge { .. })));
}

mod any_bytes {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn never_make_the_server_panic_or_hold_more_than_its_bound(
            codes in prop::collection::vec((0u32..13, prop::collection::vec(any::<u8>(), 0..64)), 0..8),
            noise in prop::collection::vec(any::<u8>(), 0..200),
            cut in 1usize..50,
        ) {
            let mut bytes = 3u32.to_be_bytes().to_vec();
            codes.iter().for_each(|(code, data)| bytes.extend(option(*code, data)));
            bytes.extend(noise);
            let mut server = server::Handshake::new(&mut Vec::new());
            for piece in bytes.chunks(cut) {
                let mut rest = piece;
                while !rest.is_empty() {
                    let mut out = Vec::new();
                    match server.advance(rest, &catalog(), &mut out) {
                        Ok((taken, server::Step::More)) => prop_assert_eq!(taken, rest.len()),
                        Ok((taken, server::Step::Answered)) => {
                            prop_assert!(!out.is_empty());
                            rest = &rest[taken..];
                            continue;
                        }
                        _ => return Ok(()),
                    }
                    break;
                }
            }
        }

        #[test]
        fn never_make_the_client_panic(
            replies in prop::collection::vec(
                (prop::sample::select(vec![1u32, 2, 3, 4, 0x8000_0001, 0x8000_0006, 77]),
                 prop::collection::vec(any::<u8>(), 0..40)), 0..12),
            noise in prop::collection::vec(any::<u8>(), 0..200),
            list in any::<bool>(),
        ) {
            let mut client = if list {
                client::Handshake::list()
            } else {
                client::Handshake::connect("disk", &[BASE_ALLOCATION]).unwrap()
            };
            let mut asked = Vec::new();
            let mut feed = |bytes: &[u8], asked: &mut Vec<u8>| {
                matches!(client.advance(bytes, asked), Ok((_, client::Step::More)))
            };
            if !feed(&greeting(OPTION_MAGIC, 3), &mut asked) { return Ok(()); }
            for (kind, data) in replies {
                // The reply names whatever the client asked last.
                let at = asked.windows(8).rposition(|window| window == OPTION_MAGIC.to_be_bytes());
                let code = at.map_or([0; 4], |at| asked[at + 8..at + 12].try_into().unwrap());
                let mut reply = nbd::OPTION_REPLY_MAGIC.to_be_bytes().to_vec();
                reply.extend(code);
                reply.extend(kind.to_be_bytes());
                reply.extend((data.len() as u32).to_be_bytes());
                reply.extend(data);
                if !feed(&reply, &mut asked) { return Ok(()); }
            }
            feed(&noise, &mut asked);
        }
    }
}

#[test]
fn a_client_that_gives_up_sends_abort() {
    let refuse = |option: OptionCode, code: ReplyType| {
        let mut reply = nbd::OPTION_REPLY_MAGIC.to_be_bytes().to_vec();
        [option.0, code.0, 0].iter().for_each(|word| reply.extend_from_slice(&word.to_be_bytes()));
        reply
    };
    let mut greeting = nbd::INIT_MAGIC.to_be_bytes().to_vec();
    greeting.extend_from_slice(&OPTION_MAGIC.to_be_bytes());
    greeting.extend_from_slice(&[0, 3]);
    let abort = option(OptionCode::ABORT.0, &[]);
    let extended = OptionCode::EXTENDED_HEADERS;
    for goal in [client::Handshake::connect("disk", &[]).unwrap(), client::Handshake::list()] {
        let mut client = goal;
        let mut out = Vec::new();
        client.advance(&greeting, &mut out).unwrap();
        for headers in [extended, OptionCode::STRUCTURED_REPLY] {
            out.clear();
            client.advance(&refuse(headers, ReplyType::ERR_TLS_REQD), &mut out).unwrap();
        }
        let wanted = OptionCode(u32::from_be_bytes(out[8..12].try_into().unwrap()));
        out.clear();
        let error = client.advance(&refuse(wanted, ReplyType::ERR_TLS_REQD), &mut out).unwrap_err();
        let told = |option| matches!(option, OptionCode::GO | OptionCode::LIST);
        let code = ReplyType::ERR_TLS_REQD;
        assert!(matches!(error, ClientError::Refused { option, code: c, .. } if told(option) && c == code));
        assert_eq!(out, abort, "a server that requires TLS is asked for nothing else");
    }
    let mut client = client::Handshake::connect("disk", &[]).unwrap();
    let mut out = Vec::new();
    client.advance(&greeting, &mut out).unwrap();
    client.advance(&refuse(extended, ReplyType::ERR_UNSUP), &mut out).unwrap();
    client.advance(&refuse(OptionCode::STRUCTURED_REPLY, ReplyType::ERR_UNSUP), &mut out).unwrap();
    out.clear();
    client.advance(&refuse(OptionCode::GO, ReplyType::ERR_UNKNOWN), &mut out).unwrap_err();
    assert_eq!(out, abort);
}
