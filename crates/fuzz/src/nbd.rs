//! NBD: what a server takes from its client, what a client takes from its server, and the names of exports.

use crate::bytes::Bytes;
use nbd::client::{Handshake as Calling, Header, Part, Step as Called, Tracker};
use nbd::server::{Catalog, Handshake as Answering, Offer, Step as Answered};
use nbd::{BASE_ALLOCATION, Command, CommandFlags, Headers, Request, TransmissionFlags, limits};

/// Size of the exports, in bytes.
const SIZE: u64 = 1 << 20;

/// Bytes that an answer to one input may have at most; the server would stop to read before it had so many.
const ANSWERS: usize = 64 << 20;

struct Exports;

impl Catalog for Exports {
    type Export = ();

    fn list(&self, visit: &mut dyn FnMut(&str, &str)) {
        visit("", "");
        visit("disk", "a disk");
    }

    fn find(&self, name: &str) -> Option<((), Offer)> {
        let offer = Offer {
            size: SIZE,
            flags: TransmissionFlags::HAS_FLAGS
                | TransmissionFlags::SEND_FLUSH
                | TransmissionFlags::SEND_TRIM,
            description: String::new(),
            minimum_block: 512,
            preferred_block: 4096,
            contexts: vec![BASE_ALLOCATION.to_owned()],
        };
        matches!(name, "" | "disk").then_some(((), offer))
    }
}

/// A client's whole side of a connection. Laws: the handshake takes no byte twice; a request that is read is the one that
/// its own bytes say; what the rules let pass lies in the export.
pub fn server(input: &[u8]) {
    let mut out = Vec::new();
    let mut handshake = Answering::new(&mut out);
    let mut rest = input;
    let session = loop {
        let Ok((taken, step)) = handshake.advance(rest, &Exports, &mut out) else { return };
        assert!(taken <= rest.len() && out.len() < ANSWERS);
        rest = rest.get(taken..).unwrap_or_default();
        match step {
            Answered::Ready(session) => break session,
            Answered::Answered if !rest.is_empty() => {}
            // It is never required here.
            Answered::Answered | Answered::More | Answered::Closed | Answered::StartTls => return,
        }
    };
    let headers = session.rules.headers;
    while let Ok(Some(request)) = Request::parse(rest, headers) {
        let bytes = request.encode(headers);
        assert_eq!(rest.get(4..bytes.len()), bytes.get(4..));
        rest = rest.get(bytes.len()..).unwrap_or_default();
        let ranged = !matches!(request.command, Command::FLUSH | Command::DISC);
        if ranged && session.rules.judge(&request).is_ok() {
            let meant = if session.rules.filters(&request) { 0 } else { request.length };
            assert!(request.offset.checked_add(meant).is_some_and(|end| end <= SIZE), "{request:?}");
        }
        let payload = usize::try_from(request.payload(headers)).unwrap_or(usize::MAX);
        let payload = rest.get(..payload.min(rest.len())).unwrap_or_default();
        if session.rules.filters(&request) {
            request.filtered(payload, &session.contexts);
        }
        rest = rest.get(payload.len()..).unwrap_or_default();
    }
}

/// Handshakes towards each kind of headers with some requests behind them.
pub fn server_seeds() -> Vec<Vec<u8>> {
    [Headers::Simple, Headers::Structured, Headers::Extended].map(|most| talk(most).0).to_vec()
}

/// A server's whole side of a connection: of a list, of a handshake, and of replies. Laws: no byte is taken twice; data lie
/// in the buffer of their request.
pub fn client(input: &[u8]) {
    let mut bytes = Bytes(input);
    let choice = bytes.byte();
    let connect = Calling::connect("disk", &[BASE_ALLOCATION]);
    let (handshake, headers) = match choice % 4 {
        0 => (Some(Calling::list()), Headers::Simple),
        1 => (connect.ok(), Headers::Simple),
        2 => (None, Headers::Structured),
        _ => (None, Headers::Extended),
    };
    let headers = match handshake {
        Some(handshake) => match greeted(handshake, &mut bytes) {
            Some(headers) => headers,
            None => return,
        },
        None => headers,
    };
    let request =
        |command| Request { flags: CommandFlags(0), command, cookie: 1, offset: 4096, length: 8192 };
    let command = if choice & 0x10 == 0 { Command::READ } else { Command::BLOCK_STATUS };
    replies(&mut bytes, Tracker::new(request(command), headers, 1), headers);
}

/// The headers that were agreed on, once transmission begins.
fn greeted(mut handshake: Calling, bytes: &mut Bytes<'_>) -> Option<Headers> {
    let mut out = Vec::new();
    loop {
        let (taken, step) = handshake.advance(bytes.0, &mut out).ok()?;
        assert!(taken <= bytes.0.len() && out.len() < ANSWERS);
        bytes.take(taken);
        match step {
            Called::Ready(export) => return Some(export.headers),
            Called::More if taken > 0 && !bytes.0.is_empty() => {}
            Called::More | Called::Listed(_) | Called::StartTls => return None,
        }
    }
}

