//! What the schema language accepts and refuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that can't go on fails")]

use qapi::{Defines, DefinitionKind, Schema, Tag, load};

fn schema(text: &str) -> Result<Schema, qapi::Error> {
    let text = text.to_string();
    load(&move |file: &str| (file == "s.json").then(|| text.clone()), "s.json")
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    let error = schema(text).expect_err(text).to_string();
    assert!(error.contains(expected), "{text}\n  gave:     {error}\n  expected: {expected}");
}

const EVERYTHING: &str = include_str!("constructs.json");

#[test]
fn every_construct_is_understood() {
    let schema = schema(EVERYTHING).unwrap();
    let kind = |name: &str| &schema.definition(name).unwrap().kind;
    assert!(matches!(kind("Colour"), DefinitionKind::Enum(e) if e.values.len() == 3));
    assert!(matches!(kind("Derived"), DefinitionKind::Struct(s) if s.base.is_some()));
    let DefinitionKind::Struct(derived) = kind("Derived") else { panic!() };
    let names: Vec<_> = schema.members(derived).unwrap().iter().map(|m| m.name.as_str()).collect();
    assert_eq!(names, ["name", "note", "size", "self"], "bases come first");
    assert!(matches!(kind("Simple"), DefinitionKind::Union(u) if u.tag == Tag::Simple));
    assert!(matches!(kind("Flat"), DefinitionKind::Union(u) if u.tag == Tag::Member("kind".into())));
    assert!(matches!(kind("Either"), DefinitionKind::Alternate(a) if a.branches.len() == 4));
    assert!(matches!(kind("take-flat"), DefinitionKind::Command(c) if c.boxed));
    assert!(matches!(kind("raw"), DefinitionKind::Command(c) if !c.generate));
    assert!(matches!(kind("urgent"), DefinitionKind::Command(c) if c.allow_oob));
    assert!(matches!(kind("vanish"), DefinitionKind::Command(c) if !c.success_response));
    assert!(matches!(kind("SOMETHING_HAPPENED"), DefinitionKind::Event(_)));
    let doc = &schema.definition("Colour").unwrap().doc;
    assert_eq!(doc.overview, "What it looks like.");
    assert_eq!(doc.member("red"), Some("Like blood,\nor wine."));
    assert_eq!(schema.modules[0].doc, "Every construct of the language.");
}

#[test]
fn conditions_leave_out_what_does_not_hold() {
    let text = "
        { 'enum': 'E', 'data': [ 'a', { 'name': 'b', 'if': 'B' } ], 'features': [ { 'name': 'f', 'if': 'F' } ] }
        { 'struct': 'S', 'data': { 'x': 'int', 'y': { 'type': 'int', 'if': { 'not': 'B' } } } }
        { 'command': 'c', 'if': { 'all': [ 'A', { 'any': [ 'B', 'C' ] } ] } }";
    let with = |defines: &[&str]| {
        let defines: Defines = defines.iter().map(|d| d.to_string()).collect();
        schema(text).unwrap().configured(&defines).unwrap()
    };
    let none = with(&[]);
    assert!(matches!(&none.definition("E").unwrap().kind, DefinitionKind::Enum(e) if e.values.len() == 1));
    assert!(none.definition("E").unwrap().features.is_empty());
    assert!(matches!(&none.definition("S").unwrap().kind, DefinitionKind::Struct(s) if s.members.len() == 2));
    assert!(none.definition("c").is_none());
    let some = with(&["A", "B", "F"]);
    assert!(matches!(&some.definition("S").unwrap().kind, DefinitionKind::Struct(s) if s.members.len() == 1));
    assert_eq!(some.definition("E").unwrap().features.len(), 1);
    assert!(some.definition("c").is_some());

    let dangling = "{ 'struct': 'S', 'if': 'A', 'data': {} } { 'struct': 'T', 'data': { 'x': 'S' } }";
    let error = schema(dangling).unwrap().configured(&Defines::new()).unwrap_err();
    assert!(error.to_string().contains("type 'S' is not defined"), "{error}");
}

#[test]
fn the_spellings_of_2_1_are_understood() {
    let schema = schema(
        "{ 'type': 'S', 'data': { 'x': 'int' } }
         { 'union': 'Ref', 'discriminator': {}, 'data': { 'definition': 'S', 'reference': 'str' } }
         { 'union': 'Either', 'data': { 'one': 'S', 'two': 'str' } }",
    )
    .unwrap();
    assert!(matches!(schema.definition("Ref").unwrap().kind, DefinitionKind::Alternate(_)));
    assert!(matches!(schema.definition("S").unwrap().kind, DefinitionKind::Struct(_)));
}

