//! The handshake around TLS: what is granted before it, what counts after it, and what may not lie between.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

use nbd::client::{self, HandshakeError as ClientError};
use nbd::server::{self, Catalog, HandshakeError as ServerError, Offer};
use nbd::{
    BASE_ALLOCATION, Headers, INIT_MAGIC, OPTION_MAGIC, OPTION_REPLY_MAGIC, OptionCode, ReplyType,
    TransmissionFlags,
};

struct Disk;

impl Catalog for Disk {
    type Export = ();
    fn list(&self, visit: &mut dyn FnMut(&str, &str)) {
        visit("disk", "");
    }
    fn find(&self, name: &str) -> Option<((), Offer)> {
        let offer = Offer {
            size: 1 << 20,
            flags: TransmissionFlags::HAS_FLAGS,
            description: String::new(),
            minimum_block: 1,
            preferred_block: 4096,
            contexts: vec![BASE_ALLOCATION.into()],
        };
        (name == "disk").then_some(((), offer))
    }
}

fn option(code: OptionCode, data: &[u8]) -> Vec<u8> {
    let mut bytes = OPTION_MAGIC.to_be_bytes().to_vec();
    bytes.extend(code.0.to_be_bytes());
    bytes.extend((data.len() as u32).to_be_bytes());
    bytes.extend(data);
    bytes
}

fn reply(code: OptionCode, kind: ReplyType) -> Vec<u8> {
    let mut bytes = OPTION_REPLY_MAGIC.to_be_bytes().to_vec();
    [code.0, kind.0, 0].iter().for_each(|word| bytes.extend_from_slice(&word.to_be_bytes()));
    bytes
}

/// A server that requires TLS, greeted by a client with both flags.
fn server() -> server::Handshake {
    let mut server = server::Handshake::new(&mut Vec::new()).requiring_tls();
    server.advance(&3u32.to_be_bytes(), &Disk, &mut Vec::new()).unwrap();
    server
}

/// The type of the only reply to an option, and where the handshake stands then.
fn ask(server: &mut server::Handshake, bytes: &[u8]) -> (ReplyType, server::Step<()>) {
    let mut out = Vec::new();
    let (taken, step) = server.advance(bytes, &Disk, &mut out).unwrap();
    assert_eq!(taken, bytes.len());
    (ReplyType(u32::from_be_bytes(out[12..16].try_into().unwrap())), step)
}

#[test]
fn nothing_but_tls_and_the_end_is_granted_before_tls() {
    let mut server = server();
    for code in [
        OptionCode::LIST,
        OptionCode::INFO,
        OptionCode::GO,
        OptionCode::STRUCTURED_REPLY,
        OptionCode::EXTENDED_HEADERS,
        OptionCode::LIST_META_CONTEXT,
        OptionCode::SET_META_CONTEXT,
        OptionCode(4242),
    ] {
        for data in [&b""[..], b"\0\0\0\x04disk\0\0", &[0; 100_000]] {
            assert_eq!(ask(&mut server, &option(code, data)).0, ReplyType::ERR_TLS_REQD, "{code}");
        }
    }
    assert_eq!(ask(&mut server, &option(OptionCode::STARTTLS, b"x")).0, ReplyType::ERR_INVALID);
    let (kind, step) = ask(&mut server, &option(OptionCode::ABORT, b""));
    assert!(kind == ReplyType::ACK && matches!(step, server::Step::Closed));
    let named = error_after(&option(OptionCode::EXPORT_NAME, b"disk"));
    assert_eq!(named, ServerError::NeedsTls, "there is no way to refuse it");
}

fn error_after(bytes: &[u8]) -> ServerError {
    server().advance(bytes, &Disk, &mut Vec::new()).unwrap_err()
}

#[test]
fn bytes_between_the_request_for_tls_and_tls_end_the_connection() {
    let mut bytes = option(OptionCode::STARTTLS, b"");
    let injected = option(OptionCode::LIST, b"");
    bytes.extend(&injected);
    let (mut server, mut out) = (server(), Vec::new());
    let (taken, step) = server.advance(&bytes, &Disk, &mut out).unwrap();
    assert!(matches!(step, server::Step::StartTls));
    let left = bytes.len() - taken;
    assert_eq!(server.secured(left), Err(ServerError::Injected(injected.len())));
    out.clear();
    assert_eq!(server.advance(&injected, &Disk, &mut out).unwrap_err(), ServerError::Ended);
    assert!(out.is_empty());

    let mut client = client::Handshake::connect("disk", &[]).unwrap().with_tls();
    let mut out = Vec::new();
    client.advance(&greeting(3), &mut out).unwrap();
    let mut bytes = reply(OptionCode::STARTTLS, ReplyType::ACK);
    let (taken, step) = client.advance(&bytes, &mut out).unwrap();
    assert_eq!((taken, step), (bytes.len(), client::Step::StartTls));
    bytes.extend(b"more");
    out.clear();
    assert_eq!(client.secured(bytes.len() - taken, &mut out), Err(ClientError::Injected(4)));
    assert!(out.is_empty());
}

