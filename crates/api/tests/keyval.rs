//! Options of the command line, in both forms.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that can't go on fails")]

use api::{BlockdevOptions, BlockdevOptionsBranch, BlockdevRef, BlockdevRefOrNull, Encode, keyval};
use proptest::prelude::*;

fn blockdev(text: &str) -> Result<BlockdevOptions, String> {
    keyval::decode(text, Some("driver")).map_err(|e| e.to_string())
}

#[track_caller]
fn same(text: &str, json: &str) {
    let options = blockdev(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    assert_eq!(options, blockdev(json).unwrap_or_else(|e| panic!("{json}: {e}")), "{text}");
}

#[test]
fn key_value_and_json_mean_the_same() {
    same("driver=null-co,node-name=a", r#"{"driver": "null-co", "node-name": "a"}"#);
    same("null-co,node-name=a,", r#"{"driver": "null-co", "node-name": "a"}"#);
    same("null-co,size=0x100,read-zeroes=on", r#"{"driver": "null-co", "size": 256, "read-zeroes": true}"#);
    same("file,filename=a,,b=c", r#"{"driver": "file", "filename": "a,b=c"}"#);
    same("null-co,driver=file,filename=x", r#"{"driver": "file", "filename": "x"}"#);
    same(
        "qcow2,file.driver=file,file.filename=x,cache.direct=off,cache.no-flush=yes",
        r#"{"driver": "qcow2", "file": {"driver": "file", "filename": "x"}, "cache": {"direct": false, "no-flush": true}}"#,
    );
    same("qcow2,file=x,backing=y", r#"{"driver": "qcow2", "file": "x", "backing": "y"}"#);
    same(
        "nbd,server.type=inet,server.host=::1,server.port=10809,export=a",
        r#"{"driver": "nbd", "server": {"type": "inet", "host": "::1", "port": "10809"}, "export": "a"}"#,
    );
    same(
        "qcow2,file=x,overlap-check.template=all,overlap-check.active-l1=off",
        r#"{"driver": "qcow2", "file": "x", "overlap-check": {"template": "all", "active-l1": false}}"#,
    );
}

#[test]
fn a_null_backing_is_told_from_an_absent_one() {
    let options = blockdev(r#"{"driver": "qcow2", "file": "x", "backing": null}"#).unwrap();
    let BlockdevOptionsBranch::Qcow2(qcow2) = options.branch else { panic!() };
    assert_eq!(qcow2.backing, Some(BlockdevRefOrNull::Null));
    assert_eq!(qcow2.file, BlockdevRef::Reference("x".into()));
}

#[test]
fn mistakes_have_the_messages_clients_know() {
    for (text, expected) in [
        ("driver=null-co,node-name", "Expected '=' after parameter 'node-name'"),
        ("driver=null-co,no-foo", "Expected '=' after parameter 'no-foo'"),
        ("driver=null-co,foo=1", "Parameter 'foo' is unexpected"),
        ("driver=null-co,read-zeroes=foo", "Parameter 'read-zeroes' expects 'on' or 'off'"),
        ("driver=null-co,cache.direct=x", "Parameter 'cache.direct' expects 'on' or 'off'"),
        ("driver=null-co,latency-ns=1k", "Parameter 'latency-ns' expects integer"),
        ("driver=null-co,size=", "Parameter 'size' expects integer"),
        ("driver=null-co,size=1e3", "Parameter 'size' expects integer"),
        ("driver=null-co,detect-zeroes=foo", "Parameter 'detect-zeroes' does not accept value 'foo'"),
        ("driver=qcow2,file=x,file.driver=file", "Parameters 'file.*' used inconsistently"),
        ("driver=qcow2,file.driver=file,file=x", "Parameters 'file.*' used inconsistently"),
        ("driver=null-co,driver.x=1", "Parameters 'driver.*' used inconsistently"),
        ("driver=qcow2,file.driver=file", "Parameter 'file.filename' is missing"),
        ("driver=nbd,server=unix", "Invalid parameter type for 'server', expected: object"),
        ("driver=nbd,server.type=inet,server.host=h", "Parameter 'server.port' is missing"),
        ("", "Parameter 'driver' is missing"),
        ("=x", "Invalid parameter ''"),
        ("a..b=c", "Invalid parameter 'a..b'"),
        ("0=x", "Invalid parameter '0'"),
        ("null-co,a!=x", "Invalid parameter 'a!'"),
        ("null-co,a.0=x,a.2=y", "Parameter 'a.1' missing"),
        ("null-co,a.0=x,a.b=y", "Parameters 'a.*' used inconsistently"),
        ("[]", "Parameter 'driver' does not accept value '[]'"),
        (r#"{"driver": "null-co", "size": "1M"}"#, "Invalid parameter type for 'size', expected: integer"),
        (r#"{"driver": "null-co""#, "JSON parse error, premature end of input"),
        (r#"{"driver": "null-co"}}"#, "JSON parse error, expecting a single value"),
    ] {
        assert_eq!(blockdev(text).unwrap_err(), expected, "{text}");
    }
}

#[test]
fn the_other_options_of_the_daemon_are_typed_as_well() {
    let export: api::BlockExportOptions =
        keyval::decode("nbd,id=e,node-name=n,writable=on", Some("type")).unwrap();
    assert_eq!((export.id.as_str(), export.writable), ("e", Some(true)));
    let server: api::NbdServerOptions = keyval::decode("addr.type=unix,addr.path=/s", None).unwrap();
    assert_eq!(server.addr, api::SocketAddress::Unix(api::UnixSocketAddress { path: "/s".into() }));
    let chardev: api::ChardevOptions =
        keyval::decode("socket,id=c,path=/s,server=on,wait=off", Some("backend")).unwrap();
    assert!(matches!(chardev.branch, api::ChardevOptionsBranch::Socket(s) if s.server == Some(true)));
    let monitor: api::MonitorOptions = keyval::decode("c", Some("chardev")).unwrap();
    assert_eq!(monitor.chardev, "c");
    let error = keyval::decode::<api::ObjectOptions>("tls-creds-anon,id=x", Some("qom-type")).unwrap_err();
    assert_eq!(error.to_string(), "Parameter 'qom-type' does not accept value 'tls-creds-anon'");
}

proptest! {
    #[test]
    fn no_text_does_harm(text in "([a-z0-9.,={}\\[\\]-]|file|driver|null-co|\\PC){0,64}") {
        let _ = blockdev(&text);
    }

    #[test]
    fn commas_in_a_file_name_are_doubled(name in "[ -~]{0,40}") {
        let options = blockdev(&format!("file,filename={},node-name=n", name.replace(',', ",,"))).unwrap();
        let encoded = options.encode();
        prop_assert_eq!(encoded.get("filename").and_then(api::Value::as_str), Some(name.as_str()));
    }
}