#[test]
fn mistakes_in_the_text_name_their_line() {
    for (text, expected) in [
        ("\n  { 'enum' 'x' }", "s.json:2: expected ':'"),
        ("{ 'enum': 'E', 'data': [ 'a' 'b' ] }", "s.json:1: expected ',' or ']'"),
        ("{ 'enum': 'E',\n 'data': [ 'a' ]", "s.json:1: the bracket opened here is never closed"),
        ("{ 'enum': 'E', }", "expected a quoted key"),
        ("{ 'enum': \"E\" }", "stray character '\"'"),
        ("{ 'enum': 1 }", "'1' is neither true nor false"),
        ("{ 'enum': null }", "'null' is neither"),
        ("{ 'enum': 'E\n' }", "no closing quote"),
        ("{ 'enum': 'a\\n' }", "the only escape"),
        ("{ 'enum': 'é' }", "only printable ASCII"),
        ("{ 'enum': 'E', 'enum': 'F' }", "duplicate key 'enum'"),
        ("[ 'a' ]", "expected an object at the top level"),
        ("##\n# text", "no closing '##'"),
        ("##\ntext\n##", "s.json:2: a line of a documentation block"),
        ("##\n# @E:\n##\n##\n# free\n##", "precedes no definition"),
        ("##\n# @F:\n##\n{ 'enum': 'E', 'data': [] }", "before 'E' is about 'F'"),
        ("##\n# @E\n##\n{ 'enum': 'E', 'data': [] }", "the first line of a definition's documentation"),
        (
            "##\n# @E:\n#\n# @x: X.\n##\n{ 'enum': 'E', 'data': [ 'a' ] }",
            "documents 'x', which it does not have",
        ),
    ] {
        refused(text, expected);
    }
    let deep = format!("{{ 'enum': {}{} }}", "[".repeat(100), "]".repeat(100));
    refused(&deep, "nested deeper than");
}

#[test]
fn mistakes_in_a_definition_are_refused() {
    for (text, expected) in [
        ("{ 'thing': 'x' }", "a definition needs one of"),
        ("{ 'struct': 'S' }", "struct 'S' lacks 'data'"),
        ("{ 'struct': 'S', 'data': {}, 'foo': true }", "struct 'S' can't have a member 'foo'"),
        ("{ 'struct': 'S', 'data': [] }", "must be an object, not a list"),
        ("{ 'struct': '1S', 'data': {} }", "has the name '1S'"),
        ("{ 'struct': 'q_S', 'data': {} }", "names in 'q_' are reserved"),
        ("{ 'struct': 'S', 'data': { '_x': 'int' } }", "has the name '_x'"),
        ("{ 'struct': 'S', 'data': { 'x': 'int', '*x': 'int' } }", "'S' has 'x' twice"),
        ("{ 'struct': 'S', 'data': { 'a-b': 'int', 'a_b': 'int' } }", "become the same name in Rust"),
        ("{ 'struct': 'S', 'data': { 'x': 'T' } }", "type 'T' is not defined"),
        ("{ 'struct': 'S', 'data': { 'x': [ 'int', 'str' ] } }", "names exactly one type"),
        ("{ 'struct': 'S', 'data': { 'x': { 'if': 'A' } } }", "lacks 'type'"),
        ("{ 'struct': 'S', 'base': 'S', 'data': {} }", "'S' is its own base"),
        ("{ 'struct': 'S', 'base': 'int', 'data': {} }", "a base must be a struct"),
        (
            "{ 'struct': 'S', 'base': 'B', 'data': { 'x': 'int' } } { 'struct': 'B', 'data': { 'x': 'int' } }",
            "twice",
        ),
        ("{ 'struct': 'int', 'data': {} }", "'int' is predefined"),
        ("{ 'struct': 'S', 'data': {} }\n{ 'event': 'S' }", "s.json:2: 'S' is already defined at s.json:1"),
        ("{ 'enum': 'E', 'data': [ 'a', 'a' ] }", "enum 'E' has 'a' twice"),
        ("{ 'enum': 'E', 'data': [ { 'nom': 'a' } ] }", "lacks 'name'"),
        ("{ 'enum': 'E', 'data': [], 'if': [] }", "a condition is a symbol or an object"),
        ("{ 'enum': 'E', 'data': [], 'if': { 'all': [] } }", "at least one condition"),
        ("{ 'enum': 'E', 'data': [], 'if': { 'xor': [ 'A' ] } }", "none of 'all', 'any', 'not'"),
        ("{ 'enum': 'E', 'data': [], 'features': [ 'f', 'f' ] }", "feature 'f' is listed twice"),
        ("{ 'alternate': 'A', 'data': {} }", "at least one branch"),
        ("{ 'alternate': 'A', 'data': { 'a': 'int', 'b': 'size' } }", "look the same on the wire"),
        ("{ 'alternate': 'A', 'data': { 'a': 'any' } }", "branch of type 'any'"),
        ("{ 'alternate': 'A', 'data': { 'a': 'A' } }", "can't have 'A' as a branch"),
        ("{ 'command': 'c', 'data': 'int' }", "must be a struct or a union"),
        ("{ 'command': 'c', 'boxed': true }", "needs a named type"),
        ("{ 'command': 'c', 'gen': true }", "can only be given as 'false'"),
        ("{ 'command': 'c', 'allow-oob': true, 'coroutine': true }", "both 'allow-oob' and 'coroutine'"),
        ("{ 'command': 'c', 'returns': 'd' } { 'command': 'd' }", "'d' is not a type"),
        ("{ 'include': 'x.json' }", "s.json:1: can't read 'x.json'"),
        ("{ 'include': 'x.json', 'data': {} }", "with nothing else"),
    ] {
        refused(text, expected);
    }
}

