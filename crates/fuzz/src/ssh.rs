//! SSH: what a client takes from an SFTP server, and the names of files on servers.

use sftp::{Attributes, Body, Head, Limits, Reply, StatusCode, Version, limits};

/// All that a server says. Laws: no byte is taken twice, and none of a message that is not whole; what is told of lengths is
/// within the bounds; a handle is as short as its bound.
pub fn replies(input: &[u8]) {
    let mut rest = input;
    while let Ok(Some((head, taken))) = Head::parse(rest) {
        assert!(taken <= rest.len());
        // A shorter front of the same is not taken for all of it.
        assert!((0..taken).all(|end| Head::parse(&rest[..end]).is_ok_and(|found| found.is_none())));
        rest = rest.get(taken..).unwrap_or_default();
        let length = match head.body {
            Body::Data(length) => {
                assert!(length <= limits::DATA);
                length
            }
            Body::Payload(length) => {
                assert!(length <= limits::PAYLOAD);
                length
            }
        };
        let Some((payload, behind)) = rest.split_at_checked(length as usize) else { return };
        rest = behind;
        let _ = Version::parse(head.id, payload);
        match Reply::parse(head.kind, payload) {
            Ok(Reply::Handle(handle)) => assert!(handle.len() <= limits::HANDLE),
            Ok(Reply::Extended(told)) => {
                if let Ok(told) = Limits::parse(told) {
                    let lengths = [told.longest_read(), told.longest_write()];
                    assert!(lengths.iter().all(|length| (512..=limits::DATA).contains(length)));
                }
            }
            _ => {}
        }
    }
}

/// Each reply, and several in a row.
pub fn reply_seeds() -> Vec<Vec<u8>> {
    let told = Limits { packet: 1 << 18, read: 1 << 17, write: 1 << 17 }.to_bytes();
    let attributes = Attributes {
        size: Some(1 << 20),
        owner: Some([1, 2]),
        permissions: Some(0o100_644),
        modified: Some(3),
    };
    let replies = [
        Reply::Status(StatusCode::NO_SUCH_FILE, b"No such file"),
        Reply::Handle(b"\0\0\0\x01"),
        Reply::Attributes(attributes),
        Reply::Extended(&told),
    ];
    let mut all = Vec::new();
    Version { version: 3, fsync: true, limits: true }.encode(&mut all);
    Reply::encode_data(7, b"data", &mut all);
    let mut seeds: Vec<Vec<u8>> = replies
        .iter()
        .map(|reply| {
            let mut bytes = Vec::new();
            reply.encode(1, &mut bytes);
            all.extend_from_slice(&bytes);
            bytes
        })
        .collect();
    seeds.push(all);
    seeds
}

/// The name of a file. Laws: it is understood in the same way each time; no password is taken from it.
pub fn location(input: &[u8]) {
    let name = String::from_utf8_lossy(input);
    let graph = tools::image::graph();
    for name in [format!("ssh:{name}"), format!("ssh://{name}"), format!("ssh://user:word@{name}")] {
        let first = graph.protocol_options(&name).ok();
        let second = graph.protocol_options(&name).ok();
        assert!(first.as_ref().map(|f| &f.1) == second.as_ref().map(|s| &s.1));
        assert!(first.is_none_or(|(_, options)| options.get_str("user") != Some("user:word")));
    }
}

/// Names of each form.
pub fn location_seeds() -> Vec<Vec<u8>> {
    [
        "//user@host:22/path",
        "//[::1]:2222/a%20b?host_key_check=no",
        "//host/path?host_key_check=sha256:00:ff",
        "host/a",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