fn replies(bytes: &mut Bytes<'_>, mut tracker: Tracker, headers: Headers) {
    let wanted = tracker.request().length as usize;
    while let Ok(Some((header, len))) = Header::parse(bytes.0, headers) {
        assert!(len <= bytes.0.len());
        bytes.take(len);
        match tracker.accept(header) {
            Ok(Part::Data { start, len }) => {
                assert!(start + len <= wanted, "data at {start} of {len} bytes");
                bytes.take(len);
            }
            Ok(Part::Zeroes { start, len }) => {
                assert!(start + len <= wanted, "zeroes at {start} of {len} bytes")
            }
            Ok(Part::Payload(len)) => {
                assert!(len <= limits::EXTENTS * 16 + 8);
                let payload = bytes.take(len);
                if tracker.payload(payload).is_err() {
                    return;
                }
            }
            Ok(Part::Nothing) => {}
            Err(_) => return,
        }
        if tracker.is_done() {
            tracker.settle().ok();
            return;
        }
    }
}

/// What our server says in the same talks, and replies of each kind.
pub fn client_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for most in [Headers::Simple, Headers::Structured, Headers::Extended] {
        let greeting = talk(most).1;
        seeds.extend([0, 1].map(|choice| [&[choice], &*greeting].concat()));
    }
    let header = |choice: u8, magic: u32, rest: &[u8]| [&[choice], &magic.to_be_bytes()[..], rest].concat();
    let chunk = |kind: u16, length: u32, body: &[u8]| {
        let fixed = [&[0, 1], &kind.to_be_bytes()[..], &1u64.to_be_bytes(), &length.to_be_bytes()].concat();
        [&*fixed, body].concat()
    };
    let data = [&4096u64.to_be_bytes()[..], &[7; 64]].concat();
    seeds.push(header(2, nbd::STRUCTURED_REPLY_MAGIC, &chunk(1, 72, &data)));
    seeds.push(header(
        2,
        nbd::STRUCTURED_REPLY_MAGIC,
        &chunk(2, 12, &[&4096u64.to_be_bytes()[..], &[0, 0, 32, 0]].concat()),
    ));
    let extents = [&1u32.to_be_bytes()[..], &8192u32.to_be_bytes(), &3u32.to_be_bytes()].concat();
    seeds.push(header(0x12, nbd::STRUCTURED_REPLY_MAGIC, &chunk(5, 12, &extents)));
    let error = [&5u32.to_be_bytes()[..], &[0, 3], b"why"].concat();
    seeds.push(header(2, nbd::STRUCTURED_REPLY_MAGIC, &chunk(0x8001, 9, &error)));
    seeds
}

/// What client and server say to each other until transmission begins, and some requests of the client.
fn talk(most: Headers) -> (Vec<u8>, Vec<u8>) {
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    let (mut sent, mut received) = (0, 0);
    let mut server = Answering::new(&mut to_client);
    let Ok(client) = Calling::connect("disk", &[BASE_ALLOCATION]) else { return (to_server, to_client) };
    let mut client = client.at_most(most);
    for _ in 0..32 {
        let Ok((taken, step)) = client.advance(to_client.get(received..).unwrap_or_default(), &mut to_server)
        else {
            break;
        };
        received += taken;
        if let Called::Ready(export) = step {
            for (command, length) in
                [(Command::READ, 4096), (Command::BLOCK_STATUS, 8192), (Command::FLUSH, 0)]
            {
                let request = Request { flags: CommandFlags(0), command, cookie: 7, offset: 0, length };
                to_server.extend_from_slice(&request.encode(export.headers));
            }
            break;
        }
        let from = to_server.get(sent..).unwrap_or_default().to_vec();
        let Ok((taken, _)) = server.advance(&from, &Exports, &mut to_client) else { break };
        sent += taken;
    }
    (to_server, to_client)
}

/// The name of an export. Laws: a name that is understood is understood again from what it was understood as.
pub fn location(input: &[u8]) {
    let name = String::from_utf8_lossy(input);
    let graph = tools::image::graph();
    for name in
        [name.to_string(), format!("nbd:{name}"), format!("nbd://{name}"), format!("nbd+unix://{name}")]
    {
        let first = graph.protocol_options(&name).ok();
        let second = graph.protocol_options(&name).ok();
        assert!(first.map(|f| f.1) == second.map(|s| s.1));
    }
}

/// Names of each scheme.
pub fn location_seeds() -> Vec<Vec<u8>> {
    [
        "nbd://host:10809/disk",
        "nbd://[::1]/%64isk",
        "nbd+unix:///disk?socket=/tmp/s",
        "nbd+unix://?socket=%2ftmp%2fs",
        "nbd:unix:/tmp/s:exportname=disk",
        "nbd:host:10809:exportname=a:b",
        "file:/disk",
        "host_device:/dev/x",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
