use super::schema::Schema;
use super::*;
use crate::getopt::tests::{each_flag_changes_the_settings, names_are_unique};
use api::{Value, json};

/// Our own schema.
fn schema() -> Schema {
    Schema::of(&json::parse(api::INTROSPECTION).unwrap())
}

fn request(line: &str) -> Result<String, String> {
    let words = words::split(line).map_err(|e| e.to_string())?;
    let request = arguments::request(&schema(), &words).map_err(|e| e.message().to_owned())?;
    Ok(json::to_line(&request))
}

fn same(line: &str, want: &str) {
    let (got, want) = (request(line).unwrap(), json::to_line(&json::parse(want).unwrap()));
    assert_eq!(got, want, "{line}");
}

#[test]
fn arguments_have_the_types_that_the_schema_says() {
    same("query-block", "{'execute': 'query-block'}");
    same(
        "block_resize node-name=7 size=10M",
        "{'execute': 'block_resize', 'arguments': {'node-name': '7', 'size': 10485760}}",
    );
    same(
        "query-named-block-nodes flat=on",
        "{'execute': 'query-named-block-nodes', 'arguments': {'flat': true}}",
    );
    same(
        "blockdev-add driver=qcow2 node-name=d file.driver=file file.filename=1 file.locking=off backing=null read-only=on",
        "{'execute': 'blockdev-add', 'arguments': {'driver': 'qcow2', 'node-name': 'd', 'file': {'driver': 'file',
          'filename': '1', 'locking': 'off'}, 'backing': null, 'read-only': true}}",
    );
    same(
        "blockdev-add driver=qcow2 node-name=d file={\"driver\": \"file\", \"filename\": \"a b\"}",
        "{'execute': 'blockdev-add', 'arguments': {'driver': 'qcow2', 'node-name': 'd', 'file': {'driver': 'file',
          'filename': 'a b'}}}",
    );
    same(
        "block-dirty-bitmap-merge node=n target=t bitmaps.0=a bitmaps.1.node=m bitmaps.1.name=b",
        "{'execute': 'block-dirty-bitmap-merge', 'arguments': {'node': 'n', 'target': 't',
          'bitmaps': ['a', {'node': 'm', 'name': 'b'}]}}",
    );
    same(
        "block-dirty-bitmap-merge node=n target=t bitmaps=a,b",
        "{'execute': 'block-dirty-bitmap-merge', 'arguments': {'node': 'n', 'target': 't', 'bitmaps': ['a', 'b']}}",
    );
}

#[test]
fn json_is_sent_as_it_is_and_what_the_schema_does_not_know_is_guessed() {
    same(
        "x-new a=1 b=true c=word d={'e':2}",
        "{'execute': 'x-new', 'arguments': {'a': 1, 'b': true, 'c': 'word', 'd': {'e': 2}}}",
    );
    same("block_resize {'size': 1}", "{'execute': 'block_resize', 'arguments': {'size': 1}}");
    same("{'execute': 'query-jobs', 'id': 3}", "{'execute': 'query-jobs', 'id': 3}");
}

#[test]
fn what_is_no_command_is_refused_before_it_is_sent() {
    for (line, want) in [
        ("block_resize size", "'size' is not KEY=VALUE"),
        ("block_resize size=ten", "size: 'ten' is not a whole number"),
        ("query-named-block-nodes flat=maybe", "flat: 'maybe' is not on, off, true or false"),
        ("block_resize size=1 size=2", "'size' is given twice"),
        ("block_resize a.b=1 a=2", "'a' is given twice"),
        ("block_resize a=2 a.b=1", "'a.b' is given twice"),
        ("block_resize a..b=2", "'a..b' names no member"),
        ("{'executes': 'query-jobs'}", "a request in JSON has a member 'execute'"),
        ("{'execute': 'query-jobs'} x=1", "'x=1' follows a whole request"),
    ] {
        assert_eq!(request(line).unwrap_err(), want, "{line}");
    }
    assert!(request(&format!("c {}=1", vec!["a"; 100].join("."))).is_err());
}

#[test]
fn commands_arguments_and_values_are_completed() {
    let schema = schema();
    let complete = |line: &str| complete::complete(&schema, line);
    let (begin, found) = complete("block-dirty-bitmap-m");
    assert_eq!((begin, found), (0, vec!["block-dirty-bitmap-merge ".to_owned()]));
    assert_eq!(complete("block_resize si"), (13, vec!["size=".to_owned()]));
    assert!(!complete("block_resize size=1 ").1.contains(&"size=".to_owned()), "it is written already");
    assert_eq!(complete("drive-backup sync=t"), (18, vec!["top ".to_owned()]));
    assert_eq!(complete("query-named-block-nodes flat="), (29, vec!["off ".to_owned(), "on ".to_owned()]));
    let (_, keys) = complete("blockdev-add driver=file ");
    assert!(keys.contains(&"filename=".to_owned()) && keys.contains(&"node-name=".to_owned()), "{keys:?}");
    let (begin, keys) = complete("blockdev-add driver=qcow2 file.driver=file file.fi");
    assert_eq!((begin, keys), (43, vec!["file.filename=".to_owned()]));
    assert_eq!(complete("blockdev-add driver=qcow2 file.driver=fi").1, ["file "]);
    assert!(complete("help block-c").1.contains(&"block-commit ".to_owned()));
    assert_eq!(complete("nothing a"), (8, Vec::new()));
    assert_eq!(complete("ex"), (0, vec!["exit ".to_owned()]));
}

#[test]
fn help_names_each_argument_with_its_type() {
    let text = complete::described(&schema(), "block_resize").unwrap();
    assert!(text.contains("  [node-name=string]\n") && text.contains("  size=int\n"), "{text}");
    assert!(complete::described(&schema(), "blockdev-add").unwrap().contains("the value of 'driver'"));
    assert_eq!(complete::described(&schema(), "nothing"), None);
}

#[test]
fn an_event_is_a_line() {
    let event = json::parse(
        "{'event': 'STOP', 'timestamp': {'seconds': 86461, 'microseconds': 7}, 'data': {'a': 1}}",
    );
    assert_eq!(session::event_line(&event.unwrap()), "00:01:01.000007Z STOP {\"a\": 1}");
    assert_eq!(session::event_line(&Value::Null), "00:00:00.000000Z ");
}

#[test]
fn each_flag_changes_the_settings_of_a_session() {
    names_are_unique(FLAGS);
    each_flag_changes_the_settings(FLAGS, Settings::default, &[], &[]);
}
