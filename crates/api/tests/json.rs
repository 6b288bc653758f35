//! JSON in QEMU's dialect: what is written is read back, and no input does harm.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that can't go on fails")]

use api::json::{JsonError, MAX_DEPTH, Stream, parse, to_line, to_pretty};
use api::{Dict, Value};
use proptest::prelude::*;

/// All answers to an input that is given in pieces.
fn answers<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Result<Value, JsonError>> {
    let mut stream = Stream::new();
    let mut out = Vec::new();
    for mut piece in pieces {
        while let Some(answer) = stream.next(&mut piece) {
            out.push(answer);
        }
    }
    out.extend(stream.finish());
    out
}

fn any_value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>()
            .prop_filter("a float that stays one", |n| n.is_finite() && n.fract() != 0.0)
            .prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    scalar.prop_recursive(4, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::vec((text(), inner), 0..8)
                .prop_map(|members| Value::from(members.into_iter().collect::<Dict>())),
        ]
    })
}

fn text() -> impl Strategy<Value = String> {
    any::<String>().prop_filter("characters only", |s| {
        !s.chars().any(|c| (0xfdd0..=0xfdef).contains(&u32::from(c)) || u32::from(c) & 0xfffe == 0xfffe)
    })
}

/// Bytes that make the parser work: structure, quotes, pieces of words and numbers, and anything else.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => prop::sample::select(&b"{}[]:,\"'\\ \n01-.eEtfnu%"[..]).prop_map(|b| vec![b]),
        2 => prop::sample::select(&["true", "false", "null", "\"a\"", "12", "-1.5e3", "{\"a\":", "[1,"][..])
            .prop_map(|s| s.as_bytes().to_vec()),
        2 => prop::collection::vec(any::<u8>(), 1..4),
    ];
    prop::collection::vec(piece, 0..64).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn a_value_written_is_read_back_the_same(value in any_value()) {
        prop_assert_eq!(parse(&to_line(&value)).unwrap(), value.clone());
        prop_assert_eq!(parse(&to_pretty(&value)).unwrap(), value);
    }

    #[test]
    fn what_is_written_is_printable_ascii_on_one_line(value in any_value()) {
        prop_assert!(to_line(&value).bytes().all(|b| (b' '..=b'~').contains(&b)));
    }

    #[test]
    fn it_does_not_matter_how_the_input_is_cut(input in noise(), cuts in prop::collection::vec(any::<u8>(), 0..8)) {
        let mut pieces = Vec::new();
        let mut rest = input.as_slice();
        for cut in cuts {
            let (piece, tail) = rest.split_at(usize::from(cut) % (rest.len() + 1));
            pieces.push(piece);
            rest = tail;
        }
        pieces.push(rest);
        prop_assert_eq!(answers(pieces), answers([input.as_slice()]));
    }

    /// The way clients get in step again: a byte that no string can have.
    #[test]
    fn after_any_noise_a_reset_byte_makes_the_next_document_count(input in noise(), value in any_value()) {
        let document = to_line(&Value::List(vec![value.clone()]));
        let after = answers([input.as_slice(), b"\xff\n", document.as_bytes()]);
        prop_assert_eq!(after.last(), Some(&Ok(Value::List(vec![value]))));
        let (last, before) = after.split_last().unwrap();
        prop_assert!(last.is_ok() && before.iter().any(Result::is_err));
    }

    #[test]
    fn documents_back_to_back_are_told_apart(values in prop::collection::vec(any_value(), 0..8), blank in " |\n|\r\n|\t") {
        let text: String = values.iter().map(|v| format!("{v}{blank}")).collect();
        prop_assert_eq!(answers([text.as_bytes()]), values.into_iter().map(Ok).collect::<Vec<_>>());
    }
}

#[test]
fn single_quotes_and_escapes_are_understood() {
    let dict =
        parse(r#"{'it\'s': "a \"b\" \u00e9\ud83d\ude00\/\\\b\f\n\r\t", "n": [-0, 0, 1e2, 0.5]}"#).unwrap();
    assert_eq!(dict.get("it's").unwrap().as_str(), Some("a \"b\" é😀/\\\u{8}\u{c}\n\r\t"));
    let numbers = [Value::Int(0), Value::Int(0), Value::Float(100.0), Value::Float(0.5)];
    assert_eq!(dict.get("n").unwrap().as_list(), Some(numbers.as_slice()));
}

#[test]
fn each_mistake_has_its_error() {
    for (text, expected) in [
        ("", JsonError::ExpectedValue),
        ("{", JsonError::Incomplete),
        ("[1", JsonError::Incomplete),
        ("'a", JsonError::Stray("'a\n".into())),
        ("[1 2]", JsonError::ExpectedComma),
        ("{1: 2}", JsonError::ExpectedKey),
        ("{'a' 1}", JsonError::ExpectedColon),
        ("{'a': }", JsonError::ExpectedValue),
        ("[1,]", JsonError::ExpectedValue),
        ("{'a': 1,}", JsonError::ExpectedKey),
        ("{'a': 1, 'b': 2, 'a': 3}", JsonError::DuplicateKey),
        ("nul", JsonError::UnknownWord("nul".into())),
        ("01", JsonError::Stray("01".into())),
        ("[1.]", JsonError::Stray("1.]".into())),
        ("1e999", JsonError::NumberTooLarge),
        ("'\\x'", JsonError::BadEscape),
        ("'\\ud800'", JsonError::BadCharacter),
        ("'\\ud800\\u0041'", JsonError::BadCharacter),
        ("'\\uffff'", JsonError::BadCharacter),
        ("1 2", JsonError::SecondValue),
        ("{} }", JsonError::SecondValue),
    ] {
        assert_eq!(parse(text), Err(expected), "{text}");
    }
    assert_eq!(answers([b"'\xc3\x28'".as_slice()]), [Err(JsonError::NotUtf8)]);
    assert_eq!(answers([b"'\xc0\x80'".as_slice()]), [Err(JsonError::NotUtf8)]);
}

#[test]
fn depth_is_bounded_and_costs_no_stack() {
    let nest = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    assert!(parse(&nest(MAX_DEPTH)).is_ok());
    assert_eq!(parse(&nest(MAX_DEPTH + 1)), Err(JsonError::TooDeep));
    let endless = "[{'a':".repeat(1 << 20);
    assert!(answers([endless.as_bytes()]).contains(&Err(JsonError::TooDeep)));
}

#[test]
fn the_deepest_value_is_written_compared_and_dropped_on_a_small_stack() {
    let text = format!("{}1{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
    let work = move || {
        let value = parse(&text).unwrap();
        assert_eq!(to_line(&value.clone()), text);
        assert_eq!(parse(&to_pretty(&value)).unwrap(), value);
    };
    std::thread::Builder::new().stack_size(1 << 20).spawn(work).unwrap().join().unwrap();
}

#[test]
fn tokens_and_bytes_are_bounded() {
    let many = format!("[{}1]", "1,".repeat(api::json::MAX_TOKENS / 2));
    assert_eq!(parse(&many), Err(JsonError::TooManyTokens));
    let long = format!("['{}']", "x".repeat(api::json::MAX_BYTES));
    let first = answers([long.as_bytes()]).into_iter().next();
    assert_eq!(first, Some(Err(JsonError::TooLarge)));
}

#[test]
fn many_members_are_checked_for_duplicates_in_good_time() {
    let members: Vec<String> = (0..200_000).map(|i| format!("'{i}':0")).collect();
    let text = format!("{{{},'77777':1}}", members.join(","));
    assert_eq!(parse(&text), Err(JsonError::DuplicateKey));
}