#[test]
fn mistakes_in_a_union_are_refused() {
    let parts = "{ 'enum': 'E', 'data': [ 'a', 'b' ] } { 'struct': 'S', 'data': { 'x': 'int' } } ";
    for (union, expected) in [
        ("'base': { 'k': 'E' }, 'discriminator': 'j', 'data': { 'a': 'S' }", "is no common member"),
        ("'base': { '*k': 'E' }, 'discriminator': 'k', 'data': { 'a': 'S' }", "must always be there"),
        ("'base': { 'k': 'str' }, 'discriminator': 'k', 'data': { 'a': 'S' }", "must be of an enum"),
        ("'base': { 'k': 'E' }, 'discriminator': 'k', 'data': { 'c': 'S' }", "is no value of 'E'"),
        ("'base': { 'k': 'E' }, 'discriminator': 'k', 'data': { 'a': 'int' }", "must be a struct"),
        (
            "'base': { 'k': 'E', 'x': 'int' }, 'discriminator': 'k', 'data': { 'a': 'S' }",
            "repeats the common member",
        ),
        ("'base': 'S', 'discriminator': {}, 'data': { 'a': 'S' }", "can have no base"),
        ("'base': { 'type': 'int' }, 'data': { 'a': 'S' }", "is taken by its branches"),
        ("'data': { 'a': 'T' }", "type 'T' is not defined"),
    ] {
        refused(&format!("{parts} {{ 'union': 'U', {union} }}"), expected);
    }
    let unboxed = "{ 'union': 'U', 'data': { 'a': 'S' } } { 'command': 'c', 'data': 'U' }";
    refused(&format!("{parts} {unboxed}"), "needs 'boxed': true");
}

#[test]
fn files_are_included_once_and_relative_to_the_including_file() {
    let files = |file: &str| {
        Some(
            match file {
                "main.json" => {
                    "{ 'include': 'sub/a.json' } { 'include': 'sub/b.json' } { 'pragma': { 'x': true } }"
                }
                "sub/a.json" => "{ 'include': 'b.json' } { 'struct': 'A', 'data': { 'b': 'B' } }",
                "sub/b.json" => "{ 'include': 'a.json' } { 'struct': 'B', 'data': {} }",
                _ => return None,
            }
            .to_string(),
        )
    };
    let schema = load(&files, "main.json").unwrap();
    let names: Vec<_> = schema.definitions.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(names, ["B", "A"]);
}

/// The schema of QEMU 2.1 that the project started from, a mailed patch, where it lies beside the checkout.
#[test]
fn the_seed_schema_is_understood() {
    let seed = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/seed/block-core-2.1.txt");
    let Ok(patch) = std::fs::read_to_string(seed) else {
        println!("skipped: ../shared/seed is not beside the checkout");
        return;
    };
    let lines = patch.lines().filter_map(|l| l.strip_prefix('+'));
    let lines = lines.filter(|l| !l.starts_with('+') && !l.trim_start().starts_with('#'));
    let schema = schema(&lines.collect::<Vec<_>>().join("\n")).unwrap();
    assert!(schema.definitions.iter().filter(|d| matches!(d.kind, DefinitionKind::Command(_))).count() >= 18);
    assert!(matches!(schema.definition("BlockdevRef").unwrap().kind, DefinitionKind::Alternate(_)));
    assert!(!qapi::generate::generate(&schema, &Default::default()).unwrap().is_empty());
}
