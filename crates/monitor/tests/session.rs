//! A session as clients see it, without its I/O; and beside QEMU's, on all kinds of wrong input.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that can't go on fails")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use api::{Dict, ErrorClass, Event, JobStatus, JobStatusChange, QmpError, Value, json};
use monitor::session::{Incoming, Session};
use monitor::wire::MessageLayout;

/// What a session answers if every existing command does nothing.
fn answers(session: &mut Session, mut input: &[u8]) -> Vec<Value> {
    let mut out = Vec::new();
    while let Some(incoming) = session.next(&mut input) {
        let (id, result) = match incoming {
            Incoming::Answer { id, result } => (id, result),
            Incoming::Request(r) if r.command == "qmp_capabilities" => {
                (r.id, Err(QmpError::command_not_found("it")))
            }
            Incoming::Request(r) if api::introspect::is_command(&r.command) => {
                (r.id, Ok(Value::Dict(Dict::new())))
            }
            Incoming::Request(r) => (r.id, Err(QmpError::command_not_found(&r.command))),
        };
        let text = MessageLayout::Line.answer(id, result);
        assert!(text.ends_with("\r\n") && text.matches('\n').count() == 1);
        out.push(json::parse(&text).unwrap());
    }
    out
}

fn negotiated() -> Session {
    let mut session = Session::new();
    assert_eq!(answers(&mut session, b"{'execute': 'qmp_capabilities'}").len(), 1);
    assert!(session.is_negotiated());
    session
}

#[track_caller]
fn answered(session: &mut Session, input: &str, expected: &str) {
    let lines: Vec<String> = answers(session, input.as_bytes()).iter().map(Value::to_string).collect();
    assert_eq!(lines.join("\n"), expected, "{input}");
}