#[test]
fn what_was_agreed_on_before_tls_does_not_count_after_it() {
    let (mut server, mut out) = (server(), Vec::new());
    let (_, step) = ask(&mut server, &option(OptionCode::STARTTLS, b""));
    assert!(matches!(step, server::Step::StartTls));
    assert!(server.advance(&option(OptionCode::LIST, b""), &Disk, &mut out).is_err(), "TLS is not there yet");

    let mut server = self::server();
    ask(&mut server, &option(OptionCode::STARTTLS, b""));
    server.secured(0).unwrap();
    assert_eq!(ask(&mut server, &option(OptionCode::STARTTLS, b"")).0, ReplyType::ERR_INVALID);
    // Contexts need structured replies: none are agreed on.
    let query = b"\0\0\0\x04disk\0\0\0\0";
    assert_eq!(ask(&mut server, &option(OptionCode::SET_META_CONTEXT, query)).0, ReplyType::ERR_INVALID);
    assert_eq!(ask(&mut server, &option(OptionCode::STRUCTURED_REPLY, b"")).0, ReplyType::ACK);
    let mut out = Vec::new();
    let go = option(OptionCode::GO, b"\0\0\0\x04disk\0\0");
    let (_, step) = server.advance(&go, &Disk, &mut out).unwrap();
    let server::Step::Ready(session) = step else { panic!("{step:?}") };
    assert_eq!(session.rules.headers, Headers::Structured);
}

fn greeting(flags: u16) -> Vec<u8> {
    let mut greeting = INIT_MAGIC.to_be_bytes().to_vec();
    greeting.extend(OPTION_MAGIC.to_be_bytes());
    greeting.extend(flags.to_be_bytes());
    greeting
}

#[test]
fn a_client_that_wants_tls_asks_for_it_first_and_for_nothing_without_it() {
    for goal in [client::Handshake::connect("disk", &[BASE_ALLOCATION]).unwrap(), client::Handshake::list()] {
        let (mut client, mut out) = (goal.with_tls(), Vec::new());
        client.advance(&greeting(3), &mut out).unwrap();
        assert_eq!(out, [&3u32.to_be_bytes()[..], &option(OptionCode::STARTTLS, b"")].concat());
        let granted = reply(OptionCode::STARTTLS, ReplyType::ACK);
        assert_eq!(client.advance(&granted, &mut out).unwrap().1, client::Step::StartTls);
        out.clear();
        client.secured(0, &mut out).unwrap();
        assert_eq!(
            out,
            option(OptionCode::EXTENDED_HEADERS, b""),
            "the first thing that is asked for in TLS"
        );
    }
    let connect = || client::Handshake::connect("", &[]).unwrap().with_tls();
    for code in [ReplyType::ERR_UNSUP, ReplyType::ERR_POLICY, ReplyType::ERR_TLS_REQD] {
        let (mut client, mut out) = (connect(), Vec::new());
        client.advance(&greeting(3), &mut out).unwrap();
        out.clear();
        let error = client.advance(&reply(OptionCode::STARTTLS, code), &mut out).unwrap_err();
        assert!(matches!(error, ClientError::Refused { option: OptionCode::STARTTLS, .. }), "{error}");
        assert_eq!(out, option(OptionCode::ABORT, b""));
    }
    // Servers that have no options at all.
    let mut out = Vec::new();
    assert_eq!(connect().advance(&greeting(0), &mut out).unwrap_err(), ClientError::NoTls);
    let mut oldstyle = INIT_MAGIC.to_be_bytes().to_vec();
    oldstyle.extend(nbd::OLDSTYLE_MAGIC.to_be_bytes());
    oldstyle.extend([0; 2]);
    assert_eq!(connect().advance(&oldstyle, &mut out).unwrap_err(), ClientError::NoTls);
}

#[test]
fn both_halves_meet_through_tls() {
    let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
    let mut server = server::Handshake::new(&mut to_client).requiring_tls();
    let mut client = client::Handshake::connect("disk", &[BASE_ALLOCATION]).unwrap().with_tls();
    let mut begun = (false, false);
    loop {
        for byte in std::mem::take(&mut to_client) {
            match client.advance(&[byte], &mut to_server).unwrap().1 {
                client::Step::More => {}
                client::Step::StartTls => {
                    client.secured(0, &mut to_server).unwrap();
                    begun.0 = true;
                }
                client::Step::Ready(export) => {
                    assert_eq!((export.headers, export.contexts.len()), (Headers::Extended, 1));
                    assert_eq!(begun, (true, true));
                    return;
                }
                client::Step::Listed(_) => panic!(),
            }
        }
        for byte in std::mem::take(&mut to_server) {
            match server.advance(&[byte], &Disk, &mut to_client).unwrap().1 {
                server::Step::StartTls => {
                    server.secured(0).unwrap();
                    begun.1 = true;
                }
                server::Step::Closed => panic!(),
                _ => {}
            }
        }
    }
}
