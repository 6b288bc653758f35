//! QMP: the lexer and the session, commands with their arguments, secrets.

use api::{Dict, Value};
use block::Registry;
use monitor::Control;
use monitor::session::{Incoming, Session};
use sim::{Config, Disk, Sim};

/// Most commands of one input that are run.
const COMMANDS: usize = 32;

/// Feeds a client's bytes to a session, whole and byte by byte. Laws: both give the same requests and answers; an answer
/// can be written and read again.
pub fn session(input: &[u8]) {
    let whole = incoming(std::iter::once(input));
    assert_eq!(whole, incoming(input.chunks(1)));
    for document in whole {
        if let Incoming::Answer { id, result } = document {
            let line = monitor::wire::MessageLayout::Line.answer(id, result);
            assert!(api::json::parse(line.trim_end()).is_ok(), "{line}");
        }
    }
}

fn incoming<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Incoming> {
    let mut session = Session::new();
    let mut documents = Vec::new();
    for mut piece in pieces {
        while let Some(document) = session.next(&mut piece) {
            documents.push(document);
        }
    }
    documents
}

/// A negotiation, commands, and the mistakes that the session must get over.
pub fn session_seeds() -> Vec<Vec<u8>> {
    [
        r#"{"execute": "qmp_capabilities"} {"execute": "query-block", "id": [1, {"a": null}]}"#,
        r#"{"execute": "blockdev-add", "arguments": {"driver": "null-co", "node-name": "n\u00e9"}, "id": -1e3}"#,
        "{'execute': 'quit'} ]}{ \"x\" : tru } \u{0}\u{7f}{\"execute\": 3}",
        "[[[[{\"a\":[1,2,{}]}]]]]",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// Runs a client's commands on a graph, jobs and exports of their own. Laws: every command ends, with an answer or an
/// error; everything can be ended afterwards.
pub fn commands(input: &[u8]) {
    let mut requests = Vec::new();
    for document in incoming([b"{\"execute\":\"qmp_capabilities\"}".as_slice(), input].into_iter()) {
        if let Incoming::Request(request) = document {
            requests.push((request.command, request.arguments));
        }
    }
    run(requests.into_iter().take(COMMANDS).collect());
}

/// Runs commands; tells of each whether it succeeded.
fn run(commands: Vec<(String, Dict)>) -> Vec<bool> {
    let mut disk = Disk::default();
    disk.put("/disk", &[7; 8192]);
    Sim::boot(Config::seeded(1), disk).run(async move {
        let control = Control::new(Registry::new(&[formats::DRIVERS, filters::DRIVERS, protocols::DRIVERS]));
        let mut answers = Vec::new();
        for (command, arguments) in commands {
            answers.push(api::dispatch(&control, &command, arguments).await.is_ok());
        }
        control.end().await.ok();
        answers
    })
}

/// Commands of each kind: nodes, images, jobs, queries, objects.
pub fn command_seeds() -> Vec<Vec<u8>> {
    let nodes = r#"{"execute":"blockdev-add","arguments":{"driver":"file","node-name":"f","filename":"/disk"}}
        {"execute":"blockdev-add","arguments":{"driver":"raw","node-name":"r","file":"f","size":4096}}
        {"execute":"blockdev-reopen","arguments":{"options":[{"driver":"raw","node-name":"r","file":"f","read-only":true}]}}
        {"execute":"query-named-block-nodes","arguments":{"flat":true}}
        {"execute":"query-blockstats","arguments":{"query-nodes":true}}
        {"execute":"blockdev-del","arguments":{"node-name":"r"}}"#;
    let snapshot = r#"{"execute":"blockdev-add","arguments":{"driver":"raw","node-name":"r","file":{"driver":"file","filename":"/disk"}}}
        {"execute":"blockdev-snapshot-sync","arguments":{"node-name":"r","snapshot-file":"/top","snapshot-node-name":"t","format":"qcow2"}}
        {"execute":"block-commit","arguments":{"job-id":"j","device":"t","speed":65536}}
        {"execute":"query-jobs"}
        {"execute":"job-complete","arguments":{"id":"j"}}
        {"execute":"job-cancel","arguments":{"id":"j"}}"#;
    let objects = r#"{"execute":"object-add","arguments":{"qom-type":"secret","id":"s","data":"eA==","format":"base64"}}
        {"execute":"object-add","arguments":{"qom-type":"throttle-group","id":"t","limits":{"iops-total":1}}}
        {"execute":"object-del","arguments":{"id":"s"}}
        {"execute":"block-export-add","arguments":{"type":"nbd","id":"e","node-name":"n"}}
        {"execute":"query-qmp-schema"}"#;
    [nodes, snapshot, objects].map(|text| text.as_bytes().to_vec()).to_vec()
}

/// Gives the input as the base64 text of a secret. Laws: text of that alphabet with its padding is taken; other bytes are
/// refused.
pub fn secret(input: &[u8]) {
    let text = String::from_utf8_lossy(input).into_owned();
    let well_formed = is_base64(text.as_bytes());
    let text_of_bytes = base64(input);
    let taken = run(vec![add("a", text), add("b", text_of_bytes)]);
    assert!(taken.get(1) == Some(&true), "the base64 text of any bytes is taken");
    assert!(!well_formed || taken.first() == Some(&true), "a text that has all it needs is taken");
}

fn add(id: &str, data: String) -> (String, Dict) {
    let mut arguments = Dict::new();
    let members = [("qom-type", "secret"), ("id", id), ("data", &data), ("format", "base64")];
    members.into_iter().for_each(|(name, value)| arguments.insert(name, Value::from(value)));
    ("object-add".to_owned(), arguments)
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// RFC 4648, by the letter.
fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group =
            chunk.iter().chain(&[0; 2]).take(3).fold(0usize, |sum, byte| sum << 8 | usize::from(*byte));
        for place in 0..4 {
            let letter = ALPHABET.get(group >> (18 - 6 * place) & 63).copied().unwrap_or(b'=');
            text.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

/// Whole groups of four of the alphabet, without padding.
fn is_base64(text: &[u8]) -> bool {
    text.len().is_multiple_of(4) && text.iter().all(|byte| ALPHABET.contains(byte))
}

/// Texts with and without padding, and with what does not belong there.
pub fn secret_seeds() -> Vec<Vec<u8>> {
    [&b"QUJDREVGRw=="[..], b"QUJD", b"QUJ", b"QU\nJD", b"====", b"", b"\xff\xfe"].map(<[u8]>::to_vec).to_vec()
}
