//! Messages lead back to what they were made of, whatever of them has arrived; nothing that a peer sends panics or takes
//! more than it may.

use proptest::prelude::*;
use sftp::{
    Attributes, Body, Head, Kind, Limits, Malformed, OpenFlags, Received, Reply, Request, StatusCode,
    Version, limits,
};

/// The message behind its length, and what follows it.
fn unframed(bytes: &[u8]) -> (&[u8], &[u8]) {
    let length = bytes[..4].iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    bytes[4..].split_at(length.min(bytes.len() - 4))
}

/// A request whose strings are these.
fn request<'a>(which: u8, name: &'a [u8], offset: u64, length: u32, mode: Option<u32>) -> Request<'a> {
    match which {
        0 => Request::Open { path: name, flags: OpenFlags::READ | OpenFlags(length), mode },
        1 => Request::Close { handle: name },
        2 => Request::Read { handle: name, offset, length },
        3 => Request::Fstat { handle: name },
        4 => Request::SetSize { handle: name, size: offset },
        5 => Request::Remove { path: name },
        6 => Request::Fsync { handle: name },
        _ => Request::Limits,
    }
}

proptest! {
    #[test]
    fn a_request_is_the_one_that_was_made(
        (which, id, offset, length) in (0..8u8, any::<u32>(), any::<u64>(), any::<u32>()),
        name in proptest::collection::vec(any::<u8>(), 0..limits::HANDLE),
        mode in any::<Option<u32>>(),
    ) {
        let made = request(which, &name, offset, length, mode);
        let mut bytes = Vec::new();
        made.encode(id, &mut bytes).unwrap();
        let (message, rest) = unframed(&bytes);
        prop_assert_eq!(Received::parse(message), Ok(Received::Request(id, made, &[])));
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn data_follow_a_write(id: u32, offset: u64, data in proptest::collection::vec(any::<u8>(), 0..999)) {
        let made = Request::Write { handle: b"\0\0\xff", offset, length: data.len() as u32 };
        let mut bytes = Vec::new();
        made.encode(id, &mut bytes).unwrap();
        bytes.extend_from_slice(&data);
        let (message, rest) = unframed(&bytes);
        prop_assert_eq!(Received::parse(message), Ok(Received::Request(id, made, data.as_slice())));
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn a_reply_is_the_one_that_was_sent(id: u32, code: u32, size: Option<u64>, owner: Option<[u32; 2]>,
                                        permissions: Option<u32>, modified: Option<u32>,
                                        text in proptest::collection::vec(any::<u8>(), 0..limits::HANDLE)) {
        let status = StatusCode(code);
        for (kind, sent) in [
            (Kind::STATUS, Reply::Status(status, &text)),
            (Kind::HANDLE, Reply::Handle(&text)),
            (Kind::ATTRS, Reply::Attributes(Attributes { size, owner, permissions, modified })),
            (Kind::EXTENDED_REPLY, Reply::Extended(&text)),
        ] {
            let mut bytes = Vec::new();
            sent.encode(id, &mut bytes);
            // Whatever has arrived of it is not taken for all.
            for end in 0..9 {
                prop_assert_eq!(Head::parse(&bytes[..end]), Ok(None));
            }
            let (head, taken) = Head::parse(&bytes).unwrap().unwrap();
            let payload = &bytes[taken..];
            prop_assert_eq!(head, Head { kind, id, body: Body::Payload(payload.len() as u32) });
            prop_assert_eq!(Reply::parse(kind, payload), Ok(sent));
        }
        let mut bytes = Vec::new();
        Reply::encode_data(id, &text, &mut bytes);
        let (head, taken) = Head::parse(&bytes).unwrap().unwrap();
        prop_assert_eq!((head.kind, head.id, head.body), (Kind::DATA, id, Body::Data(text.len() as u32)));
        prop_assert_eq!(&bytes[taken..], text.as_slice());
    }

    #[test]
    fn a_version_tells_what_the_server_has(version: u32, fsync: bool, limits: bool) {
        let sent = Version { version, fsync, limits };
        let mut bytes = Vec::new();
        sent.encode(&mut bytes);
        let (head, taken) = Head::parse(&bytes).unwrap().unwrap();
        prop_assert_eq!(Version::parse(head.id, &bytes[taken..]), Ok(sent));
    }

    #[test]
    fn lengths_are_within_what_both_sides_take(packet: u64, read: u64, write: u64) {
        let told = Limits { packet, read, write };
        prop_assert_eq!(Limits::parse(&told.to_bytes()), Ok(told));
        for (length, most) in [(told.longest_read(), read), (told.longest_write(), write)] {
            prop_assert!((512..=limits::DATA).contains(&length));
            prop_assert!(most < 512 || u64::from(length) <= most);
        }
    }

    #[test]
    fn whatever_a_peer_sends_is_bounded(bytes in proptest::collection::vec(any::<u8>(), 0..80), kind: u8) {
        if let Ok(Some((head, taken))) = Head::parse(&bytes) {
            prop_assert!(taken <= bytes.len());
            match head.body {
                Body::Data(length) => prop_assert!(length <= limits::DATA),
                Body::Payload(length) => prop_assert!(length <= limits::PAYLOAD),
            }
        }
        let _ = (Reply::parse(Kind(kind), &bytes), Version::parse(3, &bytes), Limits::parse(&bytes));
        let _ = Received::parse(&bytes);
    }
}

#[test]
fn a_message_that_is_too_long_is_refused_before_it_has_arrived() {
    let head = |length: u32, kind: Kind| {
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend_from_slice(&[kind.0, 0, 0, 0, 1]);
        Head::parse(&bytes)
    };
    assert_eq!(head(u32::MAX, Kind::DATA), Err(Malformed::Long(u32::MAX)));
    assert_eq!(head(limits::PAYLOAD + 6, Kind::NAME), Err(Malformed::Long(limits::PAYLOAD + 6)));
    assert_eq!(head(4, Kind::STATUS), Err(Malformed::Short(4)));
    assert_eq!(head(9, Kind::READ), Err(Malformed::Kind(5)));
    // Data that do not fill their message.
    let bytes = [0, 0, 0, 20, 103, 0, 0, 0, 1, 0, 0, 0, 10];
    assert_eq!(Head::parse(&bytes), Err(Malformed::Fields("DATA")));
}

#[test]
fn a_handle_and_a_path_that_are_too_long_are_refused_and_nothing_is_written() {
    let long = vec![b'x'; limits::PATH + 1];
    let mut out = Vec::new();
    assert!(Request::Remove { path: &long }.encode(1, &mut out).is_err());
    assert!(Request::Fsync { handle: &long[..=limits::HANDLE] }.encode(1, &mut out).is_err());
    assert!(out.is_empty());
    let mut bytes = Vec::new();
    Reply::Handle(&long[..=limits::HANDLE]).encode(1, &mut bytes);
    assert_eq!(Reply::parse(Kind::HANDLE, &bytes[9..]), Err(Malformed::Fields("HANDLE")));
}