#[test]
fn the_greeting_has_the_version_and_the_capability_of_urgent_commands() {
    let greeting = json::parse(&MessageLayout::Line.greeting()).unwrap();
    let qmp = greeting.get("QMP").unwrap();
    assert_eq!(qmp.get("capabilities").unwrap().to_string(), r#"["oob"]"#);
    let version = qmp.get("version").unwrap();
    assert_eq!(version.get("qemu").unwrap().to_string(), r#"{"minor": 0, "micro": 2, "major": 10}"#);
    assert!(version.get("package").unwrap().as_str().unwrap().starts_with("cairn-"));
}

#[test]
fn commands_wait_for_the_negotiation() {
    let mut session = Session::new();
    let waiting = "Expecting capabilities negotiation with 'qmp_capabilities'";
    answered(
        &mut session,
        "{'execute': 'query-block', 'id': 7}",
        &format!(r#"{{"id": 7, "error": {{"class": "CommandNotFound", "desc": "{waiting}"}}}}"#),
    );
    answered(
        &mut session,
        "{'execute': 'qmp_capabilities', 'arguments': {'enable': ['x']}}",
        r#"{"error": {"class": "GenericError", "desc": "Parameter 'enable[0]' does not accept value 'x'"}}"#,
    );
    assert!(!session.is_negotiated());
    answered(&mut session, "{'execute': 'qmp_capabilities', 'id': [1]}", r#"{"return": {}, "id": [1]}"#);
    assert!(session.is_negotiated());
    answered(&mut session, "{'execute': 'query-block'}", r#"{"return": {}}"#);
}

#[test]
fn an_envelope_that_does_not_fit_is_refused_with_its_id() {
    let generic =
        |desc: &str| format!(r#"{{"id": 1, "error": {{"class": "GenericError", "desc": "{desc}"}}}}"#);
    for (members, desc) in [
        ("'execute': 1", "QMP input member 'execute' must be a string"),
        ("'foo': 1", "QMP input member 'foo' is unexpected"),
        ("'execute': 'quit', 'foo': 1", "QMP input member 'foo' is unexpected"),
        ("'exec-oob': 'quit'", "QMP input member 'exec-oob' is unexpected"),
        ("'execute': 'quit', 'arguments': []", "QMP input member 'arguments' must be an object"),
        ("'execute': 'quit', 'arguments': null", "QMP input member 'arguments' must be an object"),
        ("'arguments': {}", "QMP input lacks member 'execute'"),
    ] {
        answered(&mut negotiated(), &format!("{{'id': 1, {members}}}"), &generic(desc));
    }
}

#[test]
fn commands_are_urgent_only_where_that_was_agreed_on_and_they_allow_it() {
    let mut session = Session::new();
    assert_eq!(
        answers(&mut session, b"{'execute': 'qmp_capabilities', 'arguments': {'enable': ['oob']}}").len(),
        1
    );
    let class = |input: &str, session: &mut Session| {
        let answer = answers(session, input.as_bytes()).remove(0);
        answer.get("error").map(|error| error.get("class").unwrap().to_string().replace('"', ""))
    };
    for (input, expected) in [
        ("{'exec-oob': 'query-yank'}", None),
        ("{'exec-oob': 'nope'}", Some("CommandNotFound")),
        ("{'exec-oob': 'query-block'}", Some("GenericError")),
        ("{'exec-oob': 'qmp_capabilities'}", Some("GenericError")),
        ("{'exec-oob': 'query-yank', 'execute': 'query-yank'}", Some("GenericError")),
        ("{'execute': 'query-yank', 'exec-oob': 'query-yank'}", Some("GenericError")),
        ("{'exec-oob': 5}", Some("GenericError")),
        ("{'execute': 'query-yank'}", None),
    ] {
        assert_eq!(class(input, &mut session).as_deref(), expected, "{input}");
    }
    let unexpected = Some("GenericError".to_owned());
    assert_eq!(class("{'exec-oob': 'query-yank'}", &mut negotiated()), unexpected);
}

#[test]
fn a_request_has_the_command_arguments_and_id_that_were_sent() {
    let mut input =
        br#"{"execute": "block_resize", "arguments": {"size": 1}, "id": {"a": null}} {"#.as_slice();
    let mut session = negotiated();
    let Some(Incoming::Request(request)) = session.next(&mut input) else { panic!() };
    assert_eq!(request.command, "block_resize");
    assert_eq!(request.arguments.get("size"), Some(&Value::Int(1)));
    assert_eq!(request.id.unwrap().to_string(), r#"{"a": null}"#);
    assert_eq!(session.next(&mut input), None);
    let mut rest = b"'execute': 'quit'}".as_slice();
    assert!(matches!(session.next(&mut rest), Some(Incoming::Request(r)) if r.command == "quit"));
}

#[test]
fn answers_and_events_are_laid_out_as_clients_know_them() {
    let error = QmpError { class: ErrorClass::DeviceNotFound, desc: "a \"b\"".into() };
    let text = MessageLayout::Line.answer(Some(Value::Null), Err(error));
    assert_eq!(
        text,
        "{\"id\": null, \"error\": {\"class\": \"DeviceNotFound\", \"desc\": \"a \\\"b\\\"\"}}\r\n"
    );
    let event = Event::JobStatusChange(JobStatusChange { id: "j".into(), status: JobStatus::Running });
    let text = MessageLayout::Line.event(&event, Duration::new(5, 7_000_999));
    let timestamp = r#"{"timestamp": {"seconds": 5, "microseconds": 7000}, "event": "JOB_STATUS_CHANGE", "#;
    assert_eq!(text, format!("{timestamp}\"data\": {{\"status\": \"running\", \"id\": \"j\"}}}}\r\n"));
    let text = MessageLayout::Pretty.answer(None, Ok(Value::Dict(Dict::new())));
    assert_eq!(text, "{\n    \"return\": {\n    }\n}\r\n");
}

/// A command that both sides have, to see that they are in step again.
const PROBE: &str = r#"{"execute":"query-block","id":"probe"}"#;

/// Wrong input, or almost.
fn inputs() -> Vec<Vec<u8>> {
    let mut inputs: Vec<Vec<u8>> = [
        "[]",
        "1 ",
        "\"x\"",
        "null ",
        "true\n",
        "truex\n",
        "foo bar baz\n",
        "nUll\n",
        "TRUE",
        "1 2 3",
        "1a",
        "null1",
        "}\n",
        "]\n",
        "}}}\n",
        ",\n",
        ":\n",
        "{]\n",
        "[}\n",
        "[{]}\n",
        "[{]\n}",
        "{\"a\":[}]\n",
        "{\"a\":[}]}\n",
        "{\"a\" 1}\n",
        "{\"a\":}\n",
        "{\"a\":1,}\n",
        "[1,]\n",
        "[,]\n",
        "{\"a\":1 \"b\":2}\n",
        "{1:2}\n",
        "{\"a\":1,\"a\":2}\n",
        "{\"execute\":\"quit\" \"id\":1}\n",
        "\"abc\n\"",
        "[\"\n",
        "'abc\n",
        "\"a\tb\"\n",
        "\"\\\n\"",
        "{'a':'b\"}\n",
        "{\"execute\":\"a\u{1}b\"}\n",
        "{\"execute\":\"\\x\"}",
        "{\"execute\":\"\\u12\"}",
        "{\"execute\":\"\\ud800\"}",
        "{\"execute\":\"\\ud800\\u0041\"}",
        "{\"execute\":\"\\uFFFF\"}",
        "{\"execute\":\"\\ud834\\udd1e\"}",
        "{\"execute\":\"\\u0000\"}",
        "{'execute':'it\\'s'}",
        "\"\\u\"\n",
        "01\n",
        "-\n",
        "-a\n",
        "--1\n",
        "[-]\n",
        "1.\n",
        "1.5e\n",
        "1e+\n",
        "1e5\n",
        "1.5.5\n",
        "1-\n",
        "+1\n",
        ".5\n",
        "%\n",
        "{\"a\":%p}\n",
        "#\n",
        "\0\n",
        "\u{1}",
        "\u{c}",
        "\t",
        "\r\n",
        "\u{feff}",
        "@@{[1]}\n",
        "/* x */",
        "{\"a\":1 /* x */}",
        "{\"a\":\"\\x\"]\n",
        "{\"execute\":\"nope\",\"id\":[1,{\"a\":null}]}",
        "{\"execute\":\"nope\",\"id\":18446744073709551616}",
        "{\"id\":7}",
        "{\"execute\":1,\"id\":7}",
        "{\"execute\":\"query-block\",\"arguments\":[],\"id\":7}",
        "{\"execute\":\"query-block\",\"foo\":1,\"id\":7}",
        "{\"exec-oob\":\"query-block\",\"id\":1}",
        "{\"execute\":\"qmp_capabilities\",\"id\":1}",
        "{\"execute\":\"query-block\"}{\"execute\":\"query-block\"}",
        "{'execute':'query-block','id':'q\"q'}",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    for bytes in [
        b"{\"execute\":\"a\xffb\"}\n".as_slice(),
        b"\xff\n",
        b"\xff",
        b"\xfe\xff",
        b"\x80\n",
        b"{\"execute\":\"\xed\xa0\x80\"}",
        b"{\"execute\":\"\xf4\x90\x80\x80\"}",
        b"{\"execute\":\"\xf0\x9f\x98\x80\"}",
        b"{\"execute\":\"\xc3\"}",
    ] {
        inputs.push(bytes.to_vec());
    }
    for levels in [1024, 1025, 1100] {
        inputs.push(["[".repeat(levels), "]".repeat(levels)].concat().into_bytes());
    }
    inputs
}

/// What clients look at: whether it is an error, of which class, and for which request.
fn outline(answer: &Value) -> String {
    let class = answer.get("error").and_then(|e| e.get("class")).map_or("ok".into(), Value::to_string);
    format!("{class} {}", answer.get("id").map_or("-".into(), Value::to_string))
}

#[test]
fn mistakes_are_answered_as_often_and_with_the_same_class_as_by_qemu() {
    let Some(peer) = Peer::start() else {
        println!("skipped: no qemu-storage-daemon on this machine");
        return;
    };
    let mut differences = Vec::new();
    for input in inputs() {
        let input = [input.as_slice(), PROBE.as_bytes(), b"\n"].concat();
        let ours: Vec<String> = answers(&mut negotiated(), &input).iter().map(outline).collect();
        let theirs: Vec<String> = peer.answers(&input).iter().map(outline).collect();
        if ours != theirs {
            let shown = String::from_utf8_lossy(&input[..input.len().min(80)]).into_owned();
            differences.push(format!(
                "{shown:?}: {} here, {} there: {ours:?} {theirs:?}",
                ours.len(),
                theirs.len()
            ));
        }
    }
    assert!(differences.is_empty(), "{differences:#?}");
}

/// A running qemu-storage-daemon.
struct Peer {
    child: Child,
    socket: PathBuf,
}

impl Peer {
    fn start() -> Option<Self> {
        let socket = std::env::temp_dir().join(format!("cairn-session-{}.sock", std::process::id()));
        let chardev = format!("socket,id=c,server=on,wait=off,path={}", socket.display());
        let mut command = Command::new("qemu-storage-daemon");
        let command = command.args(["--chardev", &chardev, "--monitor", "chardev=c"]).stdin(Stdio::null());
        Some(Self { child: command.spawn().ok()?, socket })
    }

    fn connect(&self) -> UnixStream {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            match UnixStream::connect(&self.socket) {
                Ok(stream) => return stream,
                Err(e) if Instant::now() > deadline => panic!("the peer does not listen: {e}"),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// All answers up to that to the probe.
    fn answers(&self, input: &[u8]) -> Vec<Value> {
        let mut stream = self.connect();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let mut next = || json::parse(&lines.next().unwrap().unwrap()).unwrap();
        next();
        stream.write_all(b"{'execute': 'qmp_capabilities'}\n").unwrap();
        next();
        stream.write_all(input).unwrap();
        let mut out = Vec::new();
        loop {
            out.push(next());
            if out.last().and_then(|a| a.get("id")).and_then(Value::as_str) == Some("probe") {
                return out;
            }
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}
