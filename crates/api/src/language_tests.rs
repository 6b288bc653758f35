//! Every construct of the schema language, from JSON to a handler and back.

use std::future::ready;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use crate::language::*;
use crate::{Dict, Encode, QmpError, Value, decode, json};

fn value(text: &str) -> Value {
    json::parse(text).unwrap()
}

#[track_caller]
fn refused<T: crate::Decode + std::fmt::Debug>(text: &str, expected: &str) {
    assert_eq!(decode::<T>(value(text)).expect_err(text).to_string(), expected, "{text}");
}

/// Handlers that answer with what they were given.
struct Echo;

impl ConstructsCommands for Echo {
    async fn take_flat(&self, arguments: Flat) -> Result<Flat, QmpError> {
        Ok(arguments)
    }

    async fn take_members(&self, arguments: TakeMembersArguments) -> Result<Vec<Derived>, QmpError> {
        let size = crate::Size(arguments.x.unsigned_abs());
        let name = format!("{:?}", arguments.y);
        Ok(vec![Derived { name, note: None, size, self_: Some(Vec::new()) }])
    }

    async fn take_struct(&self, arguments: Numbers) -> Result<Numbers, QmpError> {
        Ok(arguments)
    }

    async fn take_nothing(&self) -> Result<(), QmpError> {
        Ok(())
    }

    async fn raw(&self, arguments: Dict) -> Result<Value, QmpError> {
        Ok(Value::Dict(arguments))
    }

    fn urgent(&self) -> impl Future<Output = Result<(), QmpError>> + Send {
        ready(Err(QmpError::job_not_found("j")))
    }

    async fn vanish(&self) -> Result<(), QmpError> {
        Ok(())
    }

    async fn take_simple(&self, arguments: Simple) -> Result<SimpleBased, QmpError> {
        let Simple::Shape(Flat { branch: FlatBranch::Circle(circle), .. }) = arguments else {
            return Err(QmpError::generic("no circle"));
        };
        let branch = SimpleBasedBranch::Shape(circle);
        Ok(SimpleBased { name: "n".into(), note: None, branch })
    }

    async fn take_nested(&self, arguments: TakeNestedArguments) -> Result<(), QmpError> {
        assert_eq!(arguments.tag.kind(), Shape::Point);
        Ok(())
    }
}

/// Runs a command whose handler never waits; the answer as JSON, or the error's text.
fn run(command: &str, arguments: &str) -> String {
    let Value::Dict(arguments) = value(arguments) else { panic!("{arguments}") };
    let future = pin!(dispatch(&Echo, command, arguments));
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(answer)) => answer.map_or("nothing".into(), |v| v.to_string()),
        Poll::Ready(Err(error)) => format!("{}: {}", error.class.name(), error.desc),
        Poll::Pending => panic!("{command} waits"),
    }
}

#[test]
fn every_kind_of_command_is_dispatched() {
    for (command, arguments, answer) in [
        ("take-flat", r#"{"kind": "circle", "radius": 1}"#, r#"{"radius": 1, "kind": "circle"}"#),
        ("take-flat", r#"{"colour": "3d", "kind": "point"}"#, r#"{"colour": "3d", "kind": "point"}"#),
        (
            "take-flat",
            r#"{"kind": "square", "side": 2, "of": {"kind": "square", "side": 3, "of": null}}"#,
            r#"{"kind": "square", "side": 2, "of": {"kind": "square", "side": 3, "of": null}}"#,
        ),
        ("take-members", r#"{"x": -5}"#, r#"[{"name": "None", "size": 5, "self": []}]"#),
        (
            "take-members",
            r#"{"x": 1, "y": ["a"]}"#,
            r#"[{"name": "Some(List([\"a\"]))", "size": 1, "self": []}]"#,
        ),
        (
            "take-struct",
            r#"{"a": -128, "i": 18446744073709551615, "k": 0.5, "l": true, "m": null, "n": {"x": [1]}}"#,
            r#"{"a": -128, "i": 18446744073709551615, "k": 0.5, "l": true, "m": null, "n": {"x": [1]}}"#,
        ),
        ("take-nothing", "{}", "{}"),
        ("raw", r#"{"anything": [1]}"#, r#"{"anything": [1]}"#),
        ("vanish", "{}", "nothing"),
        (
            "take-simple",
            r#"{"type": "shape", "data": {"kind": "circle", "radius": 7}}"#,
            r#"{"name": "n", "type": "shape", "data": {"radius": 7}}"#,
        ),
        ("take-nested", r#"{"nested": {"numbers": [], "colours": ["red"]}, "tag": {"kind": "point"}}"#, "{}"),
        ("urgent", "{}", "DeviceNotActive: Block job 'j' not found"),
        ("nothing-known", "{}", "CommandNotFound: The command nothing-known has not been found"),
        ("take-nothing", r#"{"x": 1}"#, "GenericError: Parameter 'x' is unexpected"),
        (
            "take-simple",
            r#"{"type": "text", "data": 1}"#,
            "GenericError: Invalid parameter type for 'data', expected: string",
        ),
    ] {
        let written =
            |text: &str| crate::json::parse(text).map_or(text.to_owned(), |value| value.to_string());
        assert_eq!(run(command, arguments), written(answer), "{command} {arguments}");
    }
}

#[test]
fn a_value_that_does_not_fit_is_refused_with_its_path() {
    refused::<Flat>("{}", "Parameter 'kind' is missing");
    refused::<Flat>(r#"{"kind": "circle"}"#, "Parameter 'radius' is missing");
    refused::<Flat>(r#"{"kind": "oval"}"#, "Parameter 'kind' does not accept value 'oval'");
    refused::<Flat>(r#"{"kind": 1}"#, "Invalid parameter type for 'kind', expected: string");
    refused::<Flat>(r#"{"kind": "point", "radius": 1}"#, "Parameter 'radius' is unexpected");
    let inner = |of: &str| format!(r#"{{"kind": "square", "side": 1, "of": {of}}}"#);
    refused::<Flat>(&inner("1"), "Invalid parameter type for 'of', expected: Either");
    refused::<Flat>(&inner("{}"), "Parameter 'of.kind' is missing");
    refused::<Flat>(&inner("[\"a\", 1]"), "Invalid parameter type for 'of[1]', expected: string");
    let deep = inner(&inner(r#"{"kind": "circle", "radius": -1}"#));
    refused::<Flat>(&deep, "Parameter 'of.of.radius' expects uint32_t");
    let nested = |inner: &str| format!(r#"{{"numbers": [], "colours": [], "inner": {inner}}}"#);
    refused::<Nested>(&nested("[]"), "Invalid parameter type for 'inner', expected: object");
    refused::<Nested>(
        &nested(&nested(r#"{"numbers": [0, "1"]}"#)),
        "Invalid parameter type for 'inner.inner.numbers[1]', expected: integer",
    );
    refused::<Nested>(
        r#"{"numbers": {}, "colours": []}"#,
        "Invalid parameter type for 'numbers', expected: array",
    );
    refused::<Nested>(
        r#"{"numbers": [], "colours": ["red", "blue"]}"#,
        "Parameter 'colours[1]' does not accept value 'blue'",
    );
    refused::<Simple>(r#"{"type": "shape"}"#, "Parameter 'data' is missing");
    refused::<Simple>(
        r#"{"type": "shape", "data": {"kind": "point"}, "x": 1}"#,
        "Parameter 'x' is unexpected",
    );
}

#[test]
fn integers_are_taken_in_their_range_and_nowhere_else() {
    for (member, low, high, name) in [
        ("a", i128::from(i8::MIN), i128::from(i8::MAX), "int8_t"),
        ("b", i16::MIN.into(), i16::MAX.into(), "int16_t"),
        ("c", i32::MIN.into(), i32::MAX.into(), "int32_t"),
        ("f", 0, u8::MAX.into(), "uint8_t"),
        ("g", 0, u16::MAX.into(), "uint16_t"),
        ("h", 0, u32::MAX.into(), "uint32_t"),
        ("i", 0, u64::MAX.into(), "uint64_t"),
        ("j", 0, u64::MAX.into(), "uint64_t"),
    ] {
        let object = |n: i128| format!(r#"{{"{member}": {n}}}"#);
        for n in [low, high, 0] {
            let numbers = decode::<Numbers>(value(&object(n))).unwrap();
            assert_eq!(numbers.encode().to_string(), object(n));
        }
        for n in
            [low - 1, high + 1].into_iter().filter(|n| i64::try_from(*n).is_ok() || u64::try_from(*n).is_ok())
        {
            refused::<Numbers>(&object(n), &format!("Parameter '{member}' expects {name}"));
        }
        for text in ["1.0", "1e2", "\"1\"", "true", "null", "[]", "{}"] {
            let expected = format!("Invalid parameter type for '{member}', expected: integer");
            refused::<Numbers>(&format!(r#"{{"{member}": {text}}}"#), &expected);
        }
    }
    refused::<Numbers>(r#"{"e": 9223372036854775808}"#, "Parameter 'e' expects int64_t");
    refused::<Numbers>(r#"{"k": "1"}"#, "Invalid parameter type for 'k', expected: number");
    refused::<Numbers>(r#"{"l": 1}"#, "Invalid parameter type for 'l', expected: boolean");
    refused::<Numbers>(r#"{"m": 0}"#, "Invalid parameter type for 'm', expected: null");
}

#[test]
fn a_command_may_move_between_threads_while_it_waits() {
    fn is_send(_: impl Send) {}
    is_send(dispatch(&Echo, "take-nothing", Dict::new()));
}

#[test]
fn values_nest_up_to_a_bound() {
    let nested = |levels: usize| {
        let open = r#"{"numbers": [], "colours": [], "inner": "#;
        format!("{}{{\"numbers\": [], \"colours\": []}}{}", open.repeat(levels), "}".repeat(levels))
    };
    decode::<Nested>(value(&nested(crate::codec::MAX_DEPTH - 2))).unwrap();
    let error = decode::<Nested>(value(&nested(crate::codec::MAX_DEPTH))).unwrap_err().to_string();
    assert!(error.contains("is nested deeper than"), "{error}");
}

#[test]
fn a_huge_name_or_value_is_cut_in_the_error() {
    let huge = "é".repeat(1 << 20);
    for text in [format!(r#"{{"{huge}": 1, "kind": "point"}}"#), format!(r#"{{"kind": "{huge}"}}"#)] {
        let error = decode::<Flat>(value(&text)).unwrap_err().to_string();
        assert!(error.len() < 2048 && error.contains('…'), "{} bytes", error.len());
    }
}

#[test]
fn alternates_of_numbers_are_read_from_text_on_the_command_line() {
    let text = "nested.numbers.0=1,nested.numbers.1=0x10,nested.colours.0=red,tag.kind=point,scalar=7";
    let arguments: TakeNestedArguments = crate::keyval::decode(text, None).unwrap();
    assert_eq!(arguments.nested.numbers, [1, 16]);
    assert_eq!(arguments.scalar, Some(Scalar::Number(7)));
}

#[test]
fn events_have_a_name_and_maybe_data() {
    assert_eq!(Event::NothingToAdd.name(), "NOTHING_TO_ADD");
    assert_eq!(Event::NothingToAdd.data(), None);
    let event = Event::SomethingHappened(SomethingHappened { when: Some(3) });
    assert_eq!(event.data().unwrap().to_string(), r#"{"when": 3}"#);
    let flat = Flat { colour: None, branch: FlatBranch::Point };
    assert_eq!(Event::ShapeChanged(flat).data().unwrap().to_string(), r#"{"kind": "point"}"#);
}

#[test]
fn introspection_shows_what_clients_look_for() {
    let schema = value(INTROSPECTION);
    let entry = |name: &str| {
        schema.as_list().unwrap().iter().find(|e| e.get("name").unwrap().as_str() == Some(name)).unwrap()
    };
    let follow = |v: &Value, member: &str| entry(v.get(member).unwrap().as_str().unwrap());
    let flat = follow(entry("take-flat"), "arg-type");
    assert_eq!(flat.get("tag").unwrap().as_str(), Some("kind"));
    assert_eq!(flat.get("variants").unwrap().as_list().unwrap().len(), 2);
    let colour = &flat.get("members").unwrap().as_list().unwrap()[1];
    assert_eq!(colour.get("default"), Some(&Value::Null));
    let values = follow(colour, "type").get("values").unwrap().to_string();
    assert_eq!(values, r#"["red", "dark-green", "3d"]"#);
    assert_eq!(entry("urgent").get("allow-oob"), Some(&Value::Bool(true)));
    assert_eq!(entry("urgent").get("features").unwrap().to_string(), r#"["deprecated"]"#);
    let simple = follow(entry("take-simple"), "arg-type");
    assert_eq!(simple.get("tag").unwrap().as_str(), Some("type"));
    let branch = follow(&simple.get("variants").unwrap().as_list().unwrap()[0], "type");
    assert_eq!(
        branch.get("members").unwrap().as_list().unwrap()[0].get("name").unwrap().as_str(),
        Some("data")
    );
    let list = follow(entry("take-members"), "ret-type");
    assert_eq!(list.get("meta-type").unwrap().as_str(), Some("array"));
    assert_eq!(follow(list, "element-type").get("features").unwrap().to_string(), r#"["shiny"]"#);
}
